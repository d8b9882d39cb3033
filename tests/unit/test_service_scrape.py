"""What Prometheus is given."""

from __future__ import annotations

import subprocess
import tracemalloc
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mta.observe import metric
from mta.observe.event import Kind
from mta.observe.metric import METRICS
from mta.observe.tally import Tally
from mta.observe.telling import tell
from mta.service.control import CommandRefused
from mta.service.exposition import CONTENT_TYPE, expose
from mta.service.scrape import ANSWER_SECONDS, CONNECTIONS, Scrapes
from mta.settings.values import Endpoint
from tests.doubles.journal import RecordingJournal
from tests.live.peers.process import program


def full() -> Tally:
    """A tally that has something of everything."""
    tally = Tally()
    for each in METRICS:
        labels = [f'{label} "of\\\n{each.name}' for label in each.labels]
        if each.buckets:
            tally.observe(each, each.buckets[1], *labels)
        else:
            tally.add(each, *labels)
    return tally


def test_all_metrics_are_exposed_with_help_and_type() -> None:
    """Prometheus' own parser finds every metric with its type, its text and its labels, whatever stands in them."""
    found = {family.name: family for family in text_string_to_metric_families(expose(full().samples()).decode())}
    assert len(found) == len(METRICS)
    for each in METRICS:
        family = found[each.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (each.type.value, each.help)
        labels = {label: f'{label} "of\\\n{each.name}' for label in each.labels}
        assert [sample for sample in family.samples if labels.items() <= sample.labels.items()]


def test_buckets_are_cumulative() -> None:
    """A bucket counts everything up to its bound, the last one all, and the sum stands beside."""
    tally = Tally()
    for seconds in (0.0004, 0.002, 0.002, 99.0):
        tally.observe(metric.SYNC_SECONDS, seconds, "spool")
    page = expose(tally.samples()).decode()
    assert 'mta_commit_sync_seconds_bucket{le="0.0005",place="spool"} 1.0' in page
    assert 'mta_commit_sync_seconds_bucket{le="0.0025",place="spool"} 3.0' in page
    assert 'mta_commit_sync_seconds_bucket{le="+Inf",place="spool"} 4.0' in page
    assert 'mta_commit_sync_seconds_count{place="spool"} 4.0' in page


def test_promtool_finds_nothing_to_say() -> None:
    """Prometheus' own check of names, units and texts is content."""
    page = expose(full().samples())
    checked = subprocess.run([program("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


TAKEN = 9999
"""A port that somebody else has."""


class Server:
    """The HTTP service on a reactor in memory."""

    def __init__(self) -> None:
        self.clock: Any = task.Clock()
        self.clock.listenTCP = self.listen
        self.journal = RecordingJournal()
        self.answers: list[defer.Deferred[dict[str, Any]]] = []
        self.listened: list[tuple[int, str]] = []
        self.scrapes = Scrapes(self.clock, self.ask, self.journal)
        self.scrapes.start([Endpoint("127.0.0.1", 9725)])

    def listen(self, port: int, site: Any, interface: str) -> None:
        """Be asked to listen."""
        if port == TAKEN:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        self.listened.append((port, interface))
        self.site = site

    def ask(self) -> defer.Deferred[dict[str, Any]]:
        """Be the workers."""
        self.answers.append(defer.Deferred())
        return self.answers[-1]

    def connect(self) -> Any:
        """Connect; gives the transport, whose `protocol` is the server's."""
        protocol = self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        transport: Any = StringTransport()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def get(self, path: str) -> Any:
        """Connect and ask for a page."""
        transport = self.connect()
        transport.protocol.dataReceived(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return transport


def said(transport: Any) -> str:
    """What came back."""
    text: str = transport.value().decode()
    return text


def test_the_workers_answers_are_one_page() -> None:
    """Numbers of two workers are added on the page; it is served where it was asked for."""
    server = Server()
    page = server.get("/metrics")
    tally = Tally()
    tally.add(metric.FAULTS)
    server.answers[0].callback({"workers": {"0": tally.samples(), "1": tally.samples()}})
    assert server.listened == [(9725, "127.0.0.1")]
    assert said(page).startswith("HTTP/1.1 200 OK\r\n")
    assert f"Content-Type: {CONTENT_TYPE}\r\n" in said(page)
    assert "\nmta_faults_total 2.0\n" in said(page)


def test_who_asks_at_once_shares_one_answer() -> None:
    """Ten who ask together ask the workers once; who comes later asks again."""
    server = Server()
    pages = [server.get("/metrics") for _ in range(10)]
    assert len(server.answers) == 1
    server.answers[0].callback({"workers": {}})
    assert all(said(page).startswith("HTTP/1.1 200") for page in pages)
    server.get("/metrics")
    assert len(server.answers) == 2


def test_workers_that_do_not_answer_fail_the_scrape() -> None:
    """After its time a scrape gets 503; what comes of the answer then is nobody's, and the next one asks anew."""
    server = Server()
    page = server.get("/metrics")
    server.clock.advance(ANSWER_SECONDS)
    assert said(page).startswith("HTTP/1.1 503 ")
    server.answers[0].callback({"workers": {}})
    server.get("/metrics")
    assert len(server.answers) == 2
    server.answers[1].errback(CommandRefused("worker 1 is starting"))
    assert server.journal.of(Kind.FAULT) == []


def test_a_fault_is_noted_and_not_shown() -> None:
    """A bug of ours gives 503 and an event, and no traceback to who asked."""
    server = Server()
    page = server.get("/metrics")
    server.answers[0].errback(RuntimeError("secret"))
    assert said(page).startswith("HTTP/1.1 503 ")
    assert "secret" not in said(page)
    assert [event.fields["where"] for event in server.journal.of(Kind.FAULT)] == ["metrics"]


def test_who_leaves_early_is_forgotten() -> None:
    """A client that goes away before the answer gets none, and the others do."""
    server = Server()
    gone, there = server.get("/metrics"), server.get("/metrics")
    gone.protocol.connectionLost(Failure(ConnectionResetError()))
    server.answers[0].callback({"workers": {}})
    assert said(there).startswith("HTTP/1.1 200")
    assert server.journal.of(Kind.FAULT) == []


def test_a_port_that_cannot_be_had_stops_nothing() -> None:
    """Numbers are no reason to carry no mail: it is an error in the log, and the other addresses are served."""
    server = Server()
    server.scrapes.start([Endpoint("127.0.0.1", TAKEN), Endpoint("::1", 9725)])
    assert server.listened == [(9725, "127.0.0.1"), (9725, "::1")]
    (failed,) = server.journal.of(Kind.SERVICE_FAILED)
    assert failed.fields == {"service": "metrics", "listen": f"127.0.0.1:{TAKEN}"}
    assert "in use" in str(failed.reason)
    assert tell(failed).text == (f"metrics is not served on 127.0.0.1:{TAKEN}: [Errno 98] Address already in use")


def test_connections_are_bounded() -> None:
    """One more than the bound, and the eldest is closed: who holds connections open keeps nobody out."""
    server = Server()
    pages = [server.get("/") for _ in range(CONNECTIONS)]
    assert all("metrics" in said(page) for page in pages)
    for eldest in pages[:2]:
        assert not eldest.disconnecting
        assert "metrics" in said(server.get("/"))
        assert eldest.disconnecting
        eldest.protocol.connectionLost(Failure(ConnectionResetError()))
    pages[5].protocol.connectionLost(Failure(ConnectionResetError()))
    server.get("/")
    assert not any(page.disconnecting for page in pages[2:])


@pytest.mark.parametrize("framing", ["Content-Length: 1000000000000", "Transfer-Encoding: chunked"])
def test_what_a_client_uploads_is_kept_nowhere(framing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger fills neither memory nor a disk with the content of a request."""
    monkeypatch.setattr("twisted.web.http.tempfile.TemporaryFile", lambda: pytest.fail("a file was made"))
    server = Server()
    channel = server.connect()
    channel.protocol.dataReceived(f"POST /metrics HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode())
    tracemalloc.start()
    for _ in range(100):
        channel.protocol.dataReceived(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 0x10000
    assert server.answers == []


@pytest.mark.parametrize(
    "octets",
    [
        b"\0" * 100_000,
        b"GET /" + b"a" * 100_000,
        b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 10_000,
        b"GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01" + b"\xff" * 500,
    ],
)
def test_any_octets_are_answered_or_cut_off(octets: bytes) -> None:
    """What is no request for a page of ours asks the workers nothing, and shows nothing."""
    server = Server()
    channel = server.connect()
    for at in range(0, len(octets), 1000):
        if not channel.disconnecting:
            channel.protocol.dataReceived(octets[at : at + 1000])
    assert server.answers == []
    assert b"root:" not in channel.value()
    assert not channel.value().startswith(b"HTTP/1.1 200")
    assert server.journal.of(Kind.FAULT) == []


def test_other_pages_are_not_there() -> None:
    """Only / and /metrics are."""
    assert said(Server().get("/state")).startswith("HTTP/1.1 404 ")

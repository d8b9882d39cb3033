"""The HTTP hook and a small server on loopback that can answer, be slow, lie, and close at the wrong moment."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.selectreactor import SelectReactor

from mta.mail.reason import Reason
from mta.policy.changes import MemoryBody
from mta.policy.facts import Facts, Stage
from mta.policy.hook import ANSWER_MAXIMUM, Hook, make_hook, signature
from mta.policy.verdict import Defer, Reject, Tag
from mta.settings.hook import HookSettings
from mta.smtp.reply import reply
from mta.smtp.status import Status
from mta.tls.certificate import make_self_signed
from tests.live.peers.process import free_ports

pytestmark = pytest.mark.live

NOW = 1_795_611_600.9
FACTS = Facts(Stage.MESSAGE, head=b"Subject: \xff\r\n", body=MemoryBody(b"abcdef"))
NOTHING = b'{"verdicts": []}'


def answer(body: bytes = NOTHING, status: str = "200 OK", fields: str = "") -> bytes:
    """One response."""
    return f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Server:
    """Takes connections one by one; `script` says what is done with each request of each connection.

    What is listed is octets to send, or a function of the connection, or None: close without an answer. A connection
    is closed after the last of its list.
    """

    def __init__(self, *script: list[Any], context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[int, dict[str, str], bytes]] = []
        self._script = list(script)
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        self._listening.settimeout(0.05)
        for number in range(1 << 30):
            connection = self._accept()
            if connection is None:
                return
            with connection, contextlib.suppress(OSError):
                self._talk(connection, number, self._script.pop(0) if self._script else [answer()] * 100)

    def _accept(self) -> socket.socket | None:
        while not self._stopping.is_set():
            try:
                connection = self._listening.accept()[0]
                connection.settimeout(30)
                return self._context.wrap_socket(connection, server_side=True) if self._context else connection
            except OSError:
                continue
        return None

    def _talk(self, connection: socket.socket, number: int, steps: list[Any]) -> None:
        for step in steps:
            request = self._request(connection)
            if request is None or step is None:
                return
            self.requests.append((number, *request))
            if callable(step):
                step(connection)
            else:
                connection.sendall(step)

    def _request(self, connection: socket.socket) -> tuple[dict[str, str], bytes] | None:
        octets = b""
        connection.settimeout(0.05)
        while b"\r\n\r\n" not in octets:
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                if self._stopping.is_set():
                    return None
                continue
            if not piece:
                return None
            octets += piece
        connection.settimeout(30)
        head, _, body = octets.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = {"": first} | {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        while len(body) < int(fields["content-length"]):
            body += connection.recv(65536)
        return fields, body

    def until_stop(self, connection: socket.socket) -> None:
        """A step: say nothing more."""
        self._stopping.wait()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        self._thread.join()
        self._listening.close()


class _House:
    """A reactor of its own, hooks on it, and servers."""

    def __init__(self) -> None:
        self.reactor: Any = SelectReactor()
        self.servers: list[Server] = []
        self.hooks: list[Hook] = []

    def server(self, *script: list[Any], context: ssl.SSLContext | None = None) -> Server:
        self.servers.append(Server(*script, context=context))
        return self.servers[-1]

    def hook(self, url: Server | str, **settings: Any) -> Hook:
        if isinstance(url, Server):
            url = f"http://127.0.0.1:{url.port}/mta?x=1"
        made = HookSettings(**{"name": "h", "url": url, "source": "mta.toml:9", "deadline": 20.0, **settings})
        self.hooks.append(make_hook(made, self.reactor, lambda: NOW))
        return self.hooks[-1]

    def run(self, work: Any) -> Any:
        """Run the reactor until `work` is done; an answer that is there already is given as it is."""
        if not isinstance(work, defer.Deferred):
            return work
        outcome: list[Any] = []

        def stop(value: Any) -> None:
            outcome.append(value)
            self.reactor.crash()

        work.addBoth(stop)
        if not outcome:
            giving_up = self.reactor.callLater(60, self.reactor.crash)
            self.reactor.run(installSignalHandlers=False)
            if giving_up.active():
                giving_up.cancel()
        assert outcome, "not within 60 s"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    def stop(self) -> None:
        for hook in self.hooks:
            self.run(hook.stop())
        now = self.reactor.seconds()
        assert [call for call in self.reactor.getDelayedCalls() if call.getTime() > now] == []
        for server in self.servers:
            server.stop()
        # The reactor's threads, which look host names up
        self.reactor.fireSystemEvent("shutdown")


@pytest.fixture
def house() -> Iterator[_House]:
    """Hooks and servers that are stopped when the test is done."""
    here = _House()
    yield here
    here.stop()


def test_a_question(house: _House) -> None:
    """The facts go out as JSON to the URL, signed; the verdicts come back."""
    verdicts = b'{"verdicts": [{"verdict": "reject", "text": "No", "reason": "listed"}]}'
    server = house.server([answer(verdicts)])
    hook = house.hook(server, secret="0123456789abcdef", body_maximum=4)
    assert hook.name == "h"
    assert hook.stages == {Stage.MESSAGE}
    assert house.run(hook.ask(FACTS)) == (Reject(Reason("listed", "mta.toml:9"), reply(550, Status(5, 7, 1), "No")),)
    ((_, fields, body),) = server.requests
    assert fields[""] == "POST /mta?x=1 HTTP/1.1"
    assert fields["content-type"] == "application/json"
    assert fields["x-mta-hook"] == "h"
    assert fields["x-mta-timestamp"] == "1795611600"
    assert fields["x-mta-signature"] == signature("0123456789abcdef", "1795611600", body)
    facts = json.loads(body)
    assert facts["stage"] == "message"
    assert base64.b64decode(facts["head_base64"]) == FACTS.head
    assert (base64.b64decode(facts["body_base64"]), facts["body_size"]) == (b"abcd", 6)


def test_without_a_secret_nothing_is_signed(house: _House) -> None:
    """There is no signature under an empty key."""
    server = house.server()
    house.run(house.hook(server).ask(FACTS))
    assert "x-mta-signature" not in server.requests[0][1]


def test_the_signature() -> None:
    """HMAC-SHA256 over timestamp, dot and body: what `openssl dgst -sha256 -hmac` says of them."""
    assert signature("key", "1", b"body") == ("sha256=91b5374b153842ad05b2c4eab9349b8321b14703165bd3fb8b034dfb8be98ae5")


def test_a_connection_is_kept(house: _House) -> None:
    """The next question goes over the same connection; no opinion is no opinion, also as 204."""
    server = house.server([answer(), b"HTTP/1.1 204 No Content\r\n\r\n", answer()])
    hook = house.hook(server)
    assert [house.run(hook.ask(FACTS)) for _ in range(3)] == [None, None, None]
    assert [number for number, _, _ in server.requests] == [0, 0, 0]


def test_a_kept_connection_that_is_closed_as_we_ask(house: _House) -> None:
    """The question is asked once more over another connection."""
    server = house.server([answer(), None], [answer()])
    hook = house.hook(server)
    assert house.run(hook.ask(FACTS)) is None
    assert house.run(hook.ask(FACTS)) is None
    assert [number for number, _, _ in server.requests] == [0, 1]


def test_a_server_that_only_closes(house: _House) -> None:
    """It is asked twice and not more."""
    server = house.server(*[[None]] * 5)
    assert house.run(house.hook(server).ask(FACTS)).reason.text == "h: Connection was closed cleanly"
    assert len(server._script) == 3


def reset(connection: socket.socket) -> None:
    """A step: reset the connection in the middle of an answer."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def torn(connection: socket.socket) -> None:
    """A step: close the connection in the middle of an answer."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    connection.close()


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (answer(status="500 Oops"), "answered with status 500"),
        (answer(status="302 Found", fields="Location: http://127.0.0.1:1/\r\n"), "answered with status 302"),
        (answer(status="201 Created"), "answered with status 201"),
        (answer(b"<html>"), "an answer that makes no sense: no JSON"),
        (answer(b""), "an answer that makes no sense: no JSON"),
        (answer(b"[" * 200_000), "an answer that makes no sense: no JSON"),
        (answer(b"\xff"), "an answer that makes no sense: no JSON"),
        (answer(b"[]"), "an answer that makes no sense: no object"),
        (answer(b"{}"), "an answer that makes no sense: expected a list of verdicts, found None"),
        (answer(b'{"verdicts": [{"verdict": "reject", "code": 250}]}'), "an answer that makes no sense: reject: code"),
        (answer(b" " * ANSWER_MAXIMUM + NOTHING), "more than 262,144 octets"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"10000\r\n" + b" " * 65536 + b"\r\n10000\r\n"
         + b" " * 65536 + b"\r\n" + b"40000\r\n" + b" " * 262144 + b"\r\n", "more than 262,144 octets"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ""),
        (torn, ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", ""),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ""),
        (reset, ""),
    ],
)  # fmt: skip
def test_an_answer_that_is_none(house: _House, step: Any, told: str) -> None:
    """Whatever is wrong with an answer is a failure, which says what, and the next question is asked."""
    server = house.server([step, answer()])
    hook = house.hook(server)
    verdict = house.run(hook.ask(FACTS))
    assert isinstance(verdict, Defer)
    assert "no answer in" not in verdict.reason.text
    assert verdict.reason.text.startswith(f"h: {told}")
    assert len(verdict.reason.text) > len("h: ")
    assert verdict.reason.source == "mta.toml:9"
    assert str(verdict.reply) == "451 4.7.1 A local policy could not be asked; try again later"
    assert house.run(hook.ask(FACTS)) is None
    # A connection is kept where the answer could be read to its end, whatever it said
    readable = told.startswith(("answered", "an answer"))
    assert server.requests[-1][0] == (0 if readable else 1)


def test_an_address_needs_no_look_up(house: _House, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is connected to without a thread."""
    monkeypatch.setattr("mta.policy.hook.HostnameEndpoint", None)
    assert house.run(house.hook(house.server()).ask(FACTS)) is None
    verdict = house.run(house.hook("http://[::1]:1/").ask(FACTS))
    assert verdict.reason.text.startswith("h: ")


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_a_server_that_is_silent(house: _House, beginning: bytes) -> None:
    """At the deadline the question is given up, wherever the answer stops."""
    server = house.server()
    server._script.append([lambda connection: (connection.sendall(beginning), server.until_stop(connection))])
    verdict = house.run(house.hook(server, deadline=0.3).ask(FACTS))
    assert verdict.reason.text == "h: no answer in 0.3 s"


def test_nobody_listens(house: _House) -> None:
    """A refused connection is a failure at once."""
    verdict = house.run(house.hook(f"http://127.0.0.1:{free_ports(1)[0]}/").ask(FACTS))
    assert "Connection refused" in verdict.reason.text or "refused" in verdict.reason.text


def test_a_host_name(house: _House) -> None:
    """A host name is looked up as the machine does it; one that there is not is a failure."""
    server = house.server()
    assert house.run(house.hook(f"http://localhost:{server.port}/").ask(FACTS)) is None
    verdict = house.run(house.hook("http://nowhere.invalid/").ask(FACTS))
    assert isinstance(verdict, Defer)


def test_failure_may_be_no_opinion(house: _House) -> None:
    """Where that is wanted, a failure is a tag with its reason and nothing else."""
    server = house.server([answer(status="500 Oops")])
    assert house.run(house.hook(server, failure="accept").ask(FACTS)) == Tag(
        Reason("h: answered with status 500", "mta.toml:9"), "h-failed"
    )


def test_at_connect_the_session_is_deferred(house: _House) -> None:
    """In place of a greeting there is 421."""
    hook = house.hook(house.server([answer(b"")]), stages=("connect",))
    assert house.run(hook.ask(Facts(Stage.CONNECT))).reply.code == 421


def test_a_service_that_is_left_alone(house: _House) -> None:
    """Sessions of other services are not asked about."""
    server = house.server()
    hook = house.hook(server, services=("smtpd",))
    assert house.run(hook.ask(FACTS)) is None
    assert server.requests == []


def test_too_many_questions(house: _House) -> None:
    """No more are under way than may be; when one has ended, the next is asked."""
    server = house.server([answer(), answer()])
    hook = house.hook(server, questions=1)
    first = hook.ask(FACTS)
    assert house.run(hook.ask(FACTS)).reason.text == "h: 1 questions are under way"
    assert house.run(first) is None
    assert house.run(hook.ask(FACTS)) is None


def test_a_cancelled_question(house: _House) -> None:
    """A question that nobody waits for any more is given up, and makes room."""
    server = house.server()
    server._script.append([server.until_stop])
    hook = house.hook(server, questions=1)
    asked: Any = hook.ask(FACTS)
    house.reactor.callLater(0.1, asked.cancel)
    house.run(asked.addErrback(lambda _: None))
    assert hook._under_way == 0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ssl.SSLContext]:
    """A certificate for 127.0.0.1 and localhost, and a server's context with it."""
    directory: Path = tmp_path_factory.mktemp("tls")
    pem, key = make_self_signed(["localhost", "127.0.0.1"], 1_600_000_000.0, 36500)
    (directory / "cert.pem").write_bytes(pem)
    (directory / "key.pem").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return pem.decode(), context


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_https(house: _House, certificate: tuple[str, ssl.SSLContext], host: str) -> None:
    """A certificate of the authority that is named is believed, for a name and for an address."""
    pem, context = certificate
    server = house.server(context=context)
    hook = house.hook(f"https://{host}:{server.port}/", certificates=pem)
    assert house.run(hook.ask(FACTS)) is None
    assert len(server.requests) == 1


def test_a_certificate_that_nobody_knows(house: _House, certificate: tuple[str, ssl.SSLContext]) -> None:
    """Without its authority a certificate is not believed, and nothing is sent."""
    server = house.server(context=certificate[1])
    verdict = house.run(house.hook(f"https://127.0.0.1:{server.port}/").ask(FACTS))
    assert "certificate verify failed" in verdict.reason.text
    assert server.requests == []

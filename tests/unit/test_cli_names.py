"""Names for commands, asked with blocking sockets of a real server on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from mta.cli.names import PATIENCE, BlockingTransport, finish, resolvers
from mta.dns.answer import Answer, Failure, Found, NoData, NoSuchName, RecordType
from mta.settings.sections import DnsSettings
from mta.settings.values import Endpoint
from tests.doubles.dns import Zone
from tests.doubles.dns_server import respond

ZONE = f"""
a.example      TXT   "v=DKIM1; p=abc" "def"
b.example      CNAME a.example
long.example   TXT   {" ".join('"' + "x" * 250 + '"' for _ in range(20))}
c.example      A     127.0.0.1
sick.example   TXT   !SERVFAIL
silent.example TXT   !SILENT
junk.example   TXT   !GARBAGE
cut.example    TXT   !CUT
close.example  TXT   !CLOSE
"""


class Server:
    """A name server in two threads; `asked` counts datagrams, the first `lost` of which are."""

    def __init__(self) -> None:
        self.zone = Zone.parse(ZONE)
        self.asked = 0
        self.lost = 0
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.threads = [threading.Thread(target=serve) for serve in (self.datagrams, self.streams)]
        for thread in self.threads:
            thread.start()

    def datagrams(self) -> None:
        """Answer over UDP until a datagram of nothing."""
        while True:
            octets, peer = self.udp.recvfrom(4096)
            if not octets:
                return
            self.asked += 1
            if self.asked <= self.lost:
                continue
            answer = respond(self.zone, octets, tcp=False)
            if answer:
                self.udp.sendto(answer, peer)

    def streams(self) -> None:
        """Answer one question a connection until one of nothing."""
        while True:
            connection = self.tcp.accept()[0]
            with connection, connection.makefile("rwb") as stream:
                length = stream.read(2)
                if not length:
                    return
                answer = respond(self.zone, stream.read(int.from_bytes(length, "big")), tcp=True)
                if answer:
                    stream.write(len(answer).to_bytes(2, "big") + answer)

    def stop(self) -> None:
        """End both threads."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"", ("127.0.0.1", self.port))
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self.threads:
            thread.join()
        self.udp.close()
        self.tcp.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Serve the zone."""
    server = Server()
    yield server
    server.stop()


def ask(server: Server, name: str, timeout: float = 0.2) -> Answer:
    """Ask for TXT records, twice at most."""
    (resolver,) = resolvers(DnsSettings((Endpoint("127.0.0.1", server.port),), timeout, 2)).values()

    async def asking() -> Answer:
        return await resolver.query(name, RecordType.TXT)

    return finish(asking())


def test_answers(server: Server) -> None:
    """Strings are joined, CNAME records followed, what is too long comes over TCP, and nothing is told from no name."""
    found = ask(server, "a.example")
    assert isinstance(found, Found)
    assert found.records == (b"v=DKIM1; p=abcdef",)
    assert found.source == f"127.0.0.1:{server.port}"
    alias = ask(server, "B.example.")
    assert isinstance(alias, Found)
    assert (alias.name, alias.records) == ("a.example", found.records)
    long = ask(server, "long.example")
    assert isinstance(long, Found)
    assert long.records == (b"x" * 5000,)
    assert isinstance(ask(server, "c.example"), NoData)
    assert isinstance(ask(server, "nothing.example"), NoSuchName)
    assert isinstance(ask(server, "a..example"), NoSuchName)


@pytest.mark.parametrize("name", ["sick", "silent", "junk", "cut", "close"])
def test_failures(server: Server, name: str) -> None:
    """A server that cannot, is silent, or answers badly is a failure that says so, in bounded time."""
    failure = ask(server, f"{name}.example")
    assert isinstance(failure, Failure)
    assert failure.text.startswith(f"TXT of {name}.example: ")
    assert failure.source == f"127.0.0.1:{server.port}"


def test_a_silent_server_is_not_waited_for_again(server: Server) -> None:
    """The second name of a server that was silent is answered at once, without a question."""
    transport = BlockingTransport(Endpoint("127.0.0.1", server.port), 0.05, 2)
    for _ in range(2):
        answer = finish(transport.ask("silent.example", RecordType.TXT))
        assert isinstance(answer, Failure)
        assert "no answer in 0.05 s" in answer.text
    assert server.asked == 2
    well = BlockingTransport(Endpoint("127.0.0.1", server.port), 0.05, 2)
    assert isinstance(finish(well.ask("sick.example", RecordType.TXT)), Failure)
    assert isinstance(finish(well.ask("a.example", RecordType.TXT)), Found)


def test_a_lost_datagram_is_sent_again(server: Server) -> None:
    """A server that answers the second try is asked the next question, too."""
    server.lost = 1
    transport = BlockingTransport(Endpoint("127.0.0.1", server.port), 0.2, 2)
    for _ in range(2):
        assert isinstance(finish(transport.ask("a.example", RecordType.TXT)), Found)
    assert server.asked == 3


def test_nobody_there() -> None:
    """A port where nobody listens is a failure, no exception."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        transport = BlockingTransport(Endpoint("127.0.0.2", taken.getsockname()[1]), 0.05, 1)
        assert isinstance(finish(transport.ask("a.example", RecordType.TXT)), Failure)


def test_each_name_server_has_a_resolver_of_its_own() -> None:
    """Servers are named as the settings name them, and nobody waits longer than is bearable."""
    servers = (Endpoint("127.0.0.1", 53), Endpoint("::1", 5353))
    made = resolvers(DnsSettings(servers, timeout=60.0))
    assert list(made) == ["127.0.0.1:53", "[::1]:5353"]
    transport: BlockingTransport = made["127.0.0.1:53"]._transport  # type: ignore[attr-defined]
    assert transport._timeout == PATIENCE


def test_an_exception_comes_through() -> None:
    """`finish` raises what its coroutine raises."""

    async def breaks() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        finish(breaks())

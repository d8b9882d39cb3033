"""`mta.dns.transport`: deadlines, order of servers, forged answers, TCP; on a network of doubles."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure as Fault

from mta.dns.answer import Answer, Failure, Found, NoData, RecordType
from mta.dns.transport import Transport
from mta.dns.wire import Alias
from mta.settings.values import Endpoint
from tests.doubles.dns import Zone
from tests.doubles.dns_server import respond
from tests.doubles.sync import result

FIRST, SECOND = Endpoint("127.0.0.1", 5353), Endpoint("2001:db8::53", 53)
ZONE = Zone.parse(
    """
    example.net        A     192.0.2.1
    sick.example.net   ANY   !SERVFAIL
    odd.example.net    ANY   !COMPRESSION
    cut.example.net    ANY   !CUT
    """
)
for number in range(800):
    ZONE.add("long.example.net", "TXT", f'"{number:064d}"')


@dataclass
class _Socket:
    """A UDP socket as the transport sees it."""

    protocol: Any
    interface: str
    fault: OSError | None = None
    peer: tuple[str, int] | None = None
    sent: list[bytes] = field(default_factory=list)
    open: bool = True

    def connect(self, host: str, port: int) -> None:
        if self.fault:
            raise self.fault
        self.peer = (host, port)

    def write(self, octets: bytes) -> None:
        self.sent.append(octets)

    def stopListening(self) -> None:
        self.open = False

    def answer(self, tcp: bool = False) -> None:
        """Answer from the zone."""
        assert self.peer
        octets = respond(ZONE, self.sent[-1], tcp)
        assert octets is not None
        self.protocol.datagramReceived(octets, self.peer)


@dataclass
class _Connector:
    """A TCP connection that was asked for."""

    host: str
    port: int
    factory: Any
    timeout: float
    open: bool = True
    transport: StringTransport = field(default_factory=StringTransport)
    protocol: Any = None

    def disconnect(self) -> None:
        self.open = False

    def connected(self) -> bytes:
        """Let it be made; returns the question without its length."""
        self.protocol = self.factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        octets = self.transport.value()
        assert int.from_bytes(octets[:2], "big") == len(octets) - 2
        return octets[2:]


@dataclass
class _Network:
    """Records what is opened."""

    sockets: list[_Socket] = field(default_factory=list)
    connectors: list[_Connector] = field(default_factory=list)
    faults: list[Any] = field(default_factory=list)

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> _Socket:
        assert port == 0
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, CannotListenError):
            raise fault
        socket = _Socket(protocol, interface, fault)
        protocol.makeConnection(socket)
        self.sockets.append(socket)
        return socket

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30) -> _Connector:
        self.connectors.append(_Connector(host, port, factory, timeout))
        return self.connectors[-1]


class _Chance:
    """Counts."""

    def __init__(self) -> None:
        self._numbers = itertools.count(100)

    def getrandbits(self, k: int, /) -> int:
        assert k == 16
        return next(self._numbers)


class _Bench:
    """A transport with its network and clock."""

    def __init__(self, *servers: Endpoint, tries: int = 2) -> None:
        self.clock = Clock()
        self.network = _Network()
        self.transport = Transport(self.network, self.clock, servers or (FIRST,), _Chance(), 5.0, tries)

    def ask(self, name: str, rdtype: RecordType = RecordType.A) -> defer.Deferred[Answer | Alias]:
        return defer.Deferred.fromCoroutine(self.transport.ask(name, rdtype))

    @property
    def last(self) -> _Socket:
        return self.network.sockets[-1]

    def quiet(self) -> bool:
        """Whether nothing is left open and no deadline runs."""
        everything: list[Any] = [*self.network.sockets, *self.network.connectors]
        return not any(one.open for one in everything) and not self.clock.getDelayedCalls()


def test_answer() -> None:
    """A question goes to the first server from a fresh socket, its answer ends it, the socket is closed."""
    bench = _Bench(FIRST, SECOND)
    asking = bench.ask("example.net")
    assert bench.last.peer == ("127.0.0.1", 5353)
    assert bench.last.sent[0][:2] == (100).to_bytes(2, "big")
    assert bench.last.open
    bench.last.answer()
    assert result(asking) == Found("example.net", ("192.0.2.1",), 300, False, "127.0.0.1:5353")
    assert len(bench.network.sockets) == 1
    assert bench.quiet()


def test_family_of_the_socket() -> None:
    """An IPv6 server is asked from an IPv6 socket."""
    bench = _Bench(SECOND)
    bench.ask("example.net")
    assert (bench.last.interface, bench.last.peer) == ("::", ("2001:db8::53", 53))


def test_deadline_goes_on_to_the_next() -> None:
    """A silent server costs five seconds, then the next is asked under a new id."""
    bench = _Bench(FIRST, SECOND)
    asking = bench.ask("example.net")
    bench.clock.advance(4.9)
    assert len(bench.network.sockets) == 1
    bench.clock.advance(0.1)
    assert not bench.network.sockets[0].open
    assert bench.last.peer == ("2001:db8::53", 53)
    assert bench.last.sent[0][:2] == (101).to_bytes(2, "big")
    bench.last.answer()
    assert isinstance(result(asking), Found)
    assert bench.quiet()


def test_late_answer() -> None:
    """An answer after its deadline is not looked at."""
    bench = _Bench(FIRST)
    asking = bench.ask("example.net")
    bench.clock.advance(5)
    bench.network.sockets[0].answer()
    assert not asking.called
    bench.last.answer()
    assert isinstance(result(asking), Found)


def test_all_silent() -> None:
    """When nobody answers in all tries it is a failure that names every server and its excuse."""
    bench = _Bench(FIRST, SECOND)
    asking = bench.ask("example.net")
    for _ in range(4):
        bench.clock.advance(5)
    text = "A of example.net: 127.0.0.1:5353: no answer in 5 s; [2001:db8::53]:53: no answer in 5 s"
    assert result(asking) == Failure(text, "127.0.0.1:5353, [2001:db8::53]:53")
    assert len(bench.network.sockets) == 4
    assert bench.quiet()


def test_no_servers() -> None:
    """Without name servers every question is a failure."""
    bench = _Bench()
    bench.transport = Transport(bench.network, bench.clock, (), _Chance())
    assert isinstance(result(bench.ask("example.net")), Failure)


def test_servfail_goes_on_at_once() -> None:
    """A server that cannot answer is not asked again; the other one is."""
    bench = _Bench(FIRST, SECOND)
    asking = bench.ask("sick.example.net")
    bench.last.answer()
    assert [socket.peer for socket in bench.network.sockets] == [("127.0.0.1", 5353), ("2001:db8::53", 53)]
    bench.clock.advance(5)
    assert bench.last.peer == ("2001:db8::53", 53)
    bench.last.answer()
    answer = result(asking)
    assert isinstance(answer, Failure)
    assert "SERVFAIL" in answer.text
    assert len(bench.network.sockets) == 3
    assert bench.quiet()


@pytest.mark.parametrize("address", [("192.0.2.66", 5353), ("127.0.0.1", 53)])
def test_forged_source(address: tuple[str, int]) -> None:
    """The right octets from the wrong address or port are ignored; the true answer still counts."""
    bench = _Bench()
    asking = bench.ask("example.net")
    octets = respond(ZONE, bench.last.sent[0], tcp=False)
    bench.last.protocol.datagramReceived(octets, address)
    assert not asking.called
    bench.last.answer()
    assert isinstance(result(asking), Found)


def test_forged_id_and_question() -> None:
    """A wrong id, a wrong question and garbage are ignored; the true answer still counts."""
    bench = _Bench()
    asking = bench.ask("example.net")
    octets = respond(ZONE, bench.last.sent[0], tcp=False)
    assert octets
    for forged in (b"\0\0" + octets[2:], octets.replace(b"example", b"exemple"), octets[:20], b""):
        bench.last.protocol.datagramReceived(forged, bench.last.peer)
        assert not asking.called
    bench.last.answer()
    assert isinstance(result(asking), Found)


def test_compression_loop() -> None:
    """A name that points to itself is no answer: the question ends by its deadline."""
    bench = _Bench(tries=1)
    asking = bench.ask("odd.example.net")
    bench.last.answer()
    assert not asking.called
    bench.clock.advance(5)
    assert isinstance(result(asking), Failure)


def test_refused() -> None:
    """A port where nobody listens is known at once."""
    bench = _Bench(FIRST, SECOND)
    asking = bench.ask("example.net")
    bench.last.protocol.connectionRefused()
    assert bench.last.peer == ("2001:db8::53", 53)
    bench.last.answer()
    assert isinstance(result(asking), Found)
    bench.network.sockets[0].protocol.connectionRefused()  # a second one changes nothing
    assert bench.quiet()


@pytest.mark.parametrize("fault", [OSError(101, "Network is unreachable"), CannotListenError("", 0, OSError(24, "x"))])
def test_own_fault(fault: Any) -> None:
    """No route to a server, or no file descriptor left, is a failure like silence."""
    bench = _Bench(FIRST, SECOND, tries=1)
    bench.network.faults = [fault]
    asking = bench.ask("example.net")
    assert bench.last.peer == ("2001:db8::53", 53)
    bench.last.answer()
    assert isinstance(result(asking), Found)
    bench.network.faults = [fault, fault]
    answer = result(bench.ask("example.net"))
    assert isinstance(answer, Failure)
    assert bench.quiet()


def truncated() -> tuple[_Bench, defer.Deferred[Answer | Alias], _Connector]:
    """Ask for what does not fit a datagram, up to the TCP connection."""
    bench = _Bench(FIRST, tries=1)
    asking = bench.ask("long.example.net", RecordType.TXT)
    bench.last.answer()
    (connector,) = bench.network.connectors
    assert (connector.host, connector.port) == ("127.0.0.1", 5353)
    assert not bench.last.open
    return bench, asking, connector


def test_tcp() -> None:
    """A truncated answer is fetched over TCP from the same server; 64 KB of TXT come whole, in any pieces."""
    bench, asking, connector = truncated()
    octets = respond(ZONE, connector.connected(), tcp=True)
    assert octets
    assert len(octets) > 60_000
    stream = len(octets).to_bytes(2, "big") + octets
    for start, end in ((0, 1), (1, 3), (3, 1000), (1000, None)):
        assert not asking.called
        connector.protocol.dataReceived(stream[start:end])
    answer = result(asking)
    assert isinstance(answer, Found)
    assert len(answer.records) == 800
    assert bench.quiet()
    connector.protocol.connectionLost()


def test_tcp_deadline() -> None:
    """TCP has the same deadline, counted anew."""
    bench, asking, connector = truncated()
    connector.connected()
    bench.clock.advance(5)
    assert isinstance(result(asking), Failure)
    assert bench.quiet()


def test_tcp_refused() -> None:
    """A server without TCP has not answered."""
    bench, asking, connector = truncated()
    connector.factory.clientConnectionFailed(connector, Fault(ConnectionRefusedError()))
    answer = result(asking)
    assert isinstance(answer, Failure)
    assert "refused" in answer.text
    assert bench.quiet()


def test_tcp_closed() -> None:
    """A connection closed before the answer is no answer."""
    bench, asking, connector = truncated()
    connector.connected()
    connector.protocol.connectionLost()
    answer = result(asking)
    assert isinstance(answer, Failure)
    assert "closed" in answer.text
    assert bench.quiet()


def test_tcp_nonsense() -> None:
    """What is no answer on TCP ends the try at once."""
    bench, asking, connector = truncated()
    connector.connected()
    connector.protocol.dataReceived(b"\0\4\0\0\0\0")
    assert isinstance(result(asking), Failure)
    assert bench.quiet()


def test_tcp_truncated() -> None:
    """An answer that is cut over TCP too is never used."""
    bench = _Bench(FIRST, tries=1)
    asking = bench.ask("cut.example.net")
    bench.last.answer()
    (connector,) = bench.network.connectors
    octets = respond(ZONE, connector.connected(), tcp=True)
    assert octets
    connector.protocol.dataReceived(len(octets).to_bytes(2, "big") + octets)
    answer = result(asking)
    assert isinstance(answer, Failure)
    assert "truncated" in answer.text
    assert bench.quiet()


@pytest.mark.parametrize("over_tcp", [False, True])
def test_cancel(over_tcp: bool) -> None:
    """A question that is cancelled leaves no socket and no deadline."""
    bench = _Bench(FIRST, SECOND)
    asking = bench.ask("long.example.net", RecordType.TXT)
    if over_tcp:
        bench.last.answer()
    asking.cancel()
    with pytest.raises(defer.CancelledError):
        result(asking)
    assert bench.quiet()


def test_no_name() -> None:
    """What cannot be a name is a ValueError and opens nothing."""
    bench = _Bench()
    with pytest.raises(ValueError, match="no domain name"):
        result(bench.ask("a..b"))
    assert not bench.network.sockets


def test_server_must_be_an_address() -> None:
    """A name server given by name is refused when the transport is made."""
    with pytest.raises(ValueError, match="localhost"):
        _Bench(Endpoint("localhost", 53))


def test_authenticated_only_from_this_host() -> None:
    """AD of a server on another host is not believed."""
    for server, authenticated in ((FIRST, True), (SECOND, False)):
        bench = _Bench(server)
        asking = bench.ask("nodata.example.net")
        octets = bytearray(respond(Zone.parse("x.nodata.example.net A 192.0.2.1"), bench.last.sent[0], False) or b"")
        octets[3] |= 0x20
        bench.last.protocol.datagramReceived(bytes(octets), bench.last.peer)
        answer = result(asking)
        assert isinstance(answer, NoData)
        assert answer.authenticated is authenticated

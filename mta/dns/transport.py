"""Asking name servers over UDP and TCP on the reactor, with deadlines (RFC 1035 §4.2, RFC 7766, RFC 5452).

Each try over UDP has a socket of its own: a source port chosen by the kernel, an id chosen by `chance` (which must be
the system's, `random.SystemRandom`, in production), a connected socket, so that the kernel drops what comes from
elsewhere. What arrives is compared in address, id and question; anything else, malformed or forged, is ignored until
the deadline, so that a bad guess does not cost the good answer (RFC 5452 §9.1). A truncated answer is never used: the
same server is asked again over TCP. None of this helps against somebody on the path: a resolver on this host does.

Servers are asked in order, each up to `tries` times. One that says that it cannot answer (SERVFAIL, REFUSED and the
like) is not asked again for this question, one that is silent is, after the others.

Knowingly not here: falling back from EDNS (every recursive server has it), keeping TCP connections open.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet import defer, interfaces
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ClientFactory, DatagramProtocol, connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure as Fault

from mta.dns.answer import Answer, Failure, RecordType
from mta.dns.wire import TRUNCATED, Alias, Query, Unfinished, query, read
from mta.mail.queueid import Chance
from mta.settings.values import Endpoint

Reading = Answer | Alias | Unfinished
"""What one exchange with one server came to; text in its place is why there was no answer."""


class Network(Protocol):
    """The part of the reactor that opens sockets."""

    def listenUDP(self, port: int, protocol: DatagramProtocol, interface: str = "") -> Any:
        """As `IReactorUDP`."""
        ...

    def connectTCP(self, host: str, port: int, factory: ClientFactory, timeout: float = 30) -> Any:
        """As `IReactorTCP`."""
        ...


class Transport:
    """Puts questions to recursive name servers.

    `nameservers` are in the order of trial; `timeout` is in seconds, for one exchange with one server over UDP, and
    again over TCP. Raises ValueError for a name server that is no address.
    """

    def __init__(
        self,
        network: Network,
        clock: interfaces.IReactorTime,
        nameservers: Sequence[Endpoint],
        chance: Chance,
        timeout: float = 5.0,
        tries: int = 3,
    ) -> None:
        self._network = network
        self._clock = clock
        self._nameservers = tuple(nameservers)
        self._trusted = {server for server in self._nameservers if ipaddress.ip_address(server.host).is_loopback}
        self._chance = chance
        self._timeout = timeout
        self._tries = tries

    async def ask(self, name: str, rdtype: RecordType) -> Answer | Alias:
        """Ask until a server answers. Raises ValueError for what cannot be a name; sockets close when cancelled."""
        excuses: dict[Endpoint, str] = {}
        silent = self._nameservers
        for _ in range(self._tries):
            for server in silent:
                reading = await self._exchange(server, query(name, rdtype, self._chance.getrandbits(16)))
                if not isinstance(reading, str | Failure):
                    return reading
                if isinstance(reading, Failure):
                    silent = tuple(other for other in silent if other != server)
                excuses[server] = reading if isinstance(reading, str) else reading.text
        text = "; ".join(f"{server}: {excuse}" for server, excuse in excuses.items())
        return Failure(
            f"{rdtype.name} of {name}: {text or 'no name server to ask'}", ", ".join(map(str, self._nameservers))
        )

    async def _exchange(self, server: Endpoint, asked: Query) -> Answer | Alias | str:
        reading = await self._over_udp(server, asked)
        if reading is TRUNCATED:
            reading = await self._over_tcp(server, asked)
        if reading is TRUNCATED:
            return "a truncated answer over TCP"
        assert not isinstance(reading, Unfinished)
        return reading

    def _over_udp(self, server: Endpoint, asked: Query) -> defer.Deferred[Reading | str]:
        exchange = _Datagram(server, asked, server in self._trusted)
        try:
            port = self._network.listenUDP(0, exchange, interface="::" if ":" in server.host else "")
        except CannotListenError as error:
            return defer.succeed(str(error))
        self._bound(exchange.ended, port.stopListening)
        exchange.start()
        return exchange.ended

    def _over_tcp(self, server: Endpoint, asked: Query) -> defer.Deferred[Reading | str]:
        factory = _StreamFactory(server, asked, server in self._trusted)
        connector = self._network.connectTCP(server.host, server.port, factory, timeout=self._timeout)
        self._bound(factory.ended, connector.disconnect)
        return factory.ended

    def _bound(self, ended: defer.Deferred[Reading | str], close: Callable[[], object]) -> None:
        """Close what an exchange opened when it ends, by an answer, the deadline or cancellation."""
        deadline = self._clock.callLater(self._timeout, ended.callback, f"no answer in {self._timeout:g} s")

        def close_all(result: Any) -> Any:
            if deadline.active():
                deadline.cancel()
            close()
            return result

        ended.addBoth(close_all)


class _Exchange:
    """One question to one server; `ended` fires once."""

    def __init__(self, server: Endpoint, asked: Query, trusted: bool) -> None:
        self._server = server
        self._asked = asked
        self._trusted = trusted
        self.ended: defer.Deferred[Reading | str] = defer.Deferred()

    def read(self, octets: bytes) -> Reading | None:
        return read(self._asked, octets, str(self._server), self._trusted)

    def end(self, reading: Reading | str) -> None:
        if not self.ended.called:
            self.ended.callback(reading)


class _Datagram(_Exchange, DatagramProtocol):
    noisy = False

    def start(self) -> None:
        transport: Any = self.transport
        try:
            transport.connect(self._server.host, self._server.port)
            transport.write(self._asked.octets)
        except OSError as error:
            self.end(str(error))

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if addr[:2] == (self._server.host, self._server.port):
            reading = self.read(datagram)
            if reading is not None:
                self.end(reading)

    def connectionRefused(self) -> None:
        self.end("connection refused")


class _StreamFactory(_Exchange, ClientFactory):
    noisy = False

    def buildProtocol(self, addr: interfaces.IAddress | None) -> _Stream:
        return _Stream(self, self._asked.octets)

    def clientConnectionFailed(self, connector: interfaces.IConnector, reason: Fault) -> None:
        self.end(str(reason.value))


class _Stream(Int16StringReceiver):
    """RFC 1035 §4.2.2: each message with its length in two octets before it."""

    def __init__(self, exchange: _StreamFactory, octets: bytes) -> None:
        self._exchange = exchange
        self._octets = octets

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(len(self._octets).to_bytes(2, "big") + self._octets)

    def stringReceived(self, string: bytes) -> None:
        reading = self._exchange.read(string)
        # Nobody forges into a TCP stream by guessing: what is no answer here will not be followed by one.
        self._exchange.end("no answer to the question" if reading is None else reading)

    def connectionLost(self, reason: Fault = connectionDone) -> None:
        self._exchange.end("connection closed")

"""A network in memory: endpoints by address, wires that move octets when told, servers that follow a script.

`Network.endpoint` is the connector of what is tested; `Network.run` moves octets until nothing moves any more. A write
never leads to a read within itself, as with real transports. STARTTLS is real TLS over the same wire.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from twisted.internet import defer, error, interfaces, protocol, task
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.doubles.sync import result

CLOSE = b"<close>"
"""In a script: close the connection instead of an answer."""
SILENCE = b""
"""In a script: say nothing."""


@implementer(interfaces.ITCPTransport)
class Wire:
    """One end of a connection: `writes` holds what was written to it, one by one, before TLS."""

    def __init__(self, client: bool) -> None:
        self.writes: list[bytes] = []
        self.calls: list[str] = []
        self.connected = True
        self.other: Wire
        self.protocol: Any = None
        self.producer: Any = None
        self.room = 1 << 30
        """Octets that may wait before a producer is paused."""
        self.waiting = b""
        self.nodelay = False
        self._client = client
        self._closing = False
        self._tls: TLSMemoryBIOProtocol | None = None

    # Called by the protocol

    def write(self, data: bytes) -> None:
        """Keep octets until the network moves them."""
        self.writes.append(data)
        (self._tls or _Below(self)).write(data)

    def loseConnection(self) -> None:
        """Close once all is moved and no producer is left."""
        self.calls.append("lose")
        (self._tls or _Below(self)).loseConnection()

    def abortConnection(self) -> None:
        """Close at once."""
        self.calls.append("abort")
        (self._tls or _Below(self)).abortConnection()

    def startTLS(self, context: Any) -> None:
        """Put TLS between the protocol and the wire, as Twisted's TCP transports do."""
        self.calls.append("starttls")
        factory = TLSMemoryBIOFactory(context, self._client, None, task.Clock())
        self._tls = TLSMemoryBIOProtocol(factory, self.protocol, False)
        self.protocol = self._tls
        self.getHandle = self._tls.getHandle
        self._tls.makeConnection(_Below(self))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take a streaming producer."""
        assert streaming
        (self._tls or _Below(self)).registerProducer(producer, True)

    def unregisterProducer(self) -> None:
        """Forget it."""
        (self._tls or _Below(self)).unregisterProducer()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Note it."""
        self.nodelay = enabled

    # Called by the network

    def move(self) -> bool:
        """Hand what waits to the other end, or close; tell whether anything was to do."""
        octets, self.waiting = self.waiting, b""
        if octets and self.connected:
            self.other.protocol.dataReceived(octets)
            if self.producer is not None:
                self.producer.resumeProducing()
            return True
        if self._closing and self.connected and self.producer is None:
            self.cut(error.ConnectionDone())
            return True
        return False

    def cut(self, why: Exception) -> None:
        """End the connection on both sides."""
        for wire in (self, self.other):
            if wire.connected:
                wire.connected = False
                wire.protocol.connectionLost(Failure(why))


class _Below:
    """The wire as TLS sees it, or as the protocol does in clear text."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def write(self, data: bytes) -> None:
        wire = self._wire
        wire.waiting += data
        if wire.producer is not None and len(wire.waiting) > wire.room:
            wire.producer.pauseProducing()

    def loseConnection(self) -> None:
        self._wire._closing = True

    def abortConnection(self) -> None:
        self._wire.waiting = b""
        self._wire.producer = None
        self._wire._closing = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert self._wire.producer is None
        self._wire.producer = producer

    def unregisterProducer(self) -> None:
        self._wire.producer = None


class SmtpPeer(protocol.Protocol):
    """A server that accepts everything, but for what `script` says.

    A key of `script` is a verb, a whole command line, ``greeting`` or ``content``; its value what is said instead:
    always, or one after the other where it is a list, after whose end all is accepted. Without a `context` it answers
    STARTTLS and then nothing more.
    """

    transport: Any

    def __init__(
        self,
        offers: Sequence[str] = ("PIPELINING", "8BITMIME", "SIZE 10000000"),
        script: dict[str, bytes | list[bytes]] | None = None,
        context: Any = None,
    ) -> None:
        self.offers = [*offers, *(["STARTTLS"] if context else [])]
        self.commands: list[str] = []
        self.bursts: list[bytes] = []
        self.messages: list[bytes] = []
        self.secured = 0
        self.lost = False
        self._script = script or {}
        self._context = context
        self._buffer = b""
        self._content = False
        self._sender = False
        self._recipients = 0
        self._deaf = False

    def connectionMade(self) -> None:
        """Greet."""
        self._say(self._scripted("greeting"), b"220 mx\r\n")

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Note it."""
        self.lost = True

    def dataReceived(self, data: bytes) -> None:
        """Answer each command, take content."""
        self.bursts.append(data)
        self._buffer += data
        while not self._deaf:
            end, mark = (b"\r\n.\r\n", 2) if self._content else (b"\r\n", 0)
            if self._content and self._buffer.startswith(b".\r\n"):
                place = 0
                size = 3
            elif (place := self._buffer.find(end)) >= 0:
                place, size = place + mark, len(end) - mark
            else:
                return
            piece, self._buffer = self._buffer[:place], self._buffer[place + size :]
            if self._content:
                self._content = False
                self.messages.append(piece)
                self._say(self._scripted("content"), b"250 2.0.0 queued\r\n")
            else:
                self._command(piece.decode())

    def _scripted(self, *names: str) -> bytes | None:
        for name in names:
            scripted = self._script.get(name)
            if isinstance(scripted, bytes):
                return scripted
            if scripted:
                return scripted.pop(0)
        return None

    def _say(self, scripted: bytes | None, default: bytes) -> bool:
        answer = default if scripted is None else scripted
        if answer == CLOSE:
            self._deaf = True
            self.transport.loseConnection()
        elif answer:
            self.transport.write(answer)
        return answer[:1] in (b"2", b"3")

    def _command(self, line: str) -> None:
        self.commands.append(line)
        verb = line.split()[0].upper() if line.strip() else ""
        lines = ["mx", *(offer for offer in self.offers if offer != "STARTTLS" or not self.secured)]
        ehlo = "".join(f"250-{text}\r\n" for text in lines[:-1]) + f"250 {lines[-1]}\r\n"
        defaults = {
            "EHLO": ehlo.encode(),
            "DATA": b"354 go\r\n",
            "QUIT": b"221 bye\r\n",
            "STARTTLS": b"220 go\r\n",
            "AUTH": b"235 2.7.0 welcome\r\n",
        }
        if (verb == "RCPT" and not self._sender) or (verb == "DATA" and not self._recipients):
            defaults[verb] = b"503 5.5.1 out of order\r\n"
        good = self._say(self._scripted(line, verb), defaults.get(verb, b"250 2.0.0 ok\r\n"))
        if verb in ("MAIL", "RSET", "EHLO", "DATA"):
            self._sender, self._recipients = good and verb == "MAIL", 0
        if good and verb == "DATA":
            self._content = True
        elif verb == "RCPT":
            self._recipients += good
        elif verb == "QUIT":
            self.transport.loseConnection()
        elif good and verb == "STARTTLS":
            self.secured += 1
            if self._context is None:
                self._deaf = True
            else:
                self.transport.startTLS(self._context)


@implementer(interfaces.IOpenSSLServerConnectionCreator)
class ServerContext:
    """A server's TLS context with a new self-signed certificate for `name`, which is also `pem`."""

    def __init__(self, name: str = "mx.example.net") -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_certificate(certificate)
        self._context.use_privatekey(key)

    def serverConnectionForTLS(self, below: object) -> SSL.Connection:
        """Called by Twisted."""
        return SSL.Connection(self._context)


@implementer(interfaces.IOpenSSLServerConnectionCreator)
class BrokenContext:
    """A server that can agree on no version of TLS with anybody."""

    def serverConnectionForTLS(self, below: object) -> SSL.Connection:
        """Called by Twisted."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256")
        return SSL.Connection(context)


class Network:
    """Servers by address; each connection to an address meets the next of its list, the last one again and again.

    What is listed is an exception (the connection fails so), None (it never ends), or makes a server.
    """

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.peers: list[Any] = []
        self.tried: list[tuple[str, int]] = []
        self._servers: dict[str, list[Any]] = {}

    def listen(self, address: str, *servers: Exception | Callable[[], protocol.Protocol] | None) -> None:
        """Say what answers at an address."""
        self._servers[address] = list(servers)

    def endpoint(self, address: str, port: int) -> interfaces.IStreamClientEndpoint:
        """The connector."""
        return _Endpoint(self, address, port)

    def connect(self, address: str, port: int, factory: Any) -> defer.Deferred[Any]:
        """Make a connection."""
        self.tried.append((address, port))
        servers = self._servers[address]
        server = servers.pop(0) if len(servers) > 1 else servers[0]
        if server is None:
            return defer.Deferred()
        if isinstance(server, Exception):
            return defer.fail(server)
        near, far = Wire(client=True), Wire(client=False)
        near.other, far.other = far, near
        near.protocol, far.protocol = factory.buildProtocol(None), server()
        self.wires.append(near)
        self.peers.append(far.protocol)
        far.protocol.makeConnection(far)
        near.protocol.makeConnection(near)
        return defer.succeed(near.protocol)

    def move(self) -> None:
        """Move octets until nothing moves."""
        moving = True
        while moving:
            moving = False
            for near in self.wires:
                moving = near.move() or near.other.move() or moving

    def run(self, waiting: Any) -> Any:
        """Move octets, and return what a Deferred or a coroutine gives; it must have fired then."""
        if not isinstance(waiting, defer.Deferred):
            waiting = defer.ensureDeferred(waiting)
        self.move()
        return result(waiting)


@implementer(interfaces.IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, network: Network, address: str, port: int) -> None:
        self._network, self._address, self._port = network, address, port

    def connect(self, factory: Any) -> defer.Deferred[Any]:
        return self._network.connect(self._address, self._port, factory)

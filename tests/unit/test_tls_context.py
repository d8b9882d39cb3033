"""`mta.tls.context`: handshakes in memory, both sides through Twisted's TLS."""

from __future__ import annotations

import datetime
import re
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.mail.route import Host, TlsLevel
from mta.mail.tlsinfo import TlsInfo
from mta.settings.problem import SettingsRefused
from mta.settings.sections import TlsSettings
from mta.tls.certificate import make_self_signed
from mta.tls.context import CertificateRefused, ClientContexts, ServerContexts

NAME = "mx.example.test"


@implementer(IHandshakeListener)
class _Side(Protocol):
    """One end of a connection."""

    def __init__(self) -> None:
        self.received = b""
        self.handshaken = False
        self.lost: BaseException | None = None

    def handshakeCompleted(self) -> None:
        self.handshaken = True

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = Failure(Exception())) -> None:  # noqa: B008  # Twisted's own default
        self.lost = reason.value


class _Pair:
    """A server and a client that speak TLS over two strings."""

    def __init__(self, server: Any, client: Any) -> None:
        self.server, self.client = _Side(), _Side()
        self._clock = Clock()  # Twisted gathers small writes until the next turn
        self._wires = []
        for side, creator, is_client in ((self.server, server, False), (self.client, client, True)):
            factory: Any = Factory()
            factory.noisy = False
            factory.buildProtocol = lambda _, side=side: side
            protocol = TLSMemoryBIOFactory(creator, is_client, factory, self._clock).buildProtocol(None)
            transport = StringTransport()
            protocol.makeConnection(transport)
            self._wires.append((protocol, transport))
        self.pump()

    def pump(self) -> None:
        """Carry octets until nobody has more to say, then closings."""
        (server, server_wire), (client, client_wire) = self._wires
        moved = True
        while moved:
            moved = False
            self._clock.advance(0)
            for wire, to in ((client_wire, server), (server_wire, client)):
                octets = wire.value()
                wire.clear()
                if octets:
                    moved = True
                    to.dataReceived(octets)
        for protocol, wire in self._wires:
            if wire.disconnecting and protocol.connected:
                protocol.connectionLost(Failure(ConnectionError("closed")))

    def tell_server(self, octets: bytes) -> None:
        """Put octets on the wire to the server."""
        self._wires[0][0].dataReceived(octets)
        self.pump()

    @property
    def up(self) -> bool:
        """Whether octets pass in both directions."""
        if not (self.server.handshaken and self.client.handshaken) or self.client.lost or self.server.lost:
            return False
        self.client.transport.write(b"EHLO\r\n")
        self.server.transport.write(b"250\r\n")
        self.pump()
        return (self.server.received, self.client.received) == (b"EHLO\r\n", b"250\r\n")


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class _Peer:
    """A client or server of somebody else: any context, any name."""

    def __init__(self, context: SSL.Context, session: SSL.Session | None = None) -> None:
        self._context, self._session = context, session
        self.made: list[SSL.Connection] = []

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context)
        if self._session:
            connection.set_session(self._session)
        self.made.append(connection)
        return connection

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return self.clientConnectionForTLS(protocol)


def peer(minimum: int = SSL.TLS1_2_VERSION, maximum: int = SSL.TLS1_3_VERSION, suites: bytes = b"") -> SSL.Context:
    """Make somebody else's client context."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    # OpenSSL takes TLS 1.1 out at its own security level 1 and above; the peer must offer it to be refused.
    context.set_cipher_list(suites or b"ALL:@SECLEVEL=0")
    context.set_min_proto_version(minimum)
    context.set_max_proto_version(maximum)
    return context


def settings(directory: Path, *names: str, days_old: int = 0, minimum: str = "TLSv1.2") -> TlsSettings:
    """Write a certificate for names, good for 30 days, and return its settings."""
    certificate, key = make_self_signed(names or (NAME,), time.time() - days_old * 86400, 30)
    (directory / "certificate.pem").write_bytes(certificate)
    (directory / "key.pem").write_bytes(key)
    return TlsSettings(str(directory / "certificate.pem"), str(directory / "key.pem"), minimum)  # type: ignore[arg-type]


def client(name: str, level: TlsLevel, trust: str = "") -> IOpenSSLClientConnectionCreator:
    """Make our client's side for a host."""
    return ClientContexts(trust).context(Host(name, (), tls=level))


# Server


def test_handshake(tmp_path: Path) -> None:
    """Our client reaches our server, and both describe the same connection."""
    contexts = ServerContexts(settings(tmp_path))
    pair = _Pair(contexts.context(), client(NAME, TlsLevel.MAY))
    assert pair.up
    info = contexts.describe(pair.server.transport)
    assert info == ClientContexts().describe(pair.client.transport)
    assert info == TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)


def test_tls_1_2_is_described(tmp_path: Path) -> None:
    """TLS 1.2 is taken, with ephemeral keys and authenticated encryption."""
    contexts = ServerContexts(settings(tmp_path))
    pair = _Pair(contexts.context(), _Peer(peer(maximum=SSL.TLS1_2_VERSION)))
    assert pair.up
    info = contexts.describe(pair.server.transport)
    assert info.version == "TLSv1.2"
    assert re.fullmatch("ECDHE-ECDSA-AES(128|256)-GCM-SHA(256|384)", info.cipher)
    assert info.bits in (128, 256)


@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION])
def test_old_versions_are_refused(tmp_path: Path, version: int) -> None:
    """TLS 1.0 and 1.1 are refused (RFC 8996), by the version and not for want of a suite."""
    pair = _Pair(ServerContexts(settings(tmp_path)).context(), _Peer(peer(version, version)))
    assert not pair.up
    assert "unsupported protocol" in str(pair.server.lost) or "version" in str(pair.server.lost)


def test_minimum_version(tmp_path: Path) -> None:
    """With TLSv1.3 as minimum, TLS 1.2 is refused."""
    contexts = ServerContexts(settings(tmp_path, minimum="TLSv1.3"))
    assert not _Pair(contexts.context(), _Peer(peer(maximum=SSL.TLS1_2_VERSION))).up
    assert _Pair(contexts.context(), _Peer(peer())).up


@pytest.mark.parametrize("suites", [b"ECDHE-ECDSA-AES256-SHA384", b"ECDHE-ECDSA-AES128-SHA", b"aNULL@SECLEVEL=0"])
def test_weak_suites_are_refused(tmp_path: Path, suites: bytes) -> None:
    """Suites without authenticated encryption, or without authentication, are refused."""
    contexts = ServerContexts(settings(tmp_path))
    assert not _Pair(contexts.context(), _Peer(peer(maximum=SSL.TLS1_2_VERSION, suites=suites))).up


def test_renegotiation_is_refused(tmp_path: Path) -> None:
    """A client that wants to negotiate anew in TLS 1.2 gets no second handshake."""
    other = _Peer(peer(maximum=SSL.TLS1_2_VERSION))
    pair = _Pair(ServerContexts(settings(tmp_path)).context(), other)
    assert pair.up
    (connection,) = other.made
    assert connection.renegotiate()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    pair.tell_server(connection.bio_read(4096))
    assert "no renegotiation" in str(pair.client.lost)


def test_session_is_resumed(tmp_path: Path) -> None:
    """A client that comes back with its ticket is resumed; after a reload it is not."""
    made = settings(tmp_path)
    contexts = ServerContexts(made)
    context = peer(maximum=SSL.TLS1_2_VERSION)
    other = _Peer(context)
    assert _Pair(contexts.context(), other).up
    session = other.made[0].get_session()
    assert session

    def resumed() -> bool:
        again = _Peer(context, session)
        assert _Pair(contexts.context(), again).up
        return again.made[0].master_key() == other.made[0].master_key()

    assert resumed()
    contexts.reload(made)
    assert not resumed()


def test_reload(tmp_path: Path) -> None:
    """A reload serves the new certificate to the next connection; a bad file keeps the old one."""
    contexts = ServerContexts(settings(tmp_path, "old.example.test"))

    def served() -> str:
        other = _Peer(peer())
        assert _Pair(contexts.context(), other).up
        certificate = other.made[0].get_peer_certificate(as_cryptography=True)
        assert certificate
        return certificate.subject.rfc4514_string()

    assert served() == "CN=old.example.test"
    made = settings(tmp_path, "new.example.test")
    contexts.reload(made)
    assert served() == "CN=new.example.test"
    (tmp_path / "key.pem").write_bytes(b"")
    with pytest.raises(SettingsRefused, match=r"key\.pem"):
        contexts.reload(made)
    assert served() == "CN=new.example.test"


def test_unfit_files_stop_the_start(tmp_path: Path) -> None:
    """A key that does not match stops the start, with its file's name."""
    made = settings(tmp_path)
    (tmp_path / "key.pem").write_bytes(make_self_signed([NAME], 0, 1)[1])
    with pytest.raises(SettingsRefused, match=r"key\.pem: expected the private key of the first certificate"):
        ServerContexts(made)


def test_chain(tmp_path: Path) -> None:
    """The certificates behind ours are sent, and a client that knows their authority trusts us; RSA keys serve too."""
    now = datetime.datetime.now(datetime.UTC)

    def issue(name: str, key: Any, issuer: str, signer: Any, authority: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder().serial_number(x509.random_serial_number()).public_key(key.public_key())
        builder = builder.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    top, middle = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    leaf = rsa.generate_private_key(65537, 2048)
    encoding = serialization.Encoding.PEM
    (tmp_path / "top").write_bytes(issue("top", top, "top", top, True).public_bytes(encoding))
    chain = issue(NAME, leaf, "middle", middle, False), issue("middle", middle, "top", top, True)
    key = leaf.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "both").write_bytes(b"".join(each.public_bytes(encoding) for each in chain) + key)
    contexts = ServerContexts(TlsSettings(str(tmp_path / "both")))
    assert _Pair(contexts.context(), client(NAME, TlsLevel.MUST, str(tmp_path / "top"))).up


# Client


def test_must_with_the_right_name(tmp_path: Path) -> None:
    """MUST takes a certificate from a known authority that names the host, by name or by address."""
    made = settings(tmp_path, NAME, "192.0.2.1", "2001:db8::1")
    for name in (NAME, "[192.0.2.1]", "[IPv6:2001:db8::1]"):
        assert _Pair(ServerContexts(made).context(), client(name, TlsLevel.MUST, made.certificate)).up


@pytest.mark.parametrize("name", ["other.example.test", "[192.0.2.2]", "example.test", "a.mx.example.test"])
def test_must_with_another_name(tmp_path: Path, name: str) -> None:
    """MUST refuses a certificate of another host, and says so; MAY takes it."""
    made = settings(tmp_path, NAME, "192.0.2.1")
    pair = _Pair(ServerContexts(made).context(), client(name, TlsLevel.MUST, made.certificate))
    assert not pair.up
    assert isinstance(pair.client.lost, CertificateRefused)
    assert str(pair.client.lost) == f"the certificate of {name} names another host"
    assert _Pair(ServerContexts(made).context(), client(name, TlsLevel.MAY)).up


def test_must_with_an_unknown_authority(tmp_path: Path) -> None:
    """MUST refuses a certificate that nobody known vouches for; MAY takes it."""
    made = settings(tmp_path)
    pair = _Pair(ServerContexts(made).context(), client(NAME, TlsLevel.MUST))
    assert not pair.up
    assert str(pair.client.lost) == f"the certificate of {NAME} is self-signed"
    assert _Pair(ServerContexts(made).context(), client(NAME, TlsLevel.MAY)).up


@pytest.mark.parametrize(("days_old", "why"), [(31, "has expired"), (-1, "is not valid yet")])
def test_must_with_a_certificate_out_of_time(tmp_path: Path, days_old: int, why: str) -> None:
    """MUST refuses a certificate whose time is over or to come; MAY takes it."""
    made = settings(tmp_path, days_old=days_old)
    pair = _Pair(ServerContexts(made).context(), client(NAME, TlsLevel.MUST, made.certificate))
    assert not pair.up
    assert str(pair.client.lost) == f"the certificate of {NAME} {why}"
    assert _Pair(ServerContexts(made).context(), client(NAME, TlsLevel.MAY)).up


def test_server_name_is_sent(tmp_path: Path) -> None:
    """The host's name goes out as SNI, an address does not (RFC 6066 §3)."""
    made = settings(tmp_path)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(made.certificate)
    context.use_privatekey_file(made.key)
    for name, sent in ((NAME, NAME.encode()), ("[192.0.2.1]", None)):
        other = _Peer(context)
        assert _Pair(other, client(name, TlsLevel.MAY)).up
        assert other.made[0].get_servername() == sent


def test_client_wants_tls_1_2(tmp_path: Path) -> None:
    """Our client does not speak TLS 1.1 either."""
    made = settings(tmp_path)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_max_proto_version(SSL.TLS1_1_VERSION)
    context.use_certificate_chain_file(made.certificate)
    context.use_privatekey_file(made.key)
    assert not _Pair(_Peer(context), client(NAME, TlsLevel.MAY)).up


def test_old_suites_are_for_the_opportunistic_client(tmp_path: Path) -> None:
    """MAY takes a server that knows only CBC suites, since clear text would be worse; MUST does not."""
    made = settings(tmp_path)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_cipher_list(b"ECDHE-ECDSA-AES256-SHA384")
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_chain_file(made.certificate)
    context.use_privatekey_file(made.key)
    assert _Pair(_Peer(context), client(NAME, TlsLevel.MAY)).up
    assert not _Pair(_Peer(context), client(NAME, TlsLevel.MUST, made.certificate)).up

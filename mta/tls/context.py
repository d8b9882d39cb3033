"""What a handshake needs, for our services and for our client, and what it gave.

=============  ================================================================================================
side, level    what is asked of the peer
=============  ================================================================================================
server         TLS 1.2 or what the settings say (RFC 9325 §3.1.1), ephemeral keys and authenticated encryption
client, MAY    TLS 1.2; any certificate, since the alternative is clear text (RFC 7435); weaker suites for the
               same reason, never anonymous ones
client, MUST   TLS 1.2, the server's suites; a certificate that a known authority vouches for and that names the
               host we meant to reach (RFC 6125, RFC 9525), a name in Subject Alternative Name alone
=============  ================================================================================================

No compression (CRIME), no renegotiation. Sessions are resumed by tickets under keys that live as long as the context,
so a reload ends them; no session is kept in memory.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from service_identity.exceptions import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.mail.route import Host, TlsLevel
from mta.mail.tlsinfo import TlsInfo
from mta.settings.sections import TlsSettings
from mta.smtp.grammar import ADDRESS_LITERAL
from mta.tls.certificate import read_identity

# RFC 9325 §4.2, for TLS 1.2; the suites of TLS 1.3 are all of this kind
_STRONG = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_ANY = _STRONG + b":ECDHE+AES:DHE+AESGCM:DHE+AES:RSA+AESGCM:RSA+AES:!aNULL:!eNULL"

_VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}

# The X509_V_ERR_ codes that an administrator meets (OpenSSL's x509_vfy.h)
_CHAIN_FAULTS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed",
    19: "is signed by an authority that is not known here",
    20: "is signed by an authority that is not known here",
    23: "was revoked",
}


def describe(transport: Any) -> TlsInfo:
    """Tell version and cipher of a transport whose handshake has ended."""
    connection: SSL.Connection = transport.getHandle()
    return TlsInfo(
        connection.get_protocol_version_name(),
        connection.get_cipher_name() or "",
        connection.get_cipher_bits() or 0,
    )


class ServerContexts:
    """TLS of our services: `mta.net.rules.TlsServer`. Raises SettingsRefused where certificate or key are unfit."""

    def __init__(self, settings: TlsSettings) -> None:
        self._current = _Server(settings)

    def reload(self, settings: TlsSettings) -> None:
        """Read the files again, for the connections to come. Raises SettingsRefused and keeps what there was."""
        self._current = _Server(settings)

    def context(self) -> IOpenSSLServerConnectionCreator:
        """Return what makes the next TLS connection."""
        return self._current

    def describe(self, transport: Any) -> TlsInfo:
        """Tell version and cipher of a transport whose handshake has ended."""
        return describe(transport)


class ClientContexts:
    """TLS of our client: `mta.relay.opening.TlsClient`.

    `authorities` is a PEM file of the certificates that vouch for others; empty: those that the system knows.
    """

    def __init__(self, authorities: str = "") -> None:
        self._any = _context(SSL.TLS_CLIENT_METHOD, _ANY)
        self._verifying = _context(SSL.TLS_CLIENT_METHOD, _STRONG)
        if authorities:
            self._verifying.load_verify_locations(authorities)
        else:
            self._verifying.set_default_verify_paths()

    def context(self, host: Host) -> IOpenSSLClientConnectionCreator:
        """Return what makes a TLS connection to `host`, whose certificate is checked at the level MUST alone."""
        if host.tls is TlsLevel.MUST:
            return _Client(self._verifying, host.name, verify=True)
        return _Client(self._any, host.name, verify=False)

    def describe(self, transport: Any) -> TlsInfo:
        """Tell version and cipher of a transport whose handshake has ended."""
        return describe(transport)


class CertificateRefused(VerificationError):
    """The peer's certificate is not one of the host we meant to reach."""

    def __init__(self, text: str) -> None:
        super().__init__(errors=[])
        self.text = text

    def __str__(self) -> str:
        return self.text


def _context(method: int, suites: bytes, minimum: str = "TLSv1.2") -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(_VERSIONS[minimum])
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # an idle connection keeps no buffers: 34 KiB less
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(suites)
    return context


@implementer(IOpenSSLServerConnectionCreator)
class _Server:
    def __init__(self, settings: TlsSettings) -> None:
        identity = read_identity(settings.certificate, settings.key)
        self._context = _context(SSL.TLS_SERVER_METHOD, _STRONG, settings.minimum)
        self._context.use_certificate(identity.certificates[0])
        for certificate in identity.certificates[1:]:
            self._context.add_extra_chain_cert(certificate)
        self._context.use_privatekey(identity.key)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._context)


@implementer(IOpenSSLClientConnectionCreator)
class _Client:
    def __init__(self, context: SSL.Context, name: str, verify: bool) -> None:
        self._context = context
        self._name = name
        self._verify = verify

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context)
        literal = ADDRESS_LITERAL.fullmatch(self._name)
        if not literal:  # RFC 6066 §3: literal addresses are not sent
            connection.set_tlsext_host_name(self._name.encode("ascii"))
        if self._verify:
            wanted = IPAddress_ID(str(ipaddress.ip_address(literal["address"]))) if literal else DNS_ID(self._name)
            connection.set_verify(SSL.VERIFY_PEER, _verifier(wanted, self._name, protocol))
        return connection


def _verifier(
    wanted: DNS_ID | IPAddress_ID, name: str, protocol: Any
) -> Callable[[SSL.Connection, Any, int, int, int], bool]:
    """Make OpenSSL's verify callback: it is called for each certificate of the chain, ours to judge at depth 0."""

    def refuse(why: str) -> bool:
        refusal = CertificateRefused(f"the certificate of {name} {why}")
        protocol.failVerification(Failure(refusal))  # type: ignore[no-untyped-call]  # Twisted gives it no types
        return False

    def verify(connection: SSL.Connection, certificate: Any, error: int, depth: int, good: int) -> bool:
        if not good:
            return refuse(_CHAIN_FAULTS.get(error, f"is not trusted (OpenSSL verify error {error})"))
        if depth == 0:
            try:
                verify_service_identity(extract_patterns(certificate), [wanted], [])
            except (VerificationError, CertificateError):
                return refuse("names another host")
        return True

    return verify

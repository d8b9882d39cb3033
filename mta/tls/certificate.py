"""Our certificate: read from files and checked, or made for a demonstration (RFC 5280, RFC 7468)."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mta.settings.problem import Problem, SettingsRefused

_SECONDS_A_DAY = 86_400
# A clock that is a little slow must not refuse a certificate that was made a moment ago.
_BACKDATED_SECONDS = 3600


SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are: our certificate first, then those that lead to a known authority, and the private key."""

    certificates: tuple[x509.Certificate, ...]
    key: SigningKey


def read_identity(certificate_file: str, key_file: str) -> Identity:
    """Read PEM files; without `key_file` the key is in the certificate's file.

    Raises SettingsRefused, naming the file, for one that cannot be read, holds no certificate or no key, or a key that
    belongs to another certificate.
    """
    key_file = key_file or certificate_file
    try:
        certificates = x509.load_pem_x509_certificates(_read(certificate_file))
    except ValueError:
        raise _refused(certificate_file, "certificates in PEM", "none that can be read") from None
    try:
        key = serialization.load_pem_private_key(_read(key_file), password=None)
    except TypeError:
        raise _refused(key_file, "a private key without a passphrase", "one with a passphrase") from None
    except ValueError:
        raise _refused(key_file, "a private key in PEM", "none that can be read") from None
    if not isinstance(key, SigningKey):
        raise _refused(key_file, "an RSA, EC or EdDSA key", "a key of another kind")
    if _octets(key.public_key()) != _octets(certificates[0].public_key()):
        raise _refused(key_file, f"the private key of the first certificate in {certificate_file}", "another key")
    return Identity(tuple(certificates), key)


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise _refused(file, "a file that can be read", error.strerror or str(error)) from None


def _refused(file: str, expected: str, found: str) -> SettingsRefused:
    return SettingsRefused([Problem(file, 0, expected, found)])


def _octets(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def make_self_signed(names: Sequence[str], now: float, days: int) -> tuple[bytes, bytes]:
    """Make a certificate (P-256) for host names and addresses; returns it and its key in PEM.

    The first name is also the subject. It is valid for `days` from wall time `now` (seconds since 1970).
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    start = datetime.datetime.fromtimestamp(int(now), datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - datetime.timedelta(seconds=_BACKDATED_SECONDS))
        .not_valid_after(start + datetime.timedelta(seconds=days * _SECONDS_A_DAY))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

"""`mta.tls.certificate`: files that are unfit are refused with their name; demonstration certificates are sound."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519

from mta.settings.problem import Problem, SettingsRefused
from mta.tls.certificate import make_self_signed, read_identity

NOW = 1_750_000_000.0
CERTIFICATE, KEY = make_self_signed(["mx.example.test", "localhost", "127.0.0.1", "::1"], NOW, 30)
OTHER_CERTIFICATE, OTHER_KEY = make_self_signed(["other.example.test"], NOW, 30)


def pem(key: ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey, password: bytes = b"") -> bytes:
    """Write a key in PEM."""
    cipher = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, cipher)


def refused(directory: Path, certificate: bytes, key: bytes) -> Problem:
    """Read a pair of files that must be refused; return the problem."""
    (directory / "certificate.pem").write_bytes(certificate)
    (directory / "key.pem").write_bytes(key)
    with pytest.raises(SettingsRefused) as caught:
        read_identity(str(directory / "certificate.pem"), str(directory / "key.pem"))
    (problem,) = caught.value.problems
    return problem


def test_self_signed() -> None:
    """A demonstration certificate is P-256, names hosts and addresses, and is valid from an hour ago on."""
    certificate = x509.load_pem_x509_certificate(CERTIFICATE)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mx.example.test", "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    now = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    assert certificate.not_valid_before_utc == now - datetime.timedelta(hours=1)
    assert certificate.not_valid_after_utc == now + datetime.timedelta(days=30)
    certificate.verify_directly_issued_by(certificate)


def test_read(tmp_path: Path) -> None:
    """A chain is read in its order, with the key."""
    (tmp_path / "chain").write_bytes(CERTIFICATE + OTHER_CERTIFICATE)
    (tmp_path / "key").write_bytes(KEY)
    identity = read_identity(str(tmp_path / "chain"), str(tmp_path / "key"))
    assert [certificate.subject.rfc4514_string() for certificate in identity.certificates] == [
        "CN=mx.example.test",
        "CN=other.example.test",
    ]
    assert identity.key.public_key() == identity.certificates[0].public_key()


@pytest.mark.parametrize("octets", [CERTIFICATE + KEY, KEY + CERTIFICATE])
def test_one_file(tmp_path: Path, octets: bytes) -> None:
    """Certificate and key may share a file."""
    (tmp_path / "both").write_bytes(octets)
    assert read_identity(str(tmp_path / "both"), "").key.public_key() is not None


def test_key_of_another_certificate(tmp_path: Path) -> None:
    """A key that belongs to another certificate is refused; the problem names both files."""
    problem = refused(tmp_path, CERTIFICATE, OTHER_KEY)
    assert problem.file == str(tmp_path / "key.pem")
    assert str(tmp_path / "certificate.pem") in problem.expected
    assert problem.found == "another key"


def test_no_certificate(tmp_path: Path) -> None:
    """A file without a certificate, or with a damaged one, is refused by name."""
    damaged = CERTIFICATE[:100] + b"!!!!" + CERTIFICATE[104:]
    for octets in (b"", KEY, b"\xff\x00", damaged):
        problem = refused(tmp_path, octets, KEY)
        assert (problem.file, problem.expected) == (str(tmp_path / "certificate.pem"), "certificates in PEM")


def test_no_key(tmp_path: Path) -> None:
    """A file without a key, or with a damaged one, is refused by name."""
    damaged = KEY[:60] + b"!!!!" + KEY[64:]
    for octets in (b"", CERTIFICATE, b"\xff\x00", damaged):
        problem = refused(tmp_path, CERTIFICATE, octets)
        assert (problem.file, problem.expected) == (str(tmp_path / "key.pem"), "a private key in PEM")


def test_passphrase(tmp_path: Path) -> None:
    """A key with a passphrase is refused: nobody is there to type it."""
    problem = refused(tmp_path, CERTIFICATE, pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
    assert problem.expected == "a private key without a passphrase"


def test_kind_of_key(tmp_path: Path) -> None:
    """A key that cannot sign is refused."""
    problem = refused(tmp_path, CERTIFICATE, pem(x25519.X25519PrivateKey.generate()))
    assert problem.expected == "an RSA, EC or EdDSA key"


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is refused by name, in the words of the system."""
    with pytest.raises(SettingsRefused) as caught:
        read_identity(str(tmp_path / "none.pem"), "")
    assert caught.value.problems == (
        Problem(str(tmp_path / "none.pem"), 0, "a file that can be read", "No such file or directory"),
    )

"""The certificate: dates, names, key and who vouches for it."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from mta.service.check.certificate import check_certificate, covers, openssl_vouches
from mta.service.check.finding import Finding, Severity
from mta.settings.sections import Settings, TlsSettings
from mta.tls.certificate import make_self_signed, read_identity

HOST = "mail.example.org"
NOW = time.time()
DAY = 86_400.0


class Files:
    """A certificate for some names, and its key."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = Settings(HOST, tls=TlsSettings(str(root / "certificate.pem"), str(root / "key.pem")))

    def write(self, names: list[str] | None = None, days: int = 90) -> None:
        """Make new ones."""
        certificate, key = make_self_signed(names or [HOST], NOW, days)
        (self.root / "certificate.pem").write_bytes(certificate)
        (self.root / "key.pem").write_bytes(key)

    def look(self, now: float = NOW, code: int = 0, text: str = "") -> list[Finding]:
        """What is found where an authority vouches, or says this."""
        return check_certificate(self.settings, now, lambda chain: (code, text))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A good one."""
    files = Files(tmp_path)
    files.write()
    return files


def graver(found: list[Finding]) -> list[tuple[Severity, str]]:
    """All but notes."""
    return [(finding.severity, finding.what) for finding in found if finding.severity is not Severity.NOTE]


def test_a_good_certificate_is_a_note_with_its_end(files: Files) -> None:
    """How long it lasts is worth knowing."""
    (finding,) = files.look()
    assert finding.severity is Severity.NOTE
    assert finding.what.startswith("the certificate is good until ")


@pytest.mark.parametrize(
    ("days", "severity", "what"),
    [
        (89, Severity.ERROR, "expires on"),
        (80, Severity.WARNING, "in 10 days"),
        (91, Severity.ERROR, "expired on"),
        (-1, Severity.ERROR, "not valid yet"),
    ],
)
def test_dates(files: Files, days: int, severity: Severity, what: str) -> None:
    """Soon a warning, within days an error, and after its end or before its beginning."""
    ((found, text),) = graver(files.look(NOW + days * DAY))
    assert found is severity
    assert what in text


def test_names(files: Files) -> None:
    """It must name the host; what it names instead is said."""
    files.write(["www.example.org", "example.org"])
    (error,) = [finding for finding in files.look() if finding.severity is Severity.ERROR]
    assert error.what == f"the certificate is not one for {HOST}"
    assert "www.example.org, example.org" in error.reason.text
    files.write(["*.example.org"])
    assert graver(files.look()) == []


@pytest.mark.parametrize(
    ("names", "covered"),
    [([HOST], True), (["*.example.org"], True), (["*.org"], False), (["example.org"], False), ([], False)],
)
def test_a_wildcard_stands_for_one_label(names: list[str], covered: bool) -> None:
    """RFC 9525 §6.3."""
    assert covers(names, HOST) is covered


def test_who_vouches(files: Files) -> None:
    """Self-signed, or a chain with a gap, are warnings of their own."""
    assert graver(files.look(code=18)) == [(Severity.WARNING, "the certificate is self-signed")]
    ((severity, what),) = graver(files.look(code=20, text="unable to get local issuer certificate"))
    assert severity is Severity.WARNING
    assert what.endswith("unable to get local issuer certificate")


def test_openssl_knows_what_is_self_signed_and_what_nobody_vouches_for(files: Files) -> None:
    """The codes are those of OpenSSL itself, whatever the dates."""
    chain = read_identity(files.settings.tls.certificate, files.settings.tls.key).certificates
    assert openssl_vouches(chain)[0] == 18
    issued = _issued()
    assert openssl_vouches([issued])[0] in (20, 21)


def _issued() -> x509.Certificate:
    """A certificate of an authority that nobody knows, expired."""
    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nobody")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )


def test_a_key_of_another_certificate(files: Files) -> None:
    """The server would not start: the files are named."""
    key = (files.root / "key.pem").read_bytes()
    files.write()
    (files.root / "key.pem").write_bytes(key)
    (finding,) = files.look()
    assert finding.severity is Severity.ERROR
    assert finding.reason.source == files.settings.tls.key


def test_no_certificate_at_all() -> None:
    """A warning with the lines to write."""
    (finding,) = check_certificate(Settings(HOST, path="etc/mta.toml"), NOW)
    assert finding.severity is Severity.WARNING
    assert "[tls] certificate" in finding.mend


def test_a_short_key(tmp_path: Path) -> None:
    """RFC 9325 §4.5: 2,048 bits."""
    files = Files(tmp_path)
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    start = datetime.datetime.fromtimestamp(NOW - DAY, datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    assert graver(files.look()) == [(Severity.WARNING, "the key has 1024 bits")]

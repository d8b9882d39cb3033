"""Tests of `mta.mailauth.key`."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet import defer

from mta.dns.answer import RecordType
from mta.mailauth.algorithm import Algorithm
from mta.mailauth.key import RECORDS_MAXIMUM, Key, KeyFault, fetch_key, read_keys
from mta.mailauth.result import DkimResult
from tests.doubles.dns import ZoneResolver
from tests.doubles.sync import result

SPKI, PKCS1 = PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1
RSA = generate_private_key(65537, 1024).public_key()
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
SOURCE = "TXT s._domainkey.example.org"


def p(key: Any, form: PublicFormat = SPKI) -> str:
    """A key as p= has it."""
    if key is ED25519:
        return base64.b64encode(ED25519.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    return base64.b64encode(key.public_bytes(Encoding.DER, form)).decode()


def rsa_of(bits: int, exponent: int = 65537) -> str:
    """A public key of so many bits, whose private key nobody knows."""
    return p(RSAPublicNumbers(exponent, (1 << (bits - 1)) | 12345).public_key())


P = p(RSA)


def read(*records: str, algorithm: Algorithm = Algorithm.RSA_SHA256) -> Key | KeyFault:
    """Read records."""
    return read_keys([record.encode() for record in records], algorithm, SOURCE)


@pytest.mark.parametrize(
    ("record", "testing", "strict"),
    [
        (f"v=DKIM1; k=rsa; p={P}", False, False),
        (f"v=DKIM1; p={P}", False, False),
        (f"p={P}", False, False),
        (f"k=rsa; t=y; p={P};", True, False),
        (f"v=DKIM1; t=s; p={P}", False, True),
        (f"v=DKIM1; t= x : s : y ; p={P}", True, True),
        (f"v=DKIM1; h=sha1:sha256; s=email; p={P}", False, False),
        (f"v=DKIM1; s=tlsrpt:*; p={P}", False, False),
        (f"v=DKIM1; k=RSA; h=SHA256; s=Email; p={P}", False, False),
        (f"v=DKIM1; n=a note; g=*; unknown=x; p={P[:70]} {P[70:]}", False, False),
        (f"v=DKIM1; p={P.rstrip('=')}", False, False),
        (f"v=DKIM1; p={p(RSA, PKCS1)}", False, False),
    ],
)
def test_rsa_key(record: str, testing: bool, strict: bool) -> None:
    """An RSA key in either form is read, with its flags; unknown tags and flags do not matter."""
    key = read(record)
    assert isinstance(key, Key)
    assert key.public == RSA
    assert (key.bits, key.testing, key.strict, key.source) == (1024, testing, strict, SOURCE)


def test_ed25519_key() -> None:
    """An Ed25519 key is its 32 octets (RFC 8463 §4)."""
    key = read(f"v=DKIM1; k=ed25519; t=y:s; p={p(ED25519)}", algorithm=Algorithm.ED25519_SHA256)
    assert isinstance(key, Key)
    assert key.public == ED25519
    assert (key.bits, key.testing, key.strict) == (256, True, True)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ("v=DKIM1; p=", "the key is revoked"),
        ("v=DKIM1; p= ;", "the key is revoked"),
        ("v=DKIM1; k=rsa", "the record has no p="),
        ("v=spf1 -all", "the record is no key: v= is not DKIM1, or not first"),
        (f"v=DKIM2; p={P}", "the record is no key: v= is not DKIM1, or not first"),
        (f"v=dkim1; p={P}", "the record is no key: v= is not DKIM1, or not first"),
        (f"k=rsa; v=DKIM1; p={P}", "the record is no key: v= is not DKIM1, or not first"),
        (f"v=DKIM1; p={P}; p={P}", "the record is no key: there are two p= tags"),
        ("some text", 'the record is no key: "some text" is no tag'),
        ("", 'the record is no key: "" is no tag'),
        (f"v=DKIM1; k=ed25519; p={P}", "k= is not rsa"),
        (f"v=DKIM1; k=dsa; p={P}", "k= is not rsa"),
        (f"v=DKIM1; h=sha1; p={P}", "h= of the key does not have sha256"),
        (f"v=DKIM1; s=tlsrpt; p={P}", "s= of the key does not have email"),
        ("v=DKIM1; p=!!", "p= is not base64"),
        ("v=DKIM1; p=AAAA", "p= is no RSA key"),
        (f"v=DKIM1; p={P}junk", "p= is not base64" if "=" in P else "p= is no RSA key"),
        (f"v=DKIM1; p={p(ED25519)}", "p= is no RSA key"),
        (f"v=DKIM1; p={p(generate_ec(SECP256R1()).public_key())}", "p= is no RSA key"),
        (f"v=DKIM1; p={'A' * 20_000}", "p= is no RSA key"),
    ],
)
def test_key_with_a_fault(record: str, text: str) -> None:
    """A record that is no key, not for mail or revoked is a permerror that says so."""
    fault = read(record)
    assert isinstance(fault, KeyFault)
    assert (fault.result, fault.reason.text, fault.reason.source) == (DkimResult.PERMERROR, text, SOURCE)


def test_ed25519_key_of_another_length() -> None:
    """An Ed25519 key in another form than its 32 octets is at fault."""
    fault = read("v=DKIM1; k=ed25519; p=AAAA", algorithm=Algorithm.ED25519_SHA256)
    assert isinstance(fault, KeyFault)
    assert fault.reason.text == "p= has 3 octets, where an Ed25519 key has 32"


@pytest.mark.parametrize(
    ("bits", "exponent", "expected"),
    [
        (512, 65537, DkimResult.FAIL),
        (1023, 65537, DkimResult.FAIL),
        (1024, 65537, None),
        (1024, (1 << 63) + 1, None),
        (1024, (1 << 64) + 1, DkimResult.POLICY),
        (8192, 3, None),
        (8200, 3, DkimResult.POLICY),
        (16384, 3, DkimResult.POLICY),
    ],
)
def test_length_of_rsa_key(bits: int, exponent: int, expected: DkimResult | None) -> None:
    """A key under 1,024 bits fails, and one that costs too much time is refused; both tell their length."""
    key = read(f"t=y; p={rsa_of(bits, exponent)}")
    assert (key.result if isinstance(key, KeyFault) else None) is expected
    assert (key.bits, key.testing) == (bits, True)


def test_several_records() -> None:
    """Records that are no key of this type do not disturb the one that is; two that differ are a permerror."""
    key, other = f"v=DKIM1; p={P}", f"v=DKIM1; p={rsa_of(2048)}"
    for records in (("v=spf1 -all", key), (key, "junk"), (key, key), (key, f"k=ed25519; p={p(ED25519)}")):
        assert isinstance(read(*records), Key)
    for records in ((key, other), (other, key), (key, "v=DKIM1; p=")):
        fault = read(*records)
        assert isinstance(fault, KeyFault)
        assert fault.reason.text == "2 different keys are published"
    assert read("junk", "v=spf1 -all") == read("v=spf1 -all", "junk")


def test_only_so_many_records_are_read() -> None:
    """A name with many records does not make us read them all."""
    many = [f"junk {number}" for number in range(RECORDS_MAXIMUM)]
    assert isinstance(read(*many[1:], f"v=DKIM1; p={P}"), Key)
    assert isinstance(read(*many, f"v=DKIM1; p={P}"), KeyFault)


def fetch(zone: str) -> tuple[Key | KeyFault, ZoneResolver]:
    """Fetch the RSA key of selector s of example.org."""
    resolver = ZoneResolver(zone)
    coroutine = fetch_key(resolver, "s", "example.org", Algorithm.RSA_SHA256)
    return result(defer.Deferred.fromCoroutine(coroutine)), resolver


def test_key_is_fetched() -> None:
    """The key is asked for with one question, at the selector's name."""
    key, resolver = fetch(f's._domainkey.example.org TXT "p={P}"')
    assert isinstance(key, Key)
    assert resolver.asked == [("s._domainkey.example.org", RecordType.TXT)]


@pytest.mark.parametrize(
    ("zone", "expected", "text"),
    [
        ("", DkimResult.PERMERROR, "no key is published"),
        ("s._domainkey.example.org A 192.0.2.1", DkimResult.PERMERROR, "no key is published"),
        (
            "s._domainkey.example.org TXT !SERVFAIL",
            DkimResult.TEMPERROR,
            "no key: TXT of s._domainkey.example.org: SERVFAIL",
        ),
    ],
)
def test_key_that_is_not_there(zone: str, expected: DkimResult, text: str) -> None:
    """No record is a permerror; a name server that cannot say is a temperror."""
    fault, _ = fetch(zone)
    assert isinstance(fault, KeyFault)
    assert (fault.result, fault.reason.text) == (expected, text)

"""Tests of `mta.mailauth.algorithm`."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from mta.mail.reason import Reason
from mta.mailauth.algorithm import Algorithm, PrivateKey, algorithm_of, read_algorithm, sign, verify

RSA = generate_private_key(65537, 1024)
ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.mark.parametrize("key", [RSA, ED25519])
def test_signature_verifies(key: PrivateKey) -> None:
    """What a key signs verifies with its public key, and with these octets and that signature alone."""
    signature = sign(key, b"octets")
    public = key.public_key()
    assert verify(public, b"octets", signature)
    assert not verify(public, b"octetz", signature)
    assert not verify(public, b"octets", signature[:-1] + bytes([signature[-1] ^ 1]))
    for junk in (b"", b"\0", signature[:-1], signature + b"\0", signature * 100):
        assert not verify(public, b"octets", junk)


def test_signature_of_another_key() -> None:
    """A signature of the other algorithm is none."""
    assert not verify(RSA.public_key(), b"octets", sign(ED25519, b"octets"))
    assert not verify(ED25519.public_key(), b"octets", sign(RSA, b"octets"))


def test_names() -> None:
    """Algorithms are known by the names of RFC 6376 §3.3 and RFC 8463; rsa-sha1 is refused by RFC 8301."""
    assert read_algorithm("rsa-sha256") is Algorithm.RSA_SHA256
    assert read_algorithm("Ed25519-SHA256") is Algorithm.ED25519_SHA256
    assert [each.key_type for each in Algorithm] == ["rsa", "ed25519"]
    for text, source in (("rsa-sha1", "RFC 8301 §3.1"), ("RSA-SHA1", "RFC 8301 §3.1"), ("x", "RFC 6376 §3.3")):
        fault = read_algorithm(text)
        assert isinstance(fault, Reason)
        assert fault.source == source


def test_private_key_has_one_algorithm() -> None:
    """The kind of a private key says what it signs with."""
    assert algorithm_of(RSA) is Algorithm.RSA_SHA256
    assert algorithm_of(ED25519) is Algorithm.ED25519_SHA256

"""Signature algorithms: rsa-sha256 (RFC 6376 §3.3.2, RFC 8301) and ed25519-sha256 (RFC 8463 §3).

rsa-sha1 is refused (RFC 8301 §3.1). RSA keys under 1,024 bits are no keys (RFC 8301 §3.2); those over 8,192 bits, or
with an exponent over 64 bits, are refused so that nobody decides how long we calculate: the dearest check takes 1 ms.
"""

from __future__ import annotations

import enum
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from mta.mail.reason import Reason

RSA_BITS_MINIMUM = 1024
"""RFC 8301 §3.2."""
RSA_BITS_MAXIMUM = 8192
"""RFC 8301 §3.2 asks for 4,096; a check of 8,192 takes 0.4 ms."""
RSA_EXPONENT_BITS_MAXIMUM = 64
"""Everybody uses 17 bits. OpenSSL sets the same bound for long keys."""

PublicKey = RSAPublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | Ed25519PrivateKey


class Algorithm(enum.Enum):
    """``a=`` of a signature."""

    RSA_SHA256 = "rsa-sha256"
    ED25519_SHA256 = "ed25519-sha256"

    @property
    def key_type(self) -> str:
        """``k=`` of its keys."""
        return self.value.partition("-")[0]


HASH = "sha256"
"""The hash of both, as ``h=`` of a key names it."""


def read_algorithm(text: str) -> Algorithm | Reason:
    """Read ``a=``; what is not allowed or not known is a fault."""
    if text.lower() == "rsa-sha1":
        return Reason("a=rsa-sha1 is no longer accepted", "RFC 8301 §3.1")
    try:
        return Algorithm(text.lower())
    except ValueError:
        return Reason("a= names no algorithm that is known", "RFC 6376 §3.3")


def algorithm_of(key: PrivateKey) -> Algorithm:
    """Return the algorithm that a private key signs with."""
    return Algorithm.RSA_SHA256 if isinstance(key, RSAPrivateKey) else Algorithm.ED25519_SHA256


def verify(key: PublicKey, octets: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of `octets` (canonical fields, then the signature field) by the owner of `key`."""
    return verify_digest(key, hashlib.sha256(octets).digest(), signature)


def verify_digest(key: PublicKey, digest: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of the octets whose SHA-256 is `digest`."""
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
        else:
            key.verify(signature, digest)
    except InvalidSignature:
        return False
    return True


def sign(key: PrivateKey, octets: bytes) -> bytes:
    """Sign `octets` (canonical fields, then the signature field)."""
    if isinstance(key, RSAPrivateKey):
        return key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(hashlib.sha256(octets).digest())

"""DKIM keys for tests: private keys in PEM, each made once."""

from __future__ import annotations

import functools

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)


def pem(key: PrivateKeyTypes, passphrase: bytes = b"") -> bytes:
    """Write a private key as PKCS8."""
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@functools.cache
def rsa_pem(number: int = 0, bits: int = 2048) -> bytes:
    """Give the RSA key of a number."""
    return pem(rsa.generate_private_key(65537, bits))


@functools.cache
def ed25519_pem(number: int = 0) -> bytes:
    """Give the Ed25519 key of a number."""
    return pem(ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)))

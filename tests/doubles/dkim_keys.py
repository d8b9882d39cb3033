"""DKIM keys for tests: private keys in PEM, each made once."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from mta.settings.dkim import Algorithm, Content
from tests.doubles.disk import SimulatedDisk


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


def generate(algorithm: Algorithm) -> bytes:
    """Make a key as `KeyStore` wants it: RSA keys are all the same one, which nothing of the store looks at."""
    return rsa_pem() if algorithm == "rsa" else pem(ed25519.Ed25519PrivateKey.generate())


@dataclass(frozen=True, slots=True)
class DiskFiles:
    """`mta.settings.dkim.Files` of a simulated disk."""

    disk: SimulatedDisk

    def list(self, path: str) -> list[str]:
        """See `Files`."""
        return self.disk.list(path)

    def content(self, path: str) -> Content:
        """See `Files`."""
        return Content(self.disk.read(path), 0o600, False)

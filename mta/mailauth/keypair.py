"""Key pairs for signing: made, read from PEM, and written as the TXT record that publishes the public half.

RFC 6376 §3.6.1, RFC 8301 §3.2, RFC 8463 §4. Where the files are, and in what state a key is, `mta.settings.dkim` knows.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mta.mailauth.algorithm import PrivateKey, algorithm_of
from mta.mailauth.tags import write_base64
from mta.settings.dkim import RSA_BITS_MINIMUM, Algorithm

RSA_BITS = 2048
"""Of the keys we make: what RFC 8301 §3.2 asks for. The record of a longer one is too large for many a UDP answer."""

_EXPONENT = 65537


def generate_private_key(algorithm: Algorithm) -> bytes:
    """Make a key with the chance of the operating system, as PKCS #8 in PEM. RSA takes 30 to 300 ms."""
    key: PrivateKey
    if algorithm == "rsa":
        key = rsa.generate_private_key(_EXPONENT, RSA_BITS)
    else:
        key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_private_key(pem: bytes) -> PrivateKey:
    """Read a private key, PKCS #8 or PKCS #1; whether its numbers fit together is not proved, which takes 35 ms.

    Raises ValueError, which says why, for anything that nobody signs mail with.
    """
    try:
        key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise ValueError("the private key has a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("there is no private key in PEM") from None
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < RSA_BITS_MINIMUM:
            raise ValueError(f"the private key has {key.key_size} bits, fewer than {RSA_BITS_MINIMUM}")
        return key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    raise ValueError("the private key is neither RSA nor Ed25519")


def is_sound(pem: bytes) -> bool:
    """Whether a private key that `load_private_key` reads is sound: the numbers of an RSA key fit together."""
    try:
        load_pem_private_key(pem, None)
    except ValueError:
        return False
    return True


def record_text(pem: bytes) -> str:
    """Return the text of the TXT record that publishes a private key's public half. Raises ValueError."""
    key = load_private_key(pem)
    if isinstance(key, rsa.RSAPrivateKey):
        octets = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        octets = key.public_key().public_bytes_raw()
    return f"v=DKIM1; k={algorithm_of(key).key_type}; p={write_base64(octets)}"

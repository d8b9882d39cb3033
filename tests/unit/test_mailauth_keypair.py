"""Tests of `mta.mailauth.keypair`."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from mta.mailauth.algorithm import Algorithm as SignatureAlgorithm
from mta.mailauth.algorithm import algorithm_of
from mta.mailauth.key import Key, read_keys
from mta.mailauth.keypair import generate_private_key, is_sound, load_private_key, record_text
from mta.settings.dkim import Algorithm

RSA = rsa.generate_private_key(65537, 1024)


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    form: PrivateFormat = PrivateFormat.PKCS8,
    password: bytes = b"",
) -> bytes:
    """A private key in PEM."""
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption)


@pytest.mark.parametrize(("algorithm", "bits"), [("rsa", 2048), ("ed25519", 256)])
def test_made_key_is_published(algorithm: Algorithm, bits: int) -> None:
    """The record of a key that was made is read by verifiers as its public half."""
    made = generate_private_key(algorithm)
    private = load_private_key(made)
    record = record_text(made)
    assert record.startswith(f"v=DKIM1; k={algorithm}; p=")
    assert record.isprintable()
    assert is_sound(made)
    key = read_keys([record.encode()], algorithm_of(private), "")
    assert isinstance(key, Key)
    assert key.public == private.public_key()
    assert key.bits == bits
    assert generate_private_key(algorithm) != made


def test_key_of_others() -> None:
    """PKCS #1 and PKCS #8 are read, with text before the key."""
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        key = load_private_key(b"# a note\n" + pem(RSA, form))
        assert key.public_key() == RSA.public_key()
        assert algorithm_of(key) is SignatureAlgorithm.RSA_SHA256


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "there is no private key in PEM"),
        (b"junk", "there is no private key in PEM"),
        (pem(RSA)[:-60], "there is no private key in PEM"),
        (pem(RSA, password=b"x"), "the private key has a passphrase"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "the private key is neither RSA nor Ed25519"),
    ],
)
def test_what_nobody_signs_with(octets: bytes, why: str) -> None:
    """A file without a usable key is refused with the reason."""
    with pytest.raises(ValueError, match=why):
        load_private_key(octets)


def test_short_key() -> None:
    """An RSA key under 1,024 bits is refused (RFC 8301 §3.2)."""
    p, q = 2**521 - 1, 2**127 - 1
    d = pow(65537, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p,
        q,
        d,
        rsa.rsa_crt_dmp1(d, p),
        rsa.rsa_crt_dmq1(d, q),
        rsa.rsa_crt_iqmp(p, q),
        rsa.RSAPublicNumbers(65537, p * q),
    )
    with pytest.raises(ValueError, match="648 bits, fewer than 1024"):
        load_private_key(pem(numbers.private_key()))


def test_numbers_that_do_not_fit_together() -> None:
    """A key whose numbers do not fit together is read, and is not sound."""
    numbers = RSA.private_numbers()
    broken = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d ^ 2, numbers.dmp1, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    ).private_key(unsafe_skip_rsa_key_validation=True)
    assert load_private_key(pem(broken)).public_key() == RSA.public_key()
    assert not is_sound(pem(broken))
    assert is_sound(pem(RSA))

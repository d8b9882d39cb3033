"""Passwords against verifiers, ours and Dovecot's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import subprocess

import pytest

from mta.auth import verifier
from mta.auth.verifier import SchemeUnavailable, make_scram_verifier, verify

# What ``doveadm pw -s SCHEME -p secret`` of Dovecot 2.3.19 printed.
DOVECOTS = [
    "{SCRAM-SHA-256}4096,zC69o8zrWY9e1KO0X4D4qQ==,v7Zh3EFaFQMZxlQ8jVog5eh+VO2qutuwcYfMXtbIXEY=,"
    "F/YYtnjPphe2VZ97mq3Lf18MDTrcxZY1330GFt8hgDM=",
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$tOUo9rFTBdwvJxt/Ykd9rg$WokQuqKsA/KtsCMVseMlw87x4ksyibkQmsq8IZZ7XPE",
    "{SHA512-CRYPT}$6$UEvHi5Z62NPTJUVS$U3w2iK0GftS6w0LYupxfGs8ZvGnHVXq3b4.C/ilATytHFMQmiIszHM3tJykvo7Nlv3o3z0U9"
    "Kwr/1MfSXahNU/",
    "{BLF-CRYPT}$2y$05$0LVfFwDafAWp0YS2GMOTt.UfqEuUv/BthTkdXaFd4.Pc3EwXcCQoy",
]

needs_doveadm = pytest.mark.skipif(shutil.which("doveadm") is None, reason="doveadm is not installed")


def doveadm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``doveadm pw``."""
    return subprocess.run(["doveadm", "pw", *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("line", DOVECOTS, ids=lambda line: line.partition("}")[0][1:])
def test_each_scheme_knows_its_password(line: str) -> None:
    """What Dovecot made of a password verifies with it, and with no other."""
    assert verify(line, b"secret")
    assert not verify(line, b"Secret")
    for wrong in (b"secret\0", b"secret\0x"):
        assert not verify(line, wrong), wrong


@pytest.mark.parametrize("line", [DOVECOTS[0], *DOVECOTS[2:]], ids=lambda line: line.partition("}")[0][1:])
def test_odd_passwords_are_wrong_passwords(line: str) -> None:
    """Nothing, octets that are no text, and more than the library takes are wrong, not errors."""
    for wrong in (b"", b"secret ", b"\xff", b"s" * 1000):
        assert not verify(line, wrong), wrong


def test_nobody_logs_in_with_a_disabled_verifier() -> None:
    """``!`` fits no password."""
    assert not verify("!", b"!")
    assert not verify("!", b"")


def test_what_is_no_verifier_is_an_error() -> None:
    """A verifier that the settings would have refused raises ValueError."""
    with pytest.raises(ValueError):
        verify("secret", b"secret")


def test_the_example_of_rfc_7677() -> None:
    """RFC 7677 §3: with the password "pencil" our keys sign and accept what the RFC's server and client sent."""
    made = make_scram_verifier("pencil", 4096, base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    exchange = f"n=user,r=rOprNGfwEbeRWgbNEkqO,{nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,{nonce}".encode()
    stored, server = (base64.b64decode(field) for field in made.split(",")[2:])
    assert hmac.digest(server, exchange, "sha256") == base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client_key = bytes(a ^ b for a, b in zip(proof, hmac.digest(stored, exchange, "sha256"), strict=True))
    assert hashlib.sha256(client_key).digest() == stored


def test_a_password_is_octets() -> None:
    """Beyond ASCII the octets of UTF-8 count as they are, as with Dovecot: no normalization."""
    made = make_scram_verifier("naïve", 4096)
    assert verify(made, "naïve".encode())
    assert not verify(made, "nai\u0308ve".encode())


def test_each_verifier_has_its_own_salt() -> None:
    """Without a salt, chance gives one."""
    assert make_scram_verifier("x", 4096) != make_scram_verifier("x", 4096)


def test_a_system_without_libcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no library has crypt_rn the scheme is unavailable: said, not taken for a wrong password."""
    verifier._crypt_rn.cache_clear()
    monkeypatch.setattr(verifier, "_LIBRARIES", ("libnothing.so.9", "libc.so.6"))
    with pytest.raises(SchemeUnavailable):
        verify(DOVECOTS[3], b"secret")
    monkeypatch.undo()
    verifier._crypt_rn.cache_clear()
    assert verify(DOVECOTS[3], b"secret")


@needs_doveadm
@pytest.mark.parametrize("password", ["secret", "naïve Straße", "with space, and comma"])
def test_dovecot_verifies_ours(password: str) -> None:
    """A verifier of ours is right for Dovecot with its password and wrong with another."""
    made = make_scram_verifier(password, 4096)
    assert "(verified)" in doveadm("-t", made, "-p", password).stdout
    assert "(verified)" not in doveadm("-t", made, "-p", password + "x").stdout


@needs_doveadm
@pytest.mark.parametrize("scheme", ["SCRAM-SHA-256", "ARGON2ID", "SHA512-CRYPT", "BLF-CRYPT"])
def test_we_verify_dovecots(scheme: str) -> None:
    """A verifier that Dovecot makes now is right for us with its password and wrong with another."""
    made = doveadm("-s", scheme, "-p", "naïve").stdout.strip()
    assert verify(made, "naïve".encode())
    assert not verify(made, b"naive")

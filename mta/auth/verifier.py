"""One password against one verifier, in the forms of `mta.settings.verifier`. All of it is slow by design: for threads.

Passwords are octets as the client sent them, compared without SASLprep (RFC 4013) or its successor (RFC 8265): so does
Dovecot, which reads the same file, and a verifier that ``doveadm pw`` made of other octets than a client sends would
fit neither. Who wants to be safe takes passwords of ASCII, which every preparation leaves alone.

SCRAM-SHA-256 is hashlib's; Argon2id is cryptography's; SHA512-CRYPT and BLF-CRYPT are those of the system's libcrypt
(libxcrypt), which Dovecot uses too, called through ctypes. All of them release the GIL while they work.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import hmac
import secrets
from collections.abc import Callable

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from mta.settings.sections import AuthSettings
from mta.settings.verifier import HashVerifier, ScramVerifier, parse_verifier

# Of libxcrypt; a library that wants more room says so (ERANGE) and nothing is written beyond it.
_CRYPT_DATA = 32768
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")


class SchemeUnavailable(Exception):
    """This system has nothing that checks such a verifier; becomes 454 4.7.0."""


def verify(verifier: str, password: bytes) -> bool:
    """Whether `password` is the one that `verifier` was made from.

    Raises ValueError for what is no verifier, and SchemeUnavailable.
    """
    parsed = parse_verifier(verifier)
    if b"\0" in password:  # RFC 4616 §2 has none; C strings end there, and HMAC pads its key with them
        return False
    match parsed:
        case ScramVerifier():
            return hmac.compare_digest(_stored_key(_salted(parsed, password)), parsed.stored_key)
        case HashVerifier("ARGON2ID"):
            try:
                Argon2id.verify_phc_encoded(password, parsed.hash)
            except InvalidKey:
                return False
            return True
        case HashVerifier():
            return _verify_crypt(parsed.hash, password)
    return False


def make_scram_verifier(password: str, iterations: int = AuthSettings().iterations, salt: bytes = b"") -> str:
    """Make a ``{SCRAM-SHA-256}`` verifier as Dovecot does (RFC 5802 §3, RFC 7677). Without a salt chance gives one."""
    salt = salt or secrets.token_bytes(16)
    empty = ScramVerifier(iterations, salt, b"", b"")
    salted = _salted(empty, password.encode())
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return str(ScramVerifier(iterations, salt, _stored_key(salted), server_key))


def _salted(verifier: ScramVerifier, password: bytes) -> bytes:
    # RFC 5802 §3: SaltedPassword := Hi(Normalize(password), salt, i); Hi is PBKDF2
    return hashlib.pbkdf2_hmac("sha256", password, verifier.salt, verifier.iterations)


def _stored_key(salted: bytes) -> bytes:
    # RFC 5802 §3: ClientKey := HMAC(SaltedPassword, "Client Key"); StoredKey := H(ClientKey)
    return hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()


@functools.cache
def _crypt_rn() -> Callable[..., bytes | None]:
    for name in _LIBRARIES:
        try:
            function = ctypes.CDLL(name).crypt_rn
        except (OSError, AttributeError):
            continue
        # crypt(3): char *crypt_rn(const char *phrase, const char *setting, void *data, int size)
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
        function.restype = ctypes.c_char_p
        return function
    raise SchemeUnavailable("no libxcrypt on this system")


def _verify_crypt(expected: str, password: bytes) -> bool:
    data = ctypes.create_string_buffer(_CRYPT_DATA)
    found = _crypt_rn()(password, expected.encode(), data, len(data))
    return found is not None and hmac.compare_digest(found, expected.encode())

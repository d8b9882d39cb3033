"""The form of password verifiers in a ``users`` file: ``{SCHEME}…``, as Dovecot writes them (``doveadm pw``).

==================  ===========================================================================================
{SCRAM-SHA-256}     ``iterations,salt,StoredKey,ServerKey``, the last three in BASE64 (RFC 5802 §3, RFC 7677)
{ARGON2ID}          PHC string of RFC 9106: ``$argon2id$v=19$m=…,t=…,p=…$salt$hash``
{SHA512-CRYPT}      crypt(5): ``$6$[rounds=…$]salt$hash``
{BLF-CRYPT}         crypt(5): ``$2y$cost$salt+hash``
``!``               nobody logs in with it
==================  ===========================================================================================

Clear text and fast hashes are refused. Only the form is judged here; passwords are checked by `mta.auth`.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

DISABLED = "!"

_SCHEME = re.compile(r"\{(?P<scheme>[A-Za-z0-9.-]+)\}(?P<hash>.*)")
_SCRAM = re.compile(r"(?P<iterations>[1-9][0-9]{0,7}),(?P<salt>[^,]+),(?P<stored>[^,]+),(?P<server>[^,]+)")
_FORMS = {
    "ARGON2ID": re.compile(r"\$argon2id\$v=19\$m=[0-9]{1,7},t=[0-9]{1,3},p=[0-9]{1,3}\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"),
    "SHA512-CRYPT": re.compile(r"\$6\$(?:rounds=[0-9]{4,7}\$)?[A-Za-z0-9./]{1,16}\$[A-Za-z0-9./]{86}"),
    "BLF-CRYPT": re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-9]|2[0-4])\$[A-Za-z0-9./]{53}"),
}
SCHEMES = ("SCRAM-SHA-256", *_FORMS)


@dataclass(frozen=True, slots=True)
class ScramVerifier:
    """What RFC 5802 §3 has a server keep: enough to check a password, not enough to log in elsewhere."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        fields = (self.salt, self.stored_key, self.server_key)
        return f"{{SCRAM-SHA-256}}{self.iterations}," + ",".join(base64.b64encode(f).decode() for f in fields)


@dataclass(frozen=True, slots=True)
class HashVerifier:
    """A hash that carries its own parameters: `scheme` is ``ARGON2ID``, ``SHA512-CRYPT`` or ``BLF-CRYPT``."""

    scheme: str
    hash: str


Verifier = ScramVerifier | HashVerifier | None
"""None: nobody logs in."""


def parse_verifier(text: str) -> Verifier:
    """Read the password field of a ``users`` line. Raises ValueError, with what was expected."""
    if text == DISABLED:
        return None
    found = _SCHEME.fullmatch(text)
    scheme = found["scheme"].upper() if found else ""
    if not found or scheme not in SCHEMES:
        raise ValueError("a verifier {" + "}, {".join(SCHEMES) + "} or !")
    if scheme == "SCRAM-SHA-256":
        return _scram(found["hash"])
    if not _FORMS[scheme].fullmatch(found["hash"]):
        raise ValueError(f"a {{{scheme}}} verifier as doveadm pw makes it")
    return HashVerifier(scheme, found["hash"])


def _scram(text: str) -> ScramVerifier:
    found = _SCRAM.fullmatch(text)
    try:
        if found:
            salt, stored, server = (
                binascii.a2b_base64(found[name], strict_mode=True) for name in ("salt", "stored", "server")
            )
            if salt and len(stored) == len(server) == 32:
                return ScramVerifier(int(found["iterations"]), salt, stored, server)
    except binascii.Error:
        pass
    raise ValueError("{SCRAM-SHA-256}iterations,salt,StoredKey,ServerKey in BASE64")

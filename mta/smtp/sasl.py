"""SASL exchanges of AUTH: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), the server's side.

An exchange is fed the client's decoded responses, the first one perhaps with the AUTH command, and gives the next
challenge, the `Credential`, or None for a malformed response (501, RFC 4954 §4). Nothing is checked here: who is who
is the business of `mta.auth`. Text is UTF-8; preparation (SASLprep) belongs to the checker.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import NamedTuple, Protocol


class Credential(NamedTuple):
    """What an exchange ends with."""

    authorization_identity: str
    login: str
    password: str


class Exchange(Protocol):
    """One run of a mechanism."""

    first_challenge: bytes
    """Sent when the AUTH command brings no initial response."""

    def respond(self, response: bytes) -> bytes | Credential | None:
        """Take a response; return the next challenge, the credential, or None if it is malformed."""
        ...


class Plain:
    """One response: authorization identity, NUL, authentication identity, NUL, password."""

    first_challenge = b""

    def respond(self, response: bytes) -> Credential | None:
        """Take the response (RFC 4616 §2)."""
        fields = _text(response).split("\0")
        if len(fields) != 3 or not fields[1] or not fields[2]:
            return None
        return Credential(*fields)


class Login:
    """Two responses: user name, then password. The challenges are what clients have come to expect."""

    first_challenge = b"Username:"

    def __init__(self) -> None:
        self._login = ""

    def respond(self, response: bytes) -> bytes | Credential | None:
        """Take the user name, then the password."""
        text = _text(response)
        if not text or "\0" in text:
            return None
        if self._login:
            return Credential("", self._login, text)
        self._login = text
        return b"Password:"


MECHANISMS: dict[str, Callable[[], Exchange]] = {"PLAIN": Plain, "LOGIN": Login}


def _text(response: bytes) -> str:
    """Decode UTF-8; what is none becomes the empty text, which is malformed in every mechanism here."""
    try:
        return response.decode()
    except UnicodeDecodeError:
        return ""


def decode(line: bytes) -> bytes | None:
    """Decode BASE64 as strictly as RFC 4954 §4 asks; None where it is none."""
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        return None


def encode(challenge: bytes) -> bytes:
    """Encode a challenge as BASE64."""
    return binascii.b2a_base64(challenge, newline=False)

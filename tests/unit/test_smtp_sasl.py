"""mta.smtp.sasl"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.sasl import Credential, Login, Plain, decode, encode

safe = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=255)


@given(safe, safe.filter(bool), safe.filter(bool))
def test_plain_gives_its_three_fields(authorization: str, login: str, password: str) -> None:
    """A PLAIN response is authorization identity, login and password (RFC 4616 §2; row 22)."""
    response = f"{authorization}\0{login}\0{password}".encode()
    assert Plain().respond(response) == Credential(authorization, login, password)


@pytest.mark.parametrize(
    "response", [b"", b"alice", b"\0alice", b"\0\0secret", b"\0alice\0", b"\0\0\0\0\0", b"\0a\0b\0c", b"\0alice\0\xff"]
)
def test_row_23_malformed_plain(response: bytes) -> None:
    """No NUL, five NULs, empty fields and what is no UTF-8 are malformed."""
    assert Plain().respond(response) is None


def test_login_asks_twice() -> None:
    """LOGIN takes the user name, then the password."""
    exchange = Login()
    assert exchange.first_challenge == b"Username:"
    assert exchange.respond(b"alice") == b"Password:"
    assert exchange.respond("geheim ü".encode()) == Credential("", "alice", "geheim ü")


@pytest.mark.parametrize("response", [b"", b"a\0b", b"\xff"])
def test_malformed_login(response: bytes) -> None:
    """Empty text, NUL and what is no UTF-8 are malformed, as user name and as password."""
    assert Login().respond(response) is None
    exchange = Login()
    exchange.respond(b"alice")
    assert exchange.respond(response) is None


@given(st.binary(max_size=100))
def test_base64_is_what_it_encodes(octets: bytes) -> None:
    """Decoding gives back what was encoded."""
    assert decode(encode(octets)) == octets


@pytest.mark.parametrize("line", [b"=", b"YQ", b"YQ=", b"Y=Q=", b"YQ==YQ==", b"YQ== ", b" YQ==", b"Y\rQ==", b"*", b"a"])
def test_row_20_base64_is_strict(line: bytes) -> None:
    """Missing, early or repeated padding, blanks and other characters are no BASE64 (RFC 4954 §4)."""
    assert decode(line) is None

"""mta.smtp.reply"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp import status
from mta.smtp.reply import Reply, printable, reply


def test_a_reply_is_rendered_with_its_status_on_each_line() -> None:
    """Every line of a multi-line reply carries code and enhanced status (RFC 5321 §4.2.1, RFC 2034 §4)."""
    assert reply(550, status.BAD_MAILBOX, "no", "such user").wire == b"550-5.1.1 no\r\n550 5.1.1 such user\r\n"
    assert reply(354, None, "go").wire == b"354 go\r\n"


def test_a_reply_prints_as_one_line() -> None:
    """Logs get code, status and all text in one line."""
    assert str(reply(550, status.BAD_MAILBOX, "no", "such user")) == "550 5.1.1 no such user"
    assert str(reply(354, None, "go")) == "354 go"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (220, "positive"),
        (399, "positive"),
        (400, "transient"),
        (499, "transient"),
        (500, "permanent"),
        (555, "permanent"),
    ],
)
def test_a_code_is_of_one_kind(code: int, kind: str) -> None:
    """A reply is positive, transient or permanent by its first digit (RFC 5321 §4.2.1)."""
    answer = reply(code, None, "x")
    assert [name for name in ("positive", "transient", "permanent") if getattr(answer, name)] == [kind]


def test_221_and_421_close() -> None:
    """Only 221 and 421 tell that the channel closes (RFC 5321 §3.8)."""
    assert [code for code in (220, 221, 250, 354, 421, 451, 500, 554) if reply(code, None, "x").closing] == [221, 421]


@given(st.lists(st.text(), min_size=1), st.integers(200, 599))
def test_row_11_only_printable_octets_leave(lines: list[str], code: int) -> None:
    """Whatever stands in the text, a reply is lines of printable ASCII, none above 512 octets (RFC 5321 §4.2)."""
    wire = Reply(code, status.OTHER, tuple(lines)).wire
    assert re.fullmatch(rb"(?:[0-9]{3}-5\.0\.0 [ -~]*\r\n)*[0-9]{3} 5\.0\.0 [ -~]*\r\n", wire)
    assert wire.count(b"\r\n") == len(lines)
    assert max(map(len, wire.split(b"\r\n"))) <= 510


def test_printable_utf8_keeps_letters_and_drops_controls() -> None:
    """With SMTPUTF8 letters stay; C1 controls, line separators and direction overrides never (RFC 6531 §3.7.4)."""
    assert printable("grün\x85\u2028\u202e\x1b[31m\udc80", utf8=True) == "grün????[31m?"
    assert printable("grün") == "gr?n"

"""mta.smtp.parameter"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp.extension import Offer
from mta.smtp.parameter import (
    BAD_VALUE,
    MALFORMED,
    REPEATED,
    TOO_BIG,
    UNKNOWN,
    UNKNOWN_BODY,
    MailParameters,
    decode_xtext,
    parse_mail_parameters,
    parse_rcpt_parameters,
    split,
)
from mta.smtp.reply import Reply

OFFER = Offer(mechanisms=("PLAIN",))


def mail(text: str, offer: Offer = OFFER) -> MailParameters | Reply:
    """Read parameters of MAIL with a maximum of 1000 octets."""
    return parse_mail_parameters(text, offer, 1000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", MailParameters()),
        ("  ", MailParameters()),
        (" SIZE=1000", MailParameters(size=1000)),
        (" size=0 body=8bitmime  smtputf8 ", MailParameters(size=0, body="8BITMIME", smtputf8=True)),
        (" BODY=7BIT", MailParameters()),
        (" AUTH=<>", MailParameters(auth="<>")),
        (" AUTH=a+2Bb@example.org", MailParameters(auth="a+b@example.org")),
    ],
)
def test_parameters_of_mail(text: str, expected: MailParameters) -> None:
    """Known parameters are read in any order and case; blanks do no harm."""
    assert mail(text) == expected


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("SIZE=1", MALFORMED),
        (" -X=1", MALFORMED),
        (" SIZE==1", MALFORMED),
        (" SIZE=1=2", MALFORMED),
        (" X=ü", MALFORMED),
        (" X=\x7f", MALFORMED),
        (" =1", MALFORMED),
        (" SIZE=1 size=2", REPEATED),
        (" BODY", BAD_VALUE),
        (" BODY=", BAD_VALUE),
        (" BODY=BINARYMIME", UNKNOWN_BODY),
        (" SMTPUTF8=1", BAD_VALUE),
        (" AUTH", BAD_VALUE),
        (" AUTH=alice", BAD_VALUE),
        (" AUTH=+3", BAD_VALUE),
        (" RET=HDRS", UNKNOWN),
        (" ENVID=+4Z", UNKNOWN),
        (" FOO", UNKNOWN),
    ],
)
def test_row_36_parameters_refused(text: str, refusal: Reply) -> None:
    """Malformed parameters get 501, unknown ones 555 (RFC 5321 §4.1.1.11)."""
    assert mail(text) is refusal
    assert refusal.code == (555 if refusal in (UNKNOWN, UNKNOWN_BODY) else 501)


def test_row_36_parameters_of_extensions_not_offered() -> None:
    """SMTPUTF8 and AUTH are unknown where they are not offered."""
    assert mail(" SMTPUTF8", Offer(smtputf8=False)) is UNKNOWN
    assert mail(" AUTH=<>", Offer()) is UNKNOWN


@pytest.mark.parametrize(
    ("value", "refusal"),
    [
        ("abc", BAD_VALUE),
        ("", BAD_VALUE),
        ("-1", BAD_VALUE),
        ("9" * 21, BAD_VALUE),
        ("9" * 20, TOO_BIG),
        ("1001", TOO_BIG),
    ],
)
def test_row_37_size(value: str, refusal: Reply) -> None:
    """No number gets 501, up to 20 digits above the limit 552 (RFC 1870 §6.1)."""
    assert mail(f" SIZE={value}") is refusal


@pytest.mark.parametrize("text", [" NOTIFY=NEVER,SUCCESS", " ORCPT=x", " NOTIFY=FAILURE", " X"])
def test_row_38_rcpt_has_no_parameters(text: str) -> None:
    """DSN is not offered: its parameters get 555."""
    assert parse_rcpt_parameters(text) is UNKNOWN


def test_rcpt_with_nothing_behind() -> None:
    """Blanks are nothing; what is malformed gets 501."""
    assert parse_rcpt_parameters("") is None
    assert parse_rcpt_parameters("  ") is None
    assert parse_rcpt_parameters("x") is MALFORMED


keywords = st.from_regex(r"[A-Z0-9][A-Z0-9-]{0,10}", fullmatch=True)
values = st.none() | st.from_regex(r"[!-<>-~]{1,10}", fullmatch=True)


@given(st.dictionaries(keywords, values))
def test_parameters_are_what_they_render(given_: dict[str, str | None]) -> None:
    """Splitting rendered parameters gives them back (RFC 5321 §4.1.2)."""
    text = "".join(f" {keyword}" if value is None else f" {keyword}={value}" for keyword, value in given_.items())
    assert split(text) == given_


@given(st.text(st.characters(max_codepoint=255)))
def test_xtext_is_what_it_encodes(text: str) -> None:
    """Decoding xtext gives back what was encoded (RFC 3461 §4)."""
    encoded = "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)
    assert decode_xtext(encoded) == text


@pytest.mark.parametrize("text", ["+", "+4", "+4z", "+zz", "a=b", "a b", "ü", "+2b"])
def test_what_is_no_xtext(text: str) -> None:
    """Bad hex, ``=``, blanks and 8-bit characters are no xtext."""
    assert decode_xtext(text) is None

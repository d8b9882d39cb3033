"""Encoded words."""

from __future__ import annotations

import email.header

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.encoded_word import decoded, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"", ""),
        ("grüße".encode(), "grüße"),
        # The examples of RFC 2047 §8
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        # What else is seen
        (b"=?utf-8?B?w6TDtg==?= x =?iso-8859-1?q?a=E4_b?=", "äö x aä b"),
        (b"=?UTF-8?B?w6Q?=", "ä"),
        (b"=?UTF-8?B?w6T?=", "ä"),
        (b"=?UTF-8?Q?=C3?= =?utf-8?Q?=A4?=", "ä"),
        (b"=?utf-8*de?Q?=C3=A4?=", "ä"),
        (b'"=?utf-8?Q?a?=.exe"', '"a.exe"'),
        (b"=?utf-8?Q?with space?=", "with space"),
        (b"=?utf-8?Q?a=ZZb?=", "a=ZZb"),
        (b"=?koi8-r?B?8NLJ18XU?=", "Привет"),
        (b"=?gb2312?B?xOO6ww==?=", "你好"),
        (b"=?windows-1252?Q?=80?=", "€"),
        (b"=?no-such-charset?Q?abc=C3=A4?=", "abcä"),
        (b"=?us-ascii?Q?=C3=A4=FF?=", "ä\ufffd"),
        (b"=?zlib?Q?abc?=", "abc"),
        # What is none
        (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        (b"=?utf-8?Q?abc", "=?utf-8?Q?abc"),
        (b"=??Q?abc?=", "=??Q?abc?="),
    ],
)
def test_words(value: bytes, text: str) -> None:
    """Words are decoded, white space between two of them is dropped, and everything else stays."""
    assert decoded(value) == text


@given(st.text(), st.sampled_from(["utf-8", "iso-8859-1", "koi8-r", "shift_jis", "iso-2022-jp"]))
def test_what_others_encode_is_decoded(text: str, charset: str) -> None:
    """What the standard library writes in any charset reads back."""
    text = "".join(text.split()) or "x"
    try:
        text.encode(charset)
    except UnicodeError:
        charset = "utf-8"
    if not text.isprintable():
        text = "x"
    written = email.header.Header(text, charset).encode(linesep="\r\n").replace("\r\n", "")
    assert decoded(written.encode("utf-8", "replace")) == text


@given(st.binary())
def test_nothing_fails(value: bytes) -> None:
    """Whatever octets stand in a field, there is a text, and it is no longer than they are."""
    assert len(decoded(value)) <= len(value)


@given(st.binary(), st.sampled_from(["utf-7", "utf-16", "iso-2022-kr", "gb18030", "big5-hkscs", "hex", "idna", "../x"]))
def test_no_charset_fails(octets: bytes, charset: str) -> None:
    """Neither octets that a charset has not nor a name that is none fail."""
    assert isinstance(text_of(octets, charset), str)


@pytest.mark.parametrize("piece", [b"=?a?q?", b"=?utf-8?q?a?=", b"=?", b"=?a?b?QUJD?= ", b"=?" + b"x" * 60])
def test_hostile_values_take_linear_time(piece: bytes) -> None:
    """A megabyte of beginnings, or of words, is read in passing: quadratic work would take hours."""
    assert decoded(piece * (1_000_000 // len(piece))) is not None

"""Tests of `mta.message.trace` and `mta.message.delivery`."""

from __future__ import annotations

import email.utils
import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.envelope import Recipient
from mta.message.delivery import PIECE, deliverable, deliverable_pieces
from mta.message.header import delivered_before, fields, find_head, received_count
from mta.message.trace import date_time, delivered_to, received, return_path
from mta.smtp.address import Mailbox

BOB = Mailbox("bob", "example.org")
WALL = 1763842500.75


def make(**changes: Any) -> bytes:
    """A Received field that differs from a plain one in `changes`."""
    plain: dict[str, Any] = {
        "helo": "client.example.net",
        "address": "192.0.2.1",
        "hostname": "mx.example.org",
        "queue_id": "0abcdefgh00jkmnpqr",
        "wall": WALL,
    }
    return received(**(plain | changes))


def test_received_tells_everything() -> None:
    """All clauses stand in the order of RFC 5321 §4.4, one subject a line."""
    tls = ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert make(rdns="rdns.example.net", tls=tls, authenticated=True, recipient=BOB) == (
        b"Received: from client.example.net (rdns.example.net [192.0.2.1])\r\n"
        b"\tby mx.example.org with ESMTPSA id 0abcdefgh00jkmnpqr\r\n"
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n"
        b"\tfor <bob@example.org>; Sat, 22 Nov 2025 20:15:00 +0000\r\n"
    )


def test_received_without_tls_or_a_single_recipient() -> None:
    """Without a single recipient there is no for-clause, and the date follows the semicolon on its own line."""
    assert make() == (
        b"Received: from client.example.net ([192.0.2.1])\r\n"
        b"\tby mx.example.org with ESMTP id 0abcdefgh00jkmnpqr;\r\n"
        b"\tSat, 22 Nov 2025 20:15:00 +0000\r\n"
    )


def test_an_ipv6_address_is_a_tagged_literal() -> None:
    """An IPv6 address stands as ``[IPv6:…]`` (RFC 5321 §4.1.3)."""
    assert b" ([IPv6:2001:db8::1])\r\n" in make(address="2001:db8::1")


@pytest.mark.parametrize(
    ("flags", "protocol"),
    [
        ({"esmtp": False}, b"SMTP"),
        ({"esmtp": False, "tls": ("TLSv1.2", "X")}, b"SMTP"),
        ({}, b"ESMTP"),
        ({"tls": ("TLSv1.2", "X")}, b"ESMTPS"),
        ({"authenticated": True}, b"ESMTPA"),
        ({"tls": ("TLSv1.2", "X"), "authenticated": True}, b"ESMTPSA"),
        ({"smtputf8": True}, b"UTF8SMTP"),
        ({"smtputf8": True, "tls": ("TLSv1.2", "X")}, b"UTF8SMTPS"),
        ({"smtputf8": True, "authenticated": True}, b"UTF8SMTPA"),
        ({"smtputf8": True, "tls": ("TLSv1.2", "X"), "authenticated": True}, b"UTF8SMTPSA"),
    ],
)
def test_the_protocol_is_named_as_registered(flags: dict[str, Any], protocol: bytes) -> None:
    """The with-clause is RFC 3848's and RFC 6531's keyword."""
    assert b" with " + protocol + b" id " in make(**flags)


@pytest.mark.parametrize(
    ("helo", "shown"),
    [
        ("[192.0.2.1]", b"[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", b"[IPv6:2001:db8::1]"),
        ("my_host", b"my_host"),
        ("a\r\nX-Evil: b", b"a??X-Evil:?b"),
        ("x) (y; z", b"x???y??z"),
        ("b\u00fccher\u202e\udcff", b"b?cher??"),
        ("", b"unknown"),
        ("a" * 1000, b"a" * 255),
    ],
)
def test_helo_cannot_leave_its_place(helo: str, shown: bytes) -> None:
    """What may not stand in a domain or literal is shown as ``?``; the rest is cut at 255 octets (row 58)."""
    field = make(helo=helo)
    assert field.startswith(b"Received: from " + shown + (b"\r\n\t" if len(shown) > 200 else b" "))
    assert len(list(fields(field))) == 1


@given(helo=st.text(), rdns=st.text(), local_part=st.text('a.b "\\@<>;', min_size=1, max_size=64))
def test_received_is_one_field_of_short_lines(helo: str, rdns: str, local_part: str) -> None:
    """Whatever the peer says, it is one field, no line is longer than 998, and it is folded at 78 where it can be."""
    field = make(helo=helo, rdns=rdns, recipient=Mailbox(local_part, "d" * 250), tls=("TLSv1.3", "X"))
    assert [each.name for each in fields(field)] == [b"received"]
    assert received_count(field) == 1
    assert field.endswith(b", 22 Nov 2025 20:15:00 +0000\r\n")
    lines = field.decode().split("\r\n")
    assert all(len(line) <= 998 for line in lines)
    # Beyond 78 only single words: the field name with its domain, a domain, a path, a date.
    assert all(len(line) <= 78 or re.search(r"^(Received: from \S+|\t\(?\S+|\tfor <.*>;)$", line) for line in lines)


@given(st.integers(min_value=0, max_value=253402300799))
def test_dates_are_read_back_as_the_same_second(second: int) -> None:
    """`email.utils` reads the date as the wall time it was made from."""
    assert email.utils.parsedate_to_datetime(date_time(second + 0.5)).timestamp() == second


def test_utf8_recipients_stand_in_utf8() -> None:
    """A mailbox in UTF-8 is written in UTF-8 (RFC 6531 §3.7.3)."""
    assert "for <bücher@example.org>;".encode() in make(recipient=Mailbox("bücher", "example.org"), smtputf8=True)


def test_return_path_and_delivered_to() -> None:
    """Return-Path holds the path in its brackets, Delivered-To the mailbox, which `delivered_before` knows again."""
    assert return_path(None) == b"Return-Path: <>\r\n"
    assert return_path(BOB) == b"Return-Path: <bob@example.org>\r\n"
    assert delivered_to(BOB) == b"Delivered-To: bob@example.org\r\n"
    assert delivered_before(delivered_to(BOB), BOB)


@pytest.mark.parametrize("original", [None, Mailbox("bob+list", "example.org")])
def test_a_mailbox_gets_our_return_path_and_no_other(original: Mailbox | None) -> None:
    """In front of what goes into a mailbox stands exactly one Return-Path, ours (row 59)."""
    content = b"Return-Path: <evil@x>\r\nA: b\r\n\r\nbody\r\n"
    pieces = deliverable(content).for_mailbox(Mailbox("alice", "example.net"), Recipient(BOB, original))
    assert b"".join(pieces) == (
        b"Return-Path: <alice@example.net>\r\nDelivered-To: bob@example.org\r\n"
        + (b"X-Original-To: bob+list@example.org\r\n" if original else b"")
        + b"A: b\r\n\r\nbody\r\n"
    )


@pytest.mark.parametrize("foreign", [b"", b"Return-Path: <evil@x>\r\n"])
def test_a_large_message_is_in_pieces(foreign: bytes) -> None:
    """What is done to a piece takes little time, and the pieces together are the message, for each of its mailboxes."""
    body = b"A: b\r\n\r\n" + b"12345678\r\n" * 300_000
    ready = deliverable(b"Delivered-To: Carol@example.org\r\n" + foreign + body)
    assert len(ready.pieces) > 2
    assert max(map(len, ready.pieces)) <= PIECE
    assert b"".join(ready.pieces) == b"Delivered-To: Carol@example.org\r\n" + body
    assert ready.been_in == {"carol@example.org"}
    assert ready.for_mailbox(None, Recipient(BOB))[1:] == ready.pieces


@given(st.lists(st.integers(0, 60), max_size=6), st.sampled_from([b"", b"Return-Path: <evil@x>\r\n"]))
def test_pieces_may_be_cut_anywhere(cuts: list[int], foreign: bytes) -> None:
    """In the midst of the head, between CR and LF, or twice at one place: each copy is the message with its trace."""
    head, rest = b"A: b\r\n" + foreign, b"\r\nbody\r\n"
    content = head + rest
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    ready = deliverable_pieces(
        find_head(content), [content[start:end] for start, end in itertools.pairwise(edges) if start < end]
    )
    for original in (None, Mailbox("bob+list", "example.org")):
        recipient = Recipient(BOB, original)
        assert b"".join(ready.for_mailbox(None, recipient)) == b"".join(
            deliverable(content).for_mailbox(None, recipient)
        )


def test_nothing_is_given_before_the_first_piece_is_there() -> None:
    """Content that cannot be read gives no octet of a copy, not even its trace."""

    def unreadable() -> Iterator[bytes]:
        raise OSError("unreadable")
        yield b""

    copy = iter(deliverable_pieces(find_head(b"A: b\r\n"), unreadable()).for_mailbox(None, Recipient(BOB)))
    with pytest.raises(OSError, match="unreadable"):
        next(copy)


def test_a_small_message_is_not_copied() -> None:
    """Content of at most a piece, without a Return-Path, goes as it is."""
    content = b"A: b\r\n\r\nbody\r\n"
    assert deliverable(content).pieces[0] is content

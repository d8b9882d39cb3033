"""Tests of `mta.message.header`."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.message.header import (
    HEAD_MAXIMUM,
    Head,
    been_in,
    delivered_before,
    fields,
    find_head,
    folded,
    received_count,
    values,
    without_return_path,
)
from mta.smtp.address import Mailbox

HEAD = b"From: a@x\r\nSubject: hello\r\n"
# Octets that matter to a header reader come often.
TEXT = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b":", b" ", b"\t", b"From", b"from", b"a", b"\xff", b"\0", b"Return-Path"])
).map(b"".join)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", Head(b"")),
        (b"\r\n", Head(b"")),
        (b"\r\nbody\r\n", Head(b"")),
        (b"\r\n\r\nbody\r\n", Head(b"")),
        (HEAD, Head(HEAD)),
        (HEAD + b"\r\n", Head(HEAD)),
        (HEAD + b"\r\nFrom: b@y\r\n\r\n", Head(HEAD)),
        (b"Subject: no line end", Head(b"Subject: no line end")),
        (b"Subject : obsolete\r\n\r\n", Head(b"Subject : obsolete\r\n")),
        (b"hello\r\n\r\nFrom: b@y\r\n", Head(b"", b"\r\n")),
        (b" folded: into what is put before it\r\n", Head(b"", b"\r\n")),
        (b"From alice Sat Nov 22\r\nFrom: a@x\r\n", Head(b"", b"\r\n")),
        (b": no name\r\n", Head(b"", b"\r\n")),
        (b"A: b\nFrom: c\r\n\r\n", Head(b"A: b\nFrom: c\r\n")),
        (b"A: b\r\nno field\r\nB: c\r\n\r\n", Head(b"A: b\r\nno field\r\nB: c\r\n")),
        (b"A: b\n\nbody\r\n", Head(b"A: b\n\nbody\r\n")),
    ],
)
def test_head_ends_where_the_table_says(content: bytes, expected: Head) -> None:
    """The head is what the module's table says."""
    assert find_head(content) == expected


class Watched(bytes):
    """Content that notes how far it is searched, and how much of it is copied."""

    searched = copied = 0

    def find(self, wanted: Any, start: Any = 0, end: Any = None) -> int:  # type: ignore[override]  # as it is called
        """Note how far."""
        self.searched = max(self.searched, len(self) if end is None else end)
        return super().find(wanted, start, end)

    def __getitem__(self, place: Any) -> Any:
        """Note how much."""
        part = super().__getitem__(place)
        self.copied += len(part)
        return part

    def __add__(self, other: bytes) -> bytes:
        """Note that it is all."""
        self.copied += len(self)
        return super().__add__(other)

    def __radd__(self, other: bytes) -> bytes:
        """Note that it is all."""
        self.copied += len(self)
        return other + bytes(self)


def test_only_the_head_is_looked_at() -> None:
    """Of a large message no more is searched than a head may be long, and no octet is copied but the head's."""
    content = Watched(HEAD + b"\r\n" + b"x" * 5_000_000)
    assert find_head(content) == Head(HEAD)
    assert content.copied == len(HEAD)
    assert 0 < content.searched <= HEAD_MAXIMUM + 2
    content = Watched(b"X: " + b"x" * 5_000_000)
    assert not find_head(content).whole
    assert content.copied == HEAD_MAXIMUM


def test_a_head_beyond_the_maximum_is_not_whole() -> None:
    """A head that is longer than the maximum is cut there and says so, with or without an end in sight."""
    assert find_head(HEAD + b"\r\n", len(HEAD)) == Head(HEAD)
    assert find_head(HEAD, len(HEAD)) == Head(HEAD)
    assert find_head(HEAD + b"\r\n", len(HEAD) - 1) == Head(HEAD[:-1], whole=False)
    assert find_head(HEAD, len(HEAD) - 1) == Head(HEAD[:-1], whole=False)
    head = find_head(b"X: y\r\n" * HEAD_MAXIMUM)
    assert (len(head.octets), head.whole) == (HEAD_MAXIMUM, False)


def test_100000_fields_are_read() -> None:
    """A head of 100,000 fields is found, iterated and counted whole."""
    head = find_head(b"Received: from x by y; date\r\n" * 100_000 + b"\r\nbody", maximum=1 << 22)
    assert head.whole
    assert sum(1 for _ in fields(head.octets)) == received_count(head.octets) == 100_000


def test_fields_have_names_and_unfolded_values() -> None:
    """Names are lower case without space before the colon; values are unfolded; a line that is no field has no name."""
    head = b"From : a@x\r\nSubject:\r\n  one\r\n\ttwo\r\n \r\nno field\r\nX-Empty:\r\nLAST: no end"
    assert [(each.name, each.value) for each in fields(head)] == [
        (b"from", b"a@x"),
        (b"subject", b"one\ttwo"),
        (b"", b""),
        (b"x-empty", b""),
        (b"last", b"no end"),
    ]


@settings(max_examples=300)
@given(TEXT | st.binary())
def test_fields_rejoin_to_the_head(head: bytes) -> None:
    """Whatever the octets, iterating the fields loses none, and `values` finds exactly the fields of a name."""
    found = list(fields(head))
    assert b"".join(each.raw for each in found) == head
    assert values(head, b"from") == [each.value for each in found if each.name == b"from"]


def test_received_fields_are_counted() -> None:
    """Received fields count in any case and with space before the colon, names that only begin so do not."""
    head = b"Received: a\r\nRECEIVED : b\r\n received: folded\r\nReceived-SPF: pass\r\nX: y\r\nreceived:\r\n"
    assert received_count(head) == 3
    assert received_count(b"") == 0


def test_own_delivered_to_is_found() -> None:
    """A Delivered-To of the same mailbox is found in any case; another mailbox's, or one that is no UTF-8, is not."""
    head = b"Delivered-To: \xff@x\r\nDelivered-To: Alice@Example.org\r\n"
    assert delivered_before(head, Mailbox("alice", "example.org"))
    assert not delivered_before(head, Mailbox("bob", "example.org"))
    assert been_in(head) == {"alice@example.org", "\ufffd@x"}


def test_foreign_return_paths_are_removed() -> None:
    """Return-Path fields go, folded ones and the first too; everything else stays as it was."""
    head = b"Return-Path: <a@x>\r\nA: b\r\nRETURN-PATH :\r\n <b@y>\r\nC: d\r\n"
    assert without_return_path(head) == b"A: b\r\nC: d\r\n"
    assert without_return_path(b"A: b\r\nReturn-Path\t: <a@x>\r\n") == b"A: b\r\n"


def test_a_head_without_return_path_is_not_copied() -> None:
    """A head that has no Return-Path comes back as it is."""
    assert without_return_path(HEAD) is HEAD


@given(TEXT)
def test_removal_keeps_every_other_octet(content: bytes) -> None:
    """Removing Return-Path fields removes nothing else, whatever the content."""
    head = find_head(content).octets
    kept = b"".join(each.raw for each in fields(head) if each.name != b"return-path")
    assert without_return_path(head) == kept


def test_words_are_folded_at_78_characters() -> None:
    """Lines are filled up to 78 characters; a longer word has its own line; no words make an empty text."""
    assert folded(["a" * 39, "b" * 38, "c"]) == "a" * 39 + " " + "b" * 38 + "\r\n\tc"
    assert folded(["X:", "y" * 900, "z"]) == "X:\r\n\t" + "y" * 900 + "\r\n\tz"
    assert folded([]) == ""


@given(st.lists(st.text("ab", min_size=1, max_size=90), min_size=1))
def test_folding_is_undone_by_unfolding(words: list[str]) -> None:
    """Unfolded, the words are there again, one after the other."""
    lines = folded(words).split("\r\n")
    assert " ".join(chain.from_iterable(line.split() for line in lines)) == " ".join(words)
    assert all(len(line) <= 78 or len(line.split()) == 1 for line in lines)

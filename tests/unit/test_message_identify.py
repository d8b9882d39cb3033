"""Tests of `mta.message.identify`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.identify import From, from_mailboxes, message_id, missing_fields
from mta.smtp.address import Mailbox

DATE = b"Date: Sat, 22 Nov 2025 20:15:00 +0000\r\n"
MESSAGE_ID = b"Message-ID: <0abc@mx.example.org>\r\n"
ALICE = Mailbox("alice", "example.org")


@pytest.mark.parametrize(
    ("head", "added"),
    [
        (b"", DATE + MESSAGE_ID),
        (b"From: a@x\r\nX-Date: y\r\n", DATE + MESSAGE_ID),
        (b"date : whatever\r\n", MESSAGE_ID),
        (b"MESSAGE-ID:\r\n", DATE),
        (b"Message-Id: <1@x>\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n", b""),
    ],
)
def test_only_what_is_missing_is_added(head: bytes, added: bytes) -> None:
    """Date and Message-ID are added where there is none, however the one that is there looks (RFC 6409 §8)."""
    assert missing_fields(head, "0abc", "mx.example.org", 1763842500.5) == added


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"Message-ID: <1@x>\r\n", "<1@x>"),
        (b"message-id:\r\n <a.b+c=d@[x]>\r\n", "<a.b+c=d@[x]>"),
        (b"", ""),
        (b"Message-ID: <1@x>\r\nMessage-ID: <2@x>\r\n", ""),
        (b"Message-ID: 1@x\r\n", ""),
        (b"Message-ID: <1@x> <2@x>\r\n", ""),
        (b"Message-ID: <1 2@x>\r\n", ""),
        (b"Message-ID: <1@x\xff>\r\n", ""),
        (b"Message-ID: <" + b"1" * 201 + b"@x>\r\n", ""),
    ],
)
def test_a_message_id_is_repeated_only_if_well_formed(head: bytes, expected: str) -> None:
    """A Message-ID is given when there is one, and it is a plain one of a length that fits a line."""
    assert message_id(head) == expected


@pytest.mark.parametrize(
    ("head", "mailboxes"),
    [
        (b"From: alice@example.org\r\n", (ALICE,)),
        (b"To: bob@x\r\nfrom\t:\r\n Alice\r\n\t<alice@example.org>\r\nX-From: evil@x\r\n", (ALICE,)),
        (b"From: alice@example.org, =?utf-8?q?Bob?= <bob@x>\r\n", (ALICE, Mailbox("bob", "x"))),
    ],
)
def test_from_names_mailboxes(head: bytes, mailboxes: tuple[Mailbox, ...]) -> None:
    """One From field, folded or not, gives all its mailboxes."""
    assert from_mailboxes(head) == From(mailboxes)


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (b"", "there is no From field"),
        (b"Sender: alice@example.org\r\n", "there is no From field"),
        (b"From: alice@example.org\r\nFrom: evil@x\r\n", "there are several From fields"),
        (b"From: alice@example.org\r\nFROM : alice@example.org\r\n", "there are several From fields"),
        (b"From: Us:alice@example.org;\r\n", "it names a group"),
        (b"From: nobody:;, alice@example.org\r\n", "it names a group"),
        (b"From:\r\n", "it names nobody"),
        (b"From: ,\r\n", "it names nobody"),
        (b"From: " + b"alice@x," * 1251 + b"\r\n", "it has more than 10000 octets"),
        (b"From: alice\r\n", "no address, near character 5"),
        (b"no field\r\nFrom: alice@example.org\r\n", "the header has a line that is no field"),
        (b"From: alice@example.org\r\nno field\r\nFrom: evil@x\r\n", "the header has a line that is no field"),
        (b"X: a\nFrom: evil@x\r\nFrom: alice@example.org\r\n", "the header has a bare CR, LF or NUL"),
        (b"X: a\rFrom: evil@x\r\nFrom: alice@example.org\r\n", "the header has a bare CR, LF or NUL"),
        (b"From: alice@example.org\0\r\n", "the header has a bare CR, LF or NUL"),
    ],
)
def test_from_that_is_not_certain_is_a_fault(head: bytes, fault: str) -> None:
    """Where readers may differ on whom From names, it is a fault that says why, and names no mailbox (row 55)."""
    assert from_mailboxes(head) == From(fault=fault)


@given(st.binary() | st.lists(st.sampled_from([b"From", b":", b"a@x", b"\r\n", b" ", b"<", b">"])).map(b"".join))
def test_from_gives_mailboxes_or_a_fault(head: bytes) -> None:
    """Any octets give either mailboxes or a fault, never both, never none."""
    found = from_mailboxes(head)
    assert bool(found.mailboxes) != bool(found.fault)

"""The header of what a program hands in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.message.address import AddressList, read_address_list
from mta.sendmail.exits import Ended
from mta.sendmail.fields import (
    HEADER_MAXIMUM,
    Header,
    addresses,
    author,
    completed,
    divide,
    local_part,
    recipients,
)
from mta.smtp.address import Mailbox, parse_mailbox


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"To: a\nSubject: x\n\nbody\n", Header([b"To: a\r\n", b"Subject: x\r\n"], b"body\n")),
        (b"To: a,\r\n\tb\r\n\r\nbody", Header([b"To: a,\r\n\tb\r\n"], b"body")),
        (b"just text\nmore\n", Header([], b"just text\nmore\n")),
        (b"To: a\njust text\n", Header([b"To: a\r\n"], b"just text\n")),
        (b"\nTo: a\n", Header([], b"To: a\n")),
        (b"From alice Mon Jan  1 00:00:00 2026\nTo: a\n\nx", Header([b"To: a\r\n"], b"x")),
        (b"Subject: x\rBcc: victim@y\nTo: a\n\n", Header([b"Subject: x Bcc: victim@y\r\n", b"To: a\r\n"], b"")),
        (b"", Header([], b"")),
        (b"To: a", Header([b"To: a\r\n"], b"")),
    ],
)
def test_header_and_body_are_divided(content: bytes, header: Header) -> None:
    """A field, its continuation, and nothing else belongs to the header; a CR in a field begins no other."""
    assert divide(content) == header


def test_a_header_without_end_is_refused() -> None:
    """A header larger than the server's is refused before anything is sent."""
    with pytest.raises(Ended, match="header has more than"):
        divide(b"To: a\n" * (HEADER_MAXIMUM // 6 + 2))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("root", ["root"]),
        ("root (Cron Daemon)", ["root"]),
        ("a@x.example, b", ["a@x.example", "b"]),
        ('"Doe, Jane" <jane@x.example>, bob', ["jane@x.example", "bob"]),
        ("undisclosed-recipients:;", []),
        ("team: a@x, b@y;, c", ["a@x", "b@y", "c"]),
        ("John Q. Public <john@x>", ["john@x"]),
        ("<@relay.example:john@x>", ["john@x"]),
        ('"john doe"@x', ['"john doe"@x']),
        ("a . b @ x . example", ["a.b@x.example"]),
        ("a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        ("(all (nested) of \\) it) a@x", ["a@x"]),
        ("", []),
        (" , ,", []),
        ("Grüße <g@x>, ü@x", ["g@x", "ü@x"]),
    ],
)
def test_addresses_are_found(text: str, found: list[str]) -> None:
    """Each form of an address in a list is found, without names, comments and groups."""
    assert [each.text for each in addresses(text) if each.text] == found


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("John Smith", "name without an address"),
        ("John <a@x", "without its >"),
        ("<a@x> b@y", "no comma"),
        ("<a@x> <b@y>", "no comma"),
        ('"open', "without its end"),
        ("(open", "comment without end"),
        ("a) b", r"\) without"),
        ("a > b", "> without"),
    ],
)
def test_what_has_two_readings_is_a_fault(text: str, fault: str) -> None:
    """What cannot be read with certainty is said so, with what is wrong."""
    with pytest.raises(ValueError, match=fault):
        list(addresses(text))


_ATOMS = st.text("abcxyz0189-_+", min_size=1, max_size=8)
_NAMES = st.sampled_from(["", "Jane ", '"Doe, Jane" ', "J. R. (comment, too) "])


@given(st.lists(st.tuples(_NAMES, _ATOMS, _ATOMS), min_size=1, max_size=6), st.booleans())
def test_the_strict_reader_of_the_server_agrees(members: list[tuple[str, str, str]], group: bool) -> None:
    """What the server reads in a list, the command finds, in the same order."""
    text = ", ".join(f"{name}<{user}@{domain}.example>" for name, user, domain in members)
    text = f"group: {text};" if group else text
    strict = read_address_list(text.encode())
    assert isinstance(strict, AddressList)
    assert [each.text for each in addresses(text)] == [str(mailbox) for mailbox in strict.mailboxes]


def test_recipients_are_taken_from_the_header() -> None:
    """To, Cc and Bcc name the recipients; where the message is resent, the Resent- fields alone do."""
    fields = [b"To: a@x\r\n", b"CC : b@x\r\n", b"bcc: c@x,\r\n d@x\r\n", b"Subject: e@x\r\n"]
    assert recipients(fields) == ["a@x", "b@x", "c@x", "d@x"]
    assert recipients([*fields, b"Resent-To: z@x\r\n"]) == ["z@x"]
    with pytest.raises(Ended, match="To field cannot be read"):
        recipients([b"To: John Smith\r\n"])


def test_names_are_completed_in_place() -> None:
    """A name without a domain gets one where it stands; Bcc and Return-Path go; the rest stays to the octet."""
    fields = [
        b"From: root (Cron Daemon)\r\n",
        b'To: "bob, jr" <bob>,\r\n\talice@x.example, "a b"\r\n',
        b"Bcc: hidden\r\n",
        b"Return-Path: <x>\r\n",
        b"Subject: root\r\n",
        b"Reply-To: John Smith\r\n",
        b"X-Odd: \xff root\r\n",
        b"Cc: \xff <carol>\r\n",
    ]
    assert completed(fields, "mx.example") == [
        b"From: root@mx.example (Cron Daemon)\r\n",
        b'To: "bob, jr" <bob@mx.example>,\r\n\talice@x.example, "a b"@mx.example\r\n',
        b"Subject: root\r\n",
        b"Reply-To: John Smith\r\n",
        b"X-Odd: \xff root\r\n",
        b"Cc: \xff <carol@mx.example>\r\n",
    ]


@pytest.mark.parametrize(
    ("full_name", "field"),
    [
        ("", b"From: root@x\r\n"),
        ("Cron Daemon", b"From: Cron Daemon <root@x>\r\n"),
        ("Doe, Jane", b'From: "Doe, Jane" <root@x>\r\n'),
        ('say "hi"\\', b'From: "say \\"hi\\"\\\\" <root@x>\r\n'),
        ("two\r\nBcc: lines", b'From: "two  Bcc: lines" <root@x>\r\n'),
        ("Grüße", "From: Grüße <root@x>\r\n".encode()),
    ],
)
def test_an_author_is_written(full_name: str, field: bytes) -> None:
    """A full name is quoted where it must be, and cannot begin a field."""
    assert author("root@x", full_name) == field


@pytest.mark.parametrize(
    ("name", "written"), [("www-data", "www-data"), ("a.b", "a.b"), ("AD\\bob", '"AD\\\\bob"'), ("a b", '"a b"')]
)
def test_a_user_name_becomes_a_local_part(name: str, written: str) -> None:
    """What is no atom stands in quotes, and the server reads the same name."""
    assert local_part(name) == written
    found = parse_mailbox(f"{written}@x.example")
    assert isinstance(found, Mailbox)
    assert found.local_part == name


def test_no_address_has_two_lines() -> None:
    """A field that is folded within an address is unfolded: what the server is told of it is one command."""
    header = divide(b'To: "a\n RCPT TO:<x@x.example>"@x.example,\n\t<b\n @x.example>\n\n')
    found = recipients(header.fields)
    assert found == ['"a RCPT TO:<x@x.example>"@x.example', "b@x.example"]

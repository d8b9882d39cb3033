"""Tests of `mta.message.address`."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.mail.reason import Reason
from mta.message.address import AddressList, read_address_list
from mta.smtp.address import Mailbox

ALICE = Mailbox("alice", "example.org")
BOB = Mailbox("bob", "example.net")


@pytest.mark.parametrize(
    "value",
    [
        "alice@example.org",
        "<alice@example.org>",
        "Alice <alice@EXAMPLE.org>",
        "Alice B. Cooper <alice@example.org>",
        '"Cooper, Alice" <alice@example.org>',
        '"a \\" quote @ <evil@example.net>" <alice@example.org>',
        "=?utf-8?q?Alice_=3Cevil=40x=3E?= <alice@example.org>",
        "Älice <alice@example.org>",
        '"alice"@example.org',
        '"al\\ice"@example.org',
        "(comment (nested \\) evil@x)) alice (c) @ (c) example.org (c)",
        "alice@example.org (Alice)",
        " \t Alice\t<\talice@example.org\t>\t",
        ",, alice@example.org ,,",
        '"long\tfolded name" <alice@example.org>',
    ],
)
def test_one_mailbox_in_all_its_forms(value: str) -> None:
    """Names, comments, quoting and white space change nothing about whose mailbox it is."""
    assert read_address_list(value.encode()) == AddressList((ALICE,))


def test_a_name_in_an_unknown_charset_is_passed_over() -> None:
    """A display name that is no UTF-8 does not keep the address from being read."""
    assert read_address_list(b"B\xfcro <alice@example.org>") == AddressList((ALICE,))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", AddressList(())),
        ("(nobody)", AddressList(())),
        ("alice@example.org, Bob <bob@example.net>", AddressList((ALICE, BOB))),
        ("undisclosed-recipients:;", AddressList((), 1)),
        ("Us: alice@example.org, ,Bob <bob@example.net>;", AddressList((ALICE, BOB), 1)),
        ("alice@example.org, Us: bob@example.net;, None:,;", AddressList((ALICE, BOB), 2)),
        ("end@example.org", AddressList((Mailbox("end", "example.org"),))),
        ('"a b"@[192.0.2.1]', AddressList((Mailbox("a b", "[192.0.2.1]"),))),
        ('""@x', AddressList((Mailbox("", "x"),))),
        ("ülf@bücher.example", AddressList((Mailbox("ülf", "bücher.example"),))),
        ("o'neil+x/y=z@example.org", AddressList((Mailbox("o'neil+x/y=z", "example.org"),))),
    ],
)
def test_lists_and_groups(value: str, expected: AddressList) -> None:
    """Lists give all mailboxes in order, groups give theirs and are counted, empty members are nothing."""
    assert read_address_list(value.encode()) == expected


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"alice", "no address"),
        (b"alice@", "no domain after @"),
        (b"alice@ , bob@x", "no domain after @"),
        (b'alice@"x"', "no domain after @"),
        (b"@example.org", "nothing before @"),
        (b"<@example.org>", "no local-part"),
        (b"<>", "no local-part"),
        (b"<alice>", "no @ in an address"),
        (b"<alice@example.org", "no > in an address"),
        (b"<alice@x bob@y>", "no > in an address"),
        (b"<@a,@b:alice@x>", "no local-part"),
        (b"alice@example.org <evil@example.net>", "no comma between addresses"),
        (b"<alice@x> evil", "no comma between addresses"),
        (b"alice@x end", "no comma between addresses"),
        (b"alice@x bob@y", "no comma between addresses"),
        (b"Alice Cooper@example.org", "an unquoted name before an address without <>"),
        (b"alice . cooper@example.org", "an unquoted name before an address without <>"),
        (b"alice.@example.org", "an unquoted name before an address without <>"),
        (b"alice@example .org", "no comma between addresses"),
        (b"alice@x.", "no comma between addresses"),
        (b"Us: Them: a@x;;", "no address"),
        (b": a@x;", "no address"),
        (b"Us: a@x", "no comma between addresses"),
        (b"Us: a@x,", "no address"),
        (b";", "no address"),
        (b"a@x;", "no comma between addresses"),
        (b'"alice@x', "an octet that cannot stand there"),
        (b"alice@[x", "an octet that cannot stand there"),
        (b"a\0@x", "an octet that cannot stand there"),
        (b"a@x\r\nBcc: b@y", "an octet that cannot stand there"),
        (b'"a\r\nb" <a@x>', "an octet that cannot stand there"),
        (b"a@x (open", "a comment without end"),
        (b"a@x (open \\", "a comment without end"),
        (b"=?utf-8?q?evil=40x=3E?=@example.org", "an encoded word inside an address"),
        (b'"=?utf-8?q?x?="@example.org', "an encoded word inside an address"),
        (b"\xff@example.org", "an address with unprintable characters"),
        (b"a@\xff.org", "an address with unprintable characters"),
        (b'"a\tb"@example.org', "an address with unprintable characters"),
        ("a\u202eb@example.org".encode(), "an address with unprintable characters"),
    ],
)
def test_what_is_not_read_says_why(value: bytes, why: str) -> None:
    """A list that could be read in two ways is not read; the reason names the fault and where it is."""
    reason = read_address_list(value)
    assert isinstance(reason, Reason)
    assert reason.text.startswith(f"{why}, near character ")
    assert reason.source == "RFC 5322 §3.4"


@settings(max_examples=500)
@given(st.text('a@<>,:;."\\()[] ä\t').map(str.encode) | st.binary())
def test_no_octets_raise(value: bytes) -> None:
    """Any octets give a list or a reason; what is given as a mailbox can be written and has no control characters."""
    found = read_address_list(value)
    if isinstance(found, AddressList):
        assert all(str(mailbox).encode().decode().isprintable() for mailbox in found.mailboxes)
    else:
        assert found.text


@given(
    st.lists(
        st.builds(
            Mailbox,
            st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="="), max_size=20),
            st.from_regex(r"[a-z0-9]{1,9}(\.[a-z0-9]{1,9}){0,3}", fullmatch=True),
        ),
        max_size=5,
    )
)
def test_what_is_written_is_read(mailboxes: list[Mailbox]) -> None:
    """Mailboxes written one after the other are read as the same mailboxes."""
    assert read_address_list(", ".join(map(str, mailboxes)).encode()) == AddressList(tuple(mailboxes))


@pytest.mark.parametrize("text", ["(", '"', "\\", '"\\', "a.", "<", ",", "=?", "[", "a@x,", "a:", " ", "( ", '""'])
def test_much_of_one_thing_ends(text: str) -> None:
    """A value of 40,000 times the same, nested or not, gives a list or a reason, without recursion."""
    assert isinstance(read_address_list(text.encode() * 40_000), AddressList | Reason)

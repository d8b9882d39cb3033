"""mta.smtp.address and mta.smtp.grammar"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path as FilePath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mta.smtp import grammar
from mta.smtp.address import AddressFault, Mailbox, Path, address_literal, parse_mailbox, parse_path, path
from mta.smtp.limits import Limits

VECTORS = (
    FilePath(os.environ.get("MTA_VECTORS") or FilePath(__file__).parents[2] / ".." / "shared" / "vectors")
    / "address"
    / "isemail-tests.xml"
)

WIDE = Limits(local_part=10_000, domain=10_000, path=30_000)
UTF8 = re.compile(f"[{grammar.UTF8_NON_ASCII}]")

local_parts = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x10FFFF, exclude_categories=["Cs"]).filter(
        lambda c: " " <= c <= "~" or UTF8.match(c) is not None
    )
)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
literals = st.one_of(
    st.ip_addresses(v=4).map(lambda address: f"[{address}]"), st.ip_addresses(v=6).map(lambda a: f"[IPv6:{a}]")
)
domains = st.one_of(st.lists(labels, min_size=1, max_size=5).map(".".join), literals)
mailboxes = st.builds(Mailbox, local_parts, domains)


@given(mailboxes)
@example(Mailbox("", "x"))
@example(Mailbox('"\\"', "x"))
@example(Mailbox("..", "x"))
def test_a_mailbox_is_what_its_text_says(mailbox: Mailbox) -> None:
    """Reading the rendered form gives the mailbox back, alone and as a path."""
    assert parse_mailbox(str(mailbox), WIDE) == mailbox
    assert parse_path(path(mailbox), 0, WIDE) == Path(mailbox, False, len(path(mailbox)))


@given(st.text())
@example("a@b\n")
@example("a@b\x85")
@example("a\u2028@b")
def test_any_text_is_a_mailbox_or_a_fault(text: str) -> None:
    """What is taken for a mailbox renders to something that reads the same, and holds no control character."""
    mailbox = parse_mailbox(text, WIDE)
    if isinstance(mailbox, Mailbox):
        assert parse_mailbox(str(mailbox), WIDE) == mailbox
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e]", str(mailbox))


def test_row_32_quoting_makes_no_other_mailbox() -> None:
    """A quoted local-part that needs no quotes is the same mailbox without them (RFC 5321 §4.1.2)."""
    assert (
        parse_mailbox('"alice"@Example.TEST') == parse_mailbox("alice@example.test") == Mailbox("alice", "example.test")
    )
    assert parse_mailbox(r'"\a\l\i\c\e"@x') == Mailbox("alice", "x")


@pytest.mark.parametrize(
    ("wire", "local_part", "rendered"),
    [
        ('"a>b"@x', "a>b", '"a>b"@x'),
        ('"a@b"@x', "a@b", '"a@b"@x'),
        ('"a,b"@x', "a,b", '"a,b"@x'),
        (r'"a\"b"@x', 'a"b', r'"a\"b"@x'),
        (r'"a\\b"@x', "a\\b", r'"a\\b"@x'),
        ('""@x', "", '""@x'),
        ('"a b"@x', "a b", '"a b"@x'),
        ('"a.b"@x', "a.b", "a.b@x"),
        ('"a..b"@x', "a..b", '"a..b"@x'),
    ],
)
def test_row_33_quoted_local_parts(wire: str, local_part: str, rendered: str) -> None:
    """A quoted local-part is read unquoted and rendered with the least quoting."""
    mailbox = parse_mailbox(wire)
    assert mailbox == Mailbox(local_part, "x")
    assert str(mailbox) == rendered


@pytest.mark.parametrize(
    ("literal", "canonical"),
    [
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:DB8:0:0::1]", "[IPv6:2001:db8::1]"),
        ("[ipv6:::1]", "[IPv6:::1]"),
        ("[192.0.2]", None),
        ("[192.0.2.256]", None),
        ("[192.0.2.01]", None),
        ("[IPv6:1::2::3]", None),
        ("[IPv6:fe80::1%eth0]", None),
        ("[2001:db8::1]", None),
        ("[x400:abc]", None),
        ("[]", None),
        ("[192.0.2.1", None),
    ],
)
def test_row_34_address_literals(literal: str, canonical: str | None) -> None:
    """An address literal comes out in one form, whatever its spelling; malformed ones are faults (§4.1.3)."""
    assert address_literal(literal) == canonical
    parsed = parse_mailbox(f"a@{literal}")
    if canonical is None:
        assert parsed in (AddressFault.MALFORMED, AddressFault.LITERAL)
    else:
        assert parsed == Mailbox("a", canonical)


def test_an_ipv4_mapped_literal_has_one_form() -> None:
    """Both spellings of ``::ffff:192.0.2.1`` are one literal (RFC 4291 §2.2)."""
    assert address_literal("[IPv6:::ffff:192.0.2.1]") == address_literal("[IPv6:::FFFF:C000:201]") is not None


@pytest.mark.parametrize(
    "text",
    [
        "<a@b",
        "a@b>",
        '<"a@b>',
        "<a(comment)@b>",
        "<(comment)a@b>",
        "<a@b (comment)>",
        "<a@b@c>",
        "<a@>",
        "<@b>",
        "<>",
        "<a>",
        "< a@b>",
        "<a@b >",
        "<a@b.>",
        "<a@.b>",
        "<a@-b>",
        "<a@b->",
        "<a@b_c>",
        "<.a@b>",
        "<a.@b>",
        "<a..b@c>",
        "<a@b\t>",
        "<a\0@b>",
        '<"a\0"@b>',
        "<a@b,c@d>",
        "<@a,b:c@d>",
        "<@a:>",
        "<@:c@d>",
        "<a\u0085@b>",
        "<a@b\u2028>",
    ],
)
def test_row_35_malformed_paths(text: str) -> None:
    """Comments, unclosed quotes or brackets, two addresses, controls: no path."""
    assert parse_path(text) is AddressFault.MALFORMED


def test_a_source_route_is_told_and_ignored() -> None:
    """``<@a,@b:x@y>`` is the mailbox ``x@y``, marked (RFC 5321 §4.1.1.3, appendix C)."""
    assert parse_path("<@one.test,@two.test:x@y>") == Path(Mailbox("x", "y"), True, 25)


def test_a_path_ends_at_its_bracket_and_not_in_quotes() -> None:
    """What stands behind the path is left to the caller; ``>`` in quotes is no end."""
    text = 'FROM:<"a> b"@x> SIZE=1'
    assert parse_path(text, 5) == Path(Mailbox("a> b", "x"), False, text.index(" SIZE"))


def test_lengths_are_of_octets_on_the_wire() -> None:
    """The limits of RFC 5321 §4.5.3.1 count octets, quotes included; at the limit is within."""
    assert isinstance(parse_mailbox("x" * 64 + "@b"), Mailbox)
    assert parse_mailbox("x" * 65 + "@b") is AddressFault.LOCAL_PART_TOO_LONG
    assert parse_mailbox('"' + "x" * 63 + '"@b') is AddressFault.LOCAL_PART_TOO_LONG
    assert isinstance(parse_mailbox("ü" * 32 + "@b"), Mailbox)
    assert parse_mailbox("ü" * 33 + "@b") is AddressFault.LOCAL_PART_TOO_LONG
    label = "x" * 63
    assert parse_mailbox(f"a@{label}x.b") is AddressFault.MALFORMED
    longest = ".".join([label] * 3 + ["x" * 60])
    assert isinstance(parse_mailbox(f"a@{longest}"), Mailbox)
    assert isinstance(parse_path(f"<a@{longest}>"), Path)
    assert parse_mailbox(f"a@{longest}x") is AddressFault.PATH_TOO_LONG
    assert parse_path(f"<a@{longest}x>") is AddressFault.PATH_TOO_LONG
    assert parse_mailbox(f"a@{longest}x", Limits(path=300, domain=252)) is AddressFault.DOMAIN_TOO_LONG
    assert parse_path(f"<{'x' * 65}@b>") is AddressFault.LOCAL_PART_TOO_LONG


def test_domains_are_lower_case_local_parts_are_not() -> None:
    """A domain is kept in lower case, U-labels too; a local-part as it came (RFC 5321 §2.4)."""
    assert parse_mailbox("Alice@EXAMPLE.Test") == Mailbox("Alice", "example.test")
    assert parse_mailbox("Ünal@BÜCHER.test") == Mailbox("Ünal", "bücher.test")


def test_ascii_tells_what_travels_without_smtputf8() -> None:
    """A mailbox is ASCII only if both parts are (RFC 6531 §3.3)."""
    assert Mailbox("a", "b").ascii
    assert not Mailbox("ü", "b").ascii
    assert not Mailbox("a", "ü").ascii


def test_paths_are_rendered() -> None:
    """None is the null reverse-path; the postmaster needs no domain (RFC 5321 §4.5.1, §4.5.5)."""
    assert path(None) == "<>"
    assert path(Mailbox("a b", "c")) == '<"a b"@c>'
    assert path(Mailbox("postmaster", "")) == "<postmaster>"


@pytest.mark.parametrize(
    "text",
    ["<" + "a" * 100_000, "<" + "a." * 50_000, '<"' + "\\a" * 50_000, "<a@" + "a-" * 50_000, "<" + "@a," * 40_000],
)
def test_hostile_paths_take_linear_time(text: str) -> None:
    """No path makes a pattern backtrack more than its length asks for: at this length the test would not end."""
    assert parse_path(text, 0, WIDE) is AddressFault.MALFORMED


# The suite of isemail.info judges by RFC 5322 too; these are what RFC 5321 takes.
_TAKEN = {"ISEMAIL_VALID_CATEGORY", "ISEMAIL_DNSWARN", "ISEMAIL_RFC5321"}


@pytest.mark.skipif(not VECTORS.exists(), reason=f"no {VECTORS}; set MTA_VECTORS")
def test_the_isemail_suite() -> None:
    """Of the 164 addresses of isemail.info those are taken that are valid by RFC 5321."""
    judged = 0
    for test in ElementTree.parse(VECTORS).getroot().iter("test"):
        # controls stand in the file as U+2400 and up
        text = re.sub("[\u2400-\u241f]", lambda c: chr(ord(c[0]) - 0x2400), test.findtext("address") or "")
        # RFC 4291 permits "::" for one group
        taken = test.findtext("category") in _TAKEN or test.findtext("diagnosis") == "ISEMAIL_RFC5321_IPV6DEPRECATED"
        assert isinstance(parse_mailbox(text), Mailbox) is taken, (test.get("id"), text)
        judged += 1
    assert judged == 164

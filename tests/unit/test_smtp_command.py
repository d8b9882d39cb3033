"""mta.smtp.command"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.smtp import command
from mta.smtp.address import Mailbox
from mta.smtp.command import parse_hello, parse_mail, parse_rcpt
from mta.smtp.event import Mail, Rcpt
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.parameter import MALFORMED, TOO_BIG, UNKNOWN
from mta.smtp.reply import Reply

A = Mailbox("a", "b.test")
OFFER = Offer()
LIMITS = Limits()


def code(found: object) -> str:
    """Code and status of a refusal; empty where it is none."""
    return f"{found.code} {found.status}" if isinstance(found, Reply) else ""


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<>", Mail(None)),
        ("FROM:<> SIZE=10", Mail(None, 10)),
        ("FROM:<> BODY=8BITMIME", Mail(None, None, "8BITMIME")),
        ("FROM:<> SMTPUTF8", Mail(None, smtputf8=True)),
        ("FROM:<a@B.test>", Mail(A)),
        ("from:<a@b.test> SIZE=5 BODY=8BITMIME", Mail(A, 5, "8BITMIME")),
        ("FROM: <a@b.test>  size=5 ", Mail(A, 5)),
        ('FROM:<"a"@b.test> BODY=7BIT SIZE=5', Mail(A, 5)),
        ("FROM:<@x,@y:a@b.test>", Mail(A)),
        ("FROM:<ü@b.test> SMTPUTF8", Mail(Mailbox("ü", "b.test"), smtputf8=True)),
        ("FROM:<a@[192.0.2.1]>", Mail(Mailbox("a", "[192.0.2.1]"))),
    ],
)
def test_mail(argument: str, expected: Mail) -> None:
    """Every form of a reverse-path that RFC 5321 §4.1.1.2 permits, with its parameters."""
    assert parse_mail(argument.encode(), OFFER, LIMITS) == expected


@pytest.mark.parametrize(
    ("argument", "refusal"),
    [
        (b"", "501 5.5.4"),
        (b"<a@b.test>", "501 5.5.4"),
        (b"TO:<a@b.test>", "501 5.5.4"),
        (b"FROM:a@b.test", "501 5.1.7"),
        (b"FROM:<a@b.test", "501 5.1.7"),
        (b"FROM:<a>", "501 5.1.7"),
        (b"FROM:<postmaster>", "501 5.1.7"),
        (b"FROM:<a@[1.2.3]>", "501 5.1.7"),
        (b"FROM:<" + b"x" * 65 + b"@b.test>", "501 5.1.7"),
        (b"FROM:<a@b.test>SIZE=1", "501 5.5.4"),
        (b"FROM:<a@b.test> SIZE=99999999999", "552 5.3.4"),
        (b"FROM:<a@b.test> SMTPUTF8 SIZE=99999999999", "552 5.3.4"),
        ("FROM:<ü@b.test>".encode(), "553 5.6.7"),
        ("FROM:<a@ü.test>".encode(), "553 5.6.7"),
        ("FROM:<a@\u212aernel.test>".encode(), "553 5.6.7"),
        (b"FROM:<\xfc@b.test> SMTPUTF8", "501 5.5.2"),
        ("FRO\u212a:<a@b.test>".encode(), "501 5.5.4"),
    ],
)
def test_mail_refused(argument: bytes, refusal: str) -> None:
    """Bad syntax gets 501, a sender's fault 5.1.7; a foreign alphabet without SMTPUTF8 553 5.6.7 (rows 35, 39)."""
    assert code(parse_mail(argument, OFFER, LIMITS)) == refusal


@pytest.mark.parametrize(
    "octets",
    [b"\xc0\x80", b"\xc1\xa1", b"\xe0\x80\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xc3"],
)
def test_row_40_bad_utf8(octets: bytes) -> None:
    """Overlong, surrogate and broken UTF-8 gets 501, with SMTPUTF8 too (RFC 3629 §3)."""
    assert parse_mail(b"FROM:<" + octets + b"@b.test> SMTPUTF8", OFFER, LIMITS) is command.NOT_UTF8
    assert parse_rcpt(b"TO:<" + octets + b"@b.test>", True, LIMITS) is command.NOT_UTF8


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("TO:<a@B.test>", Rcpt(A)),
        ("to: <a@b.test> ", Rcpt(A)),
        ("TO:<@x:a@b.test>", Rcpt(A, source_route=True)),
        ('TO:<"a@x"@b.test>', Rcpt(Mailbox("a@x", "b.test"))),
        ("TO:<a%x@b.test>", Rcpt(Mailbox("a%x", "b.test"))),
        ("TO:<x!a@b.test>", Rcpt(Mailbox("x!a", "b.test"))),
        ("TO:<Postmaster>", Rcpt(Mailbox("postmaster", ""))),
        ("TO:<POSTMASTER>", Rcpt(Mailbox("postmaster", ""))),
        ("TO:<Postmaster@b.test>", Rcpt(Mailbox("Postmaster", "b.test"))),
    ],
)
def test_rcpt(argument: str, expected: Rcpt) -> None:
    """Every form of a forward-path, with ``<Postmaster>`` in any case (rows 27, 31)."""
    assert parse_rcpt(argument.encode(), False, LIMITS) == expected


def test_rcpt_with_smtputf8() -> None:
    """A foreign alphabet is taken where MAIL said SMTPUTF8, else it gets 553 5.6.7 (row 39)."""
    argument = "TO:<ü@b.test>".encode()
    assert parse_rcpt(argument, True, LIMITS) == Rcpt(Mailbox("ü", "b.test"))
    assert code(parse_rcpt(argument, False, LIMITS)) == "553 5.6.7"


@pytest.mark.parametrize(
    ("argument", "refusal"),
    [
        (b"", "501 5.5.4"),
        (b"FROM:<a@b.test>", "501 5.5.4"),
        (b"TO:<>", "501 5.1.3"),
        (b"TO:<a>", "501 5.1.3"),
        (b"TO:<a@b.test.>", "501 5.1.3"),
        (b"TO:<a@b.test>,<c@d>", "501 5.5.4"),
        (b"TO:<" + b"x" * 65 + b"@b.test>", "501 5.1.3"),
        (b"TO:<a@b.test> NOTIFY=NEVER", "555 5.5.4"),
        (b"TO:<Postmaster> X=Y", "555 5.5.4"),
        (b"TO:<Postmaster>x", "501 5.5.4"),
    ],
)
def test_rcpt_refused(argument: bytes, refusal: str) -> None:
    """Bad syntax gets 501, a recipient's fault 5.1.3."""
    assert code(parse_rcpt(argument, False, LIMITS)) == refusal


@pytest.mark.parametrize("octet", [*range(32), 127])
def test_row_10_control_characters_in_a_mailbox(octet: int) -> None:
    """No control character gets into a mailbox, bare or quoted; the reply is 501."""
    for form in (b"a%cb@c.test", b'"a%cb"@c.test', b'"a\\%cb"@c.test', b"a@b%cc.test", b"a@b.test%c"):
        assert code(parse_mail(b"FROM:<" + form % octet + b">", OFFER, LIMITS)) == "501 5.1.7"
        assert code(parse_rcpt(b"TO:<" + form % octet + b">", True, LIMITS)) == "501 5.1.3"


arguments = st.from_regex(
    r'FROM:<("?[a-z.]{0,5}"?@(B[b.-]{0,3}b)?)?>( SIZE=[0-9]{0,4})?( BODY=(7BIT|8BITMIME|X))?( SMTPUTF8)?',
    fullmatch=True,
)


@given(arguments)
def test_the_short_way_says_what_the_long_way_says(argument: str) -> None:
    """Whether a MAIL is read by the pattern of the common shape or by the whole grammar makes no difference."""
    limits = Limits(message_size=500)
    assert parse_mail(argument.encode(), OFFER, limits) == command._mail(argument, OFFER, limits)


def test_the_short_way_keeps_to_the_limits() -> None:
    """A mailbox that is too long is refused whichever pattern read it."""
    limits = Limits(local_part=3, domain=4, path=9)
    assert parse_rcpt(b"TO:<abc@b.cd>", False, Limits(local_part=3, domain=4, path=11)) == Rcpt(Mailbox("abc", "b.cd"))
    for address in (b"abcd@b.c", b"a@bc.de", b"abc@b.cd"):
        assert code(parse_mail(b"FROM:<" + address + b">", OFFER, limits)) == "501 5.1.7"
        assert code(parse_rcpt(b"TO:<" + address + b">", False, limits)) == "501 5.1.3"


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        (b"Client.example.test", "Client.example.test"),
        (b"  client ", "client"),
        (b"[192.0.2.1]", "[192.0.2.1]"),
        (b"[IPv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
        (b"my_pc", "my_pc"),
        (b'a) b; c"<d>\\', "a??b??c??d??"),
        ("müller".encode(), "m??ller"),
        (b"x" * 1000, "x" * 255),
    ],
)
def test_row_58_a_name_does_no_harm(argument: bytes, name: str) -> None:
    """Whatever a client calls itself, nothing is left that could end a comment, a field or a line (§4.1.4)."""
    assert parse_hello(argument, LIMITS) == name


def test_a_name_is_needed() -> None:
    """EHLO without a name gets 501."""
    assert parse_hello(b"", LIMITS) is command.HELLO_SYNTAX
    assert parse_hello(b"  ", LIMITS) is command.HELLO_SYNTAX


@given(st.binary())
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    """No argument raises; what is read holds no control character."""
    for found in (parse_mail(b"FROM:<" + octets, OFFER, LIMITS), parse_rcpt(b"TO:<" + octets, True, LIMITS)):
        assert isinstance(found, Mail | Rcpt | Reply)
    name = parse_hello(octets, LIMITS)
    assert isinstance(name, Reply) or (name.isascii() and name.isprintable() and " " not in name)


def test_size_at_the_limit() -> None:
    """A message of just the limit is taken, one octet more is not, whichever pattern read it."""
    limits = Limits(message_size=500)
    for behind in ("", " SMTPUTF8"):
        assert isinstance(parse_mail(f"FROM:<> SIZE=500{behind}".encode(), OFFER, limits), Mail)
        assert parse_mail(f"FROM:<> SIZE=501{behind}".encode(), OFFER, limits) is TOO_BIG


def test_refusals_are_told_apart() -> None:
    """The constants of other modules are used, so that a test can name them."""
    assert parse_mail(b"FROM:<a@b.test> SIZE=99999999999", OFFER, LIMITS) is TOO_BIG
    assert parse_mail(b"FROM:<a@b.test> X", OFFER, LIMITS) is UNKNOWN
    assert parse_rcpt(b"TO:<a@b.test>X", False, LIMITS) is MALFORMED

"""Replies of servers, read within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtp.reply_reader import ReplyFault, ReplyLimits, ReplyReader, ServerReply, harmless
from mta.smtp.status import Status

SMALL = ReplyLimits(line=20, lines=3)
TEXT = st.binary(max_size=12).filter(lambda text: b"\n" not in text and not text.endswith(b"\r"))


def read(octets: bytes, limits: ReplyLimits = SMALL) -> list[ServerReply | ReplyFault]:
    """Read all replies in `octets`, up to and with a fault."""
    reader = ReplyReader(limits)
    reader.receive(octets)
    out = []
    while (reply := reader.next_reply()) is not None:
        out.append(reply)
        if isinstance(reply, ReplyFault):
            break
    return out


def read_each(octets: bytes, limits: ReplyLimits = SMALL) -> list[ServerReply | ReplyFault]:
    """Read octet by octet."""
    reader = ReplyReader(limits)
    out = []
    for octet in octets:
        reader.receive(bytes([octet]))
        while (reply := reader.next_reply()) is not None:
            out.append(reply)
            if isinstance(reply, ReplyFault):
                return out
    return out


@pytest.mark.parametrize(
    ("octets", "code", "lines"),
    [
        (b"250 ok\r\n", 250, (b"ok",)),
        (b"250\r\n", 250, (b"",)),
        (b"250 \r\n", 250, (b"",)),
        (b"250-a\r\n250 b\r\n", 250, (b"a", b"b")),
        (b"250-\r\n250-b\r\n250\r\n", 250, (b"", b"b", b"")),
        (b"599 \xff\r\r\n", 599, (b"\xff\r",)),
    ],
)
def test_forms_of_a_reply(octets: bytes, code: int, lines: tuple[bytes, ...]) -> None:
    """One line or many, with text, an empty text or none: one reply, whole and octet by octet."""
    assert read(octets) == read_each(octets) == [ServerReply(code, lines)]


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"250 ok\n", "a reply line ends without CRLF"),
        (b"250-a\r\n250 b\n", "a reply line ends without CRLF"),
        (b"199 x\r\n", "not a reply"),
        (b"600 x\r\n", "not a reply"),
        (b"25 x\r\n", "not a reply"),
        (b"2500 x\r\n", "not a reply"),
        (b"250x\r\n", "not a reply"),
        (b" 250 x\r\n", "not a reply"),
        (b"\r\n", "not a reply"),
        (b"HTTP/1.1 400\r\n", "not a reply"),
        (b"250-a\r\n251 b\r\n", "the lines of one reply differ in code"),
        (b"250 " + b"x" * 15 + b"\r\n", "a reply line is too long"),
        (b"250 " + b"x" * 16, "a reply line is too long"),
        (b"250-a\r\n" * 3 + b"250 b\r\n", "a reply has too many lines"),
    ],
)
def test_what_is_no_reply(octets: bytes, what: str) -> None:
    """Row 71: a line without CRLF, a code out of range, too much of anything is a fault, which stays."""
    for got in (read(octets), read_each(octets)):
        (fault,) = got
        assert isinstance(fault, ReplyFault)
        assert fault.text.startswith(what)
    reader = ReplyReader(SMALL)
    reader.receive(octets)
    first = reader.next_reply()
    reader.receive(b"250 ok\r\n")
    assert reader.next_reply() is first


def test_the_largest_reply_is_read() -> None:
    """A reply of exactly the limits is taken."""
    octets = (b"250-" + b"x" * 14 + b"\r\n") * 2 + b"250 " + b"x" * 14 + b"\r\n"
    assert read(octets) == read_each(octets) == [ServerReply(250, (b"x" * 14,) * 3)]


def test_an_endless_line_is_not_kept() -> None:
    """4 MiB without a line end are refused at the limit of a line."""
    reader = ReplyReader(ReplyLimits())
    reads = 0
    while reader.next_reply() is None:
        reader.receive(b"2" * 1024)
        reads += 1
    assert reads == 2


@given(st.lists(st.tuples(st.integers(200, 599), st.lists(TEXT, min_size=1, max_size=3)), max_size=4), st.data())
@settings(max_examples=200)
def test_every_split(replies: list[tuple[int, list[bytes]]], data: st.DataObject) -> None:
    """Replies in a row are read the same whole, octet by octet, and cut anywhere."""
    wire, expected = b"", []
    for code, lines in replies:
        for line in lines[:-1]:
            wire += b"%d-%s\r\n" % (code, line)
        wire += b"%d %s\r\n" % (code, lines[-1])
        expected.append(ServerReply(code, tuple(lines)))
    limits = ReplyLimits()
    assert read(wire, limits) == read_each(wire, limits) == expected
    cut = data.draw(st.integers(0, len(wire)))
    reader = ReplyReader(limits)
    got = []
    for part in (wire[:cut], wire[cut:]):
        reader.receive(part)
        while (reply := reader.next_reply()) is not None:
            got.append(reply)
    assert got == expected
    assert not reader.pending


def test_pending_tells_of_octets_behind_a_reply() -> None:
    """Octets that belong to no reply given out are pending, and lines of an unfinished one."""
    reader = ReplyReader(SMALL)
    assert not reader.pending
    reader.receive(b"220 go\r\n250")
    reader.next_reply()
    assert reader.pending
    reader.receive(b"-a\r\n")
    assert reader.next_reply() is None
    assert reader.pending
    reader.receive(b"250 b\r\n")
    assert reader.next_reply() == ServerReply(250, (b"a", b"b"))
    assert not reader.pending


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (250, b"2.1.5 ok", Status(2, 1, 5)),
        (550, b"5.1.1 no such user", Status(5, 1, 1)),
        (550, b"no such user", Status(5, 0, 0)),
        (550, b"4.1.1 of another class", Status(5, 0, 0)),
        (421, b"", Status(4, 0, 0)),
        (550, b"5.1.1234 not one", Status(5, 0, 0)),
    ],
)
def test_status_of_a_reply(code: int, text: bytes, status: Status) -> None:
    """The enhanced status is the reply's own where its class is the code's, else X.0.0 (RFC 3463, RFC 2034 §4)."""
    assert ServerReply(code, (text,)).status == status


def test_classes() -> None:
    """The first digit says what became of a command (RFC 5321 §4.2.1)."""
    replies = [ServerReply(code, (b"",)) for code in (250, 354, 450, 550)]
    assert [reply.positive for reply in replies] == [True, False, False, False]
    assert [reply.intermediate for reply in replies] == [False, True, False, False]
    assert [reply.transient for reply in replies] == [False, False, True, False]
    assert [reply.permanent for reply in replies] == [False, False, False, True]


def test_text_is_verbatim_bounded_and_harmless() -> None:
    """Lines are joined, at most 500 octets are shown, controls and directional marks are escaped, UTF-8 stands."""
    reply = ServerReply(550, ("5.1.1 grüße\x1b[2J".encode(), b"\xff\0", "\u202egnp".encode()))
    assert reply.text() == str(reply) == r"550 5.1.1 grüße\x1b[2J \xff\x00 \u202egnp"
    assert len(ServerReply(550, (b"x" * 9000,)).text()) == 500
    assert ServerReply(250, (b"2.0.0 ok",)).text() == "250 2.0.0 ok"


@given(st.binary(max_size=40))
@settings(max_examples=200)
def test_harmless_gives_printable_text(octets: bytes) -> None:
    """Whatever a peer sends, what is printed of it has no control in it."""
    assert harmless(octets).isprintable()

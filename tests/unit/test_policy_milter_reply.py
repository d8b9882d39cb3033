"""What a milter may say, packet by packet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy.milter.packet import Fault, Packet
from mta.policy.milter.reply import (
    AddField,
    AddRecipient,
    ChangeField,
    ChangeSender,
    Decision,
    InsertField,
    Quarantine,
    RemoveRecipient,
    ReplaceBody,
    ReplyCode,
    read,
)
from mta.smtp.address import Mailbox

BOB = Mailbox("bob", "example.test")


def code(text: bytes) -> str:
    """Read a reply code and give it as it goes to the client; a fault as its text."""
    saying = read(Packet(b"y", text))
    return saying.reply.wire.decode() if isinstance(saying, ReplyCode) else f"fault: {saying}"


@pytest.mark.parametrize("decision", Decision)
def test_decisions(decision: Decision) -> None:
    """A decision is its letter alone; with data it is a fault."""
    assert read(Packet(decision.value)) is decision
    assert isinstance(read(Packet(decision.value, b"\0")), Fault)


def test_reply_codes() -> None:
    """4yz and 5yz, with or without an enhanced status, on one line or several, become replies."""
    assert code(b"550 5.7.9 no thanks\0") == "550 5.7.9 no thanks\r\n"
    assert code(b"451 later\0") == "451 4.7.1 later\r\n"
    assert code(b"550\0") == "550 5.7.1 \r\n"
    assert code(b"550 5.7.0\0") == "550 5.7.0 \r\n"
    assert code(b"550-5.7.0 one\r\n550-5.7.0 two\r\n550 5.7.0 three\0") == (
        "550-5.7.0 one\r\n550-5.7.0 two\r\n550 5.7.0 three\r\n"
    )
    assert code(b"550 5.7.0 line end at the end\r\n\0") == "550 5.7.0 line end at the end\r\n"


def test_the_status_follows_the_code() -> None:
    """An enhanced status of another class than the code gets the code's (RFC 2034 §4)."""
    assert code(b"450 5.7.9 text\0") == "450 4.7.9 text\r\n"
    assert code(b"550 2.0.0 text\0") == "550 5.0.0 text\r\n"


def test_percent_signs_and_octets_of_reply_codes_do_no_harm() -> None:
    """Doubled percent signs become single, single ones stay; what does not print becomes a question mark."""
    assert code(b"550 5.7.1 100%% %s %n\0") == "550 5.7.1 100% %s %n\r\n"
    assert code(b"550 5.7.1 a\x1b[2Jb\x07\xff\0") == "550 5.7.1 a?[2Jb??\r\n"
    long = code(b"550 5.7.1 " + b"x" * 5000 + b"\0")
    assert len(long) <= 512
    assert long.endswith("x\r\n")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0",
        b"250 2.0.0 fine\0",
        b"354 go\0",
        b"650 5.0.0 x\0",
        b"560 no such code\0",
        b"55 x\0",
        b"550_x\0",
        b"5500 x\0",
        b"550 5.7.1 one\r\n250 2.0.0 two\0",
        b"550 5.7.1 one\r\ntwo\0",
        b"550 5.7.1 one\rtwo\0",
        b"550-5.7.1 no last line\0",
        b"550 5.7.1 one\r\n550 5.7.1 two\0",
        b"550-5.7.1 one\r\n451 4.7.1 two\0",
        b"550 5.7.1 a\0b\0",
        b"550-x\r\n" * 32 + b"550 x\0",
    ],
)
def test_what_is_no_reply_code(text: bytes) -> None:
    """Positive codes, wrong lines, line ends inside, NUL inside, too many lines: faults."""
    assert code(text).startswith("fault: ")


def test_the_most_lines_of_a_reply_code() -> None:
    """32 lines are read."""
    assert code(b"550-x\r\n" * 31 + b"550 x\0").count("\r\n") == 32


def test_fields() -> None:
    """Fields are added, inserted and changed; index 0 of a change is the first one too."""
    assert read(Packet(b"h", b"X-A\0 v\n w\0")) == AddField("X-A", b" v\n w")
    assert read(Packet(b"i", b"\0\0\0\x02X-A\0v\0")) == InsertField(2, "X-A", b"v")
    assert read(Packet(b"m", b"\0\0\0\x03X-A\0v\0")) == ChangeField(3, "X-A", b"v")
    assert read(Packet(b"m", b"\0\0\0\0X-A\0\0")) == ChangeField(1, "X-A", b"")


def test_paths() -> None:
    """Recipients and senders come with brackets or without, and with ESMTP parameters where there may be some."""
    assert read(Packet(b"+", b"<bob@example.test>\0")) == AddRecipient(BOB)
    assert read(Packet(b"+", b"bob@EXAMPLE.test\0")) == AddRecipient(BOB)
    assert read(Packet(b"2", b"<bob@example.test>\0NOTIFY=NEVER\0")) == AddRecipient(BOB, "NOTIFY=NEVER")
    assert read(Packet(b"-", b"<bob@example.test>\0")) == RemoveRecipient(BOB)
    assert read(Packet(b"e", b"<bob@example.test>\0")) == ChangeSender(BOB)
    assert read(Packet(b"e", b"<>\0SIZE=1\0")) == ChangeSender(None, "SIZE=1")


def test_body_and_quarantine() -> None:
    """A piece of a body is raw octets; a reason is made harmless."""
    assert read(Packet(b"b", b"a\0\r\nb")) == ReplaceBody(b"a\0\r\nb")
    assert read(Packet(b"b")) == ReplaceBody(b"")
    assert read(Packet(b"q", b"vi\nrus\x1b\0")) == Quarantine("vi\\nrus\\x1b")


@pytest.mark.parametrize(
    ("command", "data"),
    [
        (b"h", b"X-A\0v"),
        (b"h", b"X-A\0"),
        (b"h", b"X-A\0v\0w\0"),
        (b"h", b"\0v\0"),
        (b"h", b"X A\0v\0"),
        (b"h", b"X:\0v\0"),
        (b"h", b"X\r\nBcc\0v\0"),
        (b"h", b"\xc3\xbc\0v\0"),
        (b"i", b"\0\0\0"),
        (b"i", b"\xff\xff\xff\xffX-A\0v\0"),
        (b"m", b"\0\0\0\x01"),
        (b"+", b"<bob@example.test>"),
        (b"+", b"<bob@example.test>\0x\0"),
        (b"+", b"<bob@example.test> x\0"),
        (b"+", b"bob\0"),
        (b"+", b"<>\0"),
        (b"+", b"<a@b.test>\r\nRCPT TO:<c@d.test>\0"),
        (b"+", b"\xff@example.test\0"),
        (b"-", b"\0"),
        (b"2", b"<bob@example.test>\0x\0y\0"),
        (b"e", b"nobody\0"),
        (b"q", b"no end"),
        (b"q", b"two\0reasons\0"),
        (b"x", b""),
        (b"O", b""),
        (b"\0", b""),
    ],
)
def test_malformed_sayings_are_faults(command: bytes, data: bytes) -> None:
    """Strings without end, too many or too few, names and paths that are none, indexes past all reason."""
    assert isinstance(read(Packet(command, data)), Fault)


@given(st.binary(min_size=1, max_size=1), st.binary(max_size=60))
def test_anything_at_all_is_read(command: bytes, data: bytes) -> None:
    """Whatever a packet holds, it is a saying or a fault, never an exception."""
    assert read(Packet(command, data)) is not None


@given(st.text(max_size=40))
def test_a_reply_code_is_one_reply_whatever_it_says(text: str) -> None:
    """A reply made of any text has one code on all its lines, and no line end inside them."""
    saying = read(Packet(b"y", b"550 5.7.1 " + text.encode("utf-8", "replace") + b"\0"))
    if isinstance(saying, ReplyCode):
        lines = saying.reply.wire.decode("ascii").split("\r\n")
        assert lines.pop() == ""
        assert all(line[:3] == "550" and line.isprintable() for line in lines)

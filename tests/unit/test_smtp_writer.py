"""The dot-stuffer: what leaves after 354."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtp.writer import BareLineEnd, DotStuffer, Stuffed, stuff

LINES = st.lists(st.sampled_from([b"", b".", b"..", b"a", b".a", b"a.", b"\0", b"\xff.", b".\x85"]), max_size=8)


def unstuff(wire: bytes) -> bytes:
    """Read content as RFC 5321 §4.5.2 tells a server to, line by line."""
    lines = wire.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"." not in lines[:-2], "an end of data within the content"
    content = [line[1:] if line.startswith(b".") else line for line in lines[:-2]]
    return b"".join(line + b"\r\n" for line in content)


def by_chunks(content: bytes, *cuts: int) -> bytes:
    """Stuff content cut at these places."""
    stuffer = DotStuffer()
    edges = [0, *cuts, len(content)]
    out = [stuffer.feed(content[a:b]) for a, b in itertools.pairwise(edges)]
    return b"".join(out) + stuffer.finish()


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n", b"...\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"\r\n\r\n.\r\n.\r\n", b"\r\n\r\n..\r\n..\r\n.\r\n"),
        (b"a.b\r\n", b"a.b\r\n.\r\n"),
    ],
)
def test_leading_dots_are_doubled(content: bytes, wire: bytes) -> None:
    """A dot at the start of a line is doubled, no other is, and the content ends with a line of one dot."""
    assert stuff(content) == wire


@pytest.mark.parametrize("content", [b"a", b"a\r\nb", b".", b"a\r\n."])
def test_a_last_line_without_end_is_ended(content: bytes) -> None:
    """A last line that lacks its CRLF gets one; nothing else is added."""
    assert unstuff(stuff(content)) == content + b"\r\n"


@pytest.mark.parametrize(
    "content",
    [
        *(b"\n", b"\r", b"\n\r", b"x\r", b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\n", b"\r\r\n"),
        *(b"a\r\n\r", b"a\n.\r\n", b"a\r\n.\n"),
    ],
)
def test_a_bare_line_end_is_refused(content: bytes) -> None:
    """A CR or LF outside of CRLF never leaves: the whole content is refused, wherever it is cut."""
    with pytest.raises(BareLineEnd):
        stuff(content)
    with pytest.raises(BareLineEnd):
        Stuffed(content)
    with pytest.raises(BareLineEnd):
        list(Stuffed(content, chunk=1))
    for cut in range(len(content) + 1):
        with pytest.raises(BareLineEnd):
            by_chunks(content, cut)


@given(LINES)
@settings(max_examples=200)
def test_a_server_reads_what_was_sent(lines: list[bytes]) -> None:
    """Unstuffing gives the content back, whole."""
    content = b"".join(line + b"\r\n" for line in lines)
    assert unstuff(stuff(content)) == content


@given(LINES, st.binary(max_size=3).filter(lambda tail: not re.search(rb"[\r\n]", tail)))
@settings(max_examples=50)
def test_chunks_change_nothing(lines: list[bytes], tail: bytes) -> None:
    """Content cut at any two places, or octet by octet, leaves as it does whole: dots and CRLFs at edges included."""
    content = b"\r\n".join(lines) + tail
    whole = stuff(content)
    for cut in range(len(content) + 1):
        assert by_chunks(content, cut) == whole
        assert by_chunks(content, cut, cut) == whole
    assert by_chunks(content, *range(len(content))) == whole


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a"]), max_size=8), st.integers(1, 5))
@settings(max_examples=300)
def test_refused_whole_or_sent_whole(pieces: list[bytes], chunk: int) -> None:
    """Content with a bare CR or LF never has an end of data, and what left of it holds none; all other leaves whole."""
    content = b"".join(pieces)
    chunks: list[bytes] = []
    try:
        stuffed = Stuffed(content, chunk)
        chunks.extend(stuffed)  # keeps what came before a fault
    except BareLineEnd:
        assert re.search(rb"(?<!\r)\n|\r(?!\n)", content)
        assert not re.search(rb"(^|\r\n)\.\r\n", b"".join(chunks))
    else:
        assert b"" not in chunks
        assert b"".join(chunks) == stuff(content) == b"".join(stuffed)
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", b"".join(chunks))


def test_large_content_is_not_looked_through_at_once() -> None:
    """Large content is checked chunk by chunk as it is read: nothing goes through all of it before the first."""

    class Counting(bytes):
        searched = 0

        def count(self, *wanted: Any) -> int:  # type: ignore[override]  # positions are passed on as they are
            Counting.searched += len(self)
            return super().count(*wanted)

    content = Counting(b"1234567\r\n" * 1000)
    wire = iter(Stuffed(content, 900))
    assert next(wire) == content[:900]
    assert Counting.searched == 0


@given(LINES, st.lists(st.integers(0, 40), max_size=4))
@settings(max_examples=100)
def test_content_in_pieces_leaves_as_it_does_whole(lines: list[bytes], cuts: list[int]) -> None:
    """Wherever the pieces are cut, empty ones among them, and as often as it is sent."""
    content = b"".join(line + b"\r\n" for line in lines)
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    stuffed = Stuffed([content[start:end] for start, end in itertools.pairwise(edges)])
    assert b"".join(stuffed) == stuff(content) == b"".join(stuffed)


def test_pieces_are_asked_for_as_they_leave() -> None:
    """One piece is held at a time; a bare line end shows when its piece has its turn, and nothing is asked for then."""
    asked = []

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            for piece in (b"a\r\n", b"b\r", b"\nc\r\n", b"\n", b"d\r\n"):
                asked.append(piece)
                yield piece

    wire = iter(Stuffed(Pieces()))
    assert [next(wire) for _ in range(3)] == [b"a\r\n", b"b", b"\r\nc\r\n"]
    assert len(asked) == 3
    with pytest.raises(BareLineEnd):
        next(wire)
    assert len(asked) == 4
    assert list(wire) == []


def test_small_content_is_one_chunk() -> None:
    """Content that fits a chunk leaves in one piece with its end, so a transport is called once."""
    assert list(Stuffed(b"a\r\n")) == [b"a\r\n.\r\n"]


def test_large_content_is_never_doubled_in_memory() -> None:
    """Content beyond a chunk comes in pieces of about that size."""
    content = b".23456\r\n" * 1000
    pieces = list(Stuffed(content, 800))
    assert len(pieces) == 11
    assert max(map(len, pieces)) <= 900
    assert unstuff(b"".join(pieces)) == content

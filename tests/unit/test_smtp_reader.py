"""mta.smtp.reader"""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mta.smtp.reader import ContentFault, DataReader, LineFault, LineReader

LIMIT = 32


def lines(*pieces: bytes, limit: int = LIMIT) -> list[bytes | LineFault]:
    """Everything a reader gives for these reads, asked after each."""
    reader = LineReader()
    out: list[bytes | LineFault] = []
    for piece in pieces:
        reader.receive(piece)
        while (line := reader.next_line(limit)) is not None:
            out.append(line)
            if line is LineFault.BARE_LF:
                return out
    return out


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    """Cut `octets` at these places."""
    marks = [0, *sorted(place % (len(octets) + 1) for place in places), len(octets)]
    return [octets[a:b] for a, b in pairwise(marks)]


streams = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"\r\n.\r\n", b"\0", b"a", b"xyz" * 9, b"\xff", b" "])
).map(b"".join)
places = st.lists(st.integers(0, 10_000), max_size=8)


def test_lines_come_without_their_crlf() -> None:
    """Each line that has come whole is given, in order, and the rest waits."""
    reader = LineReader()
    reader.receive(b"NOOP\r\n\r\nQU")
    assert [reader.next_line(LIMIT) for _ in range(3)] == [b"NOOP", b"", None]
    assert len(reader) == 2
    reader.receive(b"IT\r\nrest")
    assert reader.next_line(LIMIT) == b"QUIT"
    assert reader.take() == b"rest"
    assert len(reader) == 0


@given(streams, places)
@example(b"x" * 31 + b"\r\n", [])
@example(b"x" * 31 + b"\r\n", [32])
@example(b"x" * 100 + b"\r\nNOOP\r\n", [101])
def test_lines_do_not_depend_on_the_reads(stream: bytes, places: list[int]) -> None:
    """Whole, octet by octet or cut anywhere, a stream gives the same lines and faults."""
    whole = lines(stream)
    assert lines(*(bytes([octet]) for octet in stream)) == whole
    assert lines(*cut(stream, places)) == whole


def test_row_6_a_bare_lf_is_no_line_end() -> None:
    """LF alone is a fault at once, wherever it stands, and what is behind it is dropped."""
    reader = LineReader()
    reader.receive(b"NOOP\nQUIT\r\n")
    assert reader.next_line(LIMIT) is LineFault.BARE_LF
    assert reader.next_line(LIMIT) is None
    assert lines(b"\nQUIT\r\n") == [LineFault.BARE_LF]
    assert lines(b"NOOP\r\n\nQUIT\r\n") == [b"NOOP", LineFault.BARE_LF]


@pytest.mark.parametrize("other", [b"\r", b"\x0b", b"\x0c", "\u2028".encode(), "\x85".encode(), b"\0", b"\x1e"])
def test_row_7_nothing_else_ends_a_line(other: bytes) -> None:
    """CR alone and what Python's splitlines takes for line ends are part of the line."""
    assert lines(b"NOOP" + other + b"QUIT\r\n") == [b"NOOP" + other + b"QUIT"]


def test_a_line_at_the_limit_is_within() -> None:
    """The limit counts the CRLF."""
    assert lines(b"x" * (LIMIT - 2) + b"\r\n") == [b"x" * (LIMIT - 2)]
    assert lines(b"x" * (LIMIT - 1) + b"\r\n") == [LineFault.TOO_LONG]


@pytest.mark.parametrize("length", [600, 2049, 140_000])
def test_row_8_a_long_line_is_one_fault(length: int) -> None:
    """A long line is told once, its tail dropped; the next line is read."""
    assert lines(b"x" * length + b"\r\nNOOP\r\n") == [LineFault.TOO_LONG, b"NOOP"]


def test_row_9_memory_is_bounded() -> None:
    """4 MiB without a line end are dropped as they come."""
    reader = LineReader()
    faults = 0
    for _ in range(64):
        reader.receive(b"x" * 65536)
        faults += reader.next_line(LIMIT) is not None
        assert len(reader) == 0
    assert faults == 1
    assert reader.head == b"x" * 16


def test_forgetting_ends_a_line_under_way() -> None:
    """After `forget` the next octet begins a line, also where one was being dropped."""
    reader = LineReader()
    reader.receive(b"x" * 100 + b"\r")
    assert reader.next_line(LIMIT) is LineFault.TOO_LONG
    reader.forget()
    reader.receive(b"\nNOOP\r\n")
    assert reader.next_line(LIMIT) is LineFault.BARE_LF


class Took:
    """What a DataReader made of a stream."""

    def __init__(self, pieces: list[bytes], limit: int = 10_000_000, lenient: bool = False) -> None:
        reader = DataReader(limit, lenient)
        out: list[bytes] = []
        rest: list[bytes] = []
        for piece in pieces:
            if reader.ended:
                rest.append(piece)
            else:
                out.append(reader.receive(piece))
        self.ended = reader.ended
        self.content = b"".join(out)
        self.rest = reader.rest + b"".join(rest)
        self.size = reader.size
        self.fault = reader.fault
        self.line = reader.line
        self.eight_bit = reader.eight_bit
        self.reader = reader

    def seen(self) -> tuple[object, ...]:
        """What may not depend on the reads; of refused content only that."""
        content = self.content if self.fault is None else None
        line = self.line if self.fault in (ContentFault.BARE_CR, ContentFault.BARE_LF) else 0
        return self.ended, content, self.rest, self.size, self.fault, line


def took(octets: bytes, lenient: bool = False) -> Took:
    """Take a stream in one read."""
    return Took([octets], lenient=lenient)


def reference(stream: bytes) -> tuple[bytes, bytes] | None:
    """Content and rest, said plainly: lines by CRLF up to a line that is a dot, a leading dot removed."""
    out: list[bytes] = []
    while b"\r\n" in stream:
        line, _, stream = stream.partition(b"\r\n")
        if line == b".":
            return b"".join(out), stream
        out.append((line[1:] if line.startswith(b".") else line) + b"\r\n")
    return None


@given(streams, places, st.booleans())
@settings(max_examples=200)
@example(b"\r\n.\r\n", [], False)
@example(b".\r\n", [1, 2], False)
@example(b"a\r\r\n.\r\n", [2, 3], False)
@example(b"\n.\r\n.\r\n", [], True)
def test_content_does_not_depend_on_the_reads(stream: bytes, places: list[int], lenient: bool) -> None:
    """Whole, octet by octet or cut anywhere, a stream gives the same content, size, fault and rest."""
    whole = Took([stream], lenient=lenient)
    assert Took([bytes([octet]) for octet in stream], lenient=lenient).seen() == whole.seen()
    assert Took(cut(stream, places), lenient=lenient).seen() == whole.seen()


@given(streams)
def test_content_is_what_the_rfc_says(stream: bytes) -> None:
    """Content and end are those of a plain reading of RFC 5321 §4.5.2."""
    whole = took(stream)
    expected = reference(stream)
    assert whole.ended is (expected is not None)
    if expected is not None:
        content, rest = expected
        assert whole.rest == rest
        assert whole.size == len(content)
        bare = re.search(rb"\r(?!\n)|(?<!\r)\n", content)
        assert (whole.fault is not None) is (bare is not None)
        if bare is None:
            assert whole.content == content
            assert whole.eight_bit is not content.isascii()
        else:
            assert whole.fault is (ContentFault.BARE_CR if bare[0] == b"\r" else ContentFault.BARE_LF)
            assert whole.line == content.count(b"\r\n", 0, bare.start()) + 1


@given(streams)
def test_lenient_content_has_no_bare_line_end(stream: bytes) -> None:
    """In lenient mode CRLF stands where CR or LF stood alone; the end is the same."""
    lenient, strict = took(stream, lenient=True), took(stream)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", lenient.content)
    assert lenient.fault is None
    assert (lenient.ended, lenient.rest) == (strict.ended, strict.rest)
    if strict.fault is None:
        assert lenient.content == strict.content


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n"])
def test_row_1_no_end_with_a_bare_lf(end: bytes) -> None:
    """LF.LF, LF.CRLF and CRLF.LF do not end the data; they are faults that wait for the true end."""
    whole = took(b"a" + end + b"MAIL FROM:<x@y>\r\n")
    assert not whole.ended
    assert whole.fault is ContentFault.BARE_LF
    assert took(b"a" + end + b"b\r\n.\r\nrest").rest == b"rest"


@pytest.mark.parametrize("end", [b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\r\n.\r\r\n", b"\r\n.\r\r\n"])
def test_row_2_no_end_with_a_bare_cr(end: bytes) -> None:
    """CR.CR, CR.CRLF, CRLF.CR, CRCRLF.CRCRLF and CRLF.CRCRLF do not end the data."""
    whole = took(b"a" + end + b"MAIL FROM:<x@y>\r\n")
    assert not whole.ended
    assert whole.fault is ContentFault.BARE_CR


@pytest.mark.parametrize("odd", [b"\0", b"\x0b", b"\x0c", "\x85".encode(), "\u2028".encode(), b"\x1c"])
def test_row_3_no_end_with_odd_characters(odd: bytes) -> None:
    """NUL beside the dot, and what Python takes for line ends, are content."""
    stream = b"a\r\n" + odd + b".\r\n." + odd + b"\r\n" + odd + b"." + odd + b"MAIL FROM:<x@y>\r\n"
    whole = took(stream)
    assert not whole.ended
    assert whole.fault is None
    assert whole.size == len(stream) - 3  # one stuffed dot, and the last CRLF is held


def test_row_4_the_end_split_anywhere() -> None:
    """The end may come in any pieces; it is seen with its last octet and not before."""
    reader = DataReader(1000, lenient=False)
    for octet in b"a\r\n.\r":
        reader.receive(bytes([octet]))
        assert not reader.ended
    reader.receive(b"\n")
    assert reader.ended


def test_row_5_a_dot_at_the_edge_of_a_read_is_data() -> None:
    """``.CRLF`` at the begin of a read, in the middle of a line, is content."""
    whole = Took([b"x" * 65536, b".\r\n", b"y\r\n.\r\n"])
    assert whole.ended
    assert whole.content == b"x" * 65536 + b".\r\ny\r\n"


@pytest.mark.parametrize(
    ("stream", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n.\r\n", b"..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
        (b"a\r\n..\r\n..b\r\n.\r\n", b"a\r\n.\r\n.b\r\n"),
    ],
)
def test_stuffed_dots_are_removed(stream: bytes, content: bytes) -> None:
    """A dot at the begin of a line is removed, on the first line too (RFC 5321 §4.5.2)."""
    whole = took(stream + b"rest")
    assert (whole.content, whole.rest, whole.size) == (content, b"rest", len(content))


def test_size_has_a_limit_and_the_end_is_awaited() -> None:
    """At the limit is within; above it nothing more is given out, all is counted, the end is found."""
    assert Took([b"x" * 98 + b"\r\n.\r\n"], limit=100).fault is None
    whole = Took([b"x" * 99 + b"\r\n", b"y" * 1000, b"\r\n.\r\nrest"], limit=100)
    assert whole.fault is ContentFault.TOO_LARGE
    assert len(whole.content) <= 100
    assert (whole.ended, whole.rest, whole.size) == (True, b"rest", 1103)


def test_row_9_content_without_line_ends_is_not_held() -> None:
    """4 MiB without a line end pass through; nothing is held of them."""
    reader = DataReader(1 << 30, lenient=False)
    given_out = sum(len(reader.receive(b"x" * 65536)) for _ in range(64))
    assert given_out == reader.size == 4 << 20


@pytest.mark.parametrize("length", [998, 1001, 100_000])
def test_row_50_lines_of_any_length_are_whole(length: int) -> None:
    """A long line is neither folded nor refused."""
    line = b"x" * length + b"\r\n"
    assert took(line + b".\r\n").content == line


def test_row_51_eight_bit_is_noticed() -> None:
    """8-bit octets are kept and told."""
    whole = took("grün\r\n.\r\n".encode())
    assert whole.content == "grün\r\n".encode()
    assert whole.eight_bit
    assert not took(b"green\r\n.\r\n").eight_bit


def test_row_52_nul_is_kept() -> None:
    """Content is not cut at a NUL."""
    assert took(b"a\0b\r\n.\r\n").content == b"a\0b\r\n"


def test_the_first_bare_line_end_is_named() -> None:
    """The fault names the line, counted from 1, over reads and stuffed dots."""
    assert took(b"a\nb\r\n.\r\n").line == 1
    assert took(b"\n.\r\n").line == 1
    assert took(b"a\r\n..b\r\nc\rd\r\n\n.\r\n").line == 3
    assert Took([b"a\r\n", b"b\r\nc", b"c\r\nd\n", b"\r\n\r.\r\n"]).line == 4

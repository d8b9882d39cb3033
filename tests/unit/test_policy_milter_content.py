"""Head and body as a milter is told them, and what it gives back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mta.policy.milter.content import chunks, fields_and_rest
from mta.policy.milter.opinion import canonical
from mta.policy.milter.session import CHUNK

LINES = st.lists(
    st.sampled_from([b"A: 1", b"B:2", b"C : 3", b" fold", b"\tfold", b"none", b": none", b"D:\r4", b"E:\n5", b""]),
    max_size=6,
)


def test_fields() -> None:
    """Names are as they are written, values all that follows the colon, with folds."""
    head = b"Subject: a\r\n b\r\nX-EMPTY:\r\nTo :c\r\n"
    assert fields_and_rest(head) == ([(b"Subject", b" a\r\n b"), (b"X-EMPTY", b""), (b"To", b"c")], b"")


@given(LINES)
def test_no_octet_of_a_head_is_hidden(lines: list[bytes]) -> None:
    """Fields and rest together are the head, whatever lines it has; only blanks in front of a colon are left out."""
    head = b"".join(line + b"\r\n" for line in lines)
    told, rest = fields_and_rest(head)
    whole = b"".join(name + b":" + value + b"\r\n" for name, value in told) + rest.removesuffix(b"\r\n")
    assert whole.replace(b" :", b":") == head.replace(b" :", b":")


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(0, 300))
def test_pieces_are_cut_at_the_maximum(pieces: list[bytes], maximum: int) -> None:
    """The first octets come out, as many as are wanted, in their order."""
    assert b"".join(chunks(pieces, maximum)) == b"".join(pieces)[:maximum]


def test_no_more_is_read_than_is_told() -> None:
    """Behind the maximum nothing is taken from the disk."""
    pieces = iter([b"x" * 10] * 5)
    assert list(chunks(pieces, 20)) == [b"x" * 20]
    assert len(list(pieces)) == 3


def test_pieces_have_one_size() -> None:
    """Small and large pieces become pieces of the size that filters take."""
    for size in (1000, 65536, 200_000):
        octets = bytes(200_000)
        found = [len(chunk) for chunk in chunks([octets[at : at + size] for at in range(0, 200_000, size)], 200_000)]
        assert found == [CHUNK] * 3 + [200_000 - 3 * CHUNK]


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a"]), max_size=12))
def test_another_body_has_whole_lines(parts: list[bytes]) -> None:
    """Whatever line ends a filter writes, each becomes CRLF, the last line has its own, and no text is lost."""
    body = b"".join(parts)
    found = canonical(body)
    assert found.count(b"\r") == found.count(b"\n") == found.count(b"\r\n")
    assert not found or found.endswith(b"\r\n")
    assert found.split() == body.split()
    assert canonical(found) == found
    lines = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert found == (lines + (b"" if not lines or lines.endswith(b"\n") else b"\n")).replace(b"\n", b"\r\n")

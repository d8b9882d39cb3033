from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.maildir.content import with_local_line_ends


@settings(max_examples=300)
@given(st.lists(st.text("\r\na", max_size=6)))
def test_chunks_do_not_matter(texts: list[str]) -> None:
    """However the content is cut, it is stored with LF for each CRLF and nothing else changed."""
    chunks = [text.encode() for text in texts]
    assert b"".join(with_local_line_ends(chunks)) == b"".join(chunks).replace(b"\r\n", b"\n")


@pytest.mark.parametrize("place", range(9))
def test_a_line_end_may_be_split_at_every_place(place: int) -> None:
    """A cut between CR and LF loses and adds nothing."""
    content = b"a\r\n\r\nb\r\n"
    assert b"".join(with_local_line_ends([content[:place], content[place:]])) == b"a\n\nb\n"


def test_octet_by_octet() -> None:
    """Content in chunks of one octet is stored the same."""
    assert b"".join(with_local_line_ends([b"a", b"\r", b"\n", b"\r", b"\n"])) == b"a\n\n"


def test_nothing_is_lost_at_the_end() -> None:
    """A CR that no LF follows is kept, also as the last octet."""
    assert b"".join(with_local_line_ends([b"a\r"])) == b"a\r"


def test_nul_and_eight_bit_octets_are_kept() -> None:
    """Row 52: content is not cut at a NUL, nor decoded."""
    assert list(with_local_line_ends([b"\0\xff\x85\r\n"])) == [b"\0\xff\x85\n"]

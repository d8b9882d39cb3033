"""Reading the message from standard input."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.sendmail import content
from mta.sendmail.content import canonical, read_message
from mta.sendmail.exits import EX_DATAERR, Ended
from mta.smtp.writer import check


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"a\n.\nb\n", b"a\n"),
        (b"a\r\n.\r\nb", b"a\r\n"),
        (b".\nb", b""),
        (b"a\n.", b"a\n"),
        (b".", b""),
        (b"a\n..\n.b\n", b"a\n..\n.b\n"),
        (b"a.\nb", b"a.\nb"),
        (b"", b""),
    ],
)
def test_a_dot_alone_ends_the_message(text: bytes, kept: bytes) -> None:
    """Without -i a line with a dot alone is the end; with it every octet is content."""
    assert read_message(io.BytesIO(text), dot_is_data=False) == kept
    assert read_message(io.BytesIO(text), dot_is_data=True) == text


@given(st.text("a.\n\r", max_size=30), st.integers(1, 5))
def test_chunks_do_not_matter(text: str, size: int) -> None:
    """However the octets come, the message is the same."""
    octets = text.encode()

    class Slow(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            return super().read(size)

    assert read_message(Slow(octets), False) == read_message(io.BytesIO(octets), False)


def test_a_message_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger than any server takes is refused while it comes."""
    monkeypatch.setattr(content, "MESSAGE_MAXIMUM", 10)
    with pytest.raises(Ended, match="more than 10 octets") as ended:
        read_message(io.BytesIO(b"x" * 11), True)
    assert ended.value.status == EX_DATAERR


@given(st.text("ab.\n\r", max_size=40))
def test_line_ends_become_crlf(text: str) -> None:
    """Whatever the line ends were, the result has CRLF alone, and the same lines."""
    octets = text.encode()
    made = canonical(octets)
    check(made)
    assert made.replace(b"\r\n", b"") == octets.replace(b"\r", b"").replace(b"\n", b"")
    assert canonical(made) == made
    if b"\r" not in octets:
        assert made.split(b"\r\n") == octets.split(b"\n")

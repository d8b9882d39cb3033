"""Content as it goes over the wire after 354: dot-stuffed, ended, only CRLF at line ends (RFC 5321 §4.5.2).

Law: our client never writes a bare CR or LF in DATA. Content that holds one is refused with `BareLineEnd`; it is not
repaired, because what a repair gives is another message. Content of one chunk is refused before an octet of it leaves.
Larger content is looked through chunk by chunk as it leaves, and comes so from where it is kept, for 50 MB in one go
would stop the reactor and fill the memory: a chunk with a bare CR or LF does not leave, nor does anything after it, so
the end of data never comes and the message is nowhere taken. A final line without CRLF is ended, which RFC 5321
§4.1.1.4 asks of the sender.

Knowingly not here: 8-bit and long lines, which go out as they are (what the peer can take is checked before).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

CHUNK = 65536
"""Octets of content that are stuffed and handed to the transport at a time."""


class BareLineEnd(ValueError):
    """The content holds a CR or LF outside of CRLF; becomes the outcome 5.6.11."""

    def __init__(self) -> None:
        super().__init__("the content holds a CR or LF outside of CRLF, which must not be sent")


def check(content: bytes) -> None:
    """Raise `BareLineEnd` unless each CR and each LF of `content` is part of a CRLF."""
    lines = content.count(b"\r\n")
    if content.count(b"\n") != lines or content.count(b"\r") != lines:
        raise BareLineEnd


class DotStuffer:
    """Stuffs content that comes in chunks, cut anywhere. A CR at the end of a chunk waits for its LF."""

    def __init__(self) -> None:
        self._line_start = True
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what may go out. Raises `BareLineEnd`."""
        if self._held:
            chunk = self._held + chunk
            self._held = b""
        if chunk.endswith(b"\r"):
            self._held = b"\r"
            chunk = chunk[:-1]
        if not chunk:
            return b""
        check(chunk)
        stuffed = chunk.replace(b"\r\n.", b"\r\n..")
        if self._line_start and chunk.startswith(b"."):
            stuffed = b"." + stuffed
        self._line_start = chunk.endswith(b"\r\n")
        return stuffed

    def finish(self) -> bytes:
        """Return the end of data, after a CRLF where the last line lacks it. Raises `BareLineEnd`."""
        if self._held:
            raise BareLineEnd
        return b".\r\n" if self._line_start else b"\r\n.\r\n"


def stuff(content: bytes) -> bytes:
    """Return the whole of `content` as it goes over the wire, with its end. Raises `BareLineEnd`."""
    stuffer = DotStuffer()
    return stuffer.feed(content) + stuffer.finish()


class Stuffed:
    """Content on its way out: iterate over it for the wire's octets, as often as there are hosts to try.

    It is given in memory, or in pieces that can be asked for so often too; then one of them is held at a time.

    Raises `BareLineEnd` when made, or, where it is larger than a chunk or in pieces, in the midst of iterating: then
    what was given out so far must not be ended. What asking for a piece raises comes out in the same way.
    """

    def __init__(self, content: bytes | Iterable[bytes], chunk: int = CHUNK) -> None:
        self._content = content
        self._chunk = chunk
        self._whole = stuff(content) if isinstance(content, bytes) and len(content) <= chunk else None

    def __iter__(self) -> Iterator[bytes]:
        if self._whole is not None:
            yield self._whole
            return
        stuffer = DotStuffer()
        for piece in self._pieces():
            if octets := stuffer.feed(piece):
                yield octets
        yield stuffer.finish()

    def _pieces(self) -> Iterable[bytes]:
        content, chunk = self._content, self._chunk
        if isinstance(content, bytes):
            return (content[start : start + chunk] for start in range(0, len(content), chunk))
        return content

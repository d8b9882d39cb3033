"""The readers of a server: octets in, command lines or content out (RFC 5321 §2.3.8, §4.1.1.4).

Both hold what a peer has sent and they cannot give out yet: `LineReader` at most one line beside what was pipelined,
`DataReader` four octets. `DataReader` never works line by line: `find` and `replace` go over whole reads.
What either gives does not depend on how the octets were cut into reads (but which of two faults in a message is told).
"""

from __future__ import annotations

import enum
import re


class LineFault(enum.Enum):
    """Why something is no command line."""

    TOO_LONG = "too long"
    BARE_LF = "ended by LF alone"


class LineReader:
    """Cuts command lines out of a stream. Only CRLF ends one.

    A line that is too long is told once, as soon as its limit is passed, and dropped up to its CRLF while it comes.
    At a bare LF all that was received is dropped: what comes behind it cannot be trusted to be in step.
    """

    __slots__ = ("_buffer", "_discarding", "_position", "_tail", "head")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self._discarding = False
        self._tail = b""
        self.head = b""
        """The first 16 octets of the last line that was at fault."""

    def __len__(self) -> int:
        return len(self._buffer) - self._position

    def receive(self, octets: bytes) -> None:
        """Take octets from the transport."""
        if self._discarding:
            octets = self._discard(octets)
        if self._buffer:
            octets = self._buffer[self._position :] + octets
        self._buffer = octets
        self._position = 0

    def next_line(self, limit: int) -> bytes | LineFault | None:
        """Return the next line without its CRLF, None if it has not come whole.

        `limit` is the longest line in octets, with CRLF.
        """
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\n", start, start + limit)
        if end > start and buffer[end - 1] == 13:
            if end + 1 == len(buffer):
                self._buffer = b""
                self._position = 0
            else:
                self._position = end + 1
            return buffer[start : end - 1]
        if end < 0 and len(buffer) - start < limit:
            return None
        self.head = buffer[start : start + 16]
        if end < 0:
            rest = self.take()
            self._discarding = True
            self._buffer = self._discard(rest)
            return LineFault.TOO_LONG
        self.take()
        return LineFault.BARE_LF

    def take(self) -> bytes:
        """Return all that was received and not given out; it is no longer held."""
        rest = self._buffer[self._position :]
        self._buffer = b""
        self._position = 0
        return rest

    def forget(self) -> None:
        """Drop everything that was received, and the memory of a line under way."""
        self.take()
        self._discarding = False
        self._tail = b""

    def _discard(self, octets: bytes) -> bytes:
        octets = self._tail + octets
        end = octets.find(b"\r\n")
        if end < 0:
            self._tail = b"\r" if octets.endswith(b"\r") else b""
            return b""
        self._discarding = False
        self._tail = b""
        return octets[end + 2 :]


class ContentFault(enum.Enum):
    """Why content cannot be taken."""

    TOO_LARGE = "larger than the limit"
    BARE_CR = "CR without LF"
    BARE_LF = "LF without CR"


_END = b"\r\n.\r\n"
_BEGINNINGS_OF_END = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class DataReader:
    r"""Takes the data phase of one message, gives its content dot-unstuffed (RFC 5321 §4.5.2).

    Only ``CRLF . CRLF`` ends it. The phase is never left before: after a fault nothing is given out, all is counted,
    and the true end is waited for. With `lenient` a bare CR or LF becomes CRLF in what is given out; it still neither
    ends the data nor begins a line that a dot could be removed from.

    How it works. What is held between reads is the longest end of the stream that may be the beginning of
    ``\r\n.\r\n``; at first that is a CRLF which nobody sent, because the first line begins like any other. So no
    CRLF and no stuffed dot is ever cut in two, and each piece can be searched and replaced by itself: it has a bare
    CR or LF exactly if one is left when its CRLFs are taken out.
    """

    __slots__ = ("_held", "_lenient", "_limit", "_lines", "_unsent", "eight_bit", "ended", "fault", "rest", "size")

    def __init__(self, limit: int, lenient: bool) -> None:
        self._limit = limit
        self._lenient = lenient
        self._held = b"\r\n"
        self._unsent = 2
        self._lines = 0
        self.size = 0
        """Octets of content so far, as SIZE counts them (RFC 1870 §3): without stuffed dots and the end."""
        self.eight_bit = False
        self.ended = False
        self.rest = b""
        """What came behind the end; the next command, as a rule."""
        self.fault: ContentFault | None = None

    @property
    def line(self) -> int:
        """The number, from 1, of the line that the fault is in."""
        return self._lines  # counted by their beginnings, so the CRLF that nobody sent is the first

    def receive(self, octets: bytes) -> bytes:
        """Take octets, return the content they complete, which may be none. Not to be called once `ended`."""
        octets = self._held + octets
        end = octets.find(_END)
        if end >= 0:
            self.ended = True
            self._held = b""
            self.rest = octets[end + 5 :]
            octets = octets[: end + 2]
        else:
            self._held = next((held for held in _BEGINNINGS_OF_END if octets.endswith(held)), b"")
            if self._held:
                octets = octets[: -len(self._held)]
        if not octets:
            return b""
        content = octets.replace(b"\r\n.", b"\r\n")
        without = content.replace(b"\r\n", b"")
        lines = (len(content) - len(without)) >> 1
        if b"\n" in without or b"\r" in without:
            content = self._bare(content)
        if self._unsent:
            content = content[self._unsent :]
            self._unsent = 0
        self.size += len(content)
        if self.fault is not None:
            return b""
        self._lines += lines
        if self.size > self._limit:
            self.fault = ContentFault.TOO_LARGE
            return b""
        if not content.isascii():
            self.eight_bit = True
        return content

    def _bare(self, content: bytes) -> bytes:
        if self._lenient:
            return _BARE.sub(b"\r\n", content)
        if self.fault is None:
            found = _BARE.search(content)
            assert found is not None
            self.fault = ContentFault.BARE_CR if found[0] == b"\r" else ContentFault.BARE_LF
            self._lines += content.count(b"\r\n", 0, found.start())
        return content

"""Replies as a server sends them (RFC 5321 §4.2), read within bounds.

::

    Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
    Reply-code = %x32-35 %x30-35 %x30-39

Read more widely: any second digit, and any octet but LF in the text (Latin-1 and UTF-8 texts are common; what prints
them makes them harmless). Read strictly: CRLF ends a line, LF alone does not, and all lines of one reply carry one
code (§4.2.1). What cannot be a reply is a `ReplyFault`; after it nothing more is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.smtp.status import Status

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_EXCERPT = 80


def harmless(octets: bytes) -> str:
    r"""Return octets of a peer as text: UTF-8 where it is, ``\xNN`` where it is not, and escapes for all controls.

    That covers the line and directional controls of Unicode (U+2028, U+202E) too.
    """
    text = octets.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


@dataclass(frozen=True, slots=True)
class ServerReply:
    """One reply of a server: its code, and the text of its lines as octets."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def positive(self) -> bool:
        """Whether the command was carried out (2xx)."""
        return self.code < 300

    @property
    def intermediate(self) -> bool:
        """Whether the server waits for more (3xx)."""
        return 300 <= self.code < 400

    @property
    def transient(self) -> bool:
        """Whether the same command may succeed later (4xx)."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """Whether the same command will fail again (5xx)."""
        return self.code >= 500

    @property
    def status(self) -> Status:
        """The enhanced status of the first line, or X.0.0 by the code where there is none of the code's class."""
        class_ = self.code // 100
        found = Status.parse(self.lines[0])
        return found if found and found.class_ == class_ else Status(class_, 0, 0)

    def text(self, maximum: int = 500) -> str:
        """The reply as it came, lines joined with spaces, made harmless; at most `maximum` octets of it are read."""
        whole = b"%d %s" % (self.code, b" ".join(self.lines))
        return harmless(whole[:maximum])

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True, slots=True)
class ReplyFault:
    """What came is no reply, or more of one than we read."""

    text: str


@dataclass(frozen=True, slots=True)
class ReplyLimits:
    """How much of one reply is read. RFC 5321 §4.5.3.1.5 gives a line 512 octets; servers in use exceed it."""

    line: int = 2048
    """Octets of one line, with its CRLF (as Postfix: line_length_limit)."""
    lines: int = 200
    """Lines of one reply."""


class ReplyReader:
    """Collects octets and gives replies in order; holds one read beyond a reply of full size at most."""

    def __init__(self, limits: ReplyLimits) -> None:
        self._limits = limits
        self._buffer = b""
        self._start = 0
        self._searched = 0
        self._lines: list[bytes] = []
        self._code = b""
        self._fault: ReplyFault | None = None

    @property
    def pending(self) -> bool:
        """Whether octets are here that belong to no reply given out yet."""
        return self._start < len(self._buffer) or bool(self._lines)

    def receive(self, octets: bytes) -> None:
        """Take what came from the server."""
        self._searched -= self._start
        self._buffer = self._buffer[self._start :] + octets
        self._start = 0

    def next_reply(self) -> ServerReply | ReplyFault | None:
        """Return the next whole reply, what is wrong with what came, or None where more octets are needed."""
        while self._fault is None:
            end = self._buffer.find(b"\n", self._searched) + 1
            if not end:
                self._searched = len(self._buffer)
                if self._searched - self._start < self._limits.line:
                    return None
                self._fail("a reply line is too long", self._buffer[self._start :])
                break
            line = self._buffer[self._start : end]
            self._start = self._searched = end
            if (reply := self._take(line)) is not None:
                return reply
        return self._fault

    def _take(self, line: bytes) -> ServerReply | None:
        if len(line) > self._limits.line:
            self._fail("a reply line is too long", line)
        elif not line.endswith(b"\r\n"):
            self._fail("a reply line ends without CRLF", line)
        elif (found := _LINE.fullmatch(line, 0, len(line) - 2)) is None:
            self._fail("not a reply", line)
        elif self._code not in (b"", found[1]):
            self._fail("the lines of one reply differ in code", line)
        elif len(self._lines) == self._limits.lines:
            self._fail("a reply has too many lines", line)
        else:
            self._lines.append(found[3] or b"")
            self._code = found[1]
            if found[2] != b"-":
                reply = ServerReply(int(self._code), tuple(self._lines))
                self._lines, self._code = [], b""
                return reply
        return None

    def _fail(self, what: str, octets: bytes) -> None:
        self._fault = ReplyFault(f"{what}: {harmless(octets[:_EXCERPT])!r}")

"""The heads of all MIME parts of a message (RFC 2045, 2046), found while its body comes in pieces; pure.

No tree is made. Each line that is a delimiter of a boundary declared so far begins the head of a part, however deep it
is, and whether or not the multipart it belongs to has ended: what one reader takes for a part and another for an
epilogue is found in any case. So neither depth nor order costs anything: time is linear in the message, and memory is
one piece, one head and the boundaries.

=======  ===================================================================  =========================================
state    what comes                                                           then
=======  ===================================================================  =========================================
head     an empty line                                                        the head is given; ``body``, or ``head``
                                                                              again for the message inside message/…
head     `HEAD_MAXIMUM` octets, and all of it fields                          `MimeParts.fault`; ``body``
head     `HEAD_MAXIMUM` octets with lines that are none                       it is given; ``body``
body     CRLF "--" boundary, blanks, CRLF                                     ``head``
body     anything else, close delimiters too                                  ``body``
any      the head of part `PARTS_MAXIMUM` + 1                                 `MimeParts.fault`; nothing more is found
=======  ===================================================================  =========================================

Every boundary counts that some Content-Type declares, also one that is said twice or where the type is no multipart.

Knowingly not read: parts inside a part with a Content-Transfer-Encoding (RFC 2046 §5.1 forbids one for composite
types), uuencoded text, winmail.dat, archives.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from mta.message.file_name import boundaries
from mta.message.header import fields, values

PARTS_MAXIMUM = 10_000
"""Parts of one message; large real ones have some hundreds."""
HEAD_MAXIMUM = 256 * 1024
"""Octets of the head of a part (that of the message itself was bounded by whoever read it)."""
LINE_MAXIMUM = 512
"""Octets of a delimiter line: a boundary has at most 70 (RFC 2046 §5.1.1)."""

_MESSAGE = re.compile(rb"[ \t]*message/", re.IGNORECASE)


class _State(Enum):
    HEAD = auto()
    BODY = auto()
    ENDED = auto()


class MimeParts:
    """Finds heads: `begin` once, `feed` each piece, `finish` at the end; each gives the heads that are whole then."""

    def __init__(self) -> None:
        self.fault = ""
        """Why not everything could be read; empty: it could."""
        self.parts = 0
        self._state = _State.BODY
        self._boundaries: set[bytes] = set()
        self._buffer = bytearray()
        self._searched = 0
        """How much of the buffer holds no end of a head."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will be found, whatever comes."""
        return self._state is _State.ENDED

    def begin(self, head: bytes) -> list[bytes]:
        """Take the head of the message; its body comes next."""
        # An empty line stands before the body, and the body may begin with a delimiter
        self._buffer += b"\r\n"
        return self._took(bytes(head))

    def feed(self, piece: bytes) -> list[bytes]:
        """Take octets of the body."""
        self._buffer += piece
        return self._go_on(at_end=False)

    def finish(self) -> list[bytes]:
        """The body is over: a head that has not ended ends here."""
        self._buffer += b"\r\n"
        heads = self._go_on(at_end=True)
        self._end()
        return heads

    def _go_on(self, at_end: bool) -> list[bytes]:
        heads: list[bytes] = []
        while self._state is not _State.ENDED:
            if self._state is _State.BODY:
                if not self._pass_delimiter(at_end):
                    break
            else:
                head = self._take_head(at_end)
                if head is None:
                    break
                heads += self._took(head)
        return heads

    def _pass_delimiter(self, at_end: bool) -> bool:
        """Pass the next delimiter line; False: there is none in the buffer, which then keeps a possible beginning."""
        buffer, at = self._buffer, 0
        while True:
            at = buffer.find(b"\r\n--", at)
            if at < 0:
                del buffer[: max(0, len(buffer) - 3)]
                return False
            end = buffer.find(b"\r\n", at + 4, at + 4 + LINE_MAXIMUM)
            if end >= 0:
                if bytes(buffer[at + 4 : end]).rstrip(b" \t") in self._boundaries:
                    del buffer[: end + 2]
                    self._state = _State.HEAD
                    self._searched = 0
                    return True
                at = end
            elif at_end or len(buffer) - at >= 4 + LINE_MAXIMUM:
                at += 4
            else:
                del buffer[:at]
                return False

    def _take_head(self, at_end: bool) -> bytes | None:
        """Take a head that is whole, or too long, from the buffer; None: it goes on."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            return b""
        end = buffer.find(b"\r\n\r\n", self._searched, HEAD_MAXIMUM + 2)
        if end < 0 and len(buffer) < HEAD_MAXIMUM + 2:
            if not at_end:
                self._searched = max(0, len(buffer) - 3)
                return None
            end = len(buffer) - 2
        # The CRLF of the empty line stays, as a delimiter may follow it
        head = bytes(buffer[: HEAD_MAXIMUM if end < 0 else end + 2])
        del buffer[: len(head)]
        if end < 0 and all(each.name for each in fields(head)):
            self.fault = f"a part has a header of more than {HEAD_MAXIMUM} octets"
        return head

    def _took(self, head: bytes) -> list[bytes]:
        """Go on behind a head."""
        self.parts += 1
        if self.parts > PARTS_MAXIMUM:
            self.fault = f"more than {PARTS_MAXIMUM} parts"
            self._end()
            return []
        types = values(head, b"content-type")
        for value in types:
            self._boundaries.update(each for each in boundaries(value) if len(each) <= LINE_MAXIMUM)
        self._state = _State.BODY
        if any(_MESSAGE.match(value) for value in types):
            # A message inside: its head begins behind the empty line
            del self._buffer[:2]
            self._state = _State.HEAD
            self._searched = 0
        return [head]

    def _end(self) -> None:
        self._state = _State.ENDED
        self._buffer.clear()

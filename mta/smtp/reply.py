"""SMTP replies (RFC 5321 §4.2): code, enhanced status (RFC 2034) and text, rendered once.

A `Reply` is a value: those that never vary are module constants of whoever sends them and cost nothing to send
again. Only printable octets leave: whatever a peer or a file put into a text is made harmless in `render`.

Knowingly not here: parsing of replies, which is the client's (`mta.smtp.reply_reader`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mta.smtp.grammar import UTF8_NON_ASCII
from mta.smtp.status import Status

# RFC 5321 §4.5.3.1.5: a reply line is at most 512 octets with code and CRLF
_LINE_MAXIMUM = 512 - len("250-2.1.5 \r\n") - 4
# RFC 5321 §4.2: textstring = 1*(%d09 / %d32-126)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
# RFC 6531 §3.7.4 with SMTPUTF8 negotiated: U+0080 and up may stand too, controls never
_CONTROL = re.compile(f"[^\x20-\x7e{UTF8_NON_ASCII}]")


def printable(text: str, utf8: bool = False) -> str:
    """Return `text` with every octet that may not stand in a reply replaced by ``?``."""
    return (_CONTROL if utf8 else _UNPRINTABLE).sub("?", text)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server says to one command.

    `status` is None only where RFC 2034 §4 forbids or does not know one: greeting, EHLO/HELO, 354, 334.
    """

    code: int
    status: Status | None
    lines: tuple[str, ...]
    wire: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wire", self._render())

    def _render(self) -> bytes:
        prefix = f"{self.status} " if self.status else ""
        out = []
        last = len(self.lines) - 1
        for number, line in enumerate(self.lines):
            text = printable(line)[:_LINE_MAXIMUM]
            out.append(f"{self.code}{' ' if number == last else '-'}{prefix}{text}\r\n")
        return "".join(out).encode("ascii")

    @property
    def positive(self) -> bool:
        """Whether the command was carried out (2xx) or waits for more (3xx)."""
        return self.code < 400

    @property
    def transient(self) -> bool:
        """Whether the same command may succeed later (4xx)."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """Whether the same command will fail again (5xx)."""
        return self.code >= 500

    @property
    def closing(self) -> bool:
        """Whether the server closes the channel after it (RFC 5321 §3.8: 221 and 421)."""
        return self.code in (221, 421)

    @property
    def text(self) -> str:
        """The text of all lines, joined with spaces."""
        return " ".join(self.lines)

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}" if self.status else f"{self.code} {self.text}"


def reply(code: int, status: Status | None, *lines: str) -> Reply:
    """Make a reply of one or more lines."""
    return Reply(code, status, lines)

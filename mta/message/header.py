r"""The head of a message: where it ends, and its fields, one after the other (RFC 5322 §2.1, §2.2).

Content is looked through only as far as the head goes. What counts as what:

==============================  =====================================================================================
content                         head
==============================  =====================================================================================
``fields CRLF body``            the fields, each with its CRLF, without the empty line
``fields``, no empty line       all of it
``CRLF body``                   empty: the empty line is there, and there is no field before it
nothing                         empty
first line is no field          empty, all of it is body; `Head.separator` must stand between it and what is prepended
a later line is no field        it stays in the head, as a `Field` without a name: nothing behind it escapes the eye
==============================  =====================================================================================

A field is ``1*ftext *WSP ":"`` (ftext is %d33-57 / %d59-126; the white space is RFC 5322 §4.5's) and reaches to the
first CRLF that no SP or HTAB follows. Only CRLF ends a line; a bare CR or LF is an octet like any other.

All of it takes time linear in the head, whatever the head is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mta.smtp.address import Mailbox

HEAD_MAXIMUM = 1 << 20
"""Octets of the longest head that `find_head` reads (RFC 5322 sets no limit; large real ones have 100 KiB)."""

LINE_WANTED = 78
"""Characters of a line without CRLF that RFC 5322 §2.1.1 wants; 998 is what it demands."""

_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")
_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_RECEIVED = re.compile(rb"\r\nreceived[ \t]*:")
_RETURN_PATH = re.compile(rb"\r\nreturn-path[ \t]*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Head:
    """The head as found in content."""

    octets: bytes
    separator: bytes = b""
    """Goes between prepended fields and the content: CRLF if the content begins with a line that is no field."""
    whole: bool = True
    """False: the head is longer than was allowed, and `octets` is only its beginning. Becomes 552 5.3.4."""


def find_head(content: bytes, maximum: int = HEAD_MAXIMUM) -> Head:
    """Find the head of `content`; looks no further than its end or `maximum` octets, and copies nothing else."""
    if content.startswith(b"\r\n"):
        return Head(b"")
    at = content.find(b"\r\n\r\n", 0, maximum + 2)
    end = at + 2 if at >= 0 else len(content)
    octets = content[: min(end, maximum)]
    if octets and not _NAME.match(octets):
        return Head(b"", b"\r\n")
    return Head(octets, b"", whole=end <= maximum)


@dataclass(frozen=True, slots=True)
class Field:
    """One field, or one line that is none (its name is empty)."""

    name: bytes
    """In lower case, without white space."""
    raw: bytes
    """All its octets, with folds and the CRLF at the end."""

    @property
    def value(self) -> bytes:
        """What follows the colon: unfolded (RFC 5322 §2.2.3), without white space at its ends."""
        return _unfolded(self.raw.partition(b":")[2])


def fields(head: bytes) -> Iterator[Field]:
    """Iterate the fields of a head in order; their `raw` octets joined are the head, whatever octets it holds."""
    start = 0
    while start < len(head):
        found = _NAME.match(head, start)
        end = _end(head, start)
        yield Field(found[1].lower() if found else b"", head[start:end])
        start = end


def values(head: bytes, name: bytes) -> list[bytes]:
    """Return the `Field.value` of each field called `name` (lower case), without looking at the others."""
    head = b"\r\n" + head
    if b"\r\n" + name not in head.lower():  # most often, and found out in a tenth of the time
        return []
    return [_unfolded(head[found.end() : _end(head, found.end())]) for found in _named(name).finditer(head)]


def received_count(head: bytes) -> int:
    """Count the Received fields, for the loop rule (RFC 5321 §6.3)."""
    return len(_RECEIVED.findall(b"\r\n" + head.lower()))


def been_in(head: bytes) -> frozenset[str]:
    """Return the mailboxes, in lower case, that the Delivered-To fields of a head name: those that it was in before."""
    return frozenset(value.decode("utf-8", "replace").lower() for value in values(head, b"delivered-to"))


def delivered_before(head: bytes, mailbox: Mailbox) -> bool:
    """Whether a Delivered-To of this mailbox is there already: the message goes in a circle. Case does not count."""
    return str(mailbox).lower() in been_in(head)


def without_return_path(head: bytes) -> bytes:
    """Return a head without the Return-Path fields of others (RFC 5321 §4.4), for final delivery.

    A head without one, the common case, comes back as it is.
    """
    if not _RETURN_PATH.search(b"\r\n" + head):
        return head
    return b"".join(each.raw for each in fields(head) if each.name != b"return-path")


def folded(words: Iterable[str]) -> str:
    """Join words with spaces into one field, folded before a word that would make a line longer than 78 characters.

    A word is never split: words of at most 900 characters keep every line below the 998 of RFC 5322 §2.1.1.
    """
    lines = []
    line = ""
    for word in words:
        if not line:
            line = word
        elif len(line) + 1 + len(word) <= LINE_WANTED:
            line = f"{line} {word}"
        else:
            lines.append(line)
            line = "\t" + word
    return "\r\n".join([*lines, line])


@functools.lru_cache(maxsize=64)
def _named(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\r\n" + re.escape(name) + rb"[ \t]*:", re.IGNORECASE)


def _end(head: bytes, start: int) -> int:
    """Return where the field that begins before or at `start` ends."""
    found = _FIELD_END.search(head, start)
    return found.end() if found else len(head)


def _unfolded(value: bytes) -> bytes:
    return value.replace(b"\r\n", b"").strip(b" \t")

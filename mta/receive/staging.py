"""The content of one message while it comes: in memory, past a bound in a file.

What goes in front of a message, and what is changed in its head, may be known only when all of it has come and was
checked. So the head stays in memory and the rest, where it is large, goes into a file that never has to be copied.
`judge` is asked once, when the head is complete or has to be (at the bound, or at the end); where it refuses, the rest
is only counted. A file in staging is nobody's promise: a crash leaves it behind, a start removes it.

Each piece must find room beside the reserve of the volume (`Space`), however many messages come at once and whatever
was declared for them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from mta.disk.port import Disk, File
from mta.mail.reason import Reason
from mta.message.header import Head, find_head
from mta.policy.facts import PIECE, in_pieces
from mta.spool.port import StagedContent

MEMORY_MAXIMUM = 256 * 1024
"""Octets of one message kept in memory; also the largest head of a message (robustness row 54). More goes to a file.

What goes into one Maildir from memory is never in the queue, so this is not the spool's `inline_maximum`, which bounds
a row of its database and what the relay keeps."""


class Space(Protocol):
    """The room on the volume that takes what is staged; see `mta.spool.reserve.Reserve`."""

    def low(self, octets: int = 0) -> Reason | None:
        """Return why there is no room for `octets` more; None where there is."""
        ...

    def hold(self, octets: int) -> None:
        """Count octets in memory that are to be written; a negative number takes them off again."""
        ...

    def wrote(self, octets: int) -> None:
        """Count octets that were written, or are about to be."""
        ...


@dataclass(frozen=True, slots=True)
class Staged:
    """A message that has come: its head, and the rest of it in memory or in a file."""

    head: Head
    rest: bytes | StagedContent
    """The empty line and the body; or the body alone, where `Head.separator` is not empty."""

    def content(self, prefix: bytes = b"", fields: bytes | None = None) -> bytes | StagedContent:
        """Return the message with `prefix` in front, and `fields` instead of those that came."""
        head = prefix + (self.head.octets if fields is None else fields) + self.head.separator
        if isinstance(self.rest, StagedContent):
            return replace(self.rest, head=head)
        return head + self.rest

    def body(self, disk: Disk, size: int) -> StagedBody:
        """Return the body, for those who look at it; `size` is that of the whole message as it came."""
        skipped = 0 if self.head.separator or size == len(self.head.octets) else 2
        return StagedBody(disk, self.rest, skipped, size - len(self.head.octets) - skipped)


@dataclass(frozen=True, slots=True)
class StagedBody:
    """The octets behind the empty line (`mta.policy.facts.Body`)."""

    disk: Disk
    rest: bytes | StagedContent
    skipped: int
    size: int

    def pieces(self) -> Iterator[bytes]:
        """Give the octets in pieces of at most 64 KiB; those of a file are read from the disk."""
        if isinstance(self.rest, bytes):
            yield from in_pieces(self.rest, self.skipped)
            return
        skipped = self.skipped
        for piece in self.disk.read_pieces(self.rest.path, PIECE):
            yield piece[skipped:] if skipped else piece
            skipped = 0


class Staging:
    """Takes the content of one message. `path` names the file, if one is needed; `judge` says whether to go on.

    `judge` may set `observe`, which is then given the body, in order and in pieces of any size.
    """

    __slots__ = (
        "_disk",
        "_dropped",
        "_file",
        "_head",
        "_judge",
        "_memory",
        "_path",
        "_space",
        "failed",
        "observe",
        "size",
    )

    def __init__(self, disk: Disk, path: str, space: Space, judge: Callable[[Head], bool]) -> None:
        self._disk = disk
        self._path = path
        self._space = space
        self._judge = judge
        self._memory = bytearray()
        self._file: File | None = None
        self._head: Head | None = None
        self._dropped = False
        self.observe: Callable[[bytes], None] | None = None
        self.size = 0
        """Octets of content."""
        self.failed: OSError | None = None
        """Why the content could not be kept; the message is refused at its end (RFC 5321 §4.2.5: 451 or 452)."""

    def add(self, chunk: bytes) -> None:
        """Take octets. Never fails: what goes wrong is told at the end of the data, where a reply can say it."""
        self.size += len(chunk)
        if self._dropped:
            return
        try:
            low = self._space.low(len(chunk))
            if low is not None:
                raise OSError(errno.ENOSPC, str(low))
            if self._file is not None:
                self._write(self._file, chunk)
                if self.observe is not None:
                    self.observe(chunk)
                return
            self._memory += chunk
            self._space.hold(len(chunk))
            if len(self._memory) > MEMORY_MAXIMUM:
                self._spill()
        except OSError as error:
            self.failed = error
            self.drop()

    def _spill(self) -> None:
        divided = self._divide()
        if divided is None:
            return
        _, rest = divided
        self._file = self._disk.create(self._path)
        self._write(self._file, rest)

    def _divide(self) -> tuple[Head, bytes] | None:
        """Find the head of what is in memory and have it judged; None where it is refused."""
        whole = bytes(self._memory)
        head = self._head = find_head(whole, MEMORY_MAXIMUM)
        if not self._judge(head):
            self.drop()
            return None
        rest = whole[len(head.octets) :]
        self._forget_memory()
        self._space.wrote(len(head.octets))
        if self.observe is not None:
            for piece in in_pieces(rest, 0 if head.separator else 2):
                self.observe(piece)
        return head, rest

    def _write(self, file: File, octets: bytes) -> None:
        file.write(octets)
        self._space.wrote(len(octets))

    def finish(self) -> Staged | None:
        """End the content. None where nothing is kept: it failed, or `judge` refused it."""
        if self._file is not None:
            assert self._head is not None, "the head is found before a file is begun"
            return Staged(self._head, StagedContent(self._path, self._file))
        if self._dropped:
            return None
        divided = self._divide()
        if divided is None:
            return None
        self._space.wrote(len(divided[1]))
        return Staged(*divided)

    def drop(self) -> None:
        """Forget what came: the message is refused, or its peer is gone. Not to be called once it is committed."""
        self._dropped = True
        self._forget_memory()
        file, self._file = self._file, None
        if file is None:
            return
        file.close()
        try:
            self._disk.unlink(self._path)
        except OSError:  # it may be in the spool already, from where it is removed; else the next start removes it
            return

    def _forget_memory(self) -> None:
        self._space.hold(-len(self._memory))
        self._memory = bytearray()

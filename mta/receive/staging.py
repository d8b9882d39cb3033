"""The content of one message while it comes: in memory, past a bound in a file.

The trace fields are put in front before the first octet is written anywhere, so nothing is ever copied to make room
for them: `open` is asked once, when the head is complete or has to be (at the bound, or at the end), for the octets
to prepend, or for None where the message is refused; then the rest is only counted. A file in staging is nobody's
promise: a crash leaves it behind, a start removes it.

Each piece must find room beside the reserve of the volume (`Space`), however many messages come at once and whatever
was declared for them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol

from mta.disk.port import Disk, File
from mta.mail.reason import Reason
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


class Staging:
    """Takes the content of one message. `open(head)` gives what to prepend; `path` names the file, if one is needed."""

    __slots__ = ("_disk", "_dropped", "_file", "_memory", "_open", "_path", "_space", "failed", "prefix", "size")

    def __init__(self, disk: Disk, path: str, space: Space, open: Callable[[bytes], bytes | None]) -> None:
        self._disk = disk
        self._path = path
        self._space = space
        self._open = open
        self._memory = bytearray()
        self._file: File | None = None
        self._dropped = False
        self.prefix = b""
        """What was prepended; known after `finish`, or when the file was begun."""
        self.size = 0
        """Octets of content, without the prefix."""
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
                return
            self._memory += chunk
            self._space.hold(len(chunk))
            if len(self._memory) > MEMORY_MAXIMUM:
                self._spill()
        except OSError as error:
            self.failed = error
            self.drop()

    def _spill(self) -> None:
        whole = bytes(self._memory)
        prefix = self._open(whole)
        if prefix is None:
            self.drop()
            return
        self.prefix = prefix
        self._forget_memory()
        self._file = self._disk.create(self._path)
        self._write(self._file, prefix + whole)

    def _write(self, file: File, octets: bytes) -> None:
        file.write(octets)
        self._space.wrote(len(octets))

    def finish(self) -> bytes | StagedContent | None:
        """End the content: all octets, or the file that holds them, with the prefix in front.

        None where nothing is kept: it failed, or `open` refused it.
        """
        if self._file is not None:
            return StagedContent(self._path, self._file)
        if self._dropped:
            return None
        whole = bytes(self._memory)
        prefix = self._open(whole)
        if prefix is None:
            self.drop()
            return None
        self.prefix = prefix
        self._forget_memory()
        self._space.wrote(len(prefix) + len(whole))
        return prefix + whole

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

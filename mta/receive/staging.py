"""The content of one message while it comes: in memory, past a bound in a file.

The trace fields are put in front before the first octet is written anywhere, so nothing is ever copied to make room
for them: `open` is asked once, when the head is complete or has to be (at the bound, or at the end), for the octets
to prepend. A file in staging is nobody's promise: a crash leaves it behind, a start removes it.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.disk.port import Disk, File

MEMORY_MAXIMUM = 256 * 1024
"""Octets of one message kept in memory; also the largest head of a message (robustness row 54). More goes to a file."""


class Staging:
    """Takes the content of one message. `open(head)` gives what to prepend; `path` names the file, if one is needed."""

    __slots__ = ("_chunks", "_disk", "_file", "_held", "_open", "_path", "_spilled", "failed", "prefix", "size")

    def __init__(self, disk: Disk, path: str, open: Callable[[bytes], bytes]) -> None:
        self._disk = disk
        self._path = path
        self._open = open
        self._chunks: list[bytes] = []
        self._held = 0
        self._file: File | None = None
        self._spilled = False
        self.prefix = b""
        """What was prepended; known after `finish`, or when the file was begun."""
        self.size = 0
        """Octets of content, without the prefix."""
        self.failed: OSError | None = None
        """Why the file could not be written; the message is refused at its end (RFC 5321 §4.2.5: 451 or 452)."""

    def add(self, chunk: bytes) -> None:
        """Take octets. Never fails: what goes wrong is told at the end of the data, where a reply can say it."""
        self.size += len(chunk)
        if self.failed is not None:
            return
        try:
            if self._file is not None:
                self._file.write(chunk)
                return
            self._chunks.append(chunk)
            self._held += len(chunk)
            if self._held > MEMORY_MAXIMUM:
                self._spill()
        except OSError as error:
            self.failed = error
            self.drop()

    def _spill(self) -> None:
        whole = b"".join(self._chunks)
        self._chunks = []
        self.prefix = self._open(whole)
        self._file = self._disk.create(self._path)
        self._spilled = True
        self._file.write(self.prefix)
        self._file.write(whole)

    def finish(self) -> bytes | str | None:
        """End the content: octets with the prefix in front, or the path of the closed file that holds them.

        None where the file could not be written, for the reason in `failed`.
        """
        if self.failed is not None:
            return None
        if self._file is not None:
            self._file.close()
            self._file = None
            return self._path
        whole = b"".join(self._chunks)
        self._chunks = []
        self.prefix = self._open(whole)
        return self.prefix + whole

    def drop(self) -> None:
        """Forget what came: the message is refused, or its peer is gone. Once committed there is nothing to forget."""
        self._chunks = []
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._spilled:
            self._spilled = False
            try:
                self._disk.unlink(self._path)
            except OSError:  # the next start removes it
                return

"""Content files: what is too large to stand in the database.

A content file is ``content/<queue id>`` in the directory of its shard; where the message came in a file of staging, its
head stands in the database and the file holds the rest. It is there, content and name on stable storage,
before the row that speaks of it is committed, and is unlinked after the removal of that row is. So a crash leaves at
most a file without a row: of a message that was never acknowledged, or one that is done. `mta.spool.recovery` finds
those at the next start and sets them aside.

All methods block and belong on a thread; only `stored`, which looks at the file and reads nothing, is called from the
reactor.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable

from mta.disk.port import Disk
from mta.spool.port import StagedContent, StoredContent, SyncedContent

_PART = ".part"
"""Ends the name of a file that is being written: no queue id, so recovery knows it."""


class Contents:
    """The content files of the shard in directory `root`; `open` makes the directories."""

    def __init__(self, disk: Disk, root: str) -> None:
        self._disk = disk
        self._content = f"{root}/content"
        self._aside = f"{root}/aside"

    def open(self) -> None:
        """Make the directories, durably."""
        self._disk.make_directories(self._content)
        self._disk.make_directories(self._aside)

    def make_durable(self, queue_id: str, content: bytes | StagedContent) -> SyncedContent:
        """Sync content that waits to be taken; octets are written first. If it fails, `discard_waiting` it."""
        if isinstance(content, bytes):
            path = f"{self._content}/{queue_id}{_PART}"
            content = StagedContent(path, self._disk.write_new(path, [content]))
        return content.sync()

    def take(self, waiting: Iterable[tuple[int, str, SyncedContent]]) -> dict[int, OSError]:
        """Give contents their names: (number in the batch, queue id, content). One sync of the directory for all.

        Returns failures by number; of a number that failed nothing was taken. A name that is there already is the
        content of another message, and a failure. Raises OSError where the sync failed: none of them stands.
        """
        failed: dict[int, OSError] = {}
        taken: dict[int, list[str]] = {}
        for number, queue_id, content in waiting:
            if number in failed:
                continue
            try:
                self._take_one(content.path, self._path(queue_id))
            except OSError as error:
                failed[number] = error
                self.discard(taken.pop(number, ()))
            else:
                taken.setdefault(number, []).append(queue_id)
        self._disk.sync_directory(self._content)
        return failed

    def _take_one(self, old: str, new: str) -> None:
        if self._disk.exists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
        self._disk.rename(old, new)

    def discard(self, queue_ids: Iterable[str]) -> None:
        """Unlink files whose rows are gone or were never committed. What stays is found at the next start."""
        for queue_id in queue_ids:
            self._unlink(self._path(queue_id))

    def discard_waiting(self, queue_ids: Iterable[str]) -> None:
        """Unlink what `make_durable` wrote and nobody took."""
        for queue_id in queue_ids:
            self._unlink(self._path(queue_id) + _PART)

    def stored(self, queue_id: str, head: bytes, size: int) -> StoredContent:
        """Return the content of `size` octets that begins with `head`. Raises EIO where its file is torn."""
        content = StoredContent(head, self._path(queue_id), size, self._disk)
        content.check()
        return content

    def sizes(self) -> dict[str, int]:
        """The octets of all files by name: queue ids, and what was left half done."""
        return {name: self._disk.size(f"{self._content}/{name}") for name in self._disk.list(self._content)}

    def set_aside(self, name: str) -> None:
        """Move a file that belongs to no row out of the way, for the operator to look at."""
        self._disk.rename(f"{self._content}/{name}", f"{self._aside}/{name}")

    def _path(self, queue_id: str) -> str:
        return f"{self._content}/{queue_id}"

    def _unlink(self, path: str) -> None:
        with contextlib.suppress(OSError):
            self._disk.unlink(path)

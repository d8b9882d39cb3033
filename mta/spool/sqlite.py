"""A shard in SQLite: every change goes through one lane, many share one COMMIT.

A batch is ``BEGIN IMMEDIATE``, rows, ``COMMIT``. The rows run on the reactor thread: they take 20 µs a message, and on
a thread each statement would wait for a busy reactor to let go of the interpreter lock. Only the COMMIT, which waits
for the disk, runs on a thread; nobody touches the connection meanwhile, reads have their own (`mta.spool.reading`).
Each change stands in a savepoint, so that one that fails leaves alone those that share the batch.

`mark` has the same way as the others: it needs no sync, but a second kind of transaction would save one only on an
idle server, and the order of marks and records would no longer be the order of one log.

What a failure means
====================

=============================================  ======================================================================
sync of a content file                         OSError for its message alone; the file is removed
rows or COMMIT: full, a write refused, busy    rolled back: OSError for the batch, the shard stays fit. Nothing was
                                               synced, and the next batch writes the same place of the log again
COMMIT: anything else, foremost a failed sync  unknown: the batch may be on disk or not, and the kernel may take for
                                               clean what it lost. `SpoolSuspect` for it and for everything later
checkpoint fails (but for a full disk)         likewise: the log must not be reset
directory of the content files: sync fails     likewise
=============================================  ======================================================================

A suspect shard is never written, checkpointed or closed by this process (closing would checkpoint); it can be read.
The next start recovers it.

Checkpoints are explicit, between batches, on a thread. They are PASSIVE: readers are never waited for, and the log
is written again from its start, in blocks the file has already (TRUNCATE makes each COMMIT that follows half as slow
again on ext4, since the file grows anew).
"""

from __future__ import annotations

import ctypes
import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from twisted.internet import defer

from mta.disk.lane import Lane
from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.observe.timed import Timed, untimed
from mta.spool import rows
from mta.spool.content import Contents
from mta.spool.port import (
    Change,
    Content,
    Counts,
    Ended,
    Message,
    QueuedMessage,
    Retry,
    SpoolSuspect,
    StagedContent,
    State,
    SyncedContent,
)
from mta.spool.reading import Reader

BATCH_MAXIMUM = 64
"""Changes in one batch: with contents of the inline bound some 10 ms of the reactor's time."""
CHECKPOINT_OCTETS = 16 * 1024 * 1024
"""Octets written to the log (estimated: a page for each row, and the contents) from which a checkpoint follows."""
INLINE_MAXIMUM = 64 * 1024
"""Content up to this many octets stands in the database, if it did not come in a file."""

_PAGE = 4096
_REFUSED = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR_WRITE: errno.EIO,  # quota, read-only, EIO: SQLite does not tell which
    sqlite3.SQLITE_BUSY: errno.EBUSY,
}
_INSERT_CONTENT = "INSERT INTO content VALUES (?, ?)"
_MARK = "UPDATE recipient SET state = ? WHERE queue_id = ? AND number = ? AND state = ?"
_RETRY = """
    UPDATE recipient SET state = ?, due = ?, attempts = attempts + ?, crashes = crashes * ?, reason_text = ?,
    reason_source = ?, warned = warned OR ? WHERE queue_id = ? AND number = ?
"""
_END = "DELETE FROM recipient WHERE queue_id = ? AND number = ?"
_END_MESSAGE = """
    DELETE FROM message WHERE queue_id = ?1 AND NOT EXISTS (SELECT 1 FROM recipient WHERE queue_id = ?1)
    RETURNING in_file
"""
_END_CONTENT = "DELETE FROM content WHERE queue_id = ?"
_STOP = "UPDATE recipient SET state = ? WHERE state = ?"


@dataclass(frozen=True, slots=True)
class _New:
    """A message as the lane takes it: its content is for the database, or is on stable storage already."""

    message: Message
    content: bytes | SyncedContent


@dataclass(frozen=True, slots=True)
class _Work:
    """One atomic change: of one message, or new ones, or both (a record with its reports)."""

    messages: Sequence[_New] = ()
    queue_id: str = ""
    changes: Sequence[Change] = ()
    marked: Sequence[int] = ()


class SqliteSpool:
    """One shard. Made by `mta.spool.shard.open_spool`, which gives it its two connections.

    `release` gives up the ownership of the shard at the end; `suspected` is called once, with the reason, when the
    shard becomes suspect. `run_large` is for what takes long for one message alone; without it `run_in_thread` is.
    `timed` measures each COMMIT. Without `stops` what is ACTIVE stays so at the close: it is no attempt of ours.
    """

    def __init__(
        self,
        shard: int,
        path: str,
        writer: sqlite3.Connection,
        reader: Reader,
        contents: Contents,
        run_in_thread: RunInThread,
        release: Callable[[], None],
        suspected: Callable[[SqliteSpool, Reason], None],
        inline_maximum: int = INLINE_MAXIMUM,
        run_large: RunInThread | None = None,
        timed: Timed = untimed,
        stops: bool = True,
    ) -> None:
        self.shard = shard
        self.path = path
        self._writer = writer
        self._reader = reader
        self._contents = contents
        self._run_in_thread = run_in_thread
        self._run_large = run_large or run_in_thread
        self._release = release
        self._suspected = suspected
        self._timed = timed
        self._stops = stops
        self._inline_maximum = inline_maximum
        self._lane: Lane[_Work] = Lane(self._run, BATCH_MAXIMUM)
        self._suspect: Reason | None = None
        self._closing = False
        self._written = 0

    # Reads

    def __contains__(self, queue_id: str) -> bool:
        return queue_id in self._reader

    def due(self, now: float, limit: int, after: tuple[float, str] = (0.0, "")) -> Sequence[QueuedMessage]:
        """See `Spool`."""
        return self._reader.due(now, limit, after)

    def next_due(self, after: float = 0.0) -> float | None:
        """See `Spool`."""
        return self._reader.next_due(after)

    def get(self, queue_id: str) -> QueuedMessage | None:
        """See `Spool`."""
        return self._reader.get(queue_id)

    def content(self, queue_id: str) -> Content:
        """See `Spool`."""
        return self._reader.content(queue_id)

    def page(self, after: str = "", limit: int = 100) -> Sequence[QueuedMessage]:
        """See `Spool`."""
        return self._reader.page(after, limit)

    def counts(self) -> Counts:
        """See `Spool`."""
        return self._reader.counts()

    # Changes

    @property
    def fit(self) -> bool:
        """Whether it takes changes: neither suspect nor closed."""
        return self._suspect is None and not self._closing

    def insert(self, message: Message) -> defer.Deferred[int]:
        """See `Spool`."""
        return self._submit((message,))

    def record(self, queue_id: str, changes: Sequence[Change], reports: Sequence[Message] = ()) -> defer.Deferred[int]:
        """See `Spool`."""
        return self._submit(reports, queue_id, changes)

    def mark(self, queue_id: str, numbers: Sequence[int]) -> defer.Deferred[int]:
        """See `Spool`."""
        return self._join(_Work(queue_id=queue_id, marked=numbers))

    def close(self) -> defer.Deferred[None]:
        """See `Spool`. A suspect shard stays as it is, and owned, until the process ends."""
        return defer.Deferred.fromCoroutine(self._close())

    def _submit(
        self, messages: Sequence[Message], queue_id: str = "", changes: Sequence[Change] = ()
    ) -> defer.Deferred[int]:
        small = [_New(m, m.content) for m in messages if self._is_small(m.content)]
        if len(small) == len(messages) or not self.fit:  # then it is refused, whatever it is
            return self._join(_Work(small, queue_id, changes))
        return defer.Deferred.fromCoroutine(self._submit_large(messages, queue_id, changes))

    def _is_small(self, content: bytes | StagedContent) -> TypeGuard[bytes]:
        return isinstance(content, bytes) and len(content) <= self._inline_maximum

    def _join(self, work: _Work) -> defer.Deferred[int]:
        if self._suspect is not None:
            return defer.fail(SpoolSuspect(str(self._suspect)))
        if self._closing:
            return defer.fail(SpoolSuspect(f"{self.path} is closed"))
        return self._lane.submit(work)

    async def _submit_large(self, messages: Sequence[Message], queue_id: str, changes: Sequence[Change]) -> int:
        """Sync large contents before the work joins the lane, where all others would wait for them."""
        try:
            new = [_New(message, await self._durable(message)) for message in messages]
            return await self._join(_Work(new, queue_id, changes))
        except Exception:
            await self._run_in_thread(self._contents.discard_waiting, [m.queue_id for m in messages])
            raise

    async def _durable(self, message: Message) -> bytes | SyncedContent:
        content = message.content
        if self._is_small(content):
            return content
        synced: SyncedContent = await self._run_large(self._contents.make_durable, message.queue_id, content)
        return synced

    # The lane

    def _run(self, batch: Sequence[_Work]) -> defer.Deferred[dict[int, Exception] | None]:
        return defer.Deferred.fromCoroutine(self._commit(batch))

    async def _commit(self, batch: Sequence[_Work]) -> dict[int, Exception] | None:
        if self._suspect is not None:
            raise SpoolSuspect(str(self._suspect))
        if self._written >= CHECKPOINT_OCTETS:
            await self._checkpoint()
        failed: dict[int, Exception] = {}
        waiting = [
            (number, new.message.queue_id, new.content)
            for number, work in enumerate(batch)
            for new in work.messages
            if isinstance(new.content, SyncedContent)
        ]
        if waiting:
            try:
                failed = await self._run_in_thread(self._contents.take, waiting)
            except OSError as error:
                raise self._now_suspect(error) from error
        taken = [(number, queue_id) for number, queue_id, _ in waiting if number not in failed]
        try:
            removed = self._write_rows(batch, failed)
            # The commit instant: what this batch inserted may be answered with 250 once it has returned.
            await self._run_in_thread(self._finish, removed, len(batch))
        except Exception as error:
            fault = self._undone(error) or self._now_suspect(error)
            if taken and self._suspect is None:
                await self._run_in_thread(self._contents.discard, [queue_id for _, queue_id in taken])
            raise fault from error
        lost = [queue_id for number, queue_id in taken if number in failed]
        if lost:
            await self._run_in_thread(self._contents.discard, lost)
        return failed

    def _write_rows(self, batch: Sequence[_Work], failed: dict[int, Exception]) -> list[str]:
        """Write all that has not failed yet, and add to `failed`; return the messages whose content files may go."""
        execute = self._writer.execute
        removed: list[str] = []
        execute("BEGIN IMMEDIATE")
        for number, work in enumerate(batch):
            if number in failed:
                continue
            execute("SAVEPOINT work")
            try:
                removed += self._write(work)
            except Exception as error:
                if _of_the_database(error):
                    raise
                execute("ROLLBACK TO work")
                failed[number] = error
            execute("RELEASE work")
        return removed

    def _write(self, work: _Work) -> list[str]:
        writer, queue_id = self._writer, work.queue_id
        for new in work.messages:
            message, content = new.message, new.content
            writer.execute(rows.INSERT_MESSAGE, rows.message_row(message, not isinstance(content, bytes)))
            writer.executemany(rows.INSERT_RECIPIENT, rows.recipient_rows(message))
            octets = content if isinstance(content, bytes) else content.head
            if octets or isinstance(content, bytes):
                writer.execute(_INSERT_CONTENT, (message.queue_id, octets))
                self._written += len(octets)
            self._written += _PAGE * (1 + len(message.destinations))
        self._written += _PAGE * (len(work.changes) + len(work.marked))
        for number in work.marked:
            writer.execute(_MARK, (State.ACTIVE, queue_id, number, State.WAITING))
        for change in work.changes:
            if isinstance(change, Ended):
                writer.execute(_END, (queue_id, change.number))
            else:
                writer.execute(_RETRY, _retry_row(queue_id, change))
        ended = writer.execute(_END_MESSAGE, (queue_id,)).fetchall() if work.changes else ()
        if not ended:
            return []
        writer.execute(_END_CONTENT, (queue_id,))
        ((in_file,),) = ended
        return [queue_id] if in_file else []

    def _finish(self, removed: Sequence[str], changes: int) -> None:
        with self._timed(changes):
            self._writer.execute("COMMIT")
        self._contents.discard(removed)

    async def _checkpoint(self) -> None:
        self._written = 0
        try:
            await self._run_in_thread(checkpoint, self._writer, "PASSIVE")
        except Exception as error:
            # with a full disk the log grows on: it is checkpointed when there is space again
            if refused(error) is None:
                raise self._now_suspect(error) from error

    def _undone(self, error: Exception) -> OSError | None:
        """Roll back after an error that left nothing behind, and return what it was; None where that is not known."""
        cause = refused(error)
        if cause is not None and self._writer.in_transaction:
            try:
                self._writer.execute("ROLLBACK")
            except sqlite3.Error:
                return None
        return cause

    def _now_suspect(self, error: Exception) -> SpoolSuspect:
        self._suspect = Reason(f"{type(error).__name__}: {error}", self.path)
        abandon(self._writer)
        self._suspected(self, self._suspect)
        return SpoolSuspect(str(self._suspect))

    async def _close(self) -> None:
        if self._closing:
            return
        self._closing = True
        await self._lane.idle()
        if self._suspect is None:
            try:
                await self._run_in_thread(self._stop)
            except Exception as error:
                self._now_suspect(error)
                return
            self._reader.close()
            await self._run_in_thread(self._writer.close)
            self._release()

    def _stop(self) -> None:
        # an orderly stop is no crash: what an attempt left ACTIVE just waits again
        if self._stops:
            self._writer.execute(_STOP, (State.WAITING, State.ACTIVE))
        checkpoint(self._writer, "TRUNCATE")


def checkpoint(connection: sqlite3.Connection, how: str) -> None:
    """Copy the log into the database; `how` is PASSIVE or TRUNCATE."""
    # The row it gives must be taken: a statement that is not at its end stands in the way of every savepoint.
    connection.execute(f"PRAGMA wal_checkpoint({how})").fetchall()


def abandon(connection: sqlite3.Connection) -> None:
    """Keep a connection open until the process ends: closing it, also by the garbage collector, would checkpoint."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _of_the_database(error: Exception) -> bool:
    """Whether an error concerns the database and all that is written to it, not the one change that met it."""
    return isinstance(error, (sqlite3.OperationalError, MemoryError)) or type(error) is sqlite3.DatabaseError


def refused(error: Exception) -> OSError | None:
    """Return the system's error for one after which SQLite has rolled back, or None if that is not certain.

    A write that was refused comes before the sync, and the kernel keeps nothing of it.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    number = _REFUSED.get(code) or _REFUSED.get(code & 0xFF)
    return None if number is None else OSError(number, f"{os.strerror(number)} (SQLite: {error})")


def _retry_row(queue_id: str, change: Retry) -> rows.Row:
    return (
        change.state,
        change.due,
        change.counted,
        # an attempt that came to its end clears the message of the crashes before
        not change.counted,
        change.reason.text,
        change.reason.source,
        change.warned,
        queue_id,
        change.number,
    )

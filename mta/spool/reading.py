"""Reading a shard: on a connection of its own that cannot write, so that a commit under way on its thread does not
stand in the way of the reactor.

What is read is what was durable: SQLite shows a commit to other connections after its sync, not before. Each read is
one snapshot, follows an index, and is bounded by the caller's limit; counts are kept by the database (`schema`).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mta.spool import rows
from mta.spool.content import Contents
from mta.spool.port import Content, Counts, QueuedMessage, QueuedRecipient, State

_FIRST_DUE = "SELECT min(due) FROM recipient WHERE state = ? AND due > ?"
_DUE = """
    SELECT DISTINCT due, queue_id FROM recipient
    WHERE state = ? AND due <= ? AND (due, queue_id) > (?, ?) ORDER BY due, queue_id
"""
_MESSAGE = rows.SELECT_MESSAGE + "WHERE queue_id = ?"
_MESSAGES = rows.SELECT_MESSAGE + "WHERE queue_id > ? ORDER BY queue_id LIMIT ?"
_RECIPIENTS = rows.SELECT_RECIPIENT + "WHERE queue_id = ? ORDER BY number"
_CONTENT = """
    SELECT in_file, size, octets FROM message LEFT JOIN content USING (queue_id) WHERE message.queue_id = ?
"""


class Reader:
    """The reads of `mta.spool.port.Spool`."""

    def __init__(self, connection: sqlite3.Connection, contents: Contents) -> None:
        self._connection = connection
        self._contents = contents

    def __contains__(self, queue_id: str) -> bool:
        return self._connection.execute(_MESSAGE, (queue_id,)).fetchone() is not None

    def due(self, now: float, limit: int, after: tuple[float, str]) -> Sequence[QueuedMessage]:
        """See `Spool`."""
        page: list[QueuedMessage] = []
        seen: dict[str, dict[float, list[QueuedMessage]]] = {}
        with self._snapshot():
            for due, queue_id in self._connection.execute(_DUE, (State.WAITING, now, *after)):
                if queue_id not in seen:
                    seen[queue_id] = self._due_of(queue_id, now)
                page += seen[queue_id].get(due, ())
                if len(page) >= limit:
                    break
        return page

    def _due_of(self, queue_id: str, now: float) -> dict[float, list[QueuedMessage]]:
        """Split what is due of a message by destination; by the time at which each destination is first due."""
        message = self._whole(self._connection.execute(_MESSAGE, (queue_id,)).fetchone())
        by_destination: dict[str, list[QueuedRecipient]] = {}
        for queued in message.recipients:
            if queued.state == State.WAITING and queued.due <= now:
                by_destination.setdefault(queued.destination, []).append(queued)
        by_first: dict[float, list[QueuedMessage]] = {}
        for recipients in by_destination.values():
            first = min(queued.due for queued in recipients)
            by_first.setdefault(first, []).append(replace(message, recipients=tuple(recipients)))
        return by_first

    def next_due(self, after: float) -> float | None:
        """See `Spool`."""
        (due,) = self._connection.execute(_FIRST_DUE, (State.WAITING, after)).fetchone()
        return None if due is None else float(due)

    def get(self, queue_id: str) -> QueuedMessage | None:
        """See `Spool`."""
        with self._snapshot():
            row = self._connection.execute(_MESSAGE, (queue_id,)).fetchone()
            return row and self._whole(row)

    def content(self, queue_id: str) -> Content:
        """See `Spool`."""
        row = self._connection.execute(_CONTENT, (queue_id,)).fetchone()
        if row is None:
            raise KeyError(queue_id)
        in_file, size, octets = row
        if not in_file:
            return bytes(octets)
        return self._contents.stored(queue_id, octets or b"", size)

    def page(self, after: str, limit: int) -> Sequence[QueuedMessage]:
        """See `Spool`."""
        with self._snapshot():
            return [self._whole(row) for row in self._connection.execute(_MESSAGES, (after, limit))]

    def counts(self) -> Counts:
        """See `Spool`."""
        amounts: dict[int, int] = dict(self._connection.execute("SELECT state, amount FROM tally"))
        return Counts(amounts[-1], {state: amounts[state] for state in State})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _whole(self, row: tuple[Any, ...]) -> QueuedMessage:
        recipients = map(rows.queued_recipient, self._connection.execute(_RECIPIENTS, (row[0],)))
        return rows.queued_message(row, list(recipients))

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

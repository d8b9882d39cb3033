"""The history, read: events found again by queue id, session, kind, or by an address that they name.

The newest come first, so that whoever wants twenty of a million reads twenty. Segments are opened when they are looked
at: a segment that ended before what is wanted is not. Within one, a queue id and a session are found by an index. A
text that events mention is sought once in each bucket, of which there are some hundreds in a segment, from the last
bucket back.

Files are read as they are, also while a worker writes them (that is what WAL is for) and when none runs; they are
opened read-only. What was noted in the last second may still be in the worker's memory. A segment that cannot be read
is passed over and named in `Archive.unread`.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mta.mail.reason import Reason
from mta.observe.event import Event, Kind, Level
from mta.observe.history import VERSION, Row, key, segment_began

FOREVER = 1e12
"""A wall time that does not come: about the year 33,700."""

_KINDS = {kind.value: kind for kind in Kind}
_MENTIONS = """
    WITH RECURSIVE each (number) AS (
        SELECT max(bucket) FROM mention
        UNION ALL SELECT number - 1 FROM each WHERE number > (SELECT min(bucket) FROM mention)
    )
    SELECT number, event FROM each CROSS JOIN mention ON bucket = number WHERE text = ? AND event BETWEEN ? AND ?
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What events have to fit, all of it; what is empty asks for nothing.

    `text` is a mailbox, IP address, login, message id, or the queue id that a report is about. Times are wall times.
    """

    queue_id: str = ""
    session: str = ""
    text: str = ""
    kinds: Collection[Kind] = ()
    level: Level = Level.DEBUG
    """This one and graver."""
    since: float = 0.0
    until: float = FOREVER


class Archive:
    """The history in a directory. Raises OSError where the directory cannot be read; one that is not there is empty."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.unread: list[str] = []
        """Segments that could not be read, each with why."""

    def newest(self, wanted: Wanted, limit: int | None = None) -> list[Event]:
        """Find the newest events that fit, up to `limit` of them, the newest first."""
        return list(itertools.islice(self.back(wanted), limit))

    def back(self, wanted: Wanted) -> Iterator[Event]:
        """Find the events that fit, one after the other, from the newest on: no more is read than is taken."""
        self.unread = []
        found = [self._of_worker(segments, wanted) for segments in self._segments().values()]
        for row in heapq.merge(*found, key=lambda row: row[0], reverse=True):
            event = _event(row)
            if event is not None:
                yield event

    def in_order(self, wanted: Wanted, limit: int | None = None) -> list[Event]:
        """Find the newest events that fit, up to `limit` of them, in the order of time."""
        return self.newest(wanted, limit)[::-1]

    def _segments(self) -> dict[str, list[tuple[Path, float, float]]]:
        """The segments of each worker with the wall times of their beginning and end, the newest first."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return {}
        by_worker: dict[str, list[Path]] = {}
        for name in sorted(names):
            worker, dash, began = name.removesuffix(".sqlite").rpartition("-")
            if dash and name.endswith(".sqlite") and began.isascii() and began.isdigit():
                by_worker.setdefault(worker, []).append(Path(self._directory, name))
        segments = {}
        for worker, paths in by_worker.items():
            times = [segment_began(path) / 1e6 for path in paths]
            segments[worker] = list(zip(paths, times, [*times[1:], FOREVER], strict=True))[::-1]
        return segments

    def _of_worker(self, segments: list[tuple[Path, float, float]], wanted: Wanted) -> Iterator[Row]:
        for path, began, ended in segments:
            if ended < wanted.since:
                return
            if began <= wanted.until:
                yield from self._of_segment(path, wanted)

    def _of_segment(self, path: Path, wanted: Wanted) -> Iterator[Row]:
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                if connection.execute("PRAGMA user_version").fetchone() == (VERSION,):
                    yield from _rows(connection, wanted)
        except sqlite3.Error as error:
            self.unread.append(f"{path}: {error}")


def _rows(connection: sqlite3.Connection, wanted: Wanted) -> Iterator[Row]:
    conditions = ["id BETWEEN ? AND ?"]
    values: list[str | int] = [int(wanted.since * 1e6), int(wanted.until * 1e6)]
    for condition, value in (
        ("queue_id = ? AND queue_id != ''", wanted.queue_id),
        ("session = ? AND session != ''", wanted.session),
    ):
        if value:
            conditions.append(condition)
            values.append(value)
    if wanted.kinds:
        conditions.append(f"kind IN ({','.join('?' * len(wanted.kinds))})")
        values += [kind.value for kind in wanted.kinds]
    if wanted.level != Level.DEBUG:
        conditions.append("level <= ?")
        values.append(wanted.level)
    # What is put together here are the constants above.
    query = f"SELECT * FROM event WHERE {' AND '.join(conditions)}"  # noqa: S608
    if not wanted.text:
        yield from connection.execute(f"{query} ORDER BY id DESC", values)
        return
    for number in _mentioning(connection, key(wanted.text), values[0], values[1]):
        yield from connection.execute(f"{query} AND id = ?", [*values, number])


def _mentioning(connection: sqlite3.Connection, text: str, since: str | int, until: str | int) -> Iterator[int]:
    """The ids of the events that mention a text, the newest first."""
    found = connection.execute(_MENTIONS, (text, since, until))
    for _, bucket in itertools.groupby(found, key=lambda row: row[0]):
        yield from reversed([number for _, number in bucket])


def _event(row: Row) -> Event | None:
    """Make an event of a row; None where it is damaged, or of a kind or level that a later version knows."""
    number, kind, level, session, queue_id, reason, source, fields = row
    why = None if reason is None else Reason(reason, source or "")
    try:
        read = dict(json.loads(fields))
        return Event(number / 1e6, _KINDS[kind], Level(level), session, queue_id, why, read)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None

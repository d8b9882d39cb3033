"""The history: events kept in SQLite, to be found again by queue id, session, or an address that they name.

Each worker writes segments, ``WORKER-MICROSECONDS.sqlite``, named by when they begin, into one directory. A segment is
closed when it has a `SEGMENTS`-th of the size or of the time that the history may take, and the oldest are unlinked.
So no row is ever deleted, a file that is damaged costs its own events alone, and since a start begins a new segment,
nothing is appended to a file whose last writes a power cut may have torn: nothing here is ever synced.

::

    event    id       time in microseconds since 1970, made unique: key, order and range of time are one
             kind, level, session, queue_id, reason, source, fields (a JSON object)
    mention  bucket   counts up every `BUCKET` events
             text     a mailbox, IP address, login or message id that the event names, in lower case
             event    its id

Texts come in no order: without buckets each would change, and write, another page of a table as large as the segment.
How events are found again stands in `mta.observe.search`.

A segment of another `VERSION` is not read, and goes with age, and so does what a worker left that is no more. While the
clock stands before the last event, times stand still here.

Events gather in memory and are written on the reactor's thread, `BATCH` at a time or after `INTERVAL` seconds (some 1
ms for a whole batch): in a thread of its own every row would wait for a busy reactor to give up the interpreter's
lock. A directory that cannot be written costs events, never mail: they are dropped, counted and said once, and after
`PAUSE` seconds a new segment is tried.
"""

from __future__ import annotations

import functools
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mta.mail.reason import Reason
from mta.observe.event import Event, Kind, Level, Value
from mta.observe.journal import Journal
from mta.observe.log import bounded, cut

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

BATCH = 64
"""Events of one transaction; as many can wait."""
BUCKET = 1024
"""Events whose mentions are kept together."""
INTERVAL = 1.0
"""Seconds that an event waits at most."""
PAUSE = 60.0
"""Seconds from a failure to the next trial."""
_PATIENCE = 0.05
"""Seconds that a reader may keep the writer from what it needs alone, which is little: the reactor waits meanwhile."""
SEGMENTS = 16
"""Parts of the size and of the time that are kept: so exactly is pruned."""
SEGMENTS_MAXIMUM = 256
"""Files of one worker, were it restarted ever so often."""
FIELDS_WANTED = 2000
"""Characters of an event's fields up to which no value is cut."""

VERSION = 1
"""Of the tables."""
_PAGE = 4096
_SCHEMA = f"""
    PRAGMA page_size = {_PAGE};
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = OFF;
    BEGIN;
    CREATE TABLE event (
        id INTEGER PRIMARY KEY, kind TEXT, level INTEGER, session TEXT, queue_id TEXT, reason TEXT, source TEXT,
        fields TEXT
    );
    CREATE INDEX event_queue_id ON event (queue_id) WHERE queue_id != '';
    CREATE INDEX event_session ON event (session) WHERE session != '';
    CREATE TABLE mention (
        bucket INTEGER, text TEXT, event INTEGER,
        PRIMARY KEY (bucket, text, event)
    ) WITHOUT ROWID;
    PRAGMA user_version = {VERSION};
    COMMIT;
"""
_MENTIONING = ("address", "login", "sender", "recipient", "recipients", "expanded", "message_id", "about")
_LISTS = ("recipients", "expanded")

_json = json.JSONEncoder(separators=(",", ":")).encode
_Mention = tuple[int, str, int]
Row = tuple[int, str, int, str, str, str | None, str | None, str]
"""An event as the table has it."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of the history one worker keeps."""

    seconds: float
    octets: int


class History:
    """A sink of the journal that keeps events; it says through the same journal when it cannot."""

    def __init__(self, directory: str, worker: str, clock: IReactorTime, journal: Journal, keep: Keep) -> None:
        self._directory = Path(directory)
        self._worker = worker
        self._clock = clock
        self._journal = journal
        self._keep = keep
        self._rows: list[Row] = []
        self._mentions: list[_Mention] = []
        self._count = 0
        self._timer: IDelayedCall | None = None
        self._segment: _Segment | None = None
        self._last = 0
        self._resume = 0.0
        self._suspect = False
        self.lost = 0
        """Events that were dropped."""

    def __call__(self, event: Event) -> None:
        """Keep an event, soon."""
        if self._suspect and self._clock.seconds() < self._resume:
            self.lost += 1
            return
        self._last = number = max(self._last + 1, int(event.time * 1e6))
        fields = _json(event.fields)
        if len(fields) > FIELDS_WANTED:
            fields = _json(bounded(event.fields))
        reason = event.reason
        self._rows.append(
            (
                number,
                event.kind.value,
                event.level.value,
                event.session,
                event.queue_id,
                _storable(reason.text) if reason else None,
                _storable(reason.source) if reason else None,
                fields,
            )
        )
        bucket = self._count // BUCKET
        self._count += 1
        self._mentions += [(bucket, text, number) for text in _mentioned(event.fields)]
        if len(self._rows) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(INTERVAL, self.flush)

    def flush(self) -> None:
        """Write what waits; never raises."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        rows, mentions = self._rows, self._mentions
        if not rows:
            return
        self._rows, self._mentions = [], []
        try:
            if self._segment is None:
                self._segment = self._begin(rows[0][0])
            self._segment.write(rows, mentions)
            if self._segment.full(rows[-1][0], self._keep):
                self._end()
        except (OSError, sqlite3.Error) as error:
            self._failed(error, len(rows))
        else:
            self._recovered()

    def close(self) -> None:
        """Write what waits and close the segment."""
        while self._rows:  # a recovery is an event of its own
            self.flush()
        with suppress(OSError, sqlite3.Error):
            self._end()

    def _begin(self, began: int) -> _Segment:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = sorted(self._directory.glob(f"{self._worker}-{'[0-9]' * 16}.sqlite"))
        if paths:
            began = max(began, segment_began(paths[-1]) + 1)
        _prune(paths, began, self._keep)
        _prune_left(self._directory, self._worker, began, self._keep)
        return _Segment(self._directory / f"{self._worker}-{began:016}.sqlite", began)

    def _end(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    def _failed(self, error: Exception, count: int) -> None:
        self.lost += count
        self._resume = self._clock.seconds() + PAUSE
        with suppress(OSError, sqlite3.Error):
            self._end()
        if not self._suspect:
            self._suspect = True
            reason = Reason(f"the history cannot be written: {error}", str(self._directory))
            self._journal.note(Kind.HISTORY_SUSPECT, reason, level=Level.WARNING, path=str(self._directory))

    def _recovered(self) -> None:
        if self._suspect:
            self._suspect = False
            self._journal.note(Kind.HISTORY_RECOVERED, path=str(self._directory), lost=self.lost)


class _Segment:
    """A file that is written."""

    def __init__(self, path: Path, began: int) -> None:
        self._began = began
        # Exclusively, with our mode: SQLite would take any file that is there, and make one that all may read.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=_PATIENCE)
        try:
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error:
            self._connection.close()
            _unlink(path)
            raise

    def write(self, rows: list[Row], mentions: list[_Mention]) -> None:
        execute, many = self._connection.execute, self._connection.executemany
        execute("BEGIN")
        many("INSERT INTO event VALUES (?,?,?,?,?,?,?,?)", rows)
        many("INSERT OR IGNORE INTO mention VALUES (?,?,?)", mentions)
        execute("COMMIT")

    def full(self, now: int, keep: Keep) -> bool:
        aged = now - self._began >= keep.seconds * 1e6 / SEGMENTS
        # The file itself grows at checkpoints only.
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        return bool(aged or pages * _PAGE >= keep.octets / SEGMENTS)

    def close(self) -> None:
        # One file without a journal beside it can be read by whoever may read it; while somebody reads, it stays two.
        with closing(self._connection), suppress(sqlite3.Error):
            self._connection.execute("PRAGMA journal_mode = DELETE")


def _mentioned(fields: Mapping[str, Value]) -> Iterator[str]:
    for name in _MENTIONING:
        value = fields.get(name)
        if isinstance(value, str) and value:
            yield from map(key, value.split(" ") if name in _LISTS else (value,))


@functools.lru_cache(maxsize=1024)
def key(text: str) -> str:
    """Make what an address is found by: without angle brackets, in lower case, of a mailbox's greatest length."""
    return _storable(text[:320].strip("<>").lower())


def _storable(text: str) -> str:
    """Return `text` as it can be stored: long text is cut, octets that were no UTF-8 are lost."""
    text = cut(text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def segment_began(path: Path) -> int:
    """When the segment at a path begins, in microseconds since 1970. Raises ValueError for what is none."""
    return int(path.stem.rpartition("-")[2])


def _prune(paths: list[Path], now: int, keep: Keep) -> None:
    """Unlink the oldest of a worker's segments: what is too old, and what a new one needs room for."""
    ends = [*map(segment_began, paths[1:]), now]
    sizes = [_size(path) for path in paths]
    room = keep.octets * (SEGMENTS - 1) // SEGMENTS
    oldest = now - keep.seconds * 1e6
    for number, path in enumerate(paths):
        if ends[number] < oldest or sum(sizes[number:]) > room or len(paths) - number >= SEGMENTS_MAXIMUM:
            _unlink(path)


def _prune_left(directory: Path, worker: str, now: int, keep: Keep) -> None:
    """Unlink what workers left that are no more: segments that nobody has written to for the time to keep."""
    for path in directory.glob(f"*-{'[0-9]' * 16}.sqlite"):
        if path.name.rpartition("-")[0] != worker and _written(path) < now / 1e6 - keep.seconds:
            _unlink(path)


def _files(path: Path) -> list[Path]:
    return [path, Path(f"{path}-wal"), Path(f"{path}-shm")]


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in _files(path) if each.exists())


def _written(path: Path) -> float:
    return max((each.stat().st_mtime for each in _files(path)[:2] if each.exists()), default=0.0)


def _unlink(path: Path) -> None:
    for name in _files(path):
        name.unlink(missing_ok=True)

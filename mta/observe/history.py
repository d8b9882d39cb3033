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
A search seeks its text once in each bucket, of which there are some hundreds.

A segment of another `VERSION` is not read, and goes with age. While the clock stands before the last event, times
stand still here.

Events gather in memory and are written on the reactor's thread, `BATCH` at a time or after `INTERVAL` seconds (some 3
ms for a whole batch): in a thread of its own every row would wait for a busy reactor to give up the interpreter's
lock. A directory that cannot be written costs events, never mail: they are dropped, counted and said once, and after
`PAUSE` seconds a new segment is tried.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mta.mail.reason import Reason
from mta.observe.event import Event, Kind, Level, Value
from mta.observe.journal import Journal
from mta.observe.log import bounded, cut

BATCH = 256
"""Events of one transaction; as many can wait."""
BUCKET = 4 * BATCH
"""Events whose mentions are kept together."""
INTERVAL = 1.0
"""Seconds that an event waits at most."""
PAUSE = 60.0
"""Seconds from a failure to the next trial."""
SEGMENTS = 16
"""Parts of the size and of the time that are kept: so exactly is pruned."""
SEGMENTS_MAXIMUM = 256
"""Files of one worker, were it restarted ever so often."""
FIELDS_WANTED = 2000
"""Characters of an event's fields up to which no value is cut."""

VERSION = 1
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
_MENTIONED = """
    id IN (
        WITH RECURSIVE each (number) AS (
            SELECT min(bucket) FROM mention
            UNION ALL SELECT number + 1 FROM each WHERE number < (SELECT max(bucket) FROM mention)
        )
        SELECT event FROM each CROSS JOIN mention ON bucket = number WHERE text = ?
    )
"""
_MENTIONING = ("address", "login", "sender", "recipient", "recipients", "message_id")

_json = json.JSONEncoder(separators=(",", ":")).encode
_Mention = tuple[int, str, int]
_Row = tuple[int, str, int, str, str, str | None, str | None, str]


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
        self._rows: list[_Row] = []
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
            began = max(began, _began(paths[-1]) + 1)
        _prune(paths, began, self._keep)
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
        self._connection = sqlite3.connect(path, isolation_level=None)
        try:
            self._connection.executescript(_SCHEMA)
        except sqlite3.Error:
            self._connection.close()
            _unlink(path)
            raise

    def write(self, rows: list[_Row], mentions: list[_Mention]) -> None:
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
        # One file without a journal beside it can be read by whoever may read it.
        with closing(self._connection):
            self._connection.execute("PRAGMA journal_mode = DELETE")


def events(
    directory: str,
    *,
    queue_id: str = "",
    session: str = "",
    address: str = "",
    since: float = 0.0,
    limit: int = 1000,
) -> Iterator[Event]:
    """Read up to `limit` events of all workers, the oldest first, that fit everything that is given.

    `address` is a mailbox, IP address, login or message id; `since` a wall time. Reads files, and takes as long as
    that takes: for the command line, or a thread. Segments that cannot be read are passed over.
    """
    wanted = ["id >= ?"]
    values: list[str | int] = [int(since * 1e6)]
    for condition, value in (
        ("queue_id = ? AND queue_id != ''", queue_id),
        ("session = ? AND session != ''", session),
        (_MENTIONED, _key(address)),
    ):
        if value:
            wanted.append(condition)
            values.append(value)
    # What is put together here are the constants above.
    query = f"SELECT * FROM event WHERE {' AND '.join(wanted)} ORDER BY id LIMIT ?"  # noqa: S608
    found = [_read(path, query, [*values, limit]) for path in sorted(Path(directory).glob("*.sqlite"))]
    for row in itertools.islice(heapq.merge(*found), limit):
        yield _event(row)


def _read(path: Path, query: str, values: list[str | int]) -> list[_Row]:
    known = {kind.value for kind in Kind}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            if connection.execute("PRAGMA user_version").fetchone() != (VERSION,):
                return []
            return [row for row in connection.execute(query, values) if row[1] in known]
    except sqlite3.Error:
        return []


def _event(row: _Row) -> Event:
    number, kind, level, session, queue_id, reason, source, fields = row
    why = None if reason is None else Reason(reason, source or "")
    return Event(number / 1e6, Kind(kind), Level(level), session, queue_id, why, json.loads(fields))


def _mentioned(fields: Mapping[str, Value]) -> Iterator[str]:
    for name in _MENTIONING:
        value = fields.get(name)
        if isinstance(value, str) and value:
            yield from map(_key, value.split(" ") if name == "recipients" else (value,))


@functools.lru_cache(maxsize=1024)
def _key(text: str) -> str:
    """Make what an address is found by: without angle brackets, in lower case, of a mailbox's greatest length."""
    return _storable(text[:320].strip("<>").lower())


def _storable(text: str) -> str:
    """Return `text` as it can be stored: long text is cut, octets that were no UTF-8 are lost."""
    text = cut(text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _began(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def _prune(paths: list[Path], now: int, keep: Keep) -> None:
    """Unlink the oldest of a worker's segments: what is too old, and what a new one needs room for."""
    ends = [*map(_began, paths[1:]), now]
    sizes = [path.stat().st_size for path in paths]
    room = keep.octets * (SEGMENTS - 1) // SEGMENTS
    oldest = now - keep.seconds * 1e6
    for number, path in enumerate(paths):
        if ends[number] < oldest or sum(sizes[number:]) > room or len(paths) - number >= SEGMENTS_MAXIMUM:
            _unlink(path)


def _unlink(path: Path) -> None:
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)

"""What policies remember for weeks: keys with a time and a count, in memory, and in an SQLite file for the next start.

The table in memory answers; the file is its copy. Changes gather for `INTERVAL` seconds and are written in one
transaction on a thread, so nobody waits for the disk. A crash loses the last seconds, which is no harm: what was
remembered is a courtesy, never a promise.

::

    seen   key      BLOB, at most 16 octets
           since    wall time
           expires  wall time
           passes   how often it passed

There are two parts, each with its own bound: what has not passed yet, and what has. So a flood of strangers pushes out
strangers only. In each the one that was touched the longest ago goes first, and what has expired goes as others come.

Several workers have a file each, and tell each other what they put, as often as they write: so each knows what all
know, some seconds late. What one has only heard it writes, but does not tell again. The later `expires` of two counts.

Times are monotonic in memory and wall time in the file; at load none lies later than now, nor expires later than
`LONGEST` from now.

A file that cannot be read or written (damaged, locked, of another version, a full disk) raises one alarm and makes the
memory unsound: whoever asks it must then do without, and does nobody harm. After `PAUSE` seconds it is tried again.
Nothing is repaired: a damaged file is the operator's to look at and to remove.
"""

from __future__ import annotations

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from hashlib import blake2b
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal

INTERVAL = 5.0
"""Seconds that a change waits at most."""
PAUSE = 60.0
"""Seconds from a failure to the next trial."""
LOCKED = 1.0
"""Seconds that a thread waits for a lock on the file."""
ENTRIES_MAXIMUM = 100_000
"""Keys of each part: some 30 MB of memory, 10 MB on disk."""
LONGEST = 366 * 86400.0
"""Seconds for which anything may be remembered."""
VERSION = 1

_SCHEMA = f"""
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS seen (
        key BLOB PRIMARY KEY, since REAL NOT NULL, expires REAL NOT NULL, passes INTEGER NOT NULL
    ) WITHOUT ROWID;
    PRAGMA user_version = {VERSION};
    COMMIT;
"""

_Row = tuple[bytes, float, float, int]

Row = tuple[str, float, float, int]
"""What one worker tells the others of a key: in hexadecimal, with monotonic times, which they have in common."""
Spread = Callable[[str, Sequence[Row]], None]
"""Tells the other workers what the memory of that name has put."""


def to_nobody(memory: str, rows: Sequence[Row]) -> None:
    """The `Spread` of a worker that is alone."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of a key; times are monotonic seconds."""

    since: float
    expires: float
    passes: int = 0


def key_of(*parts: str) -> bytes:
    """Make the key of some texts, of whatever length."""
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Memory:
    """The table and its file. `wall` is wall time."""

    def __init__(
        self,
        path: str,
        clock: IReactorTime,
        wall: Callable[[], float],
        run: RunInThread,
        journal: Journal,
        maximum: int = ENTRIES_MAXIMUM,
        spread: Spread = to_nobody,
    ) -> None:
        self.name = os.path.basename(path).partition("-")[0]
        """What it is called in all workers: its file without the worker's number."""
        self._spread = spread
        self._untold: set[bytes] = set()
        """The keys that the other workers do not know of yet, or not what is new of them."""
        self._clock = clock
        self._wall = wall
        self._run = run
        self._journal = journal
        self._maximum = maximum
        self._file = _File(path, 2 * maximum)
        self._parts: tuple[OrderedDict[bytes, Seen], OrderedDict[bytes, Seen]] = (OrderedDict(), OrderedDict())
        """What has not passed, and what has; each in the order of the last touch."""
        self._changed: dict[bytes, Seen | None] = {}
        """What the file does not say yet; None: it is forgotten."""
        self._loaded = False
        self._suspect = False
        self._stopped = False
        self._timer: IDelayedCall | None = None
        self._busy: defer.Deferred[None] | None = None
        """The exchange with the file that is under way: one at a time."""

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @property
    def sound(self) -> bool:
        """Whether it may be relied upon: it is loaded, and the file takes what is written."""
        return self._loaded and not self._suspect

    def start(self) -> None:
        """Load the file, on a thread; until that is done the memory is not `sound`. More than once is as once."""
        if not self._loaded and self._timer is None and self._busy is None:
            self._work()

    def get(self, key: bytes) -> Seen | None:
        """Recall a key; None where it is not known or has expired."""
        for part in self._parts:
            seen = part.get(key)
            if seen is not None:
                return seen if seen.expires > self._clock.seconds() else None
        return None

    def put(self, key: bytes, seen: Seen) -> None:
        """Remember a key, or what is new of it."""
        self._untold.add(key)
        self._put(key, seen)

    def learn(self, rows: Iterable[Sequence[Any]]) -> None:
        """Remember what another worker has put (`Row`)."""
        for key, since, expires, passes in rows:
            known = self.get(bytes.fromhex(key))
            if known is None or (known.expires, known.passes) < (expires, passes):
                self._put(bytes.fromhex(key), Seen(since, expires, passes))

    def _put(self, key: bytes, seen: Seen) -> None:
        self._forget(key)
        part = self._parts[bool(seen.passes)]
        part[key] = self._changed[key] = seen
        now = self._clock.seconds()
        while part:
            oldest = next(iter(part))
            if len(part) <= self._maximum and part[oldest].expires > now:
                break
            self._forget(oldest)
        self._work_later(INTERVAL)

    async def stop(self) -> None:
        """Write what waits and close the file."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        await self._at_rest()
        if self._changed and self.sound:
            self._work()
            await self._at_rest()
        await self._run(self._file.close)

    def _forget(self, key: bytes) -> None:
        for part in self._parts:
            if part.pop(key, None) is not None:
                self._changed[key] = None

    # The exchange with the file

    def _work_later(self, seconds: float) -> None:
        if self._timer is None and self._busy is None and not self._stopped:
            self._timer = self._clock.callLater(seconds, self._work)

    def _work(self) -> None:
        self._timer = None
        exchange = defer.Deferred.fromCoroutine(self._exchange())
        self._busy = None if exchange.called else exchange

    async def _at_rest(self) -> None:
        if self._busy is not None:
            await self._busy

    async def _exchange(self) -> None:
        changed, self._changed = self._changed, {}
        self._tell(changed)
        ahead = self._wall() - self._clock.seconds()
        rows = [(key, ahead + seen.since, ahead + seen.expires, seen.passes) for key, seen in changed.items() if seen]
        gone = [(key,) for key, seen in changed.items() if seen is None]
        try:
            found = await self._run(self._file.exchange, rows, gone, None if self._loaded else self._wall())
        except Exception as error:
            self._changed = changed | self._changed
            self._failed(error)
        else:
            self._take(found)
            self._recovered()
        finally:
            self._busy = None
        if not self.sound:
            self._work_later(PAUSE)
        elif self._changed:
            self._work_later(INTERVAL)

    def _tell(self, changed: Mapping[bytes, Seen | None]) -> None:
        untold, self._untold = self._untold, set()
        rows = [(key.hex(), *astuple(seen)) for key, seen in changed.items() if seen is not None and key in untold]
        if rows:
            self._spread(self.name, rows)

    def _take(self, rows: list[_Row]) -> None:
        """Fill the table from the file; what is known already is newer."""
        now = self._clock.seconds()
        behind = now - self._wall()
        for key, since, expires, passes in rows:
            part = self._parts[bool(passes)]
            if key not in self._changed and len(part) < self._maximum:
                part[key] = Seen(min(now, since + behind), min(now + LONGEST, expires + behind), passes)
        self._loaded = True

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, OSError | sqlite3.Error):
            self._journal.fault("mta.policy.memory", error)
        if not self._suspect:
            self._suspect = True
            why = Reason(f"what policies remember cannot be kept: {error}", self._file.path)
            self._journal.note(Kind.MEMORY_SUSPECT, why, level=Level.ALERT, path=self._file.path)

    def _recovered(self) -> None:
        if self._suspect:
            self._suspect = False
            self._journal.note(Kind.MEMORY_RECOVERED, level=Level.NOTICE, path=self._file.path)


class _File:
    """The file, for one thread at a time."""

    def __init__(self, path: str, rows: int) -> None:
        self.path = path
        self._rows = rows
        self._connection: sqlite3.Connection | None = None

    def exchange(self, rows: list[_Row], gone: list[tuple[bytes]], now: float | None) -> list[_Row]:
        """Write rows and remove others; with `now`, drop first what has expired, and give all that is there.

        After a failure the file is opened anew the next time.
        """
        try:
            if self._connection is None:
                self._connection = self._open()
            execute, many = self._connection.execute, self._connection.executemany
            execute("BEGIN IMMEDIATE")
            found: list[_Row] = []
            if now is not None:
                execute("DELETE FROM seen WHERE expires <= ?", (now,))
                found = execute("SELECT * FROM seen ORDER BY expires DESC LIMIT ?", (self._rows,)).fetchall()
            many("DELETE FROM seen WHERE key = ?", gone)
            many("INSERT OR REPLACE INTO seen VALUES (?,?,?,?)", rows)
            execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self.close()
            raise
        found.reverse()  # those that expire first are the oldest
        return found

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        # With our mode: SQLite would make a file that all may read.
        os.close(os.open(self.path, os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR, 0o600))
        # Calls come from several threads, one at a time.
        connection = sqlite3.connect(self.path, timeout=LOCKED, isolation_level=None, check_same_thread=False)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}, we write {VERSION}")
            connection.executescript(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

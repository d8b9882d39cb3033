"""The directory of a shard: whose it is, and how it is opened.

``<root>/<number>/`` with number 0 to 1023 holds ``queue.db`` (and SQLite's ``-wal`` and ``-shm``), ``content/``,
``aside/`` and ``shard.lock``. Who holds the flock on ``shard.lock`` owns the shard. It is never the database file that
is locked: closing any descriptor of that file would drop SQLite's own locks.

A shard must be opened in the process that uses it: neither the database nor the meaning of the lock survives a fork.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from urllib.parse import quote

from mta.disk.port import Disk, RunInThread
from mta.mail.reason import Reason
from mta.observe.timed import Timed, untimed
from mta.spool.content import Contents
from mta.spool.reading import Reader
from mta.spool.recovery import Recovered, recover
from mta.spool.schema import migrate
from mta.spool.sqlite import INLINE_MAXIMUM, SqliteSpool, abandon, checkpoint, refused

SHARDS = 1024
"""Numbers of shards there are: 10 bits of a queue id."""

_PRAGMAS = """
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA cache_size = -16384;
    PRAGMA temp_store = MEMORY;
    PRAGMA secure_delete = FAST;
"""


class SpoolInUse(Exception):
    """Another process owns the shard."""


def lock_shard(path: str) -> Callable[[], None]:
    """Take the shard in directory `path`; return what gives it up. Raises `SpoolInUse`."""
    name = f"{path}/shard.lock"
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise SpoolInUse(f"the spool {path} is in use by process {owner}: it holds the lock on {name}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    return lambda: os.close(descriptor)


def open_spool(
    root: str,
    number: int,
    disk: Disk,
    run_in_thread: RunInThread,
    suspected: Callable[[SqliteSpool, Reason], None],
    now: float,
    longest: float,
    inline_maximum: int = INLINE_MAXIMUM,
    run_large: RunInThread | None = None,
    timed: Timed = untimed,
    recovering: bool = True,
) -> tuple[SqliteSpool, Recovered]:
    """Open shard `number` below `root`, new or as the last process left it, and recover it. Blocks.

    `now` is wall time, `longest` the longest interval between attempts in seconds: nothing is due later than both.
    Without `recovering` what the last process left is left for the next one, also at the close.
    Raises `SpoolInUse`, `SchemaTooNew`, OSError, sqlite3.Error.
    """
    path = f"{root}/{number}"
    disk.make_directories(path)
    with contextlib.ExitStack() as undo:
        release = lock_shard(path)
        undo.callback(release)
        contents = Contents(disk, path)
        contents.open()
        database = f"file:{quote(path)}/queue.db"
        writer = _connect(database)
        undo.callback(writer.close)
        try:
            _prepare(writer)
            recovered = recover(writer, contents, now, longest) if recovering else Recovered()
        except sqlite3.Error as error:
            if refused(error) is None:
                # as in running: nothing more is written to it, by closing neither, and nobody else opens it meanwhile
                abandon(writer)
                undo.pop_all()
            raise
        reader = Reader(_connect(f"{database}?mode=ro"), contents)
        undo.callback(reader.close)
        # also what an earlier start made and then could not sync
        disk.sync_directory(path)
        disk.sync_directory(root)
        undo.pop_all()
    spool = SqliteSpool(
        number,
        path,
        writer,
        reader,
        contents,
        run_in_thread,
        release,
        suspected,
        inline_maximum,
        run_large,
        timed,
        recovering,
    )
    return spool, recovered


def _connect(database: str) -> sqlite3.Connection:
    # timeout 0: the reactor never waits for a lock
    return sqlite3.connect(database, timeout=0, isolation_level=None, check_same_thread=False, uri=True)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(_PRAGMAS)
    # After a failed sync the log in the page cache may hold what the disk does not: written once more to the database
    # and synced there, everything that is found is also safe.
    checkpoint(connection, "TRUNCATE")
    migrate(connection)

"""Spool and history: whether the databases are sound, and every content file is where its row says.

They are opened read-only, beside a daemon that runs or without one. A shard that is being changed meanwhile is no
fault: what seems to be missing is looked for a second time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import quote

from mta.service.check.finding import Finding, command, error, note, some, warning
from mta.settings.sections import Settings
from mta.spool.port import State
from mta.spool.schema import MIGRATIONS

SPOOL = "spool"
HISTORY = "history"
_STEPS = 100_000
"""Instructions of SQLite between two looks at the clock."""
_BUSY_SECONDS = 5.0

_IN_FILE = """
    SELECT queue_id, size - coalesce(length(octets), 0) FROM message LEFT JOIN content USING (queue_id)
    WHERE in_file = 1
"""
_HELD = "SELECT amount FROM tally WHERE state = ?"
_STILL = "SELECT 1 FROM message WHERE queue_id = ?"


def check_spool(settings: Settings, seconds: Callable[[], float], patience: float) -> list[Finding]:
    """Look at every shard, for `patience` seconds of the monotonic clock `seconds` in all."""
    end = seconds() + patience
    found: list[Finding] = []
    for path in _shards(f"{settings.state}/spool"):
        found += _shard(path, seconds, end)
    return some(found)


def _shards(spool: str) -> list[str]:
    try:
        names = sorted((name for name in os.listdir(spool) if name.isdigit()), key=int)
    except OSError:
        return []  # not there before the first start; the check of files tells of one that cannot be read
    return [f"{spool}/{name}" for name in names if os.path.exists(f"{spool}/{name}/queue.db")]


def _shard(path: str, seconds: Callable[[], float], end: float) -> Iterator[Finding]:
    file = f"{path}/queue.db"
    try:
        with closing(_open(file, seconds, end)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                why = f"schema version {version}, and this program knows {len(MIGRATIONS)}"
                mend = "start the version of mta that wrote it"
                yield error(SPOOL, f"{file} was written by a later version of mta", why, file, mend)
                return
            faults = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
            if faults != ["ok"]:
                yield _damaged(file, "; ".join(faults))
                return
            if version == 0:
                return
            yield from _contents(path, connection)
            row = connection.execute(_HELD, (State.HELD,)).fetchone()
            if row and row[0]:
                what = f"mail for {row[0]} recipients is held"
                why = "it waits for you, and does not expire"
                yield warning(SPOOL, what, why, file, "mta queue list --state held tells why; release or delete it")
    except sqlite3.DatabaseError as problem:
        if isinstance(problem, sqlite3.OperationalError) and "unable to open" in str(problem):
            yield warning(SPOOL, f"{file} cannot be opened", str(problem), file, "look as root, or as the server")
        elif isinstance(problem, sqlite3.OperationalError) and "interrupted" in str(problem):
            why = "it is large, or the disk is slow; nothing was found so far"
            yield note(SPOOL, f"the check of {file} was ended before its end", why, file)
        else:
            yield _damaged(file, str(problem))


def _damaged(file: str, fault: str) -> Finding:
    mend = "stop the server, copy the directory away, look at the health of the disk; docs/reliability.md tells more"
    return error(SPOOL, f"{file} is damaged", fault, file, mend)


def _open(file: str, seconds: Callable[[], float], end: float) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(file)}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    connection.set_progress_handler(lambda: int(seconds() > end), _STEPS)
    return connection


def _contents(path: str, connection: sqlite3.Connection) -> Iterator[Finding]:
    for queue_id, octets in connection.execute(_IN_FILE).fetchall():
        file = f"{path}/content/{queue_id}"
        try:
            size = os.stat(file).st_size
        except FileNotFoundError:
            size = -1
        except OSError as problem:
            yield warning(SPOOL, f"{file} cannot be looked at", str(problem.strerror), file, f"look at {path}/content")
            return
        if size == octets or not connection.execute(_STILL, (queue_id,)).fetchone():
            continue
        what = f"the content of {queue_id} is {'missing' if size < 0 else 'torn'}"
        why = f"{file} should have {octets} octets" + (f" and has {size}" if size >= 0 else "")
        mend = f"restore the file from a backup, or: {command('mta', 'queue', 'delete', queue_id)}"
        yield error(SPOOL, what, why, file, mend)
    aside = _names(f"{path}/aside")
    if aside:
        why = "files that belong to no message; a crash leaves such"
        yield note(SPOOL, f"{len(aside)} content files were set aside", why, f"{path}/aside", "look, then remove them")


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


# History


def history_files(settings: Settings) -> list[str]:
    """The segments of the history, oldest first within each worker."""
    directory = f"{settings.state}/history"
    return [f"{directory}/{name}" for name in sorted(_names(directory)) if name.endswith(".sqlite")]


def check_history(settings: Settings, seconds: Callable[[], float], patience: float) -> list[Finding]:
    """See whether the segments can be read: the first and the last event of each."""
    if not settings.history.enabled:
        why = "what became of a message nobody can tell then"
        return [note(HISTORY, "no history is written", why, f"{settings.path}: [history] enabled")]
    end = seconds() + patience
    found = []
    for file in history_files(settings):
        try:
            with closing(_open(file, seconds, end)) as connection:
                connection.execute("SELECT min(id), max(id) FROM event").fetchone()
        except sqlite3.OperationalError as problem:
            if "interrupted" in str(problem):
                break
            if "no such table" not in str(problem) and os.path.exists(file):  # it begins, or it has gone with age
                found.append(_unread(file, str(problem)))
        except sqlite3.DatabaseError as problem:
            found.append(_unread(file, str(problem)))
    return some(found)


def _unread(file: str, fault: str) -> Finding:
    why = f"{fault}; what it holds is not found any more, mail is not concerned"
    return warning(HISTORY, f"{file} cannot be read", why, file, command("rm", file))

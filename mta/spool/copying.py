"""A copy of a shard, made while a daemon works on it or while it is stopped; and what is made of it to restore it.

The copy is one snapshot: what was durable at one moment. Its content files are there before their rows and go after
them, so each file of a row in the snapshot either is still there, or its message was finished since. Such a message is
taken out of the copy: it is done. (One whose file had been missing before is still in the live queue, and stays.) Files
never change once they have their name: on the same volume they are linked, elsewhere copied.

A reader does not hold up the writer: but what is written meanwhile stays in SQLite's log, which grows so long.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

from mta.spool.port import State
from mta.spool.search import connect_reading

Progress = Callable[[int, int], None]
"""Is told how many octets of a database are copied, of how many."""
LinkFile = Callable[[str, str], None]

_PAGES = 4096
"""Pages of the database copied at once: 16 MiB."""
_IN_FILE = "SELECT queue_id FROM message WHERE in_file = 1"
_SIZES = """
    SELECT queue_id, size - coalesce(length(octets), 0) FROM message LEFT JOIN content USING (queue_id)
    WHERE in_file = 1
"""
_HOLD = """
    UPDATE recipient SET state = ?, reason_source = ?,
    reason_text = ? || CASE WHEN reason_text IS NULL THEN '' ELSE '; before that: ' || reason_text END
    WHERE state <> ?
"""


@dataclass(frozen=True, slots=True)
class Copied:
    """What is in a copy."""

    messages: int
    recipients: int
    finished: int = 0
    """Messages that were finished while it was made: they are not in it."""


def link_or_copy(old: str, new: str) -> None:
    """Give a file that does not change a second name, or copy it where that cannot be. Raises FileNotFoundError.

    Who copies may be root: neither the file nor its directory is a link that leads elsewhere.
    """
    directory = os.open(os.path.dirname(old), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    name = os.path.basename(old)
    try:
        os.link(name, new, src_dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except OSError:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
        with open(descriptor, "rb") as source, open(new, "xb") as target:
            shutil.copyfileobj(source, target)
    finally:
        os.close(directory)


def copy_shard(path: str, target: str, progress: Progress, link: LinkFile = link_or_copy) -> Copied:
    """Copy the shard in directory `path` into the new directory `target`. Raises OSError, sqlite3.Error."""
    os.makedirs(f"{target}/content", mode=0o700)
    with closing(connect_reading(path)) as source, closing(sqlite3.connect(f"{target}/queue.db")) as copy:
        copy.isolation_level = None
        copy.execute("PRAGMA synchronous = OFF")  # it is synced as a file when it is whole
        source.execute("BEGIN")
        gone = []
        for (queue_id,) in source.execute(_IN_FILE).fetchall():
            try:
                link(f"{path}/content/{queue_id}", f"{target}/content/{queue_id}")
            except FileNotFoundError:
                gone.append(queue_id)
        source.backup(
            copy, pages=_PAGES, progress=lambda status, left, total: progress((total - left) * 4096, total * 4096)
        )
        source.execute("COMMIT")
        # by now a commit that the snapshot did not show is shown
        finished = [queue_id for queue_id in gone if not _has(source, queue_id)]
        copy.execute("BEGIN")
        for queue_id in finished:
            for table in ("recipient", "content", "message"):
                copy.execute(f"DELETE FROM {table} WHERE queue_id = ?", (queue_id,))  # noqa: S608  # constants
        copy.execute("COMMIT")
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, with no log beside it
        counts = _counts(copy)
    return Copied(counts[-1], sum(counts[state] for state in State), len(finished))


def fault_of(path: str) -> str:
    """Say what is wrong with the copy in directory `path`; nothing where all is well."""
    try:
        with closing(sqlite3.connect(f"file:{path}/queue.db?mode=ro&immutable=1", uri=True)) as copy:
            ((verdict,),) = copy.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                return f"{path}/queue.db is damaged: {verdict}"
            sizes: Mapping[str, int] = dict(copy.execute(_SIZES))
    except sqlite3.Error as error:
        return f"{path}/queue.db cannot be read: {error}"
    for queue_id, size in sizes.items():
        name = f"{path}/content/{queue_id}"
        if os.path.exists(name) and os.path.getsize(name) != size:
            return f"{name} is torn: {os.path.getsize(name)} octets of {size}"
    return ""


def hold_all(path: str, words: str, source: str) -> tuple[int, int]:
    """Hold all recipients in the copy in directory `path`; those that were held before keep their reason.

    Returns how many are held for `words` now, and how many were before.
    """
    with closing(sqlite3.connect(f"{path}/queue.db", isolation_level=None)) as copy:
        before = _counts(copy)[State.HELD]
        copy.execute("PRAGMA synchronous = OFF")
        copy.execute("BEGIN")
        held = copy.execute(_HOLD, (State.HELD, source, words, State.HELD)).rowcount
        copy.execute("COMMIT")
        return held, before


def _has(connection: sqlite3.Connection, queue_id: str) -> bool:
    return connection.execute("SELECT 1 FROM message WHERE queue_id = ?", (queue_id,)).fetchone() is not None


def _counts(connection: sqlite3.Connection) -> dict[int, int]:
    return dict(connection.execute("SELECT state, amount FROM tally"))

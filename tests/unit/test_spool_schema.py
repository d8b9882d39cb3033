"""The schema and its migrations."""

from __future__ import annotations

import sqlite3

import pytest

from mta.spool import schema
from mta.spool.schema import MIGRATIONS, SchemaTooNew, migrate

VERSION_1 = """
    CREATE TABLE message (queue_id TEXT NOT NULL PRIMARY KEY, accepted REAL NOT NULL, reverse_path TEXT,
        body TEXT NOT NULL, smtputf8 INTEGER NOT NULL, envid TEXT NOT NULL, ret TEXT NOT NULL, size INTEGER NOT NULL,
        eight_bit INTEGER NOT NULL, service TEXT NOT NULL, session TEXT NOT NULL, login TEXT NOT NULL,
        address TEXT NOT NULL, label TEXT NOT NULL, priority INTEGER NOT NULL, in_file INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX message_in_file ON message (in_file) WHERE in_file = 1;
    CREATE TABLE content (queue_id TEXT NOT NULL PRIMARY KEY, octets BLOB NOT NULL) STRICT;
    CREATE TABLE recipient (queue_id TEXT NOT NULL, number INTEGER NOT NULL, mailbox TEXT NOT NULL, original TEXT,
        notify INTEGER NOT NULL, orcpt TEXT NOT NULL, destination TEXT NOT NULL,
        state INTEGER NOT NULL CHECK (state IN (0, 1, 2)), due REAL NOT NULL, attempts INTEGER NOT NULL,
        crashes INTEGER NOT NULL, reason_text TEXT, reason_source TEXT, warned INTEGER NOT NULL,
        PRIMARY KEY (queue_id, number)) STRICT, WITHOUT ROWID;
    CREATE INDEX recipient_due ON recipient (state, due, queue_id);
    CREATE INDEX recipient_destination ON recipient (destination);
    CREATE TABLE tally (state INTEGER PRIMARY KEY, amount INTEGER NOT NULL) STRICT;
    INSERT INTO message VALUES ('0a', 1700000000.0, 'alice@example.test', '7BIT', 0, '', '', 3, 0,
        'smtpd', '', '', '', '', 0, 0);
    INSERT INTO content VALUES ('0a', x'780d0a');
    INSERT INTO recipient VALUES ('0a', 0, 'bob@example.net', NULL, 6, '', 'example.net', 0, 1700000000.0, 0, 0,
        NULL, NULL, 0);
    INSERT INTO tally VALUES (-1, 1), (0, 1), (1, 0), (2, 0);
    PRAGMA user_version = 1;
"""
"""A database as version 1 wrote it (without its triggers, which a database keeps as they are)."""

NEXT = """
    ALTER TABLE message ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';
    CREATE INDEX message_colour ON message (colour)
"""
"""A migration that is only made here, to prove the way."""


def connect(script: str = "") -> sqlite3.Connection:
    """Open a database in memory and run a script on it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(script)
    return connection


def version(connection: sqlite3.Connection) -> int:
    """The number of migrations applied."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def objects(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Tables and indexes, with their columns."""
    found = connection.execute("SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'index')").fetchall()
    return {(kind, f"{name} {connection.execute(f'PRAGMA {kind}_xinfo({name})').fetchall()}") for kind, name in found}


def test_version_1_is_as_it_was_released() -> None:
    """What the first migration makes is the version 1 that is written down here: a released script stays."""
    fresh = connect()
    migrate(fresh, MIGRATIONS[:1])
    assert objects(fresh) == objects(connect(VERSION_1))


def test_a_new_database_gets_all_migrations() -> None:
    """Opening an empty database brings it to the newest version; opening it again changes nothing."""
    connection = connect()
    migrate(connection)
    assert version(connection) == len(MIGRATIONS)
    before = connection.total_changes
    migrate(connection)
    assert connection.total_changes == before


def test_an_old_database_is_migrated_with_its_rows() -> None:
    """A database of version 1 gets the next migration only, and keeps what is in it."""
    connection = connect(VERSION_1)
    migrate(connection, (MIGRATIONS[0], NEXT))
    assert version(connection) == 2
    assert connection.execute("SELECT queue_id, colour FROM message").fetchall() == [("0a", "blue")]
    assert connection.execute("SELECT mailbox, due FROM recipient").fetchall() == [("bob@example.net", 1700000000.0)]


def test_version_2_files_into_folders() -> None:
    """A recipient of version 1 goes into the inbox."""
    connection = connect(VERSION_1)
    migrate(connection, MIGRATIONS[:2])
    assert connection.execute("SELECT mailbox, folder FROM recipient").fetchall() == [("bob@example.net", "")]


def test_a_migration_is_whole_or_not_there() -> None:
    """A migration that fails half way leaves the version before, without its first half."""
    connection = connect(VERSION_1)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (MIGRATIONS[0], NEXT + "; CREATE TABLE message (again TEXT)"))
    assert not connection.in_transaction
    assert version(connection) == 1
    assert objects(connection) == objects(connect(VERSION_1))


def test_a_newer_database_is_refused() -> None:
    """A database of a later version is left as it is, with an error that names both versions."""
    connection = connect(VERSION_1 + "PRAGMA user_version = 99;")
    with pytest.raises(SchemaTooNew, match=f"version 99, .* up to {len(schema.MIGRATIONS)}"):
        migrate(connection)
    assert version(connection) == 99


def test_the_reads_follow_indexes() -> None:
    """What is due, the next due time and a listing are found by index, without a scan or a sort."""
    from mta.spool import reading, recovery

    connection = connect()
    migrate(connection)
    queries = {
        reading._DUE: (0, 1.0, 0.0, ""),
        reading._FIRST_DUE: (0, 1.0),
        reading._MESSAGES: ("", 10),
        reading._RECIPIENTS: ("0a",),
        recovery._IN_FILE: (),
        "SELECT number FROM recipient WHERE destination = ?": ("x",),
        recovery._CLAMP: {"latest": 1.0, "waiting": 0},
        recovery._WAIT_AGAIN: {"now": 1.0, "active": 1, "waiting": 0},
    }
    for query, parameters in queries.items():
        plan = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + query, parameters)]
        assert plan
        for step in plan:
            assert "SEARCH" in step or "message_in_file" in step, (query, plan)
            assert "TEMP B-TREE" not in step, (query, plan)

"""The tables of a shard, as numbered migrations (``PRAGMA user_version`` is the number of those applied).

To change the schema, append one script to `MIGRATIONS`; never edit one that was released. A script is plain SQL
without BEGIN and COMMIT. It runs in one transaction together with the new version number, on databases of a million
rows, while the server starts: prefer ``ALTER TABLE … ADD COLUMN … DEFAULT`` to rewriting. Add to
``test_spool_schema.py`` a database of the version before, written as SQL text, and what it must have become.

Version 1
---------
message
    One row for each message. `reverse_path` is NULL for ``<>``. The content is the row in `content`, a table of its
    own so that reading messages does not drag their content through the cache; `in_file` tells that it goes on in the
    file ``content/<queue id>`` (then there may be no row). `size` counts both.
recipient
    One row for each recipient that is still in the queue; `number` is its place in the envelope.
tally
    How many recipients are in each state, and (as -1) how many messages: kept by triggers, since counting a million
    rows blocks whoever asks.

Version 2
---------
recipient
    `folder`: the folder of the Maildir that the copy goes into; empty: the inbox.

Measured (4 KiB messages, groups of 20, ext4): WITHOUT ROWID and rowid tables take the same time for groups; alone,
WITHOUT ROWID writes an eighth less (one tree in place of two). `content` has a rowid: in a tree of keys, octets
would fill the inner pages. The triggers cost 4 µs for each message.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE message (
        queue_id TEXT NOT NULL PRIMARY KEY,
        accepted REAL NOT NULL,
        reverse_path TEXT,
        body TEXT NOT NULL,
        smtputf8 INTEGER NOT NULL,
        envid TEXT NOT NULL,
        ret TEXT NOT NULL,
        size INTEGER NOT NULL,
        eight_bit INTEGER NOT NULL,
        service TEXT NOT NULL,
        session TEXT NOT NULL,
        login TEXT NOT NULL,
        address TEXT NOT NULL,
        label TEXT NOT NULL,
        priority INTEGER NOT NULL,
        in_file INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX message_in_file ON message (in_file) WHERE in_file = 1;

    CREATE TABLE content (
        queue_id TEXT NOT NULL PRIMARY KEY,
        octets BLOB NOT NULL
    ) STRICT;

    CREATE TABLE recipient (
        queue_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        mailbox TEXT NOT NULL,
        original TEXT,
        notify INTEGER NOT NULL,
        orcpt TEXT NOT NULL,
        destination TEXT NOT NULL,
        state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
        due REAL NOT NULL,
        attempts INTEGER NOT NULL,
        crashes INTEGER NOT NULL,
        reason_text TEXT,
        reason_source TEXT,
        warned INTEGER NOT NULL,
        PRIMARY KEY (queue_id, number)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX recipient_due ON recipient (state, due, queue_id);
    CREATE INDEX recipient_destination ON recipient (destination);

    CREATE TABLE tally (state INTEGER PRIMARY KEY, amount INTEGER NOT NULL) STRICT;
    INSERT INTO tally VALUES (-1, 0), (0, 0), (1, 0), (2, 0);
    CREATE TRIGGER message_inserted AFTER INSERT ON message BEGIN
        UPDATE tally SET amount = amount + 1 WHERE state = -1;
    END;
    CREATE TRIGGER message_deleted AFTER DELETE ON message BEGIN
        UPDATE tally SET amount = amount - 1 WHERE state = -1;
    END;
    CREATE TRIGGER recipient_inserted AFTER INSERT ON recipient BEGIN
        UPDATE tally SET amount = amount + 1 WHERE state = new.state;
    END;
    CREATE TRIGGER recipient_deleted AFTER DELETE ON recipient BEGIN
        UPDATE tally SET amount = amount - 1 WHERE state = old.state;
    END;
    CREATE TRIGGER recipient_changed AFTER UPDATE OF state ON recipient WHEN old.state <> new.state BEGIN
        UPDATE tally SET amount = amount - 1 WHERE state = old.state;
        UPDATE tally SET amount = amount + 1 WHERE state = new.state;
    END;
    """,
    "ALTER TABLE recipient ADD COLUMN folder TEXT NOT NULL DEFAULT '';",
)


class SchemaTooNew(Exception):
    """The database was written by a later version of this program: it is left as it is."""


def migrate(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring a database to the newest version, each step in one transaction. Raises `SchemaTooNew`."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        raise SchemaTooNew(
            f"the spool has schema version {version}, this program knows versions up to {len(migrations)}: "
            "start the later version of mta that wrote it"
        )
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;{script};PRAGMA user_version = {number};COMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

"""Spool and history: sound, and every content file in its place."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mta.observe.event import Kind
from mta.observe.history import History, Keep
from mta.observe.journal import Journal
from mta.service.check.finding import Finding, Severity
from mta.service.check.spool import check_history, check_spool, history_files
from mta.settings.sections import HistorySettings, Settings
from mta.spool.port import State
from mta.spool.schema import migrate


class Shard:
    """A shard as the server leaves it."""

    def __init__(self, state: Path, number: int = 0) -> None:
        self.path = state / f"spool/{number}"
        self.file = self.path / "queue.db"
        for name in ("content", "aside"):
            (self.path / name).mkdir(parents=True)
        self.connection = sqlite3.connect(self.file, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        migrate(self.connection)

    def add(self, queue_id: str, size: int = 10, in_file: int | None = None, state: State = State.WAITING) -> None:
        """Put a message into it; `in_file` octets of its content are in a file."""
        columns = (
            "queue_id accepted body smtputf8 envid ret size eight_bit service session login address label priority"
        )
        values = (queue_id, 1.0, "", 0, "", "", size, 0, "mx", "", "", "", "", 0)
        marks = ",".join("?" * (len(values) + 1))
        self.connection.execute(
            f"INSERT INTO message ({','.join(columns.split())}, in_file) VALUES ({marks})",
            (*values, int(in_file is not None)),
        )
        self.connection.execute(
            "INSERT INTO recipient (queue_id, number, mailbox, notify, orcpt, destination, state, due, attempts,"
            " crashes, warned) VALUES (?, 0, 'a@example.org', 0, '', 'example.org', ?, 0, 0, 0, 0)",
            (queue_id, state),
        )
        if in_file is not None:
            (self.path / "content" / queue_id).write_bytes(b"x" * in_file)

    def fill(self, messages: int) -> None:
        """Put many into it."""
        self.connection.execute("BEGIN")
        for number in range(messages):
            self.add(f"message{number:04}")
        self.connection.execute("COMMIT")

    def damage(self) -> None:
        """Overwrite the middle of the database."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.close()
        octets = bytearray(self.file.read_bytes())
        octets[4096:12288] = os.urandom(8192)
        self.file.write_bytes(octets)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Where the state is."""
    return Settings("mail.example.org", path="etc/mta.toml", state=str(tmp_path))


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    """One that is open, as beside a running daemon."""
    return Shard(tmp_path)


def look(settings: Settings) -> list[Finding]:
    """What is found in the spool."""
    return check_spool(settings, time.monotonic, 30.0)


def test_before_the_first_start_there_is_nothing(settings: Settings) -> None:
    """No spool is no fault."""
    assert look(settings) == []
    assert check_history(settings, time.monotonic, 30.0) == []


def test_a_sound_spool_beside_a_daemon(settings: Settings, shard: Shard, tmp_path: Path) -> None:
    """Messages in database and files, two shards: nothing is found, nothing is changed."""
    shard.add("a")
    shard.add("b", size=5000, in_file=5000)
    Shard(tmp_path, 1).add("c")
    before = shard.file.read_bytes()
    assert look(settings) == []
    assert shard.file.read_bytes() == before


@pytest.mark.parametrize(("there", "what"), [(None, "missing"), (400, "torn")])
def test_content_that_is_missing_or_torn(settings: Settings, shard: Shard, there: int | None, what: str) -> None:
    """The queue id, the file and its octets are told, and what can be done."""
    shard.add("b", size=5000, in_file=5000)
    file = shard.path / "content/b"
    if there is None:
        file.unlink()
    else:
        file.write_bytes(b"x" * there)
    (finding,) = look(settings)
    assert (finding.severity, finding.what) == (Severity.ERROR, f"the content of b is {what}")
    assert finding.reason.source == str(file)
    assert "mta queue delete b" in finding.mend


def test_the_part_in_the_database_counts_too(settings: Settings, shard: Shard) -> None:
    """The head stands in the database, the rest in the file: together they are the message."""
    shard.add("b", size=5000, in_file=4900)
    shard.connection.execute("INSERT INTO content VALUES ('b', ?)", (b"h" * 100,))
    assert look(settings) == []


def test_a_damaged_database(settings: Settings, shard: Shard) -> None:
    """An error that names the file."""
    shard.fill(200)
    shard.damage()
    (finding,) = look(settings)
    assert (finding.severity, finding.what) == (Severity.ERROR, f"{shard.file} is damaged")


def test_what_is_no_database(settings: Settings, shard: Shard) -> None:
    """Likewise."""
    shard.connection.close()
    shard.file.write_bytes(b"not a database, and long enough to be looked at" * 30)
    (finding,) = look(settings)
    assert finding.severity is Severity.ERROR


def test_a_database_without_its_tables(settings: Settings, shard: Shard) -> None:
    """What says that it has a schema and has none is damaged."""
    shard.connection.execute("DROP TABLE message")
    (finding,) = look(settings)
    assert (finding.severity, finding.what) == (Severity.ERROR, f"{shard.file} is damaged")


def test_a_database_that_cannot_be_opened(settings: Settings, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of it: who may look should."""

    def refuse(*_: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr("mta.service.check.spool._open", refuse)
    (finding,) = look(settings)
    assert (finding.severity, finding.what) == (Severity.WARNING, f"{shard.file} cannot be opened")


def test_a_database_of_a_later_version(settings: Settings, shard: Shard) -> None:
    """It is not judged by rules that it need not follow."""
    shard.connection.execute("PRAGMA user_version = 999")
    (finding,) = look(settings)
    assert finding.what == f"{shard.file} was written by a later version of mta"


def test_held_mail_and_files_set_aside(settings: Settings, shard: Shard) -> None:
    """Held mail waits for the operator: a warning. Files set aside are a note."""
    shard.add("a", state=State.HELD)
    (shard.path / "aside/x").write_text("")
    assert [(finding.severity, finding.what) for finding in look(settings)] == [
        (Severity.WARNING, "mail for 1 recipients is held"),
        (Severity.NOTE, "1 content files were set aside"),
    ]


def test_a_spool_that_takes_too_long(settings: Settings, shard: Shard) -> None:
    """It is left, and said: no monitoring waits for hours."""
    shard.fill(2000)
    assert look(settings) == []
    ticks = itertools.count()
    (finding,) = check_spool(settings, lambda: next(ticks) * 10.0, 5.0)
    assert (finding.severity, finding.what) == (
        Severity.NOTE,
        f"the check of {shard.file} was ended before its end",
    )


# History


def test_a_history_as_the_server_writes_it(settings: Settings, tmp_path: Path) -> None:
    """Its segments are read, while it is open; one that is no database is a warning with its name."""
    clock = Clock()
    journal = Journal(time.time)
    history = History(f"{tmp_path}/history", "0", clock, journal, Keep(1e6, 10**8))
    journal.sinks.append(history)
    journal.note(Kind.SERVICE_STOPPED)
    clock.advance(60)
    assert len(history_files(settings)) == 1
    assert check_history(settings, time.monotonic, 30.0) == []
    (tmp_path / "history/0-1.sqlite").write_bytes(b"torn" * 1000)
    (finding,) = check_history(settings, time.monotonic, 30.0)
    assert finding.severity is Severity.WARNING
    assert finding.mend == f"rm {tmp_path}/history/0-1.sqlite"


def test_a_segment_that_begins_and_one_that_cannot_be_opened(settings: Settings, tmp_path: Path) -> None:
    """A file without tables has just been made; what is no file at all is told."""
    (tmp_path / "history").mkdir()
    (tmp_path / "history/0-1.sqlite").write_bytes(b"")
    assert check_history(settings, time.monotonic, 30.0) == []
    (tmp_path / "history/0-2.sqlite").mkdir()
    (finding,) = check_history(settings, time.monotonic, 30.0)
    assert finding.what == f"{tmp_path}/history/0-2.sqlite cannot be read"


def test_no_history_is_a_note() -> None:
    """Somebody chose that; it is said what it costs."""
    settings = Settings("mail.example.org", history=HistorySettings(enabled=False))
    assert [finding.severity for finding in check_history(settings, time.monotonic, 1.0)] == [Severity.NOTE]

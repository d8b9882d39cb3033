"""Tests of `mta.observe.history`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from mta.mail.reason import Reason
from mta.observe.event import Event, Kind, Level
from mta.observe.history import BATCH, BUCKET, INTERVAL, PAUSE, SEGMENTS, SEGMENTS_MAXIMUM, History, Keep
from mta.observe.search import Archive, Wanted
from tests.doubles.journal import RecordingJournal

WALL = 1763842500.0
TWO_DAYS = Keep(2 * 86400.0, 1 << 24)


class World:
    """A journal that writes its history to a directory, on a clock of its own."""

    def __init__(self, directory: Path, keep: Keep = TWO_DAYS) -> None:
        self.directory = directory
        self.wall = WALL
        self.clock = Clock()
        self.journal = RecordingJournal(lambda: self.wall)
        self.keep = keep
        self.history = self.start()

    def start(self, worker: str = "0") -> History:
        """Begin a history as a process would that starts now."""
        history = History(str(self.directory), worker, self.clock, self.journal, self.keep)
        self.journal.sinks[1:] = [history]
        return history

    def note(self, n: int = 0, seconds: float = 0.001, **ids: str) -> None:
        """Note that a message was accepted, `seconds` later than the last."""
        self.wall += seconds
        self.clock.advance(0)
        self.journal.note(Kind.MESSAGE_ACCEPTED, Reason("ours", "users:3"), n=n, **ids)

    def events(self, limit: int | None = None, **wanted: Any) -> list[Event]:
        """The events found, in the order of time."""
        return Archive(str(self.directory)).in_order(Wanted(**wanted), limit)

    def found(self, **wanted: Any) -> list[Any]:
        """The numbers of the events found."""
        return [event.fields.get("n") for event in self.events(**wanted)]

    def files(self) -> list[Path]:
        """The segments, in order."""
        return sorted(self.directory.glob("*.sqlite"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world with an empty directory that does not exist yet."""
    made = World(tmp_path / "var" / "history")
    yield made
    made.history.close()


def test_events_come_back_as_they_were(world: World) -> None:
    """An event is read as it was noted: time to the microsecond, level, ids, reason, fields with their types."""
    why = Reason("no such mailbox bü\udcff", "etc/domains")
    world.journal.note(Kind.SERVICE_STARTED, None, level=Level.NOTICE)
    world.journal.note(
        Kind.RECIPIENT_REFUSED,
        why,
        session="s1",
        queue_id="q1",
        recipient="Bü@x",
        size=3,
        delay=0.5,
        tls=True,
        login=None,
    )
    world.history.flush()
    started, refused = world.events()
    assert started == Event(WALL, Kind.SERVICE_STARTED, Level.NOTICE)
    fields = {"recipient": "Bü@x", "size": 3, "delay": 0.5, "tls": True, "login": None}
    kept = Reason("no such mailbox bü?", "etc/domains")
    assert refused == Event(WALL + 1e-6, Kind.RECIPIENT_REFUSED, Level.INFO, "s1", "q1", kept, fields)


def test_events_are_found_by_what_they_name(world: World) -> None:
    """Queue id, session, and any mailbox, address, login or message id find their events; conditions add up."""
    world.note(1, queue_id="q1", session="s1", sender="Alice@Example.org", message_id="<Id@x>", address="192.0.2.1")
    world.note(2, queue_id="q1", recipient="bob@example.net", login="alice@example.org")
    world.note(3, queue_id="q2", session="s1", recipients="bob@example.net Carol@example.net", sender="")
    world.note(4, queue_id="q2", helo="alice@example.org", address="192.0.2.1")
    world.history.flush()
    assert world.found(queue_id="q1") == [1, 2]
    assert world.found(session="s1") == [1, 3]
    assert world.found(text="alice@example.org") == [1, 2]
    assert world.found(text="<BOB@example.net>") == [2, 3]
    assert world.found(text="carol@example.net") == [3]
    assert world.found(text="<id@X>") == [1]
    assert world.found(text="192.0.2.1", queue_id="q2") == [4]
    assert world.found(text="nobody@x") == world.found(queue_id="q3") == []
    assert world.found(since=WALL + 0.0025) == [3, 4]
    assert world.found(limit=2) == [3, 4]


def test_mentions_are_found_in_every_bucket(world: World) -> None:
    """A search looks through all buckets of a segment, the first, the middle and the last."""
    for n in range(2 * BUCKET + 1):
        world.note(n, sender="rare@x" if n in (0, BUCKET + 7, 2 * BUCKET) else "usual@x")
    world.history.flush()
    assert world.found(text="rare@x") == [0, BUCKET + 7, 2 * BUCKET]


def test_events_are_written_after_a_second_or_in_batches(world: World) -> None:
    """A lone event waits a second, a full batch not at all; an idle history writes nothing."""
    world.note(1)
    assert world.found() == []
    world.clock.advance(INTERVAL)
    assert world.found() == [1]
    for n in range(BATCH):
        world.note(n)
    assert len(world.found()) == 1 + BATCH
    assert world.clock.getDelayedCalls() == []
    world.history.flush()
    assert len(world.found()) == 1 + BATCH


def test_workers_share_a_directory(world: World) -> None:
    """The events of several workers are read as one history, in the order of time."""
    world.note(1)
    other = world.start("1")
    world.note(2)
    world.history.close()
    world.journal.sinks[1:] = [world.history]
    world.note(3)
    world.history.close()
    other.close()
    assert world.found() == [1, 2, 3]
    assert [path.name[:2] for path in world.files()] == ["0-", "0-", "1-"]


def test_every_start_begins_a_segment(world: World) -> None:
    """What was there is kept and read; a clock that went back makes neither name nor order clash."""
    world.note(1)
    world.history.close()
    world.history = world.start()
    world.note(2, seconds=-3600.0)
    world.history.close()
    assert world.found(since=WALL) == [1]
    world.history = world.start()
    world.note(3, seconds=0.0)
    world.history.close()
    assert sorted(world.found()) == [1, 2, 3]
    assert len(world.files()) == 3


def test_times_stand_still_while_the_clock_is_behind(world: World) -> None:
    """Events after a step back of the clock keep their order."""
    world.note(1)
    world.note(2, seconds=-10.0)
    world.note(3)
    world.history.flush()
    assert world.found() == [1, 2, 3]


def test_history_is_pruned_by_age(tmp_path: Path) -> None:
    """Segments end after a sixteenth of the time to keep; those whose last event is older than it are unlinked."""
    world = World(tmp_path, Keep(1600.0, 1 << 24))
    for n in range(60):
        world.note(n, seconds=50.0)
        world.clock.advance(INTERVAL)
    world.history.close()
    found = world.found()
    assert found == list(range(found[0], 60))
    assert 60 - 1800 / 50 <= found[0] <= 60 - 1600 / 50
    assert len(world.files()) <= SEGMENTS + 2


def test_history_is_pruned_by_size(tmp_path: Path) -> None:
    """The oldest segments make room: all files together stay below the size to keep."""
    world = World(tmp_path, Keep(1e9, 1 << 20))
    for n in range(10240):
        world.note(n, helo="x" * 200)
    world.history.close()
    found = world.found(limit=10**6)
    assert found == list(range(found[0], 10240))
    assert 0 < found[0] < 8960
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20


def test_restarts_leave_a_bounded_number_of_files(tmp_path: Path) -> None:
    """However often a worker starts, it has at most so many segments; files of others are not touched."""
    (tmp_path / "1-0000000000000001.sqlite").touch()
    for number in range(SEGMENTS_MAXIMUM + 5):
        (tmp_path / f"0-{int(WALL * 1e6) - 1000 + number:016}.sqlite").touch()
    world = World(tmp_path)
    world.note(1)
    world.history.close()
    assert len(world.files()) == SEGMENTS_MAXIMUM + 1
    assert world.files()[-1].name.startswith("1-")


def test_an_unwritable_directory_costs_events_alone(tmp_path: Path) -> None:
    """Where nothing can be written, events are dropped and counted, one warning is given, and it recovers by itself."""
    (tmp_path / "history").write_bytes(b"a file where the directory should be")
    world = World(tmp_path / "history")
    for n in range(3):
        world.note(n)
        world.clock.advance(INTERVAL)
    (warning,) = world.journal.of(Kind.HISTORY_SUSPECT)
    assert warning.level is Level.WARNING
    assert warning.reason is not None
    assert "history" in warning.reason.source
    assert world.history.lost == 4  # the warning itself, too
    world.clock.advance(PAUSE)
    world.note(3)
    world.clock.advance(INTERVAL)
    assert len(world.journal.of(Kind.HISTORY_SUSPECT)) == 1
    (tmp_path / "history").unlink()
    world.clock.advance(PAUSE)
    world.note(4)
    world.clock.advance(INTERVAL)
    (recovered,) = world.journal.of(Kind.HISTORY_RECOVERED)
    assert recovered.fields["lost"] == world.history.lost == 5
    world.history.close()
    assert world.found() == [4, None]
    assert world.journal.failures == 0


def test_a_damaged_segment_costs_its_own_events(world: World) -> None:
    """A segment that is no database, or of another version, is passed over; one that breaks while written ends."""
    world.note(1)
    world.history.close()
    world.files()[0].write_bytes(b"no database at all" * 1000)
    (world.directory / "0-0000000000000000.sqlite").touch()
    (world.directory / "0-0-copy.sqlite").touch()
    world.note(2)
    world.history.flush()
    with closing(sqlite3.connect(world.files()[-1])) as connection:
        connection.execute("DROP TABLE mention")
        connection.commit()
    world.note(3, sender="a@x")
    world.history.flush()
    assert world.journal.kinds().count(Kind.HISTORY_SUSPECT) == 1
    world.clock.advance(PAUSE)
    world.note(4)
    world.history.close()
    assert world.found() == [2, 4, None]


def test_events_of_an_unknown_kind_are_passed_over(world: World) -> None:
    """A kind that a later version wrote is not read, and hides no other event."""
    world.note(1)
    world.note(2)
    world.history.close()
    with closing(sqlite3.connect(world.files()[0])) as connection:
        connection.execute("UPDATE event SET kind = 'from.the.future' WHERE fields LIKE '%1%'")
        connection.commit()
    assert world.found() == [2]


def test_a_segment_that_cannot_be_begun_leaves_no_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the tables cannot be made, the file goes again."""
    monkeypatch.setattr("mta.observe.history._SCHEMA", "CREATE TABLE nonsense")
    world.note(1)
    world.history.flush()
    assert list(world.directory.iterdir()) == []
    assert world.history.lost >= 1


def test_segments_are_for_our_eyes(world: World) -> None:
    """Directory and files are readable by their owner alone; a closed segment is one file."""
    world.note(1)
    world.history.close()
    assert [path.name.rpartition(".")[2] for path in world.directory.iterdir()] == ["sqlite"]
    assert world.files()[0].stat().st_mode & 0o777 == 0o600
    assert world.directory.stat().st_mode & 0o777 == 0o700


def test_long_values_are_cut(world: World) -> None:
    """A field of 100 KB is kept with its beginning, a short one beside it whole."""
    world.note(1, reply="x" * 100_000, helo="h")
    world.history.flush()
    (event,) = world.events()
    assert event.fields == {"n": 1, "reply": "x" * 999 + "…", "helo": "h"}

"""What policies remember for weeks."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from mta.observe.event import Kind, Level
from mta.policy.memory import INTERVAL, LONGEST, PAUSE, Memory, Seen, key_of
from tests.doubles.journal import RecordingJournal
from tests.doubles.sync import inline, result
from tests.doubles.threads import HeldThreads

WALL = 1_700_000_000.0


class World:
    """A memory in a directory, whose monotonic clock begins at 1000 and whose wall clock is a day's work ahead."""

    def __init__(self, path: Path, wall: float = WALL, maximum: int = 100, run: Any = inline) -> None:
        self.path = path
        self.clock = Clock()
        self.clock.advance(1000)
        self.start_wall = wall
        self.journal = RecordingJournal()
        self.memory = Memory(str(path), self.clock, self.wall, run, self.journal, maximum)

    def wall(self) -> float:
        """Wall time."""
        return self.start_wall + self.clock.seconds() - 1000

    def stop(self) -> None:
        """Stop the memory."""
        result(defer.ensureDeferred(self.memory.stop()))

    def rows(self) -> dict[bytes, tuple[float, float, int]]:
        """What the file holds."""
        with closing(sqlite3.connect(self.path)) as connection:
            return {row[0]: row[1:] for row in connection.execute("SELECT * FROM seen")}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A memory that is started, in a directory that is not there yet."""
    made = World(tmp_path / "var" / "greylist.sqlite")
    made.memory.start()
    yield made
    made.stop()


def test_what_is_put_is_recalled_until_it_expires(world: World) -> None:
    """A key is known, then expired; what is not known is None; what is put again is new."""
    assert world.memory.sound
    world.memory.put(b"a", Seen(1000, 1100))
    world.memory.put(b"a", Seen(1000, 1200, 1))
    assert world.memory.get(b"a") == Seen(1000, 1200, 1)
    assert world.memory.get(b"b") is None
    assert len(world.memory) == 1
    world.clock.advance(200)
    assert world.memory.get(b"a") is None


def test_it_survives_a_restart(world: World) -> None:
    """Another process whose monotonic clock began elsewhere knows the same, by wall time."""
    world.memory.put(b"a", Seen(950, 1500, 3))
    world.memory.put(b"b", Seen(1000, 1300))
    world.memory.put(b"gone", Seen(1000, 1020))
    world.stop()
    later = World(world.path, WALL + 100)
    later.memory.start()
    assert later.memory.get(b"a") == Seen(850, 1400, 3)
    assert later.memory.get(b"b") == Seen(900, 1200)
    assert len(later.memory) == 2
    assert set(later.rows()) == {b"a", b"b"}, "what has expired is gone from the file too"
    later.stop()


def test_a_clock_that_was_wrong_makes_nothing_last_for_ever(world: World) -> None:
    """Times of the future are taken as now, and an end that is too far away is brought near."""
    world.memory.put(b"a", Seen(1000, 1000 + LONGEST, 1))
    world.stop()
    later = World(world.path, WALL - 1e9)
    later.memory.start()
    assert later.memory.get(b"a") == Seen(1000, 1000 + LONGEST, 1)
    later.stop()


def test_changes_are_written_together_after_a_while(world: World) -> None:
    """Nothing is written at once; one timer, one transaction; an idle memory has no timer."""
    for number in range(10):
        world.memory.put(bytes([number]), Seen(1000, 2000))
    assert world.rows() == {}
    assert len(world.clock.getDelayedCalls()) == 1
    world.clock.advance(INTERVAL)
    assert len(world.rows()) == 10
    assert world.rows()[b"\0"] == (WALL, WALL + 1000, 0)
    assert world.clock.getDelayedCalls() == []


def test_a_flood_of_strangers_pushes_out_strangers_only(tmp_path: Path) -> None:
    """Each part has its bound; the key touched the longest ago goes, in memory and in the file."""
    world = World(tmp_path / "m", maximum=3)
    world.memory.start()
    for key in (b"k1", b"k2"):
        world.memory.put(key, Seen(1000, 9000, 1))
    for number in range(10):
        world.memory.put(b"s%d" % number, Seen(1000, 9000))
    world.memory.put(b"s7", Seen(1000, 9000))
    world.memory.put(b"s10", Seen(1000, 9000))
    assert len(world.memory) == 5
    assert world.memory.get(b"k1") is not None
    known = [number for number in range(11) if world.memory.get(b"s%d" % number)]
    assert known == [7, 9, 10]
    world.clock.advance(INTERVAL)
    assert set(world.rows()) == {b"k1", b"k2", b"s7", b"s9", b"s10"}
    world.stop()


def test_what_has_expired_goes_as_others_come(world: World) -> None:
    """Expired keys leave memory and file without a search."""
    world.memory.put(b"a", Seen(1000, 1001))
    world.memory.put(b"b", Seen(1000, 1001))
    world.clock.advance(INTERVAL)
    assert len(world.rows()) == 2
    world.memory.put(b"c", Seen(1000, 9000))
    assert len(world.memory) == 1
    world.clock.advance(INTERVAL)
    assert set(world.rows()) == {b"c"}


def test_a_file_with_more_than_fits_is_read_to_the_bound(tmp_path: Path) -> None:
    """What lives the longest is kept."""
    world = World(tmp_path / "m")
    world.memory.start()
    for number in range(20):
        world.memory.put(b"%d" % number, Seen(1000, 2000 + number, 1))
    world.stop()
    small = World(tmp_path / "m", maximum=5)
    small.memory.start()
    assert len(small.memory) == 5
    small.stop()


def test_nothing_waits_for_the_disk(tmp_path: Path) -> None:
    """Load and writes are a thread's; until the file is loaded the memory is not sound; one exchange at a time."""
    threads = HeldThreads()
    world = World(tmp_path / "m", run=threads)
    world.memory.start()
    world.memory.start()
    assert not world.memory.sound
    assert len(threads.waiting) == 1
    world.memory.put(b"early", Seen(1000, 2000))
    threads.run_all()
    assert world.memory.sound
    world.clock.advance(INTERVAL)
    assert len(threads.waiting) == 1
    world.memory.put(b"meanwhile", Seen(1000, 2000))
    world.clock.advance(INTERVAL)
    assert len(threads.waiting) == 1, "one at a time"
    threads.run_all()
    world.clock.advance(INTERVAL)
    threads.run_all()
    assert set(world.rows()) == {b"early", b"meanwhile"}
    world.memory.put(b"last", Seen(1000, 2000))
    world.clock.advance(INTERVAL)
    stopping = defer.ensureDeferred(world.memory.stop())
    world.memory.put(b"too late for that write", Seen(1000, 2000))
    threads.run_all()
    assert stopping.called
    assert set(world.rows()) == {b"early", b"meanwhile", b"last", b"too late for that write"}
    assert world.clock.getDelayedCalls() == []


def test_what_was_known_before_the_load_is_newer(tmp_path: Path) -> None:
    """A key that was put while the file was read keeps what was put."""
    first = World(tmp_path / "m")
    first.memory.start()
    first.memory.put(b"a", Seen(1000, 9000, 1))
    first.stop()
    threads = HeldThreads()
    world = World(tmp_path / "m", run=threads)
    world.memory.start()
    world.memory.put(b"a", Seen(1000, 9000, 7))
    threads.run_all()
    assert world.memory.get(b"a") == Seen(1000, 9000, 7)
    stopping = defer.ensureDeferred(world.memory.stop())
    threads.run_all()
    assert stopping.called
    assert world.rows()[b"a"][2] == 7


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_file_is_an_alarm_and_no_memory(tmp_path: Path, content: bytes) -> None:
    """A file that is no database raises one alarm; the memory is unsound until it is gone, and touches it not."""
    path = tmp_path / "m"
    path.write_bytes(content)
    world = World(path)
    world.memory.start()
    assert not world.memory.sound
    world.clock.advance(PAUSE)
    (alarm,) = world.journal.of(Kind.MEMORY_SUSPECT)
    assert alarm.level is Level.ALERT
    assert alarm.reason is not None
    assert alarm.reason.text.startswith("what policies remember cannot be kept: ")
    assert alarm.reason.source == str(path)
    assert path.read_bytes() == content
    path.unlink()
    world.clock.advance(PAUSE)
    assert world.memory.sound
    assert world.journal.kinds() == [Kind.MEMORY_SUSPECT, Kind.MEMORY_RECOVERED]
    world.stop()


def test_a_file_of_another_version_is_not_touched(tmp_path: Path) -> None:
    """What a later version wrote is left to it."""
    path = tmp_path / "m"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    world = World(path)
    world.memory.start()
    assert not world.memory.sound
    assert "version 2" in str(world.journal.events[0].reason)
    world.stop()


def test_a_locked_file_is_an_alarm_until_it_is_free(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that another process keeps out is tried again, with all that came meanwhile; nothing is lost."""
    world.memory.put(b"a", Seen(1000, 2000))
    world.clock.advance(INTERVAL)
    world.stop()
    monkeypatch.setattr("mta.policy.memory.LOCKED", 0.0)
    again = World(world.path)
    again.memory.start()
    with closing(sqlite3.connect(world.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        again.memory.put(b"b", Seen(1000, 2000))
        again.clock.advance(INTERVAL)
        assert not again.memory.sound
        assert "locked" in str(again.journal.events[0].reason)
        again.memory.put(b"c", Seen(1000, 2000))
        other.execute("ROLLBACK")
    again.clock.advance(PAUSE)
    assert again.memory.sound
    assert set(again.rows()) == {b"a", b"b", b"c"}
    again.stop()


def test_a_file_that_lost_its_table_gets_another(world: World) -> None:
    """After a failure the file is opened anew, and what waits is written then."""
    world.memory.put(b"a", Seen(1000, 2000))
    world.clock.advance(INTERVAL)
    with closing(sqlite3.connect(world.path)) as other:
        other.execute("DROP TABLE seen")
    world.memory.put(b"b", Seen(1000, 2000))
    world.clock.advance(INTERVAL)
    assert not world.memory.sound
    world.clock.advance(PAUSE)
    assert world.memory.sound
    assert set(world.rows()) == {b"b"}


def test_a_stop_writes_what_waits(world: World) -> None:
    """It does not wait for the timer, and leaves none."""
    world.memory.put(b"a", Seen(1000, 2000))
    world.stop()
    assert set(world.rows()) == {b"a"}
    assert world.clock.getDelayedCalls() == []
    assert [path.name for path in world.path.parent.iterdir()] == [world.path.name], "and no journal of SQLite"


def test_after_a_restart_the_oldest_goes_first(tmp_path: Path) -> None:
    """What the file holds comes in the order in which it expires."""
    world = World(tmp_path / "m")
    world.memory.start()
    for key, expires in ((b"middle", 3000), (b"last", 4000), (b"first", 2000)):
        world.memory.put(key, Seen(1000, expires, 1))
    world.stop()
    again = World(tmp_path / "m", maximum=3)
    again.memory.start()
    again.memory.put(b"new", Seen(1000, 9000, 1))
    assert [again.memory.get(key) is not None for key in (b"first", b"middle", b"last")] == [False, True, True]
    again.stop()


def test_a_bug_is_told_with_its_traceback(tmp_path: Path) -> None:
    """What is neither a fault of the disk nor of SQLite is a bug of ours, and hurts nobody either."""

    def broken(function: Any, /, *args: object) -> defer.Deferred[Any]:
        return defer.fail(KeyError("bug"))

    world = World(tmp_path / "m", run=broken)
    world.memory.start()
    assert world.journal.kinds() == [Kind.FAULT, Kind.MEMORY_SUSPECT]
    assert not world.memory.sound


def test_the_file_is_for_our_eyes(world: World) -> None:
    """File and directory are readable by their owner alone; a link planted there is not followed."""
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.path.parent.stat().st_mode) == 0o700
    link = world.path.parent / "link"
    link.symlink_to(world.path)
    planted = World(link)
    planted.memory.start()
    assert not planted.memory.sound


def test_a_memory_that_was_not_started_writes_nothing(tmp_path: Path) -> None:
    """Made but never started, it makes no file and stops at once."""
    world = World(tmp_path / "m")
    world.stop()
    assert list(tmp_path.iterdir()) == []


def test_keys_are_short_and_their_own() -> None:
    """A key has 16 octets whatever goes in, and the division into parts counts."""
    assert len(key_of("a", "b" * 10_000, "\udcff")) == 16
    assert key_of("a", "b") != key_of("ab") != key_of("a\0b", "")


def test_workers_tell_each_other_what_they_put(tmp_path: Path) -> None:
    """What one has put the other knows after the next exchange, and its file too; it is not told back."""
    told: list[tuple[str, str, Any]] = []
    worlds = [World(tmp_path / f"greylist-{number}.sqlite") for number in range(2)]
    for number, world in enumerate(worlds):
        world.memory._spread = lambda name, rows, number=number: told.append((str(number), name, rows))
        world.memory.start()
    worlds[0].memory.put(b"a", Seen(1000.0, 5000.0, 1))
    assert told == []
    worlds[0].clock.advance(INTERVAL)
    assert told == [("0", "greylist", [(b"a".hex(), 1000.0, 5000.0, 1)])]
    worlds[1].memory.learn(told[0][2])
    assert worlds[1].memory.get(b"a") == Seen(1000.0, 5000.0, 1)
    worlds[1].clock.advance(INTERVAL)
    assert len(told) == 1
    assert set(worlds[1].rows()) == {b"a"}
    for world in worlds:
        world.stop()


def test_what_is_heard_never_replaces_what_is_newer(world: World) -> None:
    """Of what is known and what is heard the later end counts, and of two with the same end the larger count."""
    world.memory.put(b"a", Seen(1000.0, 5000.0, 3))
    world.memory.learn([(b"a".hex(), 1000.0, 4000.0, 9), (b"a".hex(), 1000.0, 5000.0, 2)])
    assert world.memory.get(b"a") == Seen(1000.0, 5000.0, 3)
    world.memory.learn([(b"a".hex(), 1000.0, 5000.0, 4), (b"b".hex(), 1000.0, 4000.0, 0)])
    assert world.memory.get(b"a") == Seen(1000.0, 5000.0, 4)
    assert world.memory.get(b"b") == Seen(1000.0, 4000.0, 0)

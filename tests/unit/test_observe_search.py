"""Tests of `mta.observe.search`."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mta.observe.event import Kind, Level
from mta.observe.history import BUCKET, Keep
from mta.observe.search import Archive, Wanted
from tests.unit.test_observe_history import WALL, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world with an empty directory that does not exist yet."""
    return World(tmp_path / "history")


def numbers(world: World, limit: int | None = None, wanted: Wanted | None = None) -> list[object]:
    """The numbers of the newest events that fit."""
    return [event.fields.get("n") for event in Archive(str(world.directory)).newest(wanted or Wanted(), limit)]


def test_the_newest_come_first_whoever_wrote_them(world: World) -> None:
    """Events of several workers and segments come in one order, the newest first, and no more than wanted."""
    other = world.start("1")
    world.note(1)
    world.journal.sinks[1:] = [world.history]
    world.note(2)
    world.history.close()
    world.history = world.start()
    world.note(3)
    world.journal.sinks[1:] = [other]
    world.note(4)
    world.history.close()
    other.close()
    assert numbers(world) == [4, 3, 2, 1]
    assert numbers(world, 2) == [4, 3]


def test_mentions_come_newest_first_from_every_bucket(world: World) -> None:
    """What an address is found in comes from the last bucket back, in each from its end."""
    for n in range(2 * BUCKET + 2):
        world.note(n, sender="rare@x" if n in (0, 1, BUCKET, 2 * BUCKET, 2 * BUCKET + 1) else "usual@x")
    world.history.close()
    assert numbers(world, 4, Wanted(text="RARE@x")) == [2 * BUCKET + 1, 2 * BUCKET, BUCKET, 1]


def test_segments_outside_the_time_wanted_are_not_opened(world: World) -> None:
    """What ended before, or began after it, is not read: a damaged file there is not even noticed."""
    for n in range(4):
        world.note(n, seconds=100.0)
        world.history.close()
        world.history = world.start()
    for outside in (world.files()[0], world.files()[3]):
        outside.write_bytes(b"no database")
    archive = Archive(str(world.directory))
    between = archive.newest(Wanted(since=WALL + 250.0, until=WALL + 350.0))
    assert [event.fields["n"] for event in between] == [2]
    assert archive.unread == []


def test_kinds_and_levels_are_chosen(world: World) -> None:
    """Only the kinds that are wanted come, and only what is as grave as wanted."""
    world.journal.note(Kind.SESSION_CLOSED, n=1)
    world.journal.note(Kind.FAULT, level=Level.ERROR, n=2)
    world.journal.note(Kind.DMARC_ROW, level=Level.DEBUG, n=3)
    world.history.flush()
    assert numbers(world, wanted=Wanted(kinds=[Kind.FAULT, Kind.DMARC_ROW])) == [3, 2]
    assert numbers(world, wanted=Wanted(level=Level.INFO)) == [2, 1]
    assert numbers(world, wanted=Wanted(level=Level.WARNING)) == [2]


def test_reports_are_found_by_what_they_are_about(world: World) -> None:
    """A report's event is found by the queue id of the message that it is about, and by recipients behind an alias."""
    world.journal.note(Kind.REPORT_QUEUED, queue_id="r1", about="q1", n=1)
    world.note(2, queue_id="q2", recipients="team@x", expanded="alice@x bob@y")
    world.history.flush()
    assert numbers(world, wanted=Wanted(text="q1")) == [1]
    assert numbers(world, wanted=Wanted(text="bob@y")) == [2]


def test_what_cannot_be_read_is_named(world: World) -> None:
    """A damaged segment costs its own events, and its name stands in `unread`."""
    world.note(1)
    world.history.close()
    world.files()[0].write_bytes(b"no database at all" * 1000)
    world.history = world.start()
    world.note(2)
    world.history.close()
    archive = Archive(str(world.directory))
    assert [event.fields["n"] for event in archive.newest(Wanted())] == [2]
    (told,) = archive.unread
    assert told.startswith(f"{world.files()[0]}: ")


def test_rows_that_make_no_event_are_passed_over(world: World) -> None:
    """A kind or level of a later version, or fields that a fault of the disk has torn, hide no other event."""
    for number in range(1, 8):
        world.note(number)
    world.history.close()
    torn = [f"fields = {text}" for text in ("'{'", "NULL", "'[1]'", f"'{'[' * 99_999}'")]
    with closing(sqlite3.connect(world.files()[0])) as connection:
        for number, change in enumerate(("kind = 'from.the.future'", "level = 42", *torn), 1):
            connection.execute(f"UPDATE event SET {change} WHERE fields LIKE '%:{number}}}'")
        connection.commit()
    assert numbers(world) == [7]
    assert numbers(world, 1) == [7]


def test_a_directory_that_is_not_there_is_empty_and_one_that_is_closed_is_told_of(tmp_path: Path) -> None:
    """Before the first start there is no history; what cannot be read at all is an error."""
    assert Archive(str(tmp_path / "none")).newest(Wanted()) == []
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Archive(str(tmp_path / "file")).newest(Wanted())


def test_a_reader_does_not_keep_the_writer_from_ending_a_segment(tmp_path: Path) -> None:
    """While somebody reads a segment it is ended when it is full, the next begins, and no event is lost."""
    world = World(tmp_path, Keep(16.0, 1 << 24))
    world.note(1)
    world.history.flush()
    with closing(sqlite3.connect(world.files()[0])) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM event").fetchone() == (1,)
        for number in (2, 3):
            world.note(number, seconds=2.0)
            world.history.flush()
    world.history.close()
    assert world.journal.of(Kind.HISTORY_SUSPECT) == []
    assert len(world.files()) == 2
    assert numbers(world) == [3, 2, 1]


def test_what_a_worker_left_that_is_no_more_goes_with_age(world: World) -> None:
    """Segments of other workers that nobody has written to for the time to keep are unlinked, younger ones are not."""
    world.directory.mkdir(parents=True)
    for worker, days in (("1", 3), ("2", 1)):
        left = world.directory / f"{worker}-0000000000000001.sqlite"
        left.touch()
        os.utime(left, (WALL - days * 86400,) * 2)
    world.note(1)
    world.history.close()
    assert [path.name[:2] for path in world.files()] == ["0-", "2-"]

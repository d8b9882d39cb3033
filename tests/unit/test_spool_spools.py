"""The shards of one worker as one spool."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mta.disk.posix import PosixDisk
from mta.observe.event import Event, Kind, Level
from mta.observe.journal import Journal
from mta.spool import shard
from mta.spool.port import Ended, SpoolSuspect, State
from mta.spool.recovery import MISSING, TORN
from mta.spool.shard import SpoolInUse
from mta.spool.spools import OPEN_AGAIN, Spools
from tests.doubles.spool import DONE, NOW, Held, message, whole
from tests.doubles.sync import failure, result


class Worker:
    """One worker's spools, and what they said."""

    def __init__(self, root: Path, worker: int = 0, workers: int = 1) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.held = Held()
        self.events: list[Event] = []
        journal = Journal(lambda: NOW, [self.events.append])
        self.spools = Spools(
            str(root), PosixDisk(), self.held, journal, self.clock.seconds, 3600.0, 100, worker, workers
        )

    def open(self) -> Spools:
        """Open them."""
        self.spools.open()
        return self.spools

    def kinds(self) -> list[Kind]:
        """The events so far, which are forgotten."""
        kinds = [event.kind for event in self.events]
        self.events.clear()
        return kinds


class Broken(sqlite3.Connection):
    """A connection whose COMMIT fails when `broken`."""

    broken = False

    def execute(self, *arguments: object) -> sqlite3.Cursor:  # type: ignore[override]  # whatever the spool passes
        """Run a statement, or fail before it."""
        if self.broken and arguments[0] == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(*arguments)  # type: ignore[arg-type]  # likewise


@pytest.fixture(autouse=True)
def breakable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection of the spool one that can be broken."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda database, **options: connect(database, factory=Broken, **options))


def break_shard(spools: Spools, number: int) -> None:
    """Let the next COMMIT of one shard fail."""
    (spool,) = [spool for spool in spools._shards if spool.shard == number]
    spool._writer.broken = True  # type: ignore[attr-defined]  # a `Broken`


def test_a_new_spool_has_one_shard(tmp_path: Path) -> None:
    """The first start makes shard 0, says so, and takes mail in it."""
    worker = Worker(tmp_path / "spool")
    spools = worker.open()
    assert spools.shard == 0
    (event,) = worker.events
    assert (event.kind, event.level) == (Kind.SPOOL_OPENED, Level.NOTICE)
    assert event.fields["path"] == str(tmp_path / "spool" / "0")
    assert event.fields["messages"] == 0
    result(spools.insert(message("0a")))
    result(spools.mark("0a", [0]))
    assert spools.counts().recipients == {State.WAITING: 0, State.ACTIVE: 1, State.HELD: 0}
    result(spools.record("0a", [Ended(0, DONE)], [message("0b")]))
    assert [m.queue_id for m in spools.due(NOW, 9)] == ["0b"]
    assert spools.next_due() == NOW
    assert whole(spools.content("0b")) == b"x\r\n"
    result(spools.close())
    assert sorted(os.listdir(tmp_path / "spool")) == ["0"]


def test_a_second_start_is_refused(tmp_path: Path) -> None:
    """Where a shard is in use the start fails and gives back those it had opened."""
    (tmp_path / "1").mkdir()
    give_back = shard.lock_shard(str(tmp_path / "1"))
    with pytest.raises(SpoolInUse):
        Worker(tmp_path).open()
    give_back()
    result(Worker(tmp_path).open().close())


def test_the_next_shard_takes_over(tmp_path: Path) -> None:
    """After a failed sync: an alert, a new shard, new mail goes there; the old one is read, not changed, not due."""
    worker = Worker(tmp_path)
    spools = worker.open()
    result(spools.insert(message("0a")))
    break_shard(spools, 0)
    worker.kinds()
    assert isinstance(failure(spools.insert(message("0b"))), SpoolSuspect)
    assert worker.events[0].level == Level.ALERT
    assert worker.kinds() == [Kind.SPOOL_SUSPECT, Kind.SPOOL_OPENED]
    assert spools.shard == 1
    result(spools.insert(message("0c")))
    assert [m.queue_id for m in spools.page()] == ["0a", "0c"]
    assert spools.counts().messages == 2
    assert spools.counts().recipients[State.WAITING] == 2
    assert [m.queue_id for m in spools.due(NOW, 9)] == ["0c"]
    assert spools.get("0a") is not None
    assert whole(spools.content("0a")) == b"x\r\n"
    assert isinstance(failure(spools.record("0a", [Ended(0, DONE)])), SpoolSuspect)
    assert isinstance(failure(spools.mark("0a", [0])), SpoolSuspect)
    result(spools.mark("0c", [0]))
    assert spools.next_due() is None
    result(spools.record("0c", [Ended(0, DONE)]))
    result(spools.close())
    assert [name for name in ("0", "1") if (tmp_path / name / "queue.db-wal").exists()] == ["0"]


def test_all_shards_come_back_at_the_next_start(tmp_path: Path) -> None:
    """A start opens every shard; their messages are due together, in order and page by page; new mail goes to 0."""
    first = Worker(tmp_path)
    spools = first.open()
    for queue_id in ("0a", "0c"):
        result(spools.insert(message(queue_id, "a@x", "b@y")))
    result(spools.close())
    (tmp_path / "0").rename(tmp_path / "1")
    spools = Worker(tmp_path).open()
    assert spools.shard == 0
    result(spools.insert(message("0b", "a@x", "b@y")))
    assert [m.queue_id for m in spools.page(limit=2)] == ["0a", "0b"]
    assert [m.queue_id for m in spools.page("0b")] == ["0c"]
    whole = [(m.queue_id, m.recipients[0].destination) for m in spools.due(NOW, 99)]
    assert whole == [(queue_id, destination) for queue_id in ("0a", "0b", "0c") for destination in "xy"]
    found = []
    after = (0.0, "")
    while page := spools.due(NOW, 3, after):
        found += [(m.queue_id, m.recipients[0].destination) for m in page]
        after = NOW, page[-1].queue_id
    assert found == whole
    result(spools.record("0c", [Ended(0, DONE), Ended(1, DONE)]))
    assert spools.get("0c") is None
    assert [spool.counts().messages for spool in spools._shards] == [1, 1]
    result(spools.close())


def test_an_open_shard_is_taken_before_a_new_one(tmp_path: Path) -> None:
    """If another shard is open already, it takes over at once and none is made."""
    (tmp_path / "1").mkdir()
    worker = Worker(tmp_path)
    spools = worker.open()
    break_shard(spools, 0)
    failure(spools.insert(message("0a")))
    result(spools.insert(message("0b")))
    assert spools.shard == 1
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]
    result(spools.close())


def test_opening_the_next_shard_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no new shard can be opened mail is refused; it is tried again after a while, not for each message."""
    worker = Worker(tmp_path)
    spools = worker.open()
    break_shard(spools, 0)
    real, tried = shard.Contents.open, []

    def full(contents: shard.Contents) -> None:
        tried.append(contents)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard.Contents, "open", full)
    worker.kinds()
    for _ in range(3):
        assert isinstance(failure(spools.insert(message("0b"))), SpoolSuspect)
    assert len(tried) == 1
    assert worker.kinds() == [Kind.SPOOL_SUSPECT, Kind.SPOOL_SUSPECT]
    monkeypatch.setattr(shard.Contents, "open", real)
    worker.clock.advance(OPEN_AGAIN)
    result(spools.insert(message("0b")))
    assert spools.shard == 1
    result(spools.close())


def test_there_are_1024_shards(tmp_path: Path) -> None:
    """A worker that has no number left to open says so and refuses mail."""
    worker = Worker(tmp_path, shard.SHARDS - 1, shard.SHARDS)
    spools = worker.open()
    break_shard(spools, shard.SHARDS - 1)
    failure(spools.insert(message("0a")))
    assert str(worker.events[-1].reason).startswith("no new shard: all shards are in use")
    assert isinstance(failure(spools.insert(message("0a"))), SpoolSuspect)


def test_a_stop_while_the_next_shard_is_opened(tmp_path: Path) -> None:
    """A shard that opens after the stop is closed again; no other is opened then."""
    worker = Worker(tmp_path)
    spools = worker.open()
    break_shard(spools, 0)
    worker.held.at_once = False
    inserting = spools.insert(message("0a"))
    worker.held.run(1)
    assert isinstance(failure(inserting), SpoolSuspect)
    closing = spools.close()
    worker.held.run()
    result(closing)
    shard.lock_shard(str(tmp_path / "1"))()
    worker.clock.advance(OPEN_AGAIN)
    assert isinstance(failure(spools.insert(message("0b"))), SpoolSuspect)
    assert worker.held.waiting == []


def test_workers_share_the_shards(tmp_path: Path) -> None:
    """Worker w of n owns every n-th shard: two never meet, and with one worker all are its own."""
    workers = [Worker(tmp_path, number, 2) for number in (0, 1)]
    spools = [worker.open() for worker in workers]
    assert [s.shard for s in spools] == [0, 1]
    result(spools[1].insert(message("0b")))
    break_shard(spools[0], 0)
    failure(spools[0].insert(message("0a")))
    assert spools[0].shard == 2
    result(spools[0].insert(message("0c")))
    assert [m.queue_id for m in spools[0].page()] == ["0c"]
    for each in spools:
        result(each.close())
    # the process of worker 0 ends
    spools[0]._shards[0]._writer.rollback()
    spools[0]._shards[0]._release()
    alone = Worker(tmp_path).open()
    assert [m.queue_id for m in alone.page()] == ["0b", "0c"]
    result(alone.close())


def test_what_a_start_set_aside_is_an_alert(tmp_path: Path) -> None:
    """Messages whose content is missing or torn are an alert each, and so is the start."""
    spools = Worker(tmp_path).open()
    for queue_id in ("0a", "0b", "0c"):
        result(spools.insert(message(queue_id, content=b"x" * 101)))
    result(spools.close())
    (tmp_path / "0" / "content" / "0a").unlink()
    os.truncate(tmp_path / "0" / "content" / "0b", 0)
    (tmp_path / "0" / "content" / "0x.part").write_bytes(b"")
    worker = Worker(tmp_path)
    spools = worker.open()
    opened, *held = worker.events
    assert (opened.kind, opened.level) == (Kind.SPOOL_OPENED, Level.ALERT)
    assert [opened.fields[name] for name in ("messages", "missing", "torn", "strays")] == [3, 1, 1, 1]
    assert {(event.kind, event.level) for event in held} == {(Kind.MESSAGE_HELD, Level.ALERT)}
    assert [(event.queue_id, event.reason) for event in held] == [("0a", MISSING), ("0b", TORN)]
    result(spools.close())

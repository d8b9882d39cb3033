from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, task

from mta.disk.lane import LaneFull
from mta.disk.port import Directory, Disk, RunInThread
from mta.disk.posix import PosixDisk
from mta.mail.queueid import new_queue_id
from mta.maildir.name import message_name
from mta.maildir.store import Delivery, MaildirStore, Ownership, StoreLimits
from mta.maildir.volume import VolumeSuspect
from mta.observe.event import Event, Kind
from mta.observe.journal import Journal
from tests.doubles.disk import FaultyDisk, Operation, SimulatedDisk, fault
from tests.doubles.sync import failure, inline, result
from tests.doubles.threads import HeldThreads

CHANCE = random.Random(7)
IDS = [new_queue_id(1700000000 + n, 0, CHANCE) for n in range(20)]
NAMES = [message_name(queue_id) for queue_id in IDS]
A, B, C = "/mail/a/Maildir", "/mail/b/Maildir", "/mail/c/Maildir"
CONTENT = b"Subject: x\r\n\r\nbody\r\n"
STORED = b"Subject: x\n\nbody\n"


class World:
    """A store on a simulated disk that may fail, and what it says."""

    def __init__(
        self,
        threads: RunInThread = inline,
        limits: StoreLimits | None = None,
        gid: int = -1,
        volume_sync: bool = True,
    ) -> None:
        self.disk = SimulatedDisk(["/mail"])
        self.disk.volume_sync = volume_sync
        self.faulty = FaultyDisk(self.disk)
        self.fail = self.faulty.fail
        self.clock = task.Clock()
        self.events: list[Event] = []
        self.store = MaildirStore(
            self.faulty,
            Ownership(self.disk.uid, gid, 0o640, 0o750),
            run_in_thread=threads,
            clock=self.clock,
            journal=Journal(lambda: 0.0, [self.events.append]),
            limits=limits,
        )

    def deliver(self, number: int, maildir: str = A, replay: bool = False, content: bytes = CONTENT) -> Any:
        """Deliver message `number`."""
        return self.store.deliver(Delivery(maildir, IDS[number], (content,), replay))

    def kinds(self) -> list[Kind]:
        """What was said."""
        return [event.kind for event in self.events]


def held(limits: StoreLimits | None = None, volume_sync: bool = True) -> tuple[World, HeldThreads]:
    """A world with Maildirs a, b, c made and used, and threads that work when told to."""
    threads = HeldThreads()
    world = World(threads, limits, volume_sync=volume_sync)
    for number, maildir in enumerate((A, B, C)):
        done = world.deliver(19 - number, maildir)
        threads.run_all()
        assert result(done) == 1
        world.disk.unlink(f"{maildir}/new/{NAMES[19 - number]}")
    world.disk.sync_volume(1)
    world.faulty.calls.clear()
    world.disk.operations.clear()
    return world, threads


def test_a_delivered_message_is_whole_in_new_and_durable() -> None:
    """When the Deferred fires, a power cut leaves the message under its name in ``new``, with LF line ends."""
    world = World()
    assert result(world.store.deliver(Delivery(A, IDS[0], (b"Return-Path: <>\r", b"\n", CONTENT)))) == 1
    assert world.disk.crash().files(f"{A}/new") == {f"{A}/new/{NAMES[0]}": b"Return-Path: <>\n" + STORED}


def test_the_first_use_makes_the_maildir_with_owner_group_and_modes() -> None:
    """``tmp``, ``new`` and ``cur`` and what is above them get what the settings say; so does the message."""
    world = World(gid=12)
    result(world.deliver(0))
    assert {world.disk.modes[path] for path in (A, "/mail/a", f"{A}/tmp", f"{A}/new", f"{A}/cur")} == {0o750}
    assert world.disk.owners[f"{A}/new"] == (world.disk.uid, 12)
    name = f"{A}/tmp/{NAMES[0]}"
    assert (world.disk.modes[name], world.disk.owners[name]) == (0o640, (-1, 12))


def test_the_names_of_a_maildir_are_synced_at_its_first_use_even_if_it_was_there() -> None:
    """A process may have died between making a Maildir and syncing its name."""
    world = World()
    world.disk.make_directories(f"{A}/tmp")
    world.disk.make_directories(f"{A}/new")
    result(world.deliver(0))
    assert world.disk.done("sync_directory")[:2] == [A, "/mail/a"]
    result(world.deliver(1))
    assert world.disk.done("sync_directory").count(A) == 1


def test_a_parent_that_may_not_be_read_does_not_matter() -> None:
    """Where the parent is not ours we did not make the name in it."""
    world = World()
    world.fail[("sync_directory", 2)] = fault(errno.EACCES)
    assert result(world.deliver(0)) == 1


def test_messages_that_come_during_a_sync_share_the_next() -> None:
    """Group commit: all that wait are synced with the name of the one before them, and then their own names."""
    world, threads = held()
    first = world.deliver(0)
    later = [world.deliver(1), world.deliver(2), world.deliver(3, B)]
    threads.run_all()
    assert result(first) == 1
    assert [result(done) for done in later] == [3, 3, 3]
    assert world.disk.done("sync") == [f"{A}/tmp/{NAMES[0]}"]
    assert world.disk.done("sync_volume") == ["1"]
    assert sorted(world.disk.done("sync_directory")) == [f"{A}/new", f"{B}/new"]


@pytest.mark.parametrize("volume_sync", [False, True])
def test_a_sync_carries_the_contents_of_a_batch_and_the_names_of_the_one_before(volume_sync: bool) -> None:
    """Four batches cost five turns, not eight; no message is acknowledged before the sync of its name has returned."""
    world, threads = held(volume_sync=volume_sync)
    batches = [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9]]
    done = [[world.deliver(0)]]
    for turn in range(5):
        done += [[world.deliver(n, (A, B, C)[n % 3]) for n in batch] for batch in batches[turn + 1 : turn + 2]]
        told = [[True] * len(batch) for batch in done[: max(turn - 1, 0)]]
        waiting = [[False] * len(batch) for batch in done[len(told) :]]
        assert [[one.called for one in batch] for batch in done] == told + waiting
        ((synced, function, args),) = threads.waiting
        threads.waiting.clear()
        answer = function(*args)
        durable = {path: content for path, content in world.disk.crash().files().items() if "/new/" in path}
        named = [f"{(A, B, C)[n % 3]}/new/{NAMES[n]}" for batch in batches[:turn] for n in batch]
        assert durable == dict.fromkeys(named, STORED)
        # on stable storage, but the sync has not returned
        assert [[one.called for one in batch] for batch in done] == told + waiting
        synced.callback(answer)
    assert not threads.waiting
    assert [[result(one) for one in batch] for batch in done] == [[1], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
    assert len(world.disk.done("sync_volume")) == (4 if volume_sync else 0)


def test_a_message_alone_is_committed_by_two_syncs() -> None:
    """Nothing waits for a timer or for others: content, name, answer."""
    world, threads = held()
    done = world.deliver(0)
    threads.run(2)
    assert result(done) == 1
    assert not threads.waiting
    steps = [operation.name for operation in world.disk.operations if operation.name != "directory"]
    assert steps == ["write_new", "sync", "rename", "close", "sync_directory"]
    assert world.clock.getDelayedCalls() == []


def test_the_next_sync_is_under_way_before_anybody_is_told() -> None:
    """Answering costs time that the disk can use; what an answer brings in waits for the turn after."""
    world, threads = held()
    under_way: list[int] = []
    again: list[defer.Deferred[int]] = []

    def told(number: int) -> None:
        under_way.append(len(threads.waiting))
        again.append(world.deliver(number))

    world.deliver(0).addCallback(lambda _: told(3))
    for number in (1, 2):
        world.deliver(number).addCallback(lambda _, number=number: told(number + 3))
    threads.run_all()
    assert under_way == [1, 1, 1]
    assert [result(one) for one in again] == [1, 2, 2]


def test_there_is_one_sync_at_a_time() -> None:
    """Messages that come in with the last answer begin a new turn, and one only."""
    world, threads = held()
    again: list[defer.Deferred[int]] = []
    world.deliver(0).addCallback(lambda _: again.extend(world.deliver(n) for n in (1, 2, 3)))
    while threads.waiting:
        assert len(threads.waiting) == 1
        threads.run()
    assert [result(one) for one in again] == [1, 2, 2]


def test_without_volume_sync_each_distinct_directory_is_synced_once() -> None:
    """Two messages for one Maildir and one for another: three files and two directories are synced."""
    world, threads = held(volume_sync=False)
    world.deliver(0)
    later = [world.deliver(1), world.deliver(2), world.deliver(3, B)]
    threads.run_all()
    assert [result(done) for done in later] == [3, 3, 3]
    assert len(world.disk.done("sync")) == 4
    assert sorted(world.disk.done("sync_directory")) == [f"{A}/new", f"{A}/new", f"{B}/new"]
    assert world.disk.done("sync_volume") == []


def test_nothing_is_named_before_all_of_the_batch_is_synced() -> None:
    """The order of a batch: write, sync contents with the names before, name, sync names."""
    world, threads = held()
    world.deliver(0)
    for number in (1, 2, 3):
        world.deliver(number)
    threads.run_all()
    steps = [operation.name for operation in world.disk.operations if operation.name not in ("directory", "close")]
    assert steps == [*4 * ["write_new"], "sync", "rename", "sync_volume", *3 * ["rename"], "sync_directory"]


def test_the_disk_is_asked_off_the_reactor_thread() -> None:
    """Syncs and the making of Maildirs wait on a thread; until it is done nobody is answered."""
    threads = HeldThreads()
    world = World(threads)
    done = world.deliver(0)
    assert world.disk.files() == {}
    while threads.waiting:
        assert not done.called
        threads.run()
    assert result(done) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EROFS, errno.EMFILE])
def test_a_failed_write_fails_that_message_only(number: int) -> None:
    """Row 86: full, over quota, read-only, out of descriptors: an OSError for that one, and nothing left of it."""
    world, threads = held()
    world.fail[("write_new", 2)] = fault(number)
    done = [world.deliver(n) for n in range(3)]
    threads.run_all()
    error = failure(done[1])
    assert isinstance(error, OSError)
    assert error.errno == number
    assert [result(done[0]), result(done[2])] == [1, 1]
    assert sorted(world.disk.files()) == [f"{A}/new/{NAMES[0]}", f"{A}/new/{NAMES[2]}"]
    assert world.events == []


def test_a_failed_rename_fails_that_message_only() -> None:
    """The others of the batch are delivered; the file in ``tmp`` is removed."""
    world, threads = held()
    world.fail[("rename", 3)] = fault(errno.EACCES)
    done = [world.deliver(n) for n in range(4)]
    threads.run_all()
    assert isinstance(failure(done[2]), PermissionError)
    assert [result(done[n]) for n in (0, 1, 3)] == [1, 2, 2]
    assert sorted(world.disk.files()) == [f"{A}/new/{NAMES[n]}" for n in (0, 1, 3)]


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EMFILE])
def test_a_directory_that_cannot_be_opened_for_its_sync_fails_its_messages_only(number: int) -> None:
    """A user who moves his Maildir away does not make the volume suspect, nor does a lack of descriptors."""
    world, threads = held(volume_sync=False)
    world.deliver(0)
    batch = {maildir: world.deliver(n, maildir) for n, maildir in ((1, A), (2, B), (3, C))}
    threads.run(2)
    world.fail[("sync_directory", 2)] = fault(number)
    threads.run_all()
    failed = world.disk.done("sync_directory")
    gone = {A, B, C} - {path.removesuffix("/new") for path in failed[1:]}
    assert len(gone) == 1
    for maildir, done in batch.items():
        if maildir in gone:
            error = failure(done)
            assert isinstance(error, OSError)
            assert error.errno == number
            assert [path for path in world.disk.files(maildir) if NAMES[0] not in path] == []
        else:
            assert result(done) == 3
    assert world.events == []


@pytest.mark.parametrize(
    ("key", "volume_sync"),
    [
        (("sync_volume", 2), True),
        (("sync", 4), False),
        (("sync", 5), False),
        (("sync_directory", 2), False),
        (("sync_directory", 3), False),
    ],
)
def test_a_failed_sync_fails_the_batch_and_makes_the_volume_suspect(key: tuple[str, int], volume_sync: bool) -> None:
    """Rule 4: both loads of the turn are dropped, named or not, and those that wait; nothing is taken; one alarm."""
    world, threads = held(volume_sync=volume_sync)
    world.fail[key] = fault(errno.EIO)
    first = world.deliver(0)
    named = [world.deliver(1, A), world.deliver(2, B)]
    threads.run()
    written = [world.deliver(3, A), world.deliver(4, C)]
    threads.run()
    assert result(first) == 1
    assert len([path for path in world.disk.files() if "/new/" in path]) == 3
    waiting = world.deliver(5)
    threads.run_all()
    assert [type(failure(done)) for done in (*named, *written, waiting)] == 5 * [VolumeSuspect]
    assert list(world.disk.files()) == [f"{A}/new/{NAMES[0]}"]
    assert set(world.disk.done("close")) == set(world.disk.done("write_new"))
    assert world.kinds() == [Kind.VOLUME_SUSPECT]
    assert "Input/output error" in str(world.events[0].reason)
    writes = world.faulty.calls["write_new"]
    assert isinstance(failure(world.deliver(6)), VolumeSuspect)
    assert world.faulty.calls["write_new"] == writes


def test_a_suspect_volume_recovers_when_a_write_and_sync_passes() -> None:
    """Tried after 1, 2, 4 … 60 s on the injected clock, without a restart; then deliveries are taken again."""
    world = World()
    result(world.deliver(0))
    world.fail["sync"] = fault(errno.EIO)
    assert isinstance(failure(world.deliver(1)), VolumeSuspect)
    probes = []
    for second in range(1, 200):
        before = world.faulty.calls["sync"]
        world.clock.advance(1)
        if world.faulty.calls["sync"] > before:
            probes.append(second)
    assert probes == [1, 3, 7, 15, 31, 63, 123, 183]
    assert isinstance(failure(world.deliver(2)), VolumeSuspect)
    del world.fail["sync"]
    world.clock.advance(60)
    assert world.kinds() == [Kind.VOLUME_SUSPECT, Kind.VOLUME_RECOVERED]
    assert result(world.deliver(3)) == 1
    assert world.clock.getDelayedCalls() == []
    assert sorted(world.disk.files()) == [f"{A}/new/{NAMES[0]}", f"{A}/new/{NAMES[3]}"]


def test_each_alarm_begins_with_a_short_pause() -> None:
    """A volume that fails again after it has recovered is tried after one second again."""
    world = World()
    result(world.deliver(0))
    for number in (1, 2):
        world.fail["sync"] = fault(errno.EIO)
        failure(world.deliver(number))
        world.clock.pump([1, 2])
        del world.fail["sync"]
        assert [call.getTime() - world.clock.seconds() for call in world.clock.getDelayedCalls()] == [4]
        world.clock.advance(4)
        assert result(world.deliver(10 + number)) == 1


def test_a_probe_syncs_the_volume_too() -> None:
    """What is believed again is the way that batches are synced."""
    world = World()
    result(world.deliver(0))
    world.fail[("sync", 2)] = world.fail[("sync_volume", 1)] = fault(errno.EIO)
    failure(world.deliver(1))
    world.clock.advance(1)
    assert world.kinds() == [Kind.VOLUME_SUSPECT]
    assert world.disk.files(f"{A}/tmp") == {}
    world.clock.advance(2)
    assert world.kinds() == [Kind.VOLUME_SUSPECT, Kind.VOLUME_RECOVERED]
    assert world.disk.done("sync_volume") == ["1"]


def test_a_probe_is_made_in_the_maildir_that_was_used_last() -> None:
    """A Maildir that is removed while the volume is suspect does not keep it so."""
    world = World()
    for maildir in (A, B):
        result(world.deliver(0, maildir))
    world.fail[("sync", 3)] = fault(errno.EIO)
    failure(world.deliver(1, A))
    world.disk._directories -= {A, f"{A}/tmp", f"{A}/new", f"{A}/cur"}
    world.clock.advance(1)
    assert world.kinds() == [Kind.VOLUME_SUSPECT]
    assert isinstance(failure(world.deliver(1, B)), VolumeSuspect)
    world.clock.advance(2)
    assert world.kinds() == [Kind.VOLUME_SUSPECT, Kind.VOLUME_RECOVERED]


@pytest.mark.parametrize("key", ["write_new", "sync", "rename", "sync_directory", "unlink"])
def test_no_descriptor_stays_open(key: str) -> None:
    """Whatever fails, each file that was opened is closed."""
    world = World()
    result(world.deliver(0))
    world.fail[key] = fault(errno.EIO)
    world.deliver(1).addErrback(lambda failure: None)
    assert set(world.disk.done("close")) == set(world.disk.done("write_new"))


def test_the_way_that_costs_less_is_learnt() -> None:
    """Turns are measured: the other way is tried, found dear and left; what the reactor does meanwhile is no matter."""
    world, threads = held()

    def synced_in_batch(first: int, busy: float) -> int:
        alone, *others = [world.deliver(first + n) for n in range(5)]
        threads.run()
        before = len(world.disk.done("sync"))
        world.clock.advance(busy)
        threads.run_all()
        assert [result(done) for done in (alone, *others)] == [1, 4, 4, 4, 4]
        return len(world.disk.done("sync")) - before

    def slowly(operation: Operation) -> None:
        world.clock.advance({"sync": 1.0, "sync_volume": 1.0}.get(operation.name, 0.0))

    world.disk.watch = slowly
    assert synced_in_batch(0, busy=5.0) == 0
    world.clock.advance(20.0)
    assert synced_in_batch(5, busy=0.0) == 4
    assert synced_in_batch(10, busy=0.0) == 0


def test_a_probe_that_a_crash_left_is_no_obstacle() -> None:
    """The probe's file may be there from before."""
    world = World()
    result(world.deliver(0))
    world.disk.write_new(f"{A}/tmp/probe.mta", [b"old"])
    world.fail[("sync", 2)] = fault(errno.EIO)
    failure(world.deliver(1))
    world.clock.advance(1)
    assert world.kinds() == [Kind.VOLUME_SUSPECT, Kind.VOLUME_RECOVERED]
    assert list(world.disk.files()) == [f"{A}/new/{NAMES[0]}"]


def test_a_sync_that_fails_during_a_probe_keeps_the_volume_suspect() -> None:
    """A probe is believed only if nothing failed since it began; the second failure is no second alarm."""
    world, threads = held()
    world.fail[("sync", 1)] = fault(errno.EIO)
    world.fail[("sync", 2)] = fault(errno.EIO)
    large = [world.deliver(n, content=bytes(300_000)) for n in range(2)]
    threads.run(3)  # written, written, synced: failed
    assert isinstance(failure(large[0]), VolumeSuspect)
    world.clock.advance(1)
    assert len(threads.waiting) == 2
    threads.run(1)
    assert isinstance(failure(large[1]), VolumeSuspect)
    threads.run_all()
    assert world.kinds() == [Kind.VOLUME_SUSPECT]
    world.clock.advance(2)
    threads.run_all()
    assert world.kinds() == [Kind.VOLUME_SUSPECT, Kind.VOLUME_RECOVERED]


def test_what_was_written_before_a_failed_sync_is_not_believed_after_recovery() -> None:
    """The kernel forgets failed pages: what waited meanwhile is dropped, even if the volume has recovered."""
    world, threads = held(StoreLimits(batch=1))
    world.fail[("sync", 1)] = fault(errno.EIO)
    large = world.deliver(0, content=bytes(300_000))
    threads.run(1)  # written
    small = [world.deliver(1), world.deliver(2)]
    threads.run()
    assert isinstance(failure(large), VolumeSuspect)
    hanging = threads.waiting.popleft()
    world.clock.advance(1)
    threads.run()
    assert world.kinds() == [Kind.VOLUME_SUSPECT, Kind.VOLUME_RECOVERED]
    threads.waiting.append(hanging)
    threads.run_all()
    assert [type(failure(done)) for done in small] == [VolumeSuspect, VolumeSuspect]
    assert world.disk.files() == {}


def test_each_volume_has_its_own_conveyor_and_health() -> None:
    """A suspect volume stops nobody on another one."""
    world = World()
    world.disk.volume = lambda path: 1 if path.startswith("/mail/a") else 2
    result(world.deliver(0, A))
    result(world.deliver(0, B))
    world.fail[("sync", 3)] = fault(errno.EIO)
    assert isinstance(failure(world.deliver(1, A)), VolumeSuspect)
    assert isinstance(failure(world.deliver(2, A)), VolumeSuspect)
    assert result(world.deliver(1, B)) == 1
    assert world.events[0].fields["path"] == A


def test_a_large_message_is_synced_before_it_joins_a_batch() -> None:
    """Those who share the batch do not wait for its octets, and it is not synced a second time."""
    world, threads = held()
    large = world.deliver(0, content=bytes(256 * 1024 + 1))
    assert world.disk.done("write_new") == []
    threads.run(2)  # written, synced
    assert world.disk.done("sync") == [f"{A}/tmp/{NAMES[0]}"]
    threads.run_all()
    assert result(large) == 1
    assert world.disk.done("sync") == [f"{A}/tmp/{NAMES[0]}"]
    assert len(world.disk.crash().files()[f"{A}/new/{NAMES[0]}"]) == 256 * 1024 + 1


def test_what_is_not_in_memory_is_asked_for_on_a_thread() -> None:
    """Chunks that may block are not looked at on the reactor, however few they are; a CRLF may be cut between two."""
    world, threads = held()
    asked = []

    def chunks() -> Iterator[bytes]:
        asked.append(len(threads.waiting))
        yield b"Subject: x\r"
        yield b"\n\r\nbody\r\n"

    done = world.store.deliver(Delivery(A, IDS[0], chunks()))
    assert asked == []
    threads.run_all()
    assert result(done) == 1
    assert asked == [0]
    assert world.disk.crash().files()[f"{A}/new/{NAMES[0]}"] == STORED


def test_a_maildir_that_went_away_is_made_again_for_a_large_message() -> None:
    """One that is known is not made and synced for each large message; one that is gone is."""
    world, threads = held()
    known = world.deliver(0, content=bytes(300_000))
    threads.run_all()
    assert result(known) == 1
    assert world.disk.done("make_directories") == []
    world.faulty.fail["directory", world.faulty.calls["directory"] + 1] = fault(errno.ENOENT)
    gone = world.deliver(1, content=bytes(300_000))
    threads.run_all()
    assert result(gone) == 1
    assert f"{A}/cur" in world.disk.done("make_directories")


def test_of_large_messages_few_are_written_at_a_time() -> None:
    """However many come for however many Maildirs; one that fails makes room for the next."""
    world, threads = held()
    world.fail[("write_new", 2)] = fault(errno.ENOSPC)
    done = [world.deliver(n, (A, B, C)[n % 3], content=bytes(300_000)) for n in range(8)]
    most = 0
    while threads.waiting:
        most = max(most, sum(call.__name__ == "_write" for _, call, _ in threads.waiting))
        threads.run()
    assert most == StoreLimits().copies
    assert failure(done.pop(1)).errno == errno.ENOSPC
    assert all(result(one) for one in done)


def test_contents_that_are_synced_are_not_synced_again() -> None:
    """Of large messages only the names are left to sync, and where nothing is left a turn syncs nothing."""
    world, threads = held()
    large = world.deliver(0, content=bytes(300_000))
    threads.run(2)  # written, synced
    small = world.deliver(1)
    hanging = threads.waiting.popleft()
    others = [world.deliver(n, maildir, content=bytes(300_000)) for n, maildir in ((2, A), (3, B), (4, C))]
    threads.run_all()
    threads.waiting.append(hanging)
    threads.run_all()
    assert [result(one) for one in (large, small, *others)] == [1, 4, 4, 4, 4]
    assert sorted(world.disk.done("sync")) == sorted(world.disk.done("write_new"))
    # the name of the first, then those of all others
    assert world.disk.done("sync_volume") == ["1"]
    assert world.disk.done("sync_directory").count(f"{A}/new") == 1


def test_a_large_message_whose_sync_fails_makes_the_volume_suspect() -> None:
    """Its file is removed; the batch that was under way is not believed either."""
    world, threads = held()
    world.fail[("sync", 1)] = fault(errno.EIO)
    large = world.deliver(0, content=bytes(300_000))
    threads.run()
    small = world.deliver(1)
    threads.run()
    assert isinstance(failure(large), VolumeSuspect)
    threads.run_all()
    assert isinstance(failure(small), VolumeSuspect)
    assert world.disk.files() == {}
    assert world.kinds() == [Kind.VOLUME_SUSPECT]


def test_a_sync_that_fails_elsewhere_takes_back_names_that_are_not_durable() -> None:
    """What a turn has synced while another sync failed is not believed, names no more than contents."""
    world, threads = held()
    small = world.deliver(1)
    threads.run()
    assert list(world.disk.files()) == [f"{A}/new/{NAMES[1]}"]
    names = threads.waiting.popleft()
    world.fail[("sync", 2)] = fault(errno.EIO)
    large = world.deliver(0, content=bytes(300_000))
    threads.run_all()
    assert isinstance(failure(large), VolumeSuspect)
    threads.waiting.append(names)
    threads.run_all()
    assert isinstance(failure(small), VolumeSuspect)
    assert world.disk.files() == {}


@pytest.mark.parametrize("call", ["sync", "rename"])
def test_a_fault_of_ours_in_a_turn_fails_its_messages_and_the_next_turn_follows(call: str) -> None:
    """A bug is told to the caller, makes no volume suspect, and stops no conveyor."""
    world, threads = held()
    world.fail[(call, 1)] = TypeError("a bug")  # type: ignore[assignment]  # no OSError: the fault
    done = [world.deliver(n) for n in range(2)]
    threads.run_all()
    assert isinstance(failure(done[0]), TypeError)
    assert result(done[1]) == 1
    assert list(world.disk.files()) == [f"{A}/new/{NAMES[1]}"]
    assert world.events == []


def test_a_large_message_that_does_not_fit_fails_alone() -> None:
    """ENOSPC while it is written is its own."""
    world, threads = held()
    world.fail[("write_new", 1)] = fault(errno.ENOSPC)
    large = world.deliver(0, content=bytes(300_000))
    threads.run_all()
    error = failure(large)
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert world.events == []


@pytest.mark.parametrize("place", ["new/{}", "cur/{}:2,", "cur/{}:2,RS", "cur/{},S=17:2,S"])
def test_a_replay_that_finds_its_message_makes_no_second_copy(place: str) -> None:
    """A delivery repeated after a crash meets its own name, also where a reader has moved it; and syncs it."""
    world = World()
    result(world.deliver(0))
    world.disk.rename(f"{A}/new/{NAMES[0]}", f"{A}/{place.format(NAMES[0])}")
    assert result(world.deliver(0, replay=True)) == 0
    assert list(world.disk.files()) == [f"{A}/{place.format(NAMES[0])}"]
    assert f"{A}/{place.format(NAMES[0])}" in world.disk.crash().files()


def test_a_replay_that_finds_nothing_delivers() -> None:
    """Also where the first attempt left a part of it in ``tmp``."""
    world = World()
    result(world.deliver(1))
    world.disk.write_new(f"{A}/tmp/{NAMES[0]}", [b"Subj"])
    assert result(world.deliver(0, replay=True)) == 1
    assert world.disk.crash().files(f"{A}/new")[f"{A}/new/{NAMES[0]}"] == STORED
    assert world.disk.files(f"{A}/tmp") == {}


def test_only_a_replay_searches() -> None:
    """``cur`` may be large: a first delivery does not list it."""
    world = World()
    result(world.deliver(0))
    assert world.faulty.calls["list"] == 0
    result(world.deliver(1, replay=True))
    assert world.faulty.calls["list"] == 1


@pytest.mark.parametrize(("number", "suspect"), [(errno.EIO, True), (errno.EACCES, False)])
def test_a_replay_whose_sync_fails_is_not_delivered(number: int, suspect: bool) -> None:
    """Found is not durable: a failed sync of its directory makes the volume suspect, one not tried does not."""
    world, threads = held()
    done = world.deliver(0)
    threads.run_all()
    result(done)
    again = world.deliver(0, replay=True)
    threads.run(2)  # Maildir, found
    world.fail["sync_directory"] = fault(number)
    threads.run_all()
    assert isinstance(failure(again), VolumeSuspect if suspect else PermissionError)
    assert world.kinds() == [Kind.VOLUME_SUSPECT] * suspect


def test_a_replay_is_not_answered_from_a_suspect_volume() -> None:
    """What is found there is as doubtful as what is written."""
    world = World()
    result(world.deliver(0))
    world.fail[("sync", 2)] = fault(errno.EIO)
    failure(world.deliver(1))
    assert isinstance(failure(world.deliver(0, replay=True)), VolumeSuspect)


def test_the_same_message_twice_at_once_is_one_copy() -> None:
    """Two recipients that share a mailbox: the name is the same, so the second takes the answer of the first."""
    world, threads = held()
    done = [world.deliver(0), world.deliver(0), world.deliver(0, replay=True)]
    threads.run_all()
    assert [result(one) for one in done] == [1, 1, 1]
    assert len(world.disk.done("write_new")) == 1
    assert list(world.disk.files()) == [f"{A}/new/{NAMES[0]}"]


def test_the_same_message_for_two_mailboxes_is_two_files() -> None:
    """The mailbox is the directory."""
    world = World()
    result(world.deliver(0, A))
    result(world.deliver(0, B))
    assert sorted(world.disk.files()) == [f"{A}/new/{NAMES[0]}", f"{B}/new/{NAMES[0]}"]


def test_cancelling_gives_up_the_answer_not_the_delivery() -> None:
    """A session that does not wait any longer leaves the batch alone; its file is not closed under the sync."""
    world, threads = held()
    done = world.deliver(0)
    other = world.deliver(1)
    done.cancel()
    assert isinstance(failure(done), defer.CancelledError)
    threads.run_all()
    assert result(other) == 1
    assert len(world.disk.files(f"{A}/new")) == 2


def test_too_many_that_wait_are_refused_and_leave_nothing() -> None:
    """A disk that hangs does not take all descriptors."""
    threads = HeldThreads()
    world = World(threads, StoreLimits(waiting=1))
    made = world.deliver(9)
    threads.run_all()
    result(made)
    done = [world.deliver(n) for n in range(3)]
    assert isinstance(failure(done[2]), LaneFull)
    assert f"{A}/tmp/{NAMES[2]}" not in world.disk.files()
    threads.run_all()
    assert [result(one) for one in done[:2]] == [1, 1]


def test_a_batch_is_bounded() -> None:
    """`StoreLimits.batch` messages share a sync at most."""
    threads = HeldThreads()
    world = World(threads, StoreLimits(batch=2))
    made = world.deliver(9)
    threads.run_all()
    result(made)
    done = [world.deliver(n) for n in range(4)]
    threads.run_all()
    assert [result(one) for one in done] == [1, 2, 2, 1]


def test_a_removed_maildir_is_made_again() -> None:
    """An operator who removes a mailbox while the server runs loses no mail."""
    world = World()
    result(world.deliver(0))
    world.disk.unlink(f"{A}/new/{NAMES[0]}")
    world.disk._directories -= {A, f"{A}/tmp", f"{A}/new", f"{A}/cur"}
    assert result(world.deliver(1)) == 1
    assert list(world.disk.files()) == [f"{A}/new/{NAMES[1]}"]


def test_idle_waits_for_all_that_is_under_way() -> None:
    """A stop waits for deliveries in every stage, also those that are not on a conveyor yet."""
    threads = HeldThreads()
    world = World(threads)
    assert result(world.store.idle()) is None
    done = world.deliver(0)
    idle = world.store.idle()
    while not done.called:
        assert not idle.called
        threads.run()
    assert idle.called


def test_what_is_no_queue_id_is_a_fault_of_ours() -> None:
    """No path is made of it."""
    with pytest.raises(ValueError):
        World().store.deliver(Delivery(A, "../../etc/x", (b"",)))


def test_a_fault_of_ours_reaches_the_caller() -> None:
    """An exception that is no OSError fails the delivery, and the place is free again."""
    world = World()
    result(world.deliver(0))
    with pytest.raises(TypeError):
        result(world.store.deliver(Delivery(A, IDS[1], (None,))))  # type: ignore[arg-type]  # the fault
    assert result(world.deliver(1)) == 1


# With the operating system


def _real(tmp_path: Path, disk: Disk | None = None, uid: int | None = None) -> MaildirStore:
    return MaildirStore(
        disk or PosixDisk(),
        Ownership(os.geteuid() if uid is None else uid),
        run_in_thread=inline,
        clock=task.Clock(),
        journal=Journal(lambda: 0.0),
    )


def test_delivery_on_the_operating_system(tmp_path: Path) -> None:
    """A message lies in ``new`` of a fresh Maildir, private, and no descriptor stays open but the volume's."""
    store = _real(tmp_path)
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        assert result(store.deliver(Delivery(f"{tmp_path}/x/Maildir", IDS[number], (CONTENT,)))) == 1
    new = tmp_path / "x" / "Maildir" / "new"
    assert sorted(os.listdir(new)) == sorted(NAMES[:3])
    assert (new / NAMES[0]).read_bytes() == STORED
    assert (new / NAMES[0]).stat().st_mode & 0o777 == 0o600
    assert new.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path / "x" / "Maildir" / "tmp") == []
    assert len(os.listdir("/proc/self/fd")) == descriptors + 1


def _link(path: Path, elsewhere: Path) -> None:
    path.symlink_to(elsewhere)


def _fifo(path: Path, elsewhere: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("plant", [_link, _fifo])
@pytest.mark.parametrize("part", ["", "tmp", "new"])
@pytest.mark.parametrize("known", [False, True])
def test_links_and_fifos_in_a_maildir_are_refused(
    tmp_path: Path, plant: Callable[[Path, Path], None], part: str, known: bool
) -> None:
    """Row 80: nothing is written through a planted link or FIFO, before or after the Maildir was known."""
    maildir, elsewhere = tmp_path / "Maildir", tmp_path / "elsewhere"
    for directory in ("tmp", "new", "cur"):
        (elsewhere / directory).mkdir(parents=True)
        (maildir / directory).mkdir(parents=True)
    store = _real(tmp_path)
    if known:
        result(store.deliver(Delivery(str(maildir), IDS[0], (CONTENT,))))
    victim = maildir / part if part else maildir
    victim.rename(tmp_path / "moved")
    plant(victim, elsewhere)
    with pytest.raises(OSError) as caught:
        result(store.deliver(Delivery(str(maildir), IDS[1], (CONTENT,))))
    assert caught.value.errno in (errno.ENOTDIR, errno.EEXIST)
    assert [name for _, _, files in os.walk(elsewhere) for name in files] == []


def test_a_maildir_of_another_owner_is_refused(tmp_path: Path) -> None:
    """Row 80: the owner must be the configured one; the error names both."""
    other = os.geteuid() + 1
    maildir = tmp_path / "Maildir"
    for directory in ("tmp", "new", "cur"):
        (maildir / directory).mkdir(parents=True)
    with pytest.raises(PermissionError) as caught:
        result(_real(tmp_path, uid=other).deliver(Delivery(str(maildir), IDS[0], (CONTENT,))))
    assert f"belongs to user {os.geteuid()}, not to {other}" in str(caught.value)
    assert os.listdir(maildir / "new") == os.listdir(maildir / "tmp") == []


class _PartlyOthers(SimulatedDisk):
    """The directory ``new`` belongs to somebody else."""

    def directory(self, path: str) -> Directory:
        """See `Disk`."""
        found = super().directory(path)
        return Directory(found.uid + 1, found.volume) if path.endswith("/new") else found


def test_each_directory_of_a_maildir_has_the_owner(tmp_path: Path) -> None:
    """A directory put in the place of ``new`` by another user is refused."""
    with pytest.raises(PermissionError):
        result(_real(tmp_path, _PartlyOthers(["/mail"])).deliver(Delivery(A, IDS[0], (CONTENT,))))

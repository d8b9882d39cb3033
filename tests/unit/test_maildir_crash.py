"""Power cuts at every point of Maildir deliveries, on a disk that keeps to its contract and to nothing better.

Before each operation, and at the end, each state that a power cut may leave is looked at (`Cuts.look`):

* a message whose Deferred has fired is in ``new`` (or where a reader moved it), whole;
* a name in ``new`` or ``cur`` is always a whole message;
* a replay of every delivery there gives exactly one copy of each, durably.

The same with disks that forget what they should keep must fail: the simulation sees.
"""

from __future__ import annotations

import errno
import os
import random
import re
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from twisted.internet import task
from twisted.python.failure import Failure

from mta.disk.port import File
from mta.mail.queueid import new_queue_id
from mta.maildir.name import is_message, message_name
from mta.maildir.store import Delivery, MaildirStore, Ownership, StoreLimits
from mta.maildir.volume import Volume, Written
from mta.observe.journal import Journal
from tests.doubles.disk import FaultyDisk, Operation, SimulatedDisk, fault
from tests.doubles.sync import inline, result
from tests.doubles.threads import HeldThreads

MAILDIRS = ("/mail/a/Maildir", "/mail/b/Maildir")
_CHANCE = random.Random(3)
# seven messages: the fourth large, the last two one message for two mailboxes
_IDS = [new_queue_id(1700000000 + n, 0, _CHANCE) for n in range(6)]
_SIZES = [10, 40, 10, 300, 10, 20]
DELIVERIES = [
    Delivery(MAILDIRS[n % 2], queue_id, (f"Subject: {n}\r\n\r\n".encode(), b"x" * size, b"\r\n"))
    for n, (queue_id, size) in enumerate(zip(_IDS, _SIZES, strict=True))
] + [Delivery(MAILDIRS[0], _IDS[5], (b"Subject: 5\r\n\r\n", b"y" * 20, b"\r\n"))]


def _stored(delivery: Delivery) -> bytes:
    return b"".join(delivery.chunks).replace(b"\r\n", b"\n")


WHOLE = {(delivery.maildir, message_name(delivery.queue_id)): _stored(delivery) for delivery in DELIVERIES}


def _copies(disk: SimulatedDisk, maildir: str, name: str) -> list[bytes]:
    """The content of each file that a reader of the Maildir takes for the message."""
    return [
        content
        for path, content in disk.files(maildir).items()
        if "/tmp/" not in path and is_message(path.rsplit("/", 1)[1], name)
    ]


def _store(disk: SimulatedDisk | FaultyDisk, threads: HeldThreads | None, clock: task.Clock) -> MaildirStore:
    return MaildirStore(
        disk,
        Ownership(os.geteuid()),
        run_in_thread=threads or inline,
        clock=clock,
        journal=Journal(lambda: 0.0),
        limits=StoreLimits(large=200, batch=4),
    )


class Cuts:
    """Delivers all of `DELIVERIES` on `disk`, cutting the power everywhere; `states` counts what was looked at."""

    def __init__(self, disk: SimulatedDisk, reader: bool = False, replays: bool = True, seeds: int = 4) -> None:
        self.disk = disk
        self.reader = reader
        self.replays = replays
        self.seeds = range(seeds)
        self.acknowledged: set[tuple[str, str]] = set()
        self.refused: set[tuple[str, str]] = set()
        self.states = 0
        self.threads = HeldThreads()
        self.clock = task.Clock()
        disk.watch = self.look

    def run(self, fail: dict[int | str | tuple[str, int], OSError] | None = None) -> FaultyDisk:
        """Deliver, gathering batches while threads are held; then look at the end."""
        faulty = FaultyDisk(self.disk, fail or {})
        store = _store(faulty, self.threads, self.clock)
        for number, delivery in enumerate(DELIVERIES):
            place = delivery.maildir, message_name(delivery.queue_id)
            done = store.deliver(delivery)
            done.addCallbacks(self._answered, self._refused, (place,), {}, (place,))
            if number in (1, 2) and self.threads.waiting:
                self.threads.run()
        self.threads.run_all()
        self.look(None)
        return faulty

    def _answered(self, batch: int, place: tuple[str, str]) -> None:
        self.acknowledged.add(place)
        if self.reader:
            # in one step, so that two names after a crash are not the reader's doing
            maildir, name = place
            self.disk.watch = None
            self.disk.rename(f"{maildir}/new/{name}", f"{maildir}/cur/{name}:2,S")
            self.disk.sync_directory(f"{maildir}/new")
            self.disk.watch = self.look

    def _refused(self, failure: Failure, place: tuple[str, str]) -> None:
        self.refused.add(place)

    def look(self, operation: Operation | None) -> None:
        """Check each state that a power cut now may leave."""
        for label, after in self.disk.crash_states(self.seeds):
            self.states += 1
            where = f"power cut before {operation}, {label}"
            for place in self.acknowledged:
                assert _copies(after, *place) == [WHOLE[place]], f"acknowledged, but lost, torn or double: {where}"
            for (maildir, name), whole in WHOLE.items():
                assert set(_copies(after, maildir, name)) <= {whole}, f"torn in new or cur: {where}"
            if self.replays:
                self.replay(after, where)

    def replay(self, after: SimulatedDisk, where: str) -> None:
        """Check that a replay of all deliveries makes exactly one durable copy of each."""
        store = _store(after, None, task.Clock())
        for delivery in DELIVERIES:
            result(store.deliver(Delivery(delivery.maildir, delivery.queue_id, delivery.chunks, replay=True)))
        durable = after.crash()
        for (maildir, name), whole in WHOLE.items():
            assert _copies(durable, maildir, name) == [whole], f"after a replay: {where}"


@pytest.mark.parametrize("reader", [False, True])
@pytest.mark.parametrize("volume_sync", [False, True])
def test_no_power_cut_loses_or_tears_or_doubles_a_message(volume_sync: bool, reader: bool) -> None:
    """At every point, in every state: acknowledged is there, named is whole, a replay makes exactly one copy."""
    disk = SimulatedDisk(["/mail"])
    disk.volume_sync = volume_sync
    cuts = Cuts(disk, reader)
    cuts.run()
    assert cuts.acknowledged == set(WHOLE)
    assert len(disk.done("sync_volume")) == (2 if volume_sync else 0)
    assert cuts.states > 200


@pytest.mark.parametrize("volume_sync", [False, True])
def test_messages_share_syncs_in_the_simulation(volume_sync: bool) -> None:
    """What is simulated are turns with both loads, and with several messages in each."""
    disk = SimulatedDisk(["/mail"])
    disk.volume_sync = volume_sync
    Cuts(disk, replays=False, seeds=0).run()
    letters = {"sync": "s", "sync_volume": "v", "rename": "r", "sync_directory": "d"}
    steps = "".join(
        letters.get(done.name, "")
        for done in disk.operations
        if done.name != "sync_directory" or done.path.endswith("/new")
    )
    assert re.search("rvrrr+s*vr" if volume_sync else "rs{3,}drrr+s+d+r", steps)


@pytest.mark.parametrize("volume_sync", [False, True])
def test_no_single_fault_loses_a_message(volume_sync: bool) -> None:
    """The k-th call fails, for k = 1, 2, 3 … until a run passes untouched; and power cuts everywhere meanwhile."""
    for k in count(1):
        disk = SimulatedDisk(["/mail"])
        disk.volume_sync = volume_sync
        cuts = Cuts(disk, replays=False, seeds=1)
        faulty = cuts.run({k: fault(errno.EIO)})
        assert cuts.acknowledged | cuts.refused == set(WHOLE)
        assert not cuts.acknowledged & cuts.refused
        for maildir, name in cuts.refused:
            assert _copies(disk, maildir, name) == [], f"refused, yet there: call {k}"
        cuts.clock.pump([1.0] * 3)
        cuts.threads.run_all()
        disk.watch = None
        cuts.replay(disk, f"call {k}")
        if faulty.calls.total() < k:
            assert cuts.refused == set()
            break
    assert k > 30


class _ForgetsNames(SimulatedDisk):
    """`sync_directory` does nothing: as if the commit left it out."""

    def sync_directory(self, path: str) -> None:
        self._note("sync_directory", path)


class _VolumeForgetsNames(SimulatedDisk):
    """`sync_volume` keeps contents only."""

    def sync_volume(self, volume: int) -> None:
        self._note("sync_volume", str(volume))
        for node in self._names.values():
            node.durable = node.content


class _VolumeForgetsContents(SimulatedDisk):
    """`sync_volume` keeps names only."""

    def sync_volume(self, volume: int) -> None:
        self._note("sync_volume", str(volume))
        self._settle(lambda name: True)


class _ForgetsContents(SimulatedDisk):
    """Syncing a file does nothing."""

    def write_new(self, path: str, chunks: object, mode: int = 0o600, gid: int = -1) -> File:
        file = super().write_new(path, chunks, mode, gid)  # type: ignore[arg-type]  # passed on as it came
        file.sync = lambda: None  # type: ignore[method-assign]  # what is tested
        return file


@pytest.mark.parametrize(
    ("broken", "volume_sync", "said"),
    [
        (_ForgetsNames, False, "acknowledged, but lost"),
        (_ForgetsNames, True, "acknowledged, but lost"),
        (_VolumeForgetsNames, True, "acknowledged, but lost"),
        (_VolumeForgetsContents, True, "torn|acknowledged"),
        (_ForgetsContents, False, "torn|acknowledged"),
        (_ForgetsContents, True, "torn|acknowledged"),
    ],
)
def test_the_simulation_sees_a_sync_that_is_left_out(
    broken: Callable[[list[str]], SimulatedDisk], volume_sync: bool, said: str
) -> None:
    """A commit without the sync of contents, or of names, is caught; otherwise the tests above would prove nothing."""
    disk = broken(["/mail"])
    disk.volume_sync = volume_sync
    # the first two rules are enough
    with pytest.raises(AssertionError, match=said):
        Cuts(disk, replays=False).run()


def test_the_simulation_sees_names_before_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is named before its content is synced is caught."""
    write = MaildirStore._write

    def write_and_name(store: MaildirStore, delivery: Delivery, name: str, generation: int) -> Written:
        written = write(store, delivery, name, generation)
        store._disk.rename(written.path, f"{written.directory}/{name}")
        written.path = f"{written.directory}/{name}"
        return written

    monkeypatch.setattr(MaildirStore, "_write", write_and_name)
    with pytest.raises(AssertionError, match="torn in new"):
        Cuts(SimulatedDisk(["/mail"])).run()


@pytest.mark.parametrize("volume_sync", [False, True])
def test_the_simulation_sees_an_answer_one_turn_early(monkeypatch: pytest.MonkeyPatch, volume_sync: bool) -> None:
    """A message that is acknowledged when it is named, before the turn that syncs its name, is caught."""
    turn = Volume._turn

    async def early(volume: Volume, written: Sequence[Written], named: Sequence[Written]) -> Any:
        renamed, ended = await turn(volume, written, ())
        return [], ended + [(message, 1) for message in renamed]

    monkeypatch.setattr(Volume, "_turn", early)
    disk = SimulatedDisk(["/mail"])
    disk.volume_sync = volume_sync
    with pytest.raises(AssertionError, match="acknowledged, but lost"):
        Cuts(disk, replays=False).run()

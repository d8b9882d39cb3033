"""Content while it comes: in memory, then in a file, with the prefix in front."""

from __future__ import annotations

import errno
import tracemalloc

import pytest

from mta.board.alone import NAMES_MAXIMUM, OwnTable
from mta.disk.port import Free
from mta.message.header import Head
from mta.observe.journal import Journal
from mta.policy.rate import Rate
from mta.receive.staging import MEMORY_MAXIMUM, Staging
from mta.spool.port import StagedContent
from mta.spool.reserve import Reserve
from tests.doubles.disk import FaultyDisk, SimulatedDisk

PATH = "/staging/1"


class Stage:
    """A staging area, the heads it had judged, and the body it was shown. `refuses` may be set."""

    def __init__(self, reserve: Reserve | None = None) -> None:
        self.disk = SimulatedDisk(["/staging"])
        self.faulty = FaultyDisk(self.disk)
        self.heads: list[Head] = []
        self.refuses = False
        self.observed = bytearray()
        self.staging = Staging(self.faulty, PATH, reserve or reserve_beside(1 << 40), self.judge)

    def judge(self, head: Head) -> bool:
        """Judge a head."""
        self.heads.append(head)
        self.staging.observe = self.observed.extend
        return not self.refuses


def reserve_beside(octets: int) -> Reserve:
    """Make a reserve on a volume with so many octets beside it."""
    disk = SimulatedDisk()
    disk.free_space = Free(1_000_000 + octets, 1)
    return Reserve(disk, "/", 1_000_000, 0, lambda: 0.0, Journal(lambda: 0.0))


def test_small_content_stays_in_memory() -> None:
    """Up to the bound nothing is written; the head is judged once, at the end, and what goes in front comes then."""
    stage = Stage()
    for chunk in (b"a: b\r\n\r\n", b"b" * (MEMORY_MAXIMUM - 8)):
        stage.staging.add(chunk)
    staged = stage.staging.finish()
    assert staged is not None
    assert staged.content(b"prefix: x\r\n") == b"prefix: x\r\na: b\r\n\r\n" + b"b" * (MEMORY_MAXIMUM - 8)
    assert staged.content(fields=b"c: d\r\n") == b"c: d\r\n\r\n" + b"b" * (MEMORY_MAXIMUM - 8)
    assert stage.disk.operations == []
    assert [head.octets for head in stage.heads] == [b"a: b\r\n"]
    assert stage.observed == b"b" * (MEMORY_MAXIMUM - 8)


def test_large_content_goes_to_a_file() -> None:
    """One octet more, and all but the head goes to a file; what follows is appended, and is observed as it comes."""
    stage = Stage()
    stage.staging.add(b"a: b\r\n\r\n" + b"a" * (MEMORY_MAXIMUM - 8))
    stage.staging.add(b"b")
    stage.staging.add(b"c")
    staged = stage.staging.finish()
    assert staged is not None
    content = staged.content(b"prefix: x\r\n")
    assert isinstance(content, StagedContent)
    assert (content.path, content.head) == (PATH, b"prefix: x\r\na: b\r\n")
    assert stage.disk.files()[PATH] == b"\r\n" + b"a" * (MEMORY_MAXIMUM - 8) + b"bc"
    assert [head.octets for head in stage.heads] == [b"a: b\r\n"]
    assert stage.observed == b"a" * (MEMORY_MAXIMUM - 8) + b"bc"
    assert stage.staging.size == MEMORY_MAXIMUM + 2
    body = staged.body(stage.disk, stage.staging.size)
    assert b"".join(body.pieces()) == stage.observed
    assert body.size == len(stage.observed)
    assert content.sync().path == PATH
    assert stage.disk.crash().files() == {}, "the name is for the spool to sync"
    stage.disk.sync_directory("/staging")
    assert stage.disk.crash().files() == stage.disk.files()


def test_tiny_pieces_take_no_more_memory_than_large_ones() -> None:
    """Content that comes octet by octet is kept within twice its size."""
    stage = Stage()
    tracemalloc.start()
    try:
        for _ in range(100_000):
            stage.staging.add(bytes(1))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 200_000
    staged = stage.staging.finish()
    assert staged is not None
    assert staged.content() == b"\r\n" + bytes(100_000), "a body without a head is divided from what comes before it"
    assert stage.observed == bytes(100_000)
    assert b"".join(staged.body(stage.disk, 100_000).pieces()) == bytes(100_000)


@pytest.mark.parametrize("size", [10, MEMORY_MAXIMUM + 1])
def test_what_is_refused_for_its_head_is_only_counted(size: int) -> None:
    """After a refusal nothing is kept and nothing is written, whatever comes."""
    stage = Stage()
    stage.refuses = True
    stage.staging.add(bytes(size))
    for _ in range(100):
        stage.staging.add(bytes(MEMORY_MAXIMUM))
    assert stage.staging.finish() is None
    assert (stage.staging.size, stage.staging.failed) == (size + 100 * MEMORY_MAXIMUM, None)
    assert stage.disk.operations == []
    assert len(stage.heads) == 1


def test_messages_that_come_at_once_leave_the_reserve() -> None:
    """Whatever was free when each began, all together take no more than there is beside the reserve."""
    room = 10 * MEMORY_MAXIMUM
    reserve = reserve_beside(room)
    stages = [Stage(reserve) for _ in range(8)]
    for some in (stages[:2], stages[2:]):
        for _ in range(4):
            for stage in some:
                stage.staging.add(bytes(MEMORY_MAXIMUM))
    assert [stage.staging.finish() is not None for stage in stages] == [True, True] + [False] * 6
    assert sum(len(octets) for stage in stages for octets in stage.disk.files().values()) <= room
    assert {stage.staging.failed and stage.staging.failed.errno for stage in stages[2:]} == {errno.ENOSPC}


def test_a_drop_removes_the_file() -> None:
    """What is dropped leaves nothing, before and after its end; a second drop is harmless."""
    for finished in (False, True):
        stage = Stage()
        stage.staging.add(b"a" * (MEMORY_MAXIMUM + 1))
        if finished:
            stage.staging.finish()
        stage.staging.drop()
        stage.staging.drop()
        assert stage.disk.files() == {}


@pytest.mark.parametrize("operation", ["create", "write"])
def test_a_file_that_fails_is_told_at_the_end(operation: str) -> None:
    """A full disk is remembered, later octets are only counted, and no file is left."""
    stage = Stage()
    stage.faulty.fail = {operation: OSError(errno.ENOSPC, "injected")}
    stage.staging.add(b"a" * (MEMORY_MAXIMUM + 1))
    stage.staging.add(b"b")
    assert stage.staging.finish() is None
    assert stage.staging.failed is not None
    assert stage.staging.failed.errno == errno.ENOSPC
    assert stage.staging.size == MEMORY_MAXIMUM + 2
    assert stage.disk.files() == {}


def test_a_file_that_cannot_be_removed_is_left_for_the_next_start() -> None:
    """A drop never raises."""
    stage = Stage()
    stage.staging.add(b"a" * (MEMORY_MAXIMUM + 1))
    stage.faulty.fail = {"unlink": OSError(errno.EIO, "injected")}
    stage.staging.drop()
    assert list(stage.disk.files()) == [PATH]


def test_an_hourly_rate_refills_and_forgets() -> None:
    """Three an hour: the fourth is refused, after twenty minutes there is one more; names do not share."""
    now = 0.0
    rate = Rate(OwnTable(), lambda: now)
    assert [rate.take("a", 3) for _ in range(4)] == [True, True, True, False]
    assert rate.take("b", 3)
    now = 1200.0
    assert [rate.take("a", 3) for _ in range(2)] == [True, False]
    now = 1e6
    assert [rate.take("a", 3) for _ in range(4)] == [True, True, True, False]


def test_the_table_of_rates_is_bounded() -> None:
    """With more names than it holds the one that was quiet the longest is forgotten."""
    rate = Rate(OwnTable(), lambda: 0.0)
    assert rate.take("first", 1)
    for number in range(NAMES_MAXIMUM):
        rate.take(f"name{number}", 1)
    assert rate.take("first", 1)

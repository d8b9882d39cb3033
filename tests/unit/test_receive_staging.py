"""Content while it comes: in memory, then in a file, with the prefix in front."""

from __future__ import annotations

import errno

import pytest

from mta.receive.rate import HourlyRate
from mta.receive.staging import MEMORY_MAXIMUM, Staging
from tests.doubles.disk import FaultyDisk, SimulatedDisk

PATH = "/staging/1"


class Stage:
    """A staging area whose prefix says how much of the content it was asked about."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk(["/staging"])
        self.faulty = FaultyDisk(self.disk)
        self.heads: list[bytes] = []
        self.staging = Staging(self.faulty, PATH, self.open)

    def open(self, head: bytes) -> bytes:
        """Make the prefix."""
        self.heads.append(head)
        return b"prefix "


def test_small_content_stays_in_memory() -> None:
    """Up to the bound nothing is written; the prefix is asked for once, at the end, with all that came."""
    stage = Stage()
    for chunk in (b"a", b"b" * (MEMORY_MAXIMUM - 1)):
        stage.staging.add(chunk)
    content = stage.staging.finish()
    assert content == b"prefix a" + b"b" * (MEMORY_MAXIMUM - 1)
    assert stage.disk.operations == []
    assert len(stage.heads) == 1


def test_large_content_goes_to_a_file() -> None:
    """One octet more goes to a file that begins with the prefix; what follows is appended."""
    stage = Stage()
    stage.staging.add(b"a" * MEMORY_MAXIMUM)
    stage.staging.add(b"b")
    stage.staging.add(b"c")
    assert stage.staging.finish() == PATH
    assert stage.disk.files()[PATH] == b"prefix " + b"a" * MEMORY_MAXIMUM + b"bc"
    assert stage.heads == [b"a" * MEMORY_MAXIMUM + b"b"]
    assert stage.staging.size == MEMORY_MAXIMUM + 2


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
    rate = HourlyRate(lambda: now)
    assert [rate.take("a", 3) for _ in range(4)] == [True, True, True, False]
    assert rate.take("b", 3)
    now = 1200.0
    assert [rate.take("a", 3) for _ in range(2)] == [True, False]
    now = 1e6
    assert [rate.take("a", 3) for _ in range(4)] == [True, True, True, False]


def test_the_table_of_rates_is_bounded() -> None:
    """With more names than it holds the one that was quiet the longest is forgotten."""
    rate = HourlyRate(lambda: 0.0)
    assert rate.take("first", 1)
    for number in range(10_000):
        rate.take(f"name{number}", 1)
    assert rate.take("first", 1)

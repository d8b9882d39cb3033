"""The double that crash tests stand on must lose what a power cut may lose."""

from __future__ import annotations

import errno
import random

import pytest

from tests.doubles.disk import FaultyDisk, Operation, SimulatedDisk, fault


def _all_files(disk: SimulatedDisk) -> dict[str, dict[str, bytes]]:
    return {label: after.files() for label, after in disk.crash_states()}


def test_nothing_unsynced_is_sure() -> None:
    """An unsynced file may be gone, empty, torn or whole."""
    disk = SimulatedDisk(["/d"])
    disk.write_new("/d/a", [b"content!"])
    states = _all_files(disk)
    assert states["nothing unsynced kept"] == {}
    assert states["everything kept"] == {"/d/a": b"content!"}
    assert states["names kept, contents not"] == {"/d/a": b""}
    assert states["names kept, contents torn"] == {"/d/a": b"cont\0\0\0\0"}


def test_a_synced_file_may_lose_its_name() -> None:
    """`File.sync` keeps the content, not the name."""
    disk = SimulatedDisk(["/d"])
    disk.write_new("/d/a", [b"x"]).sync()
    states = _all_files(disk)
    assert states["nothing unsynced kept"] == {}
    assert states["names kept, contents not"] == {"/d/a": b"x"}


def test_a_synced_directory_keeps_the_name_of_an_empty_file() -> None:
    """`sync_directory` keeps the name, not the content."""
    disk = SimulatedDisk(["/d"])
    disk.write_new("/d/a", [b"x"])
    disk.sync_directory("/d")
    assert _all_files(disk)["nothing unsynced kept"] == {"/d/a": b""}


def test_a_rename_is_kept_by_the_directory_of_the_new_name() -> None:
    """After a sync of the new directory the new name is sure; the old one may still be there, too."""
    disk = SimulatedDisk(["/tmp", "/new"])
    disk.write_new("/tmp/a", [b"x"]).sync()
    disk.sync_directory("/tmp")
    disk.rename("/tmp/a", "/new/a")
    assert _all_files(disk)["nothing unsynced kept"] == {"/tmp/a": b"x"}
    disk.sync_directory("/new")
    states = _all_files(disk)
    assert states["nothing unsynced kept"] == {"/tmp/a": b"x", "/new/a": b"x"}
    assert states["everything kept"] == {"/new/a": b"x"}


def test_a_rename_never_loses_the_file() -> None:
    """Where the old name is gone for good, the new one is there for good, whatever is kept."""
    disk = SimulatedDisk(["/tmp", "/new"])
    disk.write_new("/tmp/a", [b"x"]).sync()
    disk.sync_directory("/tmp")
    disk.rename("/tmp/a", "/new/a")
    assert all(disk.crash(random.Random(seed)).files() for seed in range(50))
    disk.sync_directory("/tmp")
    assert disk.crash().files() == {"/new/a": b"x"}


def test_an_old_meaning_of_a_name_does_not_come_back() -> None:
    """What a name meant before a durable change is gone, whatever is kept."""
    disk = SimulatedDisk(["/d"])
    disk.write_new("/d/a", [b"old"]).sync()
    disk.unlink("/d/a")
    disk.write_new("/d/a", [b"new"]).sync()
    disk.sync_directory("/d")
    assert {after.read("/d/a") for _, after in disk.crash_states()} == {b"new"}


def test_a_synced_volume_keeps_all_of_it_and_nothing_else() -> None:
    """`sync_volume` keeps names and contents of one volume."""
    disk = SimulatedDisk(["/one", "/two"])
    disk.volume = lambda path: 1 if path.startswith("/one") else 2
    disk.write_new("/one/a", [b"x"])
    disk.write_new("/two/a", [b"x"])
    disk.sync_volume(disk.directory("/one").volume)
    assert disk.crash().files() == {"/one/a": b"x"}


def test_every_operation_is_recorded_and_seen_before_it_happens() -> None:
    """`watch` is called before each operation that changes or syncs something; `operations` has all."""
    disk = SimulatedDisk(["/d"])
    seen: list[tuple[Operation, bool]] = []
    disk.watch = lambda operation: seen.append((operation, "/d/b" in disk.files()))
    disk.write_new("/d/a", [b"x"]).sync()
    disk.rename("/d/a", "/d/b")
    assert disk.exists("/d/b")
    assert seen == [
        (Operation("write_new", "/d/a"), False),
        (Operation("sync", "/d/a"), False),
        (Operation("rename", "/d/a", "/d/b"), False),
    ]
    assert disk.operations == [*(operation for operation, _ in seen), Operation("exists", "/d/b")]
    assert disk.done("sync") == ["/d/a"]


def test_after_a_crash_all_that_is_there_is_durable() -> None:
    """A second power cut changes nothing."""
    disk = SimulatedDisk(["/d"])
    disk.write_new("/d/a", [b"x"])
    for _, after in disk.crash_states():
        assert after.crash().files() == after.files()


@pytest.mark.parametrize("key", [3, "sync", ("sync", 1)])
def test_a_faulty_disk_fails_where_it_is_told_to(key: int | str | tuple[str, int]) -> None:
    """By the number of the call, by the operation, or by both; before anything is done."""
    disk = FaultyDisk(SimulatedDisk(["/d"]), {key: fault(errno.EIO)})
    disk.write_new("/d/a", [b"x"])
    file = disk.create("/d/b")
    with pytest.raises(OSError) as caught:
        file.sync()
    assert caught.value.errno == errno.EIO
    assert disk.calls == {"write_new": 1, "create": 1, "sync": 1}


def test_after_a_failed_sync_the_next_one_lies() -> None:
    """The kernel forgets what it could not write and calls the next sync a success."""
    inner = SimulatedDisk(["/d"])
    disk = FaultyDisk(inner, {("sync", 1): fault(errno.EIO)})
    file = disk.write_new("/d/a", [b"x"])
    with pytest.raises(OSError):
        file.sync()
    file.sync()
    disk.sync_directory("/d")
    assert disk.read("/d/a") == b"x"
    assert inner.crash().files() == {"/d/a": b""}
    assert _all_files(inner)["everything kept"] == {"/d/a": b""}

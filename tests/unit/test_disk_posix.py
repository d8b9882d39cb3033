"""`PosixDisk`, and what it has in common with the `SimulatedDisk` that other tests stand on."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mta.disk import posix
from mta.disk.port import Disk
from mta.disk.posix import PosixDisk
from tests.doubles.disk import FaultyDisk, SimulatedDisk


def _simulated(root: str) -> Disk:
    return SimulatedDisk([root])


def _real(root: str) -> Disk:
    return PosixDisk()


def _faultless(root: str) -> Disk:
    return FaultyDisk(SimulatedDisk([root]))


@pytest.fixture(params=[_simulated, _real, _faultless])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """Each of them must do the same."""
    make: Callable[[str], Disk] = request.param
    return make(str(tmp_path))


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A directory that is there."""
    return str(tmp_path)


def test_what_is_written_is_read(disk: Disk, root: str) -> None:
    """Chunks and later writes are the content, in order."""
    file = disk.write_new(f"{root}/a", [b"one", b"", b"two"])
    file.write(b"three")
    file.sync()
    file.close()
    file.close()
    assert disk.read(f"{root}/a") == b"onetwothree"


def test_a_new_file_is_empty(disk: Disk, root: str) -> None:
    """`create` makes a file with nothing in it."""
    disk.create(f"{root}/a").close()
    assert disk.read(f"{root}/a") == b""


def test_a_name_that_is_taken_is_refused(disk: Disk, root: str) -> None:
    """O_EXCL: nothing is ever written over, and what is there stays."""
    disk.write_new(f"{root}/a", [b"old"]).close()
    with pytest.raises(FileExistsError):
        disk.create(f"{root}/a")
    with pytest.raises(FileExistsError):
        disk.write_new(f"{root}/a", [b"new"])
    assert disk.read(f"{root}/a") == b"old"


def test_rename_and_unlink(disk: Disk, root: str) -> None:
    """A rename moves the content and replaces what had the name; an unlinked name is gone."""
    disk.write_new(f"{root}/a", [b"a"]).close()
    disk.write_new(f"{root}/b", [b"b"]).close()
    disk.rename(f"{root}/a", f"{root}/b")
    assert disk.list(root) == ["b"]
    assert disk.read(f"{root}/b") == b"a"
    disk.unlink(f"{root}/b")
    assert not disk.exists(f"{root}/b")


@pytest.mark.parametrize(
    "call",
    [
        lambda disk, root: disk.read(f"{root}/none"),
        lambda disk, root: disk.unlink(f"{root}/none"),
        lambda disk, root: disk.rename(f"{root}/none", f"{root}/b"),
        lambda disk, root: disk.list(f"{root}/none"),
        lambda disk, root: disk.create(f"{root}/none/a"),
        lambda disk, root: disk.directory(f"{root}/none"),
        lambda disk, root: disk.sync_directory(f"{root}/none"),
    ],
)
def test_what_is_not_there_is_file_not_found(disk: Disk, root: str, call: Callable[[Disk, str], object]) -> None:
    """Each call on a missing name or directory raises FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        call(disk, root)


def test_directories_are_made_with_their_parents(disk: Disk, root: str) -> None:
    """Missing directories are made; those that are there are no error."""
    disk.make_directories(f"{root}/x/y/z")
    disk.make_directories(f"{root}/x/y/z")
    assert disk.list(f"{root}/x/y") == ["z"]
    assert disk.exists(f"{root}/x/y/z")
    assert disk.directory(f"{root}/x").uid == os.geteuid()


def test_a_file_is_no_directory(disk: Disk, root: str) -> None:
    """`directory` raises NotADirectoryError for what is something else."""
    disk.create(f"{root}/a").close()
    with pytest.raises(NotADirectoryError):
        disk.directory(f"{root}/a")


def test_syncs_pass(disk: Disk, root: str) -> None:
    """A directory and a volume that was looked at can be synced, and free space is told."""
    disk.sync_directory(root)
    if disk.volume_sync:
        disk.sync_volume(disk.directory(root).volume)
    assert disk.free(root).octets > 0
    assert disk.free(root).inodes > 0


# Only the real one


def test_the_parent_of_each_directory_made_is_synced(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 6: up to what was there; a directory that was there costs no sync."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    disk = PosixDisk()
    disk.make_directories(f"{root}/x/y")
    assert synced == [root, f"{root}/x"]
    disk.make_directories(f"{root}/x/y")
    assert len(synced) == 2


def test_two_threads_that_see_a_volume_at_once_hold_one_descriptor(root: str) -> None:
    """The second descriptor is closed."""
    disk = PosixDisk()
    disk._watch(root)
    descriptors = len(os.listdir("/proc/self/fd"))
    disk._watch(root)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_modes_are_exact(root: str) -> None:
    """The umask takes nothing from the modes that the settings ask for, nor adds to a private file."""
    disk = PosixDisk()
    before = os.umask(0o077)
    try:
        disk.make_directories(f"{root}/d/e", 0o2775)
        disk.create(f"{root}/shared", 0o664).close()
        disk.create(f"{root}/private").close()
    finally:
        os.umask(before)
    modes = {name: os.stat(f"{root}/{name}").st_mode & 0o7777 for name in ("d", "d/e", "shared", "private")}
    assert modes == {"d": 0o2775, "d/e": 0o2775, "shared": 0o664, "private": 0o600}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_files_and_directories_are_given_to_owner_and_group(root: str) -> None:
    """A group is set on new files, owner and group on each directory made, and on no other."""
    disk = PosixDisk()
    disk.make_directories(f"{root}/d/e", 0o750, 65534, 12345)
    disk.write_new(f"{root}/f", [b"x"], 0o640, 12345).close()
    owners = {name: (os.stat(f"{root}/{name}").st_uid, os.stat(f"{root}/{name}").st_gid) for name in ("d", "d/e", "f")}
    assert owners == {"d": (65534, 12345), "d/e": (65534, 12345), "f": (0, 12345)}
    assert os.stat(root).st_uid == 0


def test_a_directory_that_cannot_be_given_away_is_not_left(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the next attempt would take the wrong owner for right."""

    def refuse(*args: object) -> None:
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(PermissionError):
        PosixDisk().make_directories(f"{root}/d", gid=12345)
    assert os.listdir(root) == []


def test_links_and_fifos_are_not_opened(root: str) -> None:
    """Row 80: a planted symbolic link is not followed, a planted FIFO is refused at once and not waited for."""
    disk = PosixDisk()
    disk.write_new(f"{root}/secret", [b"x"]).close()
    os.symlink(f"{root}/secret", f"{root}/link")
    os.symlink(root, f"{root}/directory")
    os.mkfifo(f"{root}/fifo")
    for name, expected in {"link": errno.ELOOP, "fifo": errno.EINVAL}.items():
        with pytest.raises(OSError) as caught:
            disk.read(f"{root}/{name}")
        assert caught.value.errno == expected
    for name in ("link", "directory", "fifo"):
        with pytest.raises(NotADirectoryError):
            disk.directory(f"{root}/{name}")
        with pytest.raises(FileExistsError):
            disk.create(f"{root}/{name}")
    assert disk.exists(f"{root}/link")


def test_a_directory_in_the_way_of_directories_must_be_one(root: str) -> None:
    """A file under the name of a directory is no success of `make_directories`."""
    disk = PosixDisk()
    disk.create(f"{root}/a").close()
    with pytest.raises(FileExistsError):
        disk.make_directories(f"{root}/a")


def test_short_writes_are_continued(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may take less than all; the file is whole all the same."""
    writev, write = os.writev, os.write
    monkeypatch.setattr(os, "writev", lambda fd, parts: writev(fd, [b"".join(parts)[:4]]))
    monkeypatch.setattr(os, "write", lambda fd, octets: write(fd, octets[:2]))
    PosixDisk().write_new(f"{root}/a", [b"abc", b"def", b"ghi"]).close()
    assert Path(root, "a").read_bytes() == b"abcdefghi"


def test_more_chunks_than_one_call_takes(root: str) -> None:
    """IOV_MAX is 1024 on Linux; 3000 chunks are written all the same."""
    PosixDisk().write_new(f"{root}/a", [b"%d " % number for number in range(3000)]).close()
    assert Path(root, "a").read_bytes() == b"".join(b"%d " % number for number in range(3000))


def test_chunks_are_asked_for_while_they_are_written(root: str) -> None:
    """Of a large file made of pieces few are in memory; when a piece cannot be had, nothing of the file is left."""
    ahead = []

    def pieces() -> Iterator[bytes]:
        for number in range(100):
            ahead.append(number * 1000 - Path(root, "a").stat().st_size)
            yield bytes(1000)
        raise OSError(errno.EIO, "unreadable")

    with pytest.raises(OSError, match="unreadable"):
        PosixDisk().write_new(f"{root}/a", pieces())
    assert max(ahead) <= 8000
    assert os.listdir(root) == []


def test_a_failed_write_leaves_no_file_and_no_descriptor(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle: closed, unlinked, raised as the kernel gave it."""

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    descriptors = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(OSError) as caught:
        PosixDisk().write_new(f"{root}/a", [b"x"])
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(root) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_volume_is_watched_through_one_descriptor(root: str) -> None:
    """Looking at many directories of a volume holds one descriptor, opened at the first look."""
    disk = PosixDisk()
    descriptors = len(os.listdir("/proc/self/fd"))
    for name in ("a", "b", "c"):
        disk.make_directories(f"{root}/{name}")
        disk.directory(f"{root}/{name}")
    assert len(os.listdir("/proc/self/fd")) == descriptors + 1


def test_the_sync_of_a_volume_tells_its_error(root: str) -> None:
    """A syncfs that fails is an OSError with the kernel's number."""
    disk = PosixDisk()
    disk._syncfs = posix._syncfs()
    volume = disk.directory(root).volume
    os.close(disk._volumes[volume])
    with pytest.raises(OSError) as caught:
        disk.sync_volume(volume)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("platform", "release", "there"),
    [
        ("linux", "6.1.0-18-amd64", True),
        ("linux", "5.8.0", True),
        ("linux", "5.10-rc1", True),
        ("linux", "5.7.19", False),
        ("linux", "4.19.0", False),
        ("linux", "strange", False),
        ("darwin", "23.0.0", False),
    ],
)
def test_syncfs_is_used_from_linux_5_8_on(
    monkeypatch: pytest.MonkeyPatch, platform: str, release: str, there: bool
) -> None:
    """Before 5.8 syncfs tells no write errors, so it is not used; asked for all the same, it says ENOSYS."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", release, "", "")))
    disk = PosixDisk()
    assert disk.volume_sync is there
    if not there:
        with pytest.raises(OSError) as caught:
            disk.sync_volume(1)
        assert caught.value.errno == errno.ENOSYS


def test_the_size_of_a_file(disk: Disk, root: str) -> None:
    """`size` tells the octets of a file, and that there is none."""
    disk.write_new(f"{root}/a", [b"abc", b"d"]).close()
    assert disk.size(f"{root}/a") == 4
    with pytest.raises(FileNotFoundError):
        disk.size(f"{root}/b")


def test_a_check_tells_what_the_kernel_says_and_syncs_nothing(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    """A write error is told by sync_file_range; where there is none, by a sync. All is well with a plain file."""
    file = PosixDisk().write_new(f"{root}/a", [b"abc"])
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("a sync"))
    file.check()
    os.close(file._descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.check()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(posix, "_sync_file_range", lambda: None)
    file.check()
    assert synced == [file._descriptor]
    file._descriptor = -1


def test_a_large_file_is_written_out_while_it_grows(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    """Every whole MiB is given to the disk once, in order, before the sync; what is written is what was given."""
    advised: list[tuple[int, int]] = []
    advise = os.posix_fadvise

    def noting(descriptor: int, start: int, length: int, advice: int) -> None:
        advised.append((start, length))
        assert advice == os.POSIX_FADV_DONTNEED
        advise(descriptor, start, length, advice)

    monkeypatch.setattr(os, "posix_fadvise", noting)
    file = PosixDisk().write_new(f"{root}/a", [b"head"])
    octets = bytes(range(256)) * 1200
    for _ in range(10):
        file.write(octets)
    file.write(octets * 8)
    file.sync()
    file.close()
    assert advised == [(0, 1 << 20), (1 << 20, 1 << 20), (2 << 20, 3 << 20)]
    assert PosixDisk().read(f"{root}/a") == b"head" + octets * 18


def test_a_link_in_place_of_a_new_directory_is_not_followed(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    """Mode and owner are given to what was made, not to what somebody who writes there too put in its place."""
    victim = f"{root}/victim"
    os.mkdir(victim, 0o700)
    monkeypatch.setattr(os, "mkdir", lambda path, mode: os.symlink(victim, path))
    monkeypatch.setattr(os, "rmdir", os.unlink)
    with pytest.raises(NotADirectoryError):
        PosixDisk().make_directories(f"{root}/new", 0o777)
    assert stat.S_IMODE(os.stat(victim).st_mode) == 0o700

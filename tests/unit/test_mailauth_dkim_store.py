"""Key files on disk: made, changed and removed so that each is whole whatever happens."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.disk.port import Disk
from mta.disk.posix import PosixDisk
from mta.mailauth.dkim_store import Access, KeyChanged, KeysBusy, KeyStore, access_in, lock_directory, new_selector
from mta.settings.dkim import Algorithm, DkimKey, KeyState, OsFiles
from mta.settings.problem import SettingsRefused
from tests.doubles.disk import FaultyDisk, SimulatedDisk, fault
from tests.doubles.dkim_keys import DiskFiles, ed25519_pem, generate

DOMAIN = "example.org"
DIRECTORY = "/etc/dkim"
NOON = 1795694400.0

Act = Callable[[KeyStore, DkimKey], object]

ACTS: dict[str, Act] = {
    "make": lambda store, key: store.make(DIRECTORY, DOMAIN, "ed25519", KeyState.NEXT, NOON, "new"),
    "change": lambda store, key: store.change(key, KeyState.RETIRED, NOON),
    "remove": lambda store, key: store.remove(key),
}


@contextlib.contextmanager
def unlocked(path: str) -> Iterator[None]:
    """Lock nothing: the disk is in memory."""
    yield


def store_on(disk: Disk, simulated: SimulatedDisk) -> KeyStore:
    """A store whose changes go to `disk`, which is in front of the simulated one."""
    access = Access(-1, -1, 0o600)
    return KeyStore(disk, DiskFiles(simulated), generate, random.Random(1), unlocked, lambda path: access)


def with_a_key() -> tuple[SimulatedDisk, DkimKey]:
    """A disk with one key that signs, all of it durable."""
    disk = SimulatedDisk([DIRECTORY])
    key = store_on(disk, disk).make(DIRECTORY, DOMAIN, "ed25519", KeyState.SIGNING, NOON - 86400, "old")
    return disk, key


def states(disk: SimulatedDisk) -> dict[str, KeyState]:
    """The state of each key that can be read; fails where one cannot."""
    return {key.selector: key.state for key in store_on(disk, disk).read(DIRECTORY, DOMAIN)}


OLD = {"old": KeyState.SIGNING}
AFTER = {
    "make": {"old": KeyState.SIGNING, "new": KeyState.NEXT},
    "change": {"old": KeyState.RETIRED},
    "remove": {},
}


@pytest.mark.parametrize("name", ACTS)
def test_a_power_cut_leaves_the_old_state_or_the_new(name: str) -> None:
    """At each operation, whatever the disk keeps of it: every key is whole, in its old state or its new one."""
    disk, key = with_a_key()
    seen = []

    def before(operation: object) -> None:
        for label, after in disk.crash_states(range(8)):
            found = states(after)
            assert found in (OLD, AFTER[name]), label
            seen.append(found)
            store_on(after, after).settle(DIRECTORY)
            assert [path for path in after.files() if "/." in path] == [], label
            assert states(after) == found

    disk.watch = before
    ACTS[name](store_on(disk, disk), key)
    disk.watch = None
    assert OLD in seen
    assert states(disk.crash()) == AFTER[name], "what was reported done is durable"


@pytest.mark.parametrize("name", ACTS)
def test_a_fault_of_the_disk_is_told_and_leaves_nothing_unfinished(name: str) -> None:
    """Each call that fails is an OSError; the keys are as before or as wanted, and no file with a dot stays."""
    failed = 0
    for number in itertools.count(1):
        disk, key = with_a_key()
        faulty = FaultyDisk(disk, {number: fault(errno.ENOSPC)})
        with contextlib.suppress(OSError):
            ACTS[name](store_on(faulty, disk), key)
            break
        failed += 1
        assert states(disk) in (OLD, AFTER[name])
        assert [path for path in disk.files() if "/." in path] == []
    assert faulty.calls.total() < number
    assert failed >= 2


def test_nothing_is_overwritten() -> None:
    """A selector that is taken is refused, and the key under it stays."""
    disk, key = with_a_key()
    with pytest.raises(FileExistsError) as info:
        store_on(disk, disk).make(DIRECTORY, DOMAIN, "rsa", KeyState.NEXT, NOON, "old")
    assert info.value.filename == key.file
    assert disk.files()[key.file] == key.pem


def test_a_file_that_was_edited_meanwhile_is_left_alone() -> None:
    """A change or removal that was decided on other octets is not made."""
    disk, key = with_a_key()
    store = store_on(disk, disk)
    changed = store.change(key, KeyState.RETIRED, NOON)
    with pytest.raises(KeyChanged, match="changed meanwhile"):
        store.change(key, KeyState.NEXT, NOON)
    with pytest.raises(KeyChanged):
        store.remove(key)
    assert states(disk) == {"old": KeyState.RETIRED}
    store.remove(changed)
    with pytest.raises(KeyChanged, match="is gone"):
        store.remove(changed)


def test_settle_removes_only_what_is_unfinished() -> None:
    """Files of other people that start with a dot stay."""
    disk, key = with_a_key()
    for name in (".keep", ".old.pem.swp", ".new.pem.0123456789abcdef"):
        disk.write_new(f"{DIRECTORY}/{name}", [b"x"]).close()
    store_on(disk, disk).settle(DIRECTORY)
    assert sorted(disk.files(DIRECTORY)) == [f"{DIRECTORY}/.keep", f"{DIRECTORY}/.old.pem.swp", key.file]


def test_read_tells_all_problems() -> None:
    """Keys that cannot be used are refused, each with its file."""
    disk, _ = with_a_key()
    for name in ("a", "b"):
        disk.write_new(f"{DIRECTORY}/{name}.pem", [b"junk"]).close()
    with pytest.raises(SettingsRefused) as info:
        store_on(disk, disk).read(DIRECTORY, DOMAIN)
    assert [problem.file for problem in info.value.problems] == [f"{DIRECTORY}/a.pem", f"{DIRECTORY}/b.pem"]


@pytest.mark.parametrize(
    ("algorithm", "taken", "selector"),
    [
        ("rsa", (), "2026-11-rsa"),
        ("ed25519", ("2026-11-rsa",), "2026-11-ed"),
        ("rsa", ("2026-11-rsa", "2026-11-rsa-2"), "2026-11-rsa-3"),
    ],
)
def test_selectors_are_named_after_the_month(algorithm: Algorithm, taken: tuple[str, ...], selector: str) -> None:
    """The month (UTC) and the algorithm, with a number where that is taken."""
    assert new_selector(algorithm, NOON, taken.__contains__) == selector


# On the real disk


def real_store(generate: Callable[[Algorithm], bytes] = generate) -> KeyStore:
    """A store on the disk of this machine."""
    return KeyStore(PosixDisk(), OsFiles(), generate, random.Random(1))


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    """Who finds the directory locked does not wait and changes nothing; it is free again after an exception."""
    store = real_store()
    key = store.make(str(tmp_path), DOMAIN, "ed25519", KeyState.SIGNING, NOON, "a")
    with lock_directory(str(tmp_path)):
        for act in (
            lambda: store.make(str(tmp_path), DOMAIN, "ed25519", KeyState.NEXT, NOON),
            lambda: store.change(key, KeyState.RETIRED, NOON),
            lambda: store.remove(key),
            lambda: store.settle(str(tmp_path)),
        ):
            with pytest.raises(KeysBusy, match=str(tmp_path)):
                act()
    assert [key.selector for key in store.read(str(tmp_path), DOMAIN)] == ["a"]
    with pytest.raises(FileExistsError):
        store.make(str(tmp_path), DOMAIN, "ed25519", KeyState.NEXT, NOON, "a")
    store.remove(key)


def test_a_link_is_never_replaced(tmp_path: Path) -> None:
    """A key behind a symbolic link is read and never changed or removed."""
    (tmp_path / "secret").write_bytes(ed25519_pem())
    (tmp_path / "secret").chmod(0o600)
    directory = tmp_path / "dkim"
    directory.mkdir()
    (directory / "a.pem").symlink_to(tmp_path / "secret")
    store = real_store()
    (key,) = store.read(str(directory), DOMAIN)
    for act in (lambda: store.change(key, KeyState.RETIRED, NOON), lambda: store.remove(key)):
        with pytest.raises(KeyChanged):
            act()
    assert (directory / "a.pem").is_symlink()
    assert (tmp_path / "secret").read_bytes() == ed25519_pem()


@pytest.mark.parametrize(("directory_mode", "mode"), [(0o700, 0o600), (0o750, 0o640), (0o775, 0o640), (0o2770, 0o640)])
def test_a_key_is_read_by_whom_its_directory_is(tmp_path: Path, directory_mode: int, mode: int) -> None:
    """The group reads a key where it may read the directory; nobody else ever does, under any umask."""
    tmp_path.chmod(directory_mode)
    before = os.umask(0)
    try:
        key = real_store().make(str(tmp_path), DOMAIN, "ed25519", KeyState.NEXT, NOON)
    finally:
        os.umask(before)
    status = os.stat(key.file)
    assert stat.S_IMODE(status.st_mode) == mode
    assert status.st_gid == os.stat(tmp_path).st_gid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_gives_a_key_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    """Made by root for a server that runs as somebody else: the key is theirs, as the directory is."""
    os.chown(tmp_path, 65534, 65534)
    key = real_store().make(str(tmp_path), DOMAIN, "ed25519", KeyState.NEXT, NOON)
    changed = real_store().change(key, KeyState.SIGNING, NOON)
    status = os.stat(changed.file)
    assert (status.st_uid, status.st_gid) == (65534, 65534)


def test_who_is_not_of_the_group_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who cannot give a file to the group of the directory makes one for the owner alone."""
    tmp_path.chmod(0o750)
    group = os.stat(tmp_path).st_gid
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(os, "getegid", lambda: group + 1)
    monkeypatch.setattr(os, "getgroups", lambda: [group])
    assert access_in(str(tmp_path)) == Access(-1, group, 0o640)
    monkeypatch.setattr(os, "getgroups", list)
    assert access_in(str(tmp_path)) == Access(-1, -1, 0o600)


class _Exchanged(PosixDisk):
    """A directory in which somebody else puts a link in the place of each new file."""

    def __init__(self, victim: Path) -> None:
        self._victim = victim

    def write_new(self, path: str, *arguments: Any, **more: Any) -> Any:
        """Write it, and lose it."""
        file = super().write_new(path, *arguments, **more)
        os.unlink(path)
        os.symlink(self._victim, path)
        return file


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_gives_nothing_away_by_a_link(tmp_path: Path) -> None:
    """Where the server may write in the directory of its keys it cannot lead root's chown to a file that is not its."""
    victim = tmp_path / "shadow"
    victim.write_text("root:x\n")
    keys = tmp_path / "dkim"
    keys.mkdir()
    store = KeyStore(
        _Exchanged(victim), OsFiles(), generate, random.Random(1), access=lambda path: Access(65534, 65534, 0o640)
    )
    with contextlib.suppress(OSError, SettingsRefused):
        store.make(str(keys), DOMAIN, "ed25519", KeyState.NEXT, NOON, "new")
    assert (victim.stat().st_uid, victim.stat().st_gid) == (0, 0)

"""Disks for tests: one in memory that knows what a power cut leaves, one that fails where it is told to.

`SimulatedDisk` keeps to the contract of `mta.disk.port` and to nothing better: an unsynced name or content may be
there after a crash or not, each for itself, whatever order it was done in. (Real file systems are kinder: ext4 keeps
the order of names.) The one thing granted is that a rename never loses the file: the old name does not go before the
new one is there, but after a crash both may be.

Crash tests take every point before an operation through `watch`, or stop after the fact::

    def before(operation):                       # called before each operation that changes or syncs something
        for label, after in disk.crash_states():
            check(after, acknowledged)           # `after` is a SimulatedDisk to recover from
    disk.watch = before
"""

from __future__ import annotations

import errno
import os
import posixpath
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mta.disk.port import Directory, Disk, File, Free


@dataclass(frozen=True, slots=True)
class Operation:
    """One recorded call, named as in `Disk` and `File`; `to` is the target of a rename."""

    name: str
    path: str
    to: str = ""


@dataclass(eq=False, slots=True)
class _Node:
    """Content of a file: what is read now, and the start of it that survives."""

    content: bytes = b""
    durable: bytes = b""
    lost: bool = False


@dataclass(eq=False, slots=True)
class _Change:
    """`path` now means `node` (None: nothing), not yet durable. `after`: the addition that a removal waits for."""

    path: str
    node: _Node | None
    after: _Change | None = None


Content = Callable[[_Node], bytes]


def _durable(node: _Node) -> bytes:
    return node.durable


def _whole(node: _Node) -> bytes:
    return node.durable if node.lost else node.content


def _torn(node: _Node) -> bytes:
    whole = _whole(node)
    middle = (len(node.durable) + len(whole)) // 2
    return whole[:middle] + bytes(len(whole) - middle)


class SimulatedDisk:
    """An in-memory `Disk` with `operations` (all calls so far), `crash` and `crash_states`.

    `volume` maps a path to the number of its volume (all are 1); `uid` owns every directory; `free_space` is what
    `free` answers; all of them may be set.
    """

    def __init__(self, directories: Iterable[str] = (), watch: Callable[[Operation], None] | None = None) -> None:
        self.operations: list[Operation] = []
        self.watch = watch
        self.volume_sync = True
        self.uid = os.geteuid()
        self.volume: Callable[[str], int] = lambda path: 1
        self.free_space = Free(1 << 40, 1 << 20)
        self.modes: dict[str, int] = {}
        """What `create`, `write_new` and `make_directories` were given, by path."""
        self.owners: dict[str, tuple[int, int]] = {}
        """The uid and gid that they were given, by path."""
        self._directories = {"/"}
        self._names: dict[str, _Node] = {}
        self._durable_names: dict[str, _Node] = {}
        self._pending: list[_Change] = []
        for path in directories:
            self._make(path)

    # What a test looks at

    def files(self, under: str = "/") -> dict[str, bytes]:
        """The content of every file below a directory, by path, as it is read now."""
        prefix = under.rstrip("/") + "/"
        return {path: node.content for path, node in self._names.items() if path.startswith(prefix)}

    def done(self, name: str) -> list[str]:
        """The paths that one operation was called with, in order."""
        return [operation.path for operation in self.operations if operation.name == name]

    def crash(self, chance: random.Random | None = None) -> SimulatedDisk:
        """Return the disk after a power cut now: without `chance` nothing unsynced is kept, with it a part."""
        if chance is None:
            return self._after((), _durable)

        def part(node: _Node) -> bytes:
            return chance.choice((_durable, _whole, _torn))(node)

        kept: list[_Change] = []
        for change in self._pending:
            free_to_go = change.after is None or change.after in kept or change.after not in self._pending
            if free_to_go and chance.random() < 0.5:
                kept.append(change)
        return self._after(kept, part)

    def crash_states(self, seeds: Iterable[int] = range(4)) -> Iterator[tuple[str, SimulatedDisk]]:
        """Yield what a power cut may leave now, each with a label: five regular states and one a seed."""
        yield "nothing unsynced kept", self._after((), _durable)
        yield "everything kept", self._after(self._pending, _whole)
        yield "names kept, contents not", self._after(self._pending, _durable)
        yield "names kept, contents torn", self._after(self._pending, _torn)
        yield "removals not kept", self._after([c for c in self._pending if c.node is not None], _durable)
        for seed in seeds:
            yield f"a part kept (seed {seed})", self.crash(random.Random(seed))

    def _after(self, kept: Iterable[_Change], content: Content) -> SimulatedDisk:
        names = dict(self._durable_names)
        for change in kept:
            _assign(names, change)
        after = SimulatedDisk()
        after.volume, after.uid, after.volume_sync = self.volume, self.uid, self.volume_sync
        after._directories = set(self._directories)
        nodes: dict[int, _Node] = {}
        for path, node in names.items():
            if id(node) not in nodes:
                octets = content(node)
                nodes[id(node)] = _Node(octets, octets)
            after._names[path] = after._durable_names[path] = nodes[id(node)]
        return after

    def lose(self, path: str | None = None) -> None:
        """What a failed sync does: unsynced content of one file (None: of all) will never be on stable storage.

        It is read back from memory as before, and a later sync of it succeeds: the lie of the kernel.
        """
        for name, node in self._names.items():
            if path in (None, name) and node.content != node.durable:
                node.lost = True

    # Disk

    def create(self, path: str, mode: int = 0o600, gid: int = -1) -> File:
        """See `Disk`."""
        self._note("create", path)
        return self._create(path, mode, gid)

    def write_new(self, path: str, chunks: Iterable[bytes], mode: int = 0o600, gid: int = -1) -> File:
        """See `Disk`."""
        self._note("write_new", path)
        file = self._create(path, mode, gid)
        try:
            file.node.content = b"".join(chunks)
        except BaseException:
            self._change(_Change(path, None))
            raise
        return file

    def read(self, path: str) -> bytes:
        """See `Disk`."""
        self._note("read", path, changes=False)
        return self._node(path).content

    def read_pieces(self, path: str, octets: int) -> Iterator[bytes]:
        """See `Disk`."""
        whole = self.read(path)
        return (whole[start : start + octets] for start in range(0, len(whole), octets))

    def rename(self, old: str, new: str) -> None:
        """See `Disk`."""
        self._note("rename", old, new)
        node = self._node(old)
        self._inside(new)
        if old == new:
            return
        addition = _Change(new, node)
        self._change(addition)
        self._change(_Change(old, None, addition))

    def unlink(self, path: str) -> None:
        """See `Disk`."""
        self._note("unlink", path)
        self._node(path)
        self._change(_Change(path, None))

    def exists(self, path: str) -> bool:
        """See `Disk`."""
        self._note("exists", path, changes=False)
        return path in self._names or path in self._directories

    def size(self, path: str) -> int:
        """See `Disk`."""
        self._note("size", path, changes=False)
        return len(self._node(path).content)

    def list(self, path: str) -> list[str]:
        """See `Disk`."""
        self._note("list", path, changes=False)
        self._is_directory(path)
        names = [*self._names, *self._directories]
        return [posixpath.basename(name) for name in names if name != "/" and posixpath.dirname(name) == path]

    def directory(self, path: str) -> Directory:
        """See `Disk`."""
        self._note("directory", path, changes=False)
        self._is_directory(path)
        return Directory(self.uid, self.volume(path))

    def make_directories(self, path: str, mode: int = 0o700, uid: int = -1, gid: int = -1) -> None:
        """See `Disk`. One step here: made and durable."""
        self._note("make_directories", path)
        for made in self._make(path):
            self.modes[made] = mode
            self.owners[made] = uid, gid

    def sync_directory(self, path: str) -> None:
        """See `Disk`."""
        self._note("sync_directory", path)
        self._is_directory(path)
        self._settle(lambda name: posixpath.dirname(name) == path)

    def sync_volume(self, volume: int) -> None:
        """See `Disk`. Recorded with the number of the volume as its path."""
        self._note("sync_volume", str(volume))
        for name, node in self._names.items():
            if self.volume(name) == volume and not node.lost:
                node.durable = node.content
        self._settle(lambda name: self.volume(name) == volume)

    def free(self, path: str) -> Free:
        """See `Disk`."""
        self._note("free", path, changes=False)
        return self.free_space

    # Inside

    def _note(self, name: str, path: str, to: str = "", changes: bool = True) -> None:
        operation = Operation(name, path, to)
        if changes and self.watch:
            self.watch(operation)
        self.operations.append(operation)

    def _node(self, path: str) -> _Node:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._names[path]

    def _is_directory(self, path: str) -> None:
        if path in self._names:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if path not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def _inside(self, path: str) -> None:
        self._is_directory(posixpath.dirname(path))

    def _make(self, path: str) -> Iterable[str]:
        made = []
        while path not in self._directories:
            made.append(path)
            self._directories.add(path)
            path = posixpath.dirname(path)
        return made

    def _create(self, path: str, mode: int, gid: int) -> _SimulatedFile:
        self._inside(path)
        if path in self._names or path in self._directories:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self.modes[path] = mode
        self.owners[path] = -1, gid
        node = _Node()
        self._change(_Change(path, node))
        return _SimulatedFile(self, path, node)

    def _change(self, change: _Change) -> None:
        _assign(self._names, change)
        self._pending.append(change)

    def _settle(self, durable: Callable[[str], bool]) -> None:
        settled = {change for change in self._pending if durable(change.path)}
        # a name that is gone for good is there for good under its new name
        settled |= {change.after for change in settled if change.after in self._pending}
        waiting: list[_Change] = []
        for change in self._pending:
            if change in settled:
                _assign(self._durable_names, change)
                waiting = [earlier for earlier in waiting if earlier.path != change.path]
            else:
                waiting.append(change)
        self._pending = waiting


def _assign(names: dict[str, _Node], change: _Change) -> None:
    if change.node is None:
        names.pop(change.path, None)
    else:
        names[change.path] = change.node


class _SimulatedFile:
    def __init__(self, disk: SimulatedDisk, path: str, node: _Node) -> None:
        self._disk = disk
        self._path = path
        self._open = True
        self.node = node

    def write(self, octets: bytes) -> None:
        assert self._open, f"write after close: {self._path}"
        self._disk._note("write", self._path)
        self.node.content += octets

    def check(self) -> None:
        assert self._open, f"check after close: {self._path}"
        self._disk._note("check", self._path, changes=False)

    def sync(self) -> None:
        assert self._open, f"sync after close: {self._path}"
        self._disk._note("sync", self._path)
        if not self.node.lost:
            self.node.durable = self.node.content

    def close(self) -> None:
        self._disk._note("close", self._path, changes=False)
        self._open = False


Fail = int | str | tuple[str, int]


@dataclass(slots=True)
class FaultyDisk:
    """A `Disk` in front of another one that fails where `fail` says, without doing anything.

    A key of `fail` is the number of a call among all (from 1), the name of an operation (every call of it), or both
    (``("rename", 2)``: the second rename). Operations are named as in `Operation`. `fail` may be changed at any time.
    A failed sync loses what it should have kept, if the disk is a `SimulatedDisk`. `calls` counts calls by name.
    """

    disk: Disk
    fail: dict[Fail, OSError] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def check(self, name: str, path: str) -> None:
        """Count a call, and raise if it is one that fails."""
        self.calls[name] += 1
        keys: tuple[Fail, ...] = (name, (name, self.calls[name]), self.calls.total())
        for key in keys:
            if key in self.fail:
                if isinstance(self.disk, SimulatedDisk) and name in ("sync", "sync_volume"):
                    self.disk.lose(path if name == "sync" else None)
                raise self.fail[key]

    @property
    def volume_sync(self) -> bool:
        """See `Disk`."""
        return self.disk.volume_sync

    def create(self, path: str, mode: int = 0o600, gid: int = -1) -> File:
        """See `Disk`."""
        self.check("create", path)
        return _FaultyFile(self, path, self.disk.create(path, mode, gid))

    def write_new(self, path: str, chunks: Iterable[bytes], mode: int = 0o600, gid: int = -1) -> File:
        """See `Disk`."""
        self.check("write_new", path)
        return _FaultyFile(self, path, self.disk.write_new(path, chunks, mode, gid))

    def read(self, path: str) -> bytes:
        """See `Disk`."""
        self.check("read", path)
        return self.disk.read(path)

    def read_pieces(self, path: str, octets: int) -> Iterator[bytes]:
        """See `Disk`."""
        self.check("read", path)
        return self.disk.read_pieces(path, octets)

    def rename(self, old: str, new: str) -> None:
        """See `Disk`."""
        self.check("rename", old)
        self.disk.rename(old, new)

    def unlink(self, path: str) -> None:
        """See `Disk`."""
        self.check("unlink", path)
        self.disk.unlink(path)

    def exists(self, path: str) -> bool:
        """See `Disk`."""
        self.check("exists", path)
        return self.disk.exists(path)

    def size(self, path: str) -> int:
        """See `Disk`."""
        self.check("size", path)
        return self.disk.size(path)

    def list(self, path: str) -> list[str]:
        """See `Disk`."""
        self.check("list", path)
        return self.disk.list(path)

    def directory(self, path: str) -> Directory:
        """See `Disk`."""
        self.check("directory", path)
        return self.disk.directory(path)

    def make_directories(self, path: str, mode: int = 0o700, uid: int = -1, gid: int = -1) -> None:
        """See `Disk`."""
        self.check("make_directories", path)
        self.disk.make_directories(path, mode, uid, gid)

    def sync_directory(self, path: str) -> None:
        """See `Disk`."""
        self.check("sync_directory", path)
        self.disk.sync_directory(path)

    def sync_volume(self, volume: int) -> None:
        """See `Disk`."""
        self.check("sync_volume", str(volume))
        self.disk.sync_volume(volume)

    def free(self, path: str) -> Free:
        """See `Disk`."""
        self.check("free", path)
        return self.disk.free(path)


@dataclass(slots=True)
class _FaultyFile:
    faulty: FaultyDisk
    path: str
    file: File

    def write(self, octets: bytes) -> None:
        self.faulty.check("write", self.path)
        self.file.write(octets)

    def sync(self) -> None:
        self.faulty.check("sync", self.path)
        self.file.sync()

    def check(self) -> None:
        self.faulty.check("check", self.path)
        self.file.check()

    def close(self) -> None:
        self.file.close()


def fault(number: int, path: str = "") -> OSError:
    """Make the OSError that the kernel would give: ``fault(errno.ENOSPC)``."""
    return OSError(number, os.strerror(number), path or None)

"""The operating system as a `Disk`: plain system calls, each error as the kernel gave it.

Write errors are reported per open file (errseq, Linux 4.13) and, for a whole volume, per descriptor of any
directory on it (Linux 5.8): an error that came before the descriptor was opened may not be told. So a file is synced
through the descriptor that wrote it, and a volume through one that `directory` opened before anything was written to
it. That descriptor is held for good, which keeps the volume mounted.

Knowingly not here: directory descriptors in place of paths. The owner of a Maildir can exchange his directory for a
link between our look and our write; he gets the file he was sent, under a name that only we choose.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import itertools
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

from mta.disk.port import Directory, Free

_CREATE = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
# a FIFO planted under the name is opened without waiting for its writer, then refused
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_VECTORS_MAXIMUM = 8
"""Chunks written by one system call: all of a small message, half a MiB of a large one."""
_READ_AT_ONCE = 1 << 20
_WAIT_BEFORE = 1  # SYNC_FILE_RANGE_WAIT_BEFORE of Linux
_WRITE_OUT = 1 << 20
"""Octets after which the kernel is told to begin writing them: 0.3 ms each, and the sync of 50 MB takes 0.3 ms, not 25
(ext4 on a virtual SSD)."""


def _syncfs() -> Callable[[int], int] | None:
    """Return syncfs(2) where it reports write errors: Linux 5.8 and later."""
    if sys.platform != "linux":
        return None
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if release is None or (int(release[1]), int(release[2])) < (5, 8):
        return None
    function: Callable[[int], int] | None = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    return function


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Return sync_file_range(2), which tells a descriptor's write errors without a sync, where there is one."""
    if not sys.platform.startswith("linux"):
        return None
    function: Any = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    found: Callable[[int, int, int, int], int] | None = function
    return found


class PosixFile:
    """An open descriptor; see `mta.disk.port.File`."""

    __slots__ = ("_descriptor", "_size", "_written_out")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = 0
        self._written_out = 0

    def write(self, octets: bytes) -> None:
        """See `File`."""
        view = memoryview(octets)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._wrote(len(octets))

    def _wrote(self, octets: int) -> None:
        self._size += octets
        if self._size - self._written_out >= _WRITE_OUT:
            self._write_out()

    def _write_out(self) -> None:
        # On Linux this begins to write what is dirty and does not wait for it; an error stays for `sync` to tell.
        # Whole steps only: a page that is written to again would wait for the disk on some of them.
        length = (self._size - self._written_out) // _WRITE_OUT * _WRITE_OUT
        os.posix_fadvise(self._descriptor, self._written_out, length, os.POSIX_FADV_DONTNEED)
        self._written_out += length

    def write_all(self, chunks: Iterable[bytes]) -> None:
        """Append all of `chunks`; few of them at a time with one system call, unless the kernel takes less than all."""
        rest = iter(chunks)
        while part := list(itertools.islice(rest, _VECTORS_MAXIMUM)):
            written = os.writev(self._descriptor, part)
            self._wrote(written)
            if written < sum(map(len, part)):
                self.write(b"".join(part)[written:])

    def sync(self) -> None:
        """See `File`."""
        os.fsync(self._descriptor)

    def check(self) -> None:
        """See `File`. Where there is no other way to be told, by a sync."""
        wait = _sync_file_range()
        if wait is None:
            self.sync()
        elif wait(self._descriptor, 0, 0, _WAIT_BEFORE):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """See `File`. Closing twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class PosixDisk:
    """See `mta.disk.port.Disk`. Shared by threads: it keeps nothing but the descriptors of volumes."""

    def __init__(self) -> None:
        self._syncfs = _syncfs()
        self._volumes: dict[int, int] = {}

    @property
    def volume_sync(self) -> bool:
        """See `Disk`."""
        return self._syncfs is not None

    def create(self, path: str, mode: int = 0o600, gid: int = -1) -> PosixFile:
        """See `Disk`."""
        return self.write_new(path, (), mode, gid)

    def write_new(self, path: str, chunks: Iterable[bytes], mode: int = 0o600, gid: int = -1) -> PosixFile:
        """See `Disk`."""
        descriptor = os.open(path, _CREATE, mode)
        file = PosixFile(descriptor)
        try:
            if gid != -1:
                os.fchown(descriptor, -1, gid)
            if mode & 0o077:  # the umask takes nothing from the owner's bits
                os.fchmod(descriptor, mode)
            file.write_all(chunks)
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        return file

    def read(self, path: str) -> bytes:
        """See `Disk`. What is no regular file is refused with EINVAL."""
        return b"".join(self.read_pieces(path, _READ_AT_ONCE))

    def read_pieces(self, path: str, octets: int) -> Iterator[bytes]:
        """See `Disk`. What is no regular file is refused with EINVAL."""
        descriptor = os.open(path, _READ)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            while piece := os.read(descriptor, octets):
                yield piece
        finally:
            os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        """See `Disk`."""
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        """See `Disk`."""
        os.unlink(path)

    def size(self, path: str) -> int:
        """See `Disk`."""
        return os.lstat(path).st_size

    def exists(self, path: str) -> bool:
        """See `Disk`."""
        return os.path.lexists(path)

    def list(self, path: str) -> list[str]:
        """See `Disk`."""
        return os.listdir(path)

    def directory(self, path: str) -> Directory:
        """See `Disk`."""
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        if status.st_dev not in self._volumes:
            self._watch(path)
        return Directory(status.st_uid, status.st_dev)

    def _watch(self, path: str) -> None:
        descriptor = os.open(path, _DIRECTORY | os.O_NOFOLLOW)
        volume = os.fstat(descriptor).st_dev
        if self._volumes.setdefault(volume, descriptor) != descriptor:
            os.close(descriptor)

    def make_directories(self, path: str, mode: int = 0o700, uid: int = -1, gid: int = -1) -> None:
        """See `Disk`. Several at once may make the same directory."""
        parent = str(PurePath(path).parent)
        if not os.path.isdir(parent):
            self.make_directories(parent, mode, uid, gid)
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
            return
        try:
            made = os.open(path, _DIRECTORY | os.O_NOFOLLOW)  # not by name: somebody may have put a link there by now
            try:
                if (uid, gid) != (-1, -1):
                    os.fchown(made, uid, gid)
                os.fchmod(made, mode)
            finally:
                os.close(made)
        except BaseException:
            os.rmdir(path)
            raise
        self.sync_directory(parent)

    def sync_directory(self, path: str) -> None:
        """See `Disk`."""
        descriptor = os.open(path, _DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_volume(self, volume: int) -> None:
        """See `Disk`."""
        if self._syncfs is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        if self._syncfs(self._volumes[volume]):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def free(self, path: str) -> Free:
        """See `Disk`. Without what is kept back for the superuser."""
        status = os.statvfs(path)
        return Free(status.f_bavail * status.f_frsize, status.f_favail)

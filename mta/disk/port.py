"""The file system as a port: few operations, each with what a power cut may do to it.

What is promised (measured on ext4 and XFS, see ``docs/reliability.md``): the content of a file survives after
`File.sync` or `Disk.sync_volume`; a name (create, rename, unlink) survives after `sync_directory` of its directory or
`sync_volume`. Nothing survives earlier. All errors are `OSError`, as the kernel gave them. Every call may block: the
ones that wait for the disk (`sync…`) belong on a thread, see `RunInThread`.

Paths are `str` below directories that only we name; nothing a peer sends becomes part of a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from twisted.internet import defer


class RunInThread(Protocol):
    """Run a blocking function off the reactor thread; inline in tests."""

    def __call__(self, function: Callable[..., Any], /, *args: object) -> defer.Deferred[Any]:
        """Return a Deferred of the function's result; what it raises is the failure."""
        ...


class File(Protocol):
    """A file of ours, open for writing. One descriptor from `create` to `close`, so that no write error is missed."""

    def write(self, octets: bytes) -> None:
        """Append all of `octets`. A large file is written out while it grows, so that `sync` does not take long."""
        ...

    def sync(self) -> None:
        """Put content and size on stable storage. After a failure the file is lost: close and unlink it."""
        ...

    def check(self) -> None:
        """Raise the write error that the kernel has met so far: what was read back may be other than what was written.

        Waits for what is on its way to the disk, and sends nothing there: promises nothing.
        """
        ...

    def close(self) -> None:
        """Release the descriptor. Promises nothing; a second time does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Free:
    """What a volume has left for us: octets and inodes."""

    octets: int
    inodes: int


@dataclass(frozen=True, slots=True)
class Directory:
    """Whose a directory is, and the number of the volume that holds it."""

    uid: int
    volume: int


class Disk(Protocol):
    """The operations that spool, Maildir and staging are made of."""

    @property
    def volume_sync(self) -> bool:
        """Whether `sync_volume` is there and reports write errors (Linux 5.8 and later)."""
        ...

    def create(self, path: str, mode: int = 0o600, gid: int = -1) -> File:
        """Create a new regular file (O_EXCL, O_NOFOLLOW). Raises FileExistsError where the name is taken.

        It gets exactly `mode` (no umask) and belongs to group `gid`; -1 leaves what the kernel set.
        """
        ...

    def write_new(self, path: str, chunks: Iterable[bytes], mode: int = 0o600, gid: int = -1) -> File:
        """`create` and write all chunks, a few with each system call; the file stays open.

        No more than those few are asked for ahead, so a large file that is made of pieces is never whole in memory.
        What fails, also in asking for a chunk, is closed and unlinked before the error is raised.
        """
        ...

    def read(self, path: str) -> bytes:
        """Return the whole content of a regular file of ours (O_NOFOLLOW)."""
        ...

    def read_pieces(self, path: str, octets: int) -> Iterator[bytes]:
        """Give the content of a regular file of ours in pieces of at most `octets` (O_NOFOLLOW)."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name on the same volume."""
        ...

    def unlink(self, path: str) -> None:
        """Remove a name. Raises FileNotFoundError where there is none."""
        ...

    def size(self, path: str) -> int:
        """The octets of a file (links are not followed). Raises FileNotFoundError where there is none."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the name is there (links are not followed)."""
        ...

    def list(self, path: str) -> list[str]:
        """The names in a directory, without ``.`` and ``..``, in no order."""
        ...

    def directory(self, path: str) -> Directory:
        """Look at a directory, and watch its volume from now on: `sync_volume` tells of each write error after this.

        Raises FileNotFoundError where there is nothing, NotADirectoryError for what is no directory; a symbolic link
        is none.
        """
        ...

    def make_directories(self, path: str, mode: int = 0o700, uid: int = -1, gid: int = -1) -> None:
        """Make a directory and those above it that are missing; sync the parent of each one made.

        Each one made gets exactly `mode` (no umask) and is given to `uid` and `gid`; -1 leaves what the kernel set.
        """
        ...

    def sync_directory(self, path: str) -> None:
        """Put the names of one directory on stable storage."""
        ...

    def sync_volume(self, volume: int) -> None:
        """Put everything on a volume that `directory` has told the number of on stable storage (syncfs).

        By number, since a path may have come to lie elsewhere. The kernel tells a write error to one caller only: who
        syncs volumes has a `Disk` of his own. Raises ENOSYS where `volume_sync` does not hold.
        """
        ...

    def free(self, path: str) -> Free:
        """What the volume that holds `path` has left for us."""
        ...

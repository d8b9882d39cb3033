"""A backup as files: ``manifest.json``, ``spool/N/…``, ``etc/…``, ``history/…``, in a directory or a ``.tar`` of it.

The manifest is written last: a directory without one is no backup. It names every file with its size, mode, owner and
SHA-256, and nothing that it does not name is ever taken out of a backup.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Protocol

from mta.disk.owner import group_name, user_name

FORMAT = 1
MANIFEST = "manifest.json"
_MANIFEST_MAXIMUM = 1 << 30
_AT_ONCE = 1 << 20

_MEMBER = re.compile(r"(?:spool/\d{1,4}/queue\.db|spool/\d{1,4}/content/[^/\0]+|history/[^/\0]+\.sqlite|etc/[^\0]+)")


class NoBackup(Exception):
    """This is no backup, or a damaged one; the text says why."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a backup."""

    path: str
    octets: int
    sha256: str
    mode: int
    owner: str
    group: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in a backup."""

    mta: str
    """Version of the program that made it."""
    schema: int
    host: str
    began: float
    """Wall time: the queue is as it was then, or a moment later."""
    ended: float
    config: str
    """Name of the configuration file in ``etc/``."""
    state: str
    state_owner: str
    state_group: str
    messages: int
    recipients: int
    finished: int
    """Messages finished while it was made."""
    files: Sequence[Member]
    directories: Sequence[Member] = ()
    """Those of ``etc/``, with their modes and owners."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Symbolic links in ``etc/``, and where they lead."""
    format: int = FORMAT

    @property
    def shards(self) -> list[int]:
        """The numbers of the shards."""
        names = (member.path.split("/") for member in self.files)
        return sorted(int(parts[1]) for parts in names if parts[0] == "spool" and parts[2:] == ["queue.db"])

    def text(self) -> str:
        """Write it."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_manifest(octets: bytes) -> Manifest:
    """Read a manifest. Raises NoBackup."""
    try:
        table: dict[str, Any] = json.loads(octets)
        if table["format"] != FORMAT:
            raise NoBackup(f"it has format {table['format']}, this program knows format {FORMAT}")
        members = {key: [Member(**each) for each in table[key]] for key in ("files", "directories")}
        manifest = Manifest(**{**table, **members})
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NoBackup(f"its {MANIFEST} cannot be read: {error}") from error
    directories = [member.path for member in manifest.directories if member.path != "etc"]
    for path in [*(member.path for member in manifest.files), *directories, *manifest.links]:
        if not _MEMBER.fullmatch(path) or {"", ".", ".."} & set(path.split("/")):
            raise NoBackup(f"its {MANIFEST} names {path!r}")
    return manifest


def member_of(root: str, path: str, original: str = "") -> Member:
    """Describe a file or directory below a directory; its mode and owner are those of `original`, if it is a copy."""
    name = f"{root}/{path}"
    status = os.lstat(original or name)
    if os.path.isdir(name):
        return Member(path, 0, "", status.st_mode & 0o7777, user_name(status.st_uid), group_name(status.st_gid))
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        octets, digest = digested(file)
    return Member(path, octets, digest, status.st_mode & 0o7777, user_name(status.st_uid), group_name(status.st_gid))


def digested(file: IO[bytes]) -> tuple[int, str]:
    """Read a file to its end; give its octets and their SHA-256."""
    digest, octets = hashlib.sha256(), 0
    while piece := file.read(_AT_ONCE):
        digest.update(piece)
        octets += len(piece)
    return octets, digest.hexdigest()


class Backup(Protocol):
    """A backup to be read."""

    manifest: Manifest

    def files(self) -> Iterator[tuple[Member, IO[bytes]]]:
        """Give the files that the manifest names, each open. Raises NoBackup where one is not there."""
        ...


def open_backup(path: str, stack: ExitStack) -> Backup:
    """Open a directory or a ``.tar``. Raises NoBackup, OSError."""
    if os.path.isdir(path):
        return _Directory(path)
    try:
        return _Tar(stack.enter_context(tarfile.open(path, "r:*")))
    except tarfile.TarError as error:
        raise NoBackup(f"neither a directory nor a .tar: {error}") from error


def verify(backup: Backup) -> None:
    """Compare every file with the manifest. Raises NoBackup at the first that is not as it was."""
    for member, file in backup.files():
        if digested(file) != (member.octets, member.sha256):
            raise NoBackup(f"{member.path} is not what it was when the backup was made")


class _Directory:
    def __init__(self, root: str) -> None:
        self._root = root
        try:
            with open(f"{root}/{MANIFEST}", "rb") as file:
                self.manifest = read_manifest(file.read(_MANIFEST_MAXIMUM))
        except FileNotFoundError:
            raise NoBackup(f"there is no {MANIFEST} in it: it was never finished, or is something else") from None

    def files(self) -> Iterator[tuple[Member, IO[bytes]]]:
        for member in self.manifest.files:
            try:
                descriptor = os.open(f"{self._root}/{member.path}", os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as error:
                raise NoBackup(f"{member.path} cannot be read: {error.strerror}") from error
            with open(descriptor, "rb") as file:
                yield member, file


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._infos = {info.name: info for info in tar if info.isreg()}
        if MANIFEST not in self._infos:
            raise NoBackup(f"there is no {MANIFEST} in it")
        self.manifest = read_manifest(self._file(MANIFEST).read(_MANIFEST_MAXIMUM))

    def files(self) -> Iterator[tuple[Member, IO[bytes]]]:
        # in the order in which they lie there
        members = {member.path: member for member in self.manifest.files}
        missing = members.keys() - self._infos.keys()
        if missing:
            raise NoBackup(f"{min(missing)} is not in it")
        for name in self._infos:
            if name in members:
                yield members[name], self._file(name)

    def _file(self, name: str) -> IO[bytes]:
        file = self._tar.extractfile(self._infos[name])
        assert file is not None, "a regular file"
        return file


def write_tar(root: str, name: str) -> None:
    """Put a directory into a new ``.tar``, the manifest first, and sync it."""
    descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR, 0o600)
    with open(descriptor, "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(f"{root}/{MANIFEST}", MANIFEST)
            for path in sorted(files_below(root)):
                if path != MANIFEST:
                    tar.add(f"{root}/{path}", path, recursive=False)
        file.flush()
        os.fsync(file.fileno())


def files_below(root: str) -> Iterator[str]:
    """Name all files and links below a directory, by their paths in it."""
    for directory, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(os.path.join(directory, name), root)


def sync_tree(root: str) -> None:
    """Put all files and directories below `root` on stable storage."""
    for directory, _, names in os.walk(root, topdown=False):
        for name in [*names, "."]:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def user_number(name: str) -> int:
    """Find the number of a user of this system; -1 where there is none."""
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return int(name) if name.isascii() and name.isdigit() else -1


def group_number(name: str) -> int:
    """Find the number of a group of this system; -1 where there is none."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return int(name) if name.isascii() and name.isdigit() else -1


def owners_of(path: str) -> tuple[str, str]:
    """Name the owner and group of a file."""
    status = os.stat(path)
    return user_name(status.st_uid), group_name(status.st_gid)

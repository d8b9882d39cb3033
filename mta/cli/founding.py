"""What is written where there is nothing yet: files, directories, DKIM keys, a certificate. For `mta init` and others.

Nothing is ever overwritten: what is there stays, and counts as done. Each file and directory gets exactly its mode,
whatever the umask, and is given to whom `Access` says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from mta.disk.posix import PosixDisk
from mta.mailauth.dkim_store import KeyStore
from mta.mailauth.keypair import generate_private_key
from mta.settings.dkim import DIRECTORY, Algorithm, DkimKey, DkimSettings, KeyState, OsFiles
from mta.tls.certificate import make_self_signed

DAYS_VALID = 365
"""Of a self-signed certificate."""

Say = Callable[[Path, bool], None]
"""Told of each file and directory that is wanted, and whether it was made now."""


@dataclass(frozen=True, slots=True)
class Access:
    """Whom things are given to; -1 leaves what the kernel sets.

    `uid` and `gid` are the server's: it owns its state, and reads `etc/` by its group.
    """

    uid: int = -1
    gid: int = -1


KERNEL = Access()
"""Everything belongs to who runs the command."""


class Founder:
    """Makes what is missing, and says so. All methods raise OSError."""

    def __init__(self, access: Access, say: Say) -> None:
        self._access = access
        self._say = say

    def directory(self, path: Path, mode: int = 0o755, servers: bool = False) -> None:
        """Make a directory, and those above it; `servers`: the server owns it, else it may read it."""
        if path.is_dir():
            self._say(path, False)
            return
        missing = [parent for parent in path.parents if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir()
            parent.chmod(0o755)
        path.mkdir(mode=0o700)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(descriptor, self._access.uid if servers else -1, self._access.gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        self._say(path, True)

    def file(self, path: Path, text: str, mode: int = 0o644) -> bool:
        """Write a file that the server may read; gives whether it was written now."""
        written = write_new(path, text, mode, self._access.gid)
        self._say(path, written)
        return written

    def dkim_keys(self, domain_directory: Path, domain: str) -> tuple[DkimKey, ...]:
        """Make an RSA and an Ed25519 key for a domain that has none; gives those that it has now.

        They sign at once: before their records are published others find no key, which is as good as no signature.
        Raises SettingsRefused where a key that is there cannot be used.
        """
        directory = domain_directory / DIRECTORY
        fresh = not directory.exists()
        self.directory(directory, 0o700 if self._access.gid == -1 else 0o750)
        if not fresh:
            return _store().read(str(directory), domain)
        keys = make_keys(directory, domain, KeyState.SIGNING, DkimSettings().algorithms)
        for key in keys:
            self._say(Path(key.file), True)
        return keys

    def certificate(self, certificate: Path, key: Path, names: Sequence[str], now: float) -> None:
        """Make a self-signed certificate for host names and addresses where there is neither certificate nor key."""
        there = [path for path in (key, certificate) if path.exists()]
        for path in there:
            self._say(path, False)
        if not there:
            made, private = make_self_signed(names, now, DAYS_VALID)
            self.file(key, private.decode(), 0o600 if self._access.gid == -1 else 0o640)
            self.file(certificate, made.decode())


def make_keys(directory: Path, domain: str, state: KeyState, algorithms: Sequence[Algorithm]) -> tuple[DkimKey, ...]:
    """Make keys in a directory that is there, which says whose they are and who reads them. Raises OSError."""
    store = _store()
    return tuple(store.make(str(directory), domain, each, state, time.time()) for each in algorithms)


def _store() -> KeyStore:
    return KeyStore(PosixDisk(), OsFiles(), generate_private_key, SystemRandom())


def write_new(path: Path, text: str, mode: int = 0o644, gid: int = -1) -> bool:
    """Write a new file, synced; one that is there stays, and False is returned. Raises OSError, and nothing stays."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchown(descriptor, -1, gid)
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()
        raise
    return True

"""The key files of a domain, made and changed so that a power cut at any point leaves each whole (`mta.settings.dkim`).

Everything here blocks: an RSA key takes 30 to 300 ms, a sync some more. One writer at a time holds the flock on the
directory; nobody waits for it. A file is written under a name that starts with a dot, synced, renamed, and then the
directory is synced.

==========================  ==========================================  ===============================================
operation                   what a crash leaves                         what mends it
==========================  ==========================================  ===============================================
`make`                      nothing, or a file with a dot, or the key   `settle` removes the file with a dot; a key
                            in its first state                          whose record nobody was told is told again
`change`                    the old state or the new one, and maybe a   `settle`; the rotation looks at the state and
                            file with a dot                             goes on from there
`remove`                    the key, still retired, or nothing          the rotation removes it again
==========================  ==========================================  ===============================================

A changed file belongs to whom its directory belongs, as far as we may give it away, and the group reads it where the
group may read the directory: the server can run as another user than the one who types the command.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from mta.disk.port import Disk
from mta.mail.queueid import Chance
from mta.settings.dkim import (
    SUFFIX,
    Algorithm,
    DkimKey,
    Files,
    KeyState,
    changed,
    parse_key,
    read_keys,
    record_name,
    time_text,
)
from mta.settings.problem import Problem, SettingsRefused

_UNFINISHED = re.compile(r"\..+\.pem\.[0-9a-f]{16}")


class KeysBusy(Exception):
    """Another process changes the keys of that directory now."""


class KeyChanged(Exception):
    """The file is not what it was when the change was decided: somebody edited or removed it."""


@dataclass(frozen=True, slots=True)
class Access:
    """Whose a new file becomes, and who may read it; -1 leaves what the kernel sets."""

    uid: int
    gid: int
    mode: int


class Lock(Protocol):
    """Keeps other writers out of a directory while a block runs. Raises KeysBusy, OSError."""

    def __call__(self, path: str, /) -> AbstractContextManager[None]:
        """Lock a directory."""
        ...


@contextlib.contextmanager
def lock_directory(path: str) -> Iterator[None]:
    """Hold the flock on a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise KeysBusy(f"another process changes the keys in {path}") from None
        yield
    finally:
        os.close(descriptor)


def access_in(path: str) -> Access:
    """Say how a new file in the directory `path` is owned and read. Raises OSError."""
    status = os.stat(path)
    mode = 0o600 | status.st_mode & 0o040
    if os.geteuid() == 0:
        return Access(status.st_uid, status.st_gid, mode)
    if status.st_gid in (os.getegid(), *os.getgroups()):
        return Access(-1, status.st_gid, mode)
    return Access(-1, -1, 0o600)


def new_selector(algorithm: Algorithm, now: float, taken: Callable[[str], bool]) -> str:
    """Choose the selector of a new key: ``2026-11-rsa``, ``2026-11-ed``; ``2026-11-rsa-2`` where that is taken."""
    stem = f"{time.strftime('%Y-%m', time.gmtime(now))}-{'rsa' if algorithm == 'rsa' else 'ed'}"
    selector, number = stem, 1
    while taken(selector):
        number += 1
        selector = f"{stem}-{number}"
    return selector


class KeyStore:
    """Reads and changes directories of keys. `generate` makes a private key in PEM; `give` is ``os.lchown``.

    The server may write in the directory: a name in it is not to lead root elsewhere.
    """

    def __init__(
        self,
        disk: Disk,
        files: Files,
        generate: Callable[[Algorithm], bytes],
        chance: Chance,
        lock: Lock = lock_directory,
        access: Callable[[str], Access] = access_in,
        give: Callable[[str, int, int], None] = os.lchown,
    ) -> None:
        self._disk = disk
        self._files = files
        self._generate = generate
        self._chance = chance
        self._lock = lock
        self._access = access
        self._give = give

    def read(self, directory: str, domain: str) -> tuple[DkimKey, ...]:
        """Read the keys of a domain. Raises SettingsRefused where one of them cannot be used."""
        problems: list[Problem] = []
        keys = read_keys(directory, domain, problems, self._files)
        if problems:
            raise SettingsRefused(problems)
        return keys

    def settle(self, directory: str) -> None:
        """Remove what a crash left unfinished, and make sure that what is seen here is on stable storage.

        Raises OSError, KeysBusy.
        """
        with self._lock(directory):
            for name in self._disk.list(directory):
                if _UNFINISHED.fullmatch(name):
                    self._disk.unlink(os.path.join(directory, name))
            self._disk.sync_directory(directory)

    def make(
        self, directory: str, domain: str, algorithm: Algorithm, state: KeyState, now: float, selector: str = ""
    ) -> DkimKey:
        """Make a key. Without `selector` it is named after the month.

        Raises OSError (FileExistsError where the selector is taken), KeysBusy.
        """

        def taken(selector: str) -> bool:
            return self._disk.exists(os.path.join(directory, selector + SUFFIX))

        pem = self._generate(algorithm)
        with self._lock(directory):
            selector = selector or new_selector(algorithm, now, taken)
            file = os.path.join(directory, selector + SUFFIX)
            if taken(selector):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), file)
            head = f"# {record_name(selector, domain)}, made by mta\n{state.value}: {time_text(now)}\n"
            octets = head.encode() + pem
            self._write(file, octets)
        return _parsed(octets, selector, domain, file)

    def change(self, key: DkimKey, state: KeyState, now: float, replaces: tuple[str, ...] = ()) -> DkimKey:
        """Bring a key into another state. Raises OSError, KeysBusy, KeyChanged."""
        octets = changed(key, state, now, replaces)
        with self._unchanged(key):
            self._write(key.file, octets)
        return _parsed(octets, key.selector, key.domain, key.file)

    def remove(self, key: DkimKey) -> None:
        """Remove a key. Raises OSError, KeysBusy, KeyChanged."""
        with self._unchanged(key):
            self._disk.unlink(key.file)
            self._disk.sync_directory(os.path.dirname(key.file))

    @contextlib.contextmanager
    def _unchanged(self, key: DkimKey) -> Iterator[None]:
        """Lock its directory; what a decision was made on must still hold."""
        with self._lock(os.path.dirname(key.file)):
            try:
                content = self._files.content(key.file)
            except FileNotFoundError:
                raise KeyChanged(f"{key.file} is gone") from None
            if content.linked or content.octets != key.pem:
                raise KeyChanged(f"{key.file} was changed meanwhile")
            yield

    def _write(self, file: str, octets: bytes) -> None:
        """Put `octets` under the name `file`, or leave that name as it was."""
        directory, name = os.path.split(file)
        unfinished = os.path.join(directory, f".{name}.{self._chance.getrandbits(64):016x}")
        access = self._access(directory)
        written = self._disk.write_new(unfinished, [octets], access.mode, access.gid)
        try:
            try:
                if access.uid != -1:
                    self._give(unfinished, access.uid, -1)
                written.sync()
            finally:
                written.close()
            self._disk.rename(unfinished, file)
        except BaseException:
            with contextlib.suppress(OSError):
                self._disk.unlink(unfinished)
            raise
        self._disk.sync_directory(directory)


def _parsed(octets: bytes, selector: str, domain: str, file: str) -> DkimKey:
    problems: list[Problem] = []
    key = parse_key(octets, selector, domain, file, problems)
    assert key is not None, f"a key of ours cannot be read: {problems}"
    return key

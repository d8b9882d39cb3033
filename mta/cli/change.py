"""One change of ``etc/domains``: read, changed in memory, judged by the loader of the server, then written.

===========================  =====================================================================================
step                         what a crash leaves
===========================  =====================================================================================
lock on the directory        nothing; another administrator waits, and a lock ends with its process
new files beside the old     ``.users.new`` and the like, which nobody reads, and the next change replaces
judged by the loader         likewise; what brings a new problem ends here and nothing is changed
each is renamed, in order    each file is the old or the new one, whole; the first of several may be new alone
===========================  =====================================================================================

A file keeps its owner, group and mode; a new one has those of ``users`` beside it. A symbolic link stays, what it leads
to is changed. The loader judges a picture of the whole directory: links to what is there, and the files that change.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mta.cli.daemon import EX_CANTCREAT, EX_CONFIG, EX_DATAERR, EX_TEMPFAIL, fail
from mta.disk.posix import PosixDisk
from mta.settings.domains import domain_directories, read_toml
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.reader import DOMAINS, load
from mta.settings.sections import Settings

WAIT = 30.0
"""Seconds that a change waits for that of another administrator."""
_POLL = 0.1
_NEW = ".new"
"""What the name of a file ends with before it is renamed; with the dot in front nobody reads it."""
USERS, ALIASES = "users", "aliases"
_PRIVATE = (USERS, "app-passwords")
"""Files with verifiers: the server's group reads them, nobody else."""


@dataclass(slots=True)
class Change:
    """One change, under the lock."""

    config: Path
    settings: Settings
    """What the file says, as far as it can be read; without its domains."""
    domains: Mapping[str, str]
    """The directory of each domain, by its folded name."""
    _texts: dict[str, str] = field(default_factory=dict)
    """What files are to hold, by their paths, in the order in which they are written."""
    _new: dict[str, str] = field(default_factory=dict)
    """The directory of each domain that is made."""
    _dropped: dict[str, str] = field(default_factory=dict)
    """Where the directory of each domain goes that is removed."""

    def path(self, domain: str, file: str) -> str:
        """The path of a file of a domain, also of one that is made."""
        return os.path.join({**self.domains, **self._new}[domain], file)

    def text(self, domain: str, file: str) -> str:
        """What a file of a domain holds, changed or not; nothing where it is not there."""
        path = self.path(domain, file)
        if path not in self._texts:
            try:
                with open(path, encoding="utf-8", newline="") as opened:
                    return opened.read()
            except FileNotFoundError:
                return ""
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                fail(f"{path} cannot be read: {reason}", EX_CONFIG)
        return self._texts[path]

    def write(self, domain: str, file: str, text: str) -> None:
        """Have a file hold `text`."""
        self._texts[self.path(domain, file)] = text

    def found(self, domain: str) -> None:
        """Have a domain of this name, without files."""
        self._new[domain] = str(self.config.parent / DOMAINS / domain)

    def drop(self, domain: str) -> str:
        """Have a domain no more; gives the path that its directory gets, where nobody looks for one."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        directory = self.domains[domain]
        place = os.path.join(os.path.dirname(directory), f".removed-{domain}-{stamp}")
        self._dropped[domain] = place
        return place

    def commit(self) -> None:
        """Judge it and write it; what is wrong with it ends the command, and nothing is changed."""
        try:
            self._judge()
            disk = PosixDisk()
            for domain, directory in self._new.items():
                self._make(disk, domain, directory)
            waiting = [self._put_beside(disk, path, text) for path, text in self._texts.items()]
            for beside, path in waiting:
                disk.rename(beside, path)
                disk.sync_directory(os.path.dirname(path))
            for directory in self._new.values():
                os.rename(_hidden(directory), directory)
            for domain, place in self._dropped.items():
                os.rename(self.domains[domain], place)
            if self._new or self._dropped:
                disk.sync_directory(str(self.config.parent / DOMAINS))
        except OSError as error:
            fail(f"{error.filename or 'the configuration'} cannot be written: {error.strerror or error}", EX_CANTCREAT)

    # Judging

    def _judge(self) -> None:
        with tempfile.TemporaryDirectory(prefix="mta-") as picture:
            self._draw(picture)
            after = {_mended(each, picture, self.config) for each in _problems(self.config, picture)}
        if not after:
            return
        before = {_without_lines(each) for each in _problems(self.config, None)}
        new = [problem for problem in after if _without_lines(problem) not in before]
        if new:
            fail(f"nothing was changed, since the server could not use it:\n{SettingsRefused(new)}", EX_DATAERR)

    def _draw(self, picture: str) -> None:
        """Make the directory of the domains as it will be."""
        for name, directory in {**self.domains, **self._new}.items():
            if name in self._dropped:
                continue
            drawn = os.path.join(picture, os.path.basename(directory))
            files = {os.path.basename(p): text for p, text in self._texts.items() if os.path.dirname(p) == directory}
            if not files:
                os.symlink(directory, drawn)
                continue
            os.mkdir(drawn, 0o700)
            for entry in os.listdir(directory) if os.path.isdir(directory) else ():
                if entry not in files:
                    os.symlink(os.path.join(directory, entry), os.path.join(drawn, entry))
            for file, text in files.items():
                with open(os.path.join(drawn, file), "w", encoding="utf-8", newline="") as opened:
                    opened.write(text)

    # Writing

    def _make(self, disk: PosixDisk, domain: str, directory: str) -> None:
        """Make the directory of a domain under a name that nobody reads; its files move with it."""
        hidden = _hidden(directory)
        shutil.rmtree(hidden, ignore_errors=True)
        disk.make_directories(os.path.dirname(directory), 0o755)
        above = os.stat(os.path.dirname(directory))
        disk.make_directories(hidden, 0o750 if self._group() != -1 else 0o755, -1, self._group())
        if os.geteuid() == 0:
            os.lchown(hidden, above.st_uid, -1)
        for path in [path for path in self._texts if os.path.dirname(path) == directory]:
            text = self._texts.pop(path)
            file = os.path.basename(path)
            mode = 0o640 if file in _PRIVATE else 0o644
            written = disk.write_new(os.path.join(hidden, file), [text.encode()], mode, self._group())
            if os.geteuid() == 0:
                os.lchown(os.path.join(hidden, file), above.st_uid, -1)
            written.sync()
            written.close()
        disk.sync_directory(hidden)

    def _group(self) -> int:
        """The group of the server, which its state directory has; -1 where it is not known, or not ours to give."""
        try:
            group = os.stat(self.settings.state).st_gid
        except OSError:
            return -1
        return group if os.geteuid() == 0 or group in os.getgroups() else -1

    def _put_beside(self, disk: PosixDisk, path: str, text: str) -> tuple[str, str]:
        """Write the new file beside the one that it will be; gives both paths."""
        path = os.path.realpath(path)
        there = os.path.exists(path)
        like = path if there else os.path.join(os.path.dirname(path), USERS)
        try:
            old = os.stat(like)
            mode, uid, gid = stat.S_IMODE(old.st_mode), old.st_uid, old.st_gid
        except FileNotFoundError:
            mode, uid, gid = 0o640, os.geteuid(), self._group()
        if path != like and os.path.basename(path) not in _PRIVATE:
            mode = 0o644
        beside = _hidden(path)
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(beside)
        file = disk.write_new(beside, [text.encode()], mode, -1 if gid == os.getegid() else gid)
        try:
            if uid != os.geteuid():
                os.lchown(beside, uid, -1)
            if there:
                _date_behind(beside, old.st_mtime)
            file.sync()
        except BaseException:
            disk.unlink(beside)
            raise
        finally:
            file.close()
        return beside, path


def _date_behind(path: str, before: float) -> None:
    """Date a file in a later second than the one before it.

    Dovecot reads its passwd-file anew where size or time differ, and counts whole seconds: of two changes in one it
    would never see the second.
    """
    earliest = int(before) + 1
    if os.stat(path, follow_symlinks=False).st_mtime < earliest:
        os.utime(path, (earliest, earliest), follow_symlinks=False)


@contextlib.contextmanager
def changing(config: Path) -> Iterator[Change]:
    """Begin a change, with nobody else changing; it is `Change.commit` that writes."""
    config = config.absolute()
    settings = read_settings(config)
    with _locked(config.parent):
        yield Change(config, settings, directories(config))


def directories(config: Path) -> dict[str, str]:
    """The directory of each domain; what is wrong with them ends the command."""
    problems: list[Problem] = []
    found = domain_directories(str(config.absolute().parent / DOMAINS), problems)
    if problems:
        fail(str(SettingsRefused(problems)), EX_CONFIG)
    return found


def read_settings(config: Path) -> Settings:
    """Read as much as can be read; a file that is no TOML ends the command."""
    problems: list[Problem] = []
    found = read_toml(str(config.absolute()), problems)
    if found is None:
        fail(str(SettingsRefused(problems)), EX_CONFIG)
    table, reading = found
    return reading.table(Settings, table)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        fail(f"{directory} cannot be locked: {error.strerror}", EX_CANTCREAT)
    try:
        until = time.monotonic() + WAIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    fail(f"somebody else is changing {directory}; try again", EX_TEMPFAIL)
                time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


def _hidden(path: str) -> str:
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}{_NEW}")


def _problems(config: Path, domains: str | None) -> tuple[Problem, ...]:
    try:
        load(str(config), domains)
    except SettingsRefused as refused:
        return refused.problems
    return ()


def _mended(problem: Problem, picture: str, config: Path) -> Problem:
    """Name the files of the picture as they will be named."""
    place = str(config.parent / DOMAINS)
    texts = (text.replace(picture, place) for text in (problem.file, problem.expected, problem.found))
    file, expected, found = texts
    return Problem(file, problem.line, expected, found, problem.key)


def _without_lines(problem: Problem) -> tuple[str, ...]:
    """What tells a problem from others, whatever line it has moved to."""
    return problem.file, problem.expected, re.sub(r":\d+", "", problem.found), problem.key

"""``mta restore``: a backup becomes the queue of a server that is stopped, and all of it is held (docs/backup.md).

Mail that was in the queue when the backup was made may have been delivered since. So nothing is sent before somebody
has looked and says what is to go: each recipient is HELD, and says so.

In order: the backup is read and compared with its manifest; it is unpacked beside the place where the queue will be;
all is held; it is synced; it gets its name. What is stopped before the last step has restored nothing, and can be typed
again.

Exit status: 0 restored; 65 the backup is damaged; 73 there is a queue already, or it cannot be written; 75 the daemon
runs; 77 not allowed; 78 the configuration cannot be used.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import click

from mta.cli.archive import (
    Backup,
    Manifest,
    Member,
    NoBackup,
    group_number,
    open_backup,
    owners_of,
    sync_tree,
    user_number,
    verify,
)
from mta.cli.daemon import (
    CONFIG,
    EX_CANTCREAT,
    EX_CONFIG,
    EX_DATAERR,
    EX_NOPERM,
    EX_TEMPFAIL,
    also,
    examples,
    fail,
    state_directory,
)
from mta.cli.queue_desk import as_owner
from mta.cli.queue_text import amount, when
from mta.observe.telling import duration
from mta.service.asking import CommandRefused, ask, socket_path
from mta.settings.problem import SettingsRefused

_SOURCE = "mta restore"


@click.command(epilog=examples("mta restore /backup/mta-monday"))
@CONFIG
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path, exists=True))
def restore(config: Path, source: Path) -> None:
    """Make the backup SRC, a directory or a .tar, the queue of this server, with the daemon stopped.

    All of it is held until `mta queue release`: it may have been delivered since. The configuration is restored where
    there is none; one that is there stays. A queue that has mail in it is never touched.
    """
    config, source = config.absolute(), source.absolute()
    with _told(source), ExitStack() as stack:
        os.umask(0o077)
        backup = open_backup(str(source), stack)
        manifest = backup.manifest
        _check_schema(manifest)
        verify(backup)
        restored_etc = _restore_etc(backup, config)
        state = state_directory(str(config))
        _refuse_running(state)
        _make_state(state, manifest)
        with as_owner(state):
            _refuse_mail(state)
        held, before = _restore_spool(backup, state)
        history = _restore_history(backup, state)
    _tell(manifest, config, state, held, before, restored_etc, history)


@contextmanager
def _told(source: Path) -> Iterator[None]:
    try:
        yield
    except NoBackup as fault:
        fail(f"{source} cannot be restored: {fault}", EX_DATAERR)
    except (SettingsRefused, ValueError) as refused:
        fail(str(refused), EX_CONFIG)
    except PermissionError as error:
        fail(f"{error.filename}: {error.strerror}: this is for root, or the user of the server", EX_NOPERM)
    except OSError as error:
        fail(f"{error.filename or source}: {error.strerror or error}", EX_CANTCREAT)
    except sqlite3.Error as error:
        fail(f"the queue cannot be restored: {error}", EX_CANTCREAT)


def _check_schema(manifest: Manifest) -> None:
    from mta.spool.schema import MIGRATIONS

    if manifest.schema > len(MIGRATIONS):
        raise NoBackup(f"mta {manifest.mta} made it, which is later than this program: install that version")


def _refuse_running(state: str) -> None:
    try:
        ask(socket_path(state), "ping")
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except CommandRefused:
        pass
    fail("the daemon runs: stop it first", EX_TEMPFAIL)


def _refuse_mail(state: str) -> None:
    """Take a spool without any mail out of the way, as a first start leaves it."""
    from mta.disk.posix import PosixDisk
    from mta.spool.shard import SpoolInUse, lock_shard
    from mta.spool.view import shard_paths

    spool = f"{state}/spool"
    if not os.path.exists(spool):
        return
    with ExitStack() as stack:
        for path in shard_paths(spool, PosixDisk()):
            try:
                stack.callback(lock_shard(path))
            except SpoolInUse as busy:
                fail(str(busy), EX_TEMPFAIL)
        files = [os.path.join(at, name) for at, _, names in os.walk(spool) for name in names]
        kept = [name for name in files if os.path.basename(os.path.dirname(name)) in ("content", "aside")]
        if kept or any(_messages(path) for path in shard_paths(spool, PosixDisk())):
            fail(
                f"there is mail in {spool}, which is not touched: move the directory away, or restore elsewhere "
                "(a configuration with another `state`)",
                EX_CANTCREAT,
            )
        shutil.rmtree(spool)


def _messages(path: str) -> int:
    from mta.spool.search import EVERYTHING, count

    return count([path], EVERYTHING)[0]


# Files


def _restore_etc(backup: Backup, config: Path) -> bool:
    """Restore the configuration where there is none; says whether it was."""
    etc = config.parent
    if config.exists() or (etc.exists() and any(etc.iterdir())):
        return False
    manifest = backup.manifest
    _make_parents(str(etc))
    for member in manifest.directories:
        _make_directory(os.path.normpath(etc / member.path.removeprefix("etc").lstrip("/")))
    for member, file in backup.files():
        if member.path.startswith("etc/"):
            name = str(etc / member.path.removeprefix("etc/"))
            _write(file, name)
            _give(name, member)
    for path, to in manifest.links.items():
        os.symlink(to, etc / path.removeprefix("etc/"))
    for member in sorted(manifest.directories, key=lambda member: member.path, reverse=True):
        _give(os.path.normpath(etc / member.path.removeprefix("etc").lstrip("/")), member)
    sync_tree(str(etc))
    if manifest.config != config.name and not config.exists():
        raise NoBackup(f"its configuration is {etc / manifest.config}: say --config {etc / manifest.config}")
    return True


def _restore_spool(backup: Backup, state: str) -> tuple[int, int]:
    from mta.disk.posix import PosixDisk
    from mta.spool.copying import fault_of, hold_all

    manifest = backup.manifest
    part = f"{state}/spool.restoring"
    with as_owner(state):
        shutil.rmtree(part, ignore_errors=True)
        os.mkdir(part, 0o700)
    _restore_files(backup, "spool/", part, state)
    held = before = 0
    with as_owner(state):
        for number in manifest.shards:
            fault = fault_of(f"{part}/{number}")
            if fault:
                raise NoBackup(fault)
            os.makedirs(f"{part}/{number}/content", mode=0o700, exist_ok=True)
            some, others = hold_all(f"{part}/{number}", words(manifest), _SOURCE)
            held, before = held + some, before + others
        sync_tree(part)
        os.rename(part, f"{state}/spool")
        PosixDisk().sync_directory(state)
    return held, before


def _restore_history(backup: Backup, state: str) -> bool:
    """Restore the history where there is none; says whether there is one that was left out."""
    target = f"{state}/history"
    if not any(member.path.startswith("history/") for member in backup.manifest.files):
        return False
    with as_owner(state):
        if os.path.isdir(target) and os.listdir(target):
            return True
        _make_directory(target)
    _restore_files(backup, "history/", target, state)
    return False


def _restore_files(backup: Backup, below: str, target: str, state: str) -> None:
    """Write the files of a backup that are below a name of it: read as who we are, written as the owner of the state.

    Root does not write there itself: whoever is that owner could lead it elsewhere by a link.
    """
    for member, file in backup.files():
        if member.path.startswith(below):
            with as_owner(state):
                name = f"{target}/{member.path.removeprefix(below)}"
                _make_directory(os.path.dirname(name))
                _write(file, name)


def _make_state(state: str, manifest: Manifest) -> None:
    if not os.path.isdir(state):
        _make_parents(os.path.abspath(state))
        os.makedirs(state, mode=0o700)
        if os.geteuid() == 0:
            os.chown(state, user_number(manifest.state_owner), group_number(manifest.state_group))


def _make_directory(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)


def _make_parents(path: str) -> None:
    """Make what is missing above a directory, so that the server's user gets to it."""
    before = os.umask(0o022)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    finally:
        os.umask(before)


def _write(file: IO[bytes], name: str) -> None:
    descriptor = os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600)
    with open(descriptor, "wb") as target:
        shutil.copyfileobj(file, target, 1 << 20)


def _give(name: str, member: Member) -> None:
    """Give a file or directory the mode and, for root, the owner that it had."""
    if os.geteuid() == 0:
        os.chown(name, user_number(member.owner), group_number(member.group), follow_symlinks=False)
    os.chmod(name, member.mode & 0o777)


# Words


def words(manifest: Manifest) -> str:
    """Say why what is restored is held; `mta queue release --error` finds it by these words."""
    return f"restored from the backup of {when(manifest.began)}"


def _tell(
    manifest: Manifest, config: Path, state: str, held: int, before: int, restored_etc: bool, history: bool
) -> None:
    option = also(config)
    click.echo(
        f"Restored into {state}: {amount(manifest.messages, 'message')} for "
        f"{amount(manifest.recipients, 'recipient')}, "
        f"from the backup of {when(manifest.began)} ({duration(time.time() - manifest.began)} ago) of {manifest.host}."
    )
    click.echo(
        f"The configuration in {config.parent} was restored too."
        if restored_etc
        else f"The configuration in {config.parent} was there, and is as it was."
    )
    if history:
        click.echo(f"There is a history in {state}/history already: that of the backup was left out.")
    owner, _ = owners_of(state)
    if owner != manifest.state_owner:
        click.echo(f"The queue belongs to {owner}; it was {manifest.state_owner}'s.")
    if before:
        click.echo(f"{amount(before, 'recipient')} had been held before, for reasons of their own, and still are.")
    if not held:
        return
    reason = shlex.quote(words(manifest))
    click.echo(f"""
{amount(held, "recipient")} ARE HELD NOW: what was in the queue then may have been delivered since, and would come
twice. Start the daemon, look, and let go what is to go:

    mta queue list --state held{option}
    mta queue release --error {reason}{option}

or a part of it (--destination, --sender, --recipient, --older, --younger, queue ids).
What is not to go can be deleted: mta queue delete.""")

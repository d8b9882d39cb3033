"""``mta backup``: the queue, ``etc/`` and perhaps the history, while the daemon runs (docs/backup.md).

The daemon is not asked and need not know: SQLite gives a reader one moment of each shard, and the files of large
messages stay as long as their rows are there (`mta.spool.copying`). Mailboxes are not in it: they are plain files, for
the tool that copies plain files.

Exit status: 0 it is made and was read back whole; 65 what was written is not what was read; 66 there is nothing to back
up; 73 it cannot be written; 77 not allowed; 78 the configuration cannot be used.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click

from mta import __version__
from mta.cli.archive import (
    MANIFEST,
    Manifest,
    Member,
    NoBackup,
    files_below,
    member_of,
    open_backup,
    owners_of,
    sync_tree,
    verify,
    write_tar,
)
from mta.cli.daemon import (
    CONFIG,
    EX_CANTCREAT,
    EX_CONFIG,
    EX_DATAERR,
    EX_NOINPUT,
    EX_NOPERM,
    examples,
    fail,
    state_directory,
)
from mta.cli.queue_text import amount
from mta.settings.problem import SettingsRefused

_BAR_FROM = 64 * 1024 * 1024
"""Octets of a database from which its copying shows a bar."""


@click.command(epilog=examples("mta backup /backup/mta-monday", "mta backup --history /backup/mta-monday.tar"))
@CONFIG
@click.option("--history", is_flag=True, help="With the history: what `mta trace` knows.")
@click.argument("dest", type=click.Path(path_type=Path))
def backup(config: Path, history: bool, dest: Path) -> None:
    """Copy queue and configuration into DEST, a new directory, or a file if it ends in .tar.

    The daemon may run. The copy of the queue is one moment of it, and is read back and checked when it is written. It
    holds private keys, passwords' verifiers and mail. Mailboxes are not in it.
    """
    from mta.disk.posix import PosixDisk

    config, dest = config.absolute(), dest.absolute()
    began = time.time()
    with _told():
        os.umask(0o077)
        state = state_directory(str(config))
        as_tar = dest.suffix == ".tar"
        root = dest.with_name(f"{dest.name}.part") if as_tar else dest
        try:
            os.stat(f"{state}/spool")
        except FileNotFoundError:
            fail(f"there is no queue yet: {state}/spool is made when the daemon starts first", EX_NOINPUT)
        _refuse_odd_places(config, state, dest)
        _make(root, dest)
        manifest = _copy(config, state, str(root), history, began)
        if as_tar:
            part = Path(f"{root}.tar")
            write_tar(str(root), str(part))
            _check(str(part), root)
            os.rename(part, dest)
            shutil.rmtree(root)
        else:
            _check(str(root), root)
        PosixDisk().sync_directory(str(dest.parent))
    _tell(manifest, config, state, dest)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except SettingsRefused as refused:
        fail(str(refused), EX_CONFIG)
    except NoBackup as fault:
        fail(f"what was written is not whole: {fault}", EX_DATAERR)
    except PermissionError as error:
        fail(f"{error.filename}: {error.strerror}: this is for root, or the user of the server", EX_NOPERM)
    except OSError as error:
        fail(f"{error.filename or 'the backup'}: {error.strerror or error}", EX_CANTCREAT)
    except sqlite3.Error as error:
        fail(f"the queue cannot be copied: {error}", EX_CANTCREAT)


def _refuse_odd_places(config: Path, state: str, dest: Path) -> None:
    for inside in (str(config.parent), os.path.abspath(state)):
        if os.path.commonpath([inside, str(dest)]) == inside:
            fail(f"{dest} lies in {inside}, which is to be backed up", EX_CANTCREAT)


def _make(root: Path, dest: Path) -> None:
    """Make the directory; what is there already is never written over."""
    for path in {root, dest}:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            fail(f"{path} is there already: nothing is written over", EX_CANTCREAT)
    root.mkdir(mode=0o700, exist_ok=True)
    root.chmod(0o700)


def _copy(config: Path, state: str, root: str, history: bool, began: float) -> Manifest:
    from mta.disk.posix import PosixDisk
    from mta.spool.copying import copy_shard
    from mta.spool.schema import MIGRATIONS
    from mta.spool.view import View, shard_paths

    view = View(f"{state}/spool", PosixDisk())  # its schema is ours, or it raises
    view.close()
    messages = recipients = finished = 0
    for path in shard_paths(f"{state}/spool", PosixDisk()):
        number = path.rpartition("/")[2]
        with _progress(f"{path}/queue.db") as progress:
            copied = copy_shard(path, f"{root}/spool/{number}", progress)
        messages, recipients = messages + copied.messages, recipients + copied.recipients
        finished += copied.finished
    links, directories = _copy_etc(config.parent, os.path.abspath(state), root)
    if history:
        _copy_history(f"{state}/history", f"{root}/history")
    files = [
        member_of(root, path, str(config.parent / path.removeprefix("etc/")) if path.startswith("etc/") else "")
        for path in sorted(files_below(root))
        if path not in links
    ]
    owner, group = owners_of(state)
    manifest = Manifest(
        mta=__version__,
        schema=len(MIGRATIONS),
        host=socket.gethostname(),
        began=began,
        ended=time.time(),
        config=config.name,
        state=os.path.abspath(state),
        state_owner=owner,
        state_group=group,
        messages=messages,
        recipients=recipients,
        finished=finished,
        files=files,
        directories=directories,
        links=links,
    )
    sync_tree(root)
    with open(f"{root}/{MANIFEST}.part", "w", encoding="utf-8") as file:
        file.write(manifest.text())
    os.rename(f"{root}/{MANIFEST}.part", f"{root}/{MANIFEST}")
    sync_tree(root)
    return manifest


@contextmanager
def _progress(database: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while a large database is copied."""
    octets = os.path.getsize(database)
    hidden = octets < _BAR_FROM or not sys.stderr.isatty()
    with click.progressbar(length=octets, label="queue", file=sys.stderr, hidden=hidden) as bar:
        yield lambda done, total: bar.update(min(done, octets) - bar.pos)


def _copy_etc(etc: Path, state: str, root: str) -> tuple[dict[str, str], list[Member]]:
    """Copy the configuration; return its symbolic links, with where they lead, and its directories."""
    links: dict[str, str] = {}
    directories: list[Member] = []
    for directory, names, files in os.walk(etc):
        names[:] = [name for name in names if os.path.join(directory, name) != state]
        path = os.path.normpath(os.path.join("etc", os.path.relpath(directory, etc)))
        below = os.path.join(root, path)
        os.makedirs(below, mode=0o700, exist_ok=True)
        directories.append(member_of(root, path, directory))
        for name in [*files, *(name for name in names if os.path.islink(os.path.join(directory, name)))]:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                links[f"etc/{os.path.relpath(path, etc)}"] = os.readlink(path)
            elif os.path.isfile(path):
                shutil.copyfile(path, os.path.join(below, name), follow_symlinks=False)
    return links, directories


def _copy_history(source: str, target: str) -> None:
    """Copy each segment as a reader sees it; one that is pruned meanwhile is left out."""
    os.makedirs(target, mode=0o700)
    for path in sorted(Path(source).glob("*.sqlite")):
        try:
            reading = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)
            with closing(reading), closing(sqlite3.connect(f"{target}/{path.name}")) as copy:
                reading.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError:
            if path.exists():
                raise
            os.unlink(f"{target}/{path.name}")


def _check(made: str, root: Path) -> None:
    """Read everything back, and look into the databases where they lie in a directory, `root`."""
    from mta.spool.copying import fault_of

    with ExitStack() as stack:
        found = open_backup(made, stack)
        for number in found.manifest.shards:
            fault = fault_of(f"{root}/spool/{number}")
            if fault:
                raise NoBackup(fault)
        verify(found)


def _tell(manifest: Manifest, config: Path, state: str, dest: Path) -> None:
    octets = sum(member.octets for member in manifest.files)
    etc = sum(member.path.startswith("etc/") for member in manifest.files)
    click.echo(
        f"Backed up to {dest}: {amount(manifest.messages, 'message')} for {amount(manifest.recipients, 'recipient')}, "
        f"{amount(etc, 'file')} of {config.parent}; {octets / 1e6:,.1f} MB in {time.time() - manifest.began:.1f} s."
    )
    if manifest.finished:
        click.echo(f"{amount(manifest.finished, 'message')} of the queue ended while it was copied: not in it.")
    click.echo("It was read back: every file is whole.")
    outside = {path: to for path, to in manifest.links.items() if not _inside(path, to)}
    for path, to in outside.items():
        click.echo(f"Not in it: {to}, where {path} leads.")
    back = f"mta restore {shlex.quote(str(dest))}"
    click.echo(f"Not in it: mailboxes. It holds private keys and mail: keep it from others. {back}")


def _inside(path: str, to: str) -> bool:
    """Whether a link in ``etc/`` leads to something that is backed up too."""
    return not to.startswith("/") and os.path.normpath(os.path.join(os.path.dirname(path), to)).startswith("etc/")

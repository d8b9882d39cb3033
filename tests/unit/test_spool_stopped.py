"""The queue of a server that is stopped: seen by mta.spool.view, changed by mta.spool.stopped."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mta.disk.posix import PosixDisk
from mta.mail.reason import Reason
from mta.spool import search
from mta.spool.port import Ended, State
from mta.spool.shard import SpoolInUse
from mta.spool.stopped import StoppedSpool
from mta.spool.summary import summarise
from mta.spool.view import SchemaOlder, View
from tests.doubles.queue import Queue
from tests.doubles.spool import whole
from tests.doubles.sync import inline, result


def stopped(queue: Queue, root: Path) -> Path:
    """Stop in order; give where its shards lie."""
    queue.close()
    return Path(queue.root)


def crashed(queue: Queue, root: Path) -> Path:
    """Copy what lies there while it works, as the death of the process leaves it, to a place of its own."""
    shutil.copytree(queue.root, root / "crashed")
    queue.close()
    return root / "crashed"


LEFT = [stopped, crashed]


def files(root: Path) -> dict[str, bytes]:
    """All files below a directory but the memory that readers share, which holds nothing."""
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".db-shm"}


@pytest.mark.parametrize("leave", LEFT)
def test_looking_changes_nothing(tmp_path: Path, leave: Callable[[Queue, Path], Path]) -> None:
    """Whatever is read of a queue that is stopped, each file stays as it is, and none comes."""
    queue = Queue(tmp_path)
    queue_id = queue.add("bob@example.net", active=True)
    root = leave(queue, tmp_path)
    before = files(root)
    view = View(str(root), PosixDisk())
    assert [each.queue_id for each in search.find(view.paths, search.EVERYTHING)] == [queue_id]
    assert summarise(view.paths, 10).messages == 1
    found = view.get(queue_id)
    assert found is not None
    assert whole(view.content(queue_id)) == b"Subject: x\r\n\r\nbody\r\n"
    assert view.get("nonsense") is None
    with pytest.raises(KeyError):
        view.content("nonsense")
    view.close()
    assert files(root) == before


def test_acting_leaves_the_evidence_of_a_crash(tmp_path: Path) -> None:
    """What was tried when the server died counts as a crash at its next start, whatever the operator did before."""
    queue = Queue(tmp_path)
    killer, other = queue.add("bob@example.net", active=True), queue.add("carol@example.net")
    root = crashed(queue, tmp_path)
    spool = StoppedSpool(str(root), PosixDisk(), inline)
    result(spool.record(other, [Ended(0, Reason("deleted"))]))
    result(spool.close())
    view = View(str(root), PosixDisk())
    found = view.get(killer)
    assert found is not None
    assert (found.recipients[0].state, found.recipients[0].crashes) == (State.ACTIVE, 0)
    assert view.get(other) is None
    view.close()
    queue.root = str(root)
    queue.open()
    recovered = queue.spool.get(killer)
    assert recovered is not None
    assert (recovered.recipients[0].state, recovered.recipients[0].crashes) == (State.WAITING, 1)
    queue.close()


def test_a_queue_in_use_is_not_changed(tmp_path: Path) -> None:
    """Where a daemon holds the lock nothing is opened for writing, and the daemon cannot start meanwhile either."""
    queue = Queue(tmp_path)
    with pytest.raises(SpoolInUse):
        StoppedSpool(queue.root, PosixDisk(), inline)
    queue.close()
    spool = StoppedSpool(queue.root, PosixDisk(), inline)
    with pytest.raises(SpoolInUse):
        queue.open()
    result(spool.close())
    queue.open()
    queue.close()


def test_where_there_is_no_queue_there_is_nothing(tmp_path: Path) -> None:
    """A state directory without a spool, and names in it that are no shards, are no error."""
    assert View(str(tmp_path / "none"), PosixDisk()).paths == ()
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "0").mkdir()
    assert View(str(tmp_path), PosixDisk()).paths == ()


def test_a_schema_of_an_older_version_is_not_read(tmp_path: Path) -> None:
    """The next start brings it up to date: until then nothing is guessed of it."""
    queue = Queue(tmp_path)
    queue.close()
    with sqlite3.connect(f"{queue.root}/0/queue.db") as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(SchemaOlder, match="start the daemon once"):
        View(queue.root, PosixDisk())

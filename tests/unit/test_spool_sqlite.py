"""SQLite under the spool: faults, checkpoints, content files, the start."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mta.disk.posix import PosixDisk
from mta.mail.reason import Reason
from mta.spool import sqlite
from mta.spool.port import Ended, Retry, SpoolSuspect, StagedContent, State
from mta.spool.recovery import CRASHED, MISSING, TORN, Recovered
from mta.spool.schema import SchemaTooNew
from mta.spool.shard import SpoolInUse, open_spool
from mta.spool.sqlite import SqliteSpool
from tests.doubles.disk import FaultyDisk
from tests.doubles.spool import DONE, LATER, LONGEST, NOW, Held, message, staged, whole
from tests.doubles.sync import failure, inline, result


class FaultyConnection(sqlite3.Connection):
    """A connection that records its statements, and fails those that start with a key of `fail`."""

    fail: dict[str, Exception]
    statements: list[str]

    def execute(self, sql: str, parameters: Iterable[Any] = (), /) -> sqlite3.Cursor:
        """Run a statement, or fail before it."""
        self.statements.append(sql)
        for start, error in self.fail.items():
            if sql.startswith(start):
                raise error
        return super().execute(sql, parameters)  # type: ignore[arg-type]  # the spool passes tuples


def database_error(text: str, code: int) -> sqlite3.OperationalError:
    """Make an error as SQLite raises it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class Store:
    """A shard below `root` with all its doubles."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.disk = FaultyDisk(PosixDisk())
        self.run_in_thread: Any = inline
        self.suspected: list[Reason] = []
        self.fail: dict[str, Exception] = {}
        self.statements: list[str] = []
        connect = sqlite3.connect

        def connect_faulty(database: str, **options: Any) -> sqlite3.Connection:
            connection = connect(database, factory=FaultyConnection, **options)
            connection.fail = self.fail
            connection.statements = [] if "mode=ro" in database else self.statements
            return connection

        monkeypatch.setattr(sqlite3, "connect", connect_faulty)

    @property
    def path(self) -> Path:
        """The directory of the shard."""
        return self.root / "0"

    def open(self, now: float = NOW) -> SqliteSpool:
        """Open the shard."""
        self.spool, self.recovered = open_spool(
            str(self.root), 0, self.disk, self.run_in_thread, self._suspected, now, LONGEST, inline_maximum=100
        )
        return self.spool

    def _suspected(self, spool: SqliteSpool, reason: Reason) -> None:
        self.suspected.append(reason)

    def files(self) -> set[str]:
        """The names of content files."""
        return set(os.listdir(self.path / "content"))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store, not open yet."""
    return Store(tmp_path, monkeypatch)


def stays_fit(store: Store) -> None:
    """Assert that the shard works, now that what was wrong is over."""
    store.fail.clear()
    assert store.suspected == []
    result(store.spool.insert(message("0f")))
    result(store.spool.close())
    spool = store.open()
    assert [m.queue_id for m in spool.page()] == ["00", "0f"]
    result(spool.close())


def is_suspect(store: Store) -> None:
    """Assert that nothing more is written, by no call, and that reading goes on."""
    store.fail.clear()
    store.statements.clear()
    assert len(store.suspected) == 1
    assert not store.spool.fit
    wal = (store.path / "queue.db-wal").stat()
    for call in (
        store.spool.insert(message("0f")),
        store.spool.insert(message("0g", content=b"x" * 1000)),
        store.spool.record("00", [Ended(0, DONE)]),
        store.spool.mark("00", [0]),
    ):
        assert isinstance(failure(call), SpoolSuspect)
    result(store.spool.close())
    assert store.statements == []
    assert (store.path / "queue.db-wal").stat() == wal
    assert [m.queue_id for m in store.spool.page()] == ["00"]
    with pytest.raises(SpoolInUse):
        store.open()
    assert len(store.suspected) == 1


# a disk that refuses


@pytest.mark.parametrize("statement", ["BEGIN", "INSERT", "COMMIT"])
@pytest.mark.parametrize(
    ("code", "number"),
    [
        (sqlite3.SQLITE_FULL, errno.ENOSPC),
        (sqlite3.SQLITE_IOERR_WRITE, errno.EIO),
        (sqlite3.SQLITE_BUSY, errno.EBUSY),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, errno.EBUSY),
    ],
)
def test_a_refused_write_is_an_error_of_the_system(store: Store, statement: str, code: int, number: int) -> None:
    """Full, refused, busy: the whole batch fails with OSError, nothing of it is kept, and the shard stays fit."""
    held = store.run_in_thread = Held()
    spool = store.open()
    result(spool.insert(message("00")))
    held.at_once = False
    marking = spool.mark("00", [0])
    calls = [spool.insert(message("0a")), spool.insert(message("0b"))]
    if statement == "COMMIT":
        held.run(1)
    store.fail[statement] = database_error("refused", code)
    held.run()
    result(marking)
    for call in calls:
        error = failure(call)
        assert isinstance(error, OSError)
        assert error.errno == number
    held.at_once = True
    stays_fit(store)


def test_a_full_database_refuses_and_recovers(store: Store) -> None:
    """When SQLite itself finds no room, the insert fails with ENOSPC; with room again the same shard takes it."""
    spool = store.open()
    result(spool.insert(message("00")))
    spool._writer.execute("PRAGMA max_page_count = 1")
    many = [f"{'x' * 60}{number}@example.net" for number in range(100)]
    calls = [spool.insert(message(f"1{number:02d}", *many)) for number in range(20)]
    taken = len(spool.page()) - 1
    assert taken < 20
    for call in calls[taken:]:
        error = failure(call)
        assert isinstance(error, OSError)
        assert error.errno == errno.ENOSPC
    spool._writer.execute("PRAGMA max_page_count = 1000000")
    for queued in spool.page():
        if queued.queue_id != "00":
            result(spool.record(queued.queue_id, [Ended(n, DONE) for n in range(100)]))
    stays_fit(store)


@contextmanager
def no_file_grows(size: int) -> Iterator[None]:
    """Have the kernel refuse to write past `size` octets of any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_log_that_the_kernel_refuses_to_write(store: Store) -> None:
    """A write refused in the COMMIT leaves nothing of the batch; the next batch goes to the same place and stands."""
    spool = store.open()
    result(spool.insert(message("00")))
    with no_file_grows((store.path / "queue.db-wal").stat().st_size + 4096):
        error = failure(spool.insert(message("0a")))
    assert isinstance(error, OSError)
    assert error.errno == errno.EIO
    stays_fit(store)


# a sync that fails


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("disk I/O error"),
        database_error("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC),
        database_error("disk I/O error", sqlite3.SQLITE_IOERR_DIR_FSYNC),
        sqlite3.DatabaseError("database disk image is malformed"),
        RuntimeError("the thread pool is gone"),
        MemoryError("no memory"),
    ],
    ids=str,
)
def test_a_failed_commit_makes_the_shard_suspect(store: Store, error: Exception) -> None:
    """After a COMMIT whose outcome is not known nothing is written, checkpointed or closed; it can be read."""
    spool = store.open()
    result(spool.insert(message("00")))
    store.fail["COMMIT"] = error
    assert isinstance(failure(spool.insert(message("0a"))), SpoolSuspect)
    is_suspect(store)


def test_what_waits_behind_a_failed_commit_fails_too(store: Store) -> None:
    """Changes that were waiting when the COMMIT failed are refused, not tried."""
    held = store.run_in_thread = Held()
    spool = store.open()
    result(spool.insert(message("00")))
    held.at_once = False
    calls = [spool.insert(message(queue_id)) for queue_id in ("0a", "0b", "0c")]
    store.fail["COMMIT"] = sqlite3.OperationalError("disk I/O error")
    held.run()
    assert all(isinstance(failure(call), SpoolSuspect) for call in calls)
    held.at_once = True
    is_suspect(store)


def test_a_rollback_that_fails_makes_the_shard_suspect(store: Store) -> None:
    """Where a full disk cannot even be rolled back, the state of the shard is not known."""
    spool = store.open()
    result(spool.insert(message("00")))
    store.fail["INSERT INTO content"] = database_error("full", sqlite3.SQLITE_FULL)
    store.fail["ROLLBACK"] = database_error("disk I/O error", sqlite3.SQLITE_IOERR)
    assert isinstance(failure(spool.insert(message("0a"))), SpoolSuspect)
    is_suspect(store)


def test_a_read_error_in_the_rows_makes_the_shard_suspect(store: Store) -> None:
    """An I/O error that is no refused write concerns the whole shard, also before the COMMIT."""
    spool = store.open()
    result(spool.insert(message("00")))
    store.fail["DELETE"] = database_error("disk I/O error", sqlite3.SQLITE_IOERR_READ)
    assert isinstance(failure(spool.record("00", [Ended(0, DONE)])), SpoolSuspect)
    is_suspect(store)


def test_a_failed_sync_of_the_content_directory_makes_the_shard_suspect(store: Store, tmp_path: Path) -> None:
    """When the names of content files could not be synced, no later sync of that directory is believed."""
    spool = store.open()
    result(spool.insert(message("00")))
    store.disk.fail["sync_directory"] = OSError(errno.EIO, "Input/output error")
    content = staged(PosixDisk(), str(tmp_path / "staged"), b"x")
    assert isinstance(failure(spool.insert(message("0a", content=content, size=1))), SpoolSuspect)
    is_suspect(store)


SUSPECT = """
import sqlite3, sys
from mta.disk.posix import PosixDisk
from mta.spool.shard import open_spool
from tests.doubles.sync import inline
from tests.doubles.spool import message
failing = False
def run_in_thread(function, *args):
    return inline(fail if failing else function, *args)
def fail(*args):
    raise RuntimeError("unknown")
spool, _ = open_spool(sys.argv[1], 0, PosixDisk(), run_in_thread, lambda *a: None, 0.0, 0.0)
spool.insert(message("00"))
failing = sys.argv[2] == "fail"
spool.insert(message("0a")).addErrback(lambda _: None)
import os
wal = os.stat(sys.argv[1] + "/0/queue.db-wal")
print(wal.st_size, wal.st_mtime_ns, os.stat(sys.argv[1] + "/0/queue.db").st_mtime_ns)
del spool._reader
"""


def test_a_suspect_shard_is_not_checkpointed_by_the_end_of_the_process(tmp_path: Path) -> None:
    """Python closes what is left open when it ends; a suspect connection is not closed, so nothing is written."""

    def after(how: str) -> tuple[list[str], Path]:
        root = tmp_path / how
        arguments = [sys.executable, "-c", SUSPECT, str(root), how]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, env={"PYTHONPATH": "."})
        return done.stdout.split(), root / "0"

    before, path = after("fail")
    wal, database = (path / "queue.db-wal").stat(), (path / "queue.db").stat()
    assert before == [str(wal.st_size), str(wal.st_mtime_ns), str(database.st_mtime_ns)]
    _, path = after("succeed")
    assert not (path / "queue.db-wal").exists(), "the last to close checkpoints: otherwise this test shows nothing"


# changes that fail alone


def test_a_change_that_cannot_be_stored_fails_alone(store: Store) -> None:
    """Text that is no Unicode, a number out of range and a value of the wrong type fail their own change only."""
    held = store.run_in_thread = Held()
    spool = store.open()
    held.at_once = False
    calls = [
        spool.insert(message("00")),
        spool.insert(message("0a", "\udcff@example.net")),
        spool.insert(message("0b", accepted="soon")),  # type: ignore[arg-type]  # a bug of somebody
        spool.record("00", [Retry(0, NOW, LATER, state=1 << 70)]),  # type: ignore[arg-type]  # likewise
        spool.record("00", [Retry(0, NOW, LATER, state=3)]),  # type: ignore[arg-type]  # likewise
        spool.record("00", [Ended(0, DONE)], [replace(message("0c"), envelope=None)]),  # type: ignore[arg-type]  # likewise
        spool.insert(message("0c")),
    ]
    held.run()
    for call in calls[1:-1]:
        assert not isinstance(failure(call), (OSError, SpoolSuspect))
    assert result(calls[-1])
    assert [m.queue_id for m in spool.page()] == ["00", "0c"]
    held.at_once = True
    result(spool.close())


# content files


def test_a_content_file_has_its_name_before_the_commit_and_goes_after(store: Store, tmp_path: Path) -> None:
    """The order is: content synced, name, sync of the directory, COMMIT; and COMMIT, unlink."""
    order: list[str] = store.statements

    class NotingDisk(FaultyDisk):
        def check(self, name: str, path: str) -> None:
            order.append(name)
            super().check(name, path)

    store.disk = NotingDisk(PosixDisk())
    spool = store.open()
    steps = ("sync", "rename", "sync_directory", "COMMIT", "unlink")
    for content in (staged(store.disk, str(tmp_path / "staged"), b"x" * 101), b"x" * 101):
        order.clear()
        result(spool.insert(message("0a", content=content, size=101)))
        assert [step for step in order if step in steps] == ["sync", "rename", "sync_directory", "COMMIT"]
        order.clear()
        result(spool.record("0a", [Ended(0, DONE)]))
        assert [step for step in order if step in steps] == ["COMMIT", "unlink"]
    assert store.files() == set()
    result(spool.close())


def test_a_refused_insert_leaves_no_content_file(store: Store, tmp_path: Path) -> None:
    """Content files of a batch that was rolled back, of a change that failed and of a failed write are unlinked."""
    held = store.run_in_thread = Held()
    spool = store.open()
    result(spool.insert(message("00")))
    store.fail["COMMIT"] = database_error("full", sqlite3.SQLITE_FULL)
    content = staged(PosixDisk(), str(tmp_path / "staged"), b"x")
    assert isinstance(failure(spool.insert(message("0a", content=content, size=1))), OSError)
    assert isinstance(failure(spool.insert(message("0a", content=b"x" * 101))), OSError)
    store.fail.clear()
    result(spool.insert(message("0b")))
    assert isinstance(failure(spool.insert(message("0b", content=b"x" * 101))), sqlite3.IntegrityError)
    store.disk.fail["sync"] = OSError(errno.EIO, "Input/output error")
    assert isinstance(failure(spool.insert(message("0c", content=b"x" * 101))), OSError)
    store.disk.fail = {"write_new": OSError(errno.ENOSPC, "No space left on device")}
    assert isinstance(failure(spool.insert(message("0c", content=b"x" * 101))), OSError)
    assert store.files() == set()
    assert held.waiting == []
    result(spool.record("0b", [Ended(0, DONE)]))
    stays_fit(store)


def test_a_content_file_is_never_written_over(store: Store, tmp_path: Path) -> None:
    """An insert with the id of another message fails and leaves that message its content, in every combination."""
    spool = store.open()
    result(spool.insert(message("0a", content=b"a" * 101)))
    result(spool.insert(message("0b", content=b"b")))

    def other(name: str) -> StagedContent:
        return staged(PosixDisk(), str(tmp_path / name), b"other")

    for queue_id in ("0a", "0b"):
        for content in (b"other", b"other" * 100, other("one")):
            assert failure(spool.insert(message(queue_id, content=content, size=5)))
    reports = [message(queue_id, content=other(queue_id), size=5) for queue_id in ("0c", "0a", "0d")]
    assert failure(spool.record("0b", [Ended(0, DONE)], reports))
    store.fail["COMMIT"] = database_error("full", sqlite3.SQLITE_FULL)
    assert isinstance(failure(spool.insert(message("0a", content=other("four"), size=5))), OSError)
    store.fail.clear()
    assert whole(spool.content("0a")) == b"a" * 101
    assert whole(spool.content("0b")) == b"b"
    assert [m.queue_id for m in spool.page()] == ["0a", "0b"]
    assert store.files() == {"0a"}
    result(spool.close())


def test_the_inline_bound(store: Store) -> None:
    """Content of the bound stands in the database, one octet more in a file."""
    spool = store.open()
    result(spool.insert(message("0a", content=b"x" * 100)))
    assert store.files() == set()
    result(spool.insert(message("0b", content=b"x" * 101)))
    assert store.files() == {"0b"}
    result(spool.close())


def test_content_in_the_database_goes_with_its_message(store: Store) -> None:
    """When the last recipient has ended, no row of its message is left in any table."""
    spool = store.open()
    result(spool.insert(message("0a", "a@x", "b@x")))
    result(spool.record("0a", [Ended(0, DONE)]))
    assert whole(spool.content("0a")) == b"x\r\n"
    result(spool.record("0a", [Ended(1, DONE)]))
    for table in ("message", "recipient", "content"):
        assert spool._writer.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    result(spool.close())


# checkpoints, syncs


def test_each_commit_is_synced(store: Store) -> None:
    """The connection that writes keeps a write-ahead log and syncs it in every COMMIT (FULL is 2)."""
    spool = store.open()
    assert spool._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert spool._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert spool._writer.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    result(spool.close())


def test_the_log_is_checkpointed_between_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the next batch waits for a checkpoint on a thread; the log does not grow without end."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_OCTETS", 100_000)
    threads: list[Any] = []

    def run_in_thread(function: Callable[..., Any], /, *args: object) -> Any:
        threads.append(args)
        # a thread keeps its last result until it has another
        return inline(function, *args).addCallback(lambda value: threads.append(value) or value)

    store.run_in_thread = run_in_thread
    spool = store.open()
    sizes = []
    for number in range(60):
        result(spool.insert(message(f"{number:02d}", content=b"x" * 90)))
        result(spool.record(f"{number:02d}", [Ended(0, DONE)]))
        sizes.append((store.path / "queue.db-wal").stat().st_size)
    checkpoints = [args for args in threads if args and "PASSIVE" in args]
    assert len(checkpoints) == store.statements.count("PRAGMA wal_checkpoint(PASSIVE)")
    assert 4 <= len(checkpoints) <= 8
    assert sizes[-1] == sizes[len(sizes) // 2]
    result(spool.close())


@pytest.mark.parametrize(
    ("code", "fit"),
    [(sqlite3.SQLITE_FULL, True), (sqlite3.SQLITE_IOERR_WRITE, True), (sqlite3.SQLITE_IOERR_FSYNC, False)],
)
def test_a_checkpoint_that_fails(store: Store, monkeypatch: pytest.MonkeyPatch, code: int, fit: bool) -> None:
    """A checkpoint refused by a full disk is tried again later; after any other failure the shard is suspect."""
    spool = store.open()
    result(spool.insert(message("00")))
    monkeypatch.setattr(sqlite, "CHECKPOINT_OCTETS", 1)
    store.fail["PRAGMA wal_checkpoint"] = database_error("failed", code)
    call = spool.mark("00", [0])
    if fit:
        result(call)
        stays_fit(store)
    else:
        assert isinstance(failure(call), SpoolSuspect)
        is_suspect(store)


def test_a_stop_that_fails_leaves_the_shard_suspect(store: Store) -> None:
    """If the last writes of an orderly stop fail, the shard is neither closed nor given up."""
    spool = store.open()
    result(spool.insert(message("00")))
    store.fail["PRAGMA wal_checkpoint(TRUNCATE)"] = sqlite3.OperationalError("disk I/O error")
    result(spool.close())
    is_suspect(store)


def test_a_stop_waits_for_what_is_under_way(store: Store) -> None:
    """Changes that were called before the stop are made; then the shard is given up."""
    held = store.run_in_thread = Held()
    spool = store.open()
    held.at_once = False
    calls = [spool.insert(message(queue_id, active=True)) for queue_id in ("0a", "0b")]
    closing = spool.close()
    assert isinstance(failure(spool.insert(message("0c"))), SpoolSuspect)
    assert not closing.called
    held.run()
    assert [result(call) for call in calls] == [1, 1]
    result(closing)
    held.at_once = True
    spool = store.open()
    assert [m.queue_id for m in spool.due(NOW, 9)] == ["0a", "0b"]
    result(spool.close())


# the start


def test_a_second_start_is_refused(store: Store) -> None:
    """Who opens a shard that is in use is told which and by whom; after it was closed it opens."""
    spool = store.open()
    with pytest.raises(SpoolInUse, match=f"{store.path} is in use by process {os.getpid()}"):
        store.open()
    result(spool.insert(message("00")))
    result(spool.close())
    result(store.open().close())
    result(spool.close())


def test_a_start_that_fails_gives_the_shard_up(store: Store) -> None:
    """After an error while opening, the same process may try again."""
    store.disk.fail["list"] = OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(OSError, match="Too many"):
        store.open()
    store.disk.fail.clear()
    result(store.open().close())
    connection = sqlite3.connect(str(store.path / "queue.db"))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for _ in range(2):
        with pytest.raises(SchemaTooNew):
            store.open()


def test_a_start_whose_sync_fails_keeps_the_shard_from_all(store: Store) -> None:
    """If a sync fails while opening, this process neither closes nor opens that shard again."""
    result(store.open().close())
    store.fail["PRAGMA wal_checkpoint"] = database_error("disk I/O error", sqlite3.SQLITE_IOERR_FSYNC)
    with pytest.raises(sqlite3.OperationalError):
        store.open()
    store.fail.clear()
    with pytest.raises(SpoolInUse):
        store.open()


def test_a_start_reports_what_it_found(store: Store) -> None:
    """Interrupted, crashed, clamped, content missing or torn, stray files: each is counted, held or set aside."""
    spool = store.open()
    result(spool.insert(message("0a", active=True)))
    result(spool.insert(message("0b", "a@x", "b@x", active=True)))
    result(spool.insert(message("0c", content=b"x" * 101)))
    result(spool.insert(message("0d", content=b"y" * 101)))
    result(spool.insert(message("0e", content=b"z" * 101)))
    result(spool.record("0b", [Retry(1, NOW + 1e9, LATER)]))
    spool._writer.execute("UPDATE recipient SET crashes = 1 WHERE queue_id = '0a'")
    spool._writer.close()
    spool._reader.close()
    spool._release()
    (store.path / "content" / "0d").unlink()
    os.truncate(store.path / "content" / "0e", 100)
    (store.path / "content" / "zz").write_bytes(b"never acknowledged")
    (store.path / "content" / "0y.part").write_bytes(b"half")
    spool = store.open(NOW + 5)
    assert store.recovered == Recovered(1, ("0a",), 1, ("0d",), ("0e",), 2)
    found = {(m.queue_id, r.number): r for m in spool.page() for r in m.recipients}
    assert (found["0a", 0].state, found["0a", 0].reason) == (State.HELD, CRASHED)
    assert (found["0b", 0].state, found["0b", 0].due, found["0b", 0].reason) == (State.WAITING, NOW + 5, None)
    assert found["0b", 1].due == NOW + 5 + LONGEST
    assert (found["0c", 0].state, whole(spool.content("0c"))) == (State.WAITING, b"x" * 101)
    assert (found["0d", 0].state, found["0d", 0].reason) == (State.HELD, MISSING)
    with pytest.raises(FileNotFoundError):
        spool.content("0d")
    assert (found["0e", 0].state, found["0e", 0].reason) == (State.HELD, TORN)
    assert store.files() == {"0c", "0e"}
    assert (store.path / "aside" / "zz").read_bytes() == b"never acknowledged"
    assert (store.path / "aside" / "0y.part").exists()
    result(spool.close())


def test_a_recovery_that_fails_changes_nothing(store: Store) -> None:
    """Recovery is one transaction: a start that fails in it can be repeated."""
    spool = store.open()
    result(spool.insert(message("00", active=True)))
    spool._writer.close()
    spool._reader.close()
    spool._release()
    store.fail["UPDATE recipient SET due"] = database_error("full", sqlite3.SQLITE_FULL)
    with pytest.raises(sqlite3.OperationalError):
        store.open()
    store.fail.clear()
    spool = store.open()
    assert store.recovered.interrupted == 1
    queued = spool.get("00")
    assert queued is not None
    assert queued.recipients[0].crashes == 1
    result(spool.close())

"""``mta backup`` and ``mta restore``: what is in it, and what becomes of it."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mta.cli import main
from mta.spool.port import State
from tests.doubles.queue import Queue
from tests.doubles.service import demonstration
from tests.doubles.spool import whole

LARGE = b"Subject: large\r\n\r\n" + b"x" * 100_000 + b"\r\n"


class Server:
    """A demonstration with a queue that is open, as a daemon has it; and a place for another server."""

    def __init__(self, root: Path) -> None:
        demonstration(root / "old")
        self.root = root
        self.config = root / "old/etc/mta.toml"
        self.queue = Queue(root / "old/var", time.time())
        self.small = self.queue.add("bob@a.test", "carol@b.test", reason="450 busy")
        self.large = self.queue.add(content=LARGE)
        self.held = self.queue.add(held="looks odd")
        self.dest = root / "backup"
        self.new = root / "new/etc/mta.toml"

    def backup(self, *arguments: str) -> Result:
        """Run ``mta backup``."""
        return CliRunner().invoke(main, ["backup", "--config", str(self.config), *arguments, str(self.dest)])

    def restore(self, config: Path | None = None) -> Result:
        """Run ``mta restore`` at the other place."""
        return CliRunner().invoke(main, ["restore", "--config", str(config or self.new), str(self.dest)])

    def restored(self) -> dict[str, dict[str, State]]:
        """What is in the queue of the other place once it was opened as a start does."""
        other = Queue(self.root / "new/var", time.time())
        found = {each.queue_id: other.states(each.queue_id) for each in other.spool.page()}
        if self.large in found:
            assert whole(other.spool.content(self.large)) == LARGE
        other.close()
        return found


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """The commands set the umask of their process, which here is that of all tests."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One of them."""
    server = Server(tmp_path)
    yield server
    server.queue.close()


@pytest.fixture(params=["directory", "tar"])
def form(request: pytest.FixtureRequest, server: Server) -> Server:
    """For both forms of a backup."""
    if request.param == "tar":
        server.dest = server.root / "backup.tar"
    return server


def test_all_of_a_backup_is_restored_and_held(form: Server) -> None:
    """Queue, configuration and keys come back; every recipient is held; the command says how to let them go."""
    made = form.backup()
    assert made.exit_code == 0, made.output
    assert "3 messages for 4 recipients" in made.output
    done = form.restore()
    assert done.exit_code == 0, done.output
    assert form.restored() == {
        form.small: {"bob@a.test": State.HELD, "carol@b.test": State.HELD},
        form.large: {"bob@example.net": State.HELD},
        form.held: {"bob@example.net": State.HELD},
    }
    for old in sorted((form.root / "old/etc").rglob("*")):
        new = form.root / "new/etc" / old.relative_to(form.root / "old/etc")
        assert (old.stat().st_mode, old.is_dir()) == (new.stat().st_mode, new.is_dir())
        assert old.is_dir() or old.read_bytes() == new.read_bytes()
    assert (form.root / "new").stat().st_mode & 0o777 == 0o755
    assert (form.root / "new/var").stat().st_mode & 0o777 == 0o700
    assert "3 recipients ARE HELD NOW" in done.output
    assert "1 recipient had been held before" in done.output


def test_what_the_command_says_to_type_releases_what_waited(server: Server) -> None:
    """The line that is printed lets go what was restored, and not what had been held for another reason."""
    server.backup()
    output = server.restore().output
    (line,) = [line.strip() for line in output.splitlines() if "mta queue release --error" in line]
    released = CliRunner().invoke(main, shlex.split(line)[1:])
    assert released.stdout == "2 messages, 3 recipients: released, and due now\n"
    assert {queue_id: set(states.values()) for queue_id, states in server.restored().items()} == {
        server.small: {State.WAITING},
        server.large: {State.WAITING},
        server.held: {State.HELD},
    }


def test_nobody_else_can_read_it(form: Server) -> None:
    """A directory of mode 0700, a file of mode 0600."""
    form.backup()
    assert form.dest.stat().st_mode & 0o777 == (0o700 if form.dest.is_dir() else 0o600)
    assert not list(form.root.glob("*.part*"))


def test_the_manifest_says_what_is_in_it(server: Server) -> None:
    """Version, times, counts, and each file with its checksum; the history where it is asked for."""
    (server.root / "old/var/history").mkdir()
    server.backup("--history")
    manifest = json.loads((server.dest / "manifest.json").read_text())
    assert (manifest["messages"], manifest["recipients"], manifest["finished"]) == (3, 4, 0)
    paths = [each["path"] for each in manifest["files"]]
    assert {"spool/0/queue.db", f"spool/0/content/{server.large}", "etc/mta.toml", "etc/tls/key.pem"} <= set(paths)


def test_links_are_kept_and_where_they_lead_is_said(server: Server) -> None:
    """A link stays a link; what it leads to outside of ``etc/`` is not in the backup, and that is said."""
    os.symlink("/etc/letsencrypt/live/x/cert.pem", server.config.parent / "tls/live.pem")
    made = server.backup()
    assert "Not in it: /etc/letsencrypt/live/x/cert.pem, where etc/tls/live.pem leads." in made.output
    server.restore()
    assert os.readlink(server.root / "new/etc/tls/live.pem") == "/etc/letsencrypt/live/x/cert.pem"


def test_nothing_is_written_over(form: Server) -> None:
    """A backup that is there stays as it is."""
    assert form.backup().exit_code == 0
    before = form.dest.stat().st_mtime_ns
    again = form.backup()
    assert (again.exit_code, "is there already" in again.output) == (73, True)
    assert form.dest.stat().st_mtime_ns == before


@pytest.mark.parametrize("place", ["old/etc/backup", "old/var/backup.tar"])
def test_a_backup_does_not_lie_in_what_it_backs_up(server: Server, place: str) -> None:
    """Neither below the configuration nor below the state."""
    server.dest = server.root / place
    assert server.backup().exit_code == 73
    assert not server.dest.exists()


def overwrite(dest: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file in a backup of either form."""
    if dest.is_dir():
        path = dest / name
        octets = change(path.read_bytes())
        path.unlink()  # it may be a link to the live file
        path.write_bytes(octets)
        return
    with tarfile.open(dest) as tar:
        members = {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}  # type: ignore[union-attr]
    members[name] = change(members[name])
    with tarfile.open(dest, "w") as tar:
        for each, octets in members.items():
            info = tarfile.TarInfo(each)
            info.size = len(octets)
            tar.addfile(info, io.BytesIO(octets))


def flipped(octets: bytes) -> bytes:
    """The same but for a bit."""
    return octets[:-3] + bytes([octets[-3] ^ 1]) + octets[-2:]


@pytest.mark.parametrize("name", ["spool/0/queue.db", "spool/0/content/LARGE", "etc/mta.toml"])
def test_a_damaged_backup_restores_nothing(form: Server, name: str) -> None:
    """A bit that changed in any file is found before anything is written: status 65, and it says which file."""
    form.backup()
    name = name.replace("LARGE", form.large)
    overwrite(form.dest, name, flipped)
    done = form.restore()
    assert (done.exit_code, name in done.output) == (65, True)
    assert not (form.root / "new").exists()


@pytest.mark.parametrize(
    "path", ["spool/0/../../../etc/passwd", "/etc/passwd", "etc/../../x", "spool/0/content/..", "x"]
)
def test_a_manifest_leads_nowhere_else(form: Server, path: str) -> None:
    """A path that is none of a backup's is refused, whatever wrote it."""
    form.backup()

    def change(octets: bytes) -> bytes:
        manifest = json.loads(octets)
        manifest["files"][0]["path"] = path
        return json.dumps(manifest).encode()

    overwrite(form.dest, "manifest.json", change)
    assert form.restore().exit_code == 65
    assert not (form.root / "new").exists()


def test_what_is_no_backup_is_said_to_be_none(server: Server) -> None:
    """A directory without a manifest, a file that is no tar, a later format or program."""
    server.dest.mkdir()
    assert (server.restore().exit_code, "manifest.json" in server.restore().output) == (65, True)
    server.dest.rmdir()
    server.dest.write_text("hello")
    assert (server.restore().exit_code, "neither a directory nor a .tar" in server.restore().output) == (65, True)
    server.dest.unlink()
    server.backup()
    for key, value in (("format", 99), ("schema", 99)):
        manifest = json.loads((server.dest / "manifest.json").read_text())
        (server.dest / "manifest.json").write_text(json.dumps({**manifest, key: value}))
        assert server.restore().exit_code == 65
        (server.dest / "manifest.json").write_text(json.dumps(manifest))
    for octets in (b"[" * 99_999, b"[]", b"\xff", b'{"format": 1, "files": [{"path": 5}]}'):
        (server.dest / "manifest.json").write_bytes(octets)
        done = server.restore()
        assert (done.exit_code, "manifest.json cannot be read" in done.output) == (65, True)


def test_a_queue_with_mail_is_never_touched(server: Server) -> None:
    """Restoring over a queue that has mail is refused; over one that a first start left empty it is not."""
    server.backup()
    server.queue.close()
    before = (server.root / "old/var/spool/0/queue.db").read_bytes()
    done = server.restore(server.config)
    assert (done.exit_code, "there is mail in" in done.output) == (73, True)
    assert (server.root / "old/var/spool/0/queue.db").read_bytes() == before
    shutil.copytree(server.root / "old/etc", server.root / "new/etc")
    Queue(server.root / "new/var").close()
    done = server.restore()
    assert done.exit_code == 0, done.output
    assert "was there, and is as it was" in done.output
    assert len(server.restored()) == 3
    server.queue.open()


def test_what_a_restore_left_half_done_is_no_queue(server: Server) -> None:
    """What an earlier one left beside the place of the queue is removed, and the next one is whole."""
    server.backup()
    left = server.root / "new/var/spool.restoring/0"
    left.mkdir(parents=True)
    (left / "queue.db").write_text("half")
    assert server.restore().exit_code == 0
    assert len(server.restored()) == 3


def test_a_queue_that_is_in_use_is_not_restored_over(server: Server) -> None:
    """Where a daemon has the lock, also of an empty queue, nothing is done: status 75."""
    server.backup()
    shutil.copytree(server.root / "old/etc", server.root / "new/etc")
    other = Queue(server.root / "new/var")
    done = server.restore()
    other.close()
    assert (done.exit_code, "in use" in done.output) == (75, True)


def test_without_a_queue_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    """Status 66 before the first start, 78 without a configuration."""
    demonstration(tmp_path / "x")
    arguments = ["backup", "--config", str(tmp_path / "x/etc/mta.toml"), str(tmp_path / "b")]
    assert CliRunner().invoke(main, arguments).exit_code == 66
    assert not (tmp_path / "b").exists()
    assert CliRunner().invoke(main, ["backup", "--config", str(tmp_path / "none"), str(tmp_path / "c")]).exit_code == 78


@pytest.fixture
def owned() -> Iterator[Server]:
    """A backup with a history; the state directory that it goes to is another user's, who can reach it."""
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o755)
        server = Server(Path(root))
        history = Path(root) / "old/var/history"
        history.mkdir(exist_ok=True)
        with closing(sqlite3.connect(history / "0-1.sqlite")) as segment:
            segment.execute("CREATE TABLE event (x)")
        assert server.backup("--history").exit_code == 0
        shutil.copytree(server.root / "old/etc", server.root / "new/etc")
        (server.root / "new").chmod(0o755)
        (server.root / "new/var").mkdir()
        os.chown(server.root / "new/var", 65534, 65534)
        yield server
        server.queue.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led")
@pytest.mark.parametrize("planted", ["history", "spool.restoring", "spool"])
def test_the_servers_user_does_not_lead_root_elsewhere(owned: Server, planted: str) -> None:
    """Links that it left in its state directory have nothing written or given away where they lead."""
    victim = owned.root / "victim"
    victim.mkdir(mode=0o755)
    (owned.root / "new/var" / planted).symlink_to(victim)
    owned.restore()
    assert list(victim.iterdir()) == []
    assert victim.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_restores_belongs_to_the_servers_user(owned: Server) -> None:
    """All of queue and history is the state directory's owner's, and nobody else reads it."""
    restored = owned.restore()
    assert restored.exit_code == 0, restored.output
    below = [Path(at, name) for at, names, files in os.walk(owned.root / "new/var") for name in [*names, *files]]
    assert {"queue.db", "0-1.sqlite", owned.large} <= {path.name for path in below}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in below} == {(65534, 65534)}
    assert not any(path.stat().st_mode & 0o077 for path in below)


def test_whoever_may_not_look_is_not_told_that_nothing_is_there(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state directory that is closed: permission is what is missing, not a queue."""
    stat = os.stat

    def refuse(path: str, *more: Any, **options: Any) -> os.stat_result:
        if str(path).endswith("/spool"):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *more, **options)

    monkeypatch.setattr(os, "stat", refuse)
    done = server.backup()
    assert done.exit_code == 77
    assert "Permission denied: this is for root, or the user of the server" in done.output


def test_a_backup_takes_nothing_from_elsewhere(server: Server) -> None:
    """A link in the place of the content of a shard, or of one file, ends it: what it leads to is not copied."""
    content = server.root / "old/var/spool/0/content"
    content.rename(server.root / "elsewhere")
    content.symlink_to(server.root / "elsewhere")
    assert server.backup().exit_code == 73
    shutil.rmtree(server.dest)
    content.unlink()
    (server.root / "elsewhere").rename(content)
    (content / server.large).rename(server.root / "secret")
    (content / server.large).symlink_to(server.root / "secret")
    assert server.backup().exit_code == 73

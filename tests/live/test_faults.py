"""Faults around the running daemon: a configuration that cannot be used, disks that are full, descriptors that end."""

from __future__ import annotations

import os
import re
import shutil
import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon, twistd
from tests.live.peers.mail import log_in, message, submit
from tests.live.peers.maildir import arrived, messages
from tests.live.peers.process import Process, eventually, program, unprivileged

pytestmark = pytest.mark.live


BOB, BOTH = ["bob@example.test"], ["bob@example.test", "alice@example.test"]
"""Recipients of mail that is committed in a Maildir, and in the spool."""


def begin(client: smtplib.SMTP, recipients: list[str]) -> bytes:
    """Open a transaction of alice's; return code and enhanced status of the reply to MAIL."""
    client.rset()
    code, text = client.mail("alice@example.test")
    if code != 250:
        return b"%d %s" % (code, text.split()[0])
    assert [client.rcpt(recipient)[0] for recipient in recipients] == [250] * len(recipients)
    return b"250 2.1.0"


def finish(client: smtplib.SMTP, token: str, body: bytes = b"Hello.\r\n") -> bytes:
    """Send a message in a transaction that is open; return code and enhanced status of the last reply."""
    try:
        code, text = client.data(message(token, body))
    except smtplib.SMTPDataError as refused:  # to DATA itself
        code, text = refused.smtp_code, bytes(refused.smtp_error)
    return b"%d %s" % (code, text.split()[0])


def send(client: smtplib.SMTP, recipients: list[str], token: str) -> bytes:
    """Send a message; return code and enhanced status of its acceptance or of the first refusal."""
    begun = begin(client, recipients)
    return finish(client, token) if begun == b"250 2.1.0" else begun


@contextmanager
def running(daemon: Daemon) -> Iterator[None]:
    """Start it, and stop it before what it stands on is taken away."""
    daemon.start()
    try:
        yield
    finally:
        daemon.stop()


@contextmanager
def sessions(daemon: Daemon) -> Iterator[list[smtplib.SMTP]]:
    """Open a session on each port, those of submission logged in."""
    with (
        smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as mx,
        log_in(daemon) as submission,
        log_in(daemon, implicit=True) as submissions,
    ):
        mx.ehlo()
        yield [mx, submission, submissions]


# Configuration


def test_all_problems_are_told_at_once(place: Path) -> None:
    """A daemon whose files have five mistakes names all of them with their lines, and makes nothing."""
    daemon = Daemon(place / "five-mistakes", {"limits": {"message_size": "huge"}, "nonsense": {"x": 1}})
    domain = daemon.directory / "etc/domains/example.test"
    with daemon.settings_file.open("a") as settings:
        settings.write('["mx.x"]\nlisten_on = "25"\n')
    with (domain / "aliases").open("a") as aliases:
        aliases.write("round: about\nabout: round\n")
    with (domain / "users").open("a") as users:
        users.write("mallory:{PLAIN}secret::::::\n")
    process = Process(twistd(daemon.settings_file), daemon.log, cwd="/", **unprivileged())
    eventually(lambda: process.popen.poll() is not None, "the start to end")
    assert process.popen.returncode > 0
    assert "Traceback" not in process.output
    for line in (
        r"mta\.toml:\d+: \[limits\] message_size: .*huge",
        r"mta\.toml:\d+: nonsense: ",
        r"mta\.toml:\d+: mx\.x: ",
        r"example\.test/aliases:\d+: .*about@example\.test",
        r"example\.test/users:\d+: .*\{PLAIN\}",
    ):
        assert re.search(line, process.output), process.output
    assert "secret" not in process.output
    assert [path.name for path in (daemon.directory / "var").rglob("*")] == ["mail"]


# Disk


@contextmanager
def small_volume(directory: Path, size: str, inodes: int) -> Iterator[None]:
    """A tmpfs of our own over `directory`, which holds what was there."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small volume")
    kept = shutil.copytree(directory, directory.with_name(f"{directory.name}-kept"))
    owner = directory.stat()
    options = f"size={size},nr_inodes={inodes},uid={owner.st_uid},gid={owner.st_gid},mode=0700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=False, capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(kept, directory, dirs_exist_ok=True)
        for path in directory.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid)
        yield
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill_octets(directory: Path) -> Path:
    """Take every free octet of the volume."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    return path


def fill_inodes(directory: Path) -> Path:
    """Take every free inode of the volume."""
    path = directory / "fillers"
    path.mkdir()
    with suppress(OSError):
        for number in range(1_000_000):
            (path / str(number)).touch()
    return path


@pytest.mark.parametrize(("fill", "queued"), [(fill_octets, b"452 4.3.1"), (fill_inodes, b"250 2.0.0")])
def test_86_a_full_volume_is_452_until_there_is_room(place: Path, fill: Callable[[Path], Path], queued: bytes) -> None:
    """Row 86: 452 on every port and an alert; the sessions live on, and take mail as soon as there is room again.

    Without a free inode the database still takes a small message: it is delivered when its Maildirs can be written.
    """
    soon = {"first_retry": "1s", "longest_retry": "1s"}
    daemon = Daemon(place / fill.__name__, {"spool": {"reserve": "1M", "reserve_inodes": 20}, "queue": soon})
    var = daemon.directory / "var"
    with small_volume(var, "16m", inodes=400), running(daemon):
        with sessions(daemon) as clients:
            for number, client in enumerate(clients):
                assert send(client, BOTH, f"before-{number}") == b"250 2.0.0"
            for client, recipients in zip(clients, (BOB, BOTH, BOTH), strict=True):
                assert begin(client, recipients) == b"250 2.1.0"
            filler = fill(var)
            large = b"x" * 998 + b"\r\n" * 300_000
            assert finish(clients[0], "refused") == b"452 4.3.1"
            answer = finish(clients[1], "queued")
            assert answer in (queued, b"452 4.3.1")  # the reserve is looked at once a second
            assert finish(clients[2], "refused", large) == b"452 4.3.1"

            def told() -> bool:
                begin(clients[0], BOB)
                return "disk.low level=alert" in daemon.output

            eventually(told, "an alert: little space")
            for client in clients:
                assert begin(client, BOB) == b"452 4.3.1"
            shutil.rmtree(filler) if filler.is_dir() else filler.unlink()
            for number, client in enumerate(clients):
                eventually(lambda: send(client, BOTH, f"after-{number}") == b"250 2.0.0", "room again")  # noqa: B023
        for number in range(3):
            for user in ("alice", "bob"):
                arrived(daemon.maildir(user), b"Subject: before-%d\r\n" % number)
                arrived(daemon.maildir(user), b"Subject: after-%d\r\n" % number)
                if answer == b"250 2.0.0":
                    arrived(daemon.maildir(user), b"Subject: queued\r\n")
        assert "disk.recovered" in daemon.output
        assert not any(b"refused" in stored for user in ("alice", "bob") for stored in messages(daemon.maildir(user)))


def test_a_maildir_that_cannot_be_written_is_451(daemon: Daemon) -> None:
    """A Maildir that refuses us is 451 for its mailbox and nobody else, told at level alert, until it is mended."""
    new = daemon.maildir("bob") / "new"
    with sessions(daemon) as clients:
        assert send(clients[0], BOB, "makes-the-maildir") == b"250 2.0.0"
        shutil.move(new, new.with_name("away"))
        new.write_bytes(b"")  # a file in its place: this fails for every user, root included
        try:
            assert [send(client, BOB, "refused") for client in clients] == [b"451 4.3.0"] * 3
            assert send(clients[0], ["alice@example.test"], "for-alice") == b"250 2.0.0"
        finally:
            new.unlink()
            shutil.move(new.with_name("away"), new)
        assert [send(client, BOB, "accepted") for client in clients] == [b"250 2.0.0"] * 3
    assert re.search(r"message\.refused level=alert ", daemon.output)
    assert sum(b"Subject: accepted" in stored for stored in messages(daemon.maildir("bob"))) == 3


def descriptors(process: int, soft: int) -> None:
    """Change how many descriptors the daemon may have, as the user that it runs as."""
    argv = [program("prlimit"), f"--pid={process}", f"--nofile={soft}:"]
    subprocess.run(argv, check=True, cwd="/", **unprivileged())


def test_86_no_descriptors_left_is_451_until_there_are(start_daemon: StartDaemon) -> None:
    """Row 86, EMFILE: no file can be made and no connection kept: 451; with descriptors again all goes on."""
    daemon = start_daemon()
    assert daemon.process is not None
    process = daemon.process.popen.pid
    with sessions(daemon) as clients:
        assert send(clients[0], BOB, "before") == b"250 2.0.0"
        descriptors(process, len(os.listdir(f"/proc/{process}/fd")))
        with socket.create_connection(("127.0.0.1", daemon.mx_port), timeout=30):
            assert [send(client, BOB, "refused") for client in clients] == [b"451 4.3.0"] * 3
        descriptors(process, 1024)
        assert [send(client, BOTH, f"after-{number}") for number, client in enumerate(clients)] == [b"250 2.0.0"] * 3
        submit(daemon, "bob@example.test", message("new-session"))
    for token in (b"after-0", b"after-1", b"after-2", b"new-session"):
        arrived(daemon.maildir("bob"), b"Subject: %s\r\n" % token)
    assert not any(b"refused" in stored for stored in messages(daemon.maildir("bob")))

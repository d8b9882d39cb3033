"""Several workers on a live daemon: they share sockets, limits and work, and one that dies is replaced."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import smtplib
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon, twistd
from tests.live.peers.maildir import arrived, messages
from tests.live.peers.process import eventually, unprivileged
from tests.live.peers.sink import Sink

pytestmark = pytest.mark.live

TWO: dict[str, Any] = {"workers": 2}
LIST = ("queue", "list", "--json", "--config")


@pytest.fixture
def sink() -> Iterator[Sink]:
    """The far end of sink.test."""
    with Sink() as listening:
        yield listening


def workers(daemon: Daemon) -> list[int]:
    """The processes of its workers, the eldest first."""
    assert daemon.process is not None
    pid = daemon.process.popen.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def relays_to(sink: Sink, **relay: Any) -> dict[str, Any]:
    """Settings that send the mail for sink.test there."""
    route = {"domain": "sink.test", "host": "[127.0.0.1]", "port": sink.port, "tls": "none"}
    return TWO | {"relay": {"route": [route], **relay}}


def submit(daemon: Daemon, recipient: str, *subjects: str) -> list[int]:
    """Submit a message for each subject as alice, in one session; gives the replies' codes."""
    codes = []
    with smtplib.SMTP("127.0.0.1", daemon.smtpd_port, timeout=30) as session:
        session.starttls()
        session.login(daemon.address("alice"), daemon.passwords["alice"])
        for subject in subjects:
            try:
                text = f"From: {daemon.address('alice')}\r\nSubject: {subject}\r\n\r\n.\r\n"
                session.sendmail(daemon.address("alice"), [recipient], text)
                codes.append(250)
            except smtplib.SMTPResponseException as error:
                codes.append(error.smtp_code)
            except smtplib.SMTPRecipientsRefused as error:
                codes += [code for code, _ in error.recipients.values()]
    return codes


def queued(daemon: Daemon) -> list[dict[str, Any]]:
    """What waits in the queues of all workers."""
    listed = daemon.mta(*LIST, str(daemon.settings_file), check=True).stdout
    return [json.loads(line) for line in listed.splitlines()]


def states(daemon: Daemon) -> list[str]:
    """The state of each recipient in the queue."""
    return [recipient["state"] for message in queued(daemon) for recipient in message["recipients"]]


def test_all_of_them_take_mail_and_one_that_dies_is_replaced(start_daemon: StartDaemon) -> None:
    """While one worker is killed again and again, clients that try again lose nothing, and nothing comes twice."""
    daemon = start_daemon(TWO)
    before = workers(daemon)
    assert len(before) == 2
    acknowledged: set[str] = set()
    tried: Counter[str] = Counter()
    ended = threading.Event()

    def send(number: int) -> None:
        count = 0
        while not ended.is_set():
            subject = f"m{number}-{count}"
            tried[subject] += 1
            try:
                with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=20) as session:
                    session.sendmail("a@elsewhere.test", [daemon.address("bob")], f"Subject: {subject}\r\n\r\n.\r\n")
            except (OSError, smtplib.SMTPException):
                continue
            acknowledged.add(subject)
            count += 1

    clients = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for client in clients:
        client.start()
    for victim in before:
        seen = len(acknowledged)
        eventually(lambda seen=seen: len(acknowledged) > seen + 20, "mail is taken")
        os.kill(victim, signal.SIGKILL)
        eventually(lambda victim=victim: victim not in workers(daemon) and len(workers(daemon)) == 2, "a new worker")
    seen = len(acknowledged)
    eventually(lambda: len(acknowledged) > seen + 20, "mail is taken")
    ended.set()
    for client in clients:
        client.join(30)
    eventually(lambda: daemon.output.count(" worker.started ") == 4, "four starts of workers")
    assert daemon.output.count(" worker.died ") == 2
    came = Counter(subject_of(message) for message in messages(daemon.maildir("bob")))
    assert acknowledged <= set(came)
    assert not came - tried, "nothing comes more often than it was sent"


def subject_of(message: bytes) -> str:
    """The subject of a message."""
    return next(line[9:] for line in message.decode().splitlines() if line.startswith("Subject: "))


def test_a_reload_is_used_by_all_or_by_none(start_daemon: StartDaemon) -> None:
    """A new recipient is known to both workers at once; a mistake changes neither, and is told."""
    daemon = start_daemon(TWO)
    aliases = daemon.settings_file.parent / "domains/example.test/aliases"
    good = aliases.read_text()
    aliases.write_text(good + "robert: bob\n")
    assert "reloaded: 1 domain," in daemon.reload().stdout
    assert codes(daemon, "robert@example.test") == {250}
    aliases.write_text(good + "robert: nobody\n")
    refused = daemon.reload()
    assert refused.returncode == 78
    assert "nobody" in refused.stderr
    assert codes(daemon, "robert@example.test") == {250}


def codes(daemon: Daemon, recipient: str) -> set[int]:
    """What RCPT is answered with in so many sessions that every worker has some."""
    found = set()
    sessions = [smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=20) for _ in range(24)]
    for session in sessions:
        session.ehlo("client.test")
        session.mail("a@elsewhere.test")
        found.add(session.rcpt(recipient)[0])
    for session in sessions:
        session.quit()
    return found


def test_the_connections_to_a_site_are_those_of_all_workers(start_daemon: StartDaemon, sink: Sink) -> None:
    """With three connections allowed, sixty messages in the queues of both workers never make more."""
    daemon = start_daemon(relays_to(sink, connections_per_destination=3, idle_seconds="0s"))
    sink.gate.clear()
    for each in range(6):
        assert submit(daemon, "carol@sink.test", *(f"{each}.{count}" for count in range(10))) == [250] * 10
    eventually(lambda: sink.open == 3, "three connections")
    sink.gate.set()
    eventually(lambda: len(sink.received) == 60, "all is delivered")
    assert sink.most <= 3
    assert len({message.content for message in sink.received}) == 60


def test_the_rate_of_a_login_holds_for_all_workers(start_daemon: StartDaemon) -> None:
    """Of thirty messages in sessions of any worker exactly ten are taken, also when one died in between."""
    limits = {"rates": {"login": {"messages_per_hour": 10}}}
    daemon = start_daemon(TWO | {"policy": limits})
    found = [code for each in range(4) for code in submit(daemon, daemon.address("bob"), *"ab")]
    os.kill(workers(daemon)[0], signal.SIGKILL)
    eventually(lambda: " worker.died " in daemon.output, "a death")
    found += [code for each in range(11) for code in submit(daemon, daemon.address("bob"), *"ab")]
    assert found[:10] == [250] * 10
    assert set(found[10:]) == {450}


def test_fewer_workers_take_over_the_queues_of_more(start_daemon: StartDaemon, sink: Sink) -> None:
    """What two workers had deferred is in the queue of one after a restart with `workers = 1`, and is delivered."""
    sink.server_close()
    daemon = start_daemon(relays_to(sink) | {"queue": {"first_retry": "2s", "rest": "1s"}})
    for each in range(12):
        assert submit(daemon, "carol@sink.test", f"s{each}") == [250]
    eventually(lambda: states(daemon) == ["waiting"] * 12, "all of them wait")
    shards = {message["queue_id"][9:11] for message in queued(daemon)}
    assert len(shards) == 2, "both workers have some"
    daemon.stop()
    daemon.change({"workers": 1})
    daemon.start()
    assert len(queued(daemon)) == 12
    with Sink(port=sink.port) as back:
        eventually(lambda: len(back.received) == 12, "all is delivered")


def test_a_message_that_kills_its_worker_twice_is_set_aside(start_daemon: StartDaemon, sink: Sink) -> None:
    """A worker that dies twice in the middle of an attempt holds that message; other mail goes on."""
    daemon = start_daemon(relays_to(sink))
    sink.gate.clear()
    assert submit(daemon, "carol@sink.test", "deadly") == [250]
    for deaths in (1, 2):
        eventually(lambda: sink.open == 1, "an attempt")
        owner = next(pid for pid in workers(daemon) if connected(pid, sink.port))
        os.kill(owner, signal.SIGKILL)
        eventually(lambda deaths=deaths: daemon.output.count(" worker.started ") == 2 + deaths, "a new worker")
    assert states(daemon) == ["held"]
    sink.gate.set()
    assert submit(daemon, "carol@sink.test", "harmless") == [250]
    eventually(lambda: any(b"harmless" in message.content for message in sink.received), "other mail")


def connected(pid: int, port: int) -> bool:
    """Whether a process has a connection to a port of 127.0.0.1."""
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[2] == f"0100007F:{port:04X}" and line.split()[3] == "01"
    }
    return any(
        os.readlink(link) in {f"socket:[{inode}]" for inode in inodes} for link in Path(f"/proc/{pid}/fd").iterdir()
    )


def test_workers_end_with_their_parent(start_daemon: StartDaemon) -> None:
    """When the parent is killed, no worker stays behind that would hold the spool: the next start works."""
    daemon = start_daemon(TWO)
    assert daemon.process is not None
    left = workers(daemon)
    daemon.kill()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), "they end")
    daemon.start()
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=20) as session:
        session.sendmail("a@elsewhere.test", [daemon.address("bob")], "Subject: after\r\n\r\n.\r\n")
    assert arrived(daemon.maildir("bob"), b"Subject: after")


def test_what_keeps_a_worker_from_starting_ends_the_start(start_daemon: StartDaemon) -> None:
    """A shard that another process holds: one line on standard error, status 1, and no process stays."""
    daemon = start_daemon(TWO)
    daemon.stop()
    with open(daemon.directory / "var/spool/1/shard.lock", "r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = subprocess.run(
            twistd(daemon.settings_file), cwd="/", capture_output=True, text=True, timeout=60, **unprivileged()
        )
    assert ended.returncode == 1
    assert f"mta: cannot start: the spool {daemon.directory}/var/spool/1 is in use" in ended.stderr
    assert ended.stderr.count("mta: cannot start") == 1
    daemon.start()

"""Attacks from this machine on a running server with two workers: its sockets, files, processes and printed words."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from mta.service.control import CommandRefused, ask
from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import FAULT, Daemon
from tests.live.peers.mail import message
from tests.live.peers.maildir import arrived, messages
from tests.live.peers.process import eventually, free_ports, needs_root

pytestmark = pytest.mark.live

STRANGER = 39_999
"""A user of this machine who has no name."""
EVIL = "\x1b]0;x\x07\x1b[2J\u202e\x9b31m"
"""The title of a window, a cleared screen, turned writing."""
SCRIPT = """
from mta.policy.script_api import reject
def rcpt(facts):
    if str(facts.recipient).startswith("alice"):
        return reject("not here", reason="not here")
"""
GARBAGE = (b"\0" * 5_000, b"\xff\xfe" * 9_000 + b"\n", b"[" * 200_000 + b"\n", b"{" * 9_000, b"a" * 3_000_000)


@pytest.fixture(scope="module")
def metrics_port() -> int:
    """Where the numbers are."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def daemon(start_daemon: StartDaemon, metrics_port: int) -> Iterator[Daemon]:
    """A server with all of its sockets, started with the most careless umask."""
    before = os.umask(0)
    try:
        made = start_daemon(
            {
                "workers": 2,
                "local": {"socket": "../run/submit.sock", "root": "bob@example.test"},
                "metrics": {"listen": [f"127.0.0.1:{metrics_port}"]},
                "history": {"enabled": True},
            }
        )
    finally:
        os.umask(before)
    policies = made.settings_file.parent / "policy"
    policies.mkdir(exist_ok=True)
    policies.chmod(0o755)
    (policies / "refusing.py").write_text(SCRIPT)
    assert made.reload().returncode == 0, made.output
    yield made
    assert FAULT.findall(made.output) == []


def state(daemon: Daemon) -> Path:
    """Its state directory."""
    return daemon.directory / "var"


def local(daemon: Daemon) -> socket.socket:
    """Connect to the socket of sendmail."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    made.connect(str(daemon.directory / "run/submit.sock"))
    return made


def processes(daemon: Daemon) -> dict[str, list[int]]:
    """The processes of the server: ``parent``, ``workers``, and those of policies, ``scripts``."""
    assert daemon.process is not None
    parent = daemon.process.popen.pid

    def below(pid: int) -> list[int]:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    workers = below(parent)
    return {"parent": [parent], "workers": workers, "scripts": [each for pid in workers for each in below(pid)]}


def opened(pid: int) -> list[str]:
    """What the descriptors of a process lead to."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(os.readlink(each))
    return found


def reject_once(daemon: Daemon) -> bytes:
    """Have the script refuse a recipient, whose process lives from then on; gives the reply."""
    with socket.create_connection(("127.0.0.1", daemon.mx_port), timeout=20) as connection:
        file = connection.makefile("rwb", buffering=0)
        file.readline()
        for command in (b"HELO client.test", b"MAIL FROM:<carol@client.test>", b"RCPT TO:<alice@example.test>"):
            file.write(command + b"\r\n")
            answer = file.readline()
        return answer


def honest(daemon: Daemon, subject: str) -> None:
    """Somebody else's mail goes through."""
    with local(daemon) as connection:
        file = connection.makefile("rwb", buffering=0)
        file.write(
            b"EHLO localhost\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
            + f"From: bob@example.test\r\nSubject: {subject}\r\n\r\nx\r\n.\r\nQUIT\r\n".encode()
        )
        said = connection.makefile("rb").read()
    assert [line[:3] for line in said.splitlines()][-5:] == [b"250", b"250", b"354", b"250", b"221"], said.decode()
    assert arrived(daemon.maildir("bob"), subject.encode())


def test_what_the_server_writes_is_its_own(daemon: Daemon) -> None:
    """Spool, history, staging, control socket: nobody else reads, writes or enters them, whatever the umask was."""
    honest(daemon, "modes")
    daemon.mta("log", "--config", str(daemon.settings_file))
    below = [Path(at, name) for at, names, files in os.walk(state(daemon)) for name in [*names, *files]]
    names = {path.name for path in below}
    assert {"spool", "history", "staging", "control.sock", "queue.db"} <= names
    mail = state(daemon) / "mail"
    ours = [path for path in below if path != mail and mail not in path.parents]
    open_to_others = {str(path): oct(path.lstat().st_mode) for path in ours if path.lstat().st_mode & 0o077}
    assert open_to_others == {}
    for path in (daemon.maildir("bob"), *daemon.maildir("bob").glob("new/*")):
        assert not path.stat().st_mode & 0o007


def test_strangers_reach_the_submission_socket_alone(daemon: Daemon) -> None:
    """Another user of this machine may connect to the socket of sendmail; to the control socket and the spool not."""
    needs_root("this test")
    code = """if True:
        import os, socket, sys
        for path in sys.argv[1:]:
            try:
                if os.path.isdir(path):
                    os.listdir(path)
                else:
                    socket.socket(socket.AF_UNIX).connect(path)
                print("reached")
            except PermissionError:
                print("refused")
    """
    paths = [str(daemon.directory / "run/submit.sock"), str(state(daemon) / "control.sock"), str(state(daemon))]
    said = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", code, *paths],
        capture_output=True,
        text=True,
        check=True,
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
    )
    assert said.stdout.split() == ["reached", "refused", "refused"]


def test_a_process_has_what_it_needs_and_no_more(daemon: Daemon) -> None:
    """Workers have their own shard and no control socket; scripts have pipes alone, and no environment of ours."""
    for _ in range(20):  # whichever worker takes it
        reject_once(daemon)
    found = processes(daemon)
    assert len(found["workers"]) == 2
    assert found["scripts"]
    control = [line.split()[-2] for line in Path("/proc/net/unix").read_text().splitlines() if "control.sock" in line]
    shards = []
    for pid in found["workers"]:
        files = opened(pid)
        assert not {f"socket:[{inode}]" for inode in control} & set(files)
        assert any("mta-board" in each for each in files)
        shards.append({match[1] for each in files if (match := re.search(r"/spool/(\d+)/queue\.db$", each))})
    assert sorted(map(sorted, shards)) == [["0"], ["1"]]
    for pid in found["scripts"]:
        others = [each for each in opened(pid) if not each.startswith("pipe:") and each != "/dev/null"]
        assert others == []
        variables = {each.partition(b"=")[0] for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if each}
        assert variables == {b"PATH", b"LC_ALL"}


def test_no_secret_stands_where_users_look(daemon: Daemon) -> None:
    """Command lines, which every user of this machine sees, and the log name no password."""
    secrets = [word.encode() for word in daemon.passwords.values()]
    for pid in [pid for each in processes(daemon).values() for pid in each]:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not any(secret in line for secret in secrets)
    assert not any(secret in daemon.output.encode() for secret in secrets)


@pytest.mark.parametrize("octets", GARBAGE, ids=lambda octets: repr(octets[:4]))
def test_garbage_on_any_local_socket(daemon: Daemon, metrics_port: int, octets: bytes) -> None:
    """NULs, deep JSON, lines without end, on each socket of this machine: no fault, and others are served."""
    for connect in (
        lambda: local(daemon),
        lambda: socket.create_connection(("127.0.0.1", metrics_port), timeout=20),
    ):
        with connect() as connection, suppress(OSError):
            connection.sendall(octets)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    with socket.socket(socket.AF_UNIX) as control, suppress(OSError):
        control.settimeout(20)
        control.connect(str(state(daemon) / "control.sock"))
        control.sendall(octets)
        control.shutdown(socket.SHUT_WR)
        while control.recv(65536):
            pass
    assert ask(str(state(daemon) / "control.sock"), "ping")["pid"]
    honest(daemon, f"garbage {octets[:4].hex()}")
    assert FAULT.findall(daemon.output) == []


@pytest.mark.parametrize(
    "request_",
    [
        {"command": "queue-list", "ask": 0, "answer": 1},
        {"command": "queue-show", "queue_id": {"a": []}},
        {"command": "queue-show", "queue_id": "../../../../etc/passwd"},
        {"command": "queue-act", "act": "delete", "queue_ids": [None]},
        {"command": "explain", "address": "::1", "recipients": ["a@b\r\nDATA"], "helo": "x"},
        {"command": "explain", "address": "::1", "recipients": ["a@b"], "helo": "\ud800"},
        {"command": "use"},
        {"command": "learn", "memory": "nothing", "rows": []},
        {"command": "account-disable", "login": "\0"},
        {"command": "metrics", "operator": "somebody"},
    ],
    ids=str,
)
def test_odd_requests_of_an_operator_end_in_words(daemon: Daemon, request_: dict[str, Any]) -> None:
    """Whatever a request holds, it is carried out or refused; no worker dies of it, and nothing is a bug."""
    before = processes(daemon)["workers"]
    request = {key: value for key, value in request_.items() if key != "command"}
    with suppress(CommandRefused):
        ask(str(state(daemon) / "control.sock"), request_["command"], **request)
    assert ask(str(state(daemon) / "control.sock"), "queue-count") == {"messages": 0, "recipients": 0}
    assert processes(daemon)["workers"] == before
    assert FAULT.findall(daemon.output) == []


def test_a_program_that_dies_in_the_middle_leaves_nothing(daemon: Daemon) -> None:
    """One that is killed while it hands in a message: no mail, no file, and the next is served."""
    before = len(messages(daemon.maildir("bob")))
    with local(daemon) as connection:
        connection.sendall(
            b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nFrom: bob@example.test\r\n\r\n"
            + b"half of a line " * 50_000
        )
    honest(daemon, "after-the-death")
    assert len(messages(daemon.maildir("bob"))) == before + 1
    eventually(lambda: not list(state(daemon).glob("staging/*/*")), "an empty staging directory")


def test_who_holds_all_connections_of_a_user_holds_none_of_others(daemon: Daemon) -> None:
    """Silent connections to the local socket are bounded for each user, with 421; those from the network go on."""
    with ExitStack() as stack:
        words = [stack.enter_context(local(daemon)).recv(100) for _ in range(120)]
        assert sum(word.startswith(b"421 ") for word in words) >= 20
        with socket.create_connection(("127.0.0.1", daemon.mx_port), timeout=20) as other:
            assert other.recv(100).startswith(b"220 ")
    eventually(lambda: _greeted(daemon), "room for others")
    honest(daemon, "after-the-flood")


def _greeted(daemon: Daemon) -> bool:
    """Whether several are let in at once: all that were closed are closed."""
    with ExitStack() as stack:
        return all(stack.enter_context(local(daemon)).recv(100).startswith(b"220 ") for _ in range(90))


def test_nobody_keeps_the_numbers_from_those_who_watch(daemon: Daemon, metrics_port: int) -> None:
    """Clients that hold connections, or upload without end, do not keep others from /metrics, and fill no disk."""
    with ExitStack() as stack:
        for _ in range(40):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", metrics_port), timeout=20))
            slow.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 200_000)
        with socket.create_connection(("127.0.0.1", metrics_port), timeout=20) as scrape:
            scrape.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            said = b"".join(iter(lambda: scrape.recv(65536), b""))
        assert b"mta_faults_total" in said
        (parent,) = processes(daemon)["parent"]
        assert [each for each in opened(parent) if "(deleted)" in each and "/tmp" in each] == []


def test_no_command_prints_what_moves_a_cursor(daemon: Daemon) -> None:
    """Words of strangers in HELO, addresses, Message-ID and Subject: each command prints them harmlessly."""
    evil = EVIL.encode()
    answer = reject_once(daemon)
    assert answer.startswith(b"550 5.7.1 ")
    assert evil not in answer
    with socket.create_connection(("127.0.0.1", daemon.mx_port), timeout=20) as connection:
        connection.sendall(
            b"EHLO x" + evil + b"\r\nMAIL FROM:<a" + evil + b"@b.test> SMTPUTF8\r\nRSET\r\nHELO c.test\r\n"
            b"MAIL FROM:<carol@client.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
            b"Subject: evil" + evil + b"\r\nMessage-ID: <a" + evil + b"@b>\r\n\r\nx\r\n.\r\nQUIT\r\n"
        )
        connection.makefile("rb").read()
    config = ("--config", str(daemon.settings_file))
    (queue_id,) = re.findall(r"  (\S+)  carol@client.test > ", daemon.mta("trace", "carol@client.test", *config).stdout)
    for command in (
        ("trace", queue_id, *config),
        ("log", *config),
        ("log", "--json", *config),
        ("trace", "bob@example.test", *config),
        ("trace", "alice@example.test", *config),
        ("queue", *config),
        ("queue", "list", *config),
        ("sendmail", "-bp", f"-C{daemon.settings_file}"),
        ("explain", "--to", "alice@example.test", "--from", "a@b.test", "--ip", "192.0.2.1", *config),
    ):
        done = daemon.mta(*command)
        said = done.stdout + done.stderr
        assert "Traceback" not in said
        assert [line for line in said.splitlines() if not line.isprintable()] == [], command
        if command[:2] in (("log", "--json"), ("trace", queue_id)):
            assert "[2J" in said, "this test tests something"
    for line in daemon.output.splitlines():
        assert line.isprintable()


def test_a_rehearsal_leaves_no_trace(daemon: Daemon) -> None:
    """Ten explanations at once, of letters that would be delivered: no mail, no file, no event, no connection kept."""

    def picture() -> dict[str, int]:
        found = [*state(daemon).rglob("*"), *daemon.maildir("bob").rglob("*")]
        return {str(path): path.stat().st_size for path in found if path.is_file() and path.suffix != ".db-shm"}

    def events() -> int:
        return len(daemon.mta("log", "--json", *("--config", str(daemon.settings_file))).stdout.splitlines())

    count, before, logged = events(), picture(), len(daemon.output)
    request = {
        "address": "192.0.2.1",
        "helo": "c.test",
        "sender": "carol@client.test",
        "recipients": ["bob@example.test"],
        "content": base64.b64encode(message("rehearsed", sender="carol@client.test")).decode(),
    }
    for _ in range(10):
        answer = ask(str(state(daemon) / "control.sock"), "explain", **request)
        assert answer["explanations"][0]["outcome"] == "accepted", json.dumps(answer)
    assert picture() == before
    assert events() == count
    assert len(daemon.output) == logged


def test_what_a_dead_worker_had_stays_with_the_server(daemon: Daemon) -> None:
    """A worker that is killed takes nothing with it: its socket goes on listening, and no process of a script stays."""
    for _ in range(20):
        reject_once(daemon)
    before = processes(daemon)
    os.kill(before["workers"][0], 9)
    honest(daemon, f"after-the-worker {time.time_ns()}")
    eventually(lambda: len(processes(daemon)["workers"]) == 2, "another worker")
    living = processes(daemon)
    orphans = [pid for pid in before["scripts"] if Path(f"/proc/{pid}/stat").exists() and pid not in living["scripts"]]
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans), "the scripts of the dead to end")
    assert stat.S_ISSOCK((daemon.directory / "run/submit.sock").stat().st_mode)


def test_a_user_cannot_say_what_the_server_found(daemon: Daemon) -> None:
    """Authentication-Results in our name, and the trace fields of ours, do not survive the submission by a user."""
    with local(daemon) as connection:
        connection.sendall(
            b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nFrom: bob@example.test\r\n"
            b"Return-Path: <ceo@bank.test>\r\nSubject: forged-results\r\n"
            b"Authentication-Results: mx.example.test; dkim=pass header.d=bank.test\r\n\r\nx\r\n.\r\nQUIT\r\n"
        )
        connection.makefile("rb").read()
    stored = arrived(daemon.maildir("bob"), b"forged-results")
    assert b"bank.test" not in stored

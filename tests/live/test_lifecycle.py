"""Start, reload, stop and crash of the running daemon: no accepted mail is lost, no session dropped for nothing."""

from __future__ import annotations

import re
import smtplib
import socket
import threading
from contextlib import suppress

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import FAULT, STOPPED, Daemon, twistd
from tests.live.peers.mail import log_in, message, submit
from tests.live.peers.maildir import arrived, messages
from tests.live.peers.process import Process, eventually, free_ports, unprivileged
from tests.live.peers.sink import Sink

pytestmark = pytest.mark.live


def reply(connection: socket.socket, octets: bytes) -> bytes:
    """Send, and read up to the last line of one reply."""
    connection.sendall(octets)
    got = b""
    while not re.search(rb"^\d\d\d [^\n]*\n\Z", got, re.MULTILINE):
        more = connection.recv(4096)
        assert more, f"connection lost after {got!r}"
        got += more
    return got


def test_reload_of_a_bad_file(start_daemon: StartDaemon) -> None:
    """A reload of a bad file says file and line and changes nothing: the open session and new ones are served."""
    daemon = start_daemon()
    good = daemon.settings_file.read_text()
    with log_in(daemon) as session:
        daemon.settings_file.write_text(good + "\nhostnam = 5\n[nonsense\n")
        refused = daemon.reload()
        assert refused.returncode != 0
        assert re.search(r"mta\.toml:\d+", refused.stdout + refused.stderr)
        session.sendmail("alice@example.test", ["bob@example.test"], message("old-session"))
    submit(daemon, "bob@example.test", message("new-session"))
    daemon.settings_file.write_text(good)
    accepted = daemon.reload()
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    for token in (b"old-session", b"new-session"):
        arrived(daemon.maildir("bob"), token)


def test_reload_of_a_new_alias(start_daemon: StartDaemon) -> None:
    """An alias that is added counts after the reload, also in a session that was open before."""
    daemon = start_daemon()
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as session:
        session.ehlo()
        session.mail("carol@client.test")
        assert session.rcpt("sales@example.test")[0] == 550
        with (daemon.directory / "etc/domains/example.test/aliases").open("a") as aliases:
            aliases.write("sales: bob\n")
        accepted = daemon.reload()
        assert accepted.returncode == 0, accepted.stdout + accepted.stderr
        session.rset()
        session.sendmail("carol@client.test", ["sales@example.test"], message("sales"))
    arrived(daemon.maildir("bob"), b"Subject: sales")


def test_kill_loses_no_delivered_mail(start_daemon: StartDaemon) -> None:
    """Each message that got its 250 before `kill -9` in mid-load lies in a Maildir after the restart, once."""
    daemon = start_daemon()
    accepted: set[str] = set()

    def send(sender: int) -> None:
        with suppress(smtplib.SMTPException, OSError), smtplib.SMTP("127.0.0.1", daemon.mx_port) as client:
            for number in range(100_000):
                token = f"kill-{sender}-{number}."
                # alternately one mailbox, committed in its Maildir, and two, committed in the spool
                recipients = ["bob@example.test", "alice@example.test"][: 1 + number % 2]
                client.sendmail("carol@client.test", recipients, message(token))
                accepted.add(token)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(5)]
    for sender in senders:
        sender.start()
    eventually(lambda: len(accepted) > 200, "200 accepted messages")
    daemon.kill()
    for sender in senders:
        sender.join()
    daemon.start()

    def arrivals(user: str) -> list[str]:
        subjects = (re.search(rb"Subject: (kill-\S+)", stored) for stored in messages(daemon.maildir(user)))
        return [match[1].decode() for match in subjects if match]

    eventually(lambda: accepted <= set(arrivals("bob")), "each accepted message in bob's Maildir")
    for_two = {token for token in accepted if int(token.rstrip(".").rpartition("-")[2]) % 2}
    eventually(lambda: for_two <= set(arrivals("alice")), "each accepted message in alice's Maildir")
    for user in ("alice", "bob"):
        found = arrivals(user)  # read once: what was committed without its 250 may still be on its way
        assert len(found) == len(set(found))


def test_kill_loses_no_queued_mail(start_daemon: StartDaemon) -> None:
    """What waits in the queue for a host that is down goes out after `kill -9`, a restart, and the host's return."""
    (port,) = free_ports(1)
    routes = [{"domain": "sink.test", "host": "[127.0.0.1]", "port": port}]
    soon = {"first_retry": "1s", "longest_retry": "1s", "rest": "1s"}
    daemon = start_daemon({"relay": {"route": routes}, "queue": soon})
    submit(daemon, "dave@sink.test", message("queued", b"x" * 70 + b"\r\n"))
    submit(daemon, "dave@sink.test", message("queued-large", (b"y" * 70 + b"\r\n") * 10_000))
    daemon.kill()
    with Sink(port=port) as sink:
        daemon.start()
        eventually(lambda: len(sink.received) >= 2, "both messages in the sink")
        assert sorted(len(mail.content) > 100_000 for mail in sink.received) == [False, True]


def test_second_start_on_the_same_spool(daemon: Daemon) -> None:
    """A second start on a spool that is in use ends at once and says so; the first goes on."""
    text = daemon.settings_file.read_text()
    ports = (daemon.mx_port, daemon.smtpd_port, daemon.smtps_port)
    for old, new in zip(ports, free_ports(3), strict=True):
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    other = daemon.settings_file.with_name("second.toml")
    other.write_text(text)
    second = Process(twistd(other), daemon.directory.with_name("second.log"), cwd="/", **unprivileged())
    assert second.end() == 1
    assert "Traceback" not in second.output
    assert str(daemon.directory / "var") in second.output
    assert re.search(r"in use|owned|another|locked", second.output)
    submit(daemon, "bob@example.test", message("still-here"))
    arrived(daemon.maildir("bob"), b"still-here")


def test_stop_in_mid_data(start_daemon: StartDaemon) -> None:
    """After SIGTERM a transaction under way may end and is kept; idle sessions get 421; half a message is dropped."""
    daemon = start_daemon()
    assert daemon.process is not None
    with daemon.connect() as whole, daemon.connect() as half, daemon.connect() as idle:
        for connection in (whole, half):
            for command in (b"EHLO client.test", b"MAIL FROM:<>", b"RCPT TO:<bob@example.test>", b"DATA"):
                reply(connection, command + b"\r\n")
            connection.sendall(b"Subject: half\r\n\r\nhalf of a")
        daemon.process.popen.terminate()
        assert idle.recv(512).startswith(b"421 ")
        assert reply(whole, b" message\r\n.\r\n").startswith(b"250 2.0.0 ")
        half.shutdown(socket.SHUT_WR)
        daemon.end()
    (stored,) = messages(daemon.maildir("bob"))
    assert stored.endswith(b"Subject: half\r\n\r\nhalf of a message\r\n")
    left = [path for path in (daemon.directory / "var").rglob("*") if path.is_file() and path.parent.name == "tmp"]
    assert left == []
    daemon.start()
    submit(daemon, "bob@example.test", message("after-the-stop"))
    arrived(daemon.maildir("bob"), b"after-the-stop")


@pytest.mark.parametrize("left", ["", "999999999", "1"], ids=["empty", "no such process", "another process"])
def test_stale_pid_file(start_daemon: StartDaemon, left: str) -> None:
    """A pid file that a crash left behind does not stop the start, whatever stands in it."""
    daemon = start_daemon()
    daemon.stop()
    pid_file = daemon.directory / "var/twistd.pid"
    pid_file.write_text(left)
    process = Process(twistd(daemon.settings_file, str(pid_file)), daemon.log, cwd="/", **unprivileged())
    process.wait_for_greeting(daemon.mx_port)
    assert process.stop() == STOPPED
    assert FAULT.search(process.output) is None


def test_pid_file_of_a_running_server(start_daemon: StartDaemon) -> None:
    """A pid file that names a running `twistd mta` is left alone: a second start with it ends, the first goes on."""
    daemon = start_daemon()
    daemon.stop()
    argv = twistd(daemon.settings_file, str(daemon.directory / "var/twistd.pid"))
    first = Process(argv, daemon.log, cwd="/", **unprivileged())
    first.wait_for_greeting(daemon.mx_port)
    second = Process(argv, daemon.directory.with_name("second-start.log"), cwd="/", **unprivileged())
    assert second.end() == 1
    assert (daemon.directory / "var/twistd.pid").read_text() == str(first.popen.pid)
    assert first.stop() == STOPPED


def test_broken_settings(daemon: Daemon) -> None:
    """The daemon does not start on a broken file, and says file and line, without a traceback."""
    broken = daemon.settings_file.with_name("broken.toml")
    broken.write_text(daemon.settings_file.read_text() + "\n[nonsense]\nx = 1\n")
    process = Process(twistd(broken), daemon.directory.with_name("broken.log"), cwd="/", **unprivileged())
    assert process.end() == 1
    assert "Traceback" not in process.output
    assert re.search(r"broken\.toml:\d+.*nonsense", process.output)

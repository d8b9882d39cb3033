"""Large messages on their whole way: every octet arrives, and none of them is ever whole in memory."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon
from tests.live.peers.mail import message, submit
from tests.live.peers.maildir import arrived
from tests.live.peers.process import eventually
from tests.live.peers.sink import Sink

pytestmark = pytest.mark.live

LARGE = b"".join(b"%08d 12345678901234567890123456789012345678901234567890\r\n.\r\n" % line for line in range(480_000))
"""30 MB, no line like another, every second one a dot."""
MESSAGES, SESSIONS, OCTETS = 40, 8, 20_000_000


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """The far end of sink.test."""
    with Sink() as listening:
        yield listening


@pytest.fixture(scope="module")
def server(start_daemon: StartDaemon, sink: Sink) -> Daemon:
    """Our server, with a route to the sink."""
    return start_daemon({"relay": {"route": [{"domain": "sink.test", "host": "[127.0.0.1]", "port": sink.port}]}})


def test_each_octet_arrives_everywhere(server: Daemon, sink: Sink) -> None:
    """Thirty megabytes to two mailboxes and to another server are the same in all three, and the queue is empty."""
    content = message("large", LARGE)
    submit(server, ["alice@example.test", "bob@example.test", "dave@sink.test"], content)
    for user in ("alice", "bob"):
        stored = arrived(server.maildir(user), b"Subject: large\r\n", 60)
        assert stored.startswith(b"Return-Path: <alice@example.test>\r\nDelivered-To: ")
        assert stored.endswith(content)
    [received] = eventually(lambda: list(sink.received), "the message in the sink", 60)
    assert received.content.endswith(content)
    spool = server.directory / "var/spool"
    eventually(lambda: not list(spool.glob("*/content/*")), "a queue without content")


def send(daemon: Daemon, recipients: Sequence[str], count: int) -> None:
    """Bring messages to mx, as fast as it takes them; the same octets again and again."""
    piece = b"x" * 998 + b"\r\n"
    with ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.mx_port), timeout=120))
        replies = stack.enter_context(connection.makefile("rb"))

        def hear(code: bytes) -> None:
            while (line := replies.readline())[3:4] == b"-":
                continue
            assert line.startswith(code), line

        hear(b"220")
        connection.sendall(b"EHLO client.test\r\n")
        hear(b"250")
        for _ in range(count):
            connection.sendall(b"MAIL FROM:<peer@client.test>\r\n")
            hear(b"250")
            for recipient in recipients:
                connection.sendall(f"RCPT TO:<{recipient}>\r\n".encode())
                hear(b"250")
            connection.sendall(b"DATA\r\n")
            hear(b"354")
            connection.sendall(b"Subject: memory\r\n\r\n")
            for _ in range(OCTETS // 100_000):
                connection.sendall(piece * 100)
            connection.sendall(b".\r\n")
            hear(b"250")


def peak(daemon: Daemon) -> int:
    """The most memory that the daemon had since `forget_peak`, in KiB."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.popen.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


def forget_peak(daemon: Daemon) -> None:
    """Have the kernel measure anew (proc(5), clear_refs)."""
    assert daemon.process is not None
    Path(f"/proc/{daemon.process.popen.pid}/clear_refs").write_text("5")


def test_memory_does_not_grow_with_the_octets(server: Daemon) -> None:
    """Eight hundred megabytes in forty messages, some for two mailboxes, take less than 25 MB while they pass."""
    recipients = ["bob@example.test"], ["bob@example.test", "alice@example.test"]
    taken = 0

    def delivered() -> int:
        """Count what is in the mailboxes, and make room."""
        nonlocal taken
        for user in ("alice", "bob"):
            for path in server.maildir(user).glob("new/*"):
                taken += path.stat().st_size > OCTETS * 0.99
                path.unlink()
        return taken

    delivered()
    taken = 0
    send(server, recipients[1], 1)  # what is loaded and allocated once is there now
    eventually(lambda: delivered() == 2, "the first message in both mailboxes", 60)
    forget_peak(server)
    before = peak(server)
    with ThreadPoolExecutor(SESSIONS) as pool:
        each = MESSAGES // SESSIONS
        sending = [pool.submit(send, server, recipients[number % 4 == 0], each) for number in range(SESSIONS)]
        for one in sending:
            one.result()
    expected = 2 + MESSAGES + each * len(range(0, SESSIONS, 4))
    eventually(lambda: delivered() >= expected, "every copy in its mailbox", 120)
    assert taken == expected
    assert peak(server) - before < 25 * 1024

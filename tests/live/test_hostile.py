"""Hostile peers on every port of the running daemon: each octet gets a correct reply or the end of its session.

After each test of octets the log tells what the daemon made of it: one `session.closed` line for each session, no
fault. Attackers come from 127.0.1.0 and above, so that they can be told from honest clients on 127.0.0.1, whose bound
on connections is another network's.
"""

from __future__ import annotations

import os
import random
import re
import smtplib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import FAULT, Daemon
from tests.live.peers.mail import message, submit, unverified
from tests.live.peers.maildir import messages
from tests.live.peers.process import eventually

pytestmark = pytest.mark.live

@pytest.fixture(scope="module")
def daemon(start_daemon: StartDaemon) -> Daemon:
    """The demonstration, whose wrong passwords cost nothing: there will be many."""
    return start_daemon({"auth": {"free_failures": 100_000, "free_failures_per_network": 100_000}})


PORTS = ("mx", "submission", "submissions")
REPLIES = re.compile(rb"(?:(?:\d\d\d-[ -~]*\r\n)*\d\d\d(?: [ -~]*)?\r\n)*")
"""Replies of RFC 5321 §4.2 and nothing else."""

HELLO = b"EHLO client.test\r\n"
TRANSACTION = b"MAIL FROM:<carol@client.test>\r\nRCPT TO:<bob@example.test>\r\n"
CONTENT = message("hostile", sender="carol@client.test")
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z [a-z.]+( [a-z_]+=(\"(\\.|[^\"\\])*\"|[^ \"]*))*")
"""One event of the log (`mta.observe.log`)."""


def port(daemon: Daemon, name: str) -> int:
    """The port of one of `PORTS`."""
    return {"mx": daemon.mx_port, "submission": daemon.smtpd_port, "submissions": daemon.smtps_port}[name]


def connect(daemon: Daemon, name: str, source: str) -> socket.socket:
    """Open a connection from an address of 127.0.0.0/8."""
    return socket.create_connection(("127.0.0.1", port(daemon, name)), timeout=20, source_address=(source, 0))


def reset(connection: socket.socket) -> None:
    """Close with RST in place of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def last_words(connection: socket.socket) -> bytes:
    """Read what the daemon says until it closes; a reset is a close."""
    said = b""
    with suppress(ConnectionError, ssl.SSLError):
        while more := connection.recv(65536):
            said += more
    return said


def converse(daemon: Daemon, name: str, source: str, octets: bytes) -> bytes:
    """Send octets and the end of input, whatever is answered meanwhile; return all that was."""
    with connect(daemon, name, source) as connection:
        said: list[bytes] = []
        listener = threading.Thread(target=lambda: said.append(last_words(connection)))
        listener.start()
        with suppress(OSError):  # it may have closed already
            connection.sendall(octets)
            connection.shutdown(socket.SHUT_WR)
        listener.join()
    return said[0]


def converse_secured(daemon: Daemon, source: str, octets: bytes) -> bytes:
    """Send a few octets under TLS, and a QUIT out of whatever they lead into; return all that was answered."""
    with unverified().wrap_socket(connect(daemon, "submissions", source)) as connection:
        with suppress(OSError):
            connection.sendall(octets + b"\r\n.\r\nQUIT\r\nQUIT\r\n")
        return last_words(connection)


def replies(connection: socket.socket, octets: bytes, count: int) -> list[bytes]:
    """Send octets and read as many whole replies; return code and enhanced status of each."""
    connection.sendall(octets)
    got: list[bytes] = []
    said = b""
    while len(got) < count:
        more = connection.recv(4096)
        assert more, f"closed after {said!r}"
        said += more
        got = re.findall(rb"^(\d\d\d(?: \d\.\d{1,3}\.\d{1,3})?) ?[^\n]*\n", said, re.MULTILINE)
    assert said.endswith(b"\n")
    return got


def closed(daemon: Daemon, source: str) -> list[str]:
    """The `session.closed` lines of sessions from an address."""
    return re.findall(rf"^\S+ session\.closed .* address={re.escape(source)} .*$", daemon.output, re.MULTILINE)


def all_closed(daemon: Daemon, source: str, count: int) -> None:
    """Wait until each session from `source` has its line, and see that none has two, and that no fault was noted."""
    eventually(lambda: len(closed(daemon, source)) >= count, f"{count} closed sessions of {source}")
    names = re.findall(r" session=(\S+)", "\n".join(closed(daemon, source)))
    assert len(names) == len(set(names)) == count
    fault = FAULT.search(daemon.output)
    assert fault is None, fault[0]


def left_behind(daemon: Daemon) -> list[Path]:
    """Files in staging and in any Maildir's `tmp`."""
    var = daemon.directory / "var"
    return [path for path in var.rglob("*") if path.is_file() and {"staging", "tmp"} & set(path.parts[len(var.parts) :])]


def resident(daemon: Daemon) -> int:
    """Memory of the daemon, in KiB."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.popen.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


# Octets


def dialogues(chance: random.Random) -> Iterator[bytes]:
    """Valid dialogues with damage: octets changed, dropped, doubled, cut off; commands shuffled."""
    valid = (
        HELLO + TRANSACTION + b"DATA\r\n" + CONTENT + b".\r\nQUIT\r\n",
        HELLO + b"AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdAB4\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\n" + TRANSACTION + b"RSET\r\n",
        HELLO + b"STARTTLS\r\n" + HELLO + TRANSACTION,
        b"HELO c\r\nVRFY bob\r\nEXPN x\r\nHELP\r\nNOOP\r\nMAIL FROM:<> SIZE=99 BODY=8BITMIME SMTPUTF8\r\nRSET\r\nQUIT\r\n",
    )
    for _ in range(12):
        for dialogue in valid:
            damaged = bytearray(dialogue)
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(len(damaged))
                what = chance.randrange(4)
                if what == 0:
                    damaged[at] = chance.choice(b"\x00\n\r \x7f\x80\xff<>@:\"\\.=*" + bytes([chance.randrange(256)]))
                elif what == 1:
                    del damaged[at : at + chance.randint(1, 20)]
                elif what == 2:
                    damaged[at:at] = damaged[at : at + chance.randint(1, 60)]
                else:
                    lines = bytes(damaged).splitlines(keepends=True)
                    chance.shuffle(lines)
                    damaged = bytearray(b"".join(lines))
                if not damaged:
                    break
            yield bytes(damaged)


def junk(chance: random.Random) -> Iterator[bytes]:
    """What is no SMTP at all: chance, other protocols, too much of one thing."""
    yield b""
    for size in (1, 7, 100, 5_000, 200_000):
        yield chance.randbytes(size)
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(505)  # a hello of TLS, in its form
    yield b"\x16\x03\x01\xff\xff"  # the begin of a record that does not come
    yield b"\x80\x2e\x01\x03\x01\x00\x15" + chance.randbytes(40)  # SSL 2
    yield b"GET / HTTP/1.1\r\nHost: mx.example.test\r\n\r\n"
    yield b"\x00" * 10_000
    yield b"\r\n" * 5_000
    yield b"\n" * 5_000
    yield b"\r" * 5_000
    yield b"A" * 140_000 + b"\r\nNOOP\r\n"
    yield b"x" * 4 * 1024 * 1024
    yield HELLO + b"NOOP\r\n" * 5_000
    yield HELLO + TRANSACTION + b"RCPT TO:<bob@example.test>\r\n" * 1_500
    yield HELLO + (TRANSACTION + b"RSET\r\n") * 1_200
    yield HELLO + TRANSACTION + b"DATA\r\n" + b"y" * 2 * 1024 * 1024
    yield HELLO + TRANSACTION + b"DATA\r\n" + b"X-Header: y\r\n" * 40_000 + b"\r\n.\r\nQUIT\r\n"
    yield HELLO + b"AUTH PLAIN " + b"A" * 20_000 + b"\r\nAUTH PLAIN\r\n" + b"B" * 20_000 + b"\r\n"
    yield HELLO + "MAIL FROM:<\u202e\x1b[31m@\u2028>\r\nEHLO \x85\x0b\x0c\x07\r\n".encode()


def barrage(daemon: Daemon, name: str, source: str, seed: int) -> int:
    """Say all of it on one port, check what comes back, return the number of sessions."""
    chance = random.Random(seed)
    count = 0
    for octets in (*junk(chance), *dialogues(chance)):
        said = converse(daemon, name, source, octets)
        count += 1
        if name != "submissions":
            assert said.startswith(b"220 ")
            assert REPLIES.fullmatch(said.partition(b"\x15\x03")[0]), (octets[:300], said[-300:])  # an alert of TLS
        else:
            assert b"220 " not in said, said
    for octets in dialogues(chance):
        if name != "mx":
            secured = converse_secured(daemon, source, octets)
            count += 1
            assert REPLIES.fullmatch(secured), (octets, secured[-300:])
    return count


@pytest.mark.parametrize("name", PORTS)
def test_any_octets_on_any_port(daemon: Daemon, name: str) -> None:
    """Whatever is said, in clear text or under TLS: well-formed replies or a close, one line a session, no fault."""
    source = f"127.0.1.{PORTS.index(name) + 1}"
    all_closed(daemon, source, barrage(daemon, name, source, seed=PORTS.index(name)))
    assert left_behind(daemon) == []
    damaged = [line for line in daemon.output.splitlines() if not LOG_LINE.fullmatch(line)]
    assert damaged == []

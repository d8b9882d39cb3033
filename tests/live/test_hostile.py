"""Hostile peers on every port of the running daemon: each octet gets a correct reply or the end of its session.

After each test of octets the log tells what the daemon made of it: one `session.closed` line for each session, no
fault. Attackers come from 127.0.1.0 and above, so that they can be told from honest clients on 127.0.0.1, whose bound
on connections is another network's.
"""

from __future__ import annotations

import random
import re
import smtplib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from mta.tls.certificate import make_self_signed
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
    said = bytearray()
    with suppress(ConnectionError, ssl.SSLError):
        while more := connection.recv(65536):
            said += more
    return bytes(said)


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


def secure(daemon: Daemon, name: str, source: str) -> ssl.SSLSocket:
    """Open a connection under TLS, by STARTTLS where the port wants that; nothing is read under TLS yet."""
    connection = connect(daemon, name, source)
    if name != "submissions":
        replies(connection, HELLO + b"STARTTLS\r\n", 3)
    return unverified().wrap_socket(connection)


def converse_secured(daemon: Daemon, name: str, source: str, octets: bytes) -> bytes:
    """Send a few octets under TLS, and a QUIT out of whatever they lead into; return all that was answered."""
    with secure(daemon, name, source) as connection:
        with suppress(OSError):
            connection.sendall(octets + b"\r\n.\r\nQUIT\r\nQUIT\r\n")
        return last_words(connection)


def replies(connection: socket.socket, octets: bytes, count: int) -> list[bytes]:
    """Send octets and read so many replies, the greeting counted; return code and enhanced status of each."""
    connection.sendall(octets)
    said = b""
    while len(got := re.findall(rb"^(\d\d\d(?: \d\.\d\.\d+)?)(?= |\r)[^\n]*\n", said, re.MULTILINE)) < count:
        more = connection.recv(65536)
        assert more, f"closed after {said!r}"
        said += more
    assert len(got) == count
    assert not said or said.endswith(b"\r\n")
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
    return [path for place in ("staging/*/*", "mail/*/*/Maildir/tmp/*") for path in var.glob(place)]


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
        HELLO + b"AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdAB4\r\nAUTH LOGIN\r\nYQ==\r\nYg==\r\n" + TRANSACTION,
        HELLO + b"STARTTLS\r\n" + HELLO + TRANSACTION,
        b"HELO c\r\nVRFY bob\r\nEXPN x\r\nHELP\r\nMAIL FROM:<> SIZE=99 BODY=8BITMIME SMTPUTF8\r\nRSET\r\nQUIT\r\n",
    )
    for _ in range(8):
        for dialogue in valid:
            damaged = bytearray(dialogue)
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(len(damaged))
                what = chance.randrange(4)
                if what == 0:
                    damaged[at] = chance.choice(b'\x00\n\r \x7f\x80\xff<>@:"\\.=*' + bytes([chance.randrange(256)]))
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
    """Say all of it on one port in clear text, check what comes back, return the number of sessions."""
    chance = random.Random(seed)
    spoken = [*junk(chance), *dialogues(chance)]
    for octets in spoken:
        said = converse(daemon, name, source, octets)
        if name == "submissions":
            assert not re.search(rb"^\d\d\d[ -]", said, re.MULTILINE), said
        else:
            assert said.startswith(b"220 ")
            assert REPLIES.fullmatch(said.partition(b"\x15\x03")[0]), (octets[:300], said[-300:])  # an alert of TLS
    return len(spoken)


@pytest.mark.parametrize("name", PORTS)
def test_any_octets_on_any_port(daemon: Daemon, name: str) -> None:
    """Whatever is said, in clear text or under TLS: well-formed replies or a close, one line a session, no fault."""
    source = f"127.0.1.{PORTS.index(name) + 1}"
    count = barrage(daemon, name, source, seed=PORTS.index(name))
    for octets in dialogues(random.Random(name)):
        secured = converse_secured(daemon, name, source, octets)
        assert REPLIES.fullmatch(secured), (octets, secured[-300:])
        count += 1
    all_closed(daemon, source, count)
    assert left_behind(daemon) == []
    assert [line for line in daemon.output.splitlines() if not LOG_LINE.fullmatch(line)] == []


def test_memory_does_not_grow(daemon: Daemon) -> None:
    """After a warm-up 1,300 hostile sessions leave nothing in memory: the bound is 2 KiB a session."""
    for seed in range(6):
        barrage(daemon, "mx", "127.0.1.9", seed)
    before = resident(daemon)
    count = sum(barrage(daemon, "mx", "127.0.1.9", seed) for seed in range(6, 30))
    assert count > 1_300
    assert resident(daemon) - before < 2 * count


def test_9_what_a_session_may_hold_is_bounded(daemon: Daemon) -> None:
    """Row 9: 30 sessions that each sent 4 MiB without a line end, or as content, hold less than 400 KiB each."""
    before = resident(daemon)
    with ExitStack() as stack:
        for number in range(30):
            connection = stack.enter_context(connect(daemon, "mx", "127.0.1.16"))
            start = HELLO if number % 2 else HELLO + TRANSACTION + b"DATA\r\n"
            replies(connection, start, 2 if number % 2 else 5)
            connection.sendall(b"x" * 4 * 1024 * 1024)
            if number % 2:
                replies(connection, b"", 1)
        eventually(lambda: len(left_behind(daemon)) == 15, "15 messages in staging")
        assert resident(daemon) - before < 30 * 400
    all_closed(daemon, "127.0.1.16", 30)


@pytest.fixture(scope="module")
def strict(start_daemon: StartDaemon) -> Daemon:
    """A daemon with short deadlines, and no bound on commands that bring no mail."""
    limits = {"command_seconds": "1s", "data_seconds": "2s", "handshake_seconds": "1s", "idle_commands": 1_000_000}
    return start_daemon({"limits": limits})


def test_46_a_client_that_reads_late_loses_no_reply(strict: Daemon) -> None:
    """Row 46: 50,000 commands in one piece, whose 6 MB of replies no buffer of the kernel takes, are all answered."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect(("127.0.0.1", strict.mx_port))
        sender = threading.Thread(target=connection.sendall, args=(HELLO * 50_000 + b"QUIT\r\n",))
        sender.start()
        said = last_words(connection)
        sender.join()
    assert len(said) > 4 * 1024 * 1024
    assert said.endswith(b"\r\n221 2.0.0 Goodbye\r\n")
    assert said.count(b"\r\n250 ") == 50_000


def test_12_nothing_sent_before_tls_is_used_after_it(daemon: Daemon) -> None:
    """Row 12: commands behind STARTTLS in its segment vanish; the first reply under TLS answers the first command."""
    with connect(daemon, "mx", "127.0.1.11") as connection:
        assert replies(connection, HELLO + b"STARTTLS\r\nNOOP\r\nVRFY bob\r\n", 3)[-1] == b"220 2.0.0"
        with unverified().wrap_socket(connection) as secured:
            assert replies(secured, b"HELP\r\n", 1) == [b"214 2.0.0"]
            assert replies(secured, b"QUIT\r\n", 1) == [b"221 2.0.0"]


# Connections


def test_75_a_reset_at_each_stage_leaves_no_trace(daemon: Daemon) -> None:
    """Rows 75, 76: a client that resets, wherever it stands, leaves one line in the log and no file."""
    data = HELLO + TRANSACTION + b"DATA\r\n"
    stages = (
        ("mx", b"", 1),
        ("mx", HELLO, 2),
        ("mx", HELLO + TRANSACTION, 4),
        ("mx", data, 5),
        ("mx", data + CONTENT + b".\r\n", 6),
        ("mx", HELLO + b"QUIT\r\n", 3),
        ("mx", HELLO + b"STARTTLS\r\n", 3),
        ("submission", HELLO + b"MAIL FROM:<>\r\n", 3),
        ("submissions", b"", 0),
    )
    for name, octets, count in stages:
        connection = connect(daemon, name, "127.0.1.12")
        replies(connection, octets, count)
        reset(connection)
    for name, octets, count, more in (
        ("mx", data, 5, CONTENT),
        ("mx", HELLO + b"STARTTLS\r\n", 3, b"\x16\x03\x01\x02\x00\x01"),
        ("submissions", b"", 0, b"\x16\x03\x01\x02\x00\x01"),
        ("mx", data, 5, b"z" * 400_000),
    ):
        connection = connect(daemon, name, "127.0.1.12")
        replies(connection, octets, count)
        connection.sendall(more)
        if len(more) > 256 * 1024:
            eventually(lambda: left_behind(daemon), "content in staging")
        reset(connection)
    for octets in (b"AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdAB4\r\n", b"AUTH LOGIN\r\nYQ==\r\n"):
        secured = secure(daemon, "submissions", "127.0.1.12")
        secured.sendall(HELLO + octets)
        reset(secured)
    all_closed(daemon, "127.0.1.12", len(stages) + 6)
    eventually(lambda: not left_behind(daemon), "an empty staging and empty tmp directories")


def test_74_a_flood_is_told_421_and_others_are_served(daemon: Daemon) -> None:
    """Row 74: of 130 connections from one network 100 stay; 100 of two others, and honest clients, find room."""
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(daemon, "mx", f"127.0.2.{n % 9 + 1}")) for n in range(130)]
        greetings = [connection.recv(512)[:9] for connection in crowd]
        assert greetings.count(b"421 4.7.0") == 30
        assert sum(greeting.startswith(b"220 ") for greeting in greetings) == 100
        for n in range(100):
            connection = stack.enter_context(connect(daemon, PORTS[n % 2], f"127.0.{3 + n % 2}.{n // 2 + 1}"))
            assert connection.recv(512).startswith(b"220 ")
        submit(daemon, "bob@example.test", message("in-the-flood"))
    eventually(lambda: len(closed(daemon, "127.0.2.1")) >= 100 // 9, "the end of the flood")
    with connect(daemon, "mx", "127.0.2.1") as connection:
        eventually(lambda: connection.recv(512).startswith(b"220 "), "room for the network of the flood")


def test_73_slow_peers_hinder_nobody(daemon: Daemon) -> None:
    """Row 73: beside 30 idle sessions, 5 that drip, 10 half handshakes and a barrage, 40 messages are taken whole."""
    over = threading.Event()

    def drip(connections: list[socket.socket]) -> None:
        while not over.wait(0.01):
            for connection in connections:
                connection.sendall(b"x")

    def attack() -> None:
        while not over.is_set():
            barrage(daemon, "mx", "127.0.6.1", seed=73)

    with ExitStack() as stack:
        slow = [stack.enter_context(connect(daemon, "mx", f"127.0.5.{n + 1}")) for n in range(35)]
        for connection in slow[:5]:
            replies(connection, HELLO + TRANSACTION + b"DATA\r\n", 5)
        half = [stack.enter_context(connect(daemon, "submissions", "127.0.5.99")) for _ in range(10)]
        for connection in half:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        threads = [threading.Thread(target=drip, args=(slow[:5],)), threading.Thread(target=attack)]
        for thread in threads:
            thread.start()
        stack.callback(lambda: [thread.join() for thread in threads])
        stack.callback(over.set)
        for number in range(20):
            with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=10) as client:
                honest = message(f"honest-{number}.", sender="carol@client.test")
                client.sendmail("carol@client.test", ["bob@example.test"], honest)
            submit(daemon, "bob@example.test", message(f"honest-{20 + number}."))
    stored = b"".join(messages(daemon.maildir("bob")))
    assert [stored.count(b"Subject: honest-%d.\r\n" % number) for number in range(40)] == [1] * 40
    assert FAULT.search(daemon.output) is None


def test_deadlines_end_slow_sessions(strict: Daemon) -> None:
    """Who is idle, drips, or does not finish a handshake for longer than the settings allow is told 421, or dropped."""
    with connect(strict, "mx", "127.0.1.13") as dripping:
        replies(dripping, HELLO + TRANSACTION + b"DATA\r\n", 5)
        dripping.settimeout(0.1)

        def told() -> bytes:
            with suppress(TimeoutError):
                return dripping.recv(512)
            dripping.sendall(b"x")
            return b""

        assert eventually(told, "a word to who drips", 10).startswith(b"421 4.4.2")
    with (
        connect(strict, "mx", "127.0.1.13") as idle,
        connect(strict, "mx", "127.0.1.13") as started,
        connect(strict, "submissions", "127.0.1.13") as silent,
    ):
        replies(started, HELLO + b"STARTTLS\r\n", 3)
        assert replies(idle, b"", 2)[-1] == b"421 4.4.2"
        assert last_words(started) == last_words(silent) == b""
    all_closed(strict, "127.0.1.13", 4)


# Mail


def test_77_one_message_in_20_sessions_is_20_files(daemon: Daemon) -> None:
    """Row 77: sent at once, with one Message-ID, by 20 clients: 20 files, each with the octets of one client."""
    bodies = [(b"%d " % number * 12 + b"\r\n") * 500 for number in range(20)]
    go = threading.Barrier(len(bodies))

    def send(body: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as client:
            client.ehlo()
            go.wait(30)
            client.sendmail("carol@client.test", ["bob@example.test"], message("the-same", body))

    clients = [threading.Thread(target=send, args=(body,)) for body in bodies]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    stored = [octets for octets in messages(daemon.maildir("bob")) if b"Subject: the-same" in octets]
    assert sorted(octets.partition(b"\r\n\r\n")[2] for octets in stored) == sorted(bodies)


def test_78_no_address_becomes_a_path(daemon: Daemon) -> None:
    """Row 78: local-parts that mean something to a file system or a shell are unknown, and make no file."""
    names = ("../../x", "/etc/passwd", "|cmd", ".", "..", "a/b", "bob/../alice", ":2,S", "-x", ".hidden", "bob:2,S")
    odd = [*names, *(f'"{name}"' for name in names), '"\\\x00"', "\u00fc" * 32, "bob\x00"]
    mail = daemon.directory / "var/mail"
    before = {path for path in mail.rglob("*") if path.parent.name not in ("new", "tmp")}
    for local_part in odd:
        octets = f"EHLO c\r\nMAIL FROM:<> SMTPUTF8\r\nRCPT TO:<{local_part}@example.test>\r\nQUIT\r\n".encode()
        with connect(daemon, "mx", "127.0.1.14") as connection:
            assert replies(connection, octets, 5)[3][:2] in (b"50", b"55"), local_part
    assert {path for path in mail.rglob("*") if path.parent.name not in ("new", "tmp")} == before


def test_84_a_new_certificate_counts_after_the_reload(daemon: Daemon) -> None:
    """Row 84: after `mta reload` new handshakes get the new certificate; a session under the old one goes on."""
    tls = daemon.directory / "etc/tls"
    with secure(daemon, "submission", "127.0.1.15") as old:
        before = old.getpeercert(binary_form=True)
        certificate, key = make_self_signed(["mx.example.test"], time.time(), 30)
        (tls / "key.pem").write_bytes(key)
        (tls / "certificate.pem").write_bytes(certificate)
        assert daemon.reload().returncode == 0
        with secure(daemon, "submission", "127.0.1.15") as new:
            assert new.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(certificate.decode()) != before
        assert replies(old, b"NOOP\r\n", 1) == [b"250 2.0.0"]

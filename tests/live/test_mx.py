"""Acceptance from other servers: who gets mail, who does not, and that nothing is relayed."""

from __future__ import annotations

import smtplib
import subprocess

import pytest

from tests.live.peers.daemon import Daemon
from tests.live.peers.mail import message, unverified
from tests.live.peers.maildir import arrived
from tests.live.peers.process import program

pytestmark = pytest.mark.live


def swaks(daemon: Daemon) -> list[str]:
    """Begin a command line of swaks that sends to the mx port."""
    server = f"127.0.0.1:{daemon.mx_port}"
    return [program("swaks"), "--silent", "2", "--server", server, "--from", "carol@client.test"]


def test_smtplib(daemon: Daemon) -> None:
    """Mail for bob from another server lies in his Maildir, with all its octets."""
    content = message("mx-smtplib", b"\xe4\r\n.\r\n", "carol@client.test")
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as client:
        client.sendmail("carol@client.test", ["bob@example.test"], content)
    stored = arrived(daemon.maildir("bob"), b"mx-smtplib")
    assert stored.startswith(b"Return-Path: <carol@client.test>")
    assert stored.endswith(content)


def test_swaks(daemon: Daemon) -> None:
    """Swaks delivers to bob."""
    subprocess.run([*swaks(daemon), "--to", "bob@example.test", "--header", "Subject: mx-swaks"], check=True)
    arrived(daemon.maildir("bob"), b"Subject: mx-swaks")


def test_pipelined_in_one_segment(daemon: Daemon) -> None:
    """A whole transaction in one write is answered command by command, in order (RFC 2920)."""
    commands = b"EHLO client.test\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nRCPT TO:<nobody@example.test>\r\n"
    with daemon.connect() as connection:
        connection.sendall(commands + b"NOOP\r\nQUIT\r\n")
        stream = connection.makefile("rb")
        last_lines = [line for line in stream if line[3:4] == b" "]
    assert [line[:9] for line in last_lines[1:]] == [
        b"250 2.1.0",
        b"250 2.1.5",
        b"550 5.1.1",
        b"250 2.0.0",
        b"221 2.0.0",
    ]


def test_starttls(daemon: Daemon) -> None:
    """Mail comes in over TLS, and the trace says so."""
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as client:
        client.starttls(context=unverified())
        client.sendmail("carol@client.test", ["bob@example.test"], message("mx-tls", sender="carol@client.test"))
    stored = arrived(daemon.maildir("bob"), b"Subject: mx-tls").replace(b"\r\n", b" ")
    assert b" with ESMTPS " in stored
    assert b"TLSv1.3" in stored or b"TLS1.3" in stored


@pytest.mark.parametrize(
    ("recipient", "status"),
    [
        ("<nobody@example.test>", b"5.1.1"),
        ("<carol@elsewhere.test>", b"5.7.1"),
        ("<carol%elsewhere.test@example.test>", b"5.7.1"),
        ("<elsewhere.test!carol@example.test>", b"5.7.1"),
        ('<"carol@elsewhere.test"@example.test>', b"5.7.1"),
        ("<@example.test:carol@elsewhere.test>", b"5.7.1"),
    ],
)
def test_refused_recipients(daemon: Daemon, recipient: str, status: bytes) -> None:
    """What is no mailbox of ours gets 550: 5.1.1 in our domains, 5.7.1 outside them and for every kind of route."""
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as client:
        client.ehlo()
        client.mail("carol@client.test")
        code, text = client.docmd("RCPT", f"TO:{recipient}")
    assert (code, text[: len(status)]) == (550, status)


def test_swaks_sees_the_refusal(daemon: Daemon) -> None:
    """Swaks ends with 24, its code for a refused recipient."""
    done = subprocess.run([*swaks(daemon), "--to", "carol@elsewhere.test"], check=False, capture_output=True)
    assert done.returncode == 24


def test_postmaster(daemon: Daemon) -> None:
    """Mail for Postmaster, with or without a domain, is accepted in any case of letters (RFC 5321 §4.5.1)."""
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as client:
        client.ehlo()
        client.mail("")
        assert client.docmd("RCPT", "TO:<PostMaster>")[0] == 250
        assert client.docmd("RCPT", "TO:<POSTMASTER@EXAMPLE.TEST>")[0] == 250


def test_bare_line_feed(daemon: Daemon) -> None:
    """A message with a bare LF is refused with 550 5.6.11 after its true end, and LF.LF does not end it."""
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as client:
        client.ehlo()
        client.mail("carol@client.test")
        client.rcpt("bob@example.test")
        assert client.docmd("DATA")[0] == 354
        client.send(b"Subject: smuggled\r\n\r\nfirst\n.\nMAIL FROM:<evil@client.test>\r\nDATA\r\n.\r\n")
        code, text = client.getreply()
        assert (code, text[:7]) == (550, b"5.6.11 ")
        assert client.noop()[0] == 250

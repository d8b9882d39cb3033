"""Submission with the programs that people use: smtplib, curl, swaks, msmtp."""

from __future__ import annotations

import smtplib
import subprocess
from pathlib import Path

import pytest

from tests.live.peers.daemon import Daemon
from tests.live.peers.mail import log_in, message, submit, unverified
from tests.live.peers.maildir import arrived, messages
from tests.live.peers.process import program, unavailable

pytestmark = pytest.mark.live

BODIES = {
    "empty": b"",
    "eight-bit": "Grüße, 今日は\r\n".encode() + b"\xff\xfe\x80 not UTF-8\r\n",
    "dots": b".\r\n..\r\n. one\r\n...\r\nend.\r\n.\r\n",
    "long-lines": b"x" * 998 + b"\r\n" + b"." + b"y" * 20_000 + b"\r\n",
    "blank-lines": b"\r\n\r\n \r\n\t\r\n\r\n",
    "mebibyte": (b"0123456789abcdef" * 4 + b"\r\n") * (1024 * 1024 // 66) + b"." * 70 + b"\r\n",
}


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit-tls"])
def test_smtplib(daemon: Daemon, implicit: bool) -> None:
    """What alice submits with smtplib lies in bob's Maildir, with our trace fields before it and all its octets."""
    content = message(f"smtplib-{implicit}")
    with log_in(daemon, implicit=implicit) as client:
        assert client.sendmail("alice@example.test", ["bob@example.test"], content) == {}
    stored = arrived(daemon.maildir("bob"), f"smtplib-{implicit}".encode())
    assert stored.startswith(b"Return-Path: <alice@example.test>")
    assert b"Delivered-To: bob@example.test" in stored
    assert b" with ESMTPSA " in stored.replace(b"\r\n", b" ")
    assert stored.endswith(content)


@pytest.mark.parametrize("name", BODIES)
def test_octets_stay_as_they_are(daemon: Daemon, name: str) -> None:
    """8-bit octets, dots, long lines, blank lines and a mebibyte arrive as they were sent."""
    content = message(f"octets-{name}", BODIES[name])
    submit(daemon, "bob@example.test", content)
    assert arrived(daemon.maildir("bob"), f"octets-{name}".encode()).endswith(content)


def test_several_mailboxes(daemon: Daemon) -> None:
    """A message for alice and bob lies in both Maildirs, once in each."""
    content = message("both")
    submit(daemon, ["alice@example.test", "bob@example.test"], content)
    for user in ("alice", "bob"):
        assert arrived(daemon.maildir(user), b"Subject: both").endswith(content)
    for user in ("alice", "bob"):
        assert sum(b"Subject: both" in stored for stored in messages(daemon.maildir(user))) == 1


def test_missing_fields_are_added(daemon: Daemon) -> None:
    """Submission adds Date and Message-ID where they are missing, and leaves the rest as it is (RFC 6409 §8)."""
    submit(daemon, "bob@example.test", b"From: alice@example.test\r\nSubject: bare\r\n\r\nx\r\n")
    stored = arrived(daemon.maildir("bob"), b"Subject: bare")
    head, _, body = stored.partition(b"\r\n\r\n")
    assert b"\nDate: " in head
    assert b"\nMessage-ID: " in head
    assert b"From: alice@example.test\r\nSubject: bare" in head
    assert body == b"x\r\n"


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_curl(daemon: Daemon, place: Path, scheme: str) -> None:
    """Curl submits by STARTTLS (`--ssl-reqd`) and by implicit TLS."""
    content = message(f"curl-{scheme}")
    upload = place / f"{scheme}.eml"
    upload.write_bytes(content)
    port = daemon.smtpd_port if scheme == "smtp" else daemon.smtps_port
    argv = [program("curl"), "--silent", "--show-error", "--insecure", "--ssl-reqd", f"{scheme}://127.0.0.1:{port}"]
    argv += ["--user", f"alice@example.test:{daemon.passwords['alice']}", "--upload-file", str(upload)]
    argv += ["--mail-from", "alice@example.test", "--mail-rcpt", "bob@example.test"]
    subprocess.run(argv, check=True)
    assert arrived(daemon.maildir("bob"), f"curl-{scheme}".encode()).endswith(content)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(daemon: Daemon, mechanism: str) -> None:
    """Swaks submits by STARTTLS, with AUTH PLAIN and with AUTH LOGIN."""
    swaks = program("swaks")
    support = subprocess.run([swaks, "--support"], check=False, capture_output=True, text=True)
    if "TLS not available" in support.stdout + support.stderr:
        unavailable("Net::SSLeay, which swaks needs for TLS,")
    argv = [swaks, "--silent", "2", "--server", f"127.0.0.1:{daemon.smtpd_port}", "--tls", "--auth", mechanism]
    argv += ["--auth-user", "alice@example.test", "--auth-password", daemon.passwords["alice"]]
    argv += ["--from", "alice@example.test", "--to", "bob@example.test", "--header", f"Subject: swaks-{mechanism}"]
    subprocess.run(argv, check=True)
    arrived(daemon.maildir("bob"), f"Subject: swaks-{mechanism}".encode())


@pytest.mark.parametrize("starttls", ["on", "off"])
def test_msmtp(daemon: Daemon, place: Path, starttls: str) -> None:
    """Msmtp submits by STARTTLS and by implicit TLS."""
    port = daemon.smtpd_port if starttls == "on" else daemon.smtps_port
    settings = place / f"msmtp-{starttls}"
    settings.write_text(
        f"account default\nhost 127.0.0.1\nport {port}\ntls on\ntls_starttls {starttls}\ntls_certcheck off\n"
        f"auth plain\nuser alice@example.test\npassword {daemon.passwords['alice']}\nfrom alice@example.test\n"
    )
    settings.chmod(0o600)
    content = message(f"msmtp-{starttls}")
    argv = [program("msmtp"), "-C", str(settings), "bob@example.test"]
    subprocess.run(argv, check=True, input=content.replace(b"\r\n", b"\n"))
    assert arrived(daemon.maildir("bob"), f"msmtp-{starttls}".encode()).endswith(content)


def test_wrong_password(daemon: Daemon) -> None:
    """A wrong password gets 535 5.7.8, and so does an unknown user, in the same words (RFC 4954 §6)."""
    replies = set()
    for user, password in (("alice@example.test", "wrong"), ("nobody@example.test", daemon.passwords["alice"])):
        with smtplib.SMTP("127.0.0.1", daemon.smtpd_port, timeout=30) as client:
            client.starttls(context=unverified())
            client.ehlo()
            client.user, client.password = user, password
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                client.auth("PLAIN", client.auth_plain)
            replies.add((refused.value.smtp_code, refused.value.smtp_error))
    assert len(replies) == 1
    code, text = replies.pop()
    assert code == 535
    assert text.startswith(b"5.7.8 ")


def test_no_mail_without_a_login(daemon: Daemon) -> None:
    """Without AUTH, MAIL on submission gets 530 5.7.0, before and after STARTTLS (RFC 4954 §6)."""
    with smtplib.SMTP("127.0.0.1", daemon.smtpd_port, timeout=30) as client:
        client.ehlo()
        code, text = client.mail("alice@example.test")
        assert (code, text[:6]) == (530, b"5.7.0 ")
        client.starttls(context=unverified())
        client.ehlo()
        code, text = client.mail("alice@example.test")
        assert (code, text[:6]) == (530, b"5.7.0 ")


def test_auth_needs_tls(daemon: Daemon) -> None:
    """AUTH is not offered in clear text, and offered after STARTTLS (RFC 8314 §3.3)."""
    with smtplib.SMTP("127.0.0.1", daemon.smtpd_port, timeout=30) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        client.starttls(context=unverified())
        client.ehlo()
        assert {"PLAIN", "LOGIN"} <= set(client.esmtp_features["auth"].split())


def test_sender_must_belong_to_the_login(daemon: Daemon) -> None:
    """Alice cannot send as bob: not in MAIL, not in From."""
    with log_in(daemon) as client:
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            client.sendmail("bob@example.test", ["bob@example.test"], message("as-bob"))
        assert refused.value.smtp_code in {550, 553}
        assert refused.value.smtp_error.startswith(b"5.7.1 ")
        with pytest.raises(smtplib.SMTPDataError) as data:
            client.sendmail("alice@example.test", ["bob@example.test"], message("as-bob", sender="bob@example.test"))
        assert (data.value.smtp_code, data.value.smtp_error[:6]) == (550, b"5.7.1 ")

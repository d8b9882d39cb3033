"""Messages to send, and `smtplib` as the mail program of a user of ours."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence

from tests.live.peers.daemon import Daemon


def message(token: str, body: bytes = b"Hello.\r\n", sender: str = "alice@example.test") -> bytes:
    """Make a whole message, one that submission finds nothing to add to; `token` stands in its Subject."""
    head = (
        f"From: <{sender}>\r\nTo: undisclosed-recipients:;\r\nSubject: {token}\r\n"
        f"Date: Sun, 22 Nov 2026 20:00:00 +0000\r\nMessage-ID: <{token}@client.test>\r\n\r\n"
    )
    return head.encode() + body


def unverified() -> ssl.SSLContext:
    """A client context that takes the demonstration's self-signed certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def log_in(daemon: Daemon, user: str = "alice", *, implicit: bool = False) -> smtplib.SMTP:
    """Connect to submission, by STARTTLS or by implicit TLS, and log in as a user."""
    client: smtplib.SMTP
    if implicit:
        client = smtplib.SMTP_SSL("127.0.0.1", daemon.smtps_port, timeout=30, context=unverified())
    else:
        client = smtplib.SMTP("127.0.0.1", daemon.smtpd_port, timeout=30)
        client.starttls(context=unverified())
    client.login(daemon.address(user), daemon.passwords[user])
    return client


def submit(daemon: Daemon, recipients: str | Sequence[str], content: bytes, user: str = "alice") -> None:
    """Submit a message as a user by STARTTLS; raises what `smtplib` raises."""
    with log_in(daemon, user) as client:
        client.sendmail(daemon.address(user), recipients, content)

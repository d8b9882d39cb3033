"""The peers themselves, without our server: when one of these fails, the fixture is at fault."""

from __future__ import annotations

import base64
import hashlib
import hmac
import imaplib
import os
import smtplib
from pathlib import Path

import pytest

from tests.live.peers.dovecot import Dovecot
from tests.live.peers.maildir import arrived
from tests.live.peers.postfix import Postfix
from tests.live.peers.process import NOBODY, free_ports
from tests.live.peers.sink import Received, Sink

pytestmark = pytest.mark.live


def scram_sha_256(password: bytes, salt: bytes = b"0123456789abcdef", iterations: int = 4096) -> str:
    """Make the verifier as RFC 5802 §3 defines it, in Dovecot's notation."""
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    parts = ",".join(base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"{{SCRAM-SHA-256}}{iterations},{parts}"


def test_postfix_delivers_to_its_maildir(postfix: Postfix) -> None:
    """Mail for Postfix's own domain lands in its Maildir, an unknown user is refused at RCPT."""
    with smtplib.SMTP("127.0.0.1", postfix.port) as client:
        refused = client.sendmail(
            "a@client.test", [f"carol@{postfix.domain}", f"nobody@{postfix.domain}"], "Subject: x\r\n\r\nbody\r\n"
        )
    assert refused[f"nobody@{postfix.domain}"][0] == 550
    assert arrived(postfix.maildir("carol"), b"a@client.test").endswith(b"\r\n\r\nbody\r\n")


def test_dovecot_reads_a_maildir_with_our_verifiers(place: Path) -> None:
    """Dovecot logs a user in with a SCRAM-SHA-256 verifier from `users` and reads the user's Maildir."""
    users = place / "etc/domains/example.test/users"
    users.parent.mkdir(parents=True)
    users.write_text(f"alice:{scram_sha_256(b'secret')}::::::\n")
    maildir = place / "mail/example.test/alice/Maildir"
    for part in ("tmp", "new", "cur"):
        (maildir / part).mkdir(parents=True)
    (maildir / "new/1.x").write_bytes(b"Subject: hello\r\n\r\nbody\r\n")
    for path in (place / "mail", *(place / "mail").rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    dovecot = Dovecot(place / "dovecot", free_ports(1)[0], place / "etc", place / "mail")
    try:
        with imaplib.IMAP4("127.0.0.1", dovecot.port) as client:
            with pytest.raises(imaplib.IMAP4.error):
                client.login("alice@example.test", "wrong")
            client.login("alice@example.test", "secret")
            assert client.select("INBOX") == ("OK", [b"1"]), dovecot.log
    finally:
        dovecot.stop()


def test_the_sink_keeps_octets_as_they_are() -> None:
    """The sink keeps envelope and content, 8-bit octets and leading dots included."""
    content = b"Subject: x\r\n\r\n.dot\r\n..dots\r\n\xff\xfe\r\n"
    with Sink({b"no@b.test": b"550 5.1.1 no"}) as sink:
        with smtplib.SMTP("127.0.0.1", sink.port) as client:
            refused = client.sendmail("a@b.test", ["c@b.test", "no@b.test"], content)
        assert sink.received == [Received(b"a@b.test", (b"c@b.test",), content)]
    assert refused == {"no@b.test": (550, b"5.1.1 no")}

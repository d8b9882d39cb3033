"""The Maildir as its user sees it: over IMAP, from a real Dovecot that reads our `users` file."""

from __future__ import annotations

import imaplib

import pytest

from tests.live.peers.daemon import Daemon
from tests.live.peers.dovecot import Dovecot
from tests.live.peers.mail import message, submit

pytestmark = pytest.mark.live


def test_dovecot_serves_what_was_delivered(daemon: Daemon, dovecot: Dovecot) -> None:
    """Bob logs in to Dovecot with the password that `mta init` made, and reads alice's message, octet by octet."""
    content = message("imap", "Grüße\r\n.dot\r\n".encode() + b"z" * 990 + b"\r\n")
    submit(daemon, "bob@example.test", content)
    with imaplib.IMAP4("127.0.0.1", dovecot.port, timeout=30) as client:
        with pytest.raises(imaplib.IMAP4.error):
            client.login("bob@example.test", daemon.passwords["alice"])
        client.login("bob@example.test", daemon.passwords["bob"])
        assert client.select("INBOX")[0] == "OK", dovecot.log
        _, found = client.search(None, "SUBJECT", "imap")
        _, fetched = client.fetch(found[0].split()[0].decode(), "(BODY.PEEK[])")
    assert isinstance(fetched[0], tuple)
    assert fetched[0][1].endswith(content)

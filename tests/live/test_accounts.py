"""Users, app passwords, accounts in trouble and caps, on a live daemon with two workers, and with a real Dovecot."""

from __future__ import annotations

import imaplib
import json
import re
import smtplib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon
from tests.live.peers.dovecot import Dovecot
from tests.live.peers.mail import message, unverified
from tests.live.peers.maildir import arrived
from tests.live.peers.process import eventually
from tests.live.peers.sink import Sink

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """The far end of sink.test."""
    with Sink() as listening:
        yield listening


@pytest.fixture(scope="module")
def daemon(start_daemon: StartDaemon, sink: Sink) -> Daemon:
    """A server with two workers that sends the mail for sink.test to the sink."""
    route = {"domain": "sink.test", "host": "[127.0.0.1]", "port": sink.port, "tls": "none"}
    return start_daemon({"workers": 2, "relay": {"route": [route]}})


def done(daemon: Daemon, *arguments: str) -> str:
    """Run a command that goes well; gives what it says."""
    result = daemon.mta(*arguments, "--config", str(daemon.settings_file))
    assert result.returncode == 0, result.stderr
    return result.stdout


def password_in(output: str) -> str:
    """The password that is shown once."""
    found = re.search(r"  (\S+)  \(it is shown this once\)", output)
    assert found is not None, output
    return found[1]


def connect(daemon: Daemon) -> smtplib.SMTP:
    """A connection to submission under TLS, before a login."""
    client = smtplib.SMTP("127.0.0.1", daemon.smtpd_port, timeout=30)
    client.starttls(context=unverified())
    client.ehlo()
    return client


def reply_to_login(daemon: Daemon, login: str, password: str) -> tuple[int, bytes]:
    """What a login gets."""
    with connect(daemon) as client:
        try:
            return client.login(login, password)
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code, error.smtp_error  # type: ignore[return-value]  # bytes, whatever typeshed says


def test_a_new_user_and_its_passwords_count_at_once(daemon: Daemon) -> None:
    """A login works when the command has ended, and is over when the command that takes it back has."""
    own = password_in(done(daemon, "user", "add", "carol@example.test", "--generate"))
    app = password_in(done(daemon, "user", "app-password", "add", "carol@example.test", "phone"))
    for password in (own, app):
        assert reply_to_login(daemon, "carol@example.test", password)[0] == 235
    assert "app_password=phone" in daemon.output
    done(daemon, "user", "app-password", "remove", "carol@example.test", "phone")
    assert reply_to_login(daemon, "carol@example.test", app)[1].startswith(b"5.7.8 ")
    new = password_in(done(daemon, "user", "passwd", "carol@example.test", "--generate"))
    assert reply_to_login(daemon, "carol@example.test", own)[0] == 535
    assert reply_to_login(daemon, "carol@example.test", new)[0] == 235
    done(daemon, "user", "remove", "carol@example.test")
    assert reply_to_login(daemon, "carol@example.test", new)[0] == 535


def test_a_new_alias_takes_mail_at_once(daemon: Daemon) -> None:
    """Mail for it lands in the Maildir of its user."""
    done(daemon, "alias", "add", "sales@example.test", "bob")
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as peer:
        peer.sendmail("x@sink.test", ["sales@example.test"], message("sales", sender="x@sink.test"))
    arrived(daemon.maildir("bob"), b"Subject: sales")


def test_a_disabled_account_sends_nothing_more(daemon: Daemon, sink: Sink) -> None:
    """Its sessions end with 421, its login gets 5.7.13, its queue is held; mail to it is taken; enabled it goes on."""
    login, password = daemon.address("alice"), daemon.passwords["alice"]
    sink.refusals[b"later@sink.test"] = b"451 4.2.0 not now"
    sessions = [connect(daemon) for _ in range(4)]
    for session in sessions:
        session.login(login, password)
    sessions[0].sendmail(login, ["later@sink.test"], message("held"))
    eventually(lambda: "not now" in done(daemon, "queue", "list", "--login", login), "a reason of waiting")
    output = done(daemon, "user", "disable", login, "--reason", "sends spam")
    assert "Ended: 4 sessions. Held in the queue: 1 message to 1 recipient." in output
    for session in sessions:
        assert session.getreply() == (421, b"4.7.13 This account is disabled; ask your postmaster")
    assert reply_to_login(daemon, login, password) == (535, b"5.7.13 This account is disabled; ask your postmaster")
    assert reply_to_login(daemon, login, "wrong")[1].startswith(b"5.7.8 ")
    (held,) = [json.loads(line) for line in done(daemon, "queue", "list", "--json", "--login", login).splitlines()]
    assert [each["state"] for each in held["recipients"]] == ["held"]
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as peer:
        peer.sendmail("x@sink.test", [login], message("to-the-disabled", sender="x@sink.test"))
    arrived(daemon.maildir("alice"), b"Subject: to-the-disabled")
    sink.refusals.clear()
    assert "Released in the queue: 1 message to 1 recipient." in done(daemon, "user", "enable", login)
    eventually(lambda: b"Subject: held" in b"".join(each.content for each in sink.received), "the mail that was held")
    assert reply_to_login(daemon, login, password)[0] == 235


def test_the_caps_of_a_day_survive_a_restart(start_daemon: StartDaemon) -> None:
    """The message past the cap is told when it may come again, also by the next process."""
    caps: dict[str, Any] = {"messages": 2}
    daemon = start_daemon({"smtpd": {"caps": caps}})
    login = daemon.address("alice")

    def submit() -> None:
        with connect(daemon) as client:
            client.login(login, daemon.passwords["alice"])
            client.sendmail(login, [daemon.address("bob")], message("cap"))

    submit()
    submit()
    assert "cap.reached" in daemon.output
    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            submit()
        ((code, text),) = refused.value.recipients.values()
        assert code == 450
        assert re.fullmatch(rb"4\.7\.1 2 messages are the most for a day; more after [0-9: -]{16} UTC", text)
        daemon.stop()
        daemon.start()
    daemon.change({"smtpd": {"caps": {"messages": 3}}})
    daemon.reload()
    submit()


def imap_login(dovecot: Dovecot, login: str, password: str) -> bool:
    """Whether Dovecot takes a login."""
    with imaplib.IMAP4("127.0.0.1", dovecot.port, timeout=30) as client:
        try:
            client.login(login, password)
        except imaplib.IMAP4.error:
            return False
        return True


def test_dovecot_reads_what_the_commands_write(daemon: Daemon, dovecot: Dovecot) -> None:
    """A new user, a new password, a disabled account and its end count for IMAP too, with nothing to do there.

    Dovecot looks at the file once a second.
    """
    login = "dora@example.test"

    def taken(*passwords: str) -> list[bool]:
        return [imap_login(dovecot, login, each) for each in passwords]

    first = password_in(done(daemon, "user", "add", login, "--generate"))
    eventually(lambda: taken(first) == [True], "the first password")
    second = password_in(done(daemon, "user", "passwd", login, "--generate"))
    app = password_in(done(daemon, "user", "app-password", "add", login, "phone"))
    eventually(lambda: taken(first, second, app) == [False, True, False], "the new password alone")
    done(daemon, "user", "disable", login, "--reason", 'left us: 25 % of the time, "quoted"')
    eventually(lambda: taken(second) == [False], "a disabled account")
    done(daemon, "user", "enable", login)
    eventually(lambda: taken(second) == [True], "an account in force again")

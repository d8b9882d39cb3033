"""Logins in trouble at smtpd: disabled accounts, app passwords, caps."""

from __future__ import annotations

from pathlib import Path

from mta.auth.verifier import make_scram_verifier
from mta.board.alone import OwnTable
from mta.observe.event import Kind
from mta.policy.caps import Caps, CapsMemory
from mta.settings.caps import CapsSettings
from tests.doubles.reception import PASSWORD, Post, Talk, etc
from tests.doubles.sync import inline
from tests.unit.test_receive_smtpd import plain

USERS = f"alice:{make_scram_verifier(PASSWORD, 4096, b'salt')}::::::"


def logged_in(post: Post) -> Talk:
    """A session of smtpd in which alice has logged in."""
    talk = post.session("smtpd", tls=True)
    assert talk.codes(plain("alice@example.test", PASSWORD)) == ["235 2.7.0"]
    return talk


def test_a_disabled_account_is_told_so(tmp_path: Path) -> None:
    """The right password gets 535 5.7.13, a wrong one what it always gets; the log has the reason, the peer has not."""
    users = f"{USERS}nologin disabled=2026-11-25,%20sent%20spam\nbob:!\n"
    post = Post(etc(tmp_path, extra={"users": users}))
    talk = post.session("smtpd", tls=True)
    answer = talk.send(plain("alice@example.test", PASSWORD))
    assert answer.startswith(b"535 5.7.13 ")
    assert b"spam" not in answer
    assert talk.send(plain("alice@example.test", "wrong")).startswith(b"535 5.7.8 ")
    reasons = [str(event.reason) for event in post.journal.events if event.kind is Kind.LOGIN_REFUSED]
    assert "alice@example.test is disabled: 2026-11-25, sent spam" in reasons[0]


def test_a_session_of_an_account_that_becomes_disabled_sends_no_more(tmp_path: Path) -> None:
    """The next MAIL after the reload gets 530 5.7.13."""
    post = Post(etc(tmp_path))
    talk = logged_in(post)
    assert talk.codes(b"MAIL FROM:<alice@example.test>\r\n") == ["250 2.1.0"]
    post.settings = etc(tmp_path, extra={"users": f"{USERS}nologin\nbob:!\n"})
    assert talk.send(b"RSET\r\nMAIL FROM:<alice@example.test>\r\n").splitlines()[1].startswith(b"530 5.7.13 ")


def test_the_log_says_which_password_was_used(tmp_path: Path) -> None:
    """A login has the name of its app password, or none."""
    apps = f"alice:phone:{make_scram_verifier('apple', 4096, b'salt')}\n"
    post = Post(etc(tmp_path, extra={"app-passwords": apps}))
    talk = post.session("smtpd", tls=True)
    assert talk.codes(plain("alice@example.test", "apple")) == ["235 2.7.0"]
    logged_in(post)
    used = [event.fields["app_password"] for event in post.journal.events if event.kind is Kind.LOGIN_ACCEPTED]
    assert used == ["phone", ""]


def capped(tmp_path: Path, **caps: int) -> Post:
    """A reception that counts what logins send."""
    post = Post(etc(tmp_path))
    memory = CapsMemory(str(tmp_path), 0, post.clock, inline, post.journal)
    memory.start()
    settings = CapsSettings(**caps)
    counts = memory.counts, memory.correspondents
    post.reception.caps = Caps(lambda: settings, *counts, post.clock, post.journal, OwnTable())
    return post


def test_a_login_past_its_cap_is_told_when_it_may_go_on(tmp_path: Path) -> None:
    """The message past the cap gets 450 4.7.1 at its first recipient; those before went out."""
    post = capped(tmp_path, messages=2)
    talk = logged_in(post)
    message = b"RSET\r\nMAIL FROM:<alice@example.test>\r\nRCPT TO:<x@example.net>\r\n"
    for _ in range(2):
        assert talk.codes(message)[-1] == "250 2.1.5"
        talk.send(b"DATA\r\n")
        assert talk.codes(b"From: alice@example.test\r\n\r\nx\r\n.\r\n") == ["250 2.0.0"]
    answer = talk.send(message).splitlines()[-1]
    assert answer == b"450 4.7.1 2 messages are the most for a day; more after 2023-11-15 22:14 UTC"


def test_recipients_of_ours_are_not_counted(tmp_path: Path) -> None:
    """A login that has written to all the new recipients of its day still writes to those of our domains."""
    post = capped(tmp_path, first_time_recipients=2)
    talk = logged_in(post)
    talk.send(b"MAIL FROM:<alice@example.test>\r\n")
    named = b"".join(b"RCPT TO:<%s>\r\n" % each for each in (b"bob@example.test", b"x@a.example", b"y@a.example"))
    assert talk.codes(named) == ["250 2.1.5"] * 3
    assert talk.codes(b"RCPT TO:<z@a.example>\r\nRCPT TO:<alice@example.test>\r\n") == ["450 4.7.1", "250 2.1.5"]


def test_a_message_that_is_refused_uses_up_nothing(tmp_path: Path) -> None:
    """A From that is not the login's is refused, and the one message of the day is still there."""
    post = capped(tmp_path, messages=1)
    talk = logged_in(post)
    message = b"RSET\r\nMAIL FROM:<alice@example.test>\r\nRCPT TO:<x@example.net>\r\nDATA\r\n"
    talk.send(message)
    assert talk.codes(b"From: bob@example.test\r\n\r\nx\r\n.\r\n") == ["550 5.7.1"]
    assert talk.codes(message)[-1] == "354"

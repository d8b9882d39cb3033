"""Logins in trouble at smtpd: disabled accounts, app passwords, caps."""

from __future__ import annotations

from pathlib import Path

from mta.auth.verifier import make_scram_verifier
from mta.observe.event import Kind
from tests.doubles.reception import PASSWORD, Post, Talk, etc
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

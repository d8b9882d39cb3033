"""The rules of smtpd: who may submit, as whom, and what is added."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet import defer

from mta.auth.checker import Accepted
from mta.mail.reason import Reason
from mta.observe.event import Kind
from mta.settings.directory import Directory
from tests.doubles.reception import PASSWORD, TOML, Post, Talk, etc

NETWORK = """
[[smtpd.network]]
name = "printers"
addresses = ["198.51.100.0/28"]
submit_without_login = true
senders = ["scanner@example.test"]
messages_per_hour = 3
recipients = 2
"""
FROM_ALICE = b"From: alice@example.test\r\nSubject: hello\r\n\r\nbody\r\n"


@pytest.fixture
def post(tmp_path: Path) -> Post:
    """Make a reception with a network that submits without a login, and an exception for alice."""
    extra = {"domain.toml": '[senders]\nalice = ["news@example.net"]\n'}
    return Post(etc(tmp_path, TOML + NETWORK, extra=extra))


def plain(login: str = "alice@example.test", password: str = PASSWORD, identity: str = "") -> bytes:
    """Make AUTH PLAIN with an initial response."""
    return b"AUTH PLAIN " + base64.b64encode(f"{identity}\0{login}\0{password}".encode()) + b"\r\n"


def alice(post: Post) -> Talk:
    """Open a session under TLS in which alice is logged in."""
    talk = post.session("smtpd", tls=True)
    assert talk.codes(plain()) == ["235 2.7.0"]
    return talk


def submit(
    talk: Talk,
    content: bytes = FROM_ALICE,
    sender: str = "alice@example.test",
    recipient: str = "bob@example.test",
) -> list[str]:
    """Submit a message; return the replies."""
    opening = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
    return talk.codes(opening + content + b".\r\n")


def test_nothing_is_taken_without_a_login(post: Post) -> None:
    """Fully pipelined to DATA, every command gets its own refusal, MAIL 530 5.7.0, and never 354 (row 29)."""
    for tls in (False, True):
        talk = post.session("smtpd", tls=tls)
        answers = talk.codes(b"MAIL FROM:<alice@example.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
        assert answers[0] == "530 5.7.0"
        assert all(answer[0] == "5" for answer in answers)


def test_auth_needs_tls(post: Post) -> None:
    """In clear text AUTH is not offered, and refused without a look at the password (row 18)."""
    talk = post.session("smtpd")
    assert b"AUTH" not in talk.send(b"EHLO again.example.org\r\n")
    assert talk.codes(plain())[0] in ("538 5.7.11", "530 5.7.0", "503 5.5.1")
    assert post.journal.of(Kind.LOGIN_ACCEPTED) == []
    assert post.journal.of(Kind.LOGIN_REFUSED) == []


def test_a_named_network_may_log_in_without_tls(tmp_path: Path) -> None:
    """Where the administrator allows it AUTH is offered in clear text, to that network alone."""
    network = '[[smtpd.network]]\nname = "lab"\naddresses = ["198.51.100.0/28"]\nauth_without_tls = true\n'
    post = Post(etc(tmp_path, TOML + network))
    assert post.session("smtpd", address="198.51.100.3").codes(plain()) == ["235 2.7.0"]
    assert post.session("smtpd", address="198.51.100.99").codes(plain()) != ["235 2.7.0"]


def test_a_login_submits_and_the_trace_says_so(post: Post) -> None:
    """Alice's message to bob lies in his Maildir with ESMTPSA in its trace, and alice in the event."""
    assert submit(alice(post))[-1] == "250 2.0.0"
    [stored] = post.maildir("bob")
    assert b"with ESMTPSA id" in stored
    [event] = post.journal.of(Kind.MESSAGE_ACCEPTED)
    assert str(event.fields["allowed"]).startswith("alice@example.test leads to alice@example.test [")
    assert event.reason is not None
    assert event.reason.text == "in the Maildir of bob@example.test"
    assert event.reason.source.endswith("example.test/users:2")


def test_wrong_password_and_unknown_user_get_the_same_answer(post: Post) -> None:
    """The text of the refusal does not tell which it was (row 24)."""
    talk = post.session("smtpd", tls=True)
    wrong = talk.send(plain(password="guess"))
    unknown = talk.send(plain(login="nobody@example.test"))
    assert wrong == unknown
    assert wrong.startswith(b"535 5.7.8 ")
    assert len(post.journal.of(Kind.LOGIN_REFUSED)) == 2


@pytest.mark.parametrize("between", [b"", b"NOOP\r\n", b"MAIL FROM:<alice@example.test>\r\n"])
def test_a_login_that_comes_too_late_is_none(post: Post, between: bytes) -> None:
    """After a 451 in place of the 235 nobody is logged in, whatever the checker finds later: MAIL gets 530."""
    talk = post.session("smtpd", tls=True)
    late: defer.Deferred[object] = defer.Deferred()
    checker, post.reception.checker = post.reception.checker, LateChecker(late)  # type: ignore[assignment]  # its double
    assert talk.send(plain()) == b""
    assert talk.give_up().startswith(b"451 ")
    talk.send(between)
    account = post.reception.settings.directory.account("alice@example.test")
    assert account is not None
    late.callback(Accepted(account, Reason("the password is right")))
    assert talk.codes(b"MAIL FROM:<alice@example.test>\r\n") == ["530 5.7.0"]
    post.reception.checker = checker
    assert talk.codes(plain()) == ["235 2.7.0"]
    assert talk.codes(b"MAIL FROM:<alice@example.test>\r\n") == ["250 2.1.0"]


class LateChecker:
    """Answers when the test does."""

    def __init__(self, answer: defer.Deferred[object]) -> None:
        self._answer = answer

    async def authenticate(self, *asked: object) -> object:
        """See `Checker`."""
        return await self._answer


def test_the_rate_of_a_network_outlives_a_reload(post: Post, tmp_path: Path) -> None:
    """Messages are counted for a network, not for the line of the file that it stands in."""
    for _ in range(3):
        talk = post.session("smtpd", address="198.51.100.3")
        assert talk.codes(b"MAIL FROM:<scanner@example.test>\r\n") == ["250 2.1.0"]
    (tmp_path / "again").mkdir()
    post.settings = etc(tmp_path / "again", TOML + "# moved\n" + NETWORK)
    talk = post.session("smtpd", address="198.51.100.3")
    assert talk.codes(b"MAIL FROM:<scanner@example.test>\r\n") == ["450 4.7.0"]


def test_25_guessing_ends_the_session(post: Post) -> None:
    """Row 25: the tenth wrong password of a session, whatever the accounts, gets 421 and the end of it."""
    talk = post.session("smtpd", tls=True)
    guesses = [talk.codes(plain(login=f"user{number}@example.test"))[0] for number in range(10)]
    assert guesses == ["535 5.7.8"] * 9 + ["421 4.7.0"]
    assert talk.core.closing
    assert post.session("smtpd", tls=True).codes(plain()) == ["235 2.7.0"]


def test_an_authorization_identity_must_be_the_login(post: Post) -> None:
    """PLAIN that asks to act as somebody else is refused; as oneself it is fine (RFC 4616 §2, row 22)."""
    talk = post.session("smtpd", tls=True)
    assert talk.codes(plain(identity="bob@example.test")) == ["535 5.7.8"]
    assert talk.codes(b"MAIL FROM:<alice@example.test>\r\n") == ["530 5.7.0"]
    assert talk.codes(plain(identity="Alice@Example.Test")) == ["235 2.7.0"]


def test_a_login_survives_rset_and_ehlo(post: Post) -> None:
    """RSET and EHLO end a transaction, not the login (row 26)."""
    talk = alice(post)
    assert talk.codes(b"RSET\r\nEHLO again.example.org\r\n") == ["250 2.0.0", "250"]
    assert submit(talk)[-1] == "250 2.0.0"


@pytest.mark.parametrize(
    ("sender", "answer"),
    [
        ("alice@example.test", "250 2.1.0"),
        ("ALICE@example.test", "250 2.1.0"),
        ("alice+news@example.test", "250 2.1.0"),
        ("sales@example.test", "250 2.1.0"),
        ("team@example.test", "250 2.1.0"),
        ("news@example.net", "250 2.1.0"),
        ("", "250 2.1.0"),
        ("bob@example.test", "553 5.7.1"),
        ("nobody@example.test", "553 5.7.1"),
        ("alice@example.net", "553 5.7.1"),
        ("alice@example.test.example.net", "553 5.7.1"),
    ],
)
def test_the_sender_must_belong_to_the_login(post: Post, sender: str, answer: str) -> None:
    """Own address, subaddress, alias, or the exception in domain.toml; anything else is 553 5.7.1."""
    assert alice(post).codes(f"MAIL FROM:<{sender}>\r\n".encode()) == [answer]


@pytest.mark.parametrize(
    ("field", "answer"),
    [
        (b"From: Alice <alice@example.test>\r\n", "250 2.0.0"),
        (b"From: =?utf-8?q?Al=C3=AFce?= <sales@example.test>\r\n", "250 2.0.0"),
        (b"from\t: alice@example.test,\r\n sales@example.test\r\n", "250 2.0.0"),
        (b"From: bob@example.test\r\n", "550 5.7.1"),
        (b"From: alice@example.test, bob@example.test\r\n", "550 5.7.1"),
        (b'From: "alice@example.test" <bob@example.test>\r\n', "550 5.7.1"),
        (b"From: alice@example.test\r\nFrom: bob@example.test\r\n", "550 5.7.1"),
        (b"From:\r\n", "550 5.7.1"),
        (b"", "550 5.7.1"),
        (b"From: alice@example.test <alice@example.test\r\n", "550 5.7.1"),
    ],
)
def test_from_must_belong_to_the_login(post: Post, field: bytes, answer: str) -> None:
    """Every address of the one From field must be the login's; what cannot be read is refused (row 55)."""
    assert submit(alice(post), field + b"Subject: x\r\n\r\nbody\r\n")[-1] == answer


def test_date_and_message_id_are_added_and_nothing_else_is_touched(post: Post) -> None:
    """Missing Date and Message-ID stand behind the trace, the message follows octet for octet (RFC 6409 §8)."""
    submit(alice(post))
    [stored] = post.maildir("bob")
    queue_id = post.journal.of(Kind.MESSAGE_ACCEPTED)[0].queue_id.encode()
    added = b"Date: Tue, 14 Nov 2023 22:13:20 +0000\nMessage-ID: <" + queue_id + b"@mx.example.test>\n"
    assert stored.endswith(added + FROM_ALICE.replace(b"\r\n", b"\n"))


def test_a_date_that_is_there_stays(post: Post) -> None:
    """A message with both fields gets neither, however malformed they are."""
    content = b"Date: yesterday\r\nMessage-Id: none\r\n" + FROM_ALICE
    submit(alice(post), content)
    [stored] = post.maildir("bob")
    assert stored.endswith(b" +0000\n" + content.replace(b"\r\n", b"\n"))
    assert stored.lower().count(b"\nmessage-id:") == 1


def test_mail_to_elsewhere_is_queued(post: Post) -> None:
    """A submission to another domain waits in the spool for it, with the login that sent it."""
    assert submit(alice(post), recipient="somebody@example.net")[-1] == "250 2.0.0"
    [queued] = post.spool.page()
    assert queued.recipients[0].destination == "example.net"
    assert (queued.origin.service, queued.origin.login) == ("smtpd", "alice@example.test")


def test_an_unknown_mailbox_of_ours_is_refused_at_once(post: Post) -> None:
    """550 5.1.1 at RCPT spares the sender a bounce."""
    assert submit(alice(post), recipient="nobody@example.test")[1] == "550 5.1.1"


def test_a_named_network_submits_as_its_senders_only(post: Post) -> None:
    """A printer needs no login, may be the scanner and nobody else, in the envelope and in From."""
    talk = post.session("smtpd", address="198.51.100.3")
    content = b"From: scanner@example.test\r\n\r\nscan\r\n"
    assert submit(talk, content, "scanner@example.test")[-1] == "250 2.0.0"
    assert submit(talk, content, "alice@example.test")[0] == "553 5.7.1"
    assert submit(talk, FROM_ALICE, "scanner@example.test")[-1] == "550 5.7.1"
    assert submit(post.session("smtpd", address="198.51.100.99"), content, "scanner@example.test")[0] == "530 5.7.0"


def test_a_named_network_has_an_hourly_rate(post: Post) -> None:
    """The fourth message within an hour is 450 4.7.0; an hour later there is room again."""
    talk = post.session("smtpd", address="198.51.100.3")
    content = b"From: scanner@example.test\r\n\r\nscan\r\n"
    answers = [submit(talk, content, "scanner@example.test")[0] for _ in range(4)]
    assert answers == ["250 2.1.0"] * 3 + ["450 4.7.0"]
    post.clock.advance(1200)
    assert submit(talk, content, "scanner@example.test")[0] == "250 2.1.0"


def test_a_named_network_has_a_bound_on_recipients(post: Post) -> None:
    """The third recipient of a message without a login is 452 4.5.3; the others are served."""
    talk = post.session("smtpd", address="198.51.100.3")
    rcpt = b"".join(f"RCPT TO:<{name}@example.test>\r\n".encode() for name in ("alice", "bob", "sales"))
    assert talk.codes(b"MAIL FROM:<scanner@example.test>\r\n" + rcpt) == [
        "250 2.1.0",
        "250 2.1.5",
        "250 2.1.5",
        "452 4.5.3",
    ]


def test_a_login_that_was_removed_sends_no_more(post: Post) -> None:
    """After a reload without alice her live session gets 530 at the next MAIL; others go on."""
    talk = alice(post)
    assert submit(talk)[-1] == "250 2.0.0"
    settings = post.reception.settings
    domain = settings.directory.domains["example.test"]
    without = replace(domain, accounts=tuple(a for a in domain.accounts if a.login != "alice@example.test"))
    post.settings = replace(settings, directory=Directory([without]))
    assert talk.codes(b"MAIL FROM:<alice@example.test>\r\n") == ["530 5.7.0"]


def test_everything_before_tls_is_forgotten(post: Post) -> None:
    """MAIL before STARTTLS does not count after it (row 13)."""
    talk = post.session("smtpd")
    assert talk.codes(b"STARTTLS\r\n") == ["220 2.0.0"]
    talk.core.tls_started()
    talk.session.secured(post.session("smtpd", tls=True).peer.tls, None)
    assert talk.codes(plain())[0] == "503 5.5.1"
    talk.send(b"EHLO client.example.org\r\n")
    assert talk.codes(plain()) == ["235 2.7.0"]

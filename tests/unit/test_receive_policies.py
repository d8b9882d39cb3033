"""Policies at a session: what each verdict becomes, at each stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from twisted.internet import defer

from mta.mail.reason import Reason
from mta.observe.event import Kind
from mta.policy.chain import Chain
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import (
    AddHeader,
    AddRecipient,
    Answer,
    ChangeHeader,
    ChangeSender,
    Defer,
    Delay,
    Discard,
    File,
    Hold,
    Opinion,
    Redirect,
    Reject,
    RemoveRecipient,
    ReplaceBody,
    Tag,
)
from mta.receive.staging import MEMORY_MAXIMUM
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.smtp.reply import reply
from mta.spool.port import StagedContent, State
from tests.doubles.reception import Post, etc
from tests.doubles.spool import whole

WHY = Reason("because", "policy.py:1")
ALICE, BOB = Mailbox("alice", "example.test"), Mailbox("bob", "example.test")
DIALOGUE = {
    Stage.HELO: b"EHLO client.example.org\r\n",
    Stage.MAIL: b"MAIL FROM:<a@example.org>\r\n",
    Stage.RCPT: b"RCPT TO:<bob@example.test>\r\n",
    Stage.DATA: b"DATA\r\n",
    Stage.HEADERS: b"Subject: x\r\n\r\nbody\r\n.\r\n",
}


@dataclass
class Rule:
    """A policy for some stages."""

    says: Callable[[Facts], Answer]
    stages: frozenset[Stage]
    name: str = "rule"
    asked: list[Facts] = field(default_factory=list)

    def ask(self, facts: Facts) -> Answer:
        """Judge."""
        self.asked.append(facts)
        return self.says(facts)


def post_with(root: Path, opinion: Answer | Callable[[Facts], Answer], *stages: Stage) -> tuple[Post, Rule]:
    """Make a reception with one policy."""
    post = Post(etc(root))
    rule = Rule(opinion if callable(opinion) else lambda _: opinion, frozenset(stages))
    post.chain = Chain([rule])
    return post, rule


def mail(post: Post, *recipients: str, content: bytes = b"Subject: x\r\n\r\nbody\r\n") -> bytes:
    """Send a message; return the last reply."""
    talk = post.session()
    talk.send(DIALOGUE[Stage.MAIL])
    for each in recipients or ("bob@example.test",):
        talk.send(f"RCPT TO:<{each}>\r\n".encode())
    talk.send(b"DATA\r\n")
    return talk.send(content + b".\r\n")


@pytest.mark.parametrize("stage", DIALOGUE)
@pytest.mark.parametrize("later", [False, True])
def test_a_refusal_becomes_the_reply_of_its_stage(tmp_path: Path, stage: Stage, later: bool) -> None:
    """Whether it comes at once or later, the reply of the policy is the reply to that command, and nothing is kept."""
    refusal = Reject(WHY, reply(550, status.REFUSED, "Not this"))
    waiting: defer.Deferred[Opinion] = defer.Deferred()
    post, rule = post_with(tmp_path, waiting if later else refusal, stage)
    talk = post.session(hello=False)
    for at, octets in DIALOGUE.items():
        written = talk.send(octets)
        if at is stage:
            break
        assert written[:1] in b"23", (at, written)
    if later:
        assert written == b""
        waiting.callback(refusal)
        written = talk.more()
    assert written == b"550 5.7.1 Not this\r\n"
    assert [facts.stage for facts in rule.asked] == [stage]
    assert post.maildir("bob") == []
    assert any(event.reason == WHY and event.fields.get("reply") for event in post.journal.events)


def test_tls_washes_no_mark_off(tmp_path: Path) -> None:
    """Tags of the connection, and that the peer talked before its greeting, hold after STARTTLS; what was said of its
    first EHLO does not.
    """
    waiting: defer.Deferred[Opinion] = defer.Deferred()

    def says(facts: Facts) -> Answer:
        return waiting if facts.stage is Stage.CONNECT else Tag(WHY, f"said-{facts.helo}")

    post, rule = post_with(tmp_path, says, Stage.CONNECT, Stage.HELO)
    talk = post.session(hello=False)
    talk.send(b"EHLO first.example\r\nSTARTTLS\r\n")
    waiting.callback(Tag(WHY, "listed"))
    talk.more()
    talk.core.tls_started()
    talk.session.secured(post.session(tls=True, hello=False).peer.tls, None)
    talk.send(b"EHLO second.example\r\nMAIL FROM:<>\r\n")
    first, second = [facts for facts in rule.asked if facts.stage is Stage.HELO]
    assert (first.early, second.early) == (True, True)
    assert (first.tags, second.tags) == ({"listed"}, {"listed"})


@pytest.mark.parametrize("code", [554, 421])
def test_a_refused_connection_gets_no_greeting(tmp_path: Path, code: int) -> None:
    """At connect a refusal stands in place of the greeting."""
    refusal = Reject(WHY, reply(code, status.REFUSED, "Go away"))
    post, _ = post_with(tmp_path, refusal, Stage.CONNECT)
    talk = post.session(hello=False)
    assert talk.greeting == f"{code} 5.7.1 Go away\r\n".encode()
    assert [event.reason for event in post.journal.events if event.kind is Kind.SESSION_REFUSED] == [WHY]


def test_facts_grow_with_the_session(tmp_path: Path) -> None:
    """Each stage tells what is known by then; the end of the message tells all."""
    post, rule = post_with(tmp_path, None, *Stage)
    mail(post, "bob@example.test", "alice@example.test")
    assert [facts.stage.value for facts in rule.asked] == [
        *("connect", "helo", "mail", "rcpt", "rcpt", "data", "headers", "message"),
    ]
    connect, *_, last = rule.asked
    assert (connect.service, connect.address, connect.session) == ("mx", "192.0.2.7", "session1")
    assert (last.helo, str(last.sender), last.recipients) == ("client.example.org", "a@example.org", (BOB, ALICE))
    assert (last.head, last.size, last.queue_id != "") == (b"Subject: x\r\n", 20, True)
    assert last.body is not None
    assert b"".join(last.body.pieces()) == b"body\r\n"
    assert rule.asked[3].recipient == BOB


def test_a_peer_that_talks_before_it_is_greeted_is_noticed(tmp_path: Path) -> None:
    """Octets that come while the greeting is delayed are remembered as early; they are answered all the same."""
    post, rule = post_with(
        tmp_path, lambda facts: Delay(WHY, 3) if facts.stage is Stage.CONNECT else None, Stage.CONNECT, Stage.HELO
    )
    talk = post.session(hello=False)
    assert talk.greeting == b""
    assert talk.send(DIALOGUE[Stage.HELO]) == b""
    post.clock.advance(3)
    assert talk.more().startswith(b"220 ")
    assert rule.asked[-1].early
    patient = post.session(hello=False)
    post.clock.advance(3)
    patient.more()
    patient.send(DIALOGUE[Stage.HELO])
    assert not rule.asked[-1].early


def test_a_message_is_changed_before_its_trace_fields(tmp_path: Path) -> None:
    """Fields are added and changed and the body is replaced below our Received field."""
    changes = [
        AddHeader(WHY, "X-Seen", "yes"),
        ChangeHeader(WHY, "Subject", 1, "y"),
        ReplaceBody(WHY, b"new\r\n"),
    ]
    post, _ = post_with(tmp_path, changes, Stage.MESSAGE)
    assert mail(post).startswith(b"250 ")
    [stored] = post.maildir("bob")
    head, _, body = stored.partition(b"\n\n")
    assert body == b"new\n"
    assert b"\nX-Seen: yes\nSubject: y" in head
    assert head.index(b"Received:") < head.index(b"X-Seen")


def test_a_large_message_is_changed_without_its_body_being_read(tmp_path: Path) -> None:
    """Fields of a message whose body is in a file are changed, and body and size are right."""
    post, _ = post_with(tmp_path, AddHeader(WHY, "X-Seen", "yes"), Stage.MESSAGE)
    body = b"0123456789\r\n" * (MEMORY_MAXIMUM // 10)
    both = "bob@example.test", "alice@example.test"
    assert mail(post, *both, content=b"Subject: x\r\n\r\n" + body).startswith(b"250 ")
    [message] = post.handed
    assert isinstance(message.content, StagedContent)
    content = whole(post.spool.content(message.queue_id))
    assert content.endswith(b"X-Seen: yes\r\nSubject: x\r\n\r\n" + body)
    assert len(content) == message.size


def test_verdicts_about_the_envelope(tmp_path: Path) -> None:
    """Sender and recipients are changed in the order of the verdicts; each mailbox gets one copy."""
    verdicts = [
        ChangeSender(WHY, None),
        RemoveRecipient(WHY, BOB),
        AddRecipient(WHY, Mailbox("x", "example.net")),
        AddRecipient(WHY, Mailbox("x", "example.net")),
    ]
    post, _ = post_with(tmp_path, verdicts, Stage.MESSAGE)
    assert mail(post, "bob@example.test", "alice@example.test").startswith(b"250 ")
    [message] = post.handed
    assert message.envelope.reverse_path is None
    assert [str(each.mailbox) for each in message.envelope.recipients] == ["alice@example.test", "x@example.net"]


@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.MESSAGE])
def test_a_redirect_takes_the_place_of_recipients(tmp_path: Path, stage: Stage) -> None:
    """At RCPT it replaces the one recipient, at the end of the message all."""
    post, _ = post_with(
        tmp_path, lambda facts: Redirect(WHY, ALICE) if facts.recipient in (None, BOB) else None, stage
    )
    recipients = ("bob@example.test",) if stage is Stage.RCPT else ("bob@example.test", "outside@example.test")
    assert mail(post, *recipients).startswith(b"250 ")
    assert (len(post.maildir("alice")), len(post.maildir("bob")), post.handed) == (1, 0, [])


def test_a_message_is_filed_into_a_folder(tmp_path: Path) -> None:
    """A copy for one mailbox goes into the folder at once; from the queue the folder is kept with the recipient."""
    post, _ = post_with(tmp_path, File(WHY, "Junk"), Stage.MESSAGE)
    assert mail(post).startswith(b"250 ")
    assert len(post.simulated.files("/mail/example.test/bob/Maildir/.Junk/new")) == 1
    assert mail(post, "team@example.test").startswith(b"250 ")
    [message] = post.handed
    assert {each.folder for each in message.envelope.recipients} == {"Junk"}


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.HEADERS, Stage.MESSAGE])
def test_a_held_message_waits_in_the_queue(tmp_path: Path, stage: Stage) -> None:
    """Whenever it was said, the message is taken, stands in the queue with the reason, and is not handed over."""
    post, _ = post_with(tmp_path, Hold(WHY), stage)
    assert mail(post).startswith(b"250 ")
    [queued] = post.spool.page()
    assert [(each.state, each.reason) for each in queued.recipients] == [(State.HELD, WHY)]
    assert (post.handed, post.maildir("bob")) == ([], [])


@pytest.mark.parametrize("size", [20, MEMORY_MAXIMUM + 1])
def test_a_discarded_message_ends_with_its_reason(tmp_path: Path, size: int) -> None:
    """It gets 250, goes nowhere, leaves no file, and its end is an event."""
    post, _ = post_with(tmp_path, Discard(WHY), Stage.MESSAGE)
    assert mail(post, content=b"Subject: x\r\n\r\n" + b"x" * size + b"\r\n").startswith(b"250 2.0.0 queued as ")
    assert (post.maildir("bob"), post.spool.page(), post.simulated.files("/state/staging")) == ([], [], {})
    [event] = [event for event in post.journal.events if event.kind is Kind.MESSAGE_DISCARDED]
    assert event.reason == WHY


def test_tags_of_the_session_stay_and_those_of_a_message_go(tmp_path: Path) -> None:
    """A word said before MAIL is known for the whole session, one said later until the message ends."""
    post, rule = post_with(
        tmp_path, lambda facts: Tag(WHY, facts.stage.value), Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.MESSAGE
    )
    talk = post.session()
    for _ in range(2):
        talk.send(DIALOGUE[Stage.MAIL] + DIALOGUE[Stage.RCPT] + b"DATA\r\n")
        talk.send(DIALOGUE[Stage.HEADERS])
    of_each = [["helo"], ["helo", "mail"], ["helo", "mail", "rcpt"]]
    assert [sorted(facts.tags) for facts in rule.asked[1:]] == of_each * 2


def test_a_verdict_that_comes_too_late_changes_nothing(tmp_path: Path) -> None:
    """When the peer had its 451, what policies then say of the message commits nothing and leaves no file."""
    waiting: defer.Deferred[Opinion] = defer.Deferred()
    post, _ = post_with(tmp_path, waiting, Stage.MESSAGE)
    talk = post.session()
    for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA):
        talk.send(DIALOGUE[stage])
    assert talk.send(b"Subject: x\r\n\r\n" + b"x" * MEMORY_MAXIMUM + b"\r\n.\r\n") == b""
    assert talk.give_up().startswith(b"451 ")
    waiting.callback(None)
    assert (post.maildir("bob"), post.spool.page(), post.simulated.files("/state/staging")) == ([], [], {})


def test_a_bug_of_a_policy_leaves_no_file(tmp_path: Path) -> None:
    """A policy that raises at the end of a message fails the answer, which becomes 451, and what was staged is gone."""
    waiting: defer.Deferred[Opinion] = defer.Deferred()
    post, _ = post_with(tmp_path, waiting, Stage.MESSAGE)
    talk = post.session()
    for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA):
        talk.send(DIALOGUE[stage])
    talk.send(b"Subject: x\r\n\r\n" + b"x" * MEMORY_MAXIMUM + b"\r\n.\r\n")
    failures: list[object] = []
    assert talk.waiting is not None
    talk.waiting.addErrback(lambda failure: failures.append(failure.value))
    waiting.errback(ValueError("bug"))
    assert isinstance(failures[0], ValueError)
    assert post.simulated.files("/state/staging") == {}


def test_unknown_recipients_are_counted(tmp_path: Path) -> None:
    """A policy sees how many mailboxes that do not exist a session has named."""
    post, rule = post_with(tmp_path, Defer(WHY), Stage.RCPT)
    talk = post.session()
    talk.send(DIALOGUE[Stage.MAIL])
    for number in range(3):
        assert talk.send(f"RCPT TO:<no{number}@example.test>\r\n".encode()).startswith(b"550 5.1.1")
    assert talk.send(DIALOGUE[Stage.RCPT]).startswith(b"450 ")
    assert rule.asked[-1].unknown_recipients == 3


@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.MESSAGE])
def test_a_redirect_that_leads_nowhere_loses_no_mail(tmp_path: Path, stage: Stage) -> None:
    """One to a mailbox that does not exist is put off with 451 and the place of the policy; nothing is discarded."""
    post, _ = post_with(tmp_path, Redirect(WHY, Mailbox("nobody", "example.test")), stage)
    talk = post.session()
    talk.send(DIALOGUE[Stage.MAIL])
    answer = talk.send(DIALOGUE[Stage.RCPT])
    if stage is Stage.MESSAGE:
        talk.send(b"DATA\r\n")
        answer = talk.send(DIALOGUE[Stage.HEADERS])
    assert answer == b"451 4.3.0 A local policy sends this nowhere; try again later\r\n"
    [refused] = [event for event in post.journal.events if event.kind in (Kind.RECIPIENT_REFUSED, Kind.MESSAGE_REFUSED)]
    assert refused.reason is not None
    assert (refused.reason.source, "nobody@example.test" in refused.reason.text) == (WHY.source, True)
    assert (post.maildir("bob"), post.spool.page()) == ([], [])


def test_a_bug_before_the_commit_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised while a large message is put together, with nobody to wait for, leaves no file."""
    post = Post(etc(tmp_path))

    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr("mta.receive.acceptance.without_forged", broken)
    talk = post.session()
    for stage in (Stage.MAIL, Stage.RCPT, Stage.DATA):
        talk.send(DIALOGUE[stage])
    with pytest.raises(ZeroDivisionError):
        talk.send(b"Subject: x\r\n\r\n" + b"x" * MEMORY_MAXIMUM + b"\r\n.\r\n")
    assert post.simulated.files("/state/staging") == {}


def test_who_keeps_sessions_learns_of_a_message_refused_for_its_head(tmp_path: Path) -> None:
    """A filter that was told of MAIL and RCPT is told that the message is gone, also where its head was refused."""
    told: list[str] = []

    class Keeps(Rule):
        def reset(self, session: str) -> None:
            told.append(session)

        def closed(self, session: str) -> None:
            """Nothing."""

    post = Post(etc(tmp_path))
    post.chain = Chain([Keeps(lambda _: Reject(WHY), frozenset({Stage.HEADERS}))])
    assert mail(post).startswith(b"550 ")
    assert told == ["session1"]

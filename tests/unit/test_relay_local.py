"""Delivery from the queue into Maildirs."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet import defer

from mta.mail.envelope import Envelope, Recipient
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.reason import Reason
from mta.maildir.store import MaildirStore, Ownership
from mta.relay.local import LARGE, LocalDelivery
from mta.settings.expansion import LOCAL
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.spool.port import Origin, QueuedMessage, QueuedRecipient, State
from tests.doubles.reception import Post, etc
from tests.doubles.sync import inline, result
from tests.doubles.threads import HeldThreads

BOB = Mailbox("bob", "example.test")
CONTENT = b"Received: from x\r\nReturn-Path: <forged@example.net>\r\nSubject: hello\r\n\r\nbody\r\n"
ID = "1m82h1n5t000a6zaew"


@pytest.fixture
def post(tmp_path: Path) -> Post:
    """Make Maildirs and a directory."""
    return Post(etc(tmp_path))


def deliver(
    post: Post, *recipients: QueuedRecipient, content: bytes = CONTENT, replay: bool = False
) -> dict[int, Outcome]:
    """Make one attempt."""
    local = LocalDelivery(post.store, lambda: post.reception.settings.directory, inline)
    return result(start(local, *recipients, content=content, replay=replay))


def start(
    local: LocalDelivery,
    *recipients: QueuedRecipient,
    content: bytes = CONTENT,
    replay: bool = False,
    queue_id: str = ID,
) -> defer.Deferred[dict[int, Outcome]]:
    """Begin one attempt."""
    envelope = Envelope(Mailbox("peer", "example.org"), tuple(r.recipient for r in recipients))
    message = QueuedMessage(queue_id, 0.0, envelope, len(content), False, Origin("mx"), recipients, replay)
    return defer.ensureDeferred(local.deliver(message, content, recipients))


def to(mailbox: Mailbox, number: int = 0, original: Mailbox | None = None) -> QueuedRecipient:
    """Make a recipient in the queue."""
    recipient = Recipient(mailbox, original)
    return QueuedRecipient(number, recipient, LOCAL, State.ACTIVE, 0.0, 0, 0, None, False)


def test_each_mailbox_gets_its_copy_with_its_own_trace(post: Post) -> None:
    """Two recipients are two files; each has one Return-Path and names its own mailbox."""
    alice = Mailbox("alice", "example.test")
    outcomes = deliver(post, to(BOB, 0), to(alice, 1, Mailbox("team", "example.test")))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes.values())
    assert post.maildir("bob") == [
        b"Return-Path: <peer@example.org>\nDelivered-To: bob@example.test\nReceived: from x\nSubject: hello\n\nbody\n"
    ]
    [copy] = post.maildir("alice")
    assert b"Delivered-To: alice@example.test\nX-Original-To: team@example.test\n" in copy


def test_a_mailbox_that_is_gone_fails(post: Post) -> None:
    """Mail for an account that was removed while it waited is 5.1.1."""
    [outcome] = deliver(post, to(Mailbox("carol", "example.test"))).values()
    assert isinstance(outcome, Failed)
    assert outcome.status == status.BAD_MAILBOX


def test_a_circle_is_cut(post: Post) -> None:
    """A message that bob had before fails with 5.4.6."""
    [outcome] = deliver(post, to(BOB), content=b"Delivered-To: bob@example.test\r\n" + CONTENT).values()
    assert isinstance(outcome, Failed)
    assert outcome.status == status.LOOP
    assert post.maildir("bob") == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_a_fault_of_the_disk_defers_for_a_cause_of_ours(post: Post, error: int) -> None:
    """Disk full or a permission is `Deferred` with `local`: it never becomes a bounce."""
    post.disk.fail = {"write_new": OSError(error, "injected")}
    [outcome] = deliver(post, to(BOB)).values()
    assert isinstance(outcome, Deferred)
    assert outcome.local
    post.disk.fail = {}
    [outcome] = deliver(post, to(BOB)).values()
    assert isinstance(outcome, Delivered)


@pytest.mark.parametrize("again", [{}, {"crashes": 1}, {"attempts": 1}, {"reason": Reason("the disk was full")}])
@pytest.mark.parametrize("read", [False, True])
def test_a_repeated_delivery_meets_its_own_name(post: Post, again: dict[str, object], read: bool) -> None:
    """What was read from the spool may have been delivered: it is looked for, where a reader moved it too.

    A record that failed during a stop leaves nothing else to tell by: no attempt, no crash, no reason.
    """
    deliver(post, to(BOB))
    directory = "/mail/example.test/bob/Maildir"
    if read:
        [name] = post.disk.list(f"{directory}/new")
        post.disk.rename(f"{directory}/new/{name}", f"{directory}/cur/{name}:2,S")
    [outcome] = deliver(post, replace(to(BOB), **again), replay=True).values()  # type: ignore[arg-type]  # one of three
    assert isinstance(outcome, Delivered)
    assert len(post.maildir("bob")) + len(post.disk.list(f"{directory}/cur")) == 1


def test_what_was_just_committed_is_not_looked_for(post: Post) -> None:
    """A message handed over by the commit costs no search of `cur`."""
    post.disk.fail = {"list": OSError(errno.EIO, "injected")}
    [outcome] = deliver(post, to(BOB)).values()
    assert isinstance(outcome, Delivered)


def test_a_large_message_is_copied_once_at_a_time(post: Post) -> None:
    """Of large messages one copy at a time is made, on a thread, however many recipients and messages there are."""
    threads = HeldThreads()
    store = MaildirStore(
        post.disk, Ownership(post.simulated.uid), run_in_thread=threads, clock=post.clock, journal=post.journal
    )
    local = LocalDelivery(store, lambda: post.reception.settings.directory, threads)
    content = CONTENT + b"12345678\r\n" * (LARGE // 10)
    both = to(BOB, 0), to(Mailbox("alice", "example.test"), 1)
    waiting = [start(local, *both, content=content, queue_id=queue_id) for queue_id in (ID, ID.replace("1", "2"))]
    most = 0
    while threads.waiting:
        most = max(most, len(threads.waiting))
        threads.run()
    assert most == 1
    for each in waiting:
        assert [type(outcome) for outcome in result(each).values()] == [Delivered, Delivered]
    for user in ("alice", "bob"):
        assert [copy.count(b"12345678\n") for copy in post.maildir(user)] == [LARGE // 10] * 2


def test_a_large_message_that_fails_makes_room(post: Post) -> None:
    """The next large message has its turn whatever became of the one before."""
    content = CONTENT + b"12345678\r\n" * (LARGE // 10)
    local = LocalDelivery(post.store, lambda: post.reception.settings.directory, inline)
    post.disk.fail = {"write_new": OSError(errno.ENOSPC, "injected")}
    assert isinstance(result(start(local, to(BOB), content=content))[0], Deferred)
    post.disk.fail = {}
    assert isinstance(result(start(local, to(BOB), content=content))[0], Delivered)


def test_small_messages_share_a_sync(post: Post) -> None:
    """Copies of a small message for several mailboxes are under way together."""
    deliver(post, to(BOB, 0), to(Mailbox("alice", "example.test"), 1))
    threads = HeldThreads()
    store = MaildirStore(
        post.disk, Ownership(post.simulated.uid), run_in_thread=threads, clock=post.clock, journal=post.journal
    )
    local = LocalDelivery(store, lambda: post.reception.settings.directory, threads)
    start(local, to(BOB, 0), to(Mailbox("alice", "example.test"), 1))
    assert len(threads.waiting) == 2

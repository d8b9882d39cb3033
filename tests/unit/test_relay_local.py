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
from mta.relay.local import LocalDelivery
from mta.settings.expansion import LOCAL
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.spool.port import PIECE, Content, Origin, QueuedMessage, QueuedRecipient, State, StoredContent
from tests.doubles.reception import Post, etc
from tests.doubles.sync import result
from tests.doubles.threads import HeldThreads

BOB = Mailbox("bob", "example.test")
CONTENT = b"Received: from x\r\nReturn-Path: <forged@example.net>\r\nSubject: hello\r\n\r\nbody\r\n"
ID = "1m82h1n5t000a6zaew"
LARGE = 1 << 20


@pytest.fixture
def post(tmp_path: Path) -> Post:
    """Make Maildirs and a directory."""
    return Post(etc(tmp_path))


def deliver(
    post: Post, *recipients: QueuedRecipient, content: Content = CONTENT, replay: bool = False
) -> dict[int, Outcome]:
    """Make one attempt."""
    local = LocalDelivery(post.store, lambda: post.reception.settings.directory)
    return result(start(local, *recipients, content=content, replay=replay))


def start(
    local: LocalDelivery,
    *recipients: QueuedRecipient,
    content: Content = CONTENT,
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


def test_small_messages_share_a_sync(post: Post) -> None:
    """Copies of a small message for several mailboxes are under way together."""
    deliver(post, to(BOB, 0), to(Mailbox("alice", "example.test"), 1))
    threads = HeldThreads()
    store = MaildirStore(
        post.disk, Ownership(post.simulated.uid), run_in_thread=threads, clock=post.clock, journal=post.journal
    )
    local = LocalDelivery(store, lambda: post.reception.settings.directory)
    start(local, to(BOB, 0), to(Mailbox("alice", "example.test"), 1))
    assert len(threads.waiting) == 2


def stored(post: Post, head: bytes, rest: bytes) -> StoredContent:
    """Content of the queue in a file."""
    post.simulated.write_new("/state/stored", [rest]).close()
    return StoredContent(head, "/state/stored", len(head) + len(rest), post.disk)


@pytest.mark.parametrize("at", [0, CONTENT.index(b"\r\n\r\n") + 2])
@pytest.mark.parametrize("size", [0, PIECE - 1, PIECE, PIECE + 1, LARGE])
def test_content_in_a_file_becomes_the_same_copies(post: Post, at: int, size: int) -> None:
    """Wherever the file begins, and wherever its pieces end: each mailbox has it whole, with its own trace."""
    body = (b"12345678\r\n" * (size // 10 + 1))[:size]
    content = stored(post, CONTENT[:at], CONTENT[at:] + body)
    outcomes = deliver(post, to(BOB, 0), to(Mailbox("alice", "example.test"), 1), content=content)
    assert [type(outcome) for outcome in outcomes.values()] == [Delivered, Delivered]
    for user in ("alice", "bob"):
        [copy] = post.maildir(user)
        trace = f"Return-Path: <peer@example.org>\nDelivered-To: {user}@example.test\n".encode()
        whole = b"Received: from x\r\nSubject: hello\r\n\r\nbody\r\n" + body
        assert copy == trace + whole.replace(b"\r\n", b"\n")


def test_a_circle_is_seen_in_content_in_a_file(post: Post) -> None:
    """Its head is looked at as any other."""
    content = stored(post, b"Delivered-To: bob@example.test\r\n" + CONTENT[:20], CONTENT[20:])
    [outcome] = deliver(post, to(BOB), content=content).values()
    assert isinstance(outcome, Failed)
    assert outcome.status == status.LOOP


@pytest.mark.parametrize("fault", ["torn", "gone", "unreadable", "full"])
def test_a_copy_that_fails_leaves_nothing_and_defers(post: Post, fault: str) -> None:
    """What cannot be read when its turn has come, or written, is a cause of ours: no file stays, and it is tried again.

    With one that is torn nothing is even begun.
    """
    content = stored(post, CONTENT, b"12345678\r\n" * LARGE)
    threads = HeldThreads()
    store = MaildirStore(
        post.disk, Ownership(post.simulated.uid), run_in_thread=threads, clock=post.clock, journal=post.journal
    )
    local = LocalDelivery(store, lambda: post.reception.settings.directory)
    waiting = start(local, to(BOB), content=content)
    if fault == "torn":
        post.simulated.unlink(content.path)
        post.simulated.write_new(content.path, [b"12345678\r\n" * (LARGE - 1)]).close()
    elif fault == "gone":
        post.simulated.unlink(content.path)
    else:
        name, number = ("read", errno.EIO) if fault == "unreadable" else ("write_new", errno.ENOSPC)
        post.disk.fail = {name: OSError(number, "injected")}
    threads.run_all()
    [outcome] = result(waiting).values()
    assert isinstance(outcome, Deferred)
    assert outcome.local
    post.disk.fail = {}
    directory = "/mail/example.test/bob/Maildir"
    assert post.simulated.files(f"{directory}/tmp") == post.simulated.files(f"{directory}/new") == {}

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
from mta.relay.local import LocalDelivery
from mta.settings.expansion import LOCAL
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.spool.port import Origin, QueuedMessage, QueuedRecipient, State
from tests.doubles.reception import Post, etc
from tests.doubles.sync import result

BOB = Mailbox("bob", "example.test")
CONTENT = b"Received: from x\r\nReturn-Path: <forged@example.net>\r\nSubject: hello\r\n\r\nbody\r\n"
ID = "1m82h1n5t000a6zaew"


@pytest.fixture
def post(tmp_path: Path) -> Post:
    """Make Maildirs and a directory."""
    return Post(etc(tmp_path))


def deliver(post: Post, *recipients: QueuedRecipient, content: bytes = CONTENT) -> dict[int, Outcome]:
    """Make one attempt."""
    local = LocalDelivery(post.store, lambda: post.reception.settings.directory)
    envelope = Envelope(Mailbox("peer", "example.org"), tuple(r.recipient for r in recipients))
    message = QueuedMessage(ID, 0.0, envelope, len(content), False, Origin("mx"), recipients)
    return result(defer.ensureDeferred(local.deliver(message, content, recipients)))


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


@pytest.mark.parametrize(
    "again",
    [
        {"crashes": 1},
        {"attempts": 1},
        {"reason": Reason("the disk was full")},
    ],
)
def test_a_repeated_delivery_meets_its_own_name(post: Post, again: dict[str, object]) -> None:
    """What may have been delivered before a crash is looked for, and not delivered twice."""
    deliver(post, to(BOB))
    [outcome] = deliver(post, replace(to(BOB), **again)).values()  # type: ignore[arg-type]  # one field of three
    assert isinstance(outcome, Delivered)
    assert len(post.maildir("bob")) == 1

"""The commit: the one place where a message becomes ours (RFC 5321 §6.1, law 1).

State table of a message on its way in; each line is one step, a crash leaves what its line says.

==========================  ==================================================  ====================================
step                        what a crash leaves                                 who is responsible
==========================  ==================================================  ====================================
1 content staged            nothing (a file in staging is removed at start)     the peer: it has no 250
2 written, not synced       nothing, or a file in ``tmp``, or a lost row        the peer
3 COMMIT INSTANT            the message, whole, in its Maildir or in the spool  we are
4 250 sent                  the same                                            we are, and the peer knows
5 250 lost on the way       the same; the peer sends it again                   both: a duplicate nobody can avoid
==========================  ==================================================  ====================================

There are two places, and nobody outside this module and the relay knows which one it was. A message for exactly one
Maildir is committed in that Maildir: no queue, half the writes. A large one is copied there from its file in staging,
on a thread; that file is gone when the copy is written, whatever becomes of it. Everything else is one transaction in
the spool, also mail for several mailboxes of ours: a crash between two file names would deliver one of them twice. Both
are group commits, so under load one sync carries many messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer

from mta.disk.port import Disk
from mta.mail.envelope import Envelope
from mta.mail.reason import Reason
from mta.maildir.name import folder_path
from mta.maildir.store import Delivery, MaildirStore
from mta.message.delivery import deliverable, deliverable_pieces
from mta.message.header import find_head
from mta.observe.journal import Journal
from mta.settings.directory import Account
from mta.settings.expansion import LOCAL, Addressed
from mta.spool.port import Message, Origin, Spool, StagedContent, taken_out


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that the rules let in, with its trace fields in front of `content`."""

    queue_id: str
    at: float
    """Wall time of acceptance."""
    envelope: Envelope
    addressed: Sequence[Addressed]
    content: bytes | StagedContent
    size: int
    eight_bit: bool
    origin: Origin
    held: Reason | None = None
    """Why it waits in the queue for the operator."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Where a message is ours now, and how many shared the sync."""

    place: str
    """``maildir`` or ``spool``."""
    batch: int
    reason: Reason
    path: str = ""
    """The file, as it was named in a Maildir."""
    held: bool = False
    """Whether it waits for the operator."""

    def told(self) -> dict[str, Any]:
        """What an event says of it."""
        told: dict[str, Any] = {"place": self.place, "batch": self.batch}
        if self.path:
            told["path"] = self.path
        if self.held:
            told["held"] = True
        return told


class Commit:
    """Makes messages ours. `disk` is that of staging.

    `starts_at_once` says whether the relay would begin now with one for these destinations, `hand_over` gives it one
    that is durable. A fault in handing over is noted, not answered: the message is in the spool, where the next start
    finds it.
    """

    def __init__(
        self,
        store: MaildirStore,
        spool: Spool,
        disk: Disk,
        starts_at_once: Callable[[Sequence[str]], bool],
        hand_over: Callable[[Message], None],
        journal: Journal,
    ) -> None:
        self._store = store
        self._spool = spool
        self._disk = disk
        self._starts_at_once = starts_at_once
        self._hand_over = hand_over
        self._journal = journal

    def commit(self, accepted: Accepted) -> defer.Deferred[Committed]:
        """Put `accepted` on stable storage; that the Deferred fires is the commit instant.

        It fails with what the disk or the spool raised: nothing is ours then, and the peer gets 451 or 452.
        """
        where = self.plan(accepted)
        if isinstance(where, Message):
            return self._spool.insert(where).addCallback(self._in_spool, where)
        account = accepted.addressed[0].account
        assert account is not None, "a Maildir is somebody's"
        return self._store.deliver(where).addCallback(_in_maildir, account, where.path)

    def plan(self, accepted: Accepted) -> Delivery | Message:
        """Choose the place: a Maildir, or the spool. Reads and writes nothing."""
        only = accepted.addressed[0]
        account = only.account
        if account is not None and len(accepted.addressed) == 1 and accepted.held is None:
            content = accepted.content
            if isinstance(content, bytes):
                ready = deliverable(content)
            else:
                pieces = taken_out(content, accepted.size, self._disk)
                ready = deliverable_pieces(find_head(content.head), pieces)
            maildir = folder_path(account.maildir, only.recipient.folder)
            chunks = ready.for_mailbox(accepted.envelope.reverse_path, only.recipient)
            return Delivery(maildir, accepted.queue_id, chunks, replay=False)
        destinations = [addressed.destination for addressed in accepted.addressed]
        return Message(
            accepted.queue_id,
            accepted.at,
            accepted.envelope,
            accepted.content,
            accepted.size,
            accepted.eight_bit,
            accepted.origin,
            destinations,
            active=accepted.held is None and self._starts_at_once(destinations),
            held=accepted.held,
        )

    def _in_spool(self, batch: int, message: Message) -> Committed:
        if message.held is None:
            try:
                self._hand_over(message)
            except Exception as error:  # a 451 after the commit instant would bring the message a second time
                self._journal.fault("hand over", error, queue_id=message.queue_id)
        return Committed("spool", batch, destined(message), held=message.held is not None)


def destined(message: Message) -> Reason:
    """Say what a message waits for in the spool."""
    if message.held is not None:
        return Reason(f"held: {message.held.text}", message.held.source)
    names = sorted({"mailboxes here" if each == LOCAL else each for each in message.destinations})
    return Reason(f"queued for {', '.join(names[:10])}")


def _in_maildir(batch: int, account: Account, path: str) -> Committed:
    return Committed("maildir", batch, Reason(f"in the Maildir of {account.login}", account.source), path)

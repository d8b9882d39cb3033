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
Maildir is committed in that Maildir: no queue, half the writes. Everything else is one transaction in the spool, also
mail for several mailboxes of ours: a crash between two file names would deliver one of them twice. Both are group
commits, so under load one sync carries many messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet import defer

from mta.mail.envelope import Envelope
from mta.mail.reason import Reason
from mta.maildir.store import Delivery, MaildirStore
from mta.message.delivery import for_mailbox
from mta.settings.directory import Account
from mta.settings.expansion import Addressed
from mta.spool.port import Message, Origin, Spool


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that the rules let in, with its trace fields in front. `content` is octets, or a path in staging."""

    queue_id: str
    at: float
    """Wall time of acceptance."""
    envelope: Envelope
    addressed: Sequence[Addressed]
    content: bytes | str
    size: int
    eight_bit: bool
    origin: Origin


@dataclass(frozen=True, slots=True)
class Committed:
    """Where a message is ours now, and how many shared the sync."""

    place: str
    """``maildir`` or ``spool``."""
    batch: int
    reason: Reason


class Commit:
    """Makes messages ours. `room` says whether the relay takes one now, `hand_over` gives it one that is durable."""

    def __init__(
        self,
        store: MaildirStore,
        spool: Spool,
        room: Callable[[], bool],
        hand_over: Callable[[Message], None],
    ) -> None:
        self._store = store
        self._spool = spool
        self._room = room
        self._hand_over = hand_over

    def commit(self, accepted: Accepted) -> defer.Deferred[Committed]:
        """Put `accepted` on stable storage; that the Deferred fires is the commit instant.

        It fails with what the disk or the spool raised: nothing is ours then, and the peer gets 451 or 452.
        """
        only = accepted.addressed[0]
        account = only.account
        if account is not None and len(accepted.addressed) == 1 and isinstance(accepted.content, bytes):
            pieces = for_mailbox(accepted.content, accepted.envelope.reverse_path, only.recipient)
            delivery = Delivery(account.maildir, accepted.queue_id, pieces, replay=False)
            return self._store.deliver(delivery).addCallback(_in_maildir, account)
        message = Message(
            accepted.queue_id,
            accepted.at,
            accepted.envelope,
            accepted.content,
            accepted.size,
            accepted.eight_bit,
            accepted.origin,
            [addressed.destination for addressed in accepted.addressed],
            active=self._room(),
        )
        return self._spool.insert(message).addCallback(self._in_spool, message)

    def _in_spool(self, batch: int, message: Message) -> Committed:
        self._hand_over(message)
        return Committed("spool", batch, Reason(f"queued for {', '.join(sorted(set(message.destinations))[:10])}"))


def _in_maildir(batch: int, account: Account) -> Committed:
    return Committed("maildir", batch, Reason(f"in the Maildir of {account.login}", account.source))

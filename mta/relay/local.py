"""Delivery from the queue into Maildirs: mail that had to wait, mail for several mailboxes, reports to local senders.

A cause on our side (a full disk, a permission, a suspect volume) defers with `local` set: it is never a bounce. A
mailbox that is no longer there fails (5.1.1), one that already had this message fails as a loop (5.4.6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet import defer

from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.reason import Reason
from mta.maildir.store import Delivery, MaildirStore
from mta.message.delivery import for_mailbox
from mta.message.header import delivered_before, find_head
from mta.settings.directory import Directory
from mta.smtp import status
from mta.spool.port import QueuedMessage, QueuedRecipient


class LocalDelivery:
    """The delivery port for the destination `LOCAL`; `directory` is asked at each delivery, so reloads count."""

    def __init__(self, store: MaildirStore, directory: Callable[[], Directory]) -> None:
        self._store = store
        self._directory = directory

    async def deliver(
        self, message: QueuedMessage, content: bytes, recipients: Sequence[QueuedRecipient]
    ) -> dict[int, Outcome]:
        """Put one copy into the Maildir of each recipient."""
        waiting = [defer.ensureDeferred(self._one(message, content, recipient)) for recipient in recipients]
        outcomes = await defer.gatherResults(waiting)
        return {recipient.number: outcome for recipient, outcome in zip(recipients, outcomes, strict=True)}

    async def _one(self, message: QueuedMessage, content: bytes, recipient: QueuedRecipient) -> Outcome:
        mailbox = recipient.recipient.mailbox
        account = self._directory().account(str(mailbox))
        if account is None:
            return Failed(Reason(f"no mailbox {mailbox} here any more", "etc/domains"), status.BAD_MAILBOX)
        if delivered_before(find_head([content]).octets, mailbox):
            return Failed(Reason(f"{mailbox} has had this message before", "Delivered-To"), status.LOOP)
        pieces = for_mailbox(content, message.envelope.reverse_path, recipient.recipient)
        replay = recipient.attempts > 0 or recipient.crashes > 0 or recipient.reason is not None
        delivery = Delivery(account.maildir, message.queue_id, pieces, replay)
        try:
            batch = await self._store.deliver(delivery)
        except Exception as error:
            why = Reason(f"{type(error).__name__}: {error}", account.maildir)
            return Deferred(why, status.SYSTEM_FAULT, local=True)
        return Delivered(Reason(f"in the Maildir of {account.login}, batch of {batch}", str(account.source)))

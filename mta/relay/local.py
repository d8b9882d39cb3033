"""Delivery from the queue into Maildirs: mail that had to wait, mail for several mailboxes, reports to local senders.

A cause on our side (a full disk, a permission, a suspect volume) defers with `local` set: it is never a bounce. A
mailbox that is no longer there fails (5.1.1), one that already had this message fails as a loop (5.4.6).

A message goes to all its mailboxes at once, so that small copies share a sync. Large ones are copied from file to file,
as many at a time as `mta.maildir.store` allows for all mail together.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from twisted.internet import defer

from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.reason import Reason
from mta.maildir.name import folder_path
from mta.maildir.store import Delivery, MaildirStore
from mta.message.delivery import Deliverable, deliverable, deliverable_pieces
from mta.settings.directory import Account, Directory
from mta.smtp import status
from mta.spool.port import Content, QueuedMessage, QueuedRecipient, head_of


class LocalDelivery:
    """The delivery port for the destination `LOCAL`; `directory` is asked at each delivery, so reloads count."""

    def __init__(self, store: MaildirStore, directory: Callable[[], Directory]) -> None:
        self._store = store
        self._directory = directory

    async def deliver(
        self, message: QueuedMessage, content: Content, recipients: Sequence[QueuedRecipient]
    ) -> dict[int, Outcome]:
        """Put one copy into the Maildir of each recipient."""
        ready = deliverable(content) if isinstance(content, bytes) else deliverable_pieces(head_of(content), content)
        waiting = [defer.ensureDeferred(self._one(message, ready, recipient)) for recipient in recipients]
        outcomes = await defer.gatherResults(waiting)
        return {recipient.number: outcome for recipient, outcome in zip(recipients, outcomes, strict=True)}

    def account(self, been_in: Container[str], recipient: QueuedRecipient) -> Account | Failed:
        """Find whose Maildir a copy goes into; `been_in` are those that the message has been in."""
        mailbox = recipient.recipient.mailbox
        account = self._directory().account(str(mailbox))
        if account is None:
            return Failed(Reason(f"no mailbox {mailbox} here any more", "etc/domains"), status.BAD_MAILBOX)
        if str(mailbox).lower() in been_in:
            return Failed(Reason(f"{mailbox} has had this message before", "Delivered-To"), status.LOOP)
        return account

    async def _one(self, message: QueuedMessage, ready: Deliverable, recipient: QueuedRecipient) -> Outcome:
        account = self.account(ready.been_in, recipient)
        if isinstance(account, Failed):
            return account
        pieces = ready.for_mailbox(message.envelope.reverse_path, recipient.recipient)
        maildir = folder_path(account.maildir, recipient.recipient.folder)
        delivery = Delivery(maildir, message.queue_id, pieces, message.replay)
        try:
            batch = await self._store.deliver(delivery)
        except Exception as error:
            why = Reason(f"{type(error).__name__}: {error}", account.maildir)
            return Deferred(why, status.SYSTEM_FAULT, local=True)
        where = Reason(f"in the Maildir of {account.login}, batch of {batch}", str(account.source))
        return Delivered(where, path=delivery.path)

"""Delivery from the queue into Maildirs: mail that had to wait, mail for several mailboxes, reports to local senders.

A cause on our side (a full disk, a permission, a suspect volume) defers with `local` set: it is never a bounce. A
mailbox that is no longer there fails (5.1.1), one that already had this message fails as a loop (5.4.6).

Small messages go to all their mailboxes at once, so that their copies share a sync. Of a large one there is one copy
at a time, for all messages together: thirty recipients of 50 MB must not be 1.5 GB of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from twisted.internet import defer

from mta.disk.port import RunInThread
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.reason import Reason
from mta.maildir.name import folder_path
from mta.maildir.store import Delivery, MaildirStore
from mta.message.delivery import Deliverable, deliverable
from mta.settings.directory import Account, Directory
from mta.smtp import status
from mta.spool.port import QueuedMessage, QueuedRecipient

LARGE = 1 << 20
"""Octets of content beyond which copies are made one after the other. Up to it the threads that write them are their
bound: each makes one copy at a time."""


class LocalDelivery:
    """The delivery port for the destination `LOCAL`; `directory` is asked at each delivery, so reloads count."""

    def __init__(self, store: MaildirStore, directory: Callable[[], Directory], run_in_thread: RunInThread) -> None:
        self._store = store
        self._directory = directory
        self._run_in_thread = run_in_thread
        self._large = defer.DeferredLock()

    async def deliver(
        self, message: QueuedMessage, content: bytes, recipients: Sequence[QueuedRecipient]
    ) -> dict[int, Outcome]:
        """Put one copy into the Maildir of each recipient."""
        if len(content) > LARGE:
            async with self._large:
                ready = await self._run_in_thread(deliverable, content)
                return {recipient.number: await self._one(message, ready, recipient) for recipient in recipients}
        ready = deliverable(content)
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

"""A delivery that leaves alone what was submitted by a login that is disabled: its mail is held until it is released.

So an account is disabled for what it has in the queue too, wherever that is: due in memory, waiting for a retry, under
way when the account was disabled, or found after a restart. Mail of others to the same mailbox is not concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mta.mail.outcome import Held, Outcome
from mta.mail.reason import Reason
from mta.relay.port import Delivery
from mta.spool.port import Content, QueuedMessage, QueuedRecipient


class WithheldDelivery:
    """`delivery`, unless `withheld` gives a reason why nothing of a login is sent."""

    def __init__(self, delivery: Delivery, withheld: Callable[[str], Reason | None]) -> None:
        self._delivery = delivery
        self._withheld = withheld

    async def deliver(
        self, message: QueuedMessage, content: Content, recipients: Sequence[QueuedRecipient]
    ) -> Mapping[int, Outcome]:
        """See `Delivery`."""
        login = message.origin.login
        reason = self._withheld(login) if login else None
        if reason is not None:
            return {queued.number: Held(reason) for queued in recipients}
        return await self._delivery.deliver(message, content, recipients)

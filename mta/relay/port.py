"""What a way of delivery is to the queue: `local` puts into Maildirs, `remote` speaks SMTP."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Protocol

from mta.mail.outcome import Outcome
from mta.spool.port import Content, QueuedMessage, QueuedRecipient


class Delivery(Protocol):
    """Makes one attempt at a message for those of its recipients that share a destination."""

    def deliver(
        self, message: QueuedMessage, content: Content, recipients: Sequence[QueuedRecipient]
    ) -> Awaitable[Mapping[int, Outcome]]:
        """Return an `Outcome` for each recipient by its number; never raises for a cause on the other side.

        Content in a file is read as it is needed, and may be read for as long as this lasts. An OSError of that is a
        cause of ours, any other exception a bug: the caller notes it and defers with `local` set.
        """
        ...

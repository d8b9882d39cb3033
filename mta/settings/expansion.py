"""From the address that a sender names to the recipients that the queue knows: after aliases, with their destinations.

Acceptance and reports both need it; a destination is `LOCAL` for a mailbox in our Maildirs and otherwise what the
router calls the next hop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mta.mail.envelope import Recipient
from mta.settings.directory import Account, Directory, Local, NotLocal, Resolution
from mta.smtp.address import Mailbox

LOCAL = "local:"
"""The destination of mailboxes in our Maildirs: no domain has a colon."""

Destination = Callable[[Mailbox], str]
"""Names the next hop of a mailbox elsewhere."""


@dataclass(frozen=True, slots=True)
class Addressed:
    """A recipient with its destination; `account` is set for a mailbox of ours."""

    recipient: Recipient
    destination: str
    account: Account | None = None


def expand(named: Mailbox, resolution: Local | NotLocal, destination: Destination) -> tuple[Addressed, ...]:
    """Give the recipients that mail for `named` goes to, one for each mailbox."""
    if isinstance(resolution, NotLocal):
        return (Addressed(Recipient(named), destination(named)),)
    ours = [Addressed(_recipient(a.mailbox, named), LOCAL, a) for a in resolution.accounts]
    outside = [Addressed(_recipient(mailbox, named), destination(mailbox)) for mailbox in resolution.outside]
    return (*ours, *outside)


def _recipient(mailbox: Mailbox, named: Mailbox) -> Recipient:
    return Recipient(mailbox) if mailbox == named else Recipient(mailbox, original=named)


def look_up(directory: Directory, named: Mailbox, destination: Destination) -> tuple[Resolution, tuple[Addressed, ...]]:
    """Resolve and expand in one step; nothing is addressed where the mailbox is unknown."""
    resolution = directory.resolve(named)
    if isinstance(resolution, Local | NotLocal):
        return resolution, expand(named, resolution, destination)
    return resolution, ()

"""A message as policies left it: what its content and its envelope became, and where its copies go.

Policies speak in the order of the chain, and each sees what those before it changed (`mta.policy.chain`); here the sum
of it is taken. The envelope changes in the order in which the verdicts were given. A `Redirect` at RCPT was followed
there; at a later stage it replaces all recipients. One to a mailbox that does not exist is a slip of the administrator:
the message is put off, not lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mta.mail.reason import Reason
from mta.policy.verdict import (
    AddRecipient,
    ChangeSender,
    Discard,
    File,
    Hold,
    Redirect,
    RemoveRecipient,
    Verdict,
)
from mta.settings.expansion import Addressed
from mta.smtp.address import Mailbox

Address = Callable[[Mailbox], Sequence[Addressed]]
"""Where a mailbox leads to; empty where it does not exist."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a message besides its content."""

    reverse_path: Mailbox | None
    addressed: tuple[Addressed, ...]
    held: Reason | None = None
    discarded: Reason | None = None
    nowhere: Reason | None = None
    """Why it cannot be told where it goes."""


def fate(
    reverse_path: Mailbox | None, addressed: Sequence[Addressed], verdicts: Iterable[Verdict], address: Address
) -> Fate:
    """Apply verdicts to an envelope, whose recipients are each there once."""
    held = discarded = nowhere = None
    folder = ""
    recipients = {each.recipient.mailbox: each for each in addressed}
    for verdict in verdicts:
        match verdict:
            case Hold():
                held = held or verdict.reason
            case Discard():
                discarded = discarded or verdict.reason
            case File():
                folder = verdict.folder
            case ChangeSender():
                reverse_path = verdict.sender
            case AddRecipient():
                for each in address(verdict.mailbox):
                    recipients.setdefault(each.recipient.mailbox, each)
            case RemoveRecipient():
                recipients = {key: each for key, each in recipients.items() if not _is(each, verdict.mailbox)}
            case Redirect():
                recipients = {each.recipient.mailbox: each for each in address(verdict.mailbox)}
                nowhere = None if recipients else leads_nowhere(verdict)
    kept = tuple(recipients.values())
    if folder:
        kept = tuple(_filed(each, folder) for each in kept)
    if not kept and discarded is None:
        discarded = Reason("policies left no recipient", "mta.policy")
    return Fate(reverse_path, kept, held, discarded, nowhere)


def leads_nowhere(redirect: Redirect) -> Reason:
    """Say that a mailbox that a policy names does not exist."""
    why = redirect.reason
    return Reason(f"redirected to {redirect.mailbox}, which is not here: {why.text}", why.source)


def _is(addressed: Addressed, mailbox: Mailbox) -> bool:
    return mailbox in (addressed.recipient.mailbox, addressed.recipient.named)


def _filed(addressed: Addressed, folder: str) -> Addressed:
    if addressed.account is None:
        return addressed
    return replace(addressed, recipient=replace(addressed.recipient, folder=folder))

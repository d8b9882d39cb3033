"""A message as policies left it: what its content and its envelope became, and where its copies go.

Policies speak in the order of the chain, and each sees what those before it changed (`mta.policy.chain`); here the sum
of it is taken. The envelope changes in the order in which the verdicts were given. A `Redirect` at RCPT was followed
there; at a later stage it replaces all recipients.
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


def fate(
    reverse_path: Mailbox | None, addressed: Sequence[Addressed], verdicts: Iterable[Verdict], address: Address
) -> Fate:
    """Apply verdicts to an envelope."""
    held = discarded = None
    folder = ""
    recipients = list(addressed)
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
                recipients += address(verdict.mailbox)
            case RemoveRecipient():
                recipients = [each for each in recipients if not _is(each, verdict.mailbox)]
            case Redirect():
                recipients = list(address(verdict.mailbox))
    once = {each.recipient.mailbox: each for each in reversed(recipients)}
    kept = tuple(each for each in dict.fromkeys(recipients) if once[each.recipient.mailbox] is each)
    if folder:
        kept = tuple(_filed(each, folder) for each in kept)
    if not kept and discarded is None:
        discarded = Reason("policies left no recipient", "mta.policy")
    return Fate(reverse_path, kept, held, discarded)


def _is(addressed: Addressed, mailbox: Mailbox) -> bool:
    return mailbox in (addressed.recipient.mailbox, addressed.recipient.named)


def _filed(addressed: Addressed, folder: str) -> Addressed:
    if addressed.account is None:
        return addressed
    return replace(addressed, recipient=replace(addressed.recipient, folder=folder))

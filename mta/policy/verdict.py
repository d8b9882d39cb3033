"""What a policy may answer. Every verdict carries its reason, with the file and line that decided.

=================  ==================================  ================================================================
verdict            decides                             what comes of it
=================  ==================================  ================================================================
`Accept`           the stage                           no further policy is asked at this stage; the rules of the
                                                       service (recipients that exist, no relaying) hold all the same
`Reject`           the command, at connect the         5xx
                   session; at the end the message
`Defer`            likewise                            4xx: the sender tries again
`Discard`          the message                         250, and it ends here, recorded
`Hold`             nothing by itself                   250, and it waits in the queue for the operator
`Tag`              nothing                             later policies and the log see it
`Delay`            nothing                             the reply comes later (a tarpit)
`AddHeader` …      nothing                             the message is changed, in the order of verdicts
`File`             nothing                             copies for mailboxes of ours go into this folder
=================  ==================================  ================================================================

A policy without an opinion answers None; in a rehearsal it may say why with `NoOpinion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twisted.internet import defer

from mta.mail.reason import Reason
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.smtp.reply import Reply, reply

REJECTED = reply(550, status.REFUSED, "Refused by policy")
DEFERRED = reply(450, status.TOO_MUCH, "Not now; try again later")


@dataclass(frozen=True, slots=True)
class Accept:
    """Ask no further policy at this stage."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse for good."""

    reason: Reason
    reply: Reply = REJECTED
    """Its code is 5xx; 521 or 554 at connect, and 421 is for `Defer`."""


@dataclass(frozen=True, slots=True)
class Defer:
    """Refuse for now."""

    reason: Reason
    reply: Reply = DEFERRED
    """Its code is 4xx; 421 ends the session."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Say 250 and forget the message; that it ended so is recorded."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Hold:
    """Accept the message and leave it in the queue until it is released."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class NoOpinion:
    """Say nothing, and why; heard in a rehearsal alone, where None means the same."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Tag:
    """A word about this session (before MAIL) or message."""

    reason: Reason
    name: str


@dataclass(frozen=True, slots=True)
class Delay:
    """Answer later."""

    reason: Reason
    seconds: float


@dataclass(frozen=True, slots=True)
class AddHeader:
    """Add a field; `value` is unfolded or folded, without the final CRLF."""

    reason: Reason
    name: str
    value: str
    position: int = 0
    """0: in front of all fields; n: behind the n-th; -1: behind the last."""


@dataclass(frozen=True, slots=True)
class ChangeHeader:
    """Replace the value of the `occurrence`-th field called `name` (from 1); an empty value removes it."""

    reason: Reason
    name: str
    occurrence: int
    value: str


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """Put other octets behind the head; lines end with CRLF."""

    reason: Reason
    body: bytes


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Give the envelope another reverse-path."""

    reason: Reason
    sender: Mailbox | None


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """Send a copy to one more mailbox."""

    reason: Reason
    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class RemoveRecipient:
    """Send no copy to this forward-path."""

    reason: Reason
    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the message to this mailbox instead of its recipients; at ``rcpt`` instead of this one."""

    reason: Reason
    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class File:
    """Put copies for mailboxes of ours into this folder of the Maildir (``Junk``)."""

    reason: Reason
    folder: str


Change = AddHeader | ChangeHeader | ReplaceBody | ChangeSender | AddRecipient | RemoveRecipient | Redirect | File
Refusal = Reject | Defer
Verdict = Accept | Refusal | Discard | Hold | NoOpinion | Tag | Delay | Change

Opinion = Verdict | Sequence[Verdict] | None
"""What one policy says of one stage."""
Answer = Opinion | defer.Deferred[Opinion]
"""A policy that needs not wait makes no Deferred."""

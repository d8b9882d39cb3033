"""What became of one recipient in one attempt (RFC 3464 §2.3.3: delivered, delayed, failed).

Remote results are outcomes, never exceptions. A `Deferred` with `local` set has its cause on our side (a full disk,
a permission, our bug): it does not count against the life of the message and is never turned into a bounce.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.mail.reason import Reason
from mta.smtp.status import NOT_ACCEPTING, OK, OTHER, Status


@dataclass(frozen=True, slots=True)
class Delivered:
    """Ours no longer: in its Maildir, or taken over by the host that `reason.source` names with its reply."""

    reason: Reason
    status: Status = OK
    remote: str = ""
    """The host that took it, ``mx.example.net [192.0.2.1]:25``; empty when delivered here."""
    reply: str = ""
    """The remote reply as it came, ``250 2.0.0 queued as 1a2b``; empty when there is none."""
    path: str = ""
    """The file in a Maildir; empty when a host took it."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: tried again by schedule."""

    reason: Reason
    status: Status
    remote: str = ""
    reply: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Never: reported to the reverse-path, if there is one."""

    reason: Reason
    status: Status
    remote: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """Not until the operator releases it: a policy wants that."""

    reason: Reason
    status: Status = NOT_ACCEPTING
    remote: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Discarded:
    """Ended, and nobody is told: a policy wants that."""

    reason: Reason
    status: Status = OTHER
    remote: str = ""
    reply: str = ""


Outcome = Delivered | Deferred | Failed | Held | Discarded

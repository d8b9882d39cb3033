"""How policies refuse: the code that fits the stage, with a text for the sender (pure).

A refusal at connect has 554 (RFC 5321 §4.3.2) or 421, later ones 550 or 450; "try again in 30 s" is said in words
that people and logs read, since SMTP has no field for it.
"""

from __future__ import annotations

import math

from mta.mail.reason import Reason
from mta.policy.facts import Stage
from mta.policy.verdict import Defer, Reject
from mta.smtp import status
from mta.smtp.reply import reply
from mta.smtp.status import Status

UNANSWERED = "A local policy could not be asked; try again later"


def reject(stage: Stage, text: str, reason: Reason, meaning: Status = status.REFUSED) -> Reject:
    """Refuse for good."""
    return Reject(reason, reply(554 if stage is Stage.CONNECT else 550, meaning.permanent(), text))


def defer(stage: Stage, text: str, reason: Reason, meaning: Status = status.REFUSED) -> Defer:
    """Refuse for now."""
    return Defer(reason, reply(421 if stage is Stage.CONNECT else 450, meaning.transient(), text))


def unanswered(stage: Stage, reason: Reason) -> Defer:
    """Refuse for now, since a policy of the administrator's could not be asked or gave no answer: 451 4.7.1."""
    code = 421 if stage is Stage.CONNECT else 451
    return Defer(reason, reply(code, status.REFUSED.transient(), UNANSWERED))


def hang_up(text: str, reason: Reason) -> Defer:
    """Refuse for now and end the session."""
    return Defer(reason, reply(421, status.TOO_MUCH, text))


def in_seconds(seconds: float) -> str:
    """Say how long to wait, never too short: ``try again in 30 s``."""
    return f"try again in {max(1, math.ceil(seconds))} s"

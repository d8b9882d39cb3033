"""When a recipient is tried again, and when its message has lived long enough (RFC 5321 §4.5.4.1) – pure.

The wait doubles from `first_retry` to `longest_retry`, with jitter so that what was deferred together does not come
back together. Life is counted from acceptance; the attempt that passes its end is the last. What failed for a cause of
ours has no end: it waits, and says so.

====================================  ====================================================================
outcome of the attempt                next step
====================================  ====================================================================
Delivered                             `Finish`
Failed                                `Fail`
Deferred, before the end of life      `Wait`; `warn` once, when `warn_after` has passed
Deferred, after it                    `Fail` with 4.4.7 made permanent (RFC 3463 §3.5: delivery time expired)
Deferred with `local`, at any time    `Wait`, not counted as an attempt, never warned of
====================================  ====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.queueid import Chance
from mta.mail.reason import Reason
from mta.settings.sections import QueueSettings
from mta.smtp import status
from mta.spool.port import QueuedRecipient


@dataclass(frozen=True, slots=True)
class Finish:
    """Delivered: nothing is left to do."""

    outcome: Delivered


@dataclass(frozen=True, slots=True)
class Fail:
    """Never: the sender is told, if there is one."""

    outcome: Failed


@dataclass(frozen=True, slots=True)
class Wait:
    """Again at `due` (wall time); with `warn` the sender is told of the delay now."""

    outcome: Deferred
    due: float
    warn: bool


Step = Finish | Fail | Wait


def interval(attempts: int, settings: QueueSettings, chance: Chance) -> float:
    """Seconds to wait after the attempt with this number (from 1), jitter included."""
    doublings = min(attempts - 1, 40)  # enough for any pair of settings, and far from overflow
    seconds = min(settings.first_retry * 2.0**doublings, settings.longest_retry)
    unit = chance.getrandbits(16) / 65536  # [0, 1)
    return seconds * (1 + settings.jitter * (2 * unit - 1))


def next_step(
    recipient: QueuedRecipient,
    outcome: Outcome,
    accepted: float,
    now: float,
    settings: QueueSettings,
    chance: Chance,
) -> Step:
    """Decide what follows an attempt for one recipient of a message accepted at wall time `accepted`."""
    if isinstance(outcome, Delivered):
        return Finish(outcome)
    if isinstance(outcome, Failed):
        return Fail(outcome)
    if outcome.local:
        return Wait(outcome, now + interval(recipient.attempts + 1, settings, chance), warn=False)
    if now >= accepted + settings.lifetime:
        return Fail(expired(outcome, now - accepted))
    due = now + interval(recipient.attempts + 1, settings, chance)
    warn = not recipient.warned and now >= accepted + settings.warn_after
    return Wait(outcome, due, warn)


def expired(last: Deferred, age: float) -> Failed:
    """The failure that ends a recipient whose life is over; the last delay stays in the reason."""
    reason = Reason(
        f"not delivered within {age / 3600:.0f} hours; the last attempt said: {last.reason.text}", last.reason.source
    )
    return Failed(reason, status.EXPIRED, last.remote, last.reply)

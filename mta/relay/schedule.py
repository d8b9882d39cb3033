"""When a recipient is tried again, and when its message has lived long enough (RFC 5321 §4.5.4.1) – pure.

The wait doubles from `first_retry` to `longest_retry`, with jitter so that what was deferred together does not come
back together. Life is counted from acceptance; the attempt that passes its end is the last. What failed for a cause of
ours has no end: it waits, and says so.

====================================  ====================================================================
outcome of the attempt                next step
====================================  ====================================================================
Delivered                             `Finish`
Failed                                `Fail`
Deferred, before the end of life      `Wait`; `told` once, when `warn_after` has passed
Deferred, after it                    `Fail` with 4.4.7 made permanent (RFC 3463 §3.5: delivery time expired)
Deferred with `local`, at any time    `Wait`, not counted as an attempt, never warned of
Held, Discarded                       `Keep`, `Drop`: a policy wants that
====================================  ====================================================================

Age is given, not computed here: a clock that leaps by days must not return the mail (`mta.relay.settler`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mta.mail.outcome import Deferred, Delivered, Discarded, Failed, Held, Outcome
from mta.mail.queueid import Chance
from mta.mail.reason import Reason
from mta.settings.sections import QueueSettings
from mta.smtp import status
from mta.spool.port import Change, Ended, QueuedRecipient, Retry, State


@dataclass(frozen=True, slots=True)
class Finish:
    """Delivered: nothing is left to do."""

    outcome: Delivered

    told: ClassVar[bool] = False
    """Whether the sender gets a report of it."""

    def change(self, number: int, unreported: Reason | None = None) -> Change:
        """What the spool records of recipient `number`."""
        return Ended(number, self.outcome.reason)


@dataclass(frozen=True, slots=True)
class Fail:
    """Never: the sender is told, if there is one."""

    outcome: Failed

    told: ClassVar[bool] = True

    def change(self, number: int, unreported: Reason | None = None) -> Change:
        """What the spool records of recipient `number`; `unreported` is why nobody is told."""
        return Ended(number, unreported or self.outcome.reason)


@dataclass(frozen=True, slots=True)
class Wait:
    """Again at `due` (wall time); with `told` the sender is told of the delay now."""

    outcome: Deferred
    due: float
    told: bool

    def change(self, number: int, unreported: Reason | None = None) -> Change:
        """What the spool records of recipient `number`."""
        return Retry(number, self.due, self.outcome.reason, counted=not self.outcome.local, warned=self.told)


@dataclass(frozen=True, slots=True)
class Keep:
    """Held: not tried until it is released."""

    outcome: Held
    now: float

    told: ClassVar[bool] = False

    def change(self, number: int, unreported: Reason | None = None) -> Change:
        """What the spool records of recipient `number`."""
        return Retry(number, self.now, self.outcome.reason, counted=False, state=State.HELD)


@dataclass(frozen=True, slots=True)
class Drop:
    """Discarded: ended, and nobody is told."""

    outcome: Discarded

    told: ClassVar[bool] = False

    def change(self, number: int, unreported: Reason | None = None) -> Change:
        """What the spool records of recipient `number`."""
        return Ended(number, self.outcome.reason)


Step = Finish | Fail | Wait | Keep | Drop


def interval(attempts: int, settings: QueueSettings, chance: Chance) -> float:
    """Seconds to wait after the attempt with this number (from 1), jitter included."""
    doublings = min(attempts - 1, 40)  # enough for any pair of settings, and far from overflow
    seconds = min(settings.first_retry * 2.0**doublings, settings.longest_retry)
    unit = chance.getrandbits(16) / 65536  # [0, 1)
    return seconds * (1 + settings.jitter * (2 * unit - 1))


def next_step(
    recipient: QueuedRecipient, outcome: Outcome, age: float, now: float, settings: QueueSettings, chance: Chance
) -> Step:
    """Decide what follows an attempt for one recipient of a message of `age` seconds, at wall time `now`."""
    if isinstance(outcome, Delivered):
        return Finish(outcome)
    if isinstance(outcome, Failed):
        return Fail(outcome)
    if isinstance(outcome, Held):
        return Keep(outcome, now)
    if isinstance(outcome, Discarded):
        return Drop(outcome)
    due = now + interval(recipient.attempts + 1, settings, chance)
    if outcome.local:
        return Wait(outcome, due, told=False)
    if age >= settings.lifetime:
        return Fail(expired(outcome, age))
    return Wait(outcome, due, told=not recipient.warned and age >= settings.warn_after)


def expired(last: Deferred, age: float) -> Failed:
    """The failure that ends a recipient whose life is over; the last delay stays in the reason."""
    text = f"not delivered within {age / 3600:.0f} hours; the last attempt said: {last.reason.text}"
    return Failed(Reason(text, last.reason.source), status.EXPIRED, last.remote, last.reply)

"""When a recipient is tried again, and when that ends."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.envelope import Recipient
from mta.mail.outcome import Deferred, Delivered, Failed
from mta.mail.reason import Reason
from mta.relay.schedule import Fail, Finish, Wait, interval, next_step
from mta.settings.sections import QueueSettings
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.spool.port import QueuedRecipient, State

STEADY = QueueSettings(first_retry=300, longest_retry=14400, lifetime=432000, warn_after=14400, jitter=0)
LATER = Deferred(Reason("busy", "450 4.2.0 busy"), status.NO_ANSWER, "mx.example.net [192.0.2.1]:25", "450 busy")
OURS = Deferred(Reason("disk full"), status.SYSTEM_FAULT, local=True)


def queued(attempts: int = 0, warned: bool = False) -> QueuedRecipient:
    """Make a recipient in the queue."""
    recipient = Recipient(Mailbox("bob", "example.net"))
    return QueuedRecipient(0, recipient, "example.net", State.ACTIVE, 0.0, attempts, 0, None, warned)


def test_intervals_double_from_the_first_to_the_longest() -> None:
    """The waits are 5, 10, 20, 40, 80, 160 minutes and then 4 hours each."""
    chance = random.Random(1)
    minutes = [interval(n, STEADY, chance) / 60 for n in range(1, 10)]
    assert minutes == [5, 10, 20, 40, 80, 160, 240, 240, 240]


@given(attempts=st.integers(1, 10_000), seed=st.integers(0, 2**32))
def test_jitter_keeps_an_interval_within_its_share(attempts: int, seed: int) -> None:
    """With jitter 0.1 no interval leaves 90 to 110 per cent of the one without."""
    settings = QueueSettings(first_retry=300, longest_retry=14400, jitter=0.1)
    plain = interval(attempts, STEADY, random.Random(0))
    assert plain * 0.9 <= interval(attempts, settings, random.Random(seed)) <= plain * 1.1


def test_what_is_delivered_is_finished() -> None:
    """Delivered needs no further step, also after the end of life."""
    outcome = Delivered(Reason("taken"))
    assert next_step(queued(), outcome, 10**9, 10**9, STEADY, random.Random(1)) == Finish(outcome)


def test_what_failed_is_reported() -> None:
    """Failed becomes a failure at once."""
    outcome = Failed(Reason("no such user"), status.BAD_MAILBOX)
    assert next_step(queued(), outcome, 1, 1, STEADY, random.Random(1)) == Fail(outcome)


def test_what_is_deferred_waits_for_its_interval() -> None:
    """The second failed attempt is followed by twice the first interval."""
    step = next_step(queued(attempts=1), LATER, age=1000, now=1000, settings=STEADY, chance=random.Random(1))
    assert step == Wait(LATER, 1600.0, told=False)


@pytest.mark.parametrize(("age", "warned", "warn"), [(14399, False, False), (14400, False, True), (14400, True, False)])
def test_the_sender_is_warned_once_after_the_warning_time(age: float, warned: bool, warn: bool) -> None:
    """A delay is reported when `warn_after` has passed, and never a second time."""
    step = next_step(queued(5, warned), LATER, age, age, STEADY, random.Random(1))
    assert isinstance(step, Wait)
    assert step.told is warn


def test_the_attempt_that_passes_the_end_of_life_is_the_last() -> None:
    """At the end of life a delay becomes failure 5.4.7, which names what the last attempt said."""
    assert isinstance(next_step(queued(9), LATER, 431999, 431999, STEADY, random.Random(1)), Wait)
    step = next_step(queued(9), LATER, 432000, 432000, STEADY, random.Random(1))
    assert isinstance(step, Fail)
    assert step.outcome.status == status.EXPIRED
    assert step.outcome.reason == Reason(
        "not delivered within 120 hours; the last attempt said: busy", "450 4.2.0 busy"
    )
    assert (step.outcome.remote, step.outcome.reply) == (LATER.remote, LATER.reply)


def test_a_cause_of_ours_never_ends_a_message() -> None:
    """A local cause waits after any time, and the sender is not warned of it (law 2)."""
    step = next_step(queued(), OURS, 10**9, 10**9, STEADY, random.Random(1))
    assert step == Wait(OURS, 10**9 + 300.0, told=False)

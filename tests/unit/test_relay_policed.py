"""mta.relay.policed: what policies say before and after an attempt."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from twisted.internet import defer

from mta.mail.outcome import Deferred, Delivered, Discarded, Failed, Held, Outcome
from mta.mail.reason import Reason
from mta.observe.event import Kind
from mta.policy.chain import Chain
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import Answer, Defer, Discard, Hold, Opinion, Reject, Tag
from mta.relay.policed import PolicedDelivery
from mta.relay.schedule import Drop, Keep, next_step
from mta.settings.sections import QueueSettings
from mta.smtp import status
from mta.smtp.reply import reply
from mta.spool.port import Content, Ended, QueuedMessage, QueuedRecipient, Retry, State
from tests.doubles.journal import RecordingJournal
from tests.doubles.spool import ModelSpool, message
from tests.doubles.sync import result
from tests.unit.test_receive_policies import Rule

WHY = Reason("because", "policy.py:1")
DONE = Delivered(Reason("taken"), reply="250 OK")


class Attempt:
    """One delivery of a message for a@x and b@x, with one policy."""

    def __init__(self, says: Answer | Exception, *stages: Stage) -> None:
        def judge(facts: Facts) -> Answer:
            if isinstance(says, Exception):
                raise says
            return says

        self.rule = Rule(judge, frozenset(stages))
        self.journal = RecordingJournal()
        self.delivered = 0
        self.policed = PolicedDelivery(self, lambda: Chain([self.rule]), self.journal)

    async def deliver(
        self, message: QueuedMessage, content: Content, recipients: Sequence[QueuedRecipient]
    ) -> dict[int, Outcome]:
        """Deliver."""
        self.delivered += 1
        return {queued.number: DONE for queued in recipients}

    def run(self) -> Mapping[int, Outcome]:
        """Make the attempt."""
        spool = ModelSpool()
        result(spool.insert(message("0a", "a@x", "b@x")))
        queued = spool.get("0a")
        assert queued is not None
        outcomes: Mapping[int, Outcome] = result(
            defer.Deferred.fromCoroutine(self.policed.deliver(queued, b"x", queued.recipients))
        )
        return outcomes


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (
            Reject(WHY, reply(550, status.REFUSED, "No")),
            Failed(WHY, status.REFUSED, reply="550 5.7.1 No"),
        ),
        (
            Defer(WHY, reply(450, status.TOO_MUCH, "Later")),
            Deferred(WHY, status.TOO_MUCH, reply="450 4.7.0 Later"),
        ),
        (Hold(WHY), Held(WHY)),
        (Discard(WHY), Discarded(WHY)),
    ],
)
def test_a_verdict_before_the_attempt_is_its_outcome(says: Opinion, expected: Outcome) -> None:
    """No attempt is made, and all its recipients share what was said; the verdict is an event."""
    attempt = Attempt(says, Stage.ROUTE)
    assert attempt.run() == {0: expected, 1: expected}
    assert attempt.delivered == 0
    [asked] = attempt.rule.asked
    assert (asked.service, asked.destination, len(asked.recipients)) == ("relay", "x", 2)
    assert [event.reason for event in attempt.journal.events if event.kind is Kind.POLICY_SAID] == [WHY]


@pytest.mark.parametrize("says", [None, Tag(WHY, "x")])
def test_without_objection_mail_is_delivered(says: Opinion) -> None:
    """What decides nothing changes nothing."""
    attempt = Attempt(says, Stage.ROUTE)
    assert attempt.run() == {0: DONE, 1: DONE}


def test_each_outcome_is_told() -> None:
    """After the attempt a policy learns what became of each recipient, and cannot undo it."""
    attempt = Attempt(Reject(WHY), Stage.ATTEMPT)
    assert attempt.run() == {0: DONE, 1: DONE}
    assert [(str(facts.recipient), facts.outcome, facts.reply) for facts in attempt.rule.asked] == [
        ("a@x", "delivered", "250 OK"),
        ("b@x", "delivered", "250 OK"),
    ]


def test_a_bug_after_the_attempt_does_not_deliver_again() -> None:
    """A policy that raises then is a fault in the journal, and the outcome stands."""
    attempt = Attempt(ZeroDivisionError("bug"), Stage.ATTEMPT)
    assert attempt.run() == {0: DONE, 1: DONE}
    assert [event.kind for event in attempt.journal.events] == [Kind.FAULT] * 2


def test_a_bug_before_the_attempt_is_the_attempts() -> None:
    """A policy that raises before is raised to the queue, which keeps the mail."""
    with pytest.raises(ZeroDivisionError):
        Attempt(ZeroDivisionError("bug"), Stage.ROUTE).run()


def test_what_is_held_or_discarded_is_recorded_so() -> None:
    """Held recipients stay in the queue with the reason, discarded ones end."""
    spool = ModelSpool()
    result(spool.insert(message("0a")))
    found = spool.get("0a")
    assert found is not None
    [queued] = found.recipients
    keep = next_step(queued, Held(WHY), 0.0, 5.0, QueueSettings(), random.Random(1))
    drop = next_step(queued, Discarded(WHY), 0.0, 5.0, QueueSettings(), random.Random(1))
    assert isinstance(keep, Keep)
    assert isinstance(drop, Drop)
    assert keep.change(0) == Retry(0, 5.0, WHY, counted=False, state=State.HELD)
    assert drop.change(0) == Ended(0, WHY)

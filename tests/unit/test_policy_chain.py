"""mta.policy.chain"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from twisted.internet import defer

from mta.mail.reason import Reason
from mta.policy.chain import DELAY_MAXIMUM, NOTHING, Chain, Ruling
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import (
    Accept,
    AddHeader,
    Answer,
    Defer,
    Delay,
    Discard,
    Hold,
    Opinion,
    Reject,
    ReplaceBody,
    Tag,
)
from tests.doubles.sync import result

WHY = Reason("because", "test")
FACTS = Facts(Stage.MAIL)


@dataclass
class Says:
    """A policy that says one thing, and remembers what it was asked."""

    name: str
    says: Answer | Callable[[Facts], Answer] = None
    stages: frozenset[Stage] = frozenset({Stage.MAIL, Stage.MESSAGE})
    eager: bool = False
    asked: list[Facts] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def ask(self, facts: Facts) -> Answer:
        """Judge."""
        self.asked.append(facts)
        return self.says(facts) if callable(self.says) else self.says

    def reset(self, session: str) -> None:
        """Learn of the end of a transaction."""
        self.told.append(f"reset {session}")

    def closed(self, session: str) -> None:
        """Learn of the end of a session."""
        self.told.append(f"closed {session}")

    def refused(self, facts: Facts, reason: Reason) -> None:
        """Learn of a refusal."""
        self.told.append(f"refused {facts.session} {reason.text}")

    def stop(self) -> None:
        """End."""
        self.told.append("stop")


def ruled(chain: Chain, facts: Facts = FACTS) -> Ruling:
    """Ask a chain that does not wait."""
    ruling = chain.ask(facts)
    assert isinstance(ruling, Ruling)
    return ruling


def test_nobody_is_asked_out_of_season() -> None:
    """A chain wants a stage only if one of its policies does; others are not asked there."""
    early, late = Says("early", stages=frozenset({Stage.CONNECT})), Says("late")
    chain = Chain([early, late])
    assert [stage for stage in Stage if chain.wants(stage)] == [Stage.CONNECT, Stage.MAIL, Stage.MESSAGE]
    assert ruled(chain) is NOTHING
    assert (len(early.asked), len(late.asked)) == (0, 1)


@pytest.mark.parametrize("verdict", [Accept(WHY), Reject(WHY), Defer(WHY), Discard(WHY)])
def test_who_decides_is_the_last_to_be_asked(verdict: Opinion) -> None:
    """After a verdict that decides nobody is asked; one that only adds lets the others speak."""
    policies = [Says("adds", [Tag(WHY, "seen"), Hold(WHY)]), Says("decides", verdict), Says("never")]
    ruling = ruled(Chain(policies))
    assert [each.policy for each in ruling.said] == ["adds", "adds", "decides"]
    assert policies[2].asked == []
    assert (ruling.refusal or ruling.discard or verdict) is verdict
    assert (ruling.refusal is None) == (not isinstance(verdict, Reject | Defer))
    assert ruling.hold == Hold(WHY)
    assert ruling.tags == {"seen"}


def test_later_policies_see_what_earlier_ones_changed() -> None:
    """Tags, fields and the body reach those behind, and the ruling."""
    changes = [Tag(WHY, "spam"), AddHeader(WHY, "X", "1"), ReplaceBody(WHY, b"new\r\n")]
    last = Says("last")
    ruling = ruled(Chain([Says("changes", changes), last]), Facts(Stage.MESSAGE, head=b"A: b\r\n"))
    [seen] = last.asked
    assert (seen.tags, seen.head) == ({"spam"}, b"X: 1\r\nA: b\r\n")
    assert seen.body is not None
    assert b"".join(seen.body.pieces()) == b"new\r\n"
    assert ruling.facts == seen


def test_a_delay_is_bounded() -> None:
    """Delays add up, to no more than the bound."""
    assert ruled(Chain([Says("a", Delay(WHY, 2)), Says("b", Delay(WHY, 3))])).delay == 5
    assert ruled(Chain([Says("a", Delay(WHY, 1e9))])).delay == DELAY_MAXIMUM


def test_a_policy_that_waits_makes_the_rest_wait() -> None:
    """Who stands behind one that waits is asked when it has answered, with what it said."""
    waiting: defer.Deferred[Opinion] = defer.Deferred()
    last = Says("last", Reject(WHY))
    asked = Chain([Says("first", Tag(WHY, "one")), Says("waits", waiting), last]).ask(FACTS)
    assert isinstance(asked, defer.Deferred)
    assert last.asked == []
    waiting.callback(Tag(WHY, "two"))
    assert [each.policy for each in result(asked).said] == ["first", "waits", "last"]
    assert last.asked[0].tags == {"one", "two"}


def test_questions_of_one_stage_go_out_together() -> None:
    """Eager policies directly behind one that waits are asked at once, their answers count in order; others are not."""
    answers: list[defer.Deferred[Opinion]] = [defer.Deferred() for _ in range(3)]
    policies = [Says(str(number), answer, eager=True) for number, answer in enumerate(answers)]
    last = Says("last")
    asked = Chain([*policies, last]).ask(FACTS)
    assert isinstance(asked, defer.Deferred)
    assert [len(each.asked) for each in [*policies, last]] == [1, 1, 1, 0]
    for number in (2, 0, 1):
        answers[number].callback(Tag(WHY, str(number)))
    assert [each.policy for each in result(asked).said] == ["0", "1", "2"]
    assert len(last.asked) == 1


def test_what_still_waits_is_cancelled_once_it_is_decided() -> None:
    """A decision cancels the questions behind it; so does giving up the ruling."""
    cancelled = []
    first: defer.Deferred[Opinion] = defer.Deferred()
    second: defer.Deferred[Opinion] = defer.Deferred(lambda _: cancelled.append("second"))
    asked = Chain([Says("a", first), Says("b", second, eager=True)]).ask(FACTS)
    assert isinstance(asked, defer.Deferred)
    first.callback(Reject(WHY))
    assert result(asked).refusal == Reject(WHY)
    assert cancelled == ["second"]


def test_a_bug_of_a_policy_is_not_hidden() -> None:
    """What a policy raises, at once or later, is raised to who asks."""
    with pytest.raises(ZeroDivisionError):
        Chain([Says("a", lambda _: 1 // 0)]).ask(FACTS)  # type: ignore[arg-type, return-value]
    asked = Chain([Says("a", defer.fail(ValueError("bug")))]).ask(FACTS)
    assert isinstance(asked, defer.Deferred)
    failures: list[object] = []
    asked.addErrback(lambda failure: failures.append(failure.value))
    assert isinstance(failures[0], ValueError)


def test_who_keeps_sessions_learns_of_their_end() -> None:
    """Resets, ends of sessions and unknown recipients are told to those who want to know."""
    policy = Says("a")
    chain = Chain([policy])
    chain.enter()
    chain.reset("s")
    chain.refused(lambda: Facts(Stage.RCPT, session="s"), Reason("who?"))
    chain.leave("s")
    assert policy.told == ["reset s", "refused s who?", "closed s"]
    result(chain.stop())
    assert policy.told[-1] == "stop"


def test_an_old_chain_ends_with_its_last_session() -> None:
    """After a reload the chain goes on for sessions that began with it, and ends with the last of them."""
    ended = []
    chain = Chain([], lambda: ended.append(1))
    chain.enter()
    chain.enter()
    chain.leave("a")
    chain.retire()
    assert ended == []
    chain.leave("b")
    assert ended == [1]

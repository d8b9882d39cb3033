"""The chain: policies asked in order, until one decides.

What decides a stage is in `mta.policy.verdict`. A policy that answers at once costs a call; the first one that must
wait makes the rest of the stage wait for it, except that the `Asks` directly behind it are asked at the same time:
their DNS questions go out together, and their answers count in their order. Once one has decided, what still waits is
cancelled.

What one policy changes, those behind it see: tags at every stage, fields and body at the end of a message. A body that
is replaced is in memory from then on.

A chain belongs to one reading of the settings. A session keeps the chain that it began with; after a reload the old one
ends when its last session does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet import defer

from mta.mail.reason import Reason
from mta.observe.event import Kind, Level, Value
from mta.observe.journal import Journal
from mta.policy.changes import MemoryBody, changed_head
from mta.policy.facts import Facts, Stage
from mta.policy.port import Asks, CountsRefusals, KeepsSessions, Policy, Stops
from mta.policy.verdict import (
    Accept,
    AddHeader,
    AddRecipient,
    Answer,
    ChangeHeader,
    ChangeSender,
    Defer,
    Delay,
    Discard,
    File,
    Hold,
    NoOpinion,
    Opinion,
    Redirect,
    Reject,
    RemoveRecipient,
    ReplaceBody,
    Tag,
    Verdict,
)

DELAY_MAXIMUM = 120.0
"""Seconds that all policies of one stage may delay a reply (a sender waits 5 minutes, RFC 5321 §4.5.3.2)."""


@dataclass(frozen=True, slots=True)
class Said:
    """One verdict, and who gave it."""

    policy: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Ruling:
    """What all policies of a stage said, in order; the last may be the one that decided."""

    said: tuple[Said, ...] = ()
    facts: Facts | None = None
    """The facts with all that was changed; None where nothing was said."""

    @property
    def refusal(self) -> Reject | Defer | None:
        """What the command is refused with."""
        verdict = self._last
        return verdict if isinstance(verdict, Reject | Defer) else None

    @property
    def discard(self) -> Discard | None:
        """Whether the message ends here."""
        verdict = self._last
        return verdict if isinstance(verdict, Discard) else None

    @property
    def hold(self) -> Hold | None:
        """Whether the message waits for the operator."""
        return next((each.verdict for each in self.said if isinstance(each.verdict, Hold)), None)

    @property
    def delay(self) -> float:
        """Seconds by which the reply comes later."""
        return min(DELAY_MAXIMUM, sum(each.verdict.seconds for each in self.said if isinstance(each.verdict, Delay)))

    @property
    def tags(self) -> frozenset[str]:
        """What was said of session or message."""
        return frozenset(each.verdict.name for each in self.said if isinstance(each.verdict, Tag))

    @property
    def _last(self) -> Verdict | None:
        return self.said[-1].verdict if self.said else None


    def note(self, journal: Journal, stage: Stage, *, session: str = "", queue_id: str = "") -> None:
        """Say what was said; a refusal stands in the log as one anyway, so that is for the history alone."""
        for each in self.said:
            journal.note(
                Kind.POLICY_SAID,
                each.verdict.reason,
                level=Level.DEBUG if isinstance(each.verdict, Reject | Defer) else Level.INFO,
                session=session,
                queue_id=queue_id,
                stage=stage.value,
                policy=each.policy,
                verdict=type(each.verdict).__name__,
                **_named(each.verdict),
            )


def _named(verdict: Verdict) -> dict[str, Value]:
    """What a verdict names besides its reason: short, for an event."""
    match verdict:
        case Tag(name=what) | AddHeader(name=what) | ChangeHeader(name=what) | File(folder=what):
            return {"what": what}
        case Delay(seconds=seconds):
            return {"what": f"{seconds:g} s"}
        case Redirect(mailbox=mailbox) | AddRecipient(mailbox=mailbox) | RemoveRecipient(mailbox=mailbox):
            return {"what": str(mailbox)}
        case ChangeSender(sender=sender):
            return {"what": f"<{sender or ''}>"}
    return {}


NOTHING = Ruling()
"""What comes of a stage where nobody has an opinion."""

_DECIDES = (Accept, Reject, Defer, Discard)
_SILENT = NoOpinion(Reason("no opinion"))


class Chain:
    """The policies in force, in order. `retired` is called once nobody uses the chain any more, after `retire`."""

    def __init__(self, policies: Sequence[Policy] = (), retired: Callable[[], None] = lambda: None) -> None:
        self.policies = tuple(policies)
        self._at = {stage: tuple(each for each in policies if stage in each.stages) for stage in Stage}
        self._keepers = [each for each in policies if isinstance(each, KeepsSessions)]
        self._counters = [each for each in policies if isinstance(each, CountsRefusals)]
        self._retired = retired
        self._sessions = 0
        self._retiring = False

    # Asking

    def wants(self, stage: Stage) -> bool:
        """Whether anybody is to be asked at a stage; where nobody is, no facts need be put together."""
        return bool(self._at[stage])

    def ask(self, facts: Facts) -> Ruling | defer.Deferred[Ruling]:
        """Ask all policies of ``facts.stage``; a Deferred only where one of them waits."""
        asking = _Asking(facts)
        policies = self._at[facts.stage]
        for number, policy in enumerate(policies):
            answer = policy.ask(asking.facts)
            if isinstance(answer, defer.Deferred):
                return defer.Deferred.fromCoroutine(_wait(asking, policies[number:], answer))
            if asking.take(policy.name, answer):
                break
        return asking.ruling()

    # What else some of them want to know

    def refused(self, facts: Callable[[], Facts], reason: Any) -> None:
        """Tell those who count that the service refused a recipient who does not exist."""
        if self._counters:
            told = facts()
            for each in self._counters:
                each.refused(told, reason)

    def reset(self, session: str) -> None:
        """Tell that a transaction is gone."""
        for each in self._keepers:
            each.reset(session)

    def enter(self) -> None:
        """Count a session that will ask this chain."""
        self._sessions += 1

    def leave(self, session: str) -> None:
        """Tell that a session is over."""
        for each in self._keepers:
            each.closed(session)
        self._sessions -= 1
        self._end()

    # The end

    def retire(self) -> None:
        """Another chain is in force: stop what runs once the last session of this one is over."""
        self._retiring = True
        self._end()

    def _end(self) -> None:
        if self._retiring and not self._sessions:
            self._retired()

    def stop(self) -> defer.Deferred[Any]:
        """Stop what runs now."""
        ends = [defer.maybeDeferred(each.stop) for each in self.policies if isinstance(each, Stops)]
        return defer.DeferredList(ends, consumeErrors=True)


async def _wait(asking: _Asking, policies: Sequence[Policy], first: defer.Deferred[Opinion]) -> Ruling:
    """Go on from the first policy that waits; `policies` begins with it."""
    under_way: dict[int, defer.Deferred[Opinion]] = {0: first}
    try:
        for number, policy in enumerate(policies):
            answer = under_way.pop(number) if number in under_way else policy.ask(asking.facts)
            if isinstance(answer, defer.Deferred):
                for ahead in _eager_behind(policies, number):
                    if ahead not in under_way:
                        under_way[ahead] = _waiting(policies[ahead].ask(asking.facts))
                under_way[number] = answer
                opinion = await answer
                del under_way[number]
            else:
                opinion = answer
            if asking.take(policy.name, opinion):
                break
    finally:
        for waiting in under_way.values():
            waiting.addErrback(lambda _: None)
            waiting.cancel()
    return asking.ruling()


def _waiting(answer: Answer) -> defer.Deferred[Opinion]:
    return answer if isinstance(answer, defer.Deferred) else defer.succeed(answer)


def _eager_behind(policies: Sequence[Policy], number: int) -> Iterator[int]:
    for ahead in range(number + 1, len(policies)):
        policy = policies[ahead]
        if not (isinstance(policy, Asks) and policy.eager):
            return
        yield ahead


class _Asking:
    """One stage being asked: the facts as they stand, and what was said."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._said: list[Said] = []

    def take(self, policy: str, opinion: Opinion) -> bool:
        """Take what a policy says; whether that decides the stage."""
        if not opinion:
            if self.facts.rehearsal:
                self._said.append(Said(policy, _SILENT))
            return False
        verdicts = opinion if isinstance(opinion, Sequence) else (opinion,)
        decided = next((place for place, each in enumerate(verdicts, 1) if isinstance(each, _DECIDES)), 0)
        verdicts = verdicts[:decided] if decided else verdicts
        self._said += [Said(policy, verdict) for verdict in verdicts]
        tags = {verdict.name for verdict in verdicts if isinstance(verdict, Tag)}
        changes = [verdict for verdict in verdicts if isinstance(verdict, AddHeader | ChangeHeader)]
        bodies = [verdict for verdict in verdicts if isinstance(verdict, ReplaceBody)]
        if tags:
            self.facts = replace(self.facts, tags=self.facts.tags | tags)
        if changes:  # together: a filter may make a thousand, and each alone would divide the whole head anew
            self.facts = replace(self.facts, head=changed_head(self.facts.head, changes))
        if bodies:
            self.facts = replace(self.facts, body=MemoryBody(bodies[-1].body))
        return bool(decided)

    def ruling(self) -> Ruling:
        return Ruling(tuple(self._said), self.facts) if self._said else NOTHING

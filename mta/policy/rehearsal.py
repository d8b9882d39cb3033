"""Rehearsals: policies asked what they would say, of which no trace stays (``mta explain``).

What a policy counts or remembers it counts in a rehearsal too, in a copy that ends with the rehearsed session: the
third recipient of a network that may name two is refused, as he would be, and nobody real is refused for it. A delay is
told, not waited for. A policy that says nothing is heard as one that was asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet import defer

from mta.policy.chain import NOTHING, Chain, Ruling
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import Delay, NoOpinion


class Copied(Protocol):
    """Something that is remembered."""

    def copy(self: C) -> C:
        """Make another one that begins with the same and changes nothing here."""
        ...


C = TypeVar("C", bound=Copied)


class Kept(Generic[C]):
    """What a policy remembers, and the copies of it that rehearsals under way use."""

    def __init__(self, real: C) -> None:
        self._real = real
        self._copies: dict[str, C] = {}

    def of(self, facts: Facts) -> C:
        """Give the real thing, or the copy of a rehearsed session."""
        if not facts.rehearsal:
            return self._real
        copied = self._copies.get(facts.session)
        if copied is None:
            copied = self._copies[facts.session] = self._real.copy()
        return copied

    def closed(self, session: str) -> None:
        """Forget the copy of a session that is over."""
        self._copies.pop(session, None)


Told = Callable[[Facts, Ruling, tuple[str, ...]], None]
"""Learns what was said of some facts, silence included, and which policies were not asked any more."""


class RehearsedChain(Chain):
    """The policies of `chain`, asked in rehearsal."""

    def __init__(self, chain: Chain, told: Told) -> None:
        super().__init__(chain.policies)
        self._chain = chain
        self._told = told

    def ask(self, facts: Facts) -> Ruling | defer.Deferred[Ruling]:
        """Ask, tell, and give what there is to act upon."""
        asked = self._chain.ask(replace(facts, rehearsal=True))
        if isinstance(asked, defer.Deferred):
            return asked.addCallback(self._heard, facts)
        return self._heard(asked, facts)

    def _heard(self, ruling: Ruling, facts: Facts) -> Ruling:
        spoke = {each.policy for each in ruling.said}
        unasked = tuple(name for name in self.at(facts.stage) if name not in spoke)
        self._told(facts, ruling, unasked)
        said = tuple(each for each in ruling.said if not isinstance(each.verdict, Delay | NoOpinion))
        return replace(ruling, said=said) if said else NOTHING

    def at(self, stage: Stage) -> list[str]:
        """Name the policies of a stage in their order."""
        return [policy.name for policy in self.policies if stage in policy.stages]

    def refused(self, facts: Callable[[], Facts], reason: Any) -> None:
        """See `Chain`."""
        self._chain.refused(lambda: replace(facts(), rehearsal=True), reason)

    def reset(self, session: str) -> None:
        """See `Chain`."""
        self._chain.reset(session)

    def enter(self) -> None:
        """See `Chain`."""
        self._chain.enter()

    def leave(self, session: str) -> None:
        """See `Chain`."""
        self._chain.leave(session)

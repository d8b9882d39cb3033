"""The interface of a policy: asked at its stages; some are told more."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from twisted.internet import defer

from mta.mail.reason import Reason
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import Answer


class Policy(Protocol):
    """One rule or filter. It is made anew at each reload of the settings; what it remembers is handed to it."""

    @property
    def name(self) -> str:
        """What ``[policy] order`` and reasons call it."""
        ...

    @property
    def stages(self) -> frozenset[Stage]:
        """When it wants to be asked: at no other stage is it."""
        ...

    def ask(self, facts: Facts) -> Answer:
        """Judge. What it raises, or its Deferred fails with, is a bug: it becomes 451 and one traceback."""
        ...


@runtime_checkable
class Asks(Protocol):
    """A policy that only asks the domain name system: its question may go out while those before it still wait."""

    eager: bool


@runtime_checkable
class KeepsSessions(Protocol):
    """A policy with something of its own for each session."""

    def reset(self, session: str) -> None:
        """Learn that the transaction of a session is gone."""
        ...

    def closed(self, session: str) -> None:
        """Learn that a session is over."""
        ...


@runtime_checkable
class CountsRefusals(Protocol):
    """A policy that learns from recipients whom the service refuses by itself."""

    def refused(self, facts: Facts, reason: Reason) -> None:
        """Learn that ``facts.recipient`` is a mailbox that does not exist."""
        ...


@runtime_checkable
class Stops(Protocol):
    """A policy with processes or connections that must end with it."""

    def stop(self) -> defer.Deferred[None] | None:
        """End them."""
        ...

"""The interface of a policy: asked at its stages, told what became of it."""

from __future__ import annotations

from typing import Protocol

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

"""Wrong passwords, remembered to slow down guessing (RFC 4954 §9): each one beyond a few doubles the next delay.

Two tables are kept by the checker: by account and network, and by network alone. None is by account alone, so nobody
far away can lock the owner out. Attempts of one key are taken one after another, a delay apart: a hundred connections
guess no faster than one. An attempt that would wait longer than the longest delay is turned away unchecked.

Both tables are bounded: the key that was wrong longest ago is forgotten first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How wrong passwords are answered; times are seconds."""

    free: int
    """How many are not delayed."""
    first_delay: float
    longest_delay: float
    forget: float
    """How long after the last one they are forgotten."""
    maximum: int
    """How many keys are remembered."""

    def delay(self, wrong: int) -> float:
        """The time between two attempts after `wrong` wrong passwords."""
        if wrong <= self.free:
            return 0.0
        return float(min(self.longest_delay, self.first_delay * 2.0 ** min(wrong - self.free - 1, 32)))


@dataclass(slots=True)
class _Wrong:
    count: int
    last: float
    next: float
    """When the next attempt may be made."""


class Guesses:
    """Wrong passwords by key. `now` everywhere is monotonic seconds."""

    def __init__(self, patience: Callable[[], Patience]) -> None:
        self._patience = patience
        self._wrong: OrderedDict[Hashable, _Wrong] = OrderedDict()

    def __len__(self) -> int:
        return len(self._wrong)

    def wait(self, key: Hashable, now: float) -> float | None:
        """Seconds until an attempt may be made; None where that is longer than the longest delay."""
        wrong = self._known(key, now)
        if wrong is None:
            return 0.0
        wait = max(0.0, wrong.next - now)
        return wait if wait <= self._patience().longest_delay else None

    def take(self, key: Hashable, now: float) -> None:
        """Take the next place in the line of attempts."""
        wrong = self._known(key, now)
        if wrong is not None:
            wrong.next = max(now, wrong.next) + self._patience().delay(wrong.count)

    def add(self, key: Hashable, now: float) -> None:
        """Remember a wrong password."""
        wrong = self._known(key, now)
        patience = self._patience()
        if wrong is None:
            wrong = self._wrong[key] = _Wrong(0, now, now)
        wrong.count += 1
        wrong.last = now
        wrong.next = max(wrong.next, now + patience.delay(wrong.count))
        self._wrong.move_to_end(key)
        while len(self._wrong) > patience.maximum:
            self._wrong.popitem(last=False)

    def forget(self, key: Hashable) -> None:
        """Forget a key, whose owner has come."""
        self._wrong.pop(key, None)

    def _known(self, key: Hashable, now: float) -> _Wrong | None:
        wrong = self._wrong.get(key)
        if wrong is not None and now - wrong.last > self._patience().forget:
            del self._wrong[key]
            return None
        return wrong

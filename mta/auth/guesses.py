"""Wrong passwords, remembered to slow down guessing (RFC 4954 §9): each one beyond a few doubles the next delay.

Two tables are kept by the checker: by account and network, and by network alone. None is by account alone, so nobody
far away can lock the owner out. Attempts of one key are taken one after another, a delay apart: a hundred connections
guess no faster than one. An attempt that would wait longer than the longest delay is turned away unchecked.

Both tables are bounded, and may be such that all workers share (`mta.board`): a hundred connections to each of several
workers guess no faster either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mta.board.port import Table


@dataclass(frozen=True, slots=True)
class Patience:
    """How wrong passwords are answered; times are seconds."""

    free: int
    """How many are not delayed."""
    first_delay: float
    longest_delay: float
    forget: float
    """How long after the last one they are forgotten."""

    def delay(self, wrong: int) -> float:
        """The time between two attempts after `wrong` wrong passwords."""
        if wrong <= self.free:
            return 0.0
        return float(min(self.longest_delay, self.first_delay * 2.0 ** min(wrong - self.free - 1, 32)))


class Guesses:
    """Wrong passwords by key. `now` everywhere is monotonic seconds.

    The table has three fields: how many, when the last one was, and when the next attempt may be made.
    """

    FIELDS = 3

    def __init__(self, table: Table, patience: Callable[[], Patience]) -> None:
        self._table = table
        self._patience = patience

    def wait(self, key: str, now: float) -> float | None:
        """Seconds until an attempt may be made; None where that is longer than the longest delay."""
        _, _, after = self._known(key, now)
        wait = max(0.0, after - now)
        return wait if wait <= self._patience().longest_delay else None

    def take(self, key: str, now: float) -> None:
        """Take the next place in the line of attempts."""
        with self._table.hold():
            count, last, after = self._known(key, now)
            if count:
                self._table.put(key, (count, last, max(now, after) + self._patience().delay(int(count))))

    def add(self, key: str, now: float) -> None:
        """Remember a wrong password."""
        with self._table.hold():
            count, _, after = self._known(key, now)
            self._table.put(key, (count + 1, now, max(after, now + self._patience().delay(int(count) + 1))))

    def forget(self, key: str) -> None:
        """Forget a key, whose owner has come."""
        self._table.forget(key)

    def _known(self, key: str, now: float) -> tuple[float, float, float]:
        count, last, after = self._table.get(key) or (0.0, now, now)
        return (0.0, now, now) if now - last > self._patience().forget else (count, last, after)

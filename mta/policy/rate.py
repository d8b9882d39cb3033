"""How often something may happen, and how often it did, by name (pure but for the table that it is kept in).

`Rate` is a table of token buckets: so many in a period, all at once or evenly. `Tally` counts what happened in the
period that ends now, from the counts of this period and of the one before it (a sliding window; it is exact where
things happen evenly). The table is bounded, and may be one that all workers share (`mta.board`).
"""

from __future__ import annotations

from collections.abc import Callable

from mta.board.alone import Draft
from mta.board.port import Table

HOUR = 3600.0
MINUTE = 60.0


class Rate:
    """Buckets by name; all have one `period`, in seconds. `seconds` is monotonic time.

    The table has two fields: what is left, and when that was.
    """

    FIELDS = 2

    def __init__(self, table: Table, seconds: Callable[[], float], period: float = HOUR) -> None:
        self._table = table
        self._seconds = seconds
        self._period = period

    def take(self, name: str, maximum: int) -> bool:
        """Use one of `maximum` in a period; False where none is left."""
        now = self._seconds()
        with self._table.hold():
            left = self._left(name, maximum, now)
            allowed = left >= 1
            self._table.put(name, (left - 1 if allowed else left, now))
        return allowed

    def wait(self, name: str, maximum: int) -> float:
        """Seconds until one can be used; 0: now. Uses none."""
        left = self._left(name, maximum, self._seconds())
        return 0.0 if left >= 1 else (1 - left) * self._period / maximum

    def copy(self) -> Rate:
        """Make one that begins with what is known here, and changes nothing here."""
        return Rate(Draft(self._table), self._seconds, self._period)

    def _left(self, name: str, maximum: int, now: float) -> float:
        left, then = self._table.get(name) or (float(maximum), now)
        return min(float(maximum), left + (now - then) * maximum / self._period)


class Tally:
    """Counts by name. `seconds` is monotonic time.

    The table has three fields: which period, its count, and that of the period before.
    """

    FIELDS = 3

    def __init__(self, table: Table, seconds: Callable[[], float], period: float = HOUR) -> None:
        self._table = table
        self._seconds = seconds
        self._period = period

    def add(self, name: str) -> None:
        """Count one now."""
        with self._table.hold():
            period, here, before = self._known(name)
            self._table.put(name, (period, here + 1, before))

    def count(self, name: str) -> float:
        """How many there were within the last period."""
        _, here, before = self._known(name)
        passed = self._seconds() % self._period / self._period
        return here + before * (1 - passed)

    def copy(self) -> Tally:
        """Make one that begins with what is known here, and changes nothing here."""
        return Tally(Draft(self._table), self._seconds, self._period)

    def _known(self, name: str) -> tuple[float, float, float]:
        now = self._seconds() // self._period
        period, here, before = self._table.get(name) or (now, 0.0, 0.0)
        if period == now:
            return period, here, before
        return now, 0.0, here if now - period == 1 else 0.0

"""How often something may happen, and how often it did, by name and in bounded memory (pure).

`Rate` is a table of token buckets: so many in a period, all at once or evenly. `Tally` counts what happened in the
period that ends now, from the counts of this period and of the one before it (a sliding window; it is exact where
things happen evenly). Names of whom nothing is known any more, since a period has passed, are forgotten as others
come; past the bound the one that was quiet the longest goes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

HOUR = 3600.0
MINUTE = 60.0
NAMES_MAXIMUM = 10_000
"""Names remembered at once: some 2 MB."""


class Rate:
    """Buckets by name; all have one `period`, in seconds. `seconds` is monotonic time."""

    def __init__(self, seconds: Callable[[], float], period: float = HOUR, names: int = NAMES_MAXIMUM) -> None:
        self._seconds = seconds
        self._period = period
        self._names = names
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is left, and when that was."""

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, maximum: int) -> bool:
        """Use one of `maximum` in a period; False where none is left."""
        now = self._seconds()
        left = self._left(name, maximum, now)
        allowed = left >= 1
        self._buckets[name] = (left - 1 if allowed else left, now)
        self._buckets.move_to_end(name)
        self._forget(now)
        return allowed

    def wait(self, name: str, maximum: int) -> float:
        """Seconds until one can be used; 0: now. Uses none."""
        left = self._left(name, maximum, self._seconds())
        return 0.0 if left >= 1 else (1 - left) * self._period / maximum

    def _left(self, name: str, maximum: int, now: float) -> float:
        left, then = self._buckets.get(name, (float(maximum), now))
        return min(float(maximum), left + (now - then) * maximum / self._period)

    def _forget(self, now: float) -> None:
        while self._buckets:
            name, (_, then) = next(iter(self._buckets.items()))
            if len(self._buckets) <= self._names and now - then < self._period:
                return
            del self._buckets[name]


class Tally:
    """Counts by name. `seconds` is monotonic time."""

    def __init__(self, seconds: Callable[[], float], period: float = HOUR, names: int = NAMES_MAXIMUM) -> None:
        self._seconds = seconds
        self._period = period
        self._names = names
        self._counts: OrderedDict[str, tuple[int, int, int]] = OrderedDict()
        """Which period, its count, and that of the period before."""

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, name: str) -> None:
        """Count one now."""
        period, here, before = self._known(name)
        self._counts[name] = (period, here + 1, before)
        self._counts.move_to_end(name)
        while self._counts:
            oldest, (then, _, _) = next(iter(self._counts.items()))
            if len(self._counts) <= self._names and period - then < 2:
                return
            del self._counts[oldest]

    def count(self, name: str) -> float:
        """How many there were within the last period."""
        _, here, before = self._known(name)
        passed = self._seconds() % self._period / self._period
        return here + before * (1 - passed)

    def _known(self, name: str) -> tuple[int, int, int]:
        now = int(self._seconds() // self._period)
        period, here, before = self._counts.get(name, (now, 0, 0))
        if period == now:
            return period, here, before
        return now, 0, here if now - period == 1 else 0

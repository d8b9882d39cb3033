"""How much of something may happen in an hour: one bucket a name, in bounded memory (a token bucket).

Buckets that are full again are forgotten, so the table holds only who was busy within the last hour.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

_BUCKETS_MAXIMUM = 10_000
"""Names remembered at once; past it the one that was quiet the longest is forgotten."""
_HOUR = 3600.0


class HourlyRate:
    """Counts by name. `seconds` is monotonic time."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, maximum: int) -> bool:
        """Use one of `maximum` an hour; False where none is left."""
        now = self._seconds()
        left, then = self._buckets.pop(name, (float(maximum), now))
        left = min(float(maximum), left + (now - then) * maximum / _HOUR)
        allowed = left >= 1
        self._buckets[name] = (left - 1 if allowed else left, now)
        if len(self._buckets) > _BUCKETS_MAXIMUM:
            self._buckets.popitem(last=False)
        return allowed

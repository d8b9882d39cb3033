"""Delays, a bounded number of them at once: a crowd of spammers must not hold all our connections (pure)."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from mta.mail.reason import Reason
from mta.policy.verdict import Delay


class Places:
    """Places for sessions that are delayed. `seconds` is monotonic time; a place is free again when its time is over,
    also where its session was gone before.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._ends: list[float] = []
        """When each place that is taken will be free, as a heap."""

    def delay(self, seconds: float, maximum: int, reason: Reason, rehearsal: bool = False) -> Delay | None:
        """Delay a reply; None where `maximum` replies wait already. A rehearsal takes no place."""
        now = self._seconds()
        while self._ends and self._ends[0] <= now:
            heapq.heappop(self._ends)
        if len(self._ends) >= maximum:
            return None
        if not rehearsal:
            heapq.heappush(self._ends, now + seconds)
        return Delay(reason, seconds)

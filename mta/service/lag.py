"""How late the event loop is: the first thing that suffers when there is more work than time.

A call is due every `INTERVAL` seconds; by how much it comes late is the lag. It also is the sign of life that the
watchdog of systemd asks for (`mta.service.notify`): where the loop stands still, there is none.
"""

from __future__ import annotations

from collections import deque

from twisted.internet import interfaces

from mta.observe.metric import LOOP_LAG
from mta.observe.tally import Tally

INTERVAL = 0.25
"""Seconds between two looks."""
REMEMBERED = 60.0
"""Seconds for which `Lag.maximum` remembers, where the loop is not late: the longest usual interval of scrapes."""


class Lag:
    """Measures the lag of the loop that `clock` runs on."""

    def __init__(self, clock: interfaces.IReactorTime, tally: Tally) -> None:
        self._clock = clock
        self._tally = tally
        self._call: interfaces.IDelayedCall | None = None
        self._due = 0.0
        self._seen: deque[float] = deque(maxlen=round(REMEMBERED / INTERVAL))

    def start(self) -> None:
        """Begin."""
        self._due = self._clock.seconds() + INTERVAL
        self._call = self._clock.callLater(INTERVAL, self._look)

    def stop(self) -> None:
        """End."""
        if self._call is not None and self._call.active():
            self._call.cancel()

    def maximum(self) -> float:
        """The largest lag of the last minute, in seconds."""
        return max(self._seen, default=0.0)

    def _look(self) -> None:
        lag = max(0.0, self._clock.seconds() - self._due)
        self._tally.observe(LOOP_LAG, lag)
        self._seen.append(lag)
        self.start()

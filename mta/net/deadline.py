"""A deadline that moves: one delayed call serves one after the other, as most are over long before it fires.

Moving it costs a comparison, not a place in the reactor's heap: a call that fires too early just waits for the rest.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import interfaces


class Deadline:
    """Calls `overdue` when the time that was set last is over; there is none before the first `move`."""

    __slots__ = ("_at", "_clock", "_overdue", "_timer")

    def __init__(self, clock: interfaces.IReactorTime, overdue: Callable[[], None]) -> None:
        self._clock = clock
        self._overdue = overdue
        self._at = 0.0
        self._timer: interfaces.IDelayedCall | None = None

    def move(self, at: float) -> None:
        """Have it at `at`, in the seconds of the clock, in place of where it was."""
        self._at = at
        if self._timer is None:
            self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._fire)
        elif self._timer.getTime() > at:
            self._timer.reset(max(0.0, at - self._clock.seconds()))

    def end(self) -> None:
        """Never call again, unless moved."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        left = self._at - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._fire)
        else:
            self._overdue()

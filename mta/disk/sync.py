"""Which way to make a batch of new files and names durable: one sync for each, or one for the volume; by their cost.

A sync of the volume is cheapest for many, and writes the neighbours' data too, which may be gigabytes. So both are
measured. Batches of about the same size (1, 2-3, 4-7, …) have estimates of their own; the way that was cheaper is
taken. The other is tried again so seldom that all trials together take less than a hundredth of the time.

The size is the number of syncs that `Way.EACH` would do: files and distinct directories (on ext4 one costs as much as
the other).
"""

from __future__ import annotations

import enum
from collections.abc import Callable


class Way(enum.Enum):
    """How a batch is synced."""

    EACH = "each"
    """Every file and every directory."""
    VOLUME = "volume"
    """The whole volume."""


_VOLUME_FROM = 3
"""Size from which the volume is taken unmeasured (ext4, size 2: 0.4 ms each, 0.3 ms the volume; 8: 1.7 and 0.4)."""
_PROBE_SHARE = 1000
"""A trial that takes a second is followed by this many seconds without one (for each of some ten sizes)."""
_PROBE_PAUSE = 10.0
"""Seconds that pass at least before the dearer way is tried."""
_SMOOTHING = 0.2
"""Weight of a new measure in its estimate."""


class SyncChoice:
    """The choice for one volume. `seconds` is a monotonic clock."""

    def __init__(self, seconds: Callable[[], float], volume_sync: bool) -> None:
        self._seconds = seconds
        self._volume_sync = volume_sync
        self._estimates: dict[tuple[Way, int], float] = {}
        self._last: dict[tuple[Way, int], float] = {}
        self._started = seconds()

    def choose(self, syncs: int) -> Way:
        """Return the way for a batch that is `syncs` files and directories."""
        if not self._volume_sync:
            return Way.EACH
        size = syncs.bit_length()
        first, second = (Way.EACH, Way.VOLUME) if syncs < _VOLUME_FROM else (Way.VOLUME, Way.EACH)
        if self._estimates.get((first, size), 0.0) > self._estimates.get((second, size), float("inf")):
            first, second = second, first
        return second if self._is_due(second, size) else first

    def _is_due(self, way: Way, size: int) -> bool:
        since = self._seconds() - self._last.get((way, size), self._started)
        return since > max(_PROBE_PAUSE, _PROBE_SHARE * self._estimates.get((way, size), 0.0))

    def measured(self, way: Way, syncs: int, seconds: float) -> None:
        """Take note that a batch of `syncs` files and directories, synced in one way, took `seconds`."""
        key = way, syncs.bit_length()
        known = self._estimates.get(key, seconds)
        self._estimates[key] = known + _SMOOTHING * (seconds - known)
        self._last[key] = self._seconds()

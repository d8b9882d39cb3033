"""Measuring what is no event: how many shared a sync, and how long it took."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from mta.observe.metric import BATCH, SYNC_SECONDS
from mta.observe.tally import Tally

Timed = Callable[[int], contextlib.AbstractContextManager[None]]
"""Surrounds a sync that so many share; by any thread."""


def untimed(items: int) -> contextlib.AbstractContextManager[None]:
    """Measure nothing."""
    return contextlib.nullcontext()


def timed_syncs(tally: Tally, place: str, seconds: Callable[[], float]) -> Timed:
    """Tell `tally` of each sync at `place`, ``spool`` or ``maildir``; `seconds` is a monotonic clock.

    One that fails counts too: that it hung before is worth knowing.
    """

    @contextlib.contextmanager
    def timed(items: int) -> Iterator[None]:
        started = seconds()
        try:
            yield
        finally:
            tally.observe(SYNC_SECONDS, seconds() - started, place)
            tally.observe(BATCH, items, place)

    return timed

"""A look at a whole shard for those who count: where its recipients go, why they wait, and how old the oldest is.

Each look has a connection of its own that only reads, so it may be made on any thread while the server works. It goes
over an index of all recipients (a million take some tenths of a second), then at no more than `SAMPLE` of those of each
destination that is named. One that takes longer than `SECONDS` is given up.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from mta.spool.port import State

SAMPLE = 200
"""Recipients of one destination that are looked at for states, reason and next attempt."""
SECONDS = 5.0
"""How long one look may take."""

_STEPS = 100_000
"""Instructions of SQLite's machine between two looks at the clock: about a millisecond."""
_COUNT = "SELECT destination, count(*) FROM recipient GROUP BY destination"
_SAMPLE = "SELECT state, due, reason_text FROM recipient WHERE destination = ? LIMIT ?"
_OLDEST = "SELECT accepted FROM message ORDER BY queue_id LIMIT 1"


@dataclass(slots=True)
class Destination:
    """One destination. `states` and `reasons` are those of a sample."""

    recipients: int = 0
    next: float | None = None
    """Wall time of the first attempt in the sample; None where none waits."""
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Sight:
    """What was seen."""

    destinations: dict[str, Destination] = field(default_factory=dict)
    """Those with most recipients, the largest first."""
    others: int = 0
    """Recipients of all other destinations."""
    oldest: float | None = None
    """Wall time at which the oldest message was accepted."""


def look(paths: Iterable[str], top: int, seconds: Callable[[], float]) -> Sight:
    """Look at the shards in these directories together; `top` destinations are named. Blocks.

    `seconds` is a monotonic clock. Raises sqlite3.Error.
    """
    paths, end = list(paths), seconds() + SECONDS
    counts: Counter[str] = Counter()
    oldest: list[float] = []
    sight = Sight()
    for path in paths:
        with _opened(path, end, seconds) as connection:
            for destination, count in connection.execute(_COUNT):
                counts[destination] += count
            oldest += [accepted for (accepted,) in connection.execute(_OLDEST)]
    for destination, count in counts.most_common(top):
        sight.destinations[destination] = Destination(count)
    sight.others = counts.total() - sum(each.recipients for each in sight.destinations.values())
    sight.oldest = min(oldest, default=None)
    for path in paths:
        with _opened(path, end, seconds) as connection:
            for destination, seen in sight.destinations.items():
                _sample(connection.execute(_SAMPLE, (destination, SAMPLE)), seen)
    return sight


def _sample(rows: Iterable[tuple[int, float, str | None]], seen: Destination) -> None:
    for state, due, reason in rows:
        seen.states[State(state).name.lower()] += 1
        if reason:
            seen.reasons[reason] += 1
        if state == State.WAITING and (seen.next is None or due < seen.next):
            seen.next = due


@contextlib.contextmanager
def _opened(path: str, end: float, seconds: Callable[[], float]) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"file:{quote(path)}/queue.db?mode=ro", timeout=0, isolation_level=None, uri=True)
    try:
        connection.set_progress_handler(lambda: seconds() > end, _STEPS)
        yield connection
    finally:
        connection.close()

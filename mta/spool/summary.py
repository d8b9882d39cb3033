"""Shards summed up: how much waits, for whom, why, until when, and since when.

Blocks, and opens connections of its own, as `mta.spool.search` does: it belongs on a thread, or in a command of its
own. What is said of a destination with more than `EXACT` recipients: how many there are, in which state, which is the
oldest and when the next is tried, is exact; the reasons are those of the oldest and newest `SAMPLE`.

A million recipients for 2,003 destinations take 0.3 to 0.5 s on the development machine. So there is no table of
tallies by destination: it would cost every message what a summary costs once.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mta.spool.port import State
from mta.spool.search import RARE, reading

EXACT = 2_000
"""Recipients of a destination up to which each is looked at for a summary."""
SAMPLE = 500
"""Oldest ones, and as many newest, that are looked at otherwise."""
REASONS = 3
"""Reasons that are told of a destination."""
_CANDIDATES = 10_000
"""Destinations of one shard of several among which the largest of all are looked for."""
_STEPS = 100_000
"""Instructions of SQLite's machine between two looks at the clock: about a millisecond."""


@dataclass(slots=True)
class Waiting:
    """What waits for one destination."""

    recipients: int = 0
    states: Counter[State] = field(default_factory=Counter)
    oldest: float = 0.0
    """Wall time at which the first of them was accepted."""
    next_attempt: float | None = None
    """Wall time; None where none of them is WAITING."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How often, among `sampled` recipients."""
    sampled: int = 0


@dataclass(slots=True)
class Summary:
    """A whole queue."""

    messages: int = 0
    states: Counter[State] = field(default_factory=Counter)
    oldest: float | None = None
    """Wall time at which the first message was accepted."""
    destinations: int = 0
    """How many there are; of several shards, at least so many."""
    largest: dict[str, Waiting] = field(default_factory=dict)
    """The destinations with most recipients, the largest first."""

    @property
    def others(self) -> int:
        """Recipients of all other destinations."""
        return self.states.total() - sum(each.recipients for each in self.largest.values())


def summarise(paths: Sequence[str], limit: int, late: Callable[[], bool] = lambda: False) -> Summary:
    """Sum up the shards at `paths`; the `limit` destinations with most recipients are told of.

    Once it is `late`, sqlite3.OperationalError is raised.
    """
    summary = Summary()
    counts: Counter[str] = Counter()
    for path in paths:
        with reading(path) as connection:
            connection.set_progress_handler(late, _STEPS)
            found, destinations = _largest(connection, limit if len(paths) == 1 else _CANDIDATES)
            counts.update(found)
            summary.destinations = max(summary.destinations, destinations)
    names = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]]
    for path in paths:
        with reading(path) as connection:
            connection.set_progress_handler(late, _STEPS)
            _add(summary, connection, names)
    largest = sorted(summary.largest.items(), key=lambda item: (-item[1].recipients, item[0]))
    summary.largest = dict(largest)
    summary.destinations = max(summary.destinations, len(counts) if len(paths) > 1 else 0)
    return summary


_LARGEST = """
    SELECT json_group_array(json_array(destination, amount, destinations)) FROM (
        SELECT destination, count(*) AS amount, count(*) OVER () AS destinations FROM recipient
        GROUP BY destination ORDER BY amount DESC, destination LIMIT ?)
"""
_NAMED = """
    SELECT destination, count(*), min(queue_id) FROM recipient
    WHERE destination IN (SELECT value FROM json_each(?)) GROUP BY destination
"""
_OLDEST = "SELECT accepted FROM message ORDER BY queue_id LIMIT 1"
_ACCEPTED = "SELECT accepted FROM message WHERE queue_id = ?"
_IN_STATE = """
    SELECT destination, count(*) FROM recipient WHERE state = ?
    AND destination IN (SELECT value FROM json_each(?)) GROUP BY destination
"""
_IN_STATES = """
    SELECT destination, state, count(*) FROM recipient NOT INDEXED
    WHERE destination IN (SELECT value FROM json_each(?)) GROUP BY destination, state
"""
_DUE_SOON = """
    SELECT destination, min(due) FROM (SELECT destination, due FROM recipient WHERE state = ? ORDER BY due LIMIT ?)
    WHERE destination IN (SELECT value FROM json_each(?)) GROUP BY destination
"""
_DUE_OF = "SELECT min(due) FROM recipient INDEXED BY recipient_destination WHERE destination = ? AND state = ?"
_REASONS = """
    SELECT coalesce(reason_text, '') || CASE WHEN coalesce(reason_source, '') = '' THEN ''
        ELSE ' [' || reason_source || ']' END AS reason, count(*) FROM (
        SELECT * FROM (SELECT reason_text, reason_source, queue_id, number FROM recipient WHERE destination = ?1
            ORDER BY queue_id LIMIT ?2)
        UNION
        SELECT * FROM (SELECT reason_text, reason_source, queue_id, number FROM recipient WHERE destination = ?1
            ORDER BY queue_id DESC LIMIT ?2)
    ) GROUP BY reason ORDER BY count(*) DESC
"""


def _largest(connection: sqlite3.Connection, limit: int) -> tuple[dict[str, int], int]:
    """Find the destinations with most recipients of a shard, and how many destinations it has."""
    ((text,),) = connection.execute(_LARGEST, (limit,))
    rows = json.loads(text)
    return {destination: amount for destination, amount, _ in rows}, max((row[2] for row in rows), default=0)


def _add(summary: Summary, connection: sqlite3.Connection, names: Sequence[str]) -> None:
    """Add a shard, and of it what goes to destinations."""
    tally: dict[int, int] = dict(connection.execute("SELECT state, amount FROM tally"))
    summary.messages += tally[-1]
    summary.states.update({state: tally[state] for state in State})
    for (oldest,) in connection.execute(_OLDEST):
        summary.oldest = oldest if summary.oldest is None else min(oldest, summary.oldest)
    named = json.dumps(names)
    rows = connection.execute(_NAMED, (named,)).fetchall()
    states = _states(connection, tally, {destination: amount for destination, amount, _ in rows})
    soon: dict[str, float] = dict(connection.execute(_DUE_SOON, (State.WAITING, RARE, named)))
    for destination, amount, first in rows:
        (oldest,) = connection.execute(_ACCEPTED, (first,)).fetchone()
        waiting = summary.largest.setdefault(destination, Waiting(oldest=oldest))
        waiting.recipients += amount
        waiting.states.update(states[destination])
        waiting.oldest = min(waiting.oldest, oldest)
        due = soon.get(destination)
        if due is None and states[destination][State.WAITING]:
            (due,) = connection.execute(_DUE_OF, (destination, State.WAITING)).fetchone()
        waiting.next_attempt = min((each for each in (due, waiting.next_attempt) if each is not None), default=None)
        reasons = connection.execute(_REASONS, (destination, amount if amount <= EXACT else SAMPLE)).fetchall()
        waiting.reasons.update(dict(reasons[:REASONS]))
        waiting.sampled += sum(number for _, number in reasons)


def _states(
    connection: sqlite3.Connection, tally: dict[int, int], amounts: dict[str, int]
) -> dict[str, Counter[State]]:
    """Count the recipients of these destinations in each state.

    All states but the commonest are counted by their index where they are rare, and the rest is the commonest.
    """
    states = {destination: Counter[State]() for destination in amounts}
    names = json.dumps(list(amounts))
    most = max(State, key=lambda state: tally[state])
    if sum(tally[state] for state in State if state is not most) > RARE:
        for destination, state, amount in connection.execute(_IN_STATES, (names,)):
            states[destination][State(state)] = amount
        return states
    for state in State:
        for destination, amount in connection.execute(_IN_STATE, (state, names)) if state is not most else ():
            states[destination][state] = amount
    for destination, amount in amounts.items():
        states[destination][most] = amount - sum(states[destination].values())
    return states

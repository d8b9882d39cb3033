"""Finding recipients in shards, and counting them: for the operator, off the reactor's thread.

Every function blocks and opens connections of its own that cannot write: it belongs on a thread, or in a command of
its own. SQLite looks through a million rows without the interpreter's lock, and each answer is one row of JSON, so a
search holds up the reactor for a millisecond, whatever it has to look through. What is found is what was durable.

Measured with 1,000,000 recipients of 500,000 messages for 2,003 destinations, on the development machine: a page
without a filter or of one destination 5 ms, a search through all rows that finds nothing 0.4 s, a summary 0.3 s. So
there is no table of tallies by destination: it would cost every message what a summary costs once.

What is said of a destination with more than `EXACT` recipients: how many there are, in which state, and which is the
oldest, is exact; the reasons are those of the oldest and newest `SAMPLE`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from mta.mail.queueid import accepted_at, first_queue_id
from mta.spool.port import State

RARE = 20_000
"""Recipients in one state up to which they are found by that state, and more in the order of queue ids."""
EXACT = 2_000
"""Recipients of a destination up to which each is looked at for a summary."""
SAMPLE = 500
"""Oldest ones, and as many newest, that are looked at otherwise."""
REASONS = 3
"""Reasons that are told of a destination."""
_SLACK = 86400.0
"""Seconds that may lie between the making of a queue id and the acceptance of its message, and more than do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which recipients are meant: those that everything fits that is given.

    Text is an address or name in which ``*`` stands for anything, and case does not count; ``<>`` is the empty
    reverse-path. Times are wall times of acceptance.
    """

    queue_ids: tuple[str, ...] = ()
    sender: str = ""
    recipient: str = ""
    destination: str = ""
    login: str = ""
    error: str = ""
    """A part of the reason of the last delay, or of its source."""
    state: State | None = None
    accepted_from: float | None = None
    accepted_until: float | None = None


EVERYTHING = Wanted()


@dataclass(frozen=True, slots=True)
class Found:
    """Recipients of one message, by their numbers."""

    queue_id: str
    numbers: tuple[int, ...]


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
    """The destinations with most recipients."""


def find(paths: Sequence[str], wanted: Wanted, after: str = "", limit: int = 100) -> list[Found]:
    """Find up to `limit` messages behind the queue id `after` in the shards at `paths`, in the order of their ids."""
    found: list[Found] = []
    for path in paths:
        with _reading(path) as connection:
            query, values = _grouped(connection, wanted, after)
            # What is put together here are the constants below.
            whole = f"SELECT json_group_array(json_array(queue_id, numbers)) FROM ({query} LIMIT ?)"  # noqa: S608
            ((rows,),) = connection.execute(whole, (*values, limit))
            found += [Found(queue_id, tuple(map(int, numbers.split(",")))) for queue_id, numbers in json.loads(rows)]
    return sorted(found, key=lambda each: each.queue_id)[:limit]


def count(paths: Sequence[str], wanted: Wanted) -> tuple[int, int]:
    """Count the messages, and the recipients, that are meant."""
    messages = recipients = 0
    for path in paths:
        with _reading(path) as connection:
            query, values = _grouped(connection, wanted, "")
            whole = f"SELECT count(*), coalesce(sum(amount), 0) FROM ({query})"  # noqa: S608  # constants
            ((some, more),) = connection.execute(whole, values)
            messages, recipients = messages + some, recipients + more
    return messages, recipients


def summarise(paths: Sequence[str], limit: int) -> Summary:
    """Sum up shards: the queue as a whole, and of each the `limit` destinations with most recipients."""
    summary = Summary()
    for path in paths:
        with _reading(path) as connection:
            _add(summary, connection, limit)
    summary.destinations = max(summary.destinations, len(summary.largest))
    largest = sorted(summary.largest.items(), key=lambda item: (-item[1].recipients, item[0]))
    summary.largest = dict(largest[:limit])
    return summary


# One shard


@contextmanager
def _reading(path: str) -> Iterator[sqlite3.Connection]:
    with closing(connect_reading(path)) as connection:
        connection.execute("BEGIN")
        yield connection


def connect_reading(path: str) -> sqlite3.Connection:
    """Open the database of the shard in directory `path` for reading alone, from whatever thread or process.

    Where nobody has it open (there is no log beside it) nothing is made beside it either. Raises sqlite3.Error.
    """
    database = f"{path}/queue.db"
    how = "mode=ro" if os.path.exists(f"{database}-wal") else "mode=ro&immutable=1"
    return sqlite3.connect(
        f"file:{quote(database)}?{how}", timeout=5, isolation_level=None, check_same_thread=False, uri=True
    )


def _grouped(connection: sqlite3.Connection, wanted: Wanted, after: str) -> tuple[str, tuple[Any, ...]]:
    """Make the query of messages that are meant, in the order of their ids; also the values in it."""
    of_recipient, of_message, values, selective = _conditions(connection, wanted)
    where = ["r.queue_id > ?", *of_recipient, *of_message]
    tables = "recipient AS r"
    if of_message and selective:
        tables += " CROSS JOIN message AS m ON m.queue_id = r.queue_id"
    elif of_message:
        tables = "message AS m CROSS JOIN recipient AS r ON r.queue_id = m.queue_id"
        where[0] = "m.queue_id > ?"
    key = "m" if tables.startswith("message") else "r"
    query = (
        f"SELECT {key}.queue_id AS queue_id, group_concat(r.number) AS numbers, count(*) AS amount "  # noqa: S608
        f"FROM {tables} WHERE {' AND '.join(where)} GROUP BY {key}.queue_id ORDER BY {key}.queue_id"
    )
    lowest = after
    if wanted.accepted_from is not None:
        lowest = max(lowest, first_queue_id(wanted.accepted_from - _SLACK))
    return query, (lowest, *values)


def _conditions(connection: sqlite3.Connection, wanted: Wanted) -> tuple[list[str], list[str], list[Any], bool]:
    """Make the conditions on a recipient and on its message, their values, and whether an index finds the former."""
    of_recipient: list[tuple[str, tuple[Any, ...]]] = []
    of_message: list[tuple[str, tuple[Any, ...]]] = []
    selective = False
    if wanted.queue_ids:
        selective = True
        of_recipient.append(("r.queue_id IN (SELECT value FROM json_each(?))", (json.dumps(wanted.queue_ids),)))
    if wanted.destination:
        name = wanted.destination.lower()
        selective = selective or "*" not in name
        of_recipient.append(("r.destination = ?", (name,)) if "*" not in name else _like("r.destination", name))
    if wanted.state is not None:
        (amount,) = connection.execute("SELECT amount FROM tally WHERE state = ?", (wanted.state,)).fetchone()
        rare = amount <= RARE and not wanted.queue_ids
        selective = selective or rare
        # with a plus SQLite does not take the index, which is in the order of what is due
        of_recipient.append(("r.state = ?" if rare else "+r.state = ?", (wanted.state,)))
    if wanted.recipient:
        of_recipient.append(_like("r.mailbox", wanted.recipient))
    if wanted.error:
        part = f"%{_escaped(wanted.error)}%"
        either = "(r.reason_text LIKE ? ESCAPE '\\' OR r.reason_source LIKE ? ESCAPE '\\')"
        of_recipient.append((either, (part, part)))
    if wanted.sender:
        empty = wanted.sender == "<>"
        of_message.append(("m.reverse_path IS NULL", ()) if empty else _like("m.reverse_path", wanted.sender))
    if wanted.login:
        of_message.append(_like("m.login", wanted.login))
    if wanted.accepted_from is not None:
        of_message.append(("m.accepted >= ?", (wanted.accepted_from,)))
    if wanted.accepted_until is not None:
        of_message.append(("m.accepted <= ?", (wanted.accepted_until,)))
    values = [value for _, some in (*of_recipient, *of_message) for value in some]
    return [text for text, _ in of_recipient], [text for text, _ in of_message], values, selective


def _like(column: str, pattern: str) -> tuple[str, tuple[Any, ...]]:
    return f"{column} LIKE ? ESCAPE '\\'", (_escaped(pattern).replace("*", "%"),)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


# A summary

_BY_DESTINATION = """
    SELECT json_group_array(json_array(destination, amount, oldest, destinations)) FROM (
        SELECT destination, count(*) AS amount, min(queue_id) AS oldest, count(*) OVER () AS destinations
        FROM recipient GROUP BY destination ORDER BY amount DESC, destination LIMIT ?)
"""
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
    GROUP BY destination
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


def _add(summary: Summary, connection: sqlite3.Connection, limit: int) -> None:
    tally: dict[int, int] = dict(connection.execute("SELECT state, amount FROM tally"))
    summary.messages += tally[-1]
    summary.states.update({state: tally[state] for state in State})
    (oldest,) = connection.execute("SELECT min(queue_id) FROM message").fetchone()
    if oldest is not None:
        summary.oldest = min(accepted_at(oldest), summary.oldest or accepted_at(oldest))
    ((text,),) = connection.execute(_BY_DESTINATION, (limit,))
    rows = json.loads(text)
    states = _states(connection, tally, {destination: amount for destination, amount, *_ in rows})
    soon: dict[str, float] = dict(connection.execute(_DUE_SOON, (State.WAITING, RARE)))
    for destination, amount, first, destinations in rows:
        summary.destinations = max(summary.destinations, destinations)
        waiting = summary.largest.setdefault(destination, Waiting(oldest=accepted_at(first)))
        waiting.recipients += amount
        waiting.states.update(states[destination])
        waiting.oldest = min(waiting.oldest, accepted_at(first))
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

"""What a start makes of a shard as the last process left it: one transaction, whatever the queue holds.

===========================================  ========================================================================
found                                        becomes
===========================================  ========================================================================
recipient ACTIVE                             WAITING and due now, `crashes` one higher; from `CRASHES_MAXIMUM` on HELD
recipient due later than any schedule says   due after the longest interval: the clock was wrong once
message whose content file is missing        HELD, for the operator: nothing can be sent, and nobody is told it was
message whose content file is torn           likewise: its octets are not as many as the message has
content file without a message               set aside: never acknowledged, or done and not yet unlinked
===========================================  ========================================================================

Nothing is deleted. Only what is found is touched: a million waiting recipients cost nothing.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from mta.mail.reason import Reason
from mta.spool.content import Contents
from mta.spool.port import CRASHES_MAXIMUM, State

CRASHED = Reason(
    f"set aside: {CRASHES_MAXIMUM} attempts in a row ended in the death of the server", "mta.spool.recovery"
)
MISSING = Reason("set aside: its content file is missing", "mta.spool.recovery")
TORN = Reason("set aside: its content file is torn", "mta.spool.recovery")

_SET_ASIDE_CRASHED = """
    UPDATE recipient SET state = :held, crashes = crashes + 1, due = :now, reason_text = :text, reason_source = :source
    WHERE state = :active AND crashes + 1 >= :maximum RETURNING queue_id
"""
_WAIT_AGAIN = "UPDATE recipient SET state = :waiting, crashes = crashes + 1, due = :now WHERE state = :active"
_CLAMP = "UPDATE recipient SET due = :latest WHERE state = :waiting AND due > :latest"
_IN_FILE = """
    SELECT queue_id, size - coalesce(length(octets), 0) FROM message LEFT JOIN content USING (queue_id)
    WHERE in_file = 1
"""
_SET_ASIDE = "UPDATE recipient SET state = ?, reason_text = ?, reason_source = ? WHERE queue_id = ?"


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a start found; counts of recipients unless said otherwise."""

    interrupted: int = 0
    """ACTIVE ones that wait again."""
    crashed: tuple[str, ...] = ()
    """Queue ids of messages set aside because their attempts killed the server."""
    clamped: int = 0
    missing: tuple[str, ...] = ()
    """Queue ids of messages whose content file is missing."""
    torn: tuple[str, ...] = ()
    """Queue ids of messages whose content file has not the octets of the message."""
    strays: int = 0
    """Content files set aside."""


def recover(connection: sqlite3.Connection, contents: Contents, now: float, longest: float) -> Recovered:
    """Recover a shard at wall time `now`; `longest` is the longest interval between attempts in seconds."""
    files = contents.sizes()
    values = {
        "waiting": State.WAITING,
        "active": State.ACTIVE,
        "held": State.HELD,
        "maximum": CRASHES_MAXIMUM,
        "now": now,
        "latest": now + longest,
        "text": CRASHED.text,
        "source": CRASHED.source,
    }
    connection.execute("BEGIN IMMEDIATE")
    try:
        crashed = connection.execute(_SET_ASIDE_CRASHED, values).fetchall()
        interrupted = connection.execute(_WAIT_AGAIN, values).rowcount
        clamped = connection.execute(_CLAMP, values).rowcount
        in_file: dict[str, int] = dict(connection.execute(_IN_FILE))
        missing = sorted(in_file.keys() - files.keys())
        torn = sorted(queue_id for queue_id in in_file.keys() & files.keys() if in_file[queue_id] != files[queue_id])
        for reason, queue_ids in ((MISSING, missing), (TORN, torn)):
            for queue_id in queue_ids:
                connection.execute(_SET_ASIDE, (State.HELD, reason.text, reason.source, queue_id))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    strays = files.keys() - in_file.keys()
    for name in strays:
        contents.set_aside(name)
    killers = sorted({row[0] for row in crashed})
    return Recovered(interrupted, tuple(killers), clamped, tuple(missing), tuple(torn), len(strays))

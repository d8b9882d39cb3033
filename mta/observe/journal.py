"""The journal: where the server says what happened.

One object of it is handed to whatever decides something. It stamps the time and passes the event to its sinks; a
sink that fails is dropped from this event, counted, and never hurts the mail.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from mta.mail.reason import Reason
from mta.observe.event import Event, Kind, Level, Value

Sink = Callable[[Event], None]
Wall = Callable[[], float]
"""Wall time in seconds since 1970."""


class Journal:
    """Hands events to sinks, in order."""

    def __init__(self, wall: Wall, sinks: Sequence[Sink] = ()) -> None:
        self.wall = wall
        self.sinks = list(sinks)
        self.failures = 0

    def note(
        self,
        kind: Kind,
        reason: Reason | None = None,
        *,
        level: Level = Level.INFO,
        session: str = "",
        queue_id: str = "",
        **fields: Value,
    ) -> None:
        """Say that something happened now."""
        event = Event(self.wall(), kind, level, session, queue_id, reason, fields)
        for sink in self.sinks:
            try:
                sink(event)
            except Exception:
                self.failures += 1

    def fault(self, where: str, error: BaseException, *, session: str = "", queue_id: str = "") -> None:
        """Say that a bug of ours showed itself: one event with one traceback."""
        text = "".join(traceback.format_exception(error))
        reason = Reason(f"{type(error).__name__}: {error}", where)
        self.note(
            Kind.FAULT, reason, level=Level.ERROR, session=session, queue_id=queue_id, where=where, traceback=text
        )

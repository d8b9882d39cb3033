"""A sink of the journal that remembers the last events worth a look, for ``mta top``."""

from __future__ import annotations

from collections import deque
from typing import Any

from mta.observe.event import Event, Level
from mta.observe.log import cut

KEPT = 30
"""Events; more than a screen shows."""
_TEXT = 200
"""Characters of a reason that are kept: two lines of a terminal."""
_ABOUT = ("recipient", "login", "sender", "address", "domain", "path", "where", "service")
"""The fields that say what an event is about, the most telling first."""


class Recent:
    """Remembers events of `level` and graver."""

    def __init__(self, level: Level = Level.NOTICE) -> None:
        self._level = level
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def __call__(self, event: Event) -> None:
        """Remember an event."""
        if event.level > self._level:
            return
        about = next((str(event.fields[key]) for key in _ABOUT if event.fields.get(key)), event.queue_id)
        self._events.append(
            {
                "time": event.time,
                "kind": event.kind.value,
                "level": event.level.name.lower(),
                "about": cut(about, _TEXT),
                "reason": cut(event.reason.text, _TEXT) if event.reason is not None else "",
            }
        )

    def events(self) -> list[dict[str, Any]]:
        """Give them as plain values, the oldest first."""
        return list(self._events)

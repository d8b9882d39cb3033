"""A journal that keeps what it is told."""

from __future__ import annotations

from collections.abc import Callable

from mta.observe.event import Event, Kind
from mta.observe.journal import Journal


class RecordingJournal(Journal):
    """A `Journal` with one sink, the list `events`."""

    def __init__(self, wall: Callable[[], float] = lambda: 0.0) -> None:
        self.events: list[Event] = []
        super().__init__(wall, [self.events.append])

    def kinds(self) -> list[Kind]:
        """What happened, in order."""
        return [event.kind for event in self.events]

    def of(self, kind: Kind) -> list[Event]:
        """The events of one kind."""
        return [event for event in self.events if event.kind is kind]

"""How a command reads the history: the files of the configuration's state directory, whether a daemon runs or not."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import click

from mta.cli.daemon import EX_CONFIG, EX_NOINPUT, EX_NOPERM, fail, state_directory
from mta.observe.event import Event
from mta.observe.search import Archive, Wanted
from mta.service.asking import CommandRefused, ask, socket_path
from mta.settings.problem import SettingsRefused

LOOK_EVERY = 0.5
"""Seconds between two looks for new events: what `tail -f` has people used to."""
LATE = 5.0
"""Seconds by which the events of one worker may come later than those of another."""

_SPAN = re.compile(r"(\d+)\s*(s|m|min|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_DATES = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
_TIMES = ("%H:%M:%S", "%H:%M")


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic for the checker alone
    """A wall time as people say it: ``2h`` or ``3d`` ago, ``14:00`` today, ``yesterday``, ``2025-11-22 14:00``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        if isinstance(value, int | float):
            return float(value)
        found = moment(value, datetime.now().astimezone())
        if found is None:
            self.fail(f"{value!r} is no time: say 2h, 3d, 14:00, today, yesterday or 2025-11-22 14:00", param, ctx)
        return found


def moment(text: str, now: datetime) -> float | None:
    """Read a wall time that somebody types `now`; None where it is none."""
    text = text.strip().lower()
    span = _SPAN.fullmatch(text)
    if span:
        return now.timestamp() - int(span[1]) * _SECONDS[span[2]]
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text in ("today", "yesterday"):
        return (midnight - timedelta(days=text == "yesterday")).timestamp()
    for form in (*_DATES, *_TIMES):
        try:
            read = datetime.strptime(text.upper() if "t" in text else text, form)
        except ValueError:
            continue
        if form in _TIMES:
            return midnight.replace(hour=read.hour, minute=read.minute, second=read.second).timestamp()
        return read.astimezone().timestamp()
    return None


class Past:
    """The history of a configuration. What keeps it from being read ends the command."""

    def __init__(self, config: Path) -> None:
        try:
            state = state_directory(str(config.absolute()))
            self._socket = socket_path(state)
        except (SettingsRefused, ValueError) as problem:
            fail(str(problem), EX_CONFIG)
        self.directory = f"{state}/history"
        self._archive = Archive(self.directory)
        self._warned: set[str] = set()

    def flush(self) -> None:
        """Have a daemon that runs write what it has in memory; where it does not run there is nothing to write."""
        try:
            ask(self._socket, "history-flush")
        except (FileNotFoundError, ConnectionRefusedError, PermissionError):
            pass  # who may not ask may not read either, and is told so
        except (OSError, ValueError, CommandRefused) as error:
            why = getattr(error, "strerror", None) or error
            self._warn(f"the daemon does not say its latest events ({why}): those of the last second may be missing")

    def newest(self, wanted: Wanted, limit: int | None = None) -> list[Event]:
        """See `Archive.newest`."""
        try:
            found = self._archive.newest(wanted, limit)
        except OSError as error:
            self._unreadable(error)
        self._tell_unread()
        return found

    def in_order(self, wanted: Wanted, limit: int | None = None) -> list[Event]:
        """See `Archive.in_order`."""
        return self.newest(wanted, limit)[::-1]

    def back(self, wanted: Wanted) -> Iterator[Event]:
        """See `Archive.back`."""
        try:
            yield from self._archive.back(wanted)
        except OSError as error:
            self._unreadable(error)
        self._tell_unread()

    def follow(
        self,
        since: float,
        until: Callable[[], bool],
        every: float = LOOK_EVERY,
        pause: Callable[[float], object] = time.sleep,
    ) -> Iterator[Event]:
        """Give the events from wall time `since` on as they come, until `until` says that it is enough.

        It looks `every` so many seconds.
        """
        seen: set[tuple[float, str, str, str]] = set()
        latest = since
        while True:
            self.flush()
            found = self.in_order(Wanted(since=max(since, latest - LATE)))
            fresh = [event for event in found if _name(event) not in seen]
            seen = {_name(event) for event in found}
            for event in fresh:
                latest = max(latest, event.time)
                yield event
            if until():
                return
            pause(every)

    def _unreadable(self, error: OSError) -> NoReturn:
        if isinstance(error, PermissionError):
            why = f"{error.strerror}: this is for root, or the user of the server"
            fail(f"the history in {self.directory} cannot be read: {why}", EX_NOPERM)
        fail(f"the history in {self.directory} cannot be read: {error.strerror}", EX_NOINPUT)

    def _tell_unread(self) -> None:
        for unread in self._archive.unread:
            self._warn(f"a part of the history cannot be read: {unread}")

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            click.echo(f"mta: {text}", err=True)


def _name(event: Event) -> tuple[float, str, str, str]:
    return event.time, event.kind.value, event.session, event.queue_id

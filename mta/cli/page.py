"""Events on a screen: coloured and folded to its width on a terminal, elsewhere one event a line.

Texts that come here were made harmless by `mta.observe.telling`, or are here.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, tzinfo

import click

from mta.observe.event import Event, Kind
from mta.observe.log import harmless
from mta.observe.story import Story, addresses, with_session
from mta.observe.telling import Mood, Told, count, duration, octets, tell, tell_beginning

LEADS = 3
"""What is folded begins below the words where the lead fits into the width so many times, else at the left."""

_COLOURS = {Mood.GOOD: "green", Mood.SLOW: "yellow", Mood.BAD: "red"}
_QUIET = {Kind.DMARC_ROW}
"""Kinds that a story leaves out: nobody's message changes by them."""


class Page:
    """Prints. `columns` is the width of the terminal; None: none, nothing is folded. `now` is a wall time."""

    def __init__(self, now: Callable[[], float], columns: int | None = None, zone: tzinfo | None = None) -> None:
        self._now = now
        self._columns = columns
        self.zone = zone
        self._day = ""

    def line(self, lead: str, text: str, mood: Mood = Mood.PLAIN, *, faint: bool = False) -> None:
        """Print `text` behind `lead`, folded where there is a width."""
        lines = [lead + text]
        if self._columns is not None:
            behind = self._behind(lead)
            lines = textwrap.wrap(
                text,
                max(self._columns, 20),
                initial_indent=lead,
                subsequent_indent=behind,
                break_long_words=False,
                break_on_hyphens=False,
            ) or [lead]
        for number, line in enumerate(lines):
            kept = len(lead) if number == 0 else 0
            words = click.style(line[kept:], fg=_COLOURS.get(mood), dim=faint or None)
            click.echo(line[:kept] + words)

    def told(self, lead: str, told: Told, *, detailed: bool = True) -> None:
        """Print an event behind `lead` with what decided it; `detailed`: and the lines below."""
        quotes = detailed and " said: " in told.source  # what a host said stands on a line of its own
        source = f" [{told.source}]" if told.source and not quotes else ""
        self.line(lead, told.text + source, told.mood)
        if not detailed:
            return
        for below in (told.source, *told.below) if quotes else told.below:
            self.line(self._behind(lead), below, faint=True)

    def event(self, event: Event) -> None:
        """Print an event of a story."""
        self._told_at(event.time, tell(event, self.zone))

    def entry(self, event: Event, *, detailed: bool = False) -> None:
        """Print an event of a list: with its whole time, and the message or session that it is about."""
        lead = f"{self.stamp(event.time)}  {event.queue_id or event.session or '-':18}  "
        self.told(lead, tell(event, self.zone), detailed=detailed or event.kind is Kind.FAULT)

    def story(self, story: Story, of_session: Iterable[Event] = ()) -> None:
        """Print a message: what it is, how it stands, and all that happened to it."""
        self.title(f"Message {story.queue_id}", story.began)
        self.line("  ", addresses(story))
        size = [octets(story.size)] if story.size else []
        about = [f"a report about message {story.about}"] if story.about else []
        named = [f"Message-ID {harmless(story.message_id)}"] if story.message_id else []
        if size or about or named:
            self.line("  ", ", ".join([*size, *named, *about]), faint=True)
        self.line("  ", story.outcome(self.zone), story.mood)
        self.events(with_session(story, list(of_session)))

    def events(self, events: list[Event]) -> None:
        """Print events in order, the beginning of their session first; the date where it changes."""
        self._day = ""
        kinds = (Kind.SESSION_CLOSED, Kind.SESSION_LASTS, Kind.MESSAGE_ACCEPTED)
        telling = [event for kind in kinds for event in events if event.kind is kind]
        for event in telling[:1]:
            beginning = tell_beginning(event, self.zone)
            if beginning is not None:
                self._told_at(*beginning)
        for event in events:
            if event.kind not in _QUIET:
                self.event(event)

    def title(self, text: str, began: float) -> None:
        """Print a heading with its time, and how long ago that is."""
        ago = f"{self.date(began)} ({duration(max(0.0, self._now() - began))} ago)"
        click.echo(f"{click.style(text, bold=True)}  {ago}")

    def date(self, wall: float) -> str:
        """A time with its date and zone."""
        return f"{self._local(wall):%Y-%m-%d %H:%M:%S %Z}"

    def stamp(self, wall: float) -> str:
        """A time for a line of its own, to the millisecond and with the offset of its zone (RFC 3339)."""
        local = self._local(wall)
        offset = f"{local:%z}"
        return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03}{offset[:3]}:{offset[3:5]}"

    def _behind(self, lead: str) -> str:
        fits = self._columns is None or LEADS * len(lead) <= self._columns
        return " " * (len(lead) if fits else 4)

    def _told_at(self, wall: float, told: Told) -> None:
        local = self._local(wall)
        day = f"{local:%a %d %b %Y}"
        if day != self._day:
            self._day = day
            click.echo(click.style(f"  {day}, times in {local:%Z}", dim=True))
        self.told(f"  {local:%H:%M:%S}.{local.microsecond // 1000:03}  ", told)

    def _local(self, wall: float) -> datetime:
        return datetime.fromtimestamp(wall, self.zone).astimezone(self.zone)


def columns() -> int | None:
    """The width of the terminal that standard output is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def session_outcome(events: Sequence[Event]) -> tuple[str, Mood]:
    """Say in one line what a session came to, or how it stands, that brought no message."""
    refused: dict[str, int] = {}
    why = ""
    for event in events:
        if event.kind in _REFUSED:
            refused[_REFUSED[event.kind]] = refused.get(_REFUSED[event.kind], 0) + 1
            why = event.reason.text if event.reason is not None else str(event.fields.get("reply", ""))
    if not refused:
        lasts = [event for event in events if event.kind is Kind.SESSION_LASTS]
        if lasts and not any(event.kind is Kind.SESSION_CLOSED for event in events):
            return tell(lasts[-1]).text, Mood.SLOW
        return "nothing was sent, nothing refused", Mood.PLAIN
    words = [f"{count(number, what)} refused" for what, number in refused.items()]
    return harmless(f"{', '.join(words)}: {why}" if why else ", ".join(words)), Mood.BAD


_REFUSED = {
    Kind.SESSION_REFUSED: "connection",
    Kind.LOGIN_REFUSED: "login",
    Kind.COMMAND_REFUSED: "command",
    Kind.SENDER_REFUSED: "sender",
    Kind.RECIPIENT_REFUSED: "recipient",
    Kind.MESSAGE_REFUSED: "message",
}

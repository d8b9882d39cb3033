"""``mta trace``: what became of a message, and of whom or what an address has sent and was sent.

What is asked for is found out by looking: a queue id, a session, and otherwise a text that events mention. Every hit
belongs to a message (a queue id) or, where none was accepted, to a session; the newest of these are told.

Exit status: 66 nothing was found, or the history cannot be read; 77 it is not for who asks; 78 the configuration cannot
be used.
"""

from __future__ import annotations

import ipaddress
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from mta.cli.daemon import CONFIG, EX_NOINPUT, fail
from mta.cli.history import Moment, Past
from mta.cli.page import Page, columns, session_outcome
from mta.mail.queueid import accepted_at
from mta.observe.event import Event, Kind
from mta.observe.history import key
from mta.observe.log import harmless, json_line
from mta.observe.search import FOREVER, Wanted
from mta.observe.story import REFUSALS, State, Story, addresses, stories, with_session
from mta.observe.telling import peer_of, tell

EVENTS_MAXIMUM = 10_000
"""Events of one message or session that are shown."""
HITS_MAXIMUM = 200
"""Hits looked at for each message that is wanted: one session may mention an address a thousand times."""
EARLIER = 86400.0
"""Seconds before a queue id was made that its events are looked for: the clock may have been set back meanwhile."""

_EPILOG = """\b
Examples:
  mta trace                             the latest mail
  mta trace 0c5xk2abcdefghjkmn          a message, from the connection to its last place
  mta trace bob@example.net --since 2h  what bob sent and was sent, the newest first
  mta trace 192.0.2.7 --full            what came from there, with everything that happened
  mta trace '<42@client.example>'       by Message-ID
  mta trace bob@example.net --follow    and go on with what happens now
"""


@dataclass(slots=True)
class Unit:
    """One message, or one session that brought none; `hits` are the events that led to it."""

    queue_id: str
    session: str
    hits: list[Event] = field(default_factory=list)

    @property
    def latest(self) -> float:
        """Wall time of the newest hit."""
        return self.hits[0].time


@click.command(epilog=_EPILOG)
@CONFIG
@click.argument("what", default="")
@click.option("--since", type=Moment(), help="Nothing earlier: 2h, 3d, 14:00, yesterday, 2025-11-22.")
@click.option("--until", type=Moment(), help="Nothing later.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Messages and sessions at most.")
@click.option("--full", is_flag=True, help="Everything that happened to each.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: messages, or with --full events.")
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, until the message has ended.")
def trace(
    config: Path,
    what: str,
    since: float | None,
    until: float | None,
    limit: int,
    full: bool,
    as_json: bool,
    follow: bool,
) -> None:
    """Tell what became of mail: by queue id, Message-ID, mail address, login, IP address or session.

    Without WHAT: the latest mail.
    """
    if what and not key(what):
        raise click.UsageError(f"{what} says nothing: every report has it")
    started = time.time()
    past = Past(config)
    past.flush()
    window = since or 0.0, until or FOREVER
    view = View(past, Page(time.time, columns()), as_json)
    one = view.named(what)
    if one is not None:
        view.show(one)
    else:
        units = view.find(what, *window, limit)
        if not units and not follow:
            mentions = f" mentions {harmless(what)}" if what else " is of mail"
            fail(f"nothing in the history{mentions}{_in(since, until)}", EX_NOINPUT)
        if full or (len(units) == 1 and what and not as_json):
            for number, unit in enumerate(units):
                if number and not as_json:
                    click.echo()
                view.show(unit)
        else:
            view.summaries(units, what, limit)
    if follow:
        view.follow(what, one, started)


class View:
    """What is shown, and how."""

    def __init__(self, past: Past, page: Page, as_json: bool) -> None:
        self._past = past
        self._page = page
        self._json = as_json
        self._shown: set[str] = set()

    # Finding

    def named(self, what: str) -> Unit | None:
        """A message, or a session, of that id."""
        try:
            since = accepted_at(what.lower()) - EARLIER
        except ValueError:
            return None
        for unit in (Unit(what.lower(), ""), Unit("", what.lower())):
            wanted = Wanted(queue_id=unit.queue_id, session=unit.session, since=since)
            unit.hits = self._past.newest(wanted, 1)
            if unit.hits:
                return unit
        return None

    def find(self, what: str, since: float, until: float, limit: int) -> list[Unit]:
        """The messages and sessions that mention a text, the newest first."""
        units: dict[tuple[str, str], Unit] = {}
        told: set[str] = set()  # sessions whose messages have lines, and which have nothing else to say
        for number, event in enumerate(self._past.back(Wanted(text=address_of(what), since=since, until=until))):
            if number >= HITS_MAXIMUM * limit:
                break
            if event.queue_id:
                told.add(event.session)
            elif not event.session and event.kind not in REFUSALS:
                continue
            elif not what and event.kind not in REFUSALS | {Kind.SESSION_LASTS}:
                continue  # it is mail that is asked for: who looks whether we are there brings none
            elif _brought_mail_alone(event):
                told.add(event.session)
                continue
            elif event.session in told and event.kind not in REFUSALS | {Kind.SESSION_CLOSED}:
                continue
            session = "" if event.queue_id else event.session or f"at {event.time}"
            unit = units.get((event.queue_id, session))
            if unit is None:
                if len(units) == limit:
                    break
                unit = units[event.queue_id, session] = Unit(event.queue_id, session)
            unit.hits.append(event)
        return [unit for unit in units.values() if unit.queue_id or unit.session not in told or _says_more(unit)]

    def story(self, queue_id: str) -> Story:
        """A message."""
        since = accepted_at(queue_id) - EARLIER
        events = self._past.in_order(Wanted(queue_id=queue_id, since=since), EVENTS_MAXIMUM)
        return stories(events).get(queue_id) or Story(queue_id)

    def session(self, session: str, since: float) -> list[Event]:
        """The events of a session."""
        return self._past.in_order(Wanted(session=session, since=since), EVENTS_MAXIMUM) if session else []

    # Showing

    def summaries(self, units: list[Unit], what: str, limit: int) -> None:
        """One line for each message and session."""
        for unit in units:
            if self._json:
                click.echo(json.dumps(self._described(unit)))
            else:
                self._summary(unit)
        if not self._json:
            more = f"; the newest {limit} (--limit)" if len(units) == limit else ""
            asked = f" for {harmless(what)}" if what else ""
            found = f"{len(units)} found{asked}{more}. Everything of one: mta trace ID"
            self._page.line("", found, faint=True)

    def show(self, unit: Unit) -> None:
        """Everything of a message, with the reports about it, or of a session."""
        if not unit.queue_id:
            self._show_session(unit)
            return
        story = self.story(unit.queue_id)
        of_session = self.session(story.session, story.began - EARLIER)
        self._shown |= {json_line(event) for event in (*story.events, *of_session)}
        if self._json:
            for event in with_session(story, of_session):
                click.echo(json_line(event))
        else:
            self._page.story(story, of_session)
        for report in self._reports(story):
            if not self._json:
                click.echo()
            self.show(Unit(report, ""))

    def _reports(self, story: Story) -> list[str]:
        """The reports on a message. Its failures name them; they are searched for only where none does."""
        if story.reports or State.FAILED not in story.counted:
            return story.reports
        wanted = Wanted(text=story.queue_id, kinds=[Kind.REPORT_QUEUED], since=story.began)
        return [event.queue_id for event in self._past.in_order(wanted)]

    def _show_session(self, unit: Unit) -> None:
        events = self._events_of(unit)
        if self._json:
            for event in events:
                click.echo(json_line(event))
            return
        if unit.session and not unit.session.startswith("at "):
            self._page.title(f"Session {unit.session}", events[0].time)
        self._page.events(events)

    def _events_of(self, unit: Unit) -> list[Event]:
        return self.session(unit.session, unit.latest - EARLIER) or unit.hits[::-1]

    def _summary(self, unit: Unit) -> None:
        if unit.queue_id:
            story = self.story(unit.queue_id)
            report = f" (report about {story.about})" if story.about else ""
            text, mood = f"{addresses(story)}{report}: {story.outcome(self._page.zone)}", story.mood
            lead = f"{self._page.date(story.began)}  {unit.queue_id}  "
        else:
            events = self._events_of(unit)
            peer = next(filter(None, map(peer_of, reversed(events))), "")
            if len(unit.hits) == 1 and unit.hits[0].kind in REFUSALS:
                told = tell(unit.hits[0], self._page.zone)
                text, mood = told.text, told.mood
            else:
                text, mood = session_outcome(events)
            text = harmless(f"session with {peer}: {text}" if peer else text)
            session = unit.session if not unit.session.startswith("at ") else "-"
            lead = f"{self._page.date(events[0].time)}  {session:18}  "
        self._page.line(lead, text, mood)

    def _described(self, unit: Unit) -> dict[str, Any]:
        if not unit.queue_id:
            events = self._events_of(unit)
            outcome, _ = session_outcome(events)
            refused = [event.kind.value for event in events if event.kind in REFUSALS]
            session = "" if unit.session.startswith("at ") else unit.session
            return {"session": session, "time": events[0].time, "outcome": outcome, "refused": refused}
        story = self.story(unit.queue_id)
        return {
            "queue_id": story.queue_id,
            "session": story.session,
            "time": story.began,
            "sender": story.sender,
            "recipients": list(story.recipients),
            "size": story.size,
            "message_id": story.message_id,
            "outcome": story.outcome(self._page.zone),
            "states": {state.name.lower(): number for state, number in story.counted.items()},
            "ended": story.ended,
            "reports": self._reports(story),
            "about": story.about,
        }

    # Following

    def follow(self, what: str, one: Unit | None, since: float) -> None:
        """Go on with what happens, until a message that was named has ended, or somebody ends it."""
        text = key(address_of(what))
        ids = {one.queue_id or one.session} if one is not None else set()
        story = self.story(one.queue_id) if one is not None and one.queue_id else None
        try:
            for event in self._past.follow(since, lambda: story is not None and story.ended):
                if json_line(event) in self._shown or not (event.queue_id or event.session):
                    continue
                if not ids & {event.queue_id, event.session} and text and text not in mentioned(event):
                    continue
                ids |= {event.queue_id} - {""}
                if story is not None and event.queue_id == story.queue_id:
                    story.add(event)
                if self._json:
                    click.echo(json_line(event))
                elif one is not None:
                    self._page.event(event)
                else:
                    self._page.entry(event)
                sys.stdout.flush()
        except KeyboardInterrupt:
            click.echo()


def address_of(what: str) -> str:
    """What somebody typed, as events mention it: an IP address in its usual form."""
    try:
        return str(ipaddress.ip_address(what.strip().strip("[]")))
    except ValueError:
        return what.strip()


def mentioned(event: Event) -> Iterator[str]:
    """The texts that an event may be found by."""
    for value in event.fields.values():
        if isinstance(value, str):
            yield from map(key, [value, *value.split(" ")] if len(value) < 1000 else [value])


def _says_more(unit: Unit) -> bool:
    """Whether a session has more to say than its messages, which have lines: a refusal beside theirs."""
    return any(event.kind in REFUSALS for event in unit.hits)


def _brought_mail_alone(event: Event) -> bool:
    """Whether an event is the end of a session that was refused nothing: its messages say all there is."""
    fields = event.fields
    return event.kind is Kind.SESSION_CLOSED and bool(fields.get("accepted")) and not fields.get("refused")


def _in(since: float | None, until: float | None) -> str:
    return " in that time" if since or until else ""

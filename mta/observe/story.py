"""What became of a message: its events, put together – pure.

======================================  ==============================================================================
state of a recipient                    after which event
======================================  ==============================================================================
`QUEUED`                                accepted into the spool, released, to be tried again
`DELIVERED`                             accepted into a Maildir, delivered
`WAITS`                                 deferred
`HELD`                                  held, at acceptance or later
`FAILED`                                failed
`ENDED`                                 ended, discarded or deleted, and nobody was told
`REFUSED`                               refused: it never was ours
======================================  ==============================================================================

A message may have more recipients than events name yet: `Story.copies` says how many.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo

from mta.observe.event import Event, Kind
from mta.observe.log import harmless
from mta.observe.telling import Mood, tell_next_attempt, way


class State(enum.Enum):
    """Where a message stands for one recipient."""

    QUEUED = "in the queue"
    DELIVERED = "delivered"
    WAITS = "waits for another attempt"
    HELD = "held"
    FAILED = "failed"
    ENDED = "ended"
    REFUSED = "refused"


MOODS = {
    State.QUEUED: Mood.PLAIN,
    State.DELIVERED: Mood.GOOD,
    State.WAITS: Mood.SLOW,
    State.HELD: Mood.SLOW,
    State.FAILED: Mood.BAD,
    State.ENDED: Mood.BAD,
    State.REFUSED: Mood.BAD,
}
"""What each is to whoever waits for the message."""

FINAL = frozenset({State.DELIVERED, State.FAILED, State.ENDED, State.REFUSED})
"""States that a recipient does not leave."""

_GRAVITY = [
    State.DELIVERED,
    State.QUEUED,
    State.WAITS,
    State.HELD,
    State.REFUSED,
    State.ENDED,
    State.FAILED,
]
"""From what is well to what is worst."""

REFUSALS = {
    Kind.SESSION_REFUSED,
    Kind.LOGIN_REFUSED,
    Kind.COMMAND_REFUSED,
    Kind.SENDER_REFUSED,
    Kind.RECIPIENT_REFUSED,
    Kind.MESSAGE_REFUSED,
}
"""What a peer is told no with."""

_OF_RECIPIENT = {
    Kind.RECIPIENT_DELIVERED: State.DELIVERED,
    Kind.RECIPIENT_DEFERRED: State.WAITS,
    Kind.RECIPIENT_FAILED: State.FAILED,
    Kind.RECIPIENT_ENDED: State.ENDED,
}
_OF_ALL = {
    Kind.MESSAGE_RETRIED: (State.QUEUED, {State.WAITS}),
    Kind.MESSAGE_RELEASED: (State.QUEUED, {State.HELD}),
    Kind.MESSAGE_HELD: (State.HELD, {State.QUEUED, State.WAITS}),
    Kind.MESSAGE_DELETED: (State.ENDED, {State.QUEUED, State.WAITS, State.HELD}),
}
"""What the operator does: which state recipients come to, and from which."""


@dataclass(slots=True)
class Story:
    """A message, from its events in order."""

    queue_id: str
    events: list[Event] = field(default_factory=list)
    sender: str = ""
    recipients: tuple[str, ...] = ()
    """As the sender named them."""
    size: int = 0
    message_id: str = ""
    session: str = ""
    began: float = 0.0
    """Wall time of the first event."""
    copies: int = 0
    """Mailboxes it goes to, after aliases."""
    about: str = ""
    """The queue id of the message that it reports on."""
    reports: list[str] = field(default_factory=list)
    """The queue ids of reports on it."""
    states: dict[str, tuple[State, Event]] = field(default_factory=dict)
    """What the last event of each recipient says; "" stands for those that no event has named."""

    @property
    def counted(self) -> Counter[State]:
        """How many recipients are in each state."""
        counted = Counter(state for name, (state, _) in self.states.items() if name)
        rest = max(self.copies, 1) - counted.total()
        if "" in self.states and rest > 0:
            counted[self.states[""][0]] += rest
        return counted

    @property
    def ended(self) -> bool:
        """Whether nothing follows for any recipient."""
        return bool(self.states) and self.counted.keys() <= FINAL

    @property
    def open(self) -> bool:
        """Whether a recipient has not had its first attempt yet."""
        return not self.states or State.QUEUED in self.counted

    def add(self, event: Event) -> None:
        """Take the next event of the message."""
        self.events.append(event)
        self.began = self.began or event.time
        self.session = self.session or event.session
        fields, kind = event.fields, event.kind
        if kind in _OF_RECIPIENT:
            self._name(str(fields.get("recipient", "")), _OF_RECIPIENT[kind], event)
        elif kind is Kind.MESSAGE_HELD and fields.get("recipient"):
            self._name(str(fields["recipient"]), State.HELD, event)
        elif kind in _OF_ALL:
            state, before = _OF_ALL[kind]
            self.states |= {name: (state, event) for name, (old, _) in self.states.items() if old in before}
        elif kind in (Kind.MESSAGE_ACCEPTED, Kind.MESSAGE_REFUSED, Kind.MESSAGE_DISCARDED, Kind.MESSAGE_CHECKED):
            self._described(event)
            self.states |= {"": (_first_state(event), event)} if kind is not Kind.MESSAGE_CHECKED else {}
        elif kind is Kind.REPORT_QUEUED:
            self.about = str(fields.get("about", ""))
            self.recipients = (str(fields.get("recipient", "")),)
            self.states[""] = (State.QUEUED, event)
        report = str(fields.get("report", ""))
        if kind in _OF_RECIPIENT and report.isalnum() and report not in self.reports:
            self.reports.append(report)

    def _name(self, recipient: str, state: State, event: Event) -> None:
        self.states[recipient] = (state, event)

    def _described(self, event: Event) -> None:
        fields = event.fields
        self.sender = str(fields.get("sender", ""))
        self.recipients = tuple(str(fields.get("recipients", "")).split())
        self.message_id = str(fields.get("message_id", "") or self.message_id)
        size, copies = fields.get("size"), fields.get("copies")
        self.size = size if isinstance(size, int) else self.size
        self.copies = copies if isinstance(copies, int) else len(self.recipients)

    def outcome(self, zone: tzinfo | None = None) -> str:
        """Say in one line how it stands: how many recipients in which state, and why the worst is in it."""
        counted = self.counted
        if not counted:
            return "on its way in"
        states = sorted(counted, key=_GRAVITY.index)
        many = counted.total() > 1
        words = ", ".join(_said(state, counted[state]) if many else state.value for state in states)
        events = [event for state, event in self.states.values() if state is states[-1]]
        if many and states[-1] in (State.DELIVERED, State.QUEUED):
            return words
        return harmless(words + _why(states[-1], events[-1], zone))

    @property
    def mood(self) -> Mood:
        """The worst of its recipients'."""
        moods = {MOODS[state] for state in self.counted}
        return next((mood for mood in (Mood.BAD, Mood.SLOW, Mood.PLAIN) if mood in moods), Mood.GOOD)


def _said(state: State, number: int) -> str:
    words = state.value if state is not State.WAITS or number == 1 else "wait for another attempt"
    return f"{number} {words}"


def stories(events: Iterable[Event]) -> dict[str, Story]:
    """Put together the events of several messages, each by its queue id; the events come in the order of time."""
    found: dict[str, Story] = {}
    for event in events:
        if event.queue_id:
            found.setdefault(event.queue_id, Story(event.queue_id)).add(event)
    return found


def with_session(story: Story, of_session: Sequence[Event]) -> list[Event]:
    """Give all that belongs to a message: its own events, and of its session what is not about another message.

    What a session says before its first transaction concerns all of them; then what comes after one message belongs
    to the next.
    """
    before = [event for event in of_session if event.queue_id != story.queue_id]
    mine = [event.time for event in of_session if event.queue_id == story.queue_id]
    first, last = (mine[0], mine[-1]) if mine else (story.began, story.began)
    others = [event.time for event in before if event.queue_id and event.time < first]
    since = max(others, default=0.0)
    kept = []
    for event in before:
        general = event.kind in _OF_SESSION or event.fields.get("stage") in _STAGES_OF_SESSION
        foreign = event.fields.get("sender", story.sender) != story.sender
        if not event.queue_id and not foreign and (general or since <= event.time <= last):
            kept.append(event)
    accepted = next((event.time for event in story.events if event.kind is Kind.MESSAGE_ACCEPTED), 0.0)

    def place(event: Event) -> tuple[float, bool]:
        # The relay has a message before its acceptance is noted, by some microseconds
        by_relay = event.kind in _BY_RELAY and event.time < accepted
        return (accepted, True) if by_relay else (event.time, False)

    return sorted([*kept, *story.events], key=place)


_OF_SESSION = {
    Kind.SESSION_REFUSED,
    Kind.SESSION_LASTS,
    Kind.SESSION_CLOSED,
    Kind.LOGIN_ACCEPTED,
    Kind.LOGIN_REFUSED,
    Kind.TLS_FAILED,
}
_BY_RELAY = {Kind.ROUTE_FOUND, Kind.ATTEMPT_STARTED, *_OF_RECIPIENT}
_STAGES_OF_SESSION = {"connect", "helo", "auth"}


def _first_state(event: Event) -> State:
    if event.kind is Kind.MESSAGE_REFUSED:
        return State.REFUSED
    if event.kind is Kind.MESSAGE_DISCARDED:
        return State.ENDED
    if event.fields.get("held"):
        return State.HELD
    return State.DELIVERED if event.fields.get("place") == "maildir" else State.QUEUED


def _why(state: State, event: Event, zone: tzinfo | None) -> str:
    reason = ""
    if event.reason is not None:
        said = " said: " in event.reason.source  # the words of a host say more than where they came
        reason = f": {event.reason.source if said else event.reason.text.removeprefix('held: ')}"
    if state is State.WAITS:
        return f", {tell_next_attempt(event, zone)}{reason}"
    if state is State.REFUSED:
        return f"{reason} ({event.fields.get('reply', '')})"
    return reason


def addresses(story: Story) -> str:
    """``alice@example.org > bob@example.net``: from whom to whom, with no more than three named."""
    return harmless(way(story.sender, story.recipients))

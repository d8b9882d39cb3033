"""Tests of `mta.observe.journal` and of its double."""

from __future__ import annotations

from mta.mail.reason import Reason
from mta.observe.event import Event, Kind, Level
from mta.observe.journal import Journal
from tests.doubles.journal import RecordingJournal


def test_a_note_is_stamped_and_handed_to_every_sink_in_order() -> None:
    """One note is one event with the time of now, the same value for all sinks."""
    first: list[Event] = []
    second: list[Event] = []
    journal = Journal(lambda: 12.5, [first.append, second.append])
    why = Reason("no such mailbox", "etc/domains")
    journal.note(Kind.RECIPIENT_REFUSED, why, level=Level.NOTICE, session="s", queue_id="q", recipient="bob@x")
    assert first == [Event(12.5, Kind.RECIPIENT_REFUSED, Level.NOTICE, "s", "q", why, {"recipient": "bob@x"})]
    assert first[0] is second[0]


def test_a_sink_that_fails_hurts_nobody() -> None:
    """A sink that raises is counted, and the others get the event."""

    def broken(event: Event) -> None:
        raise OSError("disk full")

    journal = RecordingJournal()
    journal.sinks.insert(0, broken)
    journal.note(Kind.SERVICE_STARTED)
    assert journal.kinds() == [Kind.SERVICE_STARTED]
    assert journal.failures == 1


def test_a_fault_is_one_event_with_its_traceback() -> None:
    """A bug of ours becomes one event at level error: where, what, and the traceback."""
    journal = RecordingJournal()
    try:
        raise ValueError("oops")
    except ValueError as error:
        journal.fault("mta.receive", error, session="s")
    (event,) = journal.of(Kind.FAULT)
    assert (event.level, event.session, event.fields["where"]) == (Level.ERROR, "s", "mta.receive")
    assert event.reason == Reason("ValueError: oops", "mta.receive")
    assert "test_observe_journal.py" in str(event.fields["traceback"])
    assert journal.of(Kind.SERVICE_STARTED) == []

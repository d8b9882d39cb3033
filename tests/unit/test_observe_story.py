"""Tests of `mta.observe.story`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Any

from mta.mail.reason import Reason
from mta.observe.event import Event, Kind
from mta.observe.story import State, Story, addresses, stories, with_session
from mta.observe.telling import Mood

WALL = 1763842500.0


def event(
    kind: Kind, at: float = 0.0, reason: str = "", session: str = "", queue_id: str = "q", **fields: Any
) -> Event:
    """Make an event so many seconds after `WALL`."""
    why = Reason(reason, "etc/x:1") if reason else None
    return Event(WALL + at, kind, session=session, queue_id=queue_id, reason=why, fields=fields)


def accepted(**fields: Any) -> Event:
    """A message from alice to team, which are two mailboxes."""
    told = {"sender": "alice@x", "recipients": "team@x", "copies": 2, "place": "spool", "size": 5, "message_id": "<m>"}
    return event(Kind.MESSAGE_ACCEPTED, **told | fields)


def story(*events: Event) -> Story:
    """The one message that the events are about."""
    (made,) = stories(events).values()
    return made


def test_a_message_in_a_maildir_has_ended() -> None:
    """Mail that was committed in its Maildir is delivered, and says where."""
    made = story(accepted(copies=1, place="maildir"))
    assert (made.counted, made.ended, made.open) == ({State.DELIVERED: 1}, True, False)
    assert made.outcome() == "delivered"
    assert made.mood is Mood.GOOD
    assert (made.sender, made.recipients, made.size, made.message_id) == ("alice@x", ("team@x",), 5, "<m>")


def test_recipients_end_one_by_one() -> None:
    """A message has ended when the last of its copies has; which no event has named yet are in the queue."""
    made = story(accepted())
    assert made.counted == {State.QUEUED: 2}
    made.add(event(Kind.RECIPIENT_DELIVERED, recipient="a@x"))
    assert made.counted == {State.DELIVERED: 1, State.QUEUED: 1}
    assert made.open
    made.add(event(Kind.RECIPIENT_DEFERRED, 1, "greylisted", recipient="b@y", attempts=1, next=60))
    assert (made.open, made.ended) == (False, False)
    waits = "1 waits for another attempt, next attempt 20:16:01 (1 min later): greylisted"
    assert made.outcome(UTC) == f"1 delivered, {waits}"
    assert made.mood is Mood.SLOW
    made.add(event(Kind.RECIPIENT_FAILED, 61, "no such user", recipient="b@y", report="r1"))
    assert (made.counted, made.ended) == ({State.DELIVERED: 1, State.FAILED: 1}, True)
    assert made.reports == ["r1"]
    assert made.mood is Mood.BAD


def test_why_it_waits_stands_in_one_line() -> None:
    """The reason and the next attempt of what waits, the reply of what was refused."""
    waits = story(accepted(copies=1), event(Kind.RECIPIENT_DEFERRED, 1, "busy", recipient="b@y", attempts=1, next=60))
    assert waits.outcome(UTC) == ("waits for another attempt, next attempt 20:16:01 (1 min later): busy")
    waits.add(event(Kind.RECIPIENT_DEFERRED, 1, "busy", recipient="c@y", attempts=1, next=60))
    waits.copies = 2
    assert waits.outcome(UTC).startswith("2 wait for another attempt, next attempt ")
    said = event(Kind.RECIPIENT_FAILED, 1, "refused at RCPT TO", recipient="b@y")
    said = replace(said, reason=Reason("refused at RCPT TO", "mx.y [192.0.2.1]:25 said: 550 no such user"))
    assert story(accepted(copies=1), said).outcome() == "failed: mx.y [192.0.2.1]:25 said: 550 no such user"
    refused = story(event(Kind.MESSAGE_REFUSED, 0, "spam\x1b", sender="", recipients="b@y", reply="550 no"))
    assert refused.outcome() == "refused: spam\\u{1b} (550 no)"
    assert refused.ended


def test_what_the_operator_does_changes_the_state() -> None:
    """Held mail is released and deleted; what has been delivered stays so."""
    why = replace(accepted(held=True, copies=1), reason=Reason("held: a rule", "etc/x:1"))
    assert story(why).outcome() == "held: a rule"
    made = story(accepted(held=True))
    assert made.outcome() == "2 held"
    made.add(event(Kind.MESSAGE_RELEASED))
    assert made.counted == {State.QUEUED: 2}
    made.add(event(Kind.RECIPIENT_DELIVERED, recipient="a@x"))
    made.add(event(Kind.MESSAGE_HELD, 0, "by a policy", recipient="b@y"))
    assert made.counted == {State.DELIVERED: 1, State.HELD: 1}
    made.add(event(Kind.MESSAGE_DELETED, 0, "deleted"))
    assert (made.counted, made.ended) == ({State.DELIVERED: 1, State.ENDED: 1}, True)


def test_a_message_that_was_discarded_has_ended() -> None:
    """Discarded mail says why."""
    made = story(event(Kind.MESSAGE_DISCARDED, 0, "by rule", sender="a@x", recipients="b@y"))
    assert (made.outcome(), made.ended) == ("ended: by rule", True)


def test_a_report_knows_what_it_is_about() -> None:
    """A report is a message from <> about another one."""
    made = story(event(Kind.REPORT_QUEUED, about="q0", recipient="alice@x"))
    assert (made.about, addresses(made), made.open) == ("q0", "<> > alice@x", True)


def test_addresses_name_three_recipients() -> None:
    """More than three recipients are counted."""
    made = story(accepted(recipients="a@x b@x c@x d@x e@x", sender=""))
    assert addresses(made) == "<> > a@x, b@x, c@x and 2 more"


def test_of_its_session_a_message_has_what_is_not_anothers() -> None:
    """The login concerns every message of a session, a refused recipient the message behind it."""
    session = [
        event(Kind.LOGIN_ACCEPTED, 0, session="s", queue_id="", n=1),
        event(Kind.RECIPIENT_REFUSED, 1, session="s", queue_id="", n=2),
        event(Kind.MESSAGE_ACCEPTED, 2, session="s", queue_id="q1", n=3),
        event(Kind.RECIPIENT_REFUSED, 3, session="s", queue_id="", n=4),
        event(Kind.POLICY_SAID, 3, session="s", queue_id="q2", n=5),
        event(Kind.MESSAGE_ACCEPTED, 4, session="s", queue_id="q2", n=6),
        event(Kind.RECIPIENT_REFUSED, 5, session="s", queue_id="", n=7),
        event(Kind.SESSION_CLOSED, 6, session="s", queue_id="", n=8),
    ]
    own = [each for each in session if each.queue_id == "q2"] + [event(Kind.RECIPIENT_DELIVERED, 7, queue_id="q2", n=9)]
    whole = with_session(story(*own), session)
    assert [each.fields["n"] for each in whole] == [1, 4, 5, 6, 8, 9]


def test_what_another_sender_of_the_session_was_refused_is_not_told() -> None:
    """A transaction that came to nothing before, from another sender, has nothing to do with the message."""
    session = [
        event(Kind.RECIPIENT_REFUSED, 0, session="s", queue_id="", sender="eve@x", n=1),
        event(Kind.RECIPIENT_REFUSED, 1, session="s", queue_id="", sender="alice@x", n=2),
        accepted(n=3),
    ]
    session[2] = replace(session[2], time=WALL + 2, session="s")
    assert [each.fields["n"] for each in with_session(story(session[2]), session)] == [2, 3]


def test_the_relay_comes_after_the_acceptance() -> None:
    """What the relay did while the acceptance was being noted stands behind it."""
    route = event(Kind.ROUTE_FOUND, -0.00001, n=1)
    assert [each.fields["n"] for each in with_session(story(route, accepted(n=2)), [])] == [2, 1]

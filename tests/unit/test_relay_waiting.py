"""What is told of mail that waits in memory: why, while it waits for long, and for how long it did."""

from __future__ import annotations

from twisted.internet import defer

from mta.mail.reason import Reason
from mta.observe.event import Event, Kind
from mta.relay.pace import Pace
from mta.relay.queue import START_TOLD, WAIT_TOLD
from tests.doubles.sync import result
from tests.unit.test_relay_queue import DEAD, Relay


def words(events: list[Event]) -> list[tuple[str, str]]:
    """Whose each event is, and its reason."""
    return [(event.queue_id, event.reason.text if event.reason else "") for event in events]


def test_why_a_message_waits_is_told_once() -> None:
    """After ten seconds in memory the limit stands in the journal, with how many are ahead; never a second time."""
    relay = Relay(width=2)
    relay.remote.held = []
    ids = [relay.accept("bob@example.net") for _ in range(5)]
    assert relay.journal.of(Kind.ATTEMPT_WAITS) == []
    relay.clock.advance(WAIT_TOLD)
    limit = "limit of 2 connections to example.net"
    told = [(ids[2], limit), (ids[3], f"{limit}, 1 ahead"), (ids[4], f"{limit}, 2 ahead")]
    assert words(relay.journal.of(Kind.ATTEMPT_WAITS)) == told
    (first, *_) = relay.journal.of(Kind.ATTEMPT_WAITS)
    assert first.fields == {"recipients": "bob@example.net", "destination": "example.net"}
    assert first.reason is not None
    assert first.reason.source == "[relay] connections_per_destination"
    relay.clock.advance(WAIT_TOLD)
    assert words(relay.journal.of(Kind.ATTEMPT_WAITS)) == told


def test_a_long_wait_is_told_when_it_ends() -> None:
    """An attempt that begins after a second or more says for how long and for what; a short wait is not told."""
    relay = Relay(width=1)
    relay.remote.held = []
    relay.accept("bob@example.net")
    second, third = relay.accept("eve@example.net"), relay.accept("joe@example.net")
    relay.clock.advance(START_TOLD / 2)
    relay.remote.held.pop().callback(None)
    assert relay.journal.of(Kind.ATTEMPT_STARTED) == []
    relay.clock.advance(START_TOLD)
    relay.remote.held.pop().callback(None)
    (started,) = relay.journal.of(Kind.ATTEMPT_STARTED)
    assert words([started]) == [(third, "limit of 1 connection to example.net, 1 ahead")]
    assert started.fields["seconds"] == START_TOLD * 1.5
    assert second not in [event.queue_id for event in relay.journal.of(Kind.ATTEMPT_STARTED)]
    relay.clock.advance(WAIT_TOLD)
    assert relay.journal.of(Kind.ATTEMPT_WAITS) == []


def test_mail_that_starts_at_once_says_nothing_of_waiting() -> None:
    """A plain delivery has no event but its outcome."""
    relay = Relay()
    relay.accept("bob@example.net")
    relay.clock.advance(WAIT_TOLD)
    assert relay.journal.kinds() == [Kind.RECIPIENT_DELIVERED]


def test_nothing_is_told_after_a_stop() -> None:
    """What waits at a stop stays in the spool, without another word and without a timer."""
    relay = Relay(width=1)
    relay.remote.held = []
    relay.accept("bob@example.net")
    relay.accept("eve@example.net")
    stopping = defer.ensureDeferred(relay.queue.stop())
    relay.remote.held[0].callback(None)
    result(stopping)
    relay.clock.advance(WAIT_TOLD)
    assert relay.journal.of(Kind.ATTEMPT_WAITS) == []


def test_the_reason_names_what_is_exhausted() -> None:
    """The width of a destination, the sum of all attempts, or a destination that was out of reach."""
    pace: Pace[str] = Pace(total=3, width=2)
    for job in range(3):
        pace.add("a", f"a{job}")
    width = "[relay] connections_per_destination"
    assert pace.why_waiting("a") == Reason("limit of 2 connections to a, 2 ahead", width)
    assert pace.why_waiting("nobody") is None
    pace.ready(0.0)
    pace.add("b", "b0")
    assert pace.why_waiting("b") is None
    pace.ready(0.0)
    pace.add("c", "c0")
    assert pace.why_waiting("c") == Reason("limit of 3 attempts at once", "[queue] concurrency")
    dead: Pace[str] = Pace(total=9, width=2)
    for job in range(2):
        dead.add("d", f"d{job}")
    dead.ready(0.0)
    dead.unreached("d", 5.0, DEAD.reason)
    dead.add("d", "d2")
    assert dead.why_waiting("d") == Reason("d was out of reach, one attempt goes first", "connection refused")

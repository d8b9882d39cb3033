"""How many attempts run at once, and when a destination rests."""

from __future__ import annotations

import pytest

from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.reason import Reason
from mta.relay.pace import Pace, unreachable
from mta.smtp import status

DEAD = Deferred(Reason("connection refused"), status.NO_ANSWER.transient())


def started(pace: Pace[str], now: float = 0.0) -> list[tuple[str, int, bool]]:
    """Take what may start; True where the destination rests."""
    return [(job[0], int(job[1:]), resting is not None) for job, resting in pace.ready(now)]


def test_a_destination_never_has_more_attempts_than_its_width() -> None:
    """Of four jobs two start at a width of two, and another for each that ends."""
    pace: Pace[str] = Pace(total=10, width=2)
    for job in range(4):
        pace.add("a", f"a{job}")
    assert started(pace) == [("a", 0, False), ("a", 1, False)]
    assert started(pace) == []
    pace.ended("a", 0)
    assert started(pace) == [("a", 2, False)]
    assert pace.clear() == ["a3"]
    pace.ended("a", 0)
    assert started(pace) == []


def test_destinations_take_turns() -> None:
    """A long queue to one destination does not keep another waiting."""
    pace: Pace[str] = Pace(total=3, width=3)
    for job in range(5):
        pace.add("a", f"a{job}")
    pace.add("b", "b9")
    assert started(pace) == [("a", 0, False), ("b", 9, False), ("a", 1, False)]


def test_the_total_holds_over_all_destinations() -> None:
    """No more attempts run than `total`, however many destinations there are; the next starts when one ends."""
    pace: Pace[str] = Pace(total=2, width=2)
    for name in "abc":
        pace.add(name, f"{name}1")
    assert [name for name, _, _ in started(pace)] == ["a", "b"]
    pace.ended("a", 0)
    assert [name for name, _, _ in started(pace)] == ["c"]


def test_jobs_of_a_destination_at_rest_end_at_once() -> None:
    """While it rests nothing is tried: its jobs come back with the reason of the rest."""
    pace: Pace[str] = Pace(total=9, width=3)
    pace.add("a", "a0")
    assert started(pace) == [("a", 0, False)]
    pace.unreached("a", until=60.0, reason=DEAD.reason)
    pace.ended("a", 0)
    pace.add("a", "a1")
    assert started(pace, 59.9) == [("a", 1, True)]
    pace.ended("a", 59.9)


def test_after_its_rest_one_attempt_goes_first_then_all() -> None:
    """A destination that was out of reach is tried with one job; when that reaches it, its width is back."""
    pace: Pace[str] = Pace(total=9, width=3)
    pace.add("a", "a0")
    started(pace)
    pace.unreached("a", until=60.0, reason=DEAD.reason)
    pace.ended("a", 0)
    for job in (1, 2, 3):
        pace.add("a", f"a{job}")
    assert started(pace, 60.0) == [("a", 1, False)]
    pace.reached("a")
    assert started(pace, 60.0) == [("a", 2, False), ("a", 3, False)]


def test_what_is_over_is_forgotten() -> None:
    """An idle destination costs nothing; one at rest is forgotten when the rest is over."""
    pace: Pace[str] = Pace(total=9, width=3)
    pace.add("a", "a0")
    pace.add("b", "b0")
    started(pace)
    pace.unreached("b", until=60.0, reason=DEAD.reason)
    pace.ended("a", 0)
    pace.ended("b", 0)
    assert pace.destinations == ["b"]
    pace.forget_rested(59.0)
    assert pace.destinations == ["b"]
    pace.forget_rested(60.0)
    assert pace.destinations == []
    assert pace.running == 0


@pytest.mark.parametrize(
    ("outcomes", "reached"),
    [
        ({0: DEAD, 1: DEAD}, False),
        ({0: DEAD, 1: Delivered(Reason("taken"))}, True),
        ({0: Failed(Reason("no"), status.NO_ROUTE.permanent())}, True),
        ({0: Deferred(Reason("greylisted"), status.TOO_MUCH)}, True),
        ({0: Deferred(Reason("our bug"), status.NO_ANSWER.transient(), local=True)}, True),
        ({0: Deferred(Reason("reply lost"), status.BAD_CONNECTION.transient())}, True),
        ({0: Deferred(Reason("no name server"), status.DIRECTORY_FAILURE)}, False),
        ({0: Deferred(Reason("said"), status.DIRECTORY_FAILURE, "mx.example.net", "451 4.4.3 sender?")}, True),
        ({}, True),
    ],
)
def test_only_a_network_cause_for_all_recipients_is_out_of_reach(outcomes: dict[int, Outcome], reached: bool) -> None:
    """It rests only if every recipient was deferred with 4.4.1, 4.4.3 or 4.4.4 for a cause that is not ours."""
    assert (unreachable(outcomes) is None) is reached

"""How many attempts run at once, and when a destination rests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from mta.board.shared import Layout, SharedBoard
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


def test_a_destination_that_is_roused_is_tried_at_once_and_alone() -> None:
    """The rest ends when somebody says so; one attempt goes first, and who never rested is not touched."""
    pace: Pace[str] = Pace(total=10, width=3)
    for job in range(3):
        pace.add("a", f"a{job}")
    pace.unreached("a", until=60.0, reason=DEAD.reason)
    pace.rouse("a")
    pace.rouse("b")
    assert started(pace) == [("a", 0, False)]
    assert started(pace) == []
    assert pace.load("b", 0.0).rests == 0.0


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


class Workers:
    """The paces of several workers for one destination, and their board."""

    def __init__(self, workers: int, width: int) -> None:
        layout = Layout(workers, ("attempts",), {})
        self.board = SharedBoard.make(layout, lambda: 0.0)
        self.paces: list[Pace[str]] = []
        for number in range(workers):
            board = SharedBoard(self.board.descriptor, layout, number, lambda: 0.0)
            self.paces.append(Pace(100, width, board.shares("attempts")))

    def add(self, number: int, jobs: int) -> None:
        """Give a worker jobs for ``a``."""
        for job in range(jobs):
            self.paces[number].add("a", f"a{job}")

    def running(self) -> int:
        """How many attempts all of them have under way."""
        return sum(pace.running for pace in self.paces)


def test_a_worker_that_is_alone_with_a_destination_has_all_of_its_width() -> None:
    """All traffic on one of three workers: it may have ten attempts under way, and no more."""
    workers = Workers(3, 10)
    workers.add(1, 20)
    assert len(workers.paces[1].ready(0)) == 10
    assert not workers.paces[1].is_free("a")
    assert not workers.paces[0].is_free("a")
    assert not workers.paces[1].crowded, "its own attempts will end, and it is told"


def test_workers_share_the_width_of_a_destination() -> None:
    """Who comes later waits, asks again, and has its part as soon as attempts of the first end; none has too many."""
    workers = Workers(2, 10)
    first, second = workers.paces
    workers.add(0, 100)
    workers.add(1, 100)
    first.ready(0)
    assert (first.running, second.running) == (5, 0)
    second.ready(0)
    assert (first.running, second.running) == (5, 5)
    first.ended("a", 0)
    second.ready(0)
    assert second.running == 5, "the other one's part is not taken"


def test_a_worker_that_has_all_gives_of_it_as_its_attempts_end() -> None:
    """While another wants some, nothing starts at the first until both have the same."""
    workers = Workers(2, 10)
    first, second = workers.paces
    workers.add(0, 100)
    assert len(first.ready(0)) == 10
    workers.add(1, 100)
    assert second.ready(0) == []
    assert second.crowded
    for _ in range(200):
        first.ended("a", 0)
        first.ready(0)
        assert workers.running() <= 10
        second.ready(0)
        assert workers.running() <= 10
        if second.running == 5:
            break
    assert (first.running, second.running) == (5, 5)


def test_the_attempts_of_a_dead_worker_are_not_counted() -> None:
    """When it is taken off the board, the others have the whole width again."""
    workers = Workers(2, 10)
    workers.add(0, 100)
    workers.paces[0].ready(0)
    workers.add(1, 20)
    assert workers.paces[1].ready(0) == []
    workers.board.died(0)
    assert len(workers.paces[1].ready(0)) == 10


@example_settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["add", "ready", "end"])), max_size=120), st.integers(1, 6)
)
def test_the_width_holds_for_all_workers_together(steps: list[tuple[int, str]], width: int) -> None:
    """Whatever they do in turn, all of them together never have more under way than one might."""
    workers = Workers(3, width)
    for number, step in steps:
        pace = workers.paces[number]
        if step == "add":
            workers.add(number, 3)
        elif step == "ready":
            pace.ready(0)
        elif pace.running:
            pace.ended("a", 0)
        assert workers.running() <= width

"""Threads shared fairly among networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet import defer

from mta.auth.pool import FairPool, PoolBounds, PoolFull
from tests.doubles.sync import failure, result


class RecordingThreads:
    """Threads that start work when they are told, and end it one by one."""

    def __init__(self) -> None:
        self.started: list[tuple[Callable[[], object], defer.Deferred[object]]] = []

    def __call__(self, function: Callable[..., object], /, *args: object) -> defer.Deferred[object]:
        """Start work."""
        done: defer.Deferred[object] = defer.Deferred()
        self.started.append((lambda: function(*args), done))
        return done

    def end(self) -> object:
        """End the oldest work that runs; gives what it returned."""
        function, done = self.started.pop(0)
        try:
            value = function()
        except Exception:
            done.errback()
            return None
        done.callback(value)
        return value


def pool(threads: int = 1, waiting: int = 100, per_network: int = 50) -> tuple[FairPool, RecordingThreads]:
    """A pool over recording threads."""
    run = RecordingThreads()
    return FairPool(run, lambda: PoolBounds(threads, waiting, per_network)), run


def drain(run: RecordingThreads) -> list[object]:
    """End everything; what ran, in order."""
    out = []
    while run.started:
        out.append(run.end())
    return out


def test_results_and_failures_come_back() -> None:
    """What the work returns or raises is what the Deferred gives, and the pool goes on."""
    shared, run = pool()
    good, bad = shared.submit("a", lambda: 7), shared.submit("a", lambda: 1 / 0)
    drain(run)
    assert result(good) == 7
    assert isinstance(failure(bad), ZeroDivisionError)
    assert (shared.running, shared.waiting) == (0, 0)


def test_no_more_runs_than_there_are_threads() -> None:
    """Work beyond the threads waits."""
    shared, run = pool(threads=2)
    for number in range(5):
        shared.submit("a", lambda number=number: number)
    assert (len(run.started), shared.running, shared.waiting) == (2, 2, 3)
    run.end()
    assert (len(run.started), shared.waiting) == (2, 2)
    assert drain(run) == [1, 2, 3, 4]


def test_a_network_that_floods_does_not_starve_others() -> None:
    """Networks are served in turn: another's work waits behind one of the flood's, not behind all."""
    shared, run = pool()
    for number in range(20):
        shared.submit("flood", lambda number=number: f"flood {number}")
    shared.submit("owner", lambda: "owner 0")
    shared.submit("third", lambda: "third 0")
    shared.submit("owner", lambda: "owner 1")
    order = drain(run)
    assert order[:6] == ["flood 0", "flood 1", "owner 0", "third 0", "flood 2", "owner 1"]
    assert order[6:] == [f"flood {number}" for number in range(3, 20)]


def test_what_waits_is_bounded_for_each_network() -> None:
    """One network's work beyond its bound is refused; others still find room."""
    shared, run = pool(per_network=3)
    waiting = [shared.submit("flood", lambda: 1) for _ in range(6)]
    for refused in waiting[4:]:
        assert isinstance(failure(refused), PoolFull)
    other = shared.submit("other", lambda: 2)
    assert drain(run) == [1, 1, 2, 1, 1]
    assert result(other) == 2


def test_when_all_places_are_taken_the_largest_gives_way() -> None:
    """The newest work of the network that holds the most makes room for one that holds fewer."""
    shared, run = pool(waiting=4)
    flood = [shared.submit("flood", lambda: "flood") for _ in range(5)]
    owner = shared.submit("owner", lambda: "owner")
    assert isinstance(failure(flood[4]), PoolFull)
    assert shared.waiting == 4
    assert drain(run) == ["flood", "flood", "owner", "flood", "flood"]
    assert result(owner) == "owner"


def test_networks_that_hold_one_each_keep_their_places() -> None:
    """Where nobody holds more, who comes last is refused."""
    shared, run = pool(waiting=2)
    kept = [shared.submit(network, lambda: 1) for network in "abc"]
    assert isinstance(failure(shared.submit("d", lambda: 1)), PoolFull)
    drain(run)
    assert [result(each) for each in kept] == [1, 1, 1]


def test_cancelled_work_leaves_the_queue() -> None:
    """Work that waits and is cancelled is not done; work that runs ends without anybody."""
    shared, run = pool()
    running, waiting = shared.submit("a", lambda: "running"), shared.submit("b", lambda: "waiting")
    for each in (running, waiting):
        each.cancel()
        assert isinstance(failure(each), defer.CancelledError)
    assert shared.waiting == 0
    assert drain(run) == ["running"]
    assert shared.running == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_a_reload_changes_the_bounds(threads: int) -> None:
    """The bounds are asked anew each time."""
    bounds = [PoolBounds(1, 10, 10)]
    run = RecordingThreads()
    shared = FairPool(run, lambda: bounds[0])
    for _ in range(5):
        shared.submit("a", lambda: 1)
    bounds[0] = PoolBounds(threads, 10, 10)
    run.end()
    assert len(run.started) == threads

from __future__ import annotations

from collections.abc import Sequence

import pytest
from twisted.internet import defer

from mta.disk.lane import Lane, LaneFull
from tests.doubles.sync import failure, result

Answer = dict[int, Exception] | None


class Commits:
    """A `run` whose batches end when the test says so."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.ends: list[defer.Deferred[Answer]] = []

    def __call__(self, batch: Sequence[str]) -> defer.Deferred[Answer]:
        """Start a batch."""
        self.batches.append(list(batch))
        self.ends.append(defer.Deferred())
        return self.ends[-1]


def test_an_idle_lane_commits_one_item_at_once() -> None:
    """Nothing waits for company."""
    commits = Commits()
    done = Lane(commits).submit("a")
    assert commits.batches == [["a"]]
    assert not done.called
    commits.ends[0].callback(None)
    assert result(done) == 1


def test_what_comes_during_a_sync_shares_the_next_one() -> None:
    """Items that arrive while a batch is under way are the next batch, in order."""
    commits = Commits()
    lane = Lane(commits)
    first = lane.submit("a")
    later = [lane.submit(item) for item in "bcd"]
    assert commits.batches == [["a"]]
    commits.ends[0].callback(None)
    assert result(first) == 1
    assert commits.batches == [["a"], ["b", "c", "d"]]
    commits.ends[1].callback(None)
    assert [result(done) for done in later] == [3, 3, 3]


def test_a_batch_is_bounded() -> None:
    """More than `maximum` items take several batches."""
    commits = Commits()
    lane = Lane(commits, maximum=2)
    for item in "abcde":
        lane.submit(item)
    for number in range(3):
        commits.ends[number].callback(None)
    assert commits.batches == [["a"], ["b", "c"], ["d", "e"]]


def test_waiting_items_are_bounded() -> None:
    """A disk that hangs does not take all memory: too many waiting are refused with LaneFull."""
    lane = Lane(Commits(), waiting_maximum=1)
    lane.submit("under way")
    waiting = lane.submit("waiting")
    assert isinstance(failure(lane.submit("too much")), LaneFull)
    assert not waiting.called


def test_items_fail_for_themselves() -> None:
    """A failure of one item is told to that one alone."""
    commits = Commits()
    lane = Lane(commits)
    lane.submit("a")
    one, other = lane.submit("b"), lane.submit("c")
    commits.ends[0].callback(None)
    commits.ends[1].callback({1: OSError("no room")})
    assert result(one) == 2
    assert str(failure(other)) == "no room"


def test_a_failed_batch_fails_all_of_it_and_the_next_one_runs() -> None:
    """Failure of `run` is failure of every item in the batch, and of no other."""
    commits = Commits()
    lane = Lane(commits)
    first, second = lane.submit("a"), lane.submit("b")
    commits.ends[0].errback(OSError("EIO"))
    assert str(failure(first)) == "EIO"
    commits.ends[1].callback(None)
    assert result(second) == 1


def test_a_run_that_raises_is_a_failed_batch() -> None:
    """An exception from `run` itself reaches the items, and the lane goes on."""
    answers: list[Exception | None] = [ZeroDivisionError(), None]

    def run(batch: Sequence[str]) -> defer.Deferred[Answer]:
        answer = answers.pop(0)
        if answer:
            raise answer
        return defer.succeed(None)

    lane = Lane(run)
    assert isinstance(failure(lane.submit("a")), ZeroDivisionError)
    assert result(lane.submit("b")) == 1


def test_idle_fires_when_nothing_is_left() -> None:
    """`idle` waits for what is under way and for what waits."""
    commits = Commits()
    lane = Lane(commits)
    assert result(lane.idle()) is None
    lane.submit("a")
    lane.submit("b")
    idle = lane.idle()
    commits.ends[0].callback(None)
    assert not idle.called
    commits.ends[1].callback(None)
    assert idle.called


def test_the_next_batch_starts_before_answers_are_given() -> None:
    """The disk works while the sessions of the last batch are answered."""
    commits = Commits()
    lane = Lane(commits)
    seen: list[int] = []
    lane.submit("a").addCallback(lambda _: seen.append(len(commits.batches)))
    lane.submit("b")
    commits.ends[0].callback(None)
    assert seen == [2]


@pytest.mark.parametrize("submitted", [1, 5])
def test_an_item_may_be_submitted_from_an_answer(submitted: int) -> None:
    """A callback that submits again does not disturb the order."""
    commits = Commits()
    lane = Lane(commits)
    again: list[defer.Deferred[int]] = []
    first = lane.submit("a")
    first.addCallback(lambda _: again.extend(lane.submit(f"again {n}") for n in range(submitted)))
    commits.ends[0].callback(None)
    while not all(done.called for done in again):
        commits.ends[-1].callback(None)
    assert [item for batch in commits.batches for item in batch] == ["a", *(f"again {n}" for n in range(submitted))]

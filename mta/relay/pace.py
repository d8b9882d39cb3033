"""How many attempts run at once, to one destination and in all, and when a destination rests – pure.

A destination that answered no connection rests: what waits for it is not tried one by one against a dead host, it
is deferred with the same reason. The first attempt after the rest is alone; only when it gets through does the
destination have its full width again.

The width of a destination holds for all workers together. How many attempts each has under way, and whether more wait,
stands on the board (`mta.board`): one that is alone with a destination may use all of its width, otherwise each has an
equal part, and takes what is free of it as the others' attempts end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mta.board.alone import NoOthers
from mta.board.port import Shares
from mta.mail.outcome import Deferred, Outcome
from mta.mail.reason import Reason
from mta.smtp import status

J = TypeVar("J")

_WIDTH = "[relay] connections_per_destination"
_TOTAL = "[queue] concurrency"

OUT_OF_REACH = {status.NO_ANSWER.transient(), status.DIRECTORY_FAILURE.transient(), status.NO_ROUTE.transient()}
"""No host of a destination could be spoken to. A connection that is lost later (4.4.2) says nothing of the others."""


def unreachable(outcomes: Mapping[int, Outcome]) -> Reason | None:
    """The reason why a whole destination was out of reach; None when it was reached, or the cause is ours.

    Whoever sent a reply was reached, whatever status stands in it: that status may be about one sender.
    """
    reason: Reason | None = None
    for outcome in outcomes.values():
        if not isinstance(outcome, Deferred) or outcome.local or outcome.reply or outcome.status not in OUT_OF_REACH:
            return None
        reason = outcome.reason
    return reason


@dataclass(frozen=True, slots=True)
class Load:
    """How busy this worker is with a destination: attempts that run, jobs that wait, seconds that it rests."""

    running: int = 0
    waiting: int = 0
    rests: float = 0.0


@dataclass(slots=True)
class _Lane(Generic[J]):
    """The jobs of one destination."""

    waiting: deque[J] = field(default_factory=deque)
    running: int = 0
    width: int = 0
    rests_until: float = 0.0
    reason: Reason | None = None


class Pace(Generic[J]):
    """Jobs by destination. `total` and `width` bound the attempts that run at once, in all and to one destination.

    Empty destinations are forgotten unless they rest, so the table is as large as the queue in memory plus the
    destinations that were unreachable lately.
    """

    def __init__(self, total: int, width: int, shares: Shares | None = None) -> None:
        self.total = total
        self.width = width
        self.running = 0
        self.crowded = False
        """Whether jobs wait for what other workers have under way: nobody says when that ends, so ask again soon."""
        self._shares = shares or NoOthers()
        self._lanes: dict[str, _Lane[J]] = {}
        self._turn: deque[str] = deque()  # destinations with waiting jobs, served in turn

    @property
    def destinations(self) -> list[str]:
        """The names that are remembered."""
        return list(self._lanes)

    def add(self, destination: str, job: J) -> None:
        """Put a job behind the others of its destination."""
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = _Lane(width=self.width)
        if not lane.waiting:
            self._turn.append(destination)
        lane.waiting.append(job)
        self._tell(destination, lane)

    def is_free(self, destination: str) -> bool:
        """Whether a job that is added now would start at once."""
        lane = self._lanes.get(destination)
        if self.running >= self.total:
            return False
        if lane is None:
            return self._room(destination, 0, self.width)
        return not lane.waiting and self._room(destination, lane.running, lane.width)

    def why_waiting(self, destination: str) -> Reason | None:
        """Say why the job of a destination that was added last does not start now; None where it does."""
        lane = self._lanes.get(destination)
        if lane is None or not lane.waiting:
            return None
        ahead = len(lane.waiting) - 1
        before = f", {ahead} ahead" if ahead else ""
        if lane.reason is not None:
            return Reason(f"{destination} was out of reach, one attempt goes first{before}", str(lane.reason))
        if self.width < self.total and not self._room(destination, lane.running + ahead, lane.width):
            others = sum(other // 2 for other in self._shares.others(destination))
            shared = f", {others} of them by other workers" if others else ""
            connections = "connection" if lane.width == 1 else "connections"
            return Reason(f"limit of {lane.width} {connections} to {destination}{shared}{before}", _WIDTH)
        if self.running + ahead >= self.total:
            return Reason(f"limit of {self.total} attempts at once{before}", _TOTAL)
        return None

    def load(self, destination: str, now: float) -> Load:
        """How busy a destination is at monotonic `now`; ``""``: all of them."""
        if not destination:
            return Load(self.running, sum(len(lane.waiting) for lane in self._lanes.values()))
        lane = self._lanes.get(destination)
        return Load() if lane is None else Load(lane.running, len(lane.waiting), max(0.0, lane.rests_until - now))

    def ready(self, now: float) -> list[tuple[J, Reason | None]]:
        """Take the jobs that may start at monotonic `now`.

        One that comes with a Reason is not to be tried: its destination rests.
        """
        taken: list[tuple[J, Reason | None]] = []
        blocked: list[str] = []
        self.crowded = False
        while self._turn and self.running < self.total:
            destination = self._turn.popleft()
            lane = self._lanes[destination]
            resting = lane.reason if lane.rests_until > now else None
            if resting is None and not self._room(destination, lane.running, lane.width):
                self.crowded |= lane.running < lane.width
                blocked.append(destination)
                continue
            taken.append((lane.waiting.popleft(), resting))
            if lane.waiting:
                self._turn.append(destination)
            lane.running += 1
            self.running += 1
            self._tell(destination, lane)
        self._turn.extendleft(reversed(blocked))
        return taken

    def reached(self, destination: str) -> None:
        """The destination answered: it has its full width."""
        lane = self._lanes[destination]
        lane.width, lane.rests_until, lane.reason = self.width, 0.0, None

    def unreached(self, destination: str, until: float, reason: Reason) -> None:
        """The destination did not answer: it rests until monotonic `until`, then one attempt goes first."""
        lane = self._lanes[destination]
        lane.width, lane.rests_until, lane.reason = 1, until, reason

    def rouse(self, destination: str) -> None:
        """Somebody wants it tried now: it rests no more, and one attempt goes first all the same."""
        if destination in self._lanes:
            lane = self._lanes[destination]
            lane.rests_until, lane.reason = 0.0, None

    def ended(self, destination: str, now: float) -> None:
        """A job that `ready` gave is over."""
        lane = self._lanes[destination]
        lane.running -= 1
        self.running -= 1
        self._tell(destination, lane)
        if not lane.waiting and not lane.running and lane.rests_until <= now:
            del self._lanes[destination]

    def clear(self) -> list[J]:
        """Take all jobs that wait, to start none of them."""
        waiting = [job for lane in self._lanes.values() for job in lane.waiting]
        for destination, lane in self._lanes.items():
            lane.waiting.clear()
            self._tell(destination, lane)
        self._turn.clear()
        return waiting

    def forget_rested(self, now: float) -> None:
        """Forget the destinations whose rest is over and for which nothing waits."""
        for destination in [
            name
            for name, lane in self._lanes.items()
            if not lane.waiting and not lane.running and lane.rests_until <= now
        ]:
            del self._lanes[destination]

    # The other workers

    def _tell(self, destination: str, lane: _Lane[J]) -> None:
        self._shares.put(destination, 2 * lane.running + bool(lane.waiting))

    def _room(self, destination: str, running: int, width: int) -> bool:
        """Whether one more may run beside what the others have under way there."""
        others = self._shares.others(destination)
        if running + sum(other // 2 for other in others) >= width:
            return False
        rivals = sum(other % 2 for other in others)
        return not rivals or running < max(1, width // (1 + rivals))

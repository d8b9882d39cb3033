"""A few threads for slow work, shared fairly among networks.

Work waits in one queue for each network, and the queues are served in turn: however much one network sends, another's
next piece of work waits behind one of its at most. What waits is bounded, in all and for each network. When all places
are taken, the network that holds the most gives up its newest to one that holds fewer; so a flood refuses itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import defer

from mta.disk.port import RunInThread


class PoolFull(Exception):
    """No place to wait; becomes 454 4.7.0 (RFC 4954 §6)."""


@dataclass(frozen=True, slots=True)
class PoolBounds:
    """How much at once."""

    threads: int
    """Pieces of work that run."""
    waiting: int
    """Pieces of work that wait, all networks together."""
    waiting_per_network: int
    """Pieces of work that wait, of one network."""


@dataclass(slots=True, eq=False)
class _Work:
    function: Callable[[], object]
    done: defer.Deferred[Any] = field(default_factory=defer.Deferred)


class FairPool:
    """Runs work in threads. `bounds` is asked each time, so that a reload counts."""

    def __init__(self, run: RunInThread, bounds: Callable[[], PoolBounds]) -> None:
        self._run = run
        self._bounds = bounds
        self._lanes: dict[str, deque[_Work]] = {}
        """Work by network, never empty; the first network is served next."""
        self.waiting = 0
        self.running = 0

    def submit(self, network: str, function: Callable[[], object]) -> defer.Deferred[Any]:
        """Run `function` in a thread when it is this network's turn. Fails with PoolFull, or what `function` raises.

        Cancelling takes it out of the queue; once it runs, its result is dropped.
        """
        work = _Work(function)
        work.done = defer.Deferred(lambda _: self._leave(network, work))
        bounds = self._bounds()
        if self.running >= bounds.threads:
            full = self._make_room(network, bounds)
            if full is not None:
                return defer.fail(full)
        self._lanes.setdefault(network, deque()).append(work)
        self.waiting += 1
        self._turn()
        return work.done

    def _make_room(self, network: str, bounds: PoolBounds) -> PoolFull | None:
        held = len(self._lanes.get(network, ()))
        if held >= bounds.waiting_per_network:
            return PoolFull(f"{held} passwords of {network} wait to be checked")
        if self.waiting >= bounds.waiting:
            largest = max(self._lanes, key=lambda name: len(self._lanes[name]))
            if len(self._lanes[largest]) <= held + 1:
                return PoolFull(f"{self.waiting} passwords wait to be checked")
            last = self._lanes[largest][-1]
            self._leave(largest, last)
            last.done.errback(PoolFull(f"{largest} has the most passwords that wait to be checked"))
        return None

    def _leave(self, network: str, work: _Work) -> None:
        lane = self._lanes.get(network)
        if lane is None or work not in lane:
            return
        lane.remove(work)
        self.waiting -= 1
        if not lane:
            del self._lanes[network]

    def _turn(self) -> None:
        while self._lanes and self.running < self._bounds().threads:
            network, lane = next(iter(self._lanes.items()))
            work = lane.popleft()
            self.waiting -= 1
            # To the end of the line, if anything of it still waits
            del self._lanes[network]
            if lane:
                self._lanes[network] = lane
            self.running += 1
            self._run(work.function).addBoth(self._ended, work)

    def _ended(self, result: object, work: _Work) -> None:
        self.running -= 1
        self._turn()
        if not work.done.called:
            work.done.callback(result)  # a Failure makes it fail

"""Group commit: whatever waits when a sync ends goes into the next one.

A `Lane` owns one `run` function that makes a batch durable. While one batch is under way, later items gather; when it
ends, all of them (up to `maximum`) are the next. Under load the cost of a sync is shared, and an idle server still
commits one item at once: nothing ever waits for a timer.

`run` gives one answer for the batch (None: all of it stands), or maps items to their own failures. A failure of `run`
itself fails every item in it and the lane goes on with the next batch: whether the place is still fit is known to
whoever owns the lane.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet import defer
from twisted.python.failure import Failure

T = TypeVar("T")


class Lane(Generic[T]):
    """A queue of items to be committed in batches.

    `run(batch)` returns a Deferred that fires with None or with a mapping from index in the batch to the exception
    that item ended with. `maximum` bounds a batch in items, `waiting_maximum` those that may wait: more are refused
    with `LaneFull`, so that a disk that hangs cannot take all memory.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], defer.Deferred[dict[int, Exception] | None]],
        maximum: int = 256,
        waiting_maximum: int = 10_000,
    ) -> None:
        self._run = run
        self._maximum = maximum
        self._waiting_maximum = waiting_maximum
        self._waiting: deque[tuple[T, defer.Deferred[int]]] = deque()
        self._running = False
        self._idle: list[defer.Deferred[None]] = []

    def submit(self, item: T) -> defer.Deferred[int]:
        """Commit `item`; fires after the sync, with the number of items that shared it."""
        done: defer.Deferred[int] = defer.Deferred()
        if len(self._waiting) >= self._waiting_maximum:
            done.errback(LaneFull(f"{len(self._waiting)} items wait for a sync"))
            return done
        self._waiting.append((item, done))
        if not self._running:
            self._next()
        return done

    def idle(self) -> defer.Deferred[None]:
        """Fires when nothing is under way or waiting."""
        if not self._running:
            return defer.succeed(None)
        done: defer.Deferred[None] = defer.Deferred()
        self._idle.append(done)
        return done

    def _next(self) -> None:
        self._running = True
        count = min(len(self._waiting), self._maximum)
        batch = [self._waiting.popleft() for _ in range(count)]
        try:
            running = self._run([item for item, _ in batch])
        except Exception:
            running = defer.fail()
        running.addBoth(self._ended, batch)

    def _ended(self, result: dict[int, Exception] | Failure | None, batch: list[tuple[T, defer.Deferred[int]]]) -> None:
        # The next sync starts before anybody is told of this one: answering costs time the disk can use.
        if self._waiting:
            self._next()
        else:
            self._running = False
        for number, (_, done) in enumerate(batch):
            if isinstance(result, Failure):
                done.errback(result)
            elif result and number in result:
                done.errback(result[number])
            else:
                done.callback(len(batch))
        if not self._running:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                waiter.callback(None)


class LaneFull(Exception):
    """More items wait than the lane may hold; becomes 451 4.3.1."""

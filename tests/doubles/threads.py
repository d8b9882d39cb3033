"""Threads whose work is done when the test says so: batches gather meanwhile. (`sync.inline` does it at once.)"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet import defer


class HeldThreads:
    """`mta.disk.port.RunInThread`: calls wait in order for `run`."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[defer.Deferred[Any], Callable[..., Any], tuple[object, ...]]] = deque()

    def __call__(self, function: Callable[..., Any], /, *args: object) -> defer.Deferred[Any]:
        """Take a call."""
        done: defer.Deferred[Any] = defer.Deferred()
        self.waiting.append((done, function, args))
        return done

    def run(self, calls: int = 1) -> None:
        """Do some of what waits, oldest first."""
        for _ in range(calls):
            done, function, args = self.waiting.popleft()
            try:
                answer = function(*args)
            except Exception:
                done.errback()
            else:
                done.callback(answer)

    def run_all(self) -> None:
        """Do what waits and what comes of it until nothing waits."""
        while self.waiting:
            self.run()

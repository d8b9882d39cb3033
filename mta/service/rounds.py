"""What the daemon does again and again by itself: keys are changed, the whole is looked at."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer, interfaces
from twisted.python.failure import Failure

from mta.observe.journal import Journal


@dataclass(frozen=True, slots=True)
class Times:
    """When, in seconds."""

    first: float
    """From the start to the first round."""
    pause: float
    """From the end of a round to the next."""


class Rounds:
    """Has `turn` taken at `times`. A bug in it is noted as one of `name`, and ends that turn alone."""

    def __init__(
        self,
        name: str,
        turn: Callable[[], Coroutine[Any, Any, None]],
        times: Times,
        journal: Journal,
        clock: interfaces.IReactorTime,
    ) -> None:
        self._name = name
        self._turn = turn
        self._times = times
        self._journal = journal
        self._clock = clock
        self._next: interfaces.IDelayedCall | None = None
        self._under_way: defer.Deferred[None] | None = None

    def start(self) -> None:
        """Have the first round come soon."""
        self._next = self._clock.callLater(self._times.first, self._begin)

    def stop(self) -> None:
        """Begin no more; what waits is cancelled, what runs on a thread ends by itself."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._under_way is not None:
            self._under_way.cancel()

    def _begin(self) -> None:
        self._under_way = defer.Deferred.fromCoroutine(self._turn())
        self._under_way.addCallbacks(self._ended, self._failed)

    def _ended(self, _: None) -> None:
        self._under_way = None
        self._next = self._clock.callLater(self._times.pause, self._begin)

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, defer.CancelledError):
            assert failure.value is not None, "a Failure holds an exception"
            self._journal.fault(self._name, failure.value)
            self._ended(None)

"""The reactor's clock made monotonic, since Twisted's `seconds` is wall time and a deadline must not follow a clock
step; and waiting that has an end.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

from twisted.internet import defer, interfaces

T = TypeVar("T")


def monotonic(reactor: Any) -> None:
    """Have `reactor` count its delayed calls on the monotonic clock. Before the first `callLater`."""
    reactor.seconds = time.monotonic


def within(clock: interfaces.IReactorTime, seconds: float, waiting: defer.Deferred[Any]) -> defer.Deferred[bool]:
    """Fires with whether `waiting` has fired in time. Nothing is cancelled: what is late goes on by itself."""
    done: defer.Deferred[bool] = defer.Deferred()
    timer = clock.callLater(seconds, done.callback, False)

    def fired(result: T) -> T:
        if timer.active():
            timer.cancel()
            done.callback(True)
        return result

    waiting.addBoth(fired)
    return done

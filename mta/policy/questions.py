"""Several questions to the domain name system at once, with one deadline for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from mta.dns.answer import Answer

K = TypeVar("K")


async def answers(clock: IReactorTime, seconds: float, asked: Mapping[K, defer.Deferred[Answer]]) -> dict[K, Answer]:
    """Wait for the answers to what is asked, at most `seconds`; give those that came.

    The other questions are cancelled, also where whoever waits for this is; a failure (a bug of ours) is raised.
    """
    found: dict[K, Answer] = {}
    done: defer.Deferred[None] = defer.Deferred()

    def took(answer: Answer, key: K) -> None:
        found[key] = answer
        if len(found) == len(asked) and not done.called:
            done.callback(None)

    def failed(failure: Failure) -> None:
        if not done.called:
            done.errback(failure)

    def late() -> None:
        done.callback(None)

    for key, question in asked.items():
        question.addCallbacks(took, failed, callbackArgs=(key,))
    if not asked:
        return found
    timer = None if done.called else clock.callLater(seconds, late)
    try:
        await done
    finally:
        if timer is not None and timer.active():
            timer.cancel()
        _cancel(asked, found)
    return dict(found)


def _cancel(asked: Mapping[K, defer.Deferred[Any]], found: Mapping[K, object]) -> None:
    for key, question in asked.items():
        if key not in found:
            question.cancel()

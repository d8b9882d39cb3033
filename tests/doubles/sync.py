"""Deferreds that have fired, as plain values."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet import defer
from twisted.python.failure import Failure

T = TypeVar("T")


def result(waiting: defer.Deferred[T]) -> T:
    """Return the value of a Deferred that has fired, raise its failure; AssertionError if it still waits."""
    out: list[Any] = []
    waiting.addBoth(out.append)
    assert out, "the Deferred has not fired"
    if isinstance(out[0], Failure):
        out[0].raiseException()
    return out[0]  # type: ignore[no-any-return]  # the list holds what the Deferred gave


def failure(waiting: defer.Deferred[Any]) -> BaseException:
    """Return the exception of a Deferred that has failed."""
    out: list[Any] = []
    waiting.addBoth(out.append)
    assert out, "the Deferred has not fired"
    assert isinstance(out[0], Failure), f"it succeeded: {out[0]!r}"
    return out[0].value


def inline(function: Any, /, *args: object) -> defer.Deferred[Any]:
    """Run at once: the double of `mta.disk.port.RunInThread`."""
    return defer.execute(function, *args)

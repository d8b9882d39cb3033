"""Who carries mail: one worker in the parent's own process, or several in processes of their own.

The parent speaks to both alike (`Crew`). Here is the first; `mta.service.children` has the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet import defer
from twisted.python.failure import Failure

from mta.service.control import CommandRefused
from mta.service.pools import Pools
from mta.service.process import Process
from mta.service.seat import Seat
from mta.service.sockets import Listening, close


class Crew(Protocol):
    """All workers. Answers come in the order of their numbers, which begin at 0."""

    @property
    def workers(self) -> int:
        """How many there are."""
        ...

    @property
    def answering(self) -> bool:
        """Whether each of them answered lately."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """The commands that they know."""
        ...

    def start(self, sockets: Sequence[Listening]) -> defer.Deferred[None]:
        """Start them, listening on `sockets`, which are theirs to close; fires when all do."""
        ...

    def ask(self, number: int, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Have one carry out a command. Raises CommandRefused, also where it cannot be asked now."""
        ...

    def prepare(self) -> defer.Deferred[None]:
        """First step of a reload. Raises CommandRefused: then none of them has changed anything."""
        ...

    def use(self) -> defer.Deferred[None]:
        """Second step."""
        ...

    def stop(self) -> defer.Deferred[None]:
        """Stop them; fires when nothing is under way any more. Never fails."""
        ...


class OwnWorker:
    """The worker of the parent's process."""

    workers = 1
    answering = True

    def __init__(self, process: Process, pools: Pools) -> None:
        self._process = process
        self._pools = pools

    @property
    def names(self) -> Sequence[str]:
        """See `Crew`."""
        return list(self._process.commands)

    def start(self, sockets: Sequence[Listening]) -> defer.Deferred[None]:
        """See `Crew`. Raises at once what `Worker.start` does."""
        self._process.carry(Seat(), self._pools, sockets)
        close(sockets)  # the reactor has descriptors of its own
        return defer.succeed(None)

    def ask(self, number: int, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """See `Crew`."""
        command = self._process.commands.get(request["command"])
        if command is None:
            return defer.fail(CommandRefused(f"there is no command {request['command']}"))
        done: defer.Deferred[dict[str, Any]] = defer.maybeDeferred(command, request)  # type: ignore[call-overload]
        return done

    def prepare(self) -> defer.Deferred[None]:
        """Nothing is left to be prepared: it is done in the parent's process."""
        return defer.succeed(None)

    def use(self) -> defer.Deferred[None]:
        """See `prepare`."""
        return defer.succeed(None)

    def stop(self) -> defer.Deferred[None]:
        """Nothing is left to be stopped: the worker ends with the process."""
        return defer.succeed(None)


def first_failure(failure: Failure) -> Failure:
    """Take the failure of one out of what `gatherResults` wraps it in."""
    return failure.value.subFailure if isinstance(failure.value, defer.FirstError) else failure

"""Several workers, each a process of its own: started, listened to, started again when one dies (`Crew`).

=========  =============================  ===========================================================================
a child    event                          what comes of it
=========  =============================  ===========================================================================
starting   it answers that it listens     ready
           it says what keeps it          the start of the server fails; later: gone
           it ends                        as when ready
           no answer for `START_SECONDS`  killed: it hangs
ready      it ends                        what it had on the board is taken off; gone
           no answer for `SILENCE`        killed: it hangs
gone       its pause has passed           starting; it finds its shards as the dead one left them
           no process can be made         gone, for another pause
stopping   it ends, or is killed in time  stopped
=========  =============================  ===========================================================================

Sockets are made once, and handed to every child: what waits in the kernel to be accepted waits for any of them, so no
connection is lost when one dies. A child that ends within `HEALTHY` of its start is started after a pause that
doubles. Its messages wait so long; those of the others do not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet import defer, protocol
from twisted.internet.error import ConnectionLost, ProcessExitedAlready
from twisted.python.failure import Failure

from mta.board.shared import SharedBoard
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.service.clock import within
from mta.service.control import CommandRefused
from mta.service.crew import first_failure
from mta.service.link import Link
from mta.service.sockets import Listening, close

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds from the death of a child that did not live long to the next."""
HEALTHY = 30.0
"""Seconds of life after which a death is followed by a new start at once."""
ASK_EVERY = 10.0
"""Seconds between two questions whether it still answers."""
SILENCE = 60.0
"""Seconds without an answer after which a child hangs."""
START_SECONDS = 600.0
"""Seconds without an answer after which a child hangs that is starting: a large spool after a crash takes minutes."""
STOP_SECONDS = 50.0
"""How long a stop waits before it kills: a worker needs less, and systemd waits for 60."""

LINK = 3
"""The descriptor of the link in a child; the board and the sockets follow."""


class Children:
    """See `Crew`. `path` is the configuration, which each child reads by itself."""

    def __init__(self, path: str, board: SharedBoard, workers: int, reactor: Any, journal: Journal) -> None:
        self.workers = workers
        self.board = board
        self.reactor = reactor
        self.journal = journal
        self.sockets: Sequence[Listening] = ()
        self.names: Sequence[str] = ()
        self._children = [_Child(self, path, number) for number in range(workers)]

    @property
    def answering(self) -> bool:
        """Whether each of them has answered lately: for a watchdog."""
        return all(child.answering for child in self._children)

    def start(self, sockets: Sequence[Listening]) -> defer.Deferred[None]:
        """See `Crew`. Fails with CommandRefused where one of them cannot."""
        self.sockets = sockets
        started = defer.gatherResults([child.start() for child in self._children], consumeErrors=True)
        return started.addCallbacks(lambda _: None, first_failure)

    def ask(self, number: int, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """See `Crew`."""
        arguments = {key: value for key, value in request.items() if key != "command"}
        return self._children[number].ask(request["command"], **arguments)

    def prepare(self) -> defer.Deferred[None]:
        """See `Crew`."""
        done = [child.ask("prepare") for child in self._children if child.ready]
        return defer.gatherResults(done, consumeErrors=True).addCallbacks(lambda _: None, first_failure)

    def use(self) -> defer.Deferred[None]:
        """See `Crew`. A child that is starting may have read the old configuration: it reads again when it has."""
        done = [child.use() for child in self._children]
        return defer.gatherResults(done, consumeErrors=True).addCallbacks(lambda _: None, first_failure)

    def stop(self) -> defer.Deferred[None]:
        """See `Crew`."""
        stopped = defer.DeferredList([child.stop() for child in self._children])
        return stopped.addCallback(lambda _: close(self.sockets))

    def spread(self, number: int, request: Mapping[str, Any]) -> dict[str, Any]:
        """Pass on what one of them learnt to all the others; nothing else passes from one to another."""
        for child in self._children:
            if child.number != number and child.link is not None:
                child.link.tell("learn", memory=request["memory"], rows=request["rows"])
        return {}


class _Child(protocol.ProcessProtocol):
    """One worker, through all its lives."""

    def __init__(self, children: Children, path: str, number: int) -> None:
        self.number = number
        self.link: Link | None = None
        self.ready = False
        self._children = children
        self._path = path
        self._reactor = children.reactor
        self._since = 0.0
        self._answered = 0.0
        self._pause = FIRST_PAUSE
        self._next: Any = None
        self._stopped: defer.Deferred[None] | None = None

    @property
    def answering(self) -> bool:
        """Whether it has answered lately, or has no need to yet: a slow start of one is no reason to end all."""
        return not self.ready or self._silent < SILENCE

    @property
    def _silent(self) -> float:
        """Seconds without an answer."""
        silent: float = self._reactor.seconds() - self._answered
        return silent

    def start(self) -> defer.Deferred[None]:
        """Make the process, and have it listen. Raises OSError where the system has no room for one."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            link = self.link = self._make(ours, theirs)
        self._look(link)
        return self._begin(link)

    def _make(self, ours: socket.socket, theirs: socket.socket) -> Link:
        children = self._children
        descriptors = [theirs.fileno(), children.board.descriptor, *(each.socket.fileno() for each in children.sockets)]
        self._since = self._answered = self._reactor.seconds()
        with open(os.devnull, "rb") as nothing:
            self._reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, "-P", "-m", "mta.tap", str(self.number), self._path],
                env={name: value for name, value in os.environ.items() if name not in _NOT_INHERITED},
                childFDs={0: nothing.fileno(), 1: 1, 2: 2, **dict(enumerate(descriptors, LINK))},
            )
        link = Link({"spread": self._spread}, children.journal, lambda: None)
        ours.setblocking(False)
        self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, protocol.Factory.forProtocol(lambda: link))
        return link

    def _begin(self, link: Link) -> defer.Deferred[None]:
        sockets = [
            {"service": each.service, "implicit_tls": each.implicit_tls, "name": each.name}
            for each in self._children.sockets
        ]
        layout = self._children.board.layout
        board = {"workers": layout.workers, "shares": layout.shares, "tables": dict(layout.tables)}
        started = link.ask("start", sockets=sockets, board=board)
        return started.addCallbacks(self._begun, self._not_begun, (link,), errbackArgs=(link,))

    def _begun(self, answer: dict[str, Any], link: Link) -> None:
        self.ready = True
        self._answered = self._reactor.seconds()
        self._children.names = answer["commands"]
        self._children.journal.note(Kind.WORKER_STARTED, level=Level.NOTICE, worker=self.number, pid=self._pid)

    def _not_begun(self, failure: Failure, link: Link) -> Failure:
        if link.transport is not None:
            link.transport.loseConnection()  # which ends it
        return failure

    def ask(self, command: str, /, **arguments: object) -> defer.Deferred[dict[str, Any]]:
        """Have it carry out a command; CommandRefused where it cannot be asked."""
        if not self.ready or self.link is None:
            return defer.fail(CommandRefused(f"worker {self.number} is being started; try again"))
        return self.link.ask(command, **arguments).addErrback(self._lost)

    def use(self) -> defer.Deferred[Any]:
        """Have it use the configuration that was prepared. One that dies of it begins with that."""
        if self.link is None:
            return defer.succeed({})
        if not self.ready:
            self.link.tell("prepare")
            self.link.tell("use")
            return defer.succeed({})
        return self.link.ask("use").addErrback(_passed_over)

    def stop(self) -> defer.Deferred[None]:
        """Have it stop in order; it is killed when it does not."""
        stopped = self._stopped = defer.Deferred()
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._pid is None:
            stopped.callback(None)
            return stopped
        self._signal("TERM")
        return defer.Deferred.fromCoroutine(self._wait(stopped))

    async def _wait(self, stopped: defer.Deferred[None]) -> None:
        if not await within(self._reactor, STOP_SECONDS, stopped):
            self._signal("KILL")

    def processEnded(self, reason: Failure) -> None:
        """It is gone: make the next."""
        ready, self.ready, self.link = self.ready, False, None
        self._children.board.died(self.number)
        if self._stopped is not None:
            if not self._stopped.called:
                self._stopped.callback(None)
            return
        lived = self._reactor.seconds() - self._since
        self._start_later(_ended(reason), healthy=ready and lived >= HEALTHY)

    def _start_later(self, why: str, healthy: bool) -> None:
        wait = 0.0 if healthy else self._pause
        self._pause = FIRST_PAUSE if healthy else min(2 * self._pause, LONGEST_PAUSE)
        self._alert(f"{why}; the next is started in {wait:g} s")
        self._next = self._reactor.callLater(wait, self._again)

    def _again(self) -> None:
        try:
            started = self.start()
        except OSError as error:
            self.link = None
            if self._pid is None:
                self._start_later(f"no process can be made: {error.strerror or error}", healthy=False)
            return
        started.addErrback(self._not_started)

    def _not_started(self, failure: Failure) -> None:
        """What keeps it stands in the log; its end is noted when it comes."""
        if not isinstance(failure.value, ConnectionLost):
            self._alert(failure.getErrorMessage())

    def _alert(self, why: str) -> None:
        said = Reason(why, "mta.service.children")
        self._children.journal.note(Kind.WORKER_DIED, said, level=Level.ALERT, worker=self.number)

    def _look(self, link: Link) -> None:
        """Ask whether it answers, again and again as long as it lives."""
        if link is not self.link or self._stopped is not None:
            return
        patience = SILENCE if self.ready else START_SECONDS
        if self._silent >= patience:
            self._alert(f"no answer for {patience:g} s: it hangs, and is killed")
            self._signal("KILL")
            return
        if self.ready:
            link.ask("ping").addCallbacks(self._heard, lambda _: None)
        self._reactor.callLater(ASK_EVERY, self._look, link)

    def _heard(self, answer: dict[str, Any]) -> None:
        self._answered = self._reactor.seconds()

    def _spread(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._children.spread(self.number, request)

    @property
    def _pid(self) -> int | None:
        return None if self.transport is None else self.transport.pid

    def _signal(self, name: str) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            if self.transport is not None:
                self.transport.signalProcess(name)

    def _lost(self, failure: Failure) -> Failure:
        if isinstance(failure.value, ConnectionLost):
            raise CommandRefused(f"worker {self.number} has died meanwhile; try again")
        return failure


_NOT_INHERITED = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""What systemd tells the parent alone."""


def _passed_over(failure: Failure) -> Failure | dict[str, Any]:
    return {} if isinstance(failure.value, ConnectionLost) else failure


def _ended(reason: Failure) -> str:
    value: Any = reason.value
    if getattr(value, "signal", None):
        return f"ended by {signal.Signals(value.signal).name}"
    return f"ended with status {getattr(value, 'exitCode', None)}"

"""A connection to a milter: carries the octets of a `MilterSession`, counts its deadlines, holds back what is written.

What the filter, the network or a deadline does is a `Fault` value. After one the connection is gone.

===========================  =======================  =================================================================
waiting for                  deadline                 moved by
===========================  =======================  =================================================================
connection and negotiation   `connect`                nothing
an answer                    as `answer` is told      "progress"
the filter to read           as `answer` is told      the end of the wait
all of one question          `MilterClient.longest`   nothing: `Connection.begin` sets it
the end after QUIT           `LINGER`                 nothing
===========================  =======================  =================================================================

A single octet moves no deadline. What is written waits in the transport's buffer, and once that is full nothing more is
written before it is empty: a filter that does not read costs one piece of a body.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, endpoints, error, interfaces, protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.net.deadline import Deadline
from mta.policy.milter.packet import Fault
from mta.policy.milter.session import CONTINUE, NEED_DATA, PROGRESS, Bounds, MilterSession, Reply
from mta.settings.milter import MilterAddress, MilterDeadlines, UnixSocket

LINGER = 5.0
"""Seconds for what was written to leave after QUIT; then the connection is aborted."""

GIVEN_UP = "the question was given up"


def endpoint(reactor: Any, address: MilterAddress) -> interfaces.IStreamClientEndpoint:
    """Make the endpoint of a filter's address; a host name is looked up by the system."""
    if isinstance(address, UnixSocket):
        return endpoints.UNIXClientEndpoint(reactor, address.path)  # type: ignore[no-untyped-call]  # Twisted's
    return endpoints.HostnameEndpoint(reactor, address.endpoint.host, address.endpoint.port)


@implementer(interfaces.IPushProducer)
class Connection(protocol.Protocol):
    """One connection, in the hands of one caller, who asks one thing at a time."""

    transport: Any

    def __init__(self, clock: interfaces.IReactorTime, longest: float, session: MilterSession) -> None:
        self.session = session
        self._clock = clock
        self._longest = longest
        self._deadline = Deadline(clock, self._overdue)
        self._until = 0.0
        self._seconds = 0.0
        self._waiting: defer.Deferred[Reply | Fault] | None = None
        self._paused = False

    # What a conversation calls

    def begin(self) -> None:
        """Begin a question of several steps, which has its deadline in all."""
        self._until = self._clock.seconds() + self._longest

    async def answer(self, due: bool, seconds: float) -> Reply | Fault:
        """Write what the session has to say and wait for the answer if one is `due`, else for room to write more.

        Where there is nothing to wait for it is `CONTINUE`. Cancelling ends the connection.
        """
        session = self.session
        if not session.ended:
            self.transport.write(session.output())
        if session.fault is not None:
            return session.fault
        if not due and not self._paused:
            return CONTINUE
        waiting: defer.Deferred[Reply | Fault] = defer.Deferred(lambda _: self.abort(GIVEN_UP))
        self._waiting = waiting
        self._seconds = seconds
        self._wait()
        return await waiting

    def rest(self) -> bool:
        """Have the filter forget the message, if there is one. False: the connection is of no use any more."""
        if self.session.ended or self.session.awaiting is not None:
            return False
        self.session.abort()
        self.transport.write(self.session.output())
        return True

    def quit(self) -> None:
        """Say QUIT and close; while an answer is due, abort."""
        if self._waiting is not None:
            self.abort("the session is over")
        elif not self.session.ended:
            self.session.quit()
            self.transport.write(self.session.output())
            self.transport.unregisterProducer()
            self.transport.loseConnection()
            self._deadline.move(self._clock.seconds() + LINGER)

    def abort(self, text: str) -> None:
        """End it here and now; who waits gets a fault."""
        self.session.lost(text)
        self._close()

    # What Twisted calls

    def connectionMade(self) -> None:
        """Let packets leave at once, and hear when there are too many."""
        if interfaces.ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        """Take octets of the filter."""
        session = self.session
        session.receive(data)
        while (event := session.next_event()) is not NEED_DATA:
            if event is PROGRESS:
                self._wait()
            elif isinstance(event, Fault):
                self._close()
                return
            else:
                self._answered(event)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Give who waits its end."""
        if not self.session.ended:
            self.session.lost(f"connection lost: {_words(reason.value)}")
        self._close()

    def pauseProducing(self) -> None:
        """Stop writing: the transport has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Write more."""
        self._paused = False
        if self.session.awaiting is None:
            self._answered(CONTINUE)

    def stopProducing(self) -> None:
        """Do nothing: the transport is gone, and says so by `connectionLost`."""

    # Parts

    def _wait(self) -> None:
        self._deadline.move(min(self._clock.seconds() + self._seconds, self._until))

    def _answered(self, answer: Reply | Fault) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._deadline.end()
            waiting.callback(answer)

    def _overdue(self) -> None:
        session = self.session
        if session.ended:
            self._close()
            return
        if self._clock.seconds() >= self._until:
            text = f"not done in {self._longest:g} s"
        elif session.awaiting is not None:
            text = f"no answer to {session.awaiting.name} in {self._seconds:g} s"
        else:
            text = f"nothing read in {self._seconds:g} s"
        self.abort(text)

    def _close(self) -> None:
        self._deadline.end()
        self.transport.abortConnection()
        if self.session.fault is not None and self._waiting is not None and not self._waiting.called:
            self._answered(self.session.fault)


class _Factory(protocol.Factory):
    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, address: interfaces.IAddress | None) -> Connection:
        return self._connection


class MilterClient:
    """Makes connections to one filter, ready to be told of a session."""

    def __init__(
        self,
        endpoint: interfaces.IStreamClientEndpoint,
        clock: interfaces.IReactorTime,
        deadlines: MilterDeadlines,
        bounds: Bounds | None = None,
    ) -> None:
        self.deadlines = deadlines
        self._endpoint = endpoint
        self._clock = clock
        self._bounds = bounds

    async def connect(self) -> Connection | Fault:
        """Connect and negotiate. Cancelling gives up, with a fault too."""
        deadlines, clock = self.deadlines, self._clock
        until = clock.seconds() + deadlines.connect
        connection = Connection(clock, deadlines.longest, MilterSession(bounds=self._bounds))
        connecting = self._endpoint.connect(_Factory(connection))
        deadline = clock.callLater(deadlines.connect, connecting.cancel)
        try:
            await connecting
        except (defer.CancelledError, error.ConnectingCancelledError):
            given_up = deadline.active()
            return Fault(GIVEN_UP if given_up else f"no connection within {deadlines.connect:g} s")
        except (error.ConnectError, error.ConnectionClosed, OSError) as refusal:
            return Fault(f"no connection: {_words(refusal)}")
        finally:
            if deadline.active():
                deadline.cancel()
        connection.begin()
        connection.session.negotiate()
        agreed = await connection.answer(True, max(0.0, until - clock.seconds()))
        return agreed if isinstance(agreed, Fault) else connection


def _words(error: BaseException | None) -> str:
    return str(error).rstrip(".") or type(error).__name__

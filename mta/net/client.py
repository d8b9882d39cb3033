"""A connection to a server: carries the octets of a `ClientSession`, counts its deadlines, starts TLS.

One exchange runs at a time (`Connection.run`); its Deferred always fires with the exchange's result and never fails:
what the peer, the network or a deadline does to the session is part of that result. Cancelling it aborts the
connection, which is part of the result as well.

====================  ==================  =====================================================
waiting for           deadline            when it passes
====================  ==================  =====================================================
TCP connection        `connect`           a `Fault` in place of the connection
greeting              `greeting`          the session ends with a `Fault`, the connection is aborted
TLS handshake         `tls`               the same
354                   `data`              the same
peer takes content    `block`             the same; each chunk that goes out starts it anew
reply to final dot    `final_dot`         the same: the outcome is unknown
reply to QUIT         `quit`              the connection is aborted
any other reply       `command`           the session ends with a `Fault`, the connection is aborted
the next message      given to `rest`     QUIT
====================  ==================  =====================================================

A deadline is moved by a whole reply, not by octets: a peer that sends one octet a minute gains nothing. Large content
is written as the transport takes it, so a connection holds one chunk of it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, TypeVar, cast

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import defer, error, interfaces, protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.mail.tlsinfo import TlsInfo
from mta.settings.sections import RelayDeadlines
from mta.smtp.client import ClientSession, Fault, Stage
from mta.smtp.exchange import Exchange, Quit
from mta.smtp.reply_reader import ServerReply
from mta.smtp.status import BAD_CONNECTION, NO_ANSWER, NOT_ACCEPTING, SYSTEM_FAULT, TLS_FAILURE, Status

T = TypeVar("T")

_STOPPING = "we are stopping", NOT_ACCEPTING

_OURS = frozenset(
    {
        *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL),
        *(errno.EPERM, errno.EACCES),  # a firewall or a security module of ours
    }
)
"""Errors of connecting that say nothing of the other side. But EACCES with IPv6 may be a router's word: Linux gives it
for an ICMPv6 "administratively prohibited" (net/ipv6/icmp.c)."""

Describe = Callable[[Any], TlsInfo]
"""Tells version and cipher of a transport whose handshake has ended."""


def _words(fault: BaseException | None) -> str:
    # OpenSSL's errors are lists of (library, function, reason); the last reason says what a person can use
    if isinstance(fault, SSL.Error) and fault.args and fault.args[0]:
        return str(fault.args[0][-1][-1])
    # Twisted puts words of its own and a number before the kernel's words, which are enough
    if isinstance(fault, error.ConnectError) and fault.osError and fault.args and fault.args[0]:
        return str(fault.args[0])
    return str(fault).rstrip(".")


@implementer(interfaces.IHandshakeListener, interfaces.IPushProducer)
class Connection(protocol.Protocol):
    """One connection, in the hands of one caller at a time."""

    transport: Any

    def __init__(self, clock: interfaces.IReactorTime, deadlines: RelayDeadlines, pipelining: bool = True) -> None:
        self.session = ClientSession(pipelining=pipelining)
        self.tls: TlsInfo | None = None
        self._clock = clock
        self._deadlines = deadlines
        self._exchange: Exchange[Any] | None = None
        self._done: defer.Deferred[Any] | None = None
        self._handshake: defer.Deferred[TlsInfo | Fault] | None = None
        self._describe: Describe | None = None
        self._gone: Callable[[], None] | None = None
        self._deadline: float | None = None
        self._timer: interfaces.IDelayedCall | None = None
        self._producing = False
        self._paused = False
        self._lost = False

    @property
    def usable(self) -> bool:
        """Whether another exchange can be run."""
        return not self.session.ended

    def run(self, exchange: Exchange[T]) -> defer.Deferred[T]:
        """Carry out an exchange; fires with its result, also where the session ends or has ended before."""
        assert self._exchange is None, "one exchange at a time"
        self._gone = None
        done: defer.Deferred[T] = defer.Deferred(lambda _: self.abort())
        self._exchange, self._done = exchange, done
        if self.session.ended:
            exchange.broken(self.session, self.session.fail("the connection has ended", BAD_CONNECTION))
        else:
            exchange.start(self.session)
        self._advance(moved=True)
        return done

    def start_tls(
        self, creator: interfaces.IOpenSSLClientConnectionCreator, describe: Describe
    ) -> defer.Deferred[TlsInfo | Fault]:
        """Do the handshake, after the server has answered STARTTLS; fires with what it gave, or the fault.

        With TLS 1.3 a server's refusal may come only as the fault of the next exchange, with the same status 4.7.5.
        """
        done: defer.Deferred[TlsInfo | Fault] = defer.Deferred(lambda _: self.abort())
        if self.session.ended:
            done.callback(self.session.fail("the connection has ended", BAD_CONNECTION))
            return done
        self._handshake, self._describe = done, describe
        self._wait(self._deadlines.tls)
        self.transport.startTLS(creator)
        return done

    def rest(self, seconds: float, gone: Callable[[], None]) -> None:
        """Keep the connection open for another exchange; `gone` is called once when it ends before one is run."""
        self._gone = gone
        self._wait(seconds)

    def quit(self) -> defer.Deferred[ServerReply | Fault]:
        """Say QUIT and close once it is answered, or at its deadline."""
        return self.run(Quit())

    def connectionMade(self) -> None:
        """Let bursts leave at once: each is a whole, and the next waits for its answer."""
        self.transport.setTcpNoDelay(True)

    def abort(self) -> None:
        """End it here and now, for a cause of ours; an exchange under way gets a fault."""
        self.session.fail(*_STOPPING, local=True)
        self._advance()

    def dataReceived(self, data: bytes) -> None:
        """Take octets of the server."""
        if not self.session.ended:
            self.session.receive(data)
            self._advance()

    def handshakeCompleted(self) -> None:
        """Go on under TLS."""
        waiting, self._handshake = self._handshake, None
        assert waiting, "a handshake ends once"
        assert self._describe, "start_tls was called"
        self._deadline = None
        self.session.tls_started()
        self.tls = self._describe(self.transport)
        waiting.callback(self.tls)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Give what runs its end."""
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.session.ended:
            tls = self._handshake is not None or isinstance(reason.value, (SSL.Error, VerificationError))
            self.session.fail(f"connection lost: {_words(reason.value)}", TLS_FAILURE if tls else BAD_CONNECTION)
            self._advance()

    def pauseProducing(self) -> None:
        """Stop writing content: the transport has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Write more content."""
        self._paused = False
        self._advance(moved=True)

    def stopProducing(self) -> None:
        """Do nothing: the transport is gone, and says so by `connectionLost`."""

    def _advance(self, moved: bool = False) -> None:
        session, exchange = self.session, self._exchange
        if exchange is None and session.awaiting is not None and not session.ended:
            return  # the greeting is here before anybody asked for it
        moved = self._take_events() or moved
        if not session.ended and not self._write():
            self._take_events()
        if session.ended:
            self._close()
        if exchange is not None and exchange.result is not None:
            done, self._exchange, self._done, self._deadline = self._done, None, None, None
            cast("defer.Deferred[Any]", done).callback(exchange.result)
        elif moved:
            self._wait_for_answer()

    def _take_events(self) -> bool:
        """Hand the exchange what has come; tell whether an answer was among it."""
        session, exchange = self.session, self._exchange
        answered = False
        while (event := session.next_event()) is not None:
            if isinstance(event, Fault):
                if exchange is not None and exchange.result is None:
                    exchange.broken(session, event)
                break
            assert exchange is not None, "only an exchange sends commands"
            exchange.answered(session, event.command, event.reply)
            answered = True
        return answered

    def _write(self) -> bool:
        """Write what there is room for; False where that ended the session: the content must not be sent."""
        session = self.session
        while not self._paused and (octets := session.output()):
            if session.sending and not self._producing:
                self._producing = True
                self.transport.registerProducer(self, True)
            self.transport.write(octets)
        if self._producing and not session.sending:
            self._release()
        return not session.ended

    def _release(self) -> None:
        # A transport with a producer does not close by itself
        self._producing = self._paused = False
        self.transport.unregisterProducer()

    def _close(self) -> None:
        self._deadline = None
        if self._producing:
            self._release()
        if not self._lost:
            if self.session.fault:
                self.transport.abortConnection()
            else:
                self.transport.loseConnection()
        if self._handshake is not None:
            waiting, self._handshake = self._handshake, None
            waiting.callback(cast(Fault, self.session.fault))
        self._leave()

    def _leave(self) -> None:
        if self._gone is not None:
            gone, self._gone = self._gone, None
            gone()

    def _wait_for_answer(self) -> None:
        stage = self.session.awaiting
        deadlines = self._deadlines
        if stage is Stage.CONTENT:
            self._wait(deadlines.block if self.session.sending else deadlines.final_dot)
        elif stage is Stage.GREETING:
            self._wait(deadlines.greeting)
        elif stage is Stage.DATA:
            self._wait(deadlines.data)
        elif stage is Stage.QUIT:
            self._wait(deadlines.quit)
        else:
            self._wait(deadlines.command)

    def _wait(self, seconds: float) -> None:
        # One delayed call serves deadline after deadline: most are over long before it fires
        self._deadline = self._clock.seconds() + seconds
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._due)
        elif self._timer.getTime() > self._deadline:
            self._timer.reset(seconds)

    def _due(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._due)
        elif self._handshake is not None:
            self._overdue("no end of the TLS handshake", TLS_FAILURE)
        elif self._exchange is None:
            self._leave()
            self.quit()
        else:
            self._overdue("no answer in time", NO_ANSWER)

    def _overdue(self, text: str, status: Status) -> None:
        self.session.fail(text, status)
        self._advance()


@implementer(interfaces.IProtocolFactory)
class _Factory:
    def __init__(self, build: Callable[[], Connection]) -> None:
        self._build = build

    def buildProtocol(self, address: interfaces.IAddress | None) -> Connection:
        return self._build()

    def doStart(self) -> None:
        pass

    def doStop(self) -> None:
        pass


async def connect(
    endpoint: interfaces.IStreamClientEndpoint,
    clock: interfaces.IReactorTime,
    deadlines: RelayDeadlines,
    pipelining: bool = True,
    ipv6: bool = False,
) -> Connection | Fault:
    """Connect; a refusal, an unreachable network or the deadline is a `Fault` (4.4.1), a cause of ours a `local` one.

    `ipv6`: whether that is what the endpoint speaks. Cancelling gives up, with a `local` fault.
    """
    connecting = endpoint.connect(_Factory(lambda: Connection(clock, deadlines, pipelining)))
    deadline = clock.callLater(deadlines.connect, connecting.cancel)
    ours = False
    try:
        return cast(Connection, await connecting)
    except (defer.CancelledError, error.ConnectingCancelledError):
        if deadline.active():
            return Fault(*_STOPPING, Stage.GREETING, grouped=False, local=True)
        text = f"no connection within {deadlines.connect:g} s"
    except (error.ConnectError, error.ConnectionClosed, OSError) as refusal:
        text, ours = _words(refusal), _is_ours(refusal, ipv6)
    finally:
        if deadline.active():
            deadline.cancel()
    return Fault(text, SYSTEM_FAULT if ours else NO_ANSWER, Stage.GREETING, grouped=False, local=ours)


def _is_ours(refusal: BaseException, ipv6: bool) -> bool:
    number = refusal.osError if isinstance(refusal, error.ConnectError) else getattr(refusal, "errno", None)
    return number in _OURS and not (ipv6 and number == errno.EACCES)

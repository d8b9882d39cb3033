"""The server's end of one connection: a transport, a `ServerSession`, and the rules that answer its events.

The protocol moves octets and time, and decides nothing about mail. For each burst that arrives it feeds the session,
hands each event to the rules, and writes all replies at once. Where the rules need time (a password, a commit) they
return a Deferred; the session gives no further event until it is answered, so the order of pipelined replies holds by
construction (RFC 2920 §3.1).

====================  =============================  ===========================================================
waiting for           deadline                       when it passes
====================  =============================  ===========================================================
TLS handshake         `limits.handshake_seconds`     the connection is aborted
a whole command       `limits.command_seconds`       421 4.4.2 and close (RFC 5321 §4.5.3.2.7)
another message       `limits.idle_seconds`          421 4.4.2 and close
more of the content   `limits.command_seconds`       421 4.4.2 and close
the whole of DATA     `limits.data_seconds`          421 4.4.2 and close
the rules             `limits.answer_seconds`        451 4.3.0; what the rules still do is their own affair
the peer to read      `limits.command_seconds`       the connection is aborted
====================  =============================  ===========================================================

The wait for a command begins with the last reply: octets that make no command move nothing.

Back-pressure: reading stops while the rules think and input waits, and while the peer does not take its replies; so a
connection holds one read, one burst of replies and what the rules keep of the message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer, interfaces, protocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from zope.interface import implementer

from mta.mail.reason import Reason
from mta.net.admission import Admission
from mta.net.deadline import Deadline
from mta.net.peer import Peer, counted_as
from mta.net.rules import Open, TlsServer
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.smtp import status
from mta.smtp.event import (
    AWAITING_REPLY,
    NEED_DATA,
    Content,
    DataRefused,
    Event,
    Quit,
    Refused,
    Reset,
)
from mta.smtp.reply import Reply, reply
from mta.smtp.server import Phase, ServerSession

LASTS_TOLD = 30.0
"""Seconds after which a session is told of that has not ended."""
_READ_AHEAD = 16 * 1024
"""Octets that may wait in a session while its rules think, before reading stops."""

TOO_SLOW = reply(421, status.BAD_CONNECTION.transient(), "Timeout waiting for you; try again")
SHUTTING_DOWN = reply(421, status.NOT_ACCEPTING, "Service shutting down; try again soon")
NO_ANSWER_IN_TIME = reply(451, status.SYSTEM_FAULT, "This took too long here; try again later")
LOGIN_DISABLED = reply(421, status.USER_DISABLED.transient(), "This account is disabled; ask your postmaster")
CONTENT_OF_DISABLED = reply(550, status.USER_DISABLED, "This account is disabled; ask your postmaster")
OUR_FAULT = reply(451, status.SYSTEM_FAULT, "Internal error, recorded here; try again later")
NO_SESSION = reply(421, status.SYSTEM_FAULT, "Internal error, recorded here; try again later")
TOO_MANY_CONNECTIONS = reply(421, status.TOO_MUCH, "Too many connections; try again later")


@implementer(interfaces.IHandshakeListener, interfaces.IPushProducer, interfaces.IHalfCloseableProtocol)
class SMTPServerProtocol(protocol.Protocol):
    """Drives one `ServerSession`."""

    transport: Any
    factory: SMTPServerFactory

    def __init__(self, service: SMTPServerFactory, address: str, port: int, uid: int | None = None) -> None:
        self._service = service
        self._clock = service.clock
        self.peer = Peer(service.new_session_id(), address, port, uid=uid)
        self._session = service.new_session()
        self._limits = self._session.limits
        self._rules = service.open(self.peer, self._session)
        self._waiting: defer.Deferred[Reply] | None = None
        self._deadline = Deadline(self._clock, self._overdue)
        self._mail_at = self._clock.seconds()
        """When the last message was accepted; the beginning, before the first."""
        self._data_at = 0.0
        """When the last data phase began."""
        self._running = False
        self._direct = False
        """Whether what is written goes straight to the socket: in clear text, with nothing in the buffer before it."""
        self._handshaking = False
        self._peer_reads = True
        self._closing = False
        self._stopping: Reply | None = None
        """What the peer is told when the session ends where no reply is owed."""

    # What Twisted calls

    def connectionMade(self) -> None:
        """Begin: with the greeting, or with the handshake."""
        self._service.entered(self)
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        if self._service.implicit_tls:
            self._start_tls()
        else:
            self._direct = hasattr(self.transport, "writeSomeData")
            self._run()

    def dataReceived(self, data: bytes) -> None:
        """Hand octets to the session; work on them unless the rules still think about earlier ones."""
        if self._closing:
            return
        self._session.receive(data)
        if self._waiting is None:
            self._run()
        elif self._session.buffered > _READ_AHEAD:
            self.transport.pauseProducing()

    def handshakeCompleted(self) -> None:
        """Begin anew under TLS."""
        self._handshaking = False
        self.peer.tls = self._service.tls.describe(self.transport)
        self._rules.secured(self.peer.tls, None)
        self._session.tls_started()
        self._run()
        self._arm()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """End: tell the rules, forget the peer."""
        closing, self._closing = self._closing, True
        self._deadline.end()
        # A commit under way is not cancelled: the message is ours or not, whoever still listens.
        self._waiting = None
        if closing or isinstance(reason.value, ConnectionDone):
            why = Reason("the connection was closed")
        elif isinstance(reason.value, ConnectionLost):
            why = Reason("the peer broke the connection off")
        else:
            why = Reason(str(reason.value))
        try:
            if self._handshaking:
                self._rules.secured(None, why)
            self._rules.lost(why)
        finally:
            self._service.left(self)

    def readConnectionLost(self) -> None:
        """Learn of a half-close: what has arrived is still answered."""
        self._session.end_of_input()
        if self._waiting is None:
            self._run()

    def writeConnectionLost(self) -> None:
        """Nothing: `connectionLost` follows."""

    def pauseProducing(self) -> None:
        """Stop: the peer does not take what we write."""
        self._peer_reads = False
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on: the peer took what was written."""
        self._peer_reads = True
        if self._waiting is None:
            self.transport.resumeProducing()
            self._run()
            self._arm()

    def stopProducing(self) -> None:
        """Nothing: `connectionLost` follows."""

    # The loop

    @property
    def login(self) -> str:
        """Who is logged in; empty: nobody."""
        return self._rules.login

    @property
    def awaits(self) -> Reason:
        """What it waits for."""
        if self._handshaking:
            return Reason("a TLS handshake is under way")
        if self._waiting is not None:
            return Reason("we work on a reply")
        return Reason("more of a message is awaited" if self._session.in_data else "a command is awaited")

    def stop(self, word: Reply = SHUTTING_DOWN) -> None:
        """Close at the next point where no reply is owed: 421 to an idle peer, after the reply to a busy one."""
        self._stopping = word
        if self._waiting is None and not self._session.in_data:
            self._run()

    def expel(self) -> None:
        """Close as `stop` does; of a message on its way the rest is read to its end, and refused there (law 3)."""
        if self._session.in_data and self._waiting is None:
            self._session.spoil(CONTENT_OF_DISABLED)
        self.stop(LOGIN_DISABLED)

    def _run(self) -> None:
        if self._handshaking:  # a session whose TLS is under way has nothing to say, and nothing to hear (law 5)
            return
        self._running = True
        session, rules = self._session, self._rules
        while self._peer_reads and not session.closing:
            event = session.next_event()
            if event is NEED_DATA:
                if self._stopping is not None and not session.in_data:
                    session.close(self._stopping)
                break
            if event is AWAITING_REPLY:
                break
            try:
                answer = rules.answer(event)
            except Exception as error:
                answer = self._failed(event, error)
            if isinstance(answer, Reply):
                self._reply(answer)
            elif answer is not None:
                self._wait(answer)
                if self._waiting is not None:
                    break
        self._running = False
        self._flush()
        if session.phase is Phase.TLS:
            self._start_tls()

    def _failed(self, event: Event, error: Exception) -> Reply | None:
        """Note that the rules failed, and return what is still owed to the peer."""
        self._journal_fault(error)
        match event:
            case Content():
                self._session.spoil(OUR_FAULT)  # which answers at the true end (law 3)
            case DataRefused() | Reset() | Quit() | Refused():
                pass  # the session has answered it
            case _:
                return OUR_FAULT
        return None

    def _wait(self, answer: defer.Deferred[Reply]) -> None:
        self._waiting = answer
        answer.addErrback(self._fault)
        answer.addCallback(self._answered, answer)

    def _answered(self, value: Reply, answer: defer.Deferred[Reply]) -> None:
        if self._waiting is not answer:  # too late: the peer has another reply, or is gone
            return
        self._waiting = None
        self._reply(value)
        if self._running:  # it had fired already
            return
        if self._peer_reads:
            self.transport.resumeProducing()
        self._run()

    def _reply(self, answer: Reply) -> None:
        session = self._session
        was_in_data = session.in_data
        session.reply(answer)
        if session.in_data:
            self._data_at = self._clock.seconds()
        elif was_in_data and answer.positive:
            self._mail_at = self._clock.seconds()

    def _fault(self, failure: Failure) -> Reply:
        self._journal_fault(failure.value)
        return OUR_FAULT

    def _journal_fault(self, error: BaseException | None) -> None:
        assert error is not None, "a Failure holds an exception"
        self._service.journal.fault(f"{self._service.name} session", error, session=self.peer.session)

    def _flush(self) -> None:
        session = self._session
        output = session.output()
        if output:
            self._write(output)
        if session.closing:
            self._closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        # All else is the beginning of a command.
        if output or session.closing or session.in_data or self._waiting is not None:
            self._arm()

    def _write(self, octets: bytes) -> None:
        """Write at once what the kernel takes: by the transport's buffer it takes a turn of the reactor more."""
        if self._direct:
            sent = self.transport.writeSomeData(octets)
            if sent == len(octets):
                return
            # The peer is slow, or gone: from now on all goes by the buffer, which keeps order and tells of both.
            self._direct = False
            if isinstance(sent, int) and sent > 0:
                octets = octets[sent:]
        self.transport.write(octets)

    # Deadlines

    def _arm(self) -> None:
        now, limits = self._clock.seconds(), self._limits
        if self._waiting is not None:
            at = now + limits.answer_seconds
        elif self._handshaking:
            at = now + limits.handshake_seconds
        elif self._session.in_data:
            at = min(now + limits.command_seconds, self._data_at + limits.data_seconds)
        elif self._closing:
            at = now + limits.command_seconds
        else:
            at = min(now + limits.command_seconds, self._mail_at + limits.idle_seconds)
        self._deadline.move(at)

    def _overdue(self) -> None:
        if self._closing or self._handshaking or not self._peer_reads:
            self.transport.abortConnection()
            return
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._session.reply(NO_ANSWER_IN_TIME)
            self.transport.resumeProducing()
            self._run()
            return
        self._session.close(TOO_SLOW)
        self._flush()

    # TLS

    def _start_tls(self) -> None:
        # What the peer sent in clear text behind STARTTLS is dropped by the session (RFC 3207 §6); Twisted hands
        # octets that come later to TLS.
        self._handshaking = True
        self._direct = False
        self.transport.unregisterProducer()
        self.transport.startTLS(self._service.tls.context())
        self.transport.registerProducer(self, True)
        self._arm()


class _Turned(protocol.Protocol):
    """A connection that gets no session: a word, and the end."""

    transport: Any

    def __init__(self, word: bytes) -> None:
        self._word = word

    def connectionMade(self) -> None:
        """Say it and close."""
        self.transport.write(self._word)
        self.transport.loseConnection()


class SMTPServerFactory(protocol.ServerFactory):
    """The ESMTP factory of one listening service: makes sessions, counts them, ends them.

    `open` makes the rules of a session, `new_session` the session core, `new_session_id` its name; `tls` is what
    STARTTLS uses, and with `implicit_tls` the handshake comes first (RFC 8314 §3).
    """

    noisy = False

    def __init__(
        self,
        name: str,
        clock: interfaces.IReactorTime,
        journal: Journal,
        admission: Admission,
        new_session: Callable[[], ServerSession],
        new_session_id: Callable[[], str],
        open: Open,
        tls: TlsServer,
        implicit_tls: bool = False,
    ) -> None:
        self.name = name
        self.clock = clock
        self.journal = journal
        self.new_session = new_session
        self.new_session_id = new_session_id
        self.open = open
        self.tls = tls
        self.implicit_tls = implicit_tls
        self.sessions: set[SMTPServerProtocol] = set()
        self._admission = admission
        self._emptied: list[defer.Deferred[None]] = []
        self._untold: dict[SMTPServerProtocol, float] = {}
        """Sessions that nothing was told of yet, with the monotonic time of their beginning, the oldest first."""
        self._telling: interfaces.IDelayedCall | None = None

    def buildProtocol(self, addr: Any) -> protocol.Protocol:
        """Admit a connection, or turn it away."""
        return self.session(getattr(addr, "host", ""), getattr(addr, "port", 0))

    def session(self, address: str, port: int, uid: int | None = None) -> protocol.Protocol:
        """Make the session of a peer, or what turns it away; `uid` is that of a user of this machine."""
        counted = counted_as(address, uid)
        refused = self._admission.enter(self.name, counted)
        if refused is not None:
            self.journal.note(Kind.SESSION_REFUSED, refused, level=Level.NOTICE, service=self.name, address=address)
            return self._turned(TOO_MANY_CONNECTIONS)
        try:
            return SMTPServerProtocol(self, address, port, uid)
        except Exception as error:
            self._admission.leave(self.name, counted)
            self.journal.fault(f"{self.name} session", error)
            return self._turned(NO_SESSION)

    def _turned(self, answer: Reply) -> _Turned:
        # Who begins with a handshake would take a reply for a part of it.
        return _Turned(b"" if self.implicit_tls else answer.wire)

    def entered(self, session: SMTPServerProtocol) -> None:
        """Know a session that begins."""
        self.sessions.add(session)
        self._untold[session] = self.clock.seconds()
        if self._telling is None:
            self._telling = self.clock.callLater(LASTS_TOLD, self._tell_lasting)

    def _tell_lasting(self) -> None:
        """Tell of the sessions that last, each once; all that is known of one is told at its end."""
        self._telling = None
        now = self.clock.seconds()
        while self._untold:
            session, began = next(iter(self._untold.items()))
            if began + LASTS_TOLD > now:
                self._telling = self.clock.callLater(began + LASTS_TOLD - now, self._tell_lasting)
                return
            del self._untold[session]
            peer = session.peer
            self.journal.note(
                Kind.SESSION_LASTS,
                session.awaits,
                session=peer.session,
                service=self.name,
                address=peer.address,
                port=peer.port,
                tls=str(peer.tls) if peer.tls else None,
                login=session.login or None,
                seconds=round(now - began, 3),
            )

    def _tell_no_more(self) -> None:
        self._untold.clear()
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None

    def left(self, session: SMTPServerProtocol) -> None:
        """Forget a session whose connection is gone."""
        self.sessions.discard(session)
        self._untold.pop(session, None)
        if not self._untold:
            self._tell_no_more()
        self._admission.leave(self.name, session.peer.counted_as)
        if not self.sessions:
            emptied, self._emptied = self._emptied, []
            for waiting in emptied:
                waiting.callback(None)

    def stop(self) -> defer.Deferred[None]:
        """End all sessions where no reply is owed; fires when the last is gone."""
        self._tell_no_more()
        for session in list(self.sessions):
            session.stop()
        if not self.sessions:
            return defer.succeed(None)
        emptied: defer.Deferred[None] = defer.Deferred()
        self._emptied.append(emptied)
        return emptied

    def end(self, login: str) -> int:
        """End the sessions of a login that was disabled, and count them; content on its way is not taken any more."""
        ended = [session for session in self.sessions if session.login == login]
        for session in ended:
            session.expel()
        return len(ended)

    def abort(self) -> None:
        """End all sessions now: a grace period is over."""
        for session in list(self.sessions):
            session.transport.abortConnection()

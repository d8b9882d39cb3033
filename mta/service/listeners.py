"""The way into a worker: the sockets that it listens on, the sessions that are open, how many there may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet import defer

from mta.board.port import Board
from mta.mail.tlsinfo import TlsInfo
from mta.net.admission import Admission, Bounds
from mta.net.local import LocalServerFactory, adopt
from mta.net.peer import Peer
from mta.net.server import SMTPServerFactory
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.receive.local import Local
from mta.receive.mx import Mx
from mta.receive.reception import Reception, ServiceRules
from mta.receive.session import ReceivingSession
from mta.receive.smtpd import Smtpd
from mta.service.sockets import Listening
from mta.settings.sections import Settings, TlsSettings
from mta.smtp.extension import Offer
from mta.smtp.server import ServerSession
from mta.tls.context import ServerContexts, describe

ACCEPTED_AT_ONCE = 100
"""Connections taken in one turn of the reactor. (Twisted takes one: a burst would wait behind everything else.)"""


class Listeners:
    """Everything that mail comes in by. `replied` makes, for a service, what counts its replies."""

    def __init__(
        self,
        current: Callable[[], Settings],
        replied: Callable[[str], Callable[[int], None]],
        board: Board,
        journal: Journal,
        reactor: Any,
    ) -> None:
        self._current = current
        self._replied = replied
        self._journal = journal
        self._reactor = reactor
        self.admission = Admission(self.bounds, board)
        self.tls = Tls(current().tls)
        self._ports: list[Any] = []
        self._factories: list[SMTPServerFactory] = []

    def listen(self, listening: Sequence[Listening], reception: Reception) -> None:
        """Take connections from now on."""
        rules: dict[str, ServiceRules] = {"mx": Mx(reception), "smtpd": Smtpd(reception), "local": Local(reception)}
        for each in listening:
            kind = LocalServerFactory if each.service == "local" else SMTPServerFactory
            factory = kind(
                each.service,
                self._reactor,
                self._journal,
                self.admission,
                partial(self.new_session, self._replied(each.service)),
                reception.new_id,
                _opener(reception, rules[each.service]),
                self.tls,
                each.implicit_tls,
            )
            self._factories.append(factory)
            self._ports.append(self._adopt(each, factory))
            self._journal.note(
                Kind.SERVICE_STARTED, level=Level.NOTICE, service=each.service, listen=each.name, tls=each.implicit_tls
            )

    def _adopt(self, listening: Listening, factory: SMTPServerFactory) -> Any:
        listening.socket.setblocking(False)
        if isinstance(factory, LocalServerFactory):
            port: Any = adopt(self._reactor, listening.socket, factory)
        else:
            port = self._reactor.adoptStreamPort(listening.socket.fileno(), listening.socket.family, factory)
        port.numberAccepts = min(self._current().connections.backlog, ACCEPTED_AT_ONCE)
        return port

    def new_session(self, replied: Callable[[int], None]) -> ServerSession:
        """Make the protocol of a session, by the settings that hold now."""
        settings = self._current()
        return ServerSession(settings.hostname, Offer(), settings.limits, replied)

    def bounds(self, service: str) -> Bounds:
        """How many connections a service may have now."""
        settings = self._current()
        connections = settings.connections
        kept = connections.smtpd_share if service == "mx" and settings.smtpd.enabled else 0
        return Bounds(connections.total, round(connections.total * (1 - kept)), connections.per_network)

    def sessions(self) -> dict[str, int]:
        """How many are open, by service."""
        open_now: dict[str, int] = {}
        for factory in self._factories:
            open_now[factory.name] = open_now.get(factory.name, 0) + len(factory.sessions)
        return open_now

    def end(self, login: str) -> int:
        """End the sessions of a login; gives how many there were."""
        return sum(factory.end(login) for factory in self._factories)

    async def close(self) -> None:
        """Take no more connections."""
        for port in self._ports:
            await defer.maybeDeferred(port.stopListening)

    def stop(self) -> defer.Deferred[Any]:
        """Have the sessions end their transactions; fires when all are over."""
        return defer.DeferredList([factory.stop() for factory in self._factories])

    def abort(self) -> None:
        """Cut off what has not ended."""
        for factory in self._factories:
            factory.abort()


class Tls:
    """TLS of our services, where there is a certificate."""

    def __init__(self, settings: TlsSettings) -> None:
        self.reload(settings)

    def reload(self, settings: TlsSettings) -> None:
        """Use other files from now on, or what stands in them now. Raises SettingsRefused, and changes nothing then."""
        self._contexts = ServerContexts(settings) if settings.certificate else None

    def context(self) -> Any:
        """Give the context of a new connection."""
        assert self._contexts is not None, "STARTTLS is not offered without a certificate"
        return self._contexts.context()

    def describe(self, transport: Any) -> TlsInfo:
        """Say what a handshake has agreed on."""
        return describe(transport)


def _opener(reception: Reception, rules: ServiceRules) -> Callable[[Peer, ServerSession], ReceivingSession]:
    return lambda peer, session: ReceivingSession(reception, rules, peer, session)

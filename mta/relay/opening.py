"""Opening a session to one address of a host: connect, greeting, EHLO, TLS, login.

=============================================  =========================================================================
what happens                                   what follows
=============================================  =========================================================================
no connection, no greeting, a fault            `Deferred`; with `local` where the cause is ours (no descriptor, a stop)
4yz greeting or EHLO                           `Deferred`
5yz greeting, or to EHLO and HELO              `Failed`, which is this host's word only
STARTTLS offered, handshake fails              MAY: once more in clear text, on a new connection. MUST: `Deferred` 4.7.5
STARTTLS refused or not offered                MAY: clear text. MUST: `Deferred` 4.7.4
octets behind the 220 of STARTTLS              an attack: `Deferred`, never clear text
login refused, or no TLS to protect it         `Deferred` with `local`: our settings and the smart host disagree
=============================================  =========================================================================

A password goes out under TLS only, or where the route says `NONE`: that is the administrator's word for clear text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet import interfaces

from mta.mail.outcome import Deferred, Failed
from mta.mail.reason import Reason
from mta.mail.route import Host, Login, TlsLevel
from mta.mail.tlsinfo import TlsInfo
from mta.net.client import Connection, connect
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.relay.remote_outcome import Way, broken, said
from mta.settings.sections import RelayDeadlines
from mta.smtp.client import Fault
from mta.smtp.exchange import Authentication, Opening, StartTls
from mta.smtp.reply_reader import ServerReply
from mta.smtp.status import AUTH_FAILED, ENCRYPTION_REQUIRED, TLS_FAILURE, TLS_MISSING, Status

EndpointFor = Callable[[str, int], interfaces.IStreamClientEndpoint]
"""Makes the endpoint of an address and a port."""


class TlsClient(Protocol):
    """What TLS is to a client."""

    def context(self, host: Host) -> interfaces.IOpenSSLClientConnectionCreator:
        """Return what makes a TLS connection to `host`: one that checks its name where the level is MUST."""
        ...

    def describe(self, transport: Any) -> TlsInfo:
        """Tell version and cipher of a transport whose handshake has ended."""
        ...


@dataclass(eq=False, slots=True)
class Open:
    """A session that is ready for MAIL, the way to it, and how many transactions it has seen."""

    connection: Connection
    way: Way
    address: str
    transactions: int = 0


class Opener:
    """Opens sessions; `name` is what EHLO says."""

    def __init__(
        self,
        endpoint: EndpointFor,
        tls: TlsClient,
        name: str,
        journal: Journal,
        clock: interfaces.IReactorTime,
    ) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._name = name
        self._journal = journal
        self._clock = clock

    async def open(
        self, host: Host, address: str, deadlines: RelayDeadlines, pipelining: bool, queue_id: str
    ) -> Open | Deferred | Failed:
        """Open a session by the table above; `queue_id` is for the journal."""
        opened = await self._open(host, address, deadlines, pipelining, None)
        if isinstance(opened, Fault):
            reason = Reason(f"{opened.text}; once more in clear text", _remote(host, address))
            self._journal.note(Kind.TLS_FAILED, reason, level=Level.NOTICE, queue_id=queue_id, address=address)
            opened = await self._open(host, address, deadlines, pipelining, opened)
            assert not isinstance(opened, Fault), "clear text needs no handshake"
        return opened

    async def _open(
        self,
        host: Host,
        address: str,
        deadlines: RelayDeadlines,
        pipelining: bool,
        failed: Fault | None,
    ) -> Open | Deferred | Failed | Fault:
        """Make one connection; a `Fault` is a handshake that failed where clear text will do as well."""
        remote = _remote(host, address)
        connection = await connect(
            self._endpoint(address, host.port), self._clock, deadlines, pipelining, ":" in address
        )
        if isinstance(connection, Fault):
            return Deferred(Reason(connection.text, remote), connection.status, remote, local=connection.local)
        try:
            answer = await connection.run(Opening(self._name))
            if isinstance(answer, Fault) or not answer.positive:
                return _leave(connection, _refusal(answer, Way(remote, "in clear text"), "greeting or EHLO"))
            way = await self._protect(connection, host, remote, failed)
            if not isinstance(way, Way):
                return _leave(connection, way)
            if host.login is not None:
                problem = await _log_in(connection, host, host.login, way)
                if problem is not None:
                    return _leave(connection, problem)
            return Open(connection, way, address)
        except BaseException:
            connection.abort()
            raise

    async def _protect(
        self, connection: Connection, host: Host, remote: str, failed: Fault | None
    ) -> Way | Deferred | Failed | Fault:
        if failed is not None:
            return Way(remote, f"in clear text after a failed handshake ({failed.text})", tls_failed=True)
        if host.tls is TlsLevel.NONE:
            return Way(remote, "in clear text, as the route says")
        if not connection.session.extensions.starttls:
            return _unprotected(host, remote, "no STARTTLS offered", TLS_MISSING, "")
        answer = await connection.run(StartTls())
        if isinstance(answer, Fault) or answer.code == 421:
            return _refusal(answer, Way(remote, "in clear text"), "STARTTLS")
        if not answer.positive:
            return _unprotected(host, remote, f"STARTTLS refused: {answer}", TLS_FAILURE, answer.text())
        secured = await connection.start_tls(self._tls.context(host), self._tls.describe)
        if isinstance(secured, TlsInfo):
            answer = await connection.run(Opening(self._name))
            if isinstance(answer, ServerReply):
                way = Way(remote, f"over {secured}")
                return way if answer.positive else _refusal(answer, way, "EHLO under TLS")
            secured = answer
        if secured.status == TLS_FAILURE and host.tls is TlsLevel.MAY:
            return secured
        return _refusal(secured, Way(remote, "in clear text"), "the TLS handshake")


def _remote(host: Host, address: str) -> str:
    literal = f"[{address}]"
    return f"{literal} port {host.port}" if host.name == literal else f"{host.name} {literal}:{host.port}"


def _leave(connection: Connection, problem: Deferred | Failed | Fault) -> Deferred | Failed | Fault:
    if connection.usable:
        connection.quit()
    return problem


def _refusal(answer: ServerReply | Fault, way: Way, stage: str) -> Deferred | Failed:
    if isinstance(answer, Fault):
        return broken(answer, stage, way)
    reason = Reason(f"refused at {stage}, {way.protection}", said(way.remote, answer))
    kind = Failed if answer.permanent else Deferred
    return kind(reason, answer.status, way.remote, answer.text())


def _unprotected(host: Host, remote: str, why: str, status: Status, reply: str) -> Way | Deferred:
    if host.tls is TlsLevel.MUST:
        return Deferred(Reason(f"the route demands TLS: {why}", remote), status, remote, reply)
    return Way(remote, f"in clear text ({why})")


async def _log_in(connection: Connection, host: Host, login: Login, way: Way) -> Deferred | None:
    if connection.tls is None and host.tls is not TlsLevel.NONE:
        return Deferred(
            Reason(f"the login of {login.user} needs TLS, {way.protection}", way.remote),
            ENCRYPTION_REQUIRED.transient(),
            way.remote,
            local=True,
        )
    exchange = Authentication(login.user, login.password, connection.session.extensions.auth)
    if exchange.mechanism is None:
        why = Reason(f"neither PLAIN nor LOGIN offered to log in as {login.user}, {way.protection}", way.remote)
        return Deferred(why, AUTH_FAILED.transient(), way.remote, local=True)
    answer = await connection.run(exchange)
    if isinstance(answer, Fault):
        return broken(answer, "AUTH", way)
    if answer.positive:
        return None
    why = Reason(f"the login of {login.user} was refused, {way.protection}", said(way.remote, answer))
    return Deferred(why, answer.status.transient(), way.remote, answer.text(), local=answer.permanent)

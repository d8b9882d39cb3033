"""Delivery by SMTP to the hosts of a route (RFC 5321 §5.1): which connection, in what order, for which recipients.

One delivery goes through the hosts in the order of the route, and the addresses of each, until no recipient is open:

=============================================  =========================================================================
what happens                                   what follows
=============================================  =========================================================================
an idle connection to the host is there        it is used first; one that turns out to be dead does not count
no session (see `mta.relay.opening`)           next address; `Failed` only where every address of every host says 5yz
the message needs what the host lacks          the same (see `mta.relay.needs`): the next host may have it
recipient 4yz, or the session ends             open: next address, and this answer if no better one follows
452 or 552, too many recipients                those left over again in the next transaction, if this one took some
recipient 5yz, 2yz to the content              final
no answer to the whole content                 final for this delivery: tried again by schedule, a duplicate is possible
the content must not be sent                   `Failed` for all who are open
`abort`                                        `Deferred` with `local` for all who are open: it does not count
=============================================  =========================================================================

A host that offers PIPELINING and loses step is spoken to in lock-step from the next connection on.

Knowingly not here: TLS from the first octet (port 465), LMTP, DSN parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from twisted.internet import defer, interfaces

from mta.mail.outcome import Deferred, Failed, Outcome
from mta.mail.reason import Reason
from mta.mail.route import Host, Route
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.relay.idle import Idle
from mta.relay.needs import fit
from mta.relay.opening import EndpointFor, Open, Opener, TlsClient
from mta.relay.remote_outcome import disconnected, outcome_of, too_many, unsendable
from mta.settings.sections import RelaySettings
from mta.smtp.exchange import Transaction
from mta.smtp.status import BAD_CONNECTION, BARE_LINE_END, NO_ANSWER, NO_ROUTE, NOT_ACCEPTING, PROTOCOL
from mta.smtp.writer import BareLineEnd, Stuffed
from mta.spool.port import Content, QueuedMessage, QueuedRecipient

RouteFor = Callable[[str], Awaitable[Route | Deferred | Failed]]
"""Finds the route of a destination."""


@dataclass(frozen=True, slots=True)
class AttemptLimits:
    """How much is done for one message in one attempt."""

    addresses: int = 5
    """Addresses that are tried (as Postfix: smtp_mx_address_limit)."""
    sessions: int = 2
    """Sessions that get as far as MAIL (as Postfix: smtp_mx_session_limit)."""
    recipients: int = 100
    """RCPT commands of one transaction: what each server must take (RFC 5321 §4.5.3.1.8)."""
    idle: int = 200
    """Connections that wait for another message, in all."""
    lock_step: int = 1000
    """Hosts remembered for not being able to pipeline; the one learnt first is forgotten for another."""


_STOPPING = Deferred(Reason("we are stopping", "stop"), NOT_ACCEPTING, local=True)


class _Attempt:
    """One message's way through the hosts: who is open, what was said, what was tried."""

    def __init__(self, message: QueuedMessage, content: Content, recipients: Sequence[QueuedRecipient]) -> None:
        self.message = message
        self.content = content
        self.chunks = Stuffed(content)
        self.open = {recipient.number: recipient for recipient in recipients}
        self.outcomes: dict[int, Outcome] = {}
        self.addresses = 0
        self.sessions = 0
        self._problems: list[Deferred | Failed] = []
        self._lacks: dict[int, list[Failed]] = {}

    def settle(self, number: int, outcome: Outcome, final: bool) -> None:
        """Keep what became of a recipient; it stays open where that is not `final`."""
        if self._problems:
            outcome = dataclasses.replace(outcome, reason=_with(outcome.reason, "before", self._problems))
        self.outcomes[number] = outcome
        if final:
            del self.open[number]

    def settle_all(self, outcome: Outcome) -> None:
        """Keep what became of all who are open."""
        for number in list(self.open):
            self.settle(number, outcome, final=True)

    def problem(self, problem: Deferred | Failed) -> None:
        """Keep why an address gave no session, or why its session ended."""
        self._problems.append(problem)

    def lacks(self, number: int, failed: Failed) -> None:
        """Keep why a host could not be asked to take this recipient."""
        self._lacks.setdefault(number, []).append(failed)

    def end(self, exhausted: bool, route: Reason) -> dict[int, Outcome]:
        """Give each recipient its outcome; `exhausted`: no address is left that was not tried."""
        for number in self.open:
            if number not in self.outcomes:
                problems = [*self._problems, *self._lacks.get(number, ())]
                self.outcomes[number] = _sum(problems, exhausted, route)
        return self.outcomes


def _sum(problems: Sequence[Deferred | Failed], exhausted: bool, route: Reason) -> Deferred | Failed:
    """Make one outcome of what kept each host from being asked."""
    if not problems:
        return Deferred(Reason(f"no address to deliver to: {route.text}", route.source), NO_ROUTE)
    # A host that was there says more than one that was not, whatever their order
    there = [each for each in problems if each.reply or each.status != NO_ANSWER]
    told = (there or problems)[-1]
    others = [each for each in problems if each is not told]
    why = _with(told.reason, "besides", others) if others else told.reason
    if exhausted and all(isinstance(each, Failed) for each in problems):
        return dataclasses.replace(told, reason=why)
    local = any(isinstance(each, Deferred) and each.local for each in problems)
    return Deferred(why, told.status.transient(), told.remote, told.reply, local)


def _with(reason: Reason, when: str, problems: Sequence[Deferred | Failed]) -> Reason:
    return Reason(f"{reason.text}; {when}: {'; '.join(str(each.reason) for each in problems)}", reason.source)


class RemoteDelivery:
    """The delivery port for every destination that is not ours.

    `name` is what EHLO says; `settings` is asked at each delivery, so a reload counts.
    """

    def __init__(
        self,
        route: RouteFor,
        endpoint: EndpointFor,
        tls: TlsClient,
        name: str,
        settings: Callable[[], RelaySettings],
        journal: Journal,
        clock: interfaces.IReactorTime,
        limits: AttemptLimits | None = None,
    ) -> None:
        self._route = route
        self._opener = Opener(endpoint, tls, name, journal, clock)
        self._settings = settings
        self._journal = journal
        self._limits = limits or AttemptLimits()
        self._idle = Idle(self._limits.idle)
        self._lock_step: dict[str, None] = {}
        self._under_way: set[defer.Deferred[Mapping[int, Outcome]]] = set()
        self._aborted = False

    async def deliver(
        self, message: QueuedMessage, content: Content, recipients: Sequence[QueuedRecipient]
    ) -> Mapping[int, Outcome]:
        """Deliver to recipients of one destination, see `mta.relay.port`."""
        try:
            attempt = _Attempt(message, content, recipients)
        except BareLineEnd as fault:
            return {recipient.number: unsendable(str(fault)) for recipient in recipients}
        under_way: defer.Deferred[Mapping[int, Outcome]] = defer.ensureDeferred(
            self._attempt(attempt, recipients[0].destination)
        )
        self._under_way.add(under_way)
        try:
            return await under_way
        finally:
            self._under_way.discard(under_way)

    def stop(self) -> defer.Deferred[None]:
        """Close what is idle; fires when that is done. Deliveries under way go on, and close behind themselves."""
        return self._idle.close()

    def abort(self) -> None:
        """End the connections of the deliveries under way, here and now, and begin none any more.

        What was answered by then holds; whoever is open is deferred with `local`.
        """
        self._aborted = True
        for delivery in list(self._under_way):
            delivery.cancel()

    async def _attempt(self, attempt: _Attempt, destination: str) -> Mapping[int, Outcome]:
        try:
            route = await self._route(destination)
        except defer.CancelledError:
            if not self._aborted:
                raise
            route = _STOPPING
        if not isinstance(route, Route):
            return dict.fromkeys(attempt.open, _STOPPING if self._aborted else route)
        hosts = " ".join(host.name for host in route.hosts)
        self._journal.note(
            Kind.ROUTE_FOUND,
            route.reason,
            level=Level.DEBUG,
            queue_id=attempt.message.queue_id,
            destination=destination,
            hosts=hosts,
        )
        exhausted = await self._through(route, attempt)
        if self._aborted:
            attempt.settle_all(_STOPPING)
        return attempt.end(exhausted, route.reason)

    async def _through(self, route: Route, attempt: _Attempt) -> bool:
        """Go through the hosts until nobody is open; returns whether every address was tried."""
        for host in route.hosts:
            done = None
            while done is None and not self._over(attempt) and (idle := self._idle.take(host)) is not None:
                if await self._send(idle, host, attempt) is None:
                    done = idle.address
            for address in host.addresses:
                if address == done:
                    continue
                if self._over(attempt):
                    return False
                attempt.addresses += 1
                opened = await self._open(host, address, attempt)
                problem: Deferred | Failed | None
                if isinstance(opened, Open):
                    problem = await self._send(opened, host, attempt)
                else:
                    problem = opened
                if problem is not None and not self._aborted:
                    attempt.problem(problem)
        return True

    def _over(self, attempt: _Attempt) -> bool:
        enough = attempt.addresses >= self._limits.addresses or attempt.sessions >= self._limits.sessions
        return not attempt.open or enough or self._aborted

    async def _open(self, host: Host, address: str, attempt: _Attempt) -> Open | Deferred | Failed:
        pipelining = host.name not in self._lock_step
        deadlines = self._settings().deadlines
        return await self._opener.open(host, address, deadlines, pipelining, attempt.message.queue_id)

    async def _send(self, opened: Open, host: Host, attempt: _Attempt) -> Deferred | None:
        """Send to all who are open, and keep or close the connection; returns why it ended before all had a turn."""
        connection, before = opened.connection, opened.transactions
        try:
            problem = await self._transactions(opened, attempt)
        except BaseException:
            connection.abort()
            raise
        if opened.transactions > before and (problem is None or not before):
            attempt.sessions += 1
        fault = connection.session.fault
        if fault is not None and fault.status == BARE_LINE_END:
            attempt.settle_all(unsendable(fault.text))
            return None
        if fault is not None and fault.grouped and fault.status in (PROTOCOL.transient(), NO_ANSWER):
            self._remember_lock_step(host.name)
        if not connection.usable:
            return problem
        settings = self._settings()
        if opened.transactions < settings.messages_per_connection:
            self._idle.put(host, opened, settings.idle_seconds)
        else:
            connection.quit()
        return problem

    async def _transactions(self, opened: Open, attempt: _Attempt) -> Deferred | None:
        connection, way = opened.connection, opened.way
        waiting = list(attempt.open.values())
        problem: Deferred | None = None
        while waiting and connection.usable:
            batch, waiting = waiting[: self._limits.recipients], waiting[self._limits.recipients :]
            sendable = fit(attempt.message, attempt.content, batch, connection.session.extensions, way.remote)
            for number, failed in sendable.failed.items():
                attempt.lacks(number, failed)
            if sendable.mail is None or not sendable.recipients:
                continue
            opened.transactions += 1
            commands = [command for _, command in sendable.recipients]
            results = await connection.run(Transaction(sendable.mail, commands, attempt.chunks))
            left_over = []
            for (recipient, _), result in zip(sendable.recipients, results, strict=True):
                outcome = outcome_of(result, way)
                if isinstance(outcome, Deferred) and disconnected(result) and not result.unknown:
                    problem = outcome
                else:
                    attempt.settle(recipient.number, outcome, not isinstance(outcome, Deferred) or result.unknown)
                if too_many(result):
                    left_over.append(recipient)
            if any(result.taken for result in results):
                waiting = left_over + waiting
        if problem is None and waiting:
            problem = Deferred(Reason(f"the host closed, {way.protection}", way.remote), BAD_CONNECTION, way.remote)
        return problem

    def _remember_lock_step(self, host: str) -> None:
        if host not in self._lock_step and len(self._lock_step) >= self._limits.lock_step:
            del self._lock_step[next(iter(self._lock_step))]
        self._lock_step[host] = None

"""Delivery by SMTP to the hosts of a route (RFC 5321 §5.1): which connection, in what order, for which recipients.

One delivery goes through the hosts in the order of the route, and the addresses of each, until no recipient is open:

=============================================  =========================================================================
what happens                                   what follows
=============================================  =========================================================================
an idle connection to the host is there        it is used first; one that turns out to be dead does not count
no session (see `mta.relay.opening`)           next address; `Failed` only where every address of every host says 5yz
recipient 4yz, or the session ends             open: next address, and this answer if no better one follows
452 or 552, too many recipients                those left over again in the next transaction, if this one took some
recipient 5yz, 2yz to the content              final
no answer to the whole content                 final for this delivery: tried again by schedule, a duplicate is possible
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
from mta.relay.remote_outcome import disconnected, outcome_of, too_many
from mta.settings.sections import RelaySettings
from mta.smtp.exchange import Transaction
from mta.smtp.status import BAD_CONNECTION, BARE_LINE_END, NO_ANSWER, NO_ROUTE, PROTOCOL
from mta.smtp.writer import BareLineEnd, Stuffed
from mta.spool.port import QueuedMessage, QueuedRecipient

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


class _Attempt:
    """One message's way through the hosts: who is open, what was said, what was tried."""

    def __init__(self, message: QueuedMessage, content: bytes, recipients: Sequence[QueuedRecipient]) -> None:
        self.message = message
        self.content = content
        self.chunks = Stuffed(content)
        self.open = {recipient.number: recipient for recipient in recipients}
        self.outcomes: dict[int, Outcome] = {}
        self.addresses = 0
        self.sessions = 0
        self._problems: list[Deferred | Failed] = []

    def settle(self, number: int, outcome: Outcome, final: bool) -> None:
        """Keep what became of a recipient; it stays open where that is not `final`."""
        if self._problems:
            outcome = dataclasses.replace(outcome, reason=_after(self._problems, outcome.reason))
        self.outcomes[number] = outcome
        if final:
            del self.open[number]

    def problem(self, problem: Deferred | Failed) -> None:
        """Keep why an address gave no session, or why its session ended."""
        self._problems.append(problem)

    def end(self, exhausted: bool, route: Reason) -> dict[int, Outcome]:
        """Give each recipient its outcome; `exhausted`: no address is left that was not tried."""
        last = self._last(exhausted, route)
        for number in self.open:
            self.outcomes.setdefault(number, last)
        return self.outcomes

    def _last(self, exhausted: bool, route: Reason) -> Deferred | Failed:
        if not self._problems:
            return Deferred(Reason(f"no address to deliver to: {route.text}", route.source), NO_ROUTE)
        *before, last = self._problems
        why = _after(before, last.reason) if before else last.reason
        if isinstance(last, Deferred) or (exhausted and all(isinstance(each, Failed) for each in before)):
            return dataclasses.replace(last, reason=why)
        return Deferred(why, last.status.transient(), last.remote, last.reply)


def _after(problems: Sequence[Deferred | Failed], reason: Reason) -> Reason:
    return Reason(f"{reason.text}; before: {'; '.join(str(each.reason) for each in problems)}", reason.source)


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

    async def deliver(
        self, message: QueuedMessage, content: bytes, recipients: Sequence[QueuedRecipient]
    ) -> Mapping[int, Outcome]:
        """Deliver to recipients of one destination, see `mta.relay.port`."""
        destination = recipients[0].destination
        try:
            attempt = _Attempt(message, content, recipients)
        except BareLineEnd as fault:
            why = Reason(f"the content holds {fault}, which must not be sent", "RFC 5321 §2.3.8")
            return {recipient.number: Failed(why, BARE_LINE_END) for recipient in recipients}
        route = await self._route(destination)
        if not isinstance(route, Route):
            return {recipient.number: route for recipient in recipients}
        hosts = " ".join(host.name for host in route.hosts)
        self._journal.note(
            Kind.ROUTE_FOUND,
            route.reason,
            level=Level.DEBUG,
            queue_id=message.queue_id,
            destination=destination,
            hosts=hosts,
        )
        exhausted = await self._through(route, attempt)
        return attempt.end(exhausted, route.reason)

    def stop(self) -> defer.Deferred[None]:
        """Close what is idle; fires when that is done. Deliveries under way go on, and close behind themselves."""
        return self._idle.close()

    async def _through(self, route: Route, attempt: _Attempt) -> bool:
        """Go through the hosts until nobody is open; returns whether every address was tried."""
        for host in route.hosts:
            done = None
            while attempt.open and done is None and (idle := self._idle.take(host)) is not None:
                if await self._send(idle, host, attempt) is None:
                    done = idle.address
                    attempt.sessions += 1
            for address in host.addresses:
                if not attempt.open or self._enough(attempt):
                    return False
                if address == done:
                    continue
                attempt.addresses += 1
                opened = await self._open(host, address, attempt)
                problem: Deferred | Failed | None
                if isinstance(opened, Open):
                    attempt.sessions += 1
                    problem = await self._send(opened, host, attempt)
                else:
                    problem = opened
                if problem is not None:
                    attempt.problem(problem)
        return True

    def _enough(self, attempt: _Attempt) -> bool:
        return attempt.addresses >= self._limits.addresses or attempt.sessions >= self._limits.sessions

    async def _open(self, host: Host, address: str, attempt: _Attempt) -> Open | Deferred | Failed:
        pipelining = host.name not in self._lock_step
        deadlines = self._settings().deadlines
        return await self._opener.open(host, address, deadlines, pipelining, attempt.message.queue_id)

    async def _send(self, opened: Open, host: Host, attempt: _Attempt) -> Deferred | None:
        """Send to all who are open, and keep or close the connection; returns why it ended before all had a turn."""
        connection = opened.connection
        try:
            problem = await self._transactions(opened, attempt)
        except BaseException:
            connection.abort()
            raise
        fault = connection.session.fault
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
                attempt.settle(number, failed, final=True)
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

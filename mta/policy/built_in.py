"""The built-in policies that the settings put in force, in their default order: what is cheap before what is dear.

=============  ===========================================================  ==========================================
policy         asked at                                                     costs
=============  ===========================================================  ==========================================
`size`         rcpt, message                                                look-ups in tables
`lists`        connect, helo, mail, rcpt, data                              look-ups in tables; an allow ends the stage
`rates`        connect, mail, rcpt, data                                    look-ups in tables
`harvest`      connect, mail, rcpt                                          look-ups in tables
`early`        connect, helo                                                look-ups in tables, and the peer's time
`greylist`     rcpt, data (or message)                                      look-ups in tables
`tarpit`       mail, rcpt, data                                             the peer's time
`headers`      headers                                                      patterns on fields
`helo`         helo                                                         three questions to the name server
`dnsbl`        rcpt                                                         questions to many name servers
`attachments`  message                                                      reading the message
=============  ===========================================================  ==========================================

Who is refused for what costs nothing costs nothing. The tarpit comes behind the cheap ones, which may refuse at once;
tags of `helo` and `early` are of an earlier stage, those of `dnsbl` at the first recipient slow the next command.

Not here, since it is no matter of choice: which recipients exist, that nothing is relayed, and whose reverse-path a
login may use are rules of the services (`mta.receive`); connections at once are counted in `mta.net.admission`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from mta.board.port import Board
from mta.disk.port import RunInThread
from mta.dns.resolver import Resolver
from mta.dns.routing import Own
from mta.observe.journal import Journal
from mta.policy.attachments import Attachments
from mta.policy.delaying import Places
from mta.policy.dnsbl import Dnsbl
from mta.policy.early import Acquaintances, Early
from mta.policy.greylist import Greylist
from mta.policy.harvest import Harvest, UnknownRecipients
from mta.policy.headers import Headers
from mta.policy.helo import Helo
from mta.policy.lists import Lists
from mta.policy.memory import Memory, Spread, to_nobody
from mta.policy.network import Exempt
from mta.policy.port import Policy
from mta.policy.rates import Counters, Rates
from mta.policy.size import DomainSize, SizeOf
from mta.policy.tarpit import Tarpit
from mta.settings.policy import PolicySettings


class Remembered:
    """What policies remember of peers, for as long as the process lives: made once, and handed on at each reload.

    Making it costs nothing: tables are empty, and the file of `greylist` is opened when greylisting is put in force.
    """

    TABLES: Mapping[str, int] = {**Counters.TABLES, **UnknownRecipients.TABLES}
    """The tables it asks the board for, with the number of their fields."""

    def __init__(
        self,
        path: str,
        board: Board,
        clock: IReactorTime,
        wall: Callable[[], float],
        run: RunInThread,
        journal: Journal,
        spread: Spread = to_nobody,
    ) -> None:
        """Take what is injected; `path` is the file of the greylist, and `spread` tells other workers of it."""
        self.counters = Counters(board, clock.seconds)
        self.unknown = UnknownRecipients(board, clock.seconds)
        self.acquaintances = Acquaintances(clock.seconds)
        self.greeting = Places(clock.seconds)
        self.places = Places(clock.seconds)
        self.greylist = Memory(path, clock, wall, run, journal, spread=spread)

    async def stop(self) -> None:
        """Write what waits to the file, and close it."""
        await self.greylist.stop()


@dataclass(frozen=True, slots=True)
class Ports:
    """The world as policies see it."""

    clock: IReactorTime
    resolver: Resolver
    run: RunInThread
    """Where long messages are read."""
    own: Own
    """Our host names and addresses."""


def built_in(
    settings: PolicySettings, ports: Ports, remembered: Remembered, size_of: SizeOf | None = None
) -> list[Policy]:
    """Make the policies in force; one that has nothing to do is left out.

    `size_of` gives the bound of a recipient's domain; None: no domain has one.
    """
    exempt = Exempt(settings.exempt)
    clock, delayed = ports.clock, settings.delayed_sessions
    made: list[Policy] = []
    if size_of is not None:
        made.append(DomainSize(size_of))
    if settings.lists is not None:
        made.append(Lists(settings.lists))
    if settings.rates is not None:
        made.append(Rates(settings.rates, remembered.counters, exempt))
    if settings.harvest is not None:
        made.append(Harvest(settings.harvest, remembered.unknown, remembered.places, delayed, exempt))
    if settings.early is not None:
        made.append(Early(settings.early, remembered.acquaintances, remembered.greeting, exempt))
    if settings.greylist is not None:
        made.append(Greylist(settings.greylist, remembered.greylist, clock, exempt))
    if settings.tarpit is not None:
        made.append(Tarpit(settings.tarpit, remembered.places, delayed))
    if settings.headers is not None:
        made.append(Headers(settings.headers))
    if settings.helo is not None:
        own = ports.own
        made.append(Helo(settings.helo, clock, ports.resolver, exempt, own.hostnames, own.addresses))
    if settings.dnsbl is not None and settings.dnsbl.lists:
        made.append(Dnsbl(settings.dnsbl, clock, ports.resolver, exempt))
    if settings.attachments is not None:
        made.append(Attachments(settings.attachments, ports.run))
    return [policy for policy in made if policy.stages]

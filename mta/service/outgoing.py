"""The way out of a worker: names, routes, the deliveries, and the queue that they take turns from."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from twisted.internet import endpoints, interfaces

from mta.board.port import Board
from mta.dns.cache import Cache, CacheLimits
from mta.dns.resolver import StubResolver
from mta.dns.routing import Own, Router, RoutingLimits, destination
from mta.dns.transport import Transport
from mta.mail.queueid import Chance
from mta.maildir.store import MaildirStore
from mta.observe.journal import Journal
from mta.policy.chain import Chain
from mta.relay.bounce import Bouncer
from mta.relay.local import LocalDelivery
from mta.relay.policed import PolicedDelivery
from mta.relay.port import Delivery
from mta.relay.queue import RelayQueue
from mta.relay.remote import RemoteDelivery
from mta.relay.withheld import WithheldDelivery
from mta.service.names import name_servers
from mta.settings.expansion import Addressed, look_up
from mta.settings.sections import MxSettings, Settings
from mta.settings.values import Endpoint
from mta.smtp.address import Mailbox
from mta.spool.spools import Spools
from mta.tls.context import ClientContexts

_NO_TIMEOUT = 3600.0
"""Seconds; the deadline of a connection is the relay's, this one never comes first."""


class Outgoing:
    """Everything that mail leaves by. `current` gives the settings that hold now, `chain` the policies."""

    def __init__(
        self,
        current: Callable[[], Settings],
        chain: Callable[[], Chain],
        spool: Spools,
        store: MaildirStore,
        board: Board,
        chance: Chance,
        journal: Journal,
        reactor: Any,
    ) -> None:
        self._current = current
        self._chain = chain
        self._chance = chance
        self._journal = journal
        self._reactor = reactor
        settings = current()
        dns = settings.dns
        transport = Transport(reactor, reactor, name_servers(dns), chance, dns.timeout, dns.tries)
        self.resolver = StubResolver(transport, Cache(reactor.seconds, CacheLimits(entries=dns.cache_names)))
        self.own = Own(frozenset({settings.hostname.lower()}), own_addresses(settings.mx))
        self.remote = RemoteDelivery(
            lambda key: self.router().route(key),
            self.endpoint,
            ClientContexts(),
            settings.hostname,
            lambda: current().relay,
            journal,
            reactor,
        )
        self.bouncer = Bouncer(
            settings.hostname, lambda: spool.shard, chance, self._address, lambda: current().queue.lifetime
        )
        self.local = LocalDelivery(store, lambda: current().directory)
        self.queue = RelayQueue(
            spool,
            self._judged(self.local),
            self._judged(self.remote),
            self.bouncer,
            lambda: current().queue,
            settings.relay.connections_per_destination,
            journal,
            reactor,
            chance,
            board,
        )

    def router(self) -> Router:
        """Find routes by the settings that hold now."""
        settings = self._current()
        limits = RoutingLimits(allow_loopback=settings.dns.allow_loopback)
        return Router(self.resolver, self.own, settings.relay, self._chance, limits)

    def destination(self, mailbox: Mailbox) -> str:
        """The key of the next hop of a mailbox elsewhere."""
        return destination(mailbox, self._current().relay)

    def endpoint(self, address: str, port: int) -> interfaces.IStreamClientEndpoint:
        """Where a host is connected to."""
        # By family, since an address needs no look-up, for which Twisted would take a thread.
        kind = endpoints.TCP6ClientEndpoint if ":" in address else endpoints.TCP4ClientEndpoint
        return kind(self._reactor, address, port, _NO_TIMEOUT)

    def _address(self, mailbox: Mailbox) -> tuple[Addressed, ...]:
        return look_up(self._current().directory, mailbox, self.destination)[1]

    def _judged(self, delivery: Delivery) -> Delivery:
        policed = PolicedDelivery(delivery, self._chain, self._journal)
        return WithheldDelivery(policed, lambda login: self._current().directory.withheld(login))


def own_addresses(mx: MxSettings) -> frozenset[str]:
    """The addresses that an MX record may name and that are this server: those that mx is told to listen on.

    Not wildcards, which say nothing, and not loopback, which in a closed network is somebody else's too.
    """
    hosts = [listen.host for listen in mx.listen if isinstance(listen, Endpoint)]
    parsed = [ipaddress.ip_address(host) for host in hosts if host.replace(".", "").isdigit() or ":" in host]
    return frozenset(str(address) for address in parsed if not address.is_unspecified and not address.is_loopback)

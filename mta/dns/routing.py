"""Where a destination's mail goes: MX hosts, static routes, the smart host (RFC 5321 §5.1, RFC 7505).

What `find_route` makes of what the domain name system says, first line that fits:

========================================================  ============================================================
what is known                                             result
========================================================  ============================================================
an address literal                                        `Route` to that address
MX: no such name                                          `Failed` 5.1.2
MX: no answer                                             `Deferred` 4.4.3
MX: the null MX                                           `Failed` 5.1.10 (556 in a reply, RFC 7505 §4.1)
MX: none, but the name exists                             the name itself is the one host, preference 0 (§5.1)
we are a host of preference p                             hosts of preference p and above are dropped (§5.1)
a host is no host name, has no address, or loopback only  it is left out
a host's addresses: no answer                             it is left out
hosts remain                                              `Route`: by preference, by chance among equals
none remains, and some gave no answer                     `Deferred` 4.4.3
none remains, and we were one                             `Failed` 5.4.6
none remains                                              `Failed` 5.4.4
========================================================  ============================================================

CNAME records are followed, at the domain and, though RFC 2181 §10.3 forbids them there, at an MX host. Both families
of addresses are asked for; a host's addresses are taken from each in turn, IPv6 first, by chance within a family.

A loopback address in somebody else's MX record is a mistake, a way to say "no mail", or an attempt to reach what
listens here and trusts this host (our own submission service with its named networks, to begin with); it is used only
with `RoutingLimits.allow_loopback`. What the administrator names as a route is used whatever it is.

Knowingly not here: MTA-STS and DANE (the TLS level of an MX host is `MAY`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile, zip_longest
from typing import TypeVar

from twisted.internet import defer

from mta.dns.answer import Answer, Failure, Found, Mx, NoData, NoSuchName, RecordType, normal
from mta.dns.resolver import Resolver
from mta.mail import outcome
from mta.mail.queueid import Chance
from mta.mail.reason import Reason
from mta.mail.route import Host, Login, Route, TlsLevel
from mta.settings.sections import RelaySettings, RouteSettings
from mta.settings.values import fold_domain, parse_host_name
from mta.smtp.address import Mailbox
from mta.smtp.grammar import ADDRESS_LITERAL
from mta.smtp.status import BAD_SYSTEM, DIRECTORY_FAILURE, LOOP, NO_ROUTE, NULL_MX

EVERY_DOMAIN = "*"
"""The destination of all mail that goes to the smart host, and the `domain` of a route that takes everything."""

_LEFT_OUT_SHOWN = 10  # hosts that a reason names with what is wrong with them


@dataclass(frozen=True, slots=True)
class Own:
    """What makes an MX host this server: names in lower case, addresses as `ipaddress` writes them.

    An address that other servers share (loopback in a closed network) does not belong here.
    """

    hostnames: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RoutingLimits:
    """How much of what a domain publishes is used."""

    hosts: int = 10
    """MX hosts, the best ones; the addresses of no others are asked for."""
    addresses: int = 4
    """Addresses of one host (RFC 5321 §5.1: at least two should be tried; Postfix's ``smtp_mx_address_limit`` is 5
    for all hosts together)."""
    allow_loopback: bool = False
    """Whether an MX host on a loopback address is used. For tests and closed networks."""


_T = TypeVar("_T")

Decision = Route | outcome.Deferred | outcome.Failed


# Pure: order and choice


def by_preference(records: Iterable[Mx], chance: Chance) -> list[Mx]:
    """Order MX records by preference, equal ones by chance (RFC 5321 §5.1); each host once, where it is best."""
    best: dict[str, Mx] = {}
    for mx in sorted(records, key=lambda mx: (mx.preference, chance.getrandbits(32))):
        best.setdefault(mx.exchange, mx)
    return list(best.values())


def in_turn(first: Sequence[str], second: Sequence[str], chance: Chance) -> tuple[str, ...]:
    """Mix the addresses of two families, by chance within each."""
    shuffled = [sorted(family, key=lambda _: chance.getrandbits(32)) for family in (first, second)]
    return tuple(address for address in chain.from_iterable(zip_longest(*shuffled)) if address is not None)


def is_here(address: str) -> bool:
    """Whether a connection to `address` ends on this host: loopback or unspecified, also written as IPv6."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback or parsed.is_unspecified


def exchange_fault(exchange: str) -> str:
    """Tell why an MX record's exchange is no host; empty when it can be one."""
    if not exchange:
        return "is the root"  # RFC 7505 §3: the null MX stands alone
    try:
        parse_host_name(exchange)
    except ValueError:
        return "is no host name"
    # RFC 3696 §2: no top-level domain is numeric, so this is an address
    if exchange.rpartition(".")[2].isdigit():
        return "is an address, not a name"
    return ""


@dataclass(frozen=True, slots=True)
class _Addresses:
    """What is known of a host's addresses; without any, `problem` says why."""

    all: tuple[str, ...] = ()
    problem: str = ""
    temporary: bool = False


def _addresses(answers: Sequence[Answer], chance: Chance) -> _Addresses:
    """Join the answers for AAAA and A."""
    families = [[str(record) for record in answer.records] if isinstance(answer, Found) else [] for answer in answers]
    if any(families):
        return _Addresses(in_turn(families[0], families[1], chance))
    for answer in answers:
        if isinstance(answer, Failure):
            return _Addresses(problem=f"no answer: {answer.text}", temporary=True)
    if all(isinstance(answer, NoSuchName) for answer in answers):
        return _Addresses(problem="does not exist")
    return _Addresses(problem="has no address")


def _choose(
    domain: str,
    source: str,
    records: Iterable[Mx],
    known: Mapping[Mx, _Addresses],
    own: Own,
    port: int,
    limits: RoutingLimits,
) -> Decision:
    """Decide by the lower half of the table; `records` are in order, `known` has those that were looked up."""
    usable: list[tuple[Mx, tuple[str, ...]]] = []
    left_out: list[str] = []
    looping: Mx | None = None
    temporary = False
    for mx in records:
        addresses = known.get(mx, _Addresses(problem=exchange_fault(mx.exchange)))
        if mx.exchange in own.hostnames or own.addresses.intersection(addresses.all):
            looping = mx
            left_out.append(f"{mx.exchange}. is this server")
            break
        elsewhere = tuple(a for a in addresses.all if limits.allow_loopback or not is_here(a))
        if elsewhere:
            usable.append((mx, elsewhere[: limits.addresses]))
        elif addresses.all:
            left_out.append(f"{mx.exchange}. has only loopback addresses ({addresses.all[0]})")
        elif addresses.problem:
            left_out.append(f"{mx.exchange}. {addresses.problem}")
        temporary = temporary or addresses.temporary
    if looping is not None:
        usable = [(mx, addresses) for mx, addresses in usable if mx.preference < looping.preference]
    notes = "".join(f"; {note}" for note in left_out[:_LEFT_OUT_SHOWN])
    if usable:
        names = ", ".join(mx.exchange for mx, _ in usable)
        hosts = tuple(
            Host(mx.exchange, addresses, port, TlsLevel.MAY, preference=mx.preference) for mx, addresses in usable
        )
        return Route(hosts, Reason(f"mail for {domain} goes to {names}{notes}", source))
    if temporary:
        text = f"no host of {domain} can be looked up now{notes}"
        return outcome.Deferred(Reason(text, source), DIRECTORY_FAILURE)
    if looping is not None:
        return outcome.Failed(Reason(f"mail for {domain} would come back to this server{notes}", source), LOOP)
    return outcome.Failed(Reason(f"no host takes mail for {domain}{notes}", source), NO_ROUTE.permanent())


# With questions


async def find_route(
    domain: str,
    resolver: Resolver,
    own: Own,
    port: int,
    chance: Chance,
    limits: RoutingLimits = RoutingLimits(),
) -> Decision:
    """Find the hosts that take mail for `domain`: a name, also in U-labels, or an address literal."""
    if domain.startswith("["):
        return _literal(domain, own, port, limits)
    name = normal(fold_domain(domain))
    answer = await resolver.query(name, RecordType.MX)
    match answer:
        case Failure():
            return outcome.Deferred(Reason(f"no answer: {answer.text}", answer.source), DIRECTORY_FAILURE)
        case NoSuchName():
            alias = f" (CNAME of {name})" if answer.name != name else ""
            reason = Reason(f"the domain {answer.name}{alias} does not exist", f"NXDOMAIN from {answer.source}")
            return outcome.Failed(reason, BAD_SYSTEM)
        case NoData():
            records = [Mx(0, answer.name)]
            source = f"no MX of {answer.name}. (ttl {answer.ttl}) from {answer.source}, RFC 5321 §5.1"
        case _:
            records = by_preference((mx for mx in answer.records if isinstance(mx, Mx)), chance)
            source = f"MX {records[0]} (ttl {answer.ttl}) from {answer.source}"
    if not any(mx.exchange for mx in records):
        return outcome.Failed(Reason(f"the domain {domain} takes no mail (null MX, RFC 7505)", source), NULL_MX)
    ahead = takewhile(lambda mx: mx.exchange not in own.hostnames, records)
    hosts = [mx for mx in ahead if not exchange_fault(mx.exchange)][: limits.hosts]
    found = await _all(_look_up(mx.exchange, resolver) for mx in hosts)
    known = {mx: _addresses(answers, chance) for mx, answers in zip(hosts, found, strict=True)}
    return _choose(domain, source, records, known, own, port, limits)


def _look_up(host: str, resolver: Resolver) -> defer.Deferred[list[Answer]]:
    return _all(resolver.query(host, family) for family in (RecordType.AAAA, RecordType.A))


def _all(waiting: Iterable[defer.Deferred[_T]]) -> defer.Deferred[list[_T]]:
    # Errors are consumed: cancelled questions are nobody's unhandled fault.
    return defer.gatherResults(list(waiting), consumeErrors=True)


def _literal(domain: str, own: Own, port: int, limits: RoutingLimits) -> Decision:
    address = literal_address(domain)
    if address is None:
        return outcome.Failed(Reason(f"{domain} is no address literal", "RFC 5321 §4.1.3"), BAD_SYSTEM)
    host = Mx(0, domain)
    source = "an address literal, RFC 5321 §4.1.3"
    return _choose(domain, source, [host], {host: _Addresses((address,))}, own, port, limits)


def literal_address(text: str) -> str | None:
    """Return the address in an address literal (RFC 5321 §4.1.3), None for what is none."""
    found = ADDRESS_LITERAL.fullmatch(text)
    if not found:
        return None
    try:
        parsed = ipaddress.ip_address(found["address"])
    except ValueError:
        return None
    return str(parsed) if (parsed.version == 6) == bool(found["tag"]) else None


# What the administrator decided


def static_route(domain: str, relay: RelaySettings) -> RouteSettings | None:
    """Return the route of etc/ that takes mail for `domain`: the longest match, else the smart host."""
    matching = [
        route
        for route in relay.routes
        if route.domain in (domain, EVERY_DOMAIN) or (route.domain.startswith(".") and domain.endswith(route.domain))
    ]
    return max(matching, key=lambda route: len(route.domain.strip(EVERY_DOMAIN)), default=relay.smart_host)


def destination(mailbox: Mailbox, relay: RelaySettings) -> str:
    """Return the key under which mail for `mailbox` shares a route and its pace.

    It is the domain in lower case and A-labels, or `EVERY_DOMAIN` for what goes to the smart host. The key is kept in
    the queue; what it means is asked of the settings of the day (`Router.route`).
    """
    domain = normal(fold_domain(mailbox.domain))
    route = static_route(domain, relay)
    if route is not None and (route is relay.smart_host or route.domain == EVERY_DOMAIN):
        return EVERY_DOMAIN
    return domain


class Router:
    """Finds the route of a destination: what ``etc/`` says, else what the domain name system says."""

    def __init__(
        self,
        resolver: Resolver,
        own: Own,
        relay: RelaySettings,
        chance: Chance,
        limits: RoutingLimits = RoutingLimits(),
    ) -> None:
        self._resolver = resolver
        self._own = own
        self._relay = relay
        self._chance = chance
        self._limits = limits

    async def route(self, destination: str) -> Decision:
        """Find the hosts for `destination`, a key as `destination` gives it."""
        route = static_route(destination, self._relay)
        if route is not None:
            return await self._static(route)
        if destination == EVERY_DOMAIN:
            reason = Reason("queued for a smart host that the settings no longer name", "[relay] smart_host")
            return outcome.Deferred(reason, NO_ROUTE, local=True)
        return await find_route(destination, self._resolver, self._own, self._relay.port, self._chance, self._limits)

    async def _static(self, route: RouteSettings) -> Decision:
        address = literal_address(route.host)
        if address is None:
            addresses = _addresses(await _look_up(route.host, self._resolver), self._chance)
        else:
            addresses = _Addresses((address,))
        name = "the smart host" if route.domain in ("", EVERY_DOMAIN) else f"the route of {route.domain}"
        if addresses.all:
            login = Login(route.login, route.password) if route.login else None
            host = Host(
                route.host,
                addresses.all[: self._limits.addresses],
                route.port or self._relay.port,
                route.tls,
                login,
                tls_reason=Reason(f"{name} asks for it", route.source),
            )
            return Route((host,), Reason(f"{name} is {route.host}", route.source))
        reason = Reason(f"{name} is {route.host}: {addresses.problem}", route.source)
        if addresses.temporary:
            return outcome.Deferred(reason, DIRECTORY_FAILURE)
        # The fault is in our settings: no message pays for it.
        return outcome.Deferred(reason, NO_ROUTE, local=True)

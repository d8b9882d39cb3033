"""The resolver: the port through which the server asks for names, and the implementation that asks name servers.

`StubResolver` puts the cache before the transport, lets equal questions that are under way share one answer, and
bounds how many are asked at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from twisted.internet import defer
from twisted.python.failure import Failure as Fault

from mta.dns.answer import Answer, Failure, NoSuchName, RecordType, normal
from mta.dns.cache import Cache, Key
from mta.dns.wire import CHAIN_MAXIMUM, Alias
from mta.settings.values import Endpoint

PORT = 53
NAMESERVERS_MAXIMUM = 3
"""resolv.conf(5): ``MAXNS``."""


class Resolver(Protocol):
    """Answers questions about names."""

    def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Answer]:
        """Ask for the records of `name` (ASCII, with or without the final dot).

        It may be cancelled, and fails for a bug of ours alone.
        """
        ...


class Ask(Protocol):
    """`mta.dns.transport.Transport`, as the resolver sees it."""

    async def ask(self, name: str, rdtype: RecordType) -> Answer | Alias:
        """Ask for the records of `name`. Raises ValueError for what cannot be a name."""
        ...


@contextmanager
def together(
    resolver: Resolver, names: Iterable[str], rdtype: RecordType
) -> Iterator[list[tuple[str, defer.Deferred[Answer]]]]:
    """Ask about all `names` at once; the answers may be awaited in any order. At the end of the block, however it
    comes about, the questions that are still under way are cancelled.
    """
    questions = [(name, resolver.query(name, rdtype)) for name in names]
    try:
        yield questions
    finally:
        for _, question in questions:
            question.addErrback(_cancelled)
            question.cancel()


def _cancelled(fault: Fault) -> Fault | None:
    return None if isinstance(fault.value, defer.CancelledError) else fault


@dataclass(frozen=True, slots=True)
class ResolverLimits:
    """How much is asked at once."""

    asked: int = 100
    """Questions under way, each with a socket."""
    waiting: int = 1000
    """Questions that wait for one of those to end; more come to a `Failure` at once."""


@dataclass(slots=True)
class _Flight:
    """One question under way; `waiters` share its answer."""

    waiters: list[defer.Deferred[Answer]] = field(default_factory=list)
    asking: defer.Deferred[Answer] | None = None


class StubResolver:
    """A `Resolver` that asks recursive name servers."""

    def __init__(self, transport: Ask, cache: Cache, limits: ResolverLimits = ResolverLimits()) -> None:
        self._transport = transport
        self._cache = cache
        self._limits = limits
        self._flights: dict[Key, _Flight] = {}
        self._turn = defer.DeferredSemaphore(limits.asked)

    def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Answer]:
        """Answer from the cache, or join or start a question."""
        key = (normal(name), rdtype)
        known = self._cache.get(key)
        if known is not None:
            return defer.succeed(known)
        flight = self._flights.get(key)
        if flight is not None:
            return self._board(key, flight)
        if len(self._flights) >= self._limits.asked + self._limits.waiting:
            text = f"{rdtype.name} of {key[0]}: {len(self._flights)} questions are under way"
            return defer.succeed(Failure(text, "mta.dns"))
        flight = self._flights[key] = _Flight()
        waiter = self._board(key, flight)
        flight.asking = defer.Deferred.fromCoroutine(self._ask(*key))
        flight.asking.addBoth(self._land, key, flight)
        return waiter

    def _board(self, key: Key, flight: _Flight) -> defer.Deferred[Answer]:
        waiter: defer.Deferred[Answer] = defer.Deferred(lambda gone: self._leave(gone, key, flight))
        flight.waiters.append(waiter)
        return waiter

    def _leave(self, gone: defer.Deferred[Answer], key: Key, flight: _Flight) -> None:
        flight.waiters.remove(gone)
        if not flight.waiters and self._flights.get(key) is flight:
            del self._flights[key]
            assert flight.asking is not None
            flight.asking.cancel()

    def _land(self, answer: Answer | Fault, key: Key, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not isinstance(answer, Fault):
            self._cache.put(key, answer)
        # One by one: a waiter may cancel another.
        while flight.waiters:
            waiter: defer.Deferred[Any] = flight.waiters.pop(0)
            waiter.callback(answer)

    async def _ask(self, name: str, rdtype: RecordType) -> Answer:
        await self._turn.acquire()
        try:
            return await self._look_up(name, rdtype)
        finally:
            self._turn.release()

    async def _look_up(self, name: str, rdtype: RecordType) -> Answer:
        target, ttl, authenticated = name, None, True
        for _ in range(CHAIN_MAXIMUM + 1):
            try:
                answer = await self._transport.ask(target, rdtype)
            except ValueError:
                return NoSuchName(target, 0, False, "RFC 1035 §2.3.4")
            if isinstance(answer, Failure):
                return answer
            ttl = answer.ttl if ttl is None else min(ttl, answer.ttl)
            authenticated = authenticated and answer.authenticated
            if not isinstance(answer, Alias):
                return replace(answer, ttl=ttl, authenticated=authenticated)
            target = answer.target
        return Failure(f"{rdtype.name} of {name}: more than {CHAIN_MAXIMUM} CNAME records", "RFC 1034 §3.6.2")


def nameservers(resolv_conf: str) -> tuple[Endpoint, ...]:
    """Read the servers from the text of a resolv.conf(5); the local machine where it names none."""
    found = []
    for line in resolv_conf.splitlines():
        match line.split():
            case ["nameserver", address, *_] if _is_address(address):
                found.append(Endpoint(str(ipaddress.ip_address(address)), PORT))
    return tuple(found[:NAMESERVERS_MAXIMUM]) or (Endpoint("127.0.0.1", PORT),)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

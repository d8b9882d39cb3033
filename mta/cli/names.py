"""Names for a command: the questions of `mta.dns`, put with blocking sockets.

A command runs without a reactor, and also where no daemon does (before its first start, on another machine that the
zone is edited on), so it asks the name servers of ``[dns]`` itself. Only the asking is its own, dnspython's: questions,
the reading of answers and the following of CNAME records are those of the daemon (`mta.dns.wire`, `StubResolver`), so
that both see the same. A server that was silent once is not asked again in that run.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Iterable
from random import SystemRandom
from typing import Any, TypeVar

import dns.exception
import dns.query
from twisted.internet import defer
from twisted.python.failure import Failure as Fault

from mta.dns.answer import Answer, Failure, RecordType
from mta.dns.cache import Cache
from mta.dns.resolver import Resolver, StubResolver
from mta.dns.wire import Alias, Unfinished, query, read
from mta.service.names import name_servers
from mta.settings.sections import DnsSettings
from mta.settings.values import Endpoint

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds that one try may take at most: somebody sits and waits."""


class BlockingTransport:
    """Asks one name server: `mta.dns.resolver.Ask`. `timeout` is in seconds, for a try over UDP and again over TCP."""

    def __init__(self, server: Endpoint, timeout: float, tries: int) -> None:
        self._server = server
        self._timeout = timeout
        self._tries = tries
        self._chance = SystemRandom()
        self._excuse = ""

    async def ask(self, name: str, rdtype: RecordType) -> Answer | Alias:
        """Ask until there is an answer. Raises ValueError for what cannot be a name."""
        tries = 0 if self._excuse else self._tries
        for _ in range(tries):
            reading = self._exchange(name, rdtype)
            if not isinstance(reading, str):
                self._excuse = ""
                return reading
            self._excuse = reading
        return Failure(f"{rdtype.name} of {name}: {self._excuse}", str(self._server))

    def _exchange(self, name: str, rdtype: RecordType) -> Answer | Alias | str:
        asked = query(name, rdtype, self._chance.getrandbits(16))
        try:
            response, _ = dns.query.udp_with_fallback(
                asked.message,
                self._server.host,
                self._timeout,
                self._server.port,
                ignore_unexpected=True,
                ignore_errors=True,
            )
        except dns.exception.Timeout:
            return f"no answer in {self._timeout:g} s"
        except dns.exception.DNSException as error:
            return f"no answer that can be read: {error}"
        except (OSError, EOFError) as error:
            return getattr(error, "strerror", None) or str(error) or "connection closed"
        reading = read(asked, response.to_wire(), str(self._server), trusted=False)
        return "a truncated answer over TCP" if reading is None or isinstance(reading, Unfinished) else reading


def resolvers(settings: DnsSettings) -> dict[str, Resolver]:
    """Make a resolver for each name server of the settings, by its address."""
    timeout = min(settings.timeout, PATIENCE)
    return {
        str(server): StubResolver(BlockingTransport(server, timeout, settings.tries), Cache(time.monotonic))
        for server in name_servers(settings)
    }


class InTurn:
    """A resolver that asks others one after the other, until one of them can tell: as the daemon asks name servers."""

    def __init__(self, resolvers: Iterable[Resolver]) -> None:
        self._resolvers = tuple(resolvers)

    def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Answer]:
        """Ask for the records of `name`."""
        return defer.Deferred.fromCoroutine(self._query(name, rdtype))

    async def _query(self, name: str, rdtype: RecordType) -> Answer:
        failures: list[Failure] = []
        for resolver in self._resolvers:
            answer = await resolver.query(name, rdtype)
            if not isinstance(answer, Failure):
                return answer
            failures.append(answer)
        text = "; ".join(failure.text for failure in failures)
        return Failure(text or "no name server", ", ".join(failure.source for failure in failures))


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to its end a coroutine all of whose waiting is done by blocking."""
    out: list[Any] = []
    defer.Deferred.fromCoroutine(coroutine).addBoth(out.append)
    assert out, "something waits for a reactor"
    if isinstance(out[0], Fault):
        out[0].raiseException()
    result: T = out[0]
    return result

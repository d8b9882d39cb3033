"""Once a day the daemon looks at itself, as `mta check` does: what is wrong stands in the log before somebody notices.

Left out are the checks that bind ports or connect to others; name servers are asked. A finding is an event,
``check.found``, at the level of its severity, and ``check.ended`` has their numbers, which `mta_check_findings` shows.

A check that does not end in time is told of and left behind. Its thread is not to be had back: the same check is not
begun again before it has ended, and while `HUNG_MAXIMUM` hang no other is, so that they never take the threads that
mail needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from random import SystemRandom
from typing import Any

from twisted.internet import defer, interfaces
from twisted.python.failure import Failure

from mta.disk.port import RunInThread
from mta.dns.cache import Cache
from mta.dns.resolver import StubResolver
from mta.dns.transport import Transport
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.service.addresses import own_addresses
from mta.service.check.checks import (
    CONFIGURATION,
    PATIENCE_SECONDS,
    Checking,
    blocking_checks,
    check_configuration,
    name_checks,
    unfinished,
)
from mta.service.check.finding import Finding, Severity, ranked
from mta.service.check.names import NAMES
from mta.service.check.server import server_of
from mta.service.names import name_servers
from mta.service.rounds import Rounds, Times
from mta.settings.sections import Settings

FIRST_SECONDS = 300.0
"""From the start to the first round: a restart has better things to do at once, and something to look at later."""
ROUND_SECONDS = 86_400.0
"""From the end of a round to the next."""
HUNG_MAXIMUM = 2
"""Threads that may hang: half of `mta.service.pools.LARGE`."""
NAMES_SECONDS = 300.0
"""For all questions to name servers together."""

_LEVELS = {Severity.ERROR: Level.ERROR, Severity.WARNING: Level.WARNING, Severity.NOTE: Level.INFO}


class Checkup:
    """Begins the rounds. `checks` and `names` are made anew for each; blocking ones go through `run`."""

    def __init__(
        self,
        current: Callable[[], Settings],
        checks: Callable[[Settings], Mapping[str, Checking]],
        names: Callable[[Settings], Coroutine[Any, Any, list[Finding]]],
        run: RunInThread,
        journal: Journal,
        clock: interfaces.IReactorTime,
    ) -> None:
        self._current = current
        self._checks = checks
        self._names = names
        self._run = run
        self._journal = journal
        self._clock = clock
        self._rounds = Rounds("daily check", self._look, Times(FIRST_SECONDS, ROUND_SECONDS), journal, clock)
        self._running: set[str] = set()

    def start(self) -> None:
        """Have the first round come soon."""
        self._rounds.start()

    def stop(self) -> None:
        """End it; a check that is under way on a thread ends by itself."""
        self._rounds.stop()

    async def _look(self) -> None:
        settings, begin = self._current(), self._clock.seconds()
        found: list[Finding] = []
        for name, check in self._checks(settings).items():
            if name in self._running or len(self._running) >= HUNG_MAXIMUM:
                found.append(unfinished(name, f"not begun: {', '.join(sorted(self._running))} still hangs"))
            else:
                found += await self._within(name, self._on_thread(name, check), PATIENCE_SECONDS)
        asking = defer.Deferred.fromCoroutine(self._names(settings))
        found += await self._within(NAMES, asking, NAMES_SECONDS)
        self._tell(found, self._clock.seconds() - begin)

    def _on_thread(self, name: str, check: Checking) -> defer.Deferred[list[Finding]]:
        """Run a check. To cancel what is returned does not end the thread."""
        looking: defer.Deferred[list[Finding]] = defer.Deferred()

        def ended(result: list[Finding] | Failure) -> None:
            self._running.discard(name)
            if not looking.called:
                looking.callback(result)

        self._running.add(name)
        self._run(check).addBoth(ended)
        return looking

    async def _within(self, name: str, looking: defer.Deferred[list[Finding]], seconds: float) -> list[Finding]:
        """Wait for a check; one that is late or has a bug is a finding of its own."""
        try:
            return await looking.addTimeout(seconds, self._clock)
        except defer.TimeoutError:
            return [unfinished(name, f"not within {seconds:g} s: something it looks at does not answer")]
        except defer.CancelledError:
            raise
        except Exception as bug:
            self._journal.fault(f"check of {name}", bug)
            return [unfinished(name, f"a bug: {type(bug).__name__}: {bug}")]

    def _tell(self, found: list[Finding], seconds: float) -> None:
        for finding in ranked(found):
            self._journal.note(
                Kind.CHECK_FOUND,
                finding.reason,
                level=_LEVELS[finding.severity],
                check=finding.check,
                severity=finding.severity.value,
                what=finding.what,
                mend=finding.mend,
            )
        counts = {f"{each.value}s": sum(finding.severity is each for finding in found) for each in Severity}
        self._journal.note(
            Kind.CHECK_ENDED,
            level=Level.NOTICE,
            errors=counts["errors"],
            warnings=counts["warnings"],
            notes=counts["notes"],
            seconds=seconds,
        )


def checkup_on(reactor: Any, current: Callable[[], Settings], run: RunInThread, journal: Journal) -> Checkup:
    """Make one that looks at this machine, and asks the name servers of the settings."""

    def checks(settings: Settings) -> Mapping[str, Checking]:
        on_disk = {CONFIGURATION: lambda: check_configuration(settings.path)}
        return {**on_disk, **blocking_checks(settings, server_of(settings.state), time.time)}

    async def names(settings: Settings) -> list[Finding]:
        dns = settings.dns
        transport = Transport(reactor, reactor, name_servers(dns), SystemRandom(), dns.timeout, dns.tries)
        return await name_checks(StubResolver(transport, Cache(reactor.seconds)), settings, own_addresses())

    return Checkup(current, checks, names, run, journal, reactor)

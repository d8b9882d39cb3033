"""What one process counts and measures, and the numbers that are asked of it.

Its journal tells it of every event; the rest (`Worker`) tells it of syncs and replies. Everything is answered as
`mta.observe.tally.Samples`, and the parent makes one of those of all workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from mta import __version__
from mta.observe import metric
from mta.observe.counters import Counters
from mta.observe.history import History
from mta.observe.journal import Journal
from mta.observe.log import Log
from mta.observe.metric import Metric
from mta.observe.recent import Recent
from mta.observe.tally import Samples, Tally
from mta.observe.timed import Timed, timed_syncs
from mta.service.lag import Lag

Now = dict[tuple[Metric, tuple[str, ...]], float]
"""Numbers that are no counts: read when they are asked for."""


class Measures:
    """Those of the process `name`: the number of a worker."""

    def __init__(self, name: str, journal: Journal, reactor: Any) -> None:
        self._name = name
        self._journal = journal
        self._reactor = reactor
        self._started = journal.wall()
        self.tally = Tally()
        self.recent = Recent()
        self._counters = Counters(self.tally)
        self.lag = Lag(reactor, self.tally)
        journal.sinks += [self._counters, self.recent]

    def timed(self, place: str) -> Timed:
        """What measures the syncs of a place."""
        return timed_syncs(self.tally, place, self._reactor.seconds)

    def replied(self, service: str) -> Callable[[int], None]:
        """What counts the replies of a service."""
        return lambda code: self.tally.add(metric.REPLIES, service, str(code))

    def samples(self, sessions: Mapping[str, int] = {}, more: Now | None = None) -> Samples:
        """All numbers of this process; `sessions` are open now, by service, `more` is what the caller asked."""
        now: Now = {**(more or {}), **self._own()}
        for service, count in sessions.items():
            now[metric.SESSIONS_OPEN, (service,)] = count
            now[metric.SESSIONS_OPENED, (service,)] = count + self._counters.ended.get(service, 0)
        for trouble, places in self._counters.troubles().items():
            now[metric.TROUBLES, (trouble,)] = places
        for severity, found in self._counters.findings.items():
            now[metric.CHECK_FINDINGS, (severity,)] = found
        for kind, name in ((History, "history"), (Log, "log")):
            lost = [sink.lost for sink in self._journal.sinks if isinstance(sink, kind)]
            now[metric.EVENTS_LOST, (name,)] = sum(lost)
        return self.tally.samples(now)

    def _own(self) -> Now:
        """What the system says of this process (proc(5)); what it does not say is left out."""
        name = (self._name,)
        times = os.times()
        own: Now = {
            (metric.WORKER_CPU, name): times.user + times.system,
            (metric.WORKER_STARTED, name): self._started,
            (metric.LOOP_LAG_MAXIMUM, ()): self.lag.maximum(),
            (metric.INFO, (__version__,)): 1,
        }
        with suppress(OSError, ValueError, IndexError):
            with open("/proc/self/statm", encoding="ascii") as statm:
                pages = int(statm.read().split()[1])
            own[metric.WORKER_RESIDENT, name] = pages * os.sysconf("SC_PAGESIZE")
            own[metric.WORKER_DESCRIPTORS, name] = len(os.listdir("/proc/self/fd"))
        return own

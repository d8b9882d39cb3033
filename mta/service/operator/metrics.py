"""What a worker answers to those who watch: its numbers, and what ``mta top`` shows beside them.

The answers are kept apart by worker, ``{"workers": {"0": {…}}}``: how the numbers of several become one stands with
each metric (`mta.observe.metric`), not in the way the answers travel.

The queue as a whole is looked at on a thread, and not again for `FRESH` seconds, or twenty times as long as the look
took: whoever asks meanwhile is told what was seen last.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from twisted.internet import defer

from mta.disk.port import Disk, RunInThread
from mta.observe import metric
from mta.observe.tally import OTHER
from mta.service.measures import Measures, Now
from mta.settings.sections import Settings
from mta.spool.port import Spool
from mta.spool.summary import Summary, summarise

FRESH = 5.0
"""Seconds for which a look at the queue is good."""
SECONDS = 5.0
"""How long one look may take."""
_SHARE = 20.0
"""A look that took a second is good for so many: it takes a twentieth of one thread at most."""
_REASONS = 1
"""Reasons that are told of one destination."""


class QueueSight:
    """Looks at the shards of a worker, whose directories `paths` names."""

    def __init__(
        self, paths: Callable[[], list[str]], run_in_thread: RunInThread, seconds: Callable[[], float]
    ) -> None:
        self._paths = paths
        self._run_in_thread = run_in_thread
        self._seconds = seconds
        self._seen = Summary()
        self._good_until = 0.0
        self._looking = False

    async def look(self, top: int) -> Summary:
        """What is seen, or was lately. A look that fails leaves what was seen before."""
        began = self._seconds()
        if self._looking or began < self._good_until:
            return self._seen
        self._looking = True
        try:
            self._seen = await self._run_in_thread(
                summarise, self._paths(), top, lambda: self._seconds() > began + SECONDS
            )
        except sqlite3.Error:
            pass
        finally:
            self._looking = False
            ended = self._seconds()
            self._good_until = ended + max(FRESH, _SHARE * (ended - began))
        return self._seen


class MetricsCommands:
    """The commands; `sessions` are those open now, by service."""

    def __init__(
        self,
        name: str,
        measures: Measures,
        sight: QueueSight,
        spool: Spool,
        sessions: Callable[[], Mapping[str, int]],
        current: Callable[[], Settings],
        disk: Disk,
        wall: Callable[[], float],
    ) -> None:
        self._name = name
        self._measures = measures
        self._sight = sight
        self._spool = spool
        self._sessions = sessions
        self._current = current
        self._disk = disk
        self._wall = wall

    def metrics(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Give all numbers."""
        return defer.Deferred.fromCoroutine(self._metrics())

    async def _metrics(self) -> dict[str, Any]:
        return {"workers": {self._name: self._samples(await self._look())}}

    def top(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Give all numbers, the destinations with most mail, and the last events worth a look."""
        return defer.Deferred.fromCoroutine(self._top())

    async def _top(self) -> dict[str, Any]:
        sight = await self._look()
        destinations = {
            name: {
                "recipients": each.recipients,
                "states": {state.name.lower(): count for state, count in each.states.items() if count},
                "next": each.next_attempt,
                "reason": next((reason for reason, _ in each.reasons.most_common(_REASONS)), ""),
            }
            for name, each in sight.largest.items()
        }
        return {
            "hostname": self._current().hostname,
            "workers": {self._name: self._samples(sight)},
            "destinations": {self._name: destinations},
            "recent": self._measures.recent.events(),
        }

    def _look(self) -> defer.Deferred[Summary]:
        return defer.Deferred.fromCoroutine(self._sight.look(self._current().metrics.destinations))

    def _samples(self, sight: Summary) -> dict[str, Any]:
        counts, settings = self._spool.counts(), self._current()
        now: Now = {(metric.QUEUE_MESSAGES, ()): counts.messages}
        for state, count in counts.recipients.items():
            now[metric.QUEUE_RECIPIENTS, (state.name.lower(),)] = count
        for name, destination in sight.largest.items():
            now[metric.QUEUE_DESTINATION, (name,)] = destination.recipients
        if sight.others:
            now[metric.QUEUE_DESTINATION, (OTHER,)] = sight.others
        oldest = sight.oldest if counts.messages else None
        now[metric.QUEUE_OLDEST, ()] = 0.0 if oldest is None else max(0.0, self._wall() - oldest)
        now[metric.DISK_RESERVE, ()] = settings.spool.reserve
        for volume, path in (("state", settings.state), ("mail", settings.mail)):
            with suppress(OSError):
                free = self._disk.free(path)
                now[metric.DISK_FREE, (volume,)] = free.octets
                now[metric.DISK_INODES, (volume,)] = free.inodes
        return self._measures.samples(self._sessions(), now)

"""What the parent tells those who watch: the numbers of all workers as those of one server.

A worker that does not answer, or died and was started anew, must not make a count fall: Prometheus would take that for
a restart of everything, and count all of it once more. So the last counts of each worker are remembered, and those of
one that is gone are kept for good. What it counted since it was last asked is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet import defer, interfaces

from mta.observe import metric
from mta.observe.metric import METRICS, Type
from mta.observe.tally import Samples, merged
from mta.service.crew import Crew
from mta.service.measures import Measures
from mta.service.merging import merge

GONE = "gone"
"""In place of a worker's number: what those counted that are no more."""

ANSWER_SECONDS = 5.0
"""How long a worker is waited for; one that is too busy for that is left out."""

_COUNTED = tuple(each for each in METRICS if each.type is not Type.GAUGE)


class Watch:
    """Asks all workers of `crew`. `own` measures the parent, where that is a process of its own."""

    def __init__(self, crew: Crew, clock: interfaces.IReactorTime, own: Measures | None = None) -> None:
        self._crew = crew
        self._clock = clock
        self._own = own
        self._last: dict[str, Samples] = {}
        self._started: dict[str, Any] = {}
        self._gone: Samples = {}

    def metrics(self, request: Mapping[str, Any] = {}) -> defer.Deferred[dict[str, Any]]:
        """Give the numbers of every process (see `mta.service.operator.metrics`)."""
        return defer.Deferred.fromCoroutine(self._ask("metrics"))

    def top(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Give what ``mta top`` shows."""
        return defer.Deferred.fromCoroutine(self._ask("top"))

    def status(self) -> defer.Deferred[str]:
        """Give a line on what is going on, for ``systemctl status``."""
        return self.metrics().addCallback(_status)

    async def _ask(self, command: str) -> dict[str, Any]:
        workers = self._crew.workers
        asked = [
            self._crew.ask(number, {"command": command}).addTimeout(ANSWER_SECONDS, self._clock)
            for number in range(workers)
        ]
        answers = [answer for told, answer in await defer.DeferredList(asked, consumeErrors=True) if told]
        answer: dict[str, Any] = merge(answers) if answers else {}
        answer["workers"] = self._remember(answer.get("workers", {}))
        counts = {metric.WORKERS_WANTED.name: {"": workers}, metric.WORKERS_ANSWERING.name: {"": len(answers)}}
        answer["workers"]["parent"] = {**(self._own.samples() if self._own is not None else {}), **counts}
        if self._own is not None and command == "top":
            answer["recent"] = answer.get("recent", []) + self._own.recent.events()
        return answer

    def _remember(self, told: Mapping[str, Samples]) -> dict[str, Samples]:
        """Give what each worker told, with the counts of those that did not, or are gone."""
        for name, samples in told.items():
            started = samples.get(metric.WORKER_STARTED.name, {})
            if name in self._last and self._started[name] != started:
                self._gone = merged([self._gone, self._last[name]], _COUNTED)
            self._last[name], self._started[name] = samples, started
        silent = {name: merged([last], _COUNTED) for name, last in self._last.items() if name not in told}
        return {**told, **silent, **({GONE: self._gone} if self._gone else {})}


def _status(answer: Mapping[str, Any]) -> str:
    samples = merged(answer["workers"].values())
    sessions = sum(samples[metric.SESSIONS_OPEN.name].values())
    messages = sum(samples[metric.QUEUE_MESSAGES.name].values())
    troubles = [kind for kind, places in samples[metric.TROUBLES.name].items() if places]
    trouble = f"; TROUBLE: {', '.join(troubles)}, see the log" if troubles else ""
    return f"{sessions:,} sessions, {messages:,} messages in the queue{trouble}"

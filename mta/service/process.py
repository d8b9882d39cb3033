"""A process of the server: its log and history, its settings, and a worker where it carries mail.

With one worker, the parent's process is such a one; with several, the parent has one without a worker, and each child
process one with. A reload has two steps, so that all processes use the new configuration or none does: `prepare` reads,
checks and opens, and whatever is wrong is found there; `use` cannot fail.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer

from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.history import History, Keep
from mta.observe.journal import Journal
from mta.policy.port import Policy
from mta.service import fixed
from mta.service.control import Command
from mta.service.log_file import LogFile
from mta.service.pools import Pools
from mta.service.reactor_log import ReactorLog
from mta.service.seat import Seat
from mta.service.sockets import Listening
from mta.service.worker import GRACE_SECONDS, Worker
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load
from mta.settings.sections import Settings


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration that can be used."""

    settings: Settings
    """With what was taken at the start as it is."""
    log: LogFile
    policies: Sequence[Policy]
    needs_restart: Sequence[str]
    """The changed keys that are not used before a restart."""


class Process:
    """One process; `name` distinguishes its history. Making it opens log and history: raises what these do."""

    def __init__(self, name: str, settings: Settings, reactor: Any, reactor_log: ReactorLog) -> None:
        self.settings = settings
        self.worker: Worker | None = None
        self._reactor = reactor
        self._log = LogFile(settings, reactor)
        self.journal = Journal(time.time, [self._log.sink])
        self.history: History | None = None
        if settings.history.enabled:
            keep = Keep(settings.history.keep, settings.history.size)
            self.history = History(f"{settings.state}/history", name, reactor, self.journal, keep)
            self.journal.sinks.append(self.history)
        reactor_log.journal = self.journal

    def carry(self, seat: Seat, pools: Pools, sockets: Sequence[Listening]) -> None:
        """Have a worker in this process. Raises what `Worker.start` does."""
        self.worker = Worker(seat, self.settings, self._reactor, self.journal, pools)
        self.worker.start(sockets)

    def prepare(self) -> Prepared:
        """Read and check the configuration anew, and open the log file anew, which may have been moved away.

        Raises SettingsRefused, which is noted, and everything stays as it was.
        """
        try:
            loaded = load(self.settings.path)
            settings = fixed.go_on(self.settings, loaded)
            policies = self.worker.prepare(settings) if self.worker else ()
            return Prepared(settings, LogFile(settings, self._reactor), policies, fixed.needs_restart(settings, loaded))
        except SettingsRefused as refused:
            for problem in refused.problems:
                self.journal.note(
                    Kind.SETTINGS_REFUSED,
                    Reason(str(problem), "reload"),
                    level=Level.ERROR,
                    file=problem.file,
                    line=problem.line,
                )
            raise

    def use(self, prepared: Prepared) -> None:
        """Use what was prepared from now on."""
        if self.worker is not None:
            self.worker.reload(prepared.settings, prepared.policies)
        self.settings = prepared.settings
        self.journal.sinks[self.journal.sinks.index(self._log.sink)] = prepared.log.sink
        self._log.close()
        self._log = prepared.log

    @property
    def commands(self) -> Mapping[str, Command]:
        """What the operator may ask of the worker."""
        return self.worker.commands if self.worker else {}

    def stop(self, grace: float = GRACE_SECONDS) -> defer.Deferred[None]:
        """Stop the worker in order; fires when nothing is under way any more."""
        return defer.Deferred.fromCoroutine(self._stop(grace))

    async def _stop(self, grace: float) -> None:
        if self.worker is not None:
            await self.worker.stop(grace)
        if self.history is not None:
            self.history.close()
        self._log.sink.flush()

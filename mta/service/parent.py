"""The parent: holds the listening sockets and the control socket, runs the workers, reloads.

With ``workers = 1`` (the default, and for now the only number) parent and worker are one process; the parent then calls
the worker instead of sending to it. Nothing in the worker knows the difference.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from twisted.application import service
from twisted.internet import defer, error
from twisted.logger import ILogObserver

from mta.board.alone import Alone
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.history import History, Keep
from mta.observe.journal import Journal
from mta.service import fixed
from mta.service.control import Command, CommandRefused, ControlFactory, socket_path
from mta.service.log_file import LogFile
from mta.service.pools import Pools, start_pools
from mta.service.reactor_log import ReactorLog
from mta.service.rotation import KeyRotation, rotation_on
from mta.service.sockets import CannotListen, close, inherited, open_sockets
from mta.service.worker import Worker
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load
from mta.settings.sections import Settings
from mta.spool.schema import SchemaTooNew
from mta.spool.shard import SpoolInUse

_CANNOT_START = (
    CannotListen,
    SpoolInUse,
    SchemaTooNew,
    SettingsRefused,
    OSError,
    sqlite3.Error,
    error.CannotListenError,
)
"""What the administrator can mend: told in plain words. Everything else is a bug of ours, told with its traceback."""


class Parent(service.Service):
    """The service that twistd starts. `pools` makes the worker's threads, of which so many check passwords."""

    def __init__(
        self, path: str, settings: Settings, reactor: Any, pools: Callable[[Any, int], Pools] = start_pools
    ) -> None:
        self._path = path
        self._settings = settings
        self._reactor = reactor
        self._pools = pools
        self._control: Any = None
        self._scrapes: Any = None
        self._reactor_log = ReactorLog()

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and have twistd log through us."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        parent.setComponent(ILogObserver, self._reactor_log)

    def privilegedStartService(self) -> None:
        """Open the sockets, while ports below 1024 may still be opened."""
        try:
            self._control_path = _control_path(self._settings)
            self._sockets = open_sockets(self._settings, inherited(os.environ, os.getpid()))
        except Exception as problem:
            _cannot_start(problem)

    def startService(self) -> None:
        """Start worker and control socket; ends the process with a plain word where that cannot be."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        settings = self._settings
        os.umask(0o077)
        try:
            os.makedirs(settings.state, mode=0o700, exist_ok=True)
            self._open_journal(settings)
            pools = self._pools(self._reactor, settings.auth.pool_threads)
            self._worker = Worker(0, settings, self._reactor, self._journal, pools, Alone())
            self._worker.start(self._sockets)
            self._listen_control()
            self._listen_metrics()
            rotation = rotation_on(self._reactor, pools.large, self._journal)
            self._rotation = KeyRotation(lambda: self._settings, rotation, self.reload, self._journal, self._reactor)
            self._rotation.start()
        except Exception as problem:
            _cannot_start(problem)
        close(self._sockets)  # the reactor has descriptors of its own
        self._note_loaded(settings)

    async def _stop(self) -> None:
        if self._control is not None:
            await defer.maybeDeferred(self._control.stopListening)
        if self._scrapes is not None:
            await self._scrapes.stop()
        self._rotation.stop()
        await self._worker.stop()
        if self._history is not None:
            self._history.close()
        self._log.sink.flush()

    def stopService(self) -> defer.Deferred[None]:
        """Stop in order; fires when nothing is under way any more."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        return defer.ensureDeferred(self._stop())

    # Log and history

    def _open_journal(self, settings: Settings) -> None:
        self._log = LogFile(settings, self._reactor)
        self._journal = Journal(time.time, [self._log.sink])
        self._history: History | None = None
        if settings.history.enabled:
            keep = Keep(settings.history.keep, settings.history.size)
            path = f"{settings.state}/history"
            self._history = History(path, "0", self._reactor, self._journal, keep)
            self._journal.sinks.append(self._history)
        self._reactor_log.journal = self._journal

    def _note_loaded(self, settings: Settings) -> None:
        directory = settings.directory
        self._journal.note(
            Kind.SETTINGS_LOADED,
            level=Level.NOTICE,
            file=settings.path,
            domains=len(directory.domains),
            accounts=len(directory.accounts),
        )

    # Control

    def _listen_control(self) -> None:
        path = self._control_path
        # The lock of the spool says that no other daemon lives here: what is left of a socket is nobody's.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        own: dict[str, Command] = {"reload": self._reload_command, "ping": self._ping_command}
        commands = {**own, **self._worker.commands()}
        self._control = self._reactor.listenUNIX(path, ControlFactory(commands, self._journal), mode=0o600)

    def _listen_metrics(self) -> None:
        if self._settings.metrics.listen:
            from mta.service.scrape import Scrapes  # a web server and a library that only those need who want numbers

            metrics = self._worker.commands()["metrics"]
            self._scrapes = Scrapes(self._reactor, lambda: metrics({}), self._journal)
            self._scrapes.start(self._settings.metrics.listen)

    def _ping_command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "config": self._path}

    def _reload_command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            waiting = self.reload()
        except SettingsRefused as refused:
            raise CommandRefused(str(refused)) from refused
        later = f"; needs a restart: {', '.join(waiting)}" if waiting else ""
        directory = self._settings.directory
        return {
            "message": f"reloaded: {len(directory.domains)} domains, {len(directory.accounts)} accounts{later}",
            "needs_restart": waiting,
        }

    def reload(self) -> list[str]:
        """Read, check and use the configuration anew, and open the log file anew, which may have been moved away.

        Returns the changed keys that need a restart. Raises SettingsRefused, and everything stays as it was.
        """
        try:
            loaded = load(self._path)
            settings = fixed.go_on(self._settings, loaded)
            policies = self._worker.prepare(settings)
            log = LogFile(settings, self._reactor)
        except SettingsRefused as refused:
            for problem in refused.problems:
                self._journal.note(
                    Kind.SETTINGS_REFUSED,
                    Reason(str(problem), "reload"),
                    level=Level.ERROR,
                    file=problem.file,
                    line=problem.line,
                )
            raise
        self._worker.reload(settings, policies)
        self._settings = settings
        self._journal.sinks[self._journal.sinks.index(self._log.sink)] = log.sink
        self._log.close()
        self._log = log
        self._note_loaded(settings)
        return fixed.needs_restart(settings, loaded)

    def reload_by_signal(self) -> None:
        """SIGHUP: reload; what is wrong stands in the log."""
        with contextlib.suppress(SettingsRefused):
            self.reload()


def _control_path(settings: Settings) -> str:
    try:
        return socket_path(settings.state)
    except ValueError as problem:
        raise CannotListen(str(problem)) from problem


def _cannot_start(problem: Exception) -> NoReturn:
    """End the process: one message on standard error, also where twistd has taken that for its log."""
    words = str(problem) if isinstance(problem, _CANNOT_START) else f"a bug:\n{traceback.format_exc()}"
    os.write(2, f"mta: cannot start: {words.rstrip()}\n".encode(errors="backslashreplace"))
    raise SystemExit(1) from problem

"""The parent: holds the listening sockets and the control socket, runs the workers, reloads.

With ``workers = 1`` (the default, and for now the only number) parent and worker are one process; the parent then calls
the worker instead of sending to it. Nothing in the worker knows the difference.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from twisted.application import service
from twisted.internet import defer
from twisted.logger import ILogObserver

from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.history import History, Keep
from mta.observe.journal import Journal
from mta.observe.log import Log, json_line, key_value
from mta.service.control import CommandRefused, ControlFactory
from mta.service.reactor_log import ReactorLog
from mta.service.sockets import CannotListen, close, inherited, open_sockets
from mta.service.worker import FIXED, Worker
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load
from mta.settings.sections import Settings
from mta.spool.schema import SchemaTooNew
from mta.spool.shard import SpoolInUse

_CANNOT_START = (CannotListen, SpoolInUse, SchemaTooNew, SettingsRefused, OSError, sqlite3.Error)


class Parent(service.Service):
    """The service that twistd starts."""

    def __init__(self, path: str, settings: Settings, reactor: Any) -> None:
        self._path = path
        self._settings = settings
        self._reactor = reactor
        self._control: Any = None
        self._reactor_log = ReactorLog()

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and have twistd log through us."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        parent.setComponent(ILogObserver, self._reactor_log)

    def privilegedStartService(self) -> None:
        """Open the sockets, while ports below 1024 may still be opened."""
        try:
            self._sockets = open_sockets(self._settings, inherited(os.environ, os.getpid()))
        except CannotListen as error:
            _cannot_start(error)

    def startService(self) -> None:
        """Start worker and control socket; ends the process with a plain word where that cannot be."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        settings = self._settings
        os.umask(0o077)
        try:
            os.makedirs(settings.state, mode=0o700, exist_ok=True)
            self._open_journal(settings)
            self._worker = Worker(0, settings, self._reactor, self._journal)
            self._worker.start(self._sockets)
            self._listen_control()
        except _CANNOT_START as error:
            _cannot_start(error)
        close(self._sockets)  # the reactor has descriptors of its own
        self._note_loaded(settings)

    async def _stop(self) -> None:
        if self._control is not None:
            await defer.maybeDeferred(self._control.stopListening)
        await self._worker.stop()
        if self._history is not None:
            self._history.close()
        self._log.flush()

    def stopService(self) -> defer.Deferred[None]:
        """Stop in order; fires when nothing is under way any more."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        return defer.ensureDeferred(self._stop())

    # Log and history

    def _open_journal(self, settings: Settings) -> None:
        self._journal = Journal(time.time)
        file = settings.log.file or (f"{settings.state}/mta.log" if _is_nowhere(2) else "")
        # Open as long as we are: the last line is written when everything else has stopped.
        stream = open(file or 2, "ab", closefd=bool(file))  # noqa: SIM115
        render = json_line if settings.log.format == "json" else key_value
        self._log = Log(stream, lambda function: self._reactor.callLater(0, function), render)
        self._journal.sinks.append(self._log)
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
        path = f"{self._settings.state}/control.sock"
        # The lock of the spool says that no other daemon lives here: what is left of a socket is nobody's.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        commands = {"reload": self._reload_command, "ping": self._ping_command}
        self._control = self._reactor.listenUNIX(path, ControlFactory(commands, self._journal), mode=0o600)

    def _ping_command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "config": self._path}

    def _reload_command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            fixed = self.reload()
        except SettingsRefused as refused:
            raise CommandRefused(str(refused)) from refused
        later = f"; needs a restart: {', '.join(fixed)}" if fixed else ""
        directory = self._settings.directory
        return {
            "message": f"reloaded: {len(directory.domains)} domains, {len(directory.accounts)} accounts{later}",
            "needs_restart": fixed,
        }

    def reload(self) -> list[str]:
        """Read, check and use the configuration anew; returns the changed keys that need a restart.

        Raises SettingsRefused, and everything stays as it was.
        """
        try:
            settings = load(self._path)
            self._worker.check(settings)
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
        fixed = [key for key in FIXED if _value(settings, key) != _value(self._settings, key)]
        self._worker.reload(settings)
        self._settings = settings
        self._note_loaded(settings)
        return fixed

    def reload_by_signal(self) -> None:
        """SIGHUP: reload; what is wrong stands in the log."""
        with contextlib.suppress(SettingsRefused):
            self.reload()


def _value(settings: Settings, key: str) -> object:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _is_nowhere(descriptor: int) -> bool:
    """Whether what is written there is gone: twistd without ``-n`` leaves no standard error."""
    found, null = os.fstat(descriptor), os.stat(os.devnull)
    return (found.st_dev, found.st_ino) == (null.st_dev, null.st_ino)


def _cannot_start(error: BaseException) -> NoReturn:
    """End the process: one plain message on standard error, also where twistd has taken that for its log."""
    os.write(2, f"mta: cannot start: {error}\n".encode(errors="backslashreplace"))
    raise SystemExit(1) from error

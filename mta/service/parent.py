"""The parent: holds the listening sockets and the control socket, starts and stops the workers, reloads.

With ``workers = 1`` parent and worker are one process, otherwise each worker is a process of its own
(`mta.service.crew`): the parent does not care. It answers the operator for all: what concerns one message goes to the
worker whose shard the queue id names, everything else to each of them, and the answers are merged
(`mta.service.merging`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application import service
from twisted.internet import defer
from twisted.logger import ILogObserver
from twisted.python.failure import Failure

from mta.board.shared import SharedBoard
from mta.mail.queueid import shard_of
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.observe.telling import count
from mta.service.board import layout
from mta.service.checkup import checkup_on
from mta.service.children import Children
from mta.service.control import Command, CommandRefused, ControlFactory, socket_path
from mta.service.crew import Crew, OwnWorker, first_failure
from mta.service.measures import Measures
from mta.service.merging import merge
from mta.service.notify import Notifier, started_by
from mta.service.pools import Pools, start_pools
from mta.service.process import Process
from mta.service.reactor_log import ReactorLog
from mta.service.rotation import KeyRotation, rotation_on
from mta.service.sockets import CannotListen, inherited, open_sockets
from mta.service.starting import hold_user, tell_cannot_start
from mta.service.watch import Watch
from mta.service.worker import Worker
from mta.settings.problem import SettingsRefused
from mta.settings.sections import WORKERS_MAXIMUM, Settings

_ANY_WORKER = frozenset({"explain"})
"""Commands that any one worker can answer for all."""


class Parent(service.Service):
    """The service that twistd starts. `pools` makes the worker's threads, of which so many check passwords.

    `environment` tells of the sockets that systemd hands over, which stay where they are.
    """

    def __init__(
        self,
        path: str,
        settings: Settings,
        reactor: Any,
        pools: Callable[[Any, int], Pools] = start_pools,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._path = path
        self._at_start = settings
        self._reactor = reactor
        self._make_pools = pools
        self._environment = environment
        self._control: Any = None
        self._scrapes: Any = None
        self._reactor_log = ReactorLog()
        self._reloading = defer.DeferredLock()
        self._notifier: Notifier | None = None

    @property
    def _settings(self) -> Settings:
        return self._process.settings

    @property
    def _journal(self) -> Journal:
        return self._process.journal

    @property
    def _worker(self) -> Worker | None:
        """The worker, where it is in this process."""
        return self._process.worker

    def setServiceParent(self, parent: Any) -> None:
        """Join the application, and have twistd log through us."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        parent.setComponent(ILogObserver, self._reactor_log)

    # Start

    def privilegedStartService(self) -> None:
        """Open the sockets, while ports below 1024 may still be opened."""
        try:
            self._systemd = started_by(os.environ, os.getpid())
            self._control_path = _control_path(self._at_start)
            self._sockets = open_sockets(self._at_start, inherited(self._environment, os.getpid()))
        except Exception as problem:
            tell_cannot_start(problem)
            raise SystemExit(1) from problem

    def startService(self) -> None:
        """Start workers and control socket; ends the process with a plain word where that cannot be."""
        super().startService()  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        failed: list[Failure] = []
        starting = defer.Deferred.fromCoroutine(self._start()).addErrback(failed.append)
        if failed:
            assert failed[0].value is not None, "a Failure holds an exception"
            tell_cannot_start(failed[0].value)
            raise SystemExit(1) from failed[0].value
        if not starting.called:
            starting.addCallback(self._end, failed)

    def _end(self, _: object, failed: list[Failure]) -> None:
        """End a start that did not come to its end while startService ran; twistd has no way to be told."""
        if failed and self.running:
            assert failed[0].value is not None, "a Failure holds an exception"
            tell_cannot_start(failed[0].value)
            stopped = self._crew.stop().addCallback(lambda _: self._process.stop())
            stopped.addBoth(lambda _: os._exit(1))

    async def _start(self) -> None:
        settings = self._at_start
        hold_user(settings.state, self._path)
        os.umask(0o077)
        os.makedirs(settings.state, mode=0o700, exist_ok=True)
        pools = self._make_pools(self._reactor, settings.auth.pool_threads)
        workers = settings.workers or min(WORKERS_MAXIMUM, len(os.sched_getaffinity(0)))
        self._process = Process("0" if workers == 1 else "parent", settings, self._reactor, self._reactor_log)
        self._crew: Crew = OwnWorker(self._process, pools)
        own = None
        if workers > 1:
            own = Measures("parent", self._journal, self._reactor)
            board = SharedBoard.make(layout(workers), self._reactor.seconds)
            self._crew = Children(self._path, board, workers, self._reactor, self._journal)
        self._watch = Watch(self._crew, self._reactor, own)
        await self._crew.start(self._sockets)
        self._listen_control()
        self._listen_metrics()
        rotation = rotation_on(self._reactor, pools.large, self._journal)
        self._rotation = KeyRotation(lambda: self._settings, rotation, self.reload, self._journal, self._reactor)
        self._rotation.start()
        self._checkup = checkup_on(self._reactor, lambda: self._settings, pools.large, self._journal)
        self._checkup.start()
        self._note_loaded()
        self._notifier = Notifier(self._systemd, self._reactor, self._watch.status, lambda: self._crew.answering)
        self._notifier.ready()

    # Stop

    async def _stop(self) -> None:
        if self._notifier is not None:
            self._notifier.stopping()
        if self._control is not None:
            await defer.maybeDeferred(self._control.stopListening)
            self._rotation.stop()
            self._checkup.stop()
        if self._scrapes is not None:
            await self._scrapes.stop()
        await self._crew.stop()
        await self._process.stop()
        if self._notifier is not None:
            self._notifier.stopped()

    def stopService(self) -> defer.Deferred[None]:
        """Stop in order; fires when nothing is under way any more."""
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        return defer.Deferred.fromCoroutine(self._stop())

    # Reload

    def reload(self) -> defer.Deferred[list[str]]:
        """Read, check and use the configuration anew, in all processes, and open the log files anew.

        Gives the changed keys that need a restart. Fails with SettingsRefused, or CommandRefused where it was a worker
        that could not use it; then everything stays as it was.
        """
        return self._reloading.run(lambda: defer.Deferred.fromCoroutine(self._reload_told()))

    async def _reload_told(self) -> list[str]:
        if self._notifier is None:
            return await self._reload()
        self._notifier.reloading()
        try:
            return await self._reload()
        finally:
            self._notifier.reloaded()

    async def _reload(self) -> list[str]:
        prepared = self._process.prepare()
        try:
            await self._crew.prepare()
        except BaseException:
            prepared.log.close()
            raise
        self._process.use(prepared)
        await self._crew.use()
        self._note_loaded()
        return list(prepared.needs_restart)

    def reload_by_signal(self) -> None:
        """SIGHUP: reload; what is wrong stands in the log."""
        self.reload().addErrback(_told)

    def _note_loaded(self) -> None:
        settings = self._settings
        self._journal.note(
            Kind.SETTINGS_LOADED,
            level=Level.NOTICE,
            file=settings.path,
            domains=len(settings.directory.domains),
            accounts=len(settings.directory.accounts),
        )

    # Control

    def _listen_control(self) -> None:
        path = self._control_path
        # The lock of the spool says that no other daemon lives here: what is left of a socket is nobody's.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        commands: dict[str, Command] = dict.fromkeys(self._crew.names, self.ask)
        commands |= {"metrics": self._watch.metrics, "top": self._watch.top}
        commands |= {"reload": self._reload_command, "ping": self._ping_command}
        self._control = self._reactor.listenUNIX(path, ControlFactory(commands, self._journal), mode=0o600)

    def _listen_metrics(self) -> None:
        if self._settings.metrics.listen:
            from mta.service.scrape import Scrapes  # a web server and a library that only those need who want numbers

            self._scrapes = Scrapes(self._reactor, self._watch.metrics, self._journal)
            self._scrapes.start(self._settings.metrics.listen)

    def ask(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Have the workers that are concerned carry out a command; gives their merged answer."""
        return defer.Deferred.fromCoroutine(self._ask(request))

    async def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        workers = self._crew.workers
        if request.get("queue_id"):
            try:
                concerned = [shard_of(request["queue_id"]) % workers]
            except (ValueError, TypeError):
                raise CommandRefused(f"{request['queue_id']} is no queue id") from None
        else:
            concerned = [0] if request["command"] in _ANY_WORKER else list(range(workers))
        asked = [self._crew.ask(number, request) for number in concerned]
        return merge(await defer.gatherResults(asked, consumeErrors=True).addErrback(first_failure))

    def _ping_command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"pid": os.getpid(), "config": self._path}

    def _reload_command(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        return self.reload().addCallbacks(self._reloaded, _refused)

    def _reloaded(self, waiting: list[str]) -> dict[str, Any]:
        later = f"; needs a restart: {', '.join(waiting)}" if waiting else ""
        directory = self._settings.directory
        return {
            "message": f"reloaded: {count(len(directory.domains), 'domain')}, "
            f"{count(len(directory.accounts), 'account')}{later}",
            "needs_restart": waiting,
        }


def _refused(failure: Failure) -> Failure:
    if isinstance(failure.value, SettingsRefused):
        raise CommandRefused(str(failure.value))
    return failure


def _told(failure: Failure) -> Failure | None:
    """Forget what stands in the log already."""
    return None if isinstance(failure.value, SettingsRefused | CommandRefused) else failure


def _control_path(settings: Settings) -> str:
    try:
        return socket_path(settings.state)
    except ValueError as problem:
        raise CannotListen(str(problem)) from problem

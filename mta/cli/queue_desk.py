"""Where the commands for the queue are answered: by the running daemon, or, where it is stopped, in this process.

Then the same code works on the shards as the last process left them. Looking changes nothing and locks nothing.
Acting takes the locks of the shards, so no daemon can start meanwhile; it is done as the user who owns the spool, if
root types it, and goes to the history like an act of the daemon's.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from mta.cli.daemon import EX_CONFIG, EX_DATAERR, EX_IOERR, EX_NOINPUT, EX_NOPERM, EX_TEMPFAIL, fail, state_directory
from mta.disk.owner import user_name
from mta.service.asking import CommandRefused, ask, socket_path
from mta.settings.problem import SettingsRefused

if TYPE_CHECKING:
    from twisted.internet import defer

    from mta.mail.reason import Reason
    from mta.observe.journal import Journal
    from mta.settings.sections import Settings
    from mta.spool.port import Content, QueuedMessage, QueuedRecipient
    from mta.spool.stopped import StoppedSpool
    from mta.spool.view import View


@contextmanager
def desk(config: Path) -> Iterator[Desk]:
    """Give what answers; what goes wrong is told in one line, and ends the command."""
    from mta.spool.schema import SchemaTooNew
    from mta.spool.shard import SpoolInUse
    from mta.spool.view import SchemaOlder

    with ExitStack() as stack:
        try:
            state = state_directory(str(config.absolute()))
            yield Desk(config.absolute(), state, socket_path(state), stack)
        except CommandRefused as refused:
            fail(str(refused), EX_DATAERR)
        except (SettingsRefused, ValueError) as problem:
            fail(str(problem), EX_CONFIG)
        except SpoolInUse as busy:
            fail(f"{busy}, and no daemon answers at its control socket: it starts or stops just now", EX_TEMPFAIL)
        except (SchemaOlder, SchemaTooNew) as schema:
            fail(str(schema), EX_DATAERR)
        except PermissionError as error:
            fail(f"{error.filename or state}: {error.strerror}: this is for root, or the user of the server", EX_NOPERM)
        except BrokenPipeError:  # whoever reads what we print has seen enough
            raise
        except OSError as error:
            fail(f"{error.filename or state}: {error.strerror or error}", EX_IOERR)
        except sqlite3.Error as error:
            fail(f"the queue below {state}/spool cannot be read or written: {error}", EX_IOERR)


class Desk:
    """Asks the daemon, or does without it. `stack` closes what is opened."""

    def __init__(self, config: Path, state: str, socket: str, stack: ExitStack) -> None:
        self._config = config
        self._state = state
        self._socket = socket
        self._stack = stack
        self._turns = Turns()
        self._view: View | None = None
        self._acts: Callable[[dict[str, Any]], defer.Deferred[dict[str, Any]]] | None = None
        self._spool: StoppedSpool | None = None
        self.stopped = False
        """Whether there was no daemon to ask."""
        self.told = False
        """Whether the operator knows."""

    def ask(self, command: str, **request: object) -> dict[str, Any]:
        """Have a command of the daemon's carried out. Raises CommandRefused."""
        if not self.stopped:
            try:
                return ask(self._socket, command, **request)
            except (FileNotFoundError, ConnectionRefusedError):
                self.stopped = True
        return self._alone(command, request)

    def content(self, queue_id: str) -> Content:
        """Return the content of a message: from the spool itself, also while the daemon runs. Raises CommandRefused."""
        view = self._seen()
        try:
            return view.content(queue_id)
        except KeyError:
            raise CommandRefused(f"there is no message {queue_id} in the queue") from None
        except OSError as error:
            raise CommandRefused(f"the content of {queue_id} cannot be read: {error}") from error

    def _alone(self, command: str, request: dict[str, Any]) -> dict[str, Any]:
        from mta.service.operator.queue import QueueCommands

        if command == "queue-act":
            acted: dict[str, Any] = self._turns.result(self._opened()({**request, "operator": user_name(os.getuid())}))
            return acted
        commands = QueueCommands(self._spool or self._seen(), self._turns)
        if command == "queue-show":
            return commands.show(request)
        looks = {"queue-summary": commands.summary, "queue-count": commands.count, "queue-list": commands.page}
        seen: dict[str, Any] = self._turns.result(looks[command](request))
        return seen

    def _seen(self) -> View:
        from mta.disk.posix import PosixDisk
        from mta.spool.view import View

        if self._view is None:
            self._there()
            self._view = View(f"{self._state}/spool", PosixDisk())
            self._stack.callback(self._view.close)
        return self._view

    def _there(self) -> None:
        try:
            os.stat(f"{self._state}/spool")
        except FileNotFoundError:
            fail(f"there is no queue yet: {self._state}/spool is made when the daemon starts first", EX_NOINPUT)

    # Acting on a queue that is stopped

    def _opened(self) -> Callable[[dict[str, Any]], defer.Deferred[dict[str, Any]]]:
        if self._acts is None:
            from mta.disk.posix import PosixDisk
            from mta.service.operator.queue_acts import QueueActs
            from mta.settings.reader import load
            from mta.spool.stopped import StoppedSpool

            self._there()
            if self._view is not None:
                self._view.close()
                self._view = None
            settings = load(str(self._config))
            self._stack.enter_context(as_owner(f"{self._state}/spool"))
            spool = self._spool = StoppedSpool(f"{self._state}/spool", PosixDisk(), self._turns)
            self._stack.callback(lambda: self._turns.result(spool.close()))
            journal = self._stack.enter_context(_journal(settings))
            self._acts = QueueActs(spool, _Alone(settings, spool, journal), journal, self._turns).act
        return self._acts


class _Alone:
    """In place of a relay: nothing is tried now, and reports wait for the next start."""

    def __init__(self, settings: Settings, spool: StoppedSpool, journal: Journal) -> None:
        from twisted.internet.task import Clock

        from mta.dns.routing import destination
        from mta.relay.bounce import Bouncer
        from mta.relay.settler import Settler
        from mta.settings.expansion import look_up

        self._spool = spool
        self._shard = 0
        chance = SystemRandom()
        bouncer = Bouncer(
            settings.hostname,
            lambda: self._shard,
            chance,
            lambda mailbox: look_up(settings.directory, mailbox, lambda other: destination(other, settings.relay))[1],
            lambda: settings.queue.lifetime,
        )
        self._settler = Settler(
            spool,
            bouncer,
            lambda: settings.queue,
            journal,
            Clock(),
            chance,
            lambda destinations: False,
            lambda message: None,
            lambda due: None,
        )

    def withdraw(self, message: QueuedMessage) -> frozenset[int]:
        return frozenset()

    def give_back(self, queue_id: str) -> None:
        return None

    def rouse(self, destination: str) -> None:
        return None

    async def give_up(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], reason: Reason) -> None:
        # a report is stored beside what it is about, and its id names that shard
        self._shard = self._spool.shard_of(message.queue_id)
        await self._settler.give_up(message, recipients, reason)


@contextmanager
def _journal(settings: Settings) -> Iterator[Journal]:
    from twisted.internet.task import Clock

    from mta.observe.history import History, Keep
    from mta.observe.journal import Journal

    journal = Journal(time.time)
    history = None
    if settings.history.enabled:
        keep = Keep(settings.history.keep, settings.history.size)
        history = History(f"{settings.state}/history", "stopped", Clock(), journal, keep)
        journal.sinks.append(history)
    try:
        yield journal
    finally:
        if history is not None:
            history.close()


class Turns:
    """Runs what belongs on a thread when there is nothing else to do: so changes gather, and share a sync."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[..., Any], tuple[object, ...], defer.Deferred[Any]]] = []

    def __call__(self, function: Callable[..., Any], /, *args: object) -> defer.Deferred[Any]:
        """See `mta.disk.port.RunInThread`."""
        from twisted.internet import defer

        done: defer.Deferred[Any] = defer.Deferred()
        self._waiting.append((function, args, done))
        return done

    def result(self, awaited: defer.Deferred[Any]) -> Any:
        """Run what there is to run, and give what `awaited` came to; raises what it failed with."""
        from twisted.internet import defer

        ends: list[Any] = []
        faults: list[BaseException] = []
        awaited.addCallbacks(ends.append, lambda failure: faults.append(failure.value))
        while self._waiting:
            function, args, done = self._waiting.pop(0)
            defer.execute(function, *args).chainDeferred(done)
        if faults:
            raise faults[0]
        return ends[0]


@contextmanager
def as_owner(path: str) -> Iterator[None]:
    """Be the user who owns `path`, if we are root: what is made is his."""
    owner = os.stat(path)
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)

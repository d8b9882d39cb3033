"""A worker: the whole path of mail in one process – mx, smtpd, relay, and one spool shard.

It is put together from `Settings` here, with `mta.service.listeners` for the way in and `mta.service.outgoing` for the
way out: every port of the other packages (clock, chance, disk, threads, connections, names) gets the real thing here.
The parts ask `Worker.current` at each use, and a reload swaps what it returns; what they took at the start stays (see
`mta.service.fixed`).

Order of the start: spool (its lock says that nobody else runs), staging, relay, then the sockets.

Order of the stop, and how long each step may take; what hangs is left behind and named:

===============================================================  ==================================================
sockets are closed                                               at once
sessions end their transactions, deliveries their attempts       `GRACE_SECONDS` for both, then they are cut off
what was cut off tells its end; then idle connections say QUIT,  `END_SECONDS` for each of these
Maildirs, spool and threads come to rest
===============================================================  ==================================================
"""

from __future__ import annotations

import grp
import os
import pwd
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import SystemRandom
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from mta.auth.checker import Checker
from mta.disk.port import Disk
from mta.disk.posix import PosixDisk
from mta.mail.reason import Reason
from mta.mailauth.signing import Signers
from mta.mailauth.verification import Verifier
from mta.maildir.store import MaildirStore, Ownership
from mta.net.peer import network_of
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.policy.built_in import Ports, Remembered
from mta.policy.caps import Caps, CapsMemory
from mta.policy.port import Policy
from mta.policy.rate import Rate
from mta.receive.commit import Commit
from mta.receive.reception import Reception
from mta.service.ahead import Ahead
from mta.service.certificates import CertificateWatch
from mta.service.clock import within
from mta.service.control import Command
from mta.service.listeners import Listeners, Tls
from mta.service.measures import Measures
from mta.service.operator.accounts import AccountCommands
from mta.service.operator.explain import ExplainCommands
from mta.service.operator.history import HistoryCommands
from mta.service.operator.metrics import MetricsCommands, QueueSight
from mta.service.operator.queue import QueueCommands
from mta.service.operator.queue_acts import QueueActs
from mta.service.outgoing import Outgoing
from mta.service.policies import Policies
from mta.service.pools import Pools
from mta.service.rehearsal import Rehearsals
from mta.service.seat import Seat
from mta.service.sockets import Listening
from mta.settings.sections import MaildirSettings, Settings
from mta.spool.reserve import Reserve
from mta.spool.spools import Spools

GRACE_SECONDS = 10.0
"""How long a stop waits for transactions and deliveries under way before their connections are cut off."""
END_SECONDS = 4.0
"""How long it waits for each of the eight steps that follow: all in all well below systemd's ``TimeoutStopSec=60``."""


class Worker:
    """One worker. `start` raises what keeps it from starting: `SpoolInUse`, OSError, sqlite3.Error, SettingsRefused."""

    def __init__(self, seat: Seat, settings: Settings, reactor: Any, journal: Journal, pools: Pools) -> None:
        self.number = seat.number
        self._seat = seat
        self._settings = settings
        self._reactor = reactor
        self._journal = journal
        self._pools = pools
        self._board = seat.board
        self._chance = SystemRandom()
        self._disk: Disk = PosixDisk()
        self._measures = Measures(str(seat.number), journal, reactor)
        self._policies: Policies
        self.commands: Mapping[str, Command] = {}
        """What the operator may ask of this worker once it has started. Made once: some keep what they saw last."""
        self._listeners = Listeners(self.current, self._measures.replied, seat.board, journal, reactor)
        self._certificates = CertificateWatch(lambda: self.current().tls, self._listeners.tls.reload, journal, reactor)

    def current(self) -> Settings:
        """The settings that hold now."""
        return self._settings

    # Start

    def start(self, listening: Sequence[Listening]) -> None:
        """Open everything, and listen on `listening` last."""
        settings, reactor, journal, pools = self._settings, self._reactor, self._journal, self._pools
        self._spool = Spools(
            f"{settings.state}/spool",
            self._disk,
            pools.commits,
            journal,
            reactor.seconds,
            settings.queue.longest_retry,
            settings.spool.inline_maximum,
            self.number,
            self._seat.workers,
            pools.large,
            self._measures.timed("spool"),
        )
        self._spool.open()
        staging = self._open_staging()
        self._store = MaildirStore(
            self._disk,
            _ownership(settings.maildir),
            run_in_thread=pools.commits,
            run_large=pools.large,
            clock=reactor,
            journal=journal,
            timed=self._measures.timed("maildir"),
        )
        self._outgoing = Outgoing(
            self.current,
            lambda: self._policies.chain,
            self._spool,
            self._store,
            self._board,
            self._chance,
            journal,
            reactor,
        )
        self._policies = self._build_policies()
        reserve = Reserve(
            self._disk,
            settings.state,
            settings.spool.reserve,
            settings.spool.reserve_inodes,
            reactor.seconds,
            journal,
        )
        relay = self._outgoing.queue
        commit = Commit(self._store, self._spool, self._disk, relay.starts_at_once, relay.hand_over, journal)
        self._reception = Reception(
            self.current,
            commit,
            Checker(
                self.current,
                reactor,
                pools.passwords,
                network_of,
                journal,
                secrets.token_bytes(32),
                self._board,
            ),
            journal,
            self._disk,
            self._chance,
            self._outgoing.destination,
            lambda: self._spool.shard,
            reserve,
            Rate(self._board.table("networks"), reactor.seconds),
            staging,
            reactor,
            lambda: self._policies.chain,
            self._verifier().session,
            Signers(lambda: self.current().directory, lambda: self.current().dkim, journal.wall),
            self._build_caps(),
        )
        self._explain = self._explaining(commit)
        self.commands = self._make_commands()
        relay.start()
        self._policies.use(self._policies.prepare(settings))
        self._measures.lag.start()
        self._listeners.listen(listening, self._reception)
        self._certificates.start()

    def _open_staging(self) -> str:
        """Make the directory of staged content, and remove what a crash left there: nobody was promised it."""
        path = f"{self._settings.state}/staging/{self.number}"
        self._disk.make_directories(path)
        for name in self._disk.list(path):
            self._disk.unlink(f"{path}/{name}")
        return path

    def _build_policies(self) -> Policies:
        directory = f"{self._settings.state}/policy"
        self._disk.make_directories(directory)
        ports = Ports(self._reactor, self._outgoing.resolver, self._pools.large, self._outgoing.own)
        remembered = Remembered(
            f"{directory}/greylist-{self.number}.sqlite",
            self._board,
            self._reactor,
            self._journal.wall,
            self._pools.large,
            self._journal,
            self._seat.spread,
        )
        self._remembered = remembered
        return Policies(self._reactor, ports, remembered, self._journal)

    def _build_caps(self) -> Caps:
        directory = f"{self._settings.state}/policy"
        memory = self._caps = CapsMemory(
            directory, self.number, self._reactor, self._pools.large, self._journal, self._seat.spread
        )
        memory.start()
        return Caps(
            lambda: self.current().smtpd.caps,
            memory.counts,
            memory.correspondents,
            self._reactor,
            self._journal,
            self._board.table("caps"),
        )

    def _verifier(self) -> Verifier:
        hostname = self._settings.hostname
        resolver, wall = self._outgoing.resolver, self._journal.wall
        return Verifier(resolver, self._reactor, wall, hostname, lambda: self.current().mailauth)

    def _explaining(self, commit: Commit) -> ExplainCommands:
        out = self._outgoing
        return ExplainCommands(
            self.current,
            Rehearsals(self._reception, commit, partial(self._listeners.new_session, lambda code: None), self._reactor),
            Ahead(
                self.current,
                out.local,
                out.router,
                lambda: self._policies.chain,
                out.bouncer,
                self._journal.wall,
            ),
            self._spool,
            self._listeners.admission.open_now,
            out.queue.load,
        )

    # Reload

    def prepare(self, settings: Settings) -> Sequence[Policy]:
        """Find what `load` could not: a certificate, a policy that cannot be used. Raises SettingsRefused.

        Returns the policies for `reload`.
        """
        Tls(settings.tls)
        return self._policies.prepare(settings)

    def reload(self, settings: Settings, policies: Sequence[Policy]) -> None:
        """Use `settings` from now on. Sessions go on; what they ask for next they find in the new settings."""
        self._listeners.tls.reload(settings.tls)
        self._policies.use(policies)
        self._settings = settings

    # The operator

    def _make_commands(self) -> Mapping[str, Command]:
        queue = QueueCommands(self._spool, self._pools.large)
        acts = QueueActs(self._spool, self._outgoing.queue, self._journal, self._pools.large)
        metrics = self._metrics_commands()
        return {
            "learn": self._learn,
            "history-flush": HistoryCommands(self._journal).flush,
            "explain": self._explain.explain,
            "queue-summary": queue.summary,
            "queue-count": queue.count,
            "queue-list": queue.page,
            "queue-show": queue.show,
            "queue-act": acts.act,
            **self._account_commands(),
            "metrics": metrics.metrics,
            "top": metrics.top,
        }

    def _learn(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Learn what another worker remembers; the parent passes it on."""
        memories = (self._remembered.greylist, self._caps.counts, self._caps.correspondents)
        for memory in memories:
            if memory.name == request["memory"]:
                memory.learn(request["rows"])
        return {}

    def _account_commands(self) -> Mapping[str, Command]:
        accounts = AccountCommands(
            lambda: self.current().directory,
            self._listeners.end,
            self._spool,
            self._outgoing.queue.look,
            self._pools.large,
            self._journal,
        )
        return {"account-disable": accounts.disable, "account-enable": accounts.enable}

    def _metrics_commands(self) -> MetricsCommands:
        return MetricsCommands(
            str(self.number),
            self._measures,
            QueueSight(lambda: self._spool.paths, self._pools.large, self._reactor.seconds),
            self._spool,
            self._listeners.sessions,
            self.current,
            self._disk,
            self._journal.wall,
        )

    # Stop

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Stop in order, see above; what is not committed by then was never acknowledged. Never fails."""
        self._measures.lag.stop()
        self._certificates.stop()
        out = self._outgoing
        await self._listeners.close()
        sessions = self._listeners.stop()
        deliveries = defer.ensureDeferred(out.queue.stop())
        if not await within(self._reactor, grace, defer.DeferredList([sessions, deliveries])):
            self._listeners.abort()
            out.remote.abort()
        steps: dict[str, Callable[[], defer.Deferred[Any]]] = {
            "sessions": lambda: sessions,
            "deliveries": lambda: deliveries,
            "idle connections": out.remote.stop,
            "policies": lambda: defer.ensureDeferred(self._policies.stop()),
            "caps": lambda: defer.ensureDeferred(self._caps.stop()),
            "Maildirs": self._store.idle,
            "spool": self._spool.close,
            "threads": self._pools.stop,
        }
        late = []
        for name, end in steps.items():
            ended = defer.maybeDeferred(end).addErrback(self._fault, name)
            if not await within(self._reactor, END_SECONDS, ended):
                late.append(name)
        reason = Reason(f"not ended in time: {', '.join(late)}", "stop") if late else None
        self._journal.note(Kind.SERVICE_STOPPED, reason, level=Level.WARNING if late else Level.NOTICE)

    def _fault(self, failure: Failure, step: str) -> None:
        assert failure.value is not None, "a Failure holds an exception"
        self._journal.fault(f"stop of {step}", failure.value)


def _ownership(maildir: MaildirSettings) -> Ownership:
    uid = pwd.getpwnam(maildir.owner).pw_uid if maildir.owner else os.getuid()
    gid = grp.getgrnam(maildir.group).gr_gid if maildir.group else -1
    return Ownership(uid, gid, maildir.mode, maildir.directory_mode)

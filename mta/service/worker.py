"""A worker: the whole path of mail in one process – mx, smtpd, relay, and one spool shard.

It is put together from `Settings` here and nowhere else: every port of the other packages (clock, chance, disk,
threads, connections, names) gets the real thing from this module. The parts ask `Worker.current` at each use, and a
reload swaps what it returns; what they took at the start stays (see `mta.service.fixed`).

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
import ipaddress
import os
import pwd
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import SystemRandom
from typing import Any

from twisted.internet import defer, endpoints, interfaces
from twisted.python.failure import Failure

from mta.auth.checker import Checker
from mta.disk.port import Disk
from mta.disk.posix import PosixDisk
from mta.dns.cache import Cache, CacheLimits
from mta.dns.resolver import StubResolver
from mta.dns.routing import Own, Router, RoutingLimits, destination
from mta.dns.transport import Transport
from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.mailauth.signing import Signers
from mta.mailauth.verification import Verifier
from mta.maildir.store import MaildirStore, Ownership
from mta.net.admission import Admission, Bounds
from mta.net.local import LocalServerFactory, adopt
from mta.net.peer import Peer, network_of
from mta.net.server import SMTPServerFactory
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.policy.built_in import Ports, Remembered
from mta.policy.caps import Caps, CapsMemory
from mta.policy.port import Policy
from mta.policy.rate import Rate
from mta.receive.commit import Commit
from mta.receive.local import Local
from mta.receive.mx import Mx
from mta.receive.reception import Reception, ServiceRules
from mta.receive.session import ReceivingSession
from mta.receive.smtpd import Smtpd
from mta.relay.bounce import Bouncer
from mta.relay.local import LocalDelivery
from mta.relay.policed import PolicedDelivery
from mta.relay.port import Delivery
from mta.relay.queue import RelayQueue
from mta.relay.remote import RemoteDelivery
from mta.relay.withheld import WithheldDelivery
from mta.service.ahead import Ahead
from mta.service.certificates import CertificateWatch
from mta.service.clock import within
from mta.service.control import Command
from mta.service.measures import Measures
from mta.service.names import name_servers
from mta.service.operator.accounts import AccountCommands
from mta.service.operator.explain import ExplainCommands
from mta.service.operator.history import HistoryCommands
from mta.service.operator.metrics import MetricsCommands, QueueSight
from mta.service.operator.queue import QueueCommands
from mta.service.operator.queue_acts import QueueActs
from mta.service.policies import Policies
from mta.service.pools import Pools
from mta.service.rehearsal import Rehearsals
from mta.service.seat import Seat
from mta.service.sockets import Listening
from mta.settings.expansion import Addressed, look_up
from mta.settings.sections import MaildirSettings, MxSettings, Settings, TlsSettings
from mta.settings.values import Endpoint
from mta.smtp.address import Mailbox
from mta.smtp.extension import Offer
from mta.smtp.server import ServerSession
from mta.spool.reserve import Reserve
from mta.spool.spools import Spools
from mta.tls.context import ClientContexts, ServerContexts, describe

GRACE_SECONDS = 10.0
"""How long a stop waits for transactions and deliveries under way before their connections are cut off."""
END_SECONDS = 4.0
"""How long it waits for each of the eight steps that follow: all in all well below systemd's ``TimeoutStopSec=60``."""

_NO_TIMEOUT = 3600.0
"""Seconds; the deadline of a connection is the relay's, this one never comes first."""


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
        self._ports: list[Any] = []
        self._factories: list[SMTPServerFactory] = []
        self._certificates = CertificateWatch(
            lambda: self.current().tls, lambda tls: self._tls.reload(tls), journal, reactor
        )
        self._tls = _Tls(settings.tls)
        self._measures = Measures(str(seat.number), journal, reactor)

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
        self._build_relay()
        self._policies = self._build_policies()
        reserve = Reserve(
            self._disk,
            settings.state,
            settings.spool.reserve,
            settings.spool.reserve_inodes,
            reactor.seconds,
            journal,
        )
        commit = Commit(self._store, self._spool, self._relay.starts_at_once, self._relay.hand_over, journal)
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
            self._destination,
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
        self._relay.start()
        self._policies.use(self._policies.prepare(settings))
        self._measures.lag.start()
        self._listen(listening)
        self._certificates.start()

    def _open_staging(self) -> str:
        """Make the directory of staged content, and remove what a crash left there: nobody was promised it."""
        path = f"{self._settings.state}/staging/{self.number}"
        self._disk.make_directories(path)
        for name in self._disk.list(path):
            self._disk.unlink(f"{path}/{name}")
        return path

    def _build_relay(self) -> None:
        settings, reactor, journal, chance = self._settings, self._reactor, self._journal, self._chance
        dns = settings.dns
        transport = Transport(reactor, reactor, name_servers(dns), chance, dns.timeout, dns.tries)
        self._resolver = StubResolver(transport, Cache(reactor.seconds, CacheLimits(entries=dns.cache_names)))
        self._own = Own(frozenset({settings.hostname.lower()}), _own_addresses(settings.mx))
        self._remote = RemoteDelivery(
            lambda key: self._router().route(key),
            self._endpoint,
            ClientContexts(),
            settings.hostname,
            lambda: self.current().relay,
            journal,
            reactor,
        )
        self._bouncer = Bouncer(
            settings.hostname,
            lambda: self._spool.shard,
            chance,
            self._address,
            lambda: self.current().queue.lifetime,
        )
        self._local = LocalDelivery(self._store, lambda: self.current().directory, self._pools.large)
        self._relay = RelayQueue(
            self._spool,
            self._policed(self._local),
            self._policed(self._remote),
            self._bouncer,
            lambda: self.current().queue,
            settings.relay.connections_per_destination,
            journal,
            reactor,
            chance,
            self._board,
        )

    def _policed(self, delivery: Delivery) -> Delivery:
        policed = PolicedDelivery(delivery, lambda: self._policies.chain, self._journal)
        return WithheldDelivery(policed, lambda login: self.current().directory.withheld(login))

    def _build_policies(self) -> Policies:
        directory = f"{self._settings.state}/policy"
        self._disk.make_directories(directory)
        ports = Ports(self._reactor, self._resolver, self._pools.large, self._own)
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
        return Verifier(self._resolver, self._reactor, self._journal.wall, hostname, lambda: self.current().mailauth)

    def _router(self) -> Router:
        settings = self.current()
        limits = RoutingLimits(allow_loopback=settings.dns.allow_loopback)
        return Router(self._resolver, self._own, settings.relay, self._chance, limits)

    def _endpoint(self, address: str, port: int) -> interfaces.IStreamClientEndpoint:
        # By family, since an address needs no look-up, for which Twisted would take a thread.
        kind = endpoints.TCP6ClientEndpoint if ":" in address else endpoints.TCP4ClientEndpoint
        return kind(self._reactor, address, port, _NO_TIMEOUT)

    def _destination(self, mailbox: Mailbox) -> str:
        return destination(mailbox, self.current().relay)

    def _address(self, mailbox: Mailbox) -> tuple[Addressed, ...]:
        return look_up(self.current().directory, mailbox, self._destination)[1]

    def _explaining(self, commit: Commit) -> ExplainCommands:
        return ExplainCommands(
            self.current,
            Rehearsals(self._reception, commit, partial(self._new_session, lambda code: None), self._reactor),
            Ahead(
                self.current,
                self._local,
                self._router,
                lambda: self._policies.chain,
                self._bouncer,
                self._journal.wall,
            ),
            self._spool,
            lambda service, address: self._admission.open_now(service, address),
            self._relay.load,
        )

    def _listen(self, listening: Sequence[Listening]) -> None:
        backlog = self._settings.connections.backlog
        self._admission = admission = Admission(self._bounds, self._board)
        rules: dict[str, ServiceRules] = {
            "mx": Mx(self._reception),
            "smtpd": Smtpd(self._reception),
            "local": Local(self._reception),
        }
        for each in listening:
            kind = LocalServerFactory if each.service == "local" else SMTPServerFactory
            factory = kind(
                each.service,
                self._reactor,
                self._journal,
                admission,
                partial(self._new_session, self._measures.replied(each.service)),
                self._reception.new_id,
                _opener(self._reception, rules[each.service]),
                self._tls,
                each.implicit_tls,
            )
            self._factories.append(factory)
            each.socket.setblocking(False)
            if isinstance(factory, LocalServerFactory):
                port: Any = adopt(self._reactor, each.socket, factory)
            else:
                port = self._reactor.adoptStreamPort(each.socket.fileno(), each.socket.family, factory)
            # Twisted takes one connection a turn by default: a burst would wait behind everything else.
            port.numberAccepts = min(backlog, 100)
            self._ports.append(port)
            self._journal.note(
                Kind.SERVICE_STARTED, level=Level.NOTICE, service=each.service, listen=each.name, tls=each.implicit_tls
            )

    def _new_session(self, replied: Callable[[int], None]) -> ServerSession:
        settings = self.current()
        return ServerSession(settings.hostname, Offer(), settings.limits, replied)

    def _bounds(self, service: str) -> Bounds:
        settings = self.current()
        connections = settings.connections
        kept = connections.smtpd_share if service == "mx" and settings.smtpd.enabled else 0
        return Bounds(connections.total, round(connections.total * (1 - kept)), connections.per_network)

    # Reload

    def prepare(self, settings: Settings) -> Sequence[Policy]:
        """Find what `load` could not: a certificate, a policy that cannot be used. Raises SettingsRefused.

        Returns the policies for `reload`.
        """
        _Tls(settings.tls)
        return self._policies.prepare(settings)

    def reload(self, settings: Settings, policies: Sequence[Policy]) -> None:
        """Use `settings` from now on. Sessions go on; what they ask for next they find in the new settings."""
        self._tls.reload(settings.tls)
        self._policies.use(policies)
        self._settings = settings

    # The operator

    def commands(self) -> Mapping[str, Command]:
        """What the operator may ask of this worker."""
        queue = QueueCommands(self._spool, self._pools.large)
        acts = QueueActs(self._spool, self._relay, self._journal, self._pools.large)
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
            lambda login: sum(factory.end(login) for factory in self._factories),
            self._spool,
            self._relay.look,
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
            self._sessions,
            self.current,
            self._disk,
            self._journal.wall,
        )

    def _sessions(self) -> dict[str, int]:
        open_now: dict[str, int] = {}
        for factory in self._factories:
            open_now[factory.name] = open_now.get(factory.name, 0) + len(factory.sessions)
        return open_now

    # Stop

    async def stop(self) -> None:
        """Stop in order, see above; what is not committed by then was never acknowledged. Never fails."""
        self._measures.lag.stop()
        self._certificates.stop()
        for port in self._ports:
            await defer.maybeDeferred(port.stopListening)
        sessions: defer.Deferred[Any] = defer.DeferredList([factory.stop() for factory in self._factories])
        deliveries = defer.ensureDeferred(self._relay.stop())
        if not await within(self._reactor, GRACE_SECONDS, defer.DeferredList([sessions, deliveries])):
            for factory in self._factories:
                factory.abort()
            self._remote.abort()
        steps: dict[str, Callable[[], defer.Deferred[Any]]] = {
            "sessions": lambda: sessions,
            "deliveries": lambda: deliveries,
            "idle connections": self._remote.stop,
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


class _Tls:
    """TLS of our services, where there is a certificate."""

    def __init__(self, settings: TlsSettings) -> None:
        self.reload(settings)

    def reload(self, settings: TlsSettings) -> None:
        self._contexts = ServerContexts(settings) if settings.certificate else None

    def context(self) -> Any:
        assert self._contexts is not None, "STARTTLS is not offered without a certificate"
        return self._contexts.context()

    def describe(self, transport: Any) -> TlsInfo:
        return describe(transport)


def _opener(reception: Reception, rules: ServiceRules) -> Callable[[Peer, ServerSession], ReceivingSession]:
    return lambda peer, session: ReceivingSession(reception, rules, peer, session)


def _ownership(maildir: MaildirSettings) -> Ownership:
    uid = pwd.getpwnam(maildir.owner).pw_uid if maildir.owner else os.getuid()
    gid = grp.getgrnam(maildir.group).gr_gid if maildir.group else -1
    return Ownership(uid, gid, maildir.mode, maildir.directory_mode)


def _own_addresses(mx: MxSettings) -> frozenset[str]:
    """The addresses that an MX record may name and that are this server: those that mx is told to listen on.

    Not wildcards, which say nothing, and not loopback, which in a closed network is somebody else's too.
    """
    hosts = [listen.host for listen in mx.listen if isinstance(listen, Endpoint)]
    parsed = [ipaddress.ip_address(host) for host in hosts if host.replace(".", "").isdigit() or ":" in host]
    return frozenset(str(address) for address in parsed if not address.is_unspecified and not address.is_loopback)

"""A reception with everything around it in memory: sessions of mx and smtpd, Maildirs, a spool, a clock.

The domain is example.test with alice (the postmaster), bob, and the aliases that `ALIASES` gives them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from twisted.internet import defer, task

from mta.auth.checker import Checker
from mta.auth.verifier import make_scram_verifier
from mta.board.alone import Alone, OwnTable
from mta.mail.tlsinfo import TlsInfo
from mta.mailauth.signing import Signers
from mta.mailauth.verification import SessionCheck
from mta.maildir.store import MaildirStore, Ownership
from mta.net.peer import Peer, network_of
from mta.net.server import NO_ANSWER_IN_TIME
from mta.policy.chain import Chain
from mta.policy.rate import Rate
from mta.receive.commit import Commit
from mta.receive.mx import Mx
from mta.receive.reception import Reception, ServiceRules
from mta.receive.session import ReceivingSession
from mta.receive.smtpd import Smtpd
from mta.settings.reader import load
from mta.settings.sections import Settings
from mta.smtp.event import AWAITING_REPLY, NEED_DATA
from mta.smtp.extension import Offer
from mta.smtp.reply import Reply
from mta.smtp.server import ServerSession
from mta.spool.content import Contents
from mta.spool.port import Message
from mta.spool.reserve import Reserve
from tests.doubles.dialogue import codes
from tests.doubles.disk import FaultyDisk, SimulatedDisk
from tests.doubles.etc import write_etc
from tests.doubles.journal import RecordingJournal
from tests.doubles.spool import ModelSpool
from tests.doubles.sync import inline

TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
PASSWORD = "correct horse"  # of alice
ALIASES = """\
postmaster: alice
team: alice, bob
sales: alice
outside: someone@example.net
both: bob, someone@example.net
"""
SPOOL = "/state/spool/0"
RESERVE = 1_000_000
"""Octets kept free of the volume."""
TOML = """\
hostname = "mx.example.test"
state = "/state"
mail = "/mail"
[tls]
certificate = "certificate.pem"
"""


def etc(root: Path, toml: str = TOML, aliases: str = ALIASES, extra: Mapping[str, str] | None = None) -> Settings:
    """Write and load the configuration."""
    (root / "certificate.pem").write_text("")
    users = f"alice:{make_scram_verifier(PASSWORD, 4096, b'salt')}::::::\nbob:!::::::\n"
    domain = {"users": users, "aliases": aliases, **(extra or {})}
    return load(write_etc(root, toml, {"example.test": domain}))


class Post:
    """A reception and what it works with; `session` opens sessions."""

    def __init__(self, settings: Settings, disk: SimulatedDisk | None = None) -> None:
        self.clock = task.Clock()
        self.clock.advance(1_700_000_000)
        self.journal = RecordingJournal(self.clock.seconds)
        self.simulated = disk or SimulatedDisk(["/state/staging", "/mail"])
        self.disk = FaultyDisk(self.simulated)
        self.spool = ModelSpool(contents=Contents(self.disk, SPOOL))
        self.handed: list[Message] = []
        self.reserve = Reserve(self.disk, "/state", RESERVE, 10, self.clock.seconds, self.journal)
        self.store = MaildirStore(
            self.disk,
            Ownership(self.simulated.uid),
            run_in_thread=inline,
            clock=self.clock,
            journal=self.journal,
        )
        checker = Checker(lambda: self.settings, self.clock, inline, network_of, self.journal, bytes(32), Alone())
        self.settings = settings
        self.chain = Chain()
        self.checks: Callable[[str], SessionCheck | None] = lambda address: None
        self.reception = Reception(
            lambda: self.settings,
            Commit(self.store, self.spool, self.disk, lambda destinations: True, self.handed.append, self.journal),
            checker,
            self.journal,
            self.disk,
            random.Random(5),
            lambda mailbox: mailbox.domain,
            lambda: 0,
            self.reserve,
            Rate(OwnTable(), self.clock.seconds),
            "/state/staging",
            self.clock,
            lambda: self.chain,
            lambda address: self.checks(address),
            Signers(lambda: self.settings.directory, lambda: self.settings.dkim, self.journal.wall),
        )

    def session(self, service: str = "mx", tls: bool = False, address: str = "192.0.2.7", hello: bool = True) -> Talk:
        """Open a session of ``mx`` or ``smtpd``, after EHLO unless told otherwise."""
        rules: ServiceRules = Mx(self.reception) if service == "mx" else Smtpd(self.reception)
        return Talk(self, rules, tls, address, hello)

    def maildir(self, user: str) -> list[bytes]:
        """The messages in the Maildir of a user of example.test."""
        return list(self.simulated.files(f"/mail/example.test/{user}/Maildir/new").values())


class Talk:
    """One session, driven as `mta.net.server` does."""

    def __init__(
        self, post: Post, rules: ServiceRules, tls: bool, address: str, hello: bool, uid: int | None = None
    ) -> None:
        self.post = post
        self.core = ServerSession("mx.example.test", Offer(), post.reception.settings.limits)
        self.peer = Peer("session1", address, 4321, uid=uid)
        self.session = ReceivingSession(post.reception, rules, self.peer, self.core)
        self.waiting: defer.Deferred[Reply] | None = None
        if tls:
            self.peer.tls = TLS
            self.core.tls_started()
            self.session.secured(TLS, None)
        self.greeting = self._run()
        if hello:
            self.send(b"EHLO client.example.org\r\n")

    def send(self, octets: bytes) -> bytes:
        """Bring octets; return what is written by now."""
        self.core.receive(octets)
        return self._run()

    def codes(self, octets: bytes) -> list[str]:
        """Bring octets; return the codes that are written by now."""
        return codes(self.send(octets))

    def _run(self) -> bytes:
        while self.waiting is None:
            event = self.core.next_event()
            if event is NEED_DATA or event is AWAITING_REPLY:
                break
            answer = self.session.answer(event)
            if isinstance(answer, defer.Deferred):
                self.waiting = answer
                answer.addCallback(self._answered, answer)  # at once, or in a later `more`
            elif answer is not None:
                self.core.reply(answer)
        return self.core.output()

    def _answered(self, answer: Reply, waiting: defer.Deferred[Reply]) -> None:
        if self.waiting is waiting:
            self.waiting = None
            self.core.reply(answer)

    def give_up(self) -> bytes:
        """Reply 451 in place of rules that take too long; return what is written."""
        self.waiting = None
        self.core.reply(NO_ANSWER_IN_TIME)
        return self._run()

    def more(self) -> bytes:
        """Go on after an answer that came late; return what is written."""
        return self._run()

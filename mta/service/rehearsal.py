"""One rehearsed session, from both sides: a client in memory, and what is heard of the server's answer to it.

The server's side is the real one, from the first octet: `SMTPServerProtocol`, `ServerSession`, `ReceivingSession`. What
it works with instead of the world is in `mta.receive.rehearsal`. The client says what any client would, one command
after the other, and stops where it would:

==========================  =================================================================
after                       the client goes on
==========================  =================================================================
a refused greeting or EHLO  no more
EHLO                        with STARTTLS where that is offered, unless told otherwise
a refused login, MAIL       no more
RCPT                        with the next; with DATA where one was accepted
==========================  =================================================================

TLS is believed, not spoken: what the session learns of it is version and cipher of a modern client.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import defer, interfaces
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from mta.board.alone import Alone
from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.mailauth.result import Authentication, summary
from mta.mailauth.verification import SessionCheck
from mta.maildir.store import Delivery
from mta.net.admission import Admission, Bounds
from mta.net.peer import Peer
from mta.net.server import SMTPServerFactory
from mta.observe.event import Event, Kind
from mta.observe.journal import Journal
from mta.policy import verdict_json
from mta.policy.chain import Ruling
from mta.policy.facts import Facts
from mta.receive.commit import Accepted, Commit
from mta.receive.decision import Decision
from mta.receive.mx import Mx
from mta.receive.reception import Reception, ServiceRules
from mta.receive.rehearsal import Counting, RehearsedRules, rehearsed
from mta.receive.session import ReceivingSession
from mta.receive.smtpd import Smtpd
from mta.settings.directory import Branch, Local, NotLocal, Resolution
from mta.smtp.address import Mailbox
from mta.smtp.server import ServerSession
from mta.spool.port import Message

TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
PIECE = 64 * 1024
"""Octets of the content that the client sends at once, as a reactor reads them."""

_MANY = Bounds(1 << 30, 1 << 30, 1 << 30)
_REFUSALS = {
    Kind.SESSION_REFUSED,
    Kind.COMMAND_REFUSED,
    Kind.LOGIN_REFUSED,
    Kind.SENDER_REFUSED,
    Kind.RECIPIENT_REFUSED,
    Kind.MESSAGE_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Letter:
    """What the client brings."""

    service: str
    """``mx`` or ``smtpd``."""
    address: str
    """The client's IP address."""
    helo: str
    sender: str
    """Between the angle brackets of MAIL; empty for ``<>``."""
    recipients: tuple[str, ...]
    content: bytes
    """As the client sends it, without dot-stuffing; it should end with CRLF."""
    login: str = ""
    tls: bool | None = None
    """Whether the client wants TLS; None: where it is offered."""
    sized: bool = True
    """Whether the client declares the size."""


@dataclass(slots=True)
class Step:
    """One command, its reply, and who was asked about it, in order."""

    stage: str
    command: str
    reply: str = ""
    """As it was sent; lines end with CRLF."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    decided: dict[str, str] = field(default_factory=dict)
    tree: dict[str, Any] | None = None

    @property
    def code(self) -> int:
        """The reply code; 0 where the connection ended without a reply."""
        return int(self.reply[:3] or "0")

    def told(self) -> dict[str, Any]:
        """What goes into the answer."""
        told: dict[str, Any] = {"stage": self.stage, "command": self.command, "reply": self.reply}
        told |= {"asked": self.asked, "unasked": self.unasked, "decided": self.decided}
        return told | ({"tree": self.tree} if self.tree is not None else {})


class Record:
    """The witness of a rehearsal (`mta.receive.rehearsal.Witness`): what was decided, step by step."""

    def __init__(self, service: str) -> None:
        self.steps: list[Step] = []
        self.checks: dict[str, Any] = {}
        self.where: Delivery | Message | None = None
        self.accepted: Accepted | None = None
        self.discarded: Reason | None = None
        self._service = service
        self._check: SessionCheck | None = None

    def begin(self, stage: str, command: str) -> Step:
        """A command is sent: what is heard from now on is about it."""
        self.steps.append(Step(stage, command))
        return self.steps[-1]

    # What is heard

    def asked(self, facts: Facts, ruling: Ruling, unasked: tuple[str, ...]) -> None:
        """See `Witness`."""
        self.steps[-1].asked += heard(ruling)
        self.steps[-1].unasked += unasked

    def decided(self, decision: Decision) -> None:
        """See `Witness`."""
        self._hear(self._service, "pass" if decision.reply.positive else "refuse", decision.reason)

    def resolved(self, named: Mailbox, resolution: Resolution) -> None:
        """See `Witness`."""
        reasons = resolution.reasons if isinstance(resolution, Local) else (resolution.reason,)
        self._hear(self._service, "pass", reasons[0])
        if isinstance(resolution, Local):
            self.steps[-1].tree = None if resolution.tree is None else branch(resolution.tree)
        elif isinstance(resolution, NotLocal):
            self.steps[-1].tree = {"name": str(named), "source": "", "below": []}

    def checked(self, check: SessionCheck) -> None:
        """See `Witness`."""
        self._check = check

    def committed(self, accepted: Accepted, where: Delivery | Message) -> None:
        """See `Witness`."""
        self.accepted, self.where = accepted, where

    def noted(self, event: Event) -> None:
        """See `Witness`."""
        step, reason = self.steps[-1], event.reason
        if event.kind is Kind.MESSAGE_CHECKED:
            assert reason is not None
            self._hear("mailauth", str(event.fields["disposition"]), reason)
            known = ("iprev", "helo", "spf", "dkim", "dmarc", "arc", "notes")
            self.checks |= {name: event.fields[name] for name in known if name in event.fields}
        elif event.kind is Kind.FAULT:
            self._hear("mta", "a bug", reason or Reason("unknown"))
        elif event.kind in _REFUSALS:
            self._refused(step, reason or Reason(str(event.fields.get("reply", "")), "mta.smtp"))
        elif event.kind is Kind.MESSAGE_DISCARDED and reason is not None:
            self.discarded = reason
            self._refused(step, reason)
        elif event.kind is Kind.MESSAGE_ACCEPTED and reason is not None:
            self._hear(self._service, "accept", reason)

    async def settle(self) -> None:
        """Learn what is still being checked of the peer."""
        if self._check is not None:
            await self._check.settled()
            self.checks = summary(Authentication(self._check.iprev, self._check.helo, self._check.spf)) | self.checks

    def _hear(self, rule: str, answer: str, reason: Reason) -> None:
        said = {"rule": rule, "answer": answer, "reason": reason.text, "source": reason.source}
        self.steps[-1].asked.append(said)

    def _refused(self, step: Step, reason: Reason) -> None:
        said = [each for each in step.asked if (each["reason"], each["source"]) == (reason.text, reason.source)]
        rule = said[-1]["rule"] if said else "protocol" if reason.source == "mta.smtp" else self._service
        step.decided = {"rule": rule, "reason": reason.text, "source": reason.source}

    def end(self, step: Step) -> None:
        """A reply is there: who has not refused has let it pass, and the last who spoke decided that."""
        spoke = [each for each in step.asked if each["answer"] not in ("no opinion", "tag", "delay")]
        if not step.decided and spoke:
            step.decided = {name: spoke[-1][name] for name in ("rule", "reason", "source")}


def heard(ruling: Ruling) -> Iterator[dict[str, Any]]:
    """What each policy answered, as JSON has it."""
    for each in ruling.said:
        written = verdict_json.write(each.verdict)
        word, reason, source = (str(written.pop(name)) for name in ("verdict", "reason", "source"))
        what = " ".join(str(value) for value in written.values() if value is not None)
        said = {"rule": each.policy, "answer": word.replace("_", " "), "reason": reason, "source": source}
        yield said | ({"what": what} if what else {})


def branch(tree: Branch) -> dict[str, Any]:
    """An alias as JSON has it."""
    return {"name": tree.name, "source": tree.source, "below": [branch(each) for each in tree.below]}


# The two sides


class _Tls:
    """TLS that is believed (`mta.net.rules.TlsServer`)."""

    def context(self) -> None:
        """There is nothing to agree upon."""

    def describe(self, transport: object) -> TlsInfo:
        """What a modern client would have."""
        return TLS


class _Wire:
    """The server's transport: what it writes goes to the client."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.waiting: defer.Deferred[None] | None = None

    def write(self, data: bytes) -> None:
        """Take what the server says."""
        self.written += data
        self._wake()

    def loseConnection(self) -> None:
        """The server ends the session."""
        self.closed = True
        self._wake()

    def abortConnection(self) -> None:
        """The server breaks it off."""
        self.loseConnection()

    def startTLS(self, context: object) -> None:
        """Nothing: the client says when the handshake is done."""

    def _wake(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            waiting.callback(None)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Nothing: the client always reads."""

    def unregisterProducer(self) -> None:
        """Nothing."""

    def pauseProducing(self) -> None:
        """Nothing: the client sends one command at a time."""

    def resumeProducing(self) -> None:
        """Nothing."""

    async def reply(self) -> str:
        """Wait for a whole reply; empty where the connection ends without one."""
        while not (_whole(self.written) or self.closed):
            self.waiting = defer.Deferred()
            await self.waiting
        said, self.written = self.written, b""
        return said.decode("ascii", "replace")


def _whole(octets: bytes) -> bool:
    last = octets.removesuffix(b"\r\n").rpartition(b"\r\n")[2]
    return octets.endswith(b"\r\n") and last[3:4] != b"-"


class Client:
    """Says what a letter asks for to a server, and has a record of the answers."""

    def __init__(self, server: Any, record: Record) -> None:
        self._server = server
        self._record = record
        self._wire = _Wire()

    async def bring(self, letter: Letter) -> None:
        """Bring a letter, as far as the server lets it come. Never more than one command at a time."""
        try:
            await self._bring(letter)
        finally:
            self._server.connectionLost(Failure(ConnectionDone()))  # type: ignore[no-untyped-call]

    async def _bring(self, letter: Letter) -> None:
        step = self._record.begin("connect", "")
        self._server.makeConnection(self._wire)
        if not await self._answered(step):
            return
        offered = await self._hello(letter)
        if offered is not None and await self._enter(letter, offered):
            await self._send(letter, offered)
        await self._record.settle()

    async def _hello(self, letter: Letter) -> set[str] | None:
        """Greet, under TLS where it is to be had; gives what is offered, None where the server does not want us."""
        offered = await self._ehlo(letter)
        if offered is None or letter.tls is False or not (letter.tls or "STARTTLS" in offered):
            return offered
        if not await self._say("starttls", b"STARTTLS"):
            return offered
        self._server.handshakeCompleted()
        return await self._ehlo(letter)

    async def _ehlo(self, letter: Letter) -> set[str] | None:
        if not await self._say("helo", b"EHLO " + letter.helo.encode()):
            return None
        lines = self._record.steps[-1].reply.splitlines()[1:]
        return {line[4:].partition(" ")[0].upper() for line in lines}

    async def _enter(self, letter: Letter, offered: set[str]) -> bool:
        """Log in where that is asked for, and say MAIL."""
        if letter.login:
            response = base64.b64encode(b"\0" + letter.login.encode() + b"\0the right one")
            if not await self._say("auth", b"AUTH PLAIN " + response, "AUTH PLAIN …"):
                return False
        command = f"MAIL FROM:<{letter.sender}>"
        if letter.sized and "SIZE" in offered:
            command += f" SIZE={len(letter.content)}"
        if not letter.content.isascii() and "8BITMIME" in offered:
            command += " BODY=8BITMIME"
        if not all(each.isascii() for each in (letter.sender, *letter.recipients)) and "SMTPUTF8" in offered:
            command += " SMTPUTF8"
        return await self._say("mail", command.encode())

    async def _send(self, letter: Letter, offered: set[str]) -> None:
        accepted = [await self._say("rcpt", f"RCPT TO:<{each}>".encode()) for each in letter.recipients]
        if not any(accepted) or not await self._say("data", b"DATA"):
            return
        step = self._record.begin("message", "")
        stuffed = letter.content.replace(b"\r\n.", b"\r\n..")
        stuffed = b"." + stuffed if stuffed.startswith(b".") else stuffed
        ended = stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"
        for start in range(0, len(ended), PIECE):
            self._server.dataReceived(ended[start : start + PIECE])
        self._server.dataReceived(b".\r\n")
        await self._answered(step)

    async def _say(self, stage: str, command: bytes, shown: str = "") -> bool:
        """Say a command; whether it is carried out. Nothing is said where the connection has ended."""
        if self._wire.closed:
            return False
        step = self._record.begin(stage, shown or command.decode("utf-8", "replace"))
        self._server.dataReceived(command + b"\r\n")
        return await self._answered(step)

    async def _answered(self, step: Step) -> bool:
        step.reply = await self._wire.reply()
        self._record.end(step)
        return 200 <= step.code < 400


class Rehearsals:
    """Makes rehearsals over the parts of a worker."""

    def __init__(
        self,
        reception: Reception,
        commit: Commit,
        new_session: Callable[[], ServerSession],
        clock: interfaces.IReactorTime,
    ) -> None:
        self._reception = reception
        self._commit = commit
        self._new_session = new_session
        self._clock = clock
        self._chance = Counting()

    async def rehearse(self, letter: Letter) -> Record:
        """Bring a letter to a session of its own; gives all that was heard of it."""
        record = Record(letter.service)
        reception = rehearsed(self._reception, self._commit, self._chance, record)
        services: Mapping[str, Callable[[Reception], ServiceRules]] = {"mx": Mx, "smtpd": Smtpd}
        rules = RehearsedRules(services[letter.service](reception), reception, record)

        def open_(peer: Peer, session: ServerSession) -> ReceivingSession:
            return ReceivingSession(reception, rules, peer, session)

        factory = SMTPServerFactory(
            letter.service,
            self._clock,
            Journal(self._reception.journal.wall, [record.noted]),
            Admission(lambda service: _MANY, Alone()),
            self._new_session,
            reception.new_id,
            open_,
            _Tls(),
        )
        record.begin("connect", "")
        server = factory.buildProtocol(IPv4Address("TCP", letter.address, 0))
        record.steps.clear()
        await Client(server, record).bring(letter)
        return record

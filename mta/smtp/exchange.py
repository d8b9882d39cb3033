"""What a client says to a server, one exchange at a time: opening, STARTTLS, AUTH, a transaction, QUIT (RFC 5321 §3).

An `Exchange` is pure: `start` it on a session, hand it each answer, and once `result` is not None it is over. If the
session ends first, `broken` makes the result of what is known by then. The driver does nothing but carry octets.

What a transaction makes of answers (§4.2.5, RFC 2920 §3.1):

=========================  ======================================================================================
answer                     what follows
=========================  ======================================================================================
MAIL 4yz, 5yz              holds for every recipient; what has not left is withdrawn
RCPT 4yz, 5yz              holds for this recipient
no RCPT accepted           DATA is withdrawn; where it has left and got 354, an empty content ends it
DATA 4yz, 5yz              holds for every accepted recipient
DATA 354                   the content
end of data                holds for every accepted recipient: 2yz is the instant at which the server is responsible
421 to any of them         holds for every recipient that has no answer yet
fault                      the same; behind a whole content the outcome is *unknown*
RCPT 2yz after MAIL 5yz    the server has lost the order: a fault
=========================  ======================================================================================
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mta.smtp import client
from mta.smtp.client import ClientSession, Command, Fault, Stage
from mta.smtp.reply_reader import ServerReply

T = TypeVar("T")

_COMMAND_LINE_MAXIMUM = 512
"""Octets with CRLF (RFC 5321 §4.5.3.1.4)."""


class Exchange(Generic[T]):
    """A part of a conversation; `result` is None until it is over."""

    result: T | None = None

    def start(self, session: ClientSession) -> None:
        """Say the first of it."""
        raise NotImplementedError

    def answered(self, session: ClientSession, command: Command, reply: ServerReply) -> None:
        """Take the reply to the oldest command without one."""
        raise NotImplementedError

    def broken(self, session: ClientSession, fault: Fault) -> None:
        """Take the end of the session."""
        raise NotImplementedError


class _Dialogue(Exchange[ServerReply | Fault]):
    """An exchange whose result is its last reply, or the fault that broke it."""

    def answered(self, session: ClientSession, command: Command, reply: ServerReply) -> None:
        """End with this reply."""
        self.result = reply

    def broken(self, session: ClientSession, fault: Fault) -> None:
        """End with the fault."""
        self.result = fault


class Opening(_Dialogue):
    """Greeting (unless TLS has just started) and EHLO, or HELO where EHLO is refused (RFC 5321 §3.1, §4.1.4)."""

    def __init__(self, name: str) -> None:
        self._name = name

    def start(self, session: ClientSession) -> None:
        """Say EHLO where no greeting is to come first."""
        if session.secure:
            session.send(client.ehlo(self._name))

    def answered(self, session: ClientSession, command: Command, reply: ServerReply) -> None:
        """Go from greeting to EHLO, from a refused EHLO to HELO."""
        if command.stage is Stage.GREETING and reply.positive:
            session.send(client.ehlo(self._name))
        elif command.stage is Stage.EHLO and reply.permanent:
            session.send(client.helo(self._name))
        else:
            self.result = reply


class StartTls(_Dialogue):
    """STARTTLS up to the answer that lets the handshake begin (RFC 3207 §4)."""

    def start(self, session: ClientSession) -> None:
        """Say STARTTLS."""
        session.send(client.STARTTLS)


class Quit(_Dialogue):
    """QUIT."""

    def start(self, session: ClientSession) -> None:
        """Say QUIT."""
        session.send(client.QUIT)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


class Authentication(_Dialogue):
    """AUTH by PLAIN (RFC 4616) or else LOGIN (draft-murchison-sasl-login), as the server offers.

    `mechanism` is None where it offers neither; then it must not be started.
    """

    def __init__(self, user: str, password: str, offered: Iterable[str]) -> None:
        plain = _base64(f"\0{user}\0{password}")
        ways = {"PLAIN": [plain], "LOGIN": [_base64(user), _base64(password)]}
        self.mechanism = next((name for name in ways if name in offered), None)
        self._responses = ways.get(self.mechanism or "", [])

    def start(self, session: ClientSession) -> None:
        """Say AUTH, with the initial response where it fits."""
        line = f"AUTH {self.mechanism}"
        # The initial response saves a round trip (RFC 4954 §4); LOGIN knows none, and a long one must come by itself
        if self.mechanism == "PLAIN" and len(line) + len(self._responses[0]) + 3 <= _COMMAND_LINE_MAXIMUM:
            line += f" {self._responses.pop(0)}"
        session.send(client.auth(line))

    def answered(self, session: ClientSession, command: Command, reply: ServerReply) -> None:
        """Answer a challenge, or cancel (``*``) where there is one too many."""
        if reply.intermediate:
            session.send(client.auth(self._responses.pop(0) if self._responses else "*"))
        else:
            self.result = reply


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """What a server said about one recipient: its answer at `stage`, or the fault in place of one."""

    stage: Stage
    answer: ServerReply | Fault
    unknown: bool = False
    """Whether the whole content was given out and nothing came back: the server may have the message."""

    @property
    def taken(self) -> bool:
        """Whether the server is responsible for the message now."""
        return self.stage is Stage.CONTENT and isinstance(self.answer, ServerReply) and self.answer.positive


class Transaction(Exchange[tuple[RecipientResult, ...]]):
    """MAIL, RCPT for each recipient, DATA, the content. The result has one for each RCPT, in order."""

    def __init__(self, mail: Command, recipients: Sequence[Command], chunks: Iterable[bytes]) -> None:
        self._mail = mail
        self._recipients = recipients
        self._chunks = chunks
        self._results: list[RecipientResult | None] = [None] * len(recipients)
        self._answered = 0
        self._accepted = 0
        self._mail_refused = False

    def start(self, session: ClientSession) -> None:
        """Say all up to DATA; RSET first where the transaction before was left open."""
        before = (client.RSET,) if session.in_transaction else ()
        session.send(*before, self._mail, *self._recipients, client.DATA)

    def answered(self, session: ClientSession, command: Command, reply: ServerReply) -> None:
        """Take the next answer, see the table above."""
        stage = command.stage
        if stage is Stage.CONTENT or session.ended:
            self._undecided(RecipientResult(stage, reply))
        elif stage is Stage.RCPT:
            self._recipient(session, reply)
        elif stage is Stage.DATA:
            if reply.intermediate:
                session.send(client.content(self._chunks if self._accepted else (b".\r\n",)))
            else:
                self._undecided(RecipientResult(stage, reply))
        elif not reply.positive:
            self._mail_refused = True
            session.withdraw()
            self._undecided(RecipientResult(stage, reply))
        if session.fault:
            self.broken(session, session.fault)
        elif session.ended or session.awaiting is None:
            self._end()

    def broken(self, session: ClientSession, fault: Fault) -> None:
        """Give every recipient without an answer the fault."""
        self._undecided(RecipientResult(fault.stage or Stage.GREETING, fault, session.content_sent))
        self._end()

    def _recipient(self, session: ClientSession, reply: ServerReply) -> None:
        number = self._answered
        self._answered += 1
        if not reply.positive:
            self._results[number] = self._results[number] or RecipientResult(Stage.RCPT, reply)
        elif self._mail_refused:
            # Whatever these answers answer, it is not what we asked: none of them counts
            self._results = [None] * len(self._results)
            session.fail(f"a recipient was accepted without a sender: {reply}")
        else:
            self._accepted += 1
        if self._answered == len(self._recipients) and not self._accepted:
            session.withdraw()

    def _undecided(self, result: RecipientResult) -> None:
        self._results = [known or result for known in self._results]

    def _end(self) -> None:
        self.result = tuple(result for result in self._results if result)

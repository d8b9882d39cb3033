"""What one SMTP session tells one milter, and what becomes of the answers.

A filter is told what it has not been told up to the stage at hand; usually that is one step. A conversation that begins
late, since the filter could not be reached before, catches up.

==================================  ===================================================================================
what the filter does                what follows
==================================  ===================================================================================
accepts at connect or helo          QUIT: it is not asked again in this session
accepts later                       it is not asked again about this message
refuses at connect or helo          QUIT: the same verdict at every later stage of the session
refuses a recipient                 that recipient
refuses or discards later           the same verdict to the end of the message
fails, ``failure = "accept"``       not asked again in this session; the tag ``NAME-failed``, again with each message
fails, ``"tempfail"``, ``"reject"`` that verdict to the end of the message; the next one is a new connection
==================================  ===================================================================================

The head and the body are told at the end, when everything before this filter has had its way with them: a filter sees
the changes of those in front of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.policy.facts import Facts, Stage
from mta.policy.milter.client import Connection, MilterClient
from mta.policy.milter.content import chunks, fields_and_rest
from mta.policy.milter.macro import client_name, macros
from mta.policy.milter.opinion import BROKEN, UNAVAILABLE, changes, decision, refusal
from mta.policy.milter.option import Step
from mta.policy.milter.packet import Fault
from mta.policy.milter.reply import Decision
from mta.policy.milter.session import CONTINUE, MilterSession, Reply
from mta.policy.verdict import Defer, Opinion, Reject, Tag
from mta.settings.milter import MilterSettings
from mta.smtp.address import Mailbox, path

INLINE_MAXIMUM = 64 * 1024
"""Octets of the longest body that is read on the reactor thread; more may stand in a file."""

_IN_MESSAGE = (Stage.RCPT, Stage.DATA, Stage.MESSAGE)


@dataclass(frozen=True, slots=True)
class Identity:
    """How we call ourselves in macros."""

    hostname: str
    version: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What is said without asking, for the rest of the message or of the session."""

    opinion: Opinion = None


class Conversation:
    """One session, as one filter sees it. One question at a time."""

    def __init__(self, client: MilterClient, settings: MilterSettings, identity: Identity, run: RunInThread) -> None:
        self._client = client
        self._settings = settings
        self._identity = identity
        self._run = run
        self._connection: Connection | None = None
        self._introduced = False
        self._helo = ""
        self._recipients = False
        self._data = False
        self._session: Settled | None = None
        self._message: Settled | None = None
        self._left_out: Tag | None = None

    # What the policy calls

    def settled(self, stage: Stage) -> Settled | None:
        """Say what needs no asking; None where the filter must be asked."""
        if self._left_out is not None:
            return Settled(self._left_out if stage is Stage.MAIL else None)
        if self._session is not None:
            return self._session
        return self._message if stage in _IN_MESSAGE else None

    async def ask(self, facts: Facts) -> Opinion:
        """Tell the filter up to the stage of `facts`, and judge what it says. Only where nothing is settled."""
        if facts.stage not in _IN_MESSAGE:
            self.reset()
        try:
            connection = self._connection or await self._client.connect()
            if isinstance(connection, Fault):
                return self._failed(facts.stage, connection)
            if connection is not self._connection:
                self._connection, self._introduced, self._helo = connection, False, ""
            connection.begin()
            step, reply = await self._tell(connection, facts)
        except BaseException:  # given up, or a bug of ours: the filter is in the middle of something either way
            self._drop("the question was broken off")
            raise
        if isinstance(reply, Fault):
            return self._failed(facts.stage, reply)
        return self._judge(connection, facts.stage, step, reply)

    def reset(self) -> None:
        """Forget the message, and a connection that is of no use any more."""
        self._message = None
        connection = self._connection
        if connection is not None and not connection.rest():
            self._drop("the message is gone")

    def close(self) -> None:
        """End the conversation."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.quit()

    # Telling

    async def _tell(self, connection: Connection, facts: Facts) -> tuple[Step, Reply | Fault]:
        """Tell what is due, up to the first answer that is not "continue"; give the last answer and its step."""
        step = Step.CONNECT
        reply: Reply | Fault = CONTINUE
        for step, told, command in self._due(connection.session, facts):
            self._macros(connection.session, step, told)
            reply = await connection.answer(command(), self._settings.deadlines.command)
            if _ends(reply):
                return step, reply
        if facts.stage is Stage.MESSAGE:
            return await self._content(connection, facts)
        return step, reply

    def _due(self, session: MilterSession, facts: Facts) -> Iterator[tuple[Step, Facts, Callable[[], bool]]]:
        """Name the steps up to the stage that the filter has not been told: each with its facts and its command."""
        stage = facts.stage
        if not self._introduced:
            self._introduced = True
            yield Step.CONNECT, facts, partial(session.connect, client_name(facts), facts.address, facts.port)
        if facts.helo and (stage is Stage.HELO or self._helo != facts.helo):
            self._helo = facts.helo
            yield Step.HELO, facts, partial(session.helo, facts.helo)
        if stage in (Stage.CONNECT, Stage.HELO):
            return
        if not session.in_message:
            self._recipients = self._data = False
            parameters = [f"SIZE={facts.size}"] * bool(facts.size) + ["SMTPUTF8"] * facts.smtputf8
            yield Step.MAIL, facts, partial(session.mail, path(facts.sender), parameters)
        if stage is Stage.RCPT:
            recipients: tuple[Mailbox | None, ...] = (facts.recipient,)
        elif stage in _IN_MESSAGE and not self._recipients:
            recipients = facts.recipients
        else:
            recipients = ()
        for recipient in recipients:
            self._recipients = True
            yield Step.RCPT, replace(facts, recipient=recipient), partial(session.rcpt, path(recipient))
        if stage in (Stage.DATA, Stage.MESSAGE) and not self._data:
            self._data = True
            yield Step.DATA, facts, session.data

    async def _content(self, connection: Connection, facts: Facts) -> tuple[Step, Reply | Fault]:
        """Tell head and body, likewise."""
        session, deadlines = connection.session, self._settings.deadlines
        head, rest = fields_and_rest(facts.head)
        for name, value in head:
            reply = await connection.answer(session.field(name, value), deadlines.command)
            if _ends(reply):
                return Step.FIELD, reply
        self._macros(session, Step.END_OF_HEAD, facts)
        reply = await connection.answer(session.end_of_head(), deadlines.command)
        if _ends(reply):
            return Step.END_OF_HEAD, reply
        size = len(rest) + (facts.body.size if facts.body is not None else 0)
        told = size if self._settings.body_maximum is None else min(size, self._settings.body_maximum)
        if not session.options.skips(Step.BODY):
            pieces = chunks(itertools.chain((rest,), facts.body.pieces() if facts.body is not None else ()), told)
            while (chunk := await self._next(pieces, size)) is not None:
                reply = await connection.answer(session.body(chunk), deadlines.body)
                if isinstance(reply, Reply) and reply.decision is Decision.SKIP:
                    break
                if _ends(reply):
                    return Step.BODY, reply
        self._macros(session, Step.END, facts)
        return Step.END, await connection.answer(session.end(partial=told < size), deadlines.end)

    async def _next(self, pieces: Iterator[bytes], size: int) -> bytes | None:
        if size <= INLINE_MAXIMUM:
            return next(pieces, None)
        return cast("bytes | None", await self._run(next, pieces, None))

    def _macros(self, session: MilterSession, step: Step, facts: Facts) -> None:
        identity = self._identity
        daemon_name = self._settings.daemon_name or identity.hostname
        session.macros(step, macros(step, facts, identity.hostname, identity.version, daemon_name))

    # Judging

    def _judge(self, connection: Connection, stage: Stage, step: Step, reply: Reply) -> Opinion:
        name, source = self._settings.name, self._settings.source
        verdict = decision(reply, stage, name, source)
        if verdict is None:
            if reply.decision is Decision.ACCEPT:
                self._settle(step, None)
            return changes(reply, connection.session.options.flow, name, source) or None
        if isinstance(verdict, Defer) and verdict.reply.closing:
            self._settle(Step.CONNECT, verdict)
        elif step is not Step.RCPT or not isinstance(verdict, Reject | Defer):
            self._settle(step, verdict)
        return verdict

    def _settle(self, step: Step, opinion: Opinion) -> None:
        """Remember what a step came to: to the end of the session, or of the message."""
        if step in (Step.CONNECT, Step.HELO):
            self._session = Settled(opinion)
            self.close()
        else:
            self._message = Settled(opinion)

    def _failed(self, stage: Stage, fault: Fault) -> Opinion:
        settings = self._settings
        reason = Reason(f"{settings.name} at {settings.address}: {fault}", settings.source)
        if settings.failure == "accept":
            self._left_out = Tag(reason, f"{settings.name}-failed")
            return self._left_out
        verdict = refusal(BROKEN if settings.failure == "reject" else UNAVAILABLE, stage, reason)
        self._message = Settled(verdict)
        return verdict

    def _drop(self, text: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort(text)


def _ends(reply: Reply | Fault) -> bool:
    return isinstance(reply, Fault) or reply.decision is not Decision.CONTINUE

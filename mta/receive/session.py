"""One session, from the greeting to its end: its transactions, which the rules of its service and the policies judge.

It answers the events of the session core (`mta.smtp.event`), keeps what the transaction needs, stages the content,
writes the trace field, and hands the whole to the commit. Each refusal is noted with its reason. Where nobody waits for
anything, all of it is plain calls.

=====================  ================================================================================================
event                  what happens
=====================  ================================================================================================
Connected              policies judge; 220
EHLO, HELO             policies judge
MAIL                   452 where there is no space for its SIZE; rules, then policies judge; a transaction is opened
RCPT                   rules, then policies judge; the mailbox is expanded to recipients, each counted once
DATA                   452 as for MAIL; policies judge; 354; staging begins, with queue id and time of acceptance
Content                staged while there is space; when the head is known, rules and policies judge it; after a refusal
                       the rest is only counted
EndOfData              refused for its head, or for our disk; policies judge the whole; the trace fields are put in
                       front; committed: 250 is the commit's
DataRefused, Reset,    what was staged is dropped
lost connection
=====================  ================================================================================================
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from twisted.internet import defer, task
from twisted.python.failure import Failure

from mta.disk.lane import LaneFull
from mta.mail.envelope import Body, Envelope
from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.maildir.volume import VolumeSuspect
from mta.message.header import Head, received_count, values
from mta.message.trace import received
from mta.net.peer import Peer
from mta.observe.event import Kind, Level
from mta.policy.chain import NOTHING, Ruling
from mta.policy.changes import MemoryBody
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import Defer, Redirect, Reject
from mta.receive.changing import fate
from mta.receive.commit import Accepted, Committed
from mta.receive.decision import (
    HEADER_TOO_BIG,
    LOOP,
    LOW_DISK,
    NOT_STORED,
    NOT_STORED_FULL,
    RCPT_OK,
    START,
    TLS_NOW,
    TLS_UNAVAILABLE,
    TOO_LATE,
    VRFY,
    Decision,
)
from mta.receive.reception import Conversation, Reception, ServiceRules, Transaction
from mta.receive.staging import MEMORY_MAXIMUM, Staged, Staging
from mta.receive.telling import facts_of
from mta.settings.expansion import Addressed
from mta.smtp import status
from mta.smtp.event import (
    Authenticate,
    Connected,
    Content,
    Data,
    DataRefused,
    EndOfData,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Refused,
    Reset,
    StartTLS,
    Vrfy,
)
from mta.smtp.reply import Reply, reply
from mta.smtp.server import ServerSession
from mta.spool.port import Origin, SpoolSuspect, StagedContent

T = TypeVar("T")

Answer = Reply | defer.Deferred[Reply] | None

_HELLO = reply(250, None, "Hello")
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ReceivingSession:
    """Answers the events of one session."""

    def __init__(self, reception: Reception, rules: ServiceRules, peer: Peer, session: ServerSession) -> None:
        self._reception = reception
        self._rules = rules
        self._session = session
        self._conversation = Conversation(peer)
        self._transaction: Transaction | None = None
        self._event: Event | None = None
        """The last one."""
        self._gone = False
        self._chain = reception.policies()
        self._chain.enter()
        self._opened = reception.journal.wall()
        session.offer = rules.offer(self._conversation)

    # What the protocol calls

    def answer(self, event: Event) -> Answer:
        """Answer one event."""
        self._event = event
        return _ANSWERS[type(event)](self, event)

    def secured(self, tls: TlsInfo | None, reason: Reason | None) -> None:
        """Note a handshake that failed; after one that succeeded everything learnt before is void (RFC 3207 §4.2)."""
        peer = self._conversation.peer
        if tls is None:
            self._reception.journal.note(
                Kind.TLS_FAILED, reason, level=Level.NOTICE, session=peer.session, address=peer.address
            )
            return
        self._drop()
        conversation = self._conversation = Conversation(peer)
        self._session.offer = self._rules.offer(conversation)

    def lost(self, reason: Reason) -> None:
        """Drop what was staged and note the end of the session."""
        self._gone = True
        self._drop()
        self._chain.leave(self._conversation.peer.session)
        conversation = self._conversation
        peer = conversation.peer
        self._reception.journal.note(
            Kind.SESSION_CLOSED,
            reason,
            session=peer.session,
            service=self._rules.name,
            address=peer.address,
            helo=conversation.helo,
            tls=str(peer.tls) if peer.tls else None,
            login=conversation.account.login if conversation.account else None,
            accepted=conversation.accepted,
            refused=conversation.refused,
            seconds=round(self._reception.journal.wall() - self._opened, 3),
        )

    # Events

    def _connected(self, event: Connected) -> Answer:
        return self._judged(Stage.CONNECT, self._greet)

    def _greet(self, ruling: Ruling) -> Answer:
        # A peer that waits for its greeting, as RFC 5321 §3.1 has it, has said nothing by now.
        self._conversation.early = self._session.buffered > 0
        self._conversation.tags |= ruling.tags
        if ruling.refusal is not None:
            return self._refused(Kind.SESSION_REFUSED, _decision(ruling.refusal), service=self._rules.name)
        return reply(220, None, f"{self._reception.settings.hostname} ESMTP")

    def _hello(self, event: Hello) -> Answer:
        return self._judged(Stage.HELO, partial(self._greeted, event), helo=event.domain, extended=event.extended)

    def _greeted(self, event: Hello, ruling: Ruling) -> Answer:
        if ruling.refusal is not None:
            return self._refused(Kind.COMMAND_REFUSED, _decision(ruling.refusal), command="EHLO", helo=event.domain)
        self._conversation.helo = event.domain
        self._conversation.extended = event.extended
        self._conversation.tags |= ruling.tags
        return _HELLO

    def _mail(self, event: Mail) -> Answer:
        size = event.size or 0
        low = self._reception.space.low(size)
        if low is not None:
            decision = Decision(LOW_DISK, low)
        else:
            decision = self._rules.mail(self._conversation, event)
        if not decision.reply.positive:
            return self._refused(Kind.SENDER_REFUSED, decision, sender=str(event.reverse_path or ""))
        transaction = Transaction(event.reverse_path, size, event.body, event.smtputf8, decision.reason)
        return self._judged(Stage.MAIL, partial(self._open_transaction, transaction, decision.reply), transaction)

    def _open_transaction(self, transaction: Transaction, answer: Reply, ruling: Ruling) -> Answer:
        if ruling.refusal is not None:
            sender = str(transaction.reverse_path or "")
            return self._refused(Kind.SENDER_REFUSED, _decision(ruling.refusal), sender=sender)
        self._transaction = transaction
        transaction.hear(ruling)
        return answer

    def _rcpt(self, event: Rcpt) -> Answer:
        transaction = self._open()
        found = self._rules.rcpt(self._conversation, transaction, event)
        if not isinstance(found, Decision):
            add = partial(self._add_recipient, event, found)
            return self._judged(Stage.RCPT, add, transaction, recipient=event.mailbox)
        if found.reply.status == status.BAD_MAILBOX:
            self._conversation.unknown_recipients += 1
            told = partial(self._facts, Stage.RCPT, transaction, recipient=event.mailbox)
            self._chain.refused(told, found.reason)
        return self._refuse_recipient(transaction, event, found)

    def _add_recipient(self, event: Rcpt, found: Sequence[Addressed], ruling: Ruling) -> Answer:
        transaction = self._open()
        if ruling.refusal is not None:
            return self._refuse_recipient(transaction, event, _decision(ruling.refusal))
        for each in ruling.said:
            if isinstance(each.verdict, Redirect):
                found = self._reception.address(each.verdict.mailbox)
        transaction.hear(ruling, besides=Redirect)
        transaction.named.append(event.mailbox)
        for addressed in found:
            mailbox = addressed.recipient.mailbox
            if mailbox not in transaction.known:
                transaction.known.add(mailbox)
                transaction.addressed.append(addressed)
        return RCPT_OK

    def _refuse_recipient(self, transaction: Transaction, event: Rcpt, decision: Decision) -> Reply:
        sender = str(transaction.reverse_path or "")
        return self._refused(Kind.RECIPIENT_REFUSED, decision, sender=sender, recipient=str(event.mailbox))

    def _data(self, event: Data) -> Answer:
        transaction = self._open()
        low = self._reception.space.low(transaction.size)
        if low is not None:
            return self._refuse_message(transaction, transaction.size, Decision(LOW_DISK, low))
        return self._judged(Stage.DATA, self._begin, transaction)

    def _begin(self, ruling: Ruling) -> Answer:
        transaction, reception = self._open(), self._reception
        if ruling.refusal is not None:
            return self._refuse_message(transaction, transaction.size, _decision(ruling.refusal))
        transaction.hear(ruling)
        transaction.queue_id = reception.new_id()
        transaction.at = reception.journal.wall()
        path = f"{reception.staging}/{transaction.queue_id}"
        transaction.staging = Staging(reception.disk, path, reception.space, partial(self._judge_head, transaction))
        return START

    def _content(self, event: Content) -> Answer:
        staging = self._open().staging
        assert staging is not None, "content outside the data phase"
        staging.add(event.chunk)
        return None

    def _judge_head(self, transaction: Transaction, head: Head) -> bool:
        """Judge the head, as soon as it is known; False: refused."""
        transaction.refusal = self._refuse_head(transaction, head)
        return transaction.refusal is None

    def _refuse_head(self, transaction: Transaction, head: Head) -> Decision | None:
        if not head.whole:
            why = Reason(f"the header has more than {MEMORY_MAXIMUM} octets", "mta.receive.staging")
            return Decision(HEADER_TOO_BIG, why)
        hops, most = received_count(head.octets), self._reception.settings.limits.received_fields
        if hops > most:
            return Decision(LOOP, Reason(f"{hops} Received fields, {most} allowed", "RFC 5321 §6.3"))
        decision = self._rules.head(self._conversation, transaction, head.octets)
        if isinstance(decision, Decision):
            return decision
        transaction.fields = decision
        ids = values(head.octets, b"message-id") or values(decision, b"message-id")
        transaction.message_id = ids[0].decode("utf-8", "replace") if ids else ""
        if not self._chain.wants(Stage.HEADERS):
            return None
        ruling = self._chain.ask(self._facts(Stage.HEADERS, transaction, head=head.octets))
        if isinstance(ruling, defer.Deferred):
            transaction.judging = ruling
            return None
        return self._hear(Stage.HEADERS, transaction, ruling)

    def _hear(self, stage: Stage, transaction: Transaction, ruling: Ruling) -> Decision | None:
        """Take what policies say of a message; a decision where they refuse it."""
        self._note_said(stage, ruling)
        transaction.hear(ruling)
        return _decision(ruling.refusal) if ruling.refusal is not None else None

    def _received(self, transaction: Transaction) -> bytes:
        conversation = self._conversation
        peer = conversation.peer
        return received(
            helo=conversation.helo,
            address=peer.address,
            hostname=self._reception.settings.hostname,
            queue_id=transaction.queue_id,
            wall=transaction.at,
            esmtp=conversation.extended,
            tls=(peer.tls.version, peer.tls.cipher) if peer.tls else None,
            authenticated=conversation.account is not None,
            smtputf8=transaction.smtputf8,
            recipient=transaction.named[0] if len(transaction.named) == 1 else None,
        )

    def _end_of_data(self, event: EndOfData) -> Answer:
        transaction = self._open()
        self._transaction = None
        staging = transaction.staging
        assert staging is not None, "an end of data without its beginning"
        staged = staging.finish()
        if transaction.refusal is not None:
            return self._refuse_message(transaction, event.size, transaction.refusal)
        if staged is None:
            assert staging.failed is not None, "content is kept, refused, or could not be stored"
            return self._refuse_message(transaction, event.size, _not_stored(staging.failed))
        if transaction.judging is None and not self._chain.wants(Stage.MESSAGE):
            return self._accept(event, transaction, staged, NOTHING)
        return defer.Deferred.fromCoroutine(self._judge_message(event, transaction, staged))

    async def _judge_message(self, event: EndOfData, transaction: Transaction, staged: Staged) -> Reply:
        """Have policies judge the whole; until it is committed nobody but the peer has it."""
        staging = transaction.staging
        assert staging is not None
        try:
            refused = None
            if transaction.judging is not None:
                refused = self._hear(Stage.HEADERS, transaction, await transaction.judging)
            ruling = NOTHING
            if refused is None and self._chain.wants(Stage.MESSAGE):
                body = staged.body(self._reception.disk, event.size)
                head = staged.head.octets
                facts = self._facts(Stage.MESSAGE, transaction, head=head, body=body, size=event.size)
                ruling = await _settled(self._chain.ask(facts))
                refused = self._hear(Stage.MESSAGE, transaction, ruling)
            delay = ruling.delay
            if delay:
                await task.deferLater(self._reception.clock, delay, lambda: None)
            if refused is not None or self._too_late(event):
                staging.drop()
                return self._refuse_message(transaction, event.size, refused) if refused else TOO_LATE
            accepted = self._accept(event, transaction, staged, ruling)
        except BaseException:
            staging.drop()
            raise
        return await _settled(accepted)

    def _accept(
        self, event: EndOfData, transaction: Transaction, staged: Staged, ruling: Ruling
    ) -> Reply | defer.Deferred[Reply]:
        """Put the trace fields in front, and make the message ours."""
        conversation, facts = self._conversation, ruling.facts
        prefix = self._received(transaction) + transaction.fields
        fields = facts.head if facts is not None else None
        content = staged.content(prefix, fields)
        if facts is not None and isinstance(facts.body, MemoryBody):
            assert transaction.staging is not None
            transaction.staging.drop()
            content = prefix + staged.head.separator + facts.head + b"\r\n" + facts.body.octets
        kept = staged.rest if isinstance(content, StagedContent) else b""
        head = content.head if isinstance(content, StagedContent) else content
        size = len(head) + (event.size - len(staged.head.octets) if kept else 0)
        after = fate(transaction.reverse_path, transaction.addressed, transaction.said, self._reception.address)
        if after.discarded is not None:
            return self._discard(transaction, size, after.discarded)
        envelope = Envelope(
            after.reverse_path,
            tuple([addressed.recipient for addressed in after.addressed]),
            Body(transaction.body),
            transaction.smtputf8,
        )
        accepted = Accepted(
            transaction.queue_id,
            transaction.at,
            envelope,
            after.addressed,
            content,
            size,
            event.eight_bit or not head.isascii(),
            Origin(
                self._rules.name,
                conversation.peer.session,
                conversation.account.login if conversation.account else "",
                conversation.peer.address,
            ),
            after.held,
        )
        committed = defer.maybeDeferred(self._reception.commit.commit, accepted)
        return committed.addCallbacks(
            self._committed,
            self._not_committed,
            callbackArgs=(transaction, accepted.size),
            errbackArgs=(transaction, accepted.size),
        )

    def _discard(self, transaction: Transaction, size: int, reason: Reason) -> Reply:
        """End a message that was taken: it goes nowhere, and nobody is told but the log."""
        assert transaction.staging is not None
        transaction.staging.drop()
        self._reception.journal.note(
            Kind.MESSAGE_DISCARDED,
            reason,
            level=Level.NOTICE,
            session=self._conversation.peer.session,
            queue_id=transaction.queue_id,
            sender=str(transaction.reverse_path or ""),
            recipients=_names(transaction),
            size=size,
            message_id=transaction.message_id,
        )
        return reply(250, status.OK, f"queued as {transaction.queue_id}")

    def _committed(self, committed: Committed, transaction: Transaction, size: int) -> Reply:
        self._conversation.accepted += 1
        self._reception.journal.note(
            Kind.MESSAGE_ACCEPTED,
            committed.reason,
            session=self._conversation.peer.session,
            queue_id=transaction.queue_id,
            sender=str(transaction.reverse_path or ""),
            recipients=_names(transaction),
            size=size,
            message_id=transaction.message_id,
            place=committed.place,
            batch=committed.batch,
            allowed=str(transaction.why),
        )
        return reply(250, status.OK, f"queued as {transaction.queue_id}")

    def _not_committed(self, failure: Failure, transaction: Transaction, size: int) -> Reply:
        staging, error = transaction.staging, failure.value
        assert staging is not None
        assert error is not None
        staging.drop()
        if not isinstance(error, OSError | LaneFull | SpoolSuspect | VolumeSuspect):
            self._reception.journal.fault("commit", error, queue_id=transaction.queue_id)
        return self._refuse_message(transaction, size, _not_stored(error), Level.ALERT)

    def _data_refused(self, event: DataRefused) -> Answer:
        transaction = self._open()
        decision = Decision(event.reply, Reason(event.reply.text, "mta.smtp"))
        self._refuse_message(transaction, event.size, decision)
        self._drop()
        return None

    def _authenticate(self, event: Authenticate) -> Answer:
        return defer.Deferred.fromCoroutine(self._log_in(event))

    async def _log_in(self, event: Authenticate) -> Reply:
        decision = await self._rules.authenticate(self._conversation, event)
        # Too late, the peer has had another reply: whoever logged in does not know of it.
        if self._too_late(event) or decision.account is None:
            return decision.reply
        login = decision.account.login
        welcome = partial(self._welcome, decision, event.mechanism)
        return await _replied(self._judged(Stage.AUTH, welcome, login=login, mechanism=event.mechanism))

    def _welcome(self, decision: Decision, mechanism: str, ruling: Ruling) -> Answer:
        if ruling.refusal is not None:
            return self._refused(Kind.LOGIN_REFUSED, _decision(ruling.refusal), mechanism=mechanism)
        self._conversation.account = decision.account
        self._conversation.mechanism = mechanism
        self._conversation.tags |= ruling.tags
        return decision.reply

    def _start_tls(self, event: StartTLS) -> Answer:
        return TLS_NOW if self._reception.tls_ready else TLS_UNAVAILABLE

    def _vrfy(self, event: Vrfy) -> Answer:
        return VRFY

    def _reset(self, event: Reset) -> Answer:
        self._drop()
        return None

    def _quit(self, event: Quit) -> Answer:
        return None

    def _command_refused(self, event: Refused) -> Answer:
        self._conversation.refused += 1
        self._reception.journal.note(
            Kind.COMMAND_REFUSED,
            session=self._conversation.peer.session,
            command=event.command,
            reply=str(event.reply),
        )
        return None

    # Policies

    def _facts(self, stage: Stage, transaction: Transaction | None, **new: Any) -> Facts:
        return facts_of(stage, self._rules.name, self._conversation, transaction, **new)

    def _judged(
        self, stage: Stage, go_on: Callable[[Ruling], Answer], transaction: Transaction | None = None, **new: Any
    ) -> Answer:
        """Go on with what the policies of a stage say, now or when they have said it."""
        if not self._chain.wants(stage):
            return go_on(NOTHING)
        ruling = self._chain.ask(self._facts(stage, transaction, **new))
        if isinstance(ruling, Ruling) and not ruling.delay:
            self._note_said(stage, ruling)
            return go_on(ruling)
        assert self._event is not None
        return defer.Deferred.fromCoroutine(self._judged_later(self._event, stage, ruling, go_on))

    async def _judged_later(
        self,
        event: Event,
        stage: Stage,
        asked: Ruling | defer.Deferred[Ruling],
        go_on: Callable[[Ruling], Answer],
    ) -> Reply:
        ruling = await _settled(asked)
        self._note_said(stage, ruling)
        if ruling.delay:
            await task.deferLater(self._reception.clock, ruling.delay, lambda: None)
        if self._too_late(event):
            return TOO_LATE
        return await _replied(go_on(ruling))

    def _too_late(self, event: Event) -> bool:
        """Whether the peer has had another reply to `event`, or is gone."""
        return self._gone or self._event is not event or not self._session.owes_reply

    def _note_said(self, stage: Stage, ruling: Ruling) -> None:
        for each in ruling.said:
            self._reception.journal.note(
                Kind.POLICY_SAID,
                each.verdict.reason,
                session=self._conversation.peer.session,
                stage=stage.value,
                policy=each.policy,
                verdict=type(each.verdict).__name__,
            )

    # Parts

    def _open(self) -> Transaction:
        assert self._transaction is not None, "the session core gives such an event only in a transaction"
        return self._transaction

    def _drop(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is None:
            return
        self._chain.reset(self._conversation.peer.session)
        if transaction.judging is not None:
            transaction.judging.addErrback(lambda _: None)
            transaction.judging.cancel()
        if transaction.staging is not None:
            transaction.staging.drop()

    def _refused(self, kind: Kind, decision: Decision, level: Level = Level.INFO, **fields: Any) -> Reply:
        self._conversation.refused += 1
        self._reception.journal.note(
            kind,
            decision.reason,
            level=level,
            session=self._conversation.peer.session,
            address=self._conversation.peer.address,
            reply=str(decision.reply),
            **fields,
        )
        return decision.reply

    def _refuse_message(
        self, transaction: Transaction, size: int, decision: Decision, level: Level = Level.INFO
    ) -> Reply:
        return self._refused(
            Kind.MESSAGE_REFUSED,
            decision,
            level,
            sender=str(transaction.reverse_path or ""),
            recipients=_names(transaction),
            size=size,
        )


def _names(transaction: Transaction) -> str:
    return " ".join(map(str, transaction.named))


def _decision(refusal: Reject | Defer) -> Decision:
    return Decision(refusal.reply, refusal.reason)


async def _settled(value: T | defer.Deferred[T]) -> T:
    return await value if isinstance(value, defer.Deferred) else value


async def _replied(answer: Answer) -> Reply:
    assert answer is not None, "a command that policies judge has a reply"
    return await _settled(answer)


def _not_stored(error: BaseException) -> Decision:
    full = isinstance(error, OSError) and error.errno in _FULL
    return Decision(NOT_STORED_FULL if full else NOT_STORED, Reason(f"{type(error).__name__}: {error}", "disk"))


_ANSWERS: dict[type[Any], Callable[[ReceivingSession, Any], Answer]] = {
    Connected: ReceivingSession._connected,
    Hello: ReceivingSession._hello,
    Mail: ReceivingSession._mail,
    Rcpt: ReceivingSession._rcpt,
    Data: ReceivingSession._data,
    Content: ReceivingSession._content,
    EndOfData: ReceivingSession._end_of_data,
    DataRefused: ReceivingSession._data_refused,
    Authenticate: ReceivingSession._authenticate,
    StartTLS: ReceivingSession._start_tls,
    Vrfy: ReceivingSession._vrfy,
    Reset: ReceivingSession._reset,
    Quit: ReceivingSession._quit,
    Refused: ReceivingSession._command_refused,
}

"""One session, from the greeting to its end: its transactions, which the rules of its service and the policies judge.

It answers the events of the session core (`mta.smtp.event`), keeps what the transaction needs, stages the content,
and hands the whole to `mta.receive.acceptance`. Each refusal is noted with its reason. Where nobody waits for anything,
all of it is plain calls.

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
EndOfData              see `mta.receive.acceptance`
DataRefused, Reset,    what was staged is dropped
lost connection
=====================  ================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet import defer, task

from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.mailauth.verification import SessionCheck
from mta.message.header import Head, received_count, values
from mta.net.peer import Peer
from mta.observe.event import Kind, Level
from mta.policy.chain import NOTHING, Ruling
from mta.policy.facts import Stage
from mta.policy.verdict import Redirect
from mta.receive.acceptance import Acceptance, forget, settled
from mta.receive.changing import leads_nowhere
from mta.receive.decision import (
    HEADER_TOO_BIG,
    LEADS_NOWHERE,
    LOOP,
    LOW_DISK,
    RCPT_OK,
    START,
    TLS_NOW,
    TLS_UNAVAILABLE,
    TOO_LATE,
    VRFY,
    Decision,
)
from mta.receive.reception import Conversation, Reception, ServiceRules, Transaction
from mta.receive.staging import MEMORY_MAXIMUM, Staging
from mta.receive.telling import Teller, refusal
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

Answer = Reply | defer.Deferred[Reply] | None

_HELLO = reply(250, None, "Hello")


class ReceivingSession:
    """Answers the events of one session."""

    def __init__(self, reception: Reception, rules: ServiceRules, peer: Peer, session: ServerSession) -> None:
        self._reception = reception
        self._rules = rules
        self._session = session
        self._transaction: Transaction | None = None
        self._event: Event | None = None
        """The last one."""
        self._gone = False
        self._tags: frozenset[str] = frozenset()
        """What policies said of the connection."""
        self._chain = reception.policies()
        self._chain.enter()
        self._check = reception.check(peer.address) if rules.checks else None
        self._teller = Teller(reception, rules.name, Conversation(peer), self._check)
        self._acceptance = Acceptance(reception, rules.name, self._teller, self._chain, self._too_late)
        self._opened = reception.journal.wall()
        session.offer = rules.offer(self._teller.conversation)

    # What the protocol calls

    @property
    def login(self) -> str:
        """Who is logged in; empty: nobody."""
        account = self._teller.conversation.account
        return account.login if account is not None else ""

    def answer(self, event: Event) -> Answer:
        """Answer one event."""
        self._event = event
        return _ANSWERS[type(event)](self, event)

    def secured(self, tls: TlsInfo | None, reason: Reason | None) -> None:
        """Note a handshake that failed; after one that succeeded everything learnt before is void (RFC 3207 §4.2).

        What policies said of the connection itself holds, and so does that the peer talked before it was greeted: no
        mark is washed off by STARTTLS.
        """
        peer = self._teller.conversation.peer
        if tls is None:
            self._reception.journal.note(
                Kind.TLS_FAILED, reason, level=Level.NOTICE, session=peer.session, address=peer.address
            )
            return
        self._drop()
        early = self._teller.conversation.early
        conversation = self._teller.conversation = Conversation(peer, early=early, tags=self._tags)
        self._session.offer = self._rules.offer(conversation)

    def lost(self, reason: Reason) -> None:
        """Drop what was staged and note the end of the session."""
        self._gone = True
        self._drop()
        self._chain.leave(self._teller.conversation.peer.session)
        if self._check is not None:
            self._check.cancel()
        conversation = self._teller.conversation
        peer = conversation.peer
        self._reception.journal.note(
            Kind.SESSION_CLOSED,
            reason,
            session=peer.session,
            service=self._rules.name,
            address=peer.address,
            port=peer.port,
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
        self._teller.conversation.early = self._session.buffered > 0
        self._teller.conversation.tags = self._tags = ruling.tags
        if ruling.refusal is not None:
            return self._teller.refused(Kind.SESSION_REFUSED, refusal(ruling.refusal), service=self._rules.name)
        return reply(220, None, f"{self._reception.settings.hostname} ESMTP")

    def _hello(self, event: Hello) -> Answer:
        return self._judged(Stage.HELO, partial(self._greeted, event), helo=event.domain, extended=event.extended)

    def _greeted(self, event: Hello, ruling: Ruling) -> Answer:
        if ruling.refusal is not None:
            refused = refusal(ruling.refusal)
            return self._teller.refused(Kind.COMMAND_REFUSED, refused, command="EHLO", helo=event.domain)
        self._teller.conversation.helo = event.domain
        self._teller.conversation.extended = event.extended
        self._teller.conversation.tags |= ruling.tags
        return _HELLO

    def _mail(self, event: Mail) -> Answer:
        size = event.size or 0
        low = self._reception.space.low(size)
        if low is not None:
            decision = Decision(LOW_DISK, low)
        else:
            decision = self._rules.mail(self._teller.conversation, event)
        if not decision.reply.positive:
            return self._teller.refused(Kind.SENDER_REFUSED, decision, sender=str(event.reverse_path or ""))
        transaction = Transaction(event.reverse_path, size, event.body, event.smtputf8, decision.reason)
        return self._judged(Stage.MAIL, partial(self._open_transaction, transaction, decision.reply), transaction)

    def _open_transaction(self, transaction: Transaction, answer: Reply, ruling: Ruling) -> Answer:
        if ruling.refusal is not None:
            sender = str(transaction.reverse_path or "")
            return self._teller.refused(Kind.SENDER_REFUSED, refusal(ruling.refusal), sender=sender)
        self._transaction = transaction
        transaction.hear(ruling)
        if self._check is not None:
            self._check.mail(transaction.reverse_path, self._teller.conversation.helo)
        return answer

    def _rcpt(self, event: Rcpt) -> Answer:
        transaction = self._open()
        found = self._rules.rcpt(self._teller.conversation, transaction, event)
        if not isinstance(found, Decision):
            add = partial(self._add_recipient, event, found)
            return self._judged(Stage.RCPT, add, transaction, recipient=event.mailbox)
        if found.reply.status == status.BAD_MAILBOX:
            self._teller.conversation.unknown_recipients += 1
            told = partial(self._teller.facts, Stage.RCPT, transaction, recipient=event.mailbox)
            self._chain.refused(told, found.reason)
        return self._refuse_recipient(transaction, event, found)

    def _add_recipient(self, event: Rcpt, found: Sequence[Addressed], ruling: Ruling) -> Answer:
        transaction = self._open()
        if ruling.refusal is not None:
            return self._refuse_recipient(transaction, event, refusal(ruling.refusal))
        for each in ruling.said:
            if isinstance(each.verdict, Redirect):
                found = self._reception.address(each.verdict.mailbox)
                if not found:
                    nowhere = leads_nowhere(each.verdict)
                    return self._refuse_recipient(transaction, event, Decision(LEADS_NOWHERE, nowhere))
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
        return self._teller.refused(Kind.RECIPIENT_REFUSED, decision, sender=sender, recipient=str(event.mailbox))

    def _data(self, event: Data) -> Answer:
        transaction = self._open()
        low = self._reception.space.low(transaction.size)
        if low is not None:
            return self._teller.refused_message(transaction, transaction.size, Decision(LOW_DISK, low))
        return self._judged(Stage.DATA, self._begin, transaction)

    def _begin(self, ruling: Ruling) -> Answer:
        transaction, reception = self._open(), self._reception
        if ruling.refusal is not None:
            return self._teller.refused_message(transaction, transaction.size, refusal(ruling.refusal))
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
        decision = self._rules.head(self._teller.conversation, transaction, head.octets)
        if isinstance(decision, Decision):
            return decision
        transaction.fields = decision
        ids = values(head.octets, b"message-id") or values(decision, b"message-id")
        transaction.message_id = ids[0].decode("utf-8", "replace") if ids else ""
        assert transaction.staging is not None
        if self._check is not None:
            self._begin_check(self._check, transaction, transaction.staging, head.octets)
        elif not self._rules.checks:
            transaction.signing = self._reception.signers.begin(decision + head.octets)
            if transaction.signing is not None:
                transaction.staging.observe = transaction.signing.body
        if not self._chain.wants(Stage.HEADERS):
            return None
        ruling = self._chain.ask(self._teller.facts(Stage.HEADERS, transaction, head=head.octets))
        if isinstance(ruling, defer.Deferred):
            transaction.judging = ruling
            return None
        return self._teller.hear(Stage.HEADERS, transaction, ruling)

    def _begin_check(self, check: SessionCheck, transaction: Transaction, staging: Staging, head: bytes) -> None:
        """Begin to learn whose message it is; one that an alias sends on is to be sealed."""
        begun = transaction.check = check.message(head)
        staging.observe = begun.body
        if any(addressed.account is None for addressed in transaction.addressed):
            sealing = transaction.sealing = self._reception.signers.sealing(transaction.named[0].domain)
            if sealing is not None:
                staging.observe = partial(_each, (begun.body, sealing.body))

    def _end_of_data(self, event: EndOfData) -> Answer:
        transaction = self._open()
        self._transaction = None
        return self._acceptance.end(event, transaction)

    def _data_refused(self, event: DataRefused) -> Answer:
        transaction = self._open()
        decision = Decision(event.reply, Reason(event.reply.text, "mta.smtp"))
        self._teller.refused_message(transaction, event.size, decision)
        self._drop()
        return None

    def _authenticate(self, event: Authenticate) -> Answer:
        return defer.Deferred.fromCoroutine(self._log_in(event))

    async def _log_in(self, event: Authenticate) -> Reply:
        decision = await self._rules.authenticate(self._teller.conversation, event)
        # Too late, the peer has had another reply: whoever logged in does not know of it.
        if self._too_late(event) or decision.account is None:
            return decision.reply
        login = decision.account.login
        welcome = partial(self._welcome, decision, login, event.mechanism)
        return await _replied(self._judged(Stage.AUTH, welcome, login=login, mechanism=event.mechanism))

    def _welcome(self, decision: Decision, login: str, mechanism: str, ruling: Ruling) -> Answer:
        if ruling.refusal is not None:
            refused = refusal(ruling.refusal)
            return self._teller.refused(Kind.LOGIN_REFUSED, refused, login=login, mechanism=mechanism)
        self._teller.conversation.account = decision.account
        self._teller.conversation.mechanism = mechanism
        self._teller.conversation.tags |= ruling.tags
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
        self._teller.conversation.refused += 1
        self._reception.journal.note(
            Kind.COMMAND_REFUSED,
            session=self._teller.conversation.peer.session,
            command=event.command,
            reply=str(event.reply),
        )
        return None

    # Policies

    def _judged(
        self, stage: Stage, go_on: Callable[[Ruling], Answer], transaction: Transaction | None = None, **new: Any
    ) -> Answer:
        """Go on with what the policies of a stage say, now or when they have said it."""
        if not self._chain.wants(stage):
            return go_on(NOTHING)
        ruling: Ruling | defer.Deferred[Ruling]
        if self._check is None or self._check.idle:
            ruling = self._chain.ask(self._teller.facts(stage, transaction, **new))
        else:
            ruling = defer.Deferred.fromCoroutine(self._ask_knowing(self._check, stage, transaction, new))
        if isinstance(ruling, Ruling) and not ruling.delay:
            self._teller.said(stage, ruling)
            return go_on(ruling)
        assert self._event is not None
        return defer.Deferred.fromCoroutine(self._judged_later(self._event, stage, ruling, go_on))

    async def _ask_knowing(
        self, check: SessionCheck, stage: Stage, transaction: Transaction | None, new: dict[str, Any]
    ) -> Ruling:
        """Ask policies when all is known of the session that was asked for."""
        await check.settled()
        return await settled(self._chain.ask(self._teller.facts(stage, transaction, **new)))

    async def _judged_later(
        self,
        event: Event,
        stage: Stage,
        asked: Ruling | defer.Deferred[Ruling],
        go_on: Callable[[Ruling], Answer],
    ) -> Reply:
        try:
            ruling = await settled(asked)
        except defer.CancelledError:
            if not self._too_late(event):
                raise
            return TOO_LATE  # the peer is gone, and with it the questions about it
        self._teller.said(stage, ruling)
        if ruling.delay:
            await task.deferLater(self._reception.clock, ruling.delay, lambda: None)
        if self._too_late(event):
            return TOO_LATE
        return await _replied(go_on(ruling))

    def _too_late(self, event: Event) -> bool:
        """Whether the peer has had another reply to `event`, or is gone."""
        return self._gone or self._event is not event or not self._session.owes_reply

    # Parts

    def _open(self) -> Transaction:
        assert self._transaction is not None, "the session core gives such an event only in a transaction"
        return self._transaction

    def _drop(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            self._chain.reset(self._teller.conversation.peer.session)
            forget(transaction)


def _each(observers: Sequence[Callable[[bytes], None]], chunk: bytes) -> None:
    for observe in observers:
        observe(chunk)


async def _replied(answer: Answer) -> Reply:
    assert answer is not None, "a command that policies judge has a reply"
    return await settled(answer)


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

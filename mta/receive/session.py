"""One session, from the greeting to its end: its transactions, whose verdicts the rules of its service give.

It answers the events of the session core (`mta.smtp.event`), keeps what the transaction needs, stages the content,
writes the trace field, and hands the whole to the commit. Each refusal is noted with its reason.

=====================  ================================================================================================
event                  what happens
=====================  ================================================================================================
Connected              220, or 421 when the service is closing
MAIL                   452 where there is no space for its SIZE; the rules judge; a transaction is opened
RCPT                   the rules judge; the mailbox is expanded to recipients, each counted once
DATA                   452 as for MAIL, or 354; staging begins, with queue id and time of acceptance
Content                staged while there is space; when the head is known the rules judge it and the trace fields are
                       made; after a refusal the rest is only counted
EndOfData              refused for its head, or for our disk, or committed: 250 is the commit's
DataRefused, Reset,    what was staged is dropped
lost connection
=====================  ================================================================================================
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import defer
from twisted.python.failure import Failure

from mta.disk.lane import LaneFull
from mta.mail.envelope import Body, Envelope
from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.maildir.volume import VolumeSuspect
from mta.message.header import find_head, received_count, values
from mta.message.trace import received
from mta.net.peer import Peer
from mta.observe.event import Kind, Level
from mta.receive.commit import Accepted, Committed
from mta.receive.reception import Conversation, Reception, ServiceRules, Transaction
from mta.receive.staging import MEMORY_MAXIMUM, Staging
from mta.receive.verdict import (
    HEADER_TOO_BIG,
    LOOP,
    LOW_DISK,
    NOT_STORED,
    NOT_STORED_FULL,
    RCPT_OK,
    START,
    TLS_NOW,
    TLS_UNAVAILABLE,
    VRFY,
    Verdict,
)
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
from mta.spool.port import Origin, SpoolSuspect

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
        self._drop()
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
        return reply(220, None, f"{self._reception.settings.hostname} ESMTP")

    def _hello(self, event: Hello) -> Answer:
        self._conversation.helo = event.domain
        self._conversation.extended = event.extended
        return _HELLO

    def _mail(self, event: Mail) -> Answer:
        size = event.size or 0
        low = self._reception.space.low(size)
        if low is not None:
            verdict = Verdict(LOW_DISK, low)
        else:
            verdict = self._rules.mail(self._conversation, event)
        if verdict.reply.positive:
            self._transaction = Transaction(event.reverse_path, size, event.body, event.smtputf8, verdict.reason)
        else:
            self._refused(Kind.SENDER_REFUSED, verdict, sender=str(event.reverse_path or ""))
        return verdict.reply

    def _rcpt(self, event: Rcpt) -> Answer:
        transaction = self._open()
        verdict = self._rules.rcpt(self._conversation, transaction, event)
        if isinstance(verdict, Verdict):
            sender = str(transaction.reverse_path or "")
            self._refused(Kind.RECIPIENT_REFUSED, verdict, sender=sender, recipient=str(event.mailbox))
            return verdict.reply
        transaction.named.append(event.mailbox)
        for addressed in verdict:
            mailbox = addressed.recipient.mailbox
            if mailbox not in transaction.known:
                transaction.known.add(mailbox)
                transaction.addressed.append(addressed)
        return RCPT_OK

    def _data(self, event: Data) -> Answer:
        transaction, reception = self._open(), self._reception
        low = reception.space.low(transaction.size)
        if low is not None:
            return self._refuse_message(transaction, transaction.size, Verdict(LOW_DISK, low))
        transaction.queue_id = reception.new_id()
        transaction.at = reception.journal.wall()
        path = f"{reception.staging}/{transaction.queue_id}"
        transaction.staging = Staging(reception.disk, path, reception.space, partial(self._head, transaction))
        return START

    def _content(self, event: Content) -> Answer:
        staging = self._open().staging
        assert staging is not None, "content outside the data phase"
        staging.add(event.chunk)
        return None

    def _head(self, transaction: Transaction, whole: bytes) -> bytes | None:
        """Judge the head at the start of `whole`, and make the octets that go in front of it; None: refused."""
        head = find_head(whole, MEMORY_MAXIMUM)
        if not head.whole:
            why = Reason(f"the header has more than {MEMORY_MAXIMUM} octets", "mta.receive.staging")
            transaction.refusal = Verdict(HEADER_TOO_BIG, why)
            return None
        hops, most = received_count(head.octets), self._reception.settings.limits.received_fields
        if hops > most:
            transaction.refusal = Verdict(LOOP, Reason(f"{hops} Received fields, {most} allowed", "RFC 5321 §6.3"))
            return None
        verdict = self._rules.head(self._conversation, transaction, head.octets)
        if isinstance(verdict, Verdict):
            transaction.refusal = verdict
            return None
        ids = values(head.octets, b"message-id") or values(verdict, b"message-id")
        transaction.message_id = ids[0].decode("utf-8", "replace") if ids else ""
        return self._received(transaction) + verdict + head.separator

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
        content = staging.finish()
        if transaction.refusal is not None:
            return self._refuse_message(transaction, event.size, transaction.refusal)
        if content is None:
            assert staging.failed is not None, "content is kept, refused, or could not be stored"
            return self._refuse_message(transaction, event.size, _not_stored(staging.failed))
        conversation = self._conversation
        envelope = Envelope(
            transaction.reverse_path,
            tuple([addressed.recipient for addressed in transaction.addressed]),
            Body(transaction.body),
            transaction.smtputf8,
        )
        accepted = Accepted(
            transaction.queue_id,
            transaction.at,
            envelope,
            transaction.addressed,
            content,
            staging.size + len(staging.prefix),
            event.eight_bit or not staging.prefix.isascii(),
            Origin(
                self._rules.name,
                conversation.peer.session,
                conversation.account.login if conversation.account else "",
                conversation.peer.address,
            ),
        )
        committed = defer.maybeDeferred(self._reception.commit.commit, accepted)
        return committed.addCallbacks(
            self._committed,
            self._not_committed,
            callbackArgs=(transaction, accepted.size),
            errbackArgs=(transaction, accepted.size),
        )

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
        verdict = Verdict(event.reply, Reason(event.reply.text, "mta.smtp"))
        self._refuse_message(transaction, event.size, verdict)
        self._drop()
        return None

    def _authenticate(self, event: Authenticate) -> Answer:
        waiting = defer.ensureDeferred(self._rules.authenticate(self._conversation, event))
        return waiting.addCallback(self._authenticated, event)

    def _authenticated(self, verdict: Verdict, event: Authenticate) -> Reply:
        # Too late, the peer has had another reply: whoever logged in does not know of it.
        if self._event is event and self._session.owes_reply:
            self._conversation.account = verdict.account
        return verdict.reply

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

    # Parts

    def _open(self) -> Transaction:
        assert self._transaction is not None, "the session core gives such an event only in a transaction"
        return self._transaction

    def _drop(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None and transaction.staging is not None:
            transaction.staging.drop()

    def _refused(self, kind: Kind, verdict: Verdict, level: Level = Level.INFO, **fields: Any) -> None:
        self._conversation.refused += 1
        self._reception.journal.note(
            kind,
            verdict.reason,
            level=level,
            session=self._conversation.peer.session,
            address=self._conversation.peer.address,
            reply=str(verdict.reply),
            **fields,
        )

    def _refuse_message(
        self, transaction: Transaction, size: int, verdict: Verdict, level: Level = Level.INFO
    ) -> Reply:
        self._refused(
            Kind.MESSAGE_REFUSED,
            verdict,
            level,
            sender=str(transaction.reverse_path or ""),
            recipients=_names(transaction),
            size=size,
        )
        return verdict.reply


def _names(transaction: Transaction) -> str:
    return " ".join(map(str, transaction.named))


def _not_stored(error: BaseException) -> Verdict:
    full = isinstance(error, OSError) and error.errno in _FULL
    return Verdict(NOT_STORED_FULL if full else NOT_STORED, Reason(f"{type(error).__name__}: {error}", "disk"))


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

"""From the end of the data to its reply: whose mail it is, what policies say of the whole, and the commit.

==========================================  ===========================================================================
step                                        what may end it here
==========================================  ===========================================================================
the head was judged while it came           its refusal
the content is staged                       451 or 452: it could not be kept
policies of ``headers`` have their say      their refusal
whose mail it is (`mta.mailauth`)           550 where DMARC says so, 451 where it cannot be told and that is wanted
policies of ``message`` have their say      their refusal
nobody waits for the reply any more         nothing is kept: the peer sends it again
fields in front, signatures                 –
`fate`: envelope, folder, held              250, where it is discarded
commit                                      451 or 452
==========================================  ===========================================================================

Changes come first, then signatures over what leaves us, then the trace fields (RFC 6376 §5.1, RFC 8601 §5), and on top
the ARC set of what an alias sends on.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import defer, task
from twisted.python.failure import Failure

from mta.disk.lane import LaneFull
from mta.mail.envelope import Body, Envelope
from mta.mail.reason import Reason
from mta.mailauth.authres import authentication_results, results_text
from mta.mailauth.authres_reader import without_forged
from mta.mailauth.disposition import Action, Disposition, decide, refusal
from mta.mailauth.dmarc_row import dmarc_row, encode
from mta.mailauth.received_spf import received_spf
from mta.mailauth.result import Authentication, summary
from mta.maildir.volume import VolumeSuspect
from mta.message.trace import received
from mta.observe.event import Kind, Level
from mta.policy.chain import NOTHING, Chain, Ruling
from mta.policy.changes import MemoryBody
from mta.policy.facts import Stage
from mta.policy.verdict import File
from mta.receive.changing import fate
from mta.receive.commit import Accepted, Committed
from mta.receive.decision import LEADS_NOWHERE, NOT_STORED, NOT_STORED_FULL, TOO_LATE, Decision
from mta.receive.reception import Reception, Transaction
from mta.receive.staging import Staged
from mta.receive.telling import Teller, names
from mta.settings.directory import Local
from mta.smtp import status
from mta.smtp.event import EndOfData, Event
from mta.smtp.reply import Reply, reply
from mta.spool.port import Origin, SpoolSuspect, StagedContent

T = TypeVar("T")

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Acceptance:
    """Ends the messages of one session. `too_late` says whether the peer had another reply to an event, or is gone."""

    def __init__(
        self, reception: Reception, service: str, teller: Teller, chain: Chain, too_late: Callable[[Event], bool]
    ) -> None:
        self._reception = reception
        self._service = service
        self._teller = teller
        self._chain = chain
        self._too_late = too_late

    def end(self, event: EndOfData, transaction: Transaction) -> Reply | defer.Deferred[Reply]:
        """Answer the end of the data of `transaction`."""
        staging = transaction.staging
        assert staging is not None, "an end of data without its beginning"
        staged = staging.finish()
        if transaction.refusal is not None:
            return self._refuse(transaction, event.size, transaction.refusal)
        if staged is None:
            assert staging.failed is not None, "content is kept, refused, or could not be stored"
            return self._refuse(transaction, event.size, _not_stored(staging.failed))
        if transaction.judging is None and transaction.check is None and not self._chain.wants(Stage.MESSAGE):
            try:
                return self._accept(event, transaction, staged, NOTHING)
            except BaseException:
                self._forget(transaction)
                raise
        return defer.Deferred.fromCoroutine(self._judge_message(event, transaction, staged))

    async def _judge_message(self, event: EndOfData, transaction: Transaction, staged: Staged) -> Reply:
        """Learn whose it is, and have policies judge the whole; until it is committed nobody but the peer has it."""
        try:
            refused = None
            if transaction.judging is not None:
                refused = self._teller.hear(Stage.HEADERS, transaction, await transaction.judging)
            if refused is None and transaction.check is not None:
                refused = self._judge_author(event, transaction, await transaction.check.finish())
            ruling = NOTHING
            if refused is None and self._chain.wants(Stage.MESSAGE):
                body = staged.body(self._reception.disk, event.size)
                head = self._without_forged(staged.head.octets)
                facts = self._teller.facts(Stage.MESSAGE, transaction, head=head, body=body, size=event.size)
                ruling = await settled(self._chain.ask(facts))
                refused = self._teller.hear(Stage.MESSAGE, transaction, ruling)
            delay = ruling.delay
            if delay:
                await task.deferLater(self._reception.clock, delay, lambda: None)
            if self._too_late(event):
                self._forget(transaction)
                return TOO_LATE
            if refused is not None:
                return self._refuse(transaction, event.size, refused)
            accepted = self._accept(event, transaction, staged, ruling)
        except defer.CancelledError:
            self._forget(transaction)
            if not self._too_late(event):
                raise
            return TOO_LATE  # the peer is gone, and with it the questions about its mail
        except BaseException:
            self._forget(transaction)
            raise
        return await settled(accepted)

    def _accept(
        self, event: EndOfData, transaction: Transaction, staged: Staged, ruling: Ruling
    ) -> Reply | defer.Deferred[Reply]:
        """Put the trace fields in front, and make the message ours."""
        conversation, facts = self._teller.conversation, ruling.facts
        fields = facts.head if facts is not None else self._without_forged(staged.head.octets)
        body = facts.body if facts is not None and isinstance(facts.body, MemoryBody) else None
        prefix = self._trace(transaction) + self._signatures(transaction, fields, body) + transaction.fields
        prefix = self._seal(transaction, prefix + fields, body) + prefix
        if body is None:
            content = staged.content(prefix, fields)
        else:
            assert transaction.staging is not None
            transaction.staging.drop()
            content = prefix + fields + b"\r\n" + body.octets
        if isinstance(content, StagedContent):
            head, size = content.head, len(content.head) + event.size - len(staged.head.octets)
        else:
            head, size = content, len(content)
        after = fate(transaction.reverse_path, transaction.addressed, transaction.said, self._reception.address)
        if after.nowhere is not None:
            return self._refuse(transaction, size, Decision(LEADS_NOWHERE, after.nowhere))
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
                self._service,
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
            callbackArgs=(transaction, accepted),
            errbackArgs=(transaction, accepted.size),
        )

    def _judge_author(
        self, event: EndOfData, transaction: Transaction, authentication: Authentication
    ) -> Decision | None:
        """Note whose mail it is, and do what follows from that."""
        peer, settings = self._teller.conversation.peer, self._reception.settings.mailauth
        disposition = decide(authentication, settings, peer.address)
        transaction.authentication = authentication
        self._reception.journal.note(
            Kind.MESSAGE_CHECKED,
            disposition.reason,
            session=peer.session,
            queue_id=transaction.queue_id,
            disposition=disposition.action.value,
            address=peer.address,
            sender=str(transaction.reverse_path or ""),
            recipients=names(transaction),
            size=event.size,
            **summary(authentication),
        )
        self._note_row(transaction, authentication, disposition)
        if disposition.action in (Action.REJECT, Action.DEFER):
            return Decision(refusal(disposition, authentication.dmarc), disposition.reason)
        if disposition.folder:
            transaction.said.append(File(disposition.reason, disposition.folder))
        return None

    def _note_row(self, transaction: Transaction, authentication: Authentication, disposition: Disposition) -> None:
        """Keep what a report to the author domain is made of (RFC 9990); the log does not show it."""
        sender = transaction.reverse_path
        row = dmarc_row(
            authentication,
            disposition,
            address=self._teller.conversation.peer.address,
            envelope_from=sender.domain if sender is not None else "",
            envelope_to=[mailbox.domain for mailbox in transaction.named],
        )
        if row is not None:
            self._reception.journal.note(
                Kind.DMARC_ROW, level=Level.DEBUG, queue_id=transaction.queue_id, row=encode(row)
            )

    def _authserv_id(self) -> str:
        settings = self._reception.settings
        return settings.mailauth.authserv_id or settings.hostname

    def _without_forged(self, head: bytes) -> bytes:
        """Results that others have written in our name are none (RFC 8601 §5)."""
        return without_forged(head, self._authserv_id())

    def _trace(self, transaction: Transaction) -> bytes:
        """Make the fields of mx and smtpd: whose mail it is, and how it came."""
        trace = self._received(transaction)
        if transaction.check is None:
            return trace
        authentication, sender = transaction.authentication, transaction.reverse_path
        address = self._teller.conversation.peer.address
        if self._reception.settings.mailauth.received_spf and authentication.spf is not None:
            helo, hostname = self._teller.conversation.helo, self._reception.settings.hostname
            spf = authentication.spf
            trace = received_spf(spf, hostname=hostname, address=address, helo=helo, sender=sender) + trace
        return authentication_results(self._authserv_id(), authentication, address=address, sender=sender) + trace

    def _signatures(self, transaction: Transaction, fields: bytes, body: MemoryBody | None) -> bytes:
        """Sign what leaves us, as it leaves us."""
        signing = transaction.signing
        if signing is None:
            return b""
        if body is not None:
            signing.replaced(body.pieces())
        return signing.sign(transaction.fields + fields)

    def _seal(self, transaction: Transaction, head: bytes, body: MemoryBody | None) -> bytes:
        """Seal what an alias of ours sends on, with what was found when it came."""
        sealing, authentication = transaction.sealing, transaction.authentication
        if sealing is None or authentication.arc is None:
            return b""
        if body is not None:
            sealing.replaced(body.pieces())
        address, sender = self._teller.conversation.peer.address, transaction.reverse_path
        results = results_text(self._authserv_id(), authentication, address=address, sender=sender)
        return sealing.seal(head, results, authentication.arc)

    def _discard(self, transaction: Transaction, size: int, reason: Reason) -> Reply:
        """End a message that was taken: it goes nowhere, and nobody is told but the log."""
        assert transaction.staging is not None
        transaction.staging.drop()
        self._reception.journal.note(
            Kind.MESSAGE_DISCARDED,
            reason,
            level=Level.NOTICE,
            session=self._teller.conversation.peer.session,
            queue_id=transaction.queue_id,
            **self._whose(),
            sender=str(transaction.reverse_path or ""),
            recipients=names(transaction),
            size=size,
            message_id=transaction.message_id,
        )
        return reply(250, status.OK, f"queued as {transaction.queue_id}")

    def _committed(self, committed: Committed, transaction: Transaction, accepted: Accepted) -> Reply:
        self._teller.conversation.accepted += 1
        self._reception.journal.note(
            Kind.MESSAGE_ACCEPTED,
            committed.reason,
            session=self._teller.conversation.peer.session,
            queue_id=transaction.queue_id,
            **self._whose(),
            sender=str(transaction.reverse_path or ""),
            recipients=names(transaction),
            size=accepted.size,
            message_id=transaction.message_id,
            **committed.told(),
            allowed=str(transaction.why),
            copies=len(accepted.addressed),
            **self._elsewhere(transaction, accepted),
        )
        return reply(250, status.OK, f"queued as {transaction.queue_id}")

    def _whose(self) -> dict[str, Any]:
        """Who brings a message: it stands with each, since its session may last, and the end of that come late."""
        conversation = self._teller.conversation
        peer, account = conversation.peer, conversation.account
        fields: dict[str, Any] = {"service": self._service, "address": peer.address, "helo": conversation.helo}
        if peer.tls is not None:
            fields["tls"] = str(peer.tls)
        if account is not None:
            fields["login"] = account.login
        return fields

    def _elsewhere(self, transaction: Transaction, accepted: Accepted) -> dict[str, Any]:
        """To whom a message goes that aliases or policies send elsewhere, and by which lines of aliases."""
        if [each.recipient.mailbox for each in accepted.addressed] == transaction.named:
            return {}
        directory = self._reception.settings.directory
        originals = [each.recipient.original for each in accepted.addressed]
        resolved = [directory.resolve(original) for original in originals if original is not None]
        sources = {reason.source for each in resolved if isinstance(each, Local) for reason in each.reasons}
        return {
            "expanded": " ".join(str(each.recipient.mailbox) for each in accepted.addressed),
            "aliases": ", ".join(sorted(sources)),
        }

    def _not_committed(self, failure: Failure, transaction: Transaction, size: int) -> Reply:
        staging, error = transaction.staging, failure.value
        assert staging is not None
        assert error is not None
        staging.drop()
        if not isinstance(error, OSError | LaneFull | SpoolSuspect | VolumeSuspect):
            self._reception.journal.fault("commit", error, queue_id=transaction.queue_id)
        return self._teller.refused_message(transaction, size, _not_stored(error), Level.ALERT)

    def _received(self, transaction: Transaction) -> bytes:
        conversation = self._teller.conversation
        peer = conversation.peer
        return received(
            helo=conversation.helo,
            address=peer.address,
            hostname=self._reception.settings.hostname,
            queue_id=transaction.queue_id,
            wall=transaction.at,
            rdns=transaction.authentication.iprev.name if transaction.authentication.iprev is not None else "",
            esmtp=conversation.extended,
            tls=(peer.tls.version, peer.tls.cipher) if peer.tls else None,
            authenticated=conversation.account is not None,
            smtputf8=transaction.smtputf8,
            recipient=transaction.named[0] if len(transaction.named) == 1 else None,
            uid=peer.uid,
        )

    def _refuse(self, transaction: Transaction, size: int, decision: Decision) -> Reply:
        self._forget(transaction)
        return self._teller.refused_message(transaction, size, decision)

    def _forget(self, transaction: Transaction) -> None:
        self._chain.reset(self._teller.conversation.peer.session)
        forget(transaction)


def forget(transaction: Transaction) -> None:
    """Give up what is under way for a message, and what was staged of it."""
    if transaction.check is not None:
        transaction.check.cancel()
    if transaction.judging is not None:
        transaction.judging.addErrback(lambda _: None)
        transaction.judging.cancel()
    if transaction.staging is not None:
        transaction.staging.drop()


async def settled(value: T | defer.Deferred[T]) -> T:
    """Wait for what may be there already."""
    return await value if isinstance(value, defer.Deferred) else value


def _not_stored(error: BaseException) -> Decision:
    full = isinstance(error, OSError) and error.errno in _FULL
    return Decision(NOT_STORED_FULL if full else NOT_STORED, Reason(f"{type(error).__name__}: {error}", "disk"))

"""What is told of a session and its transaction: facts to policies, events to the journal.

Facts are put together only where somebody is asked.
"""

from __future__ import annotations

from typing import Any

from mta.mailauth.verification import SessionCheck
from mta.observe.event import Kind, Level
from mta.policy.chain import Ruling
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import Defer, Reject
from mta.receive.decision import Decision
from mta.receive.reception import Conversation, Reception, Transaction
from mta.smtp.reply import Reply


class Teller:
    """Tells of one session. `conversation` is a new one after STARTTLS."""

    def __init__(
        self, reception: Reception, service: str, conversation: Conversation, check: SessionCheck | None
    ) -> None:
        self.conversation = conversation
        self._journal = reception.journal
        self._service = service
        self._check = check

    def facts(self, stage: Stage, transaction: Transaction | None = None, **new: Any) -> Facts:
        """Put together what is known; `new` is that of the stage itself."""
        conversation, check = self.conversation, self._check
        peer, account = conversation.peer, conversation.account
        known: dict[str, Any] = {
            "service": self._service,
            "session": peer.session,
            "address": peer.address,
            "port": peer.port,
            "early": conversation.early,
            "tls": peer.tls,
            "helo": conversation.helo,
            "extended": conversation.extended,
            "login": account.login if account is not None else "",
            "mechanism": conversation.mechanism,
            "unknown_recipients": conversation.unknown_recipients,
            "tags": conversation.tags,
        }
        if check is not None:
            known["iprev"] = check.iprev
        if transaction is not None:
            if check is not None:
                known |= {"helo_spf": check.helo, "spf": check.spf}
            known |= {
                "sender": transaction.reverse_path,
                "size": transaction.size,
                "smtputf8": transaction.smtputf8,
                "recipients": tuple(transaction.named),
                "queue_id": transaction.queue_id,
                "authentication": transaction.authentication,
                "tags": conversation.tags | transaction.tags,
            }
        return Facts(stage, **(known | new))

    def said(self, stage: Stage, ruling: Ruling, queue_id: str = "") -> None:
        """Note what policies say."""
        ruling.note(self._journal, stage, session=self.conversation.peer.session, queue_id=queue_id)

    def hear(self, stage: Stage, transaction: Transaction, ruling: Ruling) -> Decision | None:
        """Take what policies say of a message; a decision where they refuse it."""
        self.said(stage, ruling, transaction.queue_id)
        transaction.hear(ruling)
        return refusal(ruling.refusal) if ruling.refusal is not None else None

    def refused(
        self, kind: Kind, decision: Decision, level: Level = Level.INFO, *, queue_id: str = "", **fields: Any
    ) -> Reply:
        """Note a refusal, and return its reply."""
        self.conversation.refused += 1
        self._journal.note(
            kind,
            decision.reason,
            level=level,
            session=self.conversation.peer.session,
            queue_id=queue_id,
            address=self.conversation.peer.address,
            reply=str(decision.reply),
            **{"service": self._service, **fields},
        )
        return decision.reply

    def refused_message(
        self, transaction: Transaction, size: int, decision: Decision, level: Level = Level.INFO
    ) -> Reply:
        """Note that a message was refused, and return the reply."""
        return self.refused(
            Kind.MESSAGE_REFUSED,
            decision,
            level,
            queue_id=transaction.queue_id,
            sender=str(transaction.reverse_path or ""),
            recipients=names(transaction),
            size=size,
            message_id=transaction.message_id,
        )


def names(transaction: Transaction) -> str:
    """The forward-paths of a transaction, as events name them."""
    return " ".join(map(str, transaction.named))


def refusal(verdict: Reject | Defer) -> Decision:
    """What a policy refuses, as a decision of ours."""
    return Decision(verdict.reply, verdict.reason)

"""What policies are told of a session and its transaction, put together only where somebody is asked."""

from __future__ import annotations

from typing import Any

from mta.policy.facts import Facts, Stage
from mta.receive.reception import Conversation, Transaction


def facts_of(
    stage: Stage, service: str, conversation: Conversation, transaction: Transaction | None = None, **new: Any
) -> Facts:
    """Put the facts together; `new` are those of the stage itself."""
    peer, account = conversation.peer, conversation.account
    known: dict[str, Any] = {
        "service": service,
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
    if transaction is not None:
        known |= {
            "sender": transaction.reverse_path,
            "size": transaction.size,
            "smtputf8": transaction.smtputf8,
            "recipients": tuple(transaction.named),
            "queue_id": transaction.queue_id,
            "tags": conversation.tags | transaction.tags,
        }
    return Facts(stage, **(known | new))

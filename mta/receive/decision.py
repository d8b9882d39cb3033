"""A decision about one command: the reply it becomes, and why."""

from __future__ import annotations

from dataclasses import dataclass

from mta.mail.reason import Reason
from mta.settings.directory import Account
from mta.smtp import status
from mta.smtp.reply import Reply, reply


@dataclass(frozen=True, slots=True)
class Decision:
    """The reply that the peer gets and the reason that logs and history get."""

    reply: Reply
    reason: Reason
    account: Account | None = None
    """Who is logged in once the peer has got the reply."""


MAIL_OK = Decision(reply(250, status.SENDER_OK, "Sender OK"), Reason("anybody may send to domains of ours"))
RCPT_OK = reply(250, status.RECIPIENT_OK, "Recipient OK")
START = reply(354, None, "Send the message; end it with <CRLF>.<CRLF>")
VRFY = reply(252, status.RECIPIENT_OK, "Cannot tell; send mail and see")
LOW_DISK = reply(452, status.SYSTEM_FULL, "Not enough space here now; try again later")
NOT_STORED = reply(451, status.SYSTEM_FAULT, "Cannot store mail now; try again later")
NOT_STORED_FULL = reply(452, status.SYSTEM_FULL, "No space left here; try again later")
TLS_NOW = reply(220, status.OK, "Go ahead with TLS")
TLS_UNAVAILABLE = reply(454, status.SYSTEM_FAULT, "TLS not available now")
TOO_LATE = reply(451, status.SYSTEM_FAULT, "This took too long here; try again later")
"""What is said to nobody: the peer had another reply meanwhile, or is gone."""
LEADS_NOWHERE = reply(451, status.SYSTEM_FAULT, "A local policy sends this nowhere; try again later")
LOOP = reply(554, status.LOOP, "This message goes in circles")
HEADER_TOO_BIG = reply(552, status.MESSAGE_TOO_BIG, "The header of this message is too large")


def no_such_mailbox(named: object) -> Reply:
    """550 5.1.1 for a mailbox that a domain of ours does not have."""
    return reply(550, status.BAD_MAILBOX, f"<{named}>: no such mailbox here")


def relaying_denied(named: object) -> Reply:
    """550 5.7.1 for a domain that is not ours."""
    return reply(550, status.REFUSED, f"<{named}>: not a domain of ours; no relaying without authentication")

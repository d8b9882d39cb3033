"""The rules of mx: mail from other servers, for our domains only (RFC 5321 §3.6, §7.9).

Nobody logs in here. A recipient is taken when its domain is ours and the mailbox exists, refused with 550 5.1.1 where
it does not, and with 550 5.7.1 where the domain is not ours, or where a name that does not exist looks like a route
(the percent hack, bang paths, quoted addresses): no local-part means anything to us but the mailbox it names. A source
route is refused, not followed (RFC 5321 appendix C allows that). All of it is decided at RCPT, and a circle at the
end of the data, for all recipients if one of them had the message before: no bounce is ever owed to a forged sender.
"""

from __future__ import annotations

import re

from mta.mail.reason import Reason
from mta.message.header import been_in
from mta.receive.decision import LOOP, MAIL_OK, Decision, no_such_mailbox, relaying_denied
from mta.receive.reception import Conversation, Reception, Transaction
from mta.settings.directory import NotLocal, Unknown
from mta.settings.expansion import Addressed, expand
from mta.smtp import status
from mta.smtp.event import Authenticate, Mail, Rcpt
from mta.smtp.extension import Offer
from mta.smtp.reply import reply

_NO_LOGIN = Decision(
    reply(502, status.INVALID_COMMAND, "No authentication here; use the submission service"),
    Reason("mx offers no AUTH", "RFC 6409 §3.1"),
)

_ROUTE = re.compile(r"[%!@]")
"""What divides hosts from each other in the routes of old."""


class Mx:
    """Answers for the service ``mx``."""

    name = "mx"
    checks = True

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    def offer(self, conversation: Conversation) -> Offer:
        """What is offered to this peer now."""
        settings = self._reception.settings
        return Offer(
            starttls=self._reception.tls_ready and conversation.peer.tls is None,
            lenient_line_ends=settings.mx.lenient(conversation.peer.address),
        )

    def mail(self, conversation: Conversation, event: Mail) -> Decision:
        """Judge MAIL: everybody may send here."""
        return MAIL_OK

    def rcpt(
        self, conversation: Conversation, transaction: Transaction, event: Rcpt
    ) -> Decision | tuple[Addressed, ...]:
        """Judge RCPT: ours and existing, or refused."""
        named = event.mailbox
        resolution = self._reception.settings.directory.resolve(named)
        if isinstance(resolution, NotLocal):
            return Decision(relaying_denied(named), resolution.reason)
        if event.source_route:
            return Decision(relaying_denied(named), Reason("source routes are not followed", "RFC 5321 §3.6.1"))
        if isinstance(resolution, Unknown):
            if _ROUTE.search(named.local_part):
                why = Reason("a route in the local-part is not followed", "RFC 5321 §3.6.1, RFC 2505 §2.1")
                return Decision(relaying_denied(named), why)
            return Decision(no_such_mailbox(named), resolution.reason)
        return expand(named, resolution, self._reception.destination)

    def head(self, conversation: Conversation, transaction: Transaction, head: bytes) -> Decision | bytes:
        """Judge the head of the message: a mailbox that had it before ends the circle for all."""
        before = been_in(head)
        for addressed in transaction.addressed:
            mailbox = addressed.recipient.mailbox
            if addressed.account is not None and str(mailbox).lower() in before:
                return Decision(LOOP, Reason(f"{mailbox} has had this message before", "Delivered-To"))
        return b""

    async def authenticate(self, conversation: Conversation, event: Authenticate) -> Decision:
        """Never asked: AUTH is not offered."""
        return _NO_LOGIN

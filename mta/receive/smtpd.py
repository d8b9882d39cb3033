"""The rules of smtpd: submission by people and programs (RFC 6409).

Nobody sends without a login, save named networks as their own senders. Who logged in as alice sends as alice: the
reverse-path and every address of From must belong to the login, through its mailbox, an alias, or an exception in
``domain.toml``. A missing Date and Message-ID are added; nothing else of a message is touched (RFC 6409 §8).
"""

from __future__ import annotations

from mta.auth.checker import Accepted, Disabled, Refused
from mta.mail.reason import Reason
from mta.message.identify import From, from_mailboxes, missing_fields
from mta.observe.event import Kind, Level
from mta.policy.caps import Over
from mta.receive.decision import Decision, no_such_mailbox
from mta.receive.reception import Conversation, Reception, Transaction
from mta.receive.system_user import SystemUser
from mta.settings.directory import Account, NotLocal, Unknown
from mta.settings.expansion import Addressed, look_up
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.smtp.event import Authenticate, Mail, Rcpt
from mta.smtp.extension import Offer
from mta.smtp.reply import Reply, reply

AUTH_FIRST = reply(530, status.AUTH_REQUIRED, "Authentication required")
LOGGED_IN = reply(235, status.SECURITY_OK, "Welcome")
GUESSING = reply(421, status.TOO_MUCH, "Too many wrong passwords")
WRONG = reply(535, status.AUTH_FAILED, "User name or password is wrong")
NOT_NOW = reply(454, status.AUTH_TEMPORARY, "Cannot check passwords now; try again later")
ACCOUNT_DISABLED = reply(535, status.USER_DISABLED, "This account is disabled; ask your postmaster")
NO_LONGER = reply(530, status.USER_DISABLED, "This account is disabled; ask your postmaster")
ACCOUNT_GONE = reply(530, status.AUTH_REQUIRED, "This account is no longer here")
TOO_MANY_MESSAGES = reply(450, status.TOO_MUCH, "Too many messages from your network this hour; try again later")
TOO_MANY_RECIPIENTS = reply(452, status.TOO_MANY_RECIPIENTS, "Too many recipients for mail without a login")

_MECHANISMS = ("PLAIN", "LOGIN")
_SENDER_OK = reply(250, status.SENDER_OK, "Sender OK")


class Smtpd:
    """Answers for the service ``smtpd``."""

    name = "smtpd"
    checks = False

    def __init__(self, reception: Reception) -> None:
        self._reception = reception

    def offer(self, conversation: Conversation) -> Offer:
        """What is offered to this peer now; a named network's rights are settled here."""
        network = conversation.network = self._reception.settings.smtpd.network(conversation.peer.address)
        return Offer(
            starttls=self._reception.tls_ready and conversation.peer.tls is None,
            mechanisms=_MECHANISMS,
            auth_without_tls=network is not None and network.auth_without_tls,
            lenient_line_ends=network is not None and network.lenient_line_ends,
        )

    def mail(self, conversation: Conversation, event: Mail) -> Decision:
        """Judge MAIL: a login, and a reverse-path that belongs to it."""
        account = conversation.account
        if account is None:
            return self._without_login(conversation, event)
        directory = self._reception.settings.directory
        now = directory.account(account.login)
        if now is None:
            return Decision(ACCOUNT_GONE, Reason(f"{account.login} was removed", "reload"))
        if now.disabled is not None:
            return Decision(NO_LONGER, Reason(f"{account.login} is disabled", now.source))
        if event.reverse_path is None:
            return Decision(_SENDER_OK, Reason(f"{account.login} sends a notification", account.source))
        owned = directory.owns(account.login, event.reverse_path)
        if owned is None:
            why = Reason(f"{event.reverse_path} does not belong to {account.login}", account.source)
            return Decision(_not_yours(553, event.reverse_path, "sender"), why)
        return Decision(_SENDER_OK, owned)

    def _without_login(self, conversation: Conversation, event: Mail) -> Decision:
        network = conversation.network
        if network is None or not network.submit_without_login:
            return Decision(AUTH_FIRST, Reason("no login", "RFC 6409 §4.3"))
        if not self._network_owns(conversation, event.reverse_path):
            why = Reason(f"{event.reverse_path} is no sender of network {network.name}", network.source)
            return Decision(_not_yours(553, event.reverse_path, "sender"), why)
        if not self._reception.rate.take(network.name, network.messages_per_hour):
            why = Reason(f"{network.messages_per_hour} messages an hour are allowed", network.source)
            return Decision(TOO_MANY_MESSAGES, why)
        return Decision(_SENDER_OK, Reason(f"network {network.name} may send without a login", network.source))

    def _network_owns(self, conversation: Conversation, mailbox: Mailbox | None) -> bool:
        network = conversation.network
        if network is None or mailbox is None:
            return False
        return any(pattern.matches(mailbox) for pattern in network.senders)

    def rcpt(
        self, conversation: Conversation, transaction: Transaction, event: Rcpt
    ) -> Decision | tuple[Addressed, ...]:
        """Judge RCPT: anybody elsewhere, and who exists here."""
        network = conversation.network
        if conversation.account is None and network is not None and len(transaction.named) >= network.recipients:
            why = Reason(f"{network.recipients} recipients are allowed", network.source)
            return Decision(TOO_MANY_RECIPIENTS, why)
        resolution, addressed = look_up(self._reception.settings.directory, event.mailbox, self._reception.destination)
        if isinstance(resolution, Unknown):
            return Decision(no_such_mailbox(event.mailbox), resolution.reason)
        over = self._over_cap(conversation, transaction, event, isinstance(resolution, NotLocal))
        if over is not None:
            return Decision(reply(450, status.REFUSED.transient(), over.text), over.reason)
        return addressed

    def _over_cap(
        self, conversation: Conversation, transaction: Transaction, event: Rcpt, elsewhere: bool
    ) -> Over | None:
        """Say whether the login has sent its share of the day; a recipient elsewhere is counted."""
        caps, account = self._reception.caps, self._capped(conversation)
        if caps is None or account is None:
            return None
        over = None if transaction.named else caps.message(account.login, account.caps)
        if over is None and elsewhere:
            over = caps.recipient(account.login, account.caps, event.mailbox)
        return over

    def _capped(self, conversation: Conversation) -> Account | SystemUser | None:
        """Whose share of the day it is, with the caps of now."""
        account = conversation.account
        if isinstance(account, Account):
            return self._reception.settings.directory.account(account.login) or account
        return account

    def head(self, conversation: Conversation, transaction: Transaction, head: bytes) -> Decision | bytes:
        """Judge From, and add what is missing (RFC 6409 §8.1, §8.2)."""
        refused = self._judge_from(conversation, from_mailboxes(head))
        if refused is not None:
            return refused
        settings, caps, account = self._reception.settings, self._reception.caps, self._capped(conversation)
        if caps is not None and account is not None:
            caps.sent(account.login, account.caps)
        return missing_fields(head, transaction.queue_id, settings.hostname, transaction.at)

    def _judge_from(self, conversation: Conversation, found: From) -> Decision | None:
        if found.fault:
            return unreadable(found.fault)
        account, directory = conversation.account, self._reception.settings.directory
        for mailbox in found.mailboxes:
            if account is not None and directory.owns(account.login, mailbox) is None:
                why = Reason(f"From: {mailbox} does not belong to {account.login}", account.source)
                return Decision(_not_yours(550, mailbox, "From"), why)
            if account is None and not self._network_owns(conversation, mailbox):
                return Decision(
                    _not_yours(550, mailbox, "From"),
                    Reason(f"From: {mailbox} is no sender of this network", "[smtpd.network]"),
                )
        return None

    async def authenticate(self, conversation: Conversation, event: Authenticate) -> Decision:
        """Judge AUTH. An authorization identity other than the login's is refused (RFC 4616 §2)."""
        address = conversation.peer.address
        logged_in: Account | None = None
        used = ""
        decision = await self._reception.checker.authenticate(event.login, event.password, address)
        match decision:
            case Accepted(account=account):
                if event.authorization_identity and not self._same(event.authorization_identity, account.login):
                    why = Reason(f"{account.login} may not act as {event.authorization_identity}", "RFC 4616 §2")
                    answer = self._wrong(conversation)
                else:
                    why, answer, logged_in = decision.reason, LOGGED_IN, account
                    used = decision.app_password
            case Disabled():
                why, answer = decision.reason, ACCOUNT_DISABLED
            case Refused():
                why, answer = decision.reason, self._wrong(conversation)
            case _:
                why, answer = decision.reason, NOT_NOW
        self._reception.journal.note(
            Kind.LOGIN_ACCEPTED if answer is LOGGED_IN else Kind.LOGIN_REFUSED,
            why,
            level=Level.INFO if answer is LOGGED_IN else Level.NOTICE,
            session=conversation.peer.session,
            login=event.login,
            mechanism=event.mechanism,
            app_password=used,
            address=address,
        )
        return Decision(answer, why, logged_in)

    def _wrong(self, conversation: Conversation) -> Reply:
        conversation.wrong_passwords += 1
        most = self._reception.settings.auth.failures_per_session
        return WRONG if conversation.wrong_passwords < most else GUESSING

    def _same(self, identity: str, login: str) -> bool:
        account = self._reception.settings.directory.account(identity)
        return account is not None and account.login == login


def unreadable(fault: str) -> Decision:
    """Refuse a message whose author cannot be told for certain."""
    text = f"The From field cannot be read: {fault}"
    return Decision(reply(550, status.REFUSED, text), Reason(fault, "RFC 5322 §3.6.2"))


def _not_yours(code: int, mailbox: Mailbox | None, what: str) -> Reply:
    return reply(code, status.REFUSED, f"<{mailbox or ''}>: you may not use this {what} address")

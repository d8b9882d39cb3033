"""The rules of smtpd on the local socket: submission by the users and programs of this machine, without a password.

Who calls is told by the kernel (`mta.net.local`). A user sends as itself, ``alice@`` the host name or ``[local]
domain``, and as what ``[local.senders]`` gives it; root and the user that the server runs as send as anybody. That
holds for the reverse-path and for every address of From, save one: ``root`` of this machine may stand there, since cron
writes so for everybody's jobs; then Sender tells who it was. A missing From, Sender, Date or Message-ID is added;
nothing else of a message is touched. For policies and limits it is smtpd, with the login ``unix:alice``.

Knowingly not here: names of users in a thread. passwd(5) is read in no time; who has users in LDAP keeps them in a
cache (nscd, sssd), as for every other program.

EHLO tells the domain that a name without one means, by a keyword of our own (RFC 5321 §2.2.2): ``XORIGIN
mail.example.org``.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from mta.disk.owner import user_name
from mta.mail.reason import Reason
from mta.message.address import read_address_list
from mta.message.header import values
from mta.message.identify import From, from_mailboxes
from mta.receive.decision import Decision
from mta.receive.reception import Conversation, Reception, Transaction
from mta.receive.smtpd import Smtpd, unreadable
from mta.receive.system_user import SystemUser, system_user
from mta.settings.system import ROOT
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.smtp.event import Authenticate, Mail
from mta.smtp.extension import Offer
from mta.smtp.reply import reply

_SENDER_OK = reply(250, status.SENDER_OK, "Sender OK")
_NO_LOGIN = Decision(reply(502, status.INVALID_COMMAND, "No authentication here"), Reason("the kernel tells who calls"))
_ROOT = 0


class Local(Smtpd):
    """Answers for the local socket. `name_of` gives the name of a uid, `own` is the uid that the server runs as."""

    def __init__(
        self, reception: Reception, name_of: Callable[[int], str] = user_name, own: int | None = None
    ) -> None:
        super().__init__(reception)
        self._name_of = name_of
        self._trusted = (_ROOT, os.geteuid() if own is None else own)

    def offer(self, conversation: Conversation) -> Offer:
        """What is offered; who calls is settled here."""
        user = conversation.account = self._user(conversation)
        return Offer(more=(f"XORIGIN {user.mailbox.domain}",))

    def _user(self, conversation: Conversation) -> SystemUser:
        uid, settings = conversation.peer.uid, self._reception.settings
        assert uid is not None, "a connection to the local socket without its user"
        known = conversation.account  # the name is asked for once, since NSS may have to ask others; rights each time
        name = known.name if isinstance(known, SystemUser) else self._name_of(uid)
        return system_user(uid, name, uid in self._trusted, settings.local, settings.hostname)

    def mail(self, conversation: Conversation, event: Mail) -> Decision:
        """Judge MAIL: a reverse-path that is the user's. Its rights are those of now."""
        user = conversation.account = self._user(conversation)
        if event.reverse_path is None:
            return Decision(_SENDER_OK, Reason(f"{user.login} sends a notification", user.source))
        owned = user.owns(event.reverse_path)
        return _not_its_own(553, user, event.reverse_path) if owned is None else Decision(_SENDER_OK, owned)

    def head(self, conversation: Conversation, transaction: Transaction, head: bytes) -> Decision | bytes:
        """Judge From, and add what is missing."""
        user = self._user(conversation)
        added = b"" if values(head, b"from") else f"From: {user.mailbox}\r\n".encode()
        found = from_mailboxes(added + head)
        if any(user.owns(each) is None for each in found.mailboxes):
            sender = self._sender(user, head)
            if isinstance(sender, Decision):
                return sender
            added += sender
        judged = super().head(conversation, transaction, added + head)
        return judged if isinstance(judged, Decision) else added + judged

    def _sender(self, user: SystemUser, head: bytes) -> Decision | bytes:
        """The Sender of a message whose author is somebody else (RFC 5322 §3.6.2): the user, and nobody else."""
        written = values(head, b"sender")
        if not written:
            return f"Sender: {user.mailbox}\r\n".encode()
        addresses = read_address_list(written[0])
        if len(written) > 1 or isinstance(addresses, Reason):
            return unreadable("the Sender field cannot be read")
        return next((_not_its_own(550, user, each) for each in addresses.mailboxes if user.owns(each) is None), b"")

    def _judge_from(self, conversation: Conversation, found: From) -> Decision | None:
        if found.fault:
            return unreadable(found.fault)
        user = self._user(conversation)
        settings = self._reception.settings
        root = system_user(_ROOT, ROOT, False, settings.local, settings.hostname)
        others = (each for each in found.mailboxes if user.owns(each) is None and root.owns(each) is None)
        return next((_not_its_own(550, user, each) for each in others), None)

    async def authenticate(self, conversation: Conversation, event: Authenticate) -> Decision:
        """Never asked: AUTH is not offered."""
        return _NO_LOGIN


def _not_its_own(code: int, user: SystemUser, mailbox: Mailbox) -> Decision:
    text = f"<{mailbox}>: {user.name} may not send as this address; [local.senders] of mta.toml can allow it"
    return Decision(
        reply(code, status.REFUSED, text), Reason(f"{mailbox} does not belong to {user.login}", user.source)
    )

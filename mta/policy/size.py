"""How large a message may be for the domain of a recipient (``message_size`` in its ``domain.toml``).

Refused with 552 5.3.4 (RFC 1870 §6.1, §6.2) at RCPT for the size that MAIL declared, and at the end for the size that
it has: then for all recipients, since one reply must do for all; the reply names the one that it is too large for.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.mail.reason import Reason
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import Reject
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.smtp.reply import reply

SizeOf = Callable[[Mailbox], int | None]
"""The largest message for a mailbox, in octets; None: no bound of its own."""


class DomainSize:
    """The policy."""

    name = "size"
    stages = frozenset({Stage.RCPT, Stage.MESSAGE})

    def __init__(self, size_of: SizeOf) -> None:
        self._size_of = size_of

    def ask(self, facts: Facts) -> Reject | None:
        """Refuse what is too large."""
        mailboxes = facts.recipients
        if facts.stage is Stage.RCPT:
            assert facts.recipient is not None, "RCPT names a mailbox"
            mailboxes = (facts.recipient,)
        for mailbox in mailboxes:
            most = self._size_of(mailbox)
            if most is not None and facts.size > most:
                why = Reason(f"{facts.size} octets, and {mailbox.domain} takes {most}", "domain.toml message_size")
                text = f"<{mailbox}>: the message is too large, {most} octets are taken"
                return Reject(why, reply(552, status.MESSAGE_TOO_BIG, text))
        return None

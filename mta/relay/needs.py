"""What a message needs of its next hop, held against what the hop offers: its commands, or why it cannot go – pure.

==================================================  =============================  =================================
the message                                         the hop offers                 result
==================================================  =============================  =================================
is larger than its SIZE                             SIZE                           5.3.4, all (RFC 1870 §6.1)
has UTF-8 header fields under SMTPUTF8              no SMTPUTF8                    5.6.7, all (RFC 6531 §3.6)
has a non-ASCII reverse-path, beyond its domain     no SMTPUTF8                    5.6.7, all
has a non-ASCII recipient, beyond its domain        no SMTPUTF8                    5.6.7, that one
has an address with a non-ASCII domain only         no SMTPUTF8                    sent with A-labels (RFC 5891)
has octets above 127                                no 8BITMIME                    5.6.3, all (RFC 6152 §3)
==================================================  =============================  =================================

What a hop does not offer the next host of the route may: `mta.relay.remote` decides when it is final.

Knowingly not here: encoding 8-bit content for a 7-bit hop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mta.mail.outcome import Failed
from mta.mail.reason import Reason
from mta.settings.values import fold_domain
from mta.smtp.address import Mailbox
from mta.smtp.client import Command, Extensions, mail, rcpt
from mta.smtp.status import CONVERSION_NEEDED, MESSAGE_TOO_BIG, NON_ASCII_ADDRESS, Status
from mta.spool.port import Content, QueuedMessage, QueuedRecipient, head_of


@dataclass(slots=True)
class Fit:
    """The commands that send a message to this hop, and those recipients that it cannot be sent to."""

    mail: Command | None = None
    recipients: list[tuple[QueuedRecipient, Command]] = field(default_factory=list)
    failed: dict[int, Failed] = field(default_factory=dict)


def fit(
    message: QueuedMessage,
    content: Content,
    recipients: Sequence[QueuedRecipient],
    offer: Extensions,
    remote: str,
) -> Fit:
    """Hold `message` against `offer`, which `remote` (for reasons) made in its last EHLO.

    Raises OSError where the head has to be looked at and cannot be read.
    """
    envelope = message.envelope
    result = Fit()

    def fail(status: Status, text: str, whom: Sequence[QueuedRecipient] = recipients) -> Fit:
        outcome = Failed(Reason(text, remote), status, remote)
        result.failed |= dict.fromkeys((recipient.number for recipient in whom), outcome)
        return result

    if offer.size and len(content) > offer.size:
        return fail(MESSAGE_TOO_BIG, f"{len(content)} octets, and the host takes {offer.size}")
    if not offer.smtputf8 and envelope.smtputf8 and not head_of(content).octets.isascii():
        return fail(NON_ASCII_ADDRESS, "the header has UTF-8 in it, and the host offers no SMTPUTF8")
    if message.eight_bit and not offer.eight_bit_mime:
        return fail(CONVERSION_NEEDED, "the content has 8-bit octets, and the host offers no 8BITMIME")

    reverse_path = envelope.reverse_path
    utf8 = offer.smtputf8 and envelope.smtputf8
    if reverse_path is not None:
        sender = _sendable(reverse_path, offer.smtputf8)
        if sender is None:
            return fail(NON_ASCII_ADDRESS, f"{reverse_path} needs SMTPUTF8, and the host offers none")
        reverse_path = sender
        utf8 = utf8 or not sender.ascii
    for recipient in recipients:
        named = recipient.recipient.mailbox
        mailbox = _sendable(named, offer.smtputf8)
        if mailbox is None:
            fail(NON_ASCII_ADDRESS, f"{named} needs SMTPUTF8, and the host offers none", [recipient])
            continue
        result.recipients.append((recipient, rcpt(mailbox)))
        utf8 = utf8 or not mailbox.ascii

    parameters = []
    if offer.size is not None:
        parameters.append(f"SIZE={len(content)}")
    if offer.eight_bit_mime and message.eight_bit:
        parameters.append("BODY=8BITMIME")
    if utf8:
        parameters.append("SMTPUTF8")
    result.mail = mail(reverse_path, parameters)
    return result


def _sendable(mailbox: Mailbox, smtputf8: bool) -> Mailbox | None:
    """The form in which this hop takes an address; None where there is none."""
    if smtputf8 or mailbox.ascii:
        return mailbox
    folded = Mailbox(mailbox.local_part, fold_domain(mailbox.domain))
    return folded if folded.ascii else None

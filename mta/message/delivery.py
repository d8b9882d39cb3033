"""Final delivery: what a message gets in front when it goes into a mailbox (RFC 5321 §4.4).

``Return-Path`` keeps the reverse-path, and is the only one: those that came with the message are removed.
``Delivered-To`` names the mailbox, so that a circle is seen; ``X-Original-To`` the address that the sender named,
where that is another one (a subaddress or an alias).
"""

from __future__ import annotations

from mta.mail.envelope import Recipient
from mta.message.header import without_return_path
from mta.message.trace import delivered_to, return_path
from mta.smtp.address import Mailbox


def for_mailbox(content: bytes, reverse_path: Mailbox | None, recipient: Recipient) -> tuple[bytes, ...]:
    """Return the octets, in pieces, that go into the mailbox of `recipient`."""
    fields = return_path(reverse_path) + delivered_to(recipient.mailbox)
    if recipient.original is not None:
        fields += f"X-Original-To: {recipient.original}\r\n".encode()
    return (fields, *without_return_path([content]))

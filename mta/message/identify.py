"""What a submission server looks for and adds in a head (RFC 6409 §8): Date, Message-ID, and who From names.

Missing fields are added before the content; nothing that is there is touched, be it well formed or not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.mail.reason import Reason
from mta.message.address import read_address_list
from mta.message.header import fields, values
from mta.message.trace import date_time
from mta.smtp.address import Mailbox

_FROM_MAXIMUM = 10_000
"""Octets of the longest From field that is read: reading takes 4 µs an octet at worst."""

# RFC 5322 §3.6.4, without what makes a message id hard to quote: literals, obsolete forms, more than 998 octets
_MESSAGE_ID = re.compile(rb"""<[^\x00-\x20\x7f-\xff<>()"\\@]{1,200}@[^\x00-\x20\x7f-\xff<>()"\\@]{1,255}>""")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


def missing_fields(head: bytes, queue_id: str, hostname: str, wall: float) -> bytes:
    """Make the Date and Message-ID that `head` lacks (RFC 6409 §8.2, §8.3); empty octets where it has both."""
    added = ""
    if not values(head, b"date"):
        added += f"Date: {date_time(wall)}\r\n"
    if not values(head, b"message-id"):
        added += f"Message-ID: <{queue_id}@{hostname}>\r\n"
    return added.encode()


def message_id(head: bytes) -> str:
    """Return the Message-ID with its angle brackets; empty where there is none, several, or one that is malformed."""
    found = values(head, b"message-id")
    if len(found) != 1 or not _MESSAGE_ID.fullmatch(found[0]):
        return ""
    return found[0].decode("ascii")


@dataclass(frozen=True, slots=True)
class From:
    """Whom the From field names: at least one mailbox, or the fault that keeps us from saying so for certain."""

    mailboxes: tuple[Mailbox, ...] = ()
    fault: str = ""


def from_mailboxes(head: bytes) -> From:
    """Read the From field (RFC 5322 §3.6.2), to decide by it.

    In doubt it is a fault: no From or several, a group (RFC 6854 allows it, no login owns it), whatever
    `read_address_list` does not read, and a head that another reader may divide into other fields.
    """
    if _BARE.search(head):
        return From(fault="the header has a bare CR, LF or NUL")
    found = []
    for field in fields(head):
        if not field.name:
            return From(fault="the header has a line that is no field")
        if field.name == b"from":
            found.append(field.value)
    if len(found) != 1:
        return From(fault="there are several From fields" if found else "there is no From field")
    if len(found[0]) > _FROM_MAXIMUM:
        return From(fault=f"it has more than {_FROM_MAXIMUM} octets")
    addresses = read_address_list(found[0])
    if isinstance(addresses, Reason):
        return From(fault=addresses.text)
    if addresses.groups:
        return From(fault="it names a group")
    if not addresses.mailboxes:
        return From(fault="it names nobody")
    return From(addresses.mailboxes)

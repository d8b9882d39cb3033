"""Values of the port as rows of the tables in `schema`, and back.

Mailboxes stand in the database as text, in the form in which they go over the wire; `parse_stored` reads what we
wrote, not what a peer says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mta.mail.envelope import Body, Envelope, Notify, Recipient
from mta.mail.reason import Reason
from mta.smtp.address import Mailbox
from mta.spool.port import Message, Origin, QueuedMessage, QueuedRecipient, State

Value = str | int | float | bytes | None
Row = tuple[Value, ...]

INSERT_MESSAGE = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""Takes a `message_row`."""
INSERT_RECIPIENT = "INSERT INTO recipient VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
"""Takes each of the `recipient_rows`."""
SELECT_MESSAGE = """
    SELECT queue_id, accepted, reverse_path, body, smtputf8, envid, ret, size, eight_bit,
    service, session, login, address, label, priority FROM message
"""
"""Gives rows for `queued_message`."""
SELECT_RECIPIENT = """
    SELECT number, mailbox, original, notify, orcpt, destination, state, due, attempts, crashes,
    reason_text, reason_source, warned, folder FROM recipient
"""
"""Gives rows for `queued_recipient`."""

_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)


def parse_stored(text: str) -> Mailbox:
    """Read what ``str(mailbox)`` gave."""
    local_part, at, domain = text.rpartition("@")
    if not at or domain.endswith('"'):
        local_part, domain = text, ""  # postmaster, without a domain (RFC 5321 §4.5.1)
    if local_part.startswith('"'):
        local_part = _QUOTED_PAIR.sub(r"\1", local_part[1:-1])
    return Mailbox(local_part, domain)


def message_row(message: Message, in_file: bool) -> Row:
    """Return the row of table `message`."""
    envelope, origin = message.envelope, message.origin
    return (
        message.queue_id,
        message.accepted,
        _stored(envelope.reverse_path),
        envelope.body.value,
        envelope.smtputf8,
        envelope.envid,
        envelope.ret,
        message.size,
        message.eight_bit,
        origin.service,
        origin.session,
        origin.login,
        origin.address,
        origin.label,
        origin.priority,
        in_file,
    )


def recipient_rows(message: Message) -> list[Row]:
    """Return the rows of table `recipient`. Raises ValueError where there is none, or not one destination for each."""
    held = message.held
    state = State.HELD if held else State.ACTIVE if message.active else State.WAITING
    named = zip(message.envelope.recipients, message.destinations, strict=True)
    rows: list[Row] = [
        (
            message.queue_id,
            number,
            str(recipient.mailbox),
            _stored(recipient.original),
            recipient.notify.value,
            recipient.orcpt,
            destination,
            state,
            message.accepted,
            0,
            0,
            held.text if held else None,
            held.source if held else None,
            False,
            recipient.folder,
        )
        for number, (recipient, destination) in enumerate(named)
    ]
    if not rows:
        raise ValueError(f"message {message.queue_id} has no recipient")
    return rows


def queued_recipient(row: tuple[Any, ...]) -> QueuedRecipient:
    """Make the value of a row of `SELECT_RECIPIENT`."""
    number, mailbox, original, notify, orcpt, destination, state, due, attempts, crashes, *rest = row
    text, source, warned, folder = rest
    return QueuedRecipient(
        number=number,
        recipient=Recipient(parse_stored(mailbox), original and parse_stored(original), Notify(notify), orcpt, folder),
        destination=destination,
        state=State(state),
        due=due,
        attempts=attempts,
        crashes=crashes,
        reason=None if text is None else Reason(text, source),
        warned=bool(warned),
    )


def queued_message(row: tuple[Any, ...], recipients: Sequence[QueuedRecipient]) -> QueuedMessage:
    """Make the value of a row of `SELECT_MESSAGE` and of all its recipients."""
    queue_id, accepted, reverse_path, body, smtputf8, envid, ret, size, eight_bit, *origin = row
    envelope = Envelope(
        reverse_path and parse_stored(reverse_path),
        tuple(queued.recipient for queued in recipients),
        Body(body),
        bool(smtputf8),
        envid,
        ret,
    )
    return QueuedMessage(queue_id, accepted, envelope, size, bool(eight_bit), Origin(*origin), tuple(recipients))


def _stored(mailbox: Mailbox | None) -> str | None:
    return None if mailbox is None else str(mailbox)

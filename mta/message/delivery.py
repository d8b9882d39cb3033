"""Final delivery: what a message gets in front when it goes into a mailbox (RFC 5321 §4.4).

``Return-Path`` keeps the reverse-path, and is the only one: those that came with the message are removed.
``Delivered-To`` names the mailbox, so that a circle is seen; ``X-Original-To`` the address that the sender named,
where that is another one (a subaddress or an alias).

A Return-Path beyond the first `mta.message.header.HEAD_MAXIMUM` octets is not looked for: no longer head is accepted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mta.mail.envelope import Recipient
from mta.message.header import Head, been_in, find_head, without_return_path
from mta.message.trace import delivered_to, return_path
from mta.smtp.address import Mailbox

PIECE = 1 << 20
"""Octets of the largest piece of a message in memory: what is done to one holds up the interpreter for two
milliseconds."""


@dataclass(frozen=True, slots=True)
class Rejoined:
    """Pieces of a message with another beginning, to be iterated over as often as `pieces` can be.

    `beginning` stands in place of the first `skipped` octets of `pieces`.
    """

    beginning: tuple[bytes, ...]
    pieces: Iterable[bytes]
    skipped: int

    def __iter__(self) -> Iterator[bytes]:
        pieces, skipped = iter(self.pieces), self.skipped
        first = next(pieces, b"")  # before anything is given: what cannot be read is known by then
        yield from self.beginning
        while skipped >= len(first) > 0:
            skipped -= len(first)
            first = next(pieces, b"")
        if first:
            yield first[skipped:]
        yield from pieces


@dataclass(frozen=True, slots=True)
class Deliverable:
    """A message on its way into mailboxes, its head looked at once for all of them."""

    pieces: tuple[bytes, ...] | Rejoined
    """The content without the Return-Path fields of others. A tuple where it is in memory."""
    been_in: frozenset[str]
    """The mailboxes, in lower case, that it was in before (see `mta.message.header.been_in`)."""

    def for_mailbox(self, reverse_path: Mailbox | None, recipient: Recipient) -> tuple[bytes, ...] | Rejoined:
        """Return the octets, in pieces, that go into the mailbox of `recipient`. A tuple where they are in memory."""
        fields = return_path(reverse_path) + delivered_to(recipient.mailbox)
        if recipient.original is not None:
            fields += f"X-Original-To: {recipient.original}\r\n".encode()
        pieces = self.pieces
        if isinstance(pieces, Rejoined):
            return Rejoined((fields, *pieces.beginning), pieces.pieces, pieces.skipped)
        return (fields, *pieces)


def deliverable(content: bytes) -> Deliverable:
    """Look at the head of `content`, and cut it into pieces."""
    head = find_head(content).octets
    kept = without_return_path(head)
    if kept is head and len(content) <= PIECE:
        pieces = [content]
    else:
        pieces = [kept, *(content[start : start + PIECE] for start in range(len(head), len(content), PIECE))]
    return Deliverable(tuple(pieces), been_in(head))


def deliverable_pieces(head: Head, pieces: Iterable[bytes]) -> Deliverable:
    """Take `head` for what was found in content that is not in memory, and comes in `pieces` for each copy."""
    kept = without_return_path(head.octets)
    return Deliverable(Rejoined((kept,), pieces, len(head.octets)), been_in(head.octets))

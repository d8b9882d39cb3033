"""What a policy is told: everything known of session and message at a stage, as one frozen value.

=============  =======================================================  ============================================
stage          when                                                     new in `Facts`
=============  =======================================================  ============================================
``connect``    before the greeting                                      service, address, port, iprev
``helo``       EHLO or HELO                                             helo, extended, tls, early
``auth``       a login succeeded                                        login, mechanism
``mail``       MAIL                                                     sender, size
``rcpt``       RCPT, once for each recipient; ours, and existing        recipient
``data``       DATA, before 354                                         recipients
``headers``    the head has come                                        head
``message``    the content is whole                                     body, authentication
``route``      outbound: before an attempt                              queue_id, destination, recipients
``attempt``    outbound: after an attempt                               outcome
=============  =======================================================  ============================================

What was known at an earlier stage of the same transaction stays known.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from mta.mail.tlsinfo import TlsInfo
from mta.mailauth.result import Authentication, Iprev, Spf
from mta.smtp.address import Mailbox


class Stage(enum.Enum):
    """When a policy is asked; the value is the word in ``etc/`` and the name of an administrator's function."""

    CONNECT = "connect"
    HELO = "helo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    HEADERS = "headers"
    MESSAGE = "message"
    ROUTE = "route"
    ATTEMPT = "attempt"


PIECE = 64 * 1024
"""Octets of a body that are given, or looked at, in one go: SHA-256 takes some 50 µs for them."""


class Body(Protocol):
    """The octets behind the head of a message; from memory or from a file, so they are read in pieces."""

    @property
    def size(self) -> int:
        """Octets in all."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Give the octets in pieces of at most 64 KiB. May block on the disk: large ones belong on a thread."""
        ...


def in_pieces(octets: bytes, start: int = 0) -> Iterator[bytes]:
    """Give octets that are in memory, from `start` on, as `Body.pieces` does."""
    for at in range(start, len(octets), PIECE):
        yield octets[at : at + PIECE]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known. A field whose stage has not come holds its default."""

    stage: Stage
    service: str = "mx"
    """``mx`` or ``smtpd``."""
    session: str = ""
    """The id of the session in logs and history."""
    address: str = ""
    """IP address of the peer as text."""
    port: int = 0
    iprev: Iprev | None = None
    """The confirmed name of the address; None: not looked up."""
    early: bool = False
    """Whether the peer talked before it was greeted."""
    tls: TlsInfo | None = None
    helo: str = ""
    extended: bool = False
    login: str = ""
    mechanism: str = ""
    sender: Mailbox | None = None
    """The reverse-path; None is ``<>`` (from the stage ``mail`` on)."""
    size: int = 0
    """Octets: as declared in MAIL, then as they came."""
    smtputf8: bool = False
    helo_spf: Spf | None = None
    spf: Spf | None = None
    """Known from the stage ``rcpt`` on where SPF is checked."""
    recipient: Mailbox | None = None
    recipients: tuple[Mailbox, ...] = ()
    """The forward-paths that were accepted so far, as RCPT said them."""
    queue_id: str = ""
    head: bytes = b""
    """All fields, as they came, each with its CRLF; without the empty line."""
    body: Body | None = None
    authentication: Authentication = Authentication()
    """Results of all checks, from the stage ``message`` on."""
    tags: frozenset[str] = frozenset()
    """What earlier policies said of this session or message with `Tag`."""
    unknown_recipients: int = 0
    """How many mailboxes that do not exist this session has named."""
    destination: str = ""
    outcome: str = ""
    """After an attempt: ``delivered``, ``deferred`` or ``failed``."""
    reply: str = ""
    """After an attempt: the remote reply, or the reason."""
    rehearsal: bool = False
    """Whether somebody only asks what would be: nothing may be counted or remembered, but in a copy that ends with the
    session (`mta.policy.rehearsal`)."""

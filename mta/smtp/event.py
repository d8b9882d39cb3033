"""What happens in a server session, as values: `ServerSession.next_event` gives them in order.

Those marked "owes a reply" stop the session until `ServerSession.reply`: no further event is given before it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from mta.smtp.address import Mailbox
from mta.smtp.reply import Reply


class Wait(enum.Enum):
    """Why there is no event."""

    NEED_DATA = "more octets are needed"
    AWAITING_REPLY = "the last event has no reply yet"


NEED_DATA: Final = Wait.NEED_DATA
AWAITING_REPLY: Final = Wait.AWAITING_REPLY


@dataclass(frozen=True, slots=True)
class Connected:
    """The connection stands. Owes a reply: 220; 554 (the session then answers 503 until QUIT); 421."""


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO (`extended`) or HELO. Owes a reply; of a 2xx only the code counts, the session writes name and keywords.

    `domain` is what the client calls itself. It may be no domain at all (RFC 5321 §4.1.4 forbids to refuse for that),
    but it is at most 255 characters of those that a domain or an address literal is made of, others turned into
    ``?``: it can stand in a header field, a log or a reply.
    """

    domain: str
    extended: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL. Owes a reply; 2xx opens a transaction."""

    reverse_path: Mailbox | None
    """None is ``<>``."""
    size: int | None = None
    """Octets, as declared; None: not declared (RFC 1870 §6)."""
    body: str = "7BIT"
    """``7BIT`` or ``8BITMIME`` (RFC 6152 §2)."""
    smtputf8: bool = False
    auth: str | None = None
    """Value of AUTH= with xtext decoded: a mailbox, or ``<>``; None: not given (RFC 4954 §5)."""


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT. Owes a reply; 2xx counts as a recipient."""

    mailbox: Mailbox
    """``Mailbox("postmaster", "")`` is ``<Postmaster>`` in any case (RFC 5321 §4.5.1)."""
    source_route: bool = False
    """Whether it came as ``<@relay:mailbox>``; the route is ignored."""


@dataclass(frozen=True, slots=True)
class Data:
    """DATA with at least one recipient. Owes a reply; 354 begins the data phase."""


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the content, dot-unstuffed, as large as a read brought it. Lines end with CRLF, but pieces do not
    end at lines.
    """

    chunk: bytes


@dataclass(frozen=True, slots=True)
class EndOfData:
    """All content has come. Owes a reply, after which there is no transaction, whatever it says."""

    size: int
    """Octets of all pieces."""
    eight_bit: bool
    """Whether any octet was above 127."""


@dataclass(frozen=True, slots=True)
class DataRefused:
    """All content has come, and the session has refused it with `reply`. What was given of it is to be forgotten."""

    reply: Reply
    size: int


@dataclass(frozen=True, slots=True)
class Authenticate:
    """An AUTH exchange has given a credential. Owes a reply: 235, 535 or 454 (RFC 4954 §6)."""

    mechanism: str
    authorization_identity: str
    """Whom to act as; empty: as `login` (RFC 4616 §2)."""
    login: str
    password: str

    def __repr__(self) -> str:
        return f"Authenticate({self.mechanism}, {self.authorization_identity!r}, {self.login!r}, …)"


@dataclass(frozen=True, slots=True)
class StartTLS:
    """STARTTLS. Owes a reply: 220 or 454. After a 220 the session is deaf until `ServerSession.tls_started`."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY. Owes a reply, 252 as a rule (RFC 5321 §3.5.3)."""

    text: str


@dataclass(frozen=True, slots=True)
class Reset:
    """The transaction is gone: RSET, a new EHLO or HELO, or STARTTLS."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT; 221 is written."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The session has refused a command by itself."""

    command: str
    """The verb; empty where it was none that we know (it may be a password out of step)."""
    reply: Reply


Event = (
    Connected
    | Hello
    | Mail
    | Rcpt
    | Data
    | Content
    | EndOfData
    | DataRefused
    | Authenticate
    | StartTLS
    | Vrfy
    | Reset
    | Quit
    | Refused
)

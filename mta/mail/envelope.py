"""The envelope: who sent it, who gets it, and what the parameters of MAIL and RCPT asked for (RFC 5321 §2.3.1)."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from mta.smtp.address import Mailbox


class Body(enum.Enum):
    """What the sender declared the content to be (RFC 6152 §2); the value is the parameter's."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT_MIME = "8BITMIME"


class Notify(enum.Flag):
    """When the sender wants a DSN for a recipient (RFC 3461 §4.1). `DEFAULT`: no wish, so failures and delays."""

    NEVER = 0
    SUCCESS = 1
    FAILURE = 2
    DELAY = 4
    DEFAULT = FAILURE | DELAY


_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,60}(?:\.[A-Za-z0-9][A-Za-z0-9 _-]{0,60}){0,5}")


def is_folder(text: str) -> bool:
    """Whether mail can be put into a folder of this name: letters, digits, ``-``, ``_``, space; dots divide levels."""
    return _FOLDER.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward-path, after aliases; `original` is what RCPT said where an alias changed it."""

    mailbox: Mailbox
    original: Mailbox | None = None
    notify: Notify = Notify.DEFAULT
    orcpt: str = ""
    """Original recipient as ``addr-type;address``, decoded (RFC 3461 §4.2)."""
    folder: str = ""
    """The folder of the Maildir that a copy for a mailbox of ours goes into; empty: the inbox."""

    @property
    def named(self) -> Mailbox:
        """The mailbox that the sender named."""
        return self.original or self.mailbox


@dataclass(frozen=True, slots=True)
class Envelope:
    """Reverse-path (None is ``<>``), recipients, and what the content needs of the next hop."""

    reverse_path: Mailbox | None
    recipients: tuple[Recipient, ...]
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    envid: str = ""
    ret: str = ""

"""Mailboxes and paths (RFC 5321 §4.1.2, RFC 6531 §3.3) as values, and how they are read.

A `Mailbox` is what stands between the angle brackets: local-part and domain, unquoted. It renders with the least
quoting that is correct, so that ``"alice"@x`` and ``alice@x`` are one value (RFC 5321 §4.1.2: "any quoting …
is to be treated as equivalent").

Equality is of octets; the domain is kept in lower case from the start (RFC 5321 §2.4: domains are not case
sensitive) and an address literal in one canonical form. How a local-part is compared is the owning domain's decision,
not ours. U-labels stay as they came, in lower case: turning them into A-labels is the work of who asks the DNS.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass
from typing import NamedTuple

from mta.smtp import grammar
from mta.smtp.limits import DEFAULT, Limits

_NEEDS_QUOTED_PAIR = re.compile(r'(["\\])')


@dataclass(frozen=True, slots=True)
class Mailbox:
    """``local-part@domain``; `domain` is a lower-case domain name or an address literal in its brackets.

    ``Mailbox("postmaster", "")`` is the one that needs no domain (RFC 5321 §4.5.1): whose it is, the settings say.
    """

    local_part: str
    domain: str

    def __str__(self) -> str:
        local_part = self.local_part
        if not grammar.DOT_STRING.fullmatch(local_part):
            local_part = '"' + _NEEDS_QUOTED_PAIR.sub(r"\\\1", local_part) + '"'
        return f"{local_part}@{self.domain}" if self.domain else local_part

    @property
    def ascii(self) -> bool:
        """Whether it can travel without SMTPUTF8 (RFC 6531 §3.3)."""
        return self.local_part.isascii() and self.domain.isascii()


POSTMASTER = Mailbox("postmaster", "")


class AddressFault(enum.Enum):
    """Why something is no mailbox or path; the value is said to the peer."""

    MALFORMED = "malformed address"
    LITERAL = "malformed address literal"
    LOCAL_PART_TOO_LONG = "local-part too long"
    DOMAIN_TOO_LONG = "domain too long"
    PATH_TOO_LONG = "path too long"


class Path(NamedTuple):
    """A reverse-path or forward-path."""

    mailbox: Mailbox
    source_route: bool
    """Whether it came as ``<@relay:mailbox>``. The route itself is ignored, as RFC 5321 §4.1.1.3 permits."""
    end: int
    """Where the text behind it begins."""


def path(mailbox: Mailbox | None) -> str:
    """Render a reverse-path or forward-path: ``<mailbox>``, or ``<>`` for the null reverse-path (None)."""
    return f"<{mailbox}>" if mailbox else "<>"


def parse_mailbox(text: str, limits: Limits = DEFAULT) -> Mailbox | AddressFault:
    """Read ``local-part@domain`` as it stands in a command; UTF-8 is taken, see `Mailbox.ascii`."""
    found = grammar.MAILBOX.fullmatch(text)
    if found is None:
        return AddressFault.MALFORMED
    if len(text.encode()) + len("<>") > limits.path:
        return AddressFault.PATH_TOO_LONG
    return _mailbox(found["local_part"], found["domain"], limits)


def parse_path(text: str, start: int = 0, limits: Limits = DEFAULT) -> Path | AddressFault:
    """Read the path that begins at `start`. What stands behind it, at `Path.end`, is the caller's to judge."""
    found = grammar.PATH.match(text, start)
    if found is None:
        return AddressFault.MALFORMED
    if len(found[0].encode()) > limits.path:
        return AddressFault.PATH_TOO_LONG
    mailbox = _mailbox(found["local_part"], found["domain"], limits)
    if isinstance(mailbox, AddressFault):
        return mailbox
    return Path(mailbox, found["route"] is not None, found.end())


def _mailbox(local_part: str, domain: str, limits: Limits) -> Mailbox | AddressFault:
    # RFC 5321 §4.5.3.1: the limits are of octets on the wire, so quotes count
    if len(local_part.encode()) > limits.local_part:
        return AddressFault.LOCAL_PART_TOO_LONG
    if len(domain.encode()) > limits.domain:
        return AddressFault.DOMAIN_TOO_LONG
    if domain[0] == "[":
        literal = address_literal(domain)
        if literal is None:
            return AddressFault.LITERAL
        domain = literal
    if local_part[0] == '"':
        local_part = grammar.QUOTED_PAIR.sub(r"\1", local_part[1:-1])
    return Mailbox(local_part, domain.lower() if domain[0] != "[" else domain)


def address_literal(text: str) -> str | None:
    """Bring ``[192.0.2.1]`` or ``[IPv6:2001:DB8:0::1]`` into canonical form (RFC 5952); None where it is neither.

    Also taken: ``::`` for a single group, as RFC 4291 §2.2 and against RFC 5321 §4.1.3. Not taken: leading zeros in
    IPv4, which some read as octal.
    """
    found = grammar.ADDRESS_LITERAL.fullmatch(text)
    if found is None:
        return None
    try:
        if found["tag"]:
            return f"[IPv6:{ipaddress.IPv6Address(found['address'])}]"
        return f"[{ipaddress.IPv4Address(found['address'])}]"
    except ValueError:
        return None

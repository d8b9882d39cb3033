"""What a question to the domain name system came to, as values.

`Found`, `NoData` and `NoSuchName` are facts about the name (RFC 2308 §1); `Failure` says nothing about it and is
always temporary: whoever asked for mail's sake defers. Names are text in lower case without the final dot; octets
that are no printable ASCII stand escaped as in a zone file (RFC 1035 §5.1), so no answer can put a control character
anywhere.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class RecordType(enum.IntEnum):
    """The record types that the server asks for; the value is the one on the wire (RFC 1035 §3.2.2)."""

    A = 1
    PTR = 12
    MX = 15
    TXT = 16
    AAAA = 28


@dataclass(frozen=True, slots=True, order=True)
class Mx:
    """A mail exchange (RFC 1035 §3.3.9). The lower preference is tried first."""

    preference: int
    exchange: str
    """Empty for the root, which is the null MX of RFC 7505."""

    def __str__(self) -> str:
        return f"{self.preference} {self.exchange}."


Record = str | bytes | Mx
"""A and AAAA: the address as text. PTR: the name. TXT: its strings joined (RFC 7208 §3.3). MX: `Mx`."""


@dataclass(frozen=True, slots=True)
class Found:
    """There are records."""

    name: str
    """The name that has them: the one asked for, or the one at the end of its CNAME chain."""
    records: tuple[Record, ...]
    ttl: int
    """Seconds for which it may still be believed."""
    authenticated: bool
    """Whether the name server says that DNSSEC proved it (AD, RFC 6840 §5.8). Never set for a server on another host:
    the bit could be forged on the way."""
    source: str
    """The name server, ``127.0.0.1:5353``."""


@dataclass(frozen=True, slots=True)
class NoData:
    """The name exists and has no record of this type."""

    name: str
    ttl: int
    authenticated: bool
    source: str


@dataclass(frozen=True, slots=True)
class NoSuchName:
    """The name does not exist (NXDOMAIN), or none of that form can (then `source` is the rule)."""

    name: str
    ttl: int
    authenticated: bool
    source: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Nobody could say: no server answered in time, or none could answer."""

    text: str
    source: str


Answer = Found | NoData | NoSuchName | Failure


def normal(name: str) -> str:
    """Return `name` as names are compared: lower case, without the final dot."""
    return name.lower().removesuffix(".")


_PRESENTED = {code: f"\\{code:03}" for code in (*range(0x21), 0x7F)} | {ord(mark): f"\\{mark}" for mark in '"();\\@$'}


def presented(name: str) -> str:
    """Return `name`, ASCII whose dots stand between labels, as answers write names: escaped as in a zone file."""
    return name.translate(_PRESENTED)

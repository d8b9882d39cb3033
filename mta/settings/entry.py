"""One entry of an allow or deny list: what it covers, and how exactly.

=========================  ============================================================  ===============================
text                       covers                                                        key
=========================  ============================================================  ===============================
``192.0.2.0/24``, ``::1``  a network or one address                                      ("network", version, length, …)
``alice@example.org``      one mailbox                                                   ("mailbox", local-part, domain)
``postmaster@``            this local-part in every domain                               ("local-part", local-part)
``example.org``            the domain and all below it                                   ("domain", name)
``<>``                     the null reverse-path                                         ("null",)
``*``                      everything                                                    ("any",)
=========================  ============================================================  ===============================

Of a network's key the last part is its leading `length` bits as a number: a plain tuple, since a list may have a
hundred thousand of them. Parts are folded, so that keys compare as domains and local-parts do.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from mta.settings.values import Kind, Unfit, fold_local_part, parse_address, parse_host_name
from mta.smtp.address import Mailbox

Key = tuple[str | int, ...]
ANY: Key = ("any",)
NULL: Key = ("null",)

_ADDRESS = re.compile(r"[0-9.]+(?:/[0-9]+)?|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:/[0-9]+)?")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry."""

    key: Key
    text: str
    """As it was written."""
    note: str = ""
    """Why it is there, in the administrator's words."""
    source: str = ""
    """File and line."""

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str, note: str = "", source: str = "") -> Entry:
        """Read the text form. Raises ValueError."""
        return cls(_key(text), text, note, source)

    @property
    def form(self) -> str:
        """The first part of its key."""
        return str(self.key[0])


def _key(text: str) -> Key:
    if text == "*":
        return ANY
    if text == "<>":
        return NULL
    if _ADDRESS.fullmatch(text):
        try:
            network = ipaddress.IPv6Network(text) if ":" in text else ipaddress.IPv4Network(text)
        except ValueError as error:
            raise Unfit(str(error)) from None
        return network_key(network.network_address, network.prefixlen)
    if text.endswith("@") and "@" not in text[:-1]:
        return local_part_key(parse_address(f"{text}example.org").local_part)
    if "@" in text:
        return mailbox_key(parse_address(text))
    return "domain", parse_host_name(text)


def network_key(address: IPAddress, length: int) -> Key:
    """The key of the network of `length` bits that holds `address`."""
    return "network", address.version, length, int(address) >> (address.max_prefixlen - length)


def mailbox_key(mailbox: Mailbox) -> Key:
    """The key of a mailbox whose domain is folded."""
    return "mailbox", fold_local_part(mailbox.local_part), mailbox.domain


def local_part_key(local_part: str) -> Key:
    """The key of a local-part in every domain."""
    return "local-part", fold_local_part(local_part)


def domain_keys(domain: str) -> Iterator[Key]:
    """The keys of a folded domain and of all above it, the longest first."""
    while domain:
        yield "domain", domain
        domain = domain.partition(".")[2]


ENTRY = Kind(
    'a network "192.0.2.0/24", an address, a domain "example.org", a mailbox "alice@example.org", a local-part '
    '"postmaster@", "<>" or "*"',
    Entry.parse,
)
Listed = Annotated[Entry, ENTRY]

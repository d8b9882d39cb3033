"""The kinds of value a setting may have beyond text, truth and number.

Each is a value with one text form. A field of a settings class names its kind with one of the aliases at the end; the
reader and the reference know kinds by nothing else.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import idna

from mta.settings.units import octets_text, parse_octets, parse_seconds, seconds_text
from mta.smtp.address import Mailbox, address_literal, parse_mailbox

AT_START = {"at_start": True}
"""Metadata of a field, or of a table and so of all its fields: taken once, at the start, and not by a reload."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 1123 §2.1 host names; A-labels and the underscore of service names stand, a final dot does not
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_ENDPOINT = re.compile(r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:]+)):(?P<port>[0-9]{1,5})")


class Unfit(ValueError):
    """A text is no value of its kind, and this says why, for people; a plain ValueError says no more than that."""


def fold_domain(domain: str) -> str:
    """Return the form in which domains compare: A-labels in lower case. What is no domain name is only lowered."""
    if domain.isascii():
        return domain.lower()
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        return domain.lower()


def fold_local_part(local_part: str) -> str:
    """Return the form in which the local-parts of our domains compare."""
    if local_part.isascii():
        return local_part.lower()
    return unicodedata.normalize("NFC", local_part.casefold())


def parse_host_name(text: str) -> str:
    """Read a host name (RFC 1123 §2.1, RFC 5890); gives it in A-labels and lower case. Raises ValueError."""
    name = fold_domain(text)
    if not _HOST_NAME.fullmatch(name):
        raise ValueError(text)
    return name


def parse_next_hop(text: str) -> str:
    """Read a host name, or an address in brackets as RFC 5321 §4.1.3 writes it. Raises ValueError."""
    return address_literal(text) or parse_host_name(text)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host (name or address, without brackets) and a TCP or UDP port: ``127.0.0.1:25``, ``[::1]:25``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read the text form. Raises ValueError."""
        found = _ENDPOINT.fullmatch(text)
        if not found or not 0 < int(found["port"]) < 65536:
            raise ValueError(text)
        if found["literal"]:
            return cls(str(ipaddress.IPv6Address(found["literal"])), int(found["port"]))
        return cls(parse_host_name(found["host"]), int(found["port"]))


@dataclass(frozen=True, slots=True)
class SystemdSocket:
    """A listening socket that systemd hands over under `name` (sd_listen_fds(3), ``FileDescriptorName=``)."""

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


Listen = Endpoint | SystemdSocket


def parse_listen(text: str) -> Listen:
    """Read ``host:port`` or ``systemd:name``. Raises ValueError."""
    if text.startswith("systemd:"):
        name = text.removeprefix("systemd:")
        if not name or not name.isascii() or not name.isprintable():
            raise ValueError(text)
        return SystemdSocket(name)
    return Endpoint.parse(text)


def parse_nameserver(text: str) -> Endpoint:
    """Read ``address`` (port 53, RFC 1035 §4.2) or ``address:port``. Raises ValueError."""
    try:
        return Endpoint(str(ipaddress.ip_address(text)), 53)
    except ValueError:
        endpoint = Endpoint.parse(text)
    return Endpoint(str(ipaddress.ip_address(endpoint.host)), endpoint.port)


def within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an IPv4 or IPv6 address, as text, is in one of `networks`. An IPv4-mapped address counts as IPv4."""
    if not networks:
        return False
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


@dataclass(frozen=True, slots=True)
class SenderPattern:
    """Addresses somebody may send as: ``news@example.net``, ``*@example.net``, or ``*`` for any.

    Both parts are folded, as `fold_domain` and `fold_local_part` do; ``*`` stands for anything.
    """

    local_part: str
    domain: str
    source: str = field(default="", compare=False)
    """The line that says so, ``etc/domains/example.org/domain.toml:4``."""

    def __str__(self) -> str:
        return "*" if self.domain == "*" else str(Mailbox(self.local_part, self.domain))

    @classmethod
    def parse(cls, text: str) -> SenderPattern:
        """Read the text form. Raises ValueError."""
        if text == "*":
            return cls("*", "*")
        mailbox = parse_address(text)
        return cls(fold_local_part(mailbox.local_part), mailbox.domain)

    def matches(self, mailbox: Mailbox) -> bool:
        """Whether it covers `mailbox`."""
        return self.domain in ("*", fold_domain(mailbox.domain)) and (
            self.local_part in ("*", fold_local_part(mailbox.local_part))
        )


def parse_address(text: str, domain: str = "") -> Mailbox:
    """Read ``local-part@domain``; with `domain` given, ``local-part`` alone is in it. Raises ValueError."""
    found = parse_mailbox(text)
    if not isinstance(found, Mailbox) and domain:
        found = parse_mailbox(f"{text}@{domain}")
    if not isinstance(found, Mailbox):
        raise ValueError(text)
    return Mailbox(found.local_part, fold_domain(found.domain))


def parse_wait(text: str) -> float:
    """Read a time that is more than nothing. Raises ValueError."""
    seconds = parse_seconds(text)
    if not seconds:
        raise ValueError(text)
    return seconds


def parse_separator(text: str) -> str:
    """Read a subaddress separator: one special character of a Dot-string, or nothing. Raises ValueError."""
    if text and (len(text) > 1 or text not in "!#$%&'+-/=?^_`{|}~."):
        raise ValueError(text)
    return text


@dataclass(frozen=True, slots=True)
class Within:
    """The bounds of a number, both included; None: no bound."""

    minimum: float
    maximum: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A value that is written as text: how it is read (ValueError where it is none), written, and described."""

    expected: str
    parse: Callable[[str], object]
    text: Callable[[Any], str] = str


PATH = Kind('a path, "../var"', str)
"""The reader makes it relative to the directory of ``mta.toml``."""
DERIVED = Kind("nothing", str)
"""Set by the reader: never a key."""
OCTETS = Kind('a size, "50M"', parse_octets, octets_text)
"""A whole number of octets may stand without quotes."""

Path = Annotated[str, PATH]
Derived = Annotated[str, DERIVED]
Octets = Annotated[int, OCTETS]
Seconds = Annotated[float, Kind('a time with its unit, "30s" or "1h30m"', parse_wait, seconds_text)]
SecondsOrNone = Annotated[float, Kind('a time with its unit, "30s" or "1h30m", or "0s"', parse_seconds, seconds_text)]
Mode = Annotated[int, Kind('a file mode in octal, "0600"', lambda text: int(text, 8), lambda mode: f"{mode:04o}")]
HostName = Annotated[str, Kind('a fully qualified host name, "mail.example.org"', parse_host_name)]
NextHop = Annotated[str, Kind('a host name, or an address in brackets, "[192.0.2.1]"', parse_next_hop)]
Listening = Annotated[
    Listen, Kind('an address and a port, "127.0.0.1:25" or "[::1]:25", or "systemd:name"', parse_listen)
]
Nameserver = Annotated[Endpoint, Kind('an address, "192.0.2.53", or one with its port', parse_nameserver)]
NetworkBlock = Annotated[Network, Kind('a network, "192.0.2.0/24" or "2001:db8::/64"', ipaddress.ip_network)]
Senders = Annotated[SenderPattern, Kind('an address, "news@example.org", "*@example.org" or "*"', SenderPattern.parse)]
Separator = Annotated[str, Kind('one character, "+", or "" for none', parse_separator)]
Count = Annotated[int, Within(1)]
Port = Annotated[int, Within(1, 65535)]
Share = Annotated[float, Within(0, 1)]

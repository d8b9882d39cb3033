"""The settings of mail authentication: ``[mailauth]``."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated, Literal

from mta.mail.envelope import is_folder
from mta.settings.values import Derived, HostName, Kind, NetworkBlock, Seconds, parse_host_name, within

Disposition = Literal["accept", "quarantine", "reject"]


def parse_domains(text: str) -> str:
    """Read ``example.net`` or ``.example.net``; gives it in A-labels and lower case. Raises ValueError."""
    if text.startswith("."):
        return "." + parse_host_name(text[1:])
    return parse_host_name(text)


def parse_folder(text: str) -> str:
    """Read the name of a folder in a Maildir, or nothing. Raises ValueError."""
    if text and not is_folder(text):
        raise ValueError(text)
    return text


_Domains = Annotated[str, Kind('a domain, "example.net", or ".example.net" for all below it', parse_domains)]
_Folder = Annotated[str, Kind('the name of a folder, "Junk", or "" for none', parse_folder)]


@dataclass(frozen=True, slots=True)
class OverrideSettings:
    """What is done with mail that fails DMARC, whatever its domain asks for (RFC 9989 §5.4)."""

    domain: _Domains = ""
    """The author domain, that of From: ``"example.net"``, or ``".example.net"`` for all below it; not given: any.
    Mail whose author cannot be told has none."""
    networks: tuple[NetworkBlock, ...] = ()
    """Networks of the peer, ``["192.0.2.0/24"]``; not given: any. Given with `domain`, both must fit."""
    disposition: Disposition = "accept"
    """``"accept"``, ``"quarantine"`` or ``"reject"``."""
    reason: str = ""
    """Why, for logs and for reports to the domain (RFC 9990)."""
    source: Derived = ""
    """File and line of the table."""

    def fits(self, domain: str, address: str) -> bool:
        """Whether it is about mail of this author domain (in A-labels, lower case) from this address."""
        if self.domain.startswith("."):
            if not domain.endswith(self.domain):
                return False
        elif self.domain not in ("", domain):
            return False
        return not self.networks or within(address, self.networks)


@dataclass(frozen=True, slots=True)
class MailauthDeadlines:
    """How long name servers may take. What is not known by then is temperror."""

    spf: Seconds = 20.0
    """For one SPF check with all its questions (RFC 7208 §4.6.4: at least 20 s)."""
    iprev: Seconds = 10.0
    """For the name of the peer's address and the addresses of that name."""
    message: Seconds = 20.0
    """For all questions about a message after its end: keys of signatures, DMARC records. The sender waits for the
    reply meanwhile, 10 minutes at most (RFC 5321 §4.5.3.2.6)."""


@dataclass(frozen=True, slots=True)
class MailauthSettings:
    """Whose mail it is: what is checked of mail that comes to mx, and what is done about it."""

    spf: bool = True
    """Whether SPF is checked, for MAIL FROM and HELO (RFC 7208)."""
    dkim: bool = True
    """Whether DKIM signatures are verified (RFC 6376)."""
    dmarc: bool = True
    """Whether DMARC is evaluated (RFC 9989); it builds on `spf` and `dkim`."""
    arc: bool = True
    """Whether ARC chains are validated (RFC 8617)."""
    iprev: bool = True
    """Whether the name of the peer's address is looked up and confirmed (RFC 8601 §3)."""
    trusted_networks: tuple[NetworkBlock, ...] = (
        ipaddress.IPv4Network("127.0.0.0/8"),
        ipaddress.IPv6Network("::1/128"),
    )
    """Networks whose mail is not checked: this host, and relays of ours that have checked it."""
    apply_dmarc: Literal["apply", "quarantine", "report"] = "apply"
    """What a failed check leads to: ``"apply"``: what the domain asks for, none, quarantine or reject;
    ``"quarantine"``: the same, but reject is taken as quarantine (RFC 9989 §7.4 wants that where nothing else is known
    of the mail; mailing lists suffer from less); ``"report"``: nothing, the result is recorded."""
    unreadable_from: Disposition = "reject"
    """What is done with mail whose From does not tell of one domain: several From fields, none, a form that readers
    take differently, addresses of several domains. DMARC cannot be evaluated then, which is what forgers want
    (RFC 9989 §11.5)."""
    quarantine_folder: _Folder = "Junk"
    """Folder of the Maildir for quarantined mail; ``""``: the inbox, where Authentication-Results alone tells."""
    defer_on_temperror: bool = False
    """Whether mail is put off with 451 when DMARC cannot be evaluated for want of an answer; else it is accepted
    (RFC 9989 §4.10.1 leaves it open)."""
    body_length: Literal["policy", "pass"] = "policy"
    """What becomes of a good signature whose ``l=`` leaves octets at the end unsigned: ``"policy"``: it vouches for
    nothing, as anybody may have put other text there (RFC 6376 §8.2); ``"pass"``: it counts. Few signers use ``l=``,
    and a message that needs it has been changed on the way."""
    authserv_id: HostName = ""
    """What Authentication-Results calls us (RFC 8601 §2.5); fields of others that use this name are removed. Not
    given: the host name."""
    received_spf: bool = False
    """Whether a Received-SPF field is added too (RFC 7208 §9.1). Authentication-Results says the same."""
    arc_sealers: tuple[HostName, ...] = ()
    """Domains whose ARC seals are believed, mailing lists and forwarders (``d=`` of the seal): mail that fails DMARC is
    accepted if its chain is valid, was sealed last by one of them, and says that DMARC passed when it came to them."""
    overrides: tuple[OverrideSettings, ...] = field(default=(), metadata={"key": "override"})
    """Exceptions; the first that fits counts."""
    deadlines: MailauthDeadlines = MailauthDeadlines()
    """How long name servers may take."""

    def trusts(self, address: str) -> bool:
        """Whether mail from a peer at `address` is not checked."""
        return within(address, self.trusted_networks)

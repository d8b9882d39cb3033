"""The records that our host and our domains need in the DNS: one list, which is printed, and compared with the DNS.

==============  ==============================  =============================================================
purpose         name                            what it is for
==============  ==============================  =============================================================
HOST            the host name                   A, AAAA: where others reach this machine (RFC 5321 §5.1)
HELO            the host name                   SPF of the name that we greet with (RFC 7208 §2.3)
REVERSE         the address, reversed           PTR: the name of our address (RFC 1912 §2.1)
MX              the domain                      who takes its mail (RFC 5321 §5.1)
SPF             the domain                      who sends its mail (RFC 7208)
DKIM            ``SELECTOR._domainkey.DOMAIN``  the public half of each key (RFC 6376 §3.6.1, RFC 8463)
DMARC           ``_dmarc.DOMAIN``               what others do with mail that is not the domain's (RFC 9989)
TLSRPT          ``_smtp._tls.DOMAIN``           who is told when others cannot use TLS with us (RFC 8460 §3)
STS             ``_mta-sts.DOMAIN``             that a policy on TLS may be fetched (RFC 8461 §3.1)
STS_HOST        ``mta-sts.DOMAIN``              from whom: a web server (RFC 8461 §3.3)
==============  ==============================  =============================================================

Choices: SPF ends in ``~all``, since a receiver that refuses at ``-all`` never looks at DKIM; DMARC begins with
``p=none`` and reports, to be made stricter when these show that all mail of the domain passes; the policy of MTA-STS
begins as ``testing``, and nobody who cannot fetch it is kept from sending.

Plain functions and values: nobody is asked here. Knowingly not here: TLSA (DANE), CAA and SRV records.
"""

from __future__ import annotations

import enum
import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mta.mailauth.keypair import record_text
from mta.settings.dkim import DkimKey, KeyState

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_STRING = 255
"""Octets of a string in a TXT record (RFC 1035 §3.3)."""
_STS_MAX_AGE = 86400
"""Seconds that others keep the policy: a day while it is tried out (RFC 8461 §3.2 advises weeks later on)."""


class Purpose(enum.Enum):
    """What a record is for; the value is its name for people."""

    HOST = "address"
    HELO = "SPF of the host name"
    REVERSE = "reverse DNS"
    MX = "MX"
    SPF = "SPF"
    DKIM = "DKIM"
    DMARC = "DMARC"
    TLSRPT = "TLSRPT"
    STS = "MTA-STS"
    STS_HOST = "MTA-STS host"


@dataclass(frozen=True, slots=True)
class PublishedRecord:
    """One record."""

    purpose: Purpose
    name: str
    """In A-labels, without the final dot."""
    type: str
    """``A``, ``AAAA``, ``PTR``, ``MX``, ``CNAME``, ``TXT``."""
    data: str
    """As a zone file has it, with names absolute; of TXT the text itself, without quotes."""

    @property
    def zone_text(self) -> str:
        """Its lines in a zone file (RFC 1035 §5.1)."""
        if self.type == "TXT":
            return zone_text(self.name, self.data)
        return f"{self.name}. IN {self.type} {self.data}"


def zone_text(name: str, text: str) -> str:
    """Give a TXT record as a zone file has it (RFC 1035 §5.1). `text` is printable ASCII."""
    strings = [text[at : at + _STRING].replace("\\", "\\\\").replace('"', '\\"') for at in range(0, len(text), _STRING)]
    quoted = [f'"{string}"' for string in strings]
    data = quoted[0] if len(quoted) == 1 else "(\n    " + "\n    ".join(quoted) + " )"
    return f"{name}. IN TXT {data}"


# The lists


def host_records(
    hostname: str, addresses: Iterable[Address], domains: Iterable[str] = ()
) -> tuple[PublishedRecord, ...]:
    """What the zone of the host name needs; `addresses` are those that others reach this machine at.

    A host name that is one of our `domains` too has the SPF record of the domain, and no second one.
    """
    found = [
        PublishedRecord(Purpose.HOST, hostname, "A" if address.version == 4 else "AAAA", str(address))
        for address in addresses
    ]
    if hostname not in domains:
        found.append(PublishedRecord(Purpose.HELO, hostname, "TXT", "v=spf1 a ~all"))
    return tuple(found)


def reverse_records(hostname: str, addresses: Iterable[Address]) -> tuple[PublishedRecord, ...]:
    """What whoever gave us the addresses has to publish for them."""
    return tuple(
        PublishedRecord(Purpose.REVERSE, address.reverse_pointer, "PTR", f"{hostname}.") for address in addresses
    )


def domain_records(domain: str, hostname: str, keys: Iterable[DkimKey] = ()) -> tuple[PublishedRecord, ...]:
    """What the zone of a domain needs whose mail we take and send; `domain` and `hostname` in A-labels.

    Of `keys` those are published that sign or will; the record of a retired one only has to stay.
    """
    postmaster = f"mailto:postmaster@{domain}"
    signing = [
        PublishedRecord(Purpose.DKIM, key.name, "TXT", record_text(key.pem))
        for key in keys
        if key.state is not KeyState.RETIRED
    ]
    sts = hashlib.sha256(sts_policy(hostname).encode()).hexdigest()[:16]
    return (
        PublishedRecord(Purpose.MX, domain, "MX", f"10 {hostname}."),
        PublishedRecord(Purpose.SPF, domain, "TXT", "v=spf1 mx ~all"),
        *signing,
        PublishedRecord(Purpose.DMARC, f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=none; rua={postmaster}"),
        PublishedRecord(Purpose.TLSRPT, f"_smtp._tls.{domain}", "TXT", f"v=TLSRPTv1; rua={postmaster}"),
        PublishedRecord(Purpose.STS, f"_mta-sts.{domain}", "TXT", f"v=STSv1; id={sts}"),
        PublishedRecord(Purpose.STS_HOST, f"mta-sts.{domain}", "CNAME", f"{hostname}."),
    )


def sts_policy(hostname: str) -> str:
    """The text of the file that ``https://mta-sts.DOMAIN/.well-known/mta-sts.txt`` serves (RFC 8461 §3.2)."""
    return f"version: STSv1\nmode: testing\nmx: {hostname}\nmax_age: {_STS_MAX_AGE}\n"


# What is printed

_WORDS = {
    Purpose.HOST: "Where others reach this machine.",
    Purpose.HELO: "SPF of the name that this machine greets with, for reports that have no sender.",
    Purpose.MX: "Mail for the domain comes here.",
    Purpose.SPF: "SPF: mail of the domain is sent by its MX hosts. Add who else sends it: include:…",
    Purpose.DKIM: "DKIM: the public halves of the keys that mail is signed with.",
    Purpose.DMARC: "DMARC: others report what passes. Go on to p=quarantine, then p=reject, when all of yours does.",
    Purpose.TLSRPT: "TLSRPT: others report when they cannot use TLS with this machine.",
    Purpose.STS: (
        "MTA-STS: others insist on TLS once they have fetched a policy. It needs a web server for the second name,\n"
        "with a certificate, which serves /.well-known/mta-sts.txt. Nothing is lost before it does."
    ),
}


def host_snippet(hostname: str, addresses: Sequence[Address], domains: Iterable[str] = ()) -> str:
    """The piece of a zone file for the host name; what nobody knows, or stands in another zone, is a comment."""
    lines = [f"; The host {hostname}"]
    known = host_records(hostname, addresses, domains)
    if not addresses:
        lines += [
            "; No public address of this machine is known: give it with --ipv4 and --ipv6, or write it here.",
            f";{hostname}. IN A 192.0.2.1",
        ]
    lines += _lines(known)
    reverse = reverse_records(hostname, addresses)
    if reverse:
        lines += [
            "; Reverse DNS: ask whoever gives you the address; many servers take no mail without it.",
            *(f";{record.zone_text}" for record in reverse),
        ]
    else:
        lines.append(f"; Reverse DNS: have whoever gives you the address name it {hostname}.")
    return "\n".join(lines) + "\n"


def domain_snippet(domain: str, hostname: str, keys: Iterable[DkimKey] = ()) -> str:
    """The piece of a zone file for one domain, with a word on each record."""
    lines = [f"; The domain {domain}", *_lines(domain_records(domain, hostname, keys))]
    lines += ["; mta-sts.txt:", *(f";   {line}" for line in sts_policy(hostname).splitlines())]
    return "\n".join(lines) + "\n"


def _lines(records: Iterable[PublishedRecord]) -> list[str]:
    lines: list[str] = []
    said = set()
    for record in records:
        if record.purpose in _WORDS and record.purpose not in said:
            lines += [f"; {line}" for line in _WORDS[record.purpose].split("\n")]
        said.add(record.purpose)
        lines.append(record.zone_text)
    return lines

"""Questions to octets and octets to answers (RFC 1035 §4, RFC 6891), with dnspython's wire format behind it. Pure.

What `read` makes of a datagram or of a message from a TCP stream:

=================================================================  =============================================
octets                                                             result
=================================================================  =============================================
malformed, another id or question, not a response                  None: not an answer, the wait goes on
TC set                                                             `TRUNCATED`: to be asked again over TCP
rcode NOERROR, records at the end of the CNAME chain               `Found`
rcode NOERROR, none, no CNAME or a SOA beside it                   `NoData`
rcode NOERROR, a CNAME whose target's records are not given        `Alias`: the target is to be asked for
rcode NXDOMAIN                                                     `NoSuchName`
any other rcode; a chain that is too long or a loop; a referral    `Failure`
=================================================================  =============================================
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.SOA
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
import dns.rrset

from mta.dns.answer import Answer, Failure, Found, Mx, NoData, NoSuchName, Record, RecordType, normal

PAYLOAD = 1232
"""Octets of a UDP answer that we take (DNS flag day 2020: what passes every path without fragments, so that no
forged second fragment can be slipped in)."""
CHAIN_MAXIMUM = 8
"""CNAME records followed from one name; more is a failure."""
NEGATIVE_SECONDS_WITHOUT_SOA = 5
"""RFC 2308 §5: a negative answer without SOA says nothing about how long it holds."""

_TTL_MAXIMUM = 0x7FFFFFFF  # RFC 2181 §8


class Unfinished(enum.Enum):
    """The one verdict that is not about the name."""

    TRUNCATED = enum.auto()


TRUNCATED = Unfinished.TRUNCATED


@dataclass(frozen=True, slots=True)
class Alias:
    """The name is a CNAME of `target`, about which the answer does not say enough."""

    target: str
    ttl: int
    authenticated: bool


@dataclass(frozen=True, slots=True)
class Query:
    """One question under one id, as octets."""

    octets: bytes
    message: dns.message.QueryMessage
    name: str
    rdtype: RecordType


def query(name: str, rdtype: RecordType, identifier: int) -> Query:
    """Make a question with recursion desired, EDNS and AD (RFC 6840 §5.7: tell whether it is authenticated).

    Raises ValueError for what cannot be a name: an empty label, a label over 63 octets, a name over 255 (RFC 1035
    §2.3.4), anything not in ASCII.
    """
    if not name.isascii():
        raise ValueError(f"{name!r} is no domain name: not in ASCII")
    try:
        absolute = dns.name.from_text(name, origin=dns.name.root)
    except dns.exception.DNSException as error:
        raise ValueError(f"{name!r} is no domain name: {error}") from None
    message = dns.message.make_query(
        absolute,
        dns.rdatatype.RdataType(rdtype),
        use_edns=0,
        payload=PAYLOAD,
        id=identifier,
        flags=dns.flags.RD | dns.flags.AD,
    )
    return Query(message.to_wire(), message, normal(name), rdtype)


def read(asked: Query, octets: bytes, source: str, trusted: bool) -> Answer | Alias | Unfinished | None:
    """Read what may be the answer to `asked`; the table above says what comes of it.

    `trusted` is whether the AD bit of this server may be believed.
    """
    # Two octets are compared before anything is parsed: who guesses ids costs next to nothing.
    if octets[:2] != asked.octets[:2]:
        return None
    try:
        # An old server may cut a truncated answer anywhere: its question is all that is read.
        truncated = len(octets) > 3 and bool(octets[2] & 0x02)
        message = dns.message.from_wire(octets, question_only=truncated)
        if not isinstance(message, dns.message.QueryMessage) or not asked.message.is_response(message):
            return None
        if truncated:
            return TRUNCATED
        return _interpret(message, asked, source, trusted and bool(message.flags & dns.flags.AD))
    except dns.exception.DNSException:
        return None


def _interpret(message: dns.message.QueryMessage, asked: Query, source: str, authenticated: bool) -> Answer | Alias:
    rcode = message.rcode()
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return _failure(asked, dns.rcode.to_text(rcode), source)
    name = start = asked.message.question[0].name
    ttl = _TTL_MAXIMUM
    for _ in range(CHAIN_MAXIMUM + 1):
        records = _rrset(message, message.answer, name, dns.rdatatype.RdataType(asked.rdtype))
        alias = _rrset(message, message.answer, name, dns.rdatatype.CNAME)
        if records is not None or alias is None:
            break
        ttl = min(ttl, alias.ttl)
        name = alias[0].target
    else:
        return _failure(asked, f"more than {CHAIN_MAXIMUM} CNAME records, or a loop of them", source)
    text = _text(name)
    if records is not None:
        if rcode == dns.rcode.NXDOMAIN:
            return _failure(asked, "NXDOMAIN with records", source)
        found = tuple(dict.fromkeys(_record(record) for record in records))
        return Found(text, found, min(ttl, records.ttl), authenticated, source)
    soa = _soa(message, name)
    # RFC 2308 §5: the lesser of the SOA's own TTL and its MINIMUM field
    negative = NEGATIVE_SECONDS_WITHOUT_SOA if soa is None else min(soa.ttl, int(soa[0].minimum))
    if rcode == dns.rcode.NXDOMAIN:
        return NoSuchName(text, min(ttl, negative), authenticated, source)
    if soa is None and name != start:
        return Alias(text, ttl, authenticated)
    # RFC 2308 §2.2: name servers without a SOA are a referral, which says nothing about the name
    if soa is None and any(rrset.rdtype == dns.rdatatype.NS for rrset in message.authority):
        return _failure(asked, "a referral: this name server does no recursion", source)
    return NoData(text, min(ttl, negative), authenticated, source)


def _failure(asked: Query, text: str, source: str) -> Failure:
    return Failure(f"{asked.rdtype.name} of {asked.name}: {text}", source)


def _rrset(
    message: dns.message.QueryMessage,
    section: list[dns.rrset.RRset],
    name: dns.name.Name,
    rdtype: dns.rdatatype.RdataType,
) -> dns.rrset.RRset | None:
    return message.get_rrset(section, name, dns.rdataclass.IN, rdtype)


def _soa(message: dns.message.QueryMessage, name: dns.name.Name) -> dns.rrset.RRset | None:
    """The SOA record of the zone that `name` is in."""
    while True:
        soa = _rrset(message, message.authority, name, dns.rdatatype.SOA)
        if soa is not None or name == dns.name.root:
            return soa
        name = name.parent()


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _record(record: object) -> Record:
    match record:
        case dns.rdtypes.IN.A.A() | dns.rdtypes.IN.AAAA.AAAA():
            return str(record.address)
        case dns.rdtypes.ANY.MX.MX():
            return Mx(record.preference, _text(record.exchange))
        case dns.rdtypes.ANY.TXT.TXT():
            return b"".join(record.strings)
    assert isinstance(record, dns.rdtypes.ANY.PTR.PTR)
    return _text(record.target)

"""Forward-confirmed reverse DNS: the names of an address that lead back to it (RFC 8601 §3, RFC 7208 §5.5).

========================================================  ============================================================
what the domain name system says                          result of `iprev` (RFC 8601 §2.7.3)
========================================================  ============================================================
PTR: no answer                                            temperror
PTR: none, or no such name                                permerror
a name has the address                                    pass, with the first such name
no name has it, and about one there was no answer         temperror
no name has it                                            fail
========================================================  ============================================================

Whoever holds the address writes its PTR records, as many and as odd as they like: `NAMES_MAXIMUM` are looked at, and
a name that is no host name (RFC 1123 §2.1) is never asked for, so what is confirmed can stand in a header or log.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from mta.dns.answer import Answer, Failure, Found, RecordType
from mta.dns.resolver import Resolver, together
from mta.mail.reason import Reason
from mta.mailauth.result import Iprev, IprevResult
from mta.settings.values import parse_host_name

NAMES_MAXIMUM = 10
"""PTR records that are looked at, the first ones (RFC 7208 §4.6.4; RFC 8601 §3 leaves the number to us)."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Reverse:
    """What is known of the names of an address."""

    answer: Answer
    """To the question for PTR records."""
    confirmed: tuple[str, ...] = ()
    """The names that have the address, in the order of the answer."""
    failure: Failure | None = None
    """Of the first name that nobody could tell about."""


def client_address(text: str) -> Address:
    """Read the address of a peer; an IPv4-mapped one is IPv4 (RFC 7208 §5), a zone (``%eth0``) is dropped.

    Raises ValueError.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def address_type(address: Address) -> RecordType:
    """Return the type of the records that hold addresses of this family."""
    return RecordType.A if address.version == 4 else RecordType.AAAA


async def reverse(resolver: Resolver, address: Address, maximum: int = NAMES_MAXIMUM) -> Reverse:
    """Ask for the names of `address`, and which of the first `maximum` have it."""
    answer = await resolver.query(address.reverse_pointer, RecordType.PTR)
    if not isinstance(answer, Found):
        return Reverse(answer)
    confirmed = []
    failure = None
    names = [name for name in answer.records[:maximum] if isinstance(name, str) and _is_host_name(name)]
    with together(resolver, names, address_type(address)) as questions:
        for name, question in questions:
            forward = await question
            if isinstance(forward, Found) and any(ipaddress.ip_address(str(r)) == address for r in forward.records):
                confirmed.append(name)
            elif isinstance(forward, Failure):
                failure = failure or forward
    return Reverse(answer, tuple(confirmed), failure)


async def iprev(resolver: Resolver, address: str) -> Iprev:
    """Check an IPv4 or IPv6 address by the table above. Raises ValueError for what is no address."""
    client = client_address(address)
    found = await reverse(resolver, client)
    if isinstance(found.answer, Failure):
        return Iprev(IprevResult.TEMPERROR, Reason(f"no answer: {found.answer.text}", found.answer.source))
    source = f"PTR of {client} from {found.answer.source}"
    if not isinstance(found.answer, Found):
        return Iprev(IprevResult.PERMERROR, Reason(f"{client} has no name", source))
    if found.confirmed:
        name = found.confirmed[0]
        return Iprev(IprevResult.PASS, Reason(f"{client} is {name}, and {name} is {client}", source), name)
    if found.failure:
        return Iprev(IprevResult.TEMPERROR, Reason(f"no answer: {found.failure.text}", found.failure.source))
    first, *others = map(str, found.answer.records)
    more = f" and {len(others)} more" if others else ""
    return Iprev(IprevResult.FAIL, Reason(f"{client} is called {first}{more}, which is not {client}", source))


def _is_host_name(name: str) -> bool:
    try:
        parse_host_name(name)
    except ValueError:
        return False
    return True

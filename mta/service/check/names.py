"""What the DNS says of us, compared with the list that `mta init` prints (`mta.service.published`).

A record that says the same in other words is right: an SPF record is evaluated for our addresses, a DKIM record is read
as a verifier reads it, an MX record may have another name of this machine. What is told carries the record to publish.

Names that stand in no public DNS (RFC 2606, RFC 6761, RFC 6762) are not looked for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from mta.dns.answer import Answer, Failure, Found, Mx, NoSuchName, RecordType
from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.dkim_published import Published, judge
from mta.mailauth.dmarc_record import read_dmarc_record
from mta.mailauth.iprev import reverse
from mta.mailauth.result import SpfResult
from mta.mailauth.spf_check import DEFAULT, Client, Evaluation
from mta.mailauth.spf_record import is_record
from mta.service.check.finding import Finding, command, error, note, some, warning
from mta.service.published import (
    Address,
    PublishedRecord,
    Purpose,
    domain_records,
    host_records,
    reverse_records,
    zone_text,
)
from mta.settings.directory import Domain
from mta.settings.dkim import KeyState
from mta.settings.sections import Settings
from mta.settings.values import Endpoint

NAMES = "names"
RESOLVER = "resolver"
_MX_MAXIMUM = 10
"""MX hosts whose addresses are asked for, as RFC 7208 §4.6.4 has it for its own reasons."""
_PARENTS_MAXIMUM = 8
"""RFC 9989 §4.10: names that are asked for a policy."""

_SPECIAL = frozenset({"test", "example", "invalid", "localhost", "local", "internal", "lan", "onion"})
"""Top-level names that no public name server has (RFC 6761, RFC 6762, RFC 7686)."""
_KNOWN = "a.root-servers.net"
_BROKEN = "dnssec-failed.org"
"""A name that is signed wrongly, on purpose: who validates DNSSEC has no answer for it."""
_PRIVATE = """
    10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 ::1/128 fc00::/7 fe80::/10
"""
_UNREACHABLE = tuple(map(ipaddress.ip_network, _PRIVATE.split()))


async def check_resolver(resolver: Resolver, servers: Sequence[Endpoint]) -> list[Finding]:
    """See whether the name servers answer, and whether they validate."""
    shown = ", ".join(map(str, servers))
    known = await resolver.query(_KNOWN, RecordType.A)
    mend = "see /etc/resolv.conf or [dns] nameservers; a resolver on this machine is best, such as unbound"
    if isinstance(known, Failure):
        return [error(RESOLVER, f"{shown} resolves no names", f"{known.text}; mail cannot leave", shown, mend)]
    if not isinstance(known, Found):
        why = f"there is no {_KNOWN}, it says; mail can leave for names that it knows alone"
        return [warning(RESOLVER, f"{shown} knows no public names", why, shown, mend)]
    broken = await resolver.query(_BROKEN, RecordType.A)
    if isinstance(broken, Found):
        why = f"{_BROKEN}, whose signature is wrong, is resolved; forged answers would be believed"
        return [
            note(
                RESOLVER,
                f"{shown} does not validate DNSSEC",
                why,
                shown,
                "run a resolver that does on this machine, such as unbound",
            )
        ]
    return []


async def check_names(resolver: Resolver, settings: Settings, own: Sequence[Address]) -> list[Finding]:
    """Compare the DNS with what host and domains need; `own` are our public addresses as far as they are known."""
    if is_private(settings):
        return private_note(settings)
    found: list[Finding] = []
    domains = settings.directory.domains
    addresses = list(own)
    if is_special(settings.hostname):
        found.append(_special(settings.hostname))
    else:
        seen, addresses = await _host(resolver, settings.hostname, own, domains)
        found += seen
        found += await _reverse(resolver, settings.hostname, own, addresses)
    for domain in domains.values():
        if is_special(domain.name):
            found.append(_special(domain.name))
        else:
            found += some(await _domain(resolver, domain, settings.hostname, addresses))
    return found


def is_special(name: str) -> bool:
    """Whether a name can stand in no public DNS."""
    return name.rpartition(".")[2] in _SPECIAL


def is_private(settings: Settings) -> bool:
    """Whether host and domains all have such names: a demonstration, or a closed network."""
    return all(map(is_special, (settings.hostname, *settings.directory.domains)))


def private_note(settings: Settings) -> list[Finding]:
    """What is told of such a server; nobody is asked about it."""
    return [_special(settings.hostname)]


def _special(name: str) -> Finding:
    what = f"{name} is a name for tests and private networks"
    return note(NAMES, what, "it can stand in no public DNS, and its records are not looked for", "RFC 6761")


def _publish(records: Iterable[PublishedRecord]) -> str:
    return "publish\n" + "\n".join(record.zone_text for record in records)


def _no_answer(what: str, failure: Failure) -> Finding:
    return warning(NAMES, f"nobody knows {what}", failure.text, failure.source, "try again; see who serves the zone")


# The host


async def _host(
    resolver: Resolver, hostname: str, own: Sequence[Address], domains: Iterable[str]
) -> tuple[list[Finding], list[Address]]:
    """Look the host name up; gives what was found, and the addresses of ours that it leads to.

    What does not pass for an address that the name does not lead to is a consequence, and not looked for.
    """
    answers = [await resolver.query(hostname, each) for each in (RecordType.A, RecordType.AAAA)]
    published: list[Address] = [
        ipaddress.ip_address(str(r)) for answer in answers if isinstance(answer, Found) for r in answer.records
    ]
    wanted = [record for record in host_records(hostname, own, domains) if record.purpose is Purpose.HOST]
    found: list[Finding] = []
    failure = next((answer for answer in answers if isinstance(answer, Failure)), None)
    if failure is not None:
        return [_no_answer(f"the addresses of {hostname}", failure)], published
    if not published:
        missing = "there is no such name" if isinstance(answers[0], NoSuchName) else "it has no address"
        mend = _publish(wanted) if wanted else f"publish\n{hostname}. IN A (the public address of this machine)"
        what = f"{hostname}, our name, has no address: {missing}"
        return [error(NAMES, what, "no mail can come, and others refuse ours", answers[0].source, mend)], []
    source = next(answer.source for answer in answers if isinstance(answer, Found))
    missed = [record for record in wanted if ipaddress.ip_address(record.data) not in published]
    if missed:
        shown = ", ".join(map(str, published))
        severity = error if len(missed) == len(wanted) else warning
        what = f"{hostname} does not lead to {', '.join(record.data for record in missed)}, an address of this machine"
        found.append(severity(NAMES, what, f"it leads to {shown}", source, _publish(missed)))
    for address in published:
        if any(address in network for network in _UNREACHABLE):
            what = f"{hostname} leads to {address}"
            why = "nobody outside of your network reaches that"
            found.append(error(NAMES, what, why, source, f"publish a public address for {hostname}"))
    canonical = next(answer.name for answer in answers if isinstance(answer, Found))
    if canonical != hostname:
        what = f"{hostname} is a CNAME of {canonical}"
        why = "an MX record must not name an alias (RFC 2181 §10.3)"
        found.append(warning(NAMES, what, why, source, "publish addresses in its place"))
    return found, [address for address in published if address in own or not missed]


async def _reverse(
    resolver: Resolver, hostname: str, own: Sequence[Address], published: Sequence[Address]
) -> list[Finding]:
    """Look the names of our addresses up, and, of those that are published, whether they lead back."""
    found = []
    for address in dict.fromkeys([*own, *published]):
        if any(address in network for network in _UNREACHABLE):
            continue
        seen = await reverse(resolver, address)
        mend = "ask whoever gives you the address for\n" + reverse_records(hostname, [address])[0].zone_text
        if isinstance(seen.answer, Failure):
            found.append(_no_answer(f"the name of {address}", seen.answer))
        elif not isinstance(seen.answer, Found):
            why = "many servers take no mail from an address without a name"
            found.append(error(NAMES, f"{address} has no name (reverse DNS)", why, seen.answer.source, mend))
        elif hostname in seen.confirmed or address not in published:
            continue
        elif seen.confirmed:
            why = "a name that is not the one we greet with makes others suspicious"
            what = f"{address} is called {seen.confirmed[0]}, not {hostname}"
            found.append(warning(NAMES, what, why, seen.answer.source, mend))
        else:
            shown = ", ".join(map(str, seen.answer.records[:3]))
            why = "many servers take no mail from an address whose name does not lead back to it"
            what = f"{address} is called {shown}, which is not {address}"
            found.append(error(NAMES, what, why, seen.answer.source, mend))
    return found


# A domain


async def _domain(resolver: Resolver, domain: Domain, hostname: str, addresses: Sequence[Address]) -> list[Finding]:
    records = domain_records(domain.name, hostname, domain.dkim)
    by_purpose: dict[Purpose, PublishedRecord] = {}
    for record in records:
        by_purpose.setdefault(record.purpose, record)
    found = await _mx(resolver, domain.name, by_purpose[Purpose.MX], hostname, addresses)
    found += await _spf(resolver, domain.name, by_purpose[Purpose.SPF], hostname, addresses)
    found += await _dkim(resolver, domain, records)
    found += await _dmarc(resolver, domain.name, by_purpose[Purpose.DMARC])
    untold = "others cannot tell you of TLS that fails"
    found += await _wished(resolver, b"v=TLSRPTv1", untold, by_purpose[Purpose.TLSRPT])
    talked_out = "others may be talked out of TLS on the way to you"
    found += await _wished(resolver, b"v=STSv1", talked_out, by_purpose[Purpose.STS], by_purpose[Purpose.STS_HOST])
    return found


async def _mx(
    resolver: Resolver, domain: str, record: PublishedRecord, hostname: str, addresses: Sequence[Address]
) -> list[Finding]:
    answer = await resolver.query(domain, RecordType.MX)
    if isinstance(answer, Failure):
        return [_no_answer(f"where mail for {domain} goes", answer)]
    if not isinstance(answer, Found):
        why = (
            "there is no such domain"
            if isinstance(answer, NoSuchName)
            else "mail for it goes to its own address, if any"
        )
        return [error(NAMES, f"{domain} has no MX record", why, answer.source, _publish([record]))]
    hosts = sorted(each for each in answer.records if isinstance(each, Mx))
    if any(each.exchange == hostname for each in hosts):
        return []
    for each in hosts[:_MX_MAXIMUM]:
        if each.exchange and await _addresses(resolver, each.exchange) & set(addresses):
            return []
    shown = ", ".join(each.exchange or "nobody (null MX, RFC 7505)" for each in hosts)
    return [
        warning(
            NAMES, f"mail for {domain} does not come here", f"it goes to {shown}", answer.source, _publish([record])
        )
    ]


async def _addresses(resolver: Resolver, host: str) -> set[Address]:
    answers = [await resolver.query(host, kind) for kind in (RecordType.A, RecordType.AAAA)]
    return {ipaddress.ip_address(str(r)) for answer in answers if isinstance(answer, Found) for r in answer.records}


async def _spf(
    resolver: Resolver, domain: str, record: PublishedRecord, hostname: str, addresses: Sequence[Address]
) -> list[Finding]:
    answer = await resolver.query(domain, RecordType.TXT)
    if isinstance(answer, Failure):
        return [_no_answer(f"the SPF record of {domain}", answer)]
    present = [each for each in _texts(answer) if is_record(each)]
    if not present:
        why = "large providers refuse mail of a domain without SPF and DKIM"
        return [error(NAMES, f"{domain} has no SPF record", why, answer.source, _publish([record]))]
    if len(present) > 1:
        why = "with more than one there is none (RFC 7208 §4.5)"
        what = f"{domain} has {len(present)} SPF records"
        return [error(NAMES, what, why, answer.source, f"make one of them, such as\n{record.zone_text}")]
    if _names_mx(present[0]) and not isinstance(await resolver.query(domain, RecordType.MX), Found):
        return []  # that there is none is told already
    found = []
    refused: dict[Address, Reason] = {}
    for address in addresses:
        client = Client(address, "postmaster", domain, hostname)
        checked = await Evaluation(resolver, client, DEFAULT, {"r": hostname, "t": "0"}).check_host(domain)
        if checked.result is SpfResult.TEMPERROR:
            what = f"nobody knows whether {address} may send mail of {domain} (SPF)"
            found.append(warning(NAMES, what, checked.reason.text, checked.reason.source, "try again"))
        elif checked.result is SpfResult.PERMERROR:
            what, mend = f"the SPF record of {domain} has a mistake", f"mend it, such as\n{record.zone_text}"
            return [error(NAMES, what, checked.reason.text, checked.reason.source, mend)]
        elif checked.result is not SpfResult.PASS:
            refused[address] = checked.reason
    if refused:
        found.append(_spf_refuses(domain, present[0].decode("ascii", "replace"), refused))
    return found


def _spf_refuses(domain: str, record: str, refused: Mapping[Address, Reason]) -> Finding:
    """Tell of addresses that may not send; what mends it is the record as it is, with them before all else."""
    version, _, rest = record.partition(" ")
    terms = [f"{'ip4' if address.version == 4 else 'ip6'}:{address}" for address in refused]
    reason = next(iter(refused.values()))
    what = f"mail of {domain} from {', '.join(map(str, refused))} does not pass SPF"
    why = f"{reason.text} (the record is {record})"
    mend = f"make the record\n{zone_text(domain, ' '.join([version, *terms, rest]).rstrip())}"
    return error(NAMES, what, why, reason.source, mend)


def _names_mx(record: bytes) -> bool:
    return any(term.lstrip(b"+?~-").partition(b":")[0].partition(b"/")[0] == b"mx" for term in record.lower().split())


async def _dkim(resolver: Resolver, domain: Domain, records: Sequence[PublishedRecord]) -> list[Finding]:
    if not any(key.state is KeyState.SIGNING for key in domain.dkim):
        why = "large providers refuse mail without a signature"
        waiting = any(key.state is KeyState.NEXT for key in domain.dkim)
        mend = command("mta", "dkim", "rotate" if waiting else "keygen", domain.name)
        return [warning(NAMES, f"mail of {domain.name} is not signed (DKIM)", why, domain.source, mend)]
    found = []
    for key in domain.dkim:
        if key.state is KeyState.RETIRED:
            continue
        answer = await resolver.query(key.name, RecordType.TXT)
        sight = judge(answer, key, answer.source)
        if sight.published is Published.RIGHT:
            continue
        if sight.published is Published.UNKNOWN:
            found.append(
                warning(NAMES, f"nobody knows {key.name}", sight.reason.text, sight.reason.source, "try again")
            )
            continue
        mend = _publish(record for record in records if record.name == key.name)
        what = f"the DKIM record of {key.file} is {sight.published.value}"
        severity = error if key.state is KeyState.SIGNING else note
        found.append(severity(NAMES, what, sight.reason.text, sight.reason.source, mend))
    return found


async def _dmarc(resolver: Resolver, domain: str, record: PublishedRecord) -> list[Finding]:
    name, source = domain, ""
    for _ in range(_PARENTS_MAXIMUM):
        answer = await resolver.query(f"_dmarc.{name}", RecordType.TXT)
        if isinstance(answer, Failure):
            return [_no_answer(f"the DMARC policy of {domain}", answer)]
        source = source or answer.source
        policies = [policy for policy in map(read_dmarc_record, _texts(answer)) if policy is not None]
        if len(policies) > 1:
            why = "with more than one there is none (RFC 9989 §4.10)"
            what = f"_dmarc.{name} has {len(policies)} policies"
            return [error(NAMES, what, why, answer.source, f"keep one of them, such as\n{record.zone_text}")]
        if policies:
            if not policies[0].faults:
                return []
            why = "; ".join(policies[0].faults)
            what = f"the DMARC policy at _dmarc.{name} has mistakes"
            return [warning(NAMES, what, why, answer.source, f"mend it, such as\n{record.zone_text}")]
        name = name.partition(".")[2]
        if "." not in name:
            break
    why = "others are not told what to do with mail that only says it is yours; large senders need one"
    return [warning(NAMES, f"{domain} has no DMARC policy", why, source, _publish([record]))]


async def _wished(
    resolver: Resolver, version: bytes, why: str, record: PublishedRecord, *more: PublishedRecord
) -> list[Finding]:
    """Look for a TXT record that would be good to have; `more` belongs to it."""
    answer = await resolver.query(record.name, RecordType.TXT)
    if isinstance(answer, Failure):
        return [_no_answer(f"the {record.purpose.value} record of {record.name}", answer)]
    if any(text.startswith(version) for text in _texts(answer)):
        return []
    what = f"there is no {record.purpose.value} record at {record.name}"
    return [note(NAMES, what, why, answer.source, _publish([record, *more]))]


def _texts(answer: Answer) -> list[bytes]:
    return [record for record in answer.records if isinstance(record, bytes)] if isinstance(answer, Found) else []

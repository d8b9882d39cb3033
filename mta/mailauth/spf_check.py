"""check_host(): whether an address may send for a domain, with everything that a record refers to (RFC 7208 §4 to §6).

An `Evaluation` is one check. It counts what §4.6.4 limits over all records it recurses into:

=====================================  ======================  =========================================================
what                                   limit                   beyond it
=====================================  ======================  =========================================================
terms that query: include, a, mx,      `SpfLimits.terms`       permerror
ptr, exists, redirect; the PTR query
of ``%{p}`` in a term
terms for which queries gave nothing   `SpfLimits.void_terms`  permerror
MX hosts of one ``mx``                 `SpfLimits.mx_hosts`    permerror
PTR names, looked at once a check      `SpfLimits.ptr_names`   the rest is not looked at
octets of a record                     `SpfLimits.record`      permerror
=====================================  ======================  =========================================================

A term gave nothing (a void lookup) when its query was answered with NXDOMAIN or no records, or, for ``mx``, when no
host had an address. That is counted by terms, as §4.6.4 says; some count each query.

Where the RFC leaves a choice:

* a target that is no domain name (an empty label, one of 64 octets) is not asked for and does not match (§4.8, which
  calls it undefined); as that of include or redirect it is a permerror, as the RFC says of "none" there;
* a term whose macros are not in ASCII does not match (RFC 8616 §4); a redirect is as if it were not there;
* an MX host about which there is no answer is a temperror only if no other host matches;
* a name server's failure for exp= costs the explanation alone.

Knowingly not here: records of type SPF (§3.1 abandons them).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mta.dns.answer import Answer, Failure, Found, Mx, RecordType
from mta.dns.resolver import Resolver, together
from mta.mail.reason import Reason
from mta.mailauth.iprev import Address, Reverse, address_type, reverse
from mta.mailauth.result import SpfResult
from mta.mailauth.spf_macro import (
    MacroString,
    NameFault,
    SyntaxFault,
    expand,
    parse_explanation,
    shown,
    target_name,
    uses,
)
from mta.mailauth.spf_record import Directive, Mechanism, Record, is_record, parse_record


@dataclass(frozen=True, slots=True)
class SpfLimits:
    """How much one check may cost."""

    terms: int = 10
    """RFC 7208 §4.6.4."""
    void_terms: int = 2
    """RFC 7208 §4.6.4."""
    mx_hosts: int = 10
    """RFC 7208 §4.6.4."""
    ptr_names: int = 10
    """RFC 7208 §4.6.4."""
    seconds: float = 20.0
    """For the whole check (RFC 7208 §4.6.4: at least 20)."""
    record: int = 16 * 1024
    """Octets of a record or explanation. RFC 7208 §3.4 asks for a few hundred; all of them cost time to read."""
    explanation: int = 400
    """Characters of an explanation: with a code and words of ours it fits in a reply line (RFC 5321 §4.5.3.1.5)."""


DEFAULT = SpfLimits()


@dataclass(frozen=True, slots=True)
class Client:
    """The arguments of check_host() but for <domain>, which changes with include and redirect (RFC 7208 §4.1)."""

    address: Address
    local_part: str
    """Of <sender>."""
    domain: str
    """Of <sender>, in A-labels and lower case."""
    helo: str
    """What the client called itself."""

    def macros(self) -> dict[str, str]:
        """What the macro-letters stand for that depend on nothing else (RFC 7208 §7.2)."""
        four = isinstance(self.address, ipaddress.IPv4Address)
        return {
            "s": f"{self.local_part}@{self.domain}",
            "l": self.local_part,
            "o": self.domain,
            "i": str(self.address) if four else ".".join(f"{int(self.address):032X}"),
            "v": "in-addr" if four else "ip6",
            "h": self.helo,
            "c": str(self.address),
        }


@dataclass(frozen=True, slots=True)
class Checked:
    """What check_host() returns."""

    result: SpfResult
    reason: Reason
    domain: str = ""
    """The one whose record decided: it is <domain> for the explanation (RFC 7208 §6.2)."""
    exp: MacroString | None = None


@dataclass(frozen=True, slots=True)
class _Match:
    """A directive matched."""

    text: str


_Step = _Match | Checked | None
"""What a directive comes to; `Checked` is an error that ends the check, None: no match."""


class Evaluation:
    """One check: `check_host`, then `explanation` for what it returned."""

    def __init__(self, resolver: Resolver, client: Client, limits: SpfLimits, receiver: Mapping[str, str]) -> None:
        """`receiver` is what the macro-letters ``r`` and ``t`` stand for."""
        self._resolver = resolver
        self._client = client
        self._limits = limits
        self._macros = {**client.macros(), **receiver}
        self._type = address_type(client.address)
        self._terms = 0
        self._void_terms = 0
        self._reverse: Reverse | None = None

    async def check_host(self, domain: str) -> Checked:
        """Evaluate the record of `domain`, a name as `mta.dns.answer` writes them."""
        record = await self._record(domain)
        if isinstance(record, Checked):
            return record
        for directive in record.directives:
            step = await self._evaluate(directive, domain)
            match step:
                case Checked():
                    return step
                case _Match(text):
                    return Checked(directive.result, Reason(text, _record_of(domain)), domain, record.exp)
        if record.redirect is not None:
            return await self._redirect(record.redirect, domain)
        return self._neutral(domain)

    async def explanation(self, checked: Checked) -> str:
        """Return what the domain says of its fail, printable ASCII; empty where it says nothing (RFC 7208 §6.2)."""
        if checked.exp is None:
            return ""
        name = target_name(checked.exp, await self._values(checked.exp, checked.domain))
        if isinstance(name, NameFault):
            return ""
        answer = await self._resolver.query(name, RecordType.TXT)
        if not isinstance(answer, Found) or len(answer.records) != 1:
            return ""
        octets = answer.records[0]
        assert isinstance(octets, bytes)
        if len(octets) > self._limits.record:
            return ""
        text = parse_explanation(octets.decode("iso-8859-1"))
        if isinstance(text, SyntaxFault):
            return ""
        # The grammar keeps the text itself printable; HELO and local-part were written by the client.
        said = expand(text, await self._values(text, checked.domain))
        return said[: self._limits.explanation] if said.isascii() and said.isprintable() else ""

    # The record

    async def _record(self, domain: str) -> Record | Checked:
        if "." not in domain:
            return Checked(SpfResult.NONE, Reason(f"{domain} is a single label", "RFC 7208 §4.3"))
        answer = await self._resolver.query(domain, RecordType.TXT)
        if isinstance(answer, Failure):
            return _temperror(answer)
        records = [record for record in _texts(answer) if is_record(record)]
        if not records:
            reason = Reason(f"{domain} publishes no SPF record", f"TXT of {domain} from {answer.source}")
            return Checked(SpfResult.NONE, reason)
        if len(records) > 1:
            return _permerror(f"{len(records)} SPF records at {domain}", "RFC 7208 §4.5")
        if len(records[0]) > self._limits.record:
            return _permerror(f"a record of {len(records[0])} octets", _record_of(domain))
        record = parse_record(records[0])
        if isinstance(record, SyntaxFault):
            return _permerror(f"{record.text}, at octet {record.offset}", _record_of(domain))
        return record

    async def _redirect(self, target: MacroString, domain: str) -> Checked:
        spent = self._spend("redirect=", domain)
        if spent:
            return spent
        name = await self._target(target, domain, "redirect=")
        match name:
            case Checked():
                return name
            case NameFault.NON_ASCII:
                return self._neutral(domain)
            case NameFault():
                return _permerror(f"the target of redirect= has {name.value}", _record_of(domain))
        checked = await self.check_host(name)
        if checked.result is SpfResult.NONE:
            return _permerror(f"redirect= to {name}, which publishes no SPF record", _record_of(domain))
        return checked

    def _neutral(self, domain: str) -> Checked:
        return Checked(SpfResult.NEUTRAL, Reason(f"nothing matched {self._client.address}", _record_of(domain)), domain)

    # Limits, and names from macros

    def _spend(self, term: str, domain: str) -> Checked | None:
        """Count a term that queries; an error if it is one too many."""
        self._terms += 1
        if self._terms <= self._limits.terms:
            return None
        text = f"more than {self._limits.terms} terms with DNS queries, at {shown(term)} in the {_record_of(domain)}"
        return _permerror(text, "RFC 7208 §4.6.4")

    def _void(self, term: str, domain: str) -> Checked | None:
        """Count a term whose queries gave nothing; an error if it is one too many, else no match."""
        self._void_terms += 1
        if self._void_terms <= self._limits.void_terms:
            return None
        text = f"more than {self._limits.void_terms} void lookups, at {shown(term)} in the {_record_of(domain)}"
        return _permerror(text, "RFC 7208 §4.6.4")

    async def _target(self, spec: MacroString | None, domain: str, term: str) -> str | NameFault | Checked:
        """Return the <target-name> of a term (RFC 7208 §4.8)."""
        if spec is None:
            return domain
        if self._reverse is None and uses(spec, "p"):
            spent = self._spend(term, domain)
            if spent:
                return spent
        return target_name(spec, await self._values(spec, domain))

    async def _values(self, string: MacroString, domain: str) -> Mapping[str, str]:
        name = _validated(domain, (await self._names()).confirmed) if uses(string, "p") else ""
        return {**self._macros, "d": domain, "p": name}

    async def _names(self) -> Reverse:
        if self._reverse is None:
            self._reverse = await reverse(self._resolver, self._client.address, self._limits.ptr_names)
        return self._reverse

    # Mechanisms (RFC 7208 §5)

    async def _evaluate(self, directive: Directive, domain: str) -> _Step:
        match directive.mechanism:
            case Mechanism.ALL:
                return self._match(directive)
            case Mechanism.IP4 | Mechanism.IP6:
                # An address is in no network of the other family.
                assert directive.network is not None
                return self._match(directive) if self._client.address in directive.network else None
        spent = self._spend(directive.text, domain)
        if spent:
            return spent
        name = await self._target(directive.target, domain, directive.text)
        if isinstance(name, Checked):
            return name
        if directive.mechanism is Mechanism.INCLUDE:
            return await self._include(directive, domain, name)
        if isinstance(name, NameFault):
            return None
        match directive.mechanism:
            case Mechanism.A:
                return await self._a(directive, domain, name)
            case Mechanism.MX:
                return await self._mx(directive, domain, name)
            case Mechanism.PTR:
                return await self._ptr(directive, domain, name)
        return await self._exists(directive, domain, name)

    async def _include(self, directive: Directive, domain: str, name: str | NameFault) -> _Step:
        if name is NameFault.NON_ASCII:
            return None
        if isinstance(name, NameFault):
            return _permerror(f"the target of {shown(directive.text)} has {name.value}", _record_of(domain))
        included = await self.check_host(name)
        match included.result:
            case SpfResult.PASS:
                return self._match(directive, f": {included.reason.text} in the {included.reason.source}")
            case SpfResult.NONE:
                text = f"{shown(directive.text)}: {name} publishes no SPF record"
                return _permerror(text, _record_of(domain))
            case SpfResult.TEMPERROR | SpfResult.PERMERROR:
                reason = replace(included.reason, text=f"{shown(directive.text)}: {included.reason.text}")
                return Checked(included.result, reason)
        return None

    async def _a(self, directive: Directive, domain: str, name: str) -> _Step:
        answer = await self._resolver.query(name, self._type)
        if isinstance(answer, Failure):
            return _temperror(answer)
        if not isinstance(answer, Found):
            return self._void(directive.text, domain)
        return self._match(directive) if self._has_address(answer, directive) else None

    async def _mx(self, directive: Directive, domain: str, name: str) -> _Step:
        answer = await self._resolver.query(name, RecordType.MX)
        if isinstance(answer, Failure):
            return _temperror(answer)
        if not isinstance(answer, Found):
            return self._void(directive.text, domain)
        if len(answer.records) > self._limits.mx_hosts:
            text = f"{shown(directive.text)}: {name} has {len(answer.records)} MX records"
            return _permerror(text, "RFC 7208 §4.6.4")
        records = sorted(mx for mx in answer.records if isinstance(mx, Mx))
        hosts = dict.fromkeys(mx.exchange for mx in records if mx.exchange)
        failure: Failure | None = None
        void = bool(hosts)
        with together(self._resolver, hosts, self._type) as questions:
            for host, question in questions:
                addresses = await question
                if self._has_address(addresses, directive):
                    return self._match(directive, f": {host}")
                if isinstance(addresses, Failure):
                    failure = failure or addresses
                void = void and not isinstance(addresses, Found)
        if failure:
            return _temperror(failure)
        return self._void(directive.text, domain) if void else None

    async def _ptr(self, directive: Directive, domain: str, name: str) -> _Step:
        names = await self._names()
        if not isinstance(names.answer, Found | Failure):
            return self._void(directive.text, domain)
        for validated in names.confirmed:
            if _is_within(validated, name):
                return self._match(directive, f": {validated}")
        return None

    async def _exists(self, directive: Directive, domain: str, name: str) -> _Step:
        # RFC 7208 §5.7: A, also for a client with an IPv6 address
        answer = await self._resolver.query(name, RecordType.A)
        if isinstance(answer, Failure):
            return _temperror(answer)
        return self._match(directive, f": {name}") if isinstance(answer, Found) else self._void(directive.text, domain)

    def _has_address(self, answer: Answer, directive: Directive) -> bool:
        """Whether the answer holds the client's address, as far as the CIDR length compares (RFC 7208 §5)."""
        if not isinstance(answer, Found):
            return False
        address = self._client.address
        four = isinstance(address, ipaddress.IPv4Address)
        ignored = address.max_prefixlen - (directive.ip4_length if four else directive.ip6_length)
        prefix = int(address) >> ignored
        return any(int(ipaddress.ip_address(str(record))) >> ignored == prefix for record in answer.records)

    def _match(self, directive: Directive, by: str = "") -> _Match:
        return _Match(f"{shown(directive.text)} matched {self._client.address}{by}")


def _record_of(domain: str) -> str:
    return f"v=spf1 record of {domain}"


def _texts(answer: Answer) -> list[bytes]:
    return [record for record in answer.records if isinstance(record, bytes)] if isinstance(answer, Found) else []


def _temperror(failure: Failure) -> Checked:
    return Checked(SpfResult.TEMPERROR, Reason(f"no answer: {failure.text}", failure.source))


def _permerror(text: str, source: str) -> Checked:
    return Checked(SpfResult.PERMERROR, Reason(text, source))


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}")


def _validated(domain: str, names: tuple[str, ...]) -> str:
    """Choose what ``%{p}`` stands for (RFC 7208 §7.3)."""
    if domain in names:
        return domain
    for name in names:
        if _is_within(name, domain):
            return name
    return names[0] if names else "unknown"

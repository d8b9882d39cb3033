"""What a peer calls itself in EHLO or HELO.

============  ===================================================================================================
rule          the name
============  ===================================================================================================
own_name      is ours, or an address literal with an address of ours
bare_address  is an address without brackets (RFC 5321 §4.1.3)
malformed     is neither a domain nor an address literal (RFC 5321 §4.1.1.1)
no_dot        is not fully qualified (RFC 5321 §2.3.5)
unresolvable  has no address and no MX record (RFC 5321 §2.3.5); asked last, and only if the others found nothing
============  ===================================================================================================

Knowingly not here: whether the name belongs to the peer's address. RFC 5321 §4.1.4 forbids to refuse for that; SPF of
the HELO name says it where the domain wants it said.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from mta.dns.answer import Failure, Found, RecordType
from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.policy import refusal
from mta.policy.facts import Facts, Stage
from mta.policy.network import Exempt, parse
from mta.policy.questions import answers
from mta.policy.verdict import Opinion, Tag, Verdict
from mta.settings.policy import HeloSettings
from mta.settings.values import fold_domain, parse_host_name, within
from mta.smtp.address import address_literal

_SAID: Mapping[str, tuple[str, str]] = {
    "own_name": ("is a name of this server", "[policy.helo] own_name"),
    "bare_address": ("is an address without brackets", "RFC 5321 §4.1.3"),
    "malformed": ("is neither a domain name nor an address literal", "RFC 5321 §4.1.1.1"),
    "no_dot": ("is not fully qualified", "RFC 5321 §2.3.5"),
    "unresolvable": ("has neither address nor MX record", "RFC 5321 §2.3.5"),
}
_ASKED = (RecordType.A, RecordType.AAAA, RecordType.MX)


class Helo:
    """The policy. `hostnames` (in lower case) and `addresses` are ours, beside those that the settings name."""

    name = "helo"
    stages = frozenset({Stage.HELO})

    def __init__(
        self,
        settings: HeloSettings,
        clock: IReactorTime,
        resolver: Resolver,
        exempt: Exempt,
        hostnames: frozenset[str] = frozenset(),
        addresses: frozenset[str] = frozenset(),
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._resolver = resolver
        self._exempt = exempt
        self._hostnames = hostnames | frozenset(settings.own_names)
        self._addresses = addresses

    def ask(self, facts: Facts) -> Opinion | defer.Deferred[Opinion]:
        """Judge the name; a Deferred only where the name server must be asked."""
        if facts.service != "mx" or facts.address in self._exempt:
            return None
        rule = self._fault(facts.helo)
        if rule:
            return self._verdict(rule, facts)
        if self._settings.unresolvable == "off" or facts.helo.startswith("["):
            return None
        return defer.Deferred.fromCoroutine(self._resolves(facts))

    def _fault(self, name: str) -> str:
        """The first rule in force that the name itself breaks; empty where there is none."""
        found = []
        literal = address_literal(name)
        if literal is not None:
            if self._is_ours(literal[1:-1].removeprefix("IPv6:")):
                found.append("own_name")
        elif parse(name) is not None:
            found.append("bare_address")
        else:
            folded = fold_domain(name).removesuffix(".")
            if folded in self._hostnames:
                found.append("own_name")
            try:
                parse_host_name(folded)
            except ValueError:
                found.append("malformed")
            if "." not in folded:
                found.append("no_dot")
        return next((rule for rule in found if getattr(self._settings, rule) != "off"), "")

    def _is_ours(self, address: str) -> bool:
        parsed = parse(address)
        return str(parsed) in self._addresses or within(str(parsed), self._settings.own_addresses)

    async def _resolves(self, facts: Facts) -> Opinion:
        name = fold_domain(facts.helo).removesuffix(".")
        asked = {rdtype: self._resolver.query(name, rdtype) for rdtype in _ASKED}
        found = (await answers(self._clock, self._settings.deadline, asked)).values()
        # Who found nothing in time knows nothing
        if len(found) < len(asked) or any(isinstance(answer, Found | Failure) for answer in found):
            return None
        return self._verdict("unresolvable", facts)

    def _verdict(self, rule: str, facts: Facts) -> Verdict:
        said, source = _SAID[rule]
        why = Reason(f"HELO name {facts.helo} {said}", source)
        action = getattr(self._settings, rule)
        if action == "tag":
            return Tag(why, f"helo.{rule}")
        text = f"{facts.helo}: the name in EHLO or HELO {said}"
        return (refusal.defer if action == "defer" else refusal.reject)(facts.stage, text, why)

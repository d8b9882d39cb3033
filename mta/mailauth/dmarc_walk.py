"""The DNS tree walk: which records speak for a domain, and what its organizational domain is (RFC 9989 §4.10); pure.

A walk asks for a policy record at the domain and at each domain above it, up to the single label. Of a domain with
eight labels or more it asks at the domain itself and then at the last seven labels, so it never has more than
`QUESTIONS_MAXIMUM` questions. It ends where a record says ``psd=y`` or ``psd=n``: what stands above has no say, and
neither has a failure above.

==========================================================  ==========================================================
walk                                                        organizational domain (§4.10.2)
==========================================================  ==========================================================
a record says ``psd=n``                                     the domain of that record
a record above the start says ``psd=y``                     the domain one label below it, on the way to the start
there are records                                           the domain of the one with the fewest labels
there are none                                              the start
==========================================================  ==========================================================

The policy for mail is the record at the author domain, else at its organizational domain, else at the public suffix
(§4.10.1). That section lets its walk begin one label above the author domain; beginning at the author domain, which
has no record then, meets the same records.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mta.dns.answer import Answer, Failure, Found
from mta.mailauth.dmarc_record import DmarcRecord, read_dmarc_records

QUESTIONS_MAXIMUM = 8
"""§4.10: names asked for in one walk."""

_PREFIX = "_dmarc."


@dataclass(frozen=True, slots=True)
class Walk:
    """What one walk met, up to where it ended."""

    start: str
    records: tuple[tuple[str, DmarcRecord], ...] = ()
    """Domains with a record, longest first."""
    failure: Failure | None = None
    """Of the question where it got stuck; the organizational domain cannot be told then."""

    @property
    def own(self) -> DmarcRecord | None:
        """The record at the start."""
        return self.records[0][1] if self.records and self.records[0][0] == self.start else None

    @property
    def ended(self) -> bool:
        """Whether nothing more need be asked. Where it did not end by itself, it ends with the last of its `steps`."""
        return bool(self.failure or (self.records and self.records[-1][1].psd != "u"))

    @property
    def organizational_domain(self) -> str:
        """The organizational domain of the start, where there is no `failure`."""
        if not self.records:
            return self.start
        # Only the last record can say y or n: it ended the walk. The start has no label below it to give.
        domain, record = self.records[-1]
        return last_labels(self.start, labels(domain) + 1) if record.psd == "y" else domain

    @property
    def applicable(self) -> tuple[str, DmarcRecord] | None:
        """The record whose policy is for mail of the start, with its domain; None: no record is."""
        if self.own:
            return self.start, self.own
        organizational = self.organizational_domain
        for domain, record in self.records:
            if domain == organizational or record.psd == "y":
                return domain, record
        return None

    def after(self, domain: str, answer: Answer) -> Walk:
        """Return the walk with the answer to the question at `domain`, the next of its `steps`."""
        if isinstance(answer, Failure):
            return replace(self, failure=answer)
        record = read_dmarc_records(answer.records) if isinstance(answer, Found) else None
        return replace(self, records=(*self.records, (domain, record))) if record else self


def steps(domain: str) -> list[str]:
    """Return the domains where a walk from `domain` asks, in order."""
    shortened = min(labels(domain), QUESTIONS_MAXIMUM) - 1
    return [domain, *(last_labels(domain, count) for count in range(shortened, 0, -1))]


def question(domain: str) -> str:
    """Return the name that holds the policy record of a domain (§4.5)."""
    return _PREFIX + domain


def labels(domain: str) -> int:
    """Count the labels of a domain."""
    return domain.count(".") + 1


def last_labels(domain: str, count: int) -> str:
    """Return the domain of the last `count` labels."""
    return ".".join(domain.split(".")[-count:])


def is_within(domain: str, above: str) -> bool:
    """Whether a domain is `above` or below it."""
    return domain == above or domain.endswith("." + above)

"""What an aggregate report needs to know of one message (RFC 9990), as a value and as JSON for the history; pure.

Reports count equal rows; they are made from rows kept, not from messages, so a row holds all of it: the policy as it
was published that day, what came of it and why, the identifiers, and the results of SPF and DKIM before DMARC. Names
are those of the elements of a report (RFC 9990 §3.1.1); what is not there has the default of its tag.

Mail that was deferred has no row, as it comes again; nor has mail for which no policy was found or evaluated.

Addresses of people are in no row, only domains; `rua` says whom the domain wants its reports sent to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mta.mailauth.disposition import Action, Disposition
from mta.mailauth.dmarc_record import read_dmarc_record
from mta.mailauth.dmarc_walk import is_within
from mta.mailauth.result import Authentication, Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult
from mta.settings.values import fold_domain

DISCOVERY_METHOD = "treewalk"
"""How policies are found here; the other way, ``psl``, is that of RFC 7489."""
SIGNATURES_MAXIMUM = 10
"""Signatures in one row; a report SHOULD have no more than 100."""
HUMAN_MAXIMUM = 100
"""Characters of an explanation for people."""
ROW_MAXIMUM = 1900
"""Characters of a row, written as a value of JSON: the history keeps an event with less than 2,000 uncut."""


@dataclass(frozen=True, slots=True)
class PolicyPublished:
    """The record that was in force."""

    domain: str
    """Where it was found."""
    p: str
    sp: str
    np: str
    adkim: str
    aspf: str
    fo: str
    testing: str
    """``y`` or ``n``."""
    rua: tuple[str, ...]
    discovery_method: str = DISCOVERY_METHOD


@dataclass(frozen=True, slots=True)
class PolicyReason:
    """Why the policy was not followed."""

    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class DkimRow:
    """One signature, uninterpreted."""

    domain: str
    selector: str
    result: str
    human_result: str


@dataclass(frozen=True, slots=True)
class SpfRow:
    """The check of MAIL FROM, uninterpreted; its scope is always ``mfrom``."""

    domain: str
    result: str
    human_result: str


@dataclass(frozen=True, slots=True)
class DmarcRow:
    """One message."""

    source_ip: str
    disposition: str
    """``none``, ``quarantine``, ``reject``; ``pass``: DMARC passed, where the policy would have had an effect."""
    dkim: str
    """``pass`` where a passing signature is aligned, else ``fail``."""
    spf: str
    header_from: str
    envelope_from: str
    """The domain of MAIL FROM; empty for ``<>``."""
    envelope_to: str
    """The domain of the recipients; empty where there are several."""
    policy_published: PolicyPublished
    reasons: tuple[PolicyReason, ...]
    auth_dkim: tuple[DkimRow, ...]
    auth_spf: SpfRow | None


def dmarc_row(
    authentication: Authentication,
    disposition: Disposition,
    *,
    address: str,
    envelope_from: str,
    envelope_to: Iterable[str],
) -> DmarcRow | None:
    """Make the row of a message; None where there is nothing to report.

    `address` is the peer's; `envelope_from` and `envelope_to` are domains.
    """
    dmarc = authentication.dmarc
    if dmarc is None or dmarc.result not in (DmarcResult.PASS, DmarcResult.FAIL) or disposition.action is Action.DEFER:
        return None
    record = read_dmarc_record(dmarc.published.encode("latin-1"))
    assert record, "a result that no record stands behind"
    to = {fold_domain(domain) for domain in envelope_to}
    spf = authentication.spf
    return DmarcRow(
        source_ip=address,
        disposition=_disposition(dmarc, disposition.action),
        dkim=_aligned(dmarc.dkim_aligned),
        spf=_aligned(dmarc.spf_aligned),
        header_from=dmarc.domain,
        envelope_from=fold_domain(envelope_from),
        envelope_to=to.pop() if len(to) == 1 else "",
        policy_published=PolicyPublished(
            dmarc.policy_domain,
            record.p.value,
            record.for_subdomains.value,
            record.for_missing_subdomains.value,
            record.adkim,
            record.aspf,
            record.fo,
            "y" if record.testing else "n",
            record.rua,
        ),
        reasons=tuple(PolicyReason(each.kind.value, each.comment[:HUMAN_MAXIMUM]) for each in disposition.overrides),
        auth_dkim=_signatures(dmarc, authentication.dkim),
        auth_spf=SpfRow(spf.domain, spf.result.value, spf.reason.text[:HUMAN_MAXIMUM]) if spf else None,
    )


def encode(row: DmarcRow) -> str:
    """Write a row as one line of JSON in ASCII, which the history can hold whole.

    What makes it too long is left out, what a report can best do without first: explanations, signatures but the
    first, where reports go (which DNS tells again), the last signature and the comments.
    """
    spf = row.auth_spf
    brief = replace(
        row,
        auth_dkim=tuple(replace(each, human_result="") for each in row.auth_dkim),
        auth_spf=replace(spf, human_result="") if spf else None,
    )
    first = replace(brief, auth_dkim=brief.auth_dkim[:1])
    unaddressed = replace(first, policy_published=replace(row.policy_published, rua=()))
    least = replace(unaddressed, auth_dkim=(), reasons=tuple(replace(each, comment="") for each in row.reasons))
    for each in (row, brief, first, unaddressed, least):
        text = json.dumps(asdict(each), separators=(",", ":"))
        if len(json.dumps(text)) <= ROW_MAXIMUM:
            break
    return text


def decode(text: str) -> DmarcRow:
    """Read what `encode` wrote. Raises ValueError for anything else."""
    try:
        fields: dict[str, Any] = json.loads(text)
        published: Mapping[str, Any] = fields["policy_published"]
        spf = fields["auth_spf"]
        return DmarcRow(
            **{
                **fields,
                "policy_published": PolicyPublished(**{**published, "rua": tuple(published["rua"])}),
                "reasons": tuple(PolicyReason(**each) for each in fields["reasons"]),
                "auth_dkim": tuple(DkimRow(**each) for each in fields["auth_dkim"]),
                "auth_spf": SpfRow(**spf) if spf else None,
            }
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no row of an aggregate report: {error}") from None


def _aligned(aligned: bool) -> str:
    return "pass" if aligned else "fail"


def _disposition(dmarc: Dmarc, action: Action) -> str:
    if dmarc.result is DmarcResult.PASS:
        return "none" if dmarc.policy is DmarcPolicy.NONE else "pass"
    return "none" if action is Action.ACCEPT else action.value


def _signatures(dmarc: Dmarc, signatures: Sequence[Dkim]) -> tuple[DkimRow, ...]:
    """The signatures in the order that a report prefers: aligned ones first, those that do not pass last."""

    def rank(signature: Dkim) -> int:
        if signature.result is not DkimResult.PASS:
            return 3
        if signature.domain == dmarc.domain:
            return 0
        return 1 if dmarc.organizational_domain and is_within(signature.domain, dmarc.organizational_domain) else 2

    return tuple(
        DkimRow(each.domain, each.selector, each.result.value, each.reason.text[:HUMAN_MAXIMUM])
        for each in sorted(signatures, key=rank)[:SIGNATURES_MAXIMUM]
    )

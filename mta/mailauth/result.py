"""What a check came to, as values, in the words of the Authentication-Results registry (RFC 8601 §2.7).

Each carries its reason: which record, which tag, which answer of the name server. Log, history and explanations print
that; reports of RFC 9990 are made from the same values.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from mta.mail.reason import Reason


class SpfResult(enum.Enum):
    """RFC 7208 §2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True)
class Spf:
    """One SPF check (RFC 7208)."""

    result: SpfResult
    identity: str
    """``mailfrom`` or ``helo``."""
    domain: str
    """The domain that was asked for, A-labels in lower case."""
    reason: Reason
    """The mechanism that matched and the record it stands in, or the error."""
    explanation: str = ""
    """What the domain's ``exp=`` says of a fail, printable ASCII (RFC 7208 §6.2); empty: nothing."""


class DkimResult(enum.Enum):
    """RFC 8601 §2.7.1."""

    NONE = "none"
    PASS = "pass"
    FAIL = "fail"
    POLICY = "policy"
    NEUTRAL = "neutral"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True)
class Dkim:
    """One DKIM signature, checked (RFC 6376 §6)."""

    result: DkimResult
    domain: str
    """``d=``, in lower case; empty where the signature could not be read."""
    selector: str
    reason: Reason
    identity: str = ""
    """``i=``, or what it defaults to."""
    algorithm: str = ""
    """``a=``: ``rsa-sha256``, ``ed25519-sha256``."""
    bits: int = 0
    """Of the key; 0 where there is none."""
    signature: str = ""
    """The first 8 characters of ``b=``, which tell signatures apart (RFC 6008)."""
    testing: bool = False
    """Whether the key says ``t=y``: the result is to be treated as if there were no signature, if it is a fail."""
    unsigned_octets: int = 0
    """Octets of the body behind what ``l=`` covers: anybody may have added them."""


class DmarcResult(enum.Enum):
    """RFC 8601 §2.7.4 (registered by RFC 9989)."""

    NONE = "none"
    PASS = "pass"
    FAIL = "fail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class DmarcPolicy(enum.Enum):
    """What a domain asks of receivers (RFC 9989 §4.7)."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Dmarc:
    """The DMARC check of one message (RFC 9989 §5.3)."""

    result: DmarcResult
    reason: Reason
    domain: str = ""
    """The author domain, that of From, A-labels in lower case; empty where From does not tell of exactly one."""
    policy_domain: str = ""
    """Where the policy record was found."""
    organizational_domain: str = ""
    policy: DmarcPolicy = DmarcPolicy.NONE
    """What the domain asks for, after ``sp=``, ``np=`` and ``t=``."""
    published: str = ""
    """The record as it was published, each octet a character (Latin-1), for reports."""
    spf_aligned: bool = False
    dkim_aligned: bool = False
    tested: bool = False
    """Whether ``t=y`` made `policy` one step lower than what the record states."""


class ArcResult(enum.Enum):
    """RFC 8617 §4.4: the chain validation status."""

    NONE = "none"
    PASS = "pass"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Arc:
    """The ARC chain of one message, validated (RFC 8617 §5.2)."""

    result: ArcResult
    reason: Reason
    instances: int = 0
    """The highest ``i=``."""
    sealers: tuple[str, ...] = ()
    """``d=`` of each ARC-Seal, instance 1 first."""
    oldest_pass: int = 0
    """The oldest instance whose message signature still holds; 0: all of them do (RFC 8617 §5.2 step 5)."""
    results: tuple[str, ...] = ()
    """The text of each ARC-Authentication-Results behind ``i=``, instance 1 first."""


class IprevResult(enum.Enum):
    """RFC 8601 §2.7.3."""

    PASS = "pass"
    FAIL = "fail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True)
class Iprev:
    """Forward-confirmed reverse DNS of an address (RFC 8601 §3)."""

    result: IprevResult
    reason: Reason
    name: str = ""
    """The name that was confirmed; empty where none was."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """All that is known of whose mail a message is."""

    iprev: Iprev | None = None
    helo: Spf | None = None
    spf: Spf | None = None
    """Of MAIL FROM; for ``<>`` it is postmaster@HELO (RFC 7208 §2.4)."""
    dkim: tuple[Dkim, ...] = ()
    """Of each signature; one "none" for a message without any, and nothing where signatures are not checked."""
    dmarc: Dmarc | None = None
    arc: Arc | None = None
    login: str = ""
    """Who logged in, for mail of our own users (``auth=pass``, RFC 8601 §2.7.5)."""
    notes: tuple[Reason, ...] = field(default=())
    """What else was decided about these checks: a local override, a check that was left out."""


def summary(authentication: Authentication) -> dict[str, Any]:
    """Say each check in a few words, by its name, for log and history: ``spf="pass example.net: …"``."""
    said = {}
    for name, check, subject in (
        ("iprev", authentication.iprev, authentication.iprev and authentication.iprev.name),
        ("helo", authentication.helo, authentication.helo and authentication.helo.domain),
        ("spf", authentication.spf, authentication.spf and authentication.spf.domain),
        ("dmarc", authentication.dmarc, authentication.dmarc and authentication.dmarc.domain),
        ("arc", authentication.arc, authentication.arc and " ".join(authentication.arc.sealers)),
    ):
        if check is not None:
            said[name] = _in_words(check.result.value, subject or "", check.reason)
    if authentication.notes:
        said["notes"] = "; ".join(map(str, authentication.notes))
    if authentication.dkim:
        said["dkim"] = "; ".join(
            _in_words(each.result.value, each.domain and f"{each.selector}._domainkey.{each.domain}", each.reason)
            for each in authentication.dkim
        )
    return said


def _in_words(result: str, subject: str, reason: Reason) -> str:
    return f"{result} {subject}: {reason}" if subject else f"{result}: {reason}"

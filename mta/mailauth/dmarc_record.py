r"""DMARC policy records (RFC 9989 §4.7, §4.8), read to a value; pure.

::

    dmarc-record  = dmarc-version *(dmarc-sep dmarc-tag) [dmarc-sep]
    dmarc-version = "v" equals %s"DMARC1"            ; this alone is told apart by case
    dmarc-tag     = 1*ALPHA equals 1*dmarc-value
    dmarc-sep     = *WSP ";" *WSP
    equals        = *WSP "=" *WSP
    dmarc-value   = %x20-3A / %x3C-7E

What is wrong in a record, and what comes of it:

===================================================  ==================================================================
fault                                                result
===================================================  ==================================================================
the record does not begin with ``v=DMARC1``          no record (§4.7 ``v``)
several records at one name                          no record (§4.10, step 2)
an unknown tag; ``pct``, ``rf``, ``ri`` of RFC 7489  ignored
``adkim``, ``aspf``, ``fo``, ``psd``, ``t``          its default (§4.8)
a part that is no tag; a tag that comes twice        ignored, and the tag is as if it were not there (§4.8)
one of several URIs                                  that URI is ignored
no ``p``, or one of ``p``, ``sp``, ``np`` is none    with a URI in ``rua``: as if it said ``p=none`` alone; otherwise
                                                     `DmarcRecord.applies` is false (§4.10.1)
===================================================  ==================================================================

The rule about tags that come twice is ours. RFC 6376 §3.2 spoils the whole list for it, §4.8 wants errors discarded:
a second ``rua`` must not cost a domain its protection. A second ``p`` leaves none: nobody can tell which is meant.

The tag-list syntax is that of `mta.mailauth.tags`, which cannot be used: there one fault spoils the list.

Knowingly not here: whether a URI may be reported to (RFC 9990 §4), which concerns who sends reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mta.mailauth.result import DmarcPolicy

RECORD_MAXIMUM = 8192
"""Octets of the longest record that is read; a longer one is no record. Real ones have some hundred."""
URIS_MAXIMUM = 10
"""URIs of one tag that are kept, the first ones. (RFC 7489 §6.2 made two a duty, RFC 9989 leaves the number open.)"""

Alignment = Literal["r", "s"]
"""Relaxed or strict."""
Psd = Literal["y", "n", "u"]
"""Whether the domain is a public suffix: yes, no (it is an organizational domain), unknown."""

_VERSION = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_TAG_NAME = re.compile(rb"[A-Za-z]+")
_VALUE = re.compile(rb"[\x20-\x3a\x3c-\x7e]+")
# RFC 3986 §3 as far as it tells a URI from what is none; ",", ";" and "!" must be encoded (§4.8)
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*:[A-Za-z0-9\-._~:/?#\[\]@$&'()*+=%]+)(?:![0-9]+[kmgtKMGT]?)?")
_POLICIES = {policy.value: policy for policy in DmarcPolicy}
_KNOWN = frozenset({"p", "sp", "np", "adkim", "aspf", "fo", "psd", "t", "rua", "ruf"})


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """One policy record. Tags that are not there have their defaults."""

    text: str
    """As it was published, each octet a character (Latin-1), printable or not."""
    applies: bool = True
    """False: it states no valid policy and wants no reports, so DMARC is not applied (§4.10.1)."""
    p: DmarcPolicy = DmarcPolicy.NONE
    sp: DmarcPolicy | None = None
    """For subdomains that exist; None: as `p`."""
    np: DmarcPolicy | None = None
    """For subdomains that do not exist; None: as `sp`."""
    psd: Psd = "u"
    testing: bool = False
    """``t=y``: the policy is to be applied one step below what it says."""
    adkim: Alignment = "r"
    aspf: Alignment = "r"
    rua: tuple[str, ...] = ()
    """Where aggregate reports go; without the obsolete size limits."""
    ruf: tuple[str, ...] = ()
    """Where failure reports go."""
    fo: str = "0"
    """When failure reports are wanted, in lower case: ``0``, ``1``, ``d``, ``s``, joined with colons."""
    faults: tuple[str, ...] = ()
    """What was ignored or replaced, in words for people."""

    @property
    def for_subdomains(self) -> DmarcPolicy:
        """The policy for a subdomain that exists (§4.7 ``sp``)."""
        return self.sp or self.p

    @property
    def for_missing_subdomains(self) -> DmarcPolicy:
        """The policy for a subdomain that does not exist (§4.7 ``np``)."""
        return self.np or self.for_subdomains


def read_dmarc_records(records: Iterable[object]) -> DmarcRecord | None:
    """Read the TXT records of one name: the one that is a policy record, or None where there is none or several."""
    policies = [octets for octets in records if isinstance(octets, bytes) and _is_policy_record(octets)]
    return _read(policies[0]) if len(policies) == 1 else None


def read_dmarc_record(octets: bytes) -> DmarcRecord | None:
    """Read one TXT record, its strings joined; None for what is no policy record."""
    return _read(octets) if _is_policy_record(octets) else None


def one_step_down(policy: DmarcPolicy) -> DmarcPolicy:
    """Return what ``t=y`` makes of a policy (§4.7 ``t``)."""
    return DmarcPolicy.QUARANTINE if policy is DmarcPolicy.REJECT else DmarcPolicy.NONE


def _is_policy_record(octets: bytes) -> bool:
    return len(octets) <= RECORD_MAXIMUM and _VERSION.match(octets) is not None


def _read(octets: bytes) -> DmarcRecord:
    faults: list[str] = []
    tags = _tags(octets, faults)

    def one_of(name: str, values: str, default: str) -> str:
        value = tags.get(name, default).lower()
        if len(value) == 1 and value in values:
            return value
        faults.append(f"{name} is none of {', '.join(values)}")
        return default

    policies = {name: _POLICIES.get(tags[name].lower()) for name in ("p", "sp", "np") if name in tags}
    faults += [f"{name} is no policy" for name, policy in policies.items() if policy is None]
    if "p" not in tags:
        faults.append("there is no p")
    rua = _uris("rua", tags, faults)
    stated = policies.get("p")
    if stated is None or None in policies.values():
        stated, policies = DmarcPolicy.NONE, {}
        applies = bool(rua)
    else:
        applies = True
    return DmarcRecord(
        text=octets.decode("latin-1"),
        applies=applies,
        p=stated,
        sp=policies.get("sp"),
        np=policies.get("np"),
        psd=one_of("psd", "ynu", "u"),  # type: ignore[arg-type]  # one of the letters given
        testing=one_of("t", "yn", "n") == "y",
        adkim=one_of("adkim", "rs", "r"),  # type: ignore[arg-type]  # likewise
        aspf=one_of("aspf", "rs", "r"),  # type: ignore[arg-type]  # likewise
        rua=rua,
        ruf=_uris("ruf", tags, faults),
        fo=_failure_options(tags.get("fo", "0").lower(), faults),
        faults=tuple(dict.fromkeys(faults)),
    )


def _tags(octets: bytes, faults: list[str]) -> Mapping[str, str]:
    """The known tags behind ``v``, each that comes once and has a value of permitted characters."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for part in octets.split(b";")[1:]:
        name_octets, equals, value = part.partition(b"=")
        name_octets, value = name_octets.strip(b" \t"), value.strip(b" \t")
        if not equals or not _TAG_NAME.fullmatch(name_octets):
            if part.strip(b" \t"):
                faults.append("a part is no tag")
            continue
        name = name_octets.decode("ascii")
        if name not in _KNOWN:
            continue
        if name in found:
            twice.add(name)
        # What has other characters is left for its tag to find wrong.
        found[name] = value.decode("ascii") if _VALUE.fullmatch(value) else ""
    faults += [f"{name} comes twice" for name in sorted(twice)]
    return {name: value for name, value in found.items() if name not in twice}


def _uris(name: str, tags: Mapping[str, str], faults: list[str]) -> tuple[str, ...]:
    if name not in tags:
        return ()
    uris = [_URI.fullmatch(part.strip(" \t")) for part in tags[name].split(",")]
    if None in uris:
        faults.append(f"{name} has what is no URI")
    return tuple(uri[1] for uri in uris if uri)[:URIS_MAXIMUM]


def _failure_options(value: str, faults: list[str]) -> str:
    options = [option.strip(" \t") for option in value.split(":")]
    once = len(set(options)) == len(options)
    if once and set(options) <= {"0", "1", "d", "s"} and not {"0", "1"} <= set(options):
        return ":".join(options)
    faults.append("fo is no list of 0, 1, d, s")
    return "0"

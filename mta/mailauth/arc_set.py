r"""ARC sets: the three fields that each hop adds, and the chain that the sets of a message make (RFC 8617 §4). Pure.

::

    ARC-Authentication-Results = [CFWS] "i" [CFWS] "=" [CFWS] instance [CFWS] ";" authres-payload  ; §4.1.1, no tag list
    ARC-Message-Signature      = tag-list                                                          ; §4.1.2
    ARC-Seal                   = tag-list                                                          ; §4.1.3
    instance                   = 1*2DIGIT                                                          ; 1 to 50, §4.2.1

=====  =======================  =======================  ==============================================================
tag    message signature        seal                     holds
=====  =======================  =======================  ==============================================================
i=     must                     must                     the instance
a=     must                     must                     the algorithm
b=     must                     must                     the signature
d=     must                     must                     the domain
s=     must                     must                     the selector
t=     may                      may                      when it was made; only its form is looked at
cv=    unknown                  must                     what the chain was before: ``none``, ``pass``, ``fail``
bh=    must                     unknown                  the hash of the body
h=     must                     must not (§4.1.3)        signed fields: with From, as for DKIM, and without ARC-Seal
c=     may                      unknown                  canonical forms, as for DKIM; those of a seal are relaxed
l=     may                      unknown                  octets of the body that are signed
q=     may                      unknown                  must have ``dns/txt``
=====  =======================  =======================  ==============================================================

Unknown tags are ignored, ``v=`` and ``x=`` among them: a message signature has no version (§4.1.2), and that it may be
taken to expire (RFC 6376 §3.5) is left aside, since a chain tells of the past.

More is read than may be written. §4.1.2 forbids any ARC field in ``h=``, but the drafts had signers cover the results,
and it harms no chain; of the three ARC-Seal alone is refused. ``i=`` is to be the first tag (§4.1), but any place will
do: in the suite of the RFC's authors it is among the last.

A chain is whole if each instance from 1 to the highest has one of each field, and ``cv=`` is ``none`` in the first seal
and ``pass`` in all others (§5.2 step 3). Comments within comments in front of the instance are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mta.mail.reason import Reason
from mta.mailauth.algorithm import Algorithm
from mta.mailauth.canonical import Canonicalization
from mta.mailauth.result import ArcResult
from mta.mailauth.signature_tags import (
    LENGTH_DIGITS,
    TIME_DIGITS,
    TagFault,
    algorithm_tag,
    base64_tag,
    domain_tag,
    forms_tag,
    methods_tag,
    names_tag,
    number_tag,
    require,
)
from mta.mailauth.tags import read_colons, read_number, read_tags
from mta.message.header import Field

SETS_MAXIMUM = 50
"""Sets of one message (RFC 8617 §4.2.1, §5.2 step 1)."""

RESULTS = b"arc-authentication-results"
MESSAGE = b"arc-message-signature"
SEAL = b"arc-seal"
NAMES = (RESULTS, MESSAGE, SEAL)
"""The fields of a set, in the order in which a seal covers them (RFC 8617 §5.1.1)."""

FORM = Canonicalization.RELAXED
"""Of the fields that a seal covers (RFC 8617 §4.1.3)."""

INSTANCE_DIGITS = 2

_WRITTEN = {RESULTS: "ARC-Authentication-Results", MESSAGE: "ARC-Message-Signature", SEAL: "ARC-Seal"}
_ARC = re.compile(rb"\r\narc-(?:authentication-results|message-signature|seal)[ \t]*:", re.IGNORECASE)
_CFWS = rb"(?:[ \t]|\((?:[^()\\]|\\.)*+\))*+"
_INSTANCE = re.compile(_CFWS + rb"i" + _CFWS + rb"=" + _CFWS + rb"([0-9]{1,2})" + _CFWS + rb";")


@dataclass(frozen=True, slots=True)
class AuthenticationResults:
    """What a hop found of whose mail it was."""

    field: Field
    instance: int
    text: str
    """What stands behind ``i=1;``, unfolded: authserv-id and results."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What message signatures and seals have in common."""

    field: Field
    instance: int
    algorithm: Algorithm
    domain: str
    """``d=``, A-labels in lower case; so is the selector."""
    selector: str
    signature: bytes
    """``b=``."""


@dataclass(frozen=True, slots=True)
class MessageSignature(Signature):
    """A hop's signature of the message as it sent it on."""

    body_hash: bytes
    head_form: Canonicalization
    body_form: Canonicalization
    names: tuple[bytes, ...]
    """``h=``: the names of the signed fields, in lower case."""
    length: int | None
    """``l=``; None: all of the body is signed."""


@dataclass(frozen=True, slots=True)
class Seal(Signature):
    """A hop's signature of all sets up to its own."""

    status: ArcResult
    """``cv=``."""


@dataclass(frozen=True, slots=True)
class ArcSet:
    """What one hop added."""

    results: AuthenticationResults
    message: MessageSignature
    seal: Seal


@dataclass(frozen=True, slots=True)
class Chain:
    """The ARC fields of one message."""

    sets: tuple[ArcSet, ...] = ()
    """Instance 1 first; none where there is no chain, or one with a fault."""
    fault: Reason | None = None
    """Why the chain is not valid, whatever its signatures are."""
    instances: int = 0
    """The highest instance that any of the fields tells; 0 where there is none, or none that can be read."""
    failed: bool = False
    """Whether the newest seal itself says ``cv=fail``: the chain has ended."""

    @property
    def exists(self) -> bool:
        """Whether there is any ARC field."""
        return bool(self.sets) or self.fault is not None


_Member = AuthenticationResults | MessageSignature | Seal


def has_arc(head: bytes) -> bool:
    """Whether a head has any ARC field."""
    return _ARC.search(b"\r\n" + head) is not None


def read_chain(fields: Iterable[Field]) -> Chain:
    """Read the chain among the fields of a head (RFC 8617 §5.2 steps 1 to 3)."""
    found = [field for field in fields if field.name in NAMES]
    if len(found) > SETS_MAXIMUM * len(NAMES):
        # They are not read: there are too many sets, or some are double, and none can be added in either case.
        text = f"there are {len(found)} ARC fields, more than {SETS_MAXIMUM} sets have"
        return Chain((), Reason(text, "RFC 8617 §5.2 step 1"), SETS_MAXIMUM)
    members: dict[tuple[int, bytes], _Member] = {}
    faults = []
    highest = 0
    for field in found:
        instance, member = _read_field(field)
        highest = max(highest, instance)
        if isinstance(member, Reason):
            faults.append(member)
        elif (instance, field.name) in members:
            faults.append(Reason(f"there are two {_WRITTEN[field.name]} i={instance}", "RFC 8617 §5.2 step 3"))
        else:
            members[instance, field.name] = member
    newest = members.get((highest, SEAL))
    if isinstance(newest, Seal) and newest.status is ArcResult.FAIL:
        text = f"{newest.domain} sealed the chain as failed, i={highest}"
        return Chain((), Reason(text, "RFC 8617 §5.2 step 2"), highest, failed=True)
    if faults:
        return Chain((), faults[0], highest)
    sets: list[ArcSet] = []
    for instance in range(1, highest + 1):
        whole = _whole(instance, members)
        if isinstance(whole, Reason):
            return Chain((), whole, highest)
        sets.append(whole)
    return Chain(tuple(sets), None, highest)


def _whole(instance: int, members: Mapping[tuple[int, bytes], _Member]) -> ArcSet | Reason:
    """Put the set of an instance together (RFC 8617 §5.2 step 3)."""
    source = "RFC 8617 §5.2 step 3"
    for name in NAMES:
        if (instance, name) not in members:
            return Reason(f"there is no {_WRITTEN[name]} i={instance}", source)
    results, message, seal = (members[instance, name] for name in NAMES)
    assert isinstance(results, AuthenticationResults)
    assert isinstance(message, MessageSignature)
    assert isinstance(seal, Seal)
    if seal.status is not (ArcResult.NONE if instance == 1 else ArcResult.PASS):
        return Reason(f"{_WRITTEN[SEAL]} i={instance} says cv={seal.status.value}", source)
    return ArcSet(results, message, seal)


def _read_field(field: Field) -> tuple[int, _Member | Reason]:
    """Read one of the three: its instance, 0 where that cannot be told, and what it says or what is wrong with it."""
    instance = 0
    try:
        instance, rest = _read_instance(field)
        if not 1 <= instance <= SETS_MAXIMUM:
            raise TagFault(f"i= is not from 1 to {SETS_MAXIMUM}", "RFC 8617 §4.2.1")
        if isinstance(rest, str):
            return instance, AuthenticationResults(field, instance, rest)
        return instance, (_read_message if field.name == MESSAGE else _read_seal)(field, instance, rest)
    except TagFault as fault:
        which = f" i={instance}" if instance else ""
        return instance, Reason(f"{_WRITTEN[field.name]}{which}: {fault}", fault.reason.source)


def _read_instance(field: Field) -> tuple[int, str | dict[str, str]]:
    """Read the instance, and give what there is besides: text of results, or tags. Raises TagFault."""
    if field.name == RESULTS:
        value = field.value
        found = _INSTANCE.match(value)
        if not found:
            raise TagFault("it does not begin with its instance", "RFC 8617 §4.1.1")
        return int(found[1]), value[found.end() :].strip(b" \t").decode("utf-8", "replace")
    tags = read_tags(field.value)
    if isinstance(tags, Reason):
        raise TagFault(tags.text, tags.source)
    require(tags, "i")
    instance = read_number(tags["i"], INSTANCE_DIGITS)
    if instance is None:
        raise TagFault("i= is no number of one or two digits", "RFC 8617 §4.2.1")
    return instance, tags


def _read_message(field: Field, instance: int, tags: dict[str, str]) -> MessageSignature:
    require(tags, ("a", "b", "bh", "d", "h", "s"))
    methods_tag(tags.get("q", "dns/txt"))
    number_tag(tags, "t", TIME_DIGITS)
    head_form, body_form = forms_tag(tags.get("c", "simple"))
    # a word left out between two colons signs nothing, and spoils nothing
    names = names_tag(word for word in read_colons(tags["h"]) if word)
    if SEAL in names:
        raise TagFault("h= has ARC-Seal", "RFC 8617 §4.1.2")
    return MessageSignature(
        field=field,
        instance=instance,
        algorithm=algorithm_tag(tags["a"]),
        domain=domain_tag(tags["d"], "d", labels=2),
        selector=domain_tag(tags["s"], "s", labels=1),
        signature=base64_tag(tags["b"], "b"),
        body_hash=base64_tag(tags["bh"], "bh"),
        head_form=head_form,
        body_form=body_form,
        names=names,
        length=number_tag(tags, "l", LENGTH_DIGITS),
    )


def _read_seal(field: Field, instance: int, tags: dict[str, str]) -> Seal:
    require(tags, ("a", "b", "cv", "d", "s"))
    if "h" in tags:
        raise TagFault("a seal has no h=", "RFC 8617 §4.1.3")
    number_tag(tags, "t", TIME_DIGITS)
    try:
        status = ArcResult(tags["cv"].lower())
    except ValueError:
        raise TagFault("cv= is not none, pass or fail", "RFC 8617 §4.1.3") from None
    return Seal(
        field=field,
        instance=instance,
        algorithm=algorithm_tag(tags["a"]),
        domain=domain_tag(tags["d"], "d", labels=2),
        selector=domain_tag(tags["s"], "s", labels=1),
        signature=base64_tag(tags["b"], "b"),
        status=status,
    )

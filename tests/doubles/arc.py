"""Hops that seal messages: as we do, and with any tags, as others may."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric import ed25519
from twisted.internet import defer

from mta.mailauth.algorithm import algorithm_of, sign
from mta.mailauth.arc_set import FORM, MESSAGE, RESULTS, SEAL, read_chain
from mta.mailauth.arc_sign import seal_message
from mta.mailauth.arc_verify import ArcCheck
from mta.mailauth.canonical import BodyHash, BodyHashes, Canonicalization, SignedFields, signed_octets
from mta.mailauth.dkim_sign import Signer, want_body
from mta.mailauth.result import Arc
from mta.mailauth.tags import append_base64, write_base64
from mta.message.header import Field, fields
from tests.doubles.dkim import record, rsa_key
from tests.doubles.dns import Zone, ZoneResolver
from tests.doubles.sync import result

WALL = 1_700_000_000.0
RESULT_TEXT = "mx.{domain};\r\n\tspf=pass smtp.mailfrom=author.example;\r\n\tdmarc=pass header.from=author.example"


@functools.cache
def hop(number: int) -> Signer:
    """The sealer of a hop: every third has an RSA key, the others Ed25519, each its own."""
    key = rsa_key() if number % 3 == 0 else ed25519.Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return Signer(f"hop{number}.example", f"s{number}", key)


def zone(numbers: Iterable[int] = range(1, 51)) -> ZoneResolver:
    """A resolver that knows the keys of hops."""
    known = Zone()
    for number in numbers:
        known.add(name_of(hop(number)), "TXT", record(hop(number).key))
    return ZoneResolver(known)


def name_of(signer: Signer) -> str:
    """Where the key of a hop is published."""
    return f"{signer.selector}._domainkey.{signer.domain}"


def body_of(body: bytes) -> BodyHash:
    """The hash of a body that a sealer needs."""
    bodies = BodyHashes()
    wanted = want_body(bodies)
    bodies.update(body)
    bodies.finish()
    return wanted


def checking(head: bytes, body: bytes | Iterable[bytes], resolver: ZoneResolver) -> defer.Deferred[Arc]:
    """Begin to validate a chain."""
    check = ArcCheck(resolver, head)
    for chunk in [body] if isinstance(body, bytes) else body:
        check.body(chunk)
    return defer.Deferred.fromCoroutine(check.finish())


def validated(head: bytes, body: bytes | Iterable[bytes], resolver: ZoneResolver | None = None) -> Arc:
    """Validate a chain whose keys are all answered at once."""
    return result(checking(head, body, resolver or zone()))


def forwarded(head: bytes, body: bytes, number: int) -> bytes:
    """The head as it leaves a hop that validates and seals."""
    signer = hop(number)
    text = RESULT_TEXT.format(domain=signer.domain)
    sealed = seal_message(head, body_of(body), signer, text, validated(head, body), WALL)
    assert isinstance(sealed, bytes), sealed
    return sealed + head


def hand_made(
    head: bytes,
    body: bytes,
    signer: Signer,
    *,
    sealer: Signer | None = None,
    message: dict[str, str | None] | None = None,
    seal: dict[str, str | None] | None = None,
    results: str = "x.example; none",
) -> bytes:
    """A set with tags instead of, or beside, those that stand to reason; None leaves one out. Signatures are right."""
    chain = read_chain(fields(head))
    instance = str(chain.instances + 1)
    sealer = sealer or signer
    tags = {"i": instance, "a": algorithm_of(signer.key).value, "d": signer.domain, "s": signer.selector}
    tags |= {"c": "relaxed/relaxed", "h": "From:Subject", "bh": ""}
    wanted = _merged(tags, message)
    if wanted.get("bh") == "":
        wanted["bh"] = write_base64(_digest(body, wanted))
    names = [name.strip().lower().encode() for name in wanted.get("h", "").split(":")]
    forms = wanted.get("c", "simple").split("/")
    aar = Field(RESULTS, f"ARC-Authentication-Results: i={instance}; {results}\r\n".encode())
    covered = SignedFields(fields(head)).select(names)
    ams = _signed(MESSAGE, b"ARC-Message-Signature", wanted, covered, signer, Canonicalization(forms[0]))
    tags = {"i": instance, "a": algorithm_of(sealer.key).value, "d": sealer.domain, "s": sealer.selector}
    tags["cv"] = "pass" if chain.instances else "none"
    sealed = [f for each in chain.sets for f in (each.results.field, each.message.field, each.seal.field)]
    own = _signed(SEAL, b"ARC-Seal", _merged(tags, seal), [*sealed, aar, ams], sealer, FORM)
    return own.raw + ams.raw + aar.raw


def _merged(tags: dict[str, str], others: dict[str, str | None] | None) -> dict[str, str]:
    return {name: value for name, value in {**tags, **(others or {})}.items() if value is not None}


def _digest(body: bytes, tags: dict[str, str]) -> bytes:
    bodies = BodyHashes()
    form = Canonicalization((tags.get("c", "simple/simple") + "/simple").split("/")[1])
    wanted = bodies.want(form, int(tags["l"]) if tags.get("l", "").isdigit() else None)
    bodies.update(body)
    bodies.finish()
    return wanted.digest


def _signed(
    name: bytes, written: bytes, tags: dict[str, str], covered: list[Field], signer: Signer, form: Canonicalization
) -> Field:
    text = ";\r\n ".join(f"{tag}={value}" for tag, value in tags.items())
    unsigned = written + b": " + text.encode() + b"; b="
    octets = signed_octets(covered, Field(name, unsigned), form)
    return Field(name, append_base64(unsigned, sign(signer.key, octets)))

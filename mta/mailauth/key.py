r"""Public keys as domains publish them, and how they are found (RFC 6376 §3.6, §6.1.2, RFC 8301, RFC 8463 §4).

The key of selector ``s`` of domain ``d`` is a TXT record at ``s._domainkey.d``, a tag list:

=====  ======================================================================================  =====================
tag    holds                                                                                   left out
=====  ======================================================================================  =====================
v=     ``DKIM1``; if it is there it comes first, anything else makes the record none of ours   DKIM1
k=     the type, ``rsa`` or ``ed25519``                                                        rsa
p=     the key in base64; empty: revoked. rsa: SubjectPublicKeyInfo, or the bare               the record is at fault
       RSAPublicKey that it wraps (both are published); ed25519: its 32 octets
h=     hashes it may be used with; must have ``sha256``                                        all
s=     services it is for; must have ``email`` or ``*``                                        \*
t=     flags: ``y`` testing, ``s`` ``i=`` must be in the very domain of ``d=``                 none
=====  ======================================================================================  =====================

What comes of the answer to the question:

================================================================  ==================================================
answer                                                            result
================================================================  ==================================================
the name server failed                                            temperror
no such name, no TXT record                                       permerror
records, but none with a key of the algorithm's type              permerror: what is wrong with the first one
one record with such a key, whatever else stands beside it        `Key`, unless one of the lines below fits
several, and they differ                                          permerror: §3.6.2.2 calls that undefined, and the
                                                                  order of DNS records must not decide
revoked; a hash or service that is not ours                       permerror
an RSA key of fewer than 1,024 bits                               fail (RFC 8301 §3.2)
an RSA key that takes too long to calculate with                  policy
================================================================  ==================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mta.dns.answer import Failure, Found, RecordType
from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.algorithm import (
    HASH,
    RSA_BITS_MAXIMUM,
    RSA_BITS_MINIMUM,
    RSA_EXPONENT_BITS_MAXIMUM,
    Algorithm,
    PublicKey,
)
from mta.mailauth.result import DkimResult
from mta.mailauth.tags import read_base64, read_colons, read_tags

RECORDS_MAXIMUM = 10
"""TXT records at one name that are read."""
DER_MAXIMUM = 4096
"""Octets of the longest RSA key that is decoded: one of 8,192 bits has 1,062."""

_SOURCE = "RFC 6376 §3.6.1"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that may be used, and what its record says of it."""

    public: PublicKey
    bits: int
    """256 for Ed25519."""
    testing: bool
    """``t=y``."""
    strict: bool
    """``t=s``: the domain of ``i=`` must be that of ``d=``, no subdomain."""
    source: str
    """The record, ``TXT sel._domainkey.example.org``."""


@dataclass(frozen=True, slots=True)
class KeyFault:
    """No key: the result of every signature that needs it."""

    result: DkimResult
    reason: Reason
    bits: int = 0
    """Of a key that is too short or too long."""
    testing: bool = False


async def fetch_key(resolver: Resolver, selector: str, domain: str, algorithm: Algorithm) -> Key | KeyFault:
    """Ask for the key of a selector of a domain (A-labels, both); one question."""
    name = f"{selector}._domainkey.{domain}"
    answer = await resolver.query(name, RecordType.TXT)
    source = f"TXT {name}"
    if isinstance(answer, Failure):
        return KeyFault(DkimResult.TEMPERROR, Reason(f"no key: {answer.text}", answer.source))
    if not isinstance(answer, Found):
        return _permerror("no key is published", source)
    return read_keys([record for record in answer.records if isinstance(record, bytes)], algorithm, source)


def read_keys(records: Sequence[bytes], algorithm: Algorithm, source: str) -> Key | KeyFault:
    """Choose among the TXT records at one name, as the table of the module says."""
    ours: dict[bytes, Key | KeyFault] = {}
    others: list[KeyFault] = []
    for record in sorted(records)[:RECORDS_MAXIMUM]:
        tags = _key_tags(record, algorithm, source)
        if isinstance(tags, KeyFault):
            others.append(tags)
        else:
            ours[record] = _read_key(tags, algorithm, source)
    if len(ours) > 1:
        return _permerror(f"{len(ours)} different keys are published", source)
    if ours:
        return ours.popitem()[1]
    return others[0] if others else _permerror("no key is published", source)


def _key_tags(record: bytes, algorithm: Algorithm, source: str) -> dict[str, str] | KeyFault:
    """The tags of a record that is a key of the algorithm's type, or what else it is."""
    tags = read_tags(record)
    if isinstance(tags, Reason):
        return _permerror(f"the record is no key: {tags.text}", source)
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):
        return _permerror("the record is no key: v= is not DKIM1, or not first", source)
    if "p" not in tags:
        return _permerror("the record has no p=", source)
    if tags.get("k", "rsa").lower() != algorithm.key_type:
        return _permerror(f"k= is not {algorithm.key_type}", source)
    return tags


def _read_key(tags: dict[str, str], algorithm: Algorithm, source: str) -> Key | KeyFault:
    flags = read_colons(tags.get("t", ""))
    if not tags["p"]:
        return _permerror("the key is revoked", source)
    if "h" in tags and HASH not in (name.lower() for name in read_colons(tags["h"])):
        return _permerror(f"h= of the key does not have {HASH}", source)
    if not {"*", "email"} & {name.lower() for name in read_colons(tags.get("s", "*"))}:
        return _permerror("s= of the key does not have email", source)
    octets = read_base64(tags["p"])
    if octets is None:
        return _permerror("p= is not base64", source)
    testing = "y" in flags
    if algorithm is Algorithm.ED25519_SHA256:
        try:
            return Key(Ed25519PublicKey.from_public_bytes(octets), 256, testing, "s" in flags, source)
        except ValueError:
            return _permerror(f"p= has {len(octets)} octets, where an Ed25519 key has 32", source)
    public = _rsa_key(octets)
    if public is None:
        return _permerror("p= is no RSA key", source)
    bits = public.key_size
    if bits < RSA_BITS_MINIMUM:
        text = f"the key {source} has {bits} bits, fewer than {RSA_BITS_MINIMUM}"
        return KeyFault(DkimResult.FAIL, Reason(text, "RFC 8301 §3.2"), bits, testing)
    if bits > RSA_BITS_MAXIMUM or public.public_numbers().e.bit_length() > RSA_EXPONENT_BITS_MAXIMUM:
        text = f"the key {source} has {bits} bits, or an exponent, that takes too long to calculate with"
        return KeyFault(DkimResult.POLICY, Reason(text, "mta.mailauth.algorithm"), bits, testing)
    return Key(public, bits, testing, "s" in flags, source)


def _rsa_key(der: bytes) -> RSAPublicKey | None:
    if len(der) > DER_MAXIMUM:
        return None
    try:
        # It takes both forms: SubjectPublicKeyInfo, and RSAPublicKey of RFC 8017 A.1.1.
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPublicKey) else None


def _permerror(text: str, source: str) -> KeyFault:
    return KeyFault(DkimResult.PERMERROR, Reason(text, source))

"""The ARC chain of a message, validated while the message streams (RFC 8617 §5.2).

The head is read first: keys are asked for and hashes of the body are wanted at once. What a chain comes to, first line
that fits:

===================================================================  ==============================================
what is found                                                        result
===================================================================  ==============================================
no ARC field                                                         none
more than 50 sets, a seal that says cv=fail, a gap, a double field,  fail (steps 1 to 3, `mta.mailauth.arc_set`)
a field at fault
the newest message signature does not hold                           fail (step 4)
a seal does not hold                                                 fail (step 6)
none of these                                                        pass
===================================================================  ==============================================

Message signatures of older hops may be broken by the hops behind them. How far back they hold is `Arc.oldest_pass`
(step 5, which is optional); of more than `MESSAGES_MAXIMUM` that hold, it is the last one that is looked at.

A message signature holds if a DKIM signature with the same tags would (`mta.mailauth.dkim_verify`), but that

* one that leaves octets at the end of the body unsigned does not, since nobody can tell who put them there (``l=``,
  RFC 6376 §8.2). So one hash for each form of the body serves all of them;
* ``t=s`` of a key is without effect, as there is no identity (§4.1.2), and so is ``t=y``.

**No answer.** A name server that does not answer makes the chain fail: §5.2.1 makes all errors permanent, those of DNS
too. The next hop could not mend it by asking again, since our seal says what we found. A failed chain counts as none
(§5.2): such mail is neither refused nor put off for it.

Whoever seals decides how many questions we ask and how much we calculate, so both are bounded: 50 sets, a few questions
under way (`mta.mailauth.key_lookup`), an equal one asked once, none asked once the chain has failed; for all seals
together each octet is hashed twice; as many message signatures are verified as signatures of DKIM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.algorithm import verify, verify_digest
from mta.mailauth.arc_set import FORM, ArcSet, MessageSignature, Seal, Signature, has_arc, read_chain
from mta.mailauth.canonical import (
    BodyHash,
    BodyHashes,
    Canonicalization,
    SignedFields,
    canonical_field,
    canonical_signature,
)
from mta.mailauth.key import KeyFault
from mta.mailauth.key_lookup import KeyLookup, KeyName
from mta.mailauth.result import Arc, ArcResult
from mta.message.header import fields

MESSAGES_MAXIMUM = 10
"""Message signatures of one chain that are verified, the newest ones. Each may cover all of the head."""


class ArcCheck:
    """The check of one message, whose questions are under way from the moment it is made.

    `bodies` may be shared with others who want hashes of the same body; whoever holds the content feeds it, by `body`
    or by itself, once.
    """

    def __init__(self, resolver: Resolver, head: bytes, bodies: BodyHashes | None = None) -> None:
        self._bodies = BodyHashes() if bodies is None else bodies
        found = list(fields(head)) if has_arc(head) else []
        self._chain = read_chain(found)
        self._head = SignedFields(found if self._chain.sets else ())
        self._hashes: dict[Canonicalization, BodyHash] = {
            each.message.body_form: self._bodies.want(each.message.body_form) for each in self._chain.sets
        }
        self._keys = KeyLookup(resolver, map(_key_name, _in_turn(self._chain.sets)))

    def body(self, chunk: bytes) -> None:
        """Take octets of the body: what follows the empty line behind the head."""
        self._bodies.update(chunk)

    def cancel(self) -> None:
        """Wait for no key any longer: the chain fails for each that is needed, and `finish` comes to its end."""
        self._keys.cancel()

    async def finish(self) -> Arc:
        """Tell the result, now that the body has ended.

        Its Deferred may be cancelled; then the questions are too, and so are those that are not needed any more.
        """
        try:
            return await self._finish()
        finally:
            self.cancel()

    async def _finish(self) -> Arc:
        chain = self._chain
        if not chain.sets:
            if chain.fault:
                return Arc(ArcResult.FAIL, chain.fault, chain.instances)
            return Arc(ArcResult.NONE, Reason("no ARC field", "RFC 8617 §5.2 step 1"))
        self._bodies.finish()
        fault = await self._message_fault(chain.sets[-1].message) or await self._seal_fault()
        if fault:
            return self._arc(ArcResult.FAIL, fault)
        oldest_pass = await self._oldest_pass()
        last = chain.sets[-1].seal
        hops = "hop" if len(chain.sets) == 1 else "hops"
        text = f"a chain of {len(chain.sets)} {hops}, sealed last by {last.domain}"
        return self._arc(ArcResult.PASS, Reason(text, "RFC 8617 §5.2"), oldest_pass)

    def _arc(self, result: ArcResult, reason: Reason, oldest_pass: int = 0) -> Arc:
        sets = self._chain.sets
        return Arc(
            result,
            reason,
            instances=self._chain.instances,
            sealers=tuple(each.seal.domain for each in sets),
            oldest_pass=oldest_pass,
            results=tuple(each.results.text for each in sets),
        )

    async def _seal_fault(self) -> Reason | None:
        """Say what is wrong with the newest seal that does not hold (step 6)."""
        sets = self._chain.sets
        for each, digest in zip(reversed(sets), reversed(_seal_digests(sets)), strict=True):
            key = await self._keys.get(_key_name(each.seal))
            if isinstance(key, KeyFault):
                return _named(each.seal, key.reason)
            if not verify_digest(key.public, digest, each.seal.signature):
                return _named(
                    each.seal, Reason("the sets are not those that were sealed, or the key another", key.source)
                )
        return None

    async def _oldest_pass(self) -> int:
        """Find the oldest message signature that holds, with all behind it; 0 if that is the first (step 5)."""
        holds = self._chain.instances
        for signature in _older(self._chain.sets):
            if await self._message_fault(signature):
                break
            holds = signature.instance
        return 0 if holds == 1 else holds

    async def _message_fault(self, signature: MessageSignature) -> Reason | None:
        """Say why a message signature does not hold; None if it does."""
        body = self._hashes[signature.body_form]
        # A signature of the whole body, or one whose l= is just that: the hash is the same.
        if signature.length not in (None, body.length):
            text = f"l= is {signature.length}, and the body has {body.length} octets"
            return _named(signature, Reason(text, "RFC 6376 §8.2"))
        if body.digest != signature.body_hash:
            return _named(signature, Reason("the body is not the one that was signed", "RFC 6376 §6.1.3"))
        forged = self._head.forged(signature.names)
        if forged:
            return _named(signature, forged)
        key = await self._keys.get(_key_name(signature))
        if isinstance(key, KeyFault):
            return _named(signature, key.reason)
        octets = self._head.octets(signature.names, signature.field, signature.head_form)
        if not verify(key.public, octets, signature.signature):
            return _named(signature, Reason("the head is not the one that was signed, or the key another", key.source))
        return None


def _in_turn(sets: Sequence[ArcSet]) -> list[Signature]:
    """The signatures of a chain in the order in which they are checked."""
    return [*(each.message for each in sets[-1:]), *(each.seal for each in reversed(sets)), *_older(sets)]


def _older(sets: Sequence[ArcSet]) -> list[MessageSignature]:
    """The message signatures but the newest that are verified, in that order."""
    return [each.message for each in sets[-MESSAGES_MAXIMUM:-1]][::-1]


def _key_name(signature: Signature) -> KeyName:
    return signature.selector, signature.domain, signature.algorithm


def _seal_digests(sets: Sequence[ArcSet]) -> list[bytes]:
    """SHA-256 of what each seal covers: all sets up to its own, instance 1 first (RFC 8617 §5.1.1)."""
    digests = []
    covered = hashlib.sha256()
    for each in sets:
        covered.update(canonical_field(each.results.field, FORM) + canonical_field(each.message.field, FORM))
        own = covered.copy()
        own.update(canonical_signature(each.seal.field, FORM))
        digests.append(own.digest())
        covered.update(canonical_field(each.seal.field, FORM))
    return digests


def _named(signature: Signature, reason: Reason) -> Reason:
    """Say of which field a fault is."""
    written = "ARC-Seal" if isinstance(signature, Seal) else "ARC-Message-Signature"
    return Reason(f"{written} i={signature.instance} of {signature.domain}: {reason.text}", reason.source)

"""The DKIM signatures of a message, verified while it streams (RFC 6376 §6).

The head is read first: the keys are asked for and the hashes of the body are wanted at once, so that both are there
when the body has ended. What a signature comes to, first line that fits:

===================================================================  =======================================
what is found                                                        result
===================================================================  =======================================
a fault of the field                                                 permerror (`mta.mailauth.dkim_signature`)
past x=, before t=                                                   fail, policy
l= is more than the body has                                         permerror
the hash of the body is another                                      fail, whatever becomes of the key
no key, a faulty one                                                 as `mta.mailauth.key` says
the key says t=s and i= is in a subdomain of d=                      permerror
the signature is not that of the chosen fields                       fail
the head has more From fields than h= names, or a line that is none  policy
none of these                                                        pass
===================================================================  =======================================

The last but one is RFC 6376 §8.15: readers show one From field or another, so a signature that covers only some of
them vouches for none. It is as good as no signature, and only a forger could miss it: RFC 5322 allows one. Other
fields that come twice are for whoever shows them; a careful signer names them once more than they are there. A line of
the head that is no field is no better: many readers take it for the first line of the body (§3.8).

Many signatures are work that others order: from the top of the head down `SIGNATURES_MAXIMUM` are looked at. Each costs
at most one question, equal ones share it, and 1 ms of calculation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.algorithm import verify
from mta.mailauth.canonical import BodyHash, BodyHashes, SignedFields
from mta.mailauth.dkim_signature import DkimSignature, check_times, read_signature
from mta.mailauth.key import Key, KeyFault
from mta.mailauth.key_lookup import KeyLookup, KeyName
from mta.mailauth.result import Dkim, DkimResult
from mta.message.header import Field, fields

SIGNATURES_MAXIMUM = 10
"""Signatures of one message that are checked (RFC 6376 §6.1 leaves it to us; §8.4 says why there is a limit)."""

_NAME = b"dkim-signature"


class DkimCheck:
    """The check of one message, from its head on.

    `bodies` may be shared with others who want hashes of the same body; whoever holds the content feeds it, by `body`
    or by itself, once. `wall` is the time in seconds since 1970.
    """

    def __init__(self, resolver: Resolver, head: bytes, wall: float, bodies: BodyHashes | None = None) -> None:
        self.notes: tuple[Reason, ...] = ()
        """What was left out."""
        self._bodies = BodyHashes() if bodies is None else bodies
        self._checks: list[_Check | Dkim] = []
        self._fields = SignedFields(())
        if _NAME in head.lower():
            self._begin(list(fields(head)), wall)
        wanted = [_key_name(check.signature) for check in self._checks if isinstance(check, _Check)]
        self._keys = KeyLookup(resolver, wanted)

    def body(self, chunk: bytes) -> None:
        """Take octets of the body: what follows the empty line behind the head."""
        self._bodies.update(chunk)

    async def finish(self) -> tuple[Dkim, ...]:
        """Verify, now that the body has ended: a result for each signature, that at the top of the head first.

        Its Deferred may be cancelled; then the questions are too.
        """
        if not self._checks:
            return ()
        self._bodies.finish()
        try:
            return tuple([await self._result(check) for check in self._checks])
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Wait for no key any longer: each that has not come is a temperror, and `finish` comes to its end."""
        self._keys.cancel()

    def _begin(self, head: list[Field], wall: float) -> None:
        signatures = [field for field in head if field.name == _NAME]
        left_out = len(signatures) - SIGNATURES_MAXIMUM
        if left_out > 0:
            text = f"{left_out} DKIM signatures are not checked: {SIGNATURES_MAXIMUM} are"
            self.notes = (Reason(text, "mta.mailauth.dkim_verify"),)
        self._fields = SignedFields(head)
        for field in signatures[:SIGNATURES_MAXIMUM]:
            signature = read_signature(field)
            if isinstance(signature, DkimSignature):
                self._checks.append(check_times(signature, wall) or self._start(signature))
            else:
                self._checks.append(signature)

    def _start(self, signature: DkimSignature) -> _Check:
        return _Check(signature, self._bodies.want(signature.body_form, signature.limit))

    async def _result(self, check: _Check | Dkim) -> Dkim:
        if isinstance(check, Dkim):
            return check
        key = await self._keys.get(_key_name(check.signature))
        result, reason = _outcome(check, key, self._fields)
        return replace(
            check.signature.checked(result, reason),
            bits=key.bits,
            testing=key.testing,
            unsigned_octets=max(check.body.uncovered, 0),
        )


@dataclass(frozen=True, slots=True)
class _Check:
    """A signature, and the hash of the body that it needs."""

    signature: DkimSignature
    body: BodyHash


def _key_name(signature: DkimSignature) -> KeyName:
    return signature.selector, signature.domain, signature.algorithm


def _outcome(check: _Check, key: Key | KeyFault, head: SignedFields) -> tuple[DkimResult, Reason]:
    """The lines of the table that need the body or the key."""
    signature, body = check.signature, check.body
    if body.uncovered < 0:
        text = f"l= is {signature.limit}, and the body has {body.length} octets"
        return DkimResult.PERMERROR, Reason(text, "RFC 6376 §3.5")
    if body.digest != signature.body_hash:
        return DkimResult.FAIL, Reason("the body is not the one that was signed", "RFC 6376 §6.1.3")
    if isinstance(key, KeyFault):
        return key.result, key.reason
    if key.strict and signature.identity_domain != signature.domain:
        return DkimResult.PERMERROR, Reason("the key says t=s, and the domain of i= is not that of d=", key.source)
    octets = head.octets(signature.names, signature.field, signature.head_form)
    if not verify(key.public, octets, signature.signature):
        return DkimResult.FAIL, Reason("the head is not the one that was signed, or the key another", key.source)
    forged = head.forged(signature.names)
    if forged:
        return DkimResult.POLICY, forged
    return DkimResult.PASS, Reason(f"{signature.algorithm.value} with a key of {key.bits} bits", key.source)

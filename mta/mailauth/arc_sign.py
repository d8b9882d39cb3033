"""An ARC set for a message that we send on: what we found of it, signed and sealed (RFC 8617 §5.1).

==================================================  ===============  ==================================================
chain of the message                                cv=              the seal covers
==================================================  ===============  ==================================================
none                                                none             our set
valid                                               pass             all sets, instance 1 first, then ours (§5.1.1)
not valid                                           fail             our set alone, as if it were the only one (§5.1.2)
sealed as failed by somebody before, or 50 sets     is not sealed    (§5.1.3, §4.2.1)
==================================================  ===============  ==================================================

What the message signature covers is chosen as for DKIM, and each DKIM-Signature besides, which §4.1.2 asks for. It
never covers Authentication-Results, which later hops may remove (§4.1.2), nor an ARC field. So a message is changed
first, then signed with DKIM, then sealed (§5.1 step 1); fields that go before the set later do no harm, unless they are
of a name that is signed once more than it is there (`mta.mailauth.dkim_sign`).

A set has one key: of RSA, since not everybody knows Ed25519.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from mta.mail.reason import Reason
from mta.mailauth.algorithm import algorithm_of, sign
from mta.mailauth.arc_set import FORM, MESSAGE, RESULTS, SEAL, SETS_MAXIMUM, ArcSet, Chain, read_chain
from mta.mailauth.canonical import BodyHash, SignedFields, signed_octets
from mta.mailauth.dkim_sign import HeaderPolicy, Signer
from mta.mailauth.result import Arc, ArcResult
from mta.mailauth.tags import append_base64, write_base64, write_tags
from mta.message.header import Field, fields

ARC_POLICY = replace(HeaderPolicy(), as_found=(*HeaderPolicy().as_found, "DKIM-Signature"))
"""The fields that the message signature covers."""

_NO_FOLD = re.compile(r"\r(?!\n)|(?<!\r)\n|\n(?![ \t])|\n[ \t]*\r|[ \t\r\n]\Z")


def seal_message(
    head: bytes, body: BodyHash, signer: Signer, results: str, arc: Arc, wall: float, policy: HeaderPolicy = ARC_POLICY
) -> bytes | Reason:
    """Seal: returns the three fields to be put before `head`, or why it is not sealed.

    `head` is as it will leave us, `body` is finished and of `mta.mailauth.dkim_sign.want_body`. `results` is the text
    of our Authentication-Results (`mta.mailauth.authres.results_text`), folded or not; ValueError if it is not the text
    of one field. `arc` is what `ArcCheck` said when the message came; if that is not about the chain that `head` has
    now, the chain counts as not valid. `wall` is the time in seconds since 1970.
    """
    if not results or _NO_FOLD.search(results):
        raise ValueError(f"no text of a field: {results!r}")
    found = list(fields(head))
    chain = read_chain(found)
    if chain.failed:
        return Reason("the chain has been sealed as failed", "RFC 8617 §5.1.3")
    if chain.instances >= SETS_MAXIMUM:
        return Reason(f"the chain has {SETS_MAXIMUM} sets", "RFC 8617 §4.2.1")
    return _seal(found, chain, body, signer, results, _status(chain, arc), int(wall), policy)


def _status(chain: Chain, arc: Arc) -> ArcResult:
    """The status of the chain, ``cv=``."""
    if not chain.exists:
        return ArcResult.NONE
    same = arc.result is ArcResult.PASS and arc.instances == len(chain.sets)
    return ArcResult.PASS if same else ArcResult.FAIL


def _seal(
    head: list[Field],
    chain: Chain,
    body: BodyHash,
    signer: Signer,
    results_text: str,
    status: ArcResult,
    now: int,
    policy: HeaderPolicy,
) -> bytes:
    instance = str(chain.instances + 1)
    algorithm = algorithm_of(signer.key).value
    results = Field(RESULTS, f"ARC-Authentication-Results: i={instance}; {results_text}\r\n".encode())

    signed = SignedFields(head)
    names = policy.names(signed)
    unsigned = write_tags(
        "ARC-Message-Signature",
        [
            ("i", instance),
            ("a", algorithm),
            ("c", f"{FORM.value}/{FORM.value}"),
            ("d", signer.domain),
            ("s", signer.selector),
            ("t", str(now)),
            ("h", names),
            ("bh", write_base64(body.digest)),
            ("b", ""),
        ],
    )
    chosen = signed.select(name.lower().encode("ascii") for name in names)
    message = _complete(MESSAGE, unsigned, chosen, signer)

    unsealed = write_tags(
        "ARC-Seal",
        [
            ("i", instance),
            ("a", algorithm),
            ("t", str(now)),
            ("cv", status.value),
            ("d", signer.domain),
            ("s", signer.selector),
            ("b", ""),
        ],
    )
    before = [field for each in (chain.sets if status is ArcResult.PASS else ()) for field in _covered(each)]
    seal = _complete(SEAL, unsealed, [*before, results, message], signer)
    return seal.raw + message.raw + results.raw


def _complete(name: bytes, unsigned: bytes, covered: Iterable[Field], signer: Signer) -> Field:
    """Sign a field, whose ``b=`` is still empty, and what it covers."""
    octets = signed_octets(covered, Field(name, unsigned), FORM)
    return Field(name, append_base64(unsigned, sign(signer.key, octets)))


def _covered(each: ArcSet) -> tuple[Field, Field, Field]:
    """The fields of a set in the order of RFC 8617 §5.1.1."""
    return each.results.field, each.message.field, each.seal.field

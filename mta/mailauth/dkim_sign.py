"""Signatures for our own mail: which fields they cover, and the fields that are written (RFC 6376 §5, RFC 8301, 8463).

A signature is relaxed/relaxed, covers the whole body (never l=), and is made with every key of the domain side by side:
RSA for everybody, Ed25519 for those who can (RFC 8463 §6). Neither covers the other, so each stands if the other falls.

Which fields it covers is `HeaderPolicy`, in three groups:

==============  =======================================================================================================
`always`        what says who wrote what to whom, and how the body is to be read. Named once more than it is there, be
                it never: nobody can add another one that readers would show (RFC 6376 §5.4, §8.15). Sender and
                Resent- are not among them: mailing lists and people who send on may add theirs.
`if_there`      the same for fields that somebody may rightly add where there was none
`as_found`      named as often as they are there: lists on the way put theirs beside ours. List-Unsubscribe and its
                -Post must be covered (RFC 8058 §4), CFBL-Address too (RFC 9477 §3.1)
==============  =======================================================================================================

Not covered: trace fields, Return-Path, Authentication-Results, and whatever relays add, change or drop (RFC 6376
§5.4.1). What comes more often than `INSTANCES_MAXIMUM` times is covered from the bottom up to that number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mta.mailauth.algorithm import PrivateKey, algorithm_of, sign
from mta.mailauth.canonical import BodyHash, BodyHashes, Canonicalization, SignedFields
from mta.mailauth.tags import append_base64, write_base64, write_tags
from mta.message.header import Field, fields

INSTANCES_MAXIMUM = 20
"""Fields of one name that a signature covers, so that h= stays short whatever the message is."""

FORM = Canonicalization.RELAXED
"""Of head and body: relays reformat white space, and no meaning goes with it."""


@dataclass(frozen=True, slots=True)
class HeaderPolicy:
    """Which fields are signed; names as they stand in h=."""

    always: tuple[str, ...] = (
        "From",
        "Subject",
        "To",
        "Cc",
        "Reply-To",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    )
    if_there: tuple[str, ...] = ("Sender", "In-Reply-To", "References", "Auto-Submitted")
    as_found: tuple[str, ...] = (
        "Resent-Date",
        "Resent-From",
        "Resent-Sender",
        "Resent-To",
        "Resent-Cc",
        "Resent-Message-ID",
        "List-Id",
        "List-Help",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
        "List-Subscribe",
        "List-Post",
        "List-Owner",
        "List-Archive",
        "Feedback-ID",
        "CFBL-Address",
        "CFBL-Feedback-ID",
    )

    def names(self, head: SignedFields) -> list[str]:
        """Return h= for a head."""
        names: list[str] = []
        for group, least, more in ((self.always, 0, 1), (self.if_there, 1, 1), (self.as_found, 1, 0)):
            for name in group:
                count = head.count(name.lower().encode("ascii"))
                if count >= least:
                    names += [name] * min(count + more, INSTANCES_MAXIMUM)
        return names


@dataclass(frozen=True, slots=True)
class Signer:
    """One key of a domain."""

    domain: str
    """``d=``, A-labels in lower case."""
    selector: str
    key: PrivateKey
    valid_for: int | None = None
    """Seconds until the signature expires (``x=``); None: never. Mail waits in queues for days."""


def want_body(bodies: BodyHashes) -> BodyHash:
    """Ask for the hash of the body that `sign_message` needs."""
    return bodies.want(FORM)


def sign_message(
    head: bytes, body: BodyHash, signers: Sequence[Signer], wall: float, policy: HeaderPolicy = HeaderPolicy()
) -> bytes:
    """Sign: returns a DKIM-Signature field for each signer, to be put before `head` as they are.

    `head` is as it will leave us, `body` is finished, `wall` is the time in seconds since 1970.
    """
    signed = SignedFields(fields(head))
    names = policy.names(signed)
    return b"".join(_signature(signer, signed, names, body, int(wall)) for signer in signers)


def _signature(signer: Signer, signed: SignedFields, names: Sequence[str], body: BodyHash, now: int) -> bytes:
    tags: list[tuple[str, str | Sequence[str]]] = [
        ("v", "1"),
        ("a", algorithm_of(signer.key).value),
        ("c", f"{FORM.value}/{FORM.value}"),
        ("d", signer.domain),
        ("s", signer.selector),
        ("t", str(now)),
    ]
    if signer.valid_for is not None:
        tags.append(("x", str(now + signer.valid_for)))
    tags += [("h", names), ("bh", write_base64(body.digest)), ("b", "")]
    field = write_tags("DKIM-Signature", tags)
    covered = [name.lower().encode("ascii") for name in names]
    octets = signed.octets(covered, Field(b"dkim-signature", field), FORM)
    return append_base64(field, sign(signer.key, octets))

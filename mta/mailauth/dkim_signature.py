r"""A DKIM-Signature field as a value, or what is wrong with it (RFC 6376 §3.5, §6.1.1, RFC 8616 §5). Pure.

=====  =========================================================  ====================================================
tag    read as                                                    at fault
=====  =========================================================  ====================================================
v=     ``1``                                                      missing, another
a=     `Algorithm`                                                missing, unknown; rsa-sha1 (RFC 8301)
d=     domain, U-labels made A-labels                             missing, no domain name of two labels or more
s=     selector, likewise                                         missing, no labels
c=     forms of head and body; one word: the head's, and simple   unknown; more than two
h=     names, in lower case                                       missing, an empty one, no From
bh=    base64                                                     missing, empty, no base64
b=     base64; the first 8 characters tell signatures apart       missing, empty, no base64
l=     octets of the body, 1*76DIGIT                              no number
t=     second it was made at, 1*12DIGIT                           no number
x=     second it ends at, 1*12DIGIT                               no number, not after t=
i=     ``[local-part]@domain``; ``@`` and d=                      no "@", a domain that is not d= nor below it
q=     list; one must be ``dns/txt``                              none we know
=====  =========================================================  ====================================================

These faults are ``permerror``. z= and unknown tags are ignored. Words that the grammar spells out (a=, c=, q=) may be
in any case, as ABNF has it (RFC 5234 §2.3). White space within b= and bh= and around the words of lists does not count.

By the clock, with an allowance for clocks that differ: ``fail`` after x=, ``policy`` before t= (a signature from the
future is one that we need not believe, §3.5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.mail.reason import Reason
from mta.mailauth.algorithm import Algorithm
from mta.mailauth.canonical import Canonicalization
from mta.mailauth.result import Dkim, DkimResult
from mta.mailauth.signature_tags import (
    LENGTH_DIGITS,
    SOURCE,
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
from mta.mailauth.tags import read_colons, read_tags
from mta.message.header import Field

SKEW = 300.0
"""Seconds by which the clocks of signer and verifier may differ."""
LOCAL_PART_MAXIMUM = 256
"""Characters of the local-part of i=: RFC 5321 §4.5.3.1.1 allows 64, quoted-printable makes 192 of them."""

_REQUIRED = ("v", "a", "b", "bh", "d", "h", "s")


@dataclass(frozen=True, slots=True)
class DkimSignature:
    """A signature whose tags are sound: what is left is to verify it."""

    field: Field
    algorithm: Algorithm
    domain: str
    selector: str
    identity: str
    head_form: Canonicalization
    body_form: Canonicalization
    names: tuple[bytes, ...]
    """``h=``, in lower case."""
    body_hash: bytes
    signature: bytes
    label: str
    """The first 8 characters of b= (RFC 6008)."""
    limit: int | None
    """``l=``."""
    signed_at: int | None
    expires_at: int | None

    @property
    def identity_domain(self) -> str:
        """The domain of i=."""
        return self.identity.rpartition("@")[2]

    def checked(self, result: DkimResult, reason: Reason) -> Dkim:
        """Make the result of a check."""
        return Dkim(
            result,
            self.domain,
            self.selector,
            reason,
            identity=self.identity,
            algorithm=self.algorithm.value,
            signature=self.label,
        )


def read_signature(field: Field) -> DkimSignature | Dkim:
    """Read a DKIM-Signature field; a faulty one gives the result of its check, with whatever could be read."""
    tags = read_tags(field.value)
    if isinstance(tags, Reason):
        return Dkim(DkimResult.PERMERROR, "", "", tags)
    domain = selector = ""
    try:
        require(tags, _REQUIRED)
        domain = domain_tag(tags["d"], "d", labels=2)
        selector = domain_tag(tags["s"], "s", labels=1)
        return _read(field, tags, domain, selector)
    except TagFault as fault:
        return Dkim(DkimResult.PERMERROR, domain, selector, fault.reason, signature=_label(tags.get("b", "")))


def check_times(signature: DkimSignature, wall: float) -> Dkim | None:
    """Check t= and x= at `wall`, seconds since 1970; None where nothing speaks against it."""
    if signature.expires_at is not None and wall > signature.expires_at + SKEW:
        late = int(wall) - signature.expires_at
        return signature.checked(DkimResult.FAIL, Reason(f"the signature expired {late} s ago", SOURCE))
    if signature.signed_at is not None and wall < signature.signed_at - SKEW:
        early = signature.signed_at - int(wall)
        return signature.checked(DkimResult.POLICY, Reason(f"the signature is from {early} s in the future", SOURCE))
    return None


def _read(field: Field, tags: dict[str, str], domain: str, selector: str) -> DkimSignature:
    if tags["v"] != "1":
        raise TagFault("v= is not 1")
    algorithm = algorithm_tag(tags["a"])
    methods_tag(tags.get("q", "dns/txt"))
    head_form, body_form = forms_tag(tags.get("c", "simple"))
    signed_at, expires_at = number_tag(tags, "t", TIME_DIGITS), number_tag(tags, "x", TIME_DIGITS)
    if signed_at is not None and expires_at is not None and expires_at <= signed_at:
        raise TagFault("x= is not after t=")
    return DkimSignature(
        field=field,
        algorithm=algorithm,
        domain=domain,
        selector=selector,
        identity=_identity(tags["i"], domain) if "i" in tags else f"@{domain}",
        head_form=head_form,
        body_form=body_form,
        names=names_tag(read_colons(tags["h"])),
        body_hash=base64_tag(tags["bh"], "bh"),
        signature=base64_tag(tags["b"], "b"),
        label=_label(tags["b"]),
        limit=number_tag(tags, "l", LENGTH_DIGITS),
        signed_at=signed_at,
        expires_at=expires_at,
    )


def _identity(text: str, domain: str) -> str:
    local_part, at, name = text.rpartition("@")
    if not at or len(local_part) > LOCAL_PART_MAXIMUM:
        raise TagFault("i= is no identity")
    name = domain_tag(name, "i", labels=2)
    if name != domain and not name.endswith(f".{domain}"):
        raise TagFault("the domain of i= is not that of d=, nor below it", "RFC 6376 §6.1.1")
    return f"{local_part}@{name}"


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9+/=]", "", text[:80])[:8]

"""Why others judge a message otherwise than we do: known causes, with what the RFC says, and how to tell them.

Each peer whose verdict is not ours needs a cause of its own: one that names it, and fits the message. What fits is told
from the octets, not from what was done to them, so causes are as narrow as can be said in a line.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mta.mailauth.arc_set import NAMES
from mta.mailauth.canonical import BodyHashes, Canonicalization
from mta.message.header import fields
from tests.interop.peers import split

UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Case:
    """One message."""

    kind: str
    """``DKIM`` or ``ARC``."""
    signer: str
    """Or those who sealed it, in turn."""
    unusual: str
    """What is unusual about its tags, or its canonical forms."""
    message: bytes
    change: str = "none"


class Seen:
    """A message as causes look at it."""

    def __init__(self, message: bytes) -> None:
        self.octets = message
        head, self.body = split(message)
        self.fields = list(fields(head))
        names = (b"dkim-signature", b"arc-message-signature", b"arc-seal")
        self.signatures = [each for each in self.fields if each.name in names]
        self.value = b";" + b";".join(each.raw.partition(b":")[2] for each in self.signatures)
        """Tags of all signatures, folded as they are, with ``;`` before each."""
        form = self.tag(rb"c", rb"\w+(?:/\w+)?")
        self.simple_head = b"DKIM-Signature" in head and not (form and form[1].lower().startswith(b"relaxed"))

    @property
    def sound(self) -> bool:
        """Whether it is as SMTP carries it, and nothing of it is obsolete."""
        spaced = any(re.match(rb"[^:\s]+[ \t]+:", each.raw) for each in self.fields)
        whole = not self.body or self.body.endswith(b"\r\n")
        return whole and not spaced and not re.search(rb"\r(?!\n)|(?<!\r)\n", self.octets)

    @property
    def length(self) -> int:
        """Octets of the canonical body: in the shorter of both forms."""
        bodies = BodyHashes()
        wanted = [bodies.want(form) for form in Canonicalization]
        bodies.update(self.body)
        bodies.finish()
        return min(each.length for each in wanted)

    @property
    def arc_order(self) -> bool:
        """Whether the ARC fields of each name stand in the order of their instances, the newest on top."""
        for name in NAMES:
            found = [re.search(rb"[:;]\s*i=([0-9]+)", each.raw) for each in self.fields if each.name == name]
            instances = [int(each[1]) for each in found if each]
            if instances != sorted(instances, reverse=True):
                return False
        return True

    def base64(self) -> list[bytes]:
        """The values of b= and bh=, without white space."""
        found = re.findall(rb";\s*bh?\s*=\s*([^;]*)", self.value)
        return [re.sub(rb"\s", b"", each) for each in found]

    def tag(self, name: bytes, value: bytes) -> re.Match[bytes] | None:
        """Find a tag whose value is, or begins with, what a pattern says; `value` is group 1."""
        return re.search(rb";\s*" + name + rb"\s*=\s*(" + value + rb")", self.value)

    def count(self, name: bytes) -> int:
        """How many fields of a name there are."""
        return sum(each.name == name for each in self.fields)


@dataclass(frozen=True, slots=True)
class Cause:
    """A reason to judge otherwise."""

    text: str
    verdicts: Mapping[str, str]
    """What those who are known for it say."""
    rule: str
    """What the RFC says."""
    right: str
    """Who is right."""
    fits: Callable[[Seen], object]


def _twice(tags: bytes) -> bool:
    names = [each.partition(b"=")[0].strip() for each in tags.split(b";")]
    return any(names.count(name) > 1 for name in names if name)


def cause(message: Seen, peer: str, verdict: str) -> str:
    """Return the first cause that fits a verdict which is not ours."""
    return next(
        (each.text for each in CAUSES if each.verdicts.get(peer) in (verdict, "any") and each.fits(message)),
        UNEXPLAINED,
    )


CAUSES: tuple[Cause, ...] = (
    Cause(
        "`v=` is not 1",
        {"mailauth": "pass"},
        "RFC 6376 §3.5: verifiers must check that it is 1",
        "we",
        lambda m: m.tag(rb"v", rb"(?!1\s*(?:;|\Z))"),
    ),
    Cause(
        "`h=` without From",
        {"mailauth": "pass", "dkimpy": "pass"},
        "RFC 6376 §5.4, §6.1.1: From must be signed",
        "we",
        lambda m: m.tag(rb"h", rb"[^;]*") and not m.tag(rb"h", rb"(?:[^;]*:)?\s*[Ff][Rr][Oo][Mm]\s*(?:[:;]|\Z)"),
    ),
    Cause(
        "`h=` with an empty word",
        {"mailauth": "pass", "dkimpy": "pass", "libopendkim": "pass"},
        "RFC 6376 §3.5: a list of names; §6.1.1: a value against the syntax makes the signature void",
        "we; others are lenient, without harm",
        lambda m: m.tag(rb"h", rb"[^;]*:\s*:"),
    ),
    Cause(
        "`h=` with DKIM-Signature, and no other there",
        {"mailauth": "fail", "dkimpy": "fail", "libopendkim": "fail"},
        "RFC 6376 §3.5: the field itself is not among the fields that h= names",
        "we",
        lambda m: m.tag(rb"h", rb"[^;]*dkim-signature"),
    ),
    Cause(
        "`i=` is not in `d=`, or has no `@`",
        {"mailauth": "pass"},
        "RFC 6376 §3.5, §6.1.1: must be d= or below it",
        "we",
        lambda m: m.tag(rb"i", rb"(?![^;]*@(?:mail\.)?author\.test)") and not m.tag(rb"i", rb"[0-9]"),
    ),
    Cause(
        "`q=` without a method that is known",
        {"mailauth": "pass"},
        "RFC 6376 §3.5: unknown methods are ignored; none is left to fetch the key with",
        "we",
        lambda m: m.tag(rb"q", rb"http\s*(?:;|\Z)"),
    ),
    Cause(
        "`q=` with a second method",
        {"dkimpy": "fail"},
        "RFC 6376 §3.5: a list; unknown methods are ignored",
        "we",
        lambda m: m.tag(rb"q", rb"http:"),
    ),
    Cause(
        "`a=` or `c=` in capitals",
        {"dkimpy": "fail"},
        "RFC 5234 §2.3: words in ABNF are of any case; RFC 6376 §3.2 asks for case where a tag does not say otherwise",
        "open; the others agree with us",
        lambda m: m.tag(rb"[ac]", rb"[A-Z]"),
    ),
    Cause(
        "a tag twice",
        {"mailauth": "pass", "libopendkim": "pass"},
        "RFC 6376 §3.2: the whole list is void",
        "we",
        lambda m: any(_twice(each.raw.partition(b":")[2]) for each in m.signatures),
    ),
    Cause(
        "`t=` in the future",
        {"mailauth": "pass", "dkimpy": "pass"},
        "RFC 6376 §3.5: verifiers may consider it invalid",
        "all",
        lambda m: (found := m.tag(rb"t", rb"[0-9]+")) and int(found[1]) > time.time() + 300,
    ),
    Cause(
        "`x=` is past",
        {"dkimpy": "pass"},
        "RFC 6376 §3.5: verifiers may consider it invalid",
        "all",
        lambda m: (found := m.tag(rb"x", rb"[0-9]+")) and int(found[1]) < time.time(),
    ),
    Cause(
        "`x=` or `l=` is no number",
        {"mailauth": "pass", "libopendkim": "pass"},
        "RFC 6376 §3.5, §6.1.1: a value against the syntax makes the signature void. mailauth writes l= without a "
        "number for an empty body",
        "we",
        lambda m: m.tag(rb"[xl]", rb"(?![0-9])"),
    ),
    Cause(
        "`l=` is more than there is",
        {"mailauth": "pass", "dkimpy": "pass"},
        "RFC 6376 §3.5: must not be; §3.7: truncated to what is given",
        "we",
        lambda m: (found := m.tag(rb"l", rb"[0-9]+")) and int(found[1]) > m.length,
    ),
    Cause(
        "`l=` is 0",
        {"mailauth": "fail"},
        "RFC 6376 §3.5: nothing of the body is signed; a receiver may refuse it",
        "we, by the letter; the result says how many octets are unsigned",
        lambda m: m.tag(rb"l", rb"0+(?:\s|;|\Z)"),
    ),
    Cause(
        "more From fields than `h=` covers",
        {"mailauth": "pass", "libopendkim": "pass", "dkimpy": "pass"},
        "RFC 6376 §8.15: a forger may add one; verifiers may refuse",
        "we, on purpose",
        lambda m: m.count(b"from") > 1,
    ),
    Cause(
        "white space before the colon of a field",
        {"dkimpy": "fail"},
        "RFC 5322 §4.5: obsolete, to be read; RFC 6376 §3.4.2 removes it",
        "we",
        lambda m: any(re.match(rb"[^:\s]+[ \t]+:", each.raw) for each in m.fields),
    ),
    Cause(
        "several white spaces before the colon of a field",
        {"libopendkim": "fail"},
        "the same",
        "we",
        lambda m: any(re.match(rb"[^:\s]+[ \t]{2,}:", each.raw) for each in m.fields),
    ),
    Cause(
        "white space at the end of a signature, its head simple",
        {"dkimpy": "any"},
        "RFC 6376 §3.4.1: nothing is changed",
        "we",
        lambda m: m.simple_head and any(re.search(rb"[ \t]\r\n\Z", each.raw) for each in m.signatures),
    ),
    Cause(
        "white space between `b` and `=`",
        {"mailauth": "fail", "libopendkim": "fail"},
        "RFC 6376 §3.2: may be there",
        "we",
        lambda m: re.search(rb";\s*b\s+=", m.value),
    ),
    Cause(
        "`b=` or `bh=` with an octet that is not base64",
        {"mailauth": "pass", "libopendkim": "pass"},
        "RFC 6376 §2.10, §6.1.1: against the syntax",
        "we",
        lambda m: m.tag(rb"bh?", rb"[^;]*[^A-Za-z0-9+/=\s;]"),
    ),
    Cause(
        "a field name with `;`",
        {"libopendkim": "fail"},
        "RFC 5322 §2.2: may be, if not in h=",
        "we",
        lambda m: any(b";" in each.name for each in m.fields),
    ),
    Cause(
        "ARC fields that are not in the order of their instances",
        {"dkimpy": "fail"},
        "RFC 8617 §5.1.1: a seal covers them by instance, wherever they stand",
        "we",
        lambda m: not m.arc_order,
    ),
    Cause(
        "`b=` without all of its padding",
        {"dkimpy": "fail"},
        "RFC 6376 §2.10: may be left out",
        "we",
        lambda m: any(len(each) % 4 for each in m.base64()),
    ),
    Cause(
        "a line of the head that is no field",
        {"mailauth": "pass", "libopendkim": "pass"},
        "RFC 6376 §3.8: verifiers should make sure that messages are valid; readers may take it for the body",
        "we",
        lambda m: m.count(b""),
    ),
    Cause(
        "bare CR or LF",
        {"mailauth": "any", "dkimpy": "any", "libopendkim": "any"},
        "RFC 5321 §2.3.8: neither may be sent; RFC 6376 §2.8, §5.3: only CRLF ends a line. Others make CRLF of LF, or "
        "drop a CR",
        "we; SMTP forbids such mail",
        lambda m: re.search(rb"\r(?!\n)|(?<!\r)\n", m.octets),
    ),
    Cause(
        "the last line has no CRLF",
        {"mailauth": "any", "dkimpy": "any", "libopendkim": "any"},
        "RFC 6376 §3.4.3, §3.4.4: one is added; whether white space before it counts is not said",
        "we; SMTP has no such message, since CRLF stands before the final dot",
        lambda m: m.body and not m.body.endswith(b"\r\n"),
    ),
    Cause(
        "the first line is no field",
        {"mailauth": "fail", "dkimpy": "fail"},
        "RFC 5322 §2.1: there is no head, so no chain; others find one, which fails",
        "all: a failed chain counts as none (RFC 8617 §5.2)",
        lambda m: not m.fields,
    ),
)

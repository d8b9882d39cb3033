"""Messages as people and programs write them, signatures with unusual tags, and changes on the way: all from a seed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from random import Random

from mta.mailauth.algorithm import sign
from mta.mailauth.canonical import BodyHash, BodyHashes, Canonicalization, SignedFields, signed_octets
from mta.mailauth.tags import write_base64
from mta.message.header import Field, fields
from tests.interop.peers import DOMAIN, FORMS, Keys, split

Change = Callable[[Random, bytes], bytes]

_SPACE = ("", " ", "  ", "\t", " \t ", "\r\n ", "\r\n\t ")
_LINES = (
    b"", b"", b"text", b"two  words", b"tab\there", b"end ", b"end\t ", b" begin", b".", b"..", b".dot", b"x" * 1200,
    "gr\u00fc\u00dfe".encode(), b"\xff\xfe\x80", b"bare\nLF", b"bare\rCR", b"nul\0", b"=20", b"--", b"\t", b"   ",
)  # fmt: skip
_SUBJECTS = (
    b" hello", b"hello", b"  two   spaces ", b"\tfolded\r\n at a word", b" folded\r\n\t \t deep  \r\n again ", b"",
    b" ", "  gr\u00fc\u00dfe".encode(), b" caf\xe9 \xff", b" a:b; c=d; b=x;", b" " + b"long " * 250, b"\r\n all behind",
)  # fmt: skip


def compose(random: Random) -> bytes:
    """Write a message."""
    head = [b"From:" + random.choice((b" <a@author.test>", b'  "A" <a@author.test>', b"\r\n a@author.test "))]
    head += [b"To: <b@example.test>", b"Date: Wed, 25 Nov 2026 10:00:00 +0000"]
    head += [
        random.choice((b"Subject", b"Subject", b"SUBJECT", b"Subject", b"subject", b"Subject", b"Subject "))
        + b":"
        + random.choice(_SUBJECTS)
    ]
    for name in (b"Message-ID", b"X-Other", b"Received", b"MIME-Version", b"Cc", b"Subject"):
        if random.random() < 0.2:
            head.append(name + b":" + random.choice(_SUBJECTS))
    random.shuffle(head)
    lines = [random.choice(_LINES) for _ in range(random.randrange(6))]
    end = random.choice((b"\r\n", b"\r\n", b"\r\n", b"", b"\r\n\r\n", b" \r\n \r\n", b"\r\n\r\n\r\n"))
    body = b"\r\n".join(lines) + end if lines else random.choice((b"", b"", b"\r\n", b"\r\n\r\n"))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def craft(random: Random, keys: Keys, message: bytes) -> tuple[str, bytes]:
    """Sign with tags as no signer of ours writes them; returns what is unusual, and the message."""
    head, body = split(message)
    unusual = random.choice(list(UNUSUAL))
    selector = random.choice(("rsa", "rsa", "ed"))
    algorithm = "rsa-sha256" if selector == "rsa" else "ed25519-sha256"
    form = random.choice(FORMS)
    if unusual.startswith("c= missing"):
        form = FORMS[0]
    elif unusual == "c= of the head alone":
        form = form.partition("/")[0] + "/simple"
    head_form, body_form = (Canonicalization(each) for each in form.split("/"))
    length = _hash(body, body_form, None).length
    now = int(time.time())
    tags = {"v": "1", "a": algorithm, "c": form, "d": DOMAIN, "s": selector, "h": "from:to:subject:date"}
    for tag, text in UNUSUAL[unusual].items():
        tags[tag] = text.format(
            now=now, later=now + 3600, sooner=now - 3600, length=length, half=length // 2, more=length + 1,
            A=algorithm.upper(), C=form.upper(), c=form.partition("/")[0],
        )  # fmt: skip
    if unusual == "c= missing":
        del tags["c"]
    limit = int(tags["l"]) if tags.get("l", "").isdigit() else None
    tags["bh"] = write_base64(_hash(body, body_form, limit).digest)
    words = [f" {name}{_space(random)}={_space(random)}{value}{_space(random)}" for name, value in tags.items()]
    random.shuffle(words)
    if unusual == "a tag twice":
        words.append(random.choice(words))
    words.append(f"{_space(random)}b{_space(random)}={_space(random)}")
    before, after = ";".join(words), random.choice(("", ";", "; ", "; z=From:a|To:b"))
    unsigned = Field(b"dkim-signature", f"DKIM-Signature:{before}{after}\r\n".encode())
    names = [each.strip().lower().encode() for each in tags["h"].split(":")]
    octets = signed_octets(SignedFields(fields(head)).select(names), unsigned, head_form)
    b = write_base64(sign(keys.private[selector], octets))
    if random.random() < 0.5:
        b = "\r\n ".join(b[at : at + 60] for at in range(0, len(b), 60))
    # the white space around b= is gone from what was signed, or it stands before it
    return unusual, f"DKIM-Signature:{before}{b}{after}\r\n".encode() + message


def _hash(body: bytes, form: Canonicalization, limit: int | None) -> BodyHash:
    bodies = BodyHashes()
    wanted = bodies.want(form, limit)
    bodies.update(body)
    bodies.finish()
    return wanted


UNUSUAL: dict[str, dict[str, str]] = {
    "white space": {},
    "unknown tag": {"xyz_1": "a = b, c"},
    "a= in capitals": {"a": "{A}"},
    "c= in capitals": {"c": "{C}"},
    "c= of the head alone": {"c": "{c}"},
    "c= missing": {},
    "d= in capitals": {"d": DOMAIN.upper()},
    "v= is 2": {"v": "2"},
    "v= is 1.0": {"v": "1.0"},
    "l= of all": {"l": "{length}"},
    "l= of all, leading zero": {"l": "0{length}"},
    "l= of a part": {"l": "{half}"},
    "l= of nothing": {"l": "0"},
    "l= beyond the end": {"l": "{more}"},
    "l= no number": {"l": "-1"},
    "h= spaced": {"h": "From : To\r\n\t:SUBJECT:\r\n Date "},
    "h= with more than there is": {"h": "from:from:to:to:subject:subject:x-none:date"},
    "h= without From": {"h": "to:subject:date"},
    "h= with an empty word": {"h": "from::to:subject"},
    "h= with DKIM-Signature": {"h": "from:to:dkim-signature:subject"},
    "i= below d=": {"i": f"a@mail.{DOMAIN}"},
    "i= of another": {"i": "a@example.test"},
    "i= quoted-printable": {"i": f"a=20b@{DOMAIN}"},
    "i= without @": {"i": DOMAIN},
    "q= dns/txt": {"q": "dns/txt"},
    "q= unknown": {"q": "http"},
    "q= unknown and dns/txt": {"q": "http:dns/txt"},
    "t= of now": {"t": "{now}"},
    "t= in an hour": {"t": "{later}"},
    "x= in an hour": {"x": "{later}"},
    "x= an hour ago": {"x": "{sooner}"},
    "x= no number": {"x": "never"},
    "a tag twice": {},
}
"""Tags, by what is unusual about them."""


def _space(random: Random) -> str:
    return random.choice(_SPACE) if random.random() < 0.15 else ""


def _in_field(change: Callable[[Random, bytes], bytes]) -> Change:
    """Change one field, the signature or another."""

    def changed(random: Random, message: bytes) -> bytes:
        head, _ = split(message)
        found = [each.raw for each in fields(head)]
        at = random.randrange(len(found))
        found[at] = change(random, found[at])
        return b"".join(found) + message[len(head) :]

    return changed


def _in_signature(change: Callable[[Random, bytes], bytes]) -> Change:
    def changed(random: Random, message: bytes) -> bytes:
        head, _ = split(message)
        field = next(fields(head)).raw
        return change(random, field) + message[len(field) :]

    return changed


def _in_body(change: Callable[[Random, bytes], bytes]) -> Change:
    def changed(random: Random, message: bytes) -> bytes:
        head, body = split(message)
        return head + b"\r\n" + change(random, body)

    return changed


def _somewhere(random: Random, octets: bytes, pattern: bytes, instead: bytes) -> bytes:
    """Replace one of the places that a pattern finds, if there is any."""
    places = list(re.finditer(pattern, octets))
    if not places:
        return octets
    place = random.choice(places)
    return octets[: place.start()] + place.expand(instead) + octets[place.end() :]


def _anywhere(random: Random, octets: bytes) -> bytes:
    at = random.randrange(len(octets) + 1)
    return octets[:at] + random.choice((b" ", b"\t", b"a", b"\xe9", b".", b"\r\n", b";", b"=", b":")) + octets[at:]


def _reordered(random: Random, message: bytes) -> bytes:
    head, _ = split(message)
    found = [each.raw for each in fields(head)]
    random.shuffle(found)
    return b"".join(found) + message[len(head) :]


def _added(random: Random, message: bytes) -> bytes:
    head, _ = split(message)
    field = random.choice(
        (b"X-Added: x\r\n", b"Subject: x\r\n", b"From: <c@example.test>\r\n", b"Cc: c\r\n", b"To:\r\n")
    )
    return field + message if random.random() < 0.5 else head + field + message[len(head) :]


CHANGES: dict[str, Change] = {
    "none": lambda random, message: message,
    "field: folded at a space": _in_field(
        lambda random, field: _somewhere(random, field, rb"(?<=[!-~]) (?=[!-~])", rb"\r\n ")
    ),
    "field: space made more": _in_field(lambda random, field: _somewhere(random, field, rb" ", b" \t ")),
    "field: unfolded": _in_field(lambda random, field: re.sub(rb"\r\n(?=[ \t])", b"", field)),
    "field: white space at its end": _in_field(lambda random, field: field[:-2] + b" \t\r\n"),
    "field: white space before the colon": _in_field(lambda random, field: field.replace(b":", b" :", 1)),
    "field: name in capitals": _in_field(lambda random, field: re.sub(rb"^[^:]*", lambda name: name[0].upper(), field)),
    "field: value in capitals": _in_field(lambda random, field: field.upper()),
    "field: removed": _in_field(lambda random, field: b""),
    "field: twice": _in_field(lambda random, field: field * 2),
    "field: an octet more": _in_field(lambda random, field: _anywhere(random, field[:-2]) + b"\r\n"),
    "head: a field more": _added,
    "head: reordered": _reordered,
    "signature: an octet more": _in_signature(lambda random, field: _anywhere(random, field[:-2]) + b"\r\n"),
    "signature: an octet less": _in_signature(lambda random, field: _somewhere(random, field, rb"[!-~]", b"")),
    "signature: a tag twice": _in_signature(
        lambda random, field: _somewhere(random, field, rb"; *(\w+=[^;]*)(?=;)", rb"\g<0>\g<0>")
    ),
    "signature: a tag less": _in_signature(
        lambda random, field: _somewhere(random, field, rb";\s*\w+=[^;]*(?=;)", b"")
    ),
    "signature: b= folded": _in_signature(
        lambda random, field: _somewhere(random, field, rb"(?<=[a-zA-Z0-9]{9})(?=[^;]*$)", b"\r\n\t")
    ),
    "body: CRLF at the end": _in_body(lambda random, body: body + b"\r\n" * random.randrange(1, 4)),
    "body: no CRLF at the end": _in_body(lambda random, body: body.rstrip(b"\r\n")),
    "body: white space at the end": _in_body(lambda random, body: body + b" "),
    "body: white space at a line's end": _in_body(lambda random, body: _somewhere(random, body, rb"\r\n", b" \t\r\n")),
    "body: space made more": _in_body(lambda random, body: _somewhere(random, body, rb"[ \t]+", b"\t  ")),
    "body: space removed": _in_body(lambda random, body: _somewhere(random, body, rb"[ \t]+", b"")),
    "body: text at the end": _in_body(lambda random, body: body + b"more\r\n"),
    "body: a dot more": _in_body(lambda random, body: _somewhere(random, body, rb"(?m)^\.", b"..")),
    "body: an octet more": _in_body(_anywhere),
    "body: CRLF made LF": _in_body(lambda random, body: _somewhere(random, body, rb"\r\n", b"\n")),
    "body: CR at the end": _in_body(lambda random, body: body + b"\r"),
    "body: removed": _in_body(lambda random, body: b""),
}
"""What may befall a signed message."""

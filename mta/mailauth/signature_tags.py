"""The tags that all signatures share, read: DKIM-Signature, ARC-Message-Signature, ARC-Seal (RFC 6376 §3.5). Pure.

ARC takes syntax and meaning of its tags from DKIM (RFC 8617 §4.1.2, §4.1.3), so each is read in one place. What is at
fault is a `TagFault`, which never leaves the module that reads the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mta.mail.reason import Reason
from mta.mailauth.algorithm import Algorithm, read_algorithm
from mta.mailauth.canonical import Canonicalization
from mta.mailauth.tags import read_base64, read_colons, read_number
from mta.settings.values import parse_host_name

SOURCE = "RFC 6376 §3.5"
LENGTH_DIGITS = 76
"""Digits of l=."""
TIME_DIGITS = 12
"""Digits of t= and x=."""
NAMES_MAXIMUM = 1000
"""Names in h=: each is work for us, and no message has so many fields that mean something."""

_FIELD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]+")


class TagFault(Exception):
    """A tag is at fault: ends the reading of its field."""

    def __init__(self, text: str, source: str = SOURCE) -> None:
        super().__init__(text)
        self.reason = Reason(text, source)


def require(tags: Mapping[str, str], names: Iterable[str]) -> None:
    """Make sure that these tags are there. Raises TagFault."""
    for name in names:
        if name not in tags:
            raise TagFault(f"{name}= is missing")


def algorithm_tag(text: str) -> Algorithm:
    """Read a=. Raises TagFault."""
    algorithm = read_algorithm(text)
    if isinstance(algorithm, Reason):
        raise TagFault(algorithm.text, algorithm.source)
    return algorithm


def domain_tag(text: str, tag: str, labels: int) -> str:
    """Read d= or s=, of so many labels at least, as A-labels in lower case. Raises TagFault."""
    try:
        # No A-label is shorter than its U-label: what is longer need not be converted.
        name = parse_host_name(text) if len(text) <= 253 else ""
    except ValueError:
        name = ""
    if not name or name.count(".") + 1 < labels:
        raise TagFault(f"{tag}= is no domain name")
    return name


def forms_tag(text: str) -> tuple[Canonicalization, Canonicalization]:
    """Read c=: the forms of the head and of the body, which is simple where it is left out. Raises TagFault."""
    head, slash, body = text.lower().partition("/")
    try:
        return Canonicalization(head), Canonicalization(body) if slash else Canonicalization.SIMPLE
    except ValueError:
        raise TagFault("c= names a form that is not known") from None


def methods_tag(text: str) -> None:
    """Make sure that q= has a method that we know. Raises TagFault."""
    if not {"dns/txt", "dns"} & {method.lower() for method in read_colons(text)}:
        raise TagFault("q= names no method that is known")


def names_tag(words: Iterable[str]) -> tuple[bytes, ...]:
    """Read the words of h=; gives them in lower case. Raises TagFault."""
    names: list[bytes] = []
    for word in words:
        if len(names) == NAMES_MAXIMUM:
            raise TagFault(f"h= has more than {NAMES_MAXIMUM} names", "mta.mailauth")
        if not _FIELD_NAME.fullmatch(word):
            raise TagFault("h= has a word that is no field name")
        names.append(word.lower().encode("ascii"))
    if b"from" not in names:
        raise TagFault("h= does not have From", "RFC 6376 §6.1.1")
    return tuple(names)


def base64_tag(text: str, tag: str) -> bytes:
    """Read b= or bh=. Raises TagFault."""
    octets = read_base64(text)
    if not octets:
        raise TagFault(f"{tag}= is not base64" if octets is None else f"{tag}= is empty")
    return octets


def number_tag(tags: Mapping[str, str], tag: str, digits: int) -> int | None:
    """Read a number of at most so many digits; None where the tag is left out. Raises TagFault."""
    if tag not in tags:
        return None
    number = read_number(tags[tag], digits)
    if number is None:
        raise TagFault(f"{tag}= is no number of at most {digits} digits")
    return number

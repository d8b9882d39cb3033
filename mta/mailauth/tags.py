r"""Tag lists: the text of signatures, key records and policy records (RFC 6376 §3.2, RFC 8617, RFC 9989). Pure.

The grammar, on octets that are unfolded already (`mta.message.header.Field.value`, or a TXT record)::

    tag-list  = tag-spec *( ";" tag-spec ) [ ";" ]
    tag-spec  = *WSP tag-name *WSP "=" *WSP tag-value *WSP
    tag-name  = ALPHA *( ALPHA / DIGIT / "_" )
    tag-value = [ tval *( 1*WSP tval ) ]
    tval      = 1*( %x21-3A / %x3C-7E / UTF8-non-ascii )     ; UTF-8 since RFC 8616 §5

Names are told apart by case. A name that comes twice spoils the whole list. White space after the last ``;``, which the
grammar has no place for and many signers write, is no fault. What a tag means, and that unknown ones are ignored, is
for whoever reads the list.

Written lists are folded below 78 characters where their words allow it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Sequence

from mta.mail.reason import Reason
from mta.message.header import LINE_WANTED

TAGS_MAXIMUM = 1 << 16
"""Octets of the longest list that is read: no TXT record is longer (RFC 1035 §3.2.1), and no signature needs to be."""

_SOURCE = "RFC 6376 §3.2"
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_NO_VALUE = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")
_NUMBER = re.compile(r"[0-9]+")


def read_tags(octets: bytes) -> dict[str, str] | Reason:
    """Read a tag list: values by name in the order written, or the fault. White space within values stays."""
    if len(octets) > TAGS_MAXIMUM:
        return Reason(f"the tag list has more than {TAGS_MAXIMUM} octets", "mta.mailauth")
    tags: dict[str, str] = {}
    specs = octets.split(b";")
    if len(specs) > 1 and not specs[-1].strip(b" \t"):
        specs.pop()
    for spec in specs:
        name_octets, equals, value = spec.partition(b"=")
        name_octets = name_octets.strip(b" \t")
        if not equals or not _NAME.fullmatch(name_octets):
            return Reason(f"{_quoted(spec)} is no tag", _SOURCE)
        name = name_octets.decode("ascii")
        if name in tags:
            return Reason(f"there are two {name}= tags", _SOURCE)
        if _NO_VALUE.search(value):
            return Reason(f"{name}= has a control character", _SOURCE)
        try:
            tags[name] = value.strip(b" \t").decode()
        except UnicodeDecodeError:
            return Reason(f"{name}= is not UTF-8", "RFC 8616 §5")
    return tags


def read_colons(value: str) -> tuple[str, ...]:
    """Read a list with colons (``h=``, ``q=``, ``s=``, ``t=``); white space around its words does not count."""
    return tuple(word.strip(" \t") for word in value.split(":"))


def read_number(value: str, digits: int) -> int | None:
    """Read a decimal number of at most `digits` digits; None where it is none."""
    return int(value) if len(value) <= digits and _NUMBER.fullmatch(value) else None


def read_base64(value: str) -> bytes | None:
    """Read base64string (RFC 6376 §2.10): white space does not count, the padding may be left out. None: it is none."""
    text = value.replace(" ", "").replace("\t", "")
    digits = text.rstrip("=")
    if not text.isascii() or len(text) > len(digits) + 2:
        return None
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4), strict_mode=True)
    except binascii.Error:
        return None


def write_base64(octets: bytes) -> str:
    """Write base64 with padding, without white space."""
    return binascii.b2a_base64(octets, newline=False).decode("ascii")


def write_tags(name: str, tags: Iterable[tuple[str, str | Sequence[str]]]) -> bytes:
    """Write the field `name` with its tags, folded, without a final ``;`` or CRLF.

    A value that is a sequence of words becomes a list with colons, which may be folded behind each.
    """
    words: list[str] = []
    for tag, value in tags:
        if words:
            words[-1] += ";"
        parts = [value] if isinstance(value, str) else [f"{part}:" for part in value[:-1]] + list(value[-1:])
        words += [f" {tag}={''.join(parts[:1])}", *parts[1:]]
    lines = []
    line = name + ":"
    for word in words:
        if len(line) + len(word) > LINE_WANTED:
            lines.append(line)
            line = " " + word.lstrip(" ")
        else:
            line += word
    return "\r\n".join([*lines, line]).encode()


def append_base64(field: bytes, octets: bytes) -> bytes:
    """Complete a field whose last tag is still empty, ``b=``: its value in base64, folded, and the CRLF."""
    text = write_base64(octets).encode()
    room = max(LINE_WANTED - (len(field) - field.rfind(b"\n") - 1), 0)
    lines = [text[:room]]
    lines += [text[at : at + LINE_WANTED - 1] for at in range(room, len(text), LINE_WANTED - 1)]
    return field + b"\r\n ".join(lines) + b"\r\n"


def _quoted(spec: bytes) -> str:
    """A part of a list for people: printable, and short."""
    text = spec.strip(b" \t")[:40].decode("ascii", "backslashreplace")
    return '"' + "".join(c if c.isprintable() else "?" for c in text) + '"'

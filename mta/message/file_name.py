r"""File names of MIME parts, in every reading that a mail program may have of them; pure.

A name stands in ``filename`` of Content-Disposition (RFC 2183 §2.3) or in ``name`` of Content-Type (RFC 2046 §4.5.1 of
old). It may be a token, a quoted string, extended with a charset and percent signs, cut into sections (RFC 2231 §3,
§4), or encoded words, which RFC 2047 §5 forbids there and everybody sends. Programs differ in what they make of it when
it is wrong or said twice; so all readings are given, and a rule fits a name if it fits one of them:

* every occurrence of a parameter, wherever it stands in the field: behind comments, inside another's quotes;
* an unquoted value up to the semicolon, and its first word; a quoted one that does not end, to the end of the field;
* ``\x`` in a quoted value as ``x``, and as it stands (``C:\new.exe``);
* sections joined in the order of their numbers, all of them, and up to the first that is missing;
* encoded words, and the percent signs of ``charset'language'``, decoded, and as they stand.

Of each reading what stands behind the last ``/`` or ``\`` is given, without control and format characters (a
right-to-left override makes ``exe.txt`` of ``txt.exe``), and without white space and dots at its end, which Windows
drops. Everything takes time linear in the head; lengths and numbers are bounded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from mta.message.encoded_word import decoded, text_of
from mta.message.header import values

NAME_MAXIMUM = 1024
"""Characters of a name, those at its end."""
OCCURRENCES_MAXIMUM = 100
"""Parameters of one part that are read; more are not."""

_NOT_INSIDE = rb"(?<![A-Za-z0-9!#$%&'+.^_`|~*-])"
_VALUE = rb"""
    (?: \* (?P<section> [0-9]{1,4} ) )? (?P<extended> \* )? [ \t]* = [ \t]*
    (?P<value> " (?: [^"\\] | \\. )* (?: " | \\? $ ) | [^;]* )
"""
_FLAGS = re.IGNORECASE | re.DOTALL | re.VERBOSE
_NAMED = re.compile(_NOT_INSIDE + rb"(?: file )? name" + _VALUE, _FLAGS)
_BOUNDARY = re.compile(_NOT_INSIDE + rb"boundary" + _VALUE, _FLAGS)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_EXTENDED = re.compile(rb"([A-Za-z0-9_.:+-]{0,60})'[A-Za-z0-9_-]{0,60}'", re.DOTALL)
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")


def file_names(head: bytes) -> list[str]:
    """Return the readings of all file names in the head of a part, each once."""
    found: dict[str, None] = {}
    for field in (b"content-disposition", b"content-type"):
        for value in values(head, field):
            for reading in _readings(_NAMED, value):
                name = _cleaned(reading)
                if name:
                    found[name] = None
    return list(found)


def boundaries(content_type: bytes) -> list[bytes]:
    """Return the readings of the boundary in the value of a Content-Type (RFC 2046 §5.1.1), each once."""
    found = dict.fromkeys(reading.encode("utf-8", "surrogateescape") for reading in _readings(_BOUNDARY, content_type))
    return [boundary.rstrip(b" ") for boundary in found if boundary.strip(b" ")]


def _readings(pattern: re.Pattern[bytes], field: bytes) -> Iterator[str]:
    sections: dict[int, tuple[bytes, bool]] = {}
    for number, found in enumerate(pattern.finditer(field)):
        if number == OCCURRENCES_MAXIMUM:
            break
        value, extended = found["value"], found["extended"] is not None
        if found["section"] is None:
            for plain in _unquoted(value):
                yield from _texts(plain, extended)
        else:
            sections[int(found["section"])] = (next(iter(_unquoted(value))), extended)
    if sections:
        order = sorted(sections)
        yield from _joined(sections[number] for number in order)
        whole = [number for place, number in enumerate(order) if number == place]
        if 0 < len(whole) < len(order):
            yield from _joined(sections[number] for number in whole)


def _unquoted(value: bytes) -> Iterator[bytes]:
    if value.startswith(b'"'):
        inside = value[1:].removesuffix(b'"') if len(value) > 1 else b""
        yield _QUOTED_PAIR.sub(rb"\1", inside)
        if b"\\" in inside:
            yield inside
        return
    bare = value.strip(b" \t")
    yield bare
    words = bare.split()
    if len(words) > 1:
        yield words[0]


def _texts(value: bytes, extended: bool) -> Iterator[str]:
    """The readings of one whole value."""
    if b"=?" in value:
        yield decoded(value)
    found = _EXTENDED.match(value)
    if found:
        yield text_of(_unescaped(value[found.end() :]), found[1].decode("ascii"))
    elif extended:
        yield _unescaped(value).decode("utf-8", "surrogateescape")
    yield value.decode("utf-8", "surrogateescape")


def _joined(sections: Iterable[tuple[bytes, bool]]) -> Iterator[str]:
    """The readings of a value that came in sections: the charset stands in the first (RFC 2231 §4.1)."""
    charset = "utf-8"
    out = []
    for number, (value, extended) in enumerate(sections):
        if not number and extended:
            found = _EXTENDED.match(value)
            if found:
                charset, value = found[1].decode("ascii"), value[found.end() :]
        out.append(_unescaped(value) if extended else value)
    whole = b"".join(out)
    yield text_of(whole, charset)
    if b"=?" in whole:
        yield decoded(whole)


def _unescaped(value: bytes) -> bytes:
    return _PERCENT.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), value)


def _cleaned(name: str) -> str:
    name = name.replace("\\", "/").rstrip("/").rpartition("/")[2][-NAME_MAXIMUM:]
    if not name.isascii() or not name.isprintable():
        name = "".join(each for each in name if unicodedata.category(each) not in ("Cc", "Cf", "Cs"))
    return unicodedata.normalize("NFC", name).strip().rstrip(". ")

r"""Authentication-Results of others: read, and removed where they claim to be ours (RFC 8601 §2.2, §5); pure.

::

    authres-payload = [CFWS] authserv-id [ CFWS authres-version ] ( no-result / 1*resinfo ) [CFWS]
    authserv-id     = value                                      ; a token or a quoted-string
    no-result       = [CFWS] ";" [CFWS] "none"
    resinfo         = [CFWS] ";" methodspec [ CFWS reasonspec ] [ CFWS 1*propspec ]
    methodspec      = [CFWS] method [ "/" version ] [CFWS] "=" [CFWS] result
    reasonspec      = "reason" [CFWS] "=" [CFWS] value
    propspec        = ptype [CFWS] "." [CFWS] property [CFWS] "=" pvalue

The identifier is read strictly, the results are read with patience, as many who write them do not heed the grammar: a
value may hold any characters but white space and ``;`` (``header.b=ab/c=``, ``smtp.remote-ip=2001:db8::1``), a property
may have no type (``action=none``), and what is no result is passed over.

**Whose field is it.** `without_forged` removes a field

* whose identifier is ours: quoted or not, in any case, with a final dot, in U-labels, whatever version follows;
* whose identifier holds our name and more that no token has: ``"mx.example.org x"``;
* whose identifier cannot be told, if our name stands in it anywhere, also when divided by comments, folds, quotes or
  control characters; or if it holds 8-bit, an encoded word or comments in plenty, behind which our name may stand;
* behind the first `FIELDS_MAXIMUM`.

Everything else stays as it was, each octet. All takes time linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mta.dns.answer import normal
from mta.message.header import fields
from mta.settings.values import fold_domain

TEXT_MAXIMUM = 64 * 1024
"""Characters of the longest text whose results are read."""
RESULTS_MAXIMUM = 100
"""Results of one text that are read, the first ones."""

FIELDS_MAXIMUM = 100
"""Authentication-Results fields of a head that are looked at; those behind are removed, whosever they are."""
IDENTIFIER_MAXIMUM = 1024
"""Octets within which an identifier must end, with the comments around it."""

_COMMENTS_MAXIMUM = 10
"""Comments in a field whose identifier cannot be told; who needs more hides something."""

_FIELD = re.compile(rb"\r\nauthentication-results[ \t]*:", re.IGNORECASE)
_LEXEME = re.compile(
    r"""
      (?P<word>    [^\x00-\x20\x7f()<>@,;:\\"/\[\]?=]+ )
    | (?P<quoted>  " (?: [^"\\\x00-\x08\x0a-\x1f\x7f] | \\[^\x00-\x08\x0a-\x1f\x7f] )* " )
    | (?P<special> [<>@,;:\\/\[\]?=] )
    """,
    re.VERBOSE,
)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_SPACE = re.compile(r"(?:[ \t]|\r\n)*")
_IN_COMMENT = re.compile(r"[()\\]")
_USUAL = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+")  # a token of RFC 2045 §5.1
_DIGITS = re.compile(r"[0-9]{1,10}")
_HIDING = bytes([*range(0x21), 0x7F]) + b'"\\'


@dataclass(frozen=True, slots=True)
class MethodResult:
    """One result: ``spf=pass smtp.mailfrom=example.net``. Names are in lower case."""

    method: str
    result: str
    properties: tuple[tuple[str, str], ...] = ()
    """Name and value, ``("header.d", "example.net")``, in order; quotes are taken off."""
    reason: str = ""

    def value(self, name: str) -> str:
        """The value of the first property called `name`; empty where there is none."""
        return next((value for known, value in self.properties if known == name), "")


@dataclass(frozen=True, slots=True)
class Results:
    """What one field says."""

    authserv_id: str
    version: int
    """1 where none is written (§2.5)."""
    results: tuple[MethodResult, ...]


def read_results(text: str) -> Results | None:
    """Read the value of Authentication-Results, or what stands behind ``i=1;`` in ARC-Authentication-Results.

    None where the identifier cannot be told, or the text is longer than `TEXT_MAXIMUM`.
    """
    if len(text) > TEXT_MAXIMUM:
        return None
    lexer = _lexemes(text)
    try:
        identifier = _identifier(lexer)
    except _Unreadable:
        return None
    found = []
    for part in _parts(lexer):
        result = _method_result(part)
        if result:
            found.append(result)
        if len(found) == RESULTS_MAXIMUM:
            break
    return Results(*identifier, tuple(found))


def without_forged(head: bytes, authserv_id: str) -> bytes:
    """Return a head without the fields of others that claim to be from `authserv_id`, which is us.

    A head without one, the common case, comes back as it is.
    """
    if not _FIELD.search(b"\r\n" + head):
        return head
    ours = _folded(authserv_id)
    kept = []
    met = removed = 0
    for field in fields(head):
        if field.name == b"authentication-results":
            met += 1
            if met > FIELDS_MAXIMUM or _claims(field.value, ours):
                removed += 1
                continue
        kept.append(field.raw)
    return b"".join(kept) if removed else head


def _claims(value: bytes, ours: str) -> bool:
    # An identifier that does not end within the limit is none that could be told.
    text = value[: IDENTIFIER_MAXIMUM + 1].decode("utf-8", "surrogateescape")
    try:
        claimed, _ = _identifier(_lexemes(text), whole=len(value) <= IDENTIFIER_MAXIMUM)
    except _Unreadable:
        hides = not value.isascii() or b"=?" in value or value.count(b"(") > _COMMENTS_MAXIMUM
        return hides or _mentions(value, ours) or _mentions(_without_comments(value.decode("ascii")).encode(), ours)
    if _folded(claimed) == ours:
        return True
    return not _USUAL.fullmatch(claimed) and _mentions(claimed.encode("utf-8", "surrogateescape"), ours)


def _mentions(octets: bytes, ours: str) -> bool:
    """Whether our name stands in some octets, perhaps divided by what is not seen."""
    return ours.encode() in octets.translate(None, _HIDING).lower()


def _folded(authserv_id: str) -> str:
    return normal(fold_domain(authserv_id))


class _Unreadable(Exception):
    """The text is not of the grammar."""


@dataclass(frozen=True, slots=True)
class _Lexeme:
    """A word, a quoted-string without its quotes, or one special."""

    kind: str
    text: str
    apart: bool
    """Whether white space or a comment stands before it."""

    def is_special(self, character: str) -> bool:
        return self.kind == "special" and self.text == character


def _lexemes(text: str) -> Iterator[_Lexeme]:
    """Divide a text. Raises _Unreadable where it cannot be."""
    at = 0
    while True:
        start, at = at, _skip(text, at)
        if at == len(text):
            return
        found = _LEXEME.match(text, at)
        if not found:
            raise _Unreadable
        kind = str(found.lastgroup)
        lexeme = _QUOTED_PAIR.sub(r"\1", found[0][1:-1]) if kind == "quoted" else found[0]
        yield _Lexeme(kind, lexeme, at > start)
        at = found.end()


def _skip(text: str, at: int) -> int:
    """Return where the white space and the comments end that begin at `at`. Raises _Unreadable."""
    while True:
        at = _end_of_space(text, at)
        if not text.startswith("(", at):
            return at
        end = _end_of_comment(text, at)
        if end is None:
            raise _Unreadable
        at = end


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found
    return found.end()


def _end_of_comment(text: str, at: int) -> int | None:
    """Return the end of the comment that begins at `at`, with those inside it; None where it has none."""
    depth = 0
    while found := _IN_COMMENT.search(text, at):
        at = found.end()
        if found[0] == "\\":
            at += 1
        else:
            depth += 1 if found[0] == "(" else -1
            if not depth:
                return at
    return None


def _without_comments(text: str) -> str:
    out = []
    at = 0
    while (begin := text.find("(", at)) >= 0:
        out.append(text[at:begin])
        end = _end_of_comment(text, begin)
        if end is None:
            return "".join(out)
        at = end
    return "".join([*out, text[at:]])


def _identifier(lexer: Iterator[_Lexeme], whole: bool = True) -> tuple[str, int]:
    """Read identifier and version, and the ``;`` behind them, which the end of a `whole` text stands for.

    Raises _Unreadable.
    """
    identifier = next(lexer, None)
    if identifier is None or identifier.kind == "special" or not identifier.text:
        raise _Unreadable
    version = 1
    following = next(lexer, None)
    if following and following.kind == "word" and following.apart and _DIGITS.fullmatch(following.text):
        version = int(following.text)
        following = next(lexer, None)
    if not following.is_special(";") if following else not whole:
        raise _Unreadable
    return identifier.text, version


def _parts(lexer: Iterator[_Lexeme]) -> Iterator[list[_Lexeme]]:
    """Divide what is left at each ``;``. A text that breaks off ends with the last whole part."""
    part: list[_Lexeme] = []
    try:
        for lexeme in lexer:
            if lexeme.is_special(";"):
                yield part
                part = []
            else:
                part.append(lexeme)
    except _Unreadable:
        return
    yield part


def _method_result(part: list[_Lexeme]) -> MethodResult | None:
    """Read one result; None where there is none."""
    equals = next((at for at, lexeme in enumerate(part) if lexeme.is_special("=")), 0)
    if not equals or equals + 1 >= len(part) or part[0].kind != "word" or part[equals + 1].kind != "word":
        return None
    # Between method and "=" a version may stand, and nothing else.
    version = part[1:equals]
    if version and not (len(version) == 2 and version[0].is_special("/") and _DIGITS.fullmatch(version[1].text)):
        return None
    properties = tuple(_properties(part[equals + 2 :]))
    reason = next((value for name, value in properties if name == "reason"), "")
    return MethodResult(
        part[0].text.lower(),
        part[equals + 1].text.lower(),
        tuple(each for each in properties if each[0] != "reason"),
        reason,
    )


def _properties(lexemes: list[_Lexeme]) -> Iterator[tuple[str, str]]:
    """Read ``name=value``, again and again."""
    name = ""
    at = 0
    while at < len(lexemes):
        lexeme = lexemes[at]
        at += 1
        if lexeme.is_special("=") and name:
            end = at + 1
            while end < len(lexemes) and not lexemes[end].apart:
                end += 1
            yield name.lower(), "".join(each.text for each in lexemes[at:end])
            at = end
            name = ""
        elif lexeme.kind == "word":
            # A dot may stand apart: "header . d".
            joined = name.endswith(".") or (name and lexeme.text.startswith("."))
            name = name + lexeme.text if joined else lexeme.text
        else:
            name = ""

"""Macros of SPF records: text to a value, and the value to a name or a sentence (RFC 7208 §7). Pure.

::

    domain-spec   = macro-string domain-end
    domain-end    = ( "." toplabel [ "." ] ) / macro-expand
    toplabel      = ( *alphanum ALPHA *alphanum ) / ( 1*alphanum "-" *( alphanum / "-" ) alphanum )
    explain-string = *( macro-string / SP )
    macro-string  = *( macro-expand / macro-literal )
    macro-expand  = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"
    macro-literal = %x21-24 / %x26-7E
    macro-letter  = "s" / "l" / "o" / "d" / "i" / "p" / "h" / "c" / "r" / "t" / "v"
    transformers  = *DIGIT [ "r" ]
    delimiter     = "." / "-" / "+" / "," / "/" / "_" / "="

Text is what the octets of a record are in ISO 8859-1: any octet has a character, those that may not be there are
found by the grammar. What the letters stand for is the caller's to know; ``%{p}`` needs questions to answer.

The domain-end says how a name must be *written*; what an expansion comes to is checked by `target_name` alone.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from mta.dns.answer import normal, presented

NAME_MAXIMUM = 253
"""Characters of a name; a longer one loses labels on its left (RFC 7208 §7.3)."""
LABEL_MAXIMUM = 63
"""RFC 1035 §2.3.4."""

_NAME_LETTERS = frozenset("slodipvh")
_ALL_LETTERS = _NAME_LETTERS | frozenset("crt")  # RFC 7208 §7.2: these three in explanations alone
_PARTS_MAXIMUM = 127  # RFC 7208 §7.3: no domain name has more
_TEXT_SHOWN = 80

_TOKEN = re.compile(
    r"%\{(?P<letter>[A-Za-z])(?P<digits>[0-9]*)(?P<reverse>[Rr]?)(?P<delimiters>[-.+,/_=]*)\}"
    r"|%(?P<escape>[%_-])"
    r"|(?P<literal>[!-$&-~]+)"
    r"|(?P<space>[ ]+)"
)
_ESCAPES = {"%": "%", "_": " ", "-": "%20"}
# toplabel, but for the rule that it is not all digits
_TOPLABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Macro:
    """A macro-expand with its letter, transformers and delimiters."""

    letter: str
    """In lower case."""
    parts: int = 0
    """How many right-hand parts are taken; 0: all."""
    reverse: bool = False
    delimiters: str = ""
    """Empty: a dot, if there is anything to split for."""
    escape: bool = False
    """Whether what comes out is URL-escaped: the letter was written in upper case."""

    def expand(self, value: str) -> str:
        """Transform what the letter stands for (RFC 7208 §7.3)."""
        if self.parts or self.reverse or self.delimiters:
            value = self._transform(value)
        return quote(value, safe="") if self.escape else value

    def _transform(self, value: str) -> str:
        delimiters = self.delimiters or "."
        for delimiter in delimiters[1:]:
            value = value.replace(delimiter, delimiters[0])
        parts = value.split(delimiters[0])
        if self.reverse:
            parts.reverse()
        return ".".join(parts[-self.parts :])


MacroString = tuple[str | Macro, ...]
"""A macro-string, domain-spec or explain-string; ``%%``, ``%_`` and ``%-`` are text already."""


@dataclass(frozen=True, slots=True)
class SyntaxFault:
    """What is wrong with a text, in printable ASCII, and where: characters (octets) from its beginning."""

    text: str
    offset: int


class NameFault(enum.Enum):
    """Why an expansion gives no name to ask for."""

    MALFORMED = "an empty or too long label"
    NON_ASCII = "not in ASCII"
    """RFC 8616 §4: a term with ``%{s}`` or ``%{l}`` matches nothing if the local-part is not in ASCII."""


def shown(text: str) -> str:
    """Return text of a peer as a reason may hold it: not long, in printable ASCII."""
    safe = text[: _TEXT_SHOWN + 1].encode("unicode_escape").decode("ascii")
    return safe if len(safe) <= _TEXT_SHOWN else safe[:_TEXT_SHOWN] + "..."


def parse_macro_string(text: str) -> MacroString | SyntaxFault:
    """Read a macro-string, with every macro-letter."""
    read = _read(text, _ALL_LETTERS, spaces=False)
    return read if isinstance(read, SyntaxFault) else read.string


def parse_explanation(text: str) -> MacroString | SyntaxFault:
    """Read an explain-string."""
    read = _read(text, _ALL_LETTERS, spaces=True)
    return read if isinstance(read, SyntaxFault) else read.string


def parse_domain_spec(text: str) -> MacroString | SyntaxFault:
    """Read a domain-spec."""
    if not text:
        return SyntaxFault("a domain is missing", 0)
    read = _read(text, _NAME_LETTERS, spaces=False)
    if isinstance(read, SyntaxFault):
        return read
    if not read.tail:
        return read.string
    _, dot, toplabel = read.tail.removesuffix(".").rpartition(".")
    if not dot:
        return SyntaxFault(f"{shown(text)} is no domain of several labels", 0)
    if toplabel.isdigit():
        return SyntaxFault(f"{shown(text)} ends in a number (an address belongs in ip4: or ip6:)", 0)
    if not _TOPLABEL.fullmatch(toplabel):
        return SyntaxFault(f"{shown(text)} does not end in the label of a top-level domain", 0)
    return read.string


@dataclass(frozen=True, slots=True)
class _Read:
    string: MacroString
    tail: str
    """The text behind the last macro-expand."""


def _read(text: str, letters: frozenset[str], spaces: bool) -> _Read | SyntaxFault:
    string: list[str | Macro] = []
    tail = ""
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return SyntaxFault(f"{shown(text[at : at + 1])} cannot stand here", at)
        if token["letter"]:
            macro = _macro(token, letters)
            if isinstance(macro, SyntaxFault):
                return macro
            string.append(macro)
            tail = ""
        elif token["escape"]:
            string.append(_ESCAPES[token["escape"]])
            tail = ""
        elif token["space"] and not spaces:
            return SyntaxFault("a space cannot stand here", at)
        else:
            string.append(token[0])
            tail = token[0]
        at = token.end()
    return _Read(tuple(string), tail)


def _macro(token: re.Match[str], letters: frozenset[str]) -> Macro | SyntaxFault:
    letter = token["letter"].lower()
    if letter not in _ALL_LETTERS:
        return SyntaxFault(f"%{{{token['letter']}}} is no macro", token.start())
    if letter not in letters:
        return SyntaxFault(f"%{{{token['letter']}}} is for explanations only", token.start())
    digits = token["digits"].lstrip("0")
    if token["digits"] and not digits:
        return SyntaxFault("0 parts of a macro cannot be taken", token.start("digits"))
    return Macro(
        letter,
        # The digits are as many as a peer likes: int() would raise for some thousands.
        parts=min(int(digits[:4] or 0), _PARTS_MAXIMUM),
        reverse=bool(token["reverse"]),
        delimiters=token["delimiters"],
        escape=token["letter"].isupper(),
    )


def uses(string: MacroString, letter: str) -> bool:
    """Whether a macro-letter stands in it."""
    return any(isinstance(part, Macro) and part.letter == letter for part in string)


def expand(string: MacroString, values: Mapping[str, str]) -> str:
    """Put in what the macro-letters stand for."""
    return "".join(part if isinstance(part, str) else part.expand(values[part.letter]) for part in string)


def target_name(spec: MacroString, values: Mapping[str, str]) -> str | NameFault:
    """Expand a domain-spec to a name as `mta.dns.answer` writes them (RFC 7208 §7.3, §4.3)."""
    if not all(values[part.letter].isascii() for part in spec if isinstance(part, Macro)):
        return NameFault.NON_ASCII
    name = normal(expand(spec, values))
    if len(name) > NAME_MAXIMUM:
        # Labels go with the dot behind them; what remains begins after the first dot that leaves few enough.
        name = name[name.find(".", len(name) - NAME_MAXIMUM - 1) + 1 :]
    if not all(0 < len(label) <= LABEL_MAXIMUM for label in name.split(".")):
        return NameFault.MALFORMED
    return presented(name)

"""Text as mdoc(7) has it: manual pages that say what a thing is and leave the look to the program that shows them.

Pure: strings in, lines out. Code in a text stands in back quotes; a blank line parts paragraphs.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

_WIDTH = 78
"""Columns of a source line (mandoc asks for fewer than 80)."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)|(?<=[.!?][)\"`])\s+(?=\S)")
_CODE = re.compile(r"`([^`]+)`")
_SPECIAL = {"\\": "\\e", "–": "\\(en", "—": "\\(em", "§": "\\(sc", "…": "\\&..."}
_TYPED = {"-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}


def escape(text: str) -> str:
    """Keep every character from being read as a request or an escape."""
    return "".join(_SPECIAL.get(char) or (char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text)


def literal(text: str) -> str:
    """Escape code: a minus stays a minus, a quote a quote, so that it can be copied from the page."""
    return "".join(_TYPED.get(char) or char for char in escape(text))


def arguments(*words: str) -> str:
    """Join words for a line of a macro: none of them is taken for a macro, and one with spaces stays one."""
    return " ".join(_argument(word) for word in words)


def _argument(word: str) -> str:
    text = literal(word)
    if text.endswith("]") and len(text) > 1:
        text += "\\&"
    if re.fullmatch(r"[A-Z][a-z0-9]{1,2}|[.,:;()\[\]?!|]", text):
        text = "\\&" + text
    return '"' + text.replace('"', "\\(dq") + '"' if " " in text or '"' in text or not text else text


def prose(text: str) -> Iterator[str]:
    """Yield the source lines of paragraphs: a sentence begins a line, code is bold."""
    first = True
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if not paragraph.strip():
            continue
        if not first:
            yield ".Pp"
        first = False
        for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
            yield from _wrapped(sentence)


def _wrapped(sentence: str) -> Iterator[str]:
    out = []
    for at, piece in enumerate(_CODE.split(sentence)):
        out.append("\\fB" + literal(piece) + "\\fR" if at % 2 else escape(piece))
    for line in textwrap.wrap("".join(out), _WIDTH, break_long_words=False, break_on_hyphens=False):
        yield "\\&" + line if line[:1] in (".", "'") else line


def example(lines: Sequence[str]) -> Iterator[str]:
    """Yield a display of commands, line by line as they are typed."""
    yield ".Bd -literal -offset indent"
    for line in lines:
        text = literal(line.rstrip())
        yield "\\&" + text if text[:1] == "." else text
    yield ".Ed"


def head(name: str, section: int, date: str) -> Iterator[str]:
    """Yield the three lines that every page opens with."""
    yield f".Dd {date}"
    yield f".Dt {name.upper()} {section}"
    yield ".Os"

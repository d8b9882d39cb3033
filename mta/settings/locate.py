"""Where the keys of a TOML text stand, which `tomllib` does not tell.

`locate` reads text that `tomllib` has accepted, so it only has to find headers and keys, and to step over
values (TOML 1.0: strings of four kinds, arrays and inline tables over several lines, comments). Keys inside inline
tables are not located: they are found at the line of the key that holds them, which `line_of` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Path = tuple[str | int, ...]
"""Where a value stands: keys, and indices in lists of tables: ``("smtpd", "network", 0, "name")``."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SIMPLE_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_DOTTED_KEY = re.compile(rf"(?:{_SIMPLE_KEY.pattern})(?:[ \t]*\.[ \t]*(?:{_SIMPLE_KEY.pattern}))*")
_HEADER = re.compile(rf"(\[\[?)[ \t]*({_DOTTED_KEY.pattern})[ \t]*\]\]?")
_EQUALS = re.compile(r"[ \t]*=")
_PIECE = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'{3}.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[\]{}\n]|[^"'\#\[\]{}\n]+''',
    re.DOTALL,
)


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _SIMPLE_KEY.findall(dotted)]


def locate(text: str) -> dict[Path, int]:
    """Return the line (from 1) of each table header and key of a valid TOML text."""
    lines: dict[Path, int] = {}
    lengths: dict[Path, int] = {}
    table: Path = ()
    line = 1
    position = 0

    def forward(end: int) -> None:
        nonlocal position, line
        line += text.count("\n", position, end)
        position = end

    def note(path: Path) -> None:
        # a dotted name also makes the tables it goes through
        for end in range(1, len(path) + 1):
            lines.setdefault(path[:end], line)

    while True:
        forward(_match(_BLANK, text, position).end())
        if position == len(text):
            return lines
        header = _HEADER.match(text, position)
        if header:
            table = ()
            names = _parts(header[2])
            for name in names[:-1]:
                table += (name,)
                if table in lengths:
                    table += (lengths[table] - 1,)
            table += (names[-1],)
            if header[1] == "[[":
                lengths[table] = lengths.get(table, 0) + 1
                table += (lengths[table] - 1,)
            note(table)
            forward(header.end())
            continue
        key = _match(_DOTTED_KEY, text, position)
        note((*table, *_parts(key[0])))
        forward(_match(_EQUALS, text, key.end()).end())
        depth = 0
        while position < len(text):
            piece = _match(_PIECE, text, position)
            if piece[0] == "\n" and not depth:
                break
            depth += (piece[0] in ("[", "{")) - (piece[0] in ("]", "}"))
            forward(piece.end())


def _match(pattern: re.Pattern[str], text: str, position: int) -> re.Match[str]:
    found = pattern.match(text, position)
    assert found, f"not TOML: {text[position : position + 20]!r}"
    return found


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """Return the line of a key, or of what holds it; 0 for the file as a whole."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)

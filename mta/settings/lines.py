"""The lines of a file that people write, and changes to single ones that leave all others as they are, octet by octet.

Only LF (after CR or not) ends a line, nothing else that `str.splitlines` takes. A line that is put in gets the line end
that the file has; the last line keeps whatever end it has, unless another one is put behind it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text without their ends, from 1."""
    for number, line in enumerate(text.split("\n"), 1):
        yield number, line.removesuffix("\r")


def appended(text: str, content: str) -> str:
    """Put a line behind all others."""
    end = _end(text)
    between = end if text and not text.endswith("\n") else ""
    return f"{text}{between}{content}{end}"


def replaced(text: str, number: int, content: str) -> str:
    """Put `content` in the place of line `number`."""
    lines = _LINE.findall(text)
    line = lines[number - 1]
    lines[number - 1] = content + line[len(line.removesuffix("\n").removesuffix("\r")) :]
    return "".join(lines)


def removed(text: str, numbers: Collection[int]) -> str:
    """Take lines out."""
    return "".join(line for number, line in enumerate(_LINE.findall(text), 1) if number not in numbers)


def _end(text: str) -> str:
    first = _LINE.match(text)
    return "\r\n" if first and first[0].endswith("\r\n") else "\n"

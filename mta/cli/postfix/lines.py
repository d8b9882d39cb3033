"""Logical lines of Postfix's files (postconf(5), postmap(1), master(5)): a line that begins with a blank goes on with
the one before; empty lines and comments stand anywhere and end nothing.
"""

from __future__ import annotations

from typing import NamedTuple

BLANKS = " \t\r\n\v\f"
"""What isspace(3) takes for a blank in the C locale."""


class Place(NamedTuple):
    """Where something stands."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Line(NamedTuple):
    """A logical line, without the line ends in it."""

    text: str
    place: Place


def logical_lines(text: str, file: str) -> list[Line]:
    """Divide a file. What is before the first line that begins without a blank belongs nowhere, and is left out."""
    lines: list[Line] = []
    for number, physical in enumerate(text.split("\n"), 1):
        bare = physical.strip(BLANKS)
        if not bare or bare.startswith("#"):
            continue
        if physical[0] in BLANKS:
            if lines:
                lines[-1] = Line(lines[-1].text + physical, lines[-1].place)
        else:
            lines.append(Line(physical, Place(file, number)))
    return lines

"""What is wrong in ``etc/``, in words an administrator can act on: file, line, what was expected, what was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_FOUND_MAXIMUM = 120


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing to mend. `line` counts from 1; 0 speaks of the file as a whole."""

    file: str
    line: int
    expected: str
    found: str
    key: str = ""
    """The key it is about, ``[mx] listen``; empty outside TOML."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        return f"{where}: {key}expected {self.expected}, found {self.found}"


def quoted(text: object) -> str:
    """Show what a file holds: quoted, without control characters, cut."""
    shown = ascii(text) if not isinstance(text, str) or not text.isprintable() else f'"{text}"'
    return shown if len(shown) <= _FOUND_MAXIMUM else shown[:_FOUND_MAXIMUM] + "…"


class SettingsRefused(Exception):
    """The configuration cannot be used: all its problems, in the order of files and lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))

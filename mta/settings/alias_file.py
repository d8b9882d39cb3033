"""Lines of ``aliases``, ``name: target, target``: how they are divided, and what a change makes of them.

A line that starts with a blank goes on with the line before, comments and empty lines between them notwithstanding;
``#`` starts a comment. What the names and targets mean is judged by `mta.settings.domains`.

A change touches the lines where a target comes or goes, and no other. Pure: text in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mta.settings.lines import appended, numbered, removed, replaced

_TARGET = re.compile(r'\s*((?:"(?:[^"\\]|\\.)*"|[^",])+?)\s*(?:,|$)')
_ALIAS = re.compile(r'(?P<name>"(?:[^"\\]|\\.)*"|[^\s":]+)\s*:(?P<targets>.*)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class AliasLine:
    """One alias, on one line of the file or several."""

    numbers: tuple[int, ...]
    """The lines of the file, from 1, that it stands on."""
    content: str
    """All of them as one."""

    @property
    def number(self) -> int:
        """The line that it begins on."""
        return self.numbers[0]

    @property
    def name(self) -> str | None:
        """The name as it is written; None where there is none."""
        found = _ALIAS.fullmatch(self.content.strip())
        return found["name"] if found else None

    @property
    def targets(self) -> list[str]:
        """The targets as they are written."""
        found = _ALIAS.fullmatch(self.content.strip())
        return split(found["targets"]) if found else []


def alias_lines(text: str) -> list[AliasLine]:
    """Divide a file into its aliases."""
    found: list[AliasLine] = []
    for number, content in numbered(text):
        if not content.strip() or content.lstrip().startswith("#"):
            continue
        if content[0] in " \t" and found:
            before = found[-1]
            found[-1] = AliasLine((*before.numbers, number), f"{before.content} {content.strip()}")
        else:
            found.append(AliasLine((number,), content))
    return found


def split(targets: str) -> list[str]:
    """Divide a list at its commas, but for those in quotes; nothing between two is found as an empty target."""
    out: list[str] = []
    position = 0
    while position < len(targets):
        found = _TARGET.match(targets, position)
        if not found or found.end() == position:
            return [*out, targets[position:].strip()]
        out.append(found[1])
        position = found.end()
    return out or [""]


def with_alias(text: str, name: str, targets: Sequence[str]) -> str:
    """Put a new alias behind all others."""
    return appended(text, f"{name}: {', '.join(targets)}")


def with_targets(text: str, alias: AliasLine, targets: Sequence[str]) -> str:
    """Put more targets behind those of an alias, on its last line."""
    last = alias.numbers[-1]
    content = dict(numbered(text))[last].rstrip()
    between = " " if content.endswith((",", ":")) else ", "
    return replaced(text, last, f"{content}{between}{', '.join(targets)}")


def without_alias(text: str, alias: AliasLine) -> str:
    """Take an alias out; comments between its lines stay."""
    return removed(text, alias.numbers)


def without_targets(text: str, alias: AliasLine, places: Collection[int]) -> str:
    """Take out the targets of an alias that stand at these places, counted from 0; one at least has to be left."""
    kept = [target for place, target in enumerate(alias.targets) if place not in places]
    contents = dict(numbered(text))
    changed = _without(alias, contents, places)
    if changed is None:  # a target that goes over the end of a line: then all stand on the first
        changed = {alias.number: f"{alias.name}: {', '.join(kept)}", **dict.fromkeys(alias.numbers[1:], "")}
    for number, content in changed.items():
        if content:
            text = replaced(text, number, content)
    return removed(text, [number for number, content in changed.items() if not content])


def _without(alias: AliasLine, contents: dict[int, str], places: Collection[int]) -> dict[int, str] | None:
    """The lines that change; an empty one goes. None where the targets of the lines are not those of the whole."""
    lines = {number: _pieces(contents[number], number == alias.number) for number in alias.numbers}
    if [piece.strip().removesuffix(",").rstrip() for _, pieces in lines.values() for piece in pieces] != alias.targets:
        return None
    changed: dict[int, str] = {}
    place, last = 0, alias.number
    for number, (before, pieces) in lines.items():
        kept = [piece for at, piece in enumerate(pieces, place) if at not in places]
        if len(kept) < len(pieces):
            changed[number] = before + "".join(kept).lstrip() if kept or number == alias.number else ""
        if kept:
            last = number
        place += len(pieces)
    changed[last] = changed.get(last, contents[last]).rstrip().removesuffix(",").rstrip()
    return {number: content for number, content in changed.items() if content != contents[number]}


def _pieces(content: str, first: bool) -> tuple[str, list[str]]:
    """What stands in front of the targets of a line, and the targets with the blanks and commas around them."""
    found = _ALIAS.match(content) if first else None
    position = found.start("targets") if found else 0
    position += len(content[position:]) - len(content[position:].lstrip())
    before, pieces = content[:position], []
    while position < len(content):
        found = _TARGET.match(content, position)
        if not found or found.end() == position:
            break
        pieces.append(content[position : found.end()])
        position = found.end()
    return before, pieces

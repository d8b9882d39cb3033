"""The reference of ``etc/``, made from the settings classes: ``python -m mta.settings.reference > docs/settings.md``.

A class is a table, a field is a key; the text below a field is its description, the annotation says what it takes.
mta.toml(5) is made of the same values (`mta.cli.manual`).
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from mta.settings.sections import DomainSettings, Settings
from mta.settings.table import at_start, expectation, hints, keys_of, marks_of, optional
from mta.settings.values import Kind

_INTRODUCTION = """\
# Settings

<!-- made by `python -m mta.settings.reference > docs/settings.md`; a test compares -->

`mta.toml` is TOML. Everything has a default but `hostname`. An unknown key, a wrong type or a value out of bounds is
refused with its file and line, all of them at once, and what ran before goes on running.

* Sizes are text with a unit, in steps of 1,024: `"64K"`, `"50M"`, `"1G"`; a bare number is octets.
* Times are text with a unit: `"30s"`, `"5m"`, `"1h30m"`, `"5d"`.
* Paths are relative to the directory of `mta.toml`.
* What *counts from the start on* is not changed by `mta reload`, which names it; it needs a restart.
* Domains, users and aliases are in the directory `domains` beside `mta.toml`, see [below](#domains).
"""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a table; code in its texts stands in back quotes."""

    name: str
    description: str
    takes: str
    default: str
    """As the file would have it, or that there is none; empty where the key is required."""
    at_start: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the file with its keys, without the tables below it."""

    heading: str
    """With its brackets; empty for the top of the file."""
    summary: str
    keys: tuple[Key, ...]


def _descriptions(cls: type) -> Mapping[str, str]:
    """The text below each field of a class, in one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    name = ""
    for statement in tree.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and name:
            found[name] = " ".join(str(statement.value.value).split())
            name = ""
    return found


def _written(value: Any, hint: Any) -> str:
    """A default as the file would have it."""
    hint = optional(hint)
    if value is None:
        return "not given"
    if isinstance(value, tuple):
        return "[" + ", ".join(_written(each, get_args(hint)[0]) for each in value) + "]"
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, enum.Enum):
        return f'"{value.value}"'
    kind = next((mark for mark in marks_of(hint) if isinstance(mark, Kind)), None)
    if kind is not None:
        return f'"{kind.text(value)}"'
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else f"{value}"


def _code(text: str) -> str:
    return text.replace("``", "`")


def tables(cls: type, name: str = "", brackets: str = "[]", fixed: bool = False) -> Iterator[Table]:
    """Yield the table of a class, then those below it."""
    descriptions = _descriptions(cls)
    half = len(brackets) // 2
    keys = []
    below = []
    for key, field in keys_of(cls).items():
        hint = optional(hints(cls)[field.name])
        inner = get_args(hint)[0] if get_origin(hint) is tuple else hint
        dotted = f"{name}.{key}" if name else key
        taken = fixed or at_start(field)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type) and not marks_of(inner):
            below.append((inner, dotted, "[[]]" if inner is not hint else "[]", taken))
            continue
        if field.default is not dataclasses.MISSING:
            default = f"`{_written(field.default, hint)}`"
        else:
            default = "" if field.default_factory is dataclasses.MISSING else "none"
        keys.append(Key(key, _code(descriptions[field.name]), _code(expectation(hint)), default, taken))
    heading = f"{brackets[:half]}{name}{brackets[half:]}" if name else ""
    yield Table(heading, _code(" ".join(_summary(cls).split())), tuple(keys))
    for each in below:
        yield from tables(*each)


def _markdown(table: Table) -> Iterator[str]:
    title = f"`{table.heading}`" if table.heading else "Top of the file"
    yield f"\n## {title}\n\n{table.summary}\n"
    for key in table.keys:
        yield f"\n**`{key.name}`** – {key.description}  \n"
        default = f" Default: {key.default}." if key.default else ""
        yield f"Takes {key.takes}.{default}{' Counts from the start on.' if key.at_start else ''}\n"


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n\n")[0]


def domains_text() -> str:
    """Say what a directory of a domain holds, in paragraphs."""
    from mta.settings import domains

    return _code(inspect.getdoc(domains) or "")


def render() -> str:
    """Return the whole reference, in Markdown."""
    out = [_INTRODUCTION]
    for table in tables(Settings):
        out.extend(_markdown(table))
    out.append(f"\n# Domains\n\n{domains_text()}\n")
    out.append("\n# `domain.toml`\n")
    for table in tables(DomainSettings):
        out.extend(_markdown(table))
    return "".join(out)


if __name__ == "__main__":
    sys.stdout.write(render())

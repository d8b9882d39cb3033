"""The reference of ``etc/``, made from the settings classes: ``python -m mta.settings.reference > docs/settings.md``.

A class is a table, a field is a key; the text below a field is its description, the annotation says what it takes.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
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


def _tables(cls: type, name: str, brackets: str = "[]", fixed: bool = False) -> Iterator[str]:
    """The sections of a class and of those below it."""
    descriptions = _descriptions(cls)
    title = f"`{brackets[: len(brackets) // 2]}{name}{brackets[len(brackets) // 2 :]}`" if name else "Top of the file"
    yield f"\n## {title}\n\n{_code(' '.join(_summary(cls).split()))}\n"
    below = []
    for key, field in keys_of(cls).items():
        hint = optional(hints(cls)[field.name])
        inner = get_args(hint)[0] if get_origin(hint) is tuple else hint
        dotted = f"{name}.{key}" if name else key
        taken = fixed or at_start(field)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type) and not marks_of(inner):
            below.append((inner, dotted, "[[]]" if inner is not hint else "[]", taken))
            continue
        yield f"\n**`{key}`** – {_code(descriptions[field.name])}  \n"
        if field.default is not dataclasses.MISSING:
            default = f" Default: `{_written(field.default, hint)}`."
        else:
            default = "" if field.default_factory is dataclasses.MISSING else " Default: none."
        when = " Counts from the start on." if taken else ""
        yield f"Takes {_code(expectation(hint))}.{default}{when}\n"
    for each in below:
        yield from _tables(*each)


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n\n")[0]


def render() -> str:
    """Return the whole reference, in Markdown."""
    from mta.settings import domains

    text = inspect.getdoc(domains) or ""
    paragraphs = "\n\n".join(_code(paragraph) for paragraph in text.split("\n\n"))
    out = [_INTRODUCTION, *_tables(Settings, "")]
    out.append(f"\n# Domains\n\n{paragraphs}\n")
    out.append("\n# `domain.toml`\n")
    out.extend(_tables(DomainSettings, ""))
    return "".join(out)


if __name__ == "__main__":
    sys.stdout.write(render())

"""From the tables of a TOML file to settings classes, with a problem for everything that does not fit.

What a field takes is told by its annotation: text, truth, numbers (with `Within` as bounds), a `Kind` (text with a
form of its own), a `Literal` or an enum (one of a few words), a settings class (a table), a tuple of any of these (a
list), a mapping of names to any of these. A value that does not fit becomes a problem and leaves the default in its
place, so that one reading finds all of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import os
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mta.settings.locate import Path, line_of
from mta.settings.problem import Problem, quoted
from mta.settings.sections import LIMIT_KINDS
from mta.settings.values import AT_START, DERIVED, OCTETS, PATH, Kind, Unfit, Within
from mta.smtp.limits import Limits

T = TypeVar("T")


def hints(cls: type) -> Mapping[str, Any]:
    """The annotations of a settings class. `Limits` is of a pure package and knows no kinds: they are put in here."""
    found = get_type_hints(cls, include_extras=True)
    return {name: LIMIT_KINDS[name] for name in found} if cls is Limits else found


def key_of(field: dataclasses.Field[Any]) -> str:
    """The key of a field; empty for what is no key of the file."""
    return str(field.metadata.get("key", field.name))


def at_start(field: dataclasses.Field[Any]) -> bool:
    """Whether the value of a field is taken at the start and stays until a restart."""
    return AT_START.items() <= field.metadata.items()


def keys_of(cls: type) -> Mapping[str, dataclasses.Field[Any]]:
    """The keys of a settings class, in order."""
    fields = {key_of(field): field for field in dataclasses.fields(cls) if key_of(field)}
    return {key: field for key, field in fields.items() if DERIVED not in marks_of(hints(cls)[field.name])}


def marks_of(hint: Any) -> tuple[object, ...]:
    """What ``Annotated`` adds to a type."""
    return get_args(hint)[1:] if get_origin(hint) is Annotated else ()


def optional(hint: Any) -> Any:
    """The other side of ``X | None``; `hint` itself where it is none."""
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        return next(each for each in get_args(hint) if each is not type(None))
    return hint


class _Misfit(Exception):
    """A value does not fit: what was expected."""


class Reading:
    """One reading of one file. `file` is its path, `lines` where its keys stand; problems are gathered."""

    def __init__(self, file: str, lines: Mapping[Path, int], problems: list[Problem]) -> None:
        self.file = file
        self.lines = lines
        self.problems = problems
        self._wrong: set[Path] = set()

    def problem(self, path: Path, expected: str, found: str) -> None:
        """Note that something is wrong with the value at `path`."""
        self._wrong.add(path)
        tables = [str(part) for part in path[:-1] if isinstance(part, str)]
        key = f"[{'.'.join(tables)}] {path[-1]}" if tables else str(path[-1]) if path else ""
        if path and isinstance(path[-1], int):
            key = f"[[{'.'.join(tables)}]]"
        self.problems.append(Problem(self.file, line_of(self.lines, path), expected, found, key))

    def mismatch(self, path: Path, expected: str, found: str) -> None:
        """Note that the value at `path` does not go with others; not where it, or a part of it, was wrong already."""
        if not any(wrong[: len(path)] == path for wrong in self._wrong):
            self.problem(path, expected, found)

    def source(self, path: Path) -> str:
        """File and line of a key."""
        return f"{self.file}:{line_of(self.lines, path)}"

    def table(self, cls: type[T], table: Mapping[str, object], path: Path = ()) -> T:
        """Make a `cls` from a table; unknown keys and missing ones are problems too."""
        keys = keys_of(cls)
        for key in table:
            if key not in keys:
                self.problem((*path, key), _known(key, keys), quoted(key))
        values: dict[str, object] = {}
        for key, field in keys.items():
            hint = hints(cls)[field.name]
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if key in table:
                try:
                    values[field.name] = self._value(hint, table[key], (*path, key))
                except _Misfit as misfit:
                    self.problem((*path, key), str(misfit), quoted(table[key]))
                    if required:
                        values[field.name] = ""
            elif required:
                self.problem((*path, key), expectation(hint), "nothing")
                values[field.name] = ""
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # every settings class is a dataclass
            if field.name == "source":
                values["source"] = self.source(path)
        return cls(**values)

    def _value(self, hint: Any, value: object, path: Path) -> object:
        """Read one value; raises _Misfit, or notes problems of its parts and leaves those out."""
        hint = optional(hint)
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise _Misfit(expectation(hint))
            return self.table(hint, value, path)  # type: ignore[arg-type]  # a class, not an instance
        if get_origin(hint) is tuple:
            if not isinstance(value, list):
                raise _Misfit(expectation(hint))
            return tuple(self._parts(get_args(hint)[0], enumerate(value), path).values())
        if get_origin(hint) is Mapping:
            if not isinstance(value, Mapping):
                raise _Misfit(expectation(hint))
            return self._parts(get_args(hint)[1], value.items(), path)
        return self._plain(hint, value, path)

    def _parts(self, hint: Any, items: Any, path: Path) -> dict[object, object]:
        out = {}
        for name, each in items:
            try:
                out[name] = self._value(hint, each, (*path, name))
            except _Misfit as misfit:
                self.problem((*path, name), str(misfit), quoted(each))
        return out

    def _plain(self, hint: Any, value: object, path: Path) -> object:
        marks = marks_of(hint)
        plain = get_args(hint)[0] if marks else hint
        expected = expectation(hint)
        kind = next((mark for mark in marks if isinstance(mark, Kind)), None)
        if kind is not None:
            if kind is OCTETS and type(value) is int and value >= 0:
                pass
            elif isinstance(value, str):
                try:
                    value = kind.parse(value)
                except Unfit as unfit:
                    raise _Misfit(f"{expected} ({unfit})") from None
                except ValueError:
                    raise _Misfit(expected) from None
            else:
                raise _Misfit(expected)
            if kind is PATH and value:
                value = os.path.normpath(os.path.join(os.path.dirname(self.file), str(value)))
            elif dataclasses.is_dataclass(value) and hasattr(value, "source"):
                value = dataclasses.replace(value, source=self.source(path))  # type: ignore[type-var]
        elif get_origin(plain) is Literal:
            if value not in get_args(plain):
                raise _Misfit(expected)
        elif issubclass(plain, enum.Enum):
            try:
                value = plain(value)
            except ValueError:
                raise _Misfit(expected) from None
        elif plain is float and type(value) is int:
            value = float(value)
        elif type(value) is not plain:
            raise _Misfit(expected)
        for bounds in marks:
            if isinstance(bounds, Within) and not _in(bounds, value):
                raise _Misfit(expected)
        return value


def _in(bounds: Within, value: Any) -> bool:
    return bool(value >= bounds.minimum and (bounds.maximum is None or value <= bounds.maximum))


def _known(key: str, keys: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    if near:
        return f'a key that is known here; did you mean "{near[0]}"?'
    return "one of " + ", ".join(keys)


def expectation(hint: Any) -> str:
    """Say what a value of this annotation looks like, in words for people."""
    hint = optional(hint)
    marks = marks_of(hint)
    plain = get_args(hint)[0] if marks else hint
    kind = next((mark for mark in marks if isinstance(mark, Kind)), None)
    bounds = next((mark for mark in marks if isinstance(mark, Within)), None)
    if kind is not None:
        words = kind.expected
    elif dataclasses.is_dataclass(plain):
        words = "a table"
    elif get_origin(plain) is tuple:
        words = f"a list, each {expectation(get_args(plain)[0])}"
    elif get_origin(plain) is Mapping:
        words = f"a table of names, each with {expectation(get_args(plain)[1])}"
    elif get_origin(plain) is Literal:
        words = " or ".join(f'"{word}"' for word in get_args(plain))
    elif issubclass(plain, enum.Enum):
        words = " or ".join(f'"{each.value}"' for each in plain)
    else:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}[plain]
    if bounds is None:
        return words
    show = kind.text if kind is not None else lambda number: f"{number:,}"
    if bounds.maximum is None:
        return f"{words}, {show(bounds.minimum)} or more"
    return f"{words}, {show(bounds.minimum)} to {show(bounds.maximum)}"

"""Lookup tables of Postfix: the text that ``hash:``, ``lmdb:`` and their like were made from, and aliases(5).

An indexed table is read in its text beside the database, as it was before postmap(1) made it. Keys are in lower case;
of two lines with the same key the first counts. What cannot be listed (``regexp:``, ``pcre:``, ``ldap:``, ``mysql:``,
``proxy:`` of these) is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mta.cli.postfix.lines import BLANKS, Place, logical_lines
from mta.settings.alias_file import alias_lines

INDEXED = ("hash", "btree", "dbm", "cdb", "lmdb", "sdbm", "texthash")
"""Kinds of table with a text to read."""

ReadFile = Callable[[str], str]
"""Reads a file as text. Raises OSError."""


class CannotRead(Exception):
    """A table is not read; the text says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a table."""

    key: str
    value: str
    place: Place


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its entries, each key once, in the order of the file; and lines that are none."""

    name: str
    entries: tuple[Entry, ...]
    wrong: tuple[Place, ...] = ()

    def lookup(self, key: str) -> str | None:
        """What postmap -q says."""
        folded = key.lower()
        return next((entry.value for entry in self.entries if entry.key == folded), None)


def read_table(name: str, read: ReadFile) -> Table:
    """Read ``type:name``. Raises CannotRead."""
    kind, colon, path = name.removeprefix("proxy:").partition(":")
    if not colon:
        kind, path = "hash", name
    if kind == "inline":
        return _inline(name, path)
    if kind not in INDEXED:
        raise CannotRead(f"a table of the kind {kind}: is not a list that can be read")
    try:
        text = read(path)
    except OSError as error:
        raise CannotRead(f"{path}: {error.strerror or error}") from None
    return entries_of(name, text, path)


def entries_of(name: str, text: str, path: str) -> Table:
    """Read the text of an indexed table."""
    entries: dict[str, Entry] = {}
    wrong = []
    for line in logical_lines(text, path):
        end = _key_end(line.text)
        if end is None or not (value := line.text[end:].strip(BLANKS)):
            wrong.append(line.place)
            continue
        key = line.text[:end].lower()
        entries.setdefault(key, Entry(key, value, line.place))
    return Table(name, tuple(entries.values()), tuple(wrong))


def _key_end(text: str) -> int | None:
    """Where the key ends: at a blank that stands in no quotes; None where they do not end."""
    quoted = False
    at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == '"':
            quoted = not quoted
        elif text[at] in BLANKS and not quoted:
            return at
        at += 1
    return None


def _inline(name: str, text: str) -> Table:
    """Read ``inline:{ key=value, { key = text with blanks } }`` (DATABASE_README)."""
    body = text.strip().removeprefix("{").removesuffix("}")
    entries: dict[str, Entry] = {}
    for found in re.finditer(r"\{([^{}]*)\}|([^\s,{}]+)", body):
        key, equals, value = (found[1] if found[1] is not None else found[2]).partition("=")
        if equals:
            folded = key.strip().lower()
            entries.setdefault(folded, Entry(folded, value.strip(), Place(name, 0)))
    return Table(name, tuple(entries.values()))


def read_aliases(name: str, read: ReadFile) -> tuple[str, str]:
    """The path and the text of a file of aliases(5). Raises CannotRead."""
    kind, colon, path = name.partition(":")
    if colon and kind not in INDEXED:
        raise CannotRead(f"aliases of the kind {kind}: are not a file that can be read")
    path = path if colon else name
    try:
        return path, read(path)
    except OSError as error:
        raise CannotRead(f"{path}: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class Alias:
    """One line of a file of aliases."""

    name: str
    targets: tuple[str, ...]
    place: Place


def aliases_of(text: str, path: str) -> list[Alias]:
    """Read the text of a file of aliases; of two lines with the same name the first counts."""
    found: dict[str, Alias] = {}
    for line in alias_lines(text):
        if line.name is not None:
            name = line.name.strip('"').lower()
            targets = tuple(target for target in line.targets if target)
            found.setdefault(name, Alias(name, targets, Place(path, line.number)))
    return list(found.values())

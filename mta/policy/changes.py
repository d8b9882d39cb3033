"""Changes of a message, applied: fields added, replaced and removed, another body (pure).

Fields are added and changed as a milter would (libmilter's smfi_insheader, smfi_chgheader): positions and occurrences
count in the head as it stands when the change comes. A value is folded already where it must be; line ends inside it
become CRLF, and one that would end the head, or begin another field, becomes a fold: no value can leave its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mta.message.header import Field, fields
from mta.policy.facts import in_pieces
from mta.policy.verdict import AddHeader, ChangeHeader

_LINE_END = re.compile(r"\r\n|\r|\n")
_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,200}")


@dataclass(frozen=True, slots=True)
class MemoryBody:
    """A body in memory (`mta.policy.facts.Body`)."""

    octets: bytes

    @property
    def size(self) -> int:
        """Octets in all."""
        return len(self.octets)

    def pieces(self) -> Iterator[bytes]:
        """Give the octets in pieces."""
        return in_pieces(self.octets)


def is_field_name(name: str) -> bool:
    """Whether `name` may stand in front of a colon (RFC 5322 §2.2)."""
    return _NAME.fullmatch(name) is not None


def field_octets(name: str, value: str) -> bytes:
    """Make one field with its CRLF. Raises ValueError for a name that is none."""
    if not is_field_name(name):
        raise ValueError(f"{name!r} is no field name")
    first, *rest = _LINE_END.split(value.replace("\0", ""))
    # a fold keeps its own white space: a signer has signed it
    folds = [line if line[0] in " \t" else "\t" + line for line in rest if line.strip()]
    folded = "\r\n".join([first, *folds])
    return f"{name}: {folded}\r\n".encode("utf-8", "surrogateescape")


def changed_head(head: bytes, changes: Iterable[AddHeader | ChangeHeader]) -> bytes:
    """Return `head` with `changes` made one after the other."""
    raw = list(fields(head))
    for change in changes:
        if isinstance(change, AddHeader):
            at = len(raw) if change.position < 0 else min(change.position, len(raw))
            raw.insert(at, Field(change.name.lower().encode(), field_octets(change.name, change.value)))
        else:
            _change(raw, change)
    return b"".join(each.raw for each in raw)


def _change(raw: list[Field], change: ChangeHeader) -> None:
    name = change.name.lower().encode()
    places = [number for number, each in enumerate(raw) if each.name == name]
    if len(places) < change.occurrence:
        if change.value:
            raw.append(Field(name, field_octets(change.name, change.value)))
        return
    place = places[change.occurrence - 1]
    if change.value:
        raw[place] = Field(name, field_octets(change.name, change.value))
    else:
        del raw[place]

"""Facts as JSON, and back: for scripts and hooks that run elsewhere, and for files of recorded facts.

The names are those of `mta.policy.facts.Facts`, and so below it: ``authentication.dkim[0].domain``. What is text,
number or truth stays it; the rest has these forms:

==========================  ===========================================================================================
value                       JSON
==========================  ===========================================================================================
an enum                     its word: ``"mail"``, ``"softfail"``
a mailbox                   ``"local-part@domain"``, quoted where it must be; ``null`` (or ``"<>"``) for the null path
several, and tags           a list; tags in alphabetical order
a result, TLS, a reason     an object
nothing                     ``null``
``head``                    ``head_base64``, or ``head``: a list of lines without their CRLF
``body``                    ``body_base64``, or ``body``; and ``body_size``, the octets in all, since only the first
                            of them are there
==========================  ===========================================================================================

A program is sent base64 alone, so that no octet a stranger sends changes the form of what it reads; a file has lines
wherever they say the same. A file may leave out whatever has a default, and reasons.

Bounds: the head is whole (`mta.message.header.HEAD_MAXIMUM`: longer ones are refused before anybody is asked), the body
is cut where the caller says. The rest was bounded when it was read from the peer.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import difflib
import enum
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from mta.mail.reason import Reason
from mta.message.header import HEAD_MAXIMUM
from mta.policy.facts import Body, Facts, in_pieces
from mta.settings.problem import quoted
from mta.smtp.address import POSTMASTER, Mailbox, parse_mailbox

T = TypeVar("T")

_OCTETS = ("head", "body")
_NULL_PATH = "<>"
_GIVEN = Reason("as given")


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedBody:
    """A body of which perhaps only the beginning is there (`mta.policy.facts.Body`)."""

    octets: bytes
    size: int
    """Octets in all."""

    def pieces(self) -> Iterator[bytes]:
        """Give what is there."""
        return in_pieces(self.octets)


# Writing


def write(facts: Facts, body_maximum: int, *, lines: bool = False) -> dict[str, object]:
    """Make what `json.dumps` takes. `lines`: for a file that people read.

    The first `body_maximum` octets of the body are read, which may block on the disk.
    """
    out: dict[str, object] = {}
    for each in dataclasses.fields(facts):
        if each.name not in _OCTETS:
            out[each.name] = _written(getattr(facts, each.name))
    _write_octets(out, "head", facts.head[:HEAD_MAXIMUM], lines)
    if facts.body is not None:
        _write_octets(out, "body", beginning(facts.body, body_maximum), lines)
        out["body_size"] = facts.body.size
    return out


def beginning(body: Body, maximum: int) -> bytes:
    """Read the first octets of a body."""
    out = bytearray()
    for piece in body.pieces():
        out += piece
        if len(out) >= maximum:
            break
    return bytes(out[:maximum])


def _written(value: Any) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mailbox):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if dataclasses.is_dataclass(value):
        return {each.name: _written(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value


def _write_octets(out: dict[str, object], name: str, octets: bytes, lines: bool) -> None:
    split = _lines(octets) if lines else None
    if split is not None:
        out[name] = split
    else:
        out[f"{name}_base64"] = base64.b64encode(octets).decode()


def _lines(octets: bytes) -> list[str] | None:
    """The lines of a text; None where they would not say the same."""
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        return None
    *split, rest = text.split("\r\n")
    return None if rest or any("\r" in line or "\n" in line for line in split) else split


# Reading


def read(value: object) -> Facts:
    """Make facts of what `json.loads` gave. Raises ValueError, which says what is wrong and where."""
    if not isinstance(value, Mapping):
        raise _wrong("", "an object", value)
    given = dict(value)
    octets = {name: _read_octets(given, name) for name in _OCTETS}
    size = given.pop("body_size", None)
    facts = _object(Facts, given, "", extra=("head_base64", "body_base64", "body_size"))
    body = octets["body"]
    if body is None:
        return dataclasses.replace(facts, head=octets["head"] or b"")
    if size is not None and (type(size) is not int or size < len(body)):
        raise _wrong("body_size", f"a whole number, {len(body)} or more", size)
    return dataclasses.replace(facts, head=octets["head"] or b"", body=RecordedBody(body, size or len(body)))


def _read_octets(given: dict[str, object], name: str) -> bytes | None:
    encoded, lines = given.pop(f"{name}_base64", None), given.pop(name, None)
    if encoded is not None:
        try:
            return base64.b64decode(encoded, validate=True)  # type: ignore[arg-type]  # TypeError where it is no text
        except (TypeError, ValueError, binascii.Error):
            raise _wrong(f"{name}_base64", "base64", encoded) from None
    if lines is None:
        return None
    if not isinstance(lines, list):
        raise _wrong(name, "a list of lines", lines)
    for number, line in enumerate(lines):
        if not isinstance(line, str) or "\r" in line or "\n" in line:
            raise _wrong(f"{name}[{number}]", "a line of text without its line end", line)
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace")


def _object(cls: type[T], given: Mapping[Any, object], where: str, extra: Sequence[str] = ()) -> T:
    """Read an object into a dataclass."""
    hints = get_type_hints(cls)
    for key in given:
        if key not in hints:
            near = difflib.get_close_matches(str(key), [*hints, *extra], n=1)
            expected = f'a name that is known here; did you mean "{near[0]}"?' if near else f"one of {', '.join(hints)}"
            raise _wrong(_below(where, str(key)), expected, str(key))
    values: dict[str, object] = {}
    for each in dataclasses.fields(cls):  # type: ignore[arg-type]  # all of them are dataclasses
        if each.name in given:
            values[each.name] = _read(hints[each.name], given[each.name], _below(where, each.name))
        elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            values[each.name] = _missing(hints[each.name], _below(where, each.name))
    return cls(**values)


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _missing(hint: Any, where: str) -> object:
    if hint is Reason:
        return _GIVEN
    if hint is str:
        return ""
    raise _wrong(where, _expected(hint), None)


def _read(hint: Any, value: object, where: str) -> object:
    if get_origin(hint) in (Union, types.UnionType):
        if value is None or (Mailbox in get_args(hint) and value == _NULL_PATH):
            return None
        hint = next(each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) in (tuple, frozenset):
        if not isinstance(value, list):
            raise _wrong(where, "a list", value)
        inner = get_args(hint)[0]
        made: Any = get_origin(hint)
        return made(_read(inner, each, f"{where}[{number}]") for number, each in enumerate(value))
    if dataclasses.is_dataclass(hint) and hint is not Mailbox:
        if not isinstance(value, Mapping):
            raise _wrong(where, "an object", value)
        return _object(hint, value, where)  # type: ignore[arg-type]  # a class, not an instance
    return _plain(hint, value, where)


def _plain(hint: Any, value: object, where: str) -> object:
    if issubclass(hint, enum.Enum):
        found = next((each for each in hint if each.value == value), None)
    elif hint is Mailbox:
        found = _mailbox(value)
    else:
        found = value if type(value) is hint else None
    if found is None:
        raise _wrong(where, _expected(hint), value)
    return found


def _mailbox(value: object) -> Mailbox | None:
    if not isinstance(value, str):
        return None
    if value.lower() == POSTMASTER.local_part:
        return Mailbox(value, "")
    found = parse_mailbox(value)
    return found if isinstance(found, Mailbox) else None


def _expected(hint: Any) -> str:
    if issubclass(hint, enum.Enum):
        return " or ".join(f'"{each.value}"' for each in hint)
    return {Mailbox: "a mailbox", bool: "true or false", int: "a whole number", str: "text"}[hint]


def _wrong(where: str, expected: str, found: object) -> ValueError:
    place = f"{where}: " if where else ""
    return ValueError(f"{place}expected {expected}, found {'nothing' if found is None else quoted(found)}")

r"""The log: one event, one line, as ``key=value`` or as JSON.

::

    2025-11-22T20:15:00.123Z message.accepted queue=0abcdefgh00jkmnpqr session=1-2f sender=alice@example.org
        recipients=1 size=4096 place=maildir reason="one mailbox of ours" source=etc/domains/example.org/users:3

(in truth on one line). Time and kind come first, then the level unless it is info, queue id, session, the fields as
the event has them, reason and source. A value of plain characters stands as it is; any other is quoted, with ``\"``,
``\\``, ``\n``, ``\r``, ``\t``, and ``\u{…}`` for whatever else is not printable, so that no text from outside ends a
line, moves a cursor or turns the direction of writing. A value of more than `VALUE_MAXIMUM` characters is cut and ends
in ``…``; a traceback, which is ours, is cut later.

Lines are gathered and written in one piece: at the end of the reactor's turn, or when `LINES_MAXIMUM` wait. A stream
that fails loses its lines, not the mail: they are counted in `Log.lost`.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from mta.observe.event import Event, Level, Value

VALUE_MAXIMUM = 1000
"""Characters of a value: twice a reply line (RFC 5321 §4.5.3.1.5)."""
TRACEBACK_MAXIMUM = 20_000
"""Characters of a traceback."""
LINES_MAXIMUM = 200
"""Lines that wait for one write."""

Later = Callable[[Callable[[], None]], object]
"""Calls a function at the end of this turn of the reactor."""
Render = Callable[[Event], str]
"""Makes the line of an event, without a line end."""

_PLAIN = re.compile(rf"[!#-<>-\[\]-~]{{1,{VALUE_MAXIMUM}}}")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Stream(Protocol):
    """Where lines go; a buffered binary file, which writes all it is given."""

    def write(self, octets: bytes, /) -> object:
        """Write all of `octets`."""
        ...

    def flush(self) -> object:
        """Leave nothing in a buffer."""
        ...


class Log:
    """A sink of the journal that prints events of `level` and graver."""

    def __init__(self, stream: Stream, later: Later, render: Render, level: Level = Level.INFO) -> None:
        self._stream = stream
        self._later = later
        self._render = render
        self._level = level
        self._lines: list[str] = []
        self.lost = 0
        """Lines that could not be written."""

    def __call__(self, event: Event) -> None:
        """Print an event, soon."""
        if event.level > self._level:
            return
        lines = self._lines
        lines.append(self._render(event))
        if len(lines) == 1:
            self._later(self.flush)
        elif len(lines) >= LINES_MAXIMUM:
            self.flush()

    def flush(self) -> None:
        """Write what waits; never raises."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        octets = "\n".join(lines).encode("utf-8", "backslashreplace") + b"\n"
        try:
            self._stream.write(octets)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed
            self.lost += len(lines)


def key_value(event: Event) -> str:
    """Render an event as ``key=value`` (logfmt)."""
    head = f"{_time(event.time)} {event.kind.value}"
    if event.level is not Level.INFO:
        head += f" level={event.level.name.lower()}"
    if event.queue_id:
        head += f" queue={event.queue_id}"
    if event.session:
        head += f" session={event.session}"
    for key, value in event.fields.items():
        # most values are plain words: no call for these
        plain = isinstance(value, str) and _PLAIN.fullmatch(value)
        head += f" {key}={value if plain else _value(value, key)}"
    if event.reason is not None:
        head += f" reason={_text(event.reason.text)}"
        if event.reason.source:
            head += f" source={_text(event.reason.source)}"
    return head


def json_line(event: Event) -> str:
    """Render an event as one JSON object, the keys as in `key_value`; beyond ASCII everything is escaped."""
    line: dict[str, Value] = {
        "time": _time(event.time),
        "kind": event.kind.value,
        "level": event.level.name.lower(),
    }
    if event.queue_id:
        line["queue"] = event.queue_id
    if event.session:
        line["session"] = event.session
    line |= bounded(event.fields)
    if event.reason is not None:
        line["reason"] = cut(event.reason.text)
        if event.reason.source:
            line["source"] = cut(event.reason.source)
    return json.dumps(line)


def with_priority(render: Render) -> Render:
    """Put the priority in front of each line, as systemd's journal reads it (sd-daemon(3)): ``<6>`` for info."""
    return lambda event: f"<{event.level.value}>{render(event)}"


def bounded(fields: Mapping[str, Value]) -> dict[str, Value]:
    """Return the fields of an event with long values cut."""
    return {key: cut(value, _maximum(key)) if isinstance(value, str) else value for key, value in fields.items()}


def cut(text: str, maximum: int = VALUE_MAXIMUM) -> str:
    """Return `text`, or its beginning and ``…`` where it is longer than `maximum` characters."""
    return text if len(text) <= maximum else text[: maximum - 1] + "…"


def harmless(text: str) -> str:
    """Return text from outside as a terminal may have it: what is not printable stands as the log writes it."""
    return text if text.isprintable() else "".join(map(_character, text))


def _time(wall: float) -> str:
    second, milliseconds = divmod(int(wall * 1000), 1000)
    return f"{_second(second)}.{milliseconds:03}Z"


@functools.lru_cache(maxsize=16)
def _second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def _maximum(key: str) -> int:
    return TRACEBACK_MAXIMUM if key == "traceback" else VALUE_MAXIMUM


def _value(value: Value, key: str) -> str:
    if isinstance(value, str):
        return _text(value, _maximum(key))
    if isinstance(value, float):
        return f"{value:.3f}"
    if value is None:
        return "-"
    return str(value).lower()


def _text(text: str, maximum: int = VALUE_MAXIMUM) -> str:
    if _PLAIN.fullmatch(text):
        return text
    text = cut(text, maximum)
    if not text.isprintable() or '"' in text or "\\" in text:
        text = "".join(map(_character, text))
    return f'"{text}"'


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"

"""Tests of `mta.observe.log`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.reason import Reason
from mta.observe.event import Event, Kind, Level, Value
from mta.observe.log import LINES_MAXIMUM, Log, json_line, key_value

WALL = 1763842500.1239


class Stream:
    """A stream that keeps each write, or fails."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.flushed = 0
        self.error: Exception | None = None

    def write(self, octets: bytes, /) -> object:
        """Keep the octets, or raise `error`."""
        if self.error:
            raise self.error
        self.writes.append(octets)
        return len(octets)

    def flush(self) -> object:
        """Remember how many writes were flushed."""
        self.flushed = len(self.writes)
        return None


def event(reason: Reason | None = None, level: Level = Level.INFO, **fields: Value) -> Event:
    """An event of a message."""
    return Event(WALL, Kind.MESSAGE_ACCEPTED, level, "1-2f", "0abc", reason, fields)


def test_an_event_is_one_line_of_keys_and_values() -> None:
    """Time and kind come first, then ids, fields in their order, reason and source; plain values are not quoted."""
    line = key_value(
        event(
            Reason("one mailbox of ours", "etc/domains/x/users:3"),
            sender="alice@example.org",
            size=4096,
            seconds=0.12345,
            tls=True,
            login=None,
            helo="",
        )
    )
    assert line == (
        "2025-11-22T20:15:00.123Z message.accepted queue=0abc session=1-2f sender=alice@example.org size=4096 "
        'seconds=0.123 tls=true login=- helo="" reason="one mailbox of ours" source=etc/domains/x/users:3'
    )


def test_what_an_event_lacks_is_left_out() -> None:
    """Without ids, reason or source there is no empty key; a level other than info is named."""
    assert key_value(Event(WALL, Kind.SERVICE_STOPPED)) == "2025-11-22T20:15:00.123Z service.stopped"
    warning = Event(WALL, Kind.DISK_LOW, Level.WARNING, reason=Reason("full"))
    assert key_value(warning) == "2025-11-22T20:15:00.123Z disk.low level=warning reason=full"
    assert json.loads(json_line(Event(WALL, Kind.SERVICE_STOPPED, reason=Reason("asked")))) == {
        "time": "2025-11-22T20:15:00.123Z",
        "kind": "service.stopped",
        "level": "info",
        "reason": "asked",
    }
    assert "reason" not in json.loads(json_line(Event(WALL, Kind.SERVICE_STOPPED)))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("a\r\nb\tc", '"a\\r\\nb\\tc"'),
        ("\x1b[31m", '"\\u{1b}[31m"'),
        ("a\u202eb", '"a\\u{202e}b"'),
        ("\x00\x85\u2028\udcff", '"\\u{0}\\u{85}\\u{2028}\\u{dcff}"'),
        ("bücher", '"bücher"'),
        ("x" * 1000, "x" * 1000),
        ("x" * 100_000, '"' + "x" * 999 + '…"'),
    ],
)
def test_text_from_outside_is_quoted_escaped_and_cut(text: str, shown: str) -> None:
    """CR, LF, ESC, U+202E and the like are escaped, 100 KB are cut, in fields and in the reason (row 81)."""
    assert key_value(event(reply=text)).endswith(f" reply={shown}")
    assert key_value(event(Reason(text))).endswith(f" reason={shown}")


def test_a_traceback_is_one_field_and_cut_later() -> None:
    """A traceback stands in one line, and up to 20,000 characters of it."""
    line = key_value(event(traceback="Traceback:\n  File\n" + "x" * 30_000))
    assert ' traceback="Traceback:\\n  File\\nxxx' in line
    assert 20_000 < len(line) < 20_200


@given(st.text() | st.text('\r\n\x1b\u202e\u2028\x85 "\\=a'), st.sampled_from([key_value, json_line]))
def test_one_event_is_one_line(text: str, render: Callable[[Event], str]) -> None:
    """Whatever the text, the line is one for every reader's idea of a line, printable, and can be encoded."""
    line = render(event(Reason(text, text), reply=text))
    assert line.isprintable()
    assert line.splitlines() == [line]
    assert line.encode()


def test_json_has_the_same_keys() -> None:
    """As JSON, one object a line, the fields with their types; what is not ASCII is escaped, long text cut."""
    line = json_line(event(Reason("why", "where"), sender="bü\r\n\u202e", size=4096, tls=False, reply="x" * 2000))
    assert line.isascii()
    assert json.loads(line) == {
        "time": "2025-11-22T20:15:00.123Z",
        "kind": "message.accepted",
        "level": "info",
        "queue": "0abc",
        "session": "1-2f",
        "sender": "bü\r\n\u202e",
        "size": 4096,
        "tls": False,
        "reply": "x" * 999 + "…",
        "reason": "why",
        "source": "where",
    }


def test_lines_of_one_turn_are_one_write() -> None:
    """Events of a turn are written together at its end, in order; the next turn asks again."""
    stream, turn = Stream(), list[Callable[[], None]]()
    log = Log(stream, turn.append, lambda event: str(event.fields["n"]))
    for n in range(3):
        log(event(n=n))
    assert stream.writes == []
    assert len(turn) == 1
    turn.pop()()
    log(event(n=3))
    turn.pop()()
    assert stream.writes == [b"0\n1\n2\n", b"3\n"]
    assert stream.flushed == 2


def test_many_lines_do_not_wait_for_the_end_of_the_turn() -> None:
    """As soon as the maximum waits it is written; the flush at the end of the turn then has nothing to do."""
    stream, turn = Stream(), list[Callable[[], None]]()
    log = Log(stream, turn.append, key_value)
    for _ in range(LINES_MAXIMUM):
        log(event())
    assert [octets.count(b"\n") for octets in stream.writes] == [LINES_MAXIMUM]
    turn.pop()()
    assert len(stream.writes) == 1


def test_events_below_the_level_are_not_printed() -> None:
    """Only events of the level and graver are rendered."""
    stream, turn = Stream(), list[Callable[[], None]]()
    log = Log(stream, turn.append, lambda event: event.level.name, Level.NOTICE)
    for level in Level:
        log(event(level=level))
    log.flush()
    assert stream.writes == [b"ALERT\nERROR\nWARNING\nNOTICE\n"]


@pytest.mark.parametrize("error", [OSError("no space"), ValueError("closed file")])
def test_a_stream_that_fails_loses_its_lines_alone(error: Exception) -> None:
    """Lines that cannot be written are counted; later ones are written again."""
    stream = Stream()
    log = Log(stream, lambda flush: None, lambda event: "x")
    stream.error = error
    log(event())
    log(event())
    log.flush()
    stream.error = None
    log(event())
    log.flush()
    assert stream.writes == [b"x\n"]
    assert log.lost == 2

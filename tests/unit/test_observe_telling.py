"""Tests of `mta.observe.telling`."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from typing import Any

import pytest

from mta.mail.reason import Reason
from mta.observe import telling
from mta.observe.event import Event, Kind, Level
from mta.observe.telling import Mood, duration, octets, tell, tell_beginning

WALL = 1763842500.1234
"""2025-11-22 20:15:00.123 in UTC."""
WHY = Reason("the reason", "etc/mta.toml:3")


def event(kind: Kind, reason: Reason | None = None, level: Level = Level.INFO, **fields: Any) -> Event:
    """Make an event at `WALL`."""
    return Event(WALL, kind, level, reason=reason, fields=fields)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.value)
def test_every_kind_has_words_of_its_own(kind: Kind) -> None:
    """No kind is left to the words for what nobody thought of; and fields that are missing do not break them."""
    assert kind in telling._WORDS
    assert tell(event(kind), UTC).text
    assert tell(event(kind, WHY), UTC).source == "etc/mta.toml:3"


TOLD = [
    (
        event(
            Kind.MESSAGE_ACCEPTED,
            Reason("queued for example.net", ""),
            batch=37,
            place="spool",
            sender="",
            recipients="team@example.org",
            expanded="alice@example.org bob@example.net",
            aliases="etc/domains/example.org/aliases:3",
            allowed="anybody may",
        ),
        "accepted <> > team@example.org, synced 20:15:00.123, batch of 37: queued for example.net",
        (
            "team@example.org leads to alice@example.org, bob@example.net (by etc/domains/example.org/aliases:3)",
            "allowed: anybody may",
        ),
    ),
    (
        event(Kind.MESSAGE_ACCEPTED, WHY, sender="a@x", recipients="b@y c@y d@y e@y", batch=1, path="/m/new/1.q.mta"),
        "accepted a@x > b@y, c@y, d@y and 1 more, synced 20:15:00.123, alone: the reason",
        ("file: /m/new/1.q.mta",),
    ),
    (
        event(Kind.RECIPIENT_DEFERRED, WHY, recipient="bob@example.net", attempts=2, next=600),
        "not delivered yet to bob@example.net, next attempt 20:25:00 (10 min later): the reason",
        ("after 2 attempts; each wait is about twice the last, up to [queue] longest_retry",),
    ),
    (
        event(Kind.RECIPIENT_DEFERRED, WHY, recipient="bob@example.net", attempts=0, next=14400, report="0abc"),
        "not delivered yet to bob@example.net, next attempt Sun 23 Nov 00:15:00 (4 h later): the reason",
        (
            "not counted as an attempt, since the cause is ours",
            "the sender is told of the delay by report 0abc",
        ),
    ),
    (
        event(Kind.RECIPIENT_DELIVERED, WHY, recipient="bob@example.net", delay=0.25),
        "delivered to bob@example.net, 250 ms after it was accepted: the reason",
        (),
    ),
    (
        event(Kind.RECIPIENT_FAILED, WHY, recipient="bob@example.net", status="5.1.1", report="0abc"),
        "failed for bob@example.net (5.1.1): the reason",
        ("the sender is told by report 0abc",),
    ),
    (
        event(Kind.RECIPIENT_FAILED, WHY, recipient="bob@example.net", report="mail from <> gets no report"),
        "failed for bob@example.net: the reason",
        ("the sender is not told: mail from <> gets no report",),
    ),
    (
        event(Kind.RECIPIENT_REFUSED, WHY, sender="", recipient="bob@example.net", reply="550 5.1.1 No"),
        "recipient bob@example.net, from <>, refused: the reason",
        ("reply: 550 5.1.1 No",),
    ),
    (
        event(Kind.MESSAGE_CHECKED, WHY, disposition="accept", spf="pass example.net", dkim="none"),
        "checked whose mail it is, result accept: the reason",
        ("spf: pass example.net", "dkim: none"),
    ),
    (
        event(Kind.POLICY_SAID, WHY, policy="spam", stage="headers", verdict="Tag", what="junk"),
        "policy spam at headers says Tag junk: the reason",
        (),
    ),
    (
        event(Kind.MESSAGE_RELEASED, Reason("released by root", "mta queue release"), recipients=2, operator="root"),
        "released by root (2 recipients)",
        (),
    ),
    (
        event(Kind.MESSAGE_HELD, Reason("held by root", "mta queue hold"), recipients=1, operator="root"),
        "held by root (1 recipient)",
        (),
    ),
    (
        event(Kind.MESSAGE_HELD, WHY, recipient="bob@x"),
        "held for bob@x until it is released: the reason",
        (),
    ),
    (
        event(Kind.ATTEMPT_WAITS, Reason("limit of 10 connections to example.net, 3 ahead")),
        "waiting: limit of 10 connections to example.net, 3 ahead",
        (),
    ),
    (
        event(Kind.SESSION_CLOSED, WHY, address="192.0.2.1", seconds=1.25, accepted=1, refused=2),
        "end of the session with 192.0.2.1 after 1.2 s: 1 message taken, 2 refusals: the reason",
        (),
    ),
    (
        event(Kind.FAULT, WHY, where="commit", traceback="Traceback:\n  in f\n    x()\nKeyError: 1\n"),
        "a bug of ours in commit: the reason",
        ("Traceback:", "  in f", "    x()", "KeyError: 1"),
    ),
    (
        event(Kind.REPORT_QUEUED, Reason("about a failure", "0abc"), recipient="alice@example.org", about="0abc"),
        "report to alice@example.org about a failure, message 0abc",
        (),
    ),
]


@pytest.mark.parametrize(("told", "text", "below"), TOLD, ids=lambda value: getattr(value, "kind", None) and "event")
def test_words(told: Event, text: str, below: tuple[str, ...]) -> None:
    """What the events of a message say, in the words that people read."""
    words = tell(told, UTC)
    assert (words.text, words.below) == (text, below)


def test_times_are_of_the_readers_zone() -> None:
    """A time in the words is of the zone that is given."""
    accepted = event(Kind.MESSAGE_ACCEPTED, batch=1)
    assert tell(accepted, timezone(timedelta(hours=-5))).text == "accepted <> > nobody, synced 15:15:00.123, alone"


def test_nothing_from_outside_reaches_a_terminal_as_it_came() -> None:
    """Control characters, also of a source, and marks that turn the direction of writing, are spelled out."""
    words = tell(
        event(Kind.RECIPIENT_FAILED, Reason("x\x1b[2J", "mx said: \x07"), recipient="\u202eb@x", report="a\nb"), UTC
    )
    assert words.text == "failed for \\u{202e}b@x: x\\u{1b}[2J"
    assert words.source == "mx said: \\u{7}"
    assert words.below == ("the sender is not told: a\\nb",)


def test_a_kind_without_words_is_told_by_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody forgot words for still says all it knows."""
    monkeypatch.setattr(telling, "_WORDS", {})
    assert tell(event(Kind.DISK_LOW, WHY, path="/x", octets=3)).text == "disk.low path /x, octets 3: the reason"


def test_moods() -> None:
    """What went well, what takes longer and what went wrong are told apart; a warning is never well."""
    assert tell(event(Kind.RECIPIENT_DELIVERED)).mood is Mood.GOOD
    assert tell(event(Kind.RECIPIENT_DEFERRED)).mood is Mood.SLOW
    assert tell(event(Kind.RECIPIENT_REFUSED)).mood is Mood.BAD
    assert tell(event(Kind.SERVICE_STARTED)).mood is Mood.PLAIN
    assert tell(event(Kind.SERVICE_STOPPED, level=Level.WARNING)).mood is Mood.BAD


def test_the_beginning_of_a_session_is_told_from_its_end_or_from_a_message() -> None:
    """When it began, from where, by what name and how protected; without an end, the login stands there too."""
    who = {"service": "smtpd", "address": "192.0.2.1", "helo": "laptop", "tls": "TLSv1.3 AES", "login": "a@x"}
    began = tell_beginning(event(Kind.SESSION_CLOSED, port=5025, seconds=2.5, **who), UTC)
    assert began is not None
    assert began[0] == WALL - 2.5
    assert began[1].text == "connection to smtpd from 192.0.2.1 port 5025, which calls itself laptop, TLSv1.3 AES"
    still_open = tell_beginning(event(Kind.MESSAGE_ACCEPTED, **who), UTC)
    assert still_open is not None
    assert still_open[1].text.endswith(", logged in as a@x")
    assert tell_beginning(event(Kind.MESSAGE_ACCEPTED, **who | {"tls": None}), UTC)[1].text.endswith(  # type: ignore[index]
        ", in clear text, logged in as a@x"
    )
    assert tell_beginning(event(Kind.ATTEMPT_WAITS), UTC) is None
    local = event(Kind.SESSION_CLOSED, **who | {"login": "unix:www-data"})
    assert tell(local).text.startswith("end of the session with www-data after ")
    handed_in = tell_beginning(event(Kind.SESSION_CLOSED, **who | {"login": "unix:www-data"}), UTC)
    assert handed_in is not None
    assert handed_in[1].text == "handed in by www-data, a user of this machine"


def test_durations_and_sizes() -> None:
    """Spans and sizes are said with the precision that matters."""
    spans = {0: "0 ms", 0.25: "250 ms", 0.9999: "1 s", 3.44: "3.4 s", 60: "1 min", 86.4: "1 min 26 s"}
    spans |= {3599: "1 h", 9000: "2 h 30 min"}
    assert [duration(seconds) for seconds in spans] == list(spans.values())
    assert duration(-1) == "0 ms"
    assert duration(3 * 86400) == "3 days"
    assert [octets(n) for n in (0, 1023, 4200, 20 << 20, 3 << 40)] == [
        "0 octets",
        "1023 octets",
        "4.1 KiB",
        "20 MiB",
        "3.0 TiB",
    ]

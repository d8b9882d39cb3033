"""The milter protocol without I/O, from our side."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy.milter.option import Step
from mta.policy.milter.packet import Fault, Packet
from mta.policy.milter.reply import AddField, Decision, Quarantine, ReplaceBody, ReplyCode
from mta.policy.milter.session import (
    CHUNK,
    CONTINUE,
    FIELD_MAXIMUM,
    NEED_DATA,
    PROGRESS,
    Bounds,
    Event,
    MilterSession,
    Reply,
)
from tests.doubles import milter
from tests.doubles.milter import options, says

ADD = says(b"h", b"X-A", b"v")


def packets(octets: bytes) -> list[tuple[bytes, bytes]]:
    """Take octets apart."""
    found = []
    while octets:
        end = 4 + int.from_bytes(octets[:4], "big")
        found.append((octets[4:5], octets[5:end]))
        octets = octets[end:]
    return found


def hear(session: MilterSession, *octets: bytes) -> list[Event]:
    """Hand octets in; return all events."""
    events: list[Event] = []
    for each in octets:
        session.receive(each)
        while (event := session.next_event()) is not NEED_DATA:
            events.append(event)
            if isinstance(event, Fault):
                return events
    return events


def negotiated(answer: bytes | None = None, bounds: Bounds | None = None) -> MilterSession:
    """A session that has agreed on something, all by default."""
    session = MilterSession(bounds=bounds)
    session.negotiate()
    assert packets(session.output())[0][0] == b"O"
    assert hear(session, options() if answer is None else answer) == [CONTINUE]
    return session


def at_end(answer: bytes | None = None, bounds: Bounds | None = None, partial: bool = False) -> MilterSession:
    """A session that has told a whole message, and waits."""
    session = negotiated(answer, bounds)
    for tell in (lambda: session.mail("<>"), lambda: session.rcpt("<a@b.test>"), lambda: session.body(b"x")):
        if tell():
            assert hear(session, milter.CONTINUE) == [CONTINUE]
    assert session.end(partial)
    session.output()
    return session


def fault(events: Sequence[Event]) -> str:
    """The text of the fault that is the only event."""
    [event] = events
    assert isinstance(event, Fault), event
    return event.text


def test_what_is_told() -> None:
    """Each command has its letter and the form that libmilter reads."""
    session = negotiated(options(flow=0xFF080))  # no step is answered
    session.macros(Step.CONNECT, {"j": "mx", "daemon_name": "mx.test"})
    session.connect("client.test", "192.0.2.1", 40000)
    session.connect("[2001:db8::1]", "2001:db8::1", 25)
    session.connect("somebody", "", 0)
    session.helo("client")
    session.mail("<a@b.test>", ["SIZE=10", "SMTPUTF8"])
    session.rcpt("<c@d.test>", ["NOTIFY=NEVER"])
    session.data()
    session.field(b"Subject", b" x\r\n y")
    session.end_of_head()
    session.body(b"a\0b\r\n")
    assert session.end()
    assert packets(session.output()) == [
        (b"D", b"Cj\0mx\0{daemon_name}\0mx.test\0"),
        (b"C", b"client.test\x004\x9c\x40192.0.2.1\0"),
        (b"C", b"[2001:db8::1]\x006\x00\x192001:db8::1\0"),
        (b"C", b"somebody\0U"),
        (b"H", b"client\0"),
        (b"M", b"<a@b.test>\0SIZE=10\0SMTPUTF8\0"),
        (b"R", b"<c@d.test>\0NOTIFY=NEVER\0"),
        (b"T", b""),
        (b"L", b"Subject\0x\n y\0"),
        (b"N", b""),
        (b"B", b"a\0b\r\n"),
        (b"E", b""),
    ]


def test_values_of_fields() -> None:
    """One space is left out where leading space was not agreed on, nothing where it was; a NUL becomes a space."""
    values = [b" x", b"  x", b"\tx", b"x", b"", b" a\0b", b"\r\n\tx"]
    told = {}
    for flow in (0x80, 0x100080):
        session = negotiated(options(flow=flow))
        assert session.mail("<>")
        hear(session, milter.CONTINUE)
        session.output()
        for value in values:
            assert not session.field(b"X", value)
        told[flow] = [data[2:-1] for _, data in packets(session.output())]
    assert told[0x80] == [b"x", b" x", b"\tx", b"x", b"", b"a b", b"\n\tx"]
    assert told[0x100080] == [b" x", b"  x", b"\tx", b"x", b"", b" a b", b"\n\tx"]


def test_a_long_field_is_cut() -> None:
    """Name and value fit into the 65,535 octets of data that libmilter reads, with both their NULs."""
    session = negotiated()
    assert session.mail("<>")
    hear(session, milter.CONTINUE)
    session.output()
    session.field(b"To", b" " + b"x" * 100_000)
    [(_, data)] = packets(session.output())
    assert len(data) == FIELD_MAXIMUM + 2 == 65535
    assert data.startswith(b"To\0xxx")
    assert data.endswith(b"x\0")


def test_a_step_is_not_sent_or_not_answered_as_agreed() -> None:
    """What a filter does not want is not sent; what it does not answer has no answer due; macros come all the same."""
    session = negotiated(options(flow=0x1 | 0x2000))
    session.macros(Step.CONNECT, {"j": "mx"})
    assert not session.connect("x", "192.0.2.1", 1)
    assert not session.helo("x")
    assert session.awaiting is None
    assert session.mail("<>")
    assert session.awaiting is Step.MAIL
    assert [command for command, _ in packets(session.output())] == [b"D", b"H", b"M"]


def test_only_the_macros_it_asked_for() -> None:
    """A list of macros replaces the usual ones of its stage; where none of them is known no packet is sent."""
    session = negotiated(options(lists=b"\0\0\0\x02{mail_addr}\0" + b"\0\0\0\x03{nothing}\0"))
    session.macros(Step.MAIL, {"i": "1", "mail_addr": "a@b.test"})
    session.macros(Step.RCPT, {"rcpt_addr": "a@b.test"})
    assert packets(session.output()) == [(b"D", b"M{mail_addr}\0a@b.test\0")]


@given(st.integers(1, 9))
def test_answers_are_read_at_every_split(size: int) -> None:
    """Changes, signs of life and the decision come out the same however the octets arrive."""
    octets = milter.PROGRESS + ADD + says(b"b", b"one") + milter.PROGRESS + says(b"b", b"two") + says(b"q", b"w")
    octets += milter.CONTINUE
    events = hear(at_end(), *(octets[start : start + size] for start in range(0, len(octets), size)))
    changes = (AddField("X-A", b"v"), ReplaceBody(b"one\0two\0"), Quarantine("w"))
    assert events == [PROGRESS, PROGRESS, Reply(Decision.CONTINUE, changes)]


@pytest.mark.parametrize("letter", "CHMRTLNBE")
def test_what_may_be_said_at_each_step(letter: str) -> None:
    """Decisions and reply codes have their places; "skip" is for the body, "discard" not for connect and helo."""
    commands = {
        "C": lambda s: s.connect("x", "192.0.2.1", 1),
        "H": lambda s: s.helo("x"),
        "M": lambda s: s.mail("<>"),
        "R": lambda s: s.rcpt("<a@b.test>"),
        "T": lambda s: s.data(),
        "L": lambda s: s.field(b"X", b"v"),
        "N": lambda s: s.end_of_head(),
        "B": lambda s: s.body(b"x"),
        "E": lambda s: s.end(),
    }
    good = {
        milter.CONTINUE: Decision.CONTINUE,
        milter.ACCEPT: Decision.ACCEPT,
        milter.REJECT: Decision.REJECT,
        milter.TEMPFAIL: Decision.TEMPFAIL,
        says(b"d"): Decision.DISCARD,
        says(b"s"): Decision.SKIP,
        says(b"4"): Decision.SHUTDOWN,
        says(b"f"): Decision.CONNECTION_FAILURE,
    }
    for octets, decision in good.items():
        session = negotiated()
        if letter not in "CHM":
            assert session.mail("<>")
            hear(session, milter.CONTINUE)
        assert commands[letter](session)
        [event] = hear(session, octets)
        misplaced = (decision is Decision.SKIP and letter != "B") or (decision is Decision.DISCARD and letter in "CH")
        assert isinstance(event, Fault) if misplaced else event == Reply(decision), (letter, decision)
        assert session.ended is misplaced


@pytest.mark.parametrize("change", [ADD, says(b"q", b"why"), says(b"b", b"x"), says(b"+", b"<a@b.test>")])
def test_a_change_before_the_end_is_a_fault(change: bytes) -> None:
    """Nothing is changed before the end of the message."""
    session = negotiated()
    session.mail("<>")
    assert "before the end of the message (at MAIL)" in fault(hear(session, change))


@pytest.mark.parametrize(
    ("action", "change"),
    [
        (0x01, ADD),
        (0x01, says(b"i", 1, b"X", b"v")),
        (0x02, says(b"b", b"x")),
        (0x04, says(b"+", b"<a@b.test>")),
        (0x80, says(b"2", b"<a@b.test>")),
        (0x08, says(b"-", b"<a@b.test>")),
        (0x10, says(b"m", 1, b"X", b"v")),
        (0x20, says(b"q", b"why")),
        (0x40, says(b"e", b"<>")),
    ],
)
def test_a_change_needs_its_action(action: int, change: bytes) -> None:
    """A change that was agreed on is taken; with everything else agreed on but this it is a fault."""
    [event] = hear(at_end(options(actions=action)), change + milter.CONTINUE)
    assert isinstance(event, Reply)
    assert len(event.changes) == 1
    rest = 0x1FF & ~action & ~(0x84 if action in (0x04, 0x80) else 0)
    assert "not agreed on (at END)" in fault(hear(at_end(options(actions=rest)), change))


def test_another_body_for_one_told_in_part_is_a_fault() -> None:
    """A body that the filter has not seen whole is never replaced: the rest would be lost."""
    assert "not told whole" in fault(hear(at_end(partial=True), says(b"b", b"x")))
    session = at_end(partial=True)
    assert hear(session, ADD + milter.CONTINUE) == [Reply(Decision.CONTINUE, (AddField("X-A", b"v"),))]
    session.mail("<>")
    hear(session, milter.CONTINUE)
    session.end()
    assert isinstance(hear(session, says(b"b", b"x") + milter.CONTINUE)[0], Reply), "the next message is another one"


def test_changes_are_bounded() -> None:
    """Too many changes, too many octets of them, another body that is too long: faults at the first one too many."""
    bounds = Bounds(changes=3, change_octets=100, body=10)
    [event] = hear(at_end(bounds=bounds), ADD * 3 + milter.CONTINUE)
    assert isinstance(event, Reply)
    assert "more than 3 changes" in fault(hear(at_end(bounds=bounds), ADD * 4))
    assert "100 octets" in fault(hear(at_end(bounds=bounds), says(b"q", b"x" * 60) * 2))
    [event] = hear(at_end(bounds=Bounds(body=200, change_octets=100)), says(b"b", b"x" * 199) + milter.CONTINUE)
    assert isinstance(event, Reply), "another body is no octets of changes"
    body = Packet(b"b", b"12345").octets
    [event] = hear(at_end(bounds=bounds), body * 2 + milter.CONTINUE)
    assert event == Reply(Decision.CONTINUE, (ReplaceBody(b"1234512345"),))
    assert "another body of more than 10 octets" in fault(hear(at_end(bounds=bounds), body * 3))


def test_each_message_has_its_own_changes() -> None:
    """What was said of one message is not said of the next one of the same session."""
    session = at_end()
    for piece in (b"one", b"two"):
        [event] = hear(session, Packet(b"b", piece).octets + says(b"q", piece) + milter.CONTINUE)
        assert event == Reply(Decision.CONTINUE, (ReplaceBody(piece), Quarantine(piece.decode())))
        session.mail("<>")
        hear(session, milter.CONTINUE)
        session.end()


def test_a_reply_to_nothing_is_a_fault() -> None:
    """Nothing may be said before it is asked for: after the negotiation, after an answer, after an abort, twice."""
    assert "to nothing" in fault(hear(negotiated(), milter.CONTINUE))
    session = negotiated()
    session.mail("<>")
    [first, second] = hear(session, milter.CONTINUE * 2)
    assert first == CONTINUE
    assert isinstance(second, Fault)
    session = negotiated()
    session.mail("<>")
    hear(session, milter.CONTINUE)
    session.output()
    session.abort()
    assert packets(session.output()) == [(b"A", b"")]
    assert "to nothing" in fault(hear(session, milter.CONTINUE))


def test_a_wrong_answer_to_options_is_a_fault() -> None:
    """Only options answer options, and they must fit."""
    for octets in (milter.CONTINUE, milter.PROGRESS, options(version=9), says(b"O")):
        session = MilterSession()
        session.negotiate()
        assert fault(hear(session, octets))
        assert session.ended


def test_a_fault_is_for_ever() -> None:
    """After a fault the session has ended: nothing more is read, and the first fault stays."""
    session = negotiated()
    session.mail("<>")
    session.receive(b"\x40\0\0\0c")  # a packet of 1 GiB
    first = session.next_event()
    assert isinstance(first, Fault)
    assert "1,073,741,824 octets" in first.text
    session.receive(milter.CONTINUE)
    assert session.next_event() is first
    assert session.lost("gone") is first
    assert session.ended
    assert session.awaiting is None


def test_a_command_after_a_fault_says_nothing() -> None:
    """A connection may be lost at any time: what is told after that goes nowhere, and nothing is waited for."""
    session = negotiated()
    session.lost("connection lost")
    session.macros(Step.MAIL, {"mail_addr": ""})
    assert not session.mail("<>")
    assert not session.body(b"x")
    assert not session.end()
    session.abort()
    session.quit()
    assert session.output() == b""
    assert session.ended


def test_abort_is_for_a_message_alone() -> None:
    """An abort is said where a message is open, and not where there is none or its end was answered."""
    session = at_end()
    hear(session, milter.CONTINUE)
    session.abort()
    assert session.output() == b""
    assert not session.in_message


def test_quit_and_a_new_client() -> None:
    """QUIT ends the session without a word; version 6 can be handed the next client instead."""
    session = negotiated()
    session.mail("<>")
    hear(session, milter.CONTINUE)
    session.output()
    session.quit_new_connection()
    assert session.connect("x", "192.0.2.1", 1)
    hear(session, milter.CONTINUE)
    session.quit()
    session.quit()
    assert [command for command, _ in packets(session.output())] == [b"K", b"C", b"Q"]
    assert session.ended
    assert session.fault is None
    session.receive(b"\xff" * 1000)
    assert session.next_event() is NEED_DATA
    assert session._reader.pending == 0, "what comes after the end is not kept"


def test_our_own_mistakes_are_exceptions() -> None:
    """Commands out of order, while an answer is due, or too large: bugs of ours."""
    wrong = [
        lambda s: s.rcpt("<a@b.test>"),
        lambda s: s.end(),
        lambda s: s.negotiate(),
        lambda s: (s.helo("x"), s.helo("x")),
        lambda s: (s.mail("<>"), s.abort()),
        lambda s: (s.mail("<>"), s.connect("x", "", 0)),
        lambda s: (s.quit(), s.helo("x")),
    ]
    for mistake in wrong:
        with pytest.raises(AssertionError):
            mistake(negotiated())
    session = at_end(options(flow=0x80000))
    hear(session, milter.CONTINUE)
    session.mail("<>")
    hear(session, milter.CONTINUE)
    for chunk in (b"", b"x" * (CHUNK + 1)):
        with pytest.raises(AssertionError):
            session.body(chunk)


@given(st.binary(max_size=200), st.sampled_from(["options", "mail", "end"]))
def test_any_octets_are_events(octets: bytes, where: str) -> None:
    """Whatever a filter says, wherever: events and at last a fault, never an exception."""
    if where == "options":
        session = MilterSession()
        session.negotiate()
    elif where == "mail":
        session = negotiated()
        session.mail("<>")
    else:
        session = at_end()
    for event in hear(session, octets):
        assert isinstance(event, Fault | Reply) or event is PROGRESS


def test_a_reply_code_ends_a_step() -> None:
    """A reply code is the answer, and the session goes on."""
    session = negotiated()
    session.mail("<>")
    [event] = hear(session, says(b"y", b"550 5.7.9 no"))
    assert isinstance(event, Reply)
    assert isinstance(event.decision, ReplyCode)
    assert session.awaiting is None
    assert session.in_message

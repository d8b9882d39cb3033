"""Tests of `mta.cli.trace`, `mta.cli.page` and `mta.cli.log`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mta.cli.log import fits
from mta.cli.log import log as log_command
from mta.cli.page import Page
from mta.cli.trace import address_of, trace
from mta.mail.queueid import new_queue_id
from mta.mail.reason import Reason
from mta.observe.event import Event, Kind, Level
from mta.observe.search import Wanted
from mta.observe.telling import Mood, Told
from tests.unit.test_observe_history import WALL, World

OURS = Reason("in the Maildir of bob@x", "users:3")


class Ids:
    """Queue ids and session ids, in order."""

    def __init__(self) -> None:
        self.count = 0

    def getrandbits(self, k: int, /) -> int:
        """Count."""
        self.count += 1
        return self.count

    def new(self, wall: float) -> str:
        """An id made at that time."""
        return new_queue_id(wall, 0, self)


class Server(World):
    """A history that sessions and messages are written to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.ids = Ids()

    def happen(self, kind: Kind, reason: Reason | None = None, **fields: Any) -> None:
        """Note an event a second later."""
        self.wall += 1.0
        self.journal.note(kind, reason, **fields)

    def session(
        self, address: str = "192.0.2.1", *messages: dict[str, Any], refused: str = ""
    ) -> tuple[str, list[str]]:
        """A session from an address with messages; returns its id and theirs."""
        session, ids = self.ids.new(self.wall), []
        if refused:
            self.happen(Kind.RECIPIENT_REFUSED, OURS, session=session, address=address, recipient=refused, sender="e@y")
        for fields in messages:
            ids.append(self.ids.new(self.wall))
            told = {"sender": "alice@x", "recipients": "bob@x", "copies": 1, "place": "maildir", "batch": 1} | fields
            self.happen(
                Kind.MESSAGE_ACCEPTED, OURS, session=session, queue_id=ids[-1], address=address, service="mx", **told
            )
        counts = {"accepted": len(ids), "refused": int(bool(refused))}
        told = {"address": address, "service": "mx", "seconds": 2.0} | counts
        self.happen(Kind.SESSION_CLOSED, session=session, **told)
        return session, ids


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An empty history and a configuration that names it."""
    (tmp_path / "mta.toml").write_text(f'hostname = "mx.example.test"\nstate = "{tmp_path}"\n')
    made = Server(tmp_path / "history")
    yield made
    made.history.close()


def run(server: Server, command: Any, *arguments: str) -> Result:
    """Run a command on what was written so far."""
    server.history.flush()
    config = str(server.directory.parent / "mta.toml")
    return CliRunner().invoke(command, ["--config", config, *arguments], catch_exceptions=False)


def listed(server: Server, *arguments: str) -> list[str]:
    """The ids that `mta trace --json` lists."""
    lines = run(server, trace, *arguments, "--json").output.splitlines()
    return [line.get("queue_id") or line["session"] for line in map(json.loads, lines)]


def test_messages_come_newest_first_and_sessions_where_something_was_refused(server: Server) -> None:
    """Each message of an address once; a session only where it brought none, or refused something."""
    _, (first,) = server.session("192.0.2.1", {})
    refusing, (second,) = server.session("192.0.2.1", {}, refused="ghost@x")
    idle, _ = server.session("192.0.2.1")
    assert listed(server, "192.0.2.1") == [idle, refusing, second, first]
    assert listed(server, "192.0.2.1", "--limit", "4") == [idle, refusing, second, first]
    assert listed(server, "bob@x") == [second, first]
    assert listed(server, "ghost@x") == [refusing]
    assert listed(server, "192.0.2.1", "--limit", "1") == [idle]


def test_a_time_bounds_what_is_found(server: Server) -> None:
    """Nothing before --since or after --until; what is outside is said not to be there in that time."""
    _, (old,) = server.session("192.0.2.1", {})
    server.wall += 86400
    _, (new,) = server.session("192.0.2.1", {})
    between = "2025-11-23 08:00"
    assert listed(server, "bob@x", "--since", between) == [new]
    assert listed(server, "bob@x", "--until", between) == [old]
    nothing = run(server, trace, "bob@x", "--since", "2h")
    assert (nothing.exit_code, nothing.output) == (66, "mta: nothing in the history mentions bob@x in that time\n")


def test_one_message_is_told_whole(server: Server) -> None:
    """An address that one message mentions, its id in any case, and its session's messages."""
    _, (queue_id,) = server.session("192.0.2.1", {"message_id": "<42@x>", "path": "/m/1"})
    by_id = run(server, trace, queue_id.upper()).output
    assert run(server, trace, "<42@x>").output == by_id
    assert [line.split("  ")[-1] for line in by_id.splitlines()[1:]] == [
        "alice@x > bob@x",
        "Message-ID <42@x>",
        "delivered: in the Maildir of bob@x",
        by_id.splitlines()[4].strip(),
        "connection to mx from 192.0.2.1, in clear text",
        by_id.splitlines()[6].split("  ")[-1],
        "file: /m/1",
        "end of the session with 192.0.2.1 after 2 s: 1 message taken",
    ]


def test_a_list_says_how_each_ended(server: Server) -> None:
    """One line for each, and what to type next."""
    server.session("192.0.2.1", {}, {"place": "spool", "recipients": "b@y"})
    output = run(server, trace, "alice@x").output
    lines = output.splitlines()
    assert lines[0].endswith("alice@x > b@y: in the queue: in the Maildir of bob@x")
    assert lines[1].endswith("alice@x > bob@x: delivered: in the Maildir of bob@x")
    assert lines[2] == "2 found for alice@x. Everything of one: mta trace ID"


def test_what_stands_in_no_session_is_found(server: Server) -> None:
    """A connection that was turned away has neither session nor queue id, and is found by its address."""
    for _ in range(2):
        server.happen(Kind.SESSION_REFUSED, Reason("20 connections from there", "[connections]"), address="192.0.2.9")
    output = run(server, trace, "192.0.2.9").output
    assert output.count("from 192.0.2.9 refused: 20 connections from there") == 2
    (first, _) = run(server, trace, "192.0.2.9", "--json").output.splitlines()
    assert json.loads(first)["refused"] == ["session.refused"]


def test_without_a_word_the_latest_mail_is_listed(server: Server) -> None:
    """All mail, the newest first: not what the server says of itself, nor who only connected. Brackets ask nothing."""
    nothing = run(server, trace)
    assert (nothing.exit_code, nothing.output) == (66, "mta: nothing in the history is of mail\n")
    _, (queue_id,) = server.session("192.0.2.1", {})
    server.happen(Kind.SERVICE_STARTED, service="mx", listen="127.0.0.1:25")
    idle, _ = server.session("192.0.2.2")
    assert listed(server) == [queue_id]
    assert listed(server, "192.0.2.2") == [idle]
    assert run(server, trace).output.splitlines()[-1] == "1 found. Everything of one: mta trace ID"
    assert run(server, trace, "<>").exit_code == 2


def test_a_report_is_told_behind_its_message(server: Server) -> None:
    """The story of a failure ends with that of the report."""
    _, (queue_id,) = server.session("192.0.2.1", {"place": "spool"})
    report = server.ids.new(server.wall)
    server.happen(Kind.RECIPIENT_FAILED, OURS, queue_id=queue_id, recipient="bob@x", report=report)
    server.happen(Kind.REPORT_QUEUED, OURS, queue_id=report, about=queue_id, recipient="alice@x")
    output = run(server, trace, queue_id).output
    assert output.index(f"Message {queue_id}") < output.index(f"Message {report}")
    assert f"a report about message {queue_id}" in output
    assert [json.loads(line)["reports"] for line in run(server, trace, "bob@x", "--json").output.splitlines()] == [
        [report]
    ]


def test_a_session_whose_only_refusal_is_of_its_message_has_no_line_of_its_own(server: Server) -> None:
    """A message that is refused at its end has an id, and tells all."""
    session, queue_id = server.ids.new(server.wall), server.ids.new(server.wall)
    told = {"address": "192.0.2.1", "session": session}
    server.happen(Kind.MESSAGE_REFUSED, OURS, queue_id=queue_id, sender="a@x", recipients="b@x", reply="550 no", **told)
    server.happen(Kind.SESSION_CLOSED, accepted=0, refused=1, seconds=1.0, **told)
    assert listed(server, "192.0.2.1") == [queue_id]


def test_a_session_that_has_not_ended_says_so(server: Server) -> None:
    """Who hangs in the middle of something is found by its address while it does."""
    session = server.ids.new(server.wall)
    told = {"address": "192.0.2.1", "service": "mx", "port": 5, "seconds": 30.0}
    server.happen(Kind.SESSION_LASTS, Reason("more of a message is awaited"), session=session, **told)
    server.session("192.0.2.1")
    lines = run(server, trace, "192.0.2.1").output.splitlines()
    assert lines[1].endswith("the session with 192.0.2.1 is open for 30 s: more of a message is awaited")
    whole = run(server, trace, session).output
    assert "connection to mx from 192.0.2.1 port 5, in clear text\n" in whole


def test_an_ip_address_has_one_form() -> None:
    """IPv6 is sought as events have it, however it is typed."""
    assert address_of("2001:DB8:0:0::1") == "2001:db8::1"
    assert address_of("[2001:db8::1]") == "2001:db8::1"
    assert address_of(" Bob@X ") == "Bob@X"


def test_what_a_peer_says_cannot_move_a_cursor(server: Server) -> None:
    """Control characters of an address that somebody asks for, or that a peer sent, are spelled out."""
    bad = "a\x07\x1b7\u202e@x"  # a bell, as escapes alone would be taken out by click
    hostile = dict.fromkeys(("sender", "recipients", "message_id", "helo", "allowed", "path", "tls", "expanded"), bad)
    server.session("192.0.2.1", hostile, hostile, refused=bad)
    server.happen(Kind.LOGIN_REFUSED, Reason(bad, bad), address="192.0.2.1", login=bad, reply=bad, mechanism=bad)
    outputs = [
        run(server, command, *arguments).output
        for command, *arguments in (
            (trace, "192.0.2.1"),
            (trace, "192.0.2.1", "--full"),
            (trace, "192.0.2.1", "--full", "--json"),
            (trace, "192.0.2.1", "--json"),
            (log_command, "-v"),
        )
    ]
    assert all(output.count("u{7}") + output.count("u0007") > 1 for output in outputs)
    assert not {"\x07", "\x1b", "\u202e"} & set("".join(outputs))
    assert run(server, trace, "\x1bnobody@x").output == "mta: nothing in the history mentions \\u{1b}nobody@x\n"


def test_wide_and_narrow_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines are folded below the words, at the left where the lead takes too much; without a terminal not at all."""
    told = Told("word " * 12 + "end", "file:3", Mood.PLAIN, ("below",))
    for width in (None, 40, 20):
        Page(lambda: WALL, width, UTC).told("  lead  ", told)
    whole, forty, twenty = capsys.readouterr().out.split("  lead  ")[1:]
    assert whole == "word " * 12 + "end [file:3]\n        below\n"
    assert all(line.startswith("        ") for line in forty.splitlines()[1:])
    assert all(len(line) <= 40 for line in forty.splitlines()[1:])
    assert twenty.splitlines()[-1] == "    below"
    assert all(len(line) <= 20 for line in twenty.splitlines()[1:])


def test_what_a_host_said_stands_below(capsys: pytest.CaptureFixture[str]) -> None:
    """A remote reply has a line of its own; in a list of events it stands behind the words."""
    told = Told("delivered", "mx [192.0.2.1]:25 said: 250 ok", Mood.GOOD, ("more",))
    page = Page(lambda: WALL, None, UTC)
    page.told("  ", told)
    page.told("  ", told, detailed=False)
    assert capsys.readouterr().out.splitlines() == [
        "  delivered",
        "  mx [192.0.2.1]:25 said: 250 ok",
        "  more",
        "  delivered [mx [192.0.2.1]:25 said: 250 ok]",
    ]


def test_the_log_shows_what_was_asked_for(server: Server) -> None:
    """The latest events, oldest first, by kind, level and number; what is debug only when it is asked for."""
    session, (queue_id,) = server.session("192.0.2.1", {}, refused="ghost@x")
    said = {"policy": "p", "stage": "rcpt", "verdict": "Reject"}
    server.happen(Kind.POLICY_SAID, OURS, level=Level.DEBUG, session=session, **said)
    lines = run(server, log_command).output.splitlines()
    assert [line.split("  ")[1] for line in lines] == [session, queue_id, session]
    assert lines[1].endswith("alone: in the Maildir of bob@x [users:3]")
    assert len(run(server, log_command, "--level", "debug").output.splitlines()) == 4
    assert len(run(server, log_command, "-n", "1").output.splitlines()) == 1
    nothing = run(server, log_command, "--queue-id", "0" * 18)
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "Nothing in the history fits.\n")
    assert len(run(server, log_command, "--kind", "recipient.*", "--kind", "session.closed").output.splitlines()) == 2
    (event,) = run(server, log_command, "--queue-id", queue_id, "--json").output.splitlines()
    assert json.loads(event)["kind"] == "message.accepted"
    assert run(server, log_command, "--address", "ghost@x").output.splitlines() == lines[:1]


def test_events_that_come_are_chosen_as_those_that_are_found() -> None:
    """What is followed fits the same conditions as what is searched for."""
    fields = {"sender": "Alice@x", "recipients": "bob@x carol@x"}
    event = Event(WALL, Kind.MESSAGE_ACCEPTED, Level.INFO, "s", "q", None, fields)
    for wanted in (Wanted(), Wanted(queue_id="q"), Wanted(session="s"), Wanted(text="CAROL@x"), Wanted(text="alice@x")):
        assert fits(event, wanted)
    for wanted in (
        Wanted(queue_id="p"),
        Wanted(session="t"),
        Wanted(text="dave@x"),
        Wanted(kinds=[Kind.FAULT]),
        Wanted(level=Level.WARNING),
        Wanted(since=WALL + 1),
        Wanted(until=WALL - 1),
    ):
        assert not fits(event, wanted)

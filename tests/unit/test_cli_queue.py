"""``mta queue`` where the daemon is stopped: the same commands, on the files."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mta.cli import main
from mta.disk.owner import user_name
from mta.observe.event import Kind
from mta.observe.search import Archive, Wanted
from mta.spool.port import State
from tests.doubles.queue import Queue
from tests.doubles.service import demonstration


class Server:
    """A demonstration that is not running, with a queue."""

    def __init__(self, root: Path) -> None:
        demonstration(root)
        self.config = root / "etc/mta.toml"
        self.state = root / "var"
        self.queue = Queue(self.state, time.time())
        self.open = True

    def stop(self) -> None:
        """Close the queue."""
        if self.open:
            self.queue.close()
            self.open = False

    def mta(self, *arguments: str, typed: str = "") -> Result:
        """Run ``mta queue``, with the queue closed."""
        self.stop()
        return CliRunner().invoke(main, ["queue", *arguments, "--config", str(self.config)], input=typed)

    def states(self, queue_id: str) -> dict[str, State]:
        """The states of a message's recipients."""
        self.queue.open()
        try:
            return self.queue.states(queue_id)
        finally:
            self.queue.close()

    def history(self, queue_id: str) -> list[tuple[Kind, str]]:
        """What the history has of a message."""
        found = Archive(f"{self.state}/history").in_order(Wanted(queue_id=queue_id))
        return [(event.kind, str(event.reason)) for event in found]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that is stopped."""
    server = Server(tmp_path)
    yield server
    server.stop()


def test_a_summary_for_people(server: Server) -> None:
    """Totals in a sentence, then a line for each destination with the commonest reason and the next attempt."""
    for _ in range(2):
        server.queue.add("bob@big.test", reason="450 busy", age=7300, due=700)
    server.queue.add("bob@small.test", held="looks odd", age=60)
    result = server.mta()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "3 messages for 3 recipients: 2 waiting, 1 held. The oldest came 2 h 2 min ago."
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "destination recipients oldest next attempt why most of them wait",
        "big.test 2 2 h 2 min in 12 min 450 busy [mx]",
        "small.test 1 1 min - 1 held; looks odd [policy]",
    ]
    assert "the daemon is not running" in result.stderr


def test_a_summary_of_few_destinations_says_that_there_are_more(server: Server) -> None:
    """What is not named is counted, with what to type to see it."""
    server.queue.add("bob@a.test", "bob@b.test", "bob@c.test")
    result = server.mta("summary", "--destinations", "1")
    assert "and 2 more destinations: mta queue --destinations 3" in result.stdout


def test_a_summary_for_programs(server: Server) -> None:
    """A line of totals, then one for each destination."""
    server.queue.add("bob@a.test", held="odd")
    total, a = map(json.loads, server.mta("--json").stdout.splitlines())
    assert (total["messages"], total["states"]["held"], total["destinations"]) == (1, 1, 1)
    assert (a["destination"], a["recipients"], a["next"], a["reasons"]) == ("a.test", 1, None, {"odd [policy]": 1})


def test_times_are_those_of_whoever_looks(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue shows local times with their zone, as `mta trace` does."""
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        server.queue.add("bob@one.test", reason="450 busy")
        head, bob = server.mta("list").stdout.splitlines()
        assert re.search(r"  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d XYZ  ", head)
        assert re.search(r"next attempt in [^(]+ \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d XYZ\)", bob)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_id_that_is_not_there_is_all_that_is_told(server: Server) -> None:
    """Nothing is said of what could not be tried: there is no such message."""
    result = server.mta("retry", "1m89pz69t001rbrswp")
    assert (result.exit_code, result.stdout) == (65, "")
    assert "there is no message 1m89pz69t001rbrswp in the queue" in result.stderr


def test_an_empty_queue(server: Server) -> None:
    """Said in words by the summary; a list of nothing has nothing on standard output."""
    assert server.mta().stdout == "The queue is empty.\n"
    result = server.mta("list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "The queue is empty.\n")


def test_a_list_for_people(server: Server) -> None:
    """Each message with its recipients: state, next attempt, attempts so far, reason; what is hidden is said."""
    queue_id = server.queue.add(
        "bob@one.test", "carol@two.test", reason="450 \x1b[31mbusy", age=3600, login="alice@example.test", due=3600
    )
    result = server.mta("list", "--destination", "one.test")
    head, bob, others = result.stdout.splitlines()
    assert head.startswith(f"{queue_id}  ")
    assert head.endswith("20 octets  <alice@example.test>  login alice@example.test")
    assert bob.startswith("    waiting  bob@one.test, next attempt in 1 h (")
    assert bob.endswith(", 1 attempt so far: 450 \\u{1b}[31mbusy [mx]")
    assert others == "    and 1 other recipient"


def test_the_configuration_may_be_named_before_the_command(server: Server) -> None:
    """``mta queue --config FILE list`` is ``mta queue list --config FILE``."""
    queue_id = server.queue.add()
    server.stop()
    result = CliRunner().invoke(main, ["queue", "--config", str(server.config), "list"])
    assert (result.exit_code, result.stdout[:18]) == (0, queue_id)


def test_a_list_is_cut_where_it_is_asked_to_be(server: Server) -> None:
    """``--limit`` counts messages."""
    queue_ids = [server.queue.add(age=100 - number) for number in range(5)]
    result = server.mta("list", "--json", "--limit", "3")
    assert [json.loads(line)["queue_id"] for line in result.stdout.splitlines()] == queue_ids[:3]


def test_ages_are_lengths_of_time(server: Server) -> None:
    """``--older`` and ``--younger`` take what settings take; anything else is told in one line."""
    old, new = server.queue.add(age=7200), server.queue.add(age=60)
    assert server.mta("list", "--older", "1h").stdout.split()[0] == old
    assert server.mta("list", "--younger", "1h").stdout.split()[0] == new
    result = server.mta("list", "--older", "soon")
    assert result.exit_code == 2
    assert "is no length of time" in result.output


def test_one_message_is_shown_whole(server: Server) -> None:
    """Where it came from, and each recipient with where its mail goes."""
    queue_id = server.queue.add("bob@one.test", reason="450 busy", login="alice@example.test")
    result = server.mta("show", queue_id)
    assert result.stdout.splitlines()[0] == queue_id
    assert "submitted (smtpd)" in result.stdout
    assert "waiting: bob@one.test, next attempt in 10 min (" in result.stdout
    assert json.loads(server.mta("show", "--json", queue_id).stdout)["login"] == "alice@example.test"
    missing = server.mta("show", "nonsense")
    assert (missing.exit_code, missing.output) == (65, "mta: there is no message nonsense in the queue\n")


def test_content_is_written_octet_by_octet(server: Server) -> None:
    """As it would be sent; ``--head`` ends before the empty line."""
    octets = b"Subject: x\r\nX: \xff\r\n\r\nbody\x00\r\n"
    queue_id = server.queue.add(content=octets)
    assert server.mta("content", queue_id).stdout_bytes == octets
    assert server.mta("content", "--head", queue_id).stdout_bytes == b"Subject: x\r\nX: \xff\r\n"
    assert server.mta("content", "nonsense").exit_code == 65


def test_acts_are_done_and_stand_in_the_history(server: Server) -> None:
    """Hold, release, retry and delete change the queue; the history says who did it and why."""
    queue_id = server.queue.add("bob@one.test", reason="450 busy")
    server.stop()
    who = user_name(os.getuid())
    for act, reason, state in (
        ("hold", ("--reason", "a look"), State.HELD),
        ("release", (), State.WAITING),
        ("delete", ("--reason", "spam"), None),
    ):
        result = server.mta(act, queue_id, *reason)
        assert result.exit_code == 0, result.output
        assert server.states(queue_id) == ({} if state is None else {"bob@one.test": state})
    assert server.history(queue_id) == [
        (Kind.MESSAGE_HELD, f"held by {who}: a look [mta queue hold]"),
        (Kind.MESSAGE_RELEASED, f"released by {who} [mta queue release]"),
        (Kind.MESSAGE_DELETED, f"deleted by {who}: spam [mta queue delete]"),
    ]


def test_what_is_returned_leaves_a_report_in_the_queue(server: Server) -> None:
    """The sender's report waits for the next start; it quotes the operator's reason."""
    queue_id = server.queue.add("bob@one.test", "carol@one.test", sender="alice@example.test")
    result = server.mta("bounce", "--destination", "one.test", "--reason", "that domain is no more")
    assert result.stdout == "1 message, 2 recipients: returned to the sender\n"
    assert server.states(queue_id) == {}
    [report] = map(json.loads, server.mta("list", "--sender", "<>", "--json").stdout.splitlines())
    assert [each["mailbox"] for each in report["recipients"]] == ["alice@example.test"]
    text = server.mta("content", report["queue_id"]).stdout
    assert "that domain is no more" in text
    assert "Final-Recipient: rfc822; carol@one.test" in text
    assert {kind for kind, _ in server.history(queue_id)} >= {Kind.MESSAGE_BOUNCED, Kind.RECIPIENT_FAILED}


@pytest.mark.parametrize("arguments", [(), ("--all", "--sender", "*"), ("--all", "0abc")])
def test_nothing_is_done_to_everything_by_mistake(server: Server, arguments: tuple[str, ...]) -> None:
    """An act without ids or filters needs ``--all``, and that stands alone."""
    queue_id = server.queue.add()
    result = server.mta("delete", *arguments)
    assert result.exit_code == 2
    assert "--all" in result.output
    assert list(server.states(queue_id).values()) == [State.WAITING]


def test_a_bulk_act_is_confirmed_on_a_terminal(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how many recipients and messages are concerned; without a yes nothing happens."""
    queue_id = server.queue.add("bob@one.test", "carol@one.test")
    monkeypatch.setattr("mta.cli.queue.on_terminal", lambda: True)
    result = server.mta("delete", "--all", typed="n\n")
    assert "Delete 2 recipients of 1 message, and tell nobody? [y/N]" in result.output
    assert result.exit_code == 1
    assert len(server.states(queue_id)) == 2
    assert server.mta("delete", "--all", "--yes").exit_code == 0
    assert server.states(queue_id) == {}


def test_what_comes_meanwhile_is_not_meant(server: Server) -> None:
    """What is accepted after the command was typed is left alone, also by ``--all``."""
    later = server.queue.add(age=-3600)
    server.queue.add()
    assert server.mta("delete", "--all").stdout == "1 message, 1 recipient: deleted\n"
    assert len(server.states(later)) == 1


def test_ids_that_there_are_not_are_named(server: Server) -> None:
    """What there is is done; the others are named, with status 65."""
    queue_id = server.queue.add()
    result = server.mta("delete", "nonsense", queue_id)
    assert (result.exit_code, result.stdout) == (65, "1 message, 1 recipient: deleted\n")
    assert "mta: there is no message nonsense in the queue\n" in result.stderr


def test_an_act_with_nothing_to_do_says_so(server: Server) -> None:
    """And is no error."""
    queue_id = server.queue.add()
    result = server.mta("release", queue_id)
    assert (result.exit_code, result.stdout) == (0, "nothing was held\n")


def test_what_was_done_for_programs(server: Server) -> None:
    """One object with the numbers."""
    server.queue.add("bob@one.test", "carol@one.test")
    assert json.loads(server.mta("hold", "--all", "--json").stdout) == {
        "act": "hold",
        "acted": 1,
        "recipients": 2,
        "busy": 0,
        "failed": 0,
    }


def test_a_large_bulk_act_is_done_in_parts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it is done, request by request, and what fits the filter alone."""
    monkeypatch.setattr("mta.service.operator.queue_acts.ACTED", 7)
    for number in range(30):
        server.queue.add("bob@one.test", age=100 - number)
    kept = server.queue.add("bob@two.test")
    result = server.mta("delete", "--destination", "one.test")
    assert result.stdout == "30 messages, 30 recipients: deleted\n"
    assert server.mta("list", "--json").stdout.count("\n") == 1
    assert list(server.states(kept)) == ["bob@two.test"]


def test_without_a_queue(tmp_path: Path) -> None:
    """Before the first start there is no queue: one line, status 66; without a configuration status 78."""
    demonstration(tmp_path)
    for command in ((), ("list",), ("hold", "--all")):
        result = CliRunner().invoke(main, ["queue", *command, "--config", str(tmp_path / "etc/mta.toml")])
        assert result.exit_code == 66, result.output
        assert result.output.count("\n") == 1
    assert CliRunner().invoke(main, ["queue", "--config", str(tmp_path / "none")]).exit_code == 78


def test_a_queue_that_another_process_has(server: Server) -> None:
    """Where the lock is held and no daemon answers, looking works, and acting is refused with status 75."""
    queue_id = server.queue.add()
    arguments: list[Any] = ["queue", "list", "--config", str(server.config)]
    assert queue_id in CliRunner().invoke(main, arguments).stdout
    result = CliRunner().invoke(main, ["queue", "delete", queue_id, "--config", str(server.config)])
    assert result.exit_code == 75
    assert "in use by process" in result.output

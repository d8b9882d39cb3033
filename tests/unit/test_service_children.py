"""mta.service.children: the parent over its worker processes, when they die, hang, lie, or cannot be made."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest
from twisted.internet import task
from twisted.internet.error import ConnectionDone, ProcessTerminated
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mta.board.shared import SharedBoard
from mta.observe.event import Kind
from mta.service.board import layout
from mta.service.children import (
    ASK_EVERY,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    SILENCE,
    START_SECONDS,
    Children,
)
from mta.service.control import CommandRefused
from tests.doubles.journal import RecordingJournal
from tests.doubles.sync import failure, result


class Process:
    """A child as the parent's reactor has it; it says and hears what the test wants."""

    def __init__(self, protocol: Any, pid: int, arguments: list[str]) -> None:
        self.protocol = protocol
        self.pid: int | None = pid
        self.arguments = arguments
        self.signals: list[str] = []
        self.link: Any = None
        protocol.transport = self

    def signalProcess(self, name: str) -> None:
        """Be sent a signal; KILL ends it."""
        self.signals.append(name)
        if name == "KILL":
            self.end()

    def end(self, signal: int = 9) -> None:
        """Be no more."""
        self.pid = None
        self.link.connectionLost(Failure(ConnectionDone()))
        self.protocol.processEnded(Failure(ProcessTerminated(None, signal)))

    def heard(self) -> list[dict[str, Any]]:
        """What the parent said since the last time."""
        octets = self.link.transport.value()
        self.link.transport.clear()
        return [json.loads(line) for line in octets.splitlines()]

    def say(self, line: Any) -> None:
        """Say something to the parent."""
        self.link.dataReceived(json.dumps(line).encode() + b"\n")

    def answer(self, **values: object) -> list[str]:
        """Answer all that was asked; gives the commands."""
        asked = self.heard()
        for each in asked:
            if "ask" in each:
                self.say({"answer": each["ask"], "result": {"ok": True, "commands": ["queue-list"], **values}})
        return [each["request"]["command"] for each in asked]


class System:
    """A reactor with processes; `refuse` has it make no more."""

    def __init__(self) -> None:
        self.clock: Any = task.Clock()
        self.clock.spawnProcess = self.spawn
        self.clock.adoptStreamConnection = self.adopt
        self.made: list[Process] = []
        self.refuse: OSError | None = None
        self.journal = RecordingJournal()
        board = SharedBoard.make(layout(2), self.clock.seconds)
        self.children = Children("/etc/mta/mta.toml", board, 2, self.clock, self.journal)

    def spawn(self, protocol: Any, program: str, arguments: list[str], **_: object) -> None:
        """Make a process."""
        if self.refuse is not None:
            raise self.refuse
        self.made.append(Process(protocol, 1000 + len(self.made), arguments))

    def adopt(self, descriptor: int, family: int, factory: Any) -> None:
        """Connect the link of the last process."""
        self.made[-1].link = factory.buildProtocol(None)
        self.made[-1].link.makeConnection(StringTransport())

    def start(self) -> list[Process]:
        """Start both, and have them answer."""
        started = self.children.start([])
        for each in self.made:
            each.answer()
        assert result(started) is None
        return list(self.made)


@pytest.fixture
def system() -> System:
    """Two children that are not started yet."""
    return System()


def test_a_process_that_cannot_be_made_is_tried_again(system: System) -> None:
    """Where the system has no room for a process when one died, the next is tried after pauses that double."""
    first, _ = system.start()
    system.refuse = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    first.end()
    system.clock.advance(FIRST_PAUSE)
    system.clock.advance(2 * FIRST_PAUSE)
    system.refuse = None
    system.clock.advance(4 * FIRST_PAUSE - 0.5)
    assert len(system.made) == 2
    system.clock.advance(0.5)
    assert len(system.made) == 3
    said = [str(event.reason) for event in system.journal.events if event.kind is Kind.WORKER_DIED]
    assert [text for text in said if "no process can be made: Resource temporarily unavailable" in text] == said[1:]


def test_a_child_that_dies_in_its_start_is_no_fork_bomb(system: System) -> None:
    """One that always dies at once is started less and less often: 20 times in a quarter of an hour, not more."""
    other, _ = system.start()
    for _ in range(900):
        if system.made[-1].pid is not None:
            system.made[-1].end()
        system.clock.advance(1.0)
        other.answer()
    assert 900 / LONGEST_PAUSE < len(system.made) <= 25


def test_a_child_that_hangs_in_its_start_is_killed(system: System) -> None:
    """One that never says that it listens does not keep its shard for ever; the watchdog of all is not bitten."""
    first, other = system.start()
    first.end()
    system.clock.advance(FIRST_PAUSE)
    hung = system.made[-1]
    for _ in range(int(START_SECONDS / ASK_EVERY)):
        assert system.children.answering, "a slow start of one worker is no reason to end the others"
        assert hung.signals == []
        system.clock.advance(ASK_EVERY)
        other.answer()
    assert hung.signals == ["KILL"]


def test_a_child_that_hangs_is_killed(system: System) -> None:
    """One that does not answer any more is killed after `SILENCE`, and the next is made."""
    first, other = system.start()
    for _ in range(int(SILENCE / ASK_EVERY)):
        assert first.signals == []
        system.clock.advance(ASK_EVERY)
        other.answer()
    assert first.signals == ["KILL"]
    system.clock.advance(FIRST_PAUSE)
    assert len(system.made) == 3


def test_a_reload_reaches_a_child_that_is_starting(system: System) -> None:
    """It may have read the old configuration: it is told to read it again when it has started."""
    first, other = system.start()
    first.end()
    system.clock.advance(FIRST_PAUSE)
    late = system.made[-1]
    prepared = system.children.prepare()
    assert other.answer() == ["prepare"]
    assert result(prepared) is None
    used = system.children.use()
    assert other.answer() == ["use"]
    assert result(used) is None
    assert [each["request"]["command"] for each in late.heard()] == ["start", "prepare", "use"]


def test_a_child_that_dies_in_a_reload_is_told_in_words(system: System) -> None:
    """Dead while preparing: the reload is refused. Dead while using: it begins with the new one, and all is well."""
    first, other = system.start()
    prepared = system.children.prepare()
    first.end()
    other.answer()
    assert str(failure(prepared)) == "worker 0 has died meanwhile; try again"
    system.clock.advance(FIRST_PAUSE)
    system.made[-1].answer()
    used = system.children.use()
    system.made[-1].end()
    other.answer()
    assert result(used) is None


def test_no_key_of_a_request_is_taken_for_one_of_the_link(system: System) -> None:
    """An operator's request that has keys called ask and answer is a request, and answered as one."""
    first, _ = system.start()
    asked = system.children.ask(0, {"command": "queue-list", "ask": 0, "answer": 7, "request": {}})
    (heard,) = first.heard()
    assert heard["request"] == {"command": "queue-list", "ask": 0, "answer": 7, "request": {}}
    first.say({"answer": heard["ask"], "result": {"ok": True, "answer": 3}})
    assert result(asked) == {"answer": 3}


@pytest.mark.parametrize(
    "line",
    [
        b"\x00\xff",
        b"[]",
        b"7",
        b'"answer"',
        b'{"answer": []}',
        b'{"answer": 0, "result": 5}',
        b'{"request": 5}',
        b'{"ask": 1}',
        b"[" * 100_000,
    ],
)
def test_a_child_that_says_garbage_is_cut_off_and_replaced(system: System, line: bytes) -> None:
    """What is no line of the link ends it; nothing more is heard of the child, which is killed and replaced."""
    first, other = system.start()
    first.link.dataReceived(line + b"\n" + b'{"request": {"command": "spread", "memory": "m", "rows": []}}\n')
    assert first.link.transport.disconnecting
    assert system.journal.kinds().count(Kind.FAULT) == 1
    assert other.heard() == []
    for _ in range(int(SILENCE / ASK_EVERY)):
        system.clock.advance(ASK_EVERY)
        other.answer()
    assert first.signals == ["KILL"]


def test_a_child_commands_no_other(system: System) -> None:
    """Whoever has taken over a worker can have the others learn what policies remember, and nothing else."""
    first, other = system.start()
    first.say({"request": {"command": "spread", "memory": "greylist", "rows": [], "request": {"command": "use"}}})
    assert [each["request"] for each in other.heard()] == [{"command": "learn", "memory": "greylist", "rows": []}]
    for command in ("queue-act", "use", "reload", "start"):
        first.say({"ask": 1, "request": {"command": command}})
    assert other.heard() == []
    assert not any(each["result"]["ok"] for each in first.heard())


def test_whom_nothing_can_be_asked_is_told_so(system: System) -> None:
    """While a worker is being started, who asks for it is told to try again."""
    first, _ = system.start()
    first.end()
    assert isinstance(failure(system.children.ask(0, {"command": "queue-list"})), CommandRefused)

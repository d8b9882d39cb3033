"""One child process, from the server's side: every way in which it can answer, fail to, or end."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from twisted.internet import task

from mta.policy.facts import Stage
from mta.policy.frames import frame
from mta.policy.script_child import ANSWER_MAXIMUM, ANSWERS, PLACES, QUESTION_MAXIMUM, QUESTIONS
from mta.policy.script_file import ScriptFile
from mta.policy.script_process import (
    LINE_MAXIMUM,
    LOAD_SECONDS,
    LOGGED_MAXIMUM,
    PLACE_SECONDS,
    PRINTED_MAXIMUM,
    STOP_SECONDS,
    Fault,
    ScriptProcess,
)
from mta.settings.script import ScriptSettings
from tests.doubles.processes import Child, FakeProcesses
from tests.doubles.sync import result

PATH = "etc/policy/grüße.py"
DUMP = """Current thread 0x00007f (most recent call first):
  File "/usr/lib/python3.11/socket.py", line 706 in readinto
  File "etc/policy/gr\\xfc\\xdfe.py", line 12 in fetch
  File "etc/policy/gr\\xfc\\xdfe.py", line 20 in mail
  File "/mta/policy/script_child.py", line 120 in answer
"""
DEADLINE = 5.0


class _Case:
    """One process that has been started, and who owns it."""

    def __init__(self, loaded: bool = True) -> None:
        self.clock = task.Clock()
        self.processes = FakeProcesses()
        self.output: list[str] = []
        self.gone: list[ScriptProcess] = []
        script = ScriptFile(PATH, "text", {Stage.MAIL: 20})
        settings = ScriptSettings(deadline=DEADLINE, memory=1 << 27)
        self.process = ScriptProcess(script, settings, self.processes, self.clock, self.output.append, self.gone.append)
        self.answers: list[Any] = []
        if loaded:
            self.child.answer()

    @property
    def child(self) -> Child:
        return self.processes.last

    def ask(self) -> None:
        self.process.ask("mail", {"stage": "mail"}).addCallback(self.answers.append)


def test_it_is_given_its_file_first() -> None:
    """The first frame holds the file and its limits; input is at its end; it can be asked once the file was run."""
    case = _Case(loaded=False)
    (loading,) = case.child.questions
    assert {key: loading[key] for key in ("path", "text", "memory", "seconds")} == {
        "path": PATH,
        "text": "text",
        "memory": 1 << 27,
        "seconds": LOAD_SECONDS,
    }
    assert loading["directory"].endswith("/etc/policy")
    assert 0 not in case.child.open
    assert not case.process.idle
    case.child.answer()
    assert not isinstance(result(case.process.loaded), Fault)
    assert case.process.idle
    assert case.process.ready


def test_a_question_is_answered() -> None:
    """Function, facts and deadline are sent, the answer comes back, and it can be asked again at once."""
    case = _Case()
    case.ask()
    assert case.child.questions[-1] == {
        "number": 2,
        "function": "mail",
        "seconds": DEADLINE,
        "facts": {"stage": "mail"},
    }
    assert not case.process.idle
    case.child.answer(verdicts=[])
    assert case.answers == [{"number": 2, "verdicts": []}]
    assert case.process.idle
    assert case.clock.getDelayedCalls() == []
    case.ask()
    case.child.answer(verdicts=[1])
    assert case.answers[1]["verdicts"] == [1]
    assert case.gone == []


def test_an_error_is_told_with_its_line() -> None:
    """What a function raised comes as a fault; the process goes on."""
    case = _Case()
    case.ask()
    case.child.answer(error="ValueError: bad", line=12)
    assert case.answers == [Fault("ValueError: bad", 12)]
    assert case.process.idle


@pytest.mark.parametrize("line", [None, "12", True, -1, 1.5])
def test_a_line_that_is_none_is_left_out(line: object) -> None:
    """A line that is no number of a line is as good as none."""
    case = _Case()
    case.ask()
    case.child.answer(error="x" * 5000, line=line)
    assert case.answers == [Fault("x" * 300)]


def test_an_error_after_which_it_ends() -> None:
    """A process that says that it ends is not asked again, and killed only where it stays."""
    case = _Case()
    case.ask()
    case.child.answer(error="MemoryError", line=3, last=True)
    assert case.answers == [Fault("MemoryError", 3)]
    assert not case.process.idle
    assert case.gone == [case.process]
    assert not case.child.killed
    case.clock.advance(STOP_SECONDS)
    assert case.child.killed


def test_an_overrun_is_asked_where_it_is() -> None:
    """At the deadline SIGUSR1 asks for the place; the innermost line of the file is told, then it is killed."""
    case = _Case()
    case.ask()
    case.clock.advance(DEADLINE - 0.01)
    assert case.child.signals == []
    case.clock.advance(0.01)
    assert case.child.signals == [signal.SIGUSR1]
    assert case.answers == []
    case.child.tell_place(DUMP[:150])
    assert case.answers == []
    case.child.tell_place(DUMP[150:])
    assert case.answers == [Fault("no answer in 5 s", 12)]
    assert case.child.killed
    assert case.processes.killed_groups == [case.child.pid]
    assert case.gone == [case.process]
    case.child.reap()
    assert result(case.process.ended) is None
    assert len(case.gone) == 1
    assert case.clock.getDelayedCalls() == []


def test_an_overrun_that_does_not_tell_where_it_is() -> None:
    """Without a place the answer comes all the same, a moment later."""
    case = _Case()
    case.ask()
    case.clock.advance(DEADLINE)
    case.child.tell_place('  File "/elsewhere.py", line 12 in mail\n')
    case.clock.advance(PLACE_SECONDS)
    assert case.answers == [Fault("no answer in 5 s")]
    assert case.child.killed


def test_a_place_without_end_is_bounded() -> None:
    """Who writes for ever where the place belongs is not kept; it is killed as it would be."""
    case = _Case()
    case.ask()
    case.clock.advance(DEADLINE)
    for _ in range(100):
        case.child.tell_place("x" * 60_000)
    assert len(case.process._place) <= 1 << 17
    case.clock.advance(PLACE_SECONDS)
    assert case.answers == [Fault("no answer in 5 s")]


def test_an_answer_after_the_deadline_is_too_late() -> None:
    """Once it is to be killed, it is, whatever it still says."""
    case = _Case()
    case.ask()
    case.clock.advance(DEADLINE)
    case.child.answer(verdicts=[])
    assert case.answers == []
    case.clock.advance(PLACE_SECONDS)
    assert case.answers == [Fault("no answer in 5 s")]


def test_a_place_of_an_earlier_question_does_not_count() -> None:
    """What was written during an earlier question tells nothing of this one."""
    case = _Case()
    case.ask()
    case.child.tell_place(DUMP)
    case.child.answer(verdicts=[])
    case.ask()
    case.child.exit(3)
    case.child.drain()
    assert case.answers[1] == Fault("the process ended with status 3")


@pytest.mark.parametrize(
    ("status", "killed_by", "told"),
    [
        (3, 0, "the process ended with status 3"),
        (0, 0, "the process ended"),
        (0, signal.SIGSEGV, "the process was killed by SIGSEGV"),
    ],
)
def test_a_death_is_told(status: int, killed_by: int, told: str) -> None:
    """How it ended is told, once its pipes are read: the place may be in them."""
    case = _Case()
    case.ask()
    case.child.exit(status, killed_by)
    assert case.answers == []
    case.child.tell_place(DUMP)
    assert case.answers == [Fault(told, 12)]
    case.child.drain()
    assert case.gone == [case.process]
    assert case.processes.killed_groups[0] == case.child.pid
    assert case.child.signals == []


def test_a_death_whose_pipes_stay_open() -> None:
    """Where somebody else holds its pipes, the answer does not wait for them, and our ends are closed."""
    case = _Case()
    case.ask()
    case.child.exit(1)
    case.clock.advance(PLACE_SECONDS)
    assert case.answers == [Fault("the process ended with status 1")]
    assert case.child.open == set()


def test_a_pipe_of_answers_that_is_closed() -> None:
    """A process that lives on without its pipe of answers is killed; one that is just ending says how it ended."""
    case = _Case()
    case.ask()
    case.child.close(ANSWERS)
    assert case.child.signals == [signal.SIGUSR1]
    case.child.tell_place(DUMP)
    assert case.answers == []
    case.clock.advance(PLACE_SECONDS)
    assert case.answers == [Fault("its pipe of answers was closed", 12)]
    assert case.child.killed

    case = _Case()
    case.ask()
    case.child.close(ANSWERS)
    case.child.exit(7)
    case.child.drain()
    assert case.answers == [Fault("the process ended with status 7")]


def test_a_pipe_of_questions_that_is_closed() -> None:
    """A process that no longer reads questions is not asked again; it may answer the one it has."""
    case = _Case()
    case.ask()
    case.child.close(QUESTIONS)
    case.child.answer(verdicts=[])
    assert len(case.answers) == 1
    assert not case.process.idle
    assert case.gone == [case.process]

    case = _Case()
    case.child.close(QUESTIONS)
    assert not case.process.idle
    assert case.child.killed


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        ((ANSWER_MAXIMUM + 1).to_bytes(4, "big"), "an answer that is none: 1,048,577 octets, and 1,048,576 is the"),
        (b"\0\0\0\3{]}", "an answer that is none: no JSON"),
        (b"\0\0\xff\xff" + b"[" * 0xFFFF, "an answer that is none: no JSON"),
        (frame([]), "an answer that is none, or that nobody asked for"),
        (frame({"verdicts": []}), "an answer that is none, or that nobody asked for"),
        (frame({"number": 1, "verdicts": []}), "an answer that is none, or that nobody asked for"),
    ],
)
def test_an_answer_that_is_none(octets: bytes, told: str) -> None:
    """What is no frame, no JSON, no object, or the answer to another question ends the process."""
    case = _Case()
    case.ask()
    case.child.say(octets)
    assert case.answers[0].text.startswith(told)
    assert case.child.killed
    assert case.gone == [case.process]


def test_a_second_answer() -> None:
    """A twin that answers too, at once or later, ends the process; the next question does not get its answer."""
    case = _Case()
    case.ask()
    twice = frame({"number": 2, "verdicts": []})
    case.child.say(twice + twice)
    assert case.answers == [{"number": 2, "verdicts": []}]
    assert case.child.killed

    case = _Case()
    case.ask()
    case.child.say(twice)
    case.ask()
    case.child.say(twice)
    assert case.answers[1] == Fault("an answer that is none, or that nobody asked for")


def test_an_answer_in_pieces() -> None:
    """An answer may arrive octet by octet."""
    case = _Case()
    case.ask()
    for octet in frame({"number": 2, "verdicts": [{}]}):
        assert case.answers == []
        case.child.say(bytes([octet]))
    assert case.answers == [{"number": 2, "verdicts": [{}]}]


def test_a_process_that_dies_idle() -> None:
    """A process that ends while nothing is asked is gone; nobody is answered."""
    case = _Case()
    case.child.exit(0)
    assert case.gone == [case.process]
    case.child.drain()
    assert case.answers == []
    assert result(case.process.ended) is None


def test_facts_beyond_the_bound_are_not_sent() -> None:
    """Facts that no child would take are a fault; the process can be asked further."""
    case = _Case()
    waiting = case.process.ask("mail", {"helo": "x" * QUESTION_MAXIMUM})
    assert "octets of facts, and 16,777,216 is the most" in str(result(waiting))
    assert case.process.idle


# Loading


def test_a_file_that_raises_when_it_is_run() -> None:
    """The fault is told with its line, and the process, which ends by itself, is gone."""
    case = _Case(loaded=False)
    case.child.answer(error="ImportError: no x", line=1)
    assert result(case.process.loaded) == Fault("ImportError: no x", 1)
    assert case.gone == [case.process]
    assert not case.process.ready


def test_a_file_that_does_not_come_to_its_end() -> None:
    """Loading has its own deadline."""
    case = _Case(loaded=False)
    case.clock.advance(LOAD_SECONDS)
    case.child.tell_place(DUMP)
    assert result(case.process.loaded) == Fault("no answer in 10 s", 12)
    assert case.child.killed


def test_a_process_that_dies_loading() -> None:
    """A process that ends before it was ready tells how."""
    case = _Case(loaded=False)
    case.child.exit(1)
    case.child.drain()
    assert result(case.process.loaded) == Fault("the process ended with status 1")


# Output


def test_output_is_lines() -> None:
    """What is printed is logged line by line, both outputs apart, the rest at the end."""
    case = _Case()
    case.child.print(b"one\ntw")
    case.child.print(b"error \xff\n", 2)
    case.child.print(b"o\nthree")
    assert case.output == ["one", "error \ufffd", "two"]
    case.child.exit()
    case.child.drain()
    assert case.output[3:] == ["three"]


def test_a_long_line_is_cut() -> None:
    """A line without end is kept as far as the bound."""
    case = _Case()
    for _ in range(10):
        case.child.print(b"x" * 900)
    case.child.print(b"\nnext\n")
    assert case.output == ["x" * LINE_MAXIMUM, "next"]


def test_much_output_is_left_out() -> None:
    """For one question so much is logged and no more, which is said once; the next question counts anew."""
    case = _Case()
    case.ask()
    case.child.print(b"x" * 99 + b"\n" * 1 + (b"y" * 99 + b"\n") * 999)
    assert sum(len(line) + 1 for line in case.output[:-1]) <= LOGGED_MAXIMUM
    assert case.output[-1] == "(more was printed, and is left out)"
    assert len(case.output) == LOGGED_MAXIMUM // 100 + 1
    case.child.answer(verdicts=[])
    case.ask()
    case.child.print(b"again\n")
    assert case.output[-1] == "again"


def test_too_much_output_is_an_overrun() -> None:
    """Who prints without end is killed before the deadline, and asked for its place."""
    case = _Case()
    case.ask()
    case.child.print(b"x" * PRINTED_MAXIMUM)
    assert case.child.signals == []
    case.child.print(b"x")
    case.child.tell_place(DUMP)
    assert case.answers == [Fault("more than 1,048,576 octets were printed", 12)]


# Stop


def test_an_idle_process_is_let_go() -> None:
    """It is told by the end of the questions; it ends, and nobody is killed."""
    case = _Case()
    ended = case.process.stop()
    assert QUESTIONS not in case.child.open
    assert not ended.called
    case.child.exit()
    case.child.drain()
    assert result(ended) is None
    assert not case.child.killed
    assert case.clock.getDelayedCalls() == []


def test_a_process_that_does_not_go_is_killed() -> None:
    """Who stays after the end of the questions is killed."""
    case = _Case()
    case.process.stop()
    case.clock.advance(STOP_SECONDS)
    assert case.child.killed
    case.child.reap()


def test_a_stop_waits_for_the_answer() -> None:
    """What is asked is answered first, whether that is a question or the file."""
    case = _Case()
    case.ask()
    ended = case.process.stop()
    assert QUESTIONS in case.child.open
    case.child.answer(verdicts=[])
    assert len(case.answers) == 1
    assert QUESTIONS not in case.child.open
    assert not ended.called

    case = _Case(loaded=False)
    case.process.stop()
    case.child.answer()
    assert QUESTIONS not in case.child.open
    assert case.gone == [case.process]


def test_descriptors() -> None:
    """The pipes are where the child expects them."""
    assert (QUESTIONS, ANSWERS, PLACES) == (3, 4, 5)


def test_an_idle_process_that_misbehaves() -> None:
    """A process that closes its answers, or prints without end, while nothing is asked is killed at once."""
    case = _Case()
    case.child.close(ANSWERS)
    assert case.child.signals == [signal.SIGKILL]
    assert case.gone == [case.process]

    case = _Case()
    case.ask()
    case.child.answer(verdicts=[])
    case.child.print(b"x" * (PRINTED_MAXIMUM + 1))
    assert case.child.signals == [signal.SIGKILL]
    assert case.gone == [case.process]


def test_what_has_ended_is_not_killed_again() -> None:
    """Once a process has been reaped its number may be another's: only what is left of its group is killed, once."""
    case = _Case()
    case.ask()
    case.child.exit(1)
    case.child.drain()
    assert case.processes.killed_groups == [case.child.pid]
    assert case.child.signals == []
    assert case.clock.getDelayedCalls() == []

    case = _Case()
    case.process.stop()
    case.child.exit()
    assert case.processes.killed_groups == [case.child.pid]
    case.clock.advance(STOP_SECONDS)
    assert case.processes.killed_groups == [case.child.pid]


def test_an_end_at_the_deadline() -> None:
    """A process that ends while it is asked where it is: the deadline is what is told, and nothing waits on."""
    case = _Case()
    case.ask()
    case.clock.advance(DEADLINE)
    case.child.exit(1)
    case.child.drain()
    assert case.answers == [Fault("no answer in 5 s")]
    assert case.clock.getDelayedCalls() == []
    assert len(case.gone) == 1

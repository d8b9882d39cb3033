"""A file as a policy: whatever its process does, each question is answered once, and another process is started."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import defer, task

from mta.mail.reason import Reason
from mta.policy.changes import MemoryBody
from mta.policy.facts import Facts, Stage
from mta.policy.script import FIRST_REST, FREE_DEATHS, LONGEST_REST, Script
from mta.policy.script_child import QUESTIONS
from mta.policy.script_file import ScriptFile
from mta.policy.verdict import Accept, Defer, Tag
from mta.settings.script import ScriptSettings
from tests.doubles.processes import Child, FakeProcesses
from tests.doubles.sync import failure, result

MAIL = Facts(Stage.MAIL)
RCPT = Facts(Stage.RCPT)
PATH = "etc/policy/x.py"
FAULT = "451 4.7.1 A local policy could not be asked; try again later"
SCRIPT = ScriptFile(PATH, "text", {Stage.MAIL: 20, Stage.RCPT: 30})


class _Case:
    """A script with processes that load at once."""

    def __init__(self, **settings: Any) -> None:
        self.clock = task.Clock()
        self.processes = FakeProcesses()
        self.processes.on_spawn = lambda child: child.answer()
        self.output: list[tuple[str, str]] = []
        self.script = Script(
            SCRIPT,
            ScriptSettings(**settings),
            self.processes,
            self.clock,
            lambda name, line: self.output.append((name, line)),
        )

    @property
    def child(self) -> Child:
        return self.processes.last

    def asked(self) -> list[str]:
        """The functions that were asked, in all processes."""
        return [each["function"] for child in self.processes.children for each in child.questions[1:]]

    def die(self) -> None:
        """End the process that is asked."""
        child = self.child
        child.exit(3)
        child.drain()


def reason(waiting: defer.Deferred[Any]) -> str:
    """The reason of a question that was answered with 451."""
    verdict = result(waiting)
    assert isinstance(verdict, Defer)
    assert str(verdict.reply) == FAULT
    return str(verdict.reason)


def test_it_is_a_policy() -> None:
    """Its name is that of the file, its stages those of the functions."""
    case = _Case()
    assert case.script.name == "x"
    assert case.script.stages == {Stage.MAIL, Stage.RCPT}


def test_a_question_is_put_to_the_function_of_its_stage() -> None:
    """The first question starts a process; facts go there, verdicts come back with the line that made each."""
    case = _Case(body_maximum=3)
    answer = case.script.ask(Facts(Stage.MAIL, helo="h", body=MemoryBody(b"abcdef")))
    asked = case.child.questions[-1]
    assert asked["function"] == "mail"
    assert asked["facts"]["helo"] == "h"
    assert asked["facts"]["body_base64"] == "YWJj"
    case.child.answer(verdicts=[{"verdict": "tag", "name": "new", "line": 12}, {"verdict": "accept", "reason": "fine"}])
    assert result(answer) == (
        Tag(Reason("tag new", f"{PATH}:12"), "new"),
        Accept(Reason("fine", f"{PATH}:20")),
    )
    assert len(case.processes.children) == 1


def test_no_opinion() -> None:
    """A function that returns nothing has no opinion."""
    case = _Case()
    answer = case.script.ask(MAIL)
    case.child.answer(verdicts=[])
    assert result(answer) is None
    assert result(case.script.ask(Facts(Stage.HELO))) is None
    assert case.asked() == ["mail"]


def test_one_question_at_a_time() -> None:
    """With one process questions are asked one after the other, in their order."""
    case = _Case()
    answers = [case.script.ask(facts) for facts in (MAIL, RCPT, MAIL)]
    for number in range(3):
        assert case.asked() == ["mail", "rcpt", "mail"][: number + 1]
        case.child.answer(verdicts=[])
        assert [each.called for each in answers] == [True] * (number + 1) + [False] * (2 - number)


def test_several_processes() -> None:
    """With more processes more is asked at once; another is started only where it is needed."""
    case = _Case(children=2)
    for _ in range(3):
        case.script.ask(MAIL)
    first, second = case.processes.children
    assert len(case.asked()) == 2
    second.answer(verdicts=[])
    assert len(second.questions) == 3
    first.answer(verdicts=[])
    assert len(first.questions) == 2


def test_an_error_is_a_deferral_with_its_place() -> None:
    """What a function raises becomes 451, and the reason names error, function, file and line."""
    case = _Case()
    answer = case.script.ask(MAIL)
    case.child.answer(error="ValueError: bad", line=12)
    assert reason(answer) == f"ValueError: bad in mail() [{PATH}:12]"
    again = case.script.ask(RCPT)
    case.child.answer(verdicts=[])
    assert result(again) is None
    assert len(case.processes.children) == 1


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        (None, "expected a list of verdicts, found None"),
        ([{"verdict": "reject", "code": 250}], "reject: code: expected 500 to 599, found 250"),
        ([{"verdict": "discard"}] * 101, "expected at most 100 verdicts, found 101"),
    ],
)
def test_an_answer_that_makes_no_sense(verdicts: object, told: str) -> None:
    """What no function could have said is an error of the script too."""
    case = _Case()
    answer = case.script.ask(MAIL)
    case.child.answer(verdicts=verdicts)
    assert reason(answer) == f"an answer that makes no sense, {told}, in mail() [{PATH}:20]"


def test_an_unknown_place_is_that_of_the_function() -> None:
    """Where the line is not known, that of the function is told."""
    case = _Case()
    answer = case.script.ask(RCPT)
    case.child.answer(error="ValueError")
    assert reason(answer) == f"ValueError in rcpt() [{PATH}:30]"


def test_a_death_costs_one_question() -> None:
    """A process that dies answers its question with 451; the next question meets another process, started at once."""
    case = _Case()
    answer, next_answer = case.script.ask(MAIL), case.script.ask(RCPT)
    case.die()
    assert reason(answer) == f"the process ended with status 3 in mail() [{PATH}:20]"
    assert len(case.processes.children) == 2
    assert case.child.questions[-1]["function"] == "rcpt"
    case.child.answer(verdicts=[])
    assert result(next_answer) is None


def test_a_process_is_kept_ready() -> None:
    """After a death another is started without a question."""
    case = _Case()
    case.script.start()
    case.die()
    assert len(case.processes.children) == 2
    assert case.child.protocol.idle


def test_deaths_in_a_row_lead_to_a_rest() -> None:
    """After some deaths without an answer nothing is started for a while, twice as long each time, and that is said."""
    case = _Case()
    for _ in range(FREE_DEATHS + 1):
        answer = case.script.ask(MAIL)
        case.die()
        assert "ended with status 3" in reason(answer)
    count = len(case.processes.children)
    for rest in (FIRST_REST, FIRST_REST * 2, FIRST_REST * 4):
        told = reason(case.script.ask(RCPT))
        assert told == f"the process ended with status 3 (started again in {rest:.0f} s) in rcpt() [{PATH}:30]"
        case.clock.advance(rest - 0.01)
        assert "started again" in reason(case.script.ask(MAIL))
        assert len(case.processes.children) == count
        case.clock.advance(0.01)
        answer = case.script.ask(MAIL)
        count += 1
        assert len(case.processes.children) == count
        case.die()
        assert result(answer) is not None
    for number in range(10):
        case.clock.advance(LONGEST_REST)
        case.script.ask(MAIL)
        assert len(case.processes.children) == count + number + 1
        case.die()


def test_an_answer_ends_the_count_of_deaths() -> None:
    """A process that answers, if with an error, shows that it is worth being started at once again."""
    case = _Case()
    for _ in range(5 * FREE_DEATHS):
        case.script.ask(MAIL)
        case.die()
        answer = case.script.ask(RCPT)
        case.child.answer(error="ValueError")
        assert reason(answer) == f"ValueError in rcpt() [{PATH}:30]"


def test_an_error_with_which_the_process_ends() -> None:
    """What waits is not put to a process that ends."""
    case = _Case()
    answer, next_answer = case.script.ask(MAIL), case.script.ask(RCPT)
    case.child.answer(error="MemoryError", line=3, last=True)
    assert reason(answer) == f"MemoryError in mail() [{PATH}:3]"
    assert len(case.processes.children) == 2
    case.child.answer(verdicts=[])
    assert result(next_answer) is None


def test_a_file_that_cannot_be_run() -> None:
    """Each question is answered at once with what went wrong when the file was run; later it is tried again."""
    case = _Case()
    case.processes.on_spawn = lambda child: None
    answer, next_answer = case.script.ask(MAIL), case.script.ask(RCPT)
    case.child.answer(error="ImportError: no module named y", line=1)
    told = "ImportError: no module named y, when the file was run, (started again in 1 s) in"
    assert reason(answer) == f"{told} mail() [{PATH}:1]"
    assert reason(next_answer) == f"{told} rcpt() [{PATH}:1]"
    assert reason(case.script.ask(MAIL)) == f"{told} mail() [{PATH}:1]"
    case.clock.advance(FIRST_REST)
    later = case.script.ask(MAIL)
    case.child.answer()
    case.child.answer(verdicts=[])
    assert result(later) is None


def test_no_process_can_be_started() -> None:
    """A system that is out of processes is a reason like any other, and is asked again later."""
    case = _Case()
    case.processes.failure = OSError(11, "Resource temporarily unavailable")
    told = reason(case.script.ask(MAIL))
    assert told == (
        f"no process could be started: Resource temporarily unavailable (started again in 1 s) in mail() [{PATH}:20]"
    )
    case.processes.failure = None
    case.clock.advance(FIRST_REST)
    answer = case.script.ask(MAIL)
    case.child.answer(verdicts=[])
    assert result(answer) is None


def test_too_many_questions() -> None:
    """No more wait than may; the next is answered at once."""
    case = _Case(waiting=2)
    answers = [case.script.ask(MAIL) for _ in range(3)]
    assert reason(case.script.ask(MAIL)) == f"2 questions wait already in mail() [{PATH}:20]"
    case.child.answer(verdicts=[])
    answers.append(case.script.ask(MAIL))
    for _ in range(3):
        case.child.answer(verdicts=[])
    assert [result(each) for each in answers] == [None] * 4


def test_a_question_waits_only_so_long() -> None:
    """What does not get its turn is answered, without harm to what is asked or waits behind it."""
    case = _Case(patience=20.0, deadline=60.0)
    first = case.script.ask(MAIL)
    second = case.script.ask(RCPT)
    case.clock.advance(1)
    third = case.script.ask(RCPT)
    case.clock.advance(19)
    assert reason(second) == f"no turn in 20 s in rcpt() [{PATH}:30]"
    assert not first.called
    case.child.answer(verdicts=[])
    case.child.answer(verdicts=[])
    assert result(third) is None
    assert case.asked() == ["mail", "rcpt"]
    assert case.clock.getDelayedCalls() == []


def test_a_question_may_be_cancelled() -> None:
    """One that waits is not asked; of one that is asked the answer is dropped."""
    case = _Case()
    first, second, third = case.script.ask(MAIL), case.script.ask(MAIL), case.script.ask(RCPT)
    second.cancel()
    first.cancel()
    for each in (first, second):
        assert isinstance(failure(each), defer.CancelledError)
    case.child.answer(verdicts=[])
    case.child.answer(verdicts=[])
    assert result(third) is None
    assert case.asked() == ["mail", "rcpt"]
    assert case.clock.getDelayedCalls() == []


def test_a_cancelled_question_may_overrun() -> None:
    """A question that nobody waits for any more ends at its deadline as well."""
    case = _Case(deadline=5.0)
    answer = case.script.ask(MAIL)
    answer.cancel()
    assert isinstance(failure(answer), defer.CancelledError)
    case.clock.advance(5)
    case.clock.advance(1)
    assert case.processes.children[0].killed


def test_a_body_that_cannot_be_read() -> None:
    """A fault of ours fails the question, as a bug does; what waits behind it is asked."""

    class Torn:
        size = 3

        def pieces(self) -> Iterator[bytes]:
            raise OSError("torn")

    case = _Case()
    first = case.script.ask(MAIL)
    torn = case.script.ask(Facts(Stage.MAIL, body=Torn()))
    last = case.script.ask(RCPT)
    case.child.answer(verdicts=[])
    assert isinstance(failure(torn), OSError)
    case.child.answer(verdicts=[])
    assert [result(first), result(last)] == [None, None]


def test_output_goes_to_the_log() -> None:
    """What a function prints is logged with the name of its policy."""
    case = _Case()
    case.script.ask(MAIL)
    case.child.print(b"hello\n")
    assert case.output == [("x", "hello")]


def test_stop() -> None:
    """A stop answers what waits with 451, lets what is asked end, and fires when all processes have ended."""
    case = _Case()
    asked, waits = case.script.ask(MAIL), case.script.ask(RCPT)
    ended = case.script.stop()
    assert reason(waits) == f"it has been stopped and was not asked in rcpt() [{PATH}:30]"
    assert "stopped" in reason(case.script.ask(MAIL))
    case.child.answer(verdicts=[])
    assert result(asked) is None
    assert QUESTIONS not in case.child.open
    assert not ended.called
    case.child.exit()
    case.child.drain()
    assert ended.called
    assert len(case.processes.children) == 1
    case.script.start()
    assert len(case.processes.children) == 1
    assert case.clock.getDelayedCalls() == []


def test_stop_of_what_never_began() -> None:
    """Without processes a stop is over at once."""
    assert _Case().script.stop().called


def test_stop_waits_for_a_process_that_was_killed() -> None:
    """A process that was given up, but has not ended yet, is waited for."""
    case = _Case(deadline=5.0)
    case.script.ask(MAIL)
    case.clock.advance(5)
    case.clock.advance(1)
    first, second = case.processes.children
    ended = case.script.stop()
    second.exit()
    second.drain()
    assert not ended.called
    first.reap()
    assert ended.called


def test_at_connect_the_session_is_deferred() -> None:
    """In place of a greeting there is 421, since 451 would be none (RFC 5321 §4.3.2)."""
    script = ScriptFile(PATH, "text", {Stage.CONNECT: 1})
    processes = FakeProcesses()
    processes.failure = OSError(11, "no process")
    policy = Script(script, ScriptSettings(), processes, task.Clock(), lambda name, line: None)
    verdict = result(policy.ask(Facts(Stage.CONNECT)))
    assert isinstance(verdict, Defer)
    assert str(verdict.reply) == "421 4.7.1 A local policy could not be asked; try again later"


def test_a_bug_of_ours_fails_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong between the answer and the verdicts reaches whoever asked."""
    case = _Case()
    answer = case.script.ask(MAIL)
    monkeypatch.setattr("mta.policy.verdict_json.read", lambda *_: 1 / 0)
    case.child.answer(verdicts=[])
    assert isinstance(failure(answer), ZeroDivisionError)


def test_what_has_ended_is_forgotten() -> None:
    """However many processes have died, a stop waits for those that are there."""
    case = _Case()
    for _ in range(FREE_DEATHS):
        case.script.ask(MAIL)
        case.die()
    assert len(case.script._ending) == 1

"""An administrator's file as a policy: asked in child processes, one question at a time in each.

Whatever the file does, a session gets an answer: verdicts that make sense, or 451 4.7.1 with a reason that names what
went wrong, the function, the file and the line.

==============================================  ========================================================================
question                                        answer
==============================================  ========================================================================
the function answers                            its verdicts
it raises, or its verdicts make no sense        451; the process goes on
it takes too long, the process dies             451; another process is started
no process is free                              it waits its turn; 451 after ``patience``
too many wait already                           451 at once
the file cannot be run, or no process started   451 at once, until it is time to try again
==============================================  ========================================================================

Another process is started at once where one has died; after `FREE_DEATHS` in a row without an answer in between, and
after each failure to start, it is tried again after `FIRST_REST`, then after twice as long each time, up to
`LONGEST_REST`.

A file is read at a reload (`mta.policy.script_file`), which makes a new `Script`; the old one answers what it was
asked, and ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from mta.mail.reason import Reason
from mta.policy import facts_json, verdict_json
from mta.policy.facts import Facts, Stage
from mta.policy.refusal import unanswered
from mta.policy.script_file import ScriptFile
from mta.policy.script_process import Fault, Processes, Raw, ScriptProcess
from mta.policy.verdict import Defer, Opinion
from mta.settings.script import ScriptSettings

FREE_DEATHS = 3
"""Processes that may die one after the other, without an answer in between, before there is a rest."""
FIRST_REST = 1.0
"""Seconds."""
LONGEST_REST = 60.0
"""Seconds."""

_STOPPED = Fault("it has been stopped and was not asked")

Output = Callable[[str, str], None]
"""Takes the name of a policy and a line that it printed."""


@dataclass(slots=True, eq=False)
class _Question:
    facts: Facts
    done: defer.Deferred[Opinion] = field(default_factory=defer.Deferred)
    timer: Any = None


class Script:
    """One file, as a policy. `start` may be called, so that the first question need not wait for a process."""

    def __init__(
        self,
        script: ScriptFile,
        settings: ScriptSettings,
        processes: Processes,
        clock: IReactorTime,
        output: Output,
    ) -> None:
        self.name = script.name
        self.stages = frozenset(script.functions)
        self._script = script
        self._settings = settings
        self._processes = processes
        self._clock = clock
        self._output = output
        self._children: list[ScriptProcess] = []
        self._ending: list[defer.Deferred[None]] = []
        self._waiting: deque[_Question] = deque()
        self._deaths = 0
        """Processes that were lost since the last answer."""
        self._rest_seconds = FIRST_REST
        """How long the next rest is."""
        self._rests_until = 0.0
        self._fault = Fault("not started yet")
        """Why the last process was lost."""
        self._stopping = False

    # Asking

    def ask(self, facts: Facts) -> defer.Deferred[Opinion]:
        """Ask the function of ``facts.stage``. May be cancelled; fails only where the body cannot be read."""
        if facts.stage not in self.stages:
            return defer.succeed(None)
        question = _Question(facts)
        question.done = defer.Deferred(lambda _: self._leave(question))
        if self._stopping:
            return defer.succeed(self._defer(facts.stage, _STOPPED))
        if len(self._waiting) >= self._settings.waiting:
            return defer.succeed(self._defer(facts.stage, Fault(f"{len(self._waiting)} questions wait already")))
        self._waiting.append(question)
        question.timer = self._clock.callLater(self._settings.patience, self._give_up, question)
        self._turn()
        return question.done

    def _turn(self) -> None:
        """Ask what waits, where a process is idle; start one where none is."""
        while self._waiting:
            child = next((each for each in self._children if each.idle), None)
            if child is None:
                break
            self._put(child, self._take())
        if self._waiting:
            self.start()
        if not self._children:
            while self._waiting:
                question = self._take()
                self._settle(question, self._defer(question.facts.stage, self._resting()))

    def _take(self) -> _Question:
        question = self._waiting.popleft()
        question.timer.cancel()
        return question

    def _leave(self, question: _Question) -> None:
        if question in self._waiting:
            self._waiting.remove(question)
            question.timer.cancel()

    def _give_up(self, question: _Question) -> None:
        self._waiting.remove(question)
        fault = Fault(f"no turn in {self._settings.patience:g} s")
        self._settle(question, self._defer(question.facts.stage, fault))

    def _put(self, child: ScriptProcess, question: _Question) -> None:
        try:
            facts = facts_json.write(question.facts, self._settings.body_maximum)
        except Exception:  # a body that cannot be read
            question.done.errback()
            return
        answer = child.ask(question.facts.stage.value, facts).addCallback(self._answered, child, question)
        answer.addErrback(question.done.errback)

    def _answered(self, raw: Raw, child: ScriptProcess, question: _Question) -> None:
        stage = question.facts.stage
        if child.idle:
            self._deaths, self._rest_seconds = 0, FIRST_REST
        if not isinstance(raw, Fault):
            try:
                self._settle(question, verdict_json.read(raw.get("verdicts"), stage, partial(self._source, stage)))
            except ValueError as error:
                raw = Fault(f"an answer that makes no sense, {error},")
        if isinstance(raw, Fault):
            self._fault = raw
            self._settle(question, self._defer(stage, raw))
        self._turn()

    def _settle(self, question: _Question, opinion: Opinion) -> None:
        if not question.done.called:
            question.done.callback(opinion)

    # What is said

    def _source(self, stage: Stage, given: Mapping[str, object]) -> str:
        line = given.get("line")
        return f"{self._script.path}:{line if type(line) is int else self._script.functions[stage]}"

    def _defer(self, stage: Stage, fault: Fault) -> Defer:
        source = self._source(stage, {"line": fault.line})
        return unanswered(stage, Reason(f"{fault.text} in {stage.value}()", source))

    def _resting(self) -> Fault:
        seconds = self._rests_until - self._clock.seconds()
        return Fault(f"{self._fault.text} (started again in {max(0, seconds):.0f} s)", self._fault.line)

    # Processes

    def start(self) -> None:
        """Start a process, where it may be: before it is asked anything it runs the file."""
        if self._stopping or self._clock.seconds() < self._rests_until:
            return
        if len(self._children) >= self._settings.children:
            return
        try:
            child = ScriptProcess(
                self._script,
                self._settings,
                self._processes,
                self._clock,
                lambda line: self._output(self.name, line),
                self._lost,
            )
        except OSError as error:
            self._fault = Fault(f"no process could be started: {error.strerror or error}")
            self._rest()
            return
        self._children.append(child)
        self._ending.append(child.ended)
        child.ended.addCallback(lambda _: self._ending.remove(child.ended))
        child.loaded.addCallback(self._loaded)

    def _loaded(self, raw: Raw) -> None:
        if isinstance(raw, Fault):
            self._fault = Fault(f"{raw.text}, when the file was run,", raw.line)
        self._turn()

    def _lost(self, child: ScriptProcess) -> None:
        self._children.remove(child)
        self._deaths += 1
        if not child.ready or self._deaths > FREE_DEATHS:
            self._rest()
        self.start()
        self._turn()

    def _rest(self) -> None:
        """Start nothing for a while."""
        self._rests_until = self._clock.seconds() + self._rest_seconds
        self._rest_seconds = min(LONGEST_REST, 2 * self._rest_seconds)

    def stop(self) -> defer.Deferred[Any]:
        """Ask nothing more; fires when all processes have ended."""
        self._stopping = True
        while self._waiting:
            question = self._take()
            self._settle(question, self._defer(question.facts.stage, _STOPPED))
        for child in tuple(self._children):
            child.stop()
        return defer.DeferredList(list(self._ending))

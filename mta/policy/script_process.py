"""One child process of one file (`mta.policy.script_child`), from the server's side.

=========  ====================================  ======================================================================
state      event                                 what comes of it
=========  ====================================  ======================================================================
idle       `ask`                                 asked (loading the file is the first question)
           anything is answered                  gone: the child has become two, or writes where it should not
asked      verdicts or an error                  answered; idle
           no answer in time, too much printed   dying
           the pipe of answers is closed         dying
           an answer that is none                answered; gone
           the process ends                      answered once its pipes are read; gone
dying      begins                                it is asked where it is (SIGUSR1)
           it says so, or `PLACE_SECONDS` pass   answered with the line; gone
           the process ends                      as when asked
gone       begins                                the process group is killed
`stop`     when idle                             gone, but it may end by itself within `STOP_SECONDS`
=========  ====================================  ======================================================================

What it prints goes to the log line by line, bounded; a child is never kept waiting for a reader.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet import defer
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mta.policy.frames import Frames, Malformed, frame
from mta.policy.script_child import ANSWER_MAXIMUM, ANSWERS, ERROR_MAXIMUM, PLACES, QUESTION_MAXIMUM, QUESTIONS
from mta.policy.script_file import ScriptFile
from mta.settings.script import ScriptSettings

LOAD_SECONDS = 10.0
"""For Python to start and the file to run."""
PLACE_SECONDS = 0.5
"""How long a process that is to be killed is waited for to tell where it is."""
STOP_SECONDS = 2.0
"""How long a process is waited for to end by itself."""
LOGGED_MAXIMUM = 16 * 1024
"""Octets of output that go to the log for one question."""
PRINTED_MAXIMUM = 1 << 20
"""Octets of output for one question; who prints more is killed."""
LINE_MAXIMUM = 1000
"""Octets of one line in the log."""
_DUMP_MAXIMUM = 64 * 1024

_FRAME = re.compile(r'File "(?P<path>[^"\n]*)", line (?P<line>[0-9]+) in .*\n')
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no answer, and the line of the file, where that is known."""

    text: str
    line: int | None = None


Raw = Mapping[str, Any] | Fault
"""What a process answered, or why it did not."""


class Processes(Protocol):
    """Makes and kills processes."""

    def spawn(self, protocol: ProcessProtocol) -> Any:
        """Start a child; gives its `IProcessTransport`. Raises OSError."""
        ...

    def kill_group(self, pid: int) -> None:
        """Kill a process group; one that is gone is gone."""
        ...


class SystemProcesses:
    """`Processes` of the operating system."""

    def __init__(self, reactor: IReactorProcess) -> None:
        self._reactor = reactor

    def spawn(self, protocol: ProcessProtocol) -> Any:
        """Start a child; Twisted closes all descriptors but these."""
        arguments = [sys.executable, "-I", "-B", "-u", "-X", "utf8", "-m", "mta.policy.script_child"]
        pipes: dict[int, Any] = {0: "w", 1: "r", 2: "r", QUESTIONS: "w", ANSWERS: "r", PLACES: "r"}
        return self._reactor.spawnProcess(protocol, sys.executable, arguments, _ENVIRONMENT, childFDs=pipes)

    def kill_group(self, pid: int) -> None:
        """Kill a process group."""
        # not yet a group of its own, or none any more (PermissionError is macOS's word for that)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


class _State(enum.Enum):
    IDLE = "idle"
    ASKED = "asked"
    DYING = "dying"
    GONE = "gone"


class ScriptProcess(ProcessProtocol):
    """One process. `gone` is called once, when it must not be asked any more."""

    transport: Any

    def __init__(
        self,
        script: ScriptFile,
        settings: ScriptSettings,
        processes: Processes,
        clock: IReactorTime,
        output: Callable[[str], None],
        gone: Callable[[ScriptProcess], None],
    ) -> None:
        """Start it. Raises OSError where the system does not let us."""
        self._script = script
        self._settings = settings
        self._processes = processes
        self._clock = clock
        self._gone = gone
        self._frames = Frames(ANSWER_MAXIMUM)
        self._printed = Printed(output)
        self._state = _State.IDLE
        self._waiting: defer.Deferred[Raw] | None = None
        self._timer: Any = None
        self._because = ""
        self._place = bytearray()
        self.ready = False
        """Whether the file has been run, and can be asked."""
        self._number = 0
        self._last = False
        """Whether it is not to be asked again after this answer."""
        self._reaped = False
        self.loaded: defer.Deferred[Raw]
        """Fires once the file has been run, with a Fault where that failed; after that it is idle or gone."""
        self.ended: defer.Deferred[None] = defer.Deferred()
        """Fires when the process is no more."""
        processes.spawn(self)

    @property
    def idle(self) -> bool:
        """Whether it can be asked."""
        return self._state is _State.IDLE

    # Asking

    def connectionMade(self) -> None:
        """Give it the file and its limits."""
        self._pid: int = self.transport.pid
        self.transport.closeChildFD(0)
        loading = {
            "path": self._script.path,
            "text": self._script.text,
            "directory": os.path.dirname(os.path.abspath(self._script.path)),
            "memory": self._settings.memory,
            "seconds": LOAD_SECONDS,
        }
        self.loaded = self._ask(loading, LOAD_SECONDS)

    def ask(self, function: str, facts: Mapping[str, object]) -> defer.Deferred[Raw]:
        """Ask one question, when idle. Never fails."""
        seconds = self._settings.deadline
        return self._ask({"function": function, "seconds": seconds, "facts": facts}, seconds)

    def _ask(self, question: Mapping[str, object], seconds: float) -> defer.Deferred[Raw]:
        assert self._state is _State.IDLE, "one question at a time"
        self._number += 1
        octets = frame({"number": self._number, **question})
        if len(octets) > QUESTION_MAXIMUM:
            return defer.succeed(Fault(f"{len(octets):,} octets of facts, and {QUESTION_MAXIMUM:,} is the most"))
        self._state = _State.ASKED
        self._place.clear()
        self._printed.begin()
        waiting = self._waiting = defer.Deferred()
        self._timer = self._clock.callLater(seconds, self._die, f"no answer in {seconds:g} s")
        self.transport.writeToChild(QUESTIONS, octets)
        return waiting

    # What it says

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        """Take what arrives, whatever has become of the process in between."""
        if descriptor == ANSWERS:
            self._answered(data)
        elif descriptor == PLACES:
            self._place += data[: _DUMP_MAXIMUM - len(self._place)]
            # where its pipe was closed it may be about to end, and its end says more
            if self._state is _State.DYING and self._because and self._line() is not None:
                self._conclude()
        elif not self._printed.take(descriptor, data):
            self._die(f"more than {PRINTED_MAXIMUM:,} octets were printed")

    def _answered(self, data: bytes) -> None:
        if self._state not in (_State.IDLE, _State.ASKED):
            return
        try:
            answers = self._frames.feed(data)
        except Malformed as malformed:
            self._conclude(f"an answer that is none: {malformed}")
            return
        for answer in answers:
            # The number tells the answer of a twin, of a function that forked, from that of the next question
            if self._state is _State.ASKED and isinstance(answer, dict) and answer.get("number") == self._number:
                self._last = self._last or answer.get("last") is True
                self._settle(_raw(answer))
            else:
                self._conclude("an answer that is none, or that nobody asked for")

    def _settle(self, raw: Raw) -> None:
        """Hand over the answer of a process that goes on, unless it was to be the last."""
        if not self.ready:
            self.ready = not isinstance(raw, Fault)
            self._last = self._last or not self.ready
        if self._last:
            self._end(raw, kill=False)
        else:
            self._cancel_timer()
            self._state = _State.IDLE
            self._hand_over(raw)

    def childConnectionLost(self, descriptor: int) -> None:
        """A pipe is closed at its end. That may be how the end of the process is seen first."""
        if descriptor == ANSWERS:
            self._die("")
        elif descriptor == QUESTIONS:
            self._last = True
            if self._state is _State.IDLE:
                self._end()

    # The end

    def stop(self) -> defer.Deferred[None]:
        """Let it answer what it was asked, then end; gives `ended`."""
        self._last = True
        if self._state is _State.IDLE:
            self._end(kill=False)
        return self.ended

    def _die(self, because: str) -> None:
        """It is to be killed; where it was asked something, find out first where it is."""
        if self._state is _State.IDLE:
            self._end()
        if self._state is not _State.ASKED:
            return
        self._cancel_timer()
        self._state = _State.DYING
        self._because = because
        self._timer = self._clock.callLater(PLACE_SECONDS, self._conclude)
        self._signal(signal.SIGUSR1)

    def processExited(self, reason: Failure) -> None:
        """The process is no more. What it wrote may not be read yet, and others may hold its pipes."""
        self._reaped = True
        self._processes.kill_group(self._pid)
        if self._state is _State.IDLE:
            self._end()
        elif self._state is not _State.GONE:
            self._cancel_timer()
            self._state = _State.DYING
            self._because = self._because or _status(reason)
            self._timer = self._clock.callLater(PLACE_SECONDS, self._conclude)

    def processEnded(self, reason: Failure) -> None:
        """All that it wrote has been read."""
        self._printed.flush()
        self._conclude()
        self._cancel_timer()
        self.ended.callback(None)

    def _conclude(self, because: str = "") -> None:
        """Answer what was asked with why there is no answer, and end."""
        self._end(Fault(because or self._because or "its pipe of answers was closed", self._line()))

    def _end(self, raw: Raw | None = None, *, kill: bool = True) -> None:
        """Be gone: killed, or allowed to end by itself for a while."""
        if self._state is _State.GONE:
            return
        self._cancel_timer()
        self._state = _State.GONE
        if kill:
            self._kill()
        else:
            self.transport.closeChildFD(QUESTIONS)
            self._timer = self._clock.callLater(STOP_SECONDS, self._kill)
        if raw is not None:
            self._hand_over(raw)
        self._gone(self)

    def _kill(self) -> None:
        self._timer = None
        if not self._reaped:
            self._processes.kill_group(self._pid)
            self._signal(signal.SIGKILL)
        for descriptor in (1, 2, QUESTIONS, ANSWERS, PLACES):
            # somebody that left its group may hold the other ends
            self.transport.closeChildFD(descriptor)

    def _hand_over(self, raw: Raw) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(raw)

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            self.transport.signalProcess(number)

    def _line(self) -> int | None:
        """The innermost line of the file in what faulthandler wrote, which comes innermost first."""
        path = self._script.path.encode("ascii", "backslashreplace").decode()
        for found in _FRAME.finditer(self._place.decode("ascii", "replace")):
            if found["path"] == path:
                return int(found["line"])
        return None


class Printed:
    """What a process prints, as lines for the log: no more of it than is bearable."""

    def __init__(self, output: Callable[[str], None]) -> None:
        self._output = output
        self._lines: dict[int, bytearray] = {}
        self._logged = 0
        self._taken = 0

    def begin(self) -> None:
        """Begin to count anew."""
        self._logged = self._taken = 0

    def take(self, descriptor: int, data: bytes) -> bool:
        """Take output; False where there is more than may be."""
        self._taken += len(data)
        line = self._lines.setdefault(descriptor, bytearray())
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(line, piece)
            self._log(bytes(line))
            line.clear()
        self._add(line, rest)
        return self._taken <= PRINTED_MAXIMUM

    def flush(self) -> None:
        """Log what has no line end."""
        for line in self._lines.values():
            if line:
                self._log(bytes(line))
                line.clear()

    def _add(self, line: bytearray, piece: bytes) -> None:
        line += piece[: LINE_MAXIMUM - len(line)]

    def _log(self, line: bytes) -> None:
        before = self._logged
        self._logged += len(line) + 1
        if self._logged <= LOGGED_MAXIMUM:
            self._output(line.decode("utf-8", "replace"))
        elif before <= LOGGED_MAXIMUM:
            self._output("(more was printed, and is left out)")


def _raw(answer: Mapping[str, Any]) -> Raw:
    error, line = answer.get("error"), answer.get("line")
    if isinstance(error, str):
        return Fault(error[:ERROR_MAXIMUM], line if type(line) is int and line > 0 else None)
    return answer


def _status(reason: Failure) -> str:
    error = reason.value
    if isinstance(error, ProcessTerminated) and error.signal:
        return f"the process was killed by {signal.Signals(error.signal).name}"
    return (
        f"the process ended with status {error.exitCode}"
        if isinstance(error, ProcessTerminated)
        else "the process ended"
    )

"""Child processes in memory: the double of `mta.policy.script_process.Processes`.

Each `spawn` makes a `Child`. The test reads what it was asked, and says what it answers, prints, closes, and when it
ends; nothing happens by itself but that who is killed ends when the test says `reap`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.python.failure import Failure

from mta.policy.frames import Frames, frame
from mta.policy.script_child import ANSWERS, PLACES, QUESTION_MAXIMUM, QUESTIONS


class Child:
    """One process, from its own side; `questions` are the frames that it was sent."""

    def __init__(self, protocol: Any, pid: int) -> None:
        self.protocol = protocol
        self.pid = pid
        self.questions: list[Any] = []
        self.signals: list[int] = []
        self.open = {0, 1, 2, QUESTIONS, ANSWERS, PLACES}
        self.exited = False
        self._frames = Frames(QUESTION_MAXIMUM)

    # Called by the server

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        """Take a question."""
        assert descriptor in self.open
        assert descriptor == QUESTIONS
        self.questions += self._frames.feed(data)

    def closeChildFD(self, descriptor: int) -> None:
        """Close the server's end of a pipe."""
        self.open.discard(descriptor)

    def signalProcess(self, number: int) -> None:
        """Note a signal."""
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(number)

    # Called by the test

    def answer(self, **answer: Any) -> None:
        """Answer the last question."""
        self.say(frame({"number": self.questions[-1]["number"], **answer}))

    def say(self, octets: bytes) -> None:
        """Write to the pipe of answers, whatever it is."""
        self.protocol.childDataReceived(ANSWERS, octets)

    def print(self, octets: bytes, descriptor: int = 1) -> None:
        """Write to standard output."""
        self.protocol.childDataReceived(descriptor, octets)

    def tell_place(self, text: str) -> None:
        """Write as faulthandler does."""
        self.protocol.childDataReceived(PLACES, text.encode())

    def close(self, descriptor: int) -> None:
        """Close this end of a pipe."""
        self.open.discard(descriptor)
        self.protocol.childConnectionLost(descriptor)

    def exit(self, status: int = 0, killed_by: int = 0) -> None:
        """End; what it wrote may still be in the pipes until `drain`."""
        self.exited = True
        error = ProcessTerminated(status, killed_by) if status or killed_by else ProcessDone(0)
        self._reason = Failure(error)
        self.protocol.processExited(self._reason)

    def drain(self) -> None:
        """Let all pipes be closed."""
        for descriptor in sorted(self.open):
            self.close(descriptor)
        self.protocol.processEnded(self._reason)

    @property
    def killed(self) -> bool:
        """Whether it was sent SIGKILL."""
        return signal.SIGKILL in self.signals

    def reap(self) -> None:
        """End of what was sent SIGKILL."""
        assert self.killed
        self.exit(killed_by=signal.SIGKILL)
        self.drain()


class FakeProcesses:
    """Makes `Child`s, up to the point where the test says that the system has none left."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.killed_groups: list[int] = []
        self.failure: OSError | None = None
        self.on_spawn: Callable[[Child], None] = lambda child: None

    def spawn(self, protocol: Any) -> Any:
        """Start one."""
        if self.failure is not None:
            raise self.failure
        child = Child(protocol, 1000 + len(self.children))
        self.children.append(child)
        protocol.makeConnection(child)
        self.on_spawn(child)
        return child

    def kill_group(self, pid: int) -> None:
        """Note it."""
        self.killed_groups.append(pid)

    @property
    def last(self) -> Child:
        """The process that was started last."""
        return self.children[-1]

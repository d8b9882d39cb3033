"""The child process in which one administrator's file runs: ``python -I -m mta.policy.script_child``.

It is a process group of its own, with the descriptors below and no others, and ends when the server does:

===  =================================================================================================
0    at its end from the start
1,2  read by the server, as lines of the log
3    questions, 4 answers: JSON in frames (`mta.policy.frames`)
5    where a function was, in the words of faulthandler, when it is asked for with SIGUSR1 or crashes
===  =================================================================================================

The first frame holds the file and the limits, each further one a question:

    {"path": …, "text": …, "directory": …, "memory": octets, "seconds": to load}   →  {}
    {"function": "mail", "seconds": deadline, "facts": {…}}                        →  {"verdicts": [{…, "line": 12}]}
    either                                                                         →  {"error": …, "line": 12}

Each has a ``number``, which the answer repeats. With ``last`` the child says that it ends.

Limits (setrlimit(2)): address space; processor time, as a last resort where the server is gone; no core; few
descriptors; no process or thread of its own (which the kernel does not hold root to). This is a fence against mistakes
and overruns, not a prison: the file is the administrator's and may read what the server may.
"""

from __future__ import annotations

import base64
import ctypes
import faulthandler
import math
import os
import resource
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, cast

from mta.policy.frames import LENGTH, frame, value
from mta.policy.script_api import Facts, Record, Verdict
from mta.policy.vocabulary import VERDICTS_MAXIMUM, misplaced, shown

QUESTIONS, ANSWERS, PLACES = 3, 4, 5
"""Descriptors."""

NICE = 5
FILES_MAXIMUM = 64
PROCESSOR_SECONDS = 2
"""More than a deadline: the server is to be the one that kills."""
QUESTION_MAXIMUM = 16 << 20
"""Octets of a question: head and body in base64, and what else is known."""
ANSWER_MAXIMUM = 1 << 20
"""Octets of an answer in JSON."""
ERROR_MAXIMUM = 300
"""Characters of an error."""

_PR_SET_PDEATHSIG = 1
_BALLAST = 1 << 20
"""Octets that are given back where memory ran out, so that it can still be told."""


def main() -> None:
    """Serve until the server closes the questions."""
    server = os.getppid()
    os.setsid()
    _die_with(server)
    os.nice(NICE)
    faulthandler.enable(file=PLACES, all_threads=False)
    faulthandler.register(signal.SIGUSR1, file=PLACES, all_threads=False)
    faulthandler.register(signal.SIGXCPU, file=PLACES, all_threads=False, chain=True)
    loading = _next()
    if loading is None:
        return
    _limit(loading["memory"])
    os.chdir(loading["directory"])
    script = _Script(loading["path"])
    good = script.attempt(loading, script.load)
    while good and (question := _next()) is not None:
        script.attempt(question, script.answer)


def _die_with(server: int) -> None:
    """Ask the kernel to be killed when the server dies, on Linux; elsewhere the end of the questions does it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server:
        sys.exit(1)


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAXIMUM, FILES_MAXIMUM))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _limit_processor(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds + PROCESSOR_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _next() -> dict[str, Any] | None:
    """Read a frame of the server's; None at the end."""
    length = _read(LENGTH)
    if not length:
        return None
    size = int.from_bytes(length, "big")
    assert size <= QUESTION_MAXIMUM, "the server keeps to this bound"
    return cast(dict[str, Any], value(_read(size)))


def _read(size: int) -> bytes:
    out = bytearray()
    while len(out) < size:
        octets = os.read(QUESTIONS, size - len(out))
        if not octets:
            return b""
        out += octets
    return bytes(out)


def _send(answer: Mapping[str, object]) -> None:
    octets = frame(answer)
    while octets:
        octets = octets[os.write(ANSWERS, octets) :]


class _NoSense(ValueError):
    """A verdict that makes no sense, and the line that made it."""

    def __init__(self, text: str, line: int) -> None:
        super().__init__(text)
        self.line = line


class _Script:
    """The file, as a module."""

    def __init__(self, path: str) -> None:
        self._path = path
        name = f"policy_{os.path.basename(path).removesuffix('.py')}"
        # Registered, as a dataclass looks its module up
        self._module = sys.modules[name] = types.ModuleType(name)
        self._module.__file__ = path
        self._ballast = bytearray(_BALLAST)

    def load(self, loading: Mapping[str, Any]) -> dict[str, object]:
        """Run the file."""
        code = compile(loading["text"], self._path, "exec", dont_inherit=True)
        exec(code, vars(self._module))  # noqa: S102  # what all this is for
        return {}

    def answer(self, question: Mapping[str, Any]) -> dict[str, object]:
        """Call one of its functions."""
        name: str = question["function"]
        function: Callable[[Facts], object] = getattr(self._module, name)
        answer: dict[str, object] = {"verdicts": list(_verdicts(name, function(facts(question["facts"]))))}
        if len(frame(answer)) > ANSWER_MAXIMUM:
            raise ValueError(f"expected verdicts of at most {ANSWER_MAXIMUM:,} octets, found more")
        return answer

    def attempt(self, asked: Mapping[str, Any], work: Callable[[Mapping[str, Any]], dict[str, object]]) -> bool:
        """Answer with what `work` gives, or with what it raises; whether it was good. Ends where memory ran out."""
        _limit_processor(asked["seconds"])
        number = {"number": asked["number"]}
        try:
            answer = work(asked)
        except MemoryError as error:
            self._ballast.clear()
            _send(number | self._told(error) | {"last": True})
            sys.exit(1)
        except BaseException as error:  # SystemExit too: whatever a function raises is its answer
            _send(number | self._told(error))
            return False
        _send(number | answer)
        return True

    def _told(self, error: BaseException) -> dict[str, object]:
        """Say what was raised, and by which line of the file."""
        name, line = type(error).__name__, None
        if isinstance(error, _NoSense):
            name, line = "ValueError", error.line
        try:
            text = " ".join(str(error).split())
        except Exception:  # a class of the administrator's that cannot be written as text
            text = ""
        for step, number in traceback.walk_tb(error.__traceback__):
            if step.f_code.co_filename == self._path:
                line = number
        return {"error": f"{name}: {text}"[:ERROR_MAXIMUM] if text else name, "line": line}


def facts(given: Mapping[str, Any]) -> Facts:
    """Make what a function is told of the JSON that `mta.policy.facts_json.write` made."""
    values = {name: _plain(each) for name, each in given.items() if not name.endswith("_base64")}
    values["head"] = base64.b64decode(given["head_base64"])
    values["body"] = base64.b64decode(given.get("body_base64", ""))
    values.setdefault("body_size", 0)
    values["tags"] = frozenset(given["tags"])
    return Facts(values)


def _plain(given: object) -> object:
    if isinstance(given, dict):
        return Record({name: _plain(each) for name, each in given.items()})
    return tuple(map(_plain, given)) if isinstance(given, list) else given


def _verdicts(function: str, answer: object) -> Iterator[dict[str, object]]:
    """Write what a function returned. Raises where that makes no sense."""
    if answer is None:
        return
    several = (answer,) if isinstance(answer, Verdict) else answer
    if isinstance(several, str | bytes | Mapping) or not isinstance(several, Iterable):
        raise TypeError(f"expected None, a verdict or several, found {shown(answer)}")
    found = list(islice(several, VERDICTS_MAXIMUM + 1))
    if len(found) > VERDICTS_MAXIMUM:
        raise ValueError(f"expected at most {VERDICTS_MAXIMUM} verdicts, found more")
    for each in found:
        if not isinstance(each, Verdict):
            raise TypeError(f"expected a verdict, found {shown(each)}")
        complaint = misplaced(each.word, each.parameters, function)
        if complaint:
            raise _NoSense(complaint, each.line)
        yield {"verdict": each.word, **each.parameters, "line": each.line}


if __name__ == "__main__":
    main()

"""Files of an administrator in real processes: whatever they do, 451 and the place, and the next question works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.selectreactor import SelectReactor

from mta.policy.changes import MemoryBody
from mta.policy.facts import Facts, Stage
from mta.policy.script import Script
from mta.policy.script_file import read_script
from mta.policy.script_process import SystemProcesses
from mta.policy.verdict import Defer, Opinion
from mta.settings.script import ScriptSettings
from mta.smtp.address import Mailbox
from tests.live.peers.process import NOBODY, eventually

pytestmark = pytest.mark.live

MAIL = Facts(Stage.MAIL, sender=Mailbox("a", "example.net"))
RCPT = Facts(Stage.RCPT)
PREFACE = """\
import os, sys, time
from mta.policy.script_api import accept, defer, reject, tag
def rcpt(facts):
    return accept(str(os.getpid()))
"""
LINE = len(PREFACE.splitlines()) + 1
"""Where a test's own text begins."""


class _House:
    """A reactor of its own, and scripts on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reactor: Any = SelectReactor()
        self.output: list[str] = []
        self.scripts: list[Script] = []

    def script(self, text: str, **settings: Any) -> Script:
        """Start a file: the preface, then `text`."""
        path = self.directory / "x.py"
        path.write_text(PREFACE + textwrap.dedent(text))
        problems: list[Any] = []
        file = read_script(str(path), problems)
        assert file is not None, problems
        script = Script(
            file,
            ScriptSettings(**{"deadline": 30.0, "patience": 60.0, **settings}),
            SystemProcesses(self.reactor),
            self.reactor,
            lambda name, line: self.output.append(line),
        )
        self.scripts.append(script)
        return script

    def run(self, work: Coroutine[Any, Any, Any] | defer.Deferred[Any]) -> Any:
        """Run the reactor until `work` is done."""
        outcome: list[Any] = []

        def stop(value: Any) -> None:
            outcome.append(value)
            self.reactor.crash()

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.reactor.callWhenRunning(lambda: defer.ensureDeferred(work).addBoth(stop))
        giving_up = self.reactor.callLater(60, self.reactor.crash)
        self.reactor.run()
        if giving_up.active():
            giving_up.cancel()
        for number, answer in before.items():
            signal.signal(number, answer)
        assert outcome, "not within 60 s"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[_House]:
    """Scripts that are stopped when the test is done, and leave no process behind."""
    here = _House(tmp_path)
    yield here

    async def stop() -> None:
        for script in here.scripts:
            await script.stop()

    here.run(stop())
    assert [line for line in here.output if "Traceback" in line] == []


def source(house: _House, line: int) -> str:
    """File and line, as reasons have it."""
    return f"[{house.directory}/x.py:{line}]"


async def both(script: Script) -> tuple[Opinion, Opinion]:
    """Ask mail, then rcpt."""
    return await script.ask(MAIL), await script.ask(RCPT)


def test_a_file_is_asked(house: _House) -> None:
    """Facts go in, verdicts come out, in one process after another question."""
    script = house.script(
        """\
        count = 0
        def mail(facts):
            global count
            count += 1
            return [tag(f"seen-{count}"), reject(f"No mail from {facts.sender}")]
        def message(facts):
            return reject(f"{facts.head!r} {facts.body!r} of {facts.body_size}", reason=facts.header("Subject"))
        """,
        body_maximum=4,
    )

    async def ask() -> Any:
        body = MemoryBody(b"abcdefgh")
        message = Facts(Stage.MESSAGE, head=b"Subject: =?utf-8?q?=C3=BC?=\r\n", body=body)
        return [await script.ask(MAIL), await script.ask(MAIL), await script.ask(message)]

    first, second, third = house.run(ask())
    assert first[1].reply.text == "No mail from a@example.net"
    assert str(first[1].reason) == f"reject No mail from a@example.net {source(house, LINE + 4)}"
    assert [first[0].name, second[0].name] == ["seen-1", "seen-2"]
    assert third[0].reply.text == "b'Subject: =?utf-8?q?=C3=BC?=\\r\\n' b'abcd' of 8"
    assert third[0].reason.text == "ü"


@pytest.mark.parametrize(
    ("text", "line", "told", "settings"),
    [
        ("while True:\n    pass", (0, 1), "no answer in 0.3 s", {"deadline": 0.3}),
        ("time.sleep(1000)", (0,), "no answer in 0.3 s", {"deadline": 0.3}),
        ("import re\nre.match('(a*)*b', 'a' * 40)", (1,), "no answer in 0.3 s", {"deadline": 0.3}),
        ("sum(range(10 ** 12))", (0,), "no answer in 0.3 s", {"deadline": 0.3}),
        ("import signal\nsignal.pause()", (1,), "no answer in 0.3 s", {"deadline": 0.3}),
        ("os.kill(os.getpid(), 19)", (-1,), "no answer in 0.3 s", {"deadline": 0.3}),
        ("import signal\nsignal.signal(10, signal.SIG_IGN)\nwhile True: pass", (-1,), "no answer in 0.3 s",
         {"deadline": 0.3}),
        ("hog = []\nwhile True:\n    hog.append('x' * 1000000)", (2,), "MemoryError", {"memory": 1 << 27}),
        ("return 'x' * (1 << 30)", (0,), "MemoryError", {"memory": 1 << 27}),
        ("os._exit(3)", (-1,), "the process ended with status 3", {}),
        ("os.kill(os.getpid(), 9)", (-1,), "the process was killed by SIGKILL", {}),
        ("import ctypes\nctypes.string_at(0)", (1,), "the process was killed by SIGSEGV", {}),
        ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass", (2,),
         "the process was killed by SIGXCPU", {}),
        ("os.abort()", (0,), "the process was killed by SIGABRT", {}),
        ("sys.exit(5)", (0,), "SystemExit: 5", {}),
        ("raise KeyboardInterrupt", (0,), "KeyboardInterrupt", {}),
        ("raise ValueError('two\\nlines')", (0,), "ValueError: two lines", {}),
        ("def again(): again()\nagain()", (0,), "RecursionError: maximum recursion depth exceeded", {}),
        ("return 1 / 0", (0,), "ZeroDivisionError: division by zero", {}),
        ("return facts.sendr", (0,), "AttributeError: no 'sendr' here; there are stage", {}),
        ("facts.sender = 'x'", (0,), "AttributeError: facts cannot be changed", {}),
        ("return reject(code=250)", (0,), "ValueError: reject: code: expected 500 to 599, found 250", {}),
        ("return True", (-1,), "TypeError: expected None, a verdict or several, found True", {}),
        ("class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd", (2,), "Odd", {}),
        ("while True: print('x' * 1000)", (0,), "more than 1,048,576 octets were printed", {}),
        ("os.write(4, b'garbage, and a lot of it')", (-1, 0), "an answer that is none", {}),
        ("os.write(4, b'\\0\\0\\0\\2{}')", (-1, 0), "an answer that is none, or that nobody asked for", {}),
        ("os.close(4)\ntime.sleep(1000)", (1, 0), "its pipe of answers was closed", {}),
        ("os.closerange(0, 60)\nwhile True: pass", (-1,), "", {"deadline": 5.0}),
    ],
)  # fmt: skip
def test_whatever_a_function_does(
    house: _House, text: str, line: tuple[int, ...], told: str, settings: dict[str, Any]
) -> None:
    """It costs one answer, which is 451 with what happened and where; the next question is answered."""
    script = house.script("def mail(facts):\n" + textwrap.indent(text, "    ") + "\n", **settings)
    fault, after = house.run(both(script))
    assert isinstance(fault, Defer)
    assert str(fault.reply) == "451 4.7.1 A local policy could not be asked; try again later"
    assert fault.reason.text.startswith(told)
    assert fault.reason.text.endswith(" in mail()")
    assert str(fault.reason).endswith(tuple(source(house, LINE + 1 + number) for number in line))
    assert after[0].reason.text.isdigit()
    assert all(len(output) <= 1000 for output in house.output)


def test_a_verdict_at_the_wrong_stage(house: _House) -> None:
    """A verdict that makes no sense at its stage is told with the line that made it, not that of the function."""
    script = house.script("""\
        from mta.policy.script_api import discard
        def helo(facts):
            answer = discard()
            return answer
        """)
    fault = house.run(script.ask(Facts(Stage.HELO)))
    assert str(fault.reason) == (
        f"ValueError: discard: there is no message yet at the stage helo in helo() {source(house, LINE + 2)}"
    )


def test_printing_goes_to_the_log(house: _House) -> None:
    """Both outputs are logged, also what has no line end, and cost nothing."""
    script = house.script("""\
        print("loaded")
        def mail(facts):
            print("grüße", flush=False)
            print("to error", file=sys.stderr)
            os.write(1, b"no end \\xff")
            os._exit(0)
        """)
    house.run(both(script))
    assert house.output[0] == "loaded"
    assert sorted(house.output[1:4]) == ["grüße", "no end \ufffd", "to error"]


def test_reading_input_and_closing_output(house: _House) -> None:
    """Input is at its end; a function may close its outputs and is asked further in the same process."""
    script = house.script("""\
        def mail(facts):
            read = sys.stdin.read()
            os.close(0), os.close(1), os.close(2)
            return accept(f"{read!r} {os.getpid()}")
        """)
    first, after = house.run(both(script))
    assert first[0].reason.text == f"'' {after[0].reason.text}"


def test_the_fence(house: _House) -> None:
    """A process has its pipes and nothing else, its limits, its group, its directory, and no settings of ours."""
    script = house.script("""\
        import resource
        def mail(facts):
            names = "AS", "NOFILE", "CORE"
            limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names}
            files = sorted(os.listdir("/proc/self/fd"), key=int)
            return accept(repr([
                limits, files[:-1], os.getpid() == os.getpgrp() == os.getsid(0), os.getpriority(0, 0),
                sorted(os.environ), sys.flags.isolated, 30 < resource.getrlimit(resource.RLIMIT_CPU)[0] < 40,
            ]).replace("[", "(").replace("]", ")")[:400])
        def data(facts):
            return accept(os.getcwd())
        """, memory=1 << 27)  # fmt: skip
    os.environ["MTA_SECRET"] = "x"
    try:
        answer = house.run(script.ask(MAIL))
    finally:
        del os.environ["MTA_SECRET"]
    assert answer[0].reason.text == (
        "({'AS': (134217728, 134217728), 'NOFILE': (64, 64), 'CORE': (0, 0)}, "
        "('0', '1', '2', '3', '4', '5'), True, 5, ('LC_ALL', 'PATH'), 1, True)"
    )
    assert house.run(script.ask(Facts(Stage.DATA)))[0].reason.text == str(house.directory)


@pytest.mark.skipif(os.getuid() != 0, reason="root is told how others are held")
def test_a_fork_bomb(house: _House) -> None:
    """A process that is not root's makes no other process and no thread."""
    script = house.script(f"""\
        def mail(facts):
            os.setuid({NOBODY})
            while True:
                os.fork()
        def data(facts):
            import threading
            os.setuid({NOBODY})
            threading.Thread(target=print).start()
        """)
    fault, after = house.run(both(script))
    assert str(fault.reason) == (
        f"BlockingIOError: [Errno 11] Resource temporarily unavailable in mail() {source(house, LINE + 3)}"
    )
    assert after[0].reason.text.isdigit()
    assert "can't start new thread in data()" in house.run(script.ask(Facts(Stage.DATA))).reason.text


@pytest.mark.skipif(os.getuid() != 0, reason="nobody else can fork there")
def test_a_twin(house: _House) -> None:
    """Where a function forks, its twin gets nowhere: no question has the answer of another, and its group is killed."""
    script = house.script("""\
        def mail(facts):
            twin = os.fork()
            if twin:
                print(twin)
            else:
                time.sleep(1000)
        def data(facts):
            if not os.fork():
                time.sleep(0.2)
            return accept("data")
        """)
    first, after = house.run(both(script))
    assert first is None
    assert after[0].reason.text.isdigit()

    async def answer_twice() -> Opinion:
        data: Any = await script.ask(Facts(Stage.DATA))
        assert data[0].reason.text == "data"
        slow = defer.Deferred[None]()
        house.reactor.callLater(0.5, slow.callback, None)
        await slow
        return await script.ask(RCPT)

    assert house.run(answer_twice())[0].reason.text != after[0].reason.text
    eventually(lambda: not running(int(house.output[0])), "the end of the twin")


def running(pid: int) -> bool:
    """Whether a process is there, and more than a remainder that waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "told", "line"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'", 0),
        ("raise ValueError('bad')", "ValueError: bad", 0),
        ("\nos._exit(1)", "the process ended with status 1", None),
        ("hog = 'x' * (1 << 40)", "MemoryError", 0),
    ],
)
def test_a_file_that_cannot_be_run(house: _House, text: str, told: str, line: int | None) -> None:
    """Each question is answered with what went wrong when the file was run, and where."""
    script = house.script(text + "\n")
    for fault in (house.run(script.ask(RCPT)), house.run(script.ask(RCPT))):
        assert isinstance(fault, Defer)
        assert fault.reason.text.startswith(f"{told}, when the file was run, (started again in")
        # where the line is not known it is that of the function that was to be asked
        assert line is None or str(fault.reason).endswith(source(house, LINE + line))


def test_what_is_asked_is_what_was_read(house: _House) -> None:
    """A file that is edited counts from the next reload on, also for a process that is started anew before."""
    script = house.script("def mail(facts): os._exit(0)\n")
    house.run(both(script))
    (house.directory / "x.py").write_text("raise SystemExit\n")
    _, after = house.run(both(script))
    assert after[0].reason.text.isdigit()


def test_many_questions_at_once(house: _House) -> None:
    """Questions are spread over the processes there may be, and each is answered."""
    script = house.script("def mail(facts): return accept(str(os.getpid()))\n", children=2)

    async def ask() -> list[Any]:
        return [await each for each in [script.ask(MAIL) for _ in range(100)]]

    answers = house.run(ask())
    assert len({answer[0].reason.text for answer in answers}) == 2


_SERVER = """
import sys
from twisted.internet.selectreactor import SelectReactor
from mta.policy.facts import Facts, Stage
from mta.policy.script import Script
from mta.policy.script_file import read_script
from mta.policy.script_process import SystemProcesses
from mta.settings.script import ScriptSettings
reactor = SelectReactor()
file = read_script(sys.argv[1], [])
output = lambda name, line: print(line, flush=True)
script = Script(file, ScriptSettings(deadline=50.0), SystemProcesses(reactor), reactor, output)
reactor.callWhenRunning(lambda: script.ask(Facts(Stage.MAIL)))
reactor.run()
"""


def test_no_process_is_left_behind(house: _House) -> None:
    """Where the server is killed, its processes end, whatever they are doing."""
    house.script("def mail(facts):\n    print(os.getpid())\n    while True: pass\n")
    path = str(house.directory / "x.py")
    with subprocess.Popen([sys.executable, "-c", _SERVER, path], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        child = int(server.stdout.readline())
        assert running(child)
        server.send_signal(signal.SIGKILL)
    eventually(lambda: not running(child), "the end of the process")

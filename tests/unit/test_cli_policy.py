"""`mta policy`: what a file says to given facts, and how an administrator's mistakes are told."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mta.cli import main
from mta.cli.example import EXAMPLE, KNOWN_FROM, read_message
from mta.policy import facts_json
from mta.policy.facts import Facts, Stage

SCRIPT = """\
from mta.policy.script_api import add_header, reject, tag
asked = 0
def mail(facts):
    if facts.sender is None:
        return None
    return reject(f"No mail from {facts.sender}", reason=f"seen at {facts.address}")
def rcpt(facts):
    return [tag("one"), tag(str(len(facts.recipients)), reason="because")]
def message(facts):
    global asked
    asked += 1
    print("looking", facts.header("Subject"))
    return add_header("X-Seen", f"{asked} {len(facts.body)} {facts.size} {facts.recipient}")
"""


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Leave the handling of signals as it was: each command has a reactor that changes it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handling in before.items():
        signal.signal(number, handling)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The file that most tests ask."""
    path = tmp_path / "x.py"
    path.write_text(SCRIPT)
    return path


def mta(*arguments: object, given: str | bytes | None = None) -> Result:
    """Run `mta policy …`."""
    return CliRunner().invoke(main, ["policy", *map(str, arguments)], input=given)


def lines(result: Result) -> list[str]:
    """What was printed, without the directory of the test; the command succeeded."""
    assert result.exit_code == 0, result.output
    return [line[: line.rfind("[")] + "[x.py" + line[line.rfind(":") :] if line.endswith("]") else line
            for line in result.output.splitlines()]  # fmt: skip


def test_what_a_file_says(script: Path, tmp_path: Path) -> None:
    """Each function is asked with what its options say, each recipient by itself; verdict, reason and line are told."""
    letter = tmp_path / "letter"
    letter.write_bytes(b"Subject: =?utf-8?q?h=C3=A9?=\n\nbody\n")
    result = mta("test", script, "--from", "a@example.net", "--to", "b@example.org", "--to", "c@example.org",
                 "--ip", "192.0.2.9", "--message", letter)  # fmt: skip
    assert lines(result) == [
        "mail: reject 550 5.7.1 No mail from a@example.net: seen at 192.0.2.9 [x.py:6]",
        "rcpt b@example.org: tag one [x.py:8]",
        "rcpt b@example.org: tag 0: because [x.py:8]",
        "rcpt c@example.org: tag one [x.py:8]",
        "rcpt c@example.org: tag 1: because [x.py:8]",
        "    | looking hé",
        "message: add_header X-Seen 1 6 38 None 0 [x.py:13]",
    ]


def test_one_stage(script: Path) -> None:
    """With a stage that function alone is asked; the null path is given as ``<>``."""
    assert lines(mta("test", script, "--stage", "mail", "--from", "<>")) == ["mail: no opinion"]
    assert lines(mta("test", script, "--stage", "rcpt"))[0] == "rcpt: tag one [x.py:8]"


def test_json(script: Path) -> None:
    """For programs there is one object a question."""
    result = mta("test", script, "--from", "a@example.net", "--json", "--message", "-", given=b"\nx")
    mail, rcpt, message = map(json.loads, result.output.splitlines())
    assert mail == {
        "stage": "mail",
        "recipient": None,
        "failed": None,
        "verdicts": [
            {
                "verdict": "reject",
                "reason": "seen at 192.0.2.1",
                "source": f"{script}:6",
                "reply": "550 5.7.1 No mail from a@example.net",
            }
        ],
        "printed": [],
    }
    assert [each["name"] for each in rcpt["verdicts"]] == ["one", "0"]
    assert message["printed"] == ["looking "]
    assert message["verdicts"][0]["value"] == "1 3 5 None"


def test_recorded_facts(script: Path, tmp_path: Path) -> None:
    """Facts of a file are asked at their stage, several in turn in one process; options are put over them."""
    file = tmp_path / "facts.json"
    file.write_text(json.dumps([{"stage": "message", "size": 7}, {"stage": "message"}, {"stage": "helo"}]))
    assert lines(mta("test", script, "--facts", file))[1::2] == [
        "message: add_header X-Seen 1 0 7 None 0 [x.py:13]",
        "message: add_header X-Seen 2 0 0 None 0 [x.py:13]",
    ]
    single = '{"stage": "mail", "sender": "a@example.net", "address": "192.0.2.7"}'
    told = lines(mta("test", script, "--facts", "-", "--ip", "192.0.2.8", given=single))
    assert told == ["mail: reject 550 5.7.1 No mail from a@example.net: seen at 192.0.2.8 [x.py:6]"]
    assert lines(mta("test", script, "--facts", "-", "--stage", "rcpt", given=single))[0].startswith("rcpt: ")


@pytest.mark.parametrize("stage", Stage)
def test_example_facts(script: Path, stage: Stage) -> None:
    """What `mta policy facts` prints can be read back, and holds what is known at the stage and no more."""
    facts = facts_json.read(json.loads(mta("facts", "--stage", stage.value).output))
    assert facts.stage is stage
    later = [each for each in list(Stage)[list(Stage).index(stage) + 1 :] for each in KNOWN_FROM.get(each, ())]
    assert [name for name in later if getattr(facts, name) != getattr(Facts(stage), name)] == []
    assert facts.address == EXAMPLE.address
    assert (facts.recipient is not None) is (stage is Stage.RCPT)


def test_the_example_is_whole() -> None:
    """The example has a value for each field that can have one, and what comes when is told for no field twice."""
    always = {"login", "mechanism", "smtputf8", "early", "tags", "unknown_recipients", "rehearsal", "service"}
    default = Facts(Stage.ATTEMPT)
    empty = {each.name for each in fields(Facts) if getattr(EXAMPLE, each.name) == getattr(default, each.name)}
    assert empty == always | {"stage"}
    names = [name for names in KNOWN_FROM.values() for name in names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("octets", "head", "body"),
    [
        (b"A: 1\n\nbody\n", b"A: 1\r\n", b"body\r\n"),
        (b"A: 1\r\n\r\nbody", b"A: 1\r\n", b"body\r\n"),
        (b"A: 1\n", b"A: 1\r\n", b""),
        (b"\nbody\n", b"", b"body\r\n"),
        (b"no field\n", b"", b"no field\r\n"),
        (b"", b"", b""),
    ],
)
def test_a_message_is_divided(octets: bytes, head: bytes, body: bytes) -> None:
    """Head and body of a message are told apart as the daemon does, with any line ends."""
    read = read_message(octets)
    assert read["head"] == head
    assert read["body"].octets == body


@pytest.mark.parametrize(
    ("text", "status", "told"),
    [
        ("def mail(facts):\n    return reject()\n", 70,
         "mail: no answer: NameError: name 'reject' is not defined in mail() [{path}:2]\n"),
        ("def mail(facts):\n    while True: pass\n", 70, "mail: no answer: no answer in 0.3 s in mail() [{path}:2]\n"),
        ("def mail(facts):\n    return 1 / 0\ndef rcpt(facts): return None\n", 70,
         "mail: no answer: ZeroDivisionError: division by zero in mail() [{path}:2]\nrcpt: no opinion\n"),
        ("import nowhere_at_all\ndef mail(facts): ...\n", 70, "mail: no answer: ModuleNotFoundError: No module named "
         "'nowhere_at_all', when the file was run, (started again in 1 s) in mail() [{path}:1]\n"),
        ("def mail(facts):\n    retrun\n  x\n", 78,
         "mta: {path}:3: expected Python, found unindent does not match any outer indentation level\n"),
        ("def mial(facts): ...\n", 78,
         'mta: {path}:1: expected a function named by a stage; did you mean "mail"?, found "mial"\n'),
        ("async def mail(facts): ...\ndef rcpt(): ...\n", 78,
         "mta: {path}:1: expected def mail(facts), found async def\n"
         "{path}:2: expected def rcpt(facts), found 0 arguments\n"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line(tmp_path: Path, text: str, status: int, told: str) -> None:
    """A mistake is told with file, line and error, never with a traceback, and has its exit status."""
    path = tmp_path / "x.py"
    path.write_text(text)
    result = mta("test", path, "--deadline", "0.3s")
    assert result.output == told.format(path=path)
    assert result.exit_code == status


def test_each_failure_is_asked_anew(tmp_path: Path) -> None:
    """However many functions fail, the next is asked: nothing rests here."""
    path = tmp_path / "x.py"
    stages = [stage.value for stage in Stage]
    path.write_text("import os\n" + "".join(f"def {stage}(facts): os._exit(1)\n" for stage in stages))
    told = mta("test", path).output.splitlines()
    assert [line.partition(":")[0] for line in told] == stages
    assert all(": no answer: the process ended with status 1 in" in line for line in told)


@pytest.mark.parametrize(
    ("arguments", "given", "status", "told"),
    [
        (["nowhere.py"], None, 66, "mta: nowhere.py: expected a file that can be read, found No such file"),
        (["{script}", "--facts", "nowhere.json"], None, 66, "mta: nowhere.json: No such file or directory"),
        (["{script}", "--message", "nowhere.eml"], None, 66, "mta: nowhere.eml: No such file or directory"),
        (["{script}", "--facts", "-"], "{\n]", 65, "mta: -:2: no JSON: "),
        (["{script}", "--facts", "-"], b"\xff", 65, "mta: -: no JSON: "),
        (["{script}", "--facts", "-"], "[" * 100_000, 65, "mta: -: no JSON: "),
        (["{script}", "--facts", "-"], "{}", 65, 'mta: -: stage: expected "connect" or'),
        (["{script}", "--facts", "-"], '[{"stage": "mail"}, 5]', 65, "mta: -: facts 2: expected an object, found 5"),
        (["{script}", "--stage", "helo"], None, 65, "mta: {script} has no function for the stage of these facts"),
        (["{script}", "--from", "a b"], None, 2, "Invalid value for '--from': 'a b' is no mailbox"),
        (["{script}", "--to", "<>"], None, 2, "Invalid value for '--to': '<>' is no mailbox"),
        (["{script}", "--deadline", "5"], None, 2, "Invalid value for '--deadline': '5' is no time"),
        (["{script}", "--memory", "much"], None, 2, "Invalid value for '--memory': 'much' is no size"),
    ],
)
def test_what_cannot_be_asked(
    script: Path, arguments: list[str], given: Any, status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mistakes in options and files of facts are one sentence, with the status that fits."""
    monkeypatch.chdir(script.parent)
    result = mta("test", *(each.format(script=script) for each in arguments), given=given)
    assert told.format(script=script) in result.output
    assert result.exit_code == status
    assert "Traceback" not in result.output

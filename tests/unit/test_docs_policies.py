"""docs/policies.md is true: its tables are those of the code, its examples do what it says they do."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from mta.cli.example import KNOWN_FROM
from mta.mailauth import result
from mta.policy import script_api
from mta.policy.facts import Stage
from mta.policy.hook import signature
from mta.policy.script import FREE_DEATHS
from mta.policy.script_child import FILES_MAXIMUM
from mta.policy.script_process import LOGGED_MAXIMUM
from mta.policy.vocabulary import ANYWHERE, DELAY_MAXIMUM, WORDS
from mta.settings.script import ScriptSettings
from mta.settings.units import octets_text

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "policies.md").read_text()
_NAME = re.compile(r"`(etc/policy/[a-z]+\.py)`")
_SESSION = re.compile(r"```console\n(.*?)```", re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, as cells."""
    section = TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = section[section.index("| ") :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def code(cell: str) -> str:
    """What stands in the back quotes of a cell."""
    found = re.match(r"`([^`]*)`", cell.strip())
    assert found, cell
    return found[1]


def test_the_stages() -> None:
    """Each stage is described, in order."""
    assert [code(row[0]) for row in table("Stages")] == [stage.value for stage in Stage]


def test_the_facts() -> None:
    """Each fact is described, with the stage that brings it."""
    rows = {code(row[0]): code(row[2]) for row in table("Facts")}
    assert set(rows) == set(script_api.Facts.__annotations__)
    brought = {name: stage.value for stage, names in KNOWN_FROM.items() for name in names}
    brought["body_size"] = brought["body"]
    assert rows == {name: brought.get(name, "connect") for name in rows}


def test_the_results() -> None:
    """What each result has beside its result and reason is named."""
    found = re.search(r"\| result of \| has \|\n\| --- \| --- \|\n(.*?)\n\n", TEXT, re.DOTALL)
    assert found
    classes = {"iprev": result.Iprev, "spf": result.Spf, "dkim": result.Dkim, "dmarc": result.Dmarc, "arc": result.Arc}
    rows = {code(name): re.findall(r"`(\w+)`", has) for name, has in (
        line.strip("|").split(" | ") for line in found[1].splitlines()
    )}  # fmt: skip
    assert rows == {
        name: [each.name for each in fields(cls) if each.name not in ("result", "reason")]
        for name, cls in classes.items()
    }
    told = re.search(r"\| `authentication` \| all results: (.*?) \|", TEXT)
    assert told
    assert re.findall(r"`(\w+)`", told[1]) == [each.name for each in fields(result.Authentication)]


def test_the_verdicts() -> None:
    """Each verdict is described, with its parameters and their defaults."""
    expected = []
    for word in WORDS:
        signature_ = inspect.signature(getattr(script_api, word))
        bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature_.parameters.values()]
        plain = signature_.replace(parameters=bare, return_annotation=inspect.Signature.empty)
        expected.append(f"{word}{plain}")
    assert [code(row[0]) for row in table("Verdicts")] == expected


def test_the_limits() -> None:
    """Numbers in the text are those of the code."""
    settings = ScriptSettings()
    assert f"{settings.deadline:g} s for an answer" in TEXT
    assert f"{settings.memory >> 20} MiB of address space" in TEXT
    assert f"{FILES_MAXIMUM} open files" in TEXT
    assert f"{LOGGED_MAXIMUM >> 10} KiB for one question" in TEXT
    assert f"body_maximum`, {octets_text(settings.body_maximum)}" in TEXT
    assert f"by at most {DELAY_MAXIMUM:g} s" in TEXT
    assert FREE_DEATHS == 3, "the text says: at the fourth"
    words = re.search(r"so only (.*?)\s+make sense there", TEXT, re.DOTALL)
    assert words
    assert re.findall(r"`(\w+)`", words[1]) == list(ANYWHERE)


def test_links_lead_somewhere() -> None:
    """Each link to a heading of this page or of the settings finds it."""
    settings = (ROOT / "docs" / "settings.md").read_text()
    for page, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", TEXT):
        text = settings if page else TEXT
        titles = [
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)", text, re.M)
        ]
        assert anchor in titles, anchor


def examples() -> Iterator[tuple[str, str, str]]:
    """The file, the code and the session of each example."""
    before, *pieces = TEXT.split("```python\n")
    for piece in pieces[:-1]:
        text, _, after = piece.partition("```")
        session = _SESSION.search(after)
        assert session, text
        yield _NAME.findall(before)[-1], text, session[1]
        before = after


EXAMPLES = list(examples())


def test_all_examples_are_found() -> None:
    """No block of code escapes the test below."""
    assert [Path(file).stem for file, _, _ in EXAMPLES] == ["hello", "block", "outside", "hourly", "leavers", "junk"]
    assert TEXT.count("```python") == len(EXAMPLES) + 1
    assert TEXT.count("```console") == len(EXAMPLES) + 1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with all examples, and `mta` in the path."""
    (tmp_path / "etc" / "policy").mkdir(parents=True)
    for file, text, _ in EXAMPLES:
        (tmp_path / file).write_text(text)
    return tmp_path


def run(place: Path, session: str) -> None:
    """Type each command of a session; what it prints must be what stands below it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for step in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, expected = step.partition("\n")
        if command.startswith("cat "):
            (place / shlex.split(command)[1]).write_text(expected)
            continue
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=place,
            env={**os.environ, "PATH": path},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.stdout + done.stderr == expected, command


@pytest.mark.parametrize(("file", "session"), [(file, session) for file, _, session in EXAMPLES])
def test_each_example_does_what_it_says(place: Path, file: str, session: str) -> None:
    """Each session prints what the page says."""
    assert session.count("$ mta policy test") + session.count("| mta policy test") >= 1
    run(place, session)


def test_how_to_try_out(place: Path) -> None:
    """The commands of the section on trying out work as they stand."""
    section = TEXT.split("\n## Trying out\n", 1)[1]
    session = _SESSION.search(section)
    assert session
    run(place, session[1])


def test_how_to_check_a_signature() -> None:
    """What the page says to whoever writes a hook tells our signatures from others."""
    found = re.search(r"```python\n(import hashlib\n.*?)```", TEXT, re.DOTALL)
    assert found
    names: dict[str, object] = {}
    exec(found[1], names)
    is_genuine = names["is_genuine"]
    assert callable(is_genuine)
    good = signature("secret", "1000", b"body")
    assert is_genuine(b"secret", "1000", b"body", good, 1299.0)
    assert not is_genuine(b"secret", "1000", b"body", good, 1301.0)
    assert not is_genuine(b"secret", "1001", b"body", good, 1000.0)
    assert not is_genuine(b"Secret", "1000", b"body", good, 1000.0)
    assert not is_genuine(b"secret", "1000", b"Body", good, 1000.0)

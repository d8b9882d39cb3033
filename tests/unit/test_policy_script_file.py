"""Files of policies are found, compiled and looked through without being run; what is wrong is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.policy.facts import Stage
from mta.policy.script_file import SOURCE_MAXIMUM, check, read_script, read_scripts
from mta.settings.problem import Problem

GOOD = """\
import nowhere_to_be_found
raise SystemExit


@decorated
def mail(facts):
    return None


def rcpt(facts, again=False, *, x=1): ...
def data(*facts): ...
def of_another_name(): ...
class Inner:
    def connect(self): ...
"""


def written(directory: Path, text: str | bytes, name: str = "x.py") -> str:
    """Write one file."""
    path = directory / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_a_file_is_looked_through_and_not_run(tmp_path: Path) -> None:
    """The functions of stages are found with their lines; nothing of the file has been run."""
    problems: list[Problem] = []
    path = written(tmp_path, GOOD)
    script = read_script(path, problems)
    assert problems == []
    assert script is not None
    assert script.name == "x"
    assert script.path == path
    assert script.text == GOOD
    assert script.functions == {Stage.MAIL: 6, Stage.RCPT: 10, Stage.DATA: 11}
    assert check(path) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def mail(facts):\n    retrun 1\n", ":2: expected Python, found invalid syntax"),
        ("x = (\n", ":1: expected Python, found '(' was never closed"),
        ("def mail(facts):\npass\n", ":2: expected Python, found expected an indented block"),
        ("def mail(facts): ...\nreturn 5\n", ":2: expected Python, found 'return' outside function"),
        ("def mail(facts): nonlocal x\n", ":1: expected Python, found no binding for nonlocal 'x' found"),
        ("\n\ndef mail(facts): ...\0", "expected Python, found source code string cannot contain null bytes"),
        ("(" * 5000, "expected Python, found too many nested parentheses"),
        ("-" * 50_000 + "1", "expected Python, found "),
        (b"\n# \xff\n", ":2: expected UTF-8, found b'\\xff'"),
        ("\n\nasync def mail(facts): ...\n", ":3: expected def mail(facts), found async def"),
        ("def mail(): ...\n", ":1: expected def mail(facts), found 0 arguments"),
        ("def mail(a, b): ...\n", ":1: expected def mail(facts), found 2 arguments"),
        ("def mail(a, *, b): ...\n", ":1: expected def mail(facts), found 2 arguments"),
        ("def f(a): ...\ndef mial(a): ...\n", ':2: expected a function named by a stage; did you mean "mail"?, found'),
        ("def f(a): ...\n", "expected a function named connect, helo, auth, mail, rcpt, data, headers, message, route"),
        ("", "found no function"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    """A file that cannot be used is a problem that names file and line."""
    path = written(tmp_path, text)
    problem = check(path)
    assert problem is not None
    assert str(problem).startswith(path)
    assert told in str(problem)
    assert read_script(path, []) is None


@pytest.mark.parametrize("name", ["a b.py", ".py", "-x.py", "x" * 41 + ".py", "x.txt", "a.b.py"])
def test_a_name_that_cannot_be_one(tmp_path: Path, name: str) -> None:
    """The name of a policy stands in settings, reasons and tags, so it is plain."""
    assert "a name of letters, digits" in str(check(written(tmp_path, GOOD, name)))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there, or is a directory, is a problem too."""
    assert "a file that can be read" in str(check(str(tmp_path / "y.py")))
    (tmp_path / "z.py").mkdir()
    assert "a file that can be read" in str(check(str(tmp_path / "z.py")))


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """A file beyond the bound is not compiled."""
    path = written(tmp_path, "def mail(facts): ...\n" + "#" * SOURCE_MAXIMUM)
    assert "expected at most 1,048,576 octets" in str(check(path))


def test_a_directory(tmp_path: Path) -> None:
    """All files of a directory are read in order, but for those put aside; problems of all of them are told."""
    for name in ("b.py", "a.py", "_draft.py", ".#a.py", "readme.txt"):
        written(tmp_path, GOOD if name in ("a.py", "b.py") else "(", name)
    problems: list[Problem] = []
    assert [script.name for script in read_scripts(str(tmp_path), problems)] == ["a", "b"]
    assert problems == []
    written(tmp_path, "(", "c.py")
    written(tmp_path, "", "d.py")
    assert [script.name for script in read_scripts(str(tmp_path), problems)] == ["a", "b"]
    assert [problem.file for problem in problems] == [str(tmp_path / "c.py"), str(tmp_path / "d.py")]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """Without a directory there are no policies; a file in its place is a problem."""
    problems: list[Problem] = []
    assert read_scripts(str(tmp_path / "policy"), problems) == ()
    assert problems == []
    assert read_scripts(written(tmp_path, ""), problems) == ()
    assert "a directory that can be read" in str(problems[0])


def test_warnings_of_the_compiler_stay_quiet(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """An escape that is none is no reason to write into the log of the server."""
    assert check(written(tmp_path, 'def mail(facts): return "\\d" is 5\n')) is None
    assert len(recwarn) == 0

"""What `docs/security.md` says is so: the tests that it names exist, and nothing runs what came from outside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs/security.md").read_text().splitlines()
    if re.match(r"\| \d+ \|", line)
]


def existing() -> set[str]:
    """Name each test function as `file.function`."""
    files = [*ROOT.glob("tests/unit/test_*.py"), *ROOT.glob("tests/live/test_*.py")]
    return {
        f"{path.stem}.{node.name}"
        for path in files
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }


def test_every_test_named_exists() -> None:
    """A test that is renamed or removed is renamed or removed in the table, too."""
    named = set(re.findall(r"`(test_\w+\.test_\w+)`", (ROOT / "docs/security.md").read_text()))
    assert len(named) > 100
    assert not named - existing()


def test_every_row_is_tested_or_says_what_it_waits_for() -> None:
    """The rows are numbered from 1 to 86 without a gap; each names a test, or the capability that will bring one."""
    assert list(dict.fromkeys(row[0] for row in TABLE)) == [str(number) for number in range(1, 87)]
    for number, _, _, tests, state in TABLE:
        assert state.startswith("later: ") or (state.startswith("tested") and tests), number


MODULES = {"pickle", "marshal", "shelve", "dbm", "yaml", "subprocess", "pty", "pdb", "code", "xmlrpc", "xml"}
"""What makes objects or programs of octets."""
BUILT_IN = {"eval", "exec", "compile", "__import__"}
CALLS = {"system", "popen", "fork", "forkpty", "mktemp", "spawnProcess"}
"""Methods and functions of modules; those of ``os`` that replace or start a process stand beside."""
ALLOWED = {
    ("mta/policy/script_child.py", "exec"): "the administrator's own policies, in a process of their own",
    ("mta/policy/script_child.py", "compile"): "likewise",
    ("mta/policy/script_process.py", "spawnProcess"): "that process: Python, without a shell",
    ("mta/service/children.py", "spawnProcess"): "worker processes: Python, without a shell",
    ("mta/policy/script_file.py", "compile"): "likewise; it is not run there",
}


def suspects(path: Path) -> Iterator[str]:
    """What a file imports or calls of these."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield node.module or ""
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in BUILT_IN | CALLS:
                yield called.id
            if isinstance(called, ast.Attribute):
                of = called.value.id if isinstance(called.value, ast.Name) else ""
                if called.attr in CALLS or (of == "os" and re.match(r"exec|spawn|posix_spawn", called.attr)):
                    yield called.attr
            if any(each.arg == "shell" for each in node.keywords):
                yield "shell"


def test_nothing_runs_what_came_from_outside() -> None:
    """No pickle, no shell, no eval, no command: but for the administrator's policies and the workers, in Python."""
    files = sorted((ROOT / "mta").rglob("*.py"))
    assert len(files) > 200
    found = {(str(path.relative_to(ROOT)), name) for path in files for name in suspects(path)}
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "text", ["import pickle", "from subprocess import run", "x.system(y)", "os.execv(a, b)", "f(shell=True)", "eval(a)"]
)
def test_what_would_is_found(text: str, tmp_path: Path) -> None:
    """The search finds what it is for."""
    (tmp_path / "x.py").write_text(text)
    assert list(suspects(tmp_path / "x.py"))

"""`docs/security.md` names tests: they exist, and no row of the table is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

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

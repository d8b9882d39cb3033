"""The rules of the house, as tests: layers, types, lint, and what the code stands on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(ROOT.glob("mta/**/*.py"))


def passes(*command: str) -> None:
    """Run a tool of the virtual environment in the project; fail with what it says."""
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"


def imported(source: Path) -> set[str]:
    """Name the modules that a file imports absolutely."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def distribution(name: str) -> str:
    """Normalise the name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_imports_point_down() -> None:
    """The contracts in `pyproject.toml` hold: layers, and pure packages without input and output."""
    passes("lint-imports", "--no-cache")


def test_types() -> None:
    """The product passes `mypy --strict`."""
    passes("mypy")


def test_lint_and_docstrings() -> None:
    """Product and tests pass ruff, its docstring rules included."""
    passes("ruff", "check", "--no-cache", "mta", "plugins", "tests")


def test_the_reactor_is_imported_once() -> None:
    """Nobody but `mta.tap` imports the reactor: everything else is handed its clock and its connections."""
    users = {str(source.relative_to(ROOT)) for source in SOURCES if "twisted.internet.reactor" in imported(source)}
    assert users <= {"mta/tap.py"}


def test_each_package_is_found() -> None:
    """Each directory with modules is a package, so that a wheel carries it."""
    assert {str(source.parent) for source in SOURCES if not (source.parent / "__init__.py").exists()} == set()


def test_what_is_imported_is_asked_for() -> None:
    """`setup.cfg` requires each distribution that the product imports, in its own name."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    wanted = config["options"]["install_requires"].split("\n")
    asked = {distribution(re.split(r"[^A-Za-z0-9._-]", line.strip())[0]) for line in wanted if line.strip()}
    roots = {name.partition(".")[0] for source in SOURCES for name in imported(source)}
    providers = metadata.packages_distributions()
    missing = {
        name
        for name in roots - sys.stdlib_module_names - {"mta", "zope"}  # zope.interface is Twisted's own interface
        if asked.isdisjoint(map(distribution, providers[name]))
    }
    assert missing == set()

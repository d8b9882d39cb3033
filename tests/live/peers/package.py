"""Our Debian package, built as `make deb` does, in a copy of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mta.cli import manual
from tests.live.peers.process import program

ROOT = Path(__file__).resolve().parents[3]
_DATE = 1772323200.0
"""What everything in it is dated: the first of March 2026."""
_DIRECTORIES = (".ci", "docs", "etc", "mta", "plugins", "systemd")
_FILES = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg")


def build(directory: Path) -> Path:
    """Build it below `directory`, with the programs of the environment that runs the tests; return its file."""
    program("dpkg-deb")
    tree = directory / "tree"
    for name in _DIRECTORIES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    for name in _FILES:
        shutil.copy(ROOT / name, tree)
    manual.write(tree / "build/man", _DATE)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": f"{_DATE:.0f}", "VENV": sys.prefix, "PYTHONPATH": "plugins"}
    for argv in ([sys.executable, "-c", "import mta_build as b; b.build_wheel('dist')"], [".ci/deb"]):
        done = subprocess.run(argv, cwd=tree, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.fail(f"{argv}: {done.stdout}{done.stderr}")
    (package,) = (tree / "dist").glob("mta_*.deb")
    return package


def next_version(package: Path, directory: Path) -> Path:
    """Make a later version of the same content, for an upgrade."""
    tree = directory / "next"
    subprocess.run([program("dpkg-deb"), "--raw-extract", str(package), str(tree)], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("-1\n", "-2\n", 1))
    later = directory / package.name.replace("-1_", "-2_")
    subprocess.run([program("dpkg-deb"), "-Zgzip", "-z1", "--build", str(tree), str(later)], check=True)
    return later

"""`twistd mta` is found wherever the project is installed from, and in a tree that cannot be written to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.live.peers.process import own_program, unavailable

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built from, so that nothing is built in the project itself."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("mta", "plugins"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    """The wheel that is built from the tree."""
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tree / "dist"), str(tree))
    (built,) = (tree / "dist").glob("mta-*.whl")
    return built


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A fresh virtual environment; what the project stands on is lent to it from the one that runs the tests."""
    venv.create(tmp_path / "venv", with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    lent = tmp_path / "venv/lib" / version / "site-packages/lent.pth"
    lent.write_text(sysconfig.get_path("purelib") + "\n")  # the .pth files in that directory do not count by this
    return tmp_path / "venv"


def pip(*arguments: str) -> None:
    """Run pip without the network; fail with what it says."""
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(argv, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def install(environment: Path, *what: str) -> None:
    """Install into a virtual environment without what the project stands on."""
    python = str(environment / "bin/python")
    pip("--python", python, "install", "--no-deps", "--no-index", "--no-build-isolation", *what)


def help_of(*argv: str | Path, prefix: tuple[str, ...] = (), pythonpath: str = "") -> str:
    """Run a command with `--help` away from the project and return what it prints."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": pythonpath}
    done = subprocess.run(
        [*prefix, *argv, "--help"], cwd="/", env=environment, check=False, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def listed(text: str) -> bool:
    """Whether the help of twistd lists our service."""
    return any(line.split()[:2] == ["mta", "Mail"] for line in text.splitlines())


def twistd(environment: Path) -> list[str | Path]:
    """Begin a command line of twistd in a virtual environment that has it only by loan."""
    return [environment / "bin/python", "-c", "from twisted.scripts.twistd import run; run()"]


def test_from_the_tree(environment: Path, tree: Path) -> None:
    """With the tree and its `plugins` in PYTHONPATH nothing needs to be installed."""
    assert not listed(help_of(*twistd(environment)))
    path = f"{tree}:{tree / 'plugins'}"
    assert listed(help_of(*twistd(environment), pythonpath=path))
    assert "--config" in help_of(*twistd(environment), "mta", pythonpath=path)


def test_from_an_editable_installation(environment: Path, tree: Path) -> None:
    """After `pip install -e` twistd finds the plugin in the tree."""
    install(environment, "--editable", str(tree))
    assert listed(help_of(*twistd(environment)))
    assert "--config" in help_of(*twistd(environment), "mta")


def test_from_a_wheel(environment: Path, wheel: Path) -> None:
    """After the installation of a wheel twistd finds the plugin, and the `mta` command is there."""
    install(environment, str(wheel))
    assert listed(help_of(*twistd(environment)))
    assert "--config" in help_of(*twistd(environment), "mta")
    assert "init" in help_of(environment / "bin/mta")


def test_the_wheel_holds_what_it_should(wheel: Path) -> None:
    """The wheel holds each file of `mta`, the plugin, and nothing else of Twisted's package."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = {
        str(path.relative_to(ROOT))
        for path in ROOT.glob("mta/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == tracked | {"twisted/plugins/mta_plugin.py"}


def test_read_only_tree(environment: Path, tree: Path) -> None:
    """Twisted cannot write its cache of plugins into a read-only tree: twistd starts all the same."""
    install(environment, "--editable", str(tree))
    cache = tree / "plugins/twisted/plugins/dropin.cache"
    cache.unlink(missing_ok=True)
    namespace = ["unshare", "--mount"] + ([] if os.getuid() == 0 else ["--map-root-user"])
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ! touch "$0/x" 2>/dev/null && exec "$@"'
    prefix = (*namespace, "sh", "-c", script, str(tree))
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        unavailable("the right to mount in a namespace")
    assert "--config" in help_of(*twistd(environment), "mta", prefix=prefix)
    assert not cache.exists()


def test_own_environment() -> None:
    """The environment that runs the tests has the plugin too: it is what the other live tests start."""
    assert listed(help_of(own_program("twistd")))

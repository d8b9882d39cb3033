"""`twistd mta` is found wherever the project is installed from, and in a tree that cannot be written to.

What is installed has its samples and its manual pages with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from mta.cli import manual
from tests.live.peers.process import own_program, unavailable

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built from, so that nothing is built in the project itself."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("mta", "plugins", "etc", "systemd"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md", "MANIFEST.in"):
        shutil.copy(ROOT / name, copy)
    manual.write(copy / "build/man", 0)
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


def files_below(*names: str) -> set[str]:
    """The project's own files below some of its directories."""
    return {
        str(path.relative_to(ROOT))
        for name in names
        for path in ROOT.glob(f"{name}/**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def members(wheel: Path) -> set[str]:
    """What a wheel holds beside its own records."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_what_it_should(wheel: Path, tree: Path) -> None:
    """The wheel holds each file of `mta`, the plugin and nothing else of Twisted's package, samples, units, pages."""
    data = {name for name in members(wheel) if ".data/data/" in name}
    assert members(wheel) - data == files_below("mta") | {"twisted/plugins/mta_plugin.py"}
    shared = {name.partition(".data/data/share/")[2] for name in data}
    pages = {f"man/man{page.suffix[1:]}/{page.name}" for page in (tree / "build/man").iterdir()}
    assert shared == {f"mta/{name}" for name in files_below("etc", "systemd")} | pages


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tree: Path, tmp_path: Path) -> None:
    """Everything that the wheel needs is in the source distribution, and its build backend too."""
    subprocess.run(
        [sys.executable, "-c", "import sys, mta_build; mta_build.build_sdist(sys.argv[1])", str(tmp_path)],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": "plugins"},
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("mta-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path)
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path / "built"), str(source))
    (again,) = (tmp_path / "built").iterdir()
    assert members(again) == members(wheel)


def test_what_is_installed_knows_its_samples(environment: Path, wheel: Path) -> None:
    """`mta samples` names the files that came with the wheel, and they are there."""
    install(environment, str(wheel))
    run = subprocess.run([environment / "bin/mta", "samples"], cwd="/", check=True, capture_output=True, text=True)
    below = environment.resolve() / "share/mta"
    assert {str(Path(line).relative_to(below)) for line in run.stdout.splitlines()} == files_below("etc", "systemd")
    assert all(Path(line).is_file() for line in run.stdout.splitlines())
    assert (environment / "share/man/man1/mta-queue.1").read_text().startswith(".Dd January 1, 1970\n")


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

"""TAB in real shells: bash, zsh and fish complete what is typed behind `mta`."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doubles.etc import write_etc
from tests.live.peers.process import own_program, program

pytestmark = pytest.mark.live

USERS = "alice:!::::::\nalina:!\nbob:!\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A configuration with three users of example.org."""
    return write_etc(tmp_path, domains={"example.org": {"users": USERS, "aliases": "postmaster: alice\n"}})


def script(shell: str, place: Path) -> Path:
    """What `mta completion` prints, in a file."""
    made = subprocess.run([own_program("mta"), "completion", shell], check=True, capture_output=True)
    place.write_bytes(made.stdout)
    return place


class Terminal:
    """A shell that somebody types into."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._said = b""

    def type(self, text: str) -> None:
        """Type it."""
        self._said = b""
        os.write(self._descriptor, text.encode())

    def expect(self, text: str) -> None:
        """Wait until the shell has written it."""
        while text.encode() not in self._said:
            ready, _, _ = select.select([self._descriptor], [], [], 30)
            assert ready, self._said
            self._said += os.read(self._descriptor, 4096)


@contextmanager
def shell(*command: str) -> Iterator[Terminal]:
    """Run a shell on a terminal of its own."""
    pid, descriptor = pty.fork()
    if not pid:
        place = os.path.dirname(own_program("mta"))
        environment = {"PATH": f"{place}:/usr/bin:/bin", "PS1": "> ", "TERM": "dumb", "HOME": "/nonexistent"}
        os.execve(command[0], list(command), environment)
    try:
        yield Terminal(descriptor)
    finally:
        os.close(descriptor)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("typed", ["alic", "alice@", "alice@exam"])
def test_bash(tmp_path: Path, config: str, typed: str) -> None:
    """A user is completed, also behind its @, which bash takes for the beginning of a word."""
    made = script("bash", tmp_path / "bash")
    with shell(program("bash"), "--norc", "--noprofile", "-i") as terminal:
        terminal.type(f"source {made}; echo re''ady\n")
        terminal.expect("ready")
        terminal.type(f"mta user passwd --config {config} {typed}\t")
        terminal.expect("example.org ")
        terminal.type("\x01echo \n")  # to the beginning of the line, which is shown in place of being run
        terminal.expect(f"\nmta user passwd --config {config} alice@example.org\r\n")


def test_fish(tmp_path: Path, config: str) -> None:
    """Users and commands are offered."""
    made = script("fish", tmp_path / "mta.fish")

    def offered(line: str) -> list[str]:
        command = [program("fish"), "--no-config", "-c", f"source {made}; complete -C '{line}'"]
        place = os.path.dirname(own_program("mta"))
        environment = {**os.environ, "PATH": f"{place}:/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.split()

    assert offered(f"mta user passwd --config {config} ali") == ["alice@example.org", "alina@example.org"]
    assert offered("mta dom") == ["domain"]


def test_zsh(tmp_path: Path, config: str) -> None:
    """A user is completed."""
    made = script("zsh", tmp_path / "_mta")
    with shell(program("zsh"), "-f", "-i") as terminal:
        terminal.type(f"autoload -U compinit; compinit -D; source {made}; echo re''ady\n")
        terminal.expect("ready")
        terminal.type(f"mta user passwd --config {config} alice@\t")
        terminal.expect("alice@example.org")

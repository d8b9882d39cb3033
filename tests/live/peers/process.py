"""What every live peer needs: a port, a program, a wait with an end, a process that is ended by its own id."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

DEADLINE = 30.0
"""Seconds that anything on loopback may take before a test gives it up."""

NOBODY = 65534
"""Debian's user nobody and group nogroup."""


def unavailable(what: str) -> None:
    """Skip the test for want of `what`; fail it where `MTA_REQUIRE_PEERS` is set (`.ci/run`)."""
    if os.environ.get("MTA_REQUIRE_PEERS"):
        pytest.fail(f"{what} is required here (MTA_REQUIRE_PEERS)")
    pytest.skip(f"{what} is missing")


def program(name: str) -> str:
    """Find a program, also where only root's PATH leads."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        unavailable(name)
    return str(found)


def own_program(name: str) -> str:
    """Find a program of the running virtual environment (`twistd`, `mta`)."""
    return str(Path(sys.executable).with_name(name))


def needs_root(name: str) -> None:
    """Skip where we are not root: `name` changes to users of its own."""
    if os.getuid() != 0:
        unavailable(f"root, which {name} needs to become its own users,")


@functools.cache
def unprivileged() -> dict[str, Any]:
    """Give the arguments of Popen that run the server as nobody, who owns its Maildirs then.

    Empty where we are not root already, or where nobody cannot read Python or the project.
    """
    if os.getuid() != 0:
        return {}
    identity: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        probe = subprocess.run(
            [sys.executable, "-c", "import mta, twisted"], check=False, cwd="/", capture_output=True, **identity
        )
    except PermissionError:
        return {}
    return identity if probe.returncode == 0 else {}


def free_ports(count: int) -> list[int]:
    """Name ports of 127.0.0.1 that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def eventually(probe: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
    """Return what `probe` gives once it is true; fail after `seconds`. The one place that waits by the clock."""
    end = time.monotonic() + seconds
    while not (found := probe()):
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds:.0f} s: {what}", pytrace=False)
        time.sleep(0.01)
    return found


def greets(port: int, greeting: bytes = b"220") -> bool:
    """Whether a server on 127.0.0.1 answers a connection with `greeting`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(512).startswith(greeting)
    except OSError:
        return False


class Process:
    """A server that runs in the foreground, its output in a file."""

    def __init__(self, argv: Sequence[str], log: Path, **options: Any) -> None:
        self.name = Path(argv[0]).name
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, probe: Callable[[], T], what: str, seconds: float = DEADLINE) -> T:
        """Wait as `eventually` does, but fail at once, with its output, when the process has ended."""

        def alive() -> T:
            ended = self.popen.poll()  # asked before the probe: what a process did until its end counts
            found = probe()
            if not found and ended is not None:
                pytest.fail(f"{self.name} ended ({ended}) before {what}\n{self.output}", pytrace=False)
            return found

        return eventually(alive, f"{what}\n{self.output}", seconds)

    def wait_for_greeting(self, port: int, greeting: bytes = b"220") -> None:
        """Wait until it serves a port."""
        self.wait_for(lambda: greets(port, greeting), f"greeting on port {port}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal, return its status (see `end`)."""
        self.popen.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait for its end, return its status; one that does not end is killed, and the test fails."""
        try:
            return self.popen.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            pytest.fail(f"{self.name} did not end within {DEADLINE:.0f} s\n{self.output}", pytrace=False)

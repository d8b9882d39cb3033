"""A queue that cannot be delivered: how fast it is taken, how long it takes to look at it, and to start with it.

Nothing listens at the far end, so every message is tried once and waits.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.measure import Tools, Work, arguments, memory
from tests.bench.servers import Running
from tests.live.peers.process import program


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one run gave."""

    server: str
    round: int
    work: str
    messages: int
    accepted_per_second: float
    megabytes: float
    """Memory of all processes of the server (PSS), the queue being full."""
    list_seconds: float
    """The first page of the list (of ours), or the whole list (Postfix has no pages)."""
    restart_seconds: float | None
    """From the start after a kill to the first greeting; None: not measured."""


def backlog(name: str, number: int, tools: Tools, running: Running, messages: int) -> Backlog:
    """Fill the queue, look at it, kill the server, and start it again."""
    work = Work("W6", "", messages, 100, octets=1024, relayed=True)
    start = time.monotonic()
    subprocess.run([tools.load, *arguments(running, work)], check=True, capture_output=True)
    accepted = messages / (time.monotonic() - start)
    used = memory(running.pid)
    restart = None
    if running.daemon is not None:
        config = str(running.daemon.settings_file)
        listed = _timed(lambda: running.daemon.mta("queue", "list", "--limit", "100", "--config", config, check=True))  # type: ignore[union-attr]
        running.daemon.kill()
        restart = _timed(running.daemon.start)
    else:
        config = str(running.directory / "etc")
        argv = [program("postqueue"), "-c", config, "-p"]
        listed = _timed(lambda: subprocess.run(argv, check=True, capture_output=True))
    return Backlog(
        name,
        number,
        "W6",
        messages,
        round(accepted),
        round(used / 1e6),
        round(listed, 2),
        None if restart is None else round(restart, 2),
    )


def _timed(function: Callable[[], object]) -> float:
    start = time.monotonic()
    function()
    return time.monotonic() - start

"""What sessions cost that do nothing: memory for each, and how long a new one waits beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

from tests.bench.measure import Tools, memory
from tests.bench.servers import Running


@dataclass(frozen=True, slots=True)
class Idle:
    """What one run gave."""

    server: str
    round: int
    work: str
    sessions: int
    kibibytes_each: float
    """Memory of all processes of the server (PSS), by which it grew."""
    opened_per_second: float
    noop_ms: float
    """The reply to NOOP in the last of them."""


def idle(name: str, number: int, tools: Tools, running: Running, sessions: int, tls: bool) -> Idle:
    """Open so many sessions up to the reply to EHLO, and look at the server."""
    before = memory(running.pid)
    argv = [str(tools.load), "-p", str(running.port), "-i", str(sessions), *["-t"] * tls]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        line = load.stdout.readline()
        if not line:
            sys.exit(f"bench: {name} does not hold {sessions} sessions")
        opened = json.loads(line)
        grown = memory(running.pid) - before
        load.stdin.write("\n")
        load.stdin.flush()
        noop = json.loads(load.stdout.readline())["noop_ms"]
        load.stdin.close()
    each = round(grown / sessions / 1024, 2)
    return Idle(name, number, "W4tls" if tls else "W4", sessions, each, round(sessions / opened["seconds"]), noop)

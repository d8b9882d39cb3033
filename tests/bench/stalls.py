"""How long others wait: NOOP in a session that does nothing else, while the server has much to do.

=========  =========================================================================================================
work       what the server does meanwhile
=========  =========================================================================================================
calm       nothing
handshake  200 sessions a second with STARTTLS and one message
large      20 sessions send a message of 50 MB each; how much memory that takes is measured too
=========  =========================================================================================================
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from dataclasses import dataclass

from tests.bench.measure import Tools, Work, arguments, memory
from tests.bench.servers import Running

SECONDS = 10
LARGE = 50_000_000

MEANWHILE: dict[str, tuple[Work, list[str]] | None] = {
    "calm": None,
    "handshake": (Work("", "", 200 * (SECONDS + 1), 1, octets=1024, tls=True), ["-R", "200"]),
    "large": (Work("", "", 40, 1, octets=LARGE), []),
}


@dataclass(frozen=True, slots=True)
class Stall:
    """What one run gave."""

    server: str
    round: int
    work: str
    meanwhile: str
    p50_ms: float
    p99_ms: float
    most_ms: float
    megabytes: float
    """By how much the memory of the server grew at most (PSS)."""


def stall(name: str, number: int, tools: Tools, running: Running, meanwhile: str) -> Stall:
    """Watch a session while the server does something else."""
    busy = MEANWHILE[meanwhile]
    before, most = memory(running.pid), 0
    ended = threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.is_set():
            most = max(most, memory(running.pid))
            time.sleep(0.1)

    looking = threading.Thread(target=look)
    looking.start()
    load = None
    if busy is not None:
        work, more = busy
        load = subprocess.Popen([str(tools.load), *arguments(running, work), *more], stdout=subprocess.DEVNULL)
        time.sleep(0.5)
    argv = [str(tools.load), "-p", str(running.port), "-w", str(SECONDS)]
    watched = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    if load is not None:
        load.wait()
    ended.set()
    looking.join()
    grown = round(max(0, most - before) / 1e6, 1)
    return Stall(name, number, "S", meanwhile, watched["p50_ms"], watched["p99_ms"], watched["most_ms"], grown)

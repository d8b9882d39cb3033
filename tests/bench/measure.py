"""What is measured, and how: the load, the processor time of a server, the files that prove delivery."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

SETTLE_SECONDS = 0.5
"""After the last delivery: what a server still does for the messages (queue, history) belongs to its CPU time."""

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work: so many messages of `octets` octets to `mailboxes` mailboxes in turn."""

    messages: int
    per_session: int
    sessions: int = 20
    octets: int = 4096
    mailboxes: int = 20
    content: Path | None = None
    """A file with the message, dot-stuffed and with the final dot; None: the generator makes one of `octets`."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run gave."""

    server: str
    round: int
    per_session: int
    messages: int
    messages_per_second: float
    """Until all files lay in `new`."""
    accepted_per_second: float
    """Until the last 250."""
    cpu_ms: float
    """Processor time, user and system, of all the server's processes, for each message."""
    load_cpu_ms: float
    """The same of the load generator."""
    p50_ms: float
    """From MAIL to the reply after the final dot."""
    p99_ms: float


def compile_load(directory: Path) -> Path:
    """Compile the load generator; ends the program where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("bench: no C compiler (cc) for tests/bench/load.c. On Debian: apt-get install gcc libc6-dev")
    program = directory / "load"
    source = Path(__file__).with_name("load.c")
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True)
    return program


def cpu_seconds(pid: int) -> float:
    """Sum the processor time of a process and all below it, those that have ended and were waited for included."""
    children: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()  # proc(5), from field 3 on
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            spent[int(entry.name)] = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
    total, waiting = 0, [pid]
    while waiting:
        process = waiting.pop()
        total += spent.get(process, 0)
        waiting += children.get(process, [])
    return total / TICKS


def delivered(maildirs: Sequence[Path]) -> int:
    """Count the files in `new` of all Maildirs."""
    return sum(len(os.listdir(maildir / "new")) for maildir in maildirs if (maildir / "new").exists())


def _send(load: Path, port: int, domain: str, work: Work, maildirs: Sequence[Path]) -> tuple[dict[str, float], float]:
    """Send, wait for the files; return what the generator says and the seconds until all files were there."""
    wanted = delivered(maildirs) + work.messages
    numbers = (port, work.sessions, work.messages, work.per_session, work.octets)
    start = time.monotonic()
    argv = [load, *map(str, numbers), domain, str(work.mailboxes), *([work.content] if work.content else [])]
    done = subprocess.run(argv, check=False, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"bench: {done.stderr.strip()}")
    end = time.monotonic() + 120
    while delivered(maildirs) < wanted:
        if time.monotonic() > end:
            sys.exit(f"bench: only {delivered(maildirs)} of {wanted} files are in new/ after 120 s")
        time.sleep(0.01)
    return json.loads(done.stdout), time.monotonic() - start


def run(
    name: str, number: int, load: Path, pid: int, port: int, domain: str, maildirs: Sequence[Path], work: Work
) -> Figures:
    """Warm a server up, then measure one run."""
    _send(load, port, domain, replace(work, messages=200), maildirs)
    time.sleep(SETTLE_SECONDS)
    before = cpu_seconds(pid)
    said, seconds = _send(load, port, domain, work, maildirs)
    time.sleep(SETTLE_SECONDS)
    spent = cpu_seconds(pid) - before
    return Figures(
        name,
        number,
        work.per_session,
        work.messages,
        round(work.messages / seconds, 1),
        round(work.messages / said["seconds"], 1),
        round(spent / work.messages * 1e3, 3),
        round(said["load_cpu_seconds"] / work.messages * 1e3, 3),
        said["p50_ms"],
        said["p99_ms"],
    )

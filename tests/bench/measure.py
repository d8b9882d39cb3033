"""What is measured, and how: the load, the processor time of a server, what proves that all was delivered."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.servers import FAR, SENDER, USERS, Running
from tests.live.peers.daemon import DOMAIN
from tests.live.peers.process import free_ports

SETTLE_SECONDS = 0.5
"""After the last delivery: what a server still does for the messages (queue, history) belongs to its CPU time."""

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work: so many messages, in so many sessions at once."""

    name: str
    """``W1``: what figures and options call it."""
    title: str
    messages: int
    per_session: int
    sessions: int = 20
    octets: int = 4096
    relayed: bool = False
    """Whether it is submitted, and goes to the sink; otherwise mx takes it into Maildirs."""
    tls: bool = False
    resume: bool = False
    login: bool = False
    content: Path | None = None
    """A file with the message, dot-stuffed and with the final dot; None: the generator makes one of `octets`."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run gave."""

    server: str
    round: int
    work: str
    messages: int
    messages_per_second: float
    """Until all of it was delivered."""
    accepted_per_second: float
    """Until the last 250."""
    megabytes_per_second: float
    cpu_ms: float
    """Processor time, user and system, of all the server's processes, for each message."""
    load_cpu_ms: float
    """The same of the load generator."""
    p50_ms: float
    """From MAIL to the reply after the final dot."""
    p99_ms: float
    session_p99_ms: float
    """From connect to the reply to QUIT."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The compiled programs."""

    load: Path
    sink: Path


def compile_tools(directory: Path) -> Tools:
    """Compile load generator and sink; ends the program where there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("bench: no C compiler (cc) for tests/bench/*.c. On Debian: apt-get install gcc libc6-dev libssl-dev")
    here = Path(__file__).parent
    for name, libraries in (("load", ["-lssl", "-lcrypto", "-lpthread"]), ("sink", [])):
        argv = [compiler, "-O2", "-o", str(directory / name), str(here / f"{name}.c"), *libraries]
        subprocess.run(argv, check=True)
    return Tools(directory / "load", directory / "sink")


class Sink:
    """The far end of the relay, and how much came there."""

    def __init__(self, program: Path, counter: Path) -> None:
        [self.port] = free_ports(1)
        argv = [str(program), str(self.port), str(counter)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        with counter.open("rb") as file:
            self._taken = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)

    @property
    def taken(self) -> int:
        """Messages so far."""
        return int.from_bytes(self._taken[:8], sys.byteorder)

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def sink(tools: Tools, counter: Path) -> Iterator[Sink]:
    """Run a sink."""
    running = Sink(tools.sink, counter)
    try:
        yield running
    finally:
        running.stop()


def processes(pid: int) -> Iterator[tuple[int, list[str]]]:
    """Give a process and all below it, each with its fields of proc(5) from the third on."""
    children: dict[int, list[int]] = {}
    found: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            found[int(entry.name)] = fields
    waiting = [pid]
    while waiting:
        process = waiting.pop()
        if process in found:
            yield process, found[process]
        waiting += children.get(process, [])


def cpu_seconds(pid: int) -> float:
    """Sum the processor time of a process and all below it, those that have ended and were waited for included."""
    # utime, stime, cutime, cstime
    return sum(sum(int(field) for field in fields[11:15]) for _, fields in processes(pid)) / TICKS


def memory(pid: int) -> int:
    """Sum the memory of a process and all below it in octets, what they share counted once (PSS)."""
    total = 0
    for process, _ in processes(pid):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total


def delivered(maildirs: Sequence[Path]) -> int:
    """Count the files in `new` of all Maildirs."""
    return sum(len(os.listdir(maildir / "new")) for maildir in maildirs if (maildir / "new").exists())


def arguments(running: Running, work: Work) -> list[str]:
    """The options of the load generator."""
    port = running.submission if work.relayed or work.login else running.port
    argv = ["-p", str(port), "-s", str(work.sessions), "-m", str(work.messages), "-k", str(work.per_session)]
    argv += ["-f", str(work.content)] if work.content else ["-l", str(work.octets)]
    argv += ["-d", FAR if work.relayed else DOMAIN, "-u", str(len(USERS))]
    argv += ["-t"] * work.tls + ["-r"] * work.resume
    argv += ["-a", running.login, "-F", running.sender] if work.login else ["-F", SENDER]
    return argv


def _send(tools: Tools, running: Running, work: Work, count: Callable[[], int]) -> tuple[dict[str, float], float]:
    """Send, wait for the deliveries; return what the generator says and the seconds until all of them were done."""
    wanted = count() + work.messages
    start = time.monotonic()
    done = subprocess.run([tools.load, *arguments(running, work)], check=False, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"bench: {done.stderr.strip()}")
    end = time.monotonic() + 120
    while count() < wanted:
        if time.monotonic() > end:
            sys.exit(f"bench: only {count()} of {wanted} messages are delivered after 120 s")
        time.sleep(0.01)
    return json.loads(done.stdout), time.monotonic() - start


def run(name: str, number: int, tools: Tools, running: Running, far: Sink, work: Work) -> Figures:
    """Warm a server up, then measure one run."""
    count = (lambda: far.taken) if work.relayed else (lambda: delivered(running.maildirs))
    _send(tools, running, replace(work, messages=min(200, work.messages)), count)
    time.sleep(SETTLE_SECONDS)
    before = cpu_seconds(running.pid)
    said, seconds = _send(tools, running, work, count)
    time.sleep(SETTLE_SECONDS)
    spent = cpu_seconds(running.pid) - before
    return Figures(
        name,
        number,
        work.name,
        work.messages,
        round(work.messages / seconds, 1),
        round(work.messages / said["seconds"], 1),
        round(work.messages * work.octets / seconds / 1e6, 1),
        round(spent / work.messages * 1e3, 3),
        round(said["load_cpu_seconds"] / work.messages * 1e3, 3),
        said["p50_ms"],
        said["p99_ms"],
        said["session_p99_ms"],
    )

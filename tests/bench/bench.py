"""Measures our server beside the installed Postfix: the same work, in turn, on the same disk (`make bench`).

Each run has a server of its own in a fresh directory. Nothing is deleted between runs: ext4 is slow where inodes were
deleted a moment ago. What is not the default of a server stands in `tests.bench.servers`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

from tests.bench import servers
from tests.bench.backlog import Backlog, backlog
from tests.bench.idle import Idle, idle
from tests.bench.measure import Figures, Sink, Tools, Work, compile_tools, run, sink
from tests.bench.report import ROOT, file_system, markdown, versions
from tests.bench.servers import SERVERS, Running, Start
from tests.bench.stalls import MEANWHILE, Stall, stall

WORKS = (
    Work("W1", "mx to Maildir, 4 KiB, 1 message a session", 4000, 1),
    Work("W1x100", "mx to Maildir, 4 KiB, 100 messages a session", 8000, 100),
    Work(
        "W2",
        "submission from a named network, queue, relay to a sink, 4 KiB, 1 message a session",
        3000,
        1,
        relayed=True,
    ),
    Work("W2x100", "the same, 100 messages a session", 6000, 100, relayed=True),
    Work(
        "W2tls",
        "the same with STARTTLS and AUTH PLAIN, 1 message a session",
        1500,
        1,
        relayed=True,
        tls=True,
        login=True,
    ),
    Work("W3", "mx to Maildir, 1 MiB, 10 messages a session", 400, 10, octets=1 << 20),
    Work("W5", "mx to Maildir with STARTTLS, 1 KiB, 1 message a session", 1500, 1, octets=1024, tls=True),
    Work("W5r", "the same, TLS sessions resumed", 1500, 1, octets=1024, tls=True, resume=True),
)
IDLE = {"W4": False, "W4tls": True}
BACKLOG = "W6"
HISTORY = "H"
"""W1x100 with and without the history."""

STALLS = "S"

Result = Figures | Idle | Backlog | Stall
Measure = Callable[[str, int, Running, Sink], Result]


@dataclass(frozen=True, slots=True)
class Run:
    """Something to measure, and the servers that it is measured on."""

    name: str
    starts: dict[str, Start]
    measure: Measure
    once: bool = False
    """Whether the first round is enough: it takes long, and is no rate that drifts with the machine."""


def fresh_work_directory(path: Path) -> Path:
    """Empty and make the directory that runs lie in, on a real disk; ends the program where it is none."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    kind = file_system(path)
    if kind in {"tmpfs", "ramfs", "overlay"}:
        sys.exit(f"bench: {path} is on {kind}; what is durable there? Name a directory on ext4: --work DIR")
    # the runs in block groups of their own (ext4; elsewhere this does nothing)
    subprocess.run(["chattr", "+T", str(path)], check=False, capture_output=True)
    return path


def runs(options: argparse.Namespace, tools: Tools) -> Iterator[Run]:
    """Give what is to be measured in a round."""
    chosen = {name: SERVERS[name] for name in options.servers.split(";")}
    for work in WORKS:
        scaled = replace(work, messages=max(work.sessions, int(work.messages * options.scale)))
        yield Run(work.name, chosen, partial(_mail, tools, scaled))
    patient = {name: servers.many_processes if name == "postfix" else start for name, start in chosen.items()}
    for name, tls in IDLE.items():
        yield Run(name, patient, partial(_idle, tools, options.idle, tls), once=True)
    yield Run(BACKLOG, chosen, partial(_backlog, tools, options.backlog), once=True)
    for meanwhile in MEANWHILE:
        yield Run(STALLS, chosen, partial(_stall, tools, meanwhile), once=True)
    history: dict[str, Start] = {"mta": servers.ours, "mta, no history": servers.without_history}
    heavy = next(replace(work, name=HISTORY) for work in WORKS if work.name == "W1x100")
    yield Run(HISTORY, history, partial(_mail, tools, heavy))


def _mail(tools: Tools, work: Work, name: str, number: int, running: Running, far: Sink) -> Figures:
    return run(name, number, tools, running, far, work)


def _idle(tools: Tools, sessions: int, tls: bool, name: str, number: int, running: Running, far: Sink) -> Idle:
    return idle(name, number, tools, running, sessions, tls)


def _stall(tools: Tools, meanwhile: str, name: str, number: int, running: Running, far: Sink) -> Stall:
    return stall(name, number, tools, running, meanwhile)


def _backlog(tools: Tools, messages: int, name: str, number: int, running: Running, far: Sink) -> Backlog:
    far.stop()
    return backlog(name, number, tools, running, messages)


def said(result: Result) -> str:
    """Say in a line what a run gave."""
    match result:
        case Figures():
            return (
                f"{result.messages_per_second:6.0f} msgs/s, {result.cpu_ms:5.2f} ms CPU,"
                f" p99 {result.p99_ms:.0f} ms, {result.megabytes_per_second:.0f} MB/s"
            )
        case Idle():
            return f"{result.kibibytes_each:.1f} KiB each, {result.opened_per_second} opened/s"
        case Stall():
            return f"{result.meanwhile}: NOOP p99 {result.p99_ms} ms, {result.megabytes} MB more"
        case Backlog():
            return (
                f"{result.accepted_per_second:.0f} accepted/s, {result.megabytes:.0f} MB, list {result.list_seconds} s,"
                f" restart {result.restart_seconds} s"
            )


def main() -> None:
    """Run the rounds, print what comes of them, write `docs/benchmarks.md` and `docs/benchmarks.json`."""
    parser = argparse.ArgumentParser(prog="make bench", description="mta beside Postfix: messages/s, CPU a message")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--works", default="", help="names, as W1,W2tls; default all")
    parser.add_argument("--servers", default=";".join(SERVERS), help=f"default {';'.join(SERVERS)}")
    parser.add_argument("--scale", type=float, default=1.0, help="how many times as many messages; default 1")
    parser.add_argument("--idle", type=int, default=2000, help="sessions that do nothing; default 2000")
    parser.add_argument("--backlog", type=int, default=20000, help="messages that wait; default 20000")
    parser.add_argument("--work", type=Path, default=ROOT / "var/bench", help="directory on the disk to measure")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where benchmarks.md and .json go")
    options = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("bench: run it as root: Postfix changes to users of its own")
    directory = fresh_work_directory(options.work)
    directory.chmod(0o755)
    tools = compile_tools(directory)
    results: list[Result] = []
    wanted = options.works.split(",") if options.works else None
    for number, each in product(range(1, options.rounds + 1), list(runs(options, tools))):
        if (wanted is not None and each.name not in wanted) or (each.once and number > 1):
            continue
        for name, start in each.starts.items():
            place = directory / f"{number}-{each.name}-{len(results)}"
            with sink(tools, directory / "taken") as far, start(place, far.port) as running:
                result = each.measure(name, number, running, far)
            results.append(result)
            print(f"round {number}, {each.name:6} {name:16} {said(result)}", flush=True)
    about = versions(directory)
    (options.out / "benchmarks.md").write_text(markdown(WORKS, results, about))
    written = {"versions": about, "runs": [asdict(each) for each in results]}
    (options.out / "benchmarks.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()

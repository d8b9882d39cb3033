"""Measures our server beside the installed Postfix: mx to Maildir, in turn, on the same disk (`make bench`).

Each run has a server of its own in a fresh directory. Nothing is deleted between runs: ext4 is slow where inodes were
deleted a moment ago. Both servers are durable before their 250, log each message, and run as they would in earnest;
Postfix is freed of the limits that loopback would meet (`tests.live.peers.postfix`).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.measure import Figures, Work, compile_load, run
from tests.bench.report import ROOT, file_system, markdown, table, versions
from tests.live.peers.daemon import DOMAIN, Daemon
from tests.live.peers.postfix import Postfix
from tests.live.peers.process import free_ports

WORKS = (Work(messages=4000, per_session=1), Work(messages=8000, per_session=100))


@dataclass(frozen=True, slots=True)
class Running:
    """A server that can be measured."""

    pid: int
    port: int
    maildirs: list[Path]


Start = Callable[[Path, list[str]], AbstractContextManager[Running]]


@contextmanager
def ours(directory: Path, users: list[str], settings: dict[str, Any] | None = None) -> Iterator[Running]:
    """Run our server as `mta init --demo` makes it, with more users."""
    daemon = Daemon(directory, settings)
    file = daemon.directory / "etc/domains" / DOMAIN / "users"
    verifier = next(line for line in file.read_text().splitlines() if line.startswith("alice:")).partition(":")[2]
    with file.open("a") as lines:
        lines.write("".join(f"{user}:{verifier}\n" for user in users))
    daemon.start()
    assert daemon.process is not None
    try:
        yield Running(daemon.process.popen.pid, daemon.mx_port, [daemon.maildir(user) for user in users])
    finally:
        daemon.stop()


@contextmanager
def postfix(directory: Path, users: list[str], settings: dict[str, str] | None = None) -> Iterator[Running]:
    """Run the installed Postfix."""
    server = Postfix(directory, free_ports(1)[0], DOMAIN, users, settings)
    try:
        yield Running(server.process.popen.pid, server.port, [server.maildir(user) for user in users])
    finally:
        server.stop()


SERVERS: dict[str, Start] = {"mta": ours, "postfix": postfix}


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


def main() -> None:
    """Run the rounds, print the tables, write `docs/benchmarks.md` and `docs/benchmarks.json`."""
    parser = argparse.ArgumentParser(prog="make bench", description="mta beside Postfix: messages/s, CPU a message")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--servers", default=",".join(SERVERS), help="default mta,postfix")
    parser.add_argument("--work", type=Path, default=ROOT / "var/bench", help="directory on the disk to measure")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where benchmarks.md and .json go")
    options = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("bench: run it as root: Postfix changes to users of its own")
    directory = fresh_work_directory(options.work)
    load = compile_load(directory)
    figures: list[Figures] = []
    for number in range(1, options.rounds + 1):
        for work in WORKS:
            users = [f"u{index}" for index in range(work.mailboxes)]
            for name in options.servers.split(","):
                place = directory / f"{number}-{work.per_session}-{name}"
                with SERVERS[name](place, users) as running:
                    got = run(name, number, load, running.pid, running.port, DOMAIN, running.maildirs, work)
                figures.append(got)
                print(
                    f"round {number}, {got.per_session:3} a session, {name:7}: {got.messages_per_second:6.0f} msgs/s,"
                    f" {got.cpu_ms:.2f} ms CPU, p99 {got.p99_ms:.0f} ms",
                    flush=True,
                )
    about = versions(directory)
    for work in WORKS:
        print(f"\n{work.per_session} a session\n{table(figures, work.per_session)}")
    (options.out / "benchmarks.md").write_text(markdown(figures, about))
    written = {"versions": about, "runs": [asdict(each) for each in figures]}
    (options.out / "benchmarks.json").write_text(json.dumps(written, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()

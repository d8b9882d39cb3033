"""The figures as tables, and what they were measured with."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import mta
from tests.bench.measure import Figures
from tests.live.peers.process import program

ROOT = Path(__file__).resolve().parents[2]


def file_system(path: Path) -> str:
    """Name the type of the file system that holds `path`."""
    path = path.resolve()
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [fields for fields in mounts if path.is_relative_to(fields[1])]
    return max(holding, key=lambda fields: len(fields[1]))[2]


def versions(work: Path) -> dict[str, str]:
    """Say what was measured, on what."""
    asked = [program("postconf"), "-d", "-h", "mail_version"]
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "mta": f"{mta.__version__} ({revision.stdout.strip() or 'no revision'})",
        "python": platform.python_version(),
        "twisted": metadata.version("twisted"),
        "postfix": subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip(),
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} × {models[0].partition(': ')[2] if models else platform.machine()}",
        "file system": file_system(work),
    }


def table(figures: Sequence[Figures], per_session: int) -> str:
    """Tabulate one work in Markdown: the median of the rounds, lowest and highest beside it."""
    rows = [
        "| server | messages/s | × Postfix, same round | CPU ms/message | p50 ms | p99 ms |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    chosen = [each for each in figures if each.per_session == per_session]
    postfix = {each.round: each.messages_per_second for each in chosen if each.server == "postfix"}
    for server in dict.fromkeys(each.server for each in chosen):
        mine = [each for each in chosen if each.server == server]
        ratios = [each.messages_per_second / postfix[each.round] for each in mine if each.round in postfix]
        cells = [
            _spread(mine, lambda each: each.messages_per_second, 0),
            _range(ratios, 2),
            _spread(mine, lambda each: each.cpu_ms, 2),
            _spread(mine, lambda each: each.p50_ms, 1),
            _spread(mine, lambda each: each.p99_ms, 1),
        ]
        rows.append(f"| {server} | {' | '.join(cells)} |")
    return "\n".join(rows)


def markdown(figures: Sequence[Figures], about: dict[str, str]) -> str:
    """Write the page."""
    rounds = len({each.round for each in figures})
    load = statistics.median(each.load_cpu_ms for each in figures)
    parts = [
        "# Benchmarks",
        "Written by `make bench`; how it measures stands in [testing.md](testing.md).",
        "mx to Maildir: messages of 4 KiB, 20 sessions at once, 20 mailboxes, one recipient each, durable before the"
        f" 250, logs and history on. {rounds} round(s), the servers in turn within each; the median, lowest to highest"
        " in brackets. CPU is user and system time of all processes of the server.",
    ]
    for per_session in sorted({each.per_session for each in figures}):
        plural = "s" if per_session > 1 else ""
        parts += [f"## {per_session} message{plural} a session", table(figures, per_session)]
    parts += [
        f"The load generator takes {load:.2f} ms of CPU for each message, on the same processors.",
        "## Measured with",
        "\n".join(f"* {name}: {value}" for name, value in about.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _spread(figures: Sequence[Figures], pick: Callable[[Figures], float], digits: int) -> str:
    return _range([pick(each) for each in figures], digits)


def _range(values: Sequence[float], digits: int) -> str:
    if not values:
        return "–"
    middle, lowest, highest = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} [{lowest}–{highest}]"

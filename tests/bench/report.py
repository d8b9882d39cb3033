"""The figures as tables, and what they were measured with."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mta
from tests.bench.backlog import Backlog
from tests.bench.idle import Idle
from tests.bench.measure import Figures, Work
from tests.bench.servers import OWN_SETTINGS
from tests.bench.stalls import MEANWHILE, Stall
from tests.live.peers.process import program

if TYPE_CHECKING:
    from tests.bench.bench import Result

ROOT = Path(__file__).resolve().parents[2]
POSTFIX = "postfix"


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


Column = tuple[str, Callable[[Any], float | None], int]

MAIL: tuple[Column, ...] = (
    ("messages/s", lambda each: each.messages_per_second, 0),
    ("CPU ms/message", lambda each: each.cpu_ms, 2),
    ("p50 ms", lambda each: each.p50_ms, 1),
    ("p99 ms", lambda each: each.p99_ms, 1),
)
LARGE: tuple[Column, ...] = (("MB/s", lambda each: each.megabytes_per_second, 0), *MAIL[1:])
IDLE: tuple[Column, ...] = (
    ("KiB a session", lambda each: each.kibibytes_each, 1),
    ("opened/s", lambda each: each.opened_per_second, 0),
    ("NOOP ms", lambda each: each.noop_ms, 1),
)
BACKLOG: tuple[Column, ...] = (
    ("accepted/s", lambda each: each.accepted_per_second, 0),
    ("MB", lambda each: each.megabytes, 0),
    ("list s", lambda each: each.list_seconds, 2),
    ("restart s", lambda each: each.restart_seconds, 2),
)
STALLS: tuple[Column, ...] = (
    ("p99 ms", lambda each: each.p99_ms, 1),
    ("p50 ms", lambda each: each.p50_ms, 1),
    ("most ms", lambda each: each.most_ms, 0),
    ("MB more", lambda each: each.megabytes, 0),
)


def table(results: Sequence[Result], columns: Sequence[Column]) -> str:
    """Tabulate one work in Markdown: the median of the rounds, lowest and highest beside it.

    The first column has beside it how many times Postfix's it was, in the same round.
    """
    names = [columns[0][0], "× Postfix, same round", *(name for name, _, _ in columns[1:])]
    rows = [f"| server | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    pick = columns[0][1]
    postfix = {each.round: pick(each) for each in results if each.server == POSTFIX}
    for server in dict.fromkeys(each.server for each in results):
        mine = [each for each in results if each.server == server]
        cells = [_range([pick(each) for each in mine], digits) for _, pick, digits in columns]
        ratios = [(pick(each) or 0) / (postfix[each.round] or 1) for each in mine if each.round in postfix]
        cells.insert(1, _range(ratios, 2))
        rows.append(f"| {server} | {' | '.join(cells)} |")
    return "\n".join(rows)


def markdown(works: Sequence[Work], results: Sequence[Result], about: dict[str, str]) -> str:
    """Write the page."""
    rounds = len({each.round for each in results})
    parts = [
        "# Benchmarks",
        "Written by `make bench`; how it measures stands in [testing.md](testing.md).",
        f"Each work on each server in turn, {rounds} round(s): the median, lowest to highest in brackets. 20 sessions"
        " at once, 20 mailboxes, one recipient each, one command at a time; all of it durable before the 250, logs and"
        " history on. CPU is user and system time of all processes of the server; the load generator runs on the same"
        " processors. `mta` has one worker, `mta, workers` one for each core.",
        *_sections(works, results),
        "## Measured with",
        "\n".join(f"* {name}: {value}" for name, value in about.items()),
        f"Settings of ours that are not the default: `{OWN_SETTINGS}`. Postfix's stand in `tests/live/peers/postfix.py`"
        " and `tests/bench/servers.py`.",
    ]
    return "\n\n".join(parts) + "\n"


def _sections(works: Sequence[Work], results: Sequence[Result]) -> Iterator[str]:
    for work in works:
        mine = [each for each in results if each.work == work.name]
        if mine:
            yield f"## {work.name}: {work.title}"
            yield table(mine, LARGE if work.octets >= 1 << 20 else MAIL)
    for name, title in (("W4", "sessions that do nothing"), ("W4tls", "the same under TLS")):
        idle = [each for each in results if isinstance(each, Idle) and each.work == name]
        if idle:
            yield f"## {name}: {idle[0].sessions:,} {title}"
            yield table(idle, IDLE)
    backlog = [each for each in results if isinstance(each, Backlog)]
    if backlog:
        yield f"## W6: {backlog[0].messages:,} messages that cannot be delivered"
        yield table(backlog, BACKLOG)
        yield "The list is the first page of ours, and all of Postfix's."
    for meanwhile in MEANWHILE:
        stalls = [each for each in results if isinstance(each, Stall) and each.meanwhile == meanwhile]
        if stalls:
            yield f"## How long NOOP takes meanwhile: {meanwhile}"
            yield table(stalls, STALLS)
    history = [each for each in results if isinstance(each, Figures) and each.work == "H"]
    if history:
        yield "## What the history costs"
        yield table(history, MAIL)


def _range(values: Sequence[float | None], digits: int) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "–"
    middle, lowest, highest = (f"{value:.{digits}f}" for value in (statistics.median(found), min(found), max(found)))
    return f"{middle} [{lowest}–{highest}]"

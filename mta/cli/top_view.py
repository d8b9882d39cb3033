"""What `mta top` shows, from two answers of `mta.service.watch`: the rates are their difference.

Everything fits into the height that there is: the summary first, then as many destinations and events as have room.
Text from outside is made harmless, and never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mta.cli.queue_text import amount, destination
from mta.observe import metric
from mta.observe.log import harmless
from mta.observe.metric import Metric
from mta.observe.tally import Samples, labels_of, merged
from mta.observe.telling import duration

_LAG_WORTH_A_LOOK = 0.1
"""Seconds of lag from which it is shown as a warning: peers feel it."""
_SYNC_WORTH_A_LOOK = 0.1
"""Seconds of a mean sync from which it is: a healthy disk takes some milliseconds, a laden one some ten."""
_LEVELS = {"alert": "bold red", "error": "red", "warning": "yellow"}
_SUMMARY_LINES = 13
"""Lines that are there whatever happens: summary, headings, and empty lines between."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An answer, and when it came: `at` on a monotonic clock, `wall` in wall time."""

    answer: Mapping[str, Any]
    at: float
    wall: float

    @property
    def samples(self) -> Samples:
        """The numbers of the whole server."""
        return merged(self.answer["workers"].values())


class Difference:
    """What happened between two frames."""

    def __init__(self, before: Frame, after: Frame) -> None:
        self.seconds = max(after.at - before.at, 1e-9)
        self.now = after.samples
        self._then = before.samples

    def total(self, counted: Metric, **labels: str) -> float:
        """The number of now, over all labels but those given."""
        return _sum(self.now, counted, labels)

    def rate(self, counted: Metric, **labels: str) -> float:
        """How many a second; 0 where the server began anew meanwhile."""
        return max(0.0, self.total(counted, **labels) - _sum(self._then, counted, labels)) / self.seconds

    def mean(self, measured: Metric, key: str = "") -> float | None:
        """The mean of the values of a histogram that came meanwhile; None where none did."""
        none = {"counts": [], "sum": 0.0}
        now = self.now[measured.name].get(key, none)
        then = self._then[measured.name].get(key, none)
        count = sum(now["counts"]) - sum(then["counts"])
        return (now["sum"] - then["sum"]) / count if count > 0 else None


def draw(before: Frame, after: Frame, height: int, width: int, problem: str = "") -> RenderableType:
    """Draw one screen; `problem` is why it is not newer."""
    change = Difference(before, after)
    troubles = [Text(trouble, "bold red") for trouble in _troubles(change)]
    if problem:
        troubles.insert(0, Text(f"no answer, asking again: {harmless(problem)}", "bold red", no_wrap=True))
    destinations = _destinations(after)
    events = sorted(after.answer.get("recent", ()), key=lambda event: -float(event["time"]))
    room = max(2, height - _SUMMARY_LINES - len(troubles))
    for_destinations = min(len(destinations), max(room // 2, room - len(events)))
    parts: list[RenderableType] = [
        _head(change, after, width),
        *troubles,
        Text(""),
        _summary(change),
        Text(""),
        _destination_table(destinations[: max(for_destinations, 1)], after.wall, width),
        Text(""),
        Text("last events worth a look", "dim"),
        *_event_lines(events[: max(1, room - max(for_destinations, 1))], width),
    ]
    return Group(*parts)


def _sum(samples: Samples, counted: Metric, labels: Mapping[str, str]) -> float:
    wanted = [(counted.labels.index(label), value) for label, value in labels.items()]
    return float(
        sum(
            number
            for key, number in samples[counted.name].items()
            if all(labels_of(key)[place] == value for place, value in wanted)
        )
    )


def _head(change: Difference, after: Frame, width: int) -> Text:
    started = list(change.now[metric.WORKER_STARTED.name].values())
    memory = change.total(metric.WORKER_RESIDENT) / 2**20
    wanted, answering = (int(change.total(each)) for each in (metric.WORKERS_WANTED, metric.WORKERS_ANSWERING))
    workers = amount(wanted, "worker") if wanted == answering else f"{answering} of {wanted} workers"
    up = f"up {duration(after.wall - min(started))}" if started else "just started"
    cpu = change.rate(metric.WORKER_CPU) * 100
    left = f"mta top  {after.answer.get('hostname', '')}"
    right = f"{up}, {workers}, {cpu:.0f} % CPU, {memory:.0f} MiB   {_clock(after.wall)} {_zone(after.wall)}"
    return Text(f"{left}{right:>{max(width - len(left), len(right) + 2)}}", "bold", no_wrap=True, overflow="ellipsis")


def _troubles(change: Difference) -> Iterator[str]:
    for kind, places in change.now[metric.TROUBLES.name].items():
        if places:
            yield f"TROUBLE  {kind} in {amount(places, 'place')}, see the log"


def _summary(change: Difference) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=8)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for row in _rows(change):
        table.add_row(*row)
    return table


def _rows(change: Difference) -> Iterator[tuple[RenderableType, ...]]:
    def rate(counted: Metric, **labels: str) -> str:
        return f"{change.rate(counted, **labels):,.1f}/s"

    def name(text: str) -> Text:
        return Text(text, "cyan")

    services = sorted(change.now[metric.SESSIONS_OPEN.name].items())
    sessions = "   ".join(f"{service} {int(count):,}" for service, count in services)
    yield (
        name("sessions"),
        f"{sessions} open   {rate(metric.SESSIONS_OPENED)} new   {rate(metric.SESSIONS_REFUSED)} turned away",
    )
    accepted = "   ".join(f"{service} {rate(metric.MESSAGES_ACCEPTED, service=service)}" for service, _ in services)
    yield name("accepted"), f"{accepted}   {int(change.total(metric.MESSAGES_ACCEPTED)):,} since the start"
    yield (
        name("refused"),
        f"recipients {rate(metric.RECIPIENTS_REFUSED)}   messages {rate(metric.MESSAGES_REFUSED)}"
        f"   logins {rate(metric.LOGINS, outcome='refused')}",
    )
    outcomes = ("delivered", "deferred", "failed")
    yield (
        name("attempts"),
        "   ".join(f"{outcome} {rate(metric.DELIVERIES, outcome=outcome)}" for outcome in outcomes)
        + f"   reports {rate(metric.REPORTS)}",
    )
    yield name("queue"), _queue(change)
    yield name("syncs"), _disk(change)
    lag = change.mean(metric.LOOP_LAG)
    most = change.total(metric.LOOP_LAG_MAXIMUM)
    slow = "yellow" if most >= _LAG_WORTH_A_LOOK else ""
    yield name("loop lag"), Text(f"{_milliseconds(lag)}, in the last minute at most {_milliseconds(most)}", slow)


def _queue(change: Difference) -> str:
    counts = {state: int(change.total(metric.QUEUE_RECIPIENTS, state=state)) for state in ("waiting", "active", "held")}
    states = "   ".join(f"{state} {count:,}" for state, count in counts.items())
    messages = int(change.total(metric.QUEUE_MESSAGES))
    oldest = f"   oldest {duration(change.total(metric.QUEUE_OLDEST))}" if messages else ""
    return f"{amount(messages, 'message')}   {states}{oldest}"


def _disk(change: Difference) -> Text:
    line = Text()
    for place in ("spool", "maildir"):
        seconds, batch = change.mean(metric.SYNC_SECONDS, place), change.mean(metric.BATCH, place)
        shared = f", batch {batch:.1f}" if batch is not None else ""
        slow = "yellow" if seconds is not None and seconds >= _SYNC_WORTH_A_LOOK else ""
        line.append(f"{place} {_milliseconds(seconds)}{shared}   ", slow)
    free = change.total(metric.DISK_FREE, volume="state")
    low = "bold red" if free <= 2 * change.total(metric.DISK_RESERVE) else ""
    return line.append(f"{free / 2**30:,.1f} GiB free", low)


def _destinations(after: Frame) -> list[tuple[str, dict[str, Any]]]:
    """Those of all workers together, the largest first."""
    found: dict[str, dict[str, Any]] = {}
    for of_worker in after.answer.get("destinations", {}).values():
        for name, each in of_worker.items():
            seen = found.setdefault(name, {"recipients": 0, "next": None, "reason": "", "most": 0})
            seen["recipients"] += each["recipients"]
            dues = [due for due in (seen["next"], each["next"]) if due is not None]
            seen["next"] = min(dues, default=None)
            if each["reason"] and each["recipients"] > seen["most"]:
                seen["reason"], seen["most"] = each["reason"], each["recipients"]
    return sorted(found.items(), key=lambda item: -int(item[1]["recipients"]))


def _destination_table(found: list[tuple[str, dict[str, Any]]], wall: float, width: int) -> RenderableType:
    if not found:
        return Text("The queue is empty.", "dim")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, width=width)
    table.add_column("destination", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("recipients", justify="right", no_wrap=True)
    table.add_column("next", justify="right", no_wrap=True)
    table.add_column("why most of them wait", no_wrap=True, overflow="ellipsis", ratio=5)
    for name, each in found:
        due = "" if each["next"] is None else "now" if each["next"] <= wall else duration(each["next"] - wall)
        table.add_row(Text(destination(name)), f"{each['recipients']:,}", due, Text(harmless(each["reason"])))
    return table


def _event_lines(events: list[Mapping[str, Any]], width: int) -> Iterator[Text]:
    if not events:
        yield Text("none", "dim")
    for event in events:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{_clock(event['time'])}  ", "dim")
        line.append(f"{event['kind']}  ", _LEVELS.get(event["level"], ""))
        about, reason = event["about"], event["reason"]
        line.append(harmless(reason if reason and about in reason else ": ".join(filter(None, (about, reason)))))
        line.truncate(width, overflow="ellipsis")
        yield line


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _zone(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall).astimezone():%Z}"


def _clock(wall: float) -> str:
    """The local time of day, as a wall clock beside the screen has it."""
    return datetime.fromtimestamp(wall).strftime("%H:%M:%S")

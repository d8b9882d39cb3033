r"""The numbers of one process, by metric and labels; and how those of several become one.

Counting costs a look-up in two dictionaries. Whatever a peer makes up as a label, one metric has no more than
`SERIES_MAXIMUM` of them: what comes later is counted under ``(other)``.

`samples` gives plain values that JSON can carry: ``{name: {key: number}}``, a histogram's number being
``{"counts": […], "sum": …}``. A key is the values of the labels with ``\x1f`` between.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

from mta.observe.metric import METRICS, Merge, Metric, Type

SERIES_MAXIMUM = 200
"""Sets of labels of one metric: what a Prometheus server takes without a thought for each of hundreds of targets."""
LABEL_MAXIMUM = 100
"""Characters of a label's value; the rest is cut."""
OTHER = "(other)"
"""What stands for the labels that found no room."""

_BETWEEN = "\x1f"

Samples = dict[str, dict[str, Any]]
"""The numbers, see above."""


class Tally:
    """Counts. `observe` may be called by any thread; all else by the reactor's."""

    def __init__(self, metrics: Iterable[Metric] = METRICS) -> None:
        self._series: dict[str, dict[tuple[str, ...], Any]] = {}
        self._lock = Lock()
        for metric in metrics:
            series = self._series[metric.name] = {}
            for labels in metric.known:
                series[labels] = Distribution(metric.buckets) if metric.type is Type.HISTOGRAM else 0

    def add(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        """Count `amount` more."""
        series = self._series[metric.name]
        try:
            series[labels] += amount
        except KeyError:
            labels = _room(series, labels)
            series[labels] = series.get(labels, 0) + amount

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Count a value of a histogram."""
        series = self._series[metric.name]
        with self._lock:
            found = series.get(labels)
            if found is None:
                found = series.setdefault(_room(series, labels), Distribution(metric.buckets))
            found.add(value)

    def samples(self, now: Mapping[tuple[Metric, tuple[str, ...]], float] = {}) -> Samples:
        """Give all numbers, with those of `now` beside what was counted (or added to it)."""
        out: Samples = {}
        with self._lock:
            for name, series in self._series.items():
                out[name] = {
                    _BETWEEN.join(labels): value.sample() if isinstance(value, Distribution) else value
                    for labels, value in series.items()
                }
        for (metric, labels), number in now.items():
            key = _BETWEEN.join(map(_label, labels))
            series_now = out.setdefault(metric.name, {})
            series_now[key] = series_now.get(key, 0) + number
        return out


class Distribution:
    """The values of one histogram: how many fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value; one that is a bound is within it."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def sample(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {"counts": list(self.counts), "sum": self.sum}


def labels_of(key: str) -> tuple[str, ...]:
    """Take a key of `Samples` apart."""
    return tuple(key.split(_BETWEEN))


def merged(all_samples: Iterable[Samples], metrics: Iterable[Metric] = METRICS) -> Samples:
    """Make one of the samples of several processes, by the rule of each metric. What is in no table is left out."""
    every = list(all_samples)
    out: Samples = {}
    for metric in metrics:
        series: dict[str, Any] = {}
        for samples in every:
            for key, value in samples.get(metric.name, {}).items():
                series[key] = value if key not in series else _both(metric, series[key], value)
        out[metric.name] = series
    return out


def _both(metric: Metric, one: Any, other: Any) -> Any:
    if metric.type is Type.HISTOGRAM:
        counts = [left + right for left, right in zip(one["counts"], other["counts"], strict=True)]
        return {"counts": counts, "sum": one["sum"] + other["sum"]}
    return max(one, other) if metric.merge is Merge.MAXIMUM else one + other


def _room(series: Mapping[tuple[str, ...], Any], labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels to count under: cut, or ``(other)`` where there are too many already."""
    labels = tuple(map(_label, labels))
    return labels if labels in series or len(series) < SERIES_MAXIMUM else (OTHER,) * len(labels)


def _label(text: str) -> str:
    cut = text if len(text) <= LABEL_MAXIMUM else text[: LABEL_MAXIMUM - 1] + "…"
    return cut.replace(_BETWEEN, " ")

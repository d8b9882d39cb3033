"""The numbers as Prometheus reads them (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from mta.observe.metric import METRICS, Metric, Type
from mta.observe.tally import Samples, labels_of

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Of what `expose` makes."""


class _Collected(Collector):
    """What a registry asks; the numbers are there already."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            yield _family(metric, self._samples.get(metric.name, {}))


def expose(samples: Samples) -> bytes:
    """Return the page, with a HELP and a TYPE for each metric."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(samples))
    return generate_latest(registry)


def _family(metric: Metric, series: dict[str, Any]) -> Family:
    if metric.type is Type.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for key, value in series.items():
            bounds = [*map(str, metric.buckets), "+Inf"]
            counts = accumulate(map(float, value["counts"]))
            histogram.add_metric(_labels(metric, key), list(zip(bounds, counts, strict=True)), value["sum"])
        return histogram
    kind = CounterMetricFamily if metric.type is Type.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=metric.labels)
    for key, value in series.items():
        family.add_metric(_labels(metric, key), value)
    return family


def _labels(metric: Metric, key: str) -> tuple[str, ...]:
    return labels_of(key) if metric.labels else ()

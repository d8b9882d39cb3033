"""The table of metrics in ``docs/metrics.md``: ``python -m mta.observe.reference`` writes it anew between its marks."""

from __future__ import annotations

import sys
from pathlib import Path

from mta.observe.metric import METRICS, Merge, Metric, Type

BEGIN = "<!-- made by `python -m mta.observe.reference docs/metrics.md`; a test compares -->\n"
END = "<!-- end -->\n"


def table() -> str:
    """Return the table, in Markdown."""
    head = "| metric | type | labels | what it is |\n| --- | --- | --- | --- |\n"
    return head + "".join(map(_row, METRICS))


def replaced(page: str) -> str:
    """Return a page with the table between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    largest = " Of several workers: the largest." if metric.merge is Merge.MAXIMUM and metric.type is Type.GAUGE else ""
    return f"| `{metric.name}` | {metric.type.value} | {labels} | {metric.help}{largest} |\n"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(replaced(file.read_text()))

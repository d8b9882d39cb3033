"""docs/metrics.md, etc/grafana/mta.json and etc/prometheus/mta.rules.yml speak of metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mta.observe.metric import METRICS, Type
from mta.observe.reference import replaced
from tests.live.peers.process import program

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/metrics.md"
DASHBOARD = ROOT / "etc/grafana/mta.json"
RULES = ROOT / "etc/prometheus/mta.rules.yml"

NAMES = {metric.name for metric in METRICS if metric.type is not Type.HISTOGRAM} | {
    f"{metric.name}_{part}"
    for metric in METRICS
    if metric.type is Type.HISTOGRAM
    for part in ("bucket", "sum", "count")
}
LABELS = {
    name: {*metric.labels, "le", "job", "instance"}
    for metric in METRICS
    for name in (metric.name, f"{metric.name}_bucket", f"{metric.name}_sum", f"{metric.name}_count")
}


def rules() -> list[dict[str, Any]]:
    """The alerts."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def expressions(value: Any) -> Iterator[str]:
    """Every expression of a dashboard, wherever it stands."""
    if isinstance(value, dict):
        yield from ([value["expr"]] if "expr" in value else [])
        yield from (found for each in value.values() for found in expressions(each))
    elif isinstance(value, list):
        yield from (found for each in value for found in expressions(each))


def test_the_table_is_that_of_the_server() -> None:
    """The page has the table that is made from the metrics (python -m mta.observe.reference docs/metrics.md)."""
    assert replaced(PAGE.read_text()) == PAGE.read_text()
    assert all(f"| `{metric.name}` |" in PAGE.read_text() for metric in METRICS)


@pytest.mark.parametrize("file", [DASHBOARD, RULES], ids=lambda file: file.name)
def test_every_expression_names_metrics_and_labels_that_there_are(file: Path) -> None:
    """A metric that is renamed is not forgotten on the dashboard or in an alert."""
    found = [rule["expr"] for rule in rules()]
    if file is DASHBOARD:
        found = list(expressions(json.loads(DASHBOARD.read_text())))
    assert len(found) > 10
    for expression in found:
        named = re.findall(r"mta_[a-z_]+", expression)
        assert named or expression.startswith("up{")
        assert set(named) <= NAMES, expression
        for name, selector in re.findall(r"(mta_[a-z_]+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)(?:=|!=)", selector)) <= LABELS[name], expression
        by = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}
        assert by <= set.union(*(LABELS[name] for name in named)) if named else not by


def test_every_metric_but_the_version_is_on_the_dashboard() -> None:
    """What is counted can be seen."""
    text = DASHBOARD.read_text()
    unseen = {metric.name for metric in METRICS if not re.search(rf"{metric.name}(?:_bucket|_count)?\b", text)}
    assert unseen <= {"mta_events_total", "mta_disk_free_inodes"}


def test_panels_do_not_overlap() -> None:
    """Grafana shows each panel whole."""
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_alert_says_what_to_do() -> None:
    """The page has a line for each alert, and each has a summary, a description and how grave it is."""
    names = [rule["alert"] for rule in rules()]
    assert re.findall(r"^\| `(Mta\w+)` \|", PAGE.read_text(), re.MULTILINE) == names
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("warning", "critical")


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Prometheus' own tool."""
    return subprocess.run([program("promtool"), *arguments], check=False, capture_output=True, text=True)


def test_promtool_takes_the_rules() -> None:
    """Prometheus reads every expression."""
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr


FIRES = {
    "MtaDown": {"up": "0x60"},
    "MtaWorkerMissing": {"mta_workers_answering": "1x60", "mta_workers_wanted": "2x60"},
    "MtaFault": {"mta_faults_total": "0x50 1x10"},
    "MtaTrouble": {'mta_troubles{kind="spool.suspect"}': "1x60"},
    "MtaMemoryLost": {'mta_events_lost_total{sink="history"}': "0+5x60"},
    "MtaDiskSoonInReserve": {'mta_disk_free_bytes{volume="state"}': "250x60", "mta_disk_reserve_bytes": "100x60"},
    "MtaQueueGrows": {"mta_queue_messages": "100x60 100+50x60"},
    "MtaQueueOld": {"mta_queue_oldest_seconds": "200000+60x120"},
    "MtaSyncSlow": {
        f'mta_commit_sync_seconds_bucket{{place="spool",le="{le}"}}': steps
        for le, steps in (("0.5", "0x60"), ("1.0", "0+9x60"), ("+Inf", "0+9x60"))
    },
    "MtaLoopLag": {
        f'mta_loop_lag_seconds_bucket{{le="{le}"}}': steps
        for le, steps in (("0.25", "0x60"), ("0.5", "0+240x60"), ("+Inf", "0+240x60"))
    },
    "MtaLoginsRefused": {'mta_logins_total{mechanism="PLAIN",outcome="refused"}': "0x100 0+600x60"},
    "MtaDeliveriesFail": {
        'mta_delivery_attempts_total{outcome="failed"}': "0+9x120",
        'mta_delivery_attempts_total{outcome="delivered"}': "0+9x120",
    },
    "MtaCheckFinds": {'mta_check_findings{severity="error"}': "2x60"},
}
"""For each alert, numbers minute by minute that make it fire (promtool's notation)."""


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules()])
def test_an_alert_fires_when_it_should_and_not_before(alert: str, tmp_path: Path) -> None:
    """With the numbers it is made for an alert fires; with the numbers of a quiet server none does."""
    numbers = FIRES[alert]
    minutes = max(sum(map(int, re.findall(r"x(\d+)", steps))) for steps in numbers.values())
    quiet = {
        "up": "1x60",
        "mta_workers_answering": "2x60",
        "mta_workers_wanted": "2x60",
        "mta_faults_total": "0x60",
        'mta_troubles{kind="disk.low"}': "0x60",
        'mta_disk_free_bytes{volume="state"}': "1000x60",
        "mta_disk_reserve_bytes": "100x60",
        "mta_queue_messages": "5x60",
        "mta_queue_oldest_seconds": "60x60",
        'mta_logins_total{mechanism="PLAIN",outcome="refused"}': "0x60",
        'mta_check_findings{severity="error"}': "0x60",
    }

    def series(given: dict[str, str]) -> list[dict[str, str]]:
        named = [(name if "{" in name else f"{name}{{}}", steps) for name, steps in given.items()]
        place = 'instance="mail",job="mta",'
        return [{"series": name.replace("{", "{" + place, 1).replace(",}", "}"), "values": v} for name, v in named]

    def alert_of(given: dict[str, str], at: int, fires: bool) -> dict[str, Any]:
        # That it fires is asked as a query, for the wording of the annotations is no matter of this test.
        query = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
        asked = {"expr": query, "eval_time": f"{at}m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
        return {"interval": "1m", "input_series": series(given), "promql_expr_test": [asked]}

    tests = [alert_of(numbers, minutes, True), alert_of(quiet, 60, False)]
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    ran = promtool("test", "rules", str(file))
    assert ran.returncode == 0, ran.stdout + ran.stderr

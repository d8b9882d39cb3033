"""The numbers of one process, and how those of several become one."""

from __future__ import annotations

from threading import Thread

import pytest

from mta.observe.metric import METRICS, Merge, Metric, Type
from mta.observe.tally import OTHER, SERIES_MAXIMUM, Tally, labels_of, merged

REPLIES = Metric("replies_total", Type.COUNTER, "Replies.", ("service", "code"))
FAULTS = Metric("faults_total", Type.COUNTER, "Faults.", known=((),))
OLDEST = Metric("oldest_seconds", Type.GAUGE, "Oldest.", merge=Merge.MAXIMUM)
SYNC = Metric("sync_seconds", Type.HISTOGRAM, "Syncs.", ("place",), (0.1, 1.0))
ALL = (REPLIES, FAULTS, OLDEST, SYNC)


def test_a_count_is_kept_for_each_set_of_labels() -> None:
    """What is counted under the same labels adds up, and other labels have a number of their own."""
    tally = Tally(ALL)
    for code in ("250", "250", "550"):
        tally.add(REPLIES, "mx", code)
    tally.add(REPLIES, "smtpd", "250", amount=5)
    series = {labels_of(key): number for key, number in tally.samples()[REPLIES.name].items()}
    assert series == {("mx", "250"): 2, ("mx", "550"): 1, ("smtpd", "250"): 5}


def test_what_is_known_is_there_before_it_happens() -> None:
    """A metric is 0 from the start where its labels are known: the first increase is seen as one."""
    assert Tally(ALL).samples()[FAULTS.name] == {"": 0}


def test_labels_that_a_peer_makes_up_are_bounded() -> None:
    """However many labels there are, a metric has no more than its bound; the rest is counted together."""
    tally = Tally(ALL)
    for number in range(SERIES_MAXIMUM + 50):
        tally.add(REPLIES, "mx", f"made up {number}")
    tally.add(REPLIES, "mx", "made up 7")
    series = {labels_of(key): number for key, number in tally.samples()[REPLIES.name].items()}
    assert len(series) == SERIES_MAXIMUM + 1
    assert series[OTHER, OTHER] == 50
    assert series["mx", "made up 7"] == 2


def test_a_label_is_cut_and_stays_one_label() -> None:
    """A label of any length and content is one label, and not longer than the bound."""
    tally = Tally(ALL)
    tally.add(REPLIES, "m\x1fx", "x" * 1000)
    (key,) = tally.samples()[REPLIES.name]
    assert labels_of(key) == ("m x", "x" * 99 + "…")


@pytest.mark.parametrize(("value", "counts"), [(0.05, [1, 0, 0]), (0.1, [1, 0, 0]), (0.2, [0, 1, 0]), (7.0, [0, 0, 1])])
def test_a_value_falls_into_the_first_bucket_that_holds_it(value: float, counts: list[int]) -> None:
    """A bucket holds what is not above its bound; the last one holds everything."""
    tally = Tally(ALL)
    tally.observe(SYNC, value, "spool")
    assert tally.samples()[SYNC.name] == {"spool": {"counts": counts, "sum": value}}


def test_values_of_several_threads_are_all_counted() -> None:
    """No value is lost where syncs end on several threads."""
    tally = Tally(ALL)
    threads = [Thread(target=lambda: [tally.observe(SYNC, 1, "spool") for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.samples()[SYNC.name]["spool"] == {"counts": [0, 20000, 0], "sum": 20000.0}


def test_numbers_of_now_stand_beside_what_was_counted() -> None:
    """What is read when it is asked for is added to the answer and not kept."""
    tally = Tally(ALL)
    assert tally.samples({(OLDEST, ()): 7.5})[OLDEST.name] == {"": 7.5}
    assert tally.samples()[OLDEST.name] == {}


def test_several_workers_are_one_server() -> None:
    """Counts and histograms are added, what has no sum is the largest, and nothing unknown is let in."""
    one, other = Tally(ALL), Tally(ALL)
    one.add(REPLIES, "mx", "250", amount=2)
    other.add(REPLIES, "mx", "250", amount=3)
    other.add(REPLIES, "mx", "421")
    one.observe(SYNC, 0.05, "spool")
    other.observe(SYNC, 5.0, "spool")
    samples = [one.samples({(OLDEST, ()): 9}), other.samples({(OLDEST, ()): 4})]
    samples[1]["unknown"] = {"": 1}
    both = merged(samples, ALL)
    assert both == {
        REPLIES.name: {"mx\x1f250": 5, "mx\x1f421": 1},
        FAULTS.name: {"": 0},
        OLDEST.name: {"": 9},
        SYNC.name: {"spool": {"counts": [1, 0, 1], "sum": 5.05}},
    }


def test_every_metric_is_named_as_prometheus_wants_it() -> None:
    """Names begin with ours, are unique, say their unit, and end in _total where they only grow, and only there."""
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names) > 40
    for metric in METRICS:
        assert metric.name.startswith("mta_")
        assert metric.name.endswith("_total") is (metric.type is Type.COUNTER)
        assert metric.help.endswith(".")
        assert bool(metric.buckets) is (metric.type is Type.HISTOGRAM)
        assert list(metric.buckets) == sorted(metric.buckets)
        assert all(len(labels) == len(metric.labels) for labels in metric.known)

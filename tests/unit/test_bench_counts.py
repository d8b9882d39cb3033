"""What the core does for a message has not become more: counted in calls, which no clock and no neighbour changes."""

from __future__ import annotations

import json
import sys

import pytest

from tests.bench.counts import STORED, calls, counted, judge


def test_nothing_has_become_slower() -> None:
    """No part of the core makes more calls for a message than are stored (`make bench-check` prints them)."""
    stored = json.loads(STORED.read_text())
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in stored:
        pytest.skip(f"no counts are stored for Python {version}")
    assert judge(counted(), stored[version]) == []


def test_a_slow_down_is_seen() -> None:
    """Four of a hundred calls more are told with both numbers, two are not, and neither is what is not stored."""
    assert judge({"a": 104.0, "b": 102.0, "new": 1.0}, {"a": 100.0, "b": 100.0}) == ["a: 104 calls, 100 are stored"]


def test_only_calls_of_ours_are_counted() -> None:
    """A function that calls none of ours counts as nothing."""
    assert calls(lambda: sorted([2, 1]), 5) == 0

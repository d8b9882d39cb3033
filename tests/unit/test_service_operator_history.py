"""Tests of `mta.service.operator.history`."""

from __future__ import annotations

from pathlib import Path

from mta.observe.event import Kind
from mta.service.operator.history import HistoryCommands
from tests.unit.test_observe_history import World


def test_what_waits_is_written(tmp_path: Path) -> None:
    """Events that are still in memory are in the files afterwards; a journal without a history has nothing to write."""
    world = World(tmp_path / "history")
    world.note(1)
    assert world.found() == []
    assert HistoryCommands(world.journal).flush({}) == {"events_lost": 0}
    assert world.found() == [1]
    world.history.close()
    world.journal.sinks.clear()
    assert HistoryCommands(world.journal).flush({}) == {"events_lost": 0}


def test_events_that_are_lost_are_counted(tmp_path: Path) -> None:
    """Who asks learns how many events could not be written."""
    (tmp_path / "history").write_bytes(b"a file where the directory should be")
    world = World(tmp_path / "history")
    world.journal.note(Kind.SERVICE_STOPPED)
    assert HistoryCommands(world.journal).flush({})["events_lost"] >= 1

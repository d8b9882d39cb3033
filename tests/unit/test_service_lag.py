"""How late the loop is."""

from __future__ import annotations

from twisted.internet import task

from mta.observe.metric import LOOP_LAG
from mta.observe.tally import Tally
from mta.service.lag import INTERVAL, REMEMBERED, Lag


def test_a_loop_that_is_late_is_seen() -> None:
    """The lag is what a call came too late by; the largest is known for a minute, and then no more."""
    clock, tally = task.Clock(), Tally()
    lag = Lag(clock, tally)
    lag.start()
    clock.advance(INTERVAL)
    clock.advance(INTERVAL + 0.7)
    for _ in range(round(REMEMBERED / INTERVAL) - 1):
        clock.advance(INTERVAL)
    assert round(lag.maximum(), 6) == 0.7
    for _ in range(3):
        clock.advance(INTERVAL)
    assert lag.maximum() < 0.001
    seen = tally.samples()[LOOP_LAG.name][""]
    assert round(seen["sum"], 6) == 0.7
    assert sum(seen["counts"]) == round(REMEMBERED / INTERVAL) + 4


def test_it_ends() -> None:
    """After the stop nothing is on the clock."""
    clock = task.Clock()
    lag = Lag(clock, Tally())
    lag.stop()
    lag.start()
    lag.stop()
    assert clock.getDelayedCalls() == []
    assert lag.maximum() == 0.0

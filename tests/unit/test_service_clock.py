"""The reactor's clock."""

from __future__ import annotations

import time

import pytest
from twisted.internet.selectreactor import SelectReactor

from mta.service.clock import monotonic


def test_85_delayed_calls_do_not_follow_a_clock_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 85: after the wall clock jumped by a day a call that is due in ten seconds is due in ten seconds."""
    now = [5000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reactor = SelectReactor()
    monotonic(reactor)
    due: list[str] = []
    reactor.callLater(10, due.append, "now")
    jumped = time.time() + 86400
    monkeypatch.setattr(time, "time", lambda: jumped)
    reactor.runUntilCurrent()
    assert due == []
    now[0] += 10
    reactor.runUntilCurrent()
    assert due == ["now"]

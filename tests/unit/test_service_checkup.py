"""Once a day the daemon looks at itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from mta.observe import metric
from mta.observe.event import Event, Kind, Level
from mta.observe.journal import Journal
from mta.service.check.checks import PATIENCE_SECONDS
from mta.service.check.finding import Finding, error, note, warning
from mta.service.checkup import FIRST_SECONDS, NAMES_SECONDS, ROUND_SECONDS, Checkup
from mta.service.measures import Measures
from mta.settings.sections import Settings
from tests.doubles.service import MemoryServer, demonstration
from tests.doubles.sync import result

SETTINGS = Settings("mail.example.org")


class Round:
    """A check-up whose checks are those of a test."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.checks: dict[str, Callable[[], list[Finding]]] = {}
        self.hung: list[str] = []
        self.threads: list[defer.Deferred[list[Finding]]] = []
        self.named: defer.Deferred[list[Finding]] = defer.succeed([])
        journal = Journal(time.time, [self.events.append])
        self.checkup = Checkup(lambda: SETTINGS, lambda _: self.checks, self.names, self.run, journal, self.clock)
        self.checkup.start()

    async def names(self, settings: Settings) -> list[Finding]:
        """What the name servers say."""
        assert settings is SETTINGS
        return await self.named

    def run(self, check: Callable[[], list[Finding]]) -> defer.Deferred[list[Finding]]:
        """Run on a thread, which hangs for what is in `hung`."""
        hangs = any(self.checks[name] is check for name in self.hung)
        if hangs:
            self.threads.append(defer.Deferred())
        return self.threads[-1] if hangs else defer.execute(check)

    def kinds(self) -> list[str]:
        """What was noted."""
        return [event.kind.value for event in self.events]


def idle() -> Callable[[], list[Finding]]:
    """A check, different from every other, that finds nothing."""
    found: list[Finding] = []
    return lambda: found


@pytest.fixture
def round_() -> Round:
    """One with nothing to check."""
    return Round()


def test_what_is_found_is_told_at_its_level(round_: Round) -> None:
    """The gravest first, with what, why and how to mend it; then the numbers."""
    round_.checks["disk"] = lambda: [note("disk", "a sync takes 2 ms", "plausible", "/state")]
    round_.checks["files"] = lambda: [error("files", "cannot read users", "it is closed", "users", "chmod g+r users")]
    round_.named = defer.succeed([warning("names", "no DMARC", "they want one", "192.0.2.53", "publish it")])
    round_.clock.advance(FIRST_SECONDS)
    found = [(event.level, event.fields["check"]) for event in round_.events if event.kind is Kind.CHECK_FOUND]
    assert found == [(Level.ERROR, "files"), (Level.WARNING, "names"), (Level.INFO, "disk")]
    first, end = round_.events[0], round_.events[-1]
    assert first.reason is not None
    assert (first.reason.text, first.reason.source) == ("it is closed", "users")
    assert (first.fields["what"], first.fields["mend"]) == ("cannot read users", "chmod g+r users")
    assert end.kind is Kind.CHECK_ENDED
    assert (end.fields["errors"], end.fields["warnings"], end.fields["notes"]) == (1, 1, 1)


def test_it_comes_again_every_day(round_: Round) -> None:
    """Some minutes after the start, and each day then."""
    round_.clock.advance(FIRST_SECONDS - 1)
    assert round_.kinds() == []
    round_.clock.advance(1)
    assert round_.kinds() == ["check.ended"]
    round_.clock.advance(ROUND_SECONDS)
    assert round_.kinds() == ["check.ended"] * 2


def test_a_check_that_hangs_is_left_behind(round_: Round) -> None:
    """A file server that does not answer costs its own check; the others are told."""
    round_.checks |= {"disk": list, "files": lambda: [error("files", "what", "why", "source", "mend")]}
    round_.hung = ["disk"]
    round_.clock.advance(FIRST_SECONDS)
    assert round_.kinds() == []
    round_.clock.advance(PATIENCE_SECONDS)
    assert [event.fields.get("check") for event in round_.events] == ["files", "disk", None]
    reason = round_.events[1].reason
    assert reason is not None
    assert reason.text.startswith("not within 30 s")


def test_threads_that_hang_are_bounded(round_: Round) -> None:
    """A check that still hangs is not begun again, and no other is while two hang; what has come back is begun anew."""
    round_.checks |= {name: idle() for name in ("disk", "spool", "files", "clock")}
    round_.hung = ["disk", "spool", "files"]
    round_.clock.advance(FIRST_SECONDS)
    round_.clock.advance(PATIENCE_SECONDS)
    round_.clock.advance(PATIENCE_SECONDS)
    assert len(round_.threads) == 2
    reasons = [event.reason.text for event in round_.events if event.reason is not None]
    assert reasons[2:] == ["not begun: disk, spool still hangs"] * 2
    for thread in round_.threads:
        thread.callback([])
    round_.clock.advance(ROUND_SECONDS)
    assert len(round_.threads) == 3


def test_name_servers_that_hang_are_left_behind(round_: Round) -> None:
    """Likewise, and later."""
    round_.named = defer.Deferred()
    round_.clock.advance(FIRST_SECONDS)
    round_.clock.advance(NAMES_SECONDS)
    assert round_.kinds() == ["check.found", "check.ended"]


def test_a_bug_in_a_check_is_a_fault_and_costs_that_check_alone(round_: Round) -> None:
    """It stands in the log with its traceback; the round goes on, and the next one comes."""
    round_.checks["disk"] = lambda: [][1]
    round_.clock.advance(FIRST_SECONDS)
    assert round_.kinds() == ["fault", "check.found", "check.ended"]
    assert round_.events[0].fields["where"] == "check of disk"
    round_.checks.clear()
    round_.clock.advance(ROUND_SECONDS)
    assert round_.kinds()[3:] == ["check.ended"]


def test_it_stops_in_a_round_and_between_two(round_: Round) -> None:
    """Nothing is left on the clock, and nothing is told of what was under way."""
    round_.named = defer.Deferred()
    round_.clock.advance(FIRST_SECONDS)
    round_.checkup.stop()
    assert round_.clock.getDelayedCalls() == []
    assert round_.events == []
    other = Round()
    other.checkup.stop()
    assert other.clock.getDelayedCalls() == []


def test_the_numbers_of_the_last_round_are_a_metric() -> None:
    """`mta_check_findings` has them by severity, and nothing before the first round."""
    journal = Journal(time.time)
    measures = Measures("0", journal, Clock())
    assert measures.samples()[metric.CHECK_FINDINGS.name] == {}
    for errors in (2, 1):
        journal.note(Kind.CHECK_ENDED, errors=errors, warnings=3, notes=0, seconds=1.0)
    assert measures.samples()[metric.CHECK_FINDINGS.name] == {"error": 1, "warning": 3, "note": 0}


def test_a_running_server_looks_at_itself(tmp_path: Path) -> None:
    """With the real checks, on a demonstration: what is found of its certificate and of an edited file is logged."""
    server = MemoryServer(tmp_path, demonstration(tmp_path))
    server.start()
    server.file.write_text(server.file.read_text() + "nonsense = 1\n")
    server.clock.advance(FIRST_SECONDS)
    log = server.log()
    assert 'check.found level=warning check=certificate severity=warning what="the certificate is self-signed"' in log
    assert "check.found level=error check=configuration severity=error" in log
    assert "check.ended level=notice errors=" in log
    assert " fault " not in log
    result(server.parent.stopService())

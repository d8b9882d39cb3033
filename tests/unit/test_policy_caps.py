"""How much one login may send in a day: mta.policy.caps."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet import defer, task

from mta.board.alone import OwnTable
from mta.board.port import Table
from mta.observe.event import Kind, Level
from mta.policy.caps import DAY, Caps, CapsMemory
from mta.policy.memory import INTERVAL
from mta.settings.caps import CapsSettings, UserCaps
from mta.smtp.address import Mailbox
from tests.doubles.journal import RecordingJournal
from tests.doubles.sync import inline, result

ALICE = "alice@example.test"
ANY = UserCaps()
NOON = 1_764_072_000.0  # 2025-11-25 12:00 UTC


class Desk:
    """Caps over memories with files below `root`."""

    def __init__(self, root: Path, at: float = NOON, table: Table | None = None, **settings: int) -> None:
        self.table = OwnTable() if table is None else table
        self.clock = task.Clock()
        self.clock.advance(at)
        self.journal = RecordingJournal(self.clock.seconds)
        self.settings = CapsSettings(**settings)
        self.memory = CapsMemory(str(root), 0, self.clock, inline, self.journal)
        self.counts, self.correspondents = self.memory.counts, self.memory.correspondents
        self.memory.start()
        self.caps = Caps(lambda: self.settings, self.counts, self.correspondents, self.clock, self.journal, self.table)

    def send(self, times: int, login: str = ALICE, own: UserCaps = ANY) -> None:
        """Send messages."""
        for _ in range(times):
            assert self.caps.message(login, own) is None
            self.caps.sent(login, own)

    def write_to(self, name: str, login: str = ALICE, own: UserCaps = ANY) -> bool:
        """Name a recipient; False where it is refused."""
        return self.caps.recipient(login, own, Mailbox(name, "example.net")) is None

    def told(self) -> list[tuple[Kind, object]]:
        """The events, with their counts."""
        return [(event.kind, event.fields["count"]) for event in self.journal.events]

    def stop(self) -> None:
        """Write what waits."""
        result(defer.ensureDeferred(self.memory.stop()))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Ten messages and five new recipients a day."""
    return Desk(tmp_path, messages=10, first_time_recipients=5)


def test_the_messages_of_a_day_are_bounded(desk: Desk) -> None:
    """Past the cap there are no more until the day is over, and the peer is told when that is."""
    desk.send(10)
    over = desk.caps.message(ALICE, ANY)
    assert over is not None
    assert over.text == "10 messages are the most for a day; more after 2025-11-26 12:00 UTC"
    assert (over.reason.text, over.reason.source) == (f"{ALICE}: {over.text}", "[smtpd.caps]")
    desk.send(1, "bob@example.test")
    desk.clock.advance(DAY - 1)
    assert desk.caps.message(ALICE, ANY) is not None
    desk.clock.advance(1)
    desk.send(10)


def test_the_log_speaks_at_80_and_at_100_percent(desk: Desk) -> None:
    """Once each, with who, how many and until when."""
    desk.send(10)
    assert desk.told() == [(Kind.CAP_NEAR, 8), (Kind.CAP_REACHED, 10)]
    near, reached = desk.journal.events
    assert (near.level, reached.level) == (Level.NOTICE, Level.WARNING)
    assert reached.fields["login"] == ALICE
    assert reached.fields["until"] == "2025-11-26 12:00 UTC"


def test_new_recipients_are_bounded_and_known_ones_are_not(desk: Desk) -> None:
    """A recipient counts once, in whatever case the domain is written; past the cap the known ones still pass."""
    assert all(desk.write_to(f"r{number}") for number in range(5))
    assert not desk.write_to("r5")
    assert all(desk.write_to(f"r{number}") for number in range(5))
    assert desk.caps.recipient(ALICE, ANY, Mailbox("R0", "EXAMPLE.NET")) is None
    assert desk.write_to("r5", "bob@example.test")
    desk.clock.advance(DAY)
    assert desk.write_to("r5")
    assert desk.told()[:2] == [(Kind.CAP_NEAR, 4), (Kind.CAP_REACHED, 5)]


def test_a_recipient_is_new_again_when_it_was_forgotten(tmp_path: Path) -> None:
    """Counted from the last message to it, not from the first."""
    desk = Desk(tmp_path, first_time_recipients=1)
    assert desk.write_to("r0")
    desk.clock.advance(60 * DAY)
    assert desk.write_to("r0")
    desk.clock.advance(60 * DAY)
    assert desk.write_to("other")
    assert desk.write_to("r0")
    desk.clock.advance(90 * DAY)
    assert desk.write_to("another")
    assert not desk.write_to("r0")


def test_counts_survive_a_restart(tmp_path: Path) -> None:
    """A new process goes on where the old one ended."""
    first = Desk(tmp_path, messages=10, first_time_recipients=5)
    first.send(10)
    for number in range(5):
        first.write_to(f"r{number}")
    first.clock.advance(INTERVAL)
    first.stop()
    second = Desk(tmp_path, NOON + 60, messages=10, first_time_recipients=5)
    over = second.caps.message(ALICE, ANY)
    assert over is not None
    assert over.text.endswith("more after 2025-11-26 12:00 UTC")
    assert second.write_to("r4")
    assert not second.write_to("r5")
    second.stop()


def test_zero_is_no_cap_and_counts_nothing(desk: Desk) -> None:
    """Neither messages nor recipients are remembered then."""
    desk.settings = CapsSettings(0, 0)
    desk.send(30)
    assert all(desk.write_to(f"r{number}") for number in range(30))
    assert (len(desk.counts), len(desk.correspondents)) == (0, 0)


def test_a_domain_has_numbers_of_its_own(desk: Desk) -> None:
    """What it says of a user counts, what it leaves out is as for all, and the reason names its file."""
    desk.send(12, own=UserCaps(messages=12))
    over = desk.caps.message(ALICE, UserCaps(messages=12))
    assert over is not None
    assert over.reason.source == "[caps] in domain.toml"
    own = UserCaps(messages=0)
    assert [desk.write_to(f"r{number}", own=own) for number in range(6)] == [True] * 5 + [False]


def test_nobody_is_new_while_it_is_not_known_who_is(tmp_path: Path) -> None:
    """Where the file of recipients cannot be read nobody is refused for them."""
    (tmp_path / "correspondents-0.sqlite").mkdir()
    desk = Desk(tmp_path, messages=10, first_time_recipients=1)
    assert all(desk.write_to(f"r{number}") for number in range(5))
    assert desk.counts.sound


def test_a_copy_counts_for_itself(desk: Desk) -> None:
    """A rehearsal is refused as the login would be, and uses up nothing; nothing is told."""
    desk.send(9)
    events = len(desk.journal.events)
    copied = desk.caps.copy()
    copied.sent(ALICE, ANY)
    assert copied.message(ALICE, ANY) is not None
    assert all(copied.recipient(ALICE, ANY, Mailbox(f"r{n}", "example.net")) is None for n in range(5))
    assert copied.recipient(ALICE, ANY, Mailbox("r5", "example.net")) is not None
    assert desk.caps.message(ALICE, ANY) is None
    assert len(desk.correspondents) == 0
    assert len(desk.journal.events) == events


def test_workers_count_together(tmp_path: Path) -> None:
    """What two workers took of a login in turn is one number; after a restart the larger memory of both counts."""
    table = OwnTable()
    one, other = (Desk(tmp_path / name, table=table, messages=10) for name in ("one", "other"))
    one.send(4)
    other.send(5)
    one.send(1)
    assert other.caps.message(ALICE, ANY) is not None
    assert [kind for kind, _ in (*one.told(), *other.told())] == [Kind.CAP_REACHED, Kind.CAP_NEAR]
    one.stop()
    other.stop()
    table = OwnTable()
    again = Desk(tmp_path / "other", table=table, messages=10)
    assert again.caps.message(ALICE, ANY) is None, "it knew of nine"
    best = Desk(tmp_path / "one", table=table, messages=10)
    assert best.caps.message(ALICE, ANY) is not None
    again.stop()
    best.stop()

"""mta.service.operator.accounts and mta.relay.withheld"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, task

from mta.disk.posix import PosixDisk
from mta.mail.outcome import Delivered, Held, Outcome
from mta.mail.reason import Reason
from mta.observe.event import Kind
from mta.relay.withheld import WithheldDelivery
from mta.service.control import CommandRefused
from mta.service.operator.accounts import PAGE, AccountCommands
from mta.settings.reader import load
from mta.spool.port import Content, Origin, QueuedMessage, State
from mta.spool.spools import Spools
from tests.doubles.etc import ALIASES, MINIMAL, write_etc
from tests.doubles.journal import RecordingJournal
from tests.doubles.spool import message
from tests.doubles.sync import failure, inline, result

ALICE = "alice@example.org"
OTHER = Reason("looks odd", "policy")


class Desk:
    """Commands over a real spool; alice is disabled until `mark` says otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root
        clock = task.Clock()
        self.journal = RecordingJournal(lambda: 500.0)
        self.spool = Spools(str(root / "spool"), PosixDisk(), inline, self.journal, clock.seconds, 3600.0)
        self.spool.open()
        self.journal.events.clear()
        self.ended: list[str] = []
        self.looks = 0
        self.mark(True)
        self.commands = AccountCommands(
            lambda: self.directory, self.end_sessions, self.spool, self.look, inline, self.journal
        )

    def mark(self, disabled: bool) -> None:
        """Reload with alice disabled or not."""
        users = f"alice:!::::::{'nologin disabled=2026-11-25,%20spam' if disabled else ''}\nbob:!\n"
        path = write_etc(self.root, MINIMAL, {"example.org": {"users": users, "aliases": ALIASES}})
        self.directory = load(path).directory

    def end_sessions(self, login: str) -> int:
        """Two sessions are open."""
        self.ended.append(login)
        return 2

    def look(self) -> None:
        """Look into the spool."""
        self.looks += 1

    def queue(self, queue_id: str, login: str = ALICE, held: Reason | None = None, active: bool = False) -> None:
        """Put a message for two recipients into the queue."""
        made = replace(message(queue_id, "a@x", "b@y", active=active), origin=Origin("smtpd", login=login), held=held)
        result(self.spool.insert(made))

    def states(self, queue_id: str) -> list[State]:
        """The states of its recipients."""
        return [queued.state for queued in self.get(queue_id).recipients]

    def get(self, queue_id: str) -> QueuedMessage:
        """Read it."""
        found = self.spool.get(queue_id)
        assert found is not None
        return found

    def ask(self, command: str) -> dict[str, Any]:
        """Disable or enable alice."""
        return result(getattr(self.commands, command)({"login": ALICE, "operator": "root"}))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk."""
    return Desk(tmp_path)


def test_a_disabled_login_has_its_sessions_ended_and_its_mail_held(desk: Desk) -> None:
    """Of the login alone; what is being tried is left to the relay, and the answer counts."""
    desk.queue("0a")
    desk.queue("0b", "bob@example.org")
    desk.queue("0c", active=True)
    desk.queue("0d", "")
    assert desk.ask("disable") == {"sessions": 2, "messages": 1, "recipients": 2}
    assert desk.ended == [ALICE]
    assert [desk.states(each)[0] for each in ("0a", "0b", "0c", "0d")] == [
        State.HELD,
        State.WAITING,
        State.ACTIVE,
        State.WAITING,
    ]
    reason = desk.get("0a").recipients[0].reason
    assert reason is not None
    assert reason.text == f"{ALICE} is disabled"
    assert reason.source.endswith("users:1")
    held, told = desk.journal.events
    assert str(told.reason).startswith(f"{ALICE} is disabled: 2026-11-25, spam")
    assert (held.kind, held.queue_id, held.fields["recipients"]) == (Kind.MESSAGE_HELD, "0a", 2)
    assert (told.kind, told.fields) == (
        Kind.ACCOUNT_DISABLED,
        {"login": ALICE, "operator": "root", "sessions": 2, "messages": 1, "recipients": 2},
    )


def test_enabling_releases_what_was_held_for_that(desk: Desk) -> None:
    """And nothing that somebody held for another reason; the relay looks for it."""
    desk.queue("0a")
    desk.queue("0b", held=OTHER)
    desk.queue("0c", held=Reason(f"held by root: {ALICE} is disabled, says bob", "mta queue hold"))
    desk.ask("disable")
    desk.mark(False)
    assert desk.ask("enable") == {"messages": 1, "recipients": 2}
    assert [desk.states(each)[0] for each in ("0a", "0b", "0c")] == [State.WAITING, State.HELD, State.HELD]
    assert (desk.get("0a").recipients[0].due, desk.looks) == (500.0, 1)
    assert [event.kind for event in desk.journal.events][-2:] == [Kind.MESSAGE_RELEASED, Kind.ACCOUNT_ENABLED]


def test_a_login_with_a_star_is_itself_alone(desk: Desk) -> None:
    """A user may have ``*`` in his name; he is not everybody whose name begins likewise."""
    star = "a*@example.org"
    desk.queue("0a", star)
    desk.queue("0b")
    users = "alice:!\na*:!::::::nologin\n"
    path = write_etc(desk.root, MINIMAL, {"example.org": {"users": users, "aliases": ALIASES}})
    desk.directory = load(path).directory
    assert result(desk.commands.disable({"login": star}))["messages"] == 1
    assert (desk.states("0a")[0], desk.states("0b")[0]) == (State.HELD, State.WAITING)


def test_a_long_queue_is_held_to_its_end(desk: Desk) -> None:
    """Page by page, also where a page holds no message of the login."""
    chance = random.Random(3)
    ids = [f"1{number:04d}" for number in range(3 * PAGE)]
    for queue_id in ids:
        desk.queue(queue_id, chance.choice([ALICE, "bob@example.org"]))
    of_alice = [each for each in ids if desk.get(each).origin.login == ALICE]
    assert desk.ask("disable")["messages"] == len(of_alice)
    assert [each for each in ids if desk.states(each)[0] is State.HELD] == of_alice
    desk.mark(False)
    assert desk.ask("enable")["messages"] == len(of_alice)


@pytest.mark.parametrize(("command", "disabled"), [("disable", False), ("enable", True)])
def test_the_configuration_decides(desk: Desk, command: str, disabled: bool) -> None:
    """Where the server's says the contrary the command is refused, and nothing is done."""
    desk.queue("0a")
    desk.mark(disabled)
    refused = failure(getattr(desk.commands, command)({"login": ALICE}))
    assert isinstance(refused, CommandRefused)
    assert "in the configuration that the server uses" in str(refused)
    assert (desk.ended, desk.states("0a")[0]) == ([], State.WAITING)


def test_a_queue_that_cannot_be_written_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words; the sessions are ended by then."""
    desk.queue("0a")
    monkeypatch.setattr(desk.spool, "record", lambda queue_id, changes: defer.fail(OSError(28, "No space left")))
    refused = failure(desk.commands.disable({"login": ALICE}))
    assert isinstance(refused, CommandRefused)
    assert "the queue cannot be written: [Errno 28] No space left" in str(refused)
    assert desk.ended == [ALICE]


@pytest.mark.parametrize("request_", [{}, {"login": ""}, {"login": 3}])
def test_a_request_without_a_login_is_refused(desk: Desk, request_: dict[str, Any]) -> None:
    """It is said what is missing."""
    with pytest.raises(CommandRefused, match="login is the address"):
        desk.commands.disable(request_)


class Everything:
    """A delivery that delivers."""

    async def deliver(self, message: object, content: Content, recipients: Any) -> dict[int, Outcome]:
        """Deliver."""
        return {queued.number: Delivered(Reason("done")) for queued in recipients}


@pytest.mark.parametrize(("login", "disabled", "kind"), [(ALICE, True, Held), (ALICE, False, Delivered)])
def test_mail_of_a_disabled_login_is_not_delivered(desk: Desk, login: str, disabled: bool, kind: type) -> None:
    """An attempt at it holds it; mail of others, without a login too, goes on."""
    desk.mark(disabled)
    delivery = WithheldDelivery(Everything(), lambda login: desk.directory.withheld(login))
    expected = {("0a", login): kind, ("0b", "bob@example.org"): Delivered, ("0c", ""): Delivered}
    for queue_id, sender in expected:
        desk.queue(queue_id, sender)
        found = desk.get(queue_id)
        outcomes = result(defer.ensureDeferred(delivery.deliver(found, b"", found.recipients)))
        assert [type(each) for each in outcomes.values()] == [expected[queue_id, sender]] * 2

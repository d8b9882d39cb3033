"""May this login submit?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, task

from mta.auth import checker as module
from mta.auth.checker import Accepted, Answer, Checker, Disabled, Refused, TryLater
from mta.auth.verifier import SchemeUnavailable, make_scram_verifier
from mta.board.alone import Alone
from mta.observe.event import Event, Kind
from mta.observe.journal import Journal
from mta.settings.reader import load
from mta.settings.sections import AuthSettings, Settings
from tests.doubles.etc import write_etc
from tests.doubles.sync import failure, result

HOME, AWAY = "192.0.2.1", "198.51.100.1"


def verifier_of(password: str) -> str:
    """A cheap verifier."""
    return make_scram_verifier(password, 1, b"salt")


class Desk:
    """A checker with everything injected; `checks` records each verifier that was worked on."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **auth: Any) -> None:
        self.clock = task.Clock()
        self.events: list[Event] = []
        self.checks: list[str] = []
        self.hold = False
        self.held: list[tuple[Callable[..., Any], defer.Deferred[Any]]] = []
        self.auth = AuthSettings(iterations_minimum=1, **auth)
        self.root = root
        self.settings = self.read({"alice": "right", "bob": "other"})
        journal = Journal(lambda: 0.0, [self.events.append])
        self.checker = Checker(
            lambda: self.settings,
            self.clock,
            self.run,
            lambda address: address.rpartition(".")[0],
            journal,
            b"k" * 16,
            Alone(),
        )
        real = module.verify

        def verify(verifier: str, password: bytes) -> bool:
            self.checks.append(verifier)
            return real(verifier, password)

        monkeypatch.setattr(module, "verify", verify)

    def read(
        self, users: dict[str, str], disabled: str = "carol", apps: Sequence[tuple[str, str, str]] = (), extra: str = ""
    ) -> Settings:
        """The settings of example.org with these users and passwords; `apps` are users, names and app passwords."""
        lines = "".join(f"{user}:{verifier_of(password)}::::::{extra}\n" for user, password in users.items())
        passwords = "".join(f"{user}:{name}:{verifier_of(password)}\n" for user, name, password in apps)
        aliases = f"postmaster: {disabled}\n"
        toml = 'hostname = "mail.example.org"\n[smtpd]\nenabled = false\n[auth]\niterations_minimum = 1\n'
        files = {"example.org": {"users": f"{lines}{disabled}:!\n", "aliases": aliases, "app-passwords": passwords}}
        return dataclasses.replace(load(write_etc(self.root, toml, files)), auth=self.auth)

    def run(self, function: Callable[..., Any], /, *args: object) -> defer.Deferred[Any]:
        """Run at once, or hold until `release`."""
        if not self.hold:
            return defer.execute(function, *args)
        done: defer.Deferred[Any] = defer.Deferred()
        self.held.append((function, done))
        return done

    def release(self) -> None:
        """End the work that is held."""
        while self.held:
            function, done = self.held.pop(0)
            defer.execute(function).chainDeferred(done)

    def ask(self, login: str, password: str, address: str = HOME) -> defer.Deferred[Answer]:
        """Start to authenticate."""
        coroutine: Coroutine[Any, Any, Answer] = self.checker.authenticate(login, password, address)
        return defer.ensureDeferred(coroutine)

    def now(self, login: str, password: str, address: str = HOME) -> Answer:
        """Authenticate, waiting for every delay."""
        asked = self.ask(login, password, address)
        self.clock.advance(0)
        while not asked.called:
            self.clock.advance(0.5)
        return result(asked)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A checker with default settings, but for the work of a verification."""
    return Desk(tmp_path, monkeypatch)


@pytest.mark.parametrize("login", ["alice@example.org", "ALICE@Example.ORG"])
def test_the_right_password_is_accepted(desk: Desk, login: str) -> None:
    """The right password of a whole address, in any case, is accepted; the reason names the line of the account."""
    answer = desk.now(login, "right")
    assert isinstance(answer, Accepted)
    assert answer.account.login == "alice@example.org"
    assert answer.reason.source.endswith("users:1")


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("alice@example.org", "wrong"),
        ("alice@example.org", "other"),
        ("alice@example.org", ""),
        ("alice", "right"),
        ("alice+x@example.org", "right"),
        ("nobody@example.org", "right"),
        ("nobody@example.com", "other"),
        ("carol@example.org", "right"),
        ("carol@example.org", "other"),
        ("carol@example.org", "!"),
        ("", "right"),
        ("x" * 256, "right"),
        ("alice@example.org", "r" * 256),
    ],
)
def test_everything_else_is_refused(desk: Desk, login: str, password: str) -> None:
    """A wrong password, another's, a bare or unknown name, a disabled account, too long a text: all are Refused."""
    assert isinstance(desk.now(login, password), Refused)


def test_24_an_unknown_login_costs_what_a_known_one_costs(desk: Desk) -> None:
    """Row 24: an unknown or disabled login is checked against a verifier that is in use, always the same for it."""
    in_use = {account.verifier for account in desk.settings.directory.accounts.values()} - {"!"}
    for login in ("nobody@example.org", "carol@example.org", "x", "nobody@example.org"):
        desk.now(login, f"guess for {login}")
    assert len(desk.checks) == 4
    assert set(desk.checks) <= in_use
    assert desk.checks[0] == desk.checks[3]
    for number in range(30):
        desk.now(f"u{number}@example.org", "x", f"10.0.{number}.1")
    assert set(desk.checks) == in_use


APPS = (("alice", "phone", "apple"), ("alice", "tv", "pear"), ("carol", "script", "plum"))


def test_an_app_password_is_as_good_as_the_accounts_own(desk: Desk) -> None:
    """Each opens the account of its user alone, is named in the answer, also when it is known from a moment ago."""
    desk.settings = desk.read({"alice": "right", "bob": "other"}, apps=APPS)
    for name, password in (("phone", "apple"), ("tv", "pear"), ("", "right")) * 2:
        answer = desk.now("alice@example.org", password)
        assert isinstance(answer, Accepted)
        assert answer.app_password == name
        assert (f"app password {name}" in answer.reason.text) == bool(name)
        assert ("app-passwords:" in answer.reason.source) == bool(name)
    assert isinstance(desk.now("bob@example.org", "apple"), Refused)


def test_an_app_password_opens_an_account_without_one_of_its_own(desk: Desk) -> None:
    """An account with ``!`` and an app password is one that programs alone log in to."""
    desk.settings = desk.read({"alice": "right"}, apps=APPS)
    assert isinstance(desk.now("carol@example.org", "plum"), Accepted)
    assert isinstance(desk.now("carol@example.org", "!"), Refused)


def test_a_revoked_app_password_is_refused_at_once(desk: Desk) -> None:
    """After a reload without it nothing of it is known, not even of a check that was under way meanwhile."""
    desk.settings = desk.read({"alice": "right"}, apps=APPS)
    assert isinstance(desk.now("alice@example.org", "apple"), Accepted)
    desk.hold = True
    under_way = desk.ask("alice@example.org", "pear")
    desk.settings = desk.read({"alice": "right"}, apps=[])
    desk.hold = False
    desk.now("bob@example.org", "other")  # somebody logs in, and the checker learns of the reload
    desk.release()
    result(under_way)
    assert isinstance(desk.now("alice@example.org", "pear"), Refused)
    assert isinstance(desk.now("alice@example.org", "apple"), Refused)
    assert isinstance(desk.now("alice@example.org", "right"), Accepted)


def test_who_knows_the_password_of_a_disabled_account_learns_that_it_is(desk: Desk) -> None:
    """And nobody else: a wrong password is refused as it is everywhere."""
    extra = "nologin disabled=2026-11-25,%20sent%20spam"
    desk.settings = desk.read({"alice": "right", "bob": "other"}, apps=APPS, extra=extra)
    for password in ("right", "apple") * 2:
        answer = desk.now("alice@example.org", password)
        assert isinstance(answer, Disabled)
        assert answer.reason.text == "alice@example.org is disabled: 2026-11-25, sent spam"
    assert isinstance(desk.now("alice@example.org", "wrong"), Refused)


def test_24_an_unknown_login_costs_what_an_account_with_app_passwords_costs(desk: Desk) -> None:
    """Row 24: the stand-in's app passwords are compared too."""
    desk.settings = desk.read({"alice": "right"}, apps=APPS[:2])
    for login in ("alice@example.org", "nobody@example.org"):
        desk.checks.clear()
        desk.now(login, "guess")
        assert len(desk.checks) == 3


def test_24_another_accounts_password_does_not_open_an_unknown_login(desk: Desk) -> None:
    """Row 24: the stand-in's password is refused like any other, at each try."""
    for password in ("right", "other") * 2:
        for number in range(8):
            assert isinstance(desk.now(f"u{number}@example.org", password, f"10.0.{number}.1"), Refused)


def test_24_delays_do_not_tell_who_exists(desk: Desk) -> None:
    """Row 24: a known and an unknown login wait the same after the same wrong passwords."""
    times = []
    for login, address in (("alice@example.org", "10.0.0.1"), ("nobody@example.org", "10.0.1.1")):
        start = desk.clock.seconds()
        for number in range(8):
            desk.now(login, f"guess {number}", address)
        times.append(desk.clock.seconds() - start)
    assert times[0] == times[1] > 0


def test_25_guessing_gets_slower_over_any_number_of_connections(desk: Desk) -> None:
    """Row 25: beyond the free ones each wrong password doubles the delay of the next from that network."""
    waits = []
    for number in range(10):
        start = desk.clock.seconds()
        answer = desk.now("alice@example.org", f"guess {number}", f"192.0.2.{number}")
        assert isinstance(answer, Refused)
        waits.append(desk.clock.seconds() - start)
    assert waits == [0, 0, 0, 0, 1, 2, 4, 8, 16, 30]


def test_25_what_would_wait_too_long_is_turned_away_unchecked(desk: Desk) -> None:
    """Row 25: a hundred guesses at once are no faster than one after another; most are not checked at all."""
    for number in range(9):
        desk.now("alice@example.org", f"guess {number}")
    desk.checks.clear()
    asked = [desk.ask("alice@example.org", f"more {number}") for number in range(100)]
    assert sum(each.called and isinstance(result(each), TryLater) for each in asked) == 99
    assert desk.checks == []
    desk.clock.advance(30)
    assert len(desk.checks) == 1


def test_25_the_owner_elsewhere_is_not_locked_out(desk: Desk) -> None:
    """Row 25: whatever is guessed from one network, the owner logs in from another at once."""
    for number in range(12):
        desk.now("alice@example.org", f"guess {number}")
    start = desk.clock.seconds()
    assert isinstance(desk.now("alice@example.org", "right", AWAY), Accepted)
    assert desk.clock.seconds() == start


def test_25_one_network_that_tries_many_accounts_is_slowed(desk: Desk) -> None:
    """Row 25: a password tried on many names counts for the network, also when one of them is right in between."""
    for number in range(21):
        desk.now(f"user{number}@example.org", "Summer2026")
        if number == 10:
            assert isinstance(desk.now("alice@example.org", "right"), Accepted)
    start = desk.clock.seconds()
    desk.now("another@example.org", "Summer2026")
    assert desk.clock.seconds() - start == 1


def test_25_the_right_password_ends_the_account_s_delay(desk: Desk) -> None:
    """Row 25: once the owner has come, wrong passwords for the account from that network are forgotten."""
    for number in range(6):
        desk.now("alice@example.org", f"guess {number}")
    assert isinstance(desk.now("alice@example.org", "right"), Accepted)
    start = desk.clock.seconds()
    desk.now("alice@example.org", "wrong")
    assert desk.clock.seconds() == start


def test_25_a_right_password_that_is_known_is_not_delayed(desk: Desk) -> None:
    """Row 25: a program that was right a moment ago goes on at once, though somebody guesses beside it."""
    desk.now("alice@example.org", "right")
    for number in range(8):
        desk.now("alice@example.org", f"guess {number}")
    start = desk.clock.seconds()
    assert isinstance(desk.now("alice@example.org", "right"), Accepted)
    assert desk.clock.seconds() == start


def test_a_right_password_is_known_for_a_while(desk: Desk) -> None:
    """A success is not worked out again until its time is over; a wrong password always is."""
    for _ in range(3):
        assert isinstance(desk.now("alice@example.org", "right", AWAY), Accepted)
    assert len(desk.checks) == 1
    desk.clock.advance(desk.auth.cache_seconds)
    desk.now("alice@example.org", "right")
    assert len(desk.checks) == 2
    for _ in range(2):
        assert isinstance(desk.now("alice@example.org", "wrong"), Refused)
    assert len(desk.checks) == 4


def test_no_password_is_kept(desk: Desk) -> None:
    """What is known holds neither login nor password, and not a hash that others could make."""
    desk.now("alice@example.org", "right")
    assert len(desk.checker._known) == 1
    other = Checker(lambda: desk.settings, desk.clock, desk.run, str, desk.checker._journal, b"j" * 16, Alone())
    result(defer.ensureDeferred(other.authenticate("alice@example.org", "right", HOME)))
    assert not set(other._known) & set(desk.checker._known)
    assert b"right" not in repr(desk.checker._known).encode()


def test_a_reload_forgets(desk: Desk) -> None:
    """After a reload each password is checked again: the old one is wrong, a removed account is unknown."""
    desk.now("alice@example.org", "right")
    desk.now("bob@example.org", "other")
    desk.settings = desk.read({"alice": "new"})
    assert isinstance(desk.now("alice@example.org", "right"), Refused)
    assert isinstance(desk.now("bob@example.org", "other"), Refused)
    assert isinstance(desk.now("alice@example.org", "new"), Accepted)
    desk.settings = desk.read({"alice": "new"})
    desk.now("alice@example.org", "new")
    assert len(desk.checks) == 6


def test_a_reload_during_the_check_keeps_nothing(desk: Desk) -> None:
    """What was right under the old files is not remembered under the new ones."""
    desk.hold = True
    asked = desk.ask("alice@example.org", "right")
    desk.settings = desk.read({"alice": "new", "bob": "x"})
    other = desk.ask("bob@example.org", "x")
    desk.release()
    assert isinstance(result(asked), Accepted)
    assert isinstance(result(other), Accepted)
    assert isinstance(desk.now("bob@example.org", "x"), Accepted)
    desk.hold = False
    assert isinstance(desk.now("alice@example.org", "right"), Refused)


def test_equal_attempts_at_once_are_one_check(desk: Desk) -> None:
    """Twenty connections of one program cost one verification, right or wrong; each gets the answer."""
    for password, kind in (("right", Accepted), ("wrong", Refused)):
        desk.hold = True
        asked = [desk.ask("alice@example.org", password) for _ in range(20)]
        gone = desk.ask("alice@example.org", password)
        gone.cancel()
        assert isinstance(failure(gone), defer.CancelledError)
        assert len(desk.held) == 1
        desk.release()
        assert all(isinstance(result(each), kind) for each in asked)
    assert len(desk.checks) == 2


def test_a_session_that_goes_away(desk: Desk) -> None:
    """A cancelled attempt leaves nothing behind; those that shared its check may try again. It is no fault."""
    desk.hold = True
    asked, shared = desk.ask("alice@example.org", "right"), desk.ask("alice@example.org", "right")
    asked.cancel()
    assert isinstance(failure(asked), defer.CancelledError)
    assert isinstance(result(shared), TryLater)
    assert desk.checker._under_way == {}
    assert desk.events == []
    desk.release()
    desk.hold = False
    assert isinstance(desk.now("alice@example.org", "right"), Accepted)


def test_a_full_pool_is_no_wrong_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no place to wait the answer is TryLater, and nothing is counted."""
    desk = Desk(tmp_path, monkeypatch, pool_threads=1, pool_waiting=1, pool_waiting_per_network=1)
    desk.hold = True
    asked = [desk.ask("alice@example.org", f"guess {number}") for number in range(3)]
    assert isinstance(result(asked[2]), TryLater)
    assert not asked[0].called
    assert not asked[1].called
    other = desk.ask("bob@example.org", "other", AWAY)
    assert isinstance(result(other), TryLater)
    desk.release()
    assert isinstance(result(asked[1]), Refused)


def test_our_fault_is_not_the_peers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lacking scheme or an exception gives TryLater and delays nobody; the exception is one event."""

    def lacking(verifier: str, password: bytes) -> bool:
        raise SchemeUnavailable("no libxcrypt on this system")

    def broken(verifier: str, password: bytes) -> bool:
        raise MemoryError("no room")

    monkeypatch.setattr(module, "verify", lacking)
    for login in ("alice@example.org", "nobody@example.org"):
        assert isinstance(desk.now(login, "right"), TryLater)
    assert desk.events == []
    monkeypatch.setattr(module, "verify", broken)
    assert isinstance(desk.now("alice@example.org", "right"), TryLater)
    assert [event.kind for event in desk.events] == [Kind.FAULT]
    assert desk.checker._by_network.wait(HOME, 0.0) == 0.0


def test_no_accounts_at_all(desk: Desk) -> None:
    """Without any account every login is refused, without a check."""
    desk.settings = desk.read({})
    assert isinstance(desk.now("alice@example.org", "right"), Refused)
    assert desk.checks == []


def test_what_is_known_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The login that was worked out longest ago is forgotten first; with no time at all nothing is known."""
    desk = Desk(tmp_path, monkeypatch, cache_logins=1)
    for login, password in (("alice", "right"), ("bob", "other"), ("bob", "other"), ("alice", "right")):
        assert isinstance(desk.now(f"{login}@example.org", password), Accepted)
    assert len(desk.checks) == 3
    assert len(desk.checker._known) == 1
    never = Desk(tmp_path, monkeypatch, cache_seconds=0.0)
    for _ in range(2):
        never.now("alice@example.org", "right")
    assert len(never.checks) == 2

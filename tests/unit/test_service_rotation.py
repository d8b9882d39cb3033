"""The daemon's rounds: once an hour, only where the settings say so, and never ahead of the keys in use."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, task

from mta.mail.reason import Reason
from mta.mailauth.dkim_rotation import Make, Retire, Step, Turn
from mta.observe.event import Kind
from mta.service.rotation import FIRST_SECONDS, ROUND_SECONDS, KeyRotation, rotation_on
from mta.settings.dkim import DkimSettings, KeyState
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.reader import load
from mta.settings.sections import Settings
from tests.doubles.dkim_keys import ed25519_pem
from tests.doubles.etc import ALIASES, MINIMAL, USERS, write_etc
from tests.doubles.journal import RecordingJournal
from tests.doubles.service import MemoryServer, demonstration
from tests.doubles.sync import inline, result

DAY = 86400.0
WHY = Reason("why", "where")


class Rounds:
    """Two domains with a key and one without, and a rotation that does what it is told."""

    def __init__(self, root: Path, **dkim: Any) -> None:
        files = {"users": USERS, "aliases": ALIASES}
        names = ("a.example", "b.example", "c.example")
        path = write_etc(root, MINIMAL, dict.fromkeys(names, files))
        for name in names[:2]:
            (root / "domains" / name / "dkim").mkdir()
            file = root / "domains" / name / "dkim/s.pem"
            file.write_bytes(ed25519_pem())
            file.chmod(0o600)
        loaded = load(path)
        self.settings: Settings = dataclasses.replace(loaded, dkim=DkimSettings(**({"rotate_every": 180 * DAY} | dkim)))
        self.key = loaded.directory.domains["a.example"].dkim[0]
        self.clock = task.Clock()
        self.journal = RecordingJournal()
        self.asked: list[tuple[str, str]] = []
        self.reloads = 0
        self.refused = False
        self.does: Callable[[str], tuple[Step, ...]] = lambda domain: ()
        self.rotation = KeyRotation(lambda: self.settings, lambda _: self, self.reload, self.journal, self.clock)
        self.rotation.start()

    async def rotate(self, directory: str, domain: str) -> Turn:
        """Take a turn."""
        self.asked.append((domain, directory))
        return Turn(self.does(domain))

    def reload(self) -> defer.Deferred[Any]:
        """Read the configuration."""
        self.reloads += 1
        if self.refused:
            return defer.fail(SettingsRefused([Problem("f", 1, "x", "y")]))
        return defer.succeed([])

    def domains(self) -> list[str]:
        """The domains that have had a turn since the last call."""
        asked = [domain for domain, _ in self.asked]
        self.asked.clear()
        return asked


def test_rounds_come_soon_and_then_once_an_hour(tmp_path: Path) -> None:
    """Each domain that has keys gets a turn a minute after the start and an hour after each round."""
    rounds = Rounds(tmp_path)
    rounds.clock.advance(FIRST_SECONDS - 1)
    assert rounds.asked == []
    rounds.clock.advance(1)
    assert rounds.asked == [(name, f"{tmp_path}/domains/{name}/dkim") for name in ("a.example", "b.example")]
    rounds.domains()
    rounds.clock.advance(ROUND_SECONDS)
    assert rounds.domains() == ["a.example", "b.example"]
    assert rounds.reloads == 0
    rounds.rotation.stop()
    assert rounds.clock.getDelayedCalls() == []


@pytest.mark.parametrize("dkim", [{"rotate_every": 0.0}, {"sign": False}])
def test_off_means_off(tmp_path: Path, dkim: dict[str, Any]) -> None:
    """Without rotate_every, or without signing, nobody gets a turn; a reload may turn it on."""
    rounds = Rounds(tmp_path, **dkim)
    rounds.clock.advance(FIRST_SECONDS)
    assert rounds.asked == []
    rounds.settings = dataclasses.replace(rounds.settings, dkim=DkimSettings(rotate_every=DAY))
    rounds.clock.advance(ROUND_SECONDS)
    assert rounds.domains() == ["a.example", "b.example"]


def test_changed_keys_are_used_at_once(tmp_path: Path) -> None:
    """A key in another state is a reload, one for the round; a new key that does not sign is none."""
    rounds = Rounds(tmp_path)
    rounds.does = lambda domain: (Make("rsa", WHY),)
    rounds.clock.advance(FIRST_SECONDS)
    assert rounds.reloads == 0
    rounds.does = lambda domain: (Retire(rounds.key, WHY),)
    rounds.clock.advance(ROUND_SECONDS)
    assert rounds.reloads == 1
    rounds.does = lambda domain: ()
    rounds.clock.advance(ROUND_SECONDS)
    assert rounds.reloads == 1


def test_nothing_goes_on_before_changed_keys_are_used(tmp_path: Path) -> None:
    """While the configuration is refused, the old keys sign: no key goes a step further, and each round tries again."""
    rounds = Rounds(tmp_path)
    rounds.does = lambda domain: (Retire(rounds.key, WHY),)
    rounds.refused = True
    rounds.clock.advance(FIRST_SECONDS)
    assert rounds.domains() == ["a.example", "b.example"]
    rounds.clock.advance(ROUND_SECONDS)
    assert rounds.domains() == []
    assert rounds.reloads == 2
    rounds.refused = False
    rounds.does = lambda domain: ()
    rounds.clock.advance(ROUND_SECONDS)
    assert rounds.domains() == ["a.example", "b.example"]
    assert rounds.reloads == 3


def test_a_bug_is_told_and_the_next_round_comes(tmp_path: Path) -> None:
    """An exception of ours is one event, and an hour later all get their turn."""
    rounds = Rounds(tmp_path)

    def breaks(domain: str) -> tuple[Step, ...]:
        raise ZeroDivisionError

    rounds.does = breaks
    rounds.clock.advance(FIRST_SECONDS)
    assert rounds.journal.kinds() == [Kind.FAULT]
    rounds.does = lambda domain: ()
    rounds.domains()
    rounds.clock.advance(ROUND_SECONDS)
    assert rounds.domains() == ["a.example", "b.example"]


def test_a_stop_ends_a_round_under_way(tmp_path: Path) -> None:
    """What waits for a name server is given up, without a word, and no round follows."""
    rounds = Rounds(tmp_path)
    waiting: list[defer.Deferred[Turn]] = []

    async def waits(directory: str, domain: str) -> Turn:
        waiting.append(defer.Deferred())
        return await waiting[-1]

    rounds.rotate = waits  # type: ignore[method-assign]
    rounds.clock.advance(FIRST_SECONDS)
    assert len(waiting) == 1
    rounds.clock.advance(10 * ROUND_SECONDS)
    assert len(waiting) == 1, "a round that has not ended is followed by none"
    rounds.rotation.stop()
    assert waiting[0].called
    assert rounds.journal.events == []
    assert rounds.clock.getDelayedCalls() == []


def test_the_daemon_makes_the_next_key(tmp_path: Path) -> None:
    """A whole server with rotate_every: a minute after the start the next keys of its domain are there."""
    settings = demonstration(tmp_path, '[dkim]\nrotate_every = "180d"\n[dns]\nnameservers = ["127.0.0.1:1"]\n')
    directory = tmp_path / "etc/domains/example.test/dkim"
    for file in directory.iterdir():
        file.write_bytes(b"-----BEGIN" + file.read_bytes().partition(b"-----BEGIN")[2])
    server = MemoryServer(tmp_path, settings)
    server.start()
    server.clock.advance(FIRST_SECONDS)
    states = [key.state for key in load(str(server.file)).directory.domains["example.test"].dkim]
    assert sorted(state.value for state in states) == ["next", "next", "signing", "signing"]
    assert server.log().count("dkim.made") == 2
    result(server.parent.stopService())


def test_each_name_server_is_asked_by_itself(tmp_path: Path) -> None:
    """The rotation of the daemon has one resolver for each name server of the settings."""
    settings = demonstration(tmp_path, '[dns]\nnameservers = ["127.0.0.1:1", "127.0.0.1:2"]\n')
    rotation = rotation_on(task.Clock(), inline, RecordingJournal())(settings)
    assert list(rotation._resolvers) == ["127.0.0.1:1", "127.0.0.1:2"]
    assert KeyState.SIGNING in {key.state for key in settings.directory.domains["example.test"].dkim}
    assert os.path.isdir(settings.directory.domains["example.test"].source)

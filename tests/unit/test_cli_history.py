"""Tests of `mta.cli.history`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from mta.cli import history
from mta.cli.history import Past, moment
from mta.observe.search import Archive, Wanted
from mta.service.control import CommandRefused
from tests.unit.test_observe_history import WALL, World

NOW = datetime(2025, 11, 22, 20, 15, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A history where the configuration of `past` has it."""
    (tmp_path / "mta.toml").write_text(f'hostname = "mx.example.test"\nstate = "{tmp_path}"\n')
    made = World(tmp_path / "history")
    yield made
    made.history.close()


def past(world: World) -> Past:
    """The history as a command reads it."""
    return Past(world.directory.parent / "mta.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", "2025-11-22 20:13:30"),
        ("2h", "2025-11-22 18:15:00"),
        ("3 d", "2025-11-19 20:15:00"),
        ("1w", "2025-11-15 20:15:00"),
        ("30min", "2025-11-22 19:45:00"),
        ("today", "2025-11-22 00:00:00"),
        ("Yesterday", "2025-11-21 00:00:00"),
        ("14:00", "2025-11-22 14:00:00"),
        ("14:00:30", "2025-11-22 14:00:30"),
    ],
)
def test_times_as_people_say_them(text: str, expected: str) -> None:
    """Spans count back from now, times of day are today's."""
    found = moment(text, NOW)
    assert found is not None
    assert f"{datetime.fromtimestamp(found, UTC):%Y-%m-%d %H:%M:%S}" == expected


@pytest.mark.parametrize("text", ["2025-11-20", "2025-11-20 14:30", "2025-11-20T14:30:15"])
def test_dates_are_local(text: str) -> None:
    """A date is one of this machine's zone."""
    assert moment(text, NOW) == datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("text", ["", "soon", "2 years", "25:00", "2025-13-01", "-2h"])
def test_what_is_no_time(text: str) -> None:
    """Anything else is no time."""
    assert moment(text, NOW) is None


def test_new_events_are_given_once_and_in_order(world: World) -> None:
    """Following gives what comes, also from a worker that writes late, each event once, until it is enough."""
    world.note(1)
    world.history.flush()
    reading = past(world)
    other = world.start("1")
    rounds = 0

    def pause(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            world.journal.sinks[1:] = [other]
            world.note(2)
            world.journal.sinks[1:] = [world.history]
            world.note(3)
            world.history.flush()
        if rounds == 2:
            other.flush()

    found = [event.fields["n"] for event in reading.follow(WALL + 0.0001, lambda: rounds == 3, pause=pause)]
    other.close()
    assert found == [1, 3, 2]


def test_a_daemon_that_does_not_run_is_no_word_worth(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a daemon nothing is in memory; the files are read without a warning."""
    world.note(1)
    world.history.flush()
    reading = past(world)
    reading.flush()
    assert [event.fields["n"] for event in reading.newest(Wanted())] == [1]
    assert capsys.readouterr().err == ""


def test_a_daemon_that_does_not_answer_is_told_of_once(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may not ask the daemon learns that the last second may be missing."""

    def refuse(path: str, command: str) -> None:
        raise CommandRefused("not you")

    monkeypatch.setattr(history, "ask", refuse)
    reading = past(world)
    reading.flush()
    reading.flush()
    assert capsys.readouterr().err == (
        "mta: the daemon does not say its latest events (not you): those of the last second may be missing\n"
    )


def test_a_part_that_cannot_be_read_is_told_of(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged segment is named on standard error, and the rest is there."""
    world.note(1)
    world.history.close()
    world.files()[0].write_bytes(b"no database" * 1000)
    world.history = world.start()
    world.note(2)
    world.history.close()
    assert [event.fields["n"] for event in past(world).newest(Wanted())] == [2]
    assert f"a part of the history cannot be read: {world.files()[0]}" in capsys.readouterr().err


def test_a_history_that_cannot_be_read_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line and a status, no traceback: for the directory, and for a configuration that is not there."""
    (tmp_path / "mta.toml").write_text(f'hostname = "mx.example.test"\nstate = "{tmp_path}"\n')
    (tmp_path / "history").touch()
    with pytest.raises(SystemExit) as ended:
        Past(tmp_path / "mta.toml").newest(Wanted())
    assert ended.value.code == 66
    assert capsys.readouterr().err == f"mta: the history in {tmp_path}/history cannot be read: Not a directory\n"
    with pytest.raises(SystemExit) as ended:
        Past(tmp_path / "none.toml")
    assert ended.value.code == 78


def test_whoever_may_not_look_is_told_who_may(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, status 77: neither what the daemon would have said, nor that nothing is there."""

    def refuse(*_: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "mta.toml").write_text(f'hostname = "mx.example.test"\nstate = "{tmp_path}"\n')
    monkeypatch.setattr(history, "ask", refuse)
    monkeypatch.setattr(Archive, "back", refuse)
    reading = Past(tmp_path / "mta.toml")
    reading.flush()
    with pytest.raises(SystemExit) as ended:
        reading.newest(Wanted())
    assert ended.value.code == 77
    assert capsys.readouterr().err == (
        f"mta: the history in {tmp_path}/history cannot be read: Permission denied: this is for root, or the user of "
        "the server\n"
    )

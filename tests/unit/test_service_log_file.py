"""Tests of `mta.service.log_file`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from mta.observe.event import Event, Kind, Level
from mta.service.log_file import LogFile, is_journal
from mta.settings.problem import SettingsRefused
from mta.settings.sections import LogSettings, Settings


def written(path: Path, environment: dict[str, str], format: str = "text") -> list[str]:
    """What a log in a file at `path` holds after two events."""
    path.touch()
    settings = replace(Settings("mx.example.test"), log=LogSettings(file=str(path), format=format))
    log = LogFile(settings, Clock(), environment)
    log.sink(Event(0.0, Kind.SERVICE_STOPPED, Level.NOTICE))
    log.sink(Event(0.0, Kind.SPOOL_WRITABLE, Level.ALERT))
    log.close()
    return path.read_text().splitlines()


def journal_stream(path: Path) -> dict[str, str]:
    """The environment of a service whose standard error is the file at `path`, were that the journal."""
    path.touch()
    found = path.stat()
    return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


def test_lines_for_the_journal_begin_with_their_priority(tmp_path: Path) -> None:
    """The journal gets `<5>` before a notice and `<1>` before an alert, in text and in JSON."""
    path = tmp_path / "log"
    lines = written(path, journal_stream(path))
    assert [line[:7] for line in lines] == ["<5>1970", "<1>1970"]
    assert [line[:4] for line in written(path, journal_stream(path), "json")[2:]] == ["<5>{", "<1>{"]


def test_a_file_that_is_not_the_journal_has_plain_lines(tmp_path: Path) -> None:
    """A variable that is about another stream (a pipe put between), or none at all, changes nothing."""
    other = journal_stream(tmp_path / "other")
    assert [line[:4] for line in written(tmp_path / "log", other)] == ["1970", "1970"]
    assert [line[:4] for line in written(tmp_path / "log2", {})] == ["1970", "1970"]


def test_a_stream_is_the_journal_by_device_and_inode(tmp_path: Path) -> None:
    """Both numbers have to be those of the variable."""
    with (tmp_path / "log").open("w") as stream:
        found = os.fstat(stream.fileno())
        assert is_journal(stream.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        assert not is_journal(stream.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"})


def test_a_log_that_cannot_be_opened_is_told_as_a_problem_of_the_settings(tmp_path: Path) -> None:
    """The refusal names the key and the file."""
    settings = replace(Settings("mx.example.test"), log=LogSettings(file=str(tmp_path)))
    with pytest.raises(SettingsRefused, match="Is a directory"):
        LogFile(settings, Clock(), {})

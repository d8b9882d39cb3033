"""The parent: what is said when it cannot start, the log at a reload, what Twisted logs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from mta.observe.event import Kind
from mta.service.reactor_log import ReactorLog
from mta.service.worker import Worker
from mta.settings.problem import SettingsRefused
from tests.doubles.journal import RecordingJournal
from tests.doubles.service import MemoryServer, demonstration


def refuse(error: Exception) -> Any:
    """Make a function that raises."""

    def raising(*args: object, **arguments: object) -> None:
        raise error

    return raising


def test_a_bug_at_the_start_is_told_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An exception of ours ends the process with status 1, and standard error has the traceback."""
    monkeypatch.setattr(Worker, "start", refuse(RuntimeError("ours")))
    with pytest.raises(SystemExit) as ended:
        MemoryServer(tmp_path, demonstration(tmp_path)).start()
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert said.startswith("mta: cannot start: a bug:\nTraceback")
    assert said.endswith("RuntimeError: ours\n")


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), CannotListenError("any", "/x", OSError(1, "not permitted"))]
)
def test_what_the_administrator_can_mend_is_told_in_plain_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    """A full disk, a control socket that cannot be had: one line, no traceback."""
    server = MemoryServer(tmp_path, demonstration(tmp_path))
    server.clock.listenUNIX = refuse(error)
    with pytest.raises(SystemExit):
        server.start()
    assert capfd.readouterr().err == f"mta: cannot start: {error}\n"


def test_a_state_directory_too_long_for_the_control_socket(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """More octets than a socket's path may have (unix(7)) are told with both numbers, before anything is opened."""
    settings = replace(demonstration(tmp_path), state=f"{tmp_path}/{'x' * 100}")
    with pytest.raises(SystemExit):
        MemoryServer(tmp_path, settings).start()
    said = capfd.readouterr().err
    assert f"has {len(settings.state) + 13} octets, and 107 is the most" in said
    assert "give `state` a shorter path" in said
    assert not Path(settings.state).exists()


def test_a_reload_opens_the_log_file_anew(tmp_path: Path) -> None:
    """After the file was moved away and a reload, lines go into a new one; the old one has what came before."""
    server = MemoryServer(tmp_path, demonstration(tmp_path))
    server.start()
    server.parent._journal.note(Kind.TLS_FAILED)
    os.rename(tmp_path / "log", tmp_path / "log.1")
    server.reload()
    server.parent._journal.note(Kind.SESSION_CLOSED)
    assert [line.split()[1] for line in server.log().splitlines()] == ["settings.loaded", "session.closed"]
    assert (tmp_path / "log.1").read_text().splitlines()[-1].split()[1] == "tls.failed"


def test_a_reload_changes_the_form_and_the_place_of_the_log(tmp_path: Path) -> None:
    """`log.file` and `log.format` count from the reload on."""
    server = MemoryServer(tmp_path, demonstration(tmp_path))
    server.start()
    server.change(f'file = "{tmp_path}/log"', f'file = "{tmp_path}/other"\nformat = "json"')
    assert server.reload() == []
    server.clock.advance(0)
    assert (tmp_path / "other").read_text().startswith('{"time": ')


def test_a_log_file_that_cannot_be_opened_refuses_the_reload(tmp_path: Path) -> None:
    """Everything stays as it was, and the problem names the file."""
    server = MemoryServer(tmp_path, demonstration(tmp_path))
    server.start()
    server.change(f'file = "{tmp_path}/log"', f'file = "{tmp_path}/nowhere/log"\n[queue]\nrest = "7s"')
    with pytest.raises(SettingsRefused, match="nowhere/log: No such file or directory"):
        server.reload()
    assert server.parent._worker.current().queue.rest != 7
    assert "settings.refused" in server.log()


def test_a_failure_before_there_is_a_journal_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    """What Twisted logs of failures goes to standard error until there is a journal, then into it."""
    observer = ReactorLog()
    logger = Logger(observer=observer)
    logger.failure("early", Failure(ZeroDivisionError("ours")))
    assert "ZeroDivisionError: ours" in capfd.readouterr().err
    observer.journal = journal = RecordingJournal()
    logger.failure("late", Failure(ZeroDivisionError("ours")))
    assert journal.kinds() == [Kind.FAULT]
    assert capfd.readouterr().err == ""


def test_whoever_is_impatient_causes_no_fault() -> None:
    """A second signal to stop finds a reactor that stops already: that is no bug of ours."""
    observer = ReactorLog()
    observer.journal = journal = RecordingJournal()
    Logger(observer=observer).failure("stop", Failure(ReactorNotRunning()))
    assert journal.kinds() == []

"""The name of the local socket."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from mta.service.local_socket import open_local_socket
from mta.service.sockets import CannotListen, close, open_sockets
from mta.settings.local import LocalSettings
from mta.settings.sections import MxSettings, Settings, SmtpdSettings


def mode(path: Path) -> int:
    """The permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_everybody_can_reach_it(tmp_path: Path) -> None:
    """Socket and directory are open to all users, whatever the umask."""
    path = tmp_path / "run/submit.sock"
    before = os.umask(0o077)
    try:
        with open_local_socket(str(path), 5), socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
            assert (mode(path), mode(path.parent)) == (0o666, 0o755)
    finally:
        os.umask(before)


def test_no_mode_is_set_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may write in the directory cannot have the mode of a file that is not theirs changed, by a link."""
    monkeypatch.setattr(os, "chmod", lambda *_: pytest.fail("a name was followed"))
    before = os.umask(0o077)
    try:
        open_local_socket(str(tmp_path / "run/s"), 5).close()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_what_a_stopped_server_left_is_replaced(tmp_path: Path) -> None:
    """A name that nobody listens on is taken over."""
    path = str(tmp_path / "s")
    open_local_socket(path, 5).close()
    with open_local_socket(path, 5), socket.socket(socket.AF_UNIX) as caller:
        caller.connect(path)


def test_what_somebody_uses_is_left(tmp_path: Path) -> None:
    """A name on which another process listens, and a file that is no socket, are left as they are."""
    path = tmp_path / "s"
    with open_local_socket(str(path), 5):
        with pytest.raises(OSError, match="another process"):
            open_local_socket(str(path), 5)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(path))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="in use"):
        open_local_socket(str(tmp_path / "file"), 5)
    assert (tmp_path / "file").read_text() == "mine"


def settings(path: Path) -> Settings:
    """Make settings with nothing but a local socket."""
    smtpd, mx = SmtpdSettings(enabled=False), MxSettings(enabled=False)
    return Settings("mx.example.test", mx=mx, smtpd=smtpd, local=LocalSettings(socket=str(path)))


def test_it_is_opened_with_the_others(tmp_path: Path) -> None:
    """The parent opens it where the settings name it, and says what is wrong where it cannot."""
    opened = open_sockets(settings(tmp_path / "s"), {})
    assert [(each.service, each.name) for each in opened] == [("local", str(tmp_path / "s"))]
    close(opened)
    with pytest.raises(CannotListen, match=r"\[local\] socket: cannot listen on .*/no/no/s: No such file"):
        open_sockets(settings(tmp_path / "no/no/s"), {})

"""Settings that a reload does not change: what is marked so is what the start takes, neither more nor less."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mta.service.fixed import go_on, keys, needs_restart
from mta.settings.sections import ConnectionSettings, LogSettings, QueueSettings, Settings, SpoolSettings
from tests.doubles.service import MemoryServer, demonstration

AGAIN = {
    "path": "no key of the file",
    "log.file": "opened anew by a reload",
    "log.format": "opened anew by a reload",
    "tls.certificate": "read anew by a reload",
    "tls.key": "read anew by a reload",
    "tls.minimum": "read anew by a reload",
    "queue.longest_retry": "asked each time; the spool takes it too, but only to bound what it finds at its opening",
    "directory": "asked each time; the start only counts its domains",
    "limits.message_size": "asked each time; milters are told it anew by a reload",
}
"""What is read at the start and yet not taken there, and why."""


class Reader:
    """Settings that note which of them are read."""

    def __init__(self, value: Any, read: set[str], prefix: str = "") -> None:
        self._value, self._read, self._prefix = value, read, prefix

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._value, name)
        if dataclasses.is_dataclass(value):
            return Reader(value, self._read, f"{self._prefix}{name}.")
        self._read.add(self._prefix + name)
        return value


def test_what_the_start_takes_is_marked_and_what_is_marked_is_taken(tmp_path: Path) -> None:
    """The marks at the fields name exactly what the start reads, but for what is read again: they cannot lie."""
    read: set[str] = set()
    settings: Any = Reader(demonstration(tmp_path), read)
    MemoryServer(tmp_path, settings).start()
    assert set(AGAIN) <= read
    policies = {key for key in read if key.startswith("policy.")}
    assert "policy.order" in policies, "policies are made anew by a reload"
    assert read - set(AGAIN) - policies == {key for key, fixed in keys(Settings) if fixed}


def test_a_reload_goes_on_with_what_was_taken_at_the_start() -> None:
    """Of a new configuration the marked keys keep their old values, alone or as a whole table; the others count."""
    running = Settings("mx.example.test", queue=QueueSettings(concurrency=5, rest=1.0))
    loaded = Settings(
        "other.example.test",
        queue=QueueSettings(concurrency=6, rest=2.0),
        spool=SpoolSettings(reserve=1),
        connections=ConnectionSettings(total=7),
        log=LogSettings("json"),
    )
    assert go_on(running, loaded) == dataclasses.replace(
        running,
        queue=QueueSettings(concurrency=5, rest=2.0),
        connections=ConnectionSettings(total=7),
        log=LogSettings("json"),
        directory=loaded.directory,
    )
    assert needs_restart(running, loaded) == ["hostname", "queue.concurrency", "spool.reserve"]


def test_what_waits_for_a_restart_is_told_at_each_reload(tmp_path: Path) -> None:
    """A changed key that needs a restart is named by every reload until there is one."""
    server = MemoryServer(tmp_path, demonstration(tmp_path))
    server.start()
    server.change('hostname = "mx.example.test"', 'hostname = "mail.example.test"')
    assert server.reload() == ["hostname"]
    assert server.reload() == ["hostname"]
    assert server.parent._worker.current().hostname == "mx.example.test"


def test_the_place_of_the_maildirs_counts_at_once(tmp_path: Path) -> None:
    """`mail` is part of each account, so a reload uses it, and does not say that it needs a restart."""
    server = MemoryServer(tmp_path, demonstration(tmp_path))
    server.start()
    server.change('mail = "../var/mail"', 'mail = "../var/other"')
    assert server.reload() == []
    account = server.parent._worker.current().directory.account("bob@example.test")
    assert account.maildir == str(tmp_path / "var/other/example.test/bob/Maildir")

"""Our own server as an administrator runs it: `mta init --demo`, then `twistd mta`, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mta.service.control import ask
from tests.live.peers.process import NOBODY, Process, eventually, free_ports, own_program, unprivileged

DOMAIN = "example.test"

STOPPED = -signal.SIGTERM
"""How twistd ends after SIGTERM and a whole stop: by the same signal, which systemd takes for success."""

FAULT = re.compile(r"^.*(?:Traceback|Unhandled|Z fault level=).*(?:\n.*){0,30}", re.MULTILINE)
"""What a bug of ours leaves in the log."""


def twistd(settings_file: Path, pid_file: str = "") -> list[str]:
    """The command line that runs our server in the foreground."""
    return [own_program("twistd"), "-n", f"--pidfile={pid_file}", "mta", "--config", str(settings_file)]


class Daemon:
    """A demonstration below `directory`, made but not started yet.

    `settings` are merged into its `mta.toml`; a `domain` other than example.test makes it the server of that one.
    """

    def __init__(self, directory: Path, settings: Mapping[str, Any] | None = None, domain: str = DOMAIN) -> None:
        self.directory, self.domain = directory, domain
        self.mx_port, self.smtpd_port, self.smtps_port = free_ports(3)
        self.settings_file = directory / "etc/mta.toml"
        self.log = directory.with_name(f"{directory.name}.log")
        self.process: Process | None = None
        directory.mkdir(parents=True)
        if unprivileged():
            os.chown(directory, NOBODY, NOBODY)
        ports = [f"--mx-port={self.mx_port}", f"--smtpd-port={self.smtpd_port}", f"--smtps-port={self.smtps_port}"]
        self.mta("init", "--demo", str(directory), *ports, check=True)
        lines = (directory / "credentials").read_text().splitlines()
        self.passwords = {address.partition("@")[0]: word for address, word in (line.split() for line in lines)}
        if domain != DOMAIN:
            os.rename(directory / "etc/domains" / DOMAIN, directory / "etc/domains" / domain)
            settings = _merged({"hostname": f"mx.{domain}"}, settings or {})
        if settings:
            self.change(settings)

    def mta(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run the `mta` command as the user that the daemon runs as."""
        return subprocess.run(
            [own_program("mta"), *arguments], check=check, cwd="/", capture_output=True, text=True, **unprivileged()
        )

    def change(self, settings: Mapping[str, Any]) -> None:
        """Merge settings into `mta.toml`; they count from the next start or reload on."""
        present = tomllib.loads(self.settings_file.read_text())
        self.settings_file.write_text(_toml(_merged(present, settings)))

    def reload(self) -> subprocess.CompletedProcess[str]:
        """Run `mta reload`."""
        return self.mta("reload", "--config", str(self.settings_file))

    def start(self) -> None:
        """Start it and wait until both services, and the operator's commands, are answered."""
        self.process = Process(twistd(self.settings_file), self.log, cwd="/", **unprivileged())
        self.process.wait_for_greeting(self.mx_port)
        self.process.wait_for_greeting(self.smtpd_port)
        eventually(self._commanded, "a control socket that answers")

    def _commanded(self) -> bool:
        try:
            return ask(f"{self.directory}/var/control.sock", "ping")["config"] == str(self.settings_file)
        except OSError:
            return False

    def kill(self) -> None:
        """End it as a power cut ends a process."""
        assert self.process is not None
        self.process.stop(signal.SIGKILL)
        self.process = None

    def stop(self) -> None:
        """End it as systemd does (see `end`)."""
        if self.process is not None:
            self.process.popen.terminate()
            self.end()

    def end(self) -> None:
        """Wait for its end after SIGTERM, and look through what it said: no fault of ours, no traceback."""
        assert self.process is not None
        process, self.process = self.process, None
        status = process.end()
        fault = FAULT.search(process.output)
        assert fault is None, fault[0]
        assert status == STOPPED, process.output

    @property
    def output(self) -> str:
        """What it has logged, all runs."""
        return self.log.read_text(errors="replace")

    def address(self, user: str) -> str:
        """A user's address, which is the login too."""
        return f"{user}@{self.domain}"

    def maildir(self, user: str) -> Path:
        """Where mail for a user lands."""
        return self.directory / "var/mail" / self.domain / user / "Maildir"

    def connect(self) -> socket.socket:
        """Open a bare connection to the mx port, its greeting read."""
        connection = socket.create_connection(("127.0.0.1", self.mx_port), timeout=30)
        assert connection.recv(512).startswith(b"220")
        return connection


def _merged(present: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(present)
    for key, value in more.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def _toml(table: Mapping[str, Any]) -> str:
    """Write a table as inline values, which TOML takes wherever it takes a table."""
    return "".join(f"{json.dumps(key)} = {_inline(value)}\n" for key, value in table.items())


def _inline(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    return json.dumps(value)

"""`twistd mta`: options, and the service that twistd starts; and the main function of a worker process.

The reactor is imported here and nowhere else. What carries mail is imported late: Twisted's endpoints, as soon as they
are imported, take ``LISTEN_PID`` and ``LISTEN_FDS`` out of the environment, and with them systemd's sockets from us.

A configuration that cannot be used is told whole, and nothing starts. SIGHUP reloads; its handler is installed before
anything slow, so that an early one is not the end of the process.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application import service
from twisted.python import usage

from mta.service.clock import monotonic
from mta.service.reactor_log import ReactorLog
from mta.service.starting import tell_cannot_start
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load


class Options(usage.Options):
    """What stands behind ``twistd mta``."""

    synopsis = "[--config FILE]"
    longdesc = "Runs the mail server until SIGTERM. SIGHUP, or better `mta reload`, reads the configuration anew."
    optParameters = [  # noqa: N815, RUF012  # the name and form that usage.Options reads
        ["config", "c", "/etc/mta/mta.toml", "The configuration file; etc/domains lies beside it."],
    ]

    def postOptions(self) -> None:
        """Remove a pid file of twistd's that names no `twistd mta`: a crash left it, and twistd would not start.

        Who owns a spool is decided by the lock beside it, never by a pid file.
        """
        name = self.parent["pidfile"] if self.parent else ""
        if name and not _names_a_server(Path(name)):
            with suppress(OSError):
                Path(name).unlink()


def _names_a_server(pid_file: Path) -> bool:
    try:
        words = Path(f"/proc/{int(pid_file.read_text())}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
    return b"mta" in words and any(word.endswith(b"twistd") for word in words)


def makeService(options: Options) -> service.IService:
    """Make the service, with its configuration read and checked; ends the process where that cannot be used."""
    from twisted.internet import reactor as installed

    environment = dict(os.environ)  # before the import below
    reactor: Any = installed
    early: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, frame: early.append(number))
    path = str(Path(options["config"]).absolute())
    try:
        settings = load(path)
    except SettingsRefused as refused:
        sys.exit(f"mta: the configuration cannot be used, nothing was started:\n{refused}")
    from mta.service.parent import Parent

    monotonic(reactor)
    parent = Parent(path, settings, reactor, environment=environment)
    signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(parent.reload_by_signal))
    if early:
        reactor.callWhenRunning(parent.reload_by_signal)
    return parent


def work(number: int, path: str) -> None:
    """Be the worker process `number` of the configuration at `path`, until the parent wants no more of it."""
    from twisted.internet import reactor as installed
    from twisted.logger import globalLogBeginner

    from mta.service.child import Child

    reactor: Any = installed
    monotonic(reactor)
    log = ReactorLog()
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False, discardBuffer=True)
    try:
        child = Child(number, path, reactor, log)
    except Exception as problem:
        tell_cannot_start(problem)
        os._exit(1)  # the parent hears the link break
    reactor.addSystemEventTrigger("before", "shutdown", child.stop)
    reactor.callWhenRunning(child.connect)
    # A terminal sends ^C to all processes: it is the parent's to stop the others.
    reactor.callWhenRunning(signal.signal, signal.SIGINT, signal.SIG_IGN)
    reactor.callWhenRunning(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    reactor.run()


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])

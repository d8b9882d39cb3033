"""Telling systemd how we are (sd_notify(3)): ready, reloading, stopping, alive, and a line of what is going on.

One datagram to the socket that ``NOTIFY_SOCKET`` names, a path or (with ``@``) an abstract address. Without systemd
there is no such variable, and nothing is told. The variable is taken out of the environment: what children of ours say
is no word of ours.

==================  ===============================================================================================
when                what is said
==================  ===============================================================================================
all is served       ``READY=1``: what is ordered after the unit starts now
a reload            ``RELOADING=1`` with the time of the monotonic clock, then ``READY=1`` again, whatever came of it
the stop            ``STOPPING=1``; it ends by itself well within ``TimeoutStopSec`` (see `mta.service.worker`)
every half of       ``WATCHDOG=1``, from the event loop, and only while `alive` says so: a loop that stands still says
``WatchdogSec``     nothing, and systemd restarts us
each half minute    ``STATUS=``: what ``systemctl status mta`` shows
==================  ===============================================================================================
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

from twisted.internet import defer, interfaces

STATUS_SECONDS = 30.0
"""Seconds between two lines of status."""
_STATUS_MAXIMUM = 200
"""Characters of a line of status: one line of a wide terminal."""

Send = Callable[[str], None]
"""Tells systemd; never raises."""


@dataclass(frozen=True, slots=True)
class Systemd:
    """What the environment says of who started us."""

    address: str = ""
    """Its socket; empty: none wants to be told."""
    watchdog: float = 0.0
    """Seconds within which it wants a sign of life; 0: it does not."""


def started_by(environment: MutableMapping[str, str], process: int) -> Systemd:
    """Read, and take out of it, what systemd put into the environment of `process` (sd_watchdog_enabled(3))."""
    address = environment.pop("NOTIFY_SOCKET", "")
    microseconds = environment.pop("WATCHDOG_USEC", "")
    watched = environment.pop("WATCHDOG_PID", str(process)) == str(process)
    watchdog = int(microseconds) / 1e6 if watched and microseconds.isascii() and microseconds.isdigit() else 0.0
    return Systemd(address if address[:1] in ("/", "@") else "", watchdog)


def sender(address: str) -> Send:
    """Return what sends to a socket; nothing is sent to an empty address, and nobody waits for systemd."""

    def send(message: str) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
            datagram.setblocking(False)
            where = f"\0{address[1:]}" if address.startswith("@") else address
            datagram.sendto(message.encode(errors="backslashreplace"), where)

    return send if address else lambda message: None


class Notifier:
    """Says what stands in the table above.

    `alive` is asked before each sign of life; with several workers it is whether each of them answered lately.
    `status` gives the line of status, now or later; what it fails with is not told here.
    """

    def __init__(
        self,
        systemd: Systemd,
        clock: interfaces.IReactorTime,
        status: Callable[[], str | defer.Deferred[str]],
        alive: Callable[[], bool] = lambda: True,
        send: Send | None = None,
    ) -> None:
        self._send = send or sender(systemd.address)
        self._watchdog = systemd.watchdog / 2
        self._told = bool(systemd.address)
        self._clock = clock
        self._status = status
        self._alive = alive
        self._stopping = False
        self._calls: dict[str, interfaces.IDelayedCall] = {}

    def ready(self) -> None:
        """Say that everything is served, and begin with the rest."""
        self._send("READY=1")
        if self._watchdog:
            self._live()
        if self._told:
            self._tell()

    def reloading(self) -> None:
        """Say that a reload begins (CLOCK_MONOTONIC, which the reactor counts on)."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock.seconds() * 1e6)}")

    def reloaded(self) -> None:
        """Say that it is over."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the stop begins. Signs of life go on: it has a bound of its own."""
        self._stopping = True
        self._send("STOPPING=1\nSTATUS=stopping: transactions and deliveries under way are ended")
        self._end("status")

    def stopped(self) -> None:
        """Say nothing more."""
        self._end("watchdog")

    def _live(self) -> None:
        if self._alive():
            self._send("WATCHDOG=1")
        self._calls["watchdog"] = self._clock.callLater(self._watchdog, self._live)

    def _tell(self) -> None:
        defer.maybeDeferred(self._status).addCallbacks(self._say, lambda failure: None)
        self._calls["status"] = self._clock.callLater(STATUS_SECONDS, self._tell)

    def _say(self, status: str) -> None:
        if not self._stopping:
            self._send(f"STATUS={' '.join(status.split())[:_STATUS_MAXIMUM]}")

    def _end(self, name: str) -> None:
        call = self._calls.pop(name, None)
        if call is not None and call.active():
            call.cancel()

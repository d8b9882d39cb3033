"""What systemd is told, on a socket like its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet import defer, task

from mta.service.notify import STATUS_SECONDS, Notifier, Systemd, sender, started_by


class Listener:
    """A socket as systemd has one."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """What was said since the last time."""
        said = []
        while True:
            try:
                said.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return said


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    """One with a path, and one with an abstract address."""
    made = Listener(f"{tmp_path}/notify" if request.param == "path" else f"@{tmp_path}/notify")
    yield made
    made.socket.close()


def test_what_systemd_left_in_the_environment_is_taken_out() -> None:
    """Children do not find the socket: what they would say is no word of ours."""
    environment = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "HOME": "/"}
    assert started_by(environment, 7) == Systemd("/run/notify", 30.0)
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, Systemd()),
        ({"NOTIFY_SOCKET": "relative"}, Systemd()),
        ({"NOTIFY_SOCKET": "@a", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "8"}, Systemd("@a")),
        ({"NOTIFY_SOCKET": "@a", "WATCHDOG_USEC": "soon"}, Systemd("@a")),
        ({"NOTIFY_SOCKET": "@a", "WATCHDOG_USEC": "2000000"}, Systemd("@a", 2.0)),
    ],
)
def test_only_what_is_meant_for_this_process_counts(environment: dict[str, str], found: Systemd) -> None:
    """A watchdog for another process, an address that is none and a number that is none are passed over."""
    assert started_by(environment, 7) == found


def test_readiness_reload_and_stop_are_told(listener: Listener) -> None:
    """Each step is one datagram, in systemd's words; a reload carries the monotonic clock."""
    clock = task.Clock()
    notifier = Notifier(Systemd(listener.address), clock, lambda: "3 sessions\n2 messages")
    notifier.ready()
    assert listener.heard() == ["READY=1", "STATUS=3 sessions 2 messages"]
    clock.advance(1.5)
    notifier.reloading()
    notifier.reloaded()
    assert listener.heard() == ["RELOADING=1\nMONOTONIC_USEC=1500000", "READY=1"]
    notifier.stopping()
    (stopping,) = listener.heard()
    assert stopping.startswith("STOPPING=1\n")
    clock.advance(10 * STATUS_SECONDS)
    assert listener.heard() == []
    assert clock.getDelayedCalls() == []


def test_the_status_is_told_again_and_again(listener: Listener) -> None:
    """The line of status follows what happens, and one that cannot be had is passed over."""
    clock = task.Clock()
    lines = iter([defer.succeed("one"), defer.fail(RuntimeError()), defer.succeed("x" * 999)])
    Notifier(Systemd(listener.address), clock, lambda: next(lines)).ready()
    clock.advance(STATUS_SECONDS)
    clock.advance(STATUS_SECONDS)
    assert listener.heard() == ["READY=1", "STATUS=one", f"STATUS={'x' * 200}"]


def test_a_status_that_comes_after_the_stop_is_not_told(listener: Listener) -> None:
    """Who is stopping is not told to be at work."""
    waiting: defer.Deferred[str] = defer.Deferred()
    notifier = Notifier(Systemd(listener.address), task.Clock(), lambda: waiting)
    notifier.ready()
    notifier.stopping()
    listener.heard()
    waiting.callback("at work")
    assert listener.heard() == []


def test_signs_of_life_come_twice_as_often_as_they_are_wanted() -> None:
    """The watchdog hears from the loop at half its time, also while we stop, and nothing after that."""
    said: list[str] = []
    clock = task.Clock()
    notifier = Notifier(Systemd("", 10.0), clock, lambda: "", send=said.append)
    notifier.ready()
    clock.advance(5)
    assert said == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
    notifier.stopping()
    clock.advance(5)
    assert said[-1] == "WATCHDOG=1"
    notifier.stopped()
    clock.advance(50)
    assert len(said) == 5


def test_who_is_not_alive_says_nothing() -> None:
    """Where a worker does not answer there is no sign of life; it comes again when that does."""
    said: list[str] = []
    clock = task.Clock()
    alive = iter([True, False, True])
    Notifier(Systemd("", 10.0), clock, lambda: "", lambda: next(alive), said.append).ready()
    clock.advance(5)
    assert said == ["READY=1", "WATCHDOG=1"]
    clock.advance(5)
    assert said == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]


def test_nobody_who_listens_is_no_fault(tmp_path: Path) -> None:
    """Without systemd, and with a socket that is gone or full, nothing fails and nothing waits."""
    sender("")("READY=1")
    sender(f"{tmp_path}/gone")("READY=1")
    full = Listener(f"{tmp_path}/full")
    send = sender(full.address)
    for _ in range(5000):
        send("WATCHDOG=1")
    assert full.heard()[0] == "WATCHDOG=1"
    full.socket.close()


def test_without_systemd_nothing_is_begun() -> None:
    """There are no calls on the clock where nobody wants to be told."""
    clock = task.Clock()
    notifier = Notifier(Systemd(), clock, lambda: "status")
    notifier.ready()
    notifier.stopping()
    notifier.stopped()
    assert clock.getDelayedCalls() == []

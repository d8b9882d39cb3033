"""The worker: how it stops, whatever hangs, and what it makes of settings."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.logger import globalLogPublisher

from mta.disk.port import RunInThread
from mta.net.admission import Bounds
from mta.service import worker as module
from mta.service.clock import within
from mta.service.operator import metrics
from mta.service.pools import Pools
from tests.doubles.service import MemoryServer, demonstration, inline_pools
from tests.doubles.sync import failure, inline, result
from tests.doubles.transport import ServerTransport

TIMEOUT_STOP_SEC = 60
"""Of ``systemd/mta.service``: what systemd waits before it kills."""


class Hangs:
    """A part of the worker that does not come to its end until it is told to."""

    def __init__(self) -> None:
        self.ended: defer.Deferred[None] = defer.Deferred()
        self.calls: list[str] = []

    async def stop(self) -> None:
        """Hang."""
        self.calls.append("stop")
        await self.ended

    def close(self) -> defer.Deferred[None]:
        """Hang."""
        return self.ended

    idle = close

    def abort(self) -> None:
        """End it."""
        self.calls.append("abort")
        self.ended.callback(None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MemoryServer]:
    """A server that runs, and notes failures that nobody handled."""
    started = MemoryServer(tmp_path, demonstration(tmp_path))
    started.start()
    observer = started.parent._reactor_log
    globalLogPublisher.addObserver(observer)
    yield started
    globalLogPublisher.removeObserver(observer)


def connect(server: MemoryServer) -> tuple[Any, ServerTransport]:
    """Open a session of mx."""
    transport = ServerTransport()
    session = server.clock.adoptedPorts[0][2].buildProtocol(IPv4Address("TCP", "192.0.2.7", 4321))
    session.makeConnection(transport)
    return session, transport


def stop(server: MemoryServer, seconds: float) -> defer.Deferred[None]:
    """Stop it and let time pass, a second at a time."""
    stopped: defer.Deferred[None] = server.parent.stopService()
    for _ in range(int(seconds)):
        server.clock.advance(1)
    return stopped


def stopped_line(server: MemoryServer) -> str:
    """Its last line; there is no fault."""
    server.parent._process._log.sink.flush()
    gc.collect()  # a failure that nobody handled is told when it is forgotten
    lines = server.log().splitlines()
    assert [line for line in lines if " fault " in line] == []
    return lines[-1]


def test_an_idle_server_stops_at_once(server: MemoryServer) -> None:
    """Nothing under way: no time passes."""
    result(stop(server, 0))
    assert stopped_line(server).endswith("service.stopped level=notice")


def test_a_session_in_data_is_cut_off_after_the_grace(server: MemoryServer) -> None:
    """Half a message is waited for, then its connection is aborted; that is no fault of ours."""
    session, transport = connect(server)
    session.dataReceived(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: half")
    stopped = stop(server, module.GRACE_SECONDS - 1)
    assert "abort" not in transport.calls
    server.clock.advance(1)
    assert transport.calls[-1] == "abort"
    assert not stopped.called
    session.connectionLost()
    result(stopped)
    assert stopped_line(server).endswith("service.stopped level=notice")


def test_a_delivery_that_hangs_is_aborted_after_the_grace(server: MemoryServer) -> None:
    """Connections of deliveries under way are cut when the grace is over; what they tell then is waited for."""
    hanging = server.parent._worker._outgoing.queue = Hangs()
    server.parent._worker._outgoing.remote.abort = hanging.abort
    stopped = stop(server, module.GRACE_SECONDS - 1)
    assert hanging.calls == ["stop"]
    server.clock.advance(1)
    assert hanging.calls == ["stop", "abort"]
    result(stopped)
    assert stopped_line(server).endswith("service.stopped level=notice")


def test_the_stop_is_bounded_whatever_hangs(server: MemoryServer) -> None:
    """Sessions, deliveries, Maildirs and spool that never end: the stop ends well before systemd kills, and says so."""
    connect(server)[0].dataReceived(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n")
    worker = server.parent._worker
    worker._outgoing.queue, worker._store, worker._spool = Hangs(), Hangs(), Hangs()
    result(stop(server, TIMEOUT_STOP_SEC * 2 / 3))
    line = stopped_line(server)
    assert "level=warning" in line
    assert 'reason="not ended in time: sessions, deliveries, Maildirs, spool"' in line


def test_a_step_that_fails_does_not_end_the_stop(server: MemoryServer) -> None:
    """A bug in one step is a fault event, and the other steps follow."""
    closed: list[str] = []
    worker = server.parent._worker
    worker._store.idle = lambda: 1 / 0
    real, worker._spool.close = worker._spool.close, lambda: closed.append("spool") or real()
    result(stop(server, 0))
    assert closed == ["spool"]
    assert 'where="stop of Maildirs"' in server.log()


def test_within_tells_whether_it_was_in_time_and_cancels_nothing() -> None:
    """What is late is left alone and keeps its result; no timer stays."""
    clock = task.Clock()
    late: defer.Deferred[str] = defer.Deferred()
    in_time: defer.Deferred[str] = defer.Deferred()
    waiting_late, waiting = within(clock, 5, late), within(clock, 5, in_time)
    in_time.callback("x")
    assert result(waiting) is True
    clock.advance(5)
    assert result(waiting_late) is False
    late.callback("y")
    assert (result(in_time), result(late)) == ("x", "y")
    broken: defer.Deferred[str] = defer.Deferred()
    told = within(clock, 5, broken)
    broken.errback(ValueError("ours"))
    assert result(told) is True
    assert isinstance(failure(broken), ValueError)
    assert clock.getDelayedCalls() == []


def test_an_address_is_connected_to_without_a_thread(server: MemoryServer) -> None:
    """IPv4 and IPv6 literals go to the socket at once: no name is looked up (the reactor in memory has no resolver)."""
    factory: Any = type("Factory", (), {"doStart": lambda self: None, "doStop": lambda self: None})()
    for address in ("192.0.2.1", "2001:db8::1"):
        server.parent._worker._outgoing.endpoint(address, 25).connect(factory)
    assert [client[:2] for client in server.clock.tcpClients] == [("192.0.2.1", 25), ("2001:db8::1", 25)]


def test_large_work_has_threads_of_its_own(tmp_path: Path) -> None:
    """Large contents are written and synced in the pool for large work; batches are committed in that for commits."""
    ran: dict[str, set[str]] = {"commits": set(), "large": set()}

    def noting(pool: str) -> RunInThread:
        def run(function: Callable[..., Any], /, *args: object) -> defer.Deferred[Any]:
            ran[pool].add(function.__name__)
            return inline(function, *args)

        return run

    def pools(reactor: Any, passwords: int) -> Pools:
        return replace(inline_pools(), commits=noting("commits"), large=noting("large"))

    server = MemoryServer(tmp_path, demonstration(tmp_path), pools)
    server.start()
    session, transport = connect(server)
    session.dataReceived(b"EHLO c\r\n")
    for size in (10, 20_000):
        for rcpt in (b"bob", b"team"):
            content = b"Subject: x\r\n\r\n" + b"a line of the body\r\n" * size
            session.dataReceived(b"MAIL FROM:<>\r\nRCPT TO:<%s@example.test>\r\nDATA\r\n" % rcpt)
            session.dataReceived(content + b".\r\n")
    assert transport.take().count(b"queued as") == 4
    assert {"_make_durable", "_finish"} <= ran["commits"]
    assert {"_make", "_write", "make_durable"} <= ran["large"]
    assert {"_write", "make_durable"}.isdisjoint(ran["commits"])


def test_mx_leaves_a_share_of_the_connections_to_smtpd(tmp_path: Path) -> None:
    """Where both run a quarter of the connections is kept for smtpd; without smtpd mx has all; a reload counts."""
    server = MemoryServer(tmp_path, demonstration(tmp_path, "[connections]\ntotal = 80\n"))
    server.start()
    worker = server.parent._worker
    assert worker._listeners.bounds("mx") == Bounds(80, 60, 100)
    assert worker._listeners.bounds("smtpd") == Bounds(80, 80, 100)
    server.change("total = 80\n", "total = 80\nsmtpd_share = 0.5\n")
    server.reload()
    assert worker._listeners.bounds("mx").service == 40


def test_without_smtpd_nothing_is_kept_for_it(tmp_path: Path) -> None:
    """Where smtpd is switched off mx may have all connections."""
    settings = demonstration(tmp_path, "[connections]\ntotal = 80\n")
    server = MemoryServer(tmp_path, replace(settings, smtpd=replace(settings.smtpd, enabled=False)))
    server.start()
    assert server.parent._worker._listeners.bounds("mx") == Bounds(80, 80, 100)


def test_a_look_at_the_queue_is_good_for_a_while(server: MemoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that are asked for twice in a second cost one look, also where parent and worker are one process."""
    looks: list[object] = []
    real = metrics.summarise

    def summarise(*arguments: Any) -> Any:
        looks.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(metrics, "summarise", summarise)
    for _ in range(2):
        result(server.parent.ask({"command": "metrics"}))
    assert len(looks) == 1
    server.clock.advance(metrics.FRESH)
    result(server.parent.ask({"command": "metrics"}))
    assert len(looks) == 2

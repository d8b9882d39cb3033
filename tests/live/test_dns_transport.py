"""The transport against a real name server on loopback, over UDP and TCP."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.error import ConnectionDone
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure as Fault

from mta.dns.answer import Answer, Failure, Found, Mx, NoSuchName, RecordType
from mta.dns.cache import Cache
from mta.dns.resolver import StubResolver
from mta.dns.routing import Own, RoutingLimits, find_route
from mta.dns.transport import Transport
from mta.mail.route import Host, Route
from mta.settings.values import Endpoint
from tests.doubles.dns import Zone
from tests.doubles.dns_server import DnsServer
from tests.doubles.sync import result

pytestmark = pytest.mark.live

ZONE = """
example.test        MX    10 mx.example.test
mx.example.test     A     127.0.0.1
sick.example.test   ANY   !SERVFAIL
slow.example.test   ANY   !SILENT
"""


class _Loop:
    """A reactor of its own, a server on it, a resolver that asks the server."""

    def __init__(self, text: str) -> None:
        self.reactor: Any = SelectReactor()
        zone = Zone.parse(text)
        for number in range(800):
            zone.add("long.example.test", "TXT", f'"{number:064d}"')
        self.server = DnsServer(self.reactor, lambda: zone)
        self.resolver = self.ask_at(Endpoint("127.0.0.1", self.server.port))

    def ask_at(self, *servers: Endpoint, timeout: float = 20) -> StubResolver:
        transport = Transport(self.reactor, self.reactor, servers, random.SystemRandom(), timeout, tries=1)
        return StubResolver(transport, Cache(self.reactor.seconds))

    def run(self, waiting: defer.Deferred[Any]) -> Any:
        """Run the reactor until `waiting` fires."""
        outcome: list[Any] = []

        def stop(value: Any) -> None:
            outcome.append(value)
            self.reactor.crash()

        waiting.addBoth(stop)
        if not outcome:
            self.reactor.run(installSignalHandlers=False)
        return result(defer.succeed(outcome[0]))


@pytest.fixture
def loop() -> Iterator[_Loop]:
    """Make a loop, and close what it opened."""
    made = _Loop(ZONE)
    yield made
    made.server.stop()
    for reader in made.reactor.removeAll():
        reader.connectionLost(Fault(ConnectionDone()))


def test_udp(loop: _Loop) -> None:
    """A question goes out over UDP and its answer comes back."""
    answer = loop.run(loop.resolver.query("example.test", RecordType.MX))
    source = f"127.0.0.1:{loop.server.port}"
    assert answer == Found("example.test", (Mx(10, "mx.example.test"),), 300, False, source)
    assert isinstance(loop.run(loop.resolver.query("nowhere.test", RecordType.MX)), NoSuchName)
    assert [kind for kind, _ in loop.server.asked] == ["udp", "udp"]


def test_truncation(loop: _Loop) -> None:
    """64 KB of TXT come over TCP after a truncated answer over UDP."""
    answer = loop.run(loop.resolver.query("long.example.test", RecordType.TXT))
    assert isinstance(answer, Found)
    assert len(answer.records) == 800
    assert [kind for kind, _ in loop.server.asked] == ["udp", "tcp"]


@pytest.mark.parametrize("name", ["sick.example.test", "slow.example.test"])
def test_failures(loop: _Loop, name: str) -> None:
    """SERVFAIL and silence are failures."""
    resolver = loop.ask_at(Endpoint("127.0.0.1", loop.server.port), timeout=0.1)
    assert isinstance(loop.run(resolver.query(name, RecordType.A)), Failure)


def test_next_server(loop: _Loop) -> None:
    """A port where nobody listens is passed over at once."""
    closed = Endpoint("127.0.0.2", loop.server.port)
    resolver = loop.ask_at(closed, Endpoint("127.0.0.1", loop.server.port))
    answer: Answer = loop.run(resolver.query("mx.example.test", RecordType.A))
    assert isinstance(answer, Found)


def test_route(loop: _Loop) -> None:
    """A route is found through the wire."""
    found = find_route("example.test", loop.resolver, Own(), 2525, random.Random(1), RoutingLimits(allow_loopback=True))
    route = loop.run(defer.Deferred.fromCoroutine(found))
    assert isinstance(route, Route)
    assert route.hosts == (Host("mx.example.test", ("127.0.0.1",), 2525),)
    assert route.reason.source == f"MX 10 mx.example.test. (ttl 300) from 127.0.0.1:{loop.server.port}"


def test_program(loop: _Loop, tmp_path: Path) -> None:
    """The double runs as a program, and reads its file again for each question."""
    file = tmp_path / "zone"
    file.write_text("example.test A 192.0.2.1")
    command = [sys.executable, "-m", "tests.doubles.dns_server", str(file), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as program:
        try:
            assert program.stdout
            word, port = program.stdout.readline().split()
            assert word == "ready"
            for address in ("192.0.2.1", "192.0.2.2"):
                file.write_text(f"example.test A {address}")
                resolver = loop.ask_at(Endpoint("127.0.0.1", int(port)))
                answer = loop.run(resolver.query("example.test", RecordType.A))
                assert isinstance(answer, Found)
                assert answer.records == (address,)
        finally:
            program.terminate()

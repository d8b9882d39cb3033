"""Sessions that last: each is told of once, while it does."""

from __future__ import annotations

import pytest
from twisted.internet import defer

from mta.net.server import LASTS_TOLD
from mta.observe.event import Kind
from mta.smtp.event import Mail
from tests.doubles.transport import ServerTransport
from tests.unit.test_net_server import Server, greeted


def told(server: Server) -> list[tuple[float, str]]:
    """When sessions were told of, and what they waited for."""
    events = server.journal.of(Kind.SESSION_LASTS)
    return [(event.time, event.reason.text if event.reason else "") for event in events]


def test_a_session_that_lasts_is_told_of_once() -> None:
    """After 30 seconds address, port and what is awaited stand in the journal, and not again."""
    server = Server()
    server.clock.advance(LASTS_TOLD - 1)
    assert told(server) == []
    server.clock.advance(1)
    assert told(server) == [(LASTS_TOLD, "a command is awaited")]
    (event,) = server.journal.of(Kind.SESSION_LASTS)
    fields = {"service": "mx", "address": "192.0.2.7", "port": 4321, "tls": None, "login": None, "seconds": LASTS_TOLD}
    assert (event.session, event.fields) == ("session1", fields)
    server.clock.advance(2 * LASTS_TOLD)
    assert len(told(server)) == 1


def test_each_session_has_a_time_of_its_own() -> None:
    """A later session is told of later, one that ended is not; without sessions no timer stays."""
    server = Server()
    server.clock.advance(10)
    second = server.connect(ServerTransport())
    server.clock.advance(5)
    third = server.connect(ServerTransport())
    server.lose()
    server.clock.advance(LASTS_TOLD - 5)
    assert told(server) == [(LASTS_TOLD + 10, "a command is awaited")]
    for each in (second, third):
        server.protocol = each
        server.lose()
    assert server.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"MAIL FROM:<a@example.org>\r\n", "we work on a reply"),
        (b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nhello", "more of a message is awaited"),
    ],
)
def test_what_a_session_waits_for(octets: bytes, reason: str) -> None:
    """Whether it is for us or for the peer to go on."""
    server = greeted()
    if b"DATA" not in octets:
        server.rules.later[Mail] = defer.Deferred()
    server.send(octets)
    server.clock.advance(LASTS_TOLD)
    assert [text for _, text in told(server)] == [reason]


def test_a_handshake_that_lasts() -> None:
    """TLS from the first octet that does not come is told of as such."""
    server = Server(implicit_tls=True)
    assert server.protocol.awaits.text == "a TLS handshake is under way"


def test_a_stop_tells_nothing_more() -> None:
    """A session whose message is still committed while we stop is waited for, not told of."""
    server = greeted()
    server.rules.later[Mail] = defer.Deferred()
    server.send(b"MAIL FROM:<a@example.org>\r\n")
    server.factory.stop()
    server.clock.advance(LASTS_TOLD)
    assert told(server) == []

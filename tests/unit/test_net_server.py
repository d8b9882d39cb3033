"""The protocol between a transport, a session and its rules: order, deadlines, back-pressure, TLS, the end."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.net.admission import Admission
from mta.net.peer import Peer, network_of
from mta.net.server import Answer, SMTPServerFactory
from mta.observe.event import Kind
from mta.smtp import status
from mta.smtp.event import Content, EndOfData, Event, Mail, Rcpt, Refused, StartTLS
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.reply import Reply, reply
from mta.smtp.server import ServerSession
from tests.doubles.dialogue import accept, codes
from tests.doubles.journal import RecordingJournal
from tests.doubles.sync import result
from tests.doubles.transport import ServerTransport

TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
GREETING = b"220 mx.example.test ESMTP\r\n"
MESSAGE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nSubject: x\r\n\r\ny\r\n.\r\n"


class TestRules:
    """Accepts everything at once, or answers what `later` names with a Deferred, or fails as `broken` says."""

    __test__ = False

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.later: dict[type[Event], defer.Deferred[Reply]] = {}
        self.broken: dict[type[Event], Exception] = {}
        self.told: list[tuple[str, Any]] = []

    def answer(self, event: Event) -> Answer:
        """Answer as told."""
        self.events.append(event)
        if type(event) in self.broken:
            raise self.broken[type(event)]
        return self.later.get(type(event)) or accept(event)

    def secured(self, tls: TlsInfo | None, reason: Reason | None) -> None:
        """Note it."""
        self.told.append(("secured", tls))

    def lost(self, reason: Reason) -> None:
        """Note it."""
        self.told.append(("lost", reason.text))


class NoTls:
    """A TLS whose handshakes the test ends by hand."""

    def context(self) -> str:
        """Return a word for a context."""
        return "context"

    def describe(self, transport: Any) -> TlsInfo:
        """Describe it."""
        return TLS


class Server:
    """A factory, one connection, and its rules."""

    def __init__(self, limits: Limits | None = None, implicit_tls: bool = False, **bounds: int) -> None:
        self.clock = task.Clock()
        self.journal = RecordingJournal(self.clock.seconds)
        self.rules = TestRules()
        self.transport = ServerTransport()
        self.peers: list[Peer] = []
        self.factory = SMTPServerFactory(
            "mx",
            self.clock,
            self.journal,
            Admission(lambda: (bounds.get("total", 10), bounds.get("per_network", 10))),
            lambda: ServerSession("mx.example.test", Offer(starttls=True), limits or Limits()),
            lambda: "session1",
            self.open,
            NoTls(),
            implicit_tls,
        )
        self.protocol: Any = self.connect(self.transport)

    def open(self, peer: Peer, session: ServerSession) -> TestRules:
        """Make the rules."""
        self.peers.append(peer)
        return self.rules

    def connect(self, transport: ServerTransport, address: str = "192.0.2.7") -> Any:
        """Make a connection."""
        made = self.factory.buildProtocol(IPv4Address("TCP", address, 4321))
        made.makeConnection(transport)
        return made

    def send(self, octets: bytes) -> bytes:
        """Bring octets; return what is written at once."""
        self.protocol.dataReceived(octets)
        return self.transport.take()

    def lose(self, error: Exception | None = None) -> None:
        """End the connection from outside."""
        self.protocol.connectionLost(Failure(error or ConnectionDone()))


def greeted(**arguments: Any) -> Server:
    """Make a server whose session has said EHLO."""
    server = Server(**arguments)
    server.send(b"EHLO client.example.org\r\n")
    server.rules.events.clear()
    server.transport.writes.clear()
    return server


def test_the_greeting_is_written_when_the_connection_is_made() -> None:
    """A new connection gets 220 at once, without Nagle's delay."""
    server = Server()
    assert server.transport.take() == GREETING
    assert server.transport.calls == ["nodelay"]
    assert server.peers[0].literal == "[192.0.2.7]"


def test_a_burst_of_commands_gets_one_write() -> None:
    """A whole pipelined transaction is answered in order with a single write (RFC 2920 §3.2)."""
    server = greeted()
    assert codes(server.send(MESSAGE)) == ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
    assert len(server.transport.writes) == 1


def test_a_slow_rule_keeps_the_order_of_pipelined_commands() -> None:
    """While RCPT waits for its answer nothing behind it is looked at; then everything follows in order (law 4)."""
    server = greeted()
    slow = server.rules.later[Rcpt] = defer.Deferred()
    assert codes(server.send(MESSAGE + b"NOOP\r\n")) == ["250 2.1.0"]
    assert [type(event) for event in server.rules.events] == [Mail, Rcpt]
    slow.callback(reply(250, status.RECIPIENT_OK, "finally"))
    assert codes(server.transport.take()) == ["250 2.1.5", "354", "250 2.0.0", "250 2.0.0"]


def test_a_rule_that_fails_is_answered_451_with_one_traceback() -> None:
    """An exception of ours becomes 451 4.3.0 and one fault event; the session goes on (law 2)."""
    server = greeted()
    server.rules.broken[Mail] = ZeroDivisionError("ours")
    assert codes(server.send(b"MAIL FROM:<a@example.org>\r\n")) == ["451 4.3.0"]
    assert [event.fields["where"] for event in server.journal.of(Kind.FAULT)] == ["mx session"]
    assert codes(server.send(b"NOOP\r\n")) == ["250 2.0.0"]


def test_a_rule_that_fails_later_is_answered_451() -> None:
    """A Deferred that fails becomes 451 4.3.0 and one fault event."""
    server = greeted()
    slow = server.rules.later[EndOfData] = defer.Deferred()
    assert codes(server.send(MESSAGE))[-1] == "354"
    slow.errback(Failure(KeyError("ours")))
    assert codes(server.transport.take()) == ["451 4.3.0"]
    assert len(server.journal.of(Kind.FAULT)) == 1


def test_a_fault_in_content_is_answered_at_the_true_end_of_the_data() -> None:
    """When a rule fails on content the data phase is not left: 451 comes after the final dot, once (law 3)."""
    server = greeted()
    server.rules.broken[Content] = MemoryError("ours")
    assert (
        codes(server.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nfirst\r\n"))[-1] == "354"
    )
    assert server.send(b"RSET\r\nmore\r\n") == b""
    assert codes(server.send(b".\r\nNOOP\r\n")) == ["451 4.3.0", "250 2.0.0"]


def test_an_answer_that_takes_too_long_becomes_451() -> None:
    """A commit that hangs is answered with 451, well within ten minutes; what comes later is unheard."""
    server = greeted()
    slow = server.rules.later[EndOfData] = defer.Deferred()
    server.send(MESSAGE)
    server.clock.advance(239)
    assert server.transport.take() == b""
    server.clock.advance(1)
    assert codes(server.transport.take()) == ["451 4.3.0"]
    slow.callback(reply(250, status.OK, "too late"))
    assert server.transport.take() == b""
    assert codes(server.send(b"NOOP\r\n")) == ["250 2.0.0"]


def test_an_idle_session_is_closed_with_421() -> None:
    """After five minutes without a command the session ends with 421 4.4.2 (RFC 5321 §4.5.3.2.7)."""
    server = greeted()
    server.clock.advance(299)
    server.send(b"NOOP\r\n")
    server.clock.advance(299)
    assert server.transport.take() == b""
    server.clock.advance(1)
    assert codes(server.transport.take()) == ["421 4.4.2"]
    assert server.transport.calls[-1] == "lose"


def test_a_data_phase_that_drips_is_closed_at_its_own_bound() -> None:
    """A client that sends an octet a minute keeps no session for longer than `data_seconds`."""
    server = greeted(limits=Limits(data_seconds=600))
    server.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n")
    for _ in range(9):
        server.clock.advance(60)
        assert server.send(b"x") == b""
    server.clock.advance(60)
    assert codes(server.transport.take()) == ["421 4.4.2"]


def test_the_bound_of_the_data_phase_ends_with_it() -> None:
    """After a message the session has its whole idle time again."""
    server = greeted(limits=Limits(data_seconds=100))
    server.send(MESSAGE)
    server.clock.advance(299)
    assert codes(server.send(b"NOOP\r\n")) == ["250 2.0.0"]


def test_reading_stops_while_the_rules_think_and_much_input_waits() -> None:
    """A client that sends on while its command waits is read no further than 16 KiB ahead; then all is answered."""
    server = greeted()
    slow = server.rules.later[Mail] = defer.Deferred()
    server.send(b"MAIL FROM:<a@example.org>\r\n")
    server.send(b"NOOP\r\n" * 2000)
    assert not server.transport.paused
    server.send(b"NOOP\r\n" * 2000)
    assert server.transport.paused
    slow.callback(reply(250, status.SENDER_OK, "ok"))
    assert not server.transport.paused


def test_a_peer_that_does_not_read_is_not_answered_further() -> None:
    """While the peer leaves its replies unread no more commands are worked on; when it reads, they are (row 46)."""
    server = greeted()
    server.protocol.pauseProducing()
    assert server.send(b"NOOP\r\n" * 3) == b""
    assert server.transport.paused
    server.protocol.resumeProducing()
    assert codes(server.transport.take()) == ["250 2.0.0"] * 3
    assert not server.transport.paused


def test_a_peer_that_never_reads_is_cut_off() -> None:
    """Replies that nobody takes for five minutes end in an aborted connection."""
    server = greeted()
    server.protocol.pauseProducing()
    server.clock.advance(300)
    assert server.transport.calls[-1] == "abort"


def test_starttls_replies_in_clear_text_then_begins_anew() -> None:
    """220 is written before the handshake; what came behind STARTTLS in clear text is dropped (law 5, row 12)."""
    server = greeted()
    output = server.send(b"STARTTLS\r\nNOOP\r\nMAIL FROM:<attacker@example.org>\r\n")
    assert codes(output) == ["220 2.0.0"]
    assert server.transport.calls[-1] == "starttls"
    server.protocol.handshakeCompleted()
    assert server.transport.take() == b""
    assert server.rules.told == [("secured", TLS)]
    assert server.peers[0].tls == TLS
    assert codes(server.send(b"MAIL FROM:<a@example.org>\r\n")) == ["503 5.5.1"]
    assert [type(event) for event in server.rules.events] == [StartTLS, Refused]


def test_a_handshake_has_a_deadline() -> None:
    """A peer that says STARTTLS and then nothing is aborted after a minute, and the rules learn why."""
    server = greeted()
    server.send(b"STARTTLS\r\n")
    server.clock.advance(59)
    assert "abort" not in server.transport.calls
    server.clock.advance(1)
    assert server.transport.calls[-1] == "abort"
    server.lose(ConnectionLost())
    assert [word for word, _ in server.rules.told] == ["secured", "lost"]


def test_implicit_tls_greets_after_the_handshake() -> None:
    """On the implicit TLS port nothing is said before the handshake ended (RFC 8314 §3)."""
    server = Server(implicit_tls=True)
    assert server.transport.take() == b""
    assert server.transport.calls == ["nodelay", "starttls"]
    server.protocol.handshakeCompleted()
    assert server.transport.take() == GREETING
    assert b"STARTTLS" not in server.send(b"EHLO x\r\n")


def test_quit_closes_after_its_reply() -> None:
    """221 is written, then the connection is closed; what follows is ignored."""
    server = greeted()
    assert codes(server.send(b"QUIT\r\nNOOP\r\n")) == ["221 2.0.0"]
    assert server.transport.calls[-1] == "lose"
    assert server.send(b"NOOP\r\n") == b""


def test_a_half_close_lets_arrived_commands_be_answered() -> None:
    """A peer that shuts its sending side down still gets the replies to what it sent (row 75)."""
    server = greeted()
    slow = server.rules.later[EndOfData] = defer.Deferred()
    server.send(MESSAGE)
    server.protocol.readConnectionLost()
    assert server.transport.take() == b""
    slow.callback(reply(250, status.OK, "queued"))
    assert codes(server.transport.take()) == ["250 2.0.0"]
    assert server.transport.calls[-1] == "lose"


def test_a_lost_connection_is_told_to_the_rules_and_forgotten() -> None:
    """The rules hear the reason once, no timer stays, and an answer that comes later does nothing."""
    server = greeted()
    slow = server.rules.later[Mail] = defer.Deferred()
    server.send(b"MAIL FROM:<a@example.org>\r\n")
    server.lose()
    assert server.rules.told == [("lost", "the connection was closed")]
    assert server.clock.getDelayedCalls() == []
    slow.errback(Failure(ValueError("ours")))
    assert len(server.journal.of(Kind.FAULT)) == 1
    assert server.transport.take() == b""


def test_stop_says_421_to_the_idle_and_waits_for_the_busy() -> None:
    """A stop ends idle sessions with 421 4.3.2; one whose message is being committed gets its reply first (row 84)."""
    server = greeted()
    slow = server.rules.later[EndOfData] = defer.Deferred()
    server.send(MESSAGE)
    stopped = server.factory.stop()
    assert server.transport.take() == b""
    slow.callback(reply(250, status.OK, "queued"))
    assert codes(server.transport.take()) == ["250 2.0.0", "421 4.3.2"]
    assert not stopped.called
    server.lose()
    result(stopped)


def test_stop_in_the_middle_of_data_lets_the_message_end() -> None:
    """A message on its way when the stop comes is taken to its end."""
    server = greeted()
    server.send(MESSAGE[:-10])
    server.factory.stop()
    assert server.transport.take() == b""
    assert codes(server.send(MESSAGE[-10:])) == ["250 2.0.0", "421 4.3.2"]


def test_too_many_connections_get_421() -> None:
    """One more than the network's bound is told 421 4.7.0, noted, and not counted; when one leaves there is room."""
    server = Server(per_network=1)
    turned = ServerTransport()
    server.connect(turned, "192.0.2.200")
    assert codes(turned.take()) == ["421 4.7.0"]
    assert turned.calls == ["lose"]
    assert len(server.journal.of(Kind.SESSION_REFUSED)) == 1
    server.lose()
    again = ServerTransport()
    server.connect(again, "192.0.2.200")
    assert again.take() == GREETING


def test_the_total_bound_holds_over_networks() -> None:
    """The bound on all connections counts those of every network."""
    server = Server(total=1)
    turned = ServerTransport()
    server.connect(turned, "198.51.100.1")
    assert codes(turned.take()) == ["421 4.7.0"]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.9", "192.0.2"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_networks_are_24_bits_of_ipv4_and_64_of_ipv6(address: str, network: str) -> None:
    """Peers count together by /24 or /64; a mapped IPv4 address is an IPv4 address."""
    assert network_of(address) == network

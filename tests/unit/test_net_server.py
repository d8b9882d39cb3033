"""The protocol between a transport, a session and its rules: order, deadlines, back-pressure, TLS, the end."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import defer, task
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from mta.board.alone import Alone
from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.net.admission import Admission, Bounds
from mta.net.peer import Peer, network_of
from mta.net.rules import Answer
from mta.net.server import SMTPServerFactory
from mta.observe.event import Kind
from mta.smtp import status
from mta.smtp.event import (
    Content,
    Data,
    DataRefused,
    EndOfData,
    Event,
    Mail,
    Quit,
    Rcpt,
    Refused,
    Reset,
    StartTLS,
)
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.reply import Reply, reply
from mta.smtp.server import ServerSession
from tests.doubles.dialogue import accept, codes
from tests.doubles.journal import RecordingJournal
from tests.doubles.sync import result
from tests.doubles.transport import ServerTransport, SocketTransport

TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
GREETING = b"220 mx.example.test ESMTP\r\n"
MESSAGE = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nSubject: x\r\n\r\ny\r\n.\r\n"


class TestRules:
    """Accepts everything at once; what `later` and `fired` name gets a Deferred, what `broken` names fails."""

    __test__ = False

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.later: dict[type[Event], defer.Deferred[Reply]] = {}
        self.fired: dict[type[Event], Reply] = {}
        self.broken: dict[type[Event], Exception] = {}
        self.told: list[tuple[str, Any]] = []
        self.login = ""

    def answer(self, event: Event) -> Answer:
        """Answer as told."""
        self.events.append(event)
        if type(event) in self.broken:
            raise self.broken[type(event)]
        if type(event) in self.fired:
            return defer.succeed(self.fired[type(event)])
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
            Admission(
                lambda service: Bounds(bounds.get("total", 10), bounds.get(service, 10), bounds.get("per_network", 10)),
                Alone(),
            ),
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


def broken_open(peer: Peer, session: ServerSession) -> TestRules:
    """Fail to make rules."""
    raise ZeroDivisionError("ours")


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


@pytest.mark.parametrize(
    ("event", "octets", "answered"),
    [
        (Refused, b"NONSENSE\r\n", ["500 5.5.2"]),
        (Reset, b"MAIL FROM:<a@example.org>\r\nRSET\r\n", ["250 2.1.0", "250 2.0.0"]),
        (Quit, b"QUIT\r\n", ["221 2.0.0"]),
        (
            DataRefused,
            MESSAGE.replace(b"y\r\n", b"y\n\r\n"),
            ["250 2.1.0", "250 2.1.5", "354", "550 5.6.11"],
        ),
    ],
)
def test_a_fault_about_what_owes_no_reply_is_noted_only(event: type[Event], octets: bytes, answered: list[str]) -> None:
    """When a rule fails on what the session has answered itself nothing is said twice; there is one fault event."""
    server = greeted()
    server.rules.broken[event] = ZeroDivisionError("ours")
    assert codes(server.send(octets)) == answered
    assert len(server.journal.of(Kind.FAULT)) == 1


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


def test_octets_that_make_no_command_move_no_deadline() -> None:
    """The five minutes for a command count from the last reply: one octet of it each minute gains nothing."""
    server = greeted()
    for _ in range(4):
        server.clock.advance(60)
        assert server.send(b"N") == b""
    server.clock.advance(60)
    assert codes(server.transport.take()) == ["421 4.4.2"]


def test_the_wait_for_a_command_begins_with_the_last_reply() -> None:
    """A slow answer of the rules costs the client nothing of its five minutes."""
    server = greeted()
    slow = server.rules.later[Mail] = defer.Deferred()
    server.send(b"MAIL FROM:<a@example.org>\r\n")
    server.clock.advance(200)
    slow.callback(reply(250, status.SENDER_OK, "ok"))
    server.transport.take()
    server.clock.advance(299)
    assert server.transport.take() == b""
    server.clock.advance(1)
    assert codes(server.transport.take()) == ["421 4.4.2"]


def test_who_has_read_its_replies_has_its_time_for_a_command() -> None:
    """The time in which a peer took what was written is no part of the time that it has for the next command."""
    server = greeted()
    server.protocol.pauseProducing()
    server.clock.advance(200)
    server.protocol.resumeProducing()
    server.clock.advance(299)
    assert server.transport.take() == b""
    server.clock.advance(1)
    assert codes(server.transport.take()) == ["421 4.4.2"]


def test_a_session_that_brings_no_mail_ends() -> None:
    """NOOP every four minutes keeps a session for `idle_seconds` from the last accepted message, and no longer."""
    server = greeted(limits=Limits(idle_seconds=600))
    server.clock.advance(240)
    server.send(MESSAGE)
    for _ in range(2):
        server.clock.advance(240)
        assert codes(server.send(b"NOOP\r\n")) == ["250 2.0.0"]
    server.clock.advance(119)
    assert server.transport.take() == b""
    server.clock.advance(1)
    assert codes(server.transport.take()) == ["421 4.4.2"]


def test_a_refused_message_is_no_mail() -> None:
    """Only an accepted message begins the time without one anew."""
    server = greeted(limits=Limits(idle_seconds=400))
    server.clock.advance(200)
    server.rules.later[EndOfData] = defer.succeed(reply(550, status.REFUSED, "no"))
    assert codes(server.send(MESSAGE))[-1] == "550 5.7.1"
    server.clock.advance(200)
    assert codes(server.transport.take()) == ["421 4.4.2"]


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


def test_the_bound_of_the_data_phase_ends_with_a_refused_message() -> None:
    """A message that the session refuses (a bare LF) ends the bound of its data phase too."""
    server = greeted(limits=Limits(data_seconds=100))
    assert codes(server.send(MESSAGE.replace(b"y\r\n", b"y\n\r\n")))[-1] == "550 5.6.11"
    server.clock.advance(299)
    assert server.transport.take() == b""
    assert codes(server.send(b"NOOP\r\n")) == ["250 2.0.0"]


def test_a_data_phase_whose_start_took_time_has_its_bound() -> None:
    """The bound of the data phase holds too where the 354 came late."""
    server = greeted(limits=Limits(data_seconds=100))
    server.clock.advance(70)
    slow = server.rules.later[Data] = defer.Deferred()
    server.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n")
    slow.callback(reply(354, None, "go on"))
    server.clock.advance(60)
    server.send(b"x")
    server.transport.take()
    server.clock.advance(40)
    assert codes(server.transport.take()) == ["421 4.4.2"]


def test_answers_that_are_there_at_once_do_not_pile_up() -> None:
    """Hundreds of pipelined messages whose answers have fired already are answered in a loop, not in each other."""
    server = greeted()
    for each in (Mail, Rcpt, EndOfData):
        server.rules.fired[each] = reply(250, status.OK, "ok")
    assert server.send(MESSAGE * 400).count(b"\r\n") == 1600


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


def test_the_wait_for_a_command_begins_anew_after_a_handshake() -> None:
    """Who has done its handshake has the whole five minutes for its EHLO."""
    server = greeted()
    server.send(b"STARTTLS\r\n")
    server.clock.advance(30)
    server.protocol.handshakeCompleted()
    server.transport.take()
    server.clock.advance(299)
    assert "abort" not in server.transport.calls
    assert server.transport.take() == b""
    server.clock.advance(1)
    assert codes(server.transport.take()) == ["421 4.4.2"]


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


def test_the_sessions_of_a_login_are_ended() -> None:
    """The idle one gets 421 4.7.13, also in a transaction; who is not that login goes on."""
    server = greeted()
    server.rules.login = "alice@example.test"
    server.send(b"MAIL FROM:<a@example.org>\r\n")
    assert server.factory.end("bob@example.test") == 0
    assert server.transport.take() == b""
    assert server.factory.end("alice@example.test") == 1
    assert codes(server.transport.take()) == ["421 4.7.13"]
    assert "lose" in server.transport.calls


def test_a_message_of_a_login_that_is_ended_is_read_and_refused() -> None:
    """Content on its way is read to its true end (law 3), refused there, and the session ends."""
    server = greeted()
    server.rules.login = "alice@example.test"
    server.send(MESSAGE[:-10])
    assert server.factory.end("alice@example.test") == 1
    assert server.transport.take() == b""
    assert codes(server.send(MESSAGE[-10:])) == ["550 5.7.13", "421 4.7.13"]
    assert DataRefused in [type(event) for event in server.rules.events]
    assert "lose" in server.transport.calls


def test_a_message_that_is_committed_when_its_login_is_ended_gets_its_reply() -> None:
    """What is ours by then is acknowledged, then the session ends."""
    server = greeted()
    server.rules.login = "alice@example.test"
    slow = server.rules.later[EndOfData] = defer.Deferred()
    server.send(MESSAGE)
    server.factory.end("alice@example.test")
    slow.callback(reply(250, status.OK, "queued"))
    assert codes(server.transport.take()) == ["250 2.0.0", "421 4.7.13"]


@pytest.mark.parametrize("what", ["stopped", "resumed", "half-closed"])
def test_nothing_is_said_before_an_implicit_handshake_has_ended(what: str) -> None:
    """While the handshake of port 465 is under way neither a stop nor the transport makes the session speak (law 5)."""
    server = Server(implicit_tls=True)
    if what == "stopped":
        server.factory.stop()
    elif what == "resumed":
        server.protocol.resumeProducing()
    else:
        server.protocol.readConnectionLost()
    assert server.transport.take() == b""
    assert server.rules.events == []
    server.protocol.handshakeCompleted()
    assert server.transport.take().startswith(GREETING)
    assert (server.transport.calls[-1] == "lose") == (what != "resumed")


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


def test_a_share_of_the_connections_is_kept_for_smtpd() -> None:
    """When mx has all connections that it may have, more are told 421 there, and smtpd has room still."""
    admission = Admission(lambda service: Bounds(3, 2 if service == "mx" else 3, 10), Alone())
    assert [admission.enter("mx", "192.0.2.1") for _ in range(2)] == [None, None]
    refused = admission.enter("mx", "192.0.2.1")
    assert refused is not None
    assert refused.source == "[connections] smtpd_share"
    assert admission.enter("smtpd", "192.0.2.1") is None
    admission.leave("smtpd", "192.0.2.1")
    admission.leave("mx", "192.0.2.1")
    assert admission.enter("mx", "192.0.2.1") is None


def test_too_many_on_the_implicit_tls_port_are_closed_without_a_word() -> None:
    """Clear text on port 465 would be taken for a part of a handshake: a turned connection is just closed."""
    server = Server(implicit_tls=True, total=1)
    turned = ServerTransport()
    server.connect(turned)
    assert turned.take() == b""
    assert turned.calls == ["lose"]


def test_a_session_that_cannot_be_made_is_not_counted() -> None:
    """When our rules cannot be made the peer hears 421 4.3.0, the fault is noted, and its place is free again."""
    server = Server(total=2)
    turned, again = ServerTransport(), ServerTransport()
    works, server.factory.open = server.factory.open, broken_open
    server.connect(turned)
    server.factory.open = works
    server.connect(again)
    assert codes(turned.take()) == ["421 4.3.0"]
    assert len(server.journal.of(Kind.FAULT)) == 1
    assert again.take() == GREETING


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


def test_replies_go_straight_to_the_socket() -> None:
    """In clear text a reply is written without a turn of the reactor."""
    server, transport = Server(), SocketTransport()
    protocol = server.connect(transport)
    protocol.dataReceived(b"EHLO client.example.org\r\nNOOP\r\n")
    assert codes(transport.direct)[-2:] == ["250", "250 2.0.0"]
    assert transport.writes == []


def test_a_socket_that_is_full_keeps_the_order() -> None:
    """What the socket does not take goes by the buffer, and everything after it too, in order and once."""
    for space in range(60):
        server, transport = Server(), SocketTransport(space)
        protocol = server.connect(transport)
        for _ in range(3):
            protocol.dataReceived(b"NOOP\r\n")
            transport.space = 1 << 20  # the buffer is not empty yet
        assert transport.direct + b"".join(transport.writes) == GREETING + b"250 2.0.0 OK\r\n" * 3, space


def test_a_socket_that_is_gone_is_the_transports_affair() -> None:
    """A write that finds the connection lost goes by the transport, which tells of it."""
    server, transport = Server(), SocketTransport()
    transport.gone = True
    server.connect(transport)
    assert transport.writes == [GREETING]


def test_nothing_goes_past_tls() -> None:
    """After STARTTLS nothing is written to the socket itself any more."""
    server, transport = Server(), SocketTransport()
    protocol = server.connect(transport)
    protocol.dataReceived(b"EHLO client.example.org\r\nSTARTTLS\r\n")
    before = transport.direct
    protocol.handshakeCompleted()
    protocol.dataReceived(b"NOOP\r\n")
    assert transport.direct == before
    assert codes(b"".join(transport.writes)) == ["250 2.0.0"]

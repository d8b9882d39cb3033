"""The connection that drives a client's session: octets, deadlines, TLS."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer, error, task

from mta.mail.route import Host, TlsLevel
from mta.mail.tlsinfo import TlsInfo
from mta.net.client import Connection, connect
from mta.settings.sections import RelayDeadlines
from mta.smtp import client
from mta.smtp.address import Mailbox
from mta.smtp.client import Fault, Stage
from mta.smtp.exchange import Opening, StartTls, Transaction
from mta.smtp.reply_reader import ServerReply
from mta.smtp.status import (
    BAD_CONNECTION,
    BARE_LINE_END,
    NO_ANSWER,
    NOT_ACCEPTING,
    PROTOCOL,
    SYSTEM_FAULT,
    TLS_FAILURE,
)
from mta.smtp.writer import Stuffed
from mta.tls.context import ClientContexts
from tests.doubles.network import CLOSE, SILENCE, BrokenContext, Network, ServerContext, SmtpPeer
from tests.doubles.sync import result

HOST = "192.0.2.1"
CONTENT = b"Subject: x\r\n\r\n.dot\r\n"
DEADLINES = RelayDeadlines()


class Line:
    """One connection to one scripted server."""

    def __init__(self, peer: SmtpPeer, pipelining: bool = True) -> None:
        self.clock = task.Clock()
        self.network = Network()
        self.network.listen(HOST, lambda: peer)
        self.peer = peer
        made = self.network.run(connect(self.network.endpoint(HOST, 25), self.clock, DEADLINES, pipelining))
        assert isinstance(made, Connection)
        self.connection = made
        self.wire = self.network.wires[0]

    def open(self) -> Any:
        """Greeting and EHLO."""
        return self.network.run(self.connection.run(Opening("us.example")))

    def begin(self, content: bytes = CONTENT, chunk: int = 65536) -> defer.Deferred[Any]:
        """Start a transaction for two recipients."""
        rcpts = [client.rcpt(Mailbox(name, "example.net")) for name in ("alice", "bob")]
        waiting = self.connection.run(Transaction(client.mail(None), rcpts, Stuffed(content, chunk)))
        self.network.move()
        return waiting

    def expect_deadline(self, waiting: defer.Deferred[Any], seconds: float) -> Any:
        """See that nothing happens until just before this deadline, and that it ends then."""
        self.clock.advance(seconds - 0.5)
        self.network.move()
        assert not waiting.called
        self.clock.advance(1)
        assert self.wire.calls == ["abort"]
        self.network.move()
        assert self.clock.getDelayedCalls() == []
        return result(waiting)


def test_a_message() -> None:
    """Greeting, EHLO, one burst up to DATA, one write of the content; no delayed call is left at the end."""
    line = Line(SmtpPeer())
    assert line.wire.nodelay
    reply = line.open()
    assert isinstance(reply, ServerReply)
    assert reply.positive
    results = result(line.begin())
    assert [each.taken for each in results] == [True, True]
    assert line.wire.writes == [
        b"EHLO us.example\r\n",
        b"MAIL FROM:<>\r\nRCPT TO:<alice@example.net>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n",
        b"Subject: x\r\n\r\n..dot\r\n.\r\n",
    ]
    assert line.peer.messages == [b"Subject: x\r\n\r\n..dot\r\n"]
    reply = line.network.run(line.connection.quit())
    assert reply == ServerReply(221, (b"bye",))
    assert line.peer.lost
    assert line.wire.calls == ["lose"]
    assert line.clock.getDelayedCalls() == []


def test_lock_step() -> None:
    """With `pipelining` off, a server that offers it is spoken to in lock-step."""
    line = Line(SmtpPeer(), pipelining=False)
    line.open()
    result(line.begin())
    assert [burst.count(b"\r\n") for burst in line.peer.bursts[:5]] == [1] * 5


def test_a_greeting_before_anybody_asks() -> None:
    """A greeting that is here before the opening runs is not lost."""
    line = Line(SmtpPeer())
    line.network.move()
    assert line.wire.writes == []
    assert line.open().positive


# Connecting


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (error.ConnectionRefusedError("refused"), "refused"),
        (error.NoRouteError(), "No route to host"),
        (OSError("no more files"), "no more files"),
    ],
)
def test_no_connection(refusal: Exception, text: str) -> None:
    """A connection that cannot be made is a value, 4.4.1."""
    network = Network()
    network.listen(HOST, refusal)
    fault = network.run(connect(network.endpoint(HOST, 25), task.Clock(), DEADLINES))
    assert isinstance(fault, Fault)
    assert fault.status == NO_ANSWER
    assert not fault.local
    assert text in fault.text


@pytest.mark.parametrize("number", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL", "EPERM", "EACCES"])
@pytest.mark.parametrize("kind", [error.ConnectError, error.ConnectBindError, OSError])
def test_a_fault_of_ours_in_connecting_is_local(number: str, kind: type[Exception]) -> None:
    """What is short on our side, or forbidden by it, is no answer of the host: 4.3.0, and the fault says it is ours."""
    network, clock = Network(), task.Clock()
    network.listen(HOST, kind(getattr(errno, number), "injected"))
    fault = network.run(connect(network.endpoint(HOST, 25), clock, DEADLINES))
    assert fault == Fault(fault.text, SYSTEM_FAULT, Stage.GREETING, grouped=False, local=True)
    assert "injected" in fault.text
    assert clock.getDelayedCalls() == []


def test_a_refusal_to_connect_is_told_in_the_words_of_the_kernel() -> None:
    """Twisted's words and the number before them are not repeated."""
    network = Network()
    network.listen(HOST, error.getConnectError((errno.ECONNREFUSED, "Connection refused")))
    fault = network.run(connect(network.endpoint(HOST, 25), task.Clock(), DEADLINES))
    assert fault.text == "Connection refused"


@pytest.mark.parametrize(("number", "local"), [(errno.EACCES, False), (errno.EPERM, True)])
def test_an_icmpv6_prohibition_is_not_ours(number: int, local: bool) -> None:
    """With IPv6, EACCES may be what a router on the other side said; it counts as no answer."""
    network = Network()
    network.listen(HOST, error.ConnectError(number, "injected"))
    fault = network.run(connect(network.endpoint(HOST, 25), task.Clock(), DEADLINES, ipv6=True))
    assert fault.local is local


def silent(network: Network, cancelled: type[Exception] | None) -> None:
    """An address that does not answer; `cancelled` is what its endpoint raises when it is told to give up."""
    network.listen(HOST, None)
    if cancelled is not None:
        network.connect = lambda *_: defer.Deferred(  # type: ignore[method-assign]  # another end for this one
            lambda connecting: connecting.errback(cancelled("x"))
        )


@pytest.mark.parametrize("cancelled", [None, error.ConnectingCancelledError])
def test_connecting_is_given_up(cancelled: type[Exception] | None) -> None:
    """Cancelling ends the attempt, as Twisted's endpoints tell it and as plain Deferreds do: a local fault, 4.3.2."""
    network, clock = Network(), task.Clock()
    silent(network, cancelled)
    waiting = defer.ensureDeferred(connect(network.endpoint(HOST, 25), clock, DEADLINES))
    waiting.cancel()
    fault = result(waiting)
    assert fault == Fault("we are stopping", NOT_ACCEPTING, Stage.GREETING, grouped=False, local=True)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("cancelled", [None, error.ConnectingCancelledError])
def test_connection_deadline(cancelled: type[Exception] | None) -> None:
    """An address that does not answer is given up after 30 s."""
    network, clock = Network(), task.Clock()
    silent(network, cancelled)
    waiting = defer.ensureDeferred(connect(network.endpoint(HOST, 25), clock, DEADLINES))
    clock.advance(29.5)
    assert not waiting.called
    clock.advance(1)
    assert result(waiting).text == "no connection within 30 s"
    assert clock.getDelayedCalls() == []


def test_a_bug_while_connecting_is_no_fault_of_the_peer() -> None:
    """What is not known as a connection's failure is raised."""
    network = Network()
    network.listen(HOST, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        network.run(connect(network.endpoint(HOST, 25), task.Clock(), DEADLINES))


# Deadlines (RFC 5321 §4.5.3.2)


def test_greeting_deadline() -> None:
    """Row 71: no banner for five minutes."""
    line = Line(SmtpPeer(script={"greeting": SILENCE}))
    waiting = line.connection.run(Opening("us.example"))
    fault = line.expect_deadline(waiting, 300)
    assert fault == Fault("no answer in time", NO_ANSWER, Stage.GREETING, grouped=False)


@pytest.mark.parametrize(
    ("silent", "stage", "seconds", "unknown"),
    [
        ("MAIL", Stage.MAIL, 300, False),
        ("RCPT", Stage.RCPT, 300, False),
        ("DATA", Stage.DATA, 120, False),
        ("content", Stage.CONTENT, 600, True),
    ],
)
@pytest.mark.parametrize("pipelining", [True, False])
def test_command_deadlines(silent: str, stage: Stage, seconds: float, unknown: bool, pipelining: bool) -> None:
    """Each command has its own deadline, also in a group; after the final dot the outcome is unknown."""
    line = Line(SmtpPeer(script={silent: SILENCE}), pipelining)
    line.open()
    if silent in ("MAIL", "RCPT") and pipelining:
        line.peer._script |= {"MAIL": line.peer._script.get("MAIL", b"250 ok\r\n"), "RCPT": SILENCE, "DATA": SILENCE}
    results = line.expect_deadline(line.begin(), seconds)
    assert [(each.stage, each.unknown) for each in results] == [(stage, unknown)] * 2
    assert results[0].answer.status == NO_ANSWER


def test_drip_feeding_moves_no_deadline() -> None:
    """Row 71: an octet a minute, even lines of an unfinished reply, buy a server no time."""
    line = Line(SmtpPeer(script={"EHLO": SILENCE}))
    waiting = line.connection.run(Opening("us.example"))
    line.network.move()
    for minute in range(4):
        line.clock.advance(60)
        line.wire.protocol.dataReceived(b"250-%d\r\n" % minute + b"2")
        line.wire.protocol.dataReceived(b"50-x\r\n")
    assert not waiting.called
    line.clock.advance(60)
    assert result(waiting).status == NO_ANSWER
    line.network.move()
    assert line.clock.getDelayedCalls() == []


def test_each_reply_starts_the_next_deadline() -> None:
    """A server that takes four minutes for each answer of a group is patient, not dead."""
    line = Line(SmtpPeer(script={"MAIL": SILENCE, "RCPT": SILENCE, "DATA": SILENCE}))
    line.open()
    waiting = line.begin()
    for _ in range(3):
        line.clock.advance(240)
        line.wire.protocol.dataReceived(b"250 ok\r\n")
    line.clock.advance(100)
    assert not waiting.called
    line.clock.advance(30)
    assert {each.stage for each in result(waiting)} == {Stage.DATA}


def test_quit_deadline() -> None:
    """A server that does not answer QUIT is left after five seconds."""
    line = Line(SmtpPeer(script={"QUIT": SILENCE}))
    line.open()
    waiting = line.connection.quit()
    line.clock.advance(5)
    assert result(waiting).status == NO_ANSWER
    assert line.wire.calls == ["abort"]


# Faults of the server


def test_a_huge_reply() -> None:
    """Row 71: a reply of endless lines ends the session; what comes after it is not kept."""
    line = Line(SmtpPeer(script={"EHLO": b"250-x\r\n" * 100_000}))
    fault = line.open()
    assert fault.status == PROTOCOL.transient()
    assert "too many lines" in fault.text
    assert line.peer.lost


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "content"])
@pytest.mark.parametrize("answer", [CLOSE, b"421 4.3.2 going down\r\n"])
def test_the_end_at_any_stage(stage: str, answer: bytes) -> None:
    """Row 71: 421 or a closed connection at any stage is a value; both sides close, nothing is left waiting."""
    line = Line(SmtpPeer(script={stage: answer}))
    ended = line.open()
    if stage not in ("greeting", "EHLO"):
        ended = result(line.begin())[1].answer
    line.network.move()
    assert not line.connection.usable
    assert line.peer.lost
    assert line.clock.getDelayedCalls() == []
    if answer == CLOSE:
        assert ended.status == BAD_CONNECTION
        assert ended.text.startswith("connection lost: ")
    else:
        assert ended == ServerReply(421, (b"4.3.2 going down",))
        assert line.wire.calls == ["lose"]


def test_an_exchange_on_a_dead_connection() -> None:
    """An exchange on a connection that has ended is over at once, with a fault."""
    line = Line(SmtpPeer(script={"EHLO": b"421 bye\r\n"}))
    line.open()
    assert line.open().status == BAD_CONNECTION
    assert line.network.run(line.connection.start_tls(ClientContexts().context(Host("x", ())), TlsInfo)) is (
        line.connection.session.fault
    )


def test_abort() -> None:
    """Abort ends what runs, and closes at once."""
    line = Line(SmtpPeer(script={"MAIL": SILENCE, "RCPT": SILENCE, "DATA": SILENCE}))
    line.open()
    waiting = line.begin()
    line.connection.abort()
    answer = result(waiting)[0].answer
    assert answer.text == "we are stopping"
    assert answer.status == NOT_ACCEPTING
    assert answer.local
    line.network.move()
    assert line.peer.lost
    line.connection.abort()


def test_cancelling_an_exchange_aborts() -> None:
    """An exchange that is cancelled ends its connection, and fires with its result; so does a handshake."""
    line = Line(SmtpPeer(script={"MAIL": b"550 no\r\n", "RCPT": SILENCE, "DATA": SILENCE}))
    line.open()
    waiting = line.begin()
    waiting.cancel()
    assert [each.answer.code for each in result(waiting)] == [550, 550]
    assert line.wire.calls == ["abort"]
    line = Line(SmtpPeer(offers=["STARTTLS"]))
    line.open()
    assert line.network.run(line.connection.run(StartTls())).positive
    contexts = ClientContexts()
    handshake = line.connection.start_tls(contexts.context(Host("mx.example.net", (HOST,))), contexts.describe)
    handshake.cancel()
    assert result(handshake).local
    assert line.wire.calls == ["starttls", "abort"]


# Resting


def test_rest() -> None:
    """A connection at rest says QUIT when its time is over, and tells so once."""
    line = Line(SmtpPeer())
    line.open()
    gone: list[None] = []
    line.connection.rest(5, lambda: gone.append(None))
    line.clock.advance(4)
    assert gone == []
    line.clock.advance(1)
    assert gone == [None]
    line.network.move()
    assert line.peer.commands == ["EHLO us.example", "QUIT"]
    assert line.peer.lost
    assert gone == [None]
    assert line.clock.getDelayedCalls() == []


def test_rest_is_over_with_the_next_exchange() -> None:
    """A connection that is used again does not leave at the end of its rest."""
    line = Line(SmtpPeer())
    line.open()
    gone: list[None] = []
    line.connection.rest(5, lambda: gone.append(None))
    assert result(line.begin())[0].taken
    line.clock.advance(6)
    line.network.move()
    assert gone == []
    assert line.connection.usable


@pytest.mark.parametrize("octets", [b"421 4.4.2 idle\r\n", b"250 surprise\r\n", None])
def test_a_server_ends_the_rest(octets: bytes | None) -> None:
    """A server that says something unasked, or closes, ends the rest: the connection is not used again."""
    line = Line(SmtpPeer())
    line.open()
    gone: list[None] = []
    line.connection.rest(5, lambda: gone.append(None))
    if octets is None:
        line.wire.other.loseConnection()
    else:
        line.wire.protocol.dataReceived(octets)
        line.wire.protocol.dataReceived(b"more")
    line.network.move()
    assert gone == [None]
    assert not line.connection.usable
    assert line.clock.getDelayedCalls() == []


# Large content


def test_content_waits_for_the_transport() -> None:
    """Large content is written as the transport takes it: one chunk waits, no more, and the peer gets it whole."""
    line = Line(SmtpPeer())
    line.open()
    line.wire.room = 1000
    content = b".234567\r\n" * 2000
    rcpt = client.rcpt(Mailbox("alice", "example.net"))
    waiting = line.connection.run(Transaction(client.mail(None), [rcpt], Stuffed(content, 900)))
    most = 0
    while line.wire.move() or line.wire.other.move():
        most = max(most, len(line.wire.waiting))
    assert result(waiting)[0].taken
    assert line.peer.messages == [content.replace(b".2", b"..2")]
    assert 900 <= most <= 2100
    assert line.wire.producer is None


@pytest.mark.parametrize("room", [1000, 1 << 30])
def test_content_that_turns_out_bare_has_no_end(room: int) -> None:
    """Law 3: a bare LF late in large content: it does not leave, no end of data does, and the connection is dropped."""
    line = Line(SmtpPeer())
    line.open()
    line.wire.room = room
    rcpt = client.rcpt(Mailbox("alice", "example.net"))
    content = b"12345678\r\n" * 2000 + b"bare\n"
    waiting = line.connection.run(Transaction(client.mail(None), [rcpt], Stuffed(content, 900)))
    line.network.move()
    (refused,) = result(waiting)
    assert isinstance(refused.answer, Fault)
    assert (refused.answer.status, refused.stage) == (BARE_LINE_END, Stage.CONTENT)
    assert not refused.unknown
    assert line.wire.calls == ["abort"]
    assert line.peer.lost
    assert line.peer.messages == []
    written = b"".join(line.wire.writes)
    assert b"bare" not in written
    assert b"\r\n.\r\n" not in written
    assert line.wire.producer is None
    assert line.clock.getDelayedCalls() == []


@pytest.mark.parametrize("content", [b"bare\n" + b"12345678\r\n" * 200, b"12345678\r\n" * 200 + b"\r"])
def test_content_that_is_bare_at_an_edge_has_no_end(content: bytes) -> None:
    """The same where the first chunk holds it, and where the last octet is a CR."""
    line = Line(SmtpPeer())
    line.open()
    (refused, _) = result(line.begin(content, 900))
    assert refused.answer.status == BARE_LINE_END
    line.network.move()
    assert line.peer.messages == []
    assert line.wire.calls == ["abort"]


def test_a_peer_that_does_not_take_content() -> None:
    """A peer that takes none of the content for three minutes is given up; it cannot have the message."""
    line = Line(SmtpPeer())
    line.open()
    line.wire.room = 1000
    rcpt = client.rcpt(Mailbox("alice", "example.net"))
    waiting = line.connection.run(Transaction(client.mail(None), [rcpt], Stuffed(b"12345678\r\n" * 2000, 900)))
    line.wire.move()
    line.wire.other.move()
    assert line.wire.producer is not None
    line.clock.advance(170)
    line.wire.move()
    line.clock.advance(170)
    assert not waiting.called
    line.clock.advance(20)
    (lost,) = result(waiting)
    assert not lost.unknown
    assert lost.answer.status == NO_ANSWER
    line.network.move()
    assert line.peer.lost


def test_a_refusal_in_the_midst_of_content() -> None:
    """Row 71: 421 while content is still to be sent ends it: the rest does not leave, and the connection closes."""
    line = Line(SmtpPeer())
    line.open()
    line.wire.room = 1000
    rcpt = client.rcpt(Mailbox("alice", "example.net"))
    waiting = line.connection.run(Transaction(client.mail(None), [rcpt], Stuffed(b"12345678\r\n" * 2000, 900)))
    line.wire.move()
    line.wire.other.move()
    line.wire.protocol.dataReceived(b"421 4.3.1 disk full\r\n")
    (refused,) = result(waiting)
    assert refused.answer == ServerReply(421, (b"4.3.1 disk full",))
    line.network.move()
    assert line.peer.lost
    assert sum(map(len, line.wire.writes)) < 5000


# TLS


@pytest.fixture(scope="module")
def server() -> ServerContext:
    """A server's certificate."""
    return ServerContext()


def secured(line: Line, level: TlsLevel = TlsLevel.MAY, authorities: str = "", name: str = "mx.example.net") -> Any:
    """STARTTLS and the handshake."""
    line.open()
    reply = line.network.run(line.connection.run(StartTls()))
    assert isinstance(reply, ServerReply), reply
    contexts = ClientContexts(authorities)
    context = contexts.context(Host(name, (HOST,), tls=level))
    return line.network.run(line.connection.start_tls(context, contexts.describe))


def test_starttls(server: ServerContext) -> None:
    """Row 16: after a real handshake EHLO is said again, and a message goes through TLS."""
    line = Line(SmtpPeer(context=server))
    tls = secured(line)
    assert isinstance(tls, TlsInfo)
    assert tls.version == "TLSv1.3"
    assert line.connection.tls == tls
    assert not line.connection.session.extensions.pipelining
    assert line.open().positive
    assert line.connection.session.extensions.pipelining
    assert not line.connection.session.extensions.starttls
    assert result(line.begin())[0].taken
    line.network.run(line.connection.quit())
    assert line.peer.commands == [
        "EHLO us.example",
        "STARTTLS",
        "EHLO us.example",
        "MAIL FROM:<>",
        "RCPT TO:<alice@example.net>",
        "RCPT TO:<bob@example.net>",
        "DATA",
        "QUIT",
    ]
    assert line.clock.getDelayedCalls() == []


def test_large_content_through_tls(server: ServerContext) -> None:
    """The same content of several chunks goes through TLS, with back-pressure."""
    line = Line(SmtpPeer(context=server))
    secured(line)
    line.open()
    line.wire.room = 5000
    content = b"1234567\r\n" * 20_000
    waiting = line.begin(content, chunk=4000)
    assert result(waiting)[0].taken
    assert line.peer.messages == [content]


def test_a_failed_handshake_is_a_value() -> None:
    """Two sides that agree on nothing: 4.7.5, and the connection is gone."""
    line = Line(SmtpPeer(context=BrokenContext()))
    fault = secured(line)
    assert isinstance(fault, Fault)
    assert fault.status == TLS_FAILURE
    assert "handshake failure" in fault.text
    line.network.move()
    assert line.peer.lost
    assert line.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("name", "trusted"), [("mx.example.net", False), ("other.example.net", True), ("mx.example.net", True)]
)
def test_a_certificate_that_must_fit(server: ServerContext, tmp_path: Path, name: str, trusted: bool) -> None:
    """At MUST a certificate that is not trusted, or names another host, is a failed handshake; the right one passes."""
    pem = tmp_path / "ca.pem"
    pem.write_bytes((server if trusted else ServerContext()).pem)
    line = Line(SmtpPeer(context=server))
    outcome = secured(line, TlsLevel.MUST, str(pem), name)
    if trusted and name == "mx.example.net":
        assert isinstance(outcome, TlsInfo)
    else:
        assert isinstance(outcome, Fault)
        assert outcome.status == TLS_FAILURE


def test_handshake_deadline() -> None:
    """A server that says 220 and then nothing is left after a minute."""
    line = Line(SmtpPeer(offers=["STARTTLS"]))
    line.open()
    assert line.network.run(line.connection.run(StartTls())).positive
    contexts = ClientContexts()
    waiting = line.connection.start_tls(contexts.context(Host("mx.example.net", (HOST,))), contexts.describe)
    line.network.move()
    line.clock.advance(59)
    assert not waiting.called
    line.clock.advance(1)
    assert result(waiting).status == TLS_FAILURE
    assert line.wire.calls == ["starttls", "abort"]
    line.network.move()
    assert line.clock.getDelayedCalls() == []


def test_octets_behind_the_220_never_reach_tls(server: ServerContext) -> None:
    """Row 15: a server (or who speaks in its place) that says more than 220 in one segment is dropped, no handshake."""
    line = Line(SmtpPeer(context=server, script={"STARTTLS": b"220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n"}))
    line.open()
    fault = line.network.run(line.connection.run(StartTls()))
    assert isinstance(fault, Fault)
    assert line.wire.calls == ["abort"]
    assert line.peer.commands == ["EHLO us.example", "STARTTLS"]

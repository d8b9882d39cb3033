"""The client's session and its exchanges: octets in, events out."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.smtp import client
from mta.smtp.address import Mailbox
from mta.smtp.client import Answer, ClientSession, Extensions, Fault, Stage
from mta.smtp.event import Content
from mta.smtp.exchange import Authentication, Exchange, Opening, Quit, RecipientResult, StartTls, Transaction
from mta.smtp.reply_reader import ReplyLimits, ServerReply
from mta.smtp.status import BAD_CONNECTION, PROTOCOL, REFUSED, SYSTEM_FAULT
from mta.smtp.writer import Stuffed
from tests.doubles.dialogue import Dialogue

ALICE = Mailbox("alice", "example.net")
PIPELINING = b"250-mx\r\n250-PIPELINING\r\n250 STARTTLS\r\n"
LOCK_STEP = b"250-mx\r\n250 8BITMIME\r\n"
MAIL = client.mail(Mailbox("bob", "example.org"))
CONTENT = b"Subject: x\r\n\r\n.dot\r\n"
WIRE = b"Subject: x\r\n\r\n..dot\r\n.\r\n"


class Talk:
    """A session and the exchange that runs on it, as a driver would run it."""

    def __init__(self, session: ClientSession, exchange: Exchange[Any]) -> None:
        self.session = session
        self.exchange = exchange
        exchange.start(session)

    def output(self) -> bytes:
        """All that the session writes now."""
        out = []
        while octets := self.session.output():
            out.append(octets)
        return b"".join(out)

    def hear(self, octets: bytes = b"") -> bytes:
        """Hand octets of the server in; return what the session writes."""
        self.session.receive(octets)
        while (event := self.session.next_event()) is not None:
            if isinstance(event, Fault):
                if self.exchange.result is None:
                    self.exchange.broken(self.session, event)
                break
            self.exchange.answered(self.session, event.command, event.reply)
        return self.output()

    def each(self, octets: bytes) -> bytes:
        """Hand octets in one by one."""
        return b"".join(self.hear(bytes([octet])) for octet in octets)

    def lose(self) -> None:
        """Lose the connection."""
        self.session.fail("connection lost", BAD_CONNECTION)
        self.hear()


def opened(ehlo: bytes = PIPELINING, pipelining: bool = True) -> ClientSession:
    """A session after greeting and EHLO."""
    session = ClientSession(pipelining=pipelining)
    talk = Talk(session, Opening("us.example"))
    talk.hear(b"220 mx\r\n")
    talk.hear(ehlo)
    assert isinstance(talk.exchange.result, ServerReply)
    return session


def transaction(recipients: int = 2, content: bytes = CONTENT, chunk: int = 65536) -> Transaction:
    """A transaction with recipients r0, r1 …"""
    commands = [client.rcpt(Mailbox(f"r{number}", "example.com")) for number in range(recipients)]
    return Transaction(MAIL, commands, Stuffed(content, chunk))


def burst(recipients: int = 2) -> bytes:
    """What a transaction with so many recipients writes up to DATA."""
    rcpts = b"".join(b"RCPT TO:<r%d@example.com>\r\n" % number for number in range(recipients))
    return b"MAIL FROM:<bob@example.org>\r\n" + rcpts + b"DATA\r\n"


def said(results: tuple[RecipientResult, ...]) -> list[tuple[Stage, int]]:
    """Stage and code of each result; 0 for a fault."""
    return [(r.stage, r.answer.code if isinstance(r.answer, ServerReply) else 0) for r in results]


# Commands


def test_commands() -> None:
    """Commands are written as RFC 5321 §4.1.1 has them."""
    assert client.ehlo("us.example").wire == b"EHLO us.example\r\n"
    assert client.helo("us.example").wire == b"HELO us.example\r\n"
    assert client.mail(None).wire == b"MAIL FROM:<>\r\n"
    assert client.mail(ALICE, ["SIZE=5", "SMTPUTF8"]).wire == b"MAIL FROM:<alice@example.net> SIZE=5 SMTPUTF8\r\n"
    assert client.rcpt(Mailbox("a b", "x")).wire == b'RCPT TO:<"a b"@x>\r\n'
    assert client.rcpt(Mailbox("ü", "x")).wire == "RCPT TO:<ü@x>\r\n".encode()


@pytest.mark.parametrize("control", ["\r", "\n", "\r\nRSET", "\0"])
def test_a_command_holds_no_control(control: str) -> None:
    """An address with a line end in it never becomes two commands."""
    with pytest.raises(ValueError, match="control"):
        client.rcpt(Mailbox(f"a{control}b", "example.net"))


def test_a_command_hides_its_octets() -> None:
    """A password does not stand in the repr of a command."""
    assert "c2VjcmV0" not in repr(client.auth("PLAIN c2VjcmV0"))


# EHLO


def test_extensions_of_ehlo() -> None:
    """Keywords are read whatever their case; the first line is the server's name."""
    reply = ServerReply(
        250,
        (
            b"SIZE 1",
            b"pipelining",
            b"SIZE 52428800",
            b"8BitMIME",
            b"SMTPUTF8",
            b"STARTTLS",
            b"ENHANCEDSTATUSCODES",
            b"AUTH PLAIN login",
            b"AUTH=CRAM-MD5",
            b"X-ANYTHING \xff",
        ),
    )
    assert Extensions.parse(reply) == Extensions(
        pipelining=True,
        size=52428800,
        eight_bit_mime=True,
        smtputf8=True,
        starttls=True,
        enhanced_status_codes=True,
        auth=frozenset({"PLAIN", "LOGIN", "CRAM-MD5"}),
    )
    assert Extensions.parse(ServerReply(250, (b"PIPELINING",))) == Extensions()


@pytest.mark.parametrize(
    ("line", "size"),
    [
        (b"SIZE", 0),
        (b"SIZE 0", 0),
        (b"SIZE 12", 12),
        (b"SIZE abc", 0),
        (b"SIZE -5", 0),
        (b"SIZE " + b"9" * 20, 10**20 - 1),
        (b"SIZE " + b"9" * 21, 0),
        (b"SIZE \xb2", 0),
    ],
)
def test_size_of_ehlo(line: bytes, size: int) -> None:
    """SIZE without a number, or with what is none, is an offer without a limit (RFC 1870 §3)."""
    assert Extensions.parse(ServerReply(250, (b"mx", line))).size == size


def test_opening() -> None:
    """Nothing is said before the greeting, then EHLO."""
    session = ClientSession()
    talk = Talk(session, Opening("us.example"))
    assert talk.output() == b""
    assert session.awaiting is Stage.GREETING
    assert talk.each(b"220-mx\r\n220 ESMTP\r\n") == b"EHLO us.example\r\n"
    assert session.awaiting is Stage.EHLO
    assert talk.each(PIPELINING) == b""
    assert talk.exchange.result == ServerReply(250, (b"mx", b"PIPELINING", b"STARTTLS"))
    assert session.extensions.pipelining
    assert session.awaiting is None


def test_opening_with_helo() -> None:
    """A server that knows no EHLO is greeted with HELO, and offers nothing (RFC 5321 §3.2)."""
    talk = Talk(ClientSession(), Opening("us.example"))
    talk.hear(b"220 mx\r\n")
    assert talk.hear(b"502 5.5.1 what?\r\n") == b"HELO us.example\r\n"
    talk.hear(b"250-mx\r\n250 PIPELINING\r\n")
    assert talk.exchange.result == ServerReply(250, (b"mx", b"PIPELINING"))
    assert talk.session.extensions == Extensions()


@pytest.mark.parametrize(
    "replies",
    [
        [b"554 go away\r\n"],
        [b"421 busy\r\n"],
        [b"220 mx\r\n", b"421 busy\r\n"],
        [b"220 mx\r\n", b"450 later\r\n"],
        [b"220 mx\r\n", b"500 what?\r\n", b"550 no\r\n"],
    ],
)
def test_opening_refused(replies: list[bytes]) -> None:
    """A refused greeting, EHLO or HELO ends the opening with that reply."""
    talk = Talk(ClientSession(), Opening("us.example"))
    for reply in replies:
        talk.hear(reply)
    assert talk.exchange.result == ServerReply(int(replies[-1][:3]), (replies[-1][4:-2],))
    assert talk.session.ended == replies[-1].startswith(b"421")


# Order


def test_pipelined_in_one_burst() -> None:
    """Where PIPELINING is offered, MAIL, RCPT and DATA leave in one burst (RFC 2920 §3.1)."""
    session = opened()
    session.send(MAIL, client.rcpt(ALICE), client.DATA)
    assert session.output() == b"MAIL FROM:<bob@example.org>\r\nRCPT TO:<alice@example.net>\r\nDATA\r\n"
    assert session.output() == b""


@pytest.mark.parametrize(("ehlo", "pipelining"), [(LOCK_STEP, True), (PIPELINING, False)])
def test_lock_step(ehlo: bytes, pipelining: bool) -> None:
    """Where it is not offered, or must not be used, each command waits for the answer to the one before."""
    talk = Talk(opened(ehlo, pipelining), transaction())
    assert talk.output() == b"MAIL FROM:<bob@example.org>\r\n"
    assert talk.hear(b"250 ok\r\n") == b"RCPT TO:<r0@example.com>\r\n"
    assert talk.hear(b"250 ok\r\n") == b"RCPT TO:<r1@example.com>\r\n"
    assert talk.hear(b"250 ok\r\n") == b"DATA\r\n"
    assert talk.hear(b"354 go\r\n") == WIRE
    talk.hear(b"250 ok\r\n")
    assert said(talk.exchange.result) == [(Stage.CONTENT, 250)] * 2


@pytest.mark.parametrize(
    "synchronising",
    [client.ehlo("x"), client.helo("x"), client.STARTTLS, client.auth("AUTH PLAIN"), client.DATA, client.QUIT],
)
def test_nothing_follows_a_synchronising_command(synchronising: client.Command) -> None:
    """EHLO, STARTTLS, AUTH, DATA and QUIT end a group: nothing leaves before their answer."""
    session = opened()
    session.send(client.RSET, synchronising, client.RSET)
    assert session.output() == b"RSET\r\n" + synchronising.wire
    session.receive(b"250 ok\r\n")
    assert isinstance(session.next_event(), Answer)
    assert session.output() == b""


def test_awaiting_names_what_is_unanswered() -> None:
    """The driver counts its deadline by the oldest command without an answer."""
    session = opened()
    session.send(MAIL, client.DATA)
    assert session.awaiting is Stage.MAIL
    session.receive(b"250 ok\r\n")
    session.next_event()
    assert session.awaiting is Stage.DATA
    session.withdraw()
    assert session.awaiting is Stage.DATA


# Servers out of step


@pytest.mark.parametrize(
    ("before", "octets", "text"),
    [
        ([MAIL], b"354 go on\r\n", "MAIL FROM cannot be answered so"),
        ([client.DATA], b"250 ok\r\n", "DATA cannot be answered so"),
        ([client.RSET], b"334 \r\n", "RSET cannot be answered so"),
        ([], b"250 ok\r\n", "a reply to no command"),
        ([MAIL], b"250 ok\r\n250 ok\r\n", "a reply to no command"),
        ([MAIL], b"250 ok\n", "a reply line ends without CRLF"),
        ([MAIL], b"999 ok\r\n", "not a reply"),
        ([client.content([b".\r\n"])], b"354 more\r\n", "end of data cannot be answered so"),
    ],
)
def test_a_server_out_of_step_is_a_fault(before: list[client.Command], octets: bytes, text: str) -> None:
    """Rows 71, 72: a wrong class of code, a reply to nothing, what is no reply: a value that ends the session."""
    session = opened()
    session.send(*before)
    session.output()
    session.receive(octets)
    events = []
    while not isinstance(event := session.next_event(), Fault):
        assert event is not None
        events.append(event)
    assert event.text.startswith(text)
    assert event.status == PROTOCOL.transient()
    assert session.ended
    assert session.next_event() is event
    session.receive(b"250 ok\r\n")
    assert session.next_event() is event
    assert session.output() == b""
    with pytest.raises(RuntimeError):
        session.send(client.RSET)


def test_a_reply_before_its_command_is_no_answer_to_it() -> None:
    """Row 72: in lock-step a reply that is here before its command leaves is a fault; the command does not leave."""
    talk = Talk(opened(LOCK_STEP), transaction())
    talk.output()
    assert talk.hear(b"250 ok\r\n250 ok\r\n") == b""
    assert talk.session.fault is not None
    assert said(talk.exchange.result) == [(Stage.RCPT, 0)] * 2


def test_half_a_reply_before_its_command() -> None:
    """The same where that reply is not whole yet: the session waits for the rest of it."""
    talk = Talk(opened(LOCK_STEP), transaction())
    talk.output()
    assert talk.hear(b"250 ok\r\n25") == b""
    assert talk.session.awaiting is Stage.RCPT
    talk.hear(b"0 ok\r\n")
    assert talk.session.fault is not None


def test_421_to_nothing() -> None:
    """A server that closes an idle connection is no liar: 4.4.2, with its words."""
    session = opened()
    session.receive(b"421 4.4.2 idle too long\r\n")
    fault = session.next_event()
    assert isinstance(fault, Fault)
    assert fault.status == BAD_CONNECTION
    assert "421 4.4.2 idle too long" in fault.text


def test_limits_are_the_session_s() -> None:
    """The reader's bounds are those that the session was given, after TLS too."""
    session = ClientSession(ReplyLimits(line=10))
    session.receive(b"220 0123456789\r\n")
    assert isinstance(session.next_event(), Fault)


@pytest.mark.parametrize(("count", "grouped"), [(1, False), (2, True)])
def test_a_fault_tells_whether_a_group_waited(count: int, grouped: bool) -> None:
    """A fault within a group says so: the server may not be able to pipeline."""
    session = opened()
    session.send(*[MAIL] * count)
    fault = session.fail("no answer in time", BAD_CONNECTION)
    assert fault == Fault("no answer in time", BAD_CONNECTION, Stage.MAIL, grouped)
    assert session.fail("again") is fault


# STARTTLS


def test_starttls_forgets_clear_text() -> None:
    """Row 16: after the handshake nothing of the first EHLO is known, and EHLO is said again."""
    session = opened(b"250-mx\r\n250-SIZE 5\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
    talk = Talk(session, StartTls())
    assert talk.output() == b"STARTTLS\r\n"
    talk.each(b"220 go\r\n")
    assert talk.exchange.result == ServerReply(220, (b"go",))
    session.tls_started()
    assert session.secure
    assert session.extensions == Extensions()
    talk = Talk(session, Opening("us.example"))
    assert talk.output() == b"EHLO us.example\r\n"
    talk.hear(b"250-mx\r\n250 SIZE 7\r\n")
    assert session.extensions == Extensions(size=7)


@pytest.mark.parametrize("injected", [b"2", b"\n", b"250-mx\r\n250 AUTH PLAIN\r\n", b"250 ok\r\n"])
def test_octets_behind_the_220_are_an_attack(injected: bytes) -> None:
    """Row 15: anything behind the 220 in the same segment ends the session; it is never read as a reply under TLS."""
    talk = Talk(opened(), StartTls())
    talk.hear(b"220 go\r\n" + injected)
    assert isinstance(talk.exchange.result, Fault)
    assert talk.exchange.result.status == REFUSED.transient()
    assert talk.session.ended


def test_octets_before_the_handshake_are_not_read_under_tls() -> None:
    """Law 5: what came in clear text between the 220 and the end of the handshake is not an answer to anything."""
    talk = Talk(opened(), StartTls())
    talk.hear(b"220 go\r\n")
    talk.session.receive(b"250-mx\r\n250 AUTH PLAIN\r\n")
    talk.session.tls_started()
    talk = Talk(talk.session, Opening("us.example"))
    assert talk.hear() == b"EHLO us.example\r\n"
    assert talk.exchange.result is None
    assert talk.session.extensions == Extensions()


def test_starttls_refused() -> None:
    """A refusal leaves the session as it was."""
    talk = Talk(opened(), StartTls())
    talk.hear(b"454 4.7.0 no certificate\r\n")
    assert talk.exchange.result == ServerReply(454, (b"4.7.0 no certificate",))
    assert not talk.session.secure
    assert talk.session.extensions.pipelining


def test_quit() -> None:
    """After the answer to QUIT the session has ended, without a fault."""
    talk = Talk(opened(), Quit())
    assert talk.output() == b"QUIT\r\n"
    talk.hear(b"221 bye\r\n")
    assert talk.session.ended
    assert talk.session.fault is None
    assert talk.session.next_event() is None


# AUTH


def b64(text: str) -> bytes:
    """Base 64."""
    return base64.b64encode(text.encode())


def test_auth_plain() -> None:
    """PLAIN sends its one response with the command (RFC 4954 §4, RFC 4616)."""
    exchange = Authentication("user", "pässword", frozenset({"PLAIN", "LOGIN"}))
    talk = Talk(opened(), exchange)
    assert talk.output() == b"AUTH PLAIN " + b64("\0user\0pässword") + b"\r\n"
    talk.hear(b"235 2.7.0 welcome\r\n")
    assert exchange.result == ServerReply(235, (b"2.7.0 welcome",))


def test_auth_plain_too_long_for_a_command() -> None:
    """A response that does not fit a command line of 512 octets comes by itself."""
    exchange = Authentication("u" * 250, "p" * 250, frozenset({"PLAIN"}))
    talk = Talk(opened(), exchange)
    assert talk.output() == b"AUTH PLAIN\r\n"
    assert talk.hear(b"334 \r\n") == b64("\0" + "u" * 250 + "\0" + "p" * 250) + b"\r\n"
    talk.hear(b"235 ok\r\n")
    assert exchange.result is not None


@pytest.mark.parametrize("password", range(360, 372))
def test_auth_plain_fills_a_command_line(password: int) -> None:
    """No AUTH command is longer than 512 octets."""
    talk = Talk(opened(), Authentication("user", "p" * password, frozenset({"PLAIN"})))
    line = talk.output()
    assert len(line) <= 512
    assert (line == b"AUTH PLAIN\r\n") == (12 + 1 + len(b64("\0user\0" + "p" * password)) > 512)


def test_auth_login() -> None:
    """LOGIN answers two challenges; one more is cancelled."""
    exchange = Authentication("user", "secret", frozenset({"LOGIN"}))
    talk = Talk(opened(), exchange)
    assert talk.output() == b"AUTH LOGIN\r\n"
    assert talk.hear(b"334 VXNlcm5hbWU6\r\n") == b64("user") + b"\r\n"
    assert talk.hear(b"334 UGFzc3dvcmQ6\r\n") == b64("secret") + b"\r\n"
    assert talk.hear(b"334 \r\n") == b"*\r\n"
    talk.hear(b"501 cancelled\r\n")
    assert exchange.result == ServerReply(501, (b"cancelled",))


def test_auth_without_a_way() -> None:
    """Where neither mechanism is offered, there is none."""
    assert Authentication("user", "secret", frozenset({"CRAM-MD5"})).mechanism is None


# Transactions


def test_transaction_pipelined() -> None:
    """One burst, one answer each, the content, one answer for all; octet by octet too."""
    for hear in (Talk.hear, Talk.each):
        talk = Talk(opened(), transaction())
        assert talk.output() == burst()
        assert hear(talk, b"250 ok\r\n250 ok\r\n251 ok\r\n354 go\r\n") == WIRE
        assert talk.exchange.result is None
        hear(talk, b"250 2.0.0 queued as 1\r\n")
        assert said(talk.exchange.result) == [(Stage.CONTENT, 250)] * 2
        assert all(result.taken for result in talk.exchange.result)
        assert not talk.session.in_transaction


def test_one_recipient_refused() -> None:
    """A refused RCPT holds for that recipient; the others get the message."""
    talk = Talk(opened(), transaction(3))
    talk.output()
    assert talk.hear(b"250 ok\r\n550 no\r\n250 ok\r\n450 later\r\n354 go\r\n") == WIRE
    talk.hear(b"250 ok\r\n")
    assert said(talk.exchange.result) == [(Stage.RCPT, 550), (Stage.CONTENT, 250), (Stage.RCPT, 450)]


def test_mail_refused_pipelined() -> None:
    """A refused MAIL holds for all; the answers to the rest of the group are read and forgotten."""
    talk = Talk(opened(), transaction())
    talk.output()
    assert talk.hear(b"550 5.7.1 no\r\n503 order\r\n503 order\r\n") == b""
    assert talk.exchange.result is None
    talk.hear(b"503 order\r\n")
    assert said(talk.exchange.result) == [(Stage.MAIL, 550)] * 2


def test_mail_refused_in_lock_step() -> None:
    """A refused MAIL withdraws what has not left."""
    talk = Talk(opened(LOCK_STEP), transaction())
    talk.output()
    assert talk.hear(b"451 later\r\n") == b""
    assert said(talk.exchange.result) == [(Stage.MAIL, 451)] * 2


def test_no_recipient_left_in_lock_step() -> None:
    """With no RCPT accepted, DATA is not said, and RSET comes before the next MAIL."""
    session = opened(LOCK_STEP)
    talk = Talk(session, transaction(1))
    talk.output()
    talk.hear(b"250 ok\r\n")
    assert talk.hear(b"550 no\r\n") == b""
    assert said(talk.exchange.result) == [(Stage.RCPT, 550)]
    talk = Talk(session, transaction(1))
    assert talk.output() == b"RSET\r\n"
    assert talk.hear(b"250 ok\r\n") == b"MAIL FROM:<bob@example.org>\r\n"


def test_no_recipient_left_but_354() -> None:
    """Row 45: a server that says 354 with no recipient gets an empty content, never the message (RFC 2920 §3.1)."""
    talk = Talk(opened(), transaction())
    talk.output()
    assert talk.hear(b"250 ok\r\n550 no\r\n551 no\r\n354 go\r\n") == b".\r\n"
    assert talk.exchange.result is None
    talk.hear(b"554 no valid recipients\r\n")
    assert said(talk.exchange.result) == [(Stage.RCPT, 550), (Stage.RCPT, 551)]


def test_empty_content_that_is_taken_delivers_nothing() -> None:
    """A server that takes the empty content of refused recipients has taken no message for them."""
    talk = Talk(opened(), transaction())
    talk.output()
    talk.hear(b"550 no\r\n503 no\r\n503 no\r\n354 go\r\n")
    talk.hear(b"250 taken\r\n")
    assert said(talk.exchange.result) == [(Stage.MAIL, 550)] * 2


def test_data_refused() -> None:
    """A refused DATA holds for the accepted; the transaction is open, so RSET leads the next burst."""
    session = opened()
    talk = Talk(session, transaction())
    talk.output()
    assert talk.hear(b"250 ok\r\n250 ok\r\n550 no\r\n452 full\r\n") == b""
    assert said(talk.exchange.result) == [(Stage.DATA, 452), (Stage.RCPT, 550)]
    assert session.in_transaction
    talk = Talk(session, transaction())
    assert talk.output() == b"RSET\r\n" + burst()
    assert talk.hear(b"250 ok\r\n" * 4 + b"354 go\r\n") == WIRE
    talk.hear(b"250 ok\r\n")
    assert said(talk.exchange.result) == [(Stage.CONTENT, 250)] * 2


def test_content_refused() -> None:
    """A refused content holds for the accepted, and ends the transaction."""
    session = opened()
    talk = Talk(session, transaction())
    talk.output()
    talk.hear(b"250 ok\r\n" * 3 + b"354 go\r\n")
    talk.hear(b"554 spam\r\n")
    assert said(talk.exchange.result) == [(Stage.CONTENT, 554)] * 2
    assert not any(result.taken for result in talk.exchange.result)
    assert Talk(session, transaction()).output() == burst()


def test_rset_refused() -> None:
    """A server that refuses RSET gets no further transaction: its answer holds for all."""
    session = opened()
    session.in_transaction = True
    talk = Talk(session, transaction())
    talk.output()
    talk.hear(b"500 what?\r\n503 x\r\n503 x\r\n503 x\r\n503 x\r\n")
    assert said(talk.exchange.result) == [(Stage.RSET, 500)] * 2


@pytest.mark.parametrize("before", range(5))
def test_421_at_any_stage(before: int) -> None:
    """Row 71: 421 in place of any answer holds for all that have none; nothing more is said."""
    replies = [b"250 ok\r\n", b"550 no\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 ok\r\n"]
    for ehlo in (PIPELINING, LOCK_STEP):
        talk = Talk(opened(ehlo), transaction())
        talk.output()
        for reply in replies[:before]:
            talk.hear(reply)
        assert talk.hear(b"421 4.3.2 shutting down\r\n") == b""
        stage = [Stage.MAIL, Stage.RCPT, Stage.RCPT, Stage.DATA, Stage.CONTENT][before]
        first = (Stage.RCPT, 550) if before > 1 else (stage, 421)
        assert said(talk.exchange.result) == [first, (stage, 421)]
        assert not any(result.unknown for result in talk.exchange.result)
        assert talk.session.ended
        talk.lose()


@pytest.mark.parametrize("before", range(5))
def test_connection_lost_at_any_stage(before: int) -> None:
    """Row 71: a lost connection is a fault for all without an answer; behind the final dot it is unknown."""
    replies = [b"250 ok\r\n", b"550 no\r\n", b"250 ok\r\n", b"354 go\r\n"]
    talk = Talk(opened(), transaction())
    talk.output()
    for reply in replies[:before]:
        talk.hear(reply)
    talk.lose()
    stage = [Stage.MAIL, Stage.RCPT, Stage.RCPT, Stage.DATA, Stage.CONTENT][before]
    first = (Stage.RCPT, 550) if before > 1 else (stage, 0)
    assert said(talk.exchange.result) == [first, (stage, 0)]
    assert [result.unknown for result in talk.exchange.result] == [False, before == 4]


def test_a_fault_after_the_final_dot_is_unknown() -> None:
    """An answer that cannot be read after the final dot leaves open whether the server has the message."""
    talk = Talk(opened(), transaction(1))
    talk.output()
    talk.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.hear(b"ok, taken\r\n")
    (result,) = talk.exchange.result
    assert result.unknown
    assert not result.taken


def test_taken_stays_taken() -> None:
    """What a server says after it took the message changes nothing about it."""
    talk = Talk(opened(), transaction(1))
    talk.output()
    talk.hear(b"250 ok\r\n250 ok\r\n354 go\r\n")
    talk.hear(b"250 taken\r\n250 and more\r\n")
    assert talk.session.fault is not None
    assert talk.exchange.result[0].taken


def test_a_recipient_accepted_without_a_sender() -> None:
    """Row 72: RCPT accepted after MAIL was refused means that the answers are out of order: none of them counts."""
    talk = Talk(opened(), transaction())
    talk.output()
    talk.hear(b"550 no\r\n250 ok\r\n")
    assert said(talk.exchange.result) == [(Stage.RCPT, 0)] * 2
    assert talk.session.fault is not None
    assert talk.session.fault.grouped


def test_large_content_comes_in_chunks() -> None:
    """`output` gives one chunk at a time; only behind the last one is the outcome unknown."""
    talk = Talk(opened(), transaction(1, content=b"x" * 98 + b"\r\n", chunk=40))
    session = talk.session
    session.output()
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    while (event := session.next_event()) is not None:
        assert isinstance(event, Answer)
        talk.exchange.answered(session, event.command, event.reply)
    chunks = []
    while session.sending:
        assert not session.content_sent
        chunks.append(session.output())
    assert session.content_sent
    assert chunks == [b"x" * 40, b"x" * 40, b"x" * 18 + b"\r\n", b".\r\n"]


@pytest.mark.parametrize("good", [0, 1, 2])
def test_content_that_cannot_be_read_has_no_end(good: int) -> None:
    """Where the next chunk cannot be had the session is cut, for a cause of ours: what left is never ended."""
    given_out: list[Iterator[bytes]] = []

    class Broken:
        def __iter__(self) -> Iterator[bytes]:
            given_out.append(self.chunks())
            return given_out[-1]

        def chunks(self) -> Iterator[bytes]:
            yield from [b"a\r\n"] * good
            raise OSError(5, "Input/output error")

    talk = Talk(opened(), Transaction(MAIL, [client.rcpt(Mailbox("r0", "example.com"))], Broken()))
    session = talk.session
    session.output()
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    while isinstance(event := session.next_event(), Answer):
        talk.exchange.answered(session, event.command, event.reply)
    sent = b""
    while octets := session.output():
        sent += octets
    assert sent == b"a\r\n" * max(0, good - 1)
    assert session.ended
    fault = session.next_event()
    assert isinstance(fault, Fault)
    assert (fault.local, fault.status, fault.stage) == (True, SYSTEM_FAULT, Stage.CONTENT)
    assert not session.content_sent
    assert session._chunks is not given_out[0], "what a file is open for is let go"


@pytest.mark.parametrize(("reply", "code"), [(b"552 too big\r\n", 552), (b"421 bye\r\n", 421), (b"250 ok\r\n", 0)])
def test_an_answer_in_the_midst_of_content(reply: bytes, code: int) -> None:
    """A refusal before the end of data holds and ends the session; an acceptance there is a fault, not a delivery."""
    talk = Talk(opened(), transaction(1, content=b"x" * 98 + b"\r\n", chunk=40))
    session = talk.session
    session.output()
    session.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    while (event := session.next_event()) is not None:
        assert isinstance(event, Answer)
        talk.exchange.answered(session, event.command, event.reply)
    session.output()
    assert talk.hear(reply) == b""
    assert said(talk.exchange.result) == [(Stage.CONTENT, code)]
    assert not talk.exchange.result[0].taken
    assert not talk.exchange.result[0].unknown
    assert session.ended


REPLIES = st.lists(
    st.sampled_from(
        [b"250 ok\r\n", b"354 go\r\n", b"450 later\r\n", b"550 no\r\n", b"421 bye\r\n", b"334 \r\n", b"x\r\n"]
    ),
    max_size=9,
)


@given(REPLIES, st.integers(1, 3), st.booleans())
@settings(max_examples=300)
def test_whatever_a_server_says(replies: list[bytes], recipients: int, pipelining: bool) -> None:
    """A transaction ends with one result a recipient; taken only where the content was sent and answered 250."""
    talk = Talk(opened(pipelining=pipelining), transaction(recipients))
    written = talk.output()
    for reply in replies:
        written += talk.hear(reply)
        if talk.exchange.result is not None:
            break
    if talk.exchange.result is None:
        talk.lose()
    results = talk.exchange.result
    assert len(results) == recipients
    sent = written.endswith(WIRE)
    assert all(sent for result in results if result.taken or result.unknown)
    refused = [result.answer for result in results if not result.taken]
    assert all(answer.code >= 400 for answer in refused if isinstance(answer, ServerReply))


@given(st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a", b"\0", b"\xff"]), max_size=6), st.integers(1, 9))
@settings(max_examples=100)
def test_our_server_reads_what_our_client_sends(lines: list[bytes], chunk: int) -> None:
    """Client and server core, octets carried by hand: the content that arrives is the content that was sent."""
    body = b"".join(line + b"\r\n" for line in lines)
    there = Dialogue(hello=False)
    greeting = b"220 mx.example.test ESMTP\r\n"
    talk = Talk(ClientSession(), Opening("client.example.test"))
    talk.hear(there.send(talk.hear(greeting)))
    talk = Talk(talk.session, transaction(2, body, chunk))
    there.events.clear()
    there_said = there.send(talk.output())
    talk.hear(there.send(talk.hear(there_said)))
    assert all(result.taken for result in talk.exchange.result)
    assert b"".join(event.chunk for event in there.events if isinstance(event, Content)) == body


def test_an_exchange_must_say_what_it_does() -> None:
    """The three steps are each exchange's own."""
    session, exchange = opened(), Exchange[int]()
    fault = Fault("x", PROTOCOL, None, False)
    for step in (
        lambda: exchange.start(session),
        lambda: exchange.answered(session, client.QUIT, ServerReply(221, (b"",))),
        lambda: exchange.broken(session, fault),
    ):
        with pytest.raises(NotImplementedError):
            step()

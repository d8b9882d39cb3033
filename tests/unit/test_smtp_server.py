"""mta.smtp.server: the dialogue, its phases and what the driver sees."""

from __future__ import annotations

import gc
from base64 import b64encode

import pytest

from mta.smtp import answer, status
from mta.smtp.address import Mailbox
from mta.smtp.event import (
    AWAITING_REPLY,
    NEED_DATA,
    Authenticate,
    Connected,
    Content,
    Data,
    DataRefused,
    EndOfData,
    Event,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Refused,
    Reset,
    StartTLS,
    Vrfy,
)
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.reply import Reply, reply
from mta.smtp.server import Phase, ServerSession
from tests.doubles.dialogue import ACCEPT, LATER, NO_SUCH_USER, POLICY, Dialogue, accept, codes, refusing

MAIL = b"MAIL FROM:<a@example.org>\r\n"
RCPT = b"RCPT TO:<b@example.test>\r\n"
LOGINS = Offer(mechanisms=("PLAIN", "LOGIN"), starttls=True)
PLAIN = b64encode(b"\0alice\0secret")


def test_one_message() -> None:
    """A message goes from MAIL to the reply after its end, and the next begins like the first."""
    dialogue = Dialogue()
    for _ in range(2):
        dialogue.events.clear()
        assert dialogue.codes(b"MAIL FROM:<a@example.org> SIZE=9 BODY=8BITMIME\r\n") == ["250 2.1.0"]
        assert dialogue.codes(RCPT) == ["250 2.1.5"]
        assert dialogue.codes(b"DATA\r\n") == ["354"]
        assert dialogue.codes("..grün\r\n.\r\n".encode()) == ["250 2.0.0"]
        assert dialogue.events == [
            Mail(Mailbox("a", "example.org"), 9, "8BITMIME"),
            Rcpt(Mailbox("b", "example.test")),
            Data(),
            Content(".grün\r\n".encode()),
            EndOfData(8, True),
        ]
    assert dialogue.codes(b"QUIT\r\n") == ["221 2.0.0"]
    assert dialogue.session.closing


def test_the_greeting_comes_first() -> None:
    """Nothing is looked at before the rules have greeted; then what the client sent meanwhile is."""
    session = ServerSession("mx.example.test", Offer(), Limits())
    session.receive(b"NOOP\r\n")
    assert isinstance(session.next_event(), Connected)
    assert session.next_event() is AWAITING_REPLY
    assert (session.output(), session.buffered) == (b"", 6)
    session.reply(ACCEPT[Connected])
    assert session.next_event() is NEED_DATA
    assert codes(session.output()) == ["220", "250 2.0.0"]


def test_a_554_greeting_leaves_only_quit() -> None:
    """After a 554 greeting every command gets 503 but QUIT (RFC 5321 §3.1)."""
    dialogue = Dialogue(refusing(Connected, with_=reply(554, None, "no")), hello=False)
    assert dialogue.codes(b"EHLO a\r\nNOOP\r\nMAIL FROM:<>\r\nQUIT\r\n") == [*["503 5.5.1"] * 3, "221 2.0.0"]


def test_a_421_greeting_closes() -> None:
    """A 421 greeting ends the session."""
    dialogue = Dialogue(refusing(Connected, with_=reply(421, None, "busy")), hello=False)
    assert dialogue.session.closing
    assert dialogue.send(b"EHLO a\r\n") == b""


def test_ehlo_lists_what_is_offered() -> None:
    """The session writes name and keywords; STARTTLS and AUTH only where they are possible."""
    dialogue = Dialogue(offer=LOGINS, hello=False)
    plain = b"250-mx.example.test\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n"
    assert dialogue.send(b"EHLO a\r\n") == plain + b"250-SMTPUTF8\r\n250 STARTTLS\r\n"
    dialogue.session.offer = Offer(mechanisms=("PLAIN", "LOGIN"), auth_without_tls=True, smtputf8=False)
    assert dialogue.send(b"EHLO a\r\n") == plain + b"250 AUTH PLAIN LOGIN\r\n"
    dialogue = Dialogue(offer=LOGINS, tls=True, hello=False)
    assert dialogue.send(b"EHLO a\r\n") == plain + b"250-SMTPUTF8\r\n250 AUTH PLAIN LOGIN\r\n"
    dialogue.send(b"AUTH PLAIN " + PLAIN + b"\r\n")
    assert dialogue.send(b"EHLO a\r\n") == plain + b"250 SMTPUTF8\r\n"
    assert dialogue.send(b"HELO a\r\n") == b"250 mx.example.test\r\n"


def test_hello_is_an_event() -> None:
    """EHLO and HELO tell who calls; they need a name without control characters."""
    dialogue = Dialogue(hello=False)
    assert dialogue.codes(b"HELO one\r\nEHLO [192.0.2.1]\r\n") == ["250", "250"]
    assert dialogue.events[1:] == [Hello("one", False), Hello("[192.0.2.1]", True)]
    assert dialogue.codes(b"HELO\r\nEHLO \r\nEHLO a\0b\r\nHELO a\rb\r\n") == [
        "501 5.5.4",
        "501 5.5.4",
        "501 5.5.2",
        "501 5.5.2",
    ]


@pytest.mark.parametrize("command", [b"MAIL FROM:<>", b"RCPT TO:<a@b>", b"DATA", b"STARTTLS", b"AUTH PLAIN"])
def test_ehlo_comes_first(command: bytes) -> None:
    """Without EHLO or HELO there is no transaction, no TLS and no AUTH (RFC 5321 §4.1.4)."""
    dialogue = Dialogue(offer=LOGINS, hello=False)
    assert dialogue.codes(command + b"\r\n") == ["503 5.5.1"]
    assert dialogue.events[1:] == [Refused(command.split()[0].decode(), answer.HELLO_FIRST)]


def test_some_commands_need_no_ehlo() -> None:
    """NOOP, RSET, HELP, VRFY and QUIT work from the greeting on (RFC 5321 §4.1.4)."""
    dialogue = Dialogue(hello=False)
    sent = b"NOOP\r\nnoop x\r\nRSET\r\nHELP\r\nVRFY alice\r\nQUIT\r\n"
    assert dialogue.codes(sent) == ["250 2.0.0", "250 2.0.0", "250 2.0.0", "214 2.0.0", "252 2.0.0", "221 2.0.0"]
    assert dialogue.events[1:] == [Vrfy("alice"), Quit()]


def test_unknown_and_unbuilt_commands() -> None:
    """What is no command gets 500, what we do not have 502; neither changes anything."""
    dialogue = Dialogue()
    dialogue.send(MAIL)
    assert dialogue.codes(b"XYZZY\r\n\r\n STARTTLS\r\nR\xc5\xbfET\r\n") == ["500 5.5.2"] * 4
    assert dialogue.codes(b"EXPN list\r\nTURN\r\nETRN x\r\nBDAT 3\r\nSEND x\r\n") == ["502 5.5.1"] * 5
    assert dialogue.session.phase is Phase.MAIL
    assert dialogue.events[1] == Refused("", answer.UNKNOWN_COMMAND)
    assert dialogue.events[-1] == Refused("SEND", answer.NOT_IMPLEMENTED)


@pytest.mark.parametrize("verb", [b"GET", b"POST", b"CONNECT", b"PUT", b"HEAD", b"OPTIONS"])
def test_a_browser_is_shown_the_door(verb: bytes) -> None:
    """A request of HTTP ends the session before its body can be taken for commands."""
    dialogue = Dialogue(hello=False)
    assert dialogue.codes(verb + b" / HTTP/1.1\r\nEHLO a\r\nMAIL FROM:<a@b>\r\n") == ["421 4.7.0"]
    assert dialogue.session.closing


@pytest.mark.parametrize("command", [b"DATA", b"RSET", b"QUIT", b"STARTTLS"])
def test_commands_without_argument(command: bytes) -> None:
    """An argument where none belongs gets 501, blanks are nothing; state unchanged."""
    dialogue = Dialogue(offer=LOGINS)
    dialogue.send(MAIL + RCPT)
    assert dialogue.codes(command + b" x\r\n") == ["501 5.5.4"]
    assert dialogue.session.phase is Phase.RCPT
    assert dialogue.codes(command + b"  \r\n")[0][0] in "23"


def test_control_characters_in_text_arguments() -> None:
    """NUL and other controls in NOOP, HELP and VRFY get 501; VRFY needs an argument."""
    dialogue = Dialogue()
    assert dialogue.codes(b"NOOP a\0\r\nHELP a\rb\r\nVRFY a\x1b\r\n") == ["501 5.5.2"] * 3
    assert dialogue.codes(b"VRFY \r\n") == ["501 5.5.4"]


def test_rset_ends_the_transaction() -> None:
    """RSET is told only where there was a transaction."""
    dialogue = Dialogue()
    assert dialogue.codes(b"RSET\r\n") == ["250 2.0.0"]
    assert dialogue.events == []
    dialogue.send(MAIL + RCPT + b"RSET\r\n")
    assert dialogue.events[-1] == Reset()
    assert dialogue.codes(RCPT) == ["503 5.5.1"]


def test_a_new_ehlo_ends_the_transaction() -> None:
    """EHLO in a transaction is as RSET (RFC 5321 §4.1.4), and the rules learn both."""
    dialogue = Dialogue()
    dialogue.send(MAIL + b"EHLO again\r\n")
    assert dialogue.events[-2:] == [Hello("again", True), Reset()]
    assert dialogue.codes(MAIL) == ["250 2.1.0"]


def test_a_refused_mail_opens_nothing() -> None:
    """After a refused MAIL there is no transaction; what was pipelined behind it gets 503 and is no error."""
    dialogue = Dialogue(refusing(Mail, with_=LATER), limits=Limits(errors=2))
    assert dialogue.codes(MAIL + RCPT * 5 + b"DATA\r\n") == ["451 4.3.0", *["503 5.5.1"] * 6]
    assert not dialogue.session.closing
    assert dialogue.codes(b"MAIL FROM:<\r\n" + RCPT * 5) == ["501 5.1.7", *["503 5.5.1"] * 5]
    assert dialogue.codes(b"RSET\r\n" + RCPT) == ["250 2.0.0", "421 4.7.0"]


def test_data_refused_by_the_rules() -> None:
    """After a refused DATA the transaction is still open."""
    dialogue = Dialogue(refusing(Data, with_=LATER))
    assert dialogue.codes(MAIL + RCPT + b"DATA\r\n")[-1] == "451 4.3.0"
    assert dialogue.session.phase is Phase.RCPT
    assert not dialogue.session.in_data


def test_refused_content_ends_the_transaction() -> None:
    """Whatever the reply to the end of data, the transaction is over (RFC 5321 §4.1.1.4)."""
    dialogue = Dialogue(refusing(EndOfData))
    dialogue.start()
    assert dialogue.session.in_data
    assert dialogue.codes(b"x\r\n.\r\n" + RCPT + MAIL) == ["550 5.7.1", "503 5.5.1", "250 2.1.0"]
    assert not dialogue.session.in_data


def test_no_event_while_a_reply_is_owed() -> None:
    """Law 4: nothing behind an event is looked at before it is answered."""
    dialogue = Dialogue()
    session = dialogue.session
    session.receive(MAIL + RCPT + b"DATA\r\n")
    assert isinstance(session.next_event(), Mail)
    for _ in range(3):
        assert session.next_event() is AWAITING_REPLY
        assert session.output() == b""
    assert session.buffered == len(RCPT + b"DATA\r\n")
    session.reply(ACCEPT[Mail])
    assert isinstance(session.next_event(), Rcpt)


def test_a_reply_to_nothing_is_our_fault() -> None:
    """Answering what owes no reply raises."""
    dialogue = Dialogue()
    with pytest.raises(RuntimeError):
        dialogue.session.reply(POLICY)


def test_output_is_given_once() -> None:
    """All replies of a burst come in one piece, and only once."""
    dialogue = Dialogue()
    assert codes(dialogue.send(b"NOOP\r\nNOOP\r\n")) == ["250 2.0.0"] * 2
    assert dialogue.session.output() == b""


def test_a_421_ends_the_session_anywhere() -> None:
    """A 421 in answer to any event closes; what follows is ignored."""
    dialogue = Dialogue(refusing(Rcpt, with_=reply(421, status.TOO_MUCH, "slow down")))
    assert dialogue.codes(MAIL + RCPT + b"NOOP\r\n") == ["250 2.1.0", "421 4.7.0"]
    assert dialogue.session.closing
    assert dialogue.send(b"NOOP\r\n") == b""
    assert dialogue.session.buffered == 0


def test_the_driver_may_close() -> None:
    """`close` writes a reply that nobody asked for, also while an event waits for its own."""
    dialogue = Dialogue()
    dialogue.session.receive(MAIL + RCPT)
    dialogue.session.next_event()
    dialogue.session.close(reply(421, status.NOT_ACCEPTING, "shutting down"))
    assert dialogue.session.closing
    assert dialogue.session.next_event() is NEED_DATA
    assert codes(dialogue.session.output()) == ["421 4.3.2"]


def test_every_reply_is_told_of_by_its_code() -> None:
    """Replies of the rules and of the session itself are counted as the peer sees them, each once."""
    told: list[int] = []
    session = ServerSession("mx.example.test", Offer(), Limits(), told.append)
    commands = b"EHLO x\r\nHUH\r\n" + MAIL + RCPT + b"DATA\r\nbare\nline\r\n.\r\nRSET\r\nMAIL\r\nQUIT\r\n"
    session.receive(commands)
    seen = b""
    while (event := session.next_event()) is not NEED_DATA and not session.closing:
        answer_ = accept(event) if isinstance(event, Event) else None
        if answer_ is not None and session.owes_reply:
            session.reply(answer_)
        seen += session.output()
    seen += session.output()
    last = [line for line in seen.decode().splitlines() if line[3] == " "]
    assert told == [int(line[:3]) for line in last]
    assert told == [220, 250, 500, 250, 250, 354, 550, 250, 501, 221]


def test_spoilt_content_is_read_to_its_end() -> None:
    """Law 3: when the rules give content up, the rest is swallowed and the reply stands at the true end."""

    def rules(event: Event) -> Reply | None:
        if isinstance(event, Content):
            dialogue.session.spoil(LATER)
        return accept(event)

    dialogue = Dialogue(rules)
    dialogue.start()
    assert dialogue.send(b"one\r\n") == b""
    assert dialogue.codes(b"bare \n two\r\nQUIT\r\n.\r\nNOOP\r\n") == ["451 4.3.0", "250 2.0.0"]
    assert dialogue.events == [Content(b"one"), DataRefused(LATER, 23)]
    dialogue.rules = accept
    dialogue.start()
    assert dialogue.codes(b"x\r\n.\r\n") == ["250 2.0.0"]


def test_content_spoilt_by_421() -> None:
    """A 421 as that reply closes after it."""
    dialogue = Dialogue()
    dialogue.start()
    dialogue.session.spoil(reply(421, status.NOT_ACCEPTING, "bye"))
    assert dialogue.codes(b"x\r\n.\r\nNOOP\r\n") == ["421 4.3.2"]
    assert dialogue.session.closing


def test_only_content_can_be_spoilt() -> None:
    """Giving up content where none is on its way raises."""
    with pytest.raises(RuntimeError):
        Dialogue().session.spoil(LATER)


def test_row_75_input_before_a_half_close_is_answered() -> None:
    """What arrived before the end of input is answered, then the session is over."""
    dialogue = Dialogue()
    dialogue.session.receive(MAIL + RCPT + b"NOO")
    dialogue.session.end_of_input()
    assert codes(dialogue.run()) == ["250 2.1.0", "250 2.1.5"]
    assert dialogue.session.closing


def test_a_half_close_waits_for_the_reply() -> None:
    """A session is not over while an event of it is not answered."""
    dialogue = Dialogue()
    dialogue.session.receive(MAIL)
    dialogue.session.end_of_input()
    assert isinstance(dialogue.session.next_event(), Mail)
    assert dialogue.session.next_event() is AWAITING_REPLY
    assert not dialogue.session.closing
    dialogue.session.reply(ACCEPT[Mail])
    assert dialogue.session.next_event() is NEED_DATA
    assert dialogue.session.closing


@pytest.mark.parametrize("sent", [b"", b"x\r\n", b"x\r\n.\r"])
def test_row_76_input_ends_in_the_data(sent: bytes) -> None:
    """Content without its end gets no reply, and is no message."""
    dialogue = Dialogue()
    dialogue.start()
    dialogue.session.receive(sent)
    dialogue.session.end_of_input()
    assert dialogue.run() == b""
    assert dialogue.session.closing
    assert not any(isinstance(event, EndOfData | DataRefused) for event in dialogue.events)


def test_input_ends_in_auth() -> None:
    """An exchange that is not finished ends with the input."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    dialogue.send(b"AUTH LOGIN\r\nYW")
    dialogue.session.end_of_input()
    assert dialogue.run() == b""
    assert dialogue.session.closing


def test_a_session_is_freed_without_the_collector() -> None:
    """A session holds no reference to itself: memory of a gone connection is free at once."""
    gc.collect()
    gc.disable()
    try:
        dialogue = Dialogue()
        dialogue.start()
        dialogue.send(b"x\r\n.\r\n")
        del dialogue
        assert gc.collect() == 0
    finally:
        gc.enable()


# AUTH


def test_auth_plain_with_initial_response() -> None:
    """AUTH PLAIN in one line gives the credential."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    assert dialogue.codes(b"auth plain " + PLAIN + b"\r\n") == ["235 2.7.0"]
    assert dialogue.events == [Authenticate("PLAIN", "", "alice", "secret")]
    assert dialogue.session.authenticated


def test_auth_plain_with_a_challenge() -> None:
    """Without an initial response an empty challenge asks for it."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    assert dialogue.send(b"AUTH PLAIN\r\n") == b"334 \r\n"
    assert dialogue.session.phase is Phase.AUTH
    assert dialogue.codes(PLAIN + b"\r\n") == ["235 2.7.0"]


@pytest.mark.parametrize("first", [b"AUTH LOGIN\r\nYWxpY2U=\r\n", b"AUTH LOGIN YWxpY2U=\r\n"])
def test_auth_login(first: bytes) -> None:
    """AUTH LOGIN takes the user name as initial response or on challenge, then the password."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    assert dialogue.send_each(first).endswith(b"334 UGFzc3dvcmQ6\r\n")
    assert dialogue.codes(b"c2VjcmV0\r\n") == ["235 2.7.0"]
    assert dialogue.events == [Authenticate("LOGIN", "", "alice", "secret")]


def test_a_password_is_not_printed() -> None:
    """The text form of the event, which may reach a log, leaves the password out."""
    assert "secret" not in repr(Authenticate("PLAIN", "", "alice", "secret"))


def test_a_refused_login_may_be_tried_again() -> None:
    """After a 535 the session goes on, not authenticated."""
    dialogue = Dialogue(refusing(Authenticate, with_=reply(535, status.AUTH_FAILED, "no")), LOGINS, tls=True)
    assert dialogue.codes((b"AUTH PLAIN " + PLAIN + b"\r\n") * 2) == ["535 5.7.8"] * 2
    assert not dialogue.session.authenticated


def test_auth_where_there_is_none() -> None:
    """A service without AUTH answers 502."""
    assert Dialogue().codes(b"AUTH PLAIN " + PLAIN + b"\r\n") == ["502 5.5.1"]


def test_auth_refused_by_syntax_or_mechanism() -> None:
    """No mechanism: 501; one that is not offered: 504 5.5.4 (RFC 4954 §4)."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    assert dialogue.codes(b"AUTH\r\nAUTH PL=AIN\r\nAUTH PLAIN a b\r\n") == ["501 5.5.4"] * 3
    assert dialogue.codes(b"AUTH CRAM-MD5\r\n") == ["504 5.5.4"]


def test_auth_in_clear_text_where_permitted() -> None:
    """`auth_without_tls` lets a network log in without TLS."""
    dialogue = Dialogue(offer=Offer(mechanisms=("PLAIN",), auth_without_tls=True))
    assert dialogue.codes(b"AUTH PLAIN " + PLAIN + b"\r\n") == ["235 2.7.0"]


# STARTTLS


def test_starttls() -> None:
    """After the 220 the session is deaf until TLS stands, then begins anew, under TLS."""
    dialogue = Dialogue(offer=LOGINS)
    assert dialogue.codes(b"STARTTLS\r\n") == ["220 2.0.0"]
    assert dialogue.events == [StartTLS()]
    assert dialogue.session.phase is Phase.TLS
    assert dialogue.session.next_event() is NEED_DATA
    dialogue.session.tls_started()
    assert dialogue.session.tls
    assert dialogue.codes(MAIL) == ["503 5.5.1"]
    assert b"STARTTLS" not in dialogue.send(b"EHLO a\r\n")


def test_starttls_refused() -> None:
    """Not offered: 502. Refused by the rules (454): everything goes on in clear text."""
    assert Dialogue().codes(b"STARTTLS\r\n") == ["502 5.5.1"]
    dialogue = Dialogue(refusing(StartTLS, with_=reply(454, status.AUTH_TEMPORARY, "no certificate")), LOGINS)
    assert dialogue.codes(b"STARTTLS\r\nNOOP\r\n") == ["454 4.7.0", "250 2.0.0"]
    assert not dialogue.session.tls


def test_implicit_tls_begins_before_the_greeting() -> None:
    """With TLS from the first octet the session begins as ever, and what came before it is forgotten."""
    session = ServerSession("mx.example.test", LOGINS, Limits())
    session.receive(b"NOOP\r\n")
    session.tls_started()
    assert isinstance(session.next_event(), Connected)
    assert (session.tls, session.buffered) == (True, 0)


# Limits


def test_too_many_errors() -> None:
    """The last of the permitted errors gets 421 in its place, and the session ends (RFC 5321 §7.8)."""
    dialogue = Dialogue(limits=Limits(errors=3))
    assert dialogue.codes(b"BAD\r\n" * 5) == ["500 5.5.2", "500 5.5.2", "421 4.7.0"]
    assert dialogue.events[-1] == Refused("", answer.TOO_MANY_ERRORS)
    assert dialogue.session.closing


def test_what_is_wrong_with_mail_is_no_protocol_error() -> None:
    """Refused recipients, addresses beyond ASCII, SIZE and content do not count as errors."""
    dialogue = Dialogue(refusing(Rcpt, with_=NO_SUCH_USER), limits=Limits(errors=1, message_size=10))
    assert dialogue.codes(b"MAIL FROM:<> SIZE=11\r\n") == ["552 5.3.4"]
    assert dialogue.codes("MAIL FROM:<ü@x>\r\n".encode()) == ["553 5.6.7"]
    assert dialogue.codes(MAIL + RCPT * 3 + b"DATA\r\n")[-1] == "554 5.5.1"
    dialogue.rules = accept
    assert dialogue.codes(RCPT + b"DATA\r\n") == ["250 2.1.5", "354"]
    assert dialogue.codes(b"x" * 20 + b"\r\n.\r\n") == ["552 5.3.4"]
    assert not dialogue.session.closing


@pytest.mark.parametrize("command", [b"NOOP\r\n", b"RSET\r\n", b"VRFY a\r\n", b"EHLO a\r\n", MAIL + b"RSET\r\n"])
def test_commands_without_mail(command: bytes) -> None:
    """A session that only talks ends with 421."""
    dialogue = Dialogue(limits=Limits(idle_commands=11))  # the first was EHLO
    said = dialogue.codes(command * 12)
    assert (len(said), said[-1]) == (11, "421 4.7.0")
    assert dialogue.session.closing


def test_refused_recipients_are_counted_as_idle() -> None:
    """A search for addresses ends with 421; accepted recipients and messages are not held against a client."""
    dialogue = Dialogue(limits=Limits(idle_commands=10))
    for _ in range(5):
        assert dialogue.codes(MAIL + RCPT * 20 + b"DATA\r\n")[-1] == "354"
        assert dialogue.codes(b"x\r\n.\r\n") == ["250 2.0.0"]
    dialogue.rules = refusing(Rcpt, with_=NO_SUCH_USER)
    assert dialogue.codes(MAIL + RCPT * 20) == ["250 2.1.0", *["550 5.1.1"] * 9, "421 4.7.0"]


def test_too_many_messages() -> None:
    """The MAIL after the last permitted transaction gets 421."""
    dialogue = Dialogue(limits=Limits(transactions=2))
    assert dialogue.codes((MAIL + b"RSET\r\n") * 3)[-1] == "421 4.7.0"
    assert dialogue.session.closing

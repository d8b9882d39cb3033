"""The rows of robustness.md that the server core answers, by number (those of readers, addresses and parameters stand
with their modules too).
"""

from __future__ import annotations

from base64 import b64encode

import pytest

from mta.smtp import answer
from mta.smtp.address import Mailbox
from mta.smtp.event import (
    Authenticate,
    Content,
    DataRefused,
    EndOfData,
    Hello,
    Mail,
    Rcpt,
    Refused,
    Reset,
)
from mta.smtp.extension import Offer
from mta.smtp.limits import Limits
from mta.smtp.server import Phase
from tests.doubles.dialogue import NO_SUCH_USER, Dialogue, refusing

MAIL = b"MAIL FROM:<a@example.org>\r\n"
RCPT = b"RCPT TO:<b@example.test>\r\n"
LOGINS = Offer(mechanisms=("PLAIN", "LOGIN"), starttls=True)
PLAIN = b64encode(b"\0alice\0secret")
SMUGGLED = b"MAIL FROM:<evil@example.org>\r\n"

LINE_ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\r\n.\r\r\n", b"\r\n.\r\r\n"]


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize("each", [False, True])
def test_rows_1_and_2_smuggling(end: bytes, each: bool) -> None:
    """Law 3: only CRLF.CRLF ends data. A bare CR or LF is refused with 550 5.6.11 after the true end."""
    dialogue = Dialogue()
    dialogue.start()
    send = dialogue.send_each if each else dialogue.send
    assert send(b"x" + end + SMUGGLED + RCPT + b"DATA\r\n") == b""
    said = send(b"y\r\n.\r\nNOOP\r\n")
    assert said.startswith(b"550 5.6.11 ")
    assert said.endswith(b"\r\n250 2.0.0 OK\r\n")
    assert isinstance(dialogue.events[-1], DataRefused)
    assert not any(isinstance(event, Mail | EndOfData) for event in dialogue.events)
    assert dialogue.session.phase is Phase.READY


def test_a_bare_lf_is_explained() -> None:
    """The refusal names kind and line, so that who programmed the sender can mend it."""
    dialogue = Dialogue()
    dialogue.start()
    said = dialogue.send(b"one\r\ntwo\nthree\r\n.\r\n")
    assert said == (
        b"550 5.6.11 LF without CR in line 2 of the message; "
        b"lines must end with CRLF (\\r\\n), RFC 5321 section 2.3.8\r\n"
    )
    dialogue.start()
    assert dialogue.send(b"one\r\r\n.\r\n").startswith(b"550 5.6.11 CR without LF in line 1 of the message")


def test_old_devices_may_send_bare_line_ends() -> None:
    """With `lenient_line_ends` bare CR and LF become CRLF, and still only CRLF.CRLF ends the data."""
    dialogue = Dialogue(offer=Offer(lenient_line_ends=True))
    dialogue.start()
    assert dialogue.send(b"a\nb\rc\n.\n" + SMUGGLED) == b""
    assert dialogue.codes(b"\r\n.\r\n") == ["250 2.0.0"]
    assert dialogue.events[0] == Content(b"a\r\nb\r\nc\r\n.\r\n" + SMUGGLED + b"\r\n")


def test_row_3_odd_line_ends_are_content() -> None:
    """NUL beside the dot, NEL, VT, FF, LS and PS do not end data."""
    dialogue = Dialogue()
    dialogue.start()
    for odd in (b"\0", b"\x85", b"\x0b", b"\x0c", "\u2028".encode(), "\u2029".encode()):
        assert dialogue.send(b"x\r\n" + odd + b".\r\ny" + odd + b"." + odd + SMUGGLED) == b""
    assert dialogue.codes(b".\r\n") == ["250 2.0.0"]


def test_row_4_the_end_of_data_at_every_split() -> None:
    """One 250 after the last LF, nothing before, wherever the end is cut."""
    message = b"x\r\n..\r\n.\r\n"
    for place in range(len(message)):
        dialogue = Dialogue()
        dialogue.start()
        assert dialogue.send(message[:place]) == b""
        assert dialogue.codes(message[place:]) == ["250 2.0.0"]
        assert dialogue.events == [Content(b"x\r\n.\r\n"), EndOfData(6, False)]
    dialogue = Dialogue()
    dialogue.start()
    assert dialogue.send_each(message) == b"250 2.0.0 queued\r\n"


def test_row_5_a_dot_at_the_edge_of_a_read() -> None:
    """``.CRLF`` that begins a read in the middle of a line is data."""
    dialogue = Dialogue()
    dialogue.start()
    dialogue.send(b"x" * 65536)
    assert dialogue.send(b".\r\n" + SMUGGLED) == b""
    assert dialogue.codes(b".\r\n") == ["250 2.0.0"]


@pytest.mark.parametrize("each", [False, True])
def test_row_6_a_command_ended_by_bare_lf(each: bool) -> None:
    """It is not carried out: one 500, and the session ends."""
    dialogue = Dialogue()
    sent = b"MAIL FROM:<a@b>\nRCPT TO:<c@d>\r\nNOOP\r\n"
    said = dialogue.send_each(sent) if each else dialogue.send(sent)
    assert said == answer.BARE_LF.wire
    assert dialogue.events == [Refused("", answer.BARE_LF)]
    assert dialogue.session.closing


@pytest.mark.parametrize("odd", [b"\r", b"\x0b", b"\x0c", "\u2028".encode(), b"\x85"])
def test_row_7_one_line_is_one_command(odd: bytes) -> None:
    """What looks like a line end and is none gives one reply, never two commands."""
    dialogue = Dialogue()
    for command in (b"NOOP" + odd + b"QUIT", b"MAIL FROM:<a@b>" + odd + b"RCPT TO:<c@d>", b"RSET" + odd + b"QUIT"):
        (said,) = dialogue.codes(command + b"\r\n")
        assert said[0] == "5"
    assert not dialogue.session.closing


@pytest.mark.parametrize("length", [2047, 4096, 12_287, 12_288, 140_000])
@pytest.mark.parametrize("offer", [Offer(), LOGINS])
@pytest.mark.parametrize("each", [False, True])
def test_row_8_a_long_command_line(length: int, offer: Offer, each: bool) -> None:
    """One 500, the tail is dropped, the next command is carried out."""
    if each:
        length = min(length, 13_000)
    dialogue = Dialogue(offer=offer)
    sent = b"NOOP " + b"x" * (length - 5) + b"\r\nRSET\r\n"
    said = dialogue.send_each(sent) if each else dialogue.send(sent)
    assert said == answer.LINE_TOO_LONG.wire + answer.OK.wire


def test_a_command_at_the_limit() -> None:
    """The longest command that is permitted is carried out."""
    dialogue = Dialogue()
    assert dialogue.codes(b"NOOP " + b"x" * 2041 + b"\r\n") == ["250 2.0.0"]


@pytest.mark.parametrize("start", [b"", b"AUTH LOGIN\r\n"])
def test_row_9_no_line_end_at_all(start: bytes) -> None:
    """4 MiB without a line end: one reply, nothing held."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    dialogue.send(start)
    said = []
    for _ in range(64):
        said += dialogue.codes(b"x" * 65536)
        assert dialogue.session.buffered == 0
    assert said == ["500 5.5.6" if start else "500 5.5.2"]


@pytest.mark.parametrize("octet", [0, 1, 9, 13, 27, 127])
def test_row_10_control_characters_in_a_mailbox(octet: int) -> None:
    """NUL or a control in a mailbox gets 501; no transaction, no recipient."""
    dialogue = Dialogue()
    assert dialogue.codes(b"MAIL FROM:<a%cb@c>\r\n" % octet) == ["501 5.1.7"]
    dialogue.send(MAIL)
    assert dialogue.codes(b'RCPT TO:<"a%cb"@c>\r\n' % octet) == ["501 5.1.3"]
    assert dialogue.session.phase is Phase.MAIL


def test_row_11_no_echo_of_what_came() -> None:
    """Replies of the session hold nothing that the client wrote."""
    dialogue = Dialogue()
    said = dialogue.send(b"EHLO \x1b[31m\r\nX\x07\x1b\r\nMAIL FROM:<\x1b>\r\nEHLO evil<script>\r\n")
    assert not set(said) & {7, 27}
    assert b"evil" not in said


@pytest.mark.parametrize("behind", [b"EHLO evil\r\nMAIL FROM:<evil@x>\r\n", b"NOO", b"x" * 5000])
def test_row_12_nothing_read_before_tls_is_used_after_it(behind: bytes) -> None:
    """Law 5: what came in clear text behind STARTTLS, in its segment or later, is dropped."""
    dialogue = Dialogue(offer=LOGINS)
    assert dialogue.codes(b"STARTTLS\r\n" + behind) == ["220 2.0.0"]
    assert dialogue.session.buffered == 0
    assert dialogue.send(behind) == b""
    dialogue.session.tls_started()
    assert dialogue.run() == b""
    assert dialogue.codes(b"NOOP\r\n") == ["250 2.0.0"]


def test_row_13_everything_learnt_before_tls_is_forgotten() -> None:
    """MAIL before STARTTLS, RCPT after it: 503; the rules learn that the transaction is gone."""
    dialogue = Dialogue(offer=LOGINS)
    dialogue.send(MAIL + b"STARTTLS\r\n")
    dialogue.session.tls_started()
    dialogue.run()
    assert dialogue.events[-1] == Reset()
    assert dialogue.codes(RCPT) == ["503 5.5.1"]
    assert dialogue.codes(b"EHLO a\r\n" + RCPT) == ["250", "503 5.5.1"]


def test_row_14_starttls_out_of_place() -> None:
    """STARTTLS under TLS gets 503, with an argument 501."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    assert dialogue.codes(b"STARTTLS\r\nSTARTTLS now\r\n") == ["503 5.5.1", "501 5.5.4"]


@pytest.mark.parametrize("command", [b"AUTH PLAIN " + PLAIN, b"AUTH PLAIN", b"AUTH LOGIN", b"AUTH"])
def test_row_18_auth_before_tls(command: bytes) -> None:
    """AUTH in clear text gets 538 5.7.11, no password is looked at, and none is told to a log."""
    dialogue = Dialogue(offer=LOGINS)
    assert dialogue.codes(command + b"\r\n") == ["538 5.7.11"]
    assert dialogue.events == [Refused("AUTH", answer.ENCRYPTION_REQUIRED)]
    assert dialogue.codes(b"c2VjcmV0\r\n") == ["500 5.5.2"]
    assert dialogue.events[-1] == Refused("", answer.UNKNOWN_COMMAND)


def test_row_19_auth_twice_or_in_a_transaction() -> None:
    """AUTH gets 503 in a transaction and after it succeeded."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    auth = b"AUTH PLAIN " + PLAIN + b"\r\n"
    assert dialogue.codes(MAIL + auth + RCPT + auth + b"RSET\r\n")[1::2] == ["503 5.5.1", "503 5.5.1"]
    assert dialogue.codes(auth + auth) == ["235 2.7.0", "503 5.5.1"]


def test_row_20_auth_cancelled_or_not_base64() -> None:
    """``*`` and bad BASE64 end the exchange with 501; the session goes on."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    assert dialogue.codes(b"AUTH LOGIN\r\n*\r\n") == ["334", "501 5.7.0"]
    assert dialogue.codes(b"AUTH LOGIN\r\nYWxpY2U=\r\n*\r\n") == ["334", "334", "501 5.7.0"]
    assert dialogue.codes(b"AUTH PLAIN\r\n=\r\n") == ["334", "501 5.5.2"]
    assert dialogue.codes(b"AUTH PLAIN Y=Q=\r\n") == ["501 5.5.2"]
    assert dialogue.codes(b"AUTH PLAIN *\r\n") == ["501 5.5.2"]
    assert dialogue.codes(b"AUTH PLAIN =\r\n") == ["501 5.5.2"]
    assert dialogue.codes(b"AUTH PLAIN\r\n\r\n") == ["334", "501 5.5.2"]
    assert dialogue.codes(b"NOOP\r\n") == ["250 2.0.0"]
    assert not any(isinstance(event, Authenticate) for event in dialogue.events)


def test_row_21_long_auth_lines() -> None:
    """Lines of 12,288 octets and names of 255 are handled; longer lines get 500 5.5.6 and end the exchange."""
    dialogue = Dialogue(offer=LOGINS, tls=True, limits=Limits(errors=100))
    response = b64encode(b"\0" + b"u" * 255 + b"\0" + b"p" * 255)
    assert dialogue.codes(b"AUTH PLAIN " + response + b"\r\nRSET\r\n") == ["235 2.7.0", "250 2.0.0"]
    dialogue = Dialogue(offer=LOGINS, tls=True)
    longest = b64encode(b"\0u\0" + b"p" * 9204)
    assert len(longest) == 12276
    assert dialogue.codes(b"AUTH PLAIN " + longest[:-1] + b"\r\n") == ["501 5.5.2"]
    assert dialogue.codes(b"auth PLAIN " + longest + b"\r\n") == ["500 5.5.6"]
    assert dialogue.codes(b"AUTH PLAIN\r\n" + longest + b"\r\n") == ["334", "235 2.7.0"]
    dialogue = Dialogue(offer=LOGINS, tls=True)
    assert dialogue.codes(b"AUTH PLAIN\r\n" + b"x" * 12_287 + b"\r\nNOOP\r\n") == ["334", "500 5.5.6", "250 2.0.0"]
    assert dialogue.session.phase is Phase.READY


def test_row_22_an_authorization_identity_is_passed_on() -> None:
    """Whom a client wants to act as is for the rules to judge."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    dialogue.send(b"AUTH PLAIN " + b64encode(b"bob\0alice\0secret") + b"\r\n")
    assert dialogue.events == [Authenticate("PLAIN", "bob", "alice", "secret")]


@pytest.mark.parametrize("response", [b"alice", b"\0\0\0\0\0", b"\0alice\0\xff", b"\0\0secret", b""])
def test_row_23_malformed_plain(response: bytes) -> None:
    """A malformed response gets 501, and the session goes on."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    assert dialogue.codes(b"AUTH PLAIN\r\n" + b64encode(response) + b"\r\n") == ["334", "501 5.5.2"]
    assert dialogue.codes(b"AUTH PLAIN " + PLAIN + b"\r\n") == ["235 2.7.0"]


def test_a_bare_lf_in_an_exchange() -> None:
    """The rule for line ends holds in an AUTH exchange too."""
    dialogue = Dialogue(offer=LOGINS, tls=True)
    assert dialogue.codes(b"AUTH LOGIN\r\nYWxpY2U=\nNOOP\r\n") == ["334", "500 5.5.2"]
    assert dialogue.session.closing


def test_row_26_a_login_survives_ehlo_and_rset() -> None:
    """EHLO and RSET do not log out; STARTTLS is not possible after AUTH."""
    dialogue = Dialogue(offer=Offer(mechanisms=("PLAIN",), auth_without_tls=True, starttls=True))
    dialogue.send(b"AUTH PLAIN " + PLAIN + b"\r\nRSET\r\nEHLO again\r\n")
    assert dialogue.session.authenticated
    assert dialogue.codes(b"STARTTLS\r\n") == ["503 5.5.1"]


@pytest.mark.parametrize("name", [b"Postmaster", b"POSTMASTER", b"postmaster"])
def test_row_31_postmaster_needs_no_domain(name: bytes) -> None:
    """``RCPT TO:<Postmaster>`` is taken in any case (RFC 5321 §4.5.1)."""
    dialogue = Dialogue()
    assert dialogue.codes(MAIL + b"RCPT TO:<" + name + b">\r\n")[-1] == "250 2.1.5"
    assert dialogue.events[-1] == Rcpt(Mailbox("postmaster", ""))


def test_rows_32_to_34_addresses() -> None:
    """Quoted local-parts come unquoted, literals in canonical form; malformed ones get 501."""
    dialogue = Dialogue()
    dialogue.send(MAIL + b'RCPT TO:<"alice"@Us.test>\r\nRCPT TO:<"a>,\\"@"@us.test>\r\nRCPT TO:<a@[IPv6:::1]>\r\n')
    assert dialogue.events[1:] == [
        Rcpt(Mailbox("alice", "us.test")),
        Rcpt(Mailbox('a>,"@', "us.test")),
        Rcpt(Mailbox("a", "[IPv6:::1]")),
    ]
    assert dialogue.codes(b"RCPT TO:<a@[1.2.3.400]>\r\nRCPT TO:<a@[IPv6:x]>\r\n") == ["501 5.1.3"] * 2


@pytest.mark.parametrize(
    "path", [b"<a(x)@b>", b'<"a@b>', b"<a@b", b"a@b>", b"<a@b>x", b"<a@b> <c@d>", b"<a@b> c", b"<a@b@c>", b"<a@b,c@d>"]
)
def test_row_35_bad_paths_open_nothing(path: bytes) -> None:
    """Comments, unclosed quotes and brackets, text behind the path: refused, no transaction."""
    dialogue = Dialogue()
    assert dialogue.codes(b"MAIL FROM:" + path + b"\r\n")[0][:3] in ("501", "555")
    assert dialogue.session.phase is Phase.READY


def test_rows_36_to_38_parameters() -> None:
    """Unknown parameters, and those of DSN and CHUNKING, get 555; malformed ones 501; the next MAIL works."""
    dialogue = Dialogue(limits=Limits(errors=100))
    for parameter in (b"FOO", b"FOO=BAR", b"RET=HDRS", b"ENVID=x", b"BODY=BINARYMIME", b"AUTH=<>"):
        assert dialogue.codes(b"MAIL FROM:<a@b> " + parameter + b"\r\n") == ["555 5.5.4"]
    for size in (b"abc", b"", b"1" * 21):
        assert dialogue.codes(b"MAIL FROM:<a@b> SIZE=" + size + b"\r\n") == ["501 5.5.4"]
    for size in (b"9" * 20, b"52428801"):
        assert dialogue.codes(b"MAIL FROM:<a@b> SIZE=" + size + b"\r\n") == ["552 5.3.4"]
    assert dialogue.codes(MAIL) == ["250 2.1.0"]
    assert dialogue.codes(b"RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS\r\nRCPT TO:<a@b> ORCPT=x\r\n") == ["555 5.5.4"] * 2
    assert dialogue.codes(b"BDAT 3 LAST\r\n") == ["502 5.5.1"]


def test_rows_39_and_40_utf8_addresses() -> None:
    """UTF-8 needs SMTPUTF8 at MAIL, for recipients too; broken UTF-8 gets 501."""
    dialogue = Dialogue()
    rcpt = "RCPT TO:<ü@x>\r\n".encode()
    assert dialogue.codes(MAIL + rcpt) == ["250 2.1.0", "553 5.6.7"]
    assert dialogue.codes(b"RSET\r\nMAIL FROM:<a@b> SMTPUTF8\r\n" + rcpt)[-1] == "250 2.1.5"
    assert dialogue.codes(b"RCPT TO:<\xc0\xafa@x>\r\n") == ["501 5.5.2"]
    assert dialogue.codes(b"RSET\r\n" + MAIL + rcpt)[-1] == "553 5.6.7"


def test_row_42_too_many_recipients() -> None:
    """Recipients over the limit get 452 4.5.3; the message goes to the accepted; the next has a fresh count."""
    dialogue = Dialogue(limits=Limits(recipients=100))
    for _ in range(2):
        said = dialogue.codes(MAIL + RCPT * 102 + b"DATA\r\n")
        assert said == ["250 2.1.0", *["250 2.1.5"] * 100, "452 4.5.3", "452 4.5.3", "354"]
        assert dialogue.codes(b"x\r\n.\r\n") == ["250 2.0.0"]


def test_row_43_commands_out_of_order() -> None:
    """Nested MAIL, RCPT and DATA out of order get 503, state unchanged."""
    dialogue = Dialogue()
    assert dialogue.codes(RCPT + b"DATA\r\n" + MAIL + b"DATA\r\n" + MAIL) == [
        "503 5.5.1",
        "503 5.5.1",
        "250 2.1.0",
        "503 5.5.1",
        "503 5.5.1",
    ]
    assert dialogue.codes(RCPT + MAIL + b"DATA\r\n") == ["250 2.1.5", "503 5.5.1", "354"]


def test_row_44_a_refused_ehlo_changes_nothing() -> None:
    """A refused EHLO, by syntax or by rule, leaves the transaction open (RFC 5321 §4.1.4)."""
    dialogue = Dialogue(refusing(Hello), hello=False)
    assert dialogue.codes(b"EHLO a\r\n" + MAIL) == ["550 5.7.1", "503 5.5.1"]
    dialogue = Dialogue()
    dialogue.send(MAIL + RCPT)
    dialogue.rules = refusing(Hello)
    assert dialogue.codes(b"EHLO\r\nEHLO a\r\nDATA\r\n") == ["501 5.5.4", "550 5.7.1", "354"]
    assert Reset() not in dialogue.events


@pytest.mark.parametrize("each", [False, True])
def test_row_45_a_pipelined_group_with_a_bad_recipient(each: bool) -> None:
    """Replies come in order; DATA gets 554 where no recipient was accepted, 354 where one was."""
    dialogue = Dialogue(lambda event: NO_SUCH_USER if event == Rcpt(Mailbox("no", "x")) else refusing()(event))
    send = dialogue.send_each if each else dialogue.send
    assert send(MAIL + b"RCPT TO:<no@x>\r\nDATA\r\n").split(b"\r\n")[:-1] == [
        b"250 2.1.0 sender ok",
        b"550 5.1.1 no such user",
        b"554 5.5.1 No valid recipients",
    ]
    assert dialogue.codes(b"RSET\r\n" + MAIL + b"RCPT TO:<no@x>\r\n" + RCPT + b"DATA\r\n")[-1] == "354"


def test_row_46_no_event_is_taken_ahead() -> None:
    """A driver that stops asking holds the rest as it came; its size is known, and nothing is lost."""
    dialogue = Dialogue()
    session = dialogue.session
    session.receive(MAIL + RCPT * 1000)
    session.next_event()
    assert session.buffered == len(RCPT) * 1000
    assert session.output() == b""
    session.reply(refusing()(Mail(None)) or NO_SUCH_USER)
    assert len(dialogue.run().split(b"\r\n")) == 1002


@pytest.mark.parametrize("length", [998, 1001, 100_000])
def test_row_50_long_body_lines(length: int) -> None:
    """Lines of the content are taken whole, whatever their length."""
    dialogue = Dialogue()
    dialogue.start()
    line = b"." * length + b"\r\n"
    assert dialogue.codes(b"." + line + b".\r\n") == ["250 2.0.0"]
    assert dialogue.events == [Content(line), EndOfData(len(line), False)]


@pytest.mark.parametrize(
    ("sent", "content", "eight_bit"),
    [
        (b"\xe4\r\n", b"\xe4\r\n", True),  # row 51
        (b"a\0b\r\n", b"a\0b\r\n", False),  # row 52
        (b"", b"", False),  # row 53
        (b"\r\n", b"\r\n", False),
        (b"Subject: x\r\n", b"Subject: x\r\n", False),
        (b"\r\nbody\r\n", b"\r\nbody\r\n", False),
    ],
)
def test_rows_51_to_53_odd_content(sent: bytes, content: bytes, eight_bit: bool) -> None:
    """8-bit octets, NUL, no header, no body, nothing at all: taken as it is, with one reply."""
    dialogue = Dialogue()
    dialogue.start()
    assert dialogue.codes(sent + b".\r\n") == ["250 2.0.0"]
    assert dialogue.events == ([Content(content)] if content else []) + [EndOfData(len(content), eight_bit)]


def test_an_oversized_message_is_read_to_its_end() -> None:
    """552 5.3.4 after the true end; the octets over the limit are counted, not given out."""
    dialogue = Dialogue(limits=Limits(message_size=1000))
    dialogue.start()
    for _ in range(10):
        assert dialogue.send(b"x" * 998 + b"\r\n") == b""
    assert dialogue.codes(b".\r\n" + MAIL) == ["552 5.3.4", "250 2.1.0"]
    assert dialogue.events[:2] == [Content(b"x" * 998), DataRefused(answer.MESSAGE_TOO_BIG, 10_000)]


def test_row_58_a_hello_does_no_harm() -> None:
    """A name that could end a comment or a field of Received is made harmless, one with CR refused."""
    dialogue = Dialogue(hello=False)
    assert dialogue.codes(b"EHLO a) by evil; (x\r\nEHLO a\rX: y\r\n") == ["250", "501 5.5.2"]
    assert dialogue.events[1] == Hello("a??by?evil???x", True)

"""The server's end of an SMTP session: octets in, events out, replies in, octets out (RFC 5321, without I/O).

    session.receive(octets)          what the transport brought
    session.next_event()             an event, NEED_DATA or AWAITING_REPLY
    session.reply(reply)             the answer to the last event that owes one
    session.output()                 what to write, once per burst

The session alone decides syntax and order; who uses it decides policy, by the replies it gives. Until an event has
its reply nothing behind it is looked at: replies keep the order of the commands by construction (RFC 2920 §3.2).

What each command does in each phase; an empty cell is 503, state unchanged:

==========  =======  =======  ===========  ==========  ======================
phase       START    READY    MAIL         RCPT        REFUSING (554 greeting)
==========  =======  =======  ===========  ==========  ======================
EHLO, HELO  → READY  stays    → READY      → READY
MAIL                 → MAIL
RCPT                          → RCPT       stays
DATA                          503 or 554   → DATA
STARTTLS             → TLS    → TLS        → TLS
AUTH                 → AUTH
RSET        stays    stays    → READY      → READY
VRFY, HELP  stays    stays    stays        stays
NOOP        stays    stays    stays        stays
QUIT        closing  closing  closing      closing     closing
==========  =======  =======  ===========  ==========  ======================

An arrow is taken when the reply is positive; a refused command changes nothing. DATA in phase MAIL is 503, or 554
where recipients were named and all refused. Four more phases have no commands: OPENING waits for the reply to
`Connected`; AUTH reads responses until the exchange ends, then READY; DATA reads content to its true end, then READY;
TLS is deaf until `tls_started`, then START. CLOSED is the end.

Knowingly not here: DSN, CHUNKING, ETRN (see `mta.smtp.extension`); time (`mta.net`); every policy.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from mta.smtp import answer, grammar, sasl
from mta.smtp.command import parse_hello, parse_mail, parse_rcpt
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
    Quit,
    Refused,
    Reset,
    StartTLS,
    Vrfy,
    Wait,
)
from mta.smtp.extension import Offer, hello_reply
from mta.smtp.limits import Limits
from mta.smtp.reader import DataReader, LineFault, LineReader
from mta.smtp.reply import Reply

__all__ = ["AWAITING_REPLY", "NEED_DATA", "Offer", "Phase", "ServerSession"]

_CONNECTED = Connected()
_DATA = Data()
_START_TLS = StartTLS()
_RESET = Reset()
_QUIT = Quit()


class Phase(enum.IntEnum):
    """Where a session stands; the table above says what follows."""

    OPENING = 0
    REFUSING = 1
    START = 2
    READY = 3
    MAIL = 4
    RCPT = 5
    DATA = 6
    AUTH = 7
    TLS = 8
    CLOSED = 9


class ServerSession:
    """One session. `offer` may be replaced at any time; what is offered counts when a command is looked at.

    `replied` is told the code of every reply but 334.
    """

    __slots__ = (
        "_awaited",
        "_commands",
        "_content",
        "_eof",
        "_errors",
        "_exchange",
        "_extended",
        "_idle",
        "_lines",
        "_mail_refused",
        "_mechanism",
        "_next",
        "_output",
        "_rcpt_refused",
        "_recipients",
        "_replied",
        "_smtputf8",
        "_spoilt",
        "_transactions",
        "authenticated",
        "closing",
        "hostname",
        "limits",
        "offer",
        "phase",
        "tls",
    )

    def __init__(
        self, hostname: str, offer: Offer, limits: Limits, replied: Callable[[int], None] = lambda code: None
    ) -> None:
        self.hostname = hostname
        self.offer = offer
        self.limits = limits
        self._replied = replied
        self.tls = False
        """Whether the session is under TLS."""
        self.authenticated = False
        """Whether AUTH succeeded."""
        self.closing = False
        """Whether the session is over: close once its output is written. Input is ignored from here on."""
        self._lines = LineReader()
        self._output: list[bytes] = []
        self._next: Event | None = None
        # What becomes of the reply to the last event; None: no reply is owed. Before the greeting nothing is read.
        self._awaited: Callable[[ServerSession, Reply], None] | None = None
        self._extended = False
        self._content: DataReader | None = None
        self._spoilt: Reply | None = None
        self._exchange: sasl.Exchange | None = None
        self._mechanism = ""
        self._eof = False
        self._errors = 0
        self._idle = 0
        self._transactions = 0
        self._smtputf8 = False
        self._end_transaction()
        self._enter(Phase.OPENING)

    # What the driver calls

    @property
    def buffered(self) -> int:
        """Octets received and not looked at yet."""
        return len(self._lines)

    @property
    def owes_reply(self) -> bool:
        """Whether the last event waits for its reply."""
        return self._awaited is not None

    @property
    def in_data(self) -> bool:
        """Whether a message is on its way: from the 354 to the reply to its end."""
        return self.phase is Phase.DATA

    def receive(self, octets: bytes) -> None:
        """Take octets that the transport brought."""
        if not self.closing and self.phase is not Phase.TLS:
            self._lines.receive(octets)

    def end_of_input(self) -> None:
        """Learn of a half-close: the peer sends no more. What has arrived is answered; then `closing` is set."""
        self._eof = True

    def next_event(self) -> Event | Wait:
        """Return what happened next."""
        if self._awaited is not None:
            return AWAITING_REPLY
        if self._next is not None:
            event, self._next = self._next, None
            return event
        if self._content is not None:
            return self._read_content(self._content)
        if self.phase is Phase.OPENING:
            self._awaited = ServerSession._connected_answered
            return _CONNECTED
        if self.closing:
            return NEED_DATA
        while True:
            found = self._read_response() if self._exchange is not None else self._read_command()
            if found is NEED_DATA and self._eof:
                self._close()
            if found is not None:
                return found

    def reply(self, reply: Reply) -> None:
        """Answer the last event that owes a reply. Raises RuntimeError if there is none."""
        awaited = self._awaited
        if awaited is None:
            raise RuntimeError("no event owes a reply")
        self._awaited = None
        self._say(reply)
        awaited(self, reply)
        if reply.closing:
            self._close()

    def spoil(self, reply: Reply) -> None:
        """Give up the content on its way: the rest is read to the true end and answered there with `reply`.

        What follows is `DataRefused`. Raises RuntimeError if no content is on its way.
        """
        if self._content is None:
            raise RuntimeError("no content to spoil")
        self._spoilt = reply

    def close(self, reply: Reply) -> None:
        """End the session with a reply that answers no command (421, RFC 5321 §3.8); an event may stay unanswered."""
        self._say(reply)
        self._close()

    def tls_started(self) -> None:
        """Learn that all octets from here on come through TLS: after the 220 to `StartTLS`, or before everything.

        All that was learnt and received before is forgotten (RFC 3207 §4.2, §6).
        """
        self.tls = True
        self._lines.forget()
        if self.phase is Phase.TLS:
            self._enter(Phase.START)

    def output(self) -> bytes:
        """Return what is to be written, once."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    # Reading

    def _read_command(self) -> Event | Wait | None:
        limits = self.limits
        limit = limits.command_line
        if self.offer.mechanisms and not self.authenticated:
            limit = max(limit, limits.auth_line)
        line = self._lines.next_line(limit)
        if line is None:
            return NEED_DATA
        if isinstance(line, LineFault):
            return self._refuse_line(line)
        self._idle += 1
        if self._idle > limits.idle_commands:
            return self._refuse("", answer.TOO_MANY_COMMANDS)
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        if len(line) + 2 > limits.command_line and verb != b"AUTH":
            return self._refuse("", answer.LINE_TOO_LONG)
        step = self._commands.get(verb)
        if step is None:
            return self._refuse("", answer.UNKNOWN_COMMAND)
        if isinstance(step, Reply):
            return self._refuse(verb.decode(), step)
        return step(self, argument)

    def _refuse_line(self, fault: LineFault) -> Refused:
        if fault is LineFault.BARE_LF:
            refused = self._refuse("", answer.BARE_LF)
            self._close()
            return refused
        if self._exchange is not None:
            self._end_exchange()
            return self._refuse("AUTH", answer.AUTH_LINE_TOO_LONG)
        if self._lines.head.upper().startswith(b"AUTH "):
            return self._refuse("AUTH", answer.AUTH_LINE_TOO_LONG)
        return self._refuse("", answer.LINE_TOO_LONG)

    def _read_content(self, content: DataReader) -> Event | Wait:
        chunk = b"" if content.ended else content.receive(self._lines.take())
        if content.rest:
            self._lines.receive(content.rest)
            content.rest = b""
        if chunk and self._spoilt is None:
            return Content(chunk)
        if not content.ended:
            if self._eof:
                self._close()
            return NEED_DATA
        self._content = None
        refusal, self._spoilt = self._spoilt, None
        if refusal is None and content.fault is not None:
            refusal = answer.content_refusal(content)
        if refusal is None:
            self._awaited = ServerSession._content_answered
            return EndOfData(content.size, content.eight_bit)
        self._end_transaction()
        self._say(refusal)
        if refusal.closing:
            self._close()
        return DataRefused(refusal, content.size)

    # Answering by itself

    def _say(self, reply: Reply) -> None:
        self._output.append(reply.wire)
        self._replied(reply.code)

    def _refuse(self, command: str, refusal: Reply) -> Refused:
        """Answer with an error. Enough errors end the session."""
        code = refusal.code
        # RCPT and DATA out of order are no error where MAIL was pipelined with them and refused (RFC 2920 §3.1).
        # What is wrong with a mailbox or a message (550 to 554) is no error in the protocol.
        if (500 <= code < 550 or code == 555) and not (code == 503 and self._mail_refused):
            self._errors += 1
            if self._errors >= self.limits.errors:
                refusal = answer.TOO_MANY_ERRORS
        self._say(refusal)
        if refusal.closing:
            self._close()
        return Refused(command, refusal)

    # Changing phase

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        """Where the session stands; to be read only."""
        self._commands = _COMMANDS[phase]

    def _end_transaction(self) -> None:
        self._recipients = 0
        self._rcpt_refused = False
        self._mail_refused = False
        self._enter(Phase.READY)

    def _reset(self) -> Event | None:
        """End the transaction; return the event that tells it, if there was one."""
        was_open = self.phase in (Phase.MAIL, Phase.RCPT)
        self._end_transaction()
        return _RESET if was_open else None

    def _close(self) -> None:
        self.closing = True
        self._lines.forget()
        self._content = None
        self._exchange = None
        self._awaited = None
        self._next = None
        self._enter(Phase.CLOSED)

    # Commands: what each does, and what its reply does

    def _connected_answered(self, reply: Reply) -> None:
        self._enter(Phase.START if reply.positive else Phase.REFUSING)

    def _ehlo(self, argument: bytes) -> Event | None:
        return self._hello("EHLO", argument)

    def _helo(self, argument: bytes) -> Event | None:
        return self._hello("HELO", argument)

    def _hello(self, verb: str, argument: bytes) -> Event | None:
        if grammar.CONTROL.search(argument):
            return self._refuse(verb, answer.CONTROL_CHARACTER)
        domain = parse_hello(argument, self.limits)
        if isinstance(domain, Reply):
            return self._refuse(verb, domain)
        self._extended = verb == "EHLO"
        self._awaited = ServerSession._hello_answered
        return Hello(domain, self._extended)

    def _hello_answered(self, reply: Reply) -> None:
        if reply.positive:
            accepted = hello_reply(
                self.hostname,
                self._extended,
                self.offer,
                self.limits.message_size,
                self.tls,
                self.authenticated,
            )
            self._output[-1] = accepted.wire
            self._next = self._reset()

    def _mail(self, argument: bytes) -> Event | None:
        if self._transactions >= self.limits.transactions:
            return self._refuse("MAIL", answer.TOO_MANY_MESSAGES)
        mail = parse_mail(argument, self.offer, self.limits)
        if isinstance(mail, Reply):
            self._mail_refused = True
            return self._refuse("MAIL", mail)
        self._smtputf8 = mail.smtputf8
        self._awaited = ServerSession._mail_answered
        return mail

    def _mail_answered(self, reply: Reply) -> None:
        self._mail_refused = not reply.positive
        if reply.positive:
            self._transactions += 1
            self._enter(Phase.MAIL)

    def _rcpt(self, argument: bytes) -> Event | None:
        rcpt = parse_rcpt(argument, self._smtputf8, self.limits)
        if isinstance(rcpt, Reply):
            self._rcpt_refused = True
            return self._refuse("RCPT", rcpt)
        if self._recipients >= self.limits.recipients:
            return self._refuse("RCPT", answer.TOO_MANY_RECIPIENTS)
        self._awaited = ServerSession._rcpt_answered
        return rcpt

    def _rcpt_answered(self, reply: Reply) -> None:
        if reply.positive:
            self._idle -= 1
            self._recipients += 1
            if self.phase is Phase.MAIL:
                self._enter(Phase.RCPT)
        else:
            self._rcpt_refused = True

    def _data_too_early(self, argument: bytes) -> Event | None:
        return self._refuse("DATA", answer.NO_VALID_RECIPIENTS if self._rcpt_refused else answer.RCPT_FIRST)

    def _data(self, argument: bytes) -> Event | None:
        if argument.strip(b" "):
            return self._refuse("DATA", answer.NO_ARGUMENT)
        self._awaited = ServerSession._data_answered
        return _DATA

    def _data_answered(self, reply: Reply) -> None:
        if reply.positive:
            self._content = DataReader(self.limits.message_size, self.offer.lenient_line_ends)
            self._enter(Phase.DATA)

    def _content_answered(self, reply: Reply) -> None:
        if reply.positive:
            self._idle = 0
        self._end_transaction()

    def _rset(self, argument: bytes) -> Event | None:
        if argument.strip(b" "):
            return self._refuse("RSET", answer.NO_ARGUMENT)
        self._say(answer.OK)
        return None if self.phase is Phase.START else self._reset()

    def _vrfy(self, argument: bytes) -> Event | None:
        text = argument.strip(b" ")
        if not text:
            return self._refuse("VRFY", answer.ARGUMENT_NEEDED)
        if grammar.CONTROL.search(text):
            return self._refuse("VRFY", answer.CONTROL_CHARACTER)
        self._awaited = ServerSession._nothing_follows
        return Vrfy(text.decode(errors="replace"))

    def _nothing_follows(self, reply: Reply) -> None:
        pass

    def _noop(self, argument: bytes) -> Event | None:
        if grammar.CONTROL.search(argument):
            return self._refuse("NOOP", answer.CONTROL_CHARACTER)
        self._say(answer.OK)
        return None

    def _help(self, argument: bytes) -> Event | None:
        if grammar.CONTROL.search(argument):
            return self._refuse("HELP", answer.CONTROL_CHARACTER)
        self._say(answer.HELP)
        return None

    def _quit(self, argument: bytes) -> Event | None:
        if argument.strip(b" "):
            return self._refuse("QUIT", answer.NO_ARGUMENT)
        self.close(answer.GOODBYE)
        return _QUIT

    def _starttls(self, argument: bytes) -> Event | None:
        refusal = None
        if argument.strip(b" "):
            refusal = answer.NO_ARGUMENT
        elif self.tls:
            refusal = answer.TLS_ALREADY
        elif self.authenticated:
            refusal = answer.TLS_AFTER_AUTH
        elif not self.offer.starttls:
            refusal = answer.STARTTLS_NOT_OFFERED
        if refusal is not None:
            return self._refuse("STARTTLS", refusal)
        self._awaited = ServerSession._starttls_answered
        return _START_TLS

    def _starttls_answered(self, reply: Reply) -> None:
        if reply.positive:
            self._lines.forget()
            self._next = self._reset()
            self._enter(Phase.TLS)

    # AUTH (RFC 4954 §4)

    def _auth(self, argument: bytes) -> Event | None:
        offer = self.offer
        if not offer.mechanisms:
            return self._refuse("AUTH", answer.AUTH_NOT_OFFERED)
        if self.authenticated:
            return self._refuse("AUTH", answer.AUTH_ALREADY)
        if not (self.tls or offer.auth_without_tls):
            return self._refuse("AUTH", answer.ENCRYPTION_REQUIRED)
        found = grammar.AUTH.fullmatch(argument)
        if found is None:
            return self._refuse("AUTH", answer.AUTH_SYNTAX)
        mechanism = found["mechanism"].decode().upper()
        if mechanism not in offer.mechanisms:
            return self._refuse("AUTH", answer.UNKNOWN_MECHANISM)
        self._mechanism = mechanism
        self._exchange = exchange = sasl.MECHANISMS[mechanism]()
        self._enter(Phase.AUTH)
        initial = found["initial"]
        if initial is None:
            self._challenge(exchange.first_challenge)
            return None
        return self._respond(exchange, b"" if initial == b"=" else initial)

    def _read_response(self) -> Event | Wait | None:
        assert self._exchange is not None
        line = self._lines.next_line(self.limits.auth_line)
        if line is None:
            return NEED_DATA
        if isinstance(line, LineFault):
            return self._refuse_line(line)
        if line == b"*":
            self._end_exchange()
            return self._refuse("AUTH", answer.AUTH_CANCELLED)
        return self._respond(self._exchange, line)

    def _respond(self, exchange: sasl.Exchange, line: bytes) -> Event | None:
        response = sasl.decode(line)
        if response is None:
            self._end_exchange()
            return self._refuse("AUTH", answer.NOT_BASE64)
        step = exchange.respond(response)
        if isinstance(step, bytes):
            self._challenge(step)
            return None
        self._end_exchange()
        if step is None:
            return self._refuse("AUTH", answer.MALFORMED_RESPONSE)
        self._awaited = ServerSession._auth_answered
        return Authenticate(self._mechanism, step.authorization_identity, step.login, step.password)

    def _challenge(self, challenge: bytes) -> None:
        self._output.append(b"334 " + sasl.encode(challenge) + b"\r\n")

    def _end_exchange(self) -> None:
        self._exchange = None
        self._enter(Phase.READY)

    def _auth_answered(self, reply: Reply) -> None:
        self.authenticated = reply.positive


_Step = Callable[[ServerSession, bytes], Event | None]

# What is answered alike wherever commands are read. Verbs of HTTP: a browser made to speak to us would otherwise have
# its body taken for commands, line by line.
_ALWAYS: dict[bytes, _Step | Reply] = {
    b"QUIT": ServerSession._quit,
    b"NOOP": ServerSession._noop,
    b"HELP": ServerSession._help,
    b"VRFY": ServerSession._vrfy,
    b"RSET": ServerSession._rset,
    b"EHLO": ServerSession._ehlo,
    b"HELO": ServerSession._helo,
    **dict.fromkeys((b"EXPN", b"TURN", b"ETRN", b"BDAT", b"SEND", b"SOML", b"SAML"), answer.NOT_IMPLEMENTED),
    **dict.fromkeys((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"), answer.OTHER_PROTOCOL),
}

# The table of the module's docstring
_COMMANDS: dict[Phase, dict[bytes, _Step | Reply]] = {phase: {} for phase in Phase} | {
    Phase.START: _ALWAYS | dict.fromkeys((b"MAIL", b"RCPT", b"DATA", b"STARTTLS", b"AUTH"), answer.HELLO_FIRST),
    Phase.READY: _ALWAYS
    | {
        b"MAIL": ServerSession._mail,
        b"RCPT": answer.MAIL_FIRST,
        b"DATA": answer.MAIL_FIRST,
        b"STARTTLS": ServerSession._starttls,
        b"AUTH": ServerSession._auth,
    },
    Phase.MAIL: _ALWAYS
    | {
        b"MAIL": answer.NESTED_MAIL,
        b"RCPT": ServerSession._rcpt,
        b"DATA": ServerSession._data_too_early,
        b"STARTTLS": ServerSession._starttls,
        b"AUTH": answer.AUTH_IN_TRANSACTION,
    },
    Phase.RCPT: _ALWAYS
    | {
        b"MAIL": answer.NESTED_MAIL,
        b"RCPT": ServerSession._rcpt,
        b"DATA": ServerSession._data,
        b"STARTTLS": ServerSession._starttls,
        b"AUTH": answer.AUTH_IN_TRANSACTION,
    },
}
_COMMANDS[Phase.REFUSING] = dict.fromkeys(_COMMANDS[Phase.READY], answer.NO_SERVICE) | {b"QUIT": ServerSession._quit}

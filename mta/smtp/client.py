"""The client's side of SMTP without input and output, in the manner of h11 (RFC 5321, RFC 2920, RFC 3207).

`send` commands, write what `output` gives, hand what arrives to `receive`, and ask `next_event` until it returns
None: each event is the `Answer` to the oldest command without one, or a `Fault` that ends the session. What a
conversation is made of – opening, STARTTLS, AUTH, a transaction – stands in `mta.smtp.exchange`.

How commands leave (RFC 2920 §3.1):

====================================  ==========================================================================
the server offers PIPELINING          commands leave together up to and with a synchronising one: EHLO, STARTTLS,
                                      AUTH, DATA, the content, QUIT; then none until that is answered
it does not, or `pipelining` is off   one command, one answer
====================================  ==========================================================================

Matching is by order, so a server that answers too much, too early or with the wrong class of code (250 to DATA) is
out of step: a `Fault`, as is a reply that cannot be read. 421 answers whatever waits first and ends the session.

Content that must not be sent (see `mta.smtp.writer`) is a `Fault` with 5.6.11 as soon as it shows: nothing more leaves,
and the driver drops the connection, so the server never sees an end of data.

Nothing read in clear text is used after STARTTLS: octets behind its 220 are a `Fault`, the extensions are forgotten.

Knowingly not here: CHUNKING, DSN, LMTP, and the wait for a deadline, which is the driver's.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mta.smtp.address import Mailbox, path
from mta.smtp.reply_reader import ReplyFault, ReplyLimits, ReplyReader, ServerReply
from mta.smtp.status import BAD_CONNECTION, BARE_LINE_END, PROTOCOL, REFUSED, SYSTEM_FAULT, Status
from mta.smtp.writer import BareLineEnd


class Stage(enum.Enum):
    """What a server answers; the value is how reasons name it."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    CONTENT = "end of data"
    RSET = "RSET"
    QUIT = "QUIT"


# RFC 2920 §3.1: what may stand before another command in a group
_PIPELINED = frozenset({Stage.MAIL, Stage.RCPT, Stage.RSET})
# RFC 5321 §4.3.2; RFC 4954 §4: the classes of code that carry a command out, where not only 2yz
_POSITIVE = {Stage.DATA: (3,), Stage.AUTH: (2, 3)}
_OUT_OF_STEP = PROTOCOL.transient()


@dataclass(frozen=True, slots=True)
class Command:
    """A command line with its CRLF, or the content (`wire` is empty then, and for the greeting)."""

    stage: Stage
    wire: bytes = field(repr=False)  # AUTH holds a password
    content: Iterable[bytes] | None = field(default=None, repr=False)

    @property
    def synchronising(self) -> bool:
        """Whether nothing may follow before it is answered."""
        return self.stage not in _PIPELINED


def _command(stage: Stage, line: str) -> Command:
    wire = line.encode()
    if b"\r" in wire or b"\n" in wire or b"\0" in wire:
        raise ValueError(f"a control in a command: {line!r}")
    return Command(stage, wire + b"\r\n")


def ehlo(name: str) -> Command:
    """Make EHLO (RFC 5321 §4.1.1.1); `name` is a domain or an address literal."""
    return _command(Stage.EHLO, f"EHLO {name}")


def helo(name: str) -> Command:
    """Make HELO."""
    return _command(Stage.HELO, f"HELO {name}")


def auth(line: str) -> Command:
    """Make AUTH with its arguments, or the answer to a challenge (RFC 4954 §4)."""
    return _command(Stage.AUTH, line)


def mail(reverse_path: Mailbox | None, parameters: Sequence[str] = ()) -> Command:
    """Make MAIL (§4.1.1.2). Raises ValueError for a control, which no address of ours can have."""
    return _command(Stage.MAIL, " ".join((f"MAIL FROM:{path(reverse_path)}", *parameters)))


def rcpt(forward_path: Mailbox) -> Command:
    """Make RCPT (§4.1.1.3). Raises ValueError for a control."""
    return _command(Stage.RCPT, f"RCPT TO:{path(forward_path)}")


def content(chunks: Iterable[bytes]) -> Command:
    """Make what follows 354 of octets that are stuffed and ended, see `mta.smtp.writer`.

    They are asked for as they leave. An OSError then ends the session, for a cause of ours.
    """
    return Command(Stage.CONTENT, b"", chunks)


GREETING = Command(Stage.GREETING, b"")
STARTTLS = Command(Stage.STARTTLS, b"STARTTLS\r\n")
DATA = Command(Stage.DATA, b"DATA\r\n")
RSET = Command(Stage.RSET, b"RSET\r\n")
QUIT = Command(Stage.QUIT, b"QUIT\r\n")


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the last EHLO offered."""

    pipelining: bool = False
    size: int | None = None
    """Octets (RFC 1870 §3); 0: offered without a limit, None: not offered."""
    eight_bit_mime: bool = False
    smtputf8: bool = False
    starttls: bool = False
    enhanced_status_codes: bool = False
    auth: frozenset[str] = frozenset()
    """Mechanisms, upper case."""

    @classmethod
    def parse(cls, reply: ServerReply) -> Extensions:
        """Read the reply to EHLO: its first line names the server, each other one an extension (§4.1.1.1)."""
        offered: dict[str, str] = {}
        for line in reply.lines[1:]:
            # AUTH=PLAIN: a form from before RFC 2554 that servers still send for old clients
            keyword, _, rest = line.decode("latin-1").upper().replace("AUTH=", "AUTH ", 1).strip().partition(" ")
            offered[keyword] = f"{offered.get(keyword, '')} {rest}"
        size = offered.get("SIZE")
        return cls(
            pipelining="PIPELINING" in offered,
            size=None if size is None else _size(size.strip()),
            eight_bit_mime="8BITMIME" in offered,
            smtputf8="SMTPUTF8" in offered,
            starttls="STARTTLS" in offered,
            enhanced_status_codes="ENHANCEDSTATUSCODES" in offered,
            auth=frozenset(offered.get("AUTH", "").split()),
        )


def _size(text: str) -> int:
    # RFC 1870 §3: size-param = 1*20DIGIT; what is none is taken as no limit, for the server will say so itself
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to one command."""

    command: Command
    reply: ServerReply


@dataclass(frozen=True, slots=True)
class Fault:
    """Why the session cannot go on: the server's fault, a lost connection, a deadline, content that must not be sent.

    Nothing was said by it.
    """

    text: str
    status: Status
    stage: Stage | None
    """What waited for its answer."""
    grouped: bool
    """Whether it was the answer to a group of commands: a server that cannot pipeline shows itself so."""
    local: bool = False
    """Whether its cause is on our side: no descriptor left, a stop."""


class ClientSession:
    """One connection to a server, from its greeting on.

    `pipelining` off keeps to lock-step with a server that offers PIPELINING and cannot do it.
    """

    def __init__(self, limits: ReplyLimits | None = None, pipelining: bool = True) -> None:
        self.extensions = Extensions()
        self.secure = False
        """Whether TLS protects what is said now."""
        self.in_transaction = False
        """Whether a MAIL was accepted that no end of data, RSET or EHLO has ended."""
        self.ended = False
        """Whether nothing more can be said: after a fault, 421, or the answer to QUIT."""
        self.content_sent = False
        """Whether the last octet of content was given out and its answer has not come."""
        self.fault: Fault | None = None
        self._limits = limits or ReplyLimits()
        self._pipelining = pipelining
        self._reader = ReplyReader(self._limits)
        self._unsent: deque[Command] = deque()
        self._unanswered: deque[Command] = deque([GREETING])
        self._grouped = False
        self._out: list[bytes] = []
        self._chunks: Iterator[bytes] = iter(())
        self._chunk: bytes | None = None

    @property
    def awaiting(self) -> Stage | None:
        """What the server has to answer next; None: nothing."""
        if self._unanswered:
            return self._unanswered[0].stage
        return self._unsent[0].stage if self._unsent else None

    @property
    def sending(self) -> bool:
        """Whether there is content that `output` has not given yet."""
        return self._chunk is not None

    def send(self, *commands: Command) -> None:
        """Say these, in this order, as soon as the rules allow. Not after the session has ended."""
        if self.ended:
            raise RuntimeError("the session has ended")
        self._unsent += commands
        self._flush()

    def withdraw(self) -> None:
        """Take back every command that has not left yet."""
        self._unsent.clear()

    def output(self) -> bytes:
        """Return what to write now, once: all commands that may leave, or one chunk of content. Empty: nothing."""
        if self._out:
            octets = b"".join(self._out)
            self._out.clear()
            return octets
        if self._chunk is None:
            return b""
        octets = self._chunk
        self._next_chunk()
        if self.ended:
            return b""
        self.content_sent = self._chunk is None
        return octets

    def receive(self, octets: bytes) -> None:
        """Take what came from the server."""
        if not self.ended:
            self._reader.receive(octets)

    def next_event(self) -> Answer | Fault | None:
        """Return the next answer, the fault that ended the session, or None where more must come first."""
        if not self.ended:
            self._flush()  # not with the answer before: whoever took that may have withdrawn what was to follow
        if self.ended:
            return self.fault
        reply = self._reader.next_reply()
        if reply is None:
            return None
        if isinstance(reply, ReplyFault):
            return self.fail(reply.text)
        if not self._unanswered:
            status = BAD_CONNECTION if reply.code == 421 else _OUT_OF_STEP
            return self.fail(f"a reply to no command: {reply}", status)
        command = self._unanswered[0]
        if (wrong := self._out_of_step(command.stage, reply)) is not None:
            return wrong
        self._unanswered.popleft()
        self._learn(command.stage, reply)
        return Answer(command, reply)

    def tls_started(self) -> None:
        """Say that the handshake ended well: what clear text said is forgotten, EHLO comes next (RFC 3207 §4.2)."""
        self.secure = True
        self.extensions = Extensions()
        self._reader = ReplyReader(self._limits)

    def fail(self, text: str, status: Status = _OUT_OF_STEP, local: bool = False) -> Fault:
        """End the session: what waits gets no answer. Returns the fault, the first one where there are more."""
        if self.fault is None:
            self.fault = Fault(text, status, self.awaiting, self._grouped, local)
            self._close()
        return self.fault

    def _close(self) -> None:
        self.ended = True
        self._chunk = None
        self._chunks = iter(())  # what it comes from may be a file that is open for it
        self._out.clear()
        self._unsent.clear()

    def _out_of_step(self, stage: Stage, reply: ServerReply) -> Fault | None:
        if reply.code < 400:
            if reply.code // 100 not in _POSITIVE.get(stage, (2,)):
                return self.fail(f"{stage.value} cannot be answered so: {reply}")
            if stage is Stage.CONTENT and not self.content_sent:
                return self.fail(f"{stage.value} was answered before it: {reply}")
            if stage is Stage.STARTTLS and self._reader.pending:
                # The command injection of CVE-2011-0411, on our side: somebody speaks in the server's place
                return self.fail("octets in clear text behind the reply to STARTTLS", REFUSED.transient())
        return None

    def _learn(self, stage: Stage, reply: ServerReply) -> None:
        if stage is Stage.MAIL and reply.positive:
            self.in_transaction = True
        elif stage is Stage.CONTENT:
            # An answer in the midst of the content is a refusal; only closing stops the rest (RFC 5321 §4.5.3.2.5)
            if not self.content_sent:
                self._close()
            self.in_transaction = self.content_sent = False
        elif stage in (Stage.EHLO, Stage.HELO) and reply.positive:
            self.extensions = Extensions.parse(reply) if stage is Stage.EHLO else Extensions()
            self.in_transaction = False
        elif stage is Stage.RSET and reply.positive:
            self.in_transaction = False
        if reply.code == 421 or stage is Stage.QUIT:
            self._close()

    def _flush(self) -> None:
        # A reply that is here before its command leaves is not the reply to it: next_event finds that.
        if not self._unanswered and self._reader.pending:
            return
        pipelining = self._pipelining and self.extensions.pipelining
        while self._unsent:
            if self._unanswered and not (pipelining and not self._unanswered[-1].synchronising):
                return
            command = self._unsent.popleft()
            self._grouped = bool(self._unanswered)
            self._unanswered.append(command)
            if command.content is None:
                self._out.append(command.wire)
            else:
                self._chunks = iter(command.content)
                self._next_chunk()

    def _next_chunk(self) -> None:
        try:
            self._chunk = next(self._chunks, None)
        except BareLineEnd as fault:
            self.fail(str(fault), BARE_LINE_END)
        except OSError as error:
            self.fail(f"the content cannot be read: {error}", SYSTEM_FAULT, local=True)

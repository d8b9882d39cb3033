r"""The milter protocol without I/O: our commands in, octets out; a filter's octets in, its replies out.

As in `mta.smtp`, a driver reads and writes: it calls a command, writes `output`, hands what comes to `receive`, and
takes events until there is none::

            negotiate            connect          helo
    START ────────────▶ READY ◀──────────▶ READY ◀────▶ READY
                          │ mail                          ▲
                          ▼       end (answered), abort   │
                       MESSAGE ───────────────────────────┘   any ── quit ──▶ ENDED
                          │                                   any ── fault ─▶ ENDED
                          ╰─ rcpt, data, field, end_of_head, body

A command tells whether an answer comes: the filter may have said that it wants none, or that it does not want the
command. Calling one while an answer is due, or out of order, is a bug of ours; whatever the filter does wrong is a
`Fault`: as an event, and for ever after in `fault`. A command after a fault says nothing: a connection may be lost at
any time.

===========================================  ==========================================================================
the filter says                              taken
===========================================  ==========================================================================
anything while nothing is due                never: also not after an abort, which has no answer
a change                                     only in answer to the end of the body, if it was agreed on, in bounds
"skip"                                       only in answer to a piece of the body
"discard"                                    only from MAIL on
"progress"                                   at any step but the negotiation, as an event of its own
another body than the one it saw part of     never: the rest would be lost
===========================================  ==========================================================================

Knowingly not here: telling of unknown commands (SMFIC_UNKNOWN) and of refused recipients, whom no policy is asked
about; packets over 64 KiB.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mta.policy.milter.option import EVERYTHING, Flow, Options, Step, options_packet, read_options
from mta.policy.milter.packet import PACKET_MAXIMUM, Fault, Packet, PacketReader, string
from mta.policy.milter.reply import NEEDS, Change, Decision, ReplaceBody, ReplyCode, Saying, read

CHUNK = 65535
"""Octets of a piece of the body at most (MILTER_CHUNK_SIZE)."""
FIELD_MAXIMUM = 65535 - 2
"""Octets of name and value of a field: libmilter drops the connection at a packet with more than 65,535 of data, so a
longer field is cut. What is cut off is hidden from the filter; a signature over it no longer verifies there."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a filter is taken."""

    packet: int = PACKET_MAXIMUM
    """Octets of one packet."""
    changes: int = 1000
    """Changes of one message, pieces of the body not counted."""
    change_octets: int = 1 << 20
    """Octets of all changes of one message, the other body not counted: as many as a head may have."""
    body: int = 50 * 1024 * 1024
    """Octets of another body (`mta.smtp.limits.Limits.message_size`)."""


class Unfinished(enum.Enum):
    """More octets are needed."""

    NEED_DATA = enum.auto()


NEED_DATA = Unfinished.NEED_DATA


class Sign(enum.Enum):
    """A sign of life: the filter is at work."""

    PROGRESS = enum.auto()


PROGRESS = Sign.PROGRESS


@dataclass(frozen=True, slots=True)
class Reply:
    """The whole answer to one command."""

    decision: Decision | ReplyCode
    changes: tuple[Change, ...] = ()
    """In order; only at the end of a message. The pieces of another body are one `ReplaceBody`, in place of the
    first."""


CONTINUE = Reply(Decision.CONTINUE)
"""What a step that is not answered comes to."""

Event = Reply | Sign | Unfinished | Fault


class _State(enum.Enum):
    START = enum.auto()
    READY = enum.auto()
    MESSAGE = enum.auto()
    ENDED = enum.auto()


class MilterSession:
    """One connection to a filter."""

    def __init__(self, offered: Options = EVERYTHING, bounds: Bounds | None = None) -> None:
        self.options: Options = Options()
        """What was agreed on."""
        self.awaiting: Step | None = None
        """What the filter owes an answer to."""
        self.fault: Fault | None = None
        self._offered = offered
        self._bounds = bounds or Bounds()
        self._reader = PacketReader(self._bounds.packet)
        self._out: list[bytes] = []
        self._state = _State.START
        self._partial = False
        self._changes: list[Change] = []
        self._change_octets = 0
        self._replaced = False
        self._body = bytearray()

    # Commands

    def negotiate(self) -> None:
        """Offer what we can; the first command. Its answer, if it is no fault, is `CONTINUE`."""
        assert self._state is _State.START, "negotiated once"
        self._say(options_packet(self._offered))
        self.awaiting = Step.OPTIONS

    def macros(self, step: Step, macros: Mapping[str, str]) -> None:
        """Tell macros that belong to `step`, before it; names without braces. A long name gets its braces here."""
        wanted = {name: value for name, value in macros.items() if self.options.wants_macro(step, name)}
        if not wanted:
            return
        data = [step.value]
        for name, value in wanted.items():
            data += [string(name if len(name) == 1 else f"{{{name}}}"), string(value)]
        self._say(Packet(b"D", b"".join(data)))

    def connect(self, name: str, address: str, port: int) -> bool:
        """Tell of the client: its confirmed name, or the address in brackets; its address; its port.

        An empty address: not known.
        """
        if not address:
            return self._command(Step.CONNECT, string(name) + b"U", _State.READY)
        family = b"6" if ":" in address else b"4"
        return self._command(
            Step.CONNECT, string(name) + family + port.to_bytes(2, "big") + string(address), _State.READY
        )

    def helo(self, name: str) -> bool:
        """Tell what the client calls itself."""
        return self._command(Step.HELO, string(name), _State.READY)

    def mail(self, path: str, parameters: Iterable[str] = ()) -> bool:
        """Begin a message: the reverse-path in brackets, and ESMTP parameters, ``SIZE=100``."""
        due = self._command(Step.MAIL, b"".join(map(string, (path, *parameters))), _State.READY)
        if self.fault is None:
            self._state = _State.MESSAGE
        return due

    def rcpt(self, path: str, parameters: Iterable[str] = ()) -> bool:
        """Tell a forward-path in brackets, and its ESMTP parameters."""
        return self._command(Step.RCPT, b"".join(map(string, (path, *parameters))), _State.MESSAGE)

    def data(self) -> bool:
        """Tell that the content comes."""
        return self._command(Step.DATA, b"", _State.MESSAGE)

    def field(self, name: bytes, value: bytes) -> bool:
        """Tell one field; `value` is all that follows the colon, without the last CRLF.

        Folds are told with LF alone, as Sendmail does; without `Flow.LEADING_SPACE` one space in front is left out.
        """
        value = value.replace(b"\r\n", b"\n")
        if not self.options.flow & Flow.LEADING_SPACE:
            value = value.removeprefix(b" ")
        name = name[:FIELD_MAXIMUM]
        return self._command(Step.FIELD, string(name) + string(value[: FIELD_MAXIMUM - len(name)]), _State.MESSAGE)

    def end_of_head(self) -> bool:
        """Tell that there are no more fields."""
        return self._command(Step.END_OF_HEAD, b"", _State.MESSAGE)

    def body(self, chunk: bytes) -> bool:
        """Tell at most `CHUNK` octets of the body."""
        assert 0 < len(chunk) <= CHUNK, "a piece of the body fits into a packet"
        return self._command(Step.BODY, chunk, _State.MESSAGE)

    def end(self, partial: bool = False) -> bool:
        """Tell that the body is over; True. `partial`: not all of it was told, so no other may take its place."""
        self._partial = partial
        return self._command(Step.END, b"", _State.MESSAGE)

    def abort(self) -> None:
        """Forget the message, if there is one; it has no answer."""
        if self._state is _State.MESSAGE:
            assert self.awaiting is None, "an answer is due"
            self._say(Packet(b"A"))
            self._over()

    def quit(self) -> None:
        """End the connection; it has no answer."""
        if self._state is not _State.ENDED:
            self._say(Packet(b"Q"))
            self._end()

    def quit_new_connection(self) -> None:
        """Forget the client: the next `connect` is another one. It has no answer; for version 6 alone."""
        assert self._state in (_State.READY, _State.MESSAGE), "only after the negotiation"
        assert self.awaiting is None, "an answer is due"
        assert self.options.version >= 6, "older filters do not know it"
        self._say(Packet(b"K"))
        self._over()

    # The driver's side

    @property
    def ended(self) -> bool:
        """Whether nothing more can be said."""
        return self._state is _State.ENDED

    @property
    def in_message(self) -> bool:
        """Whether the filter was told of a message that has not ended."""
        return self._state is _State.MESSAGE

    def output(self) -> bytes:
        """Take what is to be written."""
        out, self._out = b"".join(self._out), []
        return out

    def receive(self, octets: bytes) -> None:
        """Take octets of the filter; after the end they are dropped."""
        if not self.ended:
            self._reader.receive(octets)

    def lost(self, text: str) -> Fault:
        """End the connection for what happened to it; a fault that is there already stays."""
        return self._fail(text)

    def next_event(self) -> Event:
        """Return what the filter has said, or `NEED_DATA`; a fault again and again."""
        while self.fault is None and self._state is not _State.ENDED:
            packet = self._reader.next_packet()
            if packet is None:
                return NEED_DATA
            if isinstance(packet, Fault):
                return self._fail(packet.text)
            event = self._take(packet)
            if event is not None:
                return event
        return self.fault or NEED_DATA

    def _take(self, packet: Packet) -> Event | None:
        step = self.awaiting
        if step is None:
            return self._fail(f"a reply to nothing, {packet.command!r}")
        if step is Step.OPTIONS:
            return self._agree(packet)
        saying = read(packet)
        if isinstance(saying, Fault):
            return self._fail(f"{saying} (at {step.name})")
        if saying is Decision.PROGRESS:
            return PROGRESS
        misplaced = self._misplaced(saying, step)
        if misplaced:
            return self._fail(f"{misplaced} (at {step.name})")
        if not isinstance(saying, Decision | ReplyCode):
            return self._change(saying, len(packet.data))
        self.awaiting = None
        if step is not Step.END:
            return Reply(saying)
        changes = tuple(
            ReplaceBody(bytes(self._body)) if isinstance(each, ReplaceBody) else each for each in self._changes
        )
        self._over()
        return Reply(saying, changes)

    def _agree(self, packet: Packet) -> Event:
        if packet.command != b"O":
            return self._fail(f"{packet.command!r} in answer to options")
        options = read_options(packet.data, self._offered)
        if isinstance(options, Fault):
            return self._fail(options.text)
        self.options = options
        self.awaiting = None
        self._state = _State.READY
        return CONTINUE

    def _misplaced(self, saying: Saying, step: Step) -> str:
        """Say what is wrong with something at its place; empty: nothing."""
        if saying is Decision.SKIP and step is not Step.BODY:
            return "skip, which only a piece of the body is answered with"
        if saying is Decision.DISCARD and step in (Step.CONNECT, Step.HELO):
            return "discard, where there is no message yet"
        if isinstance(saying, Decision | ReplyCode):
            return ""
        what = type(saying).__name__
        if step is not Step.END:
            return f"{what} before the end of the message"
        if not NEEDS[type(saying)] & self.options.actions:
            return f"{what}, which was not agreed on"
        if self._partial and isinstance(saying, ReplaceBody):
            return "another body in place of one that was not told whole"
        return ""

    def _change(self, change: Change, size: int) -> Fault | None:
        """Keep a change that came in `size` octets, within bounds."""
        bounds = self._bounds
        if isinstance(change, ReplaceBody):
            self._body += change.octets
            if len(self._body) > bounds.body:
                return self._fail(f"another body of more than {bounds.body:,} octets")
            if self._replaced:
                return None
            self._replaced, size = True, 0
        self._changes.append(change)
        self._change_octets += size
        if len(self._changes) > bounds.changes or self._change_octets > bounds.change_octets:
            return self._fail(f"more than {bounds.changes:,} changes, or {bounds.change_octets:,} octets of them")
        return None

    # Parts

    def _command(self, step: Step, data: bytes, state: _State) -> bool:
        if self.fault is not None:
            return False
        assert self._state is state, f"{step.name} in {self._state.name}"
        assert self.awaiting is None, "an answer is due"
        if self.options.skips(step):
            return False
        self._say(Packet(step.value, data))
        if self.options.silent(step):
            return False
        self.awaiting = step
        return True

    def _say(self, packet: Packet) -> None:
        if self.fault is not None:
            return
        assert self._state is not _State.ENDED, "the connection has ended"
        self._out.append(packet.octets)

    def _over(self) -> None:
        self._state = _State.READY
        self._changes, self._change_octets = [], 0
        self._replaced = False
        self._body = bytearray()

    def _fail(self, text: str) -> Fault:
        if self.fault is None:
            self.fault = Fault(text)
        self._end()
        return self.fault

    def _end(self) -> None:
        self._over()
        self._state = _State.ENDED
        self.awaiting = None

"""What the two sides of a milter connection agree on (SMFIC_OPTNEG): version, actions, flow, lists of macros.

::

    OPTNEG  = version actions flow *list      ; each a number of 4 octets; the filter answers in the same form
    list    = stage string                    ; the macros it wants at a stage, with spaces between them

We offer all that we can; the filter answers with what it takes. An answer with more than was offered is a fault, but
for two bits that change nothing for us: that it would like to hear of refused recipients, and that it would take longer
packets. rspamd answers with all its actions, whatever was offered, so offering fewer of them is no way to restrict it.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from mta.policy.milter.packet import Fault, Packet

VERSION = 6
"""Sendmail 8.14 and later, Postfix 2.6 and later."""
_OLDEST = 2


class Action(enum.IntFlag):
    """What a filter may do to a message at its end (SMFIF_*)."""

    ADD_FIELDS = 0x01
    CHANGE_BODY = 0x02
    ADD_RECIPIENTS = 0x04
    REMOVE_RECIPIENTS = 0x08
    CHANGE_FIELDS = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENTS_WITH_PARAMETERS = 0x80
    NAME_MACROS = 0x100


class Flow(enum.IntFlag):
    """What is not sent, what is not answered, and how (SMFIP_*)."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_FIELDS = 0x20
    NO_END_OF_HEAD = 0x40
    SILENT_FIELD = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    """We understand the reply "skip"."""
    REFUSED_RECIPIENTS = 0x800
    """The filter hears of recipients that were refused."""
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_UNKNOWN = 0x20000
    SILENT_END_OF_HEAD = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000
    """Values of fields keep the white space behind the colon, in both directions."""
    PACKETS_256K = 0x10000000
    PACKETS_1M = 0x20000000


_NO_ACTION = Action(0)
_NO_FLOW = Flow(0)
_HARMLESS = Flow.REFUSED_RECIPIENTS | Flow.PACKETS_256K | Flow.PACKETS_1M


class Step(enum.Enum):
    """What is told to a filter, and answered by it; the value is the command (SMFIC_*)."""

    OPTIONS = b"O"
    CONNECT = b"C"
    HELO = b"H"
    MAIL = b"M"
    RCPT = b"R"
    DATA = b"T"
    FIELD = b"L"
    END_OF_HEAD = b"N"
    BODY = b"B"
    END = b"E"


_LISTED = (Step.CONNECT, Step.HELO, Step.MAIL, Step.RCPT, Step.DATA, Step.END, Step.END_OF_HEAD)
"""The stages of lists of macros, in the order of their numbers (SMFIM_*)."""


@dataclass(frozen=True, slots=True)
class Options:
    """What one side offers, or both have agreed on."""

    version: int = VERSION
    actions: Action = _NO_ACTION
    flow: Flow = _NO_FLOW
    macros: Mapping[Step, frozenset[str]] = field(default_factory=dict)
    """The macros that the filter wants at a step, their names without braces; a step that is not here: the usual."""

    def skips(self, step: Step) -> bool:
        """Whether a step is not sent."""
        if step is Step.DATA and self.version < 4:
            return True
        return bool(self.flow & _NOT_SENT.get(step, _NO_FLOW))

    def silent(self, step: Step) -> bool:
        """Whether a step is not answered."""
        return bool(self.flow & _NOT_ANSWERED.get(step, _NO_FLOW))

    def wants_macro(self, step: Step, name: str) -> bool:
        """Whether a macro is sent at a step."""
        return step not in self.macros or name in self.macros[step]


_NOT_SENT = {
    Step.CONNECT: Flow.NO_CONNECT,
    Step.HELO: Flow.NO_HELO,
    Step.MAIL: Flow.NO_MAIL,
    Step.RCPT: Flow.NO_RCPT,
    Step.DATA: Flow.NO_DATA,
    Step.FIELD: Flow.NO_FIELDS,
    Step.END_OF_HEAD: Flow.NO_END_OF_HEAD,
    Step.BODY: Flow.NO_BODY,
}
_NOT_ANSWERED = {
    Step.CONNECT: Flow.SILENT_CONNECT,
    Step.HELO: Flow.SILENT_HELO,
    Step.MAIL: Flow.SILENT_MAIL,
    Step.RCPT: Flow.SILENT_RCPT,
    Step.DATA: Flow.SILENT_DATA,
    Step.FIELD: Flow.SILENT_FIELD,
    Step.END_OF_HEAD: Flow.SILENT_END_OF_HEAD,
    Step.BODY: Flow.SILENT_BODY,
}

EVERYTHING = Options(
    VERSION,
    Action(0x1FF),
    Flow(0x1FFFFF) & ~Flow.REFUSED_RECIPIENTS,
)
"""What we can: all but telling of refused recipients, whom no policy is asked about, and packets over 64 KiB."""


def options_packet(options: Options) -> Packet:
    """Make the packet that begins a connection."""
    return Packet(b"O", struct.pack(">III", options.version, options.actions, options.flow))


def read_options(data: bytes, offered: Options) -> Options | Fault:
    """Read the filter's answer to what was offered."""
    if len(data) < 12:
        return Fault(f"options of {len(data)} octets; 12 is the least")
    version, actions, flow = struct.unpack_from(">III", data)
    if not _OLDEST <= version <= offered.version:
        return Fault(f"version {version} of the protocol; {_OLDEST} to {offered.version} are spoken")
    # of a flag, ~ gives the known bits alone; of a number, all
    if actions & ~int(offered.actions):
        return Fault(f"actions {actions:#x} where {int(offered.actions):#x} were offered")
    if flow & ~int(offered.flow | _HARMLESS):
        return Fault(f"flow {flow:#x} where {int(offered.flow):#x} was offered")
    macros = _read_lists(data[12:])
    if isinstance(macros, Fault):
        return macros
    return Options(version, Action(actions), Flow(flow & offered.flow), macros)


def _read_lists(data: bytes) -> dict[Step, frozenset[str]] | Fault:
    found: dict[Step, frozenset[str]] = {}
    start = 0
    while start < len(data):
        end = data.find(b"\0", start + 4)
        if end < 0:
            return Fault("a list of macros without an end")
        stage = int.from_bytes(data[start : start + 4], "big")
        if stage >= len(_LISTED) or _LISTED[stage] in found:
            return Fault(f"a list of macros for stage {stage}")
        names = data[start + 4 : end].decode("ascii", "replace").split()
        found[_LISTED[stage]] = frozenset(name.strip("{}") for name in names)
        start = end + 1
    return found

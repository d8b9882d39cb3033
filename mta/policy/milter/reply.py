r"""What a milter may say: one packet read as a decision, a reply code, a change, or a fault.

::

    decision   = "c" / "a" / "r" / "t" / "d" / "s" / "p" / "4" / "f"     ; without data, see `Decision`
    reply code = "y" string        ; lines of an SMTP reply, CRLF between them
    changes    = "h" string string                 ; add a field: name, value
               / "i" index string string           ; insert a field
               / "m" index string string           ; change a field; an empty value removes it
               / "b" *OCTET                        ; a piece of another body
               / "+" string / "2" string [string]  ; add a recipient: path, ESMTP parameters
               / "-" string                        ; remove a recipient
               / "e" string [string]               ; another reverse-path: path, ESMTP parameters
               / "q" string                        ; quarantine: why
    index      = 4OCTET

A reply code goes to the client of ours, so it is read as an SMTP reply, strictly: 4yz or 5yz, each line with the same
code, and `mta.smtp.reply` makes its text harmless. libmilter doubles percent signs, for Sendmail takes the text as a
format; they are made single again.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from mta.policy.changes import is_field_name
from mta.policy.milter.option import Action
from mta.policy.milter.packet import Fault, Packet, strings
from mta.smtp import status
from mta.smtp.address import AddressFault, Mailbox, parse_mailbox, parse_path
from mta.smtp.reply import Reply
from mta.smtp.reply_reader import harmless
from mta.smtp.status import Status

LINES_MAXIMUM = 32
"""Lines of a reply code (libmilter's smfi_setmlreply takes as many)."""
_EXCERPT = 80

_REPLY_LINE = re.compile(rb"([45][0-5][0-9])(?:([ -])(?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[ \t]+|$))?(.*))?", re.DOTALL)


class Decision(enum.Enum):
    """Replies without data (SMFIR_*)."""

    CONTINUE = b"c"
    ACCEPT = b"a"
    REJECT = b"r"
    TEMPFAIL = b"t"
    DISCARD = b"d"
    SKIP = b"s"
    """Enough of the body; only in answer to a piece of it."""
    PROGRESS = b"p"
    """Still at work: no answer yet."""
    SHUTDOWN = b"4"
    """421 to the client, and the end of its session."""
    CONNECTION_FAILURE = b"f"
    """The same, without a word; we say 421."""


@dataclass(frozen=True, slots=True)
class ReplyCode:
    """Refuse with this SMTP reply; 4yz or 5yz."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class AddField:
    """Put a field behind the last one."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class InsertField:
    """Put a field in front of another: 0 is the top, also of our own Received field, which counts as the first."""

    index: int
    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeField:
    """Replace the value of the `index`-th field of a name, from 1; an empty one removes it."""

    index: int
    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """A piece of another body; all pieces together take the place of the old one."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """Add a recipient; the ESMTP parameters are as they came."""

    mailbox: Mailbox
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class RemoveRecipient:
    """Remove a recipient."""

    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Another reverse-path; the ESMTP parameters are as they came."""

    sender: Mailbox | None
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keep the message back."""

    reason: str


Change = AddField | InsertField | ChangeField | ReplaceBody | AddRecipient | RemoveRecipient | ChangeSender | Quarantine
Saying = Decision | ReplyCode | Change
"""What one packet says."""

NEEDS = {
    AddField: Action.ADD_FIELDS,
    InsertField: Action.ADD_FIELDS,
    ChangeField: Action.CHANGE_FIELDS,
    ReplaceBody: Action.CHANGE_BODY,
    AddRecipient: Action.ADD_RECIPIENTS | Action.ADD_RECIPIENTS_WITH_PARAMETERS,
    RemoveRecipient: Action.REMOVE_RECIPIENTS,
    ChangeSender: Action.CHANGE_SENDER,
    Quarantine: Action.QUARANTINE,
}
"""One of which actions a change needs."""

_DECISIONS = {decision.value: decision for decision in Decision}


def read(packet: Packet) -> Saying | Fault:
    """Read one packet of a filter. Whether it is at its place is not looked at."""
    data = packet.data
    if packet.command in _DECISIONS:
        decision = _DECISIONS[packet.command]
        return Fault(f"{decision.name} with {len(data)} octets of data") if data else decision
    match packet.command:
        case b"y":
            return _reply_code(data)
        case b"h" | b"i" | b"m":
            return _field(packet.command, data)
        case b"b":
            return ReplaceBody(data)
        case b"+" | b"2" | b"-" | b"e":
            return _path(packet.command, data)
        case b"q":
            texts = strings(data)
            if texts is None or len(texts) != 1:
                return Fault("a quarantine without one reason")
            return Quarantine(harmless(texts[0]))
    return Fault(f"an unknown reply, {harmless(packet.command)!r}")


def _reply_code(data: bytes) -> ReplyCode | Fault:
    lines = data.removesuffix(b"\0").replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    if len(lines) > LINES_MAXIMUM:
        return Fault(f"a reply code of {len(lines)} lines; {LINES_MAXIMUM} are read")
    code, found, texts = b"", b"", []
    for number, line in enumerate(lines):
        match = _REPLY_LINE.fullmatch(line)
        final = number == len(lines) - 1
        if match is None or b"\0" in line or b"\r" in line or (match[2] != b"-") is not final:
            return Fault(f"not a reply code: {harmless(line[:_EXCERPT])!r}")
        if code not in (b"", match[1]):
            return Fault("the lines of one reply code differ in code")
        code, found = match[1], found or match[3] or b""
        texts.append((match[4] or b"").replace(b"%%", b"%").decode("utf-8", "replace"))
    class_ = int(code[:1])
    parsed = Status.parse(found) or status.REFUSED
    return ReplyCode(Reply(int(code), parsed._replace(class_=class_), tuple(texts)))


def _field(command: bytes, data: bytes) -> AddField | InsertField | ChangeField | Fault:
    index = 0
    if command != b"h":
        if len(data) < 4:
            return Fault("a field without its index")
        index, data = int.from_bytes(data[:4], "big"), data[4:]
    texts = strings(data)
    if texts is None or len(texts) != 2:
        return Fault("a field that is not name and value")
    name = texts[0].decode("latin-1")
    if not is_field_name(name):
        return Fault(f"not the name of a field: {harmless(texts[0][:_EXCERPT])!r}")
    if index >= 1 << 31:
        return Fault(f"a field at index {index}")
    if command == b"h":
        return AddField(name, texts[1])
    # smfi_chgheader counts from 1; Sendmail and Postfix take 0 for it too
    return InsertField(index, name, texts[1]) if command == b"i" else ChangeField(max(1, index), name, texts[1])


def _path(command: bytes, data: bytes) -> AddRecipient | RemoveRecipient | ChangeSender | Fault:
    texts = strings(data)
    most = 2 if command in (b"2", b"e") else 1
    if texts is None or len(texts) > most:
        return Fault("a path that is no string")
    parameters = harmless(texts[1]) if len(texts) == 2 else ""
    if command == b"e" and texts[0] in (b"<>", b""):
        return ChangeSender(None, parameters)
    mailbox = _mailbox(texts[0])
    if mailbox is None:
        return Fault(f"not a mailbox: {harmless(texts[0][:_EXCERPT])!r}")
    if command == b"e":
        return ChangeSender(mailbox, parameters)
    return RemoveRecipient(mailbox) if command == b"-" else AddRecipient(mailbox, parameters)


def _mailbox(octets: bytes) -> Mailbox | None:
    try:
        text = octets.decode().strip()
    except UnicodeDecodeError:
        return None
    if text.startswith("<"):
        found = parse_path(text)
        return None if isinstance(found, AddressFault) or found.end != len(text) else found.mailbox
    mailbox = parse_mailbox(text)
    return None if isinstance(mailbox, AddressFault) else mailbox

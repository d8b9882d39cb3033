"""What an administrator's policy is written with: ``from mta.policy.script_api import Facts, reject, tag``.

A policy is a file ``etc/policy/NAME.py``. Its functions are named by the stage at which they are asked, take the facts,
and return None, one verdict, or several:

    def mail(facts: Facts):
        if facts.sender and facts.sender.endswith("@example.net"):
            return reject("We do not take mail from you", code=550, status="5.7.1")

Which words there are, and what may stand with them, is in `mta.policy.vocabulary`; a verdict that makes no sense raises
ValueError where it is made. This module runs in the child process, so it imports nothing that is dear.
"""

from __future__ import annotations

import email.header
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mta.message.header import values
from mta.policy import vocabulary

__all__ = [
    "Facts",
    "Record",
    "Verdict",
    "accept",
    "add_header",
    "add_recipient",
    "change_header",
    "change_sender",
    "defer",
    "delay",
    "discard",
    "file",
    "hold",
    "redirect",
    "reject",
    "remove_header",
    "remove_recipient",
    "tag",
]


class Record(Mapping[str, Any]):
    """Named values that can be read and not changed: ``facts.spf.result`` or ``facts.spf["result"]``."""

    __slots__ = ("_values",)
    _values: Mapping[str, Any]

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"no {name!r} here; there are {', '.join(self._values)}") from None

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("facts cannot be changed; return a verdict instead")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("facts cannot be changed; return a verdict instead")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"


class Facts(Record):
    """What is known at a stage. What has not come yet is None, empty or 0; docs/policies.md says when each comes."""

    __slots__ = ()

    stage: str
    service: str
    session: str
    address: str
    port: int
    iprev: Record | None
    early: bool
    tls: Record | None
    helo: str
    extended: bool
    login: str
    mechanism: str
    sender: str | None
    size: int
    smtputf8: bool
    helo_spf: Record | None
    spf: Record | None
    recipient: str | None
    recipients: tuple[str, ...]
    queue_id: str
    head: bytes
    body: bytes
    """The beginning of the body, as far as ``[policy.scripts] body_maximum`` goes."""
    body_size: int
    """Octets of the body in all."""
    authentication: Record
    tags: frozenset[str]
    unknown_recipients: int
    destination: str
    outcome: str
    reply: str
    rehearsal: bool

    def header(self, name: str) -> str:
        """Return the value of the first field called `name`, encoded words decoded (RFC 2047); empty without one."""
        found = self.raw_headers(name)
        return _decoded(found[0]) if found else ""

    def headers(self, name: str) -> list[str]:
        """Return the value of each field called `name`, encoded words decoded."""
        return [_decoded(each) for each in self.raw_headers(name)]

    def raw_headers(self, name: str) -> list[str]:
        """Return the value of each field called `name` as it came, only unfolded."""
        return [each.decode("utf-8", "replace") for each in values(self.head, name.lower().encode())]


def _decoded(value: str) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except (ValueError, LookupError, email.errors.HeaderParseError):
        # A charset that Python has not, BASE64 that is none: the text as it came
        return value


@dataclass(frozen=True, slots=True)
class Verdict:
    """One verdict: a word of the vocabulary, what stands with it, and the line that made it."""

    word: str
    parameters: Mapping[str, object]
    line: int


def accept(reason: str = "") -> Verdict:
    """Ask no further policy at this stage. What the service itself refuses it refuses all the same."""
    return _verdict("accept", reason=reason)


def reject(
    text: str = "Refused by policy", *, code: int | None = None, status: str | None = None, reason: str = ""
) -> Verdict:
    """Refuse for good, with `text` for the sender; ``550 5.7.1``, at connect 554, unless said otherwise."""
    return _verdict("reject", text=text, code=code, status=status, reason=reason)


def defer(
    text: str = "Not now; try again later", *, code: int | None = None, status: str | None = None, reason: str = ""
) -> Verdict:
    """Refuse for now: the sender tries again. ``450 4.7.0`` unless said otherwise; 421 ends the session."""
    return _verdict("defer", text=text, code=code, status=status, reason=reason)


def discard(reason: str = "") -> Verdict:
    """Say 250 and forget the message. Nobody is told but the log."""
    return _verdict("discard", reason=reason)


def hold(reason: str = "") -> Verdict:
    """Accept the message and leave it in the queue until an operator releases it."""
    return _verdict("hold", reason=reason)


def tag(name: str, reason: str = "") -> Verdict:
    """Put a word into ``facts.tags`` of all that comes after, and into the log."""
    return _verdict("tag", name=name, reason=reason)


def delay(seconds: float, reason: str = "") -> Verdict:
    """Let the reply come later."""
    return _verdict("delay", seconds=seconds, reason=reason)


def add_header(name: str, value: str, position: int = 0, reason: str = "") -> Verdict:
    """Add a field: in front of all, behind the n-th, or with -1 behind the last."""
    return _verdict("add_header", name=name, value=value, position=position, reason=reason)


def change_header(name: str, value: str, occurrence: int = 1, reason: str = "") -> Verdict:
    """Replace the value of the first field of this name, or of a later one; add it where there is none."""
    return _verdict("change_header", name=name, value=value, occurrence=occurrence, reason=reason)


def remove_header(name: str, occurrence: int = 1, reason: str = "") -> Verdict:
    """Remove the first field of this name, or a later one."""
    return _verdict("remove_header", name=name, occurrence=occurrence, reason=reason)


def redirect(mailbox: str, reason: str = "") -> Verdict:
    """Send the message to `mailbox` instead of its recipients; at the stage rcpt instead of this one."""
    return _verdict("redirect", mailbox=mailbox, reason=reason)


def add_recipient(mailbox: str, reason: str = "") -> Verdict:
    """Send a copy to `mailbox` too."""
    return _verdict("add_recipient", mailbox=mailbox, reason=reason)


def remove_recipient(mailbox: str, reason: str = "") -> Verdict:
    """Send no copy to `mailbox`."""
    return _verdict("remove_recipient", mailbox=mailbox, reason=reason)


def change_sender(mailbox: str, reason: str = "") -> Verdict:
    """Give the envelope another reverse-path; ``""`` for none."""
    return _verdict("change_sender", mailbox=mailbox, reason=reason)


def file(folder: str, reason: str = "") -> Verdict:
    """Put copies for mailboxes of ours into this folder."""
    return _verdict("file", folder=folder, reason=reason)


def _verdict(word: str, /, **parameters: object) -> Verdict:
    # two frames up is the line of the administrator's file that said the word
    return Verdict(word, vocabulary.completed(word, parameters), sys._getframe(2).f_lineno)

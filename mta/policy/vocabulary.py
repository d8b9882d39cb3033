"""The words in which a script or a hook answers, and what makes sense with each (pure, and light: a child imports it).

=====================  =====================================  =========================================================
word                   with                                   verdict (`mta.policy.verdict`)
=====================  =====================================  =========================================================
``accept``                                                    `Accept`
``reject``             ``text``, ``code``, ``status``         `Reject`
``defer``              ``text``, ``code``, ``status``         `Defer`
``discard``                                                   `Discard`
``hold``                                                      `Hold`
``tag``                ``name``                               `Tag`
``delay``              ``seconds``                            `Delay`
``add_header``         ``name``, ``value``, ``position``      `AddHeader`
``change_header``      ``name``, ``value``, ``occurrence``    `ChangeHeader`
``remove_header``      ``name``, ``occurrence``               `ChangeHeader` with an empty value
``redirect``           ``mailbox``                            `Redirect`
``add_recipient``      ``mailbox``                            `AddRecipient`
``remove_recipient``   ``mailbox``                            `RemoveRecipient`
``change_sender``      ``mailbox`` (``""``: none)             `ChangeSender`
``file``               ``folder``                             `File`
=====================  =====================================  =========================================================

Each takes ``reason`` too, for log and history. As JSON a verdict is an object with its word under ``verdict``.

The same rules are applied twice: where a verdict is made, so that the line that made it is told, and where it is read,
since a child or a hook may send anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mta.smtp.address import Mailbox, parse_mailbox

STAGES = ("connect", "helo", "auth", "mail", "rcpt", "data", "headers", "message", "route", "attempt")
"""The values of `mta.policy.facts.Stage`, which is too dear to import for a child."""
BEFORE_MAIL = STAGES[:3]
"""Stages without a message that anything could be done to."""
AT_CONNECT = (521, 554)
"""What a session may be refused with for good (RFC 5321 §3.1, RFC 7504 §3)."""

VERDICTS_MAXIMUM = 100
"""Verdicts in one answer."""
TEXT_MAXIMUM = 400
"""Characters of a reply or reason: a reply is one line of 512 octets with its codes (RFC 5321 §4.5.3.1.5)."""
VALUE_MAXIMUM = 8000
"""Characters of a field's value."""
WORD_MAXIMUM = 900
"""Characters without a space in it: a line has at most 998 (RFC 5322 §2.1.1)."""
NUMBER_MAXIMUM = 10_000
"""Of positions and occurrences."""
DELAY_MAXIMUM = 120.0
"""Seconds (as of the whole chain, `mta.policy.chain`)."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FIELD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,76}")
_TAG = re.compile(r"[\x21-\x7e]{1,64}")
_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})")
_UNWELCOME_IN_A_FOLDER = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\A\.|\.\.|\.\Z|\A\Z")
FOLDER_MAXIMUM = 100
"""Characters of a folder's name."""

NEEDED = object()
"""Instead of a default: the word makes no sense without it."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What may stand with a word."""

    expected: str
    fits: Callable[[Any], bool]
    default: object = NEEDED


def is_text(value: object) -> bool:
    """Whether it is one line that a reply or a log can show."""
    return isinstance(value, str) and len(value) <= TEXT_MAXIMUM and not _CONTROL.search(value)


def _is_value(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= VALUE_MAXIMUM
        and not _CONTROL.search(value.replace("\t", " "))
        and max(map(len, value.split(" "))) <= WORD_MAXIMUM
        and bool(value.strip())
    )


def _is_mailbox(value: object) -> bool:
    return isinstance(value, str) and isinstance(parse_mailbox(value), Mailbox)


def _is_folder(value: object) -> bool:
    return isinstance(value, str) and len(value) <= FOLDER_MAXIMUM and not _UNWELCOME_IN_A_FOLDER.search(value)


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _between(minimum: int, maximum: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and minimum <= value <= maximum


def _is_delay(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= DELAY_MAXIMUM  # type: ignore[operator]  # a number, then


def _or_none(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or fits(value)


def _refusal(text: str, class_: int) -> Mapping[str, Parameter]:
    low, high = class_ * 100, class_ * 100 + 99
    status = re.compile(rf"{class_}\.[0-9]{{1,3}}\.[0-9]{{1,3}}")
    return {
        "text": Parameter(f"one line of at most {TEXT_MAXIMUM} characters", is_text, text),
        "code": Parameter(f"{low} to {high}", _or_none(_between(low, high)), None),
        "status": Parameter(f'a status, "{class_}.7.1"', _or_none(_matches(status)), None),
    }


_NAME = Parameter("a field name of at most 76 characters, without a colon", _matches(_FIELD_NAME))
_VALUE = Parameter(
    f"one line of at most {VALUE_MAXIMUM:,} characters, with a space after {WORD_MAXIMUM} at the latest", _is_value
)
_OCCURRENCE = Parameter(f"1 to {NUMBER_MAXIMUM:,}", _between(1, NUMBER_MAXIMUM), 1)
_MAILBOX = Parameter('a mailbox, "bob@example.org"', _is_mailbox)
_REASON = Parameter(f"one line of at most {TEXT_MAXIMUM} characters", is_text, "")

WORDS: Mapping[str, Mapping[str, Parameter]] = {
    "accept": {},
    "reject": _refusal("Refused by policy", 5),
    "defer": _refusal("Not now; try again later", 4),
    "discard": {},
    "hold": {},
    "tag": {"name": Parameter("one word of at most 64 characters, printable ASCII", _matches(_TAG))},
    "delay": {"seconds": Parameter(f"0 to {DELAY_MAXIMUM:g} seconds", _is_delay)},
    "add_header": {
        "name": _NAME,
        "value": _VALUE,
        "position": Parameter(f"-1 to {NUMBER_MAXIMUM:,}", _between(-1, NUMBER_MAXIMUM), 0),
    },
    "change_header": {"name": _NAME, "value": _VALUE, "occurrence": _OCCURRENCE},
    "remove_header": {"name": _NAME, "occurrence": _OCCURRENCE},
    "redirect": {"mailbox": _MAILBOX},
    "add_recipient": {"mailbox": _MAILBOX},
    "remove_recipient": {"mailbox": _MAILBOX},
    "change_sender": {
        "mailbox": Parameter('a mailbox, "bob@example.org", or ""', lambda value: value == "" or _is_mailbox(value))
    },
    "file": {"folder": Parameter('the name of a folder, "Junk"', _is_folder)},
}
"""The parameters of each word but ``reason``."""

ANYWHERE = ("accept", "reject", "defer", "tag", "delay")
"""Words that make sense without a message."""


def completed(word: str, given: Mapping[str, object]) -> dict[str, object]:
    """Check what stands with a word and add what is left out. Raises ValueError, which says what is wrong."""
    parameters = {**WORDS[word], "reason": _REASON}
    for name in given:
        if name not in parameters:
            raise ValueError(f"{word}: {name}: expected one of {', '.join(parameters)}")
    out: dict[str, object] = {}
    for name, parameter in parameters.items():
        value = out[name] = given.get(name, parameter.default)
        if value is NEEDED:
            raise ValueError(f"{word}: {name}: expected {parameter.expected}, found nothing")
        if value is not parameter.default and not parameter.fits(value):
            raise ValueError(f"{word}: {name}: expected {parameter.expected}, found {shown(value)}")
    return out


def misplaced(word: str, given: Mapping[str, object], stage: str) -> str:
    """Say why a verdict makes no sense at a stage; empty: it does."""
    if stage in BEFORE_MAIL and word not in ANYWHERE:
        return f"{word}: there is no message yet at the stage {stage}"
    code = given.get("code")
    if word == "reject" and stage == "connect" and code is not None and code not in AT_CONNECT:
        return f"reject: code: expected 554 or 521 at the stage connect, found {code}"
    return ""


def shown(value: object) -> str:
    """Show a value in a message for people: printable, cut."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:80] + "…"

"""Verdicts as JSON in the words of `mta.policy.vocabulary`: read from a script or hook, written for programs.

What comes from elsewhere is checked here once more, whoever sent it. Values that are not ASCII become encoded words
(RFC 2047 §2), long ones are folded (RFC 5322 §2.2.3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from email.header import Header
from typing import Any

from mta.mail.reason import Reason
from mta.message.header import LINE_WANTED, folded
from mta.policy import verdict as verdicts
from mta.policy.facts import Stage
from mta.policy.verdict import Opinion, Verdict
from mta.policy.vocabulary import BEFORE_MAIL, VERDICTS_MAXIMUM, WORDS, completed, misplaced, shown
from mta.smtp import status
from mta.smtp.address import Mailbox, parse_mailbox
from mta.smtp.reply import Reply, reply
from mta.smtp.status import Status

assert tuple(stage.value for stage in Stage)[: len(BEFORE_MAIL)] == BEFORE_MAIL, "facts and vocabulary disagree"

Source = Callable[[Mapping[str, object]], str]
"""Names what decided, ``etc/policy/x.py:12``, given the verdict as it came."""


def read(answer: object, stage: Stage, source: Source) -> Opinion:
    """Make verdicts of a list of objects. Raises ValueError, which says what makes no sense."""
    if not isinstance(answer, list):
        raise ValueError(f"expected a list of verdicts, found {shown(answer)}")
    if len(answer) > VERDICTS_MAXIMUM:
        raise ValueError(f"expected at most {VERDICTS_MAXIMUM} verdicts, found {len(answer)}")
    return tuple(_read(each, stage, source) for each in answer) or None


def _read(given: object, stage: Stage, source: Source) -> Verdict:
    if not isinstance(given, Mapping):
        raise ValueError(f"expected a verdict, found {shown(given)}")
    word = given.get("verdict")
    if not isinstance(word, str) or word not in WORDS:
        raise ValueError(f"verdict: expected one of {', '.join(WORDS)}, found {shown(word)}")
    parameters = completed(word, {name: value for name, value in given.items() if name not in ("verdict", "line")})
    complaint = misplaced(word, parameters, stage.value)
    if complaint:
        raise ValueError(complaint)
    reason = Reason(str(parameters["reason"]) or _said(word, parameters), source(given))
    return _MAKERS[word](reason, stage, parameters)


def _said(word: str, parameters: Mapping[str, Any]) -> str:
    """Say what was decided, where no reason was given: the word and what is first with it."""
    first = next(iter(WORDS[word]), None)
    return word if first is None else f"{word} {parameters[first]}".rstrip()


def _reject(reason: Reason, stage: Stage, given: Mapping[str, Any]) -> Verdict:
    return verdicts.Reject(reason, _reply(given, 554 if stage is Stage.CONNECT else 550, status.REFUSED))


def _defer(reason: Reason, stage: Stage, given: Mapping[str, Any]) -> Verdict:
    return verdicts.Defer(reason, _reply(given, 421 if stage is Stage.CONNECT else 450, status.TOO_MUCH))


def _reply(given: Mapping[str, Any], code: int, usual: Status) -> Reply:
    found = Status.parse(given["status"].encode()) if given["status"] else usual
    return reply(given["code"] or code, found, given["text"])


def _mailbox(text: str) -> Mailbox:
    found = parse_mailbox(text)
    assert isinstance(found, Mailbox), "the vocabulary takes nothing else"
    return found


def _value(name: str, value: str) -> str:
    if not value.isascii():
        return Header(value, "utf-8", LINE_WANTED, name).encode(linesep="\r\n")
    if len(name) + len(": ") + len(value) <= LINE_WANTED:
        return value
    return folded([f"{name}:", *value.split(" ")]).removeprefix(f"{name}:").removeprefix(" ")


_MAKERS: Mapping[str, Callable[[Reason, Stage, Mapping[str, Any]], Verdict]] = {
    "accept": lambda reason, _, given: verdicts.Accept(reason),
    "reject": _reject,
    "defer": _defer,
    "discard": lambda reason, _, given: verdicts.Discard(reason),
    "hold": lambda reason, _, given: verdicts.Hold(reason),
    "tag": lambda reason, _, given: verdicts.Tag(reason, given["name"]),
    "delay": lambda reason, _, given: verdicts.Delay(reason, float(given["seconds"])),
    "add_header": lambda reason, _, given: verdicts.AddHeader(
        reason, given["name"], _value(given["name"], given["value"]), given["position"]
    ),
    "change_header": lambda reason, _, given: verdicts.ChangeHeader(
        reason, given["name"], given["occurrence"], _value(given["name"], given["value"])
    ),
    "remove_header": lambda reason, _, given: verdicts.ChangeHeader(reason, given["name"], given["occurrence"], ""),
    "redirect": lambda reason, _, given: verdicts.Redirect(reason, _mailbox(given["mailbox"])),
    "add_recipient": lambda reason, _, given: verdicts.AddRecipient(reason, _mailbox(given["mailbox"])),
    "remove_recipient": lambda reason, _, given: verdicts.RemoveRecipient(reason, _mailbox(given["mailbox"])),
    "change_sender": lambda reason, _, given: verdicts.ChangeSender(
        reason, _mailbox(given["mailbox"]) if given["mailbox"] else None
    ),
    "file": lambda reason, _, given: verdicts.File(reason, given["folder"]),
}


def write(given: Verdict) -> dict[str, object]:
    """Make what `json.dumps` takes, from any verdict: its name, its reason, and what stands with it."""
    out: dict[str, object] = {"verdict": _word(given)}
    for each in dataclasses.fields(given):
        value = getattr(given, each.name)
        if each.name == "reason":
            out["reason"], out["source"] = value.text, value.source
        elif isinstance(value, bytes):
            out[f"{each.name}_size"] = len(value)
        else:
            out[each.name] = value if value is None or isinstance(value, str | int | float) else str(value)
    return out


def _word(given: Verdict) -> str:
    if isinstance(given, verdicts.ChangeHeader) and not given.value:
        return "remove_header"
    name = type(given).__name__
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")

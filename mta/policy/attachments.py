"""Rules of an administrator by the names of attachments.

A rule fits a name by its extension, by a pattern (RE2), or by both; a name is every reading of it that a mail program
may have (`mta.message.file_name`), in lower case. Rules are asked in order; the verdicts of all that fit are given, up
to the first that refuses or discards.

A message whose parts could not all be read, for they are too many or too large (`mta.message.mime`), is refused, or
what ``unreadable`` says: whoever makes one has something to hide.

Larger messages are read on a thread, in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twisted.internet import defer

from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.message.file_name import file_names
from mta.message.mime import MimeParts
from mta.policy import doing, refusal
from mta.policy.facts import Body, Facts, Stage
from mta.policy.verdict import Discard, Opinion, Refusal, Tag, Verdict
from mta.settings.policy import AttachmentRuleSettings, AttachmentRulesSettings
from mta.settings.problem import quoted

INLINE_MAXIMUM = 64 * 1024
"""Octets of a body that is read at once (0.1 ms); a larger one is read on a thread."""
NAMES_MAXIMUM = 20_000
"""Readings of names of one message that rules are tried on."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the attachments of one message, each once and in lower case."""

    names: tuple[str, ...]
    fault: str = ""
    """Why they are not all; empty: they are."""


def names_of(head: bytes, body: Body | None) -> Names:
    """Read all names of a message. May block on the disk."""
    parts = MimeParts()
    found: dict[str, None] = {}
    _add(found, parts.begin(head))
    for piece in body.pieces() if body is not None else ():
        _add(found, parts.feed(piece))
        if len(found) > NAMES_MAXIMUM:
            return Names(tuple(found), f"more than {NAMES_MAXIMUM} names")
        if parts.ended:
            break
    _add(found, parts.finish())
    return Names(tuple(found), parts.fault)


def _add(found: dict[str, None], heads: Iterable[bytes]) -> None:
    for head in heads:
        found.update(dict.fromkeys(name.lower() for name in file_names(head)))


class Attachments:
    """The policy. `run` runs what may block."""

    name = "attachments"

    def __init__(self, settings: AttachmentRulesSettings, run: RunInThread) -> None:
        self._settings = settings
        self._run = run
        self._rules = [_Rule(rule) for rule in settings.rules]
        self._services = frozenset(service for rule in settings.rules for service in rule.services)
        self.stages = frozenset({Stage.MESSAGE} if settings.rules else ())

    def ask(self, facts: Facts) -> Opinion | defer.Deferred[Opinion]:
        """Give the verdicts of the rules that fit; a Deferred for large messages."""
        if facts.service not in self._services:
            return None
        if facts.body is None or facts.body.size <= INLINE_MAXIMUM:
            return self._judge(facts)
        return self._run(self._judge, facts)

    def _judge(self, facts: Facts) -> Opinion:
        names = names_of(facts.head, facts.body)
        verdicts: list[Verdict] = []
        for rule in self._rules:
            name = rule.first(names.names) if facts.service in rule.settings.services else None
            if name is None:
                continue
            why = Reason(f"attachment {quoted(name)} {rule.why}", rule.settings.source)
            verdict = doing.verdict(rule.settings.action, facts.stage, why)
            verdicts.append(verdict)
            if isinstance(verdict, Refusal | Discard):
                return verdicts
        if names.fault:
            verdicts += self._unreadable(names.fault, facts)
        return verdicts

    def _unreadable(self, fault: str, facts: Facts) -> Iterable[Verdict]:
        why = Reason(f"not all names of attachments can be read: {fault}", "[policy.attachments] unreadable")
        match self._settings.unreadable:
            case "tag":
                yield Tag(why, "attachments.unreadable")
            case "defer":
                yield refusal.defer(facts.stage, f"This message cannot be read: {fault}", why)
            case "reject":
                yield refusal.reject(facts.stage, f"This message cannot be read: {fault}", why)


class _Rule:
    """One rule, ready to be tried."""

    def __init__(self, settings: AttachmentRuleSettings) -> None:
        self.settings = settings
        self._extensions = frozenset(extension.lower() for extension in settings.extensions)
        self.why = " and ".join(self._whys())

    def first(self, names: Iterable[str]) -> str | None:
        """The first name that it fits."""
        return next((name for name in names if self._fits(name)), None)

    def _whys(self) -> Iterable[str]:
        if self._extensions:
            where = {"last": "has", "double": "has, behind another one,", "anywhere": "has somewhere"}
            yield f"{where[self.settings.where]} an extension of this rule"
        if self.settings.pattern is not None:
            yield f"matches {self.settings.pattern.text}"

    def _fits(self, name: str) -> bool:
        if self._extensions and not self._fits_extension(name):
            return False
        pattern = self.settings.pattern
        return pattern is None or pattern.search(name.encode("utf-8", "replace"))

    def _fits_extension(self, name: str) -> bool:
        # White space before and behind a dot hides an extension from the eye, not from Windows
        parts = [part.strip() for part in name.split(".")]
        match self.settings.where:
            case "anywhere":
                return not self._extensions.isdisjoint(parts[1:])
            case "double":
                return len(parts) > 2 and bool(parts[-2]) and parts[-1] in self._extensions
        return len(parts) > 1 and parts[-1] in self._extensions

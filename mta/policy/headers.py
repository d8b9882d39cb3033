"""Rules of an administrator by the fields of the header.

A rule looks at every occurrence of its field (``*``: at all fields, as ``name: value``), unfolded, with encoded words
decoded or not, and fits where its pattern (RE2) matches in one of them; without a pattern where there is one; with
``absent`` where there is none. Rules are asked in order; the verdicts of all that fit are given, up to the first that
refuses or discards.

Of one field at most `OCTETS_MAXIMUM` octets are looked at by a rule, and of one value what a pattern looks at
(`mta.settings.pattern`); a message that holds more is tagged ``headers.cut``.
"""

from __future__ import annotations

from dataclasses import dataclass

from mta.mail.reason import Reason
from mta.message.encoded_word import decoded
from mta.message.header import fields, values
from mta.policy import doing
from mta.policy.facts import Facts, Stage
from mta.policy.verdict import Discard, Refusal, Tag, Verdict
from mta.settings.pattern import TEXT_MAXIMUM
from mta.settings.policy import FieldRuleSettings, FieldRulesSettings
from mta.settings.problem import quoted

OCTETS_MAXIMUM = 256 * 1024
"""Octets of one field, all its occurrences together, that one rule looks at: 0.5 ms of RE2 for a usual pattern."""


@dataclass(frozen=True, slots=True)
class _Values:
    """The occurrences of one field."""

    texts: tuple[bytes, ...]
    cut: bool
    """Whether there was more."""


class Headers:
    """The policy."""

    name = "headers"

    def __init__(self, settings: FieldRulesSettings) -> None:
        self._rules = settings.rules
        self.stages = frozenset({Stage.HEADERS} if settings.rules else ())

    def ask(self, facts: Facts) -> tuple[Verdict, ...]:
        """Give the verdicts of the rules that fit."""
        known: dict[tuple[str, bool], _Values] = {}
        verdicts: list[Verdict] = []
        for rule in self._rules:
            if facts.service not in rule.services:
                continue
            key = rule.field.lower(), rule.decoded
            found = known.get(key)
            if found is None:
                found = known[key] = _values(facts.head, *key)
            text = _fits(rule, found)
            if text is None:
                continue
            verdict = doing.verdict(rule.action, facts.stage, Reason(text, rule.source))
            verdicts.append(verdict)
            if isinstance(verdict, Refusal | Discard):
                break
        cut = [name for (name, _), found in known.items() if found.cut]
        if cut:
            text = f"more than {OCTETS_MAXIMUM} octets of {', '.join(sorted(set(cut)))}: the rest was not looked at"
            verdicts.insert(0, Tag(Reason(text, "mta.policy.headers"), "headers.cut"))
        return tuple(verdicts)


def _fits(rule: FieldRuleSettings, found: _Values) -> str | None:
    """Say what fits; None where nothing does."""
    if rule.absent:
        return None if found.texts else f"there is no {rule.field}"
    if rule.pattern is None:
        return f"there is a {rule.field}" if found.texts else None
    for text in found.texts:
        if rule.pattern.search(text):
            return f"{rule.field} {quoted(text.decode('utf-8', 'replace'))} matches {rule.pattern.text}"
    return None


def _values(head: bytes, name: str, decode: bool) -> _Values:
    if name == "*":
        raw = [each.raw.replace(b"\r\n", b"") for each in fields(head)]
    else:
        raw = values(head, name.encode("ascii"))
    texts: list[bytes] = []
    left = OCTETS_MAXIMUM
    cut = False
    for value in raw:
        cut = cut or len(value) > min(left, TEXT_MAXIMUM)
        value = value[:left]
        left -= len(value)
        # An occurrence counts as one, though nothing of it is looked at any more
        texts.append(decoded(value).encode("utf-8", "replace") if decode and b"=?" in value else value)
        if not left:
            break
    return _Values(tuple(texts), cut or len(texts) < len(raw))

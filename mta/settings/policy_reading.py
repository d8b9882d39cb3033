"""What is checked and read of ``[policy]`` beyond single keys: files of lists, codes of DNS lists, rules.

A file of a list has one entry a line, ``192.0.2.0/24  sends spam since May``: the entry, then why. ``#`` and ``;``
begin a comment, so the files that Spamhaus publishes for DROP are read as they come. Files are bounded, and of a file
that is something else altogether only the first lines are complained about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from mta.settings.entry import ENTRY, Entry, Key
from mta.settings.locate import Path
from mta.settings.policy import (
    AllowSettings,
    AttachmentRulesSettings,
    DenySettings,
    DnsListsSettings,
    FieldRulesSettings,
    GreylistSettings,
    HarvestSettings,
    ListsSettings,
    PolicySettings,
)
from mta.settings.problem import Problem, quoted
from mta.settings.return_code import ReturnCode
from mta.settings.table import Reading
from mta.settings.values import Unfit

FILE_MAXIMUM = 16 << 20
"""Octets of one file of a list."""
ENTRIES_MAXIMUM = 100_000
"""Entries of all lists together: some 50 MB of memory, and a second at each reload."""
RULES_MAXIMUM = 1000
"""Rules of fields, and of attachments: each is tried on every message."""
PROBLEMS_MAXIMUM = 20
"""Problems told of one file."""

_COMMENT = re.compile(r"(?:^|\s)[#;].*")
_FIELD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,76}")
_EXTENSION = re.compile(r"[^.\s/\\]{1,20}")
_FORMS: Mapping[str, tuple[str, ...]] = {
    "peer": ("network", "domain", "any"),
    "helo": ("network", "domain", "any"),
    "sender": ("network", "domain", "any", "mailbox", "local-part", "null"),
    "recipient": ("network", "domain", "any", "mailbox", "local-part"),
}
"""What may stand in a list of each subject."""

_PATH: Path = ("policy",)
_Table = TypeVar("_Table", AllowSettings, DenySettings)


def complete_policy(reading: Reading, policy: PolicySettings) -> PolicySettings:
    """Check the tables below ``[policy]`` and read the files they name."""
    if policy.lists is not None:
        policy = replace(policy, lists=_Lists(reading).complete(policy.lists))
    if policy.dnsbl is not None:
        _check_dns_lists(reading, policy.dnsbl)
    if policy.greylist is not None:
        _check_greylist(reading, policy.greylist)
    if policy.harvest is not None:
        _check_harvest(reading, policy.harvest)
    if policy.headers is not None:
        _check_fields(reading, policy.headers)
    if policy.attachments is not None:
        _check_attachments(reading, policy.attachments)
    return policy


class _Lists:
    """The lists, with the bound on all of them together, and what each entry was before."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._known: dict[tuple[str, Key], tuple[str, Entry]] = {}
        self._left = ENTRIES_MAXIMUM

    def complete(self, lists: ListsSettings) -> ListsSettings:
        allows = tuple(self._table("allow", number, table) for number, table in enumerate(lists.allows))
        denies = tuple(self._table("deny", number, table) for number, table in enumerate(lists.denies))
        return replace(lists, allows=allows, denies=denies)

    def _table(self, kind: str, number: int, table: _Table) -> _Table:
        path = (*_PATH, "lists", kind, number)
        if not table.entries and not table.file:
            self._reading.mismatch(path, "entries or a file", "neither")
        entries = list(table.entries)
        if table.file:
            entries += _read_entries(table.file, self._left, self._reading.problems)
        self._left -= len(entries)
        known = []
        for entry in entries:
            fault = self._fault(kind, table.of, entry)
            if fault is None:
                known.append(entry if entry.note or not table.reason else replace(entry, note=table.reason))
            else:
                file, _, line = entry.source.rpartition(":")
                key = f"[[policy.lists.{kind}]]" if file == self._reading.file else ""
                self._reading.problems.append(Problem(file, int(line), *fault, key))
        return replace(table, entries=(), read=tuple(known))

    def _fault(self, kind: str, of: str, entry: Entry) -> tuple[str, str] | None:
        """What is expected and what is found, where an entry cannot stand in its list."""
        if entry.form not in _FORMS[of]:
            return f"an entry for a list of {of} names or addresses", quoted(entry.text)
        before, other = self._known.setdefault((of, entry.key), (kind, entry))
        if before != kind:
            return "an entry that is allowed or denied", f"{entry.text}, which is in both, see {other.source}"
        return None


def _read_entries(path: str, maximum: int, problems: list[Problem]) -> list[Entry]:
    try:
        with open(path, "rb") as file:
            octets = file.read(FILE_MAXIMUM + 1)
    except OSError as error:
        problems.append(Problem(path, 0, "a file that can be read", f"{error.strerror}"))
        return []
    if len(octets) > FILE_MAXIMUM:
        problems.append(Problem(path, 0, "at most 16 MiB", "more"))
        return []
    entries: list[Entry] = []
    told = 0
    for number, line in enumerate(octets.split(b"\n"), 1):
        try:
            entry = _entry(line, path, number)
        except ValueError as error:
            why = f" ({error})" if isinstance(error, Unfit) else ""
            problems.append(Problem(path, number, ENTRY.expected + why, quoted(line.decode("utf-8", "replace"))))
            told += 1
            if told == PROBLEMS_MAXIMUM:
                break
            continue
        if entry is None:
            continue
        if len(entries) == maximum:
            problems.append(Problem(path, number, f"at most {ENTRIES_MAXIMUM:,} entries in all lists", "more"))
            break
        entries.append(entry)
    return entries


def _entry(line: bytes, path: str, number: int) -> Entry | None:
    words = _COMMENT.sub("", line.decode()).split(maxsplit=1)
    if not words:
        return None
    note = words[1].strip() if len(words) > 1 else ""
    return Entry.parse(words[0], note, f"{path}:{number}")


def _check_dns_lists(reading: Reading, settings: DnsListsSettings) -> None:
    for number, each in enumerate(settings.lists):
        path = (*_PATH, "dnsbl", "list", number)
        if not each.codes:
            reading.mismatch((*path, "codes"), "the codes of the list", "none")
        if not each.of:
            reading.mismatch((*path, "of"), "what it is asked about", "nothing")
        for code in each.codes:
            try:
                ReturnCode.parse(code)
            except Unfit as unfit:
                expected = f'a code, "127.0.0.2", "127.0.0.4-7" or "127.0.*.1" ({unfit})'
                reading.problem((*path, "codes", code), expected, quoted(code))
        for code in each.weights:
            if code not in each.codes:
                reading.problem((*path, "weights", code), "one of the codes, written as there", quoted(code))


def _check_greylist(reading: Reading, settings: GreylistSettings) -> None:
    if settings.window <= settings.delay:
        reading.mismatch((*_PATH, "greylist", "window"), "more than delay", "less")
    if settings.remember < settings.window:
        reading.mismatch((*_PATH, "greylist", "remember"), "window or more", "less")


def _check_harvest(reading: Reading, settings: HarvestSettings) -> None:
    if settings.refuse_after < settings.delay_after:
        reading.mismatch((*_PATH, "harvest", "refuse_after"), "delay_after or more", "less")


def _check_fields(reading: Reading, settings: FieldRulesSettings) -> None:
    for path, rule in _rules(reading, "headers", settings.rules):
        if not _FIELD_NAME.fullmatch(rule.field):
            reading.mismatch((*path, "field"), 'the name of a field, "Subject", or "*"', quoted(rule.field))
        if rule.absent and (rule.pattern is not None or rule.field == "*"):
            reading.mismatch((*path, "absent"), "one field, and no pattern", "absent = true with others")


def _check_attachments(reading: Reading, settings: AttachmentRulesSettings) -> None:
    for path, rule in _rules(reading, "attachments", settings.rules):
        if not rule.extensions and rule.pattern is None:
            reading.mismatch(path, "extensions or a pattern", "neither")
        for extension in rule.extensions:
            if not _EXTENSION.fullmatch(extension):
                expected = 'extensions without their dot, "exe"'
                reading.mismatch((*path, "extensions"), expected, quoted(extension))


_Rule = TypeVar("_Rule")


def _rules(reading: Reading, table: str, rules: tuple[_Rule, ...]) -> Iterator[tuple[Path, _Rule]]:
    if len(rules) > RULES_MAXIMUM:
        reading.mismatch((*_PATH, table, "rule"), f"at most {RULES_MAXIMUM:,} rules", f"{len(rules):,}")
    for number, rule in enumerate(rules):
        yield (*_PATH, table, "rule", number), rule

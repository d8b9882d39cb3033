"""Allow and deny lists: by the peer's address and confirmed name, its HELO name, the reverse-path, the forward-path.

Of the entries that cover one thing the most exact decides, in the order of this table:

=======================  =============================================================================================
thing                    entries, the most exact first
=======================  =============================================================================================
an address               networks, the longest first; ``*``
a name                   the domain, then each one above it; ``*`` (an address literal: as an address)
a mailbox                itself; its local-part; its domain as a name; ``*``
``<>``                   ``<>``; ``*``
=======================  =============================================================================================

Then, of all things that are known (address, name, HELO name, reverse-path, forward-path), one that is allowed settles
it; otherwise the first that is denied does.

=========  ===========================================  =============================================================
stage      allowed                                      denied
=========  ===========================================  =============================================================
connect    `Accept`: no pause, no counting              said at smtpd, or with ``at_once``
helo       `Accept`                                     likewise
mail       `Accept`                                     likewise
rcpt       `Accept`: no DNS list, no greylisting        said
data       `Accept`, where each forward-path that was   not said again
           taken is allowed, or what is not one
=========  ===========================================  =============================================================

To who has logged in an allow means nothing: his limits hold. Content is judged whoever is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from mta.mail.reason import Reason
from mta.mailauth.result import IprevResult
from mta.policy import refusal
from mta.policy.facts import Facts, Stage
from mta.policy.network import literal, parse
from mta.policy.verdict import Accept, Refusal
from mta.settings.entry import ANY, NULL, Entry, Key, domain_keys, local_part_key, mailbox_key, network_key
from mta.settings.policy import ListsSettings, Subject
from mta.settings.values import fold_domain
from mta.smtp.address import Mailbox

_STAGES = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA)
_FIRST = {"peer": Stage.CONNECT, "helo": Stage.HELO, "sender": Stage.MAIL, "recipient": Stage.RCPT}
"""The stage at which a subject becomes known."""


@dataclass(frozen=True, slots=True)
class _Line:
    """What an entry decides."""

    entry: Entry
    word: Literal["allow", "reject", "defer"]


@dataclass(frozen=True, slots=True)
class _Thing:
    """Something that entries may cover."""

    text: str
    """As it is called in reasons and replies."""
    keys: Iterable[Key]
    """The most exact first; ``*`` goes without saying."""


class _Table:
    """The entries about one subject."""

    def __init__(self) -> None:
        self._lines: dict[Key, _Line] = {}
        self._lengths: dict[int, list[int]] = {4: [], 6: []}
        """The lengths of the networks by version, the longest first."""

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, entry: Entry, word: Literal["allow", "reject", "defer"]) -> None:
        """Take an entry; of equal ones the first stays."""
        self._lines.setdefault(entry.key, _Line(entry, word))
        if entry.form == "network":
            _, version, length, _ = entry.key
            lengths = self._lengths[int(version)]
            if length not in lengths:
                lengths.append(int(length))
                lengths.sort(reverse=True)

    def find(self, thing: _Thing) -> _Line | None:
        """Find the most exact entry that covers a thing."""
        for key in thing.keys:
            line = self._lines.get(key)
            if line is not None:
                return line
        return self._lines.get(ANY)

    def network_keys(self, address: str) -> Iterator[Key]:
        parsed = parse(address)
        if parsed is not None:
            for length in self._lengths[parsed.version]:
                yield network_key(parsed, length)

    def name_keys(self, name: str) -> Iterator[Key]:
        if name.startswith("["):
            return self.network_keys(name[1:-1].removeprefix("IPv6:"))
        return domain_keys(fold_domain(name).removesuffix("."))

    def mailbox_keys(self, mailbox: Mailbox) -> Iterator[Key]:
        yield mailbox_key(Mailbox(mailbox.local_part, fold_domain(mailbox.domain)))
        yield local_part_key(mailbox.local_part)
        yield from self.name_keys(mailbox.domain)


class Lists:
    """The policy. `settings` are those that `mta.settings.policy_reading` has completed."""

    name = "lists"

    def __init__(self, settings: ListsSettings) -> None:
        self._at_once = settings.at_once
        self._tables: dict[Subject, _Table] = {"peer": _Table(), "helo": _Table(), "sender": _Table()}
        self._tables["recipient"] = _Table()
        for allow in settings.allows:
            for entry in allow.read:
                self._tables[allow.of].add(entry, "allow")
        for deny in settings.denies:
            for entry in deny.read:
                self._tables[deny.of].add(entry, deny.action)
        first = [_STAGES.index(_FIRST[subject]) for subject, lines in self._tables.items() if lines]
        self.stages = frozenset(_STAGES[min(first) :] if first else ())

    def ask(self, facts: Facts) -> Accept | Refusal | None:
        """Judge what is known."""
        denied: tuple[_Thing, _Line] | None = None
        for subject, thing in self._things(facts):
            line = self._tables[subject].find(thing)
            if line is None:
                continue
            if line.word != "allow":
                denied = denied or (thing, line)
            elif not facts.login:
                return Accept(Reason(f"{thing.text} is allowed{_as(thing, line.entry)}", line.entry.source))
        if facts.stage is Stage.DATA:
            return self._all_recipients(facts)
        if denied is None or not (facts.stage is Stage.RCPT or self._at_once or facts.service == "smtpd"):
            return None
        thing, line = denied
        why = Reason(f"{thing.text} is denied{_as(thing, line.entry)}", line.entry.source)
        text = f"{thing.text} is refused here" + (f": {line.entry.note}" if line.entry.note else "")
        return (refusal.defer if line.word == "defer" else refusal.reject)(facts.stage, text, why)

    def _all_recipients(self, facts: Facts) -> Accept | None:
        """At DATA: whether everybody whom the message is for is allowed to get it."""
        table = self._tables["recipient"]
        if facts.login or not table or not facts.recipients:
            return None
        found = [table.find(_Thing("", table.mailbox_keys(mailbox))) for mailbox in facts.recipients]
        first = found[0]
        if first is None or any(line is None or line.word != "allow" for line in found):
            return None
        return Accept(Reason("all recipients are allowed", first.entry.source))

    def _things(self, facts: Facts) -> Iterator[tuple[Subject, _Thing]]:
        """What is known at this stage, of the subjects that there are entries for."""
        reached = _STAGES.index(facts.stage)
        peers, names, senders, recipients = self._tables.values()
        if peers:
            yield "peer", _Thing(literal(facts.address), peers.network_keys(facts.address))
            if facts.iprev is not None and facts.iprev.result is IprevResult.PASS:
                yield "peer", _Thing(facts.iprev.name, peers.name_keys(facts.iprev.name))
        if names and reached >= _STAGES.index(Stage.HELO):
            yield "helo", _Thing(facts.helo, names.name_keys(facts.helo))
        if senders and reached >= _STAGES.index(Stage.MAIL):
            if facts.sender is None:
                yield "sender", _Thing("<>", (NULL,))
            else:
                yield "sender", _Thing(f"<{facts.sender}>", senders.mailbox_keys(facts.sender))
        if recipients and facts.stage is Stage.RCPT and facts.recipient is not None:
            yield "recipient", _Thing(f"<{facts.recipient}>", recipients.mailbox_keys(facts.recipient))


def _as(thing: _Thing, entry: Entry) -> str:
    """Say by which entry, where that is not the thing itself, and why."""
    form = "" if thing.text.strip("<[]>") == entry.text else f" as {entry.text}"
    return f"{form}: {entry.note}" if entry.note else form

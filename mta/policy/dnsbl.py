"""Lists over DNS of who sends spam, or is known not to (RFC 5782): by address, and by domain.

All questions of one message go out together at its first RCPT, with one deadline. What an answer counts for:

=========================================  ==========================================================================
answer                                     counts
=========================================  ==========================================================================
an address that `codes` names              as a listing, with the weight of the list or of the code
127.255.255.x, or outside 127.0.0.0/8      as an error of the list: nothing else of this answer counts
another address in 127.0.0.0/8             as an error of the list
no such name, no data                      as "not listed"
a failure, or none within the deadline     not at all; after `SILENT_MAXIMUM` in a row the list rests for `REST`
=========================================  ==========================================================================

A list counts once, with the heaviest of its listings; the weights are added up. Errors and silence are noted as tags
(``dnsbl.error``, ``dnsbl.silent``). From the score of ``reject`` on the recipient is refused, and what the heaviest
list says in its TXT record is told; from that of ``tag`` on the message is tagged ``dnsbl``.

Answers are cached by the resolver for as long as their TTL says; the sum is kept for the session, so that further
recipients of it ask nothing.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime

from mta.dns.answer import Answer, Failure, Found, RecordType
from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.result import IprevResult
from mta.policy import refusal
from mta.policy.facts import Facts, Stage
from mta.policy.network import Exempt, is_public, literal, parse, reversed_name
from mta.policy.questions import answers
from mta.policy.verdict import Opinion, Reject, Tag, Verdict
from mta.settings.policy import DnsListSettings, DnsListsSettings
from mta.settings.return_code import ERRORS, ReturnCode
from mta.settings.values import fold_domain, parse_host_name
from mta.smtp.reply import printable

SESSIONS_MAXIMUM = 10_000
"""Sessions whose sum is kept."""
EXPLANATION_MAXIMUM = 200
"""Characters of a TXT record that are told."""
SILENT_MAXIMUM = 5
"""Questions to one list without an answer, one after the other, after which it rests."""
REST = 60.0
"""Seconds that a list rests."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list says that something is on it."""

    weight: float
    meaning: str
    code: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What one answer of a list comes to."""

    listings: tuple[Listing, ...] = ()
    errors: tuple[str, ...] = ()


class DnsList:
    """One list, as the settings describe it."""

    def __init__(self, settings: DnsListSettings) -> None:
        self.settings = settings
        self.name = settings.name or settings.zone
        self._codes = [
            (ReturnCode.parse(code), settings.weights.get(code, settings.weight), meaning)
            for code, meaning in settings.codes.items()
        ]

    def read(self, answer: Answer) -> Reading:
        """Read an answer for A by the table above; a failure reads as nothing."""
        if not isinstance(answer, Found):
            return Reading()
        listings: list[Listing] = []
        errors: list[str] = []
        for said in map(str, answer.records):
            numbers = tuple(ipaddress.IPv4Address(said).packed)
            if numbers[0] != 127 or numbers[:3] == ERRORS:
                return Reading((), (f"{self.name} answers {said}: an error of the list, not a listing",))
            found = [Listing(weight, text, said) for code, weight, text in self._codes if code.matches(numbers)]
            if not found:
                errors.append(f"{self.name} answers {said}, which is none of its codes")
            listings += found[:1]
        return Reading(tuple(listings), tuple(errors))


@dataclass(frozen=True, slots=True)
class _Question:
    """One list, asked about one thing."""

    list: DnsList
    about: str
    name: str
    """The name that is looked up."""


@dataclass(frozen=True, slots=True)
class _Hit:
    """The heaviest listing of one list."""

    question: _Question
    listing: Listing

    def __str__(self) -> str:
        listing, question = self.listing, self.question
        return f"{question.list.name} {listing.weight:+g}: {question.about} {listing.meaning} ({listing.code})"


@dataclass(frozen=True, slots=True)
class _Sum:
    """What all lists say together."""

    about: Mapping[str, str]
    """What they were asked about."""
    score: float
    hits: tuple[_Hit, ...]
    """The heaviest first."""
    explanation: str = ""


class Dnsbl:
    """The policy."""

    name = "dnsbl"
    eager = True
    """See `mta.policy.port.Asks`."""
    stages = frozenset({Stage.RCPT})

    def __init__(self, settings: DnsListsSettings, clock: IReactorTime, resolver: Resolver, exempt: Exempt) -> None:
        self._settings = settings
        self._lists = [DnsList(each) for each in settings.lists]
        self._clock = clock
        self._resolver = resolver
        self._exempt = exempt
        self._known: OrderedDict[str, _Sum] = OrderedDict()
        """The last sum of each session."""
        self._silent: dict[str, tuple[int, float]] = {}
        """How often each zone did not answer lately, and until when it rests."""

    def ask(self, facts: Facts) -> Opinion | defer.Deferred[Opinion]:
        """Judge; a Deferred only for the first recipient of a sender."""
        if facts.service != "mx" or facts.login or facts.address in self._exempt:
            return None
        things = _things(facts)
        known = self._known.get(facts.session)
        if known is not None and known.about == things:
            return self._opinion(known, facts)
        return defer.Deferred.fromCoroutine(self._judge(facts, things))

    def reset(self, session: str) -> None:
        """The sum holds for the next transaction too, where that has the same sender."""

    def closed(self, session: str) -> None:
        """Forget what was found for a session."""
        self._known.pop(session, None)

    async def _judge(self, facts: Facts, things: Mapping[str, str]) -> Opinion:
        started = self._clock.seconds()
        questions, notes = self._questions(things)
        asked = {name: self._resolver.query(name, RecordType.A) for name in dict.fromkeys(q.name for q in questions)}
        found = await answers(self._clock, self._settings.deadline, asked)
        hits: dict[DnsList, _Hit] = {}
        for question in questions:
            answer = found.get(question.name)
            notes += self._note_silence(question.list, answer)
            if answer is None:
                continue
            reading = question.list.read(answer)
            notes += [Tag(Reason(error, question.list.settings.source), "dnsbl.error") for error in reading.errors]
            for listing in reading.listings:
                before = hits.get(question.list)
                if before is None or abs(listing.weight) > abs(before.listing.weight):
                    hits[question.list] = _Hit(question, listing)
        ordered = tuple(sorted(hits.values(), key=lambda hit: -hit.listing.weight))
        score = sum(hit.listing.weight for hit in ordered)
        explanation = ""
        if ordered and score >= self._settings.reject:
            left = self._settings.deadline - (self._clock.seconds() - started)
            explanation = await self._explanation(ordered[0].question.name, left)
        summed = _Sum(things, score, ordered, explanation)
        self._remember(facts, summed)
        return (*dict.fromkeys(notes), *self._opinion(summed, facts))

    def _questions(self, things: Mapping[str, str]) -> tuple[list[_Question], list[Tag]]:
        questions: list[_Question] = []
        notes: list[Tag] = []
        now = self._clock.seconds()
        for each in self._lists:
            if self._silent.get(each.settings.zone, (0, 0.0))[1] > now:
                why = Reason(f"{each.name} is not asked: it did not answer lately", each.settings.source)
                notes.append(Tag(why, "dnsbl.silent"))
                continue
            for of in each.settings.of:
                about = things.get(of)
                if about is None:
                    continue
                address = parse(about) if of == "address" else None
                zone = each.settings.zone
                name = f"{about}.{zone}" if address is None else reversed_name(address, zone)
                questions.append(_Question(each, about if address is None else literal(about), name))
        return questions, notes

    def _note_silence(self, each: DnsList, answer: Answer | None) -> list[Tag]:
        zone = each.settings.zone
        if answer is not None and not isinstance(answer, Failure):
            self._silent.pop(zone, None)
            return []
        count = self._silent.get(zone, (0, 0.0))[0] + 1
        self._silent[zone] = count, (self._clock.seconds() + REST if count >= SILENT_MAXIMUM else 0.0)
        # What a failure says names the question, and so the zone, which may hold a key
        said = f"no answer within {self._settings.deadline:g} s" if answer is None else "the name server failed"
        return [Tag(Reason(f"{each.name} is left out: {said}", each.settings.source), "dnsbl.silent")]

    async def _explanation(self, name: str, seconds: float) -> str:
        if seconds <= 0:
            return ""
        found = await answers(self._clock, seconds, {name: self._resolver.query(name, RecordType.TXT)})
        answer = found.get(name)
        texts = answer.records if isinstance(answer, Found) else ()
        first = next((text for text in texts if isinstance(text, bytes)), b"")
        return printable(first[:EXPLANATION_MAXIMUM].decode("utf-8", "replace")).strip()

    def _remember(self, facts: Facts, summed: _Sum) -> None:
        if facts.rehearsal:
            return
        self._known[facts.session] = summed
        if len(self._known) > SESSIONS_MAXIMUM:
            self._known.popitem(last=False)

    def _opinion(self, summed: _Sum, facts: Facts) -> tuple[Verdict, ...]:
        """Say what a sum means. Without a listing that speaks against the sender it means nothing."""
        if not summed.hits or summed.hits[0].listing.weight <= 0:
            return ()
        settings, heaviest = self._settings, summed.hits[0]
        said = "; ".join(map(str, summed.hits))
        source = heaviest.question.list.settings.source
        if summed.score >= settings.reject:
            explained = f" ({summed.explanation})" if summed.explanation else ""
            why = Reason(f"score {summed.score:g} of {settings.reject:g}: {said}{explained}", source)
            return (_rejected(facts, heaviest, summed.explanation, why),)
        if summed.score >= settings.tag:
            return (Tag(Reason(f"score {summed.score:g} of {settings.tag:g}: {said}", source), "dnsbl"),)
        return ()


def _rejected(facts: Facts, hit: _Hit, explanation: str, why: Reason) -> Reject:
    text = f"{hit.question.about} is listed by {hit.question.list.name}: {hit.listing.meaning}"
    return refusal.reject(facts.stage, f"{text}; {explanation}" if explanation else text, why)


def _things(facts: Facts) -> dict[str, str]:
    """What lists may be asked about: a public address, and names that may be on a list."""
    found: dict[str, str] = {}
    if is_public(facts.address):
        found["address"] = str(parse(facts.address))
    names = {
        "helo": facts.helo,
        "sender": facts.sender.domain if facts.sender is not None else "",
        "name": facts.iprev.name if facts.iprev is not None and facts.iprev.result is IprevResult.PASS else "",
    }
    found.update((of, folded) for of, name in names.items() for folded in _domain(name))
    return found


def _domain(name: str) -> Iterator[str]:
    """The form in which a domain is asked for; nothing for a literal, an address or a single word."""
    folded = fold_domain(name).removesuffix(".")
    try:
        parse_host_name(folded)
    except ValueError:
        return
    if "." in folded and not folded.rpartition(".")[2].isdigit():
        yield folded

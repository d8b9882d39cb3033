"""DMARC: whether SPF or DKIM vouches for the domain in From, and what that domain asks of us if not (RFC 9989).

===========================================================  =========================================================
what is the case                                             result
===========================================================  =========================================================
From does not tell of exactly one author domain              permerror, and `Dmarc.domain` is empty
the author domain is an address literal                      none
no record speaks for it (§4.10.1)                            none
the record states no valid policy, and wants no reports      permerror
a passing SPF or DKIM domain is aligned (§4.10.2)            pass
else, what would have to be known got no answer              temperror
else                                                         fail
===========================================================  =========================================================

**From.** What `mta.message.identify.from_mailboxes` reads in one way only counts; several From fields, none, a group,
an address that readers divide differently, a domain that is no domain name are faults. So are mailboxes of several
domains: §5.3.1 ends there, §11.5 lets a receiver judge such mail before any DMARC. Mail whose author cannot be told is
no less forged for that, so the first line of the table is made to fail closed by `mta.mailauth.disposition`.

**No answer.** §5.3.6 keeps mail from passing or failing when a question that is needed got no answer. Needed is only
what could change the result. The organizational domain of any domain is the domain itself or one above it: what is
not below the author's organizational domain is not aligned, whatever its own name servers say or do not say. Nobody
can turn a fail into a temperror with a domain of his own that does not answer. An SPF or DKIM check that ended in
temperror itself makes one only if its domain would be aligned, or is not known.

**Non-existence** (``np``) is NXDOMAIN, as §3.2.13 has it, for the author domain itself; a CNAME that leads nowhere is
there (RFC 8020 §2). It is asked only where a record states ``np`` and the walk has not shown the domain to exist.

Questions are asked at once: those of the author's walk when a `DmarcCheck` is made, before body and signatures are
known; those of the other walks together. No name is asked for twice by one check.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from twisted.internet import defer
from twisted.python.failure import Failure as Fault

from mta.dns.answer import Answer, Failure, NoSuchName, RecordType, normal
from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.dmarc_record import DmarcRecord, one_step_down
from mta.mailauth.dmarc_walk import Walk, is_within, last_labels, question, steps
from mta.mailauth.result import Dkim, DkimResult, Dmarc, DmarcPolicy, DmarcResult, Spf, SpfResult
from mta.message.identify import from_mailboxes
from mta.settings.values import fold_domain
from mta.smtp.reply import printable

IDENTIFIERS_MAXIMUM = 12
"""Domains whose alignment is looked at: SPF's and those of the signatures, each with at most 7 questions of its own.
`mta.mailauth` checks no more than 10 signatures; those behind are not aligned."""

_SHOWN = 200
"""Characters of a record in a reason."""
# The names that DNS can hold and mail uses: RFC 1035 §2.3.1, with the underscore, on A-labels
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


def author_domain(head: bytes) -> str | Reason:
    """Return the one domain that From names, A-labels in lower case, or an address literal; else why there is none."""
    found = from_mailboxes(head)
    if found.fault:
        return Reason(f"From cannot be read: {found.fault}", "RFC 9989 §5.3.1")
    domains = {fold_domain(mailbox.domain) for mailbox in found.mailboxes}
    if len(domains) > 1:
        return Reason(f"From names {len(domains)} domains", "RFC 9989 §5.3.1, §11.5")
    domain = domains.pop()
    if not domain.startswith("[") and not _DOMAIN.fullmatch(domain):
        return Reason("the domain in From is no domain name", "RFC 9989 §5.3.1")
    return domain


async def evaluate(resolver: Resolver, head: bytes, spf: Spf | None, dkim: Sequence[Dkim]) -> Dmarc:
    """Check a message by its head. Only the SPF check of MAIL FROM counts, not that of HELO (RFC 9989 §4.4.2)."""
    return await DmarcCheck(resolver, head).finish(spf, dkim)


class DmarcCheck:
    """The check of one message, whose questions are under way from the moment it is made.

    It is ended by `finish`, once, or by `cancel`.
    """

    def __init__(self, resolver: Resolver, head: bytes) -> None:
        self.author = author_domain(head)
        """The author domain, or why it cannot be told."""
        self._questions = _Questions(resolver)
        if isinstance(self.author, str) and not self.author.startswith("["):
            self._questions.ask((question(domain), RecordType.TXT) for domain in steps(self.author))

    def cancel(self) -> None:
        """Give up: nobody wants to know any more."""
        self._questions.cancel()

    async def finish(self, spf: Spf | None, dkim: Sequence[Dkim]) -> Dmarc:
        """Tell the result, now that SPF and DKIM are known. Questions still under way are cancelled with it."""
        try:
            return await self._finish(spf, dkim)
        finally:
            self.cancel()

    async def _finish(self, spf: Spf | None, dkim: Sequence[Dkim]) -> Dmarc:
        if isinstance(self.author, Reason):
            return Dmarc(DmarcResult.PERMERROR, self.author)
        if self.author.startswith("["):
            return Dmarc(DmarcResult.NONE, Reason("From has an address literal", "RFC 9989 §5.3.1"), self.author)
        walk = await self._walk(self.author)
        if walk.failure and not walk.own:
            return Dmarc(DmarcResult.TEMPERROR, _no_answer(walk.failure), self.author)
        found = walk.applicable
        organizational = "" if walk.failure else walk.organizational_domain
        if not found:
            reason = Reason(f"no DMARC record speaks for {self.author}", "RFC 9989 §4.10.1")
            return Dmarc(DmarcResult.NONE, reason, self.author, organizational_domain=organizational)
        policy_domain, record = found
        check = Dmarc(
            DmarcResult.FAIL,
            Reason("", _shown(policy_domain, record)),
            self.author,
            policy_domain,
            organizational,
            published=record.text,
        )
        if not record.applies:
            reason = replace(check.reason, text=f"the DMARC record is not valid: {'; '.join(record.faults)}")
            return replace(check, result=DmarcResult.PERMERROR, reason=reason)
        return await self._judge(check, record, walk, spf, dkim)

    async def _judge(
        self, check: Dmarc, record: DmarcRecord, walk: Walk, spf: Spf | None, dkim: Sequence[Dkim]
    ) -> Dmarc:
        identifiers = _identifiers(record, spf, dkim)
        alignments = await self._align(walk, identifiers)
        aligned = [each for each in identifiers if alignments[each] is True]
        passed = [each for each in aligned if each.passed]
        check = replace(
            check,
            spf_aligned=any(each.method == "SPF" for each in passed),
            dkim_aligned=any(each.method == "DKIM" for each in passed),
        )
        policy = await self._policy(check, record)
        if isinstance(policy, DmarcPolicy):
            tested = record.testing and policy is not DmarcPolicy.NONE
            check = replace(check, policy=one_step_down(policy) if tested else policy, tested=tested)
        source = check.reason.source
        if passed:
            best = passed[0]
            reason = Reason(f"{best.method} vouches for {best.domain}, aligned with {self.author}", source)
            return replace(check, result=DmarcResult.PASS, reason=reason)
        unknown = [each for each in alignments.values() if isinstance(each, Failure)]
        if aligned:
            reason = Reason(f"{aligned[0].method} of {aligned[0].domain}, which is aligned, had no result", source)
            return replace(check, result=DmarcResult.TEMPERROR, reason=reason)
        late = [each for each in dkim if each.result is DkimResult.TEMPERROR and not each.domain]
        if late:
            return replace(check, result=DmarcResult.TEMPERROR, reason=late[0].reason)
        if unknown or isinstance(policy, Failure):
            failure = policy if isinstance(policy, Failure) else unknown[0]
            return replace(check, result=DmarcResult.TEMPERROR, reason=_no_answer(failure))
        reason = Reason(f"neither SPF nor DKIM vouches for {self.author}{_seen(identifiers)}", source)
        return replace(check, reason=reason)

    async def _policy(self, check: Dmarc, record: DmarcRecord) -> DmarcPolicy | Failure:
        """What the record states for the author domain (§4.10.1), before ``t``."""
        if check.policy_domain == check.domain:
            return record.p
        if record.for_missing_subdomains is record.for_subdomains:
            return record.for_subdomains
        answer = await self._questions.answer(question(check.domain), RecordType.TXT)
        if isinstance(answer, NoSuchName):
            # That name is not there; the one above it may be.
            answer = await self._questions.answer(check.domain, RecordType.A)
        if isinstance(answer, Failure):
            return answer
        missing = isinstance(answer, NoSuchName) and normal(answer.name) == check.domain
        return record.for_missing_subdomains if missing else record.for_subdomains

    async def _align(self, author: Walk, identifiers: Sequence[_Identifier]) -> dict[_Identifier, bool | Failure]:
        """Tell which identifiers are aligned; a `Failure` where that hangs on a question without answer."""
        found = {each: _without_walk(author, each) for each in identifiers}
        unsure = [each for each, aligned in found.items() if aligned is None]
        self._questions.ask((question(name), RecordType.TXT) for each in unsure for name in steps(each.domain))
        aligned: dict[_Identifier, bool | Failure] = {}
        for each, known in found.items():
            if known is None:
                walk = await self._walk(each.domain)
                known = walk.failure or walk.organizational_domain == author.organizational_domain
            aligned[each] = known
        return aligned

    async def _walk(self, domain: str) -> Walk:
        names = steps(domain)
        self._questions.ask((question(name), RecordType.TXT) for name in names)
        walk = Walk(domain)
        # One by one: behind a record that ends the walk nothing need be waited for.
        for name in names:
            walk = walk.after(name, await self._questions.answer(question(name), RecordType.TXT))
            if walk.ended:
                break
        return walk


@dataclass(frozen=True, slots=True)
class _Identifier:
    """A domain that SPF or DKIM has authenticated, or would have if there had been an answer."""

    method: str
    domain: str
    strict: bool
    passed: bool


def _identifiers(record: DmarcRecord, spf: Spf | None, dkim: Iterable[Dkim]) -> list[_Identifier]:
    """The identifiers that count (§5.3.3), each once, those that passed first."""
    found = []
    if spf and spf.identity == "mailfrom" and spf.result in (SpfResult.PASS, SpfResult.TEMPERROR):
        found.append(_Identifier("SPF", _normal(spf.domain), record.aspf == "s", spf.result is SpfResult.PASS))
    for each in dkim:
        if each.result in (DkimResult.PASS, DkimResult.TEMPERROR):
            passed = each.result is DkimResult.PASS
            found.append(_Identifier("DKIM", _normal(each.domain), record.adkim == "s", passed))
    known = dict.fromkeys(sorted(found, key=lambda each: not each.passed))
    return [each for each in known if _DOMAIN.fullmatch(each.domain)][:IDENTIFIERS_MAXIMUM]


def _without_walk(author: Walk, identifier: _Identifier) -> bool | Failure | None:
    """Whether an identifier is aligned, as far as its own walk need not be known; None: that decides."""
    if identifier.domain == author.start:
        return True
    if identifier.strict:
        return False
    if author.failure:
        # Whatever the organizational domain of the author is, it has the last label of the author domain.
        return author.failure if is_within(identifier.domain, last_labels(author.start, 1)) else False
    return None if is_within(identifier.domain, author.organizational_domain) else False


class _Questions:
    """Questions of one check: each is asked once, and its answer kept."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._asked: dict[tuple[str, RecordType], defer.Deferred[Answer]] = {}
        self._answers: dict[tuple[str, RecordType], Answer] = {}

    def ask(self, names: Iterable[tuple[str, RecordType]]) -> None:
        """Have these questions under way."""
        for key in names:
            if key not in self._asked:
                self._asked[key] = self._resolver.query(*key)

    async def answer(self, name: str, rdtype: RecordType) -> Answer:
        """Wait for one answer."""
        key = (name, rdtype)
        self.ask([key])
        if key not in self._answers:
            self._answers[key] = await self._asked[key]
        return self._answers[key]

    def cancel(self) -> None:
        """Cancel what is still under way."""
        for asked in self._asked.values():
            asked.addErrback(_cancelled)
            asked.cancel()


def _cancelled(fault: Fault) -> Fault | None:
    return None if isinstance(fault.value, defer.CancelledError) else fault


def _normal(domain: str) -> str:
    return normal(fold_domain(domain))


def _no_answer(failure: Failure) -> Reason:
    return Reason(f"no answer: {failure.text}", failure.source)


def _shown(policy_domain: str, record: DmarcRecord) -> str:
    text = record.text if len(record.text) <= _SHOWN else record.text[:_SHOWN] + "..."
    return f"{question(policy_domain)} TXT {printable(text)}"


def _seen(identifiers: Iterable[_Identifier]) -> str:
    """What passed, and did not help."""
    passed = [f"{each.method} for {each.domain}" for each in identifiers if each.passed]
    return f"; passed: {', '.join(passed)}" if passed else ""

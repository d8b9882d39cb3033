"""Greylisting (RFC 6647): mail of strangers is deferred once; who comes again after a while is known from then on.

What counts as one is (origin, reverse-path, recipient). The origin is the network of the peer, or, where SPF says pass,
the domain it says that for: large senders try again from another address of theirs.

=================================================  =====================================================================
known of them                                      verdict
=================================================  =====================================================================
the peer is exempt or logged in                    none
the domain of SPF (or DKIM, see below) has passed  none
so many have passed from the network               none
the three have passed before                       none, and they are known for `remember` again
nothing, or a first attempt before `window`        `Defer`, and this is the first attempt
a first attempt less than `delay` ago              `Defer`: come again at its end
a first attempt, `delay` to `window` ago           none: they have passed, and that is counted for network and domain
=================================================  =====================================================================

It is said at RCPT; for ``<>`` at DATA, so that a server that tries an address with MAIL FROM:<> and RCPT before it
takes mail from it (callback verification) is not kept from that; with ``at = "message"`` at the end of the message,
where each domain with a DKIM pass counts as one with an SPF pass does.

As long as the memory is not sound (loading, or its file cannot be written) nobody is deferred.

Knowingly not done: reverse-paths that differ for each message (VERP) are not made alike. What each of them costs ends
when the network or the domain is known.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.interfaces import IReactorTime

from mta.mail.reason import Reason
from mta.mailauth.result import DkimResult, SpfResult
from mta.net.peer import network_of
from mta.policy import refusal
from mta.policy.facts import Facts, Stage
from mta.policy.memory import Memory, Seen, key_of
from mta.policy.network import Exempt
from mta.policy.rehearsal import Kept
from mta.policy.verdict import Defer
from mta.settings.policy import GreylistSettings
from mta.settings.values import fold_domain, fold_local_part
from mta.smtp.address import Mailbox

COUNT_APART = 3600.0
"""Seconds between passes of one network or domain that count as two: one message to many counts once, and so does an
hour of retries (Postgrey counts likewise)."""
DOMAINS_MAXIMUM = 10
"""Domains of one message that are looked up (as many signatures are verified)."""


class Greylist:
    """The policy."""

    name = "greylist"

    def __init__(self, settings: GreylistSettings, memory: Memory, clock: IReactorTime, exempt: Exempt) -> None:
        self._settings = settings
        self._memory = Kept(_Known(memory))
        self._clock = clock
        self._exempt = exempt
        self._own_exempt = Exempt(settings.exempt)
        at_end = settings.at == "message"
        self.stages = frozenset({Stage.MESSAGE} if at_end else {Stage.RCPT, Stage.DATA})
        memory.start()

    def ask(self, facts: Facts) -> Defer | None:
        """Judge, and remember."""
        if facts.service != "mx" or facts.login or not self._memory.of(facts).sound:
            return None
        if facts.address in self._exempt or facts.address in self._own_exempt:
            return None
        match facts.stage:
            case Stage.RCPT if facts.sender is not None and facts.recipient is not None:
                return self._judge(facts, (facts.recipient,))
            case Stage.DATA if facts.sender is None:
                return self._judge(facts, facts.recipients)
            case Stage.MESSAGE:
                return self._judge(facts, facts.recipients)
        return None

    def _judge(self, facts: Facts, recipients: Sequence[Mailbox]) -> Defer | None:
        domains = _domains(facts)
        network = network_of(facts.address)
        passed = [(key_of("domain", domain), self._settings.domain_passes) for domain in domains]
        passed.append((key_of("network", network), self._settings.network_passes))
        for key, enough in passed:
            seen = self._memory.of(facts).get(key)
            if seen is not None and seen.passes >= enough:
                self._remember(facts, key, seen.since, seen.passes)
                return None
        origin = f"domain {domains[0]}" if domains else f"network {network}"
        wait = max([self._wait(facts, origin, mailbox) for mailbox in recipients], default=0.0)
        if wait:
            return self._deferred(facts, domains, wait)
        return None

    def _wait(self, facts: Facts, origin: str, recipient: Mailbox) -> float:
        """How long these three have to wait; 0: they have passed. Remembers what it finds."""
        settings, now = self._settings, self._clock.seconds()
        key = key_of("mail", origin, _folded(facts.sender), _folded(recipient))
        seen = self._memory.of(facts).get(key)
        if seen is None:
            self._remember(facts, key, now, 0)
            return settings.delay
        left = seen.since + settings.delay - now
        if not seen.passes and left > 0:
            return left
        self._remember(facts, key, seen.since, seen.passes + 1)
        if not seen.passes:
            self._count(facts)
        return 0.0

    def _count(self, facts: Facts) -> None:
        """Count that mail has passed, for the network and for each domain; `since` is when that was last."""
        now = self._clock.seconds()
        keys = [key_of("domain", domain) for domain in _domains(facts)]
        for key in (*keys, key_of("network", network_of(facts.address))):
            seen = self._memory.of(facts).get(key)
            if seen is None or now - seen.since >= COUNT_APART:
                self._remember(facts, key, now, seen.passes + 1 if seen else 1)

    def _remember(self, facts: Facts, key: bytes, since: float, passes: int) -> None:
        settings = self._settings
        expires = self._clock.seconds() + settings.remember if passes else since + settings.window
        self._memory.of(facts).put(key, Seen(since, expires, passes))

    def reset(self, session: str) -> None:
        """Nothing hangs on a transaction."""

    def closed(self, session: str) -> None:
        """Forget what a rehearsal would have remembered."""
        self._memory.closed(session)

    def _deferred(self, facts: Facts, domains: Sequence[str], wait: float) -> Defer:
        who = f"mail of {domains[0]} (SPF or DKIM pass)" if domains else f"mail from the network of {facts.address}"
        what = f"{who} by <{facts.sender or ''}>"
        why = Reason(f"greylisted: {what} has not come again yet, {refusal.in_seconds(wait)}", "RFC 6647")
        text = f"Greylisted, as this is the first mail of its kind; {refusal.in_seconds(wait)}"
        return refusal.defer(facts.stage, text, why)


class _Known:
    """The memory, or the memory and over it what a rehearsal would have it remember."""

    def __init__(self, memory: Memory, rehearsed: dict[bytes, Seen] | None = None) -> None:
        self._memory = memory
        self._rehearsed = rehearsed

    def copy(self) -> _Known:
        return _Known(self._memory, {})

    @property
    def sound(self) -> bool:
        return self._memory.sound

    def get(self, key: bytes) -> Seen | None:
        found = self._rehearsed.get(key) if self._rehearsed else None
        return found or self._memory.get(key)

    def put(self, key: bytes, seen: Seen) -> None:
        if self._rehearsed is None:
            self._memory.put(key, seen)
        else:
            self._rehearsed[key] = seen


def _domains(facts: Facts) -> tuple[str, ...]:
    """The domains that the message is known to be from: by SPF, and at its end by DKIM; each once."""
    found = []
    # Of <> it is the HELO name that SPF speaks for (RFC 7208 §2.4), and that will do
    if facts.spf is not None and facts.spf.result is SpfResult.PASS:
        found.append(facts.spf.domain)
    if facts.stage is Stage.MESSAGE:
        found += [each.domain for each in facts.authentication.dkim if each.result is DkimResult.PASS]
    return tuple(dict.fromkeys(found))[:DOMAINS_MAXIMUM]


def _folded(mailbox: Mailbox | None) -> str:
    return f"{fold_local_part(mailbox.local_part)}@{fold_domain(mailbox.domain)}" if mailbox is not None else ""

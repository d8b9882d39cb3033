"""Limits by time: connections of a network in a minute, messages and recipients of a network, domain or login an hour.

========  ========================================================================================================
stage     what is asked and counted
========  ========================================================================================================
connect   one connection of the network; 421 past the limit
mail      whether a message is left, for login or network; nothing is counted
rcpt      one recipient, for each subject; 450 past the limit
data      one message, for each subject; 450 past the limit
========  ========================================================================================================

Subjects are the login alone, where there is one, and otherwise network and sender domain. Loopback and exempt networks
are not counted, logins from there are. What is refused uses up nothing. Rehearsals count in
a copy of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from itertools import product

from mta.board.port import Board
from mta.mail.reason import Reason
from mta.mailauth.result import SpfResult
from mta.net.peer import network_of
from mta.policy import refusal
from mta.policy.facts import Facts, Stage
from mta.policy.network import Exempt
from mta.policy.rate import MINUTE, Rate
from mta.policy.rehearsal import Kept
from mta.policy.verdict import Defer
from mta.settings.policy import RatesSettings
from mta.settings.values import fold_domain
from mta.smtp import status

_SUBJECTS = ("network", "sender_domain", "login")


class Counters:
    """What was counted so far; outlives a reload. Each subject has tables of its own: none pushes out another's."""

    TABLES: Mapping[str, int] = dict.fromkeys(
        ["rates.connections"]
        + [f"rates.{what}.{subject}" for what, subject in product(("messages", "recipients"), _SUBJECTS)],
        Rate.FIELDS,
    )
    """The tables it asks the board for, with the number of their fields."""

    def __init__(self, board: Board, seconds: Callable[[], float]) -> None:
        def rates(what: str) -> dict[str, Rate]:
            return {each: Rate(board.table(f"rates.{what}.{each}"), seconds) for each in _SUBJECTS}

        self.connections = Rate(board.table("rates.connections"), seconds, MINUTE)
        self.messages = rates("messages")
        self.recipients = rates("recipients")

    def copy(self) -> Counters:
        """See `mta.policy.rehearsal`."""
        copied = copy(self)
        copied.connections = self.connections.copy()
        copied.messages = {subject: rate.copy() for subject, rate in self.messages.items()}
        copied.recipients = {subject: rate.copy() for subject, rate in self.recipients.items()}
        return copied


@dataclass(frozen=True, slots=True)
class _Limit:
    """One limit on one name."""

    rate: Rate
    name: str
    maximum: int
    what: str
    source: str


class Rates:
    """The policy."""

    name = "rates"

    def __init__(self, settings: RatesSettings, counters: Counters, exempt: Exempt) -> None:
        self._settings = settings
        self._counters = Kept(counters)
        self._exempt = exempt
        limits = (settings.network, settings.sender_domain, settings.login)
        stages = set()
        if settings.connections_per_minute:
            stages.add(Stage.CONNECT)
        if any(limit.messages_per_hour for limit in limits):
            stages |= {Stage.MAIL, Stage.DATA}
        if any(limit.recipients_per_hour for limit in limits):
            stages.add(Stage.RCPT)
        self.stages = frozenset(stages)

    def ask(self, facts: Facts) -> Defer | None:
        """Refuse past a limit, and count otherwise."""
        limits = list(self._limits(facts))
        for limit in limits:
            wait = limit.rate.wait(limit.name, limit.maximum)
            if wait:
                return _refused(facts.stage, limit, wait)
        if facts.stage is not Stage.MAIL:
            for limit in limits:
                limit.rate.take(limit.name, limit.maximum)
        return None

    def reset(self, session: str) -> None:
        """Nothing hangs on a transaction."""

    def closed(self, session: str) -> None:
        """Forget what a rehearsal counted."""
        self._counters.closed(session)

    def _limits(self, facts: Facts) -> Iterator[_Limit]:
        settings, counters = self._settings, self._counters.of(facts)
        if facts.stage is Stage.CONNECT:
            if facts.address not in self._exempt:
                most = settings.connections_per_minute
                what = f"{most} connections a minute from the network of {facts.address} are allowed"
                source = "[policy.rates] connections_per_minute"
                yield _Limit(counters.connections, network_of(facts.address), most, what, source)
            return
        for subject, name, said in self._subjects(facts):
            limits = getattr(settings, subject)
            if facts.stage is Stage.RCPT:
                most, rate, what = limits.recipients_per_hour, counters.recipients[subject], "recipients"
            else:
                most, rate, what = limits.messages_per_hour, counters.messages[subject], "messages"
            if most:
                source = f"[policy.rates.{subject}] {what}_per_hour"
                yield _Limit(rate, name, most, f"{most} {what} an hour from {said} are allowed", source)

    def _subjects(self, facts: Facts) -> Iterator[tuple[str, str, str]]:
        """Kind, name and description of whom the message counts for."""
        if facts.login:
            yield "login", facts.login, facts.login
            return
        if facts.address in self._exempt:
            return
        network = network_of(facts.address)
        yield "network", network, f"the network of {facts.address}"
        # SPF is not known at MAIL yet: the same name is needed there and later
        if facts.sender is not None and facts.stage is not Stage.MAIL:
            domain = fold_domain(facts.sender.domain)
            if facts.spf is None or facts.spf.result is SpfResult.PASS:
                yield "sender_domain", domain, domain
            else:
                yield "sender_domain", f"{domain} {network}", f"{domain}, sent without SPF pass from {facts.address},"


def _refused(stage: Stage, limit: _Limit, wait: float) -> Defer:
    text = f"{limit.what}, {refusal.in_seconds(wait)}"
    return refusal.defer(stage, text, Reason(text, limit.source), status.TOO_MUCH)

"""Rehearsals: sessions that are judged as others are, and of which nothing stays but what a witness heard.

The code of a session is the same; what it works with is another one in these places:

=================  ==================================================================================================
part               in a rehearsal
=================  ==================================================================================================
commit             the place is chosen and told, and nothing is written
login              everybody who exists is believed: the operator asks
policies           see `mta.policy.rehearsal`
rules of services  asked, and what they decide is told, also where they let something pass
journal            the witness
rates, caps, space counted in a copy
chance             queue ids count up: their end, ``0000001``, tells them from those of real messages
=================  ==================================================================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from twisted.internet import defer

from mta.auth.checker import Answer, Refused, has_password, let_in
from mta.mail.reason import Reason
from mta.mailauth.verification import SessionCheck
from mta.maildir.store import Delivery
from mta.observe.event import Event
from mta.observe.journal import Journal
from mta.policy.chain import Ruling
from mta.policy.facts import Facts
from mta.policy.rehearsal import RehearsedChain
from mta.receive.commit import Accepted, Commit, Committed, destined
from mta.receive.decision import Decision
from mta.receive.reception import Conversation, Reception, ServiceRules, Transaction
from mta.receive.staging import Space
from mta.settings.directory import Resolution
from mta.settings.expansion import Addressed
from mta.settings.sections import Settings
from mta.smtp.address import Mailbox
from mta.smtp.event import Authenticate, Mail, Rcpt
from mta.smtp.extension import Offer
from mta.spool.port import Message, StagedContent


class Witness(Protocol):
    """Learns all that is decided in a session, in order."""

    def asked(self, facts: Facts, ruling: Ruling, unasked: tuple[str, ...]) -> None:
        """Policies were asked; `unasked` are those that were not, since one before had decided."""
        ...

    def decided(self, decision: Decision) -> None:
        """The rules of the service decided."""
        ...

    def resolved(self, named: Mailbox, resolution: Resolution) -> None:
        """The rules of the service let a recipient pass."""
        ...

    def noted(self, event: Event) -> None:
        """The session notes an event."""
        ...

    def checked(self, check: SessionCheck) -> None:
        """What is checked of the peer is begun."""
        ...

    def committed(self, accepted: Accepted, where: Delivery | Message) -> None:
        """A message would be ours, and there."""
        ...


class Counting:
    """The chance of all rehearsals of a process: no two get the same id."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def getrandbits(self, k: int, /) -> int:
        """See `mta.mail.queueid.Chance`."""
        return next(self._numbers) % (1 << k)


def rehearsed(reception: Reception, commit: Commit, chance: Counting, witness: Witness) -> Reception:
    """Make the reception of one rehearsal."""

    def check(address: str) -> SessionCheck | None:
        begun = reception.check(address)
        if begun is not None:
            witness.checked(begun)
        return begun

    return replace(
        reception,
        commit=_Rehearsed(commit, reception, witness),
        checker=_Believing(reception.current),
        journal=Journal(reception.journal.wall, [witness.noted]),
        chance=chance,
        space=_Draft(reception.space),
        rate=reception.rate.copy(),
        caps=reception.caps and reception.caps.copy(),
        policies=lambda: RehearsedChain(reception.policies(), witness.asked),
        check=check,
    )


class _Rehearsed:
    """The commit: tells the place, and throws away what was staged."""

    def __init__(self, commit: Commit, reception: Reception, witness: Witness) -> None:
        self._commit = commit
        self._disk = reception.disk
        self._witness = witness

    def commit(self, accepted: Accepted) -> defer.Deferred[Committed]:
        where = self._commit.plan(accepted)
        self._witness.committed(accepted, where)
        if isinstance(accepted.content, StagedContent):
            accepted.content.file.close()
            self._disk.unlink(accepted.content.path)
        if isinstance(where, Message):
            return defer.succeed(Committed("spool", 0, destined(where)))
        account = accepted.addressed[0].account
        assert account is not None, "a Maildir is somebody's"
        return defer.succeed(Committed("maildir", 0, Reason(f"in the Maildir of {account.login}", account.source)))


class _Believing:
    """Takes every password of a login that exists and may log in."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings

    async def authenticate(self, login: str, password: str, address: str) -> Answer:
        directory = self._settings().directory
        account = directory.account(login)
        if account is None:
            return Refused(Reason(f"{login}: there is no such account", directory.source))
        if not has_password(account):
            return Refused(Reason(f"{account.login}: the password is wrong", account.source))
        return let_in(account)


class _Draft:
    """The free space, with what a rehearsal takes of it counted here."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._own = 0

    def low(self, octets: int = 0) -> Reason | None:
        return self._space.low(octets + self._own)

    def hold(self, octets: int) -> None:
        self._own += octets

    def wrote(self, octets: int) -> None:
        self._own += octets


class RehearsedRules:
    """The rules of a service, heard."""

    def __init__(self, rules: ServiceRules, reception: Reception, witness: Witness) -> None:
        self.name = rules.name
        self.checks = rules.checks
        self._rules = rules
        self._reception = reception
        self._witness = witness

    def offer(self, conversation: Conversation) -> Offer:
        """See `ServiceRules`."""
        return self._rules.offer(conversation)

    def mail(self, conversation: Conversation, event: Mail) -> Decision:
        """See `ServiceRules`."""
        decision = self._rules.mail(conversation, event)
        self._witness.decided(decision)
        return decision

    def rcpt(
        self, conversation: Conversation, transaction: Transaction, event: Rcpt
    ) -> Decision | tuple[Addressed, ...]:
        """See `ServiceRules`."""
        found = self._rules.rcpt(conversation, transaction, event)
        if isinstance(found, Decision):
            self._witness.decided(found)
        else:
            self._witness.resolved(event.mailbox, self._reception.settings.directory.resolve(event.mailbox))
        return found

    def head(self, conversation: Conversation, transaction: Transaction, head: bytes) -> Decision | bytes:
        """See `ServiceRules`."""
        found = self._rules.head(conversation, transaction, head)
        if isinstance(found, Decision):
            self._witness.decided(found)
        return found

    async def authenticate(self, conversation: Conversation, event: Authenticate) -> Decision:
        """See `ServiceRules`."""
        decision = await self._rules.authenticate(conversation, event)
        self._witness.decided(decision)
        return decision

"""The chain of policies that one reading of the settings asks for.

Built-in ones come first, cheap ones before dear ones (`mta.policy.built_in`), then the administrator's scripts, hooks
and milters; ``[policy] order`` puts those that it names in front, in its order. What policies remember of peers lives
on from one chain to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.internet import defer

from mta import __version__
from mta.mail.reason import Reason
from mta.observe.event import Kind
from mta.observe.journal import Journal
from mta.policy.built_in import Ports, Remembered, built_in
from mta.policy.chain import Chain
from mta.policy.hook import make_hook
from mta.policy.milter.client import endpoint
from mta.policy.milter.conversation import Identity
from mta.policy.milter.policy import Milter
from mta.policy.port import Policy
from mta.policy.script import Script
from mta.policy.script_file import ScriptFile, read_scripts
from mta.policy.script_process import SystemProcesses
from mta.policy.size import SizeOf
from mta.settings.directory import Directory
from mta.settings.problem import Problem, SettingsRefused, quoted
from mta.settings.sections import Settings
from mta.settings.values import fold_domain


class Policies:
    """Makes chains; `chain` is the one in force."""

    def __init__(self, reactor: Any, ports: Ports, remembered: Remembered, journal: Journal) -> None:
        self.chain = Chain()
        self._reactor = reactor
        self._ports = ports
        self._remembered = remembered
        self._journal = journal
        self._ending: set[defer.Deferred[Any]] = set()

    def prepare(self, settings: Settings) -> list[Policy]:
        """Make the policies of `settings`, in their order. Raises SettingsRefused for what the settings do not show."""
        made = self._make(settings, self._scripts(settings))
        names = [policy.name for policy in made]
        doubled = sorted({name for name in names if names.count(name) > 1})
        unknown = [name for name in settings.policy.order if name not in names]
        problems = [Problem(settings.path, 0, "each name once", quoted(name), "[policy]") for name in doubled]
        known = ", ".join(names) or "no policy is in force"
        problems += [
            Problem(settings.path, 0, f"policies that are in force: {known}", quoted(name), "[policy] order")
            for name in unknown
        ]
        if problems:
            raise SettingsRefused(problems)
        order = {name: place for place, name in enumerate(settings.policy.order)}
        return sorted(made, key=lambda policy: order.get(policy.name, len(order)))

    def use(self, policies: Sequence[Policy]) -> None:
        """Put what was prepared in force; sessions that began before keep theirs."""
        before, self.chain = self.chain, self._chain(policies)
        before.retire()

    async def stop(self) -> None:
        """End what runs, and write what is remembered."""
        self._end(self.chain)
        await defer.DeferredList(list(self._ending), consumeErrors=True)
        await self._remembered.stop()

    def _chain(self, policies: Sequence[Policy]) -> Chain:
        chain = Chain(policies, lambda: self._end(chain))
        return chain

    def _end(self, chain: Chain) -> None:
        ending = chain.stop()
        self._ending.add(ending)
        ending.addBoth(lambda _: self._ending.discard(ending))

    def _scripts(self, settings: Settings) -> Sequence[ScriptFile]:
        problems: list[Problem] = []
        found = read_scripts(settings.policy.scripts.place(settings.path), problems)
        if problems:
            raise SettingsRefused(problems)
        return found

    def _make(self, settings: Settings, scripts: Sequence[ScriptFile]) -> list[Policy]:
        policy, ports = settings.policy, self._ports
        made: list[Policy] = built_in(policy, ports, self._remembered, _size_of(settings.directory))
        processes = SystemProcesses(self._reactor)
        made += [Script(each, policy.scripts, processes, ports.clock, self._printed) for each in scripts]
        made += [make_hook(each, self._reactor, self._journal.wall) for each in policy.hooks]
        identity = Identity(settings.hostname, f"mta {__version__}")
        largest = settings.limits.message_size
        connect = partial(endpoint, self._reactor)
        made += [Milter(each, identity, connect, ports.clock, ports.run, largest) for each in policy.milters]
        return made

    def _printed(self, policy: str, line: str) -> None:
        self._journal.note(Kind.POLICY_PRINTED, Reason(line, policy), policy=policy)


def _size_of(directory: Directory) -> SizeOf | None:
    """Give the bound that the domain of a mailbox sets; None where no domain sets one."""
    sizes = {name: domain.message_size for name, domain in directory.domains.items() if domain.message_size}
    return (lambda mailbox: sizes.get(fold_domain(mailbox.domain))) if sizes else None

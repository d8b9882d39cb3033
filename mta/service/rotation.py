"""The daemon changes DKIM keys by itself, where ``[dkim] rotate_every`` says so (`mta.mailauth.dkim_rotation`).

Once an hour the domains that have keys get their turn, one after the other. After a key has come into another state the
configuration is read anew, as by `mta reload`; if it is refused, the daemon signs with the keys that it had, which are
still published, and nothing is changed further before the new ones are in use: so no key is removed that still signs.

Each name server is asked by itself, and without a cache of ours: `mta.mailauth.dkim_published`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from random import SystemRandom
from typing import Any

from twisted.internet import defer, interfaces

from mta.disk.port import RunInThread
from mta.disk.posix import PosixDisk
from mta.dns.cache import Cache
from mta.dns.resolver import StubResolver
from mta.dns.transport import Transport
from mta.mailauth.dkim_rotation import Make, Rotates, Rotation, rotate_due
from mta.mailauth.dkim_store import KeyStore
from mta.mailauth.keypair import generate_private_key
from mta.observe.journal import Journal
from mta.service.control import CommandRefused
from mta.service.names import name_servers
from mta.service.rounds import Rounds, Times
from mta.settings.dkim import DIRECTORY, OsFiles
from mta.settings.problem import SettingsRefused
from mta.settings.sections import Settings

FIRST_SECONDS = 60.0
"""From the start to the first round: a restart has better things to do at once."""
ROUND_SECONDS = 3600.0
"""From the end of a round to the next: a record is seen within the hour, and name servers are not pressed."""


class KeyRotation:
    """Begins the rounds. `rotation` is made anew for each; `reload` fails with SettingsRefused or CommandRefused."""

    def __init__(
        self,
        current: Callable[[], Settings],
        rotation: Callable[[Settings], Rotates],
        reload: Callable[[], defer.Deferred[Any]],
        journal: Journal,
        clock: interfaces.IReactorTime,
    ) -> None:
        self._current = current
        self._rotation = rotation
        self._reload = reload
        self._journal = journal
        self._clock = clock
        self._rounds = Rounds("rotation of DKIM keys", self._turns, Times(FIRST_SECONDS, ROUND_SECONDS), journal, clock)
        self._unread = False

    def start(self) -> None:
        """Have the first round come soon."""
        self._rounds.start()

    def stop(self) -> None:
        """End it. A file that is being changed is whole all the same."""
        self._rounds.stop()

    async def _turns(self) -> None:
        settings = self._current()
        if not (settings.dkim.sign and settings.dkim.rotate_every):
            return
        if self._unread and not await self._use():
            return
        settings = self._current()
        domains = settings.directory.domains.values()
        directories = {domain.name: os.path.join(domain.source, DIRECTORY) for domain in domains if domain.dkim}
        done = await rotate_due(self._rotation(settings), directories)
        if any(not isinstance(step, Make) for step in done):
            await self._use()

    async def _use(self) -> bool:
        """Use the keys as they are on disk; False where the configuration has a mistake."""
        self._unread = True
        try:
            await self._reload()
        except (SettingsRefused, CommandRefused):
            return False
        self._unread = False
        return True


def rotation_on(reactor: Any, run: RunInThread, journal: Journal) -> Callable[[Settings], Rotation]:
    """Make what a round needs, on the disk of this machine and with the name servers of the settings."""
    chance = SystemRandom()
    store = KeyStore(PosixDisk(), OsFiles(), generate_private_key, chance)

    def rotation(settings: Settings) -> Rotation:
        dns = settings.dns
        resolvers = {
            str(server): StubResolver(
                Transport(reactor, reactor, [server], chance, dns.timeout, dns.tries), Cache(reactor.seconds)
            )
            for server in name_servers(dns)
        }
        return Rotation(store, resolvers, run, journal, journal.wall, settings.dkim)

    return rotation

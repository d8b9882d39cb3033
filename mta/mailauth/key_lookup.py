"""The keys that the signatures of one message need, asked for ahead of their use and no more often than once."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet import defer

from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.algorithm import Algorithm
from mta.mailauth.key import Key, KeyFault, fetch_key
from mta.mailauth.result import DkimResult

KeyName = tuple[str, str, Algorithm]
"""Selector, domain, and the algorithm it must be a key for."""

KEYS_AT_ONCE = 10
"""Questions of one message that are under way: as many as DKIM signatures are checked, and two for each of five hops of
an ARC chain, of which few are longer."""


class KeyLookup:
    """The keys `wanted`, in the order in which they will be asked for with `get`; equal ones are one.

    The first questions go out at once, each later one when an earlier one has been answered and used.
    """

    def __init__(self, resolver: Resolver, wanted: Iterable[KeyName]) -> None:
        self._resolver = resolver
        self._ahead = iter(dict.fromkeys(wanted))
        self._asked: dict[KeyName, defer.Deferred[Key | KeyFault]] = {}
        self._known: dict[KeyName, Key | KeyFault] = {}
        self._cancelled = False
        for _ in range(KEYS_AT_ONCE):
            self._ask()

    async def get(self, name: KeyName) -> Key | KeyFault:
        """Wait for a key: one that is known, or the next in the order. It may be cancelled, then all are."""
        if name not in self._known:
            self._known[name] = await self._asked[name]
            del self._asked[name]
            self._ask()
        return self._known[name]

    def cancel(self) -> None:
        """Wait for no key any longer: each that has not come is a temperror."""
        self._cancelled = True
        for asked in list(self._asked.values()):  # whoever waits for one goes on at once
            asked.cancel()

    def _ask(self) -> None:
        name = next(self._ahead, None)
        if name is not None:
            self._asked[name] = defer.Deferred.fromCoroutine(self._fetch(name))

    async def _fetch(self, name: KeyName) -> Key | KeyFault:
        try:
            if not self._cancelled:
                return await fetch_key(self._resolver, *name)
        except defer.CancelledError:
            if not self._cancelled:
                raise
        reason = Reason(f"no key: no answer in time about {name[0]}._domainkey.{name[1]}", "mta.mailauth")
        return KeyFault(DkimResult.TEMPERROR, reason)

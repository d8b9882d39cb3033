"""A bound on the octets of content that deliveries hold in memory at once."""

from __future__ import annotations

from collections import deque

from twisted.internet import defer


class Budget:
    """Gives out `octets`, in the order of asking; one that asks for more than all gets it alone."""

    def __init__(self, octets: int) -> None:
        self._octets = octets
        self._used = 0
        self._waiting: deque[tuple[int, defer.Deferred[None]]] = deque()

    def take(self, octets: int) -> defer.Deferred[None]:
        """Fires when `octets` may be used."""
        granted: defer.Deferred[None] = defer.Deferred()
        self._waiting.append((octets, granted))
        self._grant()
        return granted

    def give_back(self, octets: int) -> None:
        """Return what `take` gave."""
        self._used -= octets
        self._grant()

    def _grant(self) -> None:
        while self._waiting and (not self._used or self._used + self._waiting[0][0] <= self._octets):
            octets, granted = self._waiting.popleft()
            self._used += octets
            granted.callback(None)

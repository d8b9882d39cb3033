"""Who may open another connection: a bound on all of them, one on each service, and one on each network.

Counting stands apart from the sessions so that a flood costs a few dictionary look-ups and one short reply. The
largest table is as large as the number of open connections. The bounds hold for all workers together: what the others
have open stands on the board (`mta.board`). Each counts its own first and looks then, so none is let in too many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mta.board.port import Board, Shares
from mta.mail.reason import Reason
from mta.net.peer import network_of

_ALL = ""
"""What stands for all services among their names."""


class Bounds(NamedTuple):
    """Open connections at once: in all, of one service, and from one network."""

    total: int
    service: int
    per_network: int


class Admission:
    """Counts open connections. The bounds of a service are read at each arrival, so a reload changes them."""

    SHARES = ("connections.service", "connections.network")
    """The shares it asks the board for."""

    def __init__(self, bounds: Callable[[str], Bounds], board: Board) -> None:
        self._bounds = bounds
        self._by_service = _Open(board.shares("connections.service"))
        self._by_network = _Open(board.shares("connections.network"))

    @property
    def count(self) -> int:
        """How many this worker has open."""
        return self._by_service.own.get(_ALL, 0)

    def open_now(self, service: str, address: str) -> dict[str, int]:
        """How many connections are open: in all, of a service, and from the network of an address."""
        of_service = self._by_service
        here = self._by_network.now(network_of(address))
        return {"total": of_service.now(_ALL), "service": of_service.now(service), "network": here}

    def enter(self, service: str, address: str) -> Reason | None:
        """Count a connection from `address`; a Reason is why it may not stay (it is not counted then)."""
        bounds = self._bounds(service)
        network = network_of(address)
        in_all, of_service = self._by_service.enter(_ALL), self._by_service.enter(service)
        here = self._by_network.enter(network)
        reason = None
        if in_all > bounds.total:
            reason = Reason(f"{bounds.total} connections are open", "[connections] total")
        elif of_service > bounds.service:
            why = f"{bounds.service} connections of {service} are open, the others are kept for smtpd"
            reason = Reason(why, "[connections] smtpd_share")
        elif here > bounds.per_network:
            why = f"{bounds.per_network} connections are open from the network of {address}"
            reason = Reason(why, "[connections] per_network")
        if reason is not None:
            self.leave(service, address)
        return reason

    def leave(self, service: str, address: str) -> None:
        """Forget a connection that `enter` had counted."""
        self._by_service.leave(_ALL)
        self._by_service.leave(service)
        self._by_network.leave(network_of(address))


class _Open:
    """Open connections by name: ours, and those of the others."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self.own: dict[str, int] = {}

    def now(self, name: str) -> int:
        """How many there are."""
        return self.own.get(name, 0) + sum(self._shares.others(name))

    def enter(self, name: str) -> int:
        """Count one, and tell how many there are now."""
        own = self.own[name] = self.own.get(name, 0) + 1
        self._shares.put(name, own)
        return own + sum(self._shares.others(name))

    def leave(self, name: str) -> None:
        """Count one less."""
        own = self.own[name] - 1
        if own:
            self.own[name] = own
        else:
            del self.own[name]
        self._shares.put(name, own)

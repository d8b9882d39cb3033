"""Who may open another connection: a bound on all of them, one on each service, and one on each network.

Counting stands apart from the sessions so that a flood costs a few dictionary look-ups and one short reply. The
largest table is as large as the number of open connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mta.mail.reason import Reason
from mta.net.peer import network_of


class Bounds(NamedTuple):
    """Open connections at once: in all, of one service, and from one network."""

    total: int
    service: int
    per_network: int


class Admission:
    """Counts open connections. The bounds of a service are read at each arrival, so a reload changes them."""

    def __init__(self, bounds: Callable[[str], Bounds]) -> None:
        self._bounds = bounds
        self._by_network: dict[str, int] = {}
        self._by_service: dict[str, int] = {}
        self.count = 0

    def enter(self, service: str, address: str) -> Reason | None:
        """Count a connection from `address`; a Reason is why it may not stay (it is not counted then)."""
        bounds = self._bounds(service)
        if self.count >= bounds.total:
            return Reason(f"{self.count} connections are open", "[connections] total")
        of_service = self._by_service.get(service, 0)
        if of_service >= bounds.service:
            why = f"{of_service} connections of {service} are open, the others are kept for smtpd"
            return Reason(why, "[connections] smtpd_share")
        network = network_of(address)
        here = self._by_network.get(network, 0)
        if here >= bounds.per_network:
            return Reason(f"{here} connections are open from the network of {address}", "[connections] per_network")
        self._by_network[network] = here + 1
        self._by_service[service] = of_service + 1
        self.count += 1
        return None

    def leave(self, service: str, address: str) -> None:
        """Forget a connection that `enter` had counted."""
        network = network_of(address)
        here = self._by_network[network] - 1
        if here:
            self._by_network[network] = here
        else:
            del self._by_network[network]
        self._by_service[service] -= 1
        self.count -= 1

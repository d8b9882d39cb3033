"""Who may open another connection: a bound on all of them, and one on each network.

Counting stands apart from the sessions so that a flood costs one dictionary look-up and one short reply. The largest
table is as large as the number of open connections.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.mail.reason import Reason
from mta.net.peer import network_of


class Admission:
    """Counts open connections. `total` and `per_network` are read at each arrival, so a reload changes them."""

    def __init__(self, bounds: Callable[[], tuple[int, int]]) -> None:
        self._bounds = bounds
        self._open: dict[str, int] = {}
        self.count = 0

    def enter(self, address: str) -> Reason | None:
        """Count a connection from `address`; a Reason is why it may not stay (it is not counted then)."""
        total, per_network = self._bounds()
        if self.count >= total:
            return Reason(f"{self.count} connections are open", "[connections] total")
        network = network_of(address)
        here = self._open.get(network, 0)
        if here >= per_network:
            return Reason(f"{here} connections are open from the network of {address}", "[connections] per_network")
        self._open[network] = here + 1
        self.count += 1
        return None

    def leave(self, address: str) -> None:
        """Forget a connection that `enter` had counted."""
        network = network_of(address)
        here = self._open[network] - 1
        if here:
            self._open[network] = here
        else:
            del self._open[network]
        self.count -= 1

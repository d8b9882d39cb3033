"""The addresses that others reach this machine at, as far as it can know them.

The kernel is asked which address it would send from to the Internet, for each family: that is the one that MX, SPF and
reverse DNS are about, also where there are many interfaces. Nothing is sent for it. Behind NAT, or without IPv6, there
is no public one, and only the administrator knows.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from mta.service.published import Address

_FAR = ((socket.AF_INET, "198.41.0.4"), (socket.AF_INET6, "2001:503:ba3e::2:30"))
"""Public addresses, those of a.root-servers.net; any would do."""
_PORT = 53

Source = Callable[[socket.AddressFamily, str], str]
"""Says from which address one to an address would be sent. Raises OSError where there is no way."""


def source_address(family: socket.AddressFamily, far: str) -> str:
    """Ask the kernel: connecting a UDP socket chooses the address, and sends nothing."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((far, _PORT))
        address: str = probe.getsockname()[0]
    return address


def own_addresses(source: Source = source_address) -> tuple[Address, ...]:
    """Give the public addresses of this machine, IPv4 first; none where it has only private ones."""
    found: list[Address] = []
    for family, far in _FAR:
        try:
            address = ipaddress.ip_address(source(family, far))
        except OSError:
            continue
        if address.is_global:
            found.append(address)
    return tuple(found)

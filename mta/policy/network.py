"""Addresses of peers: as values, which of them are of the same network, and which are never asked about (pure)."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

from mta.settings.entry import IPAddress
from mta.settings.values import Network

NOT_PUBLIC: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",  # RFC 1918
        "100.64.0.0/10",  # RFC 6598
        "127.0.0.0/8",
        "169.254.0.0/16",  # RFC 3927
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",  # multicast, and what is reserved
        "::/127",
        "fc00::/7",  # RFC 4193
        "fe80::/10",  # RFC 4291 §2.5.6
        "ff00::/8",
    )
)
"""Addresses that nobody sends from on the Internet, so that no public list can know them."""


@functools.lru_cache(maxsize=1024)
def parse(address: str) -> IPAddress | None:
    """Read the address of a peer: an IPv4-mapped one is IPv4, a zone is dropped; None for what is no IP address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        return parsed.ipv4_mapped
    return parsed


def is_public(address: str) -> bool:
    """Whether a public list may know `address`."""
    parsed = parse(address)
    return parsed is not None and not any(parsed in network for network in NOT_PUBLIC)


def reversed_name(address: IPAddress, zone: str) -> str:
    """The name that is asked about an address: its numbers, or nibbles, reversed (RFC 5782 §2.1, §2.4)."""
    if isinstance(address, ipaddress.IPv4Address):
        parts = str(address).split(".")
    else:
        parts = list(address.exploded.replace(":", ""))
    return ".".join([*reversed(parts), zone])


def literal(address: str) -> str:
    """The address as an address literal (RFC 5321 §4.1.3)."""
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


class Exempt:
    """Who is left in peace: loopback, and the networks given."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def __contains__(self, address: str) -> bool:
        """Whether a peer at `address` is exempt; what is no IP address (a UNIX socket, nobody) is."""
        parsed = parse(address)
        return parsed is None or parsed.is_loopback or any(parsed in network for network in self._networks)

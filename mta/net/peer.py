"""Who is at the other end of a connection, and networks to count such peers by."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from mta.mail.tlsinfo import TlsInfo


@dataclass(slots=True)
class Peer:
    """The other end of one session; `tls` is set once a handshake ended."""

    session: str
    """Id of the session in log and history."""
    address: str
    port: int
    tls: TlsInfo | None = None
    uid: int | None = None
    """The user of this machine, where it came by the local socket; `address` is 127.0.0.1 then."""

    @property
    def counted_as(self) -> str:
        """What its connections are counted by: its address, or its user."""
        return counted_as(self.address, self.uid)

    @property
    def literal(self) -> str:
        """The address as an address literal (RFC 5321 §4.1.3)."""
        return f"[IPv6:{self.address}]" if ":" in self.address else f"[{self.address}]"


def counted_as(address: str, uid: int | None) -> str:
    """What connections of a peer are counted by: its address, or the user of this machine."""
    return address if uid is None else f"unix:{uid}"


def network_of(address: str) -> str:
    """The network whose members count as one peer: /24 of IPv4, /64 of IPv6, as text."""
    if "." in address and ":" not in address:
        return address.rpartition(".")[0]
    try:
        whole = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:  # a UNIX socket, or nothing
        return address
    if isinstance(whole, ipaddress.IPv6Address):
        if whole.ipv4_mapped:
            return str(whole.ipv4_mapped).rpartition(".")[0]
        return str(ipaddress.ip_network((int(whole) >> 64 << 64, 64)))
    return str(whole).rpartition(".")[0]

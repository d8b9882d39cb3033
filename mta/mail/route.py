"""Where a destination's mail goes: hosts in the order in which they are tried, and why (RFC 5321 §5.1).

Routing (MX records, static routes, the smart host) makes these values; delivery reads them. Neither knows the other.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from mta.mail.reason import Reason


class TlsLevel(enum.Enum):
    """What a route asks of the transport; the value is the word in ``etc/``."""

    NONE = "none"
    """Clear text, even where the host offers STARTTLS."""
    MAY = "may"
    """TLS where it is offered and works, whoever the peer is (RFC 7435); otherwise clear text."""
    MUST = "must"
    """TLS with a certificate that names the host, or no delivery."""


OPPORTUNISTIC = Reason("nothing asks for more", "RFC 7435")


@dataclass(frozen=True, slots=True)
class Login:
    """What we say to a smart host that wants AUTH (RFC 4954)."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Host:
    """One next hop. `addresses` are IPv4 and IPv6 addresses as text, without brackets, in the order of trial."""

    name: str
    """Lower case, without a final dot; an address literal keeps its brackets."""
    addresses: tuple[str, ...]
    port: int = 25
    tls: TlsLevel = TlsLevel.MAY
    login: Login | None = None
    preference: int | None = field(default=None, compare=False)
    """Of its MX record (RFC 5321 §5.1); None where there is none."""
    tls_reason: Reason = field(default=OPPORTUNISTIC, compare=False)
    """Why `tls` is what it is."""


@dataclass(frozen=True, slots=True)
class Route:
    """The hosts of one destination, best first; `reason` names the record or the line that gave them."""

    hosts: tuple[Host, ...]
    reason: Reason

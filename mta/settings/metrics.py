"""The table ``[metrics]``: who may see the numbers of the server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated

from mta.settings.values import AT_START, Count, Endpoint, Kind


def _parse(text: str) -> Endpoint:
    endpoint = Endpoint.parse(text)
    return Endpoint(str(ipaddress.ip_address(endpoint.host)), endpoint.port)


Listen = Annotated[Endpoint, Kind('an IP address and a port, "127.0.0.1:9725" or "[::1]:9725"', _parse)]


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """Numbers for Prometheus, over HTTP."""

    listen: tuple[Listen, ...] = field(default=(), metadata=AT_START)
    """Where ``/metrics`` is served; empty: nowhere. Nobody is asked for a password, and the names of destinations are
    among the numbers: loopback, or a network that only Prometheus is in."""
    destinations: Count = 20
    """Destinations that are named in the numbers of the queue, those with most recipients; the rest is one number. (A
    series for each domain would be as many as a sender of spam likes.)"""

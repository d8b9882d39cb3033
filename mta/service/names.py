"""Which name servers are asked: those of the settings, or those of this machine."""

from __future__ import annotations

from pathlib import Path

from mta.dns.resolver import nameservers
from mta.settings.sections import DnsSettings
from mta.settings.values import Endpoint

_RESOLV_CONF = "/etc/resolv.conf"


def name_servers(dns: DnsSettings) -> tuple[Endpoint, ...]:
    """Give the name servers of the settings, else those of resolv.conf(5)."""
    return dns.nameservers or nameservers(_resolv_conf())


def _resolv_conf() -> str:
    try:
        return Path(_RESOLV_CONF).read_text()
    except OSError:
        return ""

"""Where the server listens: at the usual place, or where its configuration says.

A user may not be able to read the configuration; that is why the usual place comes first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from mta.sendmail.exits import EX_CONFIG, Ended

SOCKET = "/run/mta/submit.sock"
CONFIG = "/etc/mta/mta.toml"
VARIABLE = "MTA_CONFIG"
"""The environment variable that names another configuration, as ``-C`` does."""


def config_file(given: str, environment: Mapping[str, str]) -> str:
    """The configuration that was asked for; empty: none was."""
    file = given or environment.get(VARIABLE, "")
    return os.path.join(file, "mta.toml") if os.path.isdir(file) else file


def socket_path(config: str, usual: str = SOCKET, usual_config: str = CONFIG) -> str:
    """The path of the socket. Raises Ended where a configuration was named that does not tell it."""
    if not config and os.path.exists(usual):
        return usual
    file = config or usual_config
    try:
        with open(file, "rb") as opened:
            import tomllib  # 10 ms

            local = tomllib.load(opened).get("local", {})
    except (OSError, ValueError) as error:
        if not config:
            return usual
        raise Ended(f"{file}: {getattr(error, 'strerror', None) or error}", EX_CONFIG) from None
    found = local.get("socket", "") if isinstance(local, dict) else ""
    if found:
        return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(file)), found))
    if config:
        raise Ended(f"{file} has no [local] socket: nobody submits that way", EX_CONFIG)
    return usual

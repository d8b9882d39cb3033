"""The reactor's clock made monotonic: Twisted's `seconds` is wall time, and a deadline must not follow a clock step."""

from __future__ import annotations

import time
from typing import Any


def monotonic(reactor: Any) -> None:
    """Have `reactor` count its delayed calls on the monotonic clock. Before the first `callLater`."""
    reactor.seconds = time.monotonic

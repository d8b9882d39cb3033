"""What keeps the server from starting: told in plain words where the administrator can mend it."""

from __future__ import annotations

import os
import sqlite3
import traceback

from twisted.internet import error

from mta.service.control import CommandRefused
from mta.service.sockets import CannotListen
from mta.settings.problem import SettingsRefused
from mta.spool.schema import SchemaTooNew
from mta.spool.shard import SpoolInUse

CANNOT_START = (
    CannotListen,
    CommandRefused,  # a worker process said so
    SpoolInUse,
    SchemaTooNew,
    SettingsRefused,
    OSError,
    sqlite3.Error,
    error.CannotListenError,
)
"""What the administrator can mend. Everything else is a bug of ours, told with its traceback."""


def tell_cannot_start(problem: BaseException) -> None:
    """Write one message to standard error, also where twistd has taken that for its log."""
    bug = "".join(traceback.format_exception(problem))
    words = str(problem) if isinstance(problem, CANNOT_START) else f"a bug:\n{bug}"
    os.write(2, f"mta: cannot start: {words.rstrip()}\n".encode(errors="backslashreplace"))

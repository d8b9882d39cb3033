"""What keeps the server from starting: told in plain words where the administrator can mend it."""

from __future__ import annotations

import os
import sqlite3
import traceback

from twisted.internet import error

from mta.service.check.server import server_of, start_line
from mta.service.control import CommandRefused
from mta.service.sockets import CannotListen
from mta.settings.problem import SettingsRefused
from mta.spool.schema import SchemaTooNew
from mta.spool.shard import SpoolInUse


class WrongUser(Exception):
    """Root, where the server is somebody else: what it makes would be closed to the server's own user later."""


CANNOT_START = (
    CannotListen,
    WrongUser,
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


def hold_user(state: str, config: str) -> None:
    """See that root does not serve in the place of the owner of the state directory. Raises WrongUser."""
    server = server_of(state)
    if os.geteuid() == 0 and server.uid != 0:
        start = start_line(config, state)
        raise WrongUser(f"{state} belongs to {server.name}, who could not use what root makes there; say\n    {start}")

"""How the command ends: the statuses of sysexits(3), and the end with a word."""

from __future__ import annotations

EX_OK = 0
EX_USAGE = 64
EX_DATAERR = 65
EX_NOUSER = 67
EX_NOHOST = 68
EX_UNAVAILABLE = 69
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78


class Ended(Exception):
    """The command ends without its work done: one line for standard error, and a status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status

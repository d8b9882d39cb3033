"""The reserve of free space: new mail is refused while there is still room for reports and for the history.

`Reserve.low` is asked at MAIL and becomes 452 4.3.1; nothing else is. So what was accepted can still be
delivered, recorded and reported when the volume has no room for more.
"""

from __future__ import annotations

from collections.abc import Callable

from mta.disk.port import Disk
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal

LOOK_AGAIN = 1.0
"""Seconds for which an answer of the disk is believed: one system call a second, whatever the load."""


class Reserve:
    """Watches the volume that holds `path`; `octets` and `inodes` are what is to be kept free of it.

    `seconds` is a monotonic clock.
    """

    def __init__(
        self, disk: Disk, path: str, octets: int, inodes: int, seconds: Callable[[], float], journal: Journal
    ) -> None:
        self._disk = disk
        self._path = path
        self._octets = octets
        self._inodes = inodes
        self._seconds = seconds
        self._journal = journal
        self._reason: Reason | None = None
        self._look_at = seconds()

    def low(self) -> Reason | None:
        """Return why no new mail may be taken; None where there is room. The change of it is an event."""
        now = self._seconds()
        if now >= self._look_at:
            self._look_at = now + LOOK_AGAIN
            self._look()
        return self._reason

    def _look(self) -> None:
        before = self._reason
        octets = inodes = -1
        try:
            free = self._disk.free(self._path)
        except OSError as error:
            self._reason = Reason(f"cannot tell what is free: {error}", self._path)
        else:
            octets, inodes = free.octets, free.inodes
            self._reason = self._judge(octets, inodes)
        if self._reason is not None and before is None:
            self._journal.note(
                Kind.DISK_LOW, self._reason, level=Level.ALERT, path=self._path, octets=octets, inodes=inodes
            )
        elif self._reason is None and before is not None:
            self._journal.note(Kind.DISK_RECOVERED, level=Level.NOTICE, path=self._path)

    def _judge(self, octets: int, inodes: int) -> Reason | None:
        if octets < self._octets:
            return Reason(f"{octets} octets are free, {self._octets} are kept in reserve", self._path)
        if inodes < self._inodes:
            return Reason(f"{inodes} inodes are free, {self._inodes} are kept in reserve", self._path)
        return None

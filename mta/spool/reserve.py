"""The reserve of free space: new mail is refused while there is still room for reports and for the history.

`Reserve.low` is asked at MAIL, at DATA and for each piece of content, and becomes 452 4.3.1; nothing else is. So what
was accepted can still be delivered, recorded and reported when the volume has no room for more.

What the disk says is free is up to a second old, and content in memory is not on it yet. So both are counted here:
messages that come at the same time do not each get the same room.
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
        self._room = 0
        self._held = 0
        self._wrote = 0
        self._look_at = seconds()

    def low(self, octets: int = 0) -> Reason | None:
        """Return why no mail of so many octets, or no more of it, may be taken; None where there is room.

        That there is none at all is an event, and that there is some again.
        """
        now = self._seconds()
        if now >= self._look_at:
            self._look_at = now + LOOK_AGAIN
            self._look()
        room = self._room - self._held - self._wrote
        if self._reason is None and octets > room:
            return Reason(f"{octets} octets are too many for the {max(room, 0)} beside the reserve", self._path)
        return self._reason

    def hold(self, octets: int) -> None:
        """Count octets in memory that are to be written; a negative number takes them off again."""
        self._held += octets

    def wrote(self, octets: int) -> None:
        """Count octets that were written, or are about to be: until the disk is asked again."""
        self._wrote += octets

    def _look(self) -> None:
        before = self._reason
        self._wrote = 0
        octets = inodes = -1
        try:
            free = self._disk.free(self._path)
        except OSError as error:
            self._reason = Reason(f"cannot tell what is free: {error}", self._path)
        else:
            octets, inodes = free.octets, free.inodes
            self._room = octets - self._octets
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

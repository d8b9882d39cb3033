"""New certificate files are used by themselves: who renews a certificate need not tell the server.

Once in `LOOK_SECONDS` certificate and key are looked at (device, inode, size and time of change; a symbolic link is
followed, as certbot renews by changing one). When one of them is another file, or was written anew, both are read again
for the connections to come. What cannot be used, such as a new certificate whose key is not there yet, changes nothing
and is said once; it is tried again at each look until the two fit.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet import interfaces

from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.settings.problem import SettingsRefused
from mta.settings.sections import TlsSettings
from mta.tls.certificate import read_identity

LOOK_SECONDS = 60.0
"""Two calls of stat(2) a minute."""

Stamp = tuple[object, ...]
"""Differs where a file is not what it was."""


def stamp_of(path: str) -> Stamp:
    """Look at a file; what is not there has a stamp too."""
    try:
        status = os.stat(path)
    except OSError as error:
        return (path, error.errno)
    return (path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class CertificateWatch:
    """Looks at the files of `current`; `reload` uses them, or raises SettingsRefused and keeps what there was.

    It must be made before the files are first read, so that no change is missed.
    """

    def __init__(
        self,
        current: Callable[[], TlsSettings],
        reload: Callable[[TlsSettings], None],
        journal: Journal,
        clock: interfaces.IReactorTime,
        stamp: Callable[[str], Stamp] = stamp_of,
    ) -> None:
        self._current = current
        self._reload = reload
        self._journal = journal
        self._clock = clock
        self._stamp = stamp
        self._next: interfaces.IDelayedCall | None = None
        self._seen = self._look()
        self._refused = ""

    def start(self) -> None:
        """Look from now on."""
        self._next = self._clock.callLater(LOOK_SECONDS, self._turn)

    def stop(self) -> None:
        """Look no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _look(self) -> tuple[Stamp, ...]:
        settings = self._current()
        return tuple(self._stamp(path) for path in (settings.certificate, settings.key) if path)

    def _turn(self) -> None:
        self.start()
        settings, seen = self._current(), self._look()
        if seen == self._seen or not settings.certificate:
            return
        try:
            self._reload(settings)
        except SettingsRefused as refused:
            if str(refused) != self._refused:
                self._refused = str(refused)
                self._journal.note(
                    Kind.CERTIFICATE_REFUSED,
                    Reason(f"the one in use stays: {refused}", settings.certificate),
                    level=Level.ERROR,
                    file=settings.certificate,
                )
            return
        self._seen, self._refused = seen, ""
        self._journal.note(
            Kind.CERTIFICATE_LOADED, level=Level.NOTICE, file=settings.certificate, until=_until(settings)
        )


def _until(settings: TlsSettings) -> str:
    """When the certificate expires; it has just been read."""
    try:
        end = read_identity(settings.certificate, settings.key).certificates[0].not_valid_after_utc
    except SettingsRefused:
        return "unknown"
    return end.strftime("%Y-%m-%dT%H:%M:%SZ")

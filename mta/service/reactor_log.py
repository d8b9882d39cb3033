"""What Twisted logs, in our log: one place, one form.

twistd would write a log of its own beside ours. Of what Twisted says only failures that nobody handled matter: each is
a bug of ours and becomes one `FAULT` event, or plain text on standard error while there is no journal yet. Everything
else (ports that open and close, a question to a name server) our own events tell better.
"""

from __future__ import annotations

import os

from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from mta.observe.journal import Journal


@implementer(ILogObserver)
class ReactorLog:
    """Twisted's log observer; `journal` is set when there is one."""

    def __init__(self) -> None:
        self.journal: Journal | None = None
        self._noting = False

    def __call__(self, event: LogEvent) -> None:
        """Note a failure; what fails in noting it is not noted again."""
        failure = event.get("log_failure")
        if failure is None or self._noting or failure.check(ReactorNotRunning):  # told to stop twice: ^C, ^C
            return
        if self.journal is None:
            os.write(2, failure.getTraceback().encode(errors="backslashreplace"))
            return
        self._noting = True
        try:
            self.journal.fault("reactor", failure.value)
        finally:
            self._noting = False

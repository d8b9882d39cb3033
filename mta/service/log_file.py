"""What the log is written to: a file, or standard error, or a file in the state directory where that leads nowhere.

Where standard error is systemd's journal, each line begins with its priority, which the journal takes off:
``journalctl -p warning`` shows what is a warning or graver.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from twisted.internet import interfaces

from mta.observe.log import Log, Render, json_line, key_value, with_priority
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.sections import Settings


class LogFile:
    """A sink of the journal with its open file. Raises SettingsRefused where that cannot be opened for writing."""

    def __init__(
        self, settings: Settings, clock: interfaces.IReactorTime, environment: Mapping[str, str] = os.environ
    ) -> None:
        file = settings.log.file or (f"{settings.state}/mta.log" if _is_nowhere(2) else "")
        try:
            self._stream = open(file or 2, "ab", closefd=bool(file))  # noqa: SIM115  # open until another takes its place
        except OSError as error:
            found = f"{file}: {error.strerror}"
            raise SettingsRefused(
                [Problem(settings.path, 0, "a file that can be written", found, "[log] file")]
            ) from error
        render: Render = json_line if settings.log.format == "json" else key_value
        if is_journal(self._stream.fileno(), environment):
            render = with_priority(render)
        self.sink = Log(self._stream, lambda function: clock.callLater(0, function), render)

    def close(self) -> None:
        """Write what waits and close the file."""
        self.sink.flush()
        with contextlib.suppress(OSError):
            self._stream.close()


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether what is written there goes to systemd's journal (systemd.exec(5), ``$JOURNAL_STREAM``)."""
    found = os.fstat(descriptor)
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _is_nowhere(descriptor: int) -> bool:
    """Whether what is written there is gone: twistd without ``-n`` leaves no standard error."""
    found, null = os.fstat(descriptor), os.stat(os.devnull)
    return (found.st_dev, found.st_ino) == (null.st_dev, null.st_ino)

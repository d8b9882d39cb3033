"""What the operator may ask of the history: that it be written now.

=================  ===================================================================================================
command            request, and answer
=================  ===================================================================================================
``history-flush``  nothing. Writes the events that are still in memory; ``events_lost``: those that never will be
=================  ===================================================================================================

Whoever reads the history reads files (`mta.observe.search`): no event goes over the control socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mta.observe.history import History
from mta.observe.journal import Journal


class HistoryCommands:
    """The commands; the histories are found among the sinks of the journal, where there are any."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def flush(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Write what waits."""
        lost = 0
        for sink in self._journal.sinks:
            if isinstance(sink, History):
                sink.flush()
                lost += sink.lost
        return {"events_lost": lost}

"""Why something was decided, and what decided it: the value behind every explanation.

Verdicts, routes, delays and outcomes each carry one. Logs, the history and `mta explain` print it; nobody writes the
explanation a second time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """Why, in words for people, and the source: ``etc/domains/x/aliases:3``, ``RFC 7505 §4``, or a remote reply."""

    text: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.text} [{self.source}]" if self.source else self.text

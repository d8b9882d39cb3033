"""What a check finds: a value that says what is wrong, why that matters, and how to mend it.

===========  =====================================================================  ===========
severity     meaning                                                                exit status
===========  =====================================================================  ===========
error        mail is lost, refused or unprotected, or will be                       2
warning      it works, but not for everybody, not for long, or not as it should     1
note         worth knowing; nothing has to be done                                  0
===========  =====================================================================  ===========
"""

from __future__ import annotations

import enum
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mta.mail.reason import Reason

ALIKE_MAXIMUM = 10
"""Findings of one check that are told one by one; of more it is told how many there are."""


class Severity(enum.Enum):
    """How much attention it needs."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def status(self) -> int:
        """The exit status that it calls for."""
        return {"error": 2, "warning": 1, "note": 0}[self.value]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    severity: Severity
    check: str
    """The name of the check that found it."""
    what: str
    reason: Reason
    """Why it matters; the source is the file, the name server, or the rule."""
    mend: str = ""
    """What to do: a command, a record, a line; empty where nothing has to be done. It may have several lines."""


def error(check: str, what: str, why: str, source: str, mend: str) -> Finding:
    """Make an error."""
    return Finding(Severity.ERROR, check, what, Reason(why, source), mend)


def warning(check: str, what: str, why: str, source: str, mend: str) -> Finding:
    """Make a warning."""
    return Finding(Severity.WARNING, check, what, Reason(why, source), mend)


def note(check: str, what: str, why: str, source: str, mend: str = "") -> Finding:
    """Make a note."""
    return Finding(Severity.NOTE, check, what, Reason(why, source), mend)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Put the gravest first; within a severity the order stays."""
    return sorted(findings, key=lambda finding: -finding.severity.status)


def status_of(findings: Iterable[Finding]) -> int:
    """The exit status that the gravest calls for; 0 where there is none."""
    return max((finding.severity.status for finding in findings), default=0)


def some(findings: Sequence[Finding]) -> list[Finding]:
    """Leave out what is too much to read: the gravest are told, of the others how many they are."""
    found = ranked(findings)
    if len(found) <= ALIKE_MAXIMUM:
        return found
    rest = found[ALIKE_MAXIMUM:]
    more = replace(rest[0], what=f"{len(rest)} more like these", mend="mend those above, and look again")
    return [*found[:ALIKE_MAXIMUM], more]


def command(*words: object) -> str:
    """Write a command as a shell takes it."""
    return shlex.join(str(word) for word in words)

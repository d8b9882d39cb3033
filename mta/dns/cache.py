"""Answers kept as long as they may be believed (RFC 1035 §7.4, RFC 2308), least recently used out first.

A negative answer is kept as its SOA says (RFC 2308 §5), a failure for a few seconds, so that a name server in trouble
is not asked once for each message (RFC 9520 §3.2 asks for 1 s to 5 min).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mta.dns.answer import Answer, Failure, Found, Mx, RecordType

Key = tuple[str, RecordType]
"""A name as `answer.normal` gives it, and a type."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What is kept, and for how long."""

    entries: int = 10_000
    """Answers; with `octets` the bound on memory."""
    octets: int = 8192
    """Octets of records in one answer; larger ones are not kept."""
    shortest: int = 5
    """Seconds: a TTL below is taken as this, so that a burst of mail asks once."""
    longest: int = 86_400
    """Seconds: a TTL above is taken as this (RFC 8767 §4 advises days)."""
    longest_negative: int = 3600
    """Seconds, for `NoData` and `NoSuchName` (RFC 2308 §5: 1 to 3 hours)."""
    failure: int = 5
    """Seconds, for `Failure`."""


class Cache:
    """The answers to `Limits.entries` questions; `seconds` is a monotonic clock."""

    def __init__(self, seconds: Callable[[], float], limits: CacheLimits = CacheLimits()) -> None:
        self._seconds = seconds
        self._limits = limits
        self._entries: dict[Key, tuple[float, Answer]] = {}

    def get(self, key: Key) -> Answer | None:
        """Return what is known, its TTL run down; None when nothing is, or no longer."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        until, answer = entry
        left = until - self._seconds()
        if left <= 0:
            return None
        self._entries[key] = entry  # at the end: the order of the dict is that of use
        return answer if isinstance(answer, Failure) else replace(answer, ttl=min(answer.ttl, int(left)))

    def put(self, key: Key, answer: Answer) -> None:
        """Remember `answer`, unless it is too large."""
        self._entries.pop(key, None)
        if isinstance(answer, Found) and _octets(answer) > self._limits.octets:
            return
        while len(self._entries) >= self._limits.entries:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._seconds() + self._life(answer), answer)

    def _life(self, answer: Answer) -> int:
        limits = self._limits
        if isinstance(answer, Failure):
            return limits.failure
        longest = limits.longest if isinstance(answer, Found) else limits.longest_negative
        return max(limits.shortest, min(answer.ttl, longest))

    def __len__(self) -> int:
        return len(self._entries)


def _octets(answer: Found) -> int:
    return sum(len(record.exchange if isinstance(record, Mx) else record) for record in answer.records)

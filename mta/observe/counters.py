"""A sink of the journal that counts events.

Each event is one increment or a few; nothing is kept of it. What is no event (the size of a batch, the time of a sync)
is told to the same `Tally` by who measures it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from mta.observe import metric
from mta.observe.event import Event, Kind, Level
from mta.observe.metric import Metric
from mta.observe.tally import Tally

_METHODS = ("iprev", "helo", "spf", "dkim", "dmarc", "arc")
_RESULT = re.compile(r"[a-z]+")
_CODE = re.compile(r"[2-5]\d\d\b")
_TLS = re.compile(r"\bover (TLSv\d(?:\.\d)?)\b")
"""What the reason of a delivery says of its way (`mta.relay.opening`)."""

_LEVELS = {level.name: level.name.lower() for level in Level}
_TROUBLES: Mapping[Kind, tuple[str, bool]] = {
    Kind.DISK_LOW: ("disk.low", True),
    Kind.DISK_RECOVERED: ("disk.low", False),
    Kind.VOLUME_SUSPECT: ("volume.suspect", True),
    Kind.VOLUME_RECOVERED: ("volume.suspect", False),
    Kind.SPOOL_SUSPECT: ("spool.suspect", True),  # until the next start
    Kind.SPOOL_UNWRITABLE: ("spool.unwritable", True),
    Kind.SPOOL_WRITABLE: ("spool.unwritable", False),
    Kind.HISTORY_SUSPECT: ("history.suspect", True),
    Kind.HISTORY_RECOVERED: ("history.suspect", False),
    Kind.MEMORY_SUSPECT: ("memory.suspect", True),
    Kind.MEMORY_RECOVERED: ("memory.suspect", False),
}
_OUTCOMES: Mapping[Kind, str] = {
    Kind.RECIPIENT_DELIVERED: "delivered",
    Kind.RECIPIENT_DEFERRED: "deferred",
    Kind.RECIPIENT_FAILED: "failed",
    Kind.RECIPIENT_ENDED: "ended",
    Kind.MESSAGE_HELD: "held",
}


class Counters:
    """The sink; what it counts is in `tally`."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.ended: dict[str, int] = {}
        """Sessions that are over, by service."""
        self.findings: dict[str, int] = {}
        """What the last daily check found, by severity; empty before the first."""
        self._troubled: dict[str, set[str]] = {trouble: set() for trouble, _ in _TROUBLES.values()}

    def __call__(self, event: Event) -> None:
        """Count an event."""
        kind = event.kind._value_  # what `value` gives, at a tenth of the cost; and a text has its hash already
        self.tally.add(metric.EVENTS, kind, _LEVELS[event.level._name_])
        count = _COUNT.get(kind)
        if count is not None:
            count(self, event)

    def troubles(self) -> dict[str, int]:
        """How many places are in each trouble now."""
        return {trouble: len(places) for trouble, places in self._troubled.items()}

    def _by_service(self, event: Event, counted: Metric, *labels: str, amount: float = 1) -> None:
        self.tally.add(counted, str(event.fields.get("service", "")), *labels, amount=amount)

    def _closed(self, event: Event) -> None:
        service, tls = str(event.fields.get("service", "")), event.fields.get("tls")
        self.ended[service] = self.ended.get(service, 0) + 1
        self.tally.add(metric.TLS_SESSIONS, service, str(tls).partition(" ")[0] if tls else "none")

    def _accepted(self, event: Event) -> None:
        self._by_service(event, metric.MESSAGES_ACCEPTED, str(event.fields.get("place", "")))
        size = event.fields.get("size")
        if isinstance(size, int):
            self._by_service(event, metric.ACCEPTED_BYTES, amount=size)

    def _logged_in(self, event: Event) -> None:
        outcome = "accepted" if event.kind is Kind.LOGIN_ACCEPTED else "refused"
        self.tally.add(metric.LOGINS, str(event.fields.get("mechanism", "")).upper(), outcome)

    def _tls_failed(self, event: Event) -> None:
        self.tally.add(metric.TLS_FAILURES, "in" if event.session else "out")

    def _attempted(self, event: Event) -> None:
        fields = event.fields
        self.tally.add(metric.DELIVERIES, _OUTCOMES[event.kind])
        reply = fields.get("reply")
        if isinstance(reply, str):
            code = _CODE.match(reply)
            self.tally.add(metric.REMOTE_REPLIES, code[0] if code else "other")
        if event.kind is not Kind.RECIPIENT_DELIVERED:
            return
        delay = fields.get("delay")
        if isinstance(delay, int | float):
            self.tally.observe(metric.DELIVERY_SECONDS, delay)
        if fields.get("remote"):
            over = _TLS.search(event.reason.text) if event.reason is not None else None
            self.tally.add(metric.DELIVERY_TLS, over[1] if over else "none")

    def _judged(self, event: Event) -> None:
        fields = event.fields
        self.tally.add(metric.VERDICTS, str(fields.get("policy", "")), str(fields.get("verdict", "")).lower())

    def _checked(self, event: Event) -> None:
        fields = event.fields
        self.tally.add(metric.MAILAUTH_DISPOSITIONS, str(fields.get("disposition", "")))
        for method in _METHODS:
            said = fields.get(method)
            if isinstance(said, str) and (result := _RESULT.match(said)):
                self.tally.add(metric.MAILAUTH_RESULTS, method, result[0])

    def _looked(self, event: Event) -> None:
        for severity in ("error", "warning", "note"):
            found = event.fields.get(f"{severity}s")
            self.findings[severity] = found if isinstance(found, int) else 0

    def _trouble(self, event: Event) -> None:
        trouble, begins = _TROUBLES[event.kind]
        place = str(event.fields.get("path", ""))
        (self._troubled[trouble].add if begins else self._troubled[trouble].discard)(place)


def _counting(counted: Metric) -> Callable[[Counters, Event], None]:
    return lambda counters, event: counters.tally.add(counted)


def _counting_by_service(counted: Metric) -> Callable[[Counters, Event], None]:
    return lambda counters, event: counters._by_service(event, counted)


_KINDS: Mapping[Kind, Callable[[Counters, Event], None]] = {
    Kind.SESSION_REFUSED: _counting_by_service(metric.SESSIONS_REFUSED),
    Kind.SESSION_CLOSED: Counters._closed,
    Kind.RECIPIENT_REFUSED: _counting_by_service(metric.RECIPIENTS_REFUSED),
    Kind.MESSAGE_REFUSED: _counting_by_service(metric.MESSAGES_REFUSED),
    Kind.MESSAGE_DISCARDED: _counting_by_service(metric.MESSAGES_DISCARDED),
    Kind.MESSAGE_ACCEPTED: Counters._accepted,
    Kind.LOGIN_ACCEPTED: Counters._logged_in,
    Kind.LOGIN_REFUSED: Counters._logged_in,
    Kind.TLS_FAILED: Counters._tls_failed,
    Kind.REPORT_QUEUED: _counting(metric.REPORTS),
    Kind.POLICY_SAID: Counters._judged,
    Kind.MESSAGE_CHECKED: Counters._checked,
    Kind.CHECK_ENDED: Counters._looked,
    Kind.FAULT: _counting(metric.FAULTS),
    Kind.WORKER_DIED: _counting(metric.WORKERS_DIED),
    **dict.fromkeys(_OUTCOMES, Counters._attempted),
    **dict.fromkeys(_TROUBLES, Counters._trouble),
}
_COUNT = {kind.value: count for kind, count in _KINDS.items()}

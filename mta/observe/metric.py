"""Every number that the server gives away, with its name, meaning and labels: the table of Prometheus metrics.

Names and units follow Prometheus (https://prometheus.io/docs/practices/naming/): seconds and bytes, ``_total`` behind
what only grows. ``docs/metrics.md`` is made from this table.

What several workers say of the same metric and labels becomes one number: added, or the largest where a sum would mean
nothing (`Merge`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Type(enum.Enum):
    """What a metric is, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(enum.Enum):
    """How the numbers of several workers become one."""

    ADD = "added"
    MAXIMUM = "the largest"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `known` are label values that are there from the start, as 0: so the first increase is seen."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram; one without a bound follows."""
    merge: Merge = Merge.ADD
    known: tuple[tuple[str, ...], ...] = ()


def _counter(
    name: str, help: str, labels: tuple[str, ...] = (), known: tuple[tuple[str, ...], ...] | None = None
) -> Metric:
    if known is None:
        known = () if labels else ((),)
    return Metric(name, Type.COUNTER, help, labels, known=known)


def _gauge(name: str, help: str, labels: tuple[str, ...] = (), merge: Merge = Merge.ADD) -> Metric:
    return Metric(name, Type.GAUGE, help, labels, merge=merge)


def _histogram(name: str, help: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Metric:
    return Metric(name, Type.HISTOGRAM, help, labels, buckets, known=() if labels else ((),))


_SERVICES = (("mx",), ("smtpd",))
_SYNC = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_BATCH = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_DELIVERY = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 432000.0)

SESSIONS_OPENED = _counter("mta_sessions_opened_total", "Sessions that were begun.", ("service",), _SERVICES)
SESSIONS_OPEN = _gauge("mta_sessions_open", "Sessions that are open now.", ("service",))
SESSIONS_REFUSED = _counter(
    "mta_sessions_refused_total",
    "Connections turned away: by a bound on connections, or by a policy.",
    ("service",),
    _SERVICES,
)
REPLIES = _counter("mta_replies_total", "Replies that peers were given, by reply code.", ("service", "code"))
RECIPIENTS_REFUSED = _counter(
    "mta_recipients_refused_total", "Recipients that were refused at RCPT.", ("service",), _SERVICES
)
MESSAGES_ACCEPTED = _counter(
    "mta_messages_accepted_total",
    "Messages that were taken and are on stable storage; place: maildir, or spool (the queue).",
    ("service", "place"),
    (("mx", "maildir"), ("mx", "spool"), ("smtpd", "maildir"), ("smtpd", "spool")),
)
ACCEPTED_BYTES = _counter("mta_accepted_bytes_total", "Octets of the messages taken.", ("service",), _SERVICES)
MESSAGES_REFUSED = _counter(
    "mta_messages_refused_total", "Messages refused at the end of their data.", ("service",), _SERVICES
)
MESSAGES_DISCARDED = _counter(
    "mta_messages_discarded_total", "Messages taken and thrown away, for a rule says so.", ("service",), _SERVICES
)
LOGINS = _counter(
    "mta_logins_total",
    "Logins tried; outcome: accepted or refused.",
    ("mechanism", "outcome"),
    tuple((mechanism, outcome) for mechanism in ("PLAIN", "LOGIN") for outcome in ("accepted", "refused")),
)
TLS_SESSIONS = _counter(
    "mta_tls_sessions_total",
    'Sessions that ended, by version of TLS; "none": clear text to the end.',
    ("service", "version"),
)
TLS_FAILURES = _counter(
    "mta_tls_failures_total",
    "TLS handshakes that failed; direction: in, or out.",
    ("direction",),
    (("in",), ("out",)),
)
DELIVERIES = _counter(
    "mta_delivery_attempts_total",
    "Attempts for one recipient from the queue; outcome: delivered, deferred, failed, held, or ended without a report.",
    ("outcome",),
    tuple((outcome,) for outcome in ("delivered", "deferred", "failed", "held", "ended")),
)
DELIVERY_TLS = _counter(
    "mta_delivered_tls_total",
    'Recipients delivered to other servers, by version of TLS; "none": in clear text.',
    ("version",),
)
REMOTE_REPLIES = _counter(
    "mta_remote_replies_total", "Replies of other servers that decided an attempt for a recipient.", ("code",)
)
DELIVERY_SECONDS = _histogram(
    "mta_delivery_seconds",
    "Seconds from acceptance to delivery of a recipient whose mail went by the queue.",
    _DELIVERY,
)
REPORTS = _counter("mta_reports_queued_total", "Reports (DSN) to senders that were queued.")
VERDICTS = _counter("mta_policy_verdicts_total", "What policies said.", ("policy", "verdict"))
MAILAUTH_RESULTS = _counter(
    "mta_mailauth_results_total",
    "Results of mail authentication (RFC 8601); of several DKIM signatures the first.",
    ("method", "result"),
)
MAILAUTH_DISPOSITIONS = _counter(
    "mta_mailauth_dispositions_total", "What was done with a message for its authentication.", ("disposition",)
)
EVENTS = _counter("mta_events_total", "Everything that was noted in log and history, by kind.", ("kind", "level"))
FAULTS = _counter("mta_faults_total", "Bugs of ours that showed themselves; the log has a traceback of each.")
EVENTS_LOST = _counter(
    "mta_events_lost_total",
    "Events that could not be written; sink: history, log.",
    ("sink",),
    (("history",), ("log",)),
)
TROUBLES = _gauge(
    "mta_troubles",
    "Places that are in trouble now: a disk in its reserve, a spool or volume whose sync failed, a history or memory "
    "that cannot be written.",
    ("kind",),
)
CHECK_FINDINGS = _gauge("mta_check_findings", "What the last daily check found wrong.", ("severity",), Merge.MAXIMUM)
BATCH = _histogram("mta_commit_batch_size", "Changes or messages that shared one sync.", _BATCH, ("place",))
SYNC_SECONDS = _histogram(
    "mta_commit_sync_seconds", "Seconds that one sync took; place: spool or maildir.", _SYNC, ("place",)
)
LOOP_LAG = _histogram(
    "mta_loop_lag_seconds", "Seconds by which the event loop was late, looked at four times a second.", _SYNC
)
LOOP_LAG_MAXIMUM = _gauge(
    "mta_loop_lag_max_seconds", "The largest lag of the event loop in the last minute.", (), Merge.MAXIMUM
)
QUEUE_MESSAGES = _gauge("mta_queue_messages", "Messages in the queue.")
QUEUE_RECIPIENTS = _gauge("mta_queue_recipients", "Recipients in the queue: waiting, active or held.", ("state",))
QUEUE_DESTINATION = _gauge(
    "mta_queue_destination_recipients",
    'Recipients in the queue for the destinations that have most of them; "(other)" is the rest. Up to a minute old.',
    ("destination",),
)
QUEUE_OLDEST = _gauge(
    "mta_queue_oldest_seconds", "Age of the oldest message in the queue; 0 where it is empty.", (), Merge.MAXIMUM
)
DISK_FREE = _gauge("mta_disk_free_bytes", "Free on the volume of state or mail.", ("volume",), Merge.MAXIMUM)
DISK_INODES = _gauge("mta_disk_free_inodes", "Free inodes there.", ("volume",), Merge.MAXIMUM)
DISK_RESERVE = _gauge("mta_disk_reserve_bytes", "Below so much free on state no mail is taken.", (), Merge.MAXIMUM)
WORKER_CPU = _counter("mta_worker_cpu_seconds_total", "Processor time of a process.", ("worker",), ())
WORKER_RESIDENT = _gauge("mta_worker_resident_bytes", "Memory of a process.", ("worker",))
WORKER_DESCRIPTORS = _gauge("mta_worker_open_fds", "Open file descriptors of a process.", ("worker",))
WORKER_STARTED = _gauge("mta_worker_start_time_seconds", "When a process was started, since 1970.", ("worker",))
WORKERS_DIED = _counter("mta_workers_died_total", "Worker processes that ended and were started anew.")
WORKERS_WANTED = _gauge("mta_workers_wanted", "Workers that the settings ask for.")
WORKERS_ANSWERING = _gauge("mta_workers_answering", "Workers that answered when these numbers were asked for.")
INFO = _gauge("mta_build_info", "Always 1; the label says which version runs.", ("version",), Merge.MAXIMUM)

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in the order of this page."""

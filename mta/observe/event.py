"""The event schema: every kind of event there is, with the fields it carries.

An event is a value with its reason. Sinks (log, history, counters) read it; nobody formats an explanation of its own.
A field's value is text, a number or a truth; text from outside stands in it as it came and is made harmless by the
sink that prints it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from mta.mail.reason import Reason

Value = str | int | float | bool | None


class Level(enum.IntEnum):
    """How much attention it needs (the priorities of syslog, RFC 5424 §6.2.1)."""

    ALERT = 1
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


class Kind(enum.Enum):
    """What happened. The value is the name in log and history; the fields stand in the comment."""

    SERVICE_STARTED = "service.started"  # service, listen
    SERVICE_FAILED = "service.failed"  # service, listen: it is not served, for the reason given; mail is
    SERVICE_STOPPED = "service.stopped"
    WORKER_STARTED = "worker.started"  # worker, pid
    WORKER_DIED = "worker.died"  # worker, pid, status
    SETTINGS_LOADED = "settings.loaded"  # file, domains, accounts
    SETTINGS_REFUSED = "settings.refused"  # file, line; reason is the problem
    SESSION_REFUSED = "session.refused"  # service, address
    SESSION_LASTS = "session.lasts"  # service, address, port, tls, login, seconds; reason is what it waits for
    SESSION_CLOSED = "session.closed"  # service, address, port, helo, tls, login, accepted, refused, seconds
    CERTIFICATE_LOADED = "certificate.loaded"  # file, until: new files were found and are used
    CERTIFICATE_REFUSED = "certificate.refused"  # file: new files cannot be used; reason is why
    CHECK_FOUND = "check.found"  # check, severity, what, mend; reason is why
    CHECK_ENDED = "check.ended"  # errors, warnings, notes, seconds: what the daily check came to
    TLS_FAILED = "tls.failed"  # address
    LOGIN_ACCEPTED = "login.accepted"  # login, mechanism, app_password: its name, where it was one; address
    ACCOUNT_DISABLED = "account.disabled"  # login, operator; sessions, messages, recipients: ended, and held
    ACCOUNT_ENABLED = "account.enabled"  # login, operator; messages, recipients: released
    CAP_NEAR = "cap.near"  # login, what, count, cap, until: 80 % of what it may send in a day
    CAP_REACHED = "cap.reached"  # login, what, count, cap, until
    LOGIN_REFUSED = "login.refused"  # login, mechanism, address
    COMMAND_REFUSED = "command.refused"  # command, reply
    SENDER_REFUSED = "sender.refused"  # sender, reply
    RECIPIENT_REFUSED = "recipient.refused"  # recipient, reply
    MESSAGE_REFUSED = "message.refused"  # sender, recipients, size, message_id, reply
    MESSAGE_ACCEPTED = "message.accepted"
    # service, address, helo, tls, login, sender, recipients, size, message_id, place, batch, allowed; copies: to how
    # many mailboxes; path: in a Maildir; and where aliases led elsewhere, expanded: to whom, aliases: by which lines
    MESSAGE_CHECKED = "message.checked"  # disposition, address, sender, recipients, size, and each check by its name
    DMARC_ROW = "dmarc.row"  # row: what an aggregate report needs of the message (mta.mailauth.dmarc_row)
    MESSAGE_DISCARDED = "message.discarded"  # sender, recipients, size, message_id: taken, and ended for the reason
    POLICY_PRINTED = "policy.printed"  # policy: what a script printed is the reason
    POLICY_SAID = "policy.said"  # stage, policy, verdict; what: the tag, field, folder, … that the verdict names
    ATTEMPT_WAITS = "attempt.waits"  # recipients, destination: due, and not begun yet, for the reason given
    ATTEMPT_STARTED = "attempt.started"  # recipients, destination, seconds: after a wait that is worth telling
    RECIPIENT_DELIVERED = "recipient.delivered"  # recipient, remote, reply, delay; path: in a Maildir
    RECIPIENT_DEFERRED = "recipient.deferred"  # recipient, remote, reply, status, attempts, next, report
    RECIPIENT_FAILED = "recipient.failed"  # as deferred; report: its queue id, or why there is none
    RECIPIENT_ENDED = "recipient.ended"  # recipient: ended without report or delivery, for the reason given
    MESSAGE_RELEASED = "message.released"  # recipients: a number; operator
    MESSAGE_RETRIED = "message.retried"  # recipients: a number; operator
    MESSAGE_BOUNCED = "message.bounced"  # recipients: a number; operator: each has a recipient.failed beside this
    MESSAGE_DELETED = "message.deleted"  # recipients: a number; operator
    MESSAGE_HELD = "message.held"  # recipient; by the operator, recipients: a number; operator
    ROUTE_FOUND = "route.found"  # destination, hosts
    REPORT_QUEUED = "report.queued"  # about: the queue id of the message; recipient
    DISK_LOW = "disk.low"  # path, octets, inodes
    DISK_RECOVERED = "disk.recovered"  # path
    VOLUME_SUSPECT = "volume.suspect"  # path
    VOLUME_RECOVERED = "volume.recovered"  # path
    SPOOL_OPENED = "spool.opened"  # path, messages, recovered
    SPOOL_SUSPECT = "spool.suspect"  # path
    SPOOL_WRITABLE = "spool.writable"
    SPOOL_UNWRITABLE = "spool.unwritable"  # what became of a message could not be recorded; is tried again
    HISTORY_SUSPECT = "history.suspect"  # path, lost: events of so many go into the log alone
    HISTORY_RECOVERED = "history.recovered"  # path, lost
    MEMORY_SUSPECT = "memory.suspect"  # path: policies that need what they remember do nothing meanwhile
    MEMORY_RECOVERED = "memory.recovered"  # path
    DKIM_KEY_MADE = "dkim.made"  # domain, selector, name, file, record: to be published under that name
    DKIM_KEY_WAITS = "dkim.waits"  # domain, selector, name, file, record; reason is what the name servers show instead
    DKIM_KEY_SIGNS = "dkim.signs"  # domain, selector, name, file, replaces
    DKIM_KEY_RETIRED = "dkim.retired"  # domain, selector, name, file, until: its record has to stay so long
    DKIM_KEY_REMOVED = "dkim.removed"  # domain, selector, name, file: its record may go
    DKIM_ROTATION_FAILED = "dkim.failed"  # domain, file; reason is what is to be mended
    FAULT = "fault"  # where, traceback: a bug of ours


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, at wall time `time`."""

    time: float
    kind: Kind
    level: Level = Level.INFO
    session: str = ""
    queue_id: str = ""
    reason: Reason | None = None
    fields: Mapping[str, Value] = field(default_factory=dict)

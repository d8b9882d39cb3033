"""Events in words for people: one function for each kind, and nobody else says what an event means.

`tell` gives the words of one event: a line, what decided it, and, where there is more to say, lines below it. The
reason's own words are taken over, never put anew. Everything is made harmless here, so that what a peer wrote moves no
cursor. Times inside a line are given in the zone of the reader.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from mta.observe.event import Event, Kind, Level
from mta.observe.log import harmless

_LOCAL = "unix:"
"""What stands before the name of a user of this machine, where a login is named."""


_OF_BEGINNING = {Kind.SESSION_CLOSED, Kind.SESSION_LASTS, Kind.MESSAGE_ACCEPTED}


class Mood(enum.Enum):
    """What an event is to whoever waits for a message."""

    GOOD = "good"
    PLAIN = "plain"
    SLOW = "slow"
    """It takes longer."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Told:
    """An event in words. `source` is what decided: a file and line, a section, or what a host said."""

    text: str
    source: str
    mood: Mood
    below: tuple[str, ...] = ()


def tell(event: Event, zone: tzinfo | None = None) -> Told:
    """Put an event into words; `zone` is the reader's, the machine's own where it is None."""
    words = _WORDS.get(event.kind, _plainly)(_Read(event, zone))
    text, below = words if isinstance(words, tuple) else (words, ())
    source = event.reason.source if event.reason is not None else ""
    source = "" if source == event.fields.get("about") else source  # which the words have named
    return Told(harmless(text), harmless(source), _mood(event), tuple(map(harmless, below)))


def tell_next_attempt(event: Event, zone: tzinfo | None = None) -> str:
    """Say when what was deferred is tried again: ``next attempt 20:25:00 (10 min later)``."""
    return _next_attempt(_Read(event, zone))


def peer_of(event: Event) -> str:
    """With whom the session of an event is: an address, or the name of a user of this machine; "" if it is not said."""
    return _Read(event, None).peer


def tell_beginning(event: Event, zone: tzinfo | None = None) -> tuple[float, Told] | None:
    """Say how a session began, from the event that it ends or lasts, or of a message in it: when, and with whom.

    None where the event does not say. The time is that of the event where its session has not ended yet.
    """
    read = _Read(event, zone)
    if event.kind not in _OF_BEGINNING or not read["address"]:
        return None
    began = event.time - read.number("seconds")
    if read["login"].startswith(_LOCAL):
        return began, Told(harmless(f"handed in by {read.peer}, a user of this machine"), "", Mood.PLAIN)
    port = f" port {read['port']}" if read["port"] else ""
    service = f" to {read['service']}" if read["service"] else ""
    name = f", which calls itself {read['helo']}" if read["helo"] else ""
    tls = f", {read['tls']}" if read["tls"] else ", in clear text"
    login = f", logged in as {read['login']}" if read["login"] and event.kind is not Kind.SESSION_CLOSED else ""
    text = f"connection{service} from {read['address']}{port}{name}{tls}{login}"
    return began, Told(harmless(text), "", Mood.PLAIN)


def duration(seconds: float) -> str:
    """Say a time span with the precision that matters: ``12 ms``, ``3.4 s``, ``5 min``, ``2 h 30 min``, ``3 days``."""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 10 and rest:
        return f"{minutes} min {rest} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(hours / 24)} days"


def octets(size: float) -> str:
    """Say a size: ``812 octets``, ``4.1 KiB``, ``23 MiB``."""
    if size < 1024:
        return f"{size:.0f} octets"
    unit = "KiB"
    for unit in ("KiB", "MiB", "GiB", "TiB"):  # noqa: B007  # the last one that was needed
        size /= 1024
        if size < 1024:
            break
    return f"{size:.1f} {unit}" if size < 10 else f"{size:.0f} {unit}"


def mailbox(text: str) -> str:
    """An address as people read it; the empty reverse-path is ``<>``."""
    return text or "<>"


def way(sender: str, recipients: Sequence[str]) -> str:
    """From whom to whom, with no more than three named: ``alice@example.org > bob@example.net``."""
    named = ", ".join(recipients[:3]) or "nobody"
    more = f" and {len(recipients) - 3} more" if len(recipients) > 3 else ""
    return f"{mailbox(sender)} > {named}{more}"


def count(number: object, one: str, many: str = "") -> str:
    """``1 message``, ``2 messages``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


class _Read:
    """The fields of an event, as text."""

    def __init__(self, event: Event, zone: tzinfo | None) -> None:
        self.event = event
        self._zone = zone

    def __getitem__(self, name: str) -> str:
        value = self.event.fields.get(name)
        return "" if value is None else str(value)

    def number(self, name: str) -> float:
        value = self.event.fields.get(name)
        return value if isinstance(value, int | float) else 0

    @property
    def why(self) -> str:
        """``: `` and the reason, where there is one."""
        reason = self.event.reason
        return f": {reason.text}" if reason is not None and reason.text else ""

    @property
    def said(self) -> tuple[str, ...]:
        """What the peer was told."""
        return (f"reply: {self['reply']}",) if self["reply"] else ()

    @property
    def peer(self) -> str:
        """With whom the session is: an address, or the name of a user of this machine."""
        login = self["login"]
        return login.removeprefix(_LOCAL) if login.startswith(_LOCAL) else self["address"]

    @property
    def operator(self) -> str:
        return f" by {self['operator']}" if self["operator"] else ""

    def at(self, seconds: float) -> str:
        """The time of day so many seconds after the event, with the date where that is another day."""
        then = datetime.fromtimestamp(self.event.time + seconds, self._zone)
        same_day = then.date() == datetime.fromtimestamp(self.event.time, self._zone).date()
        return f"{then:%H:%M:%S}" if same_day else f"{then:%a %d %b %H:%M:%S}"

    @property
    def moment(self) -> str:
        """When it happened, to the millisecond."""
        then = datetime.fromtimestamp(self.event.time, self._zone)
        return f"{then:%H:%M:%S}.{then.microsecond // 1000:03}"


_Words = str | tuple[str, tuple[str, ...]]


def _plainly(read: _Read) -> _Words:
    fields = ", ".join(f"{name} {value}" for name, value in read.event.fields.items())
    return f"{read.event.kind.value} {fields}".rstrip() + read.why


# The server


def _service_started(read: _Read) -> _Words:
    implicit = ", with TLS from the first octet" if read.event.fields.get("tls") else ""
    return f"{read['service']} listens on {read['listen']}{implicit}"


def _service_failed(read: _Read) -> _Words:
    return f"{read['service']} is not served on {read['listen']}{read.why}"


def _service_stopped(read: _Read) -> _Words:
    return f"the server stopped{read.why}"


def _worker_started(read: _Read) -> _Words:
    return f"worker {read['worker']} started, process {read['pid']}"


def _worker_died(read: _Read) -> _Words:
    process = f", process {read['pid']}," if read["pid"] else ""
    status = f" with status {read['status']}" if read["status"] else ""
    return f"worker {read['worker']}{process} died{status}{read.why}"


def _settings_loaded(read: _Read) -> _Words:
    domains, accounts = count(read.number("domains"), "domain"), count(read.number("accounts"), "account")
    return f"settings read from {read['file']}: {domains}, {accounts}"


def _settings_refused(read: _Read) -> _Words:
    return f"settings refused, those from before stay in force{read.why}"


def _certificate_loaded(read: _Read) -> _Words:
    return f"new certificate read from {read['file']}, good until {read['until']}"


def _certificate_refused(read: _Read) -> _Words:
    return f"the new certificate in {read['file']} cannot be used{read.why}"


def _check_found(read: _Read) -> _Words:
    below = (f"to mend it: {read['mend']}",) if read["mend"] else ()
    return f"mta check, {read['severity']} in {read['check']}: {read['what']}{read.why}", below


def _check_ended(read: _Read) -> _Words:
    found = [count(read.number(f"{name}s"), name) for name in ("error", "warning", "note")]
    return f"mta check ended after {duration(read.number('seconds'))}: {', '.join(found)}"


def _fault(read: _Read) -> _Words:
    return f"a bug of ours in {read['where']}{read.why}", tuple(read["traceback"].rstrip().splitlines())


# Sessions


def _session_refused(read: _Read) -> _Words:
    return f"connection to {read['service']} from {read['address']} refused{read.why}", read.said


def _session_lasts(read: _Read) -> _Words:
    return f"the session with {read.peer} is open for {duration(read.number('seconds'))}{read.why}"


def _session_closed(read: _Read) -> _Words:
    fields = read.event.fields
    accepted = count(fields.get("accepted", 0), "message")
    refused = f", {count(fields.get('refused'), 'refusal')}" if fields.get("refused") else ""
    return f"end of the session with {read.peer} after {duration(read.number('seconds'))}: " + (
        f"{accepted} taken{refused}{read.why}"
    )


def _tls_failed(read: _Read) -> _Words:
    return f"TLS with {read['address']} failed{read.why}"


def _login_accepted(read: _Read) -> _Words:
    password = f" with the app password {read['app_password']}" if read["app_password"] else ""
    return f"{read['login']} logged in from {read['address']} by {read['mechanism']}{password}{read.why}"


def _login_refused(read: _Read) -> _Words:
    return f"login of {read['login']} from {read['address']} refused{read.why}", read.said


def _account_disabled(read: _Read) -> _Words:
    did = f"{count(read.number('sessions'), 'session')} ended, {count(read.number('messages'), 'message')} held"
    return f"the account {read['login']} is disabled{read.operator}, {did}{read.why}"


def _account_enabled(read: _Read) -> _Words:
    did = f"{count(read.number('messages'), 'message')} released"
    return f"the account {read['login']} is enabled again{read.operator}, {did}{read.why}"


def _cap_near(read: _Read) -> _Words:
    return f"{read['login']} has soon sent what a login may send in a day{read.why}"


def _cap_reached(read: _Read) -> _Words:
    return f"{read['login']} has sent what a login may send in a day, and sends no more{read.why}"


def _command_refused(read: _Read) -> _Words:
    return f"{read['command'] or 'unknown'} command refused{read.why}", read.said


def _sender_refused(read: _Read) -> _Words:
    return f"sender {mailbox(read['sender'])} refused{read.why}", read.said


def _recipient_refused(read: _Read) -> _Words:
    sender = f", from {mailbox(read['sender'])}," if "sender" in read.event.fields else ""
    return f"recipient {read['recipient']}{sender} refused{read.why}", read.said


# Messages on their way in


def _message_refused(read: _Read) -> _Words:
    when = " at its end" if read.event.queue_id else ""
    return f"message from {mailbox(read['sender'])} to {read['recipients']} refused{when}{read.why}", read.said


def _message_accepted(read: _Read) -> _Words:
    batch = read.event.fields.get("batch")
    shared = f"batch of {batch}" if isinstance(batch, int) and batch > 1 else "alone"
    below = []
    if read["path"]:
        below.append(f"file: {read['path']}")
    if read["expanded"]:
        by = f" (by {read['aliases']})" if read["aliases"] else ""
        below.append(f"{read['recipients']} leads to {read['expanded'].replace(' ', ', ')}{by}")
    if read["allowed"]:
        below.append(f"allowed: {read['allowed']}")
    from_to = way(read["sender"], read["recipients"].split())
    return f"accepted {from_to}, synced {read.moment}, {shared}{read.why}", tuple(below)


def _message_checked(read: _Read) -> _Words:
    names = ("iprev", "helo", "spf", "dkim", "dmarc", "arc", "notes")
    below = tuple(f"{name}: {read[name]}" for name in names if read[name])
    return f"checked whose mail it is, result {read['disposition']}{read.why}", below


def _dmarc_row(read: _Read) -> _Words:
    return "kept for the DMARC report to the author's domain"


def _message_discarded(read: _Read) -> _Words:
    return f"taken, and discarded{read.why}"


def _policy_said(read: _Read) -> _Words:
    what = f" {read['what']}" if read["what"] else ""
    return f"policy {read['policy']} at {read['stage']} says {read['verdict']}{what}{read.why}"


def _policy_printed(read: _Read) -> _Words:
    return f"policy {read['policy']} printed{read.why}"


# Messages in the queue


def _attempt_waits(read: _Read) -> _Words:
    return f"waiting{read.why}"


def _attempt_started(read: _Read) -> _Words:
    return f"its turn has come after {duration(read.number('seconds'))} of waiting{read.why}"


def _recipient_delivered(read: _Read) -> _Words:
    below = (f"file: {read['path']}",) if read["path"] else ()
    after = f", {duration(read.number('delay'))} after it was accepted" if "delay" in read.event.fields else ""
    return f"delivered to {read['recipient']}{after}{read.why}", below


def _recipient_deferred(read: _Read) -> _Words:
    attempts = read.number("attempts")
    below = ["not counted as an attempt, since the cause is ours"]
    if attempts:
        below = [f"after {count(attempts, 'attempt')}; each wait is about twice the last, up to [queue] longest_retry"]
    if read["report"]:
        below.append(f"the sender is told of the delay by report {read['report']}")
    return f"not delivered yet to {read['recipient']}, {_next_attempt(read)}{read.why}", tuple(below)


def _next_attempt(read: _Read) -> str:
    seconds = read.number("next")
    return f"next attempt {read.at(seconds)} ({duration(seconds)} later)"


def _recipient_failed(read: _Read) -> _Words:
    report = read["report"]
    told = f"the sender is told by report {report}" if report.isalnum() else f"the sender is not told: {report}"
    status = f" ({read['status']})" if read["status"] else ""
    return f"failed for {read['recipient']}{status}{read.why}", (told,) if report else ()


def _recipient_ended(read: _Read) -> _Words:
    return f"ended for {read['recipient']}, and nobody is told{read.why}"


def _by_operator(otherwise: str) -> Callable[[_Read], _Words]:
    """What the operator does with a message; the reason says who did what."""

    def told(read: _Read) -> _Words:
        reason = read.event.reason
        return f"{reason.text if reason else otherwise} ({count(read.number('recipients'), 'recipient')})"

    return told


def _message_held(read: _Read) -> _Words:
    if read["operator"]:
        return _by_operator("held")(read)
    recipient = f" for {read['recipient']}" if read["recipient"] else ""
    return f"held{recipient} until it is released{read.why}"


def _route_found(read: _Read) -> _Words:
    return f"route to {read['destination']}: {read['hosts'].replace(' ', ', ')}{read.why}"


def _report_queued(read: _Read) -> _Words:
    reason = read.event.reason
    what = reason.text if reason is not None else "about"
    return f"report to {mailbox(read['recipient'])} {what}, message {read['about']}"


# Disks and files


def _disk_low(read: _Read) -> _Words:
    return f"no space for mail on the volume of {read['path']}{read.why}"


def _disk_recovered(read: _Read) -> _Words:
    return f"space for mail again on the volume of {read['path']}"


def _volume_suspect(read: _Read) -> _Words:
    return f"a sync failed on the volume of {read['path']}, which takes no mail until one succeeds{read.why}"


def _volume_recovered(read: _Read) -> _Words:
    return f"the volume of {read['path']} takes mail again{read.why}"


def _spool_opened(read: _Read) -> _Words:
    recovered = read.number("recovered")
    interrupted = f", {count(recovered, 'attempt')} interrupted" if recovered else ""
    return f"queue opened at {read['path']}: {count(read.number('messages'), 'message')}{interrupted}{read.why}"


def _spool_suspect(read: _Read) -> _Words:
    return f"the queue at {read['path']} is not trusted any more{read.why}"


def _spool_writable(read: _Read) -> _Words:
    return "the queue can be written again"


def _spool_unwritable(read: _Read) -> _Words:
    return f"what became of a message cannot be recorded, and is tried again{read.why}"


def _history_suspect(read: _Read) -> _Words:
    return f"events go into the log alone{read.why}"


def _history_recovered(read: _Read) -> _Words:
    return f"the history is written again; {count(read.number('lost'), 'event')} stand in the log alone"


def _memory_suspect(read: _Read) -> _Words:
    return f"policies cannot remember, and do nothing meanwhile, at {read['path']}{read.why}"


def _memory_recovered(read: _Read) -> _Words:
    return f"policies remember again, at {read['path']}"


# DKIM keys


def _dkim(words: str) -> Callable[[_Read], _Words]:
    def told(read: _Read) -> _Words:
        below = (f"record: {read['name']} TXT {read['record']}",) if read["record"] else ()
        return f"DKIM key {read['selector']} of {read['domain']} {words}{read.why}", below

    return told


def _dkim_failed(read: _Read) -> _Words:
    return f"the DKIM keys of {read['domain']} cannot be rotated{read.why}"


_WORDS: Mapping[Kind, Callable[[_Read], _Words]] = {
    Kind.SERVICE_STARTED: _service_started,
    Kind.SERVICE_FAILED: _service_failed,
    Kind.SERVICE_STOPPED: _service_stopped,
    Kind.WORKER_STARTED: _worker_started,
    Kind.WORKER_DIED: _worker_died,
    Kind.SETTINGS_LOADED: _settings_loaded,
    Kind.SETTINGS_REFUSED: _settings_refused,
    Kind.SESSION_REFUSED: _session_refused,
    Kind.SESSION_LASTS: _session_lasts,
    Kind.SESSION_CLOSED: _session_closed,
    Kind.TLS_FAILED: _tls_failed,
    Kind.LOGIN_ACCEPTED: _login_accepted,
    Kind.LOGIN_REFUSED: _login_refused,
    Kind.ACCOUNT_DISABLED: _account_disabled,
    Kind.ACCOUNT_ENABLED: _account_enabled,
    Kind.CAP_NEAR: _cap_near,
    Kind.CAP_REACHED: _cap_reached,
    Kind.COMMAND_REFUSED: _command_refused,
    Kind.SENDER_REFUSED: _sender_refused,
    Kind.RECIPIENT_REFUSED: _recipient_refused,
    Kind.MESSAGE_REFUSED: _message_refused,
    Kind.MESSAGE_ACCEPTED: _message_accepted,
    Kind.MESSAGE_CHECKED: _message_checked,
    Kind.DMARC_ROW: _dmarc_row,
    Kind.MESSAGE_DISCARDED: _message_discarded,
    Kind.POLICY_PRINTED: _policy_printed,
    Kind.POLICY_SAID: _policy_said,
    Kind.ATTEMPT_WAITS: _attempt_waits,
    Kind.ATTEMPT_STARTED: _attempt_started,
    Kind.RECIPIENT_DELIVERED: _recipient_delivered,
    Kind.RECIPIENT_DEFERRED: _recipient_deferred,
    Kind.RECIPIENT_FAILED: _recipient_failed,
    Kind.RECIPIENT_ENDED: _recipient_ended,
    Kind.MESSAGE_RELEASED: _by_operator("released"),
    Kind.MESSAGE_RETRIED: _by_operator("to be tried now"),
    Kind.MESSAGE_BOUNCED: _by_operator("returned to its sender"),
    Kind.MESSAGE_DELETED: _by_operator("deleted"),
    Kind.MESSAGE_HELD: _message_held,
    Kind.ROUTE_FOUND: _route_found,
    Kind.REPORT_QUEUED: _report_queued,
    Kind.DISK_LOW: _disk_low,
    Kind.DISK_RECOVERED: _disk_recovered,
    Kind.VOLUME_SUSPECT: _volume_suspect,
    Kind.VOLUME_RECOVERED: _volume_recovered,
    Kind.SPOOL_OPENED: _spool_opened,
    Kind.SPOOL_SUSPECT: _spool_suspect,
    Kind.SPOOL_WRITABLE: _spool_writable,
    Kind.SPOOL_UNWRITABLE: _spool_unwritable,
    Kind.HISTORY_SUSPECT: _history_suspect,
    Kind.HISTORY_RECOVERED: _history_recovered,
    Kind.MEMORY_SUSPECT: _memory_suspect,
    Kind.MEMORY_RECOVERED: _memory_recovered,
    Kind.DKIM_KEY_MADE: _dkim("made; its record is to be published"),
    Kind.DKIM_KEY_WAITS: _dkim("waits for its record"),
    Kind.DKIM_KEY_SIGNS: _dkim("signs from now on"),
    Kind.DKIM_KEY_RETIRED: _dkim("signs no more; its record has to stay"),
    Kind.DKIM_KEY_REMOVED: _dkim("removed; its record may go"),
    Kind.DKIM_ROTATION_FAILED: _dkim_failed,
    Kind.CERTIFICATE_LOADED: _certificate_loaded,
    Kind.CERTIFICATE_REFUSED: _certificate_refused,
    Kind.CHECK_FOUND: _check_found,
    Kind.CHECK_ENDED: _check_ended,
    Kind.FAULT: _fault,
}

_MOODS = {
    Kind.MESSAGE_ACCEPTED: Mood.GOOD,
    Kind.RECIPIENT_DELIVERED: Mood.GOOD,
    Kind.ATTEMPT_WAITS: Mood.SLOW,
    Kind.RECIPIENT_DEFERRED: Mood.SLOW,
    Kind.MESSAGE_HELD: Mood.SLOW,
    Kind.SESSION_REFUSED: Mood.BAD,
    Kind.LOGIN_REFUSED: Mood.BAD,
    Kind.COMMAND_REFUSED: Mood.BAD,
    Kind.SENDER_REFUSED: Mood.BAD,
    Kind.RECIPIENT_REFUSED: Mood.BAD,
    Kind.MESSAGE_REFUSED: Mood.BAD,
    Kind.MESSAGE_DISCARDED: Mood.BAD,
    Kind.MESSAGE_DELETED: Mood.BAD,
    Kind.RECIPIENT_FAILED: Mood.BAD,
    Kind.RECIPIENT_ENDED: Mood.BAD,
    Kind.TLS_FAILED: Mood.BAD,
}


def _mood(event: Event) -> Mood:
    found = _MOODS.get(event.kind)
    if found is not None:
        return found
    return Mood.BAD if event.level <= Level.WARNING else Mood.PLAIN

"""Delivery status notifications (RFC 3464 in the multipart/report of RFC 6522, RFC 6533 for addresses in UTF-8).

Three parts: a text for people, the same for programs, and the header of the original message. A report about several
recipients says of each what became of it, by the type of its outcome:

=============  ==============  ================================================================================
outcome        action          meaning
=============  ==============  ================================================================================
`Failed`       ``failed``      given up
`Deferred`     ``delayed``     tried on, until the time that the report names
`Delivered`    ``delivered``   in a mailbox of ours
`Delivered`    ``relayed``     taken by the host in `remote`, which does not report successes (RFC 3461 §5.2.2)
=============  ==============  ================================================================================

Much of what stands here came from outside: remote replies, the original header, ENVID and ORCPT. Each such value is
cut and made one line of printable characters before it is placed; a field is written by one function, `_field`; the
boundary holds 128 bits of chance. The report is 7-bit, by quoted-printable where needed; only an address in UTF-8
makes it 8-bit (and needs SMTPUTF8 if it is the reverse-path's).

Knowingly not here: the content of the original (RET=FULL): a header tells which message it was, and attachments have
made bounces a vehicle for others' mail. Who gets a report, and when, is decided in `mta.relay`.
"""

from __future__ import annotations

import binascii
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from mta.mail.envelope import Envelope, Recipient
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.queueid import Chance
from mta.message.header import fields, find_head, folded
from mta.message.identify import message_id
from mta.message.trace import date_time
from mta.smtp.address import Mailbox, path
from mta.smtp.reply import printable
from mta.smtp.status import Status

HEAD_MAXIMUM = 64 << 10
"""Octets of the original header that are returned, to the end of the last field that fits."""
TEXT_MAXIMUM = 1000
"""Characters of a remote reply or reason that are repeated: twice the longest reply line (RFC 5321 §4.5.3.1.5)."""
_WORD_MAXIMUM = 200
"""Characters without a space: four octets each keep a line below 998."""

_SEVEN_BIT = re.compile(rb"(?:[\t\x20-\x7e]{0,998}\r\n)*")
_NOT_XTEXT = re.compile(rb"[^\x21-\x7e]")

_SUBJECTS = {
    "failed": "Your message could not be delivered",
    "delayed": "Your message is delayed",
    "delivered": "Your message was delivered",
    "relayed": "Your message was passed on",
}
_MEANINGS = {
    "failed": "It could not be delivered to the following recipients, and will not be tried again:",
    "delayed": "It could not be delivered yet to the following recipients:",
    "delivered": "It was delivered to the following recipients:",
    "relayed": "It was passed on to a system that sends no confirmations, for the following recipients:",
}
_CLOSING = {
    "failed": "If you cannot tell why, write to {postmaster} and include this report.",
    "delayed": "You need not do anything: it is tried again and again until {until}. If that fails, you will be told.",
}
# By subject and detail of the status (RFC 3463 §3); 0 stands for all others
_ADVICE = {
    (0, 0): "The fault lies with the mail systems, not with your message. Send it again later.",
    (1, 0): "Look for a misspelt address, and send the message again to the right one.",
    (2, 0): "The mailbox cannot be used at present. Try to reach the recipient in another way.",
    (2, 2): "The mailbox is full. Try later, or reach the recipient in another way.",
    (3, 4): "The message is too large. Send it with smaller attachments, or a link in their place.",
    (4, 6): "The message went in a circle. The forwarding of this address has to be mended by its owner.",
    (6, 0): "The receiving system cannot take a message of this form. Send it in a simpler one.",
    (6, 7): "The receiving system takes no addresses with characters beyond ASCII. Ask for another address.",
    (7, 0): "The message was refused by a rule. Reach the recipient in another way, and tell them of the text above.",
}


@dataclass(frozen=True, slots=True)
class About:
    """What is told of one recipient."""

    recipient: Recipient
    outcome: Outcome

    @property
    def action(self) -> str:
        """The action-value (RFC 3464 §2.3.3)."""
        if isinstance(self.outcome, Failed):
            return "failed"
        if isinstance(self.outcome, Deferred):
            return "delayed"
        return "relayed" if self.outcome.remote else "delivered"


@dataclass(frozen=True, slots=True)
class Report:
    """What a report is made of. Times are wall times, seconds since 1970."""

    queue_id: str
    """Of the report."""
    hostname: str
    now: float
    """When it is written: right after the last attempt."""
    original_id: str
    """The queue id of the message that it is about, as are all that follow."""
    envelope: Envelope
    accepted: float
    until: float
    """When the attempts end."""
    about: tuple[About, ...]
    """At least one."""
    content: bytes


def write_report(report: Report, chance: Chance) -> bytes:
    """Write the content of the report. Raises ValueError if it is about mail from ``<>`` (RFC 5321 §4.5.5)."""
    if report.envelope.reverse_path is None:
        raise ValueError(f"{report.original_id} came from <>: there are no reports about it")
    head = find_head(report.content).octets
    original = message_id(head)
    actions = [action for action in _SUBJECTS if any(about.action == action for about in report.about)]
    ascii_only = _ascii_only(report)
    boundary = f"=_{report.queue_id}_{chance.getrandbits(128):032x}"
    top = [
        _field("From", "Mail Delivery System", f"<MAILER-DAEMON@{report.hostname}>"),
        _field("To", path(report.envelope.reverse_path)),
        _field("Subject", _SUBJECTS[actions[0]]),
        _field("Date", date_time(report.now)),
        _field("Message-ID", f"<{report.queue_id}@{report.hostname}>"),
        *([_field("In-Reply-To", original), _field("References", original)] if original else []),
        _field("Auto-Submitted", "auto-replied"),
        _field("MIME-Version", "1.0"),
        _field("Content-Type", "multipart/report;", "report-type=delivery-status;", f'boundary="{boundary}"'),
        _field("Content-Transfer-Encoding", "7bit" if ascii_only else "8bit"),
    ]
    parts = [
        _text_part("text/plain; charset=utf-8", "Notification", _human(report, actions)),
        _machine_part(report, ascii_only),
        _text_part("text/rfc822-headers", "Header of your message", _beginning(head)),
    ]
    delimiter = b"\r\n--" + boundary.encode()
    body = b"".join(delimiter + b"\r\n" + part for part in parts)
    return "".join(top).encode("utf-8", "replace") + body + delimiter + b"--\r\n"


def _human(report: Report, actions: Sequence[str]) -> bytes:
    opening = (
        f"This is the mail system at {report.hostname}. It speaks of the message that you sent on "
        f"{date_time(report.accepted)} (queue id {report.original_id}); its header is attached."
    )
    paragraphs = [[opening]]
    for action in actions:
        paragraphs.append([_MEANINGS[action]])
        paragraphs += [_told(about) for about in report.about if about.action == action]
        if action in _CLOSING:
            until, postmaster = date_time(report.until), f"postmaster@{report.hostname}"
            paragraphs.append([_CLOSING[action].format(until=until, postmaster=postmaster)])
    text = "\r\n\r\n".join("\r\n".join(map(_wrapped, lines)) for lines in paragraphs)
    return text.encode("utf-8", "replace") + b"\r\n"


def _told(about: About) -> list[str]:
    """The paragraph about one recipient, its lines not yet wrapped: what begins with spaces is indented."""
    recipient, outcome = about.recipient, about.outcome
    name = path(recipient.named)
    if recipient.original:
        name += f" (which leads to {path(recipient.mailbox)})"
    out = [name, f"  {outcome.status}: {outcome.reason}"]
    if outcome.reply:
        out += [f"  {outcome.remote or 'The receiving system'} said:", f"    {outcome.reply}"]
    if isinstance(outcome, Failed):
        out.append(f"  {_advice(outcome.status)}")
    return out


def _advice(status: Status) -> str:
    other = _ADVICE.get((status.subject, 0), _ADVICE[0, 0])
    return _ADVICE.get((status.subject, status.detail), other)


def _wrapped(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip(" ")))
    return "\r\n".join(textwrap.wrap(_plain(line), 72, initial_indent=indent, subsequent_indent=indent))


def _machine_part(report: Report, ascii_only: bool) -> bytes:
    envelope = report.envelope
    message = _field("Reporting-MTA", f"dns; {report.hostname}") + _field("Arrival-Date", date_time(report.accepted))
    if envelope.envid:
        message += _field("Original-Envelope-Id", _xtext(envelope.envid))
    groups = [message, *(_machine(about, report) for about in report.about)]
    text = "\r\n".join(groups)
    if ascii_only:
        return _entity("message/delivery-status", "Delivery report", "7bit", text.encode("ascii", "replace"))
    octets = text.encode("utf-8", "replace")
    return _entity("message/global-delivery-status", "Delivery report", "8bit", octets)


def _machine(about: About, report: Report) -> str:
    """Write the fields of one recipient (RFC 3464 §2.3)."""
    recipient, outcome = about.recipient, about.outcome
    out = []
    if recipient.orcpt:
        out.append(_field("Original-Recipient", *_words(recipient.orcpt)))
    elif recipient.original:
        out.append(_field("Original-Recipient", _address(recipient.original)))
    out += [
        _field("Final-Recipient", _address(recipient.mailbox)),
        _field("Action", about.action),
        _field("Status", str(outcome.status)),
    ]
    if outcome.remote:
        out.append(_field("Remote-MTA", "dns;", *_words(outcome.remote)[:1]))
    if outcome.reply:
        out.append(_field("Diagnostic-Code", "smtp;", *_words(outcome.reply)))
    elif not isinstance(outcome, Delivered):
        out.append(_field("Diagnostic-Code", "x-mta;", *_words(str(outcome.reason))))
    out.append(_field("Last-Attempt-Date", date_time(report.now)))
    if isinstance(outcome, Deferred):
        out.append(_field("Will-Retry-Until", date_time(report.until)))
    return "".join(out)


def _ascii_only(report: Report) -> bool:
    """Whether RFC 3464's own form will do, without RFC 6533's."""
    addresses = [str(report.envelope.reverse_path)]
    for about in report.about:
        addresses += [str(about.recipient.mailbox), str(about.recipient.original), about.recipient.orcpt]
    return all(map(str.isascii, addresses))


def _address(mailbox: Mailbox) -> str:
    """Name an address with its type (RFC 3464 §2.1.2, RFC 6533 §3)."""
    return f"{'rfc822' if mailbox.ascii else 'utf-8'}; {mailbox}"


def _beginning(head: bytes) -> bytes:
    """Return the first fields of `head`, up to `HEAD_MAXIMUM` octets."""
    length = 0
    for field in fields(head[: HEAD_MAXIMUM + 1]):
        if length + len(field.raw) > HEAD_MAXIMUM:
            break
        length += len(field.raw)
    return head[:length]


def _text_part(media_type: str, description: str, body: bytes) -> bytes:
    """Make a text part: as it is where that is 7-bit and of lines that may travel, else in quoted-printable."""
    if _SEVEN_BIT.fullmatch(body):
        return _entity(media_type, description, "7bit", body)
    # Line by line, so that a bare CR or LF is encoded too; the LF of binascii are those of its soft line breaks.
    lines = (binascii.b2a_qp(line, istext=False).replace(b"\n", b"\r\n") for line in body.split(b"\r\n"))
    return _entity(media_type, description, "quoted-printable", b"\r\n".join(lines))


def _entity(media_type: str, description: str, encoding: str, body: bytes) -> bytes:
    header = (
        _field("Content-Type", media_type)
        + _field("Content-Description", description)
        + _field("Content-Transfer-Encoding", encoding)
    )
    return header.encode("ascii") + b"\r\n" + body


def _field(name: str, *words: str) -> str:
    """Write one field: nothing in `words` can end it."""
    return folded([f"{name}:", *(printable(word, utf8=True) for word in words)]) + "\r\n"


def _words(text: str) -> list[str]:
    return [
        word[start : start + _WORD_MAXIMUM]
        for word in _plain(text).split()
        for start in range(0, len(word), _WORD_MAXIMUM)
    ]


def _plain(text: str) -> str:
    """Make one line of printable characters, cut to `TEXT_MAXIMUM`."""
    return printable(" ".join(text[:TEXT_MAXIMUM].split()), utf8=True)


def _xtext(text: str) -> str:
    """Encode what is no printable ASCII (RFC 3461 §4 has the form); the rest stays readable."""
    octets = text[:TEXT_MAXIMUM].encode("utf-8", "replace")
    return _NOT_XTEXT.sub(lambda octet: b"+%02X" % octet[0][0], octets).decode("ascii")

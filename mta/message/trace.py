r"""Trace fields (RFC 5321 §4.4): Received, Return-Path, Delivered-To; octets that go before the content.

They are built once for each message on its way in, so they are put together from text, without the `email` package::

    Received: from client.example.net (rdns.example.net [192.0.2.1])
        by mx.example.org with ESMTPS id 0abcdefgh00jkmnpqr
        (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)
        for <bob@example.org>; Sat, 22 Nov 2025 20:15:00 +0000

Text that the peer chose (HELO, the name of its address in DNS) cannot leave its place: an octet that stands in no
domain or address literal becomes ``?``, and what is too long is cut. A `Mailbox` is safe as it is: its grammar admits
no control characters.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime

from mta.message.header import folded
from mta.smtp.address import Mailbox, path

_DOMAIN_MAXIMUM = 255
"""Octets of a domain (RFC 5321 §4.5.3.1.2)."""

_NOT_DOMAIN = re.compile(r"[^A-Za-z0-9._:\[\]\-]")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def received(
    *,
    helo: str,
    address: str,
    hostname: str,
    queue_id: str,
    wall: float,
    rdns: str = "",
    esmtp: bool = True,
    tls: tuple[str, str] | None = None,
    authenticated: bool = False,
    smtputf8: bool = False,
    recipient: Mailbox | None = None,
    uid: int | None = None,
) -> bytes:
    """Make the Received field of a message that arrives at wall time `wall`.

    `helo` is what the peer said, in any form; `address` its IP address as text, `rdns` the verified name of that;
    `hostname` is ours; `tls` is protocol version and cipher; `recipient` is the one forward-path that RCPT named,
    None where there were several, which must not learn of each other (RFC 5321 §7.6). `uid` is the user of this
    machine who handed it in: then it came from nowhere else, and by no protocol that RFC 3848 names.
    """
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    peer = (f"({_domain(rdns)}", f"{literal})") if rdns else (f"({literal})",)
    lines = [
        (f"Received: from {_domain(helo) or 'unknown'}", *peer),
        (f"\tby {hostname}", f"with {_with(esmtp, tls is not None, authenticated, smtputf8)} id {queue_id}"),
    ]
    if uid is not None:
        lines = [(f"Received: by {hostname}", f"(mta, from userid {uid})"), (f"\tid {queue_id}",)]
    if tls:
        lines.append((f"\t(using {tls[0]} with cipher {tls[1]})",))
    if recipient:
        lines.append((f"\tfor {path(recipient)};", date_time(wall)))
    else:
        lines[-1] = (*lines[-1][:-1], lines[-1][-1] + ";")
        lines.append((f"\t{date_time(wall)}",))
    return ("\r\n".join(map(folded, lines)) + "\r\n").encode()


def return_path(reverse_path: Mailbox | None) -> bytes:
    """Make the field that keeps the reverse-path at final delivery; `header.without_return_path` removes others."""
    return f"Return-Path: {path(reverse_path)}\r\n".encode()


def delivered_to(mailbox: Mailbox) -> bytes:
    """Make the field that `header.delivered_before` recognises."""
    return f"Delivered-To: {mailbox}\r\n".encode()


def date_time(wall: float) -> str:
    """Render a wall time (seconds since 1970) as a date-time in UTC (RFC 5322 §3.3)."""
    return _date_time(int(wall))


@functools.lru_cache(maxsize=16)
def _date_time(second: int) -> str:
    moment = datetime.fromtimestamp(second, UTC)
    # Not %a and %b: those follow the locale.
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day} {month} {moment.year:04} {moment:%H:%M:%S} +0000"


def _domain(text: str) -> str:
    return _NOT_DOMAIN.sub("?", text[:_DOMAIN_MAXIMUM])


def _with(esmtp: bool, tls: bool, authenticated: bool, smtputf8: bool) -> str:
    """Name the protocol (RFC 3848, RFC 6531 §4.3): one that began with HELO has no name of its own under TLS."""
    if not esmtp:
        return "SMTP"
    name = "UTF8SMTP" if smtputf8 else "ESMTP"
    return f"{name}{'S' if tls else ''}{'A' if authenticated else ''}"

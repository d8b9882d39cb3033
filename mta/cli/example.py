"""Facts for `mta policy`: an example with everything in it, what is known when, and a message from a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.mailauth.result import (
    Authentication,
    Dkim,
    DkimResult,
    Dmarc,
    DmarcPolicy,
    DmarcResult,
    Iprev,
    IprevResult,
    Spf,
    SpfResult,
)
from mta.message.header import find_head
from mta.policy.changes import MemoryBody
from mta.policy.facts import Facts, Stage
from mta.smtp.address import Mailbox

KNOWN_FROM: Mapping[Stage, tuple[str, ...]] = {
    Stage.HELO: ("early", "tls", "helo", "extended"),
    Stage.AUTH: ("login", "mechanism"),
    Stage.MAIL: ("sender", "size", "smtputf8", "helo_spf"),
    Stage.RCPT: ("recipient", "spf"),
    Stage.DATA: ("recipients",),
    Stage.HEADERS: ("head",),
    Stage.MESSAGE: ("body", "authentication"),
    Stage.ROUTE: ("queue_id", "destination"),
    Stage.ATTEMPT: ("outcome", "reply"),
}
"""The fields of `Facts` that a stage brings; the others are known from the beginning."""

_HEAD = (
    b"From: Ann Example <ann@example.net>\r\n"
    b"To: bob@example.org\r\n"
    b"Subject: Lunch\r\n"
    b"Date: Mon, 7 Sep 2026 11:58:00 +0000\r\n"
    b"Message-ID: <lunch@example.net>\r\n"
)
_BODY = b"Half past twelve?\r\n"
_IPREV = Iprev(
    IprevResult.PASS, Reason("192.0.2.25 has the name mail.example.net, which has it", "PTR"), "mail.example.net"
)
_SPF = Spf(SpfResult.PASS, "mailfrom", "example.net", Reason("mx of v=spf1 mx -all", "TXT example.net"))

EXAMPLE = Facts(
    Stage.ATTEMPT,
    session="0example",
    address="192.0.2.25",
    port=40000,
    iprev=_IPREV,
    tls=TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256),
    helo="mail.example.net",
    extended=True,
    sender=Mailbox("ann", "example.net"),
    size=len(_HEAD) + 2 + len(_BODY),
    helo_spf=Spf(SpfResult.NONE, "helo", "mail.example.net", Reason("no record", "TXT mail.example.net")),
    spf=_SPF,
    recipient=Mailbox("bob", "example.org"),
    recipients=(Mailbox("bob", "example.org"),),
    queue_id="0example00000000ab",
    head=_HEAD,
    body=MemoryBody(_BODY),
    authentication=Authentication(
        iprev=_IPREV,
        spf=_SPF,
        dkim=(
            Dkim(DkimResult.PASS, "example.net", "s2026", Reason("it verifies", "TXT s2026._domainkey.example.net")),
        ),
        dmarc=Dmarc(
            DmarcResult.PASS,
            Reason("SPF and DKIM are aligned", "TXT _dmarc.example.net"),
            domain="example.net",
            policy=DmarcPolicy.REJECT,
            spf_aligned=True,
            dkim_aligned=True,
        ),
    ),
    destination="example.org",
    outcome="deferred",
    reply="450 4.7.0 not now",
)
"""Everything that may be known, up to the last stage."""

_LINE_END = re.compile(rb"\r\n|\r|\n")


def read_message(octets: bytes) -> dict[str, Any]:
    """The fields of `Facts` that a message fills; any line ends become CRLF."""
    content = _LINE_END.sub(b"\r\n", octets)
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    head = find_head(content)
    rest = content[len(head.octets) :]
    body = rest if head.separator else rest[2:]
    return {"head": head.octets, "body": MemoryBody(body), "size": len(content)}

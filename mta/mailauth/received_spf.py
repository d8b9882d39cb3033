"""The field Received-SPF (RFC 7208 §9.1), for those who want it beside Authentication-Results; pure.

::

    header-field   = "Received-SPF:" [CFWS] result FWS [comment FWS] [ key-value-list ] CRLF
    key-value-list = key-value-pair *( ";" [CFWS] key-value-pair ) [";"]
    key-value-pair = key [CFWS] "=" ( dot-atom / quoted-string )

    Received-SPF: pass (...) receiver=mx.example.org; identity=mailfrom;
            envelope-from="alice@example.net"; helo=mx.example.net; client-ip=192.0.2.1

What a peer chose is quoted, or left out where it has a control character or 8-bit (`mta.mailauth.fieldtext`).
"""

from __future__ import annotations

from mta.mailauth import fieldtext
from mta.mailauth.result import Spf
from mta.message.header import folded
from mta.smtp.address import Mailbox


def received_spf(spf: Spf, *, hostname: str, address: str, helo: str, sender: Mailbox | None) -> bytes:
    """Make the field, with its CRLF, from a check and what it was about.

    `hostname` is ours; `address` the IP address of the peer, as text; `helo` what it said; `sender` the reverse-path.
    """
    pairs = [
        ("receiver", hostname),
        ("identity", spf.identity),
        ("envelope-from", str(sender) if sender else ""),
        ("helo", helo),
        ("client-ip", address),
    ]
    written = [(key, fieldtext.dot_atom(text)) for key, text in pairs if text]
    words = [f"{key}={value};" for key, value in written if value]
    if words:
        words[-1] = words[-1].removesuffix(";")
    start = f"Received-SPF: {spf.result.value}"
    return (folded([start, *fieldtext.comment(spf.reason.text), *words]) + "\r\n").encode("ascii")

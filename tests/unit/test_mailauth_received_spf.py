"""`mta.mailauth.received_spf` (RFC 7208 §9.1)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.reason import Reason
from mta.mailauth.received_spf import received_spf
from mta.mailauth.result import Spf, SpfResult
from mta.message.header import fields, values
from mta.smtp.address import Mailbox

SPF = Spf(SpfResult.PASS, "mailfrom", "example.net", Reason("192.0.2.1 is permitted", "a record"))
# §9.1, on the unfolded value: result, comment, key-value-list
_ATOM = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+"
_PAIR = rf"[a-z-]+=(?:{_ATOM}(?:\.{_ATOM})*|\"(?:[^\"\\]|\\.)*\")"
_VALUE = re.compile(rf"[a-z]+(?:[ \t]\([^()\\]*\))?(?:[ \t]{_PAIR}(?:;[ \t]{_PAIR})*)?")


def test_received_spf() -> None:
    """All keys, folded."""
    written = received_spf(
        SPF, hostname="mx.example.org", address="192.0.2.1", helo="mx.example.net", sender=Mailbox("a", "example.net")
    )
    assert written == (
        b"Received-SPF: pass (192.0.2.1 is permitted) receiver=mx.example.org;\r\n"
        b'\tidentity=mailfrom; envelope-from="a@example.net"; helo=mx.example.net;\r\n'
        b"\tclient-ip=192.0.2.1\r\n"
    )


def test_null_sender_and_ipv6() -> None:
    """For <> there is no envelope-from; an address with colons is quoted."""
    written = received_spf(SPF, hostname="mx.example.org", address="2001:db8::1", helo="[192.0.2.1]", sender=None)
    assert b"envelope-from" not in written
    assert b'client-ip="2001:db8::1"' in written
    assert b'helo="[192.0.2.1]"' in written


@pytest.mark.parametrize("helo", ["a..b", ".", "a.", "x;y", 'x"y', "x\\", "(x)", "a b"])
def test_quoted(helo: str) -> None:
    """What is no dot-atom is quoted."""
    written = received_spf(SPF, hostname="mx", address="192.0.2.1", helo=helo, sender=None)
    assert _VALUE.fullmatch(values(written, b"received-spf")[0].decode())
    assert b'helo="' in written


@given(st.text(max_size=400), st.text(max_size=80), st.text(max_size=80), st.text(max_size=400))
def test_nothing_is_injected(helo: str, local_part: str, domain: str, reason: str) -> None:
    """Whatever the peer says, it is one field of the grammar, in printable ASCII."""
    check = Spf(SpfResult.FAIL, "mailfrom", domain, Reason(reason))
    written = received_spf(
        check, hostname="mx.example.org", address="192.0.2.1", helo=helo, sender=Mailbox(local_part, domain)
    )
    assert [field.name for field in fields(written)] == [b"received-spf"]
    assert all(len(line) <= 998 for line in written.split(b"\r\n"))
    assert re.fullmatch(rb"(?:[\t\x20-\x7e]|\r\n(?=[\t]|\Z))+", written)
    assert _VALUE.fullmatch(values(written, b"received-spf")[0].decode())

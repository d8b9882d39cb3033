"""Tests of `mta.mailauth.verification`."""

from __future__ import annotations

from twisted.internet import defer
from twisted.internet.task import Clock

from mta.mailauth.result import ArcResult, Authentication
from mta.mailauth.verification import Verifier
from mta.settings.mailauth import MailauthSettings
from tests.doubles.arc import WALL, forwarded, hop, name_of, zone
from tests.doubles.sync import result

HEAD = b"From: alice@author.example\r\nSubject: hello\r\n"
BODY = b"Hello\r\n"
SETTINGS = MailauthSettings(spf=False, dmarc=False, iprev=False)


def test_chain_whose_keys_come_too_late() -> None:
    """When the deadline passes the chain has failed: errors of DNS are permanent (RFC 8617 §5.2.1)."""
    resolver, clock = zone([]), Clock()
    resolver.zone.add(name_of(hop(1)), "TXT", "!SILENT")
    verifier = Verifier(resolver, clock, lambda: WALL, "mx.example.org", lambda: SETTINGS)
    session = verifier.session("192.0.2.1")
    assert session is not None
    check = session.message(forwarded(HEAD, BODY, 1))
    check.body(BODY)
    known: list[Authentication] = []
    finishing = defer.Deferred.fromCoroutine(check.finish()).addCallback(known.append)
    clock.advance(SETTINGS.deadlines.message - 1)
    assert known == []
    clock.advance(1)
    result(finishing)
    assert known[0].arc is not None
    assert (known[0].arc.result, known[0].arc.reason.source) == (ArcResult.FAIL, "RFC 8617 §5.2.1")
    assert resolver.silent[0].called

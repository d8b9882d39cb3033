"""What each event counts as."""

from __future__ import annotations

from typing import Any

import pytest

from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.observe import metric
from mta.observe.counters import Counters
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.observe.metric import Metric
from mta.observe.recent import KEPT, Recent
from mta.observe.tally import Tally, labels_of
from mta.relay.remote_outcome import Way, outcome_of
from mta.smtp.client import Stage
from mta.smtp.exchange import RecipientResult
from mta.smtp.reply_reader import ServerReply


class Counting:
    """A journal with one sink that counts."""

    def __init__(self) -> None:
        self.counters = Counters(Tally())
        self.journal = Journal(lambda: 0.0, [self.counters])
        self.note = self.journal.note

    def of(self, counted: Metric) -> dict[tuple[str, ...], Any]:
        """What was counted of a metric, without what is 0."""
        assert self.journal.failures == 0
        series = self.counters.tally.samples()[counted.name]
        return {labels_of(key): number for key, number in series.items() if number}


@pytest.fixture
def counting() -> Counting:
    """A new one."""
    return Counting()


def test_an_accepted_message_counts_with_its_size(counting: Counting) -> None:
    """A message counts for its service and place, and its octets for the service."""
    counting.note(Kind.MESSAGE_ACCEPTED, service="mx", place="maildir", size=4096)
    assert counting.of(metric.MESSAGES_ACCEPTED) == {("mx", "maildir"): 1}
    assert counting.of(metric.ACCEPTED_BYTES) == {("mx",): 4096}
    assert counting.of(metric.EVENTS) == {("message.accepted", "info"): 1}


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        (Kind.SESSION_REFUSED, metric.SESSIONS_REFUSED),
        (Kind.RECIPIENT_REFUSED, metric.RECIPIENTS_REFUSED),
        (Kind.MESSAGE_REFUSED, metric.MESSAGES_REFUSED),
        (Kind.MESSAGE_DISCARDED, metric.MESSAGES_DISCARDED),
    ],
)
def test_a_refusal_counts_for_its_service(counting: Counting, kind: Kind, counted: Metric) -> None:
    """Each kind of refusal has a metric of its own."""
    counting.note(kind, service="smtpd", address="192.0.2.1", reply="550 no")
    assert counting.of(counted) == {("smtpd",): 1}


def test_logins_count_by_mechanism_and_outcome(counting: Counting) -> None:
    """A login that fails and one that succeeds are told apart."""
    counting.note(Kind.LOGIN_ACCEPTED, mechanism="PLAIN")
    counting.note(Kind.LOGIN_REFUSED, mechanism="LOGIN")
    assert counting.of(metric.LOGINS) == {("PLAIN", "accepted"): 1, ("LOGIN", "refused"): 1}


def test_a_session_counts_by_its_version_of_tls(counting: Counting) -> None:
    """A session that stayed in clear text counts as one without TLS."""
    counting.note(Kind.SESSION_CLOSED, service="mx", tls="TLSv1.3 TLS_AES_256_GCM_SHA384")
    counting.note(Kind.SESSION_CLOSED, service="mx", tls=None)
    assert counting.of(metric.TLS_SESSIONS) == {("mx", "TLSv1.3"): 1, ("mx", "none"): 1}
    assert counting.counters.ended == {"mx": 2}


def test_handshakes_that_fail_count_by_direction(counting: Counting) -> None:
    """A handshake in a session is a peer's, one about a message is ours with another server."""
    counting.note(Kind.TLS_FAILED, session="1-2f")
    counting.note(Kind.TLS_FAILED, queue_id="0abc")
    counting.note(Kind.TLS_FAILED, queue_id="0abc")
    assert counting.of(metric.TLS_FAILURES) == {("in",): 1, ("out",): 2}


def test_a_delivery_counts_with_its_way_reply_and_time(counting: Counting) -> None:
    """What another server took counts by outcome, reply code, version of TLS and the time it took."""
    tls = TlsInfo("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", 128)
    taken = RecipientResult(Stage.CONTENT, ServerReply(250, (b"2.0.0 ok, over TLSv1.3",)))
    for protection in (f"over {tls}", "in clear text (no STARTTLS offered)"):
        outcome = outcome_of(taken, Way("mx.example.net [192.0.2.1]:25", protection))
        told = {"remote": outcome.remote, "reply": outcome.reply}
        counting.note(Kind.RECIPIENT_DELIVERED, outcome.reason, **told, delay=0.3)
    counting.note(Kind.RECIPIENT_DELIVERED, Reason("in the Maildir of bob"), delay=1)
    assert counting.of(metric.DELIVERIES) == {("delivered",): 3}
    assert counting.of(metric.DELIVERY_TLS) == {("TLSv1.2",): 1, ("none",): 1}
    assert counting.of(metric.REMOTE_REPLIES) == {("250",): 2}
    assert counting.of(metric.DELIVERY_SECONDS)[("",)]["sum"] == pytest.approx(1.6)


def test_an_attempt_that_fails_is_no_delivery(counting: Counting) -> None:
    """Delays and failures count by outcome and reply; what is no reply code is told as other."""
    counting.note(Kind.RECIPIENT_DEFERRED, reply="451 4.7.1 greylisted", delay=4, remote="x")
    counting.note(Kind.RECIPIENT_FAILED, reply="nonsense", delay=4, remote="x")
    assert counting.of(metric.DELIVERIES) == {("deferred",): 1, ("failed",): 1}
    assert counting.of(metric.REMOTE_REPLIES) == {("451",): 1, ("other",): 1}
    assert counting.of(metric.DELIVERY_SECONDS)[("",)]["sum"] == 0
    assert counting.of(metric.DELIVERY_TLS) == {}


def test_mail_authentication_counts_by_method_and_result(counting: Counting) -> None:
    """Each check counts with its result and without whose it was."""
    counting.note(
        Kind.MESSAGE_CHECKED, disposition="none", spf="pass example.net: ip4", dkim="fail: body", dmarc="none: x"
    )
    assert counting.of(metric.MAILAUTH_RESULTS) == {("spf", "pass"): 1, ("dkim", "fail"): 1, ("dmarc", "none"): 1}
    assert counting.of(metric.MAILAUTH_DISPOSITIONS) == {("none",): 1}


def test_what_policies_say_counts_though_the_log_does_not_show_it(counting: Counting) -> None:
    """A verdict counts whatever its level."""
    counting.note(Kind.POLICY_SAID, level=Level.DEBUG, policy="helo", verdict="Reject", stage="helo")
    assert counting.of(metric.VERDICTS) == {("helo", "reject"): 1}


def test_a_trouble_lasts_until_its_end_is_told(counting: Counting) -> None:
    """Two volumes in trouble are two; one that recovers is one less; one that is told twice is one."""
    for path in ("/a", "/b", "/b"):
        counting.note(Kind.VOLUME_SUSPECT, path=path)
    assert counting.counters.troubles()["volume.suspect"] == 2
    counting.note(Kind.VOLUME_RECOVERED, path="/b")
    counting.note(Kind.DISK_LOW, path="/a")
    assert counting.counters.troubles()["volume.suspect"] == 1
    assert counting.counters.troubles()["disk.low"] == 1


def test_every_kind_of_event_can_be_counted_without_its_fields(counting: Counting) -> None:
    """No event makes the sink fail, whatever fields it lacks."""
    for kind in Kind:
        counting.note(kind)
    assert sum(counting.of(metric.EVENTS).values()) == len(Kind)
    assert counting.of(metric.FAULTS) == {("",): 1}


def test_the_last_events_worth_a_look_are_remembered() -> None:
    """Warnings and notices are kept, with what they are about and why, up to the bound; the rest is passed by."""
    recent = Recent()
    journal = Journal(lambda: 5.0, [recent])
    journal.note(Kind.MESSAGE_ACCEPTED, sender="a@example.org")
    for number in range(KEPT + 5):
        reason = Reason("wrong password " + "x" * 1000)
        journal.note(Kind.LOGIN_REFUSED, reason, level=Level.NOTICE, login=f"bob{number}", address="192.0.2.1")
    events = recent.events()
    assert len(events) == KEPT
    assert events[-1]["about"] == f"bob{KEPT + 4}"
    assert events[-1]["kind"] == "login.refused"
    assert events[-1]["time"] == 5.0
    assert events[-1]["level"] == "notice"
    assert len(events[-1]["reason"]) == 200

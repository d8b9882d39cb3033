"""Greylisting."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.task import Clock

from mta.mailauth.result import Authentication
from mta.policy.facts import Stage
from mta.policy.greylist import COUNT_APART, Greylist
from mta.policy.memory import Memory
from mta.policy.network import Exempt
from mta.policy.verdict import Defer
from mta.settings.policy import GreylistSettings
from mta.smtp.address import Mailbox
from tests.doubles.journal import RecordingJournal
from tests.doubles.policy import ALICE, dkim, facts, said, spf
from tests.doubles.sync import inline, result

DAY = 86400.0
BOB = Mailbox("bob", "example.org")


class World:
    """The policy, with a memory in a file."""

    def __init__(self, path: Path | str = ":memory:", **settings: Any) -> None:
        self.clock = Clock()
        self.journal = RecordingJournal()
        self.memory = Memory(str(path), self.clock, lambda: 1e9 + self.clock.seconds(), inline, self.journal)
        if path == ":memory:":  # no file at all
            self.memory._loaded = True
            self.memory._work_later = lambda seconds: None  # type: ignore[method-assign]
        exempt = Exempt((ip_network("198.51.100.0/24"),))
        self.policy = Greylist(GreylistSettings(**settings), self.memory, self.clock, exempt)

    def ask(self, stage: Stage = Stage.RCPT, **known: Any) -> Defer | None:
        """Ask."""
        return self.policy.ask(facts(stage, **known))

    def deferred(self, *args: Any, **known: Any) -> bool:
        """Whether mail is deferred."""
        return self.ask(*args, **known) is not None

    def passes(self, **known: Any) -> None:
        """Mail comes, and comes again."""
        assert self.deferred(**known)
        self.clock.advance(300)
        assert not self.deferred(**known)


def test_strangers_come_again() -> None:
    """The first attempt is deferred, so is one before its time; after the delay mail passes, and is known."""
    world = World()
    verdict = world.ask()
    assert verdict is not None
    assert said(verdict) == (
        "450 4.7.1 Greylisted, as this is the first mail of its kind; try again in 300 s",
        "greylisted: mail from the network of 192.0.2.7 by <sender@sender.example> has not come again yet, "
        "try again in 300 s",
        "RFC 6647",
    )
    world.clock.advance(299.5)
    verdict = world.ask()
    assert verdict is not None
    assert verdict.reply.text.endswith("try again in 1 s")
    world.clock.advance(0.5)
    assert not world.deferred()
    assert not world.deferred()


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"address": "192.0.2.200"}, True),
        ({"address": "192.0.3.7"}, False),
        ({"sender": Mailbox("SENDER", "Sender.Example".lower())}, True),
        ({"sender": Mailbox("other", "sender.example")}, False),
        ({"recipient": Mailbox("Alice", "example.org")}, True),
        ({"recipient": BOB}, False),
    ],
)
def test_what_counts_as_the_same(other: dict[str, Any], same: bool) -> None:
    """Network, reverse-path and recipient, without regard to case."""
    world = World()
    world.ask()
    world.clock.advance(300)
    assert world.deferred(**other) is not same


def test_a_retry_after_the_window_is_new() -> None:
    """Who comes again after two days is a stranger."""
    world = World()
    world.ask()
    world.clock.advance(2 * DAY)
    assert world.deferred()
    world.clock.advance(300)
    assert not world.deferred()


def test_who_has_passed_is_known_for_36_days_after_the_last_mail() -> None:
    """Each mail begins the time anew; a month without mail is not forgotten, 36 days are."""
    world = World()
    world.passes()
    world.clock.advance(35 * DAY)
    assert not world.deferred()
    world.clock.advance(35 * DAY)
    assert not world.deferred()
    world.clock.advance(36 * DAY)
    assert world.deferred()


def test_a_network_that_passed_often_is_no_stranger() -> None:
    """After five passes nothing from the network is delayed; other networks are."""
    world = World()
    for number in range(5):
        assert world.deferred(recipient=Mailbox(f"new{number}", "example.org"))
        world.passes(sender=Mailbox(f"s{number}", "sender.example"))
        world.clock.advance(COUNT_APART)
    assert not world.deferred(sender=Mailbox("s9", "elsewhere.example"))
    assert world.deferred(sender=Mailbox("s9", "elsewhere.example"), address="192.0.3.1")


def test_one_message_to_many_counts_once_for_its_network() -> None:
    """Passes within an hour are one: five recipients do not make a network known."""
    world = World()
    recipients = [Mailbox(f"r{number}", "example.org") for number in range(10)]
    assert all(world.deferred(recipient=each) for each in recipients)
    world.clock.advance(300)
    assert not any(world.deferred(recipient=each) for each in recipients)
    assert world.deferred(sender=Mailbox("s9", "elsewhere.example"))


def test_with_spf_pass_the_domain_stands_for_the_network() -> None:
    """A large sender may come again from anywhere; from then on nothing of its domain is delayed."""
    world = World()
    verdict = world.ask(spf=spf())
    assert verdict is not None
    assert verdict.reason.text.startswith("greylisted: mail of sender.example (SPF or DKIM pass) by <sender@")
    world.clock.advance(300)
    assert not world.deferred(spf=spf(), address="203.0.113.9")
    assert not world.deferred(spf=spf(), address="203.0.113.99", recipient=BOB)
    assert world.deferred(spf=spf("pass", "other.example"), recipient=BOB)
    assert world.deferred(spf=spf("softfail"), recipient=BOB, address="203.0.113.99")


def test_a_domain_needs_so_many_passes() -> None:
    """The number is a setting."""
    world = World(domain_passes=2)
    world.passes(spf=spf())
    assert world.deferred(spf=spf(), recipient=BOB)
    world.clock.advance(COUNT_APART)
    assert not world.deferred(spf=spf(), recipient=BOB)
    assert not world.deferred(spf=spf(), recipient=Mailbox("carol", "example.org"))


def test_the_null_reverse_path_is_judged_at_data() -> None:
    """MAIL FROM:<> and RCPT alone, a callback, gets its answer; a bounce is deferred at DATA."""
    world = World()
    assert world.policy.stages == {Stage.RCPT, Stage.DATA}
    assert not world.deferred(sender=None)
    assert not world.deferred(Stage.DATA)
    verdict = world.ask(Stage.DATA, sender=None, recipients=(ALICE, BOB))
    assert verdict is not None
    assert "by <> has" in verdict.reason.text
    world.clock.advance(300)
    assert not world.deferred(Stage.DATA, sender=None, recipients=(ALICE, BOB))
    assert not world.deferred(Stage.DATA, sender=None, recipients=())


def test_one_recipient_that_waits_defers_the_message() -> None:
    """At DATA one reply is for all: the longest wait is told."""
    world = World()
    world.ask(Stage.DATA, sender=None, recipients=(ALICE,))
    world.clock.advance(300)
    verdict = world.ask(Stage.DATA, sender=None, recipients=(ALICE, BOB))
    assert verdict is not None
    assert verdict.reply.text.endswith("300 s")


def test_at_the_end_of_the_message_a_dkim_pass_counts() -> None:
    """With at = "message" a domain that is known is let through by its signature, from wherever."""
    world = World(at="message")
    assert world.policy.stages == {Stage.MESSAGE}
    signed = Authentication(dkim=(dkim("spam.example", "fail"), dkim("sender.example")))
    assert world.deferred(Stage.MESSAGE, authentication=signed)
    world.clock.advance(300)
    assert not world.deferred(Stage.MESSAGE, authentication=signed)
    assert not world.deferred(Stage.MESSAGE, authentication=signed, address="203.0.113.9", recipients=(BOB,))
    assert world.deferred(Stage.MESSAGE, address="203.0.113.9", recipients=(BOB,))
    failed = Authentication(dkim=(dkim("sender.example", "fail"),))
    assert world.deferred(Stage.MESSAGE, authentication=failed, address="203.0.113.9", recipients=(BOB,))


@pytest.mark.parametrize(
    "known",
    [
        {"service": "smtpd"},
        {"login": "alice"},
        {"address": "127.0.0.1"},
        {"address": "198.51.100.1"},
        {"address": "203.0.113.1"},
    ],
)
def test_who_is_exempt(known: dict[str, str]) -> None:
    """smtpd, logins, loopback, networks of ``[policy] exempt`` and of the table."""
    world = World(exempt=(ip_network("203.0.113.0/24"),))
    assert not world.deferred(**known)
    assert len(world.memory) == 0


def test_a_rehearsal_remembers_nothing() -> None:
    """It is told what would be."""
    world = World()
    assert world.deferred(rehearsal=True)
    assert len(world.memory) == 0
    world.ask()
    world.clock.advance(300)
    assert not world.deferred(rehearsal=True)
    world.clock.advance(2 * DAY)
    assert world.deferred(), "the rehearsed pass was none"


def test_it_survives_a_restart(tmp_path: Path) -> None:
    """Who came before the restart may come again after it."""
    path = tmp_path / "greylist.sqlite"
    world = World(path)
    assert world.deferred()
    result(defer.ensureDeferred(world.memory.stop()))
    again = World(path)
    assert again.deferred()
    again.clock.advance(300)
    assert not again.deferred()
    result(defer.ensureDeferred(again.memory.stop()))


def test_a_broken_file_defers_nobody(tmp_path: Path) -> None:
    """Without a memory everybody would be a stranger for ever: then nobody is."""
    path = tmp_path / "greylist.sqlite"
    path.write_bytes(b"no database" * 100)
    world = World(path)
    assert not world.deferred()
    assert not world.deferred(Stage.DATA, sender=None)
    assert len(world.memory) == 0


@given(st.lists(st.floats(1, DAY), min_size=1, max_size=30))
def test_mail_that_is_tried_again_gets_through(gaps: list[float]) -> None:
    """Whatever the intervals, mail tried again for longer than the delay and at least daily passes, and stays known."""
    world = World()
    first = world.clock.seconds()
    for gap in gaps:
        assert world.deferred() == (world.clock.seconds() - first < 300)
        world.clock.advance(gap)

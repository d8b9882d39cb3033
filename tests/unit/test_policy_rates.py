"""Limits by time, and the tables that they stand on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mta.board.alone import NAMES_MAXIMUM, Alone, OwnTable
from mta.policy.facts import Stage
from mta.policy.network import Exempt
from mta.policy.rate import HOUR, Rate, Tally
from mta.policy.rates import Counters, Rates
from tests.doubles.policy import facts, policy_settings, said, spf


class World:
    """A policy with its clock."""

    def __init__(self, toml: str, exempt: Exempt | None = None) -> None:
        self.clock = Clock()
        self.counters = Counters(Alone(), self.clock.seconds)
        settings = policy_settings(toml).rates
        assert settings is not None
        self.policy = Rates(settings, self.counters, exempt or Exempt())

    def ask(self, stage: Stage, **known: Any) -> str:
        """The reply; empty where there is none."""
        verdict = self.policy.ask(facts(stage, **known))
        return str(verdict.reply) if verdict is not None else ""


def test_an_hourly_rate_refills_and_forgets() -> None:
    """Three an hour: the fourth is refused, after twenty minutes there is one more; names do not share."""
    now = 0.0
    rate = Rate(OwnTable(), lambda: now)
    assert [rate.take("a", 3) for _ in range(4)] == [True, True, True, False]
    assert rate.wait("a", 3) == 1200.0
    assert rate.take("b", 3)
    now = 1200.0
    assert rate.wait("a", 3) == 0.0
    assert [rate.take("a", 3) for _ in range(2)] == [True, False]
    now = 1e6
    assert [rate.take("a", 3) for _ in range(4)] == [True, True, True, False]


def test_the_table_of_rates_is_bounded() -> None:
    """With more names than it holds the one that was quiet the longest is forgotten."""
    rate = Rate(OwnTable(), lambda: 0.0)
    assert rate.take("first", 1)
    for number in range(NAMES_MAXIMUM):
        rate.take(f"name{number}", 1)
    assert rate.take("first", 1)


@given(st.integers(1, 50), st.lists(st.floats(0, 2000), max_size=200))
def test_a_rate_never_lets_through_more_than_twice_in_any_period(maximum: int, gaps: list[float]) -> None:
    """A bucket lets through at most its content and what fills it: twice the maximum in a period, once on average."""
    now = 0.0
    rate = Rate(OwnTable(), lambda: now)
    passed: list[float] = []
    for gap in gaps:
        now += gap
        wait = rate.wait("a", maximum)
        taken = rate.take("a", maximum)
        assert taken == (wait == 0.0)
        if taken:
            passed.append(now)
    for start in passed:
        assert sum(start <= each < start + HOUR for each in passed) <= 2 * maximum
    assert len(passed) <= maximum + now * maximum / HOUR + 1e-6


def test_a_tally_counts_the_last_hour() -> None:
    """Counts fade evenly over the hour that follows theirs, and are gone after two."""
    now = 0.0
    tally = Tally(OwnTable(), lambda: now)
    for _ in range(10):
        tally.add("a")
    assert tally.count("a") == 10
    assert tally.count("b") == 0
    now = 1.5 * HOUR
    assert tally.count("a") == 5
    tally.add("a")
    assert tally.count("a") == 6
    now = 2 * HOUR
    assert tally.count("a") == 1
    tally.add("b")
    now = 3 * HOUR
    assert tally.count("a") == 0
    tally.add("b")


def test_the_table_of_a_tally_is_bounded() -> None:
    """With more names than it holds the one that was counted the longest ago is forgotten."""
    tally = Tally(OwnTable(2), lambda: 0.0)
    for name in ("a", "b", "a", "c"):
        tally.add(name)
    assert [tally.count(name) for name in "abc"] == [2, 0, 1]


def test_connections_of_a_network_are_counted() -> None:
    """Past the limit a network gets 421 and how long to wait; other networks are not touched."""
    world = World("[policy.rates]\nconnections_per_minute = 2\n")
    assert world.policy.stages == {Stage.CONNECT}
    assert [world.ask(Stage.CONNECT, address=f"192.0.2.{n}") for n in (1, 2)] == ["", ""]
    verdict = world.policy.ask(facts(Stage.CONNECT, address="192.0.2.3"))
    text = "2 connections a minute from the network of 192.0.2.3 are allowed, try again in 30 s"
    assert said(verdict) == (f"421 4.7.0 {text}", text, "[policy.rates] connections_per_minute")
    assert world.ask(Stage.CONNECT, address="192.0.3.3") == ""
    world.clock.advance(30)
    assert world.ask(Stage.CONNECT, address="192.0.2.3") == ""


def test_ipv6_networks_are_64() -> None:
    """Addresses of one /64 count together."""
    world = World("[policy.rates]\nconnections_per_minute = 1\n")
    assert world.ask(Stage.CONNECT, address="2001:db8::1") == ""
    assert world.ask(Stage.CONNECT, address="2001:db8::ffff:1").startswith("421")
    assert world.ask(Stage.CONNECT, address="2001:db8:0:1::1") == ""


def test_messages_and_recipients_of_a_network() -> None:
    """Recipients are counted at RCPT, messages at DATA; MAIL is refused where no message is left."""
    world = World("[policy.rates.network]\nmessages_per_hour = 1\nrecipients_per_hour = 2\n")
    assert world.policy.stages == {Stage.MAIL, Stage.RCPT, Stage.DATA}
    assert [world.ask(stage) for stage in (Stage.MAIL, Stage.RCPT, Stage.RCPT)] == ["", "", ""]
    verdict = world.policy.ask(facts(Stage.RCPT))
    text = "2 recipients an hour from the network of 192.0.2.7 are allowed, try again in 1800 s"
    assert said(verdict) == (f"450 4.7.0 {text}", text, "[policy.rates.network] recipients_per_hour")
    assert [world.ask(stage) for stage in (Stage.MAIL, Stage.DATA)] == ["", ""]
    text = "1 messages an hour from the network of 192.0.2.7 are allowed, try again in 3600 s"
    assert [world.ask(stage) for stage in (Stage.MAIL, Stage.DATA)] == [f"450 4.7.0 {text}"] * 2


def test_a_sender_domain_that_is_not_proved_counts_apart() -> None:
    """With SPF pass, or without SPF at all, the domain counts for all networks; otherwise for its network alone."""
    world = World("[policy.rates.sender_domain]\nmessages_per_hour = 1\n")
    assert world.ask(Stage.DATA, spf=spf("softfail")) == ""
    assert world.ask(Stage.DATA, spf=spf("softfail")) == (
        "450 4.7.0 1 messages an hour from sender.example, sent without SPF pass from 192.0.2.7, are allowed, "
        "try again in 3600 s"
    )
    assert world.ask(Stage.DATA, spf=spf("softfail"), address="198.51.100.1") == ""
    assert world.ask(Stage.DATA, spf=spf("pass"), address="198.51.100.1") == ""
    assert world.ask(Stage.DATA, address="203.0.113.1").startswith("450 4.7.0 1 messages an hour from sender.example ")
    assert [world.ask(Stage.DATA, sender=None) for _ in range(3)] == ["", "", ""]


def test_a_login_counts_for_itself_alone() -> None:
    """A login is counted wherever it comes from, loopback too, and uses up nothing of its network."""
    world = World("[policy.rates.login]\nmessages_per_hour = 1\n[policy.rates.network]\nmessages_per_hour = 1\n")
    assert world.ask(Stage.DATA, login="alice", address="127.0.0.1") == ""
    assert world.ask(Stage.DATA, login="alice").startswith("450 4.7.0 1 messages an hour from alice are allowed")
    assert world.ask(Stage.DATA, login="bob") == ""
    assert world.ask(Stage.DATA) == ""


def test_what_is_refused_uses_up_nothing() -> None:
    """A message that the domain may not send is not counted for the network."""
    world = World(
        "[policy.rates.network]\nmessages_per_hour = 2\n[policy.rates.sender_domain]\nmessages_per_hour = 1\n"
    )
    assert world.ask(Stage.DATA) == ""
    assert all(world.ask(Stage.DATA) for _ in range(5))
    assert world.ask(Stage.DATA, sender=None) == ""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "198.51.100.9"])
def test_loopback_and_named_networks_are_exempt(address: str) -> None:
    """They are neither refused nor counted."""
    toml = "[policy.rates]\nconnections_per_minute = 1\n[policy.rates.network]\nrecipients_per_hour = 1\n"
    toml = '[policy]\nexempt = ["198.51.100.0/24"]\n' + toml
    world = World(toml, Exempt(policy_settings(toml).exempt))
    assert [world.ask(stage, address=address) for stage in (Stage.CONNECT, Stage.RCPT) * 2] == [""] * 4
    assert world.counters.connections.take("127.0.0.0/24", 1)


def test_a_rehearsal_counts_nothing() -> None:
    """It is told what would be, its own commands counted, and leaves no trace."""
    world = World("[policy.rates]\nconnections_per_minute = 1\n")
    assert [world.ask(Stage.CONNECT, rehearsal=True, session=f"r{number}") for number in range(3)] == ["", "", ""]
    assert world.ask(Stage.CONNECT, rehearsal=True, session="r2").startswith("421")
    world.policy.closed("r2")
    assert world.ask(Stage.CONNECT, rehearsal=True, session="r2") == ""
    assert world.ask(Stage.CONNECT) == ""
    assert world.ask(Stage.CONNECT, rehearsal=True, session="r3").startswith("421")


def test_without_limits_nobody_is_asked() -> None:
    """A table without numbers is no policy."""
    assert World("[policy.rates]\n").policy.stages == frozenset()

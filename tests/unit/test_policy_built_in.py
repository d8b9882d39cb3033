"""The policies that the settings put in force."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import defer
from twisted.internet.task import Clock

from mta.board.alone import Alone
from mta.dns.routing import Own
from mta.policy.built_in import Ports, Remembered, built_in
from mta.policy.chain import NOTHING, Chain
from mta.policy.facts import Stage
from mta.settings.policy import PolicySettings
from tests.doubles.dns import ZoneResolver
from tests.doubles.journal import RecordingJournal
from tests.doubles.policy import facts, message, policy_settings
from tests.doubles.sync import inline, result

EVERYTHING = """
[policy]
exempt = ["198.51.100.0/24"]
[[policy.lists.deny]]
entries = ["192.0.2.0/24"]
[policy.rates]
connections_per_minute = 1
[policy.early]
[policy.harvest]
[policy.tarpit]
tags = ["early"]
[policy.helo]
[policy.greylist]
[[policy.dnsbl.list]]
zone = "bl.example"
codes = {"127.0.0.2" = "sends spam"}
[[policy.headers.rule]]
field = "X-Spam"
action = "reject"
[[policy.attachments.rule]]
extensions = ["exe"]
action = "reject"
"""


class World:
    """What policies are made of."""

    def __init__(self, path: Path) -> None:
        self.path = path / "policy" / "greylist-0.sqlite"
        self.clock = Clock()
        self.resolver = ZoneResolver("")
        self.journal = RecordingJournal()
        self.ports = Ports(self.clock, self.resolver, inline, Own(frozenset({"mx.example.org"})))
        self.remembered = Remembered(str(self.path), Alone(), self.clock, lambda: 1e9, inline, self.journal)


def test_without_settings_there_is_nothing(tmp_path: Path) -> None:
    """No table: no policy, no file, no timer, no question, and a chain that is asked nothing."""
    world = World(tmp_path)
    policies = built_in(PolicySettings(), world.ports, world.remembered)
    assert policies == []
    chain = Chain(policies)
    assert not any(chain.wants(stage) for stage in Stage)
    assert all(chain.ask(facts(stage)) is NOTHING for stage in Stage)
    assert list(tmp_path.iterdir()) == []
    assert world.clock.getDelayedCalls() == []


def test_the_default_order_has_what_is_cheap_first(tmp_path: Path) -> None:
    """All policies at once, in the order of the table in the module."""
    world = World(tmp_path)
    policies = built_in(policy_settings(EVERYTHING), world.ports, world.remembered, lambda mailbox: None)
    names = "size lists rates harvest early greylist tarpit headers helo dnsbl attachments"
    assert [policy.name for policy in policies] == names.split()
    assert all(policy.stages for policy in policies)
    result(defer.ensureDeferred(world.remembered.stop()))


def test_empty_tables_that_have_nothing_to_do_are_left_out(tmp_path: Path) -> None:
    """A table without lists, numbers, tags or rules makes no policy."""
    toml = "".join(f"[policy.{name}]\n" for name in ("lists", "rates", "tarpit", "dnsbl", "headers", "attachments"))
    world = World(tmp_path)
    assert built_in(policy_settings(toml), world.ports, world.remembered) == []


def test_what_is_remembered_outlives_a_reload(tmp_path: Path) -> None:
    """Policies that are made anew find what those before them have counted."""
    world = World(tmp_path)
    toml = "[policy.rates]\nconnections_per_minute = 1\n[policy.greylist]\n[policy.early]\n[policy.harvest]\n"
    settings = policy_settings(toml)
    first = Chain(built_in(settings, world.ports, world.remembered))
    ruling = first.ask(facts(Stage.CONNECT))
    assert not isinstance(ruling, defer.Deferred)
    assert ruling.delay == 6.0
    first.ask(facts(Stage.HELO))
    first.ask(facts(Stage.RCPT))
    world.clock.advance(300)
    second = Chain(built_in(settings, world.ports, world.remembered))
    assert second.ask(facts(Stage.RCPT)) is NOTHING
    second.ask(facts(Stage.CONNECT))
    ruling = second.ask(facts(Stage.CONNECT))
    assert not isinstance(ruling, defer.Deferred)
    assert ruling.refusal is not None
    assert ruling.delay == 0.0
    result(defer.ensureDeferred(world.remembered.stop()))
    assert world.path.exists()


def test_an_exempt_network_meets_nothing_but_rules_of_content(tmp_path: Path) -> None:
    """Loopback and exempt networks pass every stage without a word and without a question."""
    toml = EVERYTHING.replace('entries = ["192.0.2.0/24"]', 'entries = ["203.0.113.0/24"]')
    world = World(tmp_path)
    chain = Chain(built_in(policy_settings(toml), world.ports, world.remembered))
    for address in ("127.0.0.1", "198.51.100.9"):
        for stage in (Stage.CONNECT, Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA):
            known = facts(stage, address=address, early=True, helo="mx.example.org", sender=None)
            assert chain.ask(known) is NOTHING
    assert world.resolver.asked == []
    ruling = chain.ask(message(b"Content-Type: a/b; name=a.exe\r\n\r\n", address="127.0.0.1"))
    assert not isinstance(ruling, defer.Deferred)
    assert ruling.refusal is not None
    result(defer.ensureDeferred(world.remembered.stop()))


def test_who_is_allowed_by_a_list_is_asked_nothing_more(tmp_path: Path) -> None:
    """An allow ends each stage before anything is counted, delayed or looked up."""
    toml = EVERYTHING.replace("[[policy.lists.deny]]", "[[policy.lists.allow]]")
    world = World(tmp_path)
    chain = Chain(built_in(policy_settings(toml), world.ports, world.remembered))
    for stage in (Stage.CONNECT, Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA):
        ruling = chain.ask(facts(stage, early=True))
        assert not isinstance(ruling, defer.Deferred)
        assert [each.policy for each in ruling.said] == ["lists"]
        assert ruling.refusal is None
    assert world.resolver.asked == []
    result(defer.ensureDeferred(world.remembered.stop()))

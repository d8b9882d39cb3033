"""Rules of the HELO name."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from mta.dns.answer import RecordType
from mta.policy.facts import Stage
from mta.policy.helo import Helo
from mta.policy.network import Exempt
from mta.policy.verdict import Defer, Reject, Tag
from mta.settings.policy import HeloSettings
from tests.doubles.dns import ZoneResolver
from tests.doubles.policy import facts, said
from tests.doubles.sync import result

ZONE = """
mail.sender.example   A     192.0.2.7
six.sender.example    AAAA  2001:db8::1
mx.sender.example     MX    10 mail.sender.example
txt.sender.example    TXT   "x"
sick.sender.example   A     !SERVFAIL
slow.sender.example   MX    !SILENT
half.sender.example   A     192.0.2.1
half.sender.example   MX    !SILENT
xn--bcher-kva.example A     192.0.2.1
"""


class World:
    """A policy over a zone."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.resolver = ZoneResolver(ZONE)
        self.policy = Helo(
            HeloSettings(**settings),
            self.clock,
            self.resolver,
            Exempt((ip_network("198.51.100.0/24"),)),
            frozenset({"mx.example.org"}),
            frozenset({"203.0.113.1", "2001:db8:1::1"}),
        )

    def ask(self, helo: str, **known: Any) -> Any:
        """The verdict, or a Deferred that waits."""
        answer = self.policy.ask(facts(Stage.HELO, helo=helo, **known))
        return result(answer) if isinstance(answer, defer.Deferred) and answer.called else answer


@pytest.mark.parametrize("name", ["mail.sender.example", "six.sender.example", "mx.sender.example", "[192.0.2.7]"])
def test_good_names(name: str) -> None:
    """A name with an address or an MX record, or an address literal, is nothing to talk about."""
    assert World().ask(name) is None
    assert World().ask("mail.sender.example.") is None


@pytest.mark.parametrize("name", ["mx.example.org", "MX.Example.Org", "mx.example.org.", "[203.0.113.1]"])
def test_our_own_name_is_refused(name: str) -> None:
    """Nobody else has our name or our address."""
    verdict = World().ask(name)
    assert isinstance(verdict, Reject)
    assert said(verdict) == (
        f"550 5.7.1 {name}: the name in EHLO or HELO is a name of this server",
        f"HELO name {name} is a name of this server",
        "[policy.helo] own_name",
    )


def test_more_of_our_names_stand_in_the_settings() -> None:
    """Names and networks of the settings are ours too; IPv6 literals are compared as addresses."""
    settings: dict[str, Any] = {"own_names": ("nat.example.org",), "own_addresses": (ip_network("203.0.113.64/28"),)}
    for name in ("nat.example.org", "[203.0.113.65]", "[IPv6:2001:db8:1::1]"):
        assert isinstance(World(**settings).ask(name), Reject)
    assert World(**settings).ask("[203.0.113.2]") is None


@pytest.mark.parametrize(
    ("name", "rule", "text", "source"),
    [
        ("192.0.2.7", "bare_address", "is an address without brackets", "RFC 5321 §4.1.3"),
        ("2001:db8::1", "bare_address", "is an address without brackets", "RFC 5321 §4.1.3"),
        ("localhost", "no_dot", "is not fully qualified", "RFC 5321 §2.3.5"),
        ("a..b", "malformed", "is neither a domain name nor an address literal", "RFC 5321 §4.1.1.1"),
        ("?", "malformed", "is neither a domain name nor an address literal", "RFC 5321 §4.1.1.1"),
        ("[192.0.2]", "malformed", "is neither a domain name nor an address literal", "RFC 5321 §4.1.1.1"),
        ("none.example", "unresolvable", "has neither address nor MX record", "RFC 5321 §2.3.5"),
        ("txt.sender.example", "unresolvable", "has neither address nor MX record", "RFC 5321 §2.3.5"),
    ],
)
def test_each_rule_and_action(name: str, rule: str, text: str, source: str) -> None:
    """A rule tags by default; off, defer and reject are what they say."""
    verdict = World().ask(name)
    assert isinstance(verdict, Tag)
    assert verdict.name == f"helo.{rule}"
    assert said(verdict) == ("Tag", f"HELO name {name} {text}", source)
    assert isinstance(World(**{rule: "defer"}).ask(name), Defer)
    assert said(World(**{rule: "defer"}).ask(name))[0].startswith("450 4.7.1 ")
    assert isinstance(World(**{rule: "reject"}).ask(name), Reject)
    others = {"malformed": "off", "no_dot": "off", "unresolvable": "off", "bare_address": "off"}
    assert World(**others).ask(name) is None


def test_a_rule_that_is_off_hides_no_other() -> None:
    """A name that breaks two rules is judged by the first one in force."""
    assert World().ask("?").name == "helo.malformed"
    assert World(malformed="off").ask("?").name == "helo.no_dot"


def test_underscores_are_let_through() -> None:
    """``my_pc.example`` is no host name by the letter, but what half the world says; it must only resolve."""
    assert World().ask("my_pc.example").name == "helo.unresolvable"


def test_the_name_server_is_asked_only_when_the_rest_is_right() -> None:
    """What is wrong by itself costs no question, nor does a literal or a rule that is off."""
    world = World()
    for name in ("mx.example.org", "localhost", "192.0.2.7", "[192.0.2.7]"):
        world.ask(name)
    assert world.resolver.asked == []
    off = World(unresolvable="off")
    assert off.ask("none.example") is None
    assert off.resolver.asked == []
    world.ask("bücher.example")
    assert {name for name, _ in world.resolver.asked} == {"xn--bcher-kva.example"}
    assert {rdtype for _, rdtype in world.resolver.asked} == {RecordType.A, RecordType.AAAA, RecordType.MX}


def test_who_cannot_be_asked_about_is_not_judged() -> None:
    """SERVFAIL, or no answer within the deadline, says nothing of the name; the question is cancelled then."""
    world = World(unresolvable="reject")
    assert world.ask("sick.sender.example") is None
    waiting = world.ask("slow.sender.example")
    assert isinstance(waiting, defer.Deferred)
    world.clock.advance(5.0)
    assert result(waiting) is None
    (silent,) = world.resolver.silent
    assert silent.called
    assert world.clock.getDelayedCalls() == []


def test_strangers_at_mx_alone_are_judged() -> None:
    """Clients of smtpd, loopback and exempt networks say what they like."""
    for known in ({"service": "smtpd"}, {"address": "127.0.0.1"}, {"address": "198.51.100.3"}):
        assert World().ask("mx.example.org", **known) is None

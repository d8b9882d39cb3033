"""The pause before the greeting, who talks first, tarpits, and who tries out names."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from twisted.internet.task import Clock

from mta.board.alone import NAMES_MAXIMUM, Alone
from mta.mail.reason import Reason
from mta.policy.delaying import Places
from mta.policy.early import NETWORKS_MAXIMUM, Acquaintances, Early
from mta.policy.facts import Stage
from mta.policy.harvest import Harvest, UnknownRecipients
from mta.policy.network import Exempt
from mta.policy.port import CountsRefusals, KeepsSessions
from mta.policy.tarpit import Tarpit
from mta.policy.verdict import Delay, Reject, Tag
from mta.settings.policy import EarlySettings, HarvestSettings, TarpitSettings
from tests.doubles.policy import facts, said

EXEMPT = Exempt((ip_network("198.51.100.0/24"),))
WHY = Reason("a test")


# Places


def test_places_are_bounded_and_come_free_in_time() -> None:
    """So many are delayed at once; a place is free when its time is over, whichever was taken first."""
    clock = Clock()
    places = Places(clock.seconds)
    assert places.delay(10, 2, WHY) == Delay(WHY, 10)
    assert places.delay(5, 2, WHY) == Delay(WHY, 5)
    assert places.delay(5, 2, WHY) is None
    clock.advance(5)
    assert places.delay(3, 2, WHY, rehearsal=True) == Delay(WHY, 3)
    assert places.delay(20, 2, WHY) == Delay(WHY, 20)
    assert places.delay(20, 2, WHY) is None
    clock.advance(5)
    assert places.delay(1, 2, WHY) is not None


# Early talkers


class World:
    """The policy of early talkers."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.acquaintances = Acquaintances(self.clock.seconds)
        self.policy = Early(EarlySettings(**settings), self.acquaintances, Places(self.clock.seconds), EXEMPT)

    def connect(self, session: str = "s1", **known: Any) -> Any:
        """A session begins."""
        return self.policy.ask(facts(Stage.CONNECT, session=session, **known))

    def hello(self, session: str = "s1", **known: Any) -> Any:
        """A session says EHLO."""
        return self.policy.ask(facts(Stage.HELO, session=session, **known))


def test_a_stranger_waits_for_the_greeting_once() -> None:
    """A network that waited is known, all its addresses, for as long as the setting says."""
    world = World()
    delay = world.connect()
    assert delay == Delay(Reason("nobody in the network of 192.0.2.7 has waited before", "[policy.early] pause"), 6.0)
    assert world.hello() is None
    assert world.connect("s2", address="192.0.2.9") is None
    assert world.connect("s3", address="192.0.3.9") is not None
    world.clock.advance(86399)
    assert world.connect("s4") is None
    world.clock.advance(1)
    assert world.connect("s5") is not None


def test_who_did_not_wait_is_not_known() -> None:
    """Neither who talked early, also not by a second EHLO after STARTTLS, nor who was greeted at once, nor who left."""
    world = World(sessions=1)
    world.connect("s1")
    assert isinstance(world.hello("s1", early=True), Tag)
    world.hello("s1")
    assert world.connect("s2") is None
    world.hello("s2")
    world.clock.advance(10)
    assert world.connect("s3") is not None
    world.policy.reset("s3")
    world.policy.closed("s3")
    world.hello("s3")
    assert len(world.acquaintances) == 0
    assert isinstance(world.policy, KeepsSessions)


def test_who_talks_early_is_marked_or_refused() -> None:
    """A tag by default; 554 where the settings say so."""
    tag = World().hello(early=True)
    assert (tag.name, said(tag)) == ("early", ("Tag", "talked before the greeting", "RFC 5321 §3.1"))
    verdict = World(action="reject").hello(early=True)
    assert isinstance(verdict, Reject)
    assert said(verdict)[0] == "554 5.7.1 You talked before you were greeted"


def test_who_need_not_wait() -> None:
    """Loopback, exempt networks and smtpd; and nobody where there is no pause."""
    for known in ({"address": "127.0.0.1"}, {"address": "198.51.100.1"}, {"service": "smtpd"}):
        assert World().connect(**known) is None
        assert World().hello(early=True, **known) is None
    assert World(pause=0.0).policy.stages == {Stage.HELO}
    assert World().policy.stages == {Stage.CONNECT, Stage.HELO}


def test_a_rehearsal_makes_nobody_known() -> None:
    """What would be is told, nothing is remembered and no place is taken."""
    world = World(sessions=1)
    assert world.connect(rehearsal=True) is not None
    assert world.hello(rehearsal=True) is None
    assert world.connect() is not None
    world.hello(rehearsal=True)
    world.clock.advance(10)
    assert world.connect("s2") is not None


def test_the_tables_of_acquaintances_are_bounded() -> None:
    """The network that waited the longest ago goes first; sessions that never come back too."""
    known = Acquaintances(lambda: 0.0)
    for number in range(NETWORKS_MAXIMUM + 2):
        known.waits(f"s{number}")
    for number in range(NETWORKS_MAXIMUM + 2):
        known.waited(f"s{number}", f"n{number}")
    assert len(known) == NETWORKS_MAXIMUM
    assert not known.knows("n0", 1.0)
    known.waits("again")
    known.waited("again", "n2")
    known.waits("more")
    known.waited("more", "new")
    assert known.knows("n2", 1.0)
    assert not known.knows("n3", 1.0)


# Harvesting


class Garden:
    """The policy of harvesters."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.known = UnknownRecipients(Alone(), self.clock.seconds)
        self.policy = Harvest(HarvestSettings(**settings), self.known, Places(self.clock.seconds), 1, EXEMPT)

    def refuse(self, count: int, **known: Any) -> None:
        """The service refuses recipients that do not exist."""
        for _ in range(count):
            self.policy.refused(facts(Stage.RCPT, **known), Reason("no such mailbox"))

    def ask(self, stage: Stage = Stage.RCPT, **known: Any) -> Any:
        """Ask."""
        return self.policy.ask(facts(stage, **known))


def test_a_harvester_is_slowed_then_turned_away() -> None:
    """Past the first bound replies come later, past the second there are none for a while."""
    garden = Garden()
    assert isinstance(garden.policy, CountsRefusals)
    garden.refuse(19)
    assert garden.ask() is None
    garden.refuse(1, address="192.0.2.200")
    text = "20 unknown recipients within an hour from the network of 192.0.2.7"
    assert garden.ask() == Delay(Reason(text, "[policy.harvest] delay_after"), 5.0)
    assert garden.ask() is None, "the places are bounded"
    assert garden.ask(address="192.0.3.7") is None
    garden.refuse(80)
    garden.clock.advance(600)
    for stage in (Stage.CONNECT, Stage.MAIL, Stage.RCPT):
        assert stage in garden.policy.stages
        text = "Too many unknown recipients from the network of 192.0.2.7, try again in 3000 s"
        assert said(garden.ask(stage)) == (f"421 4.7.0 {text}", text, "[policy.harvest] refuse_after")
    garden.clock.advance(2999.5)
    assert said(garden.ask())[0].endswith("try again in 1 s")
    garden.clock.advance(0.5)
    assert isinstance(garden.ask(), Delay)
    garden.clock.advance(3600)
    assert garden.ask() is None


@pytest.mark.parametrize(
    "known",
    [{"address": "127.0.0.1"}, {"address": "198.51.100.1"}, {"service": "smtpd"}, {"login": "alice"}],
)
def test_whose_mistakes_are_not_counted(known: dict[str, str]) -> None:
    """Loopback, exempt networks, smtpd and who has logged in may mistype."""
    garden = Garden()
    garden.refuse(200, **known)
    assert garden.ask(**known) is None
    garden.refuse(200)
    assert garden.ask(**known) is None


def test_rehearsed_mistakes_are_not_counted() -> None:
    """A rehearsal is told what would be and counts for nothing."""
    garden = Garden()
    garden.refuse(200, rehearsal=True)
    assert garden.ask() is None


def test_networks_turned_away_are_bounded() -> None:
    """The one turned away the longest ago is forgotten first."""
    known = UnknownRecipients(Alone(), lambda: 0.0)
    for number in range(NAMES_MAXIMUM):
        known.refuse(f"n{number}", 1.0)
    known.refuse("n0", 2.0)
    known.refuse("new", 1.0)
    assert known.refused_for("n1") == 0.0
    assert known.refused_for("n0") == 2.0


# The tarpit


def test_the_tarpit_delays_who_is_tagged() -> None:
    """Who has one of its tags gets replies later; others, logins and smtpd do not."""
    clock = Clock()
    policy = Tarpit(TarpitSettings(("early", "dnsbl"), 3.0), Places(clock.seconds), 2)
    assert policy.stages == {Stage.MAIL, Stage.RCPT, Stage.DATA}
    tags = frozenset({"dnsbl", "early", "other"})
    assert policy.ask(facts(Stage.MAIL, tags=tags)) == Delay(Reason("tagged dnsbl, early", "[policy.tarpit] tags"), 3.0)
    assert policy.ask(facts(Stage.MAIL, tags=frozenset({"other"}))) is None
    assert policy.ask(facts(Stage.MAIL, tags=tags, service="smtpd")) is None
    assert policy.ask(facts(Stage.MAIL, tags=tags, login="alice")) is None
    assert policy.ask(facts(Stage.MAIL, tags=tags)) is not None
    assert policy.ask(facts(Stage.MAIL, tags=tags)) is None
    assert Tarpit(TarpitSettings(), Places(clock.seconds), 2).stages == frozenset()

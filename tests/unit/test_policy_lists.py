"""Allow and deny lists."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy.facts import Stage
from mta.policy.lists import Lists
from mta.policy.verdict import Accept, Defer, Reject
from mta.settings.entry import network_key
from mta.smtp.address import Mailbox
from tests.doubles.policy import facts, iprev, policy_settings, said


def lists(toml: str) -> Lists:
    """The policy of the tables given, whose names are short: ``[[allow]]``, ``[[deny]]``, ``at_once = true``."""
    toml = toml.replace("[[", "[[policy.lists.")
    settings = policy_settings("[policy.lists]\n" + toml).lists
    assert settings is not None
    return Lists(settings)


def deny(*entries: str, of: str = "peer", more: str = "") -> str:
    """One table."""
    return f"[[deny]]\nof = '{of}'\nentries = {list(entries)}\n{more}\n"


def allow(*entries: str, of: str = "peer", more: str = "") -> str:
    """One table."""
    return deny(*entries, of=of, more=more).replace("deny", "allow")


def test_a_denied_network_is_refused_at_rcpt() -> None:
    """Nobody is refused before it is known for whom the mail is; reply and reason say what stands where."""
    policy = lists(deny("192.0.2.0/24", more='reason = "sends spam"'))
    for stage in (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.DATA):
        assert policy.ask(facts(stage)) is None
    verdict = policy.ask(facts(Stage.RCPT))
    assert isinstance(verdict, Reject)
    assert said(verdict) == (
        "550 5.7.1 [192.0.2.7] is refused here: sends spam",
        "[192.0.2.7] is denied as 192.0.2.0/24: sends spam",
        "mta.toml:4",
    )
    assert policy.ask(facts(Stage.RCPT, address="192.0.3.7")) is None


def test_at_once_means_as_soon_as_it_is_known() -> None:
    """With at_once, and at smtpd in any case, a denial is said at the stage where the thing comes up."""
    policy = lists("at_once = true\n" + deny("192.0.2.7") + deny("mail.evil.example", of="helo"))
    verdict = policy.ask(facts(Stage.CONNECT))
    assert said(verdict) == ("554 5.7.1 [192.0.2.7] is refused here", "[192.0.2.7] is denied", "mta.toml:5")
    verdict = policy.ask(facts(Stage.HELO, address="192.0.2.8", helo="mail.evil.example"))
    assert said(verdict)[0] == "550 5.7.1 mail.evil.example is refused here"
    later = lists(deny("192.0.2.7"))
    assert isinstance(later.ask(facts(Stage.CONNECT, service="smtpd")), Reject)


def test_a_denial_may_ask_to_come_again() -> None:
    """With the action defer the code is 450, at connect 421."""
    policy = lists("at_once = true\n" + deny("192.0.2.7", more='action = "defer"'))
    verdict = policy.ask(facts(Stage.CONNECT))
    assert isinstance(verdict, Defer)
    assert said(verdict)[0] == "421 4.7.1 [192.0.2.7] is refused here"
    assert said(policy.ask(facts(Stage.MAIL)))[0].startswith("450 4.7.1")


@pytest.mark.parametrize(
    ("entries", "address", "denied"),
    [
        ((["192.0.2.0/24"], ["192.0.0.0/16"]), "192.0.2.7", False),
        ((["192.0.2.0/24"], ["192.0.0.0/16"]), "192.0.3.7", True),
        ((["192.0.0.0/16"], ["192.0.2.7"]), "192.0.2.7", True),
        ((["2001:db8:1::/48"], ["2001:db8::/32"]), "2001:db8:1::1", False),
        ((["2001:db8:1::/48"], ["2001:db8::/32"]), "2001:db8:2::1", True),
        ((["192.0.2.0/24"], ["*"]), "192.0.2.7", False),
        ((["192.0.2.0/24"], ["*"]), "::ffff:192.0.2.7", False),
        ((["192.0.2.0/24"], ["*"]), "2001:db8::1", True),
        (([], ["0.0.0.0/0"]), "2001:db8::1", False),
    ],
)
def test_the_smallest_network_decides(entries: tuple[list[str], list[str]], address: str, denied: bool) -> None:
    """Of networks that hold an address the longest prefix counts, ``*`` last."""
    policy = lists((allow(*entries[0]) if entries[0] else "") + deny(*entries[1]))
    assert isinstance(policy.ask(facts(Stage.RCPT, address=address)), Reject) is denied


@pytest.mark.parametrize(
    ("allowed", "denied", "sender", "verdict"),
    [
        (["a.example.org"], ["example.org"], "x@b.a.example.org", Accept),
        (["a.example.org"], ["example.org"], "x@b.example.org", Reject),
        (["a.example.org"], ["example.org"], "x@notexample.org", None),
        (["x@example.org"], ["example.org"], "X@EXAMPLE.org", Accept),
        (["abuse@"], ["example.org"], "abuse@example.org", Accept),
        (["abuse@"], ["abuse@example.org"], "abuse@example.org", Reject),
        (["bücher.example"], ["*"], "x@xn--bcher-kva.example", Accept),
        (["xn--bcher-kva.example"], ["*"], "x@bücher.example", Accept),
        (["bücher.example"], ["*"], "x@example", Reject),
        (["example.org"], ["192.0.2.0/24"], "x@[192.0.2.1]", Reject),
        (["<>"], ["*"], "", Accept),
        (["example.org"], ["*"], "", Reject),
        (["*"], ["<>"], "", Reject),
    ],
)
def test_the_most_exact_entry_decides(allowed: list[str], denied: list[str], sender: str, verdict: Any) -> None:
    """A mailbox goes before a local-part, that before a domain, a longer domain before a shorter one."""
    policy = lists(allow(*allowed, of="sender") + deny(*denied, of="sender"))
    local_part, _, domain = sender.partition("@")
    found = policy.ask(facts(Stage.RCPT, sender=Mailbox(local_part, domain.lower()) if sender else None))
    assert found is None if verdict is None else isinstance(found, verdict)


def test_an_allow_of_another_thing_wins() -> None:
    """A denied peer gets through to an allowed recipient, whichever stands first in the file."""
    policy = lists(deny("192.0.2.0/24") + allow("postmaster@", of="recipient", more='reason = "RFC 5321 §4.5.1"'))
    verdict = policy.ask(facts(Stage.RCPT, recipient=Mailbox("Postmaster", "example.org")))
    assert said(verdict) == (
        "Accept",
        "<Postmaster@example.org> is allowed as postmaster@: RFC 5321 §4.5.1",
        "mta.toml:8",
    )
    assert isinstance(policy.ask(facts(Stage.RCPT)), Reject)


def test_confirmed_names_count_others_do_not() -> None:
    """A peer is known by its name where that is confirmed, and by nothing that it only says."""
    policy = lists(allow("partner.example") + deny("*"))
    assert isinstance(policy.ask(facts(Stage.RCPT, iprev=iprev("mx.partner.example"))), Accept)
    assert isinstance(policy.ask(facts(Stage.RCPT, iprev=iprev("mx.partner.example", "fail"))), Reject)
    assert isinstance(policy.ask(facts(Stage.RCPT, helo="mx.partner.example")), Reject)


def test_helo_literals_are_addresses() -> None:
    """``[192.0.2.1]`` in EHLO is covered by networks, IPv6 too."""
    policy = lists("at_once = true\n" + deny("192.0.2.0/24", "2001:db8::/32", of="helo"))
    assert isinstance(policy.ask(facts(Stage.HELO, helo="[192.0.2.1]")), Reject)
    assert isinstance(policy.ask(facts(Stage.HELO, helo="[IPv6:2001:db8::1]")), Reject)
    assert policy.ask(facts(Stage.HELO, helo="[192.0.3.1]")) is None
    assert policy.ask(facts(Stage.HELO, helo="?")) is None


def test_whom_an_allow_lets_in() -> None:
    """An allowed peer is accepted at every stage up to DATA; an allowed sender from MAIL on."""
    policy = lists(allow("192.0.2.7") + allow("sender.example", of="sender"))
    stages = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA)
    assert policy.stages == frozenset(stages)
    assert all(isinstance(policy.ask(facts(stage)), Accept) for stage in stages)
    other = [policy.ask(facts(stage, address="192.0.2.8")) for stage in stages]
    assert [type(each) for each in other] == [type(None), type(None), Accept, Accept, Accept]


def test_data_is_accepted_for_allowed_recipients_alone() -> None:
    """At DATA a message is accepted if all its recipients are allowed, whoever is denied."""
    policy = lists(allow("abuse@", of="recipient") + deny("192.0.2.7"))
    abuse, alice = Mailbox("abuse", "example.org"), Mailbox("alice", "example.org")
    verdict = policy.ask(facts(Stage.DATA, recipients=(abuse,)))
    assert said(verdict) == ("Accept", "all recipients are allowed", "mta.toml:4")
    assert policy.ask(facts(Stage.DATA, recipients=(abuse, alice))) is None
    assert policy.ask(facts(Stage.DATA, recipients=())) is None
    assert policy.ask(facts(Stage.DATA, recipients=(abuse,), login="alice")) is None


def test_a_login_is_not_allowed_by_lists_but_denied() -> None:
    """Who has logged in keeps his limits, and cannot send to who is denied."""
    policy = lists(allow("192.0.2.7") + deny("rival.example", of="recipient"))
    assert policy.ask(facts(Stage.MAIL, login="alice")) is None
    rival = Mailbox("x", "rival.example")
    assert isinstance(policy.ask(facts(Stage.RCPT, login="alice", recipient=rival)), Reject)


def test_lists_are_asked_only_where_they_know_something() -> None:
    """Without entries there is no stage; with entries about recipients alone, RCPT and DATA."""
    assert lists("").stages == frozenset()
    assert lists(deny("a@", of="recipient")).stages == {Stage.RCPT, Stage.DATA}
    assert lists(deny("a@", of="sender")).stages == {Stage.MAIL, Stage.RCPT, Stage.DATA}


_networks = st.builds(
    lambda number, length: ipaddress.IPv4Network(((number >> 32 - length << 32 - length) if length else 0, length)),
    st.integers(0, 0xFFFF).map(lambda n: 0xC0000000 | n),
    st.integers(0, 32),
)


@given(st.dictionaries(_networks, st.booleans(), min_size=1, max_size=8), st.integers(0, 0xFFFF))
def test_networks_decide_as_a_search_through_all_would(networks: dict[ipaddress.IPv4Network, bool], low: int) -> None:
    """What the table finds is the longest of the networks that hold the address."""
    address = ipaddress.IPv4Address(0xC0000000 | low)
    allowed = [str(each) for each, good in networks.items() if good]
    denied = [str(each) for each, good in networks.items() if not good]
    policy = lists((allow(*allowed) if allowed else "") + (deny(*denied) if denied else ""))
    holding = [each for each in networks if address in each]
    expected = networks[max(holding, key=lambda each: each.prefixlen)] if holding else None
    found = policy.ask(facts(Stage.RCPT, address=str(address)))
    assert (isinstance(found, Accept) if found is not None else None) == expected


def test_the_key_of_a_whole_network_holds_every_address() -> None:
    """A prefix of no bits is one key for all addresses of its version."""
    assert network_key(ipaddress.ip_address("1.2.3.4"), 0) == network_key(ipaddress.ip_address("0.0.0.0"), 0)

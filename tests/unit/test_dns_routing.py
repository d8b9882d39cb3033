"""`mta.dns.routing`: each line of its table, and the names of ``robustness.md`` row 70."""

from __future__ import annotations

import random
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer

from mta.dns.answer import Mx, RecordType
from mta.dns.routing import (
    EVERY_DOMAIN,
    Decision,
    Own,
    Router,
    RoutingLimits,
    by_preference,
    destination,
    exchange_fault,
    find_route,
    in_turn,
    is_here,
    literal_address,
    static_route,
)
from mta.mail import outcome
from mta.mail.reason import Reason
from mta.mail.route import Host, Login, Route, TlsLevel
from mta.settings.sections import RelaySettings, RouteSettings
from mta.smtp.address import Mailbox
from tests.doubles.dns import Zone, ZoneResolver
from tests.doubles.sync import failure, result

HOSTS = """
mx1.example.net   A     192.0.2.1
mx2.example.net   A     192.0.2.2
mx3.example.net   A     192.0.2.3
six.example.net   AAAA  2001:db8::6
both.example.net  A     192.0.2.46
both.example.net  AAAA  2001:db8::46
sick.example.net  ANY   !SERVFAIL
bare.example.net  TXT   "no address"
here.example.net  A     127.0.0.2
us.example.org    A     198.51.100.25
"""
OWN = Own(frozenset({"us.example.org"}), frozenset({"198.51.100.25", "2001:db8::25"}))


def await_(coroutine: Coroutine[Any, Any, Decision]) -> Decision:
    """Run a coroutine that waits for nothing."""
    return result(defer.Deferred.fromCoroutine(coroutine))


def find(zone: str, domain: str = "example.net", seed: int = 1, **limits: Any) -> Decision:
    """Find the route of a domain in a zone beside the hosts above."""
    resolver = ZoneResolver(HOSTS + zone)
    return await_(find_route(domain, resolver, OWN, 25, random.Random(seed), RoutingLimits(**limits)))


def hosts(decision: Decision) -> list[str]:
    """Names of the hosts of a route."""
    assert isinstance(decision, Route), decision
    return [host.name for host in decision.hosts]


def failed(decision: Decision, status: str) -> str:
    """Text and source of a failure with that status."""
    assert isinstance(decision, outcome.Failed), decision
    assert str(decision.status) == status
    return str(decision.reason)


def deferred(decision: Decision, status: str, local: bool = False) -> str:
    """Text and source of a delay with that status."""
    assert isinstance(decision, outcome.Deferred), decision
    assert (str(decision.status), decision.local) == (status, local)
    return str(decision.reason)


# MX records


def test_mx_by_preference() -> None:
    """MX hosts are tried by preference, on the port of the settings, with TLS where it works."""
    route = find("example.net MX 20 mx2.example.net\nexample.net 77 MX 10 mx1.example.net")
    assert route == Route(
        (
            Host("mx1.example.net", ("192.0.2.1",), 25, TlsLevel.MAY),
            Host("mx2.example.net", ("192.0.2.2",), 25, TlsLevel.MAY),
        ),
        Reason(
            "mail for example.net goes to mx1.example.net, mx2.example.net",
            "MX 10 mx1.example.net. (ttl 77) from zone",
        ),
    )


def test_equal_preference_by_chance() -> None:
    """Hosts of equal preference come in any order, those of another stay in place (RFC 5321 §5.1)."""
    zone = "\n".join(
        f"example.net MX {line}" for line in ("5 mx1.example.net", "5 mx2.example.net", "9 mx3.example.net")
    )
    orders = {tuple(hosts(find(zone, seed=seed))) for seed in range(20)}
    assert orders == {
        ("mx1.example.net", "mx2.example.net", "mx3.example.net"),
        ("mx2.example.net", "mx1.example.net", "mx3.example.net"),
    }


def test_port() -> None:
    """Another port is taken from the caller."""
    zone = ZoneResolver(HOSTS + "example.net MX 5 mx1.example.net")
    route = await_(find_route("example.net", zone, OWN, 2525, random.Random(1)))
    assert isinstance(route, Route)
    assert route.hosts[0].port == 2525


def test_domain_is_folded() -> None:
    """Case, a final dot and U-labels lead to the same question."""
    zone = ZoneResolver("xn--bcher-kva.example MX 0 .")
    for domain in ("xn--bcher-kva.example", "XN--BCHER-KVA.example.", "bücher.example", "BÜCHER.example"):
        failed(await_(find_route(domain, zone, OWN, 25, random.Random(1))), "5.1.10")
    assert {name for name, _ in zone.asked} == {"xn--bcher-kva.example"}


def test_not_a_domain() -> None:
    """A domain that is no name in any alphabet does not exist for the resolver, and is asked for as it is."""
    failed(find("", "\u2028.example"), "5.1.2")


def test_no_such_domain() -> None:
    """NXDOMAIN is final: 5.1.2."""
    text = failed(find("", "nowhere.example"), "5.1.2")
    assert text == "the domain nowhere.example does not exist [NXDOMAIN from zone]"


def test_cname_to_nowhere() -> None:
    """A domain that is a CNAME of a name that does not exist: 5.1.2, and both are named."""
    text = failed(find("example.net CNAME nowhere.example"), "5.1.2")
    assert "nowhere.example (CNAME of example.net) does not exist" in text


def test_servfail_for_mx() -> None:
    """No answer for MX defers, whatever the addresses are."""
    text = deferred(find("example.net MX !SERVFAIL\nexample.net A 192.0.2.9"), "4.4.3")
    assert "SERVFAIL" in text


def test_null_mx() -> None:
    """The null MX is final: 5.1.10 (RFC 7505), and no address is asked for."""
    resolver = ZoneResolver("example.net MX 0 .\nexample.net A 192.0.2.9")
    failed(await_(find_route("example.net", resolver, OWN, 25, random.Random(1))), "5.1.10")
    assert resolver.asked == [("example.net", RecordType.MX)]


def test_null_mx_among_others() -> None:
    """A null MX beside a host means nothing (RFC 7505 §3)."""
    route = find("example.net MX 0 .\nexample.net MX 10 mx1.example.net")
    assert hosts(route) == ["mx1.example.net"]
    assert isinstance(route, Route)
    assert ". is the root" in route.reason.text


def test_implicit_mx() -> None:
    """A domain without MX is its own host (RFC 5321 §5.1)."""
    route = find("example.net A 192.0.2.9")
    assert hosts(route) == ["example.net"]
    assert isinstance(route, Route)
    assert route.hosts[0].addresses == ("192.0.2.9",)
    assert route.reason.source == "no MX of example.net. (ttl 300) from zone, RFC 5321 §5.1"


def test_implicit_mx_over_ipv6() -> None:
    """AAAA alone is enough for an implicit MX."""
    assert hosts(find("example.net AAAA 2001:db8::9")) == ["example.net"]


def test_implicit_mx_without_address() -> None:
    """A domain with neither MX nor address takes no mail: 5.4.4."""
    text = failed(find('example.net TXT "x"'), "5.4.4")
    assert "has no address" in text


def test_mx_without_address_is_no_implicit_mx() -> None:
    """Where an MX record exists, the domain's own address is not used (RFC 5321 §5.1)."""
    text = failed(find("example.net MX 10 nowhere.example\nexample.net A 192.0.2.9"), "5.4.4")
    assert "nowhere.example. does not exist" in text


def test_cname_at_the_domain() -> None:
    """A domain that is a CNAME is processed as its target, with MX and without."""
    assert hosts(find("example.net CNAME other.example\nother.example MX 5 mx1.example.net")) == ["mx1.example.net"]
    assert hosts(find("example.net CNAME mx2.example.net")) == ["mx2.example.net"]


def test_mx_to_cname() -> None:
    """An MX host that is a CNAME is used all the same; it keeps the name the record gave."""
    route = find("example.net MX 10 alias.example.net\nalias.example.net CNAME mx1.example.net")
    assert hosts(route) == ["alias.example.net"]
    assert isinstance(route, Route)
    assert route.hosts[0].addresses == ("192.0.2.1",)


@pytest.mark.parametrize(
    ("exchange", "why"),
    [
        ("192.0.2.1", "an address, not a name"),
        ("1.2.3.4.5", "an address, not a name"),
        ("[192.0.2.1]", "no host name"),
        (r"a\000b.example.net", "no host name"),
        (r"mx\.example.net", "no host name"),
        ("-x-.example.net", "no host name"),
    ],
)
def test_mx_that_is_no_name(exchange: str, why: str) -> None:
    """An MX record with an address or an impossible name is left out, with its reason; others are used."""
    assert why in exchange_fault(exchange)
    route = find(f"example.net MX 1 {exchange}\nexample.net MX 10 mx1.example.net")
    assert hosts(route) == ["mx1.example.net"]
    assert isinstance(route, Route)
    assert why in route.reason.text
    assert why in failed(find(f"example.net MX 1 {exchange}"), "5.4.4")


def test_sick_host_is_skipped() -> None:
    """A host whose addresses cannot be looked up now is skipped while another remains."""
    route = find("example.net MX 10 sick.example.net\nexample.net MX 20 mx1.example.net")
    assert hosts(route) == ["mx1.example.net"]
    assert isinstance(route, Route)
    assert "sick.example.net. no answer" in route.reason.text


def test_only_sick_hosts() -> None:
    """If none remains because of failed lookups, the mail waits: 4.4.3."""
    text = deferred(find("example.net MX 10 sick.example.net\nexample.net MX 20 bare.example.net"), "4.4.3")
    assert "bare.example.net. has no address" in text


def test_one_family_fails() -> None:
    """An address found in one family is used when the lookup of the other fails; with none it is temporary."""
    zone = "half.example.net A 192.0.2.5\nhalf.example.net AAAA !SERVFAIL\nexample.net MX 10 half.example.net"
    assert hosts(find(zone)) == ["half.example.net"]
    zone = 'half.example.net TXT "x"\nhalf.example.net AAAA !SERVFAIL\nexample.net MX 10 half.example.net'
    deferred(find(zone), "4.4.3")


def test_hundred_mx() -> None:
    """Of 100 MX hosts the ten best are used, and no others are asked for."""
    lines = [
        f"h{number}.example.net A 192.0.2.9\nexample.net MX {number} h{number}.example.net" for number in range(100)
    ]
    random.Random(1).shuffle(lines)
    resolver = ZoneResolver("\n".join(lines))
    route = await_(find_route("example.net", resolver, OWN, 25, random.Random(1)))
    assert hosts(route) == [f"h{number}.example.net" for number in range(10)]
    assert len(resolver.asked) == 1 + 2 * 10


def test_hundred_bad_mx() -> None:
    """A reason names ten hosts that were left out, not a hundred."""
    zone = "\n".join(f"example.net MX {number} a{number}..b" for number in range(100))
    text = failed(find(zone), "5.4.4")
    assert text.count("no host name") == 10


def test_hundred_addresses() -> None:
    """Of a host with 100 addresses four are used."""
    zone = "example.net MX 1 many.example.net\n" + "\n".join(f"many.example.net A 192.0.2.{n}" for n in range(100))
    route = find(zone)
    assert isinstance(route, Route)
    assert len(set(route.hosts[0].addresses)) == 4


def test_same_host_twice() -> None:
    """A host named twice is tried once, at its better place."""
    zone = "example.net MX 30 mx1.example.net\nexample.net MX 10 mx1.example.net\nexample.net MX 20 mx2.example.net"
    assert hosts(find(zone)) == ["mx1.example.net", "mx2.example.net"]


# Ourselves


def test_own_name_in_the_list() -> None:
    """Our own name drops our preference and everything worse (RFC 5321 §5.1)."""
    lines = "10 mx1.example.net", "20 us.example.org", "20 mx2.example.net", "30 mx3.example.net"
    zone = "\n".join(f"example.net MX {line}" for line in lines)
    for seed in range(5):
        route = find(zone, seed=seed)
        assert hosts(route) == ["mx1.example.net"]
        assert isinstance(route, Route)
        assert "us.example.org. is this server" in route.reason.text


def test_own_address_in_the_list() -> None:
    """A host under another name with our address is us."""
    lines = "MX 10 mx1.example.net", "MX 20 twin.example.net", "MX 20 mx2.example.net", "MX 30 mx3.example.net"
    zone = "\n".join(f"example.net {line}" for line in lines) + "\ntwin.example.net A 198.51.100.25"
    for seed in range(5):
        assert hosts(find(zone, seed=seed)) == ["mx1.example.net"]


def test_only_ourselves() -> None:
    """If we are the best host the mail would come back: 5.4.6, by name, by address, and by implicit MX."""
    text = failed(find("example.net MX 10 us.example.org\nexample.net MX 10 mx1.example.net"), "5.4.6")
    assert "us.example.org. is this server" in text
    failed(find("example.net MX 10 twin.example.net\ntwin.example.net AAAA 2001:db8::25"), "5.4.6")
    failed(find("example.net A 198.51.100.25"), "5.4.6")


def test_sick_host_before_ourselves() -> None:
    """A better host that cannot be looked up now may take the mail later: it waits."""
    deferred(find("example.net MX 5 sick.example.net\nexample.net MX 10 us.example.org"), "4.4.3")


# Loopback


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("0.0.0.0", True),
        ("::1", True),
        ("::", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("10.0.0.1", False),
        ("::ffff:192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_is_here(address: str, here: bool) -> None:
    """Loopback and unspecified addresses end on this host, in either notation."""
    assert is_here(address) is here


def test_loopback_is_left_out() -> None:
    """An MX host on a loopback address is left out, unless the settings allow it."""
    zone = "example.net MX 5 here.example.net\nexample.net MX 10 mx1.example.net"
    assert hosts(find(zone)) == ["mx1.example.net"]
    assert hosts(find(zone, allow_loopback=True)) == ["here.example.net", "mx1.example.net"]


def test_only_loopback() -> None:
    """A domain whose hosts are all loopback takes no mail: 5.4.4, with the address in the reason."""
    text = failed(find("example.net MX 5 here.example.net"), "5.4.4")
    assert "here.example.net. has only loopback addresses (127.0.0.2)" in text


# Address literals


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:db8:0::1]", "2001:db8::1"),
        ("[ipv6:2001:DB8::1]", "2001:db8::1"),
        ("[2001:db8::1]", None),
        ("[IPv6:192.0.2.1]", None),
        ("[192.0.2.256]", None),
        ("[192.0.2.1", None),
        ("192.0.2.1", None),
        ("[tag:x]", None),
    ],
)
def test_literal_address(text: str, address: str | None) -> None:
    """An address literal is one of RFC 5321 §4.1.3, or none."""
    assert literal_address(text) == address


def test_literal_domain() -> None:
    """A literal is the one host, without a question."""
    resolver = ZoneResolver("")
    route = await_(find_route("[192.0.2.1]", resolver, OWN, 25, random.Random(1)))
    assert isinstance(route, Route)
    assert route.hosts == (Host("[192.0.2.1]", ("192.0.2.1",)),)
    assert resolver.asked == []


def test_bad_literals() -> None:
    """A literal that is none fails with 5.1.2, our own with 5.4.6, loopback with 5.4.4."""
    failed(find("", "[192.0.2.999]"), "5.1.2")
    failed(find("", "[198.51.100.25]"), "5.4.6")
    failed(find("", "[IPv6:::1]"), "5.4.4")
    assert hosts(find("", "[127.0.0.1]", allow_loopback=True)) == ["[127.0.0.1]"]


# Order of addresses


def test_families_in_turn() -> None:
    """Addresses alternate between the families, IPv6 first, in any order within one."""
    mixed = in_turn(["a6", "b6", "c6"], ["a4"], random.Random(1))
    assert mixed[1] == "a4"
    assert sorted(mixed) == ["a4", "a6", "b6", "c6"]
    assert in_turn([], ["a4"], random.Random(1)) == ("a4",)
    assert len({in_turn(["a6", "b6"], ["a4", "b4"], random.Random(seed)) for seed in range(20)}) == 4
    route = find("example.net MX 1 both.example.net")
    assert isinstance(route, Route)
    assert route.hosts[0].addresses == ("2001:db8::46", "192.0.2.46")


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcdef"))), st.integers(0, 5))
def test_by_preference_keeps_all(records: list[tuple[int, str]], seed: int) -> None:
    """Ordering loses no host, repeats none, and never puts a worse one first."""
    ordered = by_preference([Mx(*record) for record in records], random.Random(seed))
    assert {mx.exchange for mx in ordered} == {exchange for _, exchange in records}
    assert len({mx.exchange for mx in ordered}) == len(ordered)
    assert [mx.preference for mx in ordered] == sorted(mx.preference for mx in ordered)
    for mx in ordered:
        assert mx.preference == min(preference for preference, exchange in records if exchange == mx.exchange)


# Waiting


def test_cancel() -> None:
    """A lookup that is cancelled cancels its questions, and leaves no failure that nobody handles."""
    resolver = ZoneResolver("example.net MX 1 slow.example.net\nslow.example.net ANY !SILENT")
    waiting = defer.Deferred.fromCoroutine(find_route("example.net", resolver, OWN, 25, random.Random(1)))
    assert len(resolver.silent) == 2  # both families at once
    waiting.cancel()
    failure(waiting)
    for question in resolver.silent:
        assert question.called
        assert result(question) is None  # what would be logged once the question is collected


# Static routes and the smart host

EXACT = RouteSettings(domain="example.net", host="relay.example.org", source="etc/mta.toml:1")
BELOW = RouteSettings(domain=".example.net", host="[127.0.0.1]", port=10025, source="etc/mta.toml:2")
NARROW = RouteSettings(domain=".lab.example.net", host="[IPv6:2001:db8::5]", source="etc/mta.toml:3")
EVERY = RouteSettings(domain="*", host="every.example.org", source="etc/mta.toml:4")
SMART = RouteSettings(
    host="smart.example.org",
    port=587,
    tls=TlsLevel.MUST,
    login="us",
    password="secret",
    source="etc/mta.toml:5",
)
ROUTES = RelaySettings(routes=(EXACT, BELOW, NARROW), smart_host=SMART)
STATIC = """
relay.example.org   A     192.0.2.71
relay.example.org   MX    10 mx1.example.net
smart.example.org   A     192.0.2.72
smart.example.org   AAAA  2001:db8::72
every.example.org   A     192.0.2.73
sick.example.org    ANY   !SERVFAIL
"""


def router(relay: RelaySettings, zone: str = "") -> Router:
    """Make a router over the hosts above."""
    return Router(ZoneResolver(Zone.parse(HOSTS + STATIC + zone)), OWN, relay, random.Random(1))


@pytest.mark.parametrize(
    ("domain", "route"),
    [
        ("example.net", EXACT),
        ("a.example.net", BELOW),
        ("a.b.example.net", BELOW),
        ("lab.example.net", BELOW),
        ("a.lab.example.net", NARROW),
        ("badexample.net", SMART),
        ("example.org", SMART),
        ("[192.0.2.1]", SMART),
    ],
)
def test_longest_match(domain: str, route: RouteSettings) -> None:
    """The longest route wins: the domain, then the nearest domain above it, then the smart host."""
    assert static_route(domain, ROUTES) is route


def test_route_for_every_domain() -> None:
    """``*`` takes what no other route takes, before the smart host."""
    relay = RelaySettings(routes=(EVERY, EXACT), smart_host=SMART)
    assert static_route("example.org", relay) is EVERY
    assert static_route("example.net", relay) is EXACT
    assert static_route("x", RelaySettings(routes=(EVERY, RouteSettings(domain="x")))).domain == "x"  # type: ignore[union-attr]
    assert static_route("example.org", RelaySettings(routes=(EXACT,))) is None


def test_destination() -> None:
    """The key is the domain in A-labels, one for all mail that goes to the smart host."""
    mailbox = Mailbox("x", "bücher.example")
    assert destination(mailbox, RelaySettings()) == "xn--bcher-kva.example"
    assert destination(mailbox, ROUTES) == EVERY_DOMAIN
    assert destination(mailbox, RelaySettings(routes=(EVERY,))) == EVERY_DOMAIN
    assert destination(Mailbox("x", "a.example.net"), ROUTES) == "a.example.net"
    assert destination(Mailbox("x", "[192.0.2.1]"), RelaySettings()) == "[192.0.2.1]"


def test_static_route() -> None:
    """A static host is looked up by address, never by MX, and gets the relay's port."""
    made = router(ROUTES)
    assert await_(made.route("example.net")) == Route(
        (Host("relay.example.org", ("192.0.2.71",), 25),),
        Reason("the route of example.net is relay.example.org", "etc/mta.toml:1"),
    )


def test_static_literal() -> None:
    """A static address is used as it is, loopback too, on its own port."""
    route = await_(router(ROUTES).route("a.example.net"))
    assert isinstance(route, Route)
    assert route.hosts == (Host("[127.0.0.1]", ("127.0.0.1",), 10025),)
    route = await_(router(ROUTES).route("a.lab.example.net"))
    assert isinstance(route, Route)
    assert route.hosts[0].addresses == ("2001:db8::5",)


def test_smart_host() -> None:
    """The smart host comes with its port, TLS level and login, under either kind of key."""
    for key in (EVERY_DOMAIN, "example.org"):
        route = await_(router(ROUTES).route(key))
        assert isinstance(route, Route)
        (host,) = route.hosts
        assert host.login == Login("us", "secret")
        assert (host.name, host.port, host.tls) == ("smart.example.org", 587, TlsLevel.MUST)
        assert host.addresses == ("2001:db8::72", "192.0.2.72")
        assert route.reason == Reason("the smart host is smart.example.org", "etc/mta.toml:5")


def test_smart_host_is_gone() -> None:
    """Mail queued for a smart host that was taken out of the settings is kept, and is our own fault."""
    deferred(await_(router(RelaySettings()).route(EVERY_DOMAIN)), "4.4.4", local=True)


def test_static_host_cannot_be_looked_up() -> None:
    """A failing lookup of a static host defers; a static host that does not exist never bounces mail."""
    sick = RelaySettings(smart_host=RouteSettings(host="sick.example.org", source="f:1"))
    deferred(await_(router(sick).route(EVERY_DOMAIN)), "4.4.3")
    gone = RelaySettings(smart_host=RouteSettings(host="gone.example.org", source="f:1"))
    text = deferred(await_(router(gone).route(EVERY_DOMAIN)), "4.4.4", local=True)
    assert text == "the smart host is gone.example.org: does not exist [f:1]"


def test_without_static_route() -> None:
    """What no route takes goes by MX, on the relay's port."""
    relay = RelaySettings(port=2525, routes=(EXACT,))
    route = await_(router(relay, "example.com MX 5 mx1.example.net").route("example.com"))
    assert isinstance(route, Route)
    assert route.hosts == (Host("mx1.example.net", ("192.0.2.1",), 2525),)

"""`mta.mailauth.iprev`: each line of its table, and names that somebody else writes."""

from __future__ import annotations

import ipaddress

import pytest
from twisted.internet import defer

from mta.dns.answer import RecordType
from mta.mail.reason import Reason
from mta.mailauth.iprev import NAMES_MAXIMUM, client_address, iprev, reverse
from mta.mailauth.result import Iprev, IprevResult
from tests.doubles.dns import ZoneResolver
from tests.doubles.sync import failure, result

PTR = "1.2.0.192.in-addr.arpa PTR "
SIX = ipaddress.ip_address("2001:db8::1")


def check(zone: str, address: str = "192.0.2.1") -> Iprev:
    """Check an address against a zone."""
    return result(defer.Deferred.fromCoroutine(iprev(ZoneResolver(zone), address)))


def test_pass() -> None:
    """A name that has the address is confirmed."""
    reason = Reason("192.0.2.1 is mx.example.net, and mx.example.net is 192.0.2.1", "PTR of 192.0.2.1 from zone")
    assert check(f"{PTR} mx.example.net\nmx.example.net A 192.0.2.9\nmx.example.net A 192.0.2.1") == Iprev(
        IprevResult.PASS, reason, "mx.example.net"
    )


def test_pass_of_ipv6() -> None:
    """An IPv6 address is looked for under ip6.arpa and among AAAA records, however they are written."""
    zone = f"{SIX.reverse_pointer} PTR mx.example.net\nmx.example.net AAAA 2001:0DB8:0::1\nmx.example.net A 192.0.2.1"
    assert check(zone, "2001:db8::1").name == "mx.example.net"
    assert check(zone, "2001:db8::1%eth0").name == "mx.example.net"


def test_ipv4_mapped() -> None:
    """An IPv4-mapped address is the IPv4 address."""
    assert check(f"{PTR} mx.example.net\nmx.example.net A 192.0.2.1", "::ffff:192.0.2.1").name == "mx.example.net"


def test_first_confirmed_name() -> None:
    """Of several names the first one that leads back counts, whatever came of those before it."""
    zone = f"{PTR} a.example\n{PTR} b.example\n{PTR} c.example\n{PTR} d.example\n"
    zone += "a.example A 192.0.2.7\nb.example A !SERVFAIL\nc.example A 192.0.2.1\nd.example A 192.0.2.1"
    assert check(zone).name == "c.example"


def test_no_name() -> None:
    """An address without PTR records, or without a name in the tree, is a permerror (RFC 8601 §2.7.3)."""
    for zone in ("", "1.2.0.192.in-addr.arpa TXT x"):
        assert check(zone) == Iprev(
            IprevResult.PERMERROR, Reason("192.0.2.1 has no name", "PTR of 192.0.2.1 from zone")
        )


@pytest.mark.parametrize(
    "forward", ["mx.example.net A 192.0.2.2", "mx.example.net TXT x", "mx.example.net AAAA ::1", ""]
)
def test_fail(forward: str) -> None:
    """A name with other addresses, none, or that does not exist, is a fail."""
    found = check(f"{PTR} mx.example.net\n{PTR} mx.example.org\n{forward}")
    assert (found.result, found.name) == (IprevResult.FAIL, "")
    assert found.reason.text == "192.0.2.1 is called mx.example.net and 1 more, which is not 192.0.2.1"


def test_temperror_of_the_address() -> None:
    """No answer about the address is a temperror."""
    found = check(f"{PTR} !SERVFAIL")
    assert found == Iprev(IprevResult.TEMPERROR, Reason("no answer: PTR of 1.2.0.192.in-addr.arpa: SERVFAIL", "zone"))


def test_temperror_of_a_name() -> None:
    """No answer about a name is a temperror where no other name is confirmed."""
    found = check(f"{PTR} a.example\n{PTR} b.example\na.example A 192.0.2.2\nb.example A !SERVFAIL")
    assert found == Iprev(IprevResult.TEMPERROR, Reason("no answer: A of b.example: SERVFAIL", "zone"))


def test_names_are_bounded() -> None:
    """Of a long list of names the first ten are asked for, and no more."""
    zone = "".join(f"{PTR} n{number}.example\n" for number in range(11)) + "n10.example A 192.0.2.1"
    resolver = ZoneResolver(zone)
    found = result(defer.Deferred.fromCoroutine(iprev(resolver, "192.0.2.1")))
    assert found.result is IprevResult.FAIL
    assert [name for name, kind in resolver.asked if kind is RecordType.A] == [
        f"n{number}.example" for number in range(NAMES_MAXIMUM)
    ]


def test_odd_names_are_not_asked_for() -> None:
    """A name that is no host name is no name, though it counts among the ten."""
    names = ['a\\"b.example', "a\\.b.example", "a)(.example", "\\000.example", "x" * 64 + ".example", "", "-a.example"]
    resolver = ZoneResolver("mx.example.net A 192.0.2.1")
    for name in [*names, "mx.example.net"]:
        resolver.zone.add("1.2.0.192.in-addr.arpa", "PTR", name)
        resolver.zone.add(name, "A", "192.0.2.1")
    found = result(defer.Deferred.fromCoroutine(iprev(resolver, "192.0.2.1")))
    assert found.name == "mx.example.net"
    assert [name for name, kind in resolver.asked if kind is RecordType.A] == ["mx.example.net"]


def test_names_are_asked_for_together() -> None:
    """All names are asked about at once, and a cancelled check cancels its questions."""
    resolver = ZoneResolver("".join(f"{PTR} n{number}.example\nn{number}.example A !SILENT\n" for number in range(3)))
    checking = defer.Deferred.fromCoroutine(reverse(resolver, client_address("192.0.2.1")))
    assert len(resolver.silent) == 3
    checking.cancel()
    assert isinstance(failure(checking), defer.CancelledError)
    assert all(question.called for question in resolver.silent)


def test_no_address() -> None:
    """What is no address is a bug of the caller."""
    with pytest.raises(ValueError, match="mx"):
        client_address("mx.example.net")

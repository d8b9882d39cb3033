"""`mta.dns.wire`: questions out, answers in, whatever else comes in ignored."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.dns.answer import Failure, Found, Mx, NoData, NoSuchName, RecordType
from mta.dns.wire import CHAIN_MAXIMUM, TRUNCATED, Alias, Query, query, read
from tests.doubles.dns import Zone
from tests.doubles.dns_server import respond

ZONE = Zone.parse(
    """
    example.net        MX    20 MX2.example.net
    example.net        MX    10 mx1.example.net.
    example.net   60   A     192.0.2.1
    v6.example.net     AAAA  2001:db8::1
    text.example.net   TXT   "v=spf1" " -all"
    1.2.0.192.in-addr.arpa  PTR  Host.example.net
    null.example.net   MX    0 .
    www.example.net    CNAME example.net
    lost.example.net   CNAME nowhere.example.net
    loop.example.net   CNAME pool.example.net
    pool.example.net   CNAME loop.example.net
    sick.example.net   ANY   !SERVFAIL
    cut.example.net    ANY   !CUT
    odd.example.net    ANY   !GARBAGE
    self.example.net   ANY   !COMPRESSION
    ref.example.net    ANY   !REFERRAL
    """
)


def ask(name: str, rdtype: RecordType = RecordType.MX, trusted: bool = False) -> object:
    """Read what the zone's server says."""
    asked = query(name, rdtype, 4711)
    octets = respond(ZONE, asked.octets, tcp=False)
    assert octets is not None
    return read(asked, octets, "server", trusted)


def respond_with(asked: Query, *rrsets: str, authority: str = "", rcode: str = "NOERROR", flags: int = 0) -> bytes:
    """Make a response by hand."""
    response = dns.message.make_response(asked.message)
    for rrset in rrsets:
        response.answer.append(dns.rrset.from_text(*rrset.split(maxsplit=4)))
    if authority:
        response.authority.append(dns.rrset.from_text(*authority.split(maxsplit=4)))
    response.set_rcode(dns.rcode.from_text(rcode))
    response.flags |= flags
    return response.to_wire()


def test_question() -> None:
    """A question asks for recursion and AD, offers 1,232 octets (EDNS) and carries the id it is given."""
    message = dns.message.from_wire(query("Example.NET.", RecordType.MX, 0xBEEF).octets)
    assert message.id == 0xBEEF
    assert message.flags == dns.flags.RD | dns.flags.AD
    assert (message.edns, message.payload) == (0, 1232)
    assert message.question[0].to_text() == "Example.NET. IN MX"


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".net", ".".join(["x" * 60] * 5), "bücher.example", "\\999.net"])
def test_no_name(name: str) -> None:
    """What cannot be a domain name is refused before it is asked for (RFC 1035 §2.3.4)."""
    with pytest.raises(ValueError, match="no domain name"):
        query(name, RecordType.A, 1)


def test_records_of_each_type() -> None:
    """Records become values: names in lower case without the final dot, the strings of a TXT joined."""
    mx = ask("example.net")
    assert isinstance(mx, Found)
    assert set(mx.records) == {Mx(20, "mx2.example.net"), Mx(10, "mx1.example.net")}
    assert ask("example.net", RecordType.A) == Found("example.net", ("192.0.2.1",), 60, False, "server")
    assert ask("v6.example.net", RecordType.AAAA) == Found("v6.example.net", ("2001:db8::1",), 300, False, "server")
    assert ask("text.example.net", RecordType.TXT) == Found("text.example.net", (b"v=spf1 -all",), 300, False, "server")
    assert ask("1.2.0.192.in-addr.arpa", RecordType.PTR) == Found(
        "1.2.0.192.in-addr.arpa", ("host.example.net",), 300, False, "server"
    )


def test_null_mx() -> None:
    """The root as an exchange is the empty name."""
    assert ask("null.example.net") == Found("null.example.net", (Mx(0, ""),), 300, False, "server")
    assert str(Mx(0, "")) == "0 ."


def test_negative() -> None:
    """NODATA and NXDOMAIN differ, and live as long as the SOA's MINIMUM says (RFC 2308 §5)."""
    assert ask("v6.example.net") == NoData("v6.example.net", 60, False, "server")
    assert ask("nowhere.example.net") == NoSuchName("nowhere.example.net", 60, False, "server")


def test_negative_with_a_minimum_of_zero() -> None:
    """A MINIMUM of 0 is 0, not the default."""
    asked = query("a.net", RecordType.A, 1)
    octets = respond_with(asked, authority="net. 300 IN SOA a. b. 1 2 3 4 0")
    assert read(asked, octets, "server", False) == NoData("a.net", 0, False, "server")


def test_negative_without_soa() -> None:
    """Without a SOA a negative answer holds for five seconds."""
    asked = query("a.net", RecordType.A, 1)
    assert read(asked, respond_with(asked), "s", False) == NoData("a.net", 5, False, "s")
    assert read(asked, respond_with(asked, rcode="NXDOMAIN"), "s", False) == NoSuchName("a.net", 5, False, "s")


def test_cname() -> None:
    """A CNAME chain is walked; the canonical name is at its end; the shortest TTL of the chain counts."""
    assert ask("www.example.net", RecordType.A) == Found("example.net", ("192.0.2.1",), 60, False, "server")
    assert ask("lost.example.net") == NoSuchName("nowhere.example.net", 60, False, "server")
    asked = query("a.net", RecordType.A, 1)
    octets = respond_with(asked, "a.net. 7 IN CNAME b.net.", "b.net. 300 IN A 192.0.2.1")
    assert read(asked, octets, "s", False) == Found("b.net", ("192.0.2.1",), 7, False, "s")


def test_unfinished_cname() -> None:
    """A CNAME whose target the answer says nothing about is an alias to be asked for, not an empty name."""
    asked = query("a.net", RecordType.A, 1)
    assert read(asked, respond_with(asked, "a.net. 7 IN CNAME b.org."), "s", False) == Alias("b.org", 7, False)


def test_cname_loop() -> None:
    """A loop of CNAME records is a failure, not an endless walk."""
    answer = ask("loop.example.net")
    assert isinstance(answer, Failure)
    assert "loop" in answer.text


@pytest.mark.parametrize(("links", "kind"), [(CHAIN_MAXIMUM, Found), (CHAIN_MAXIMUM + 1, Failure)])
def test_cname_chain_is_bounded(links: int, kind: type) -> None:
    """Eight CNAME records are followed, nine are not."""
    asked = query("n0.net", RecordType.A, 1)
    aliases = [f"n{number}.net. 9 IN CNAME n{number + 1}.net." for number in range(links)]
    octets = respond_with(asked, *aliases, f"n{links}.net. 9 IN A 192.0.2.1")
    assert isinstance(read(asked, octets, "s", False), kind)


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"])
def test_failures(rcode: str) -> None:
    """An rcode that says nothing about the name is a failure, which is temporary."""
    asked = query("a.net", RecordType.MX, 1)
    assert read(asked, respond_with(asked, rcode=rcode), "s", False) == Failure(f"MX of a.net: {rcode}", "s")


def test_contradiction() -> None:
    """NXDOMAIN with records is a failure: one of the two is wrong."""
    asked = query("a.net", RecordType.A, 1)
    octets = respond_with(asked, "a.net. 7 IN A 192.0.2.1", rcode="NXDOMAIN")
    assert isinstance(read(asked, octets, "s", False), Failure)


def test_referral() -> None:
    """A referral says nothing about the name: a server without recursion must not make mail bounce."""
    answer = ask("ref.example.net")
    assert isinstance(answer, Failure)
    assert "referral" in answer.text


@pytest.mark.parametrize(("trusted", "flag", "authenticated"), [(True, 32, True), (True, 0, False), (False, 32, False)])
def test_authenticated(trusted: bool, flag: int, authenticated: bool) -> None:
    """AD counts from a trusted server alone, in every kind of answer about the name."""
    asked = query("a.net", RecordType.A, 1)
    for answer in (["a.net. 7 IN A 192.0.2.1"], []):
        found = read(asked, respond_with(asked, *answer, flags=flag), "s", trusted)
        assert isinstance(found, Found | NoData)
        assert found.authenticated is authenticated
    missing = read(asked, respond_with(asked, rcode="NXDOMAIN", flags=flag), "s", trusted)
    assert isinstance(missing, NoSuchName)
    assert missing.authenticated is authenticated


def test_truncated() -> None:
    """TC asks for TCP, also where the answer was cut in the middle of a record; what it holds is not used."""
    assert ask("cut.example.net") is TRUNCATED
    asked = query("a.net", RecordType.A, 1)
    octets = respond_with(asked, "a.net. 7 IN A 192.0.2.1", flags=dns.flags.TC)
    assert read(asked, octets, "s", False) is TRUNCATED
    assert read(asked, octets[:-14], "s", False) is TRUNCATED


@pytest.mark.parametrize("name", ["odd.example.net", "self.example.net"])
def test_malformed(name: str) -> None:
    """Octets that are no message, and names that point to themselves, are no answer."""
    assert ask(name) is None


def test_not_ours() -> None:
    """Another id, another question, another type, or a question sent back is no answer."""
    asked = query("a.net", RecordType.A, 1)
    assert read(asked, respond_with(query("a.net", RecordType.A, 2)), "s", False) is None
    assert read(asked, respond_with(query("b.net", RecordType.A, 1)), "s", False) is None
    assert read(asked, respond_with(query("a.net", RecordType.MX, 1)), "s", False) is None
    assert read(asked, asked.octets, "s", False) is None
    assert read(asked, b"", "s", False) is None
    assert read(asked, asked.octets[:2], "s", False) is None
    update = dns.message.from_wire(asked.octets[:2] + b"\xa8\x00" + b"\0" * 8).to_wire()
    assert read(asked, update, "s", False) is None


def test_case_of_the_question() -> None:
    """A server that repeats the question in another case has answered it."""
    asked = query("a.net", RecordType.A, 1)
    assert isinstance(read(asked, respond_with(query("A.NET", RecordType.A, 1)), "s", False), NoData)


def test_odd_octets_in_names() -> None:
    """NUL, CR, dots and octets above 127 inside a label come out escaped, as printable ASCII."""
    asked = query("a.net", RecordType.MX, 1)
    octets = respond_with(asked, r"a.net. 7 IN MX 10 x\000y\013\010\.\255.net.")
    answer = read(asked, octets, "s", False)
    assert isinstance(answer, Found)
    assert answer.records == (Mx(10, r"x\000y\013\010\.\255.net"),)


def test_equal_records_once() -> None:
    """Records that differ in the case of names alone are one."""
    asked = query("a.net", RecordType.MX, 1)
    octets = respond_with(asked, "a.net. 7 IN MX 10 B.net.", "a.net. 7 IN MX 10 b.net.")
    answer = read(asked, octets, "s", False)
    assert isinstance(answer, Found)
    assert answer.records == (Mx(10, "b.net"),)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_octets(data: st.DataObject) -> None:
    """Whatever octets arrive under our id, reading them ends with a verdict, not with an exception."""
    asked = query("example.net", RecordType.MX, 1)
    good = bytearray(respond_with(asked, "example.net. 7 IN MX 10 b.net.", "example.net. 7 IN TXT x"))
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(2, len(good) - 1))] = data.draw(st.integers(0, 255))
    octets = bytes(good[: data.draw(st.integers(2, len(good)))])
    read(asked, octets, "s", True)
    read(asked, octets[:2] + data.draw(st.binary(max_size=80)), "s", True)

"""`mta.mailauth.spf` beside the public suite: identities, limits, deadline, reasons, explanations, hostile records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.task import Clock

from mta.dns.answer import Answer, Failure, Found, Mx, NoData, NoSuchName, Record, RecordType
from mta.mail.reason import Reason
from mta.mailauth.result import Spf, SpfResult
from mta.mailauth.spf import SpfChecker
from mta.mailauth.spf_check import SpfLimits
from mta.smtp.address import Mailbox
from tests.doubles.dns import ZoneResolver
from tests.doubles.sync import failure, result

CLIENT = "192.0.2.1"
CLIENT6 = "2001:db8::1"
ALICE = Mailbox("alice", "example.net")
HELO = "mx.example.net"


class Bench:
    """A checker over a zone, with its clock; wall time is far from the clock's."""

    def __init__(self, zone: ZoneResolver | str, **limits: Any) -> None:
        self.resolver: Any = ZoneResolver(zone) if isinstance(zone, str) else zone
        self.clock = Clock()
        self.checker = SpfChecker(
            self.resolver, self.clock, lambda: 1700000000.5, "mx.example.org", SpfLimits(**limits)
        )

    def start(self, sender: Mailbox | None = ALICE, address: str = CLIENT, helo: str = HELO) -> defer.Deferred[Spf]:
        """Begin to check MAIL FROM."""
        return defer.Deferred.fromCoroutine(self.checker.mail_from(address, sender, helo))

    def names(self, rdtype: RecordType) -> list[str]:
        """The names that were asked for."""
        return [name for name, kind in self.resolver.asked if kind is rdtype]


def check(zone: str, sender: Mailbox | None = ALICE, address: str = CLIENT, helo: str = HELO, **limits: Any) -> Spf:
    """Check MAIL FROM, where nothing has to be waited for."""
    bench = Bench(zone, **limits)
    spf = result(bench.start(sender, address, helo))
    assert not bench.clock.getDelayedCalls()
    return spf


def example(terms: str, more: str = "", /, **given: Any) -> Spf:
    """Check a client against a record of example.net."""
    return check(f"example.net TXT v=spf1 {terms}\n{more}", **given)


def value(terms: str, more: str = "", /, **given: Any) -> str:
    """The word for the result of `example`."""
    return example(terms, more, **given).result.value


# Identities


def test_mail_from() -> None:
    """The domain of MAIL FROM is checked, and the reason names mechanism and record."""
    assert example("a:mx.example.net -all", "mx.example.net A 192.0.2.2") == Spf(
        SpfResult.FAIL,
        "mailfrom",
        "example.net",
        Reason("-all matched 192.0.2.1", "v=spf1 record of example.net"),
    )


def test_null_reverse_path() -> None:
    """For ``<>`` it is postmaster at what the client called itself (RFC 7208 §2.4)."""
    spf = check("mx.example.net TXT v=spf1 exists:%{l}.%{o}.x\npostmaster.mx.example.net.x A 127.0.0.2", sender=None)
    assert (spf.result, spf.identity, spf.domain) == (SpfResult.PASS, "mailfrom", "mx.example.net")


def test_helo() -> None:
    """HELO is checked as postmaster of that name (RFC 7208 §2.3)."""
    bench = Bench(
        "mx.example.net TXT v=spf1 exists:%{s}.%{h}.x\npostmaster@mx.example.net.mx.example.net.x A 127.0.0.2"
    )
    bench.resolver.zone.add("postmaster\\@mx.example.net.mx.example.net.x", "A", "127.0.0.2")
    spf = result(defer.Deferred.fromCoroutine(bench.checker.helo(CLIENT, "MX.Example.Net.")))
    assert (spf.result, spf.identity, spf.domain) == (SpfResult.PASS, "helo", "mx.example.net")


def test_no_local_part() -> None:
    """An empty local-part is postmaster (RFC 7208 §4.3)."""
    assert value("exists:%{l}.x -all", "postmaster.x A 127.0.0.2", sender=Mailbox("", "example.net")) == "pass"


@pytest.mark.parametrize(
    "domain",
    ["", "example", "example.", "[192.0.2.1]", "192.0.2.1", "[IPv6:2001:db8::1]", "a..example.net", "a b.example.net",
     "x" * 64 + ".example.net", ".".join(["x" * 60] * 5), "???", "-a.example.net", "\u2028.example", "\x1b[2J.example",
     "a.b\\.example"],
)  # fmt: skip
def test_nothing_to_ask(domain: str) -> None:
    """A malformed domain, an address literal or a single label has no policy, and is not asked for (RFC 7208 §4.3)."""
    bench = Bench("")
    spf = result(bench.start(Mailbox("alice", domain)))
    assert (spf.result, spf.reason.source) == (SpfResult.NONE, "RFC 7208 §4.3")
    assert str(spf.reason).replace("§", "").isascii()
    assert str(spf.reason).isprintable()
    assert result(bench.start(None, helo=domain)).result is SpfResult.NONE
    assert bench.resolver.asked == []


def test_no_such_domain() -> None:
    """A domain that does not exist, or has no record, has no policy."""
    for zone in ("", "example.net A 192.0.2.1", "example.net TXT v=spf10 -all"):
        spf = check(zone)
        assert spf.result is SpfResult.NONE
        assert spf.reason == Reason("example.net publishes no SPF record", "TXT of example.net from zone")


def test_no_answer() -> None:
    """A name server that cannot answer is a temperror, with what it said."""
    spf = check("example.net TXT !SERVFAIL")
    assert spf.result is SpfResult.TEMPERROR
    assert spf.reason == Reason("no answer: TXT of example.net: SERVFAIL", "zone")


def test_bad_address() -> None:
    """A client without an address is a bug of the caller."""
    assert isinstance(failure(Bench("").start(address="unix")), ValueError)


@pytest.mark.parametrize("domain", ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example"])
def test_idn(domain: str) -> None:
    """U-labels are A-labels to the domain name system, and to every macro (RFC 8616 §4)."""
    zone = "xn--bcher-kva.example TXT v=spf1 exists:%{d}.%{o}.%{h}.x -all\n"
    zone += "xn--bcher-kva.example.xn--bcher-kva.example.xn--bcher-kva.example.x A 127.0.0.2"
    spf = check(zone, sender=Mailbox("alice", domain), helo=domain)
    assert (spf.result, spf.domain) == (SpfResult.PASS, "xn--bcher-kva.example")


JOSE = Mailbox("josé", "example.net")


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ("exists:%{l}.x -all", "fail"),
        ("a:%{s}.x mx:%{L}.x ptr:%{l1}.x exists:%{lr}.x -all", "fail"),
        ("include:%{l}.x -all", "fail"),
        ("redirect=%{l}.x", "neutral"),
        ("exists:%{o}.x -all", "pass"),
    ],
)
def test_local_part_not_in_ascii(terms: str, expected: str) -> None:
    """A term with a local-part that is not in ASCII matches nothing and asks nothing (RFC 8616 §4)."""
    bench = Bench(f"example.net TXT v=spf1 {terms}\nexample.net.x A 127.0.0.2")
    assert result(bench.start(JOSE)).result.value == expected
    assert all(name.isascii() for name, _ in bench.resolver.asked)
    assert len(bench.resolver.asked) == (2 if expected == "pass" else 1)


def test_domain_not_in_ascii_is_never_asked_for() -> None:
    """A HELO that is no name in any alphabet does not match."""
    assert value("exists:%{h}.x -all", helo="\u2028.example") == "fail"


@pytest.mark.parametrize("address", ["::ffff:192.0.2.1", "::FFFF:C000:0201"])
def test_ipv4_mapped(address: str) -> None:
    """An IPv4-mapped IPv6 address is IPv4, to mechanisms and macros (RFC 7208 §5)."""
    assert value("ip4:192.0.2.1 -all", address=address) == "pass"
    assert value("ip6:::ffff:0:0/96 -all", address=address) == "fail"
    assert value("a -all", "example.net A 192.0.2.1", address=address) == "pass"
    assert value("exists:%{i}.%{v}.x -all", "192.0.2.1.in-addr.x A 127.0.0.2", address=address) == "pass"


# Reasons


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ("~a", "~a matched 192.0.2.1"),
        ("ip4:192.0.2.0/24", "ip4:192.0.2.0/24 matched 192.0.2.1"),
        ("mx:mail.example", "mx:mail.example matched 192.0.2.1: mx.mail.example"),
        ("?ptr:host.example", "?ptr:host.example matched 192.0.2.1: host.example"),
        ("exists:%{ir}.x.example", "exists:%{ir}.x.example matched 192.0.2.1: 1.2.0.192.x.example"),
        (
            "include:a.example",
            "include:a.example matched 192.0.2.1: include:b.example matched 192.0.2.1: "
            "all matched 192.0.2.1 in the v=spf1 record of b.example in the v=spf1 record of a.example",
        ),
        ("ip4:192.0.2.2", "nothing matched 192.0.2.1"),
        ("moo", "moo is no mechanism, at octet 7"),
        ("include:bad.example", "include:bad.example: moo is no mechanism, at octet 7"),
        ("include:none.example", "include:none.example: none.example publishes no SPF record"),
        ("include:sick.example", "include:sick.example: no answer: TXT of sick.example: SERVFAIL"),
        ("include:a..example", "the target of include:a..example has an empty or too long label"),
        ("redirect=none.example", "redirect= to none.example, which publishes no SPF record"),
        ("redirect=a..example", "the target of redirect= has an empty or too long label"),
        ("mx:many.example", "mx:many.example: many.example has 11 MX records"),
        ("a:sick.example", "no answer: A of sick.example: SERVFAIL"),
        ("mx:sick.example", "no answer: MX of sick.example: SERVFAIL"),
        ("exists:sick.example", "no answer: A of sick.example: SERVFAIL"),
    ],
)
def test_reasons(terms: str, reason: str) -> None:
    """The reason says which mechanism matched what by which name, or what the error is."""
    zone = """
        example.net A 192.0.2.1
        mail.example MX 10 mx.mail.example
        mx.mail.example A 192.0.2.1
        1.2.0.192.in-addr.arpa PTR host.example
        host.example A 192.0.2.1
        1.2.0.192.x.example A 127.0.0.2
        a.example TXT v=spf1 include:b.example
        b.example TXT v=spf1 all
        bad.example TXT v=spf1 moo
        none.example A 192.0.2.1
        sick.example ANY !SERVFAIL
    """ + "\n".join(f"many.example MX 10 m{number}.example" for number in range(11))
    assert example(terms, zone).reason.text == reason


@pytest.mark.parametrize(
    ("terms", "source"),
    [
        ("all", "v=spf1 record of example.net"),
        ("", "v=spf1 record of example.net"),
        ("redirect=a.example", "v=spf1 record of a.example"),
        ("include:a.example", "v=spf1 record of example.net"),
        ("include:bad.example", "v=spf1 record of bad.example"),
        ("include:none.example", "v=spf1 record of example.net"),
        ("redirect=none.example", "v=spf1 record of example.net"),
        ("a a a a a a a a a a a", "RFC 7208 §4.6.4"),
    ],
)
def test_sources(terms: str, source: str) -> None:
    """The source is the record that decided, or the section of the RFC."""
    zone = "a.example TXT v=spf1 all\nbad.example TXT v=spf1 moo\nexample.net A 192.0.2.9"
    assert example(terms, zone).reason.source == source


def test_long_terms_are_cut() -> None:
    """A reason does not grow with the record."""
    long = "x" * 5000
    assert len(str(example(f"a:{long}.example").reason)) < 300
    assert len(str(example(f"exists:{long}.y.%{{d}} {long}").reason)) < 300
    assert len(str(example(f"include:%{{d1}}{long}.example").reason)) < 300


# Mechanisms


def test_redirect_needs_no_match() -> None:
    """Redirect is followed where nothing matched, in whatever place it stands, and with it goes <domain>."""
    zone = "a.example TXT v=spf1 exists:%{d}.x -all\na.example.x A 127.0.0.2"
    assert value("redirect=a.example ip4:192.0.2.9", zone) == "pass"
    assert value("redirect=a.example ~all", zone) == "softfail"


def test_prefix_lengths() -> None:
    """A and mx compare as many bits as the length of the client's family says (RFC 7208 §5.3)."""
    zone = "example.net A 192.0.3.255\nexample.net AAAA 2001:db8:0:1:ffff::\nexample.net MX 1 example.net"
    for name in ("a", "mx"):
        assert value(f"{name}/23 -all", zone) == "pass"
        assert value(f"{name}/24 -all", zone) == "fail"
        assert value(f"{name}/24//63 -all", zone, address=CLIENT6) == "pass"
        assert value(f"{name}/0//64 -all", zone, address=CLIENT6) == "fail"


def test_mx_hosts_by_preference() -> None:
    """The best MX host that has the address matches, whatever stands of others."""
    zone = "example.net MX 30 c.example\nexample.net MX 10 a.example\nexample.net MX 20 b.example\n"
    zone += "a.example A !SERVFAIL\nb.example A 192.0.2.1\nc.example A 192.0.2.1"
    assert example("mx -all", zone).reason.text == "mx matched 192.0.2.1: b.example"


def test_mx_host_without_an_answer() -> None:
    """An MX host that nobody can tell about is a temperror where no other matches."""
    zone = "example.net MX 10 a.example\nexample.net MX 20 b.example\na.example A !SERVFAIL\nb.example A 192.0.2.2"
    spf = example("mx -all", zone)
    assert (spf.result, spf.reason.text) == (SpfResult.TEMPERROR, "no answer: A of a.example: SERVFAIL")


def test_mx_does_not_wait_for_worse_hosts() -> None:
    """The first host that matches ends the questions about the others."""
    bench = Bench("example.net TXT v=spf1 mx\nexample.net MX 10 a.example\nexample.net MX 20 b.example\n"
                  "a.example A 192.0.2.1\nb.example A !SILENT")  # fmt: skip
    assert result(bench.start()).result is SpfResult.PASS
    assert [question.called for question in bench.resolver.silent] == [True]


def test_null_mx() -> None:
    """A null MX (RFC 7505) names no host: nothing is asked, nothing matches, and it is no void lookup."""
    bench = Bench("example.net TXT v=spf1 mx mx mx -all\nexample.net MX 0 .")
    assert result(bench.start()).result is SpfResult.FAIL
    assert bench.names(RecordType.A) == []


def test_ptr_without_an_answer() -> None:
    """A DNS error for PTR is no match, one for a name skips it (RFC 7208 §5.5)."""
    assert value("ptr ptr ptr -all", "1.2.0.192.in-addr.arpa PTR !SERVFAIL") == "fail"
    zone = "1.2.0.192.in-addr.arpa PTR a.example.net\n1.2.0.192.in-addr.arpa PTR b.example.net\n"
    zone += "a.example.net A !SERVFAIL\nb.example.net A 192.0.2.1"
    assert value("ptr -all", zone) == "pass"


def test_ptr_matches_whole_labels() -> None:
    """A name is in a domain if it is the domain or ends in a dot and the domain."""
    zone = "1.2.0.192.in-addr.arpa PTR badexample.net\nbadexample.net A 192.0.2.1"
    assert value("ptr -all", zone) == "fail"
    assert value("ptr:badexample.net -all", zone) == "pass"
    assert value("ptr:net. -all", zone) == "permerror"


def test_macro_p_prefers_the_domain() -> None:
    """%{p} is <domain> if that is validated, else a name below it, else any, else "unknown" (RFC 7208 §7.3)."""
    names = ["a.example", "sub.example.net", "example.net"]
    for count, expected in [(3, "example.net"), (2, "sub.example.net"), (1, "a.example"), (0, "unknown")]:
        zone = "".join(f"1.2.0.192.in-addr.arpa PTR {name}\n{name} A 192.0.2.1\n" for name in names[:count])
        bench = Bench(f"example.net TXT v=spf1 exists:%{{p}}.x\n{zone}")
        result(bench.start())
        assert bench.names(RecordType.A)[-1] == f"{expected}.x"


def test_names_of_the_client_are_asked_for_once() -> None:
    """The names of the client are the same for all terms of a check."""
    bench = Bench(
        "example.net TXT v=spf1 ptr:a.example exists:%{p}.x ptr -all exp=%{p}.y\n"
        "1.2.0.192.in-addr.arpa PTR b.example\nb.example A 192.0.2.1"
    )
    assert result(bench.start()).result is SpfResult.FAIL
    assert bench.names(RecordType.PTR) == ["1.2.0.192.in-addr.arpa"]
    assert bench.names(RecordType.A) == ["b.example", "b.example.x"]


def test_what_a_client_writes_is_one_label() -> None:
    """Backslash and quotes of a local-part reach the name server as themselves."""
    bench = Bench("example.net TXT v=spf1 exists:%{l}.x")
    result(bench.start(Mailbox('a\\046"b c', "example.net")))
    assert bench.names(RecordType.A) == ['a\\\\046\\"b\\032c.x']


# Limits


def voids(count: int) -> str:
    """Terms for which there is nothing."""
    return " ".join(f"exists:v{number}.example" for number in range(count))


def test_terms_are_counted_over_records() -> None:
    """Ten terms may query, over includes and redirects (RFC 7208 §4.6.4)."""
    zone = "example.net A 192.0.2.9\na.example TXT v=spf1 " + "a:example.net " * 4 + "\n"
    more = "b.example TXT v=spf1 {} ip4:192.0.2.1"
    ten, eleven = (more.format("a:example.net " * count) for count in (4, 5))
    assert value("include:a.example redirect=b.example", zone + ten) == "pass"
    assert value("include:a.example redirect=b.example", zone + eleven) == "permerror"


def test_loops_end() -> None:
    """A record that refers to itself is a permerror after ten terms."""
    for terms in ("include:example.net", "redirect=example.net", "redirect=%{d}", "include:%{o} -all"):
        bench = Bench(f"example.net TXT v=spf1 {terms}")
        assert result(bench.start()).result is SpfResult.PERMERROR
        assert len(bench.resolver.asked) == 11


def test_macro_p_counts() -> None:
    """The PTR query of %{p} is one of the ten, once (RFC 7208 §4.6.4); that of an explanation is not."""
    zone = "example.net A 192.0.2.9\nunknown.x A 127.0.0.2"
    assert value("a a a a a a a a exists:%{p}.x", zone) == "pass"
    assert value("a a a a a a a a a exists:%{p}.x", zone) == "permerror"
    assert value("a a a a a a a ptr -exists:%{p}.y exists:%{p}.x", zone) == "pass"
    assert value("a a a a a a a a redirect=%{p}.z", zone + "\nunknown.z TXT v=spf1 all") == "pass"
    assert value("a a a a a a a a a redirect=%{p}.z", zone + "\nunknown.z TXT v=spf1 all") == "permerror"
    assert value("a a a a a a a a a a -all exp=%{p}.x", zone) == "fail"


def test_all_and_networks_are_free() -> None:
    """ip4, ip6 and all do not count."""
    assert value("ip4:192.0.2.9 ip6:2001:db8::9 " * 20 + "-all") == "fail"


@pytest.mark.parametrize(
    "term",
    [
        "exists:v.example",
        "a:v.example",
        "a:v6.example",
        "mx:v.example",
        "mx:v6.example",
        "mx:void-hosts.example",
        "ptr",
    ],
)
def test_void_terms(term: str) -> None:
    """A third term for which there is nothing is a permerror, whether NXDOMAIN or no data; so is one per term."""
    zone = "v6.example AAAA 2001:db8::9\nvoid-hosts.example MX 1 h1.example\nvoid-hosts.example MX 2 h2.example"
    assert value(f"{term} {term} -all", zone) == "fail"
    assert value(f"{term} {term} {term} -all", zone) == "permerror"


@pytest.mark.parametrize(
    "term", ["a:other.example", "mx:half.example", "ptr:other.example", "a:a..example", "ip4:192.0.2.9"]
)
def test_no_void_terms(term: str) -> None:
    """A term that does not match is no void lookup if there was anything."""
    zone = "other.example A 192.0.2.9\nhalf.example MX 1 other.example\nhalf.example MX 2 nowhere.example\n"
    zone += "1.2.0.192.in-addr.arpa PTR nowhere.example"
    assert value(f"{term} {term} {term} -all", zone) == "fail"


def test_void_terms_over_records() -> None:
    """Void lookups are counted over includes."""
    zone = f"a.example TXT v=spf1 {voids(2)}"
    assert value(f"include:a.example {voids(1)} -all", zone) == "permerror"
    assert value("include:a.example -all", zone) == "fail"


def test_limits_are_given() -> None:
    """The limits are those the checker was made with."""
    zone = "example.net A 192.0.2.9\nexample.net MX 1 a.example\nexample.net MX 2 b.example\na.example A 192.0.2.9"
    assert value("a a -all", zone, terms=1) == "permerror"
    assert value(f"{voids(1)} -all", zone, void_terms=0) == "permerror"
    assert value("mx -all", zone, mx_hosts=1) == "permerror"
    assert value("mx -all", zone, mx_hosts=2) == "fail"
    names = "1.2.0.192.in-addr.arpa PTR a.example\n1.2.0.192.in-addr.arpa PTR b.example\nb.example A 192.0.2.1"
    assert value("ptr:b.example -all", names, ptr_names=1) == "fail"
    assert value("ptr:b.example -all", names, ptr_names=2) == "pass"


def test_record_of_64_kilobytes() -> None:
    """A record longer than the limit is a permerror; one at the limit is read whole."""
    limit = SpfLimits().record
    terms = "ip4:192.0.2.9 " * 1000 + "-all x="
    terms += "y" * (limit - len("v=spf1 " + terms))
    assert value(terms) == "fail"
    assert value(terms + "y") == "permerror"
    spf = example("x" * 65000)
    assert (spf.result, spf.reason.text) == (SpfResult.PERMERROR, "a record of 65007 octets")


def test_single_label() -> None:
    """A single label has no policy, wherever its name comes from, and is not asked for (RFC 7208 §4.3)."""
    for terms in ("include:%{d1}", "redirect=%{d1}"):
        bench = Bench(f"example.net TXT v=spf1 {terms}\nnet TXT v=spf1 +all")
        assert result(bench.start()).result is SpfResult.PERMERROR
        assert bench.names(RecordType.TXT) == ["example.net"]


def test_two_records() -> None:
    """Two records are a permerror, beside any number of others (RFC 7208 §4.5)."""
    spf = example("-all", "example.net TXT v=spf1 +all\nexample.net TXT hello")
    assert (spf.result, spf.reason) == (
        SpfResult.PERMERROR,
        Reason("2 SPF records at example.net", "RFC 7208 §4.5"),
    )


# Deadline


@pytest.mark.parametrize(
    "terms",
    ["a", "mx", "mx:many.example", "ptr", "exists:silent.example", "include:silent.example", "redirect=silent.example",
     "exists:%{p}.x"],
)  # fmt: skip
def test_deadline(terms: str) -> None:
    """A check that takes 20 seconds is a temperror, and what it still asks is cancelled (RFC 7208 §4.6.4)."""
    zone = "example.net A !SILENT\nexample.net MX !SILENT\nsilent.example ANY !SILENT\n"
    zone += "1.2.0.192.in-addr.arpa PTR !SILENT\n"
    zone += "".join(f"many.example MX 10 m{number}.example\nm{number}.example A !SILENT\n" for number in range(10))
    bench = Bench(f"example.net TXT v=spf1 {terms}\n{zone}")
    checking = bench.start()
    bench.clock.advance(19.9)
    assert not checking.called
    bench.clock.advance(0.2)
    spf = result(checking)
    assert spf.result is SpfResult.TEMPERROR
    assert spf.reason == Reason("no result for example.net in 20 seconds", "RFC 7208 §4.6.4")
    assert len(bench.resolver.silent) == (10 if "many" in terms else 1)
    assert all(question.called for question in bench.resolver.silent)
    assert not bench.clock.getDelayedCalls()


def test_deadline_is_for_the_whole_check() -> None:
    """Answers that each come in time do not move the deadline; the explanation has what is left of it."""
    zone = "example.net TXT v=spf1 a -all exp=exp.example\nexample.net A !SILENT\nexp.example TXT !SILENT"
    bench = Bench(zone)
    checking = bench.start()
    bench.clock.advance(15)
    bench.resolver.silent[0].callback(Found("example.net", ("192.0.2.9",), 300, False, "zone"))
    bench.clock.advance(4.9)
    assert not checking.called
    bench.clock.advance(0.2)
    spf = result(checking)
    assert (spf.result, spf.explanation) == (SpfResult.FAIL, "")
    assert bench.resolver.silent[1].called


def test_cancelled() -> None:
    """A check that nobody waits for any more cancels its questions, and is no result."""
    for terms in ("a", "mx", "-all exp=silent.example"):
        bench = Bench(
            f"example.net TXT v=spf1 {terms}\nexample.net A !SILENT\nexample.net MX 1 a.example\n"
            "example.net MX 2 b.example\na.example A !SILENT\nb.example A !SILENT\nsilent.example ANY !SILENT"
        )
        checking = bench.start()
        checking.cancel()
        assert isinstance(failure(checking), defer.CancelledError)
        assert bench.resolver.silent
        assert all(question.called for question in bench.resolver.silent)
        assert not bench.clock.getDelayedCalls()


# Explanations


def explained(text: str, **given: Any) -> str:
    """The explanation of a fail."""
    bench = Bench("")
    bench.resolver = Fixed({("example.net", RecordType.TXT): [b"v=spf1 -all exp=why.example"]})
    bench.resolver.answers["why.example", RecordType.TXT] = [text.encode("iso-8859-1")]
    bench.checker = SpfChecker(bench.resolver, bench.clock, lambda: 1700000000.5, "mx.example.org", SpfLimits())
    spf = result(bench.start(**given))
    assert spf.result is SpfResult.FAIL
    return spf.explanation


class Fixed:
    """A `Resolver` that gives records as they are: octets for TXT."""

    def __init__(self, answers: dict[tuple[str, RecordType], list[Any]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, RecordType]] = []

    def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Answer]:
        """Answer at once."""
        self.asked.append((name, rdtype))
        return defer.succeed(self._answer(name, rdtype))

    def _answer(self, name: str, rdtype: RecordType) -> Answer:
        records = self.answers.get((name, rdtype))
        return Found(name, tuple(records), 300, False, "zone") if records else NoSuchName(name, 300, False, "zone")


def test_explanation() -> None:
    """An explanation has the macros of explanations, spaces, and no dot taken away (RFC 7208 §6.2, §7.2)."""
    text = "%{i} (%{c}) may not send for %{d}; %{r} at %{t}: see http://example.net/?s=%{S}&h=%{h}."
    assert explained(text) == (
        "192.0.2.1 (192.0.2.1) may not send for example.net; mx.example.org at 1700000000: "
        "see http://example.net/?s=alice%40example.net&h=mx.example.net."
    )


@pytest.mark.parametrize(
    "text", ["a\r\nb", "a\x00b", "a\x1b[2Jb", "\x7f", "caf\xe9", "a\tb", "100%", "%{x}", "x" * 20000]
)
def test_bad_explanation(text: str) -> None:
    """Control characters, octets of no ASCII, faults and endless text: there is no explanation, and the fail stays."""
    assert explained(text) == ""


@pytest.mark.parametrize("local_part", ["a\r\nb", "a\x1bb", "josé", "a\u2028b"])
def test_explanation_of_a_hostile_client(local_part: str) -> None:
    """What the client wrote may not put anything but printable ASCII into an explanation, unless it is escaped."""
    assert explained("hello %{l}", sender=Mailbox(local_part, "example.net")) == ""
    escaped = explained("hello %{L}", sender=Mailbox(local_part, "example.net"))
    assert escaped.startswith("hello ")
    assert escaped.isascii()
    assert escaped.isprintable()


def test_explanation_is_cut() -> None:
    """An explanation is no longer than fits in a reply, whatever its macros come to."""
    assert explained("x" * 401) == "x" * 400
    assert len(explained("%{s}" * 1000, sender=Mailbox("a" * 64, "example.net"))) == 400


def test_explanation_of_a_fail_alone() -> None:
    """Nothing is asked for an explanation unless the result is fail."""
    for terms in ("~all", "?all", "all", "a:sick.example", "moo"):
        bench = Bench(f"example.net TXT v=spf1 {terms} exp=why.example\nsick.example A !SERVFAIL")
        assert result(bench.start()).explanation == ""
        assert "why.example" not in bench.names(RecordType.TXT)


@pytest.mark.parametrize(
    "exp", ["", "exp=none.example", "exp=two.example", "exp=sick.example", "exp=a..example", "exp=%{l}.x"]
)
def test_no_explanation(exp: str) -> None:
    """No text, two, no answer, or a target that is no name: there is no explanation (RFC 7208 §6.2)."""
    zone = "two.example TXT a\ntwo.example TXT b\nsick.example TXT !SERVFAIL"
    spf = example(f"-all {exp}", zone, sender=JOSE)
    assert (spf.result, spf.explanation) == (SpfResult.FAIL, "")


def test_no_own_name() -> None:
    """%{r} is "unknown" where we have no name (RFC 7208 §7.3)."""
    resolver = Fixed({("example.net", RecordType.TXT): [b"v=spf1 -all exp=w.x"], ("w.x", RecordType.TXT): [b"by %{r}"]})
    checker = SpfChecker(resolver, Clock(), lambda: 0.0, "")
    spf = result(defer.Deferred.fromCoroutine(checker.mail_from(CLIENT, ALICE, HELO)))
    assert spf.explanation == "by unknown"


# Hostile records

TERMS = (
    "a mx ptr a/24//64 mx:%{d} all -all ?all include:%{d} include:b.example redirect=%{d} redirect=c.example "
    "exists:%{ir}.%{l}.x exists:%{p}.x exists:%{s}.%{h}.x ip4:192.0.2.0/24 ip6:::/0 ip4:1.1.1.1 exp=%{d} exp=%{p}.x "
    "exp=%{s1}.%{c} x=y moo a:a..b a:%{l200r-+}.x ptr:%{p} ptr:%{o} mx:%{i}.x"
)
RECORDS = st.one_of(
    st.lists(st.sampled_from(TERMS.split(" ")), max_size=30).map(lambda terms: b"v=spf1 " + " ".join(terms).encode()),
    st.binary(max_size=60).map(lambda octets: b"v=spf1 " + octets),
    st.binary(max_size=60),
)


class Hostile:
    """A `Resolver` that gives the same records for every name, or nothing, or fails, as it is told in turn."""

    def __init__(self, texts: list[bytes], turns: list[int]) -> None:
        self.texts = texts
        self.turns = turns
        self.asked: list[tuple[str, RecordType]] = []

    def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Answer]:
        """Answer at once."""
        self.asked.append((name, rdtype))
        turn = self.turns[len(self.asked) % len(self.turns)]
        if len(self.asked) > 1 and turn == 0:
            return defer.succeed(NoData(name, 1, False, "zone"))
        if len(self.asked) > 1 and turn == 1:
            return defer.succeed(Failure("SERVFAIL", "zone"))
        return defer.succeed(Found(name, tuple(self._records(rdtype)), 1, False, "zone"))

    def _records(self, rdtype: RecordType) -> Iterable[Record]:
        match rdtype:
            case RecordType.TXT:
                return [self.texts[len(self.asked) % len(self.texts)]]
            case RecordType.MX:
                return [Mx(number, f"m{number}.example") for number in range(10)]
            case RecordType.PTR:
                return [f"p{number}.example.net" for number in range(20)]
            case RecordType.A:
                return ["198.51.100.1"]
        return ["2001:db8::9"]


MOST_QUESTIONS = 1 + 10 * (1 + 10) + (1 + 10) + 1
"""The record, ten terms of which each may be an mx with ten hosts, the client's names, an explanation."""


@given(
    st.lists(RECORDS, min_size=1, max_size=3),
    st.lists(st.integers(0, 9), min_size=1, max_size=7),
    st.sampled_from([CLIENT, CLIENT6]),
    st.sampled_from(["alice", "josé", 'a"\\. b', "x" * 64, "a-b+c"]),
    st.sampled_from([HELO, "[192.0.2.1]", "?", "bücher.example"]),
)
def test_any_record(texts: list[bytes], turns: list[int], address: str, local_part: str, helo: str) -> None:
    """Whatever a domain publishes, a check ends in a result, in bounded questions about names that may be asked for,
    and what it says is printable.
    """
    resolver = Hostile(texts, turns)
    checker = SpfChecker(resolver, Clock(), lambda: 0.0, "mx.example.org")
    spf = result(defer.Deferred.fromCoroutine(checker.mail_from(address, Mailbox(local_part, "example.net"), helo)))
    assert isinstance(spf.result, SpfResult)
    assert len(resolver.asked) <= MOST_QUESTIONS
    assert all(name.isascii() and name.isprintable() and " " not in name for name, _ in resolver.asked)
    assert str(spf.reason).replace("§", "").isascii()
    assert str(spf.reason).isprintable()
    assert len(str(spf.reason)) < 10000
    assert spf.explanation.isascii()
    assert len(spf.explanation) <= 400

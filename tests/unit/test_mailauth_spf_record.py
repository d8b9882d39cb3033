"""`mta.mailauth.spf_record`: each rule of the grammar of RFC 7208 §12, and that no octets make it raise."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mailauth.result import SpfResult
from mta.mailauth.spf_macro import Macro, SyntaxFault
from mta.mailauth.spf_record import Directive, Mechanism, Record, is_record, parse_record


def read(text: str) -> Record:
    """Read the terms of a correct record."""
    record = parse_record(f"v=spf1 {text}".encode("iso-8859-1"))
    assert isinstance(record, Record), record
    return record


def only(text: str) -> Directive:
    """Read the one directive of a correct record."""
    (directive,) = read(text).directives
    return directive


def fault(text: str) -> SyntaxFault:
    """What is wrong with the terms of a record."""
    found = parse_record(f"v=spf1 {text}".encode("iso-8859-1"))
    assert isinstance(found, SyntaxFault), found
    return found


# The version


@pytest.mark.parametrize("octets", [b"v=spf1", b"v=spf1 -all", b"V=SpF1  ", b"v=spf1 \xff"])
def test_is_record(octets: bytes) -> None:
    """The version ends at a space or the end of the record, in any case (RFC 7208 §4.5)."""
    assert is_record(octets)


@pytest.mark.parametrize("octets", [b"", b"v=spf", b"v=spf10", b"v=spf1\t-all", b" v=spf1", b"v=spf2 -all", b"v=spf1,"])
def test_is_no_record(octets: bytes) -> None:
    """Any other TXT record is none of ours."""
    assert not is_record(octets)


# Directives


@pytest.mark.parametrize(
    ("qualifier", "result"),
    [("", "pass"), ("+", "pass"), ("-", "fail"), ("~", "softfail"), ("?", "neutral")],
)
def test_qualifiers(qualifier: str, result: str) -> None:
    """A qualifier says what a match comes to; pass if there is none (RFC 7208 §4.6.2)."""
    assert only(f"{qualifier}all") == Directive(f"{qualifier}all", SpfResult(result), Mechanism.ALL)


def test_mechanisms_in_any_case() -> None:
    """Names of mechanisms and modifiers are not case sensitive (RFC 7208 §4.6.1)."""
    record = read("A Mx IP4:192.0.2.1 REDIRECT=a.b EXP=c.d")
    assert [directive.mechanism for directive in record.directives] == [Mechanism.A, Mechanism.MX, Mechanism.IP4]
    assert (record.redirect, record.exp) == (("a.b",), ("c.d",))


def test_terms_keep_their_order_and_text() -> None:
    """Directives come in order, as they are written, however many spaces are between them."""
    record = read("  a   -mx:b.c ~all  ")
    assert [directive.text for directive in record.directives] == ["a", "-mx:b.c", "~all"]


@pytest.mark.parametrize("name", ["a", "mx", "ptr"])
def test_optional_target(name: str) -> None:
    """Of a, mx and ptr the target may be left out, but not be empty."""
    assert only(name).target is None
    assert only(f"{name}:%{{d}}").target == (Macro("d"),)
    assert fault(f"{name}:").text == f"{name}:: a domain is missing"


@pytest.mark.parametrize("name", ["include", "exists"])
def test_required_target(name: str) -> None:
    """Include and exists need a target."""
    assert only(f"{name}:a.b").target == ("a.b",)
    assert fault(name).text == f"{name} needs a domain"
    assert fault(f"{name}:").text == f"{name}:: a domain is missing"
    fault(f"{name}:a.b/24")


@pytest.mark.parametrize(
    ("lengths", "four", "six"),
    [("", 32, 128), ("/0", 0, 128), ("/32", 32, 128), ("//0", 32, 0), ("//128", 32, 128), ("/24//64", 24, 64)],
)
def test_dual_cidr_length(lengths: str, four: int, six: int) -> None:
    """A and mx take a length for each family, behind the target or without one."""
    for term in ("a", "mx", "a:x/y.z", "mx:%{d/}"):
        directive = only(term + lengths)
        assert (directive.ip4_length, directive.ip6_length) == (four, six)
    assert only("a:x/y.z" + lengths).target == ("x/y.z",)


@pytest.mark.parametrize(
    "lengths",
    ["/", "//", "/33", "//129", "/024", "//064", "/00", "/24/64", "/24//", "//64/24", "/-1", "/" + "9" * 5000],
)
def test_bad_cidr_length(lengths: str) -> None:
    """A length is 0 to 32 or 128, without leading zeros, and where it belongs."""
    fault(f"a{lengths}")
    fault(f"mx:a.b{lengths}")


@pytest.mark.parametrize("text", ["ptr/24", "ptr//64", "include/24", "exists//64", "all/0", "all:a.b", "all.", "-all:"])
def test_nothing_more(text: str) -> None:
    """No other mechanism takes a length, and all takes nothing."""
    fault(text)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("ip4:192.0.2.1", "192.0.2.1/32"),
        ("ip4:192.0.2.77/24", "192.0.2.0/24"),
        ("ip4:192.0.2.1/0", "0.0.0.0/0"),
        ("ip6:2001:DB8::1", "2001:db8::1/128"),
        ("ip6:2001:db8::1/32", "2001:db8::/32"),
        ("ip6:::ffff:192.0.2.1/128", "::ffff:192.0.2.1/128"),
        ("ip6:::/0", "::/0"),
    ],
)
def test_networks(text: str, network: str) -> None:
    """ip4 and ip6 name a network; bits beyond the length do not count (RFC 7208 §5.6)."""
    assert only(text).network == ipaddress.ip_network(network)


@pytest.mark.parametrize(
    "text",
    ["ip4", "ip4:", "ip4/24", "ip4:192.0.2", "ip4:192.0.2.01", "ip4:192.0.2.256", "ip4:192.0.2.1/33",
     "ip4:192.0.2.1/024", "ip4:192.0.2.1/", "ip4:192.0.2.1//32", "ip4:192.0.2.1:25", "ip4:2001:db8::1", "ip4:%{i}",
     "ip4:192.0.2.1/255.255.255.0", "ip6", "ip6:192.0.2.1", "ip6:2001:db8::1/129", "ip6:2001:db8::1//64",
     "ip6:fe80::1%eth0", "ip6:[2001:db8::1]", "ip6:1::2::3", "ip4:\xb9.2.3.4", "ip6:"],
)  # fmt: skip
def test_bad_networks(text: str) -> None:
    """What is no address and length is an error."""
    fault(text)


@pytest.mark.parametrize(
    "text", ["moo", "moo:a.b", "+", "-", "--all", "+-all", ":", "/", "=", "=a.b", "1up=x", "redirect:a.b", "a.:b.c"]
)
def test_no_mechanism(text: str) -> None:
    """A term that is no known mechanism and no modifier is an error (RFC 7208 §4.6.1)."""
    assert fault(text) == SyntaxFault(f"{text} is no mechanism", 7)


# Modifiers


def test_modifiers_anywhere() -> None:
    """Modifiers may stand anywhere (RFC 7208 §4.6.3)."""
    assert read("exp=%{d} a redirect=x.y all") == Record(
        (
            Directive("a", SpfResult.PASS, Mechanism.A),
            Directive("all", SpfResult.PASS, Mechanism.ALL),
        ),
        ("x.y",),
        (Macro("d"),),
    )


@pytest.mark.parametrize("name", ["redirect", "exp", "Redirect", "EXP"])
def test_modifier_twice(name: str) -> None:
    """Redirect and exp may stand once each (RFC 7208 §6)."""
    assert fault(f"{name}=a.b all {name.lower()}=a.b").text == f"a second {name.lower()}="


@pytest.mark.parametrize("value", ["", "all", "-all", "a.b/24", "%{c}", "%", "a.1"])
def test_bad_modifier(value: str) -> None:
    """Redirect and exp take a domain-spec, and are no unknown modifiers if they have none."""
    for name in ("redirect", "exp"):
        assert fault(f"{name}={value}").offset >= 7 + len(name)


def test_unknown_modifiers() -> None:
    """Unknown modifiers are left out, as often as they come, if their value is a macro-string (RFC 7208 §6)."""
    assert read("moo.cow-far_out=man:dog/cat x=%{c}%%b x= x=- all") == read("all")
    assert fault("x=%abc").text == "x=: % cannot stand here"


# Faults


def test_place_of_a_fault() -> None:
    """The first fault is told, with the octet of the record where it is."""
    assert fault("a  mx:a.%x moo") == SyntaxFault("mx:a.%x: % cannot stand here", 15)
    assert fault("a redirect=a.b%{c}") == SyntaxFault("redirect=: %{c} is for explanations only", 21)


@pytest.mark.parametrize("octet", [*range(0x20), 0x7F, 0x80, 0xA0, 0xE9, 0xFF])
def test_octets_of_no_term(octet: int) -> None:
    """A control character or an octet of no ASCII is an error wherever it stands, and told in ASCII."""
    for text in (
        "a:b{}.c",
        "{}a",
        "-{}all",
        "all{}",
        "x=y{}",
        "exp=a{}.b",
        "ip4:1.2.3.4{}",
        "a{}",
        "a:b.c/{}",
        "x{}=y",
    ):
        found = fault(text.format(chr(octet)))
        assert found.text.isascii()
        assert found.text.isprintable()


def test_fault_is_bounded() -> None:
    """A long term is not told whole."""
    assert len(fault("x" * 60000).text) < 200
    assert len(fault("a:" + "x" * 60000).text) < 300


# Properties

WORDS = (
    "a mx ptr all -all include:a.b exists:%{i}.c ip4:192.0.2.0/24 ip6:2001:db8::/32 redirect=a.b exp=a.b x=y a/24//64 "
    "%{ a:%{d} a/ = : / \x00 \xff"
)
TERMS = st.lists(st.sampled_from(WORDS.split(" ")))


@given(st.one_of(st.binary(), TERMS.map(lambda terms: " ".join(terms).encode("iso-8859-1"))))
def test_any_octets(octets: bytes) -> None:
    """No octets raise; a fault is in the record."""
    whole = b"v=spf1 " + octets
    found = parse_record(whole)
    if isinstance(found, SyntaxFault):
        assert found.text.isascii()
        assert found.text.isprintable()
        assert 6 < found.offset <= len(whole)
    else:
        assert all(term in octets.decode("iso-8859-1") for term in (directive.text for directive in found.directives))


@given(TERMS, TERMS)
def test_a_fault_is_found_behind_anything(first: list[str], rest: list[str]) -> None:
    """A record with a fault in it is no record, whatever else stands there (RFC 7208 §4.6)."""
    text = " ".join([*first, "moo", *rest])
    assert isinstance(parse_record(b"v=spf1 " + text.encode("iso-8859-1")), SyntaxFault)

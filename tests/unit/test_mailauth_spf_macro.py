"""`mta.mailauth.spf_macro`: grammar, transformers and names, with the examples of RFC 7208 §7.4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mailauth.spf_macro import (
    LABEL_MAXIMUM,
    NAME_MAXIMUM,
    Macro,
    NameFault,
    SyntaxFault,
    expand,
    parse_domain_spec,
    parse_explanation,
    parse_macro_string,
    shown,
    target_name,
    uses,
)

VALUES = {
    "s": "strong-bad@email.example.com",
    "l": "strong-bad",
    "o": "email.example.com",
    "d": "email.example.com",
    "i": "192.0.2.3",
    "p": "mx.example.org",
    "v": "in-addr",
    "h": "mx.example.org",
    "c": "192.0.2.3",
    "r": "mx.example.net",
    "t": "1700000000",
}
IPV6 = VALUES | {"i": ".".join("20010DB80000000000000000000CB01"), "v": "ip6"}


def said(text: str, values: dict[str, str] = VALUES) -> str:
    """Expand an explain-string that is none other than correct."""
    string = parse_explanation(text)
    assert not isinstance(string, SyntaxFault), string
    return expand(string, values)


def named(text: str, values: dict[str, str] = VALUES) -> str | NameFault:
    """Expand a domain-spec that is none other than correct."""
    spec = parse_domain_spec(text)
    assert not isinstance(spec, SyntaxFault), spec
    return target_name(spec, values)


def fault(text: str) -> SyntaxFault:
    """What is wrong with a domain-spec."""
    found = parse_domain_spec(text)
    assert isinstance(found, SyntaxFault), found
    return found


# Expansion


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%{s}", "strong-bad@email.example.com"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}", "example.com"),
        ("%{d1}", "com"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}", "strong-bad"),
        ("%{l-}", "strong.bad"),
        ("%{lr}", "strong-bad"),
        ("%{lr-}", "bad.strong"),
        ("%{l1r-}", "strong"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
    ],
)
def test_examples(text: str, expected: str) -> None:
    """The examples of RFC 7208 §7.4 expand as they stand there."""
    assert said(text) == expected


def test_parts_beyond_an_integer() -> None:
    """A number of parts is as long as a peer likes: all parts are taken, nothing raises."""
    assert said("%{d" + "9" * 5000 + "}") == "email.example.com"
    assert said("%{d" + "0" * 5000 + "2}") == "example.com"


def test_no_parts() -> None:
    """Taking 0 parts is an error (RFC 7208 §7.3)."""
    for text in ("%{d0}", "%{d00}", "a.%{l0r}"):
        assert fault(text).text == "0 parts of a macro cannot be taken"


def test_parts_at_most_127() -> None:
    """127 right-hand parts can be told apart from 128 (RFC 7208 §7.3: support at least 127)."""
    many = ".".join(str(number) for number in range(130))
    assert said("%{l127}", VALUES | {"l": many}).startswith("3.4.")
    assert said("%{l126}", VALUES | {"l": many}).startswith("4.5.")


def test_every_delimiter_splits() -> None:
    """A value is split at any delimiter that is given, then joined with dots; a dot splits only if it is given."""
    value = VALUES | {"l": "a.b-c+d,e/f_g=h"}
    assert said("%{l-+,/_=}", value) == "a.b.c.d.e.f.g.h"
    assert said("%{lr-}", value) == "c+d,e/f_g=h.a.b"
    assert said("%{l1-.}", value) == "c+d,e/f_g=h"


def test_empty_parts_stay() -> None:
    """Two delimiters in a row hold an empty part between them."""
    assert said("%{lr-}", VALUES | {"l": "a--b"}) == "b..a"


def test_upper_case_is_url_escaped() -> None:
    """An upper-case letter escapes what the transformers give, all but unreserved characters (RFC 3986 §2.3)."""
    value = VALUES | {"l": "~a&b=c d-e_f.g%é/"}
    assert said("%{L}", value) == "~a%26b%3Dc%20d-e_f.g%25%C3%A9%2F"
    assert said("%{L1=}", value) == "c%20d-e_f.g%25%C3%A9%2F"


def test_reverse_may_be_upper_case() -> None:
    """Strings of an ABNF are not case sensitive (RFC 5234 §2.3): so is the r of transformers."""
    assert said("%{dR}") == said("%{dr}")


def test_percent_escapes() -> None:
    """%%, %_ and %- are a percent sign, a space, and a URL-encoded space."""
    assert said("100%%%_sure%-.") == "100% sure%20."


# Syntax


@pytest.mark.parametrize("text", ["%", "a%", "%a", "%{", "%{}", "%{d", "%{d.x}", "%{dd}", "%(ir)", "%{-}", "%{d-r}"])
def test_malformed_macros(text: str) -> None:
    """A percent sign that begins no macro is an error, wherever macros are read (RFC 7208 §7.1)."""
    for parse in (parse_macro_string, parse_explanation, parse_domain_spec):
        assert isinstance(parse(text), SyntaxFault)


def test_place_of_a_fault() -> None:
    """A fault tells where it is."""
    assert parse_macro_string("%{d}.a\x7fb") == SyntaxFault("\\x7f cannot stand here", 6)
    assert parse_explanation("see %{x}") == SyntaxFault("%{x} is no macro", 4)
    assert parse_macro_string("a b") == SyntaxFault("a space cannot stand here", 1)
    assert parse_macro_string("%{d0}") == SyntaxFault("0 parts of a macro cannot be taken", 3)


@pytest.mark.parametrize("letter", "crtCRT")
def test_letters_of_explanations(letter: str) -> None:
    """The letters c, r and t are for explanations, and an error in a domain-spec (RFC 7208 §7.2)."""
    assert fault(f"a.%{{{letter}}}") == SyntaxFault(f"%{{{letter}}} is for explanations only", 2)
    assert said(f"%{{{letter}}}") == VALUES[letter.lower()]


@pytest.mark.parametrize(
    "text",
    ["a.b", "a.b.", "%{d}", "a%{d}", "a.%{d}", "%{d}.com", "a%%", "a.com%_", "a.%-", ".com", "a.1b", "a.b1", "a.1-2",
     "a..b", "a:b/c.d", "a.xn--zckzah", "a.b2c", "a." + "b" * 70],
)  # fmt: skip
def test_domain_spec(text: str) -> None:
    """A domain-spec ends in a macro-expand, or in a dot and a top-level label, with or without a final dot."""
    assert not isinstance(parse_domain_spec(text), SyntaxFault)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a.", "%{d}com", "%%com", "a.1", "192.0.2.1", "a.-b", "a.b-", "a.b_c", "a.b:8080", "a..", "a.b/24", ".",
     "a.%{d}.", "a.b%", "a.\xe9", "a.b c", "a.b\x00", "a. b"],
)  # fmt: skip
def test_no_domain_spec(text: str) -> None:
    """Anything else is none."""
    fault(text)


def test_address_as_domain() -> None:
    """Who writes an address for a domain is told what is meant for it."""
    assert "ip4:" in fault("192.0.2.1").text


def test_uses() -> None:
    """A letter is found whatever its case."""
    spec = parse_domain_spec("%{P}.%{d}")
    assert not isinstance(spec, SyntaxFault)
    assert uses(spec, "p")
    assert not uses(spec, "s")


# Names


def test_name_without_final_dot_in_lower_case() -> None:
    """A name is what questions and answers call it."""
    assert named("MAIL.%{d2}.Example.") == "mail.example.com.example"


def test_long_name_loses_labels() -> None:
    """A name of more than 253 characters loses whole labels on its left, no more than it must (RFC 7208 §7.3)."""
    exact = "x" * 61 + "." + ".".join(["b" * 63] * 3)
    assert len(exact) == NAME_MAXIMUM
    assert named(exact) == exact
    assert named("y" + exact) == exact.partition(".")[2]
    assert named("y." + exact) == exact
    assert named("%{d}.%{d}." + exact) == exact


@pytest.mark.parametrize(
    "text", ["a..b", ".b.c", "a" * (LABEL_MAXIMUM + 1) + ".b", "a." + "b" * (LABEL_MAXIMUM + 1), "%{l}%%" * 300]
)
def test_malformed_name(text: str) -> None:
    """An empty label or one of 64 octets makes no name, nor does a single one that is too long to cut."""
    assert named(text) is NameFault.MALFORMED


def test_longest_label() -> None:
    """A label of 63 octets is one."""
    assert named("a" * LABEL_MAXIMUM + ".b") == "a" * LABEL_MAXIMUM + ".b"


@pytest.mark.parametrize("text", ["%{l}.a.b", "%{s}.a.b", "%{L}.a.b", "%{l1r-}.a.b"])
def test_local_part_not_in_ascii(text: str) -> None:
    """A local-part that is not in ASCII gives no name, whatever is made of it (RFC 8616 §4)."""
    values = VALUES | {"l": "jos\xe9", "s": "jos\xe9@example.com"}
    assert named(text, values) is NameFault.NON_ASCII
    assert named("%{d}.a.b", values) == "email.example.com.a.b"


def test_name_is_escaped() -> None:
    """What a client writes into a name is one label of a question, never an escape sequence or a control character."""
    values = VALUES | {"l": 'a\\.b "c"\x07', "h": "\\046"}
    assert named("%{l}.x.y", values) == 'a\\\\.b\\032\\"c\\"\\007.x.y'
    assert named("%{h}.x.y", values) == "\\\\046.x.y"


# Properties


@given(st.text(st.characters(max_codepoint=255)))
def test_any_text(text: str) -> None:
    """No text raises; what is read expands."""
    for parse in (parse_macro_string, parse_explanation, parse_domain_spec):
        string = parse(text)
        if isinstance(string, SyntaxFault):
            assert string.text.isascii()
            assert string.text.isprintable()
            assert 0 <= string.offset <= len(text)
        else:
            expand(string, VALUES)


MACROS = st.builds(
    lambda letter, digits, reverse, delimiters: f"%{{{letter}{digits}{reverse}{delimiters}}}",
    st.sampled_from("slodipvhSLODIPVH"),
    st.sampled_from(["", "1", "2", "127", "0", "99999"]),
    st.sampled_from(["", "r", "R"]),
    st.text("-.+,/_=", max_size=3),
)
SPECS = st.lists(st.one_of(MACROS, st.sampled_from([".", "%%", "%_", "%-", "a", "example", "."])), max_size=80)


@given(SPECS, st.sampled_from([VALUES, IPV6]))
def test_any_name_can_be_asked_for(parts: list[str], values: dict[str, str]) -> None:
    """What a domain-spec expands to is a name within the limits of the domain name system, or none."""
    spec = parse_domain_spec("".join(parts) + ".example")
    if isinstance(spec, SyntaxFault):
        return
    name = target_name(spec, values)
    if isinstance(name, str):
        octets = name.replace("\\032", " ").replace("\\@", "@")
        assert len(octets) <= NAME_MAXIMUM
        assert all(0 < len(label) <= LABEL_MAXIMUM for label in octets.split("."))


@given(st.text("abc-+.", max_size=30), st.integers(1, 10), st.booleans(), st.text("-+.", max_size=3))
def test_transformers(value: str, parts: int, reverse: bool, delimiters: str) -> None:
    """Transformers split, reverse, then take parts from the right."""
    table = str.maketrans(dict.fromkeys(delimiters or ".", "\n"))
    expected = value.translate(table).split("\n")
    if reverse:
        expected = expected[::-1]
    assert Macro("l", parts, reverse, delimiters).expand(value) == ".".join(expected[-parts:])


@given(st.text())
def test_shown(text: str) -> None:
    """Text of a peer in a reason is short and printable."""
    out = shown(text)
    assert out.isascii()
    assert out.isprintable()
    assert len(out) <= 83

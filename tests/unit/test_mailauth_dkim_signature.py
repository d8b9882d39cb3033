"""Tests of `mta.mailauth.dkim_signature`."""

from __future__ import annotations

import pytest

from mta.mailauth.algorithm import Algorithm
from mta.mailauth.canonical import Canonicalization
from mta.mailauth.dkim_signature import SKEW, DkimSignature, check_times, read_signature
from mta.mailauth.result import Dkim, DkimResult
from mta.mailauth.signature_tags import NAMES_MAXIMUM
from mta.message.header import Field

SIMPLE, RELAXED = Canonicalization.SIMPLE, Canonicalization.RELAXED
TAGS = {
    "v": "1",
    "a": "rsa-sha256",
    "d": "example.org",
    "s": "sel",
    "h": "From:To",
    "bh": "YWJj",
    "b": "ZGVmZ2hp",
}


def read(drop: str = "", **tags: str) -> DkimSignature | Dkim:
    """Read a signature with these tags instead of or beside the usual ones."""
    text = "; ".join(f"{name}={value}" for name, value in {**TAGS, **tags}.items() if name != drop)
    return read_signature(Field(b"dkim-signature", f"DKIM-Signature: {text}\r\n".encode()))


def sound(**tags: str) -> DkimSignature:
    """Read a signature that has no fault."""
    signature = read(**tags)
    assert isinstance(signature, DkimSignature), signature
    return signature


def test_least_signature() -> None:
    """A signature with no more than it must have has the defaults of RFC 6376 §3.5."""
    signature = sound()
    assert signature.algorithm is Algorithm.RSA_SHA256
    assert (signature.domain, signature.selector, signature.identity) == ("example.org", "sel", "@example.org")
    assert (signature.head_form, signature.body_form) == (SIMPLE, SIMPLE)
    assert signature.names == (b"from", b"to")
    assert (signature.body_hash, signature.signature, signature.label) == (b"abc", b"defghi", "ZGVmZ2hp")
    assert (signature.limit, signature.signed_at, signature.expires_at) == (None, None, None)


def test_full_signature() -> None:
    """Every tag is read; white space in base64 and around the words of lists does not count; z= and others neither."""
    field = (
        b"DKIM-Signature: v=1; a=Ed25519-SHA256; c=relaxed/simple; d=Example.ORG;\r\n"
        b"\ts=a.B; q=x/y : dns/txt; i=joe=40x@Mail.example.org ; t=10; x=20; l=0;\r\n"
        b" h= From :\r\n TO : from; z=From:x|To:y; unknown=1; bh= YW\r\n Jj ; b=\r\n ZG Vm\r\n\tZ2hpamts ;\r\n"
    )
    signature = read_signature(Field(b"dkim-signature", field))
    assert isinstance(signature, DkimSignature)
    assert signature.algorithm is Algorithm.ED25519_SHA256
    assert (signature.head_form, signature.body_form) == (RELAXED, SIMPLE)
    assert (signature.domain, signature.selector) == ("example.org", "a.b")
    assert (signature.identity, signature.identity_domain) == ("joe=40x@mail.example.org", "mail.example.org")
    assert signature.names == (b"from", b"to", b"from")
    assert (signature.body_hash, signature.signature, signature.label) == (b"abc", b"defghijkl", "ZGVmZ2hp")
    assert (signature.limit, signature.signed_at, signature.expires_at) == (0, 10, 20)


@pytest.mark.parametrize("tag", TAGS)
def test_required_tags(tag: str) -> None:
    """Each of the required tags is required, and the fault names it (RFC 6376 §6.1.1)."""
    fault = read(drop=tag)
    assert isinstance(fault, Dkim)
    assert (fault.result, fault.reason.text) == (DkimResult.PERMERROR, f"{tag}= is missing")
    assert fault.signature == ("" if tag == "b" else "ZGVmZ2hp")


@pytest.mark.parametrize(
    ("tags", "text"),
    [
        ({"v": "2"}, "v= is not 1"),
        ({"v": "1.0"}, "v= is not 1"),
        ({"v": ""}, "v= is not 1"),
        ({"a": "rsa-sha1"}, "a=rsa-sha1 is no longer accepted"),
        ({"a": "rsa-sha512"}, "a= names no algorithm that is known"),
        ({"d": ""}, "d= is no domain name"),
        ({"d": "org"}, "d= is no domain name"),
        ({"d": "example.org."}, "d= is no domain name"),
        ({"d": ".example.org"}, "d= is no domain name"),
        ({"d": 'ex"ample.org'}, "d= is no domain name"),
        ({"d": "example(x).org"}, "d= is no domain name"),
        ({"d": "exam ple.org"}, "d= is no domain name"),
        ({"d": "a" * 64 + ".org"}, "d= is no domain name"),
        ({"d": "x." * 200 + "org"}, "d= is no domain name"),
        ({"d": "ü" * 10_000 + ".org"}, "d= is no domain name"),
        ({"s": ""}, "s= is no domain name"),
        ({"s": "a..b"}, "s= is no domain name"),
        ({"s": 'a"b'}, "s= is no domain name"),
        ({"c": "nofws"}, "c= names a form that is not known"),
        ({"c": ""}, "c= names a form that is not known"),
        ({"c": "simple/"}, "c= names a form that is not known"),
        ({"c": "/simple"}, "c= names a form that is not known"),
        ({"c": "simple/simple/simple"}, "c= names a form that is not known"),
        ({"c": "simple / simple"}, "c= names a form that is not known"),
        ({"q": "http/get"}, "q= names no method that is known"),
        ({"h": ""}, "h= has a word that is no field name"),
        ({"h": "From:"}, "h= has a word that is no field name"),
        ({"h": "From:a b"}, "h= has a word that is no field name"),
        ({"h": "To:Subject"}, "h= does not have From"),
        ({"h": "Fromm:XFrom"}, "h= does not have From"),
        ({"bh": ""}, "bh= is empty"),
        ({"bh": "?"}, "bh= is not base64"),
        ({"b": ""}, "b= is empty"),
        ({"b": "a"}, "b= is not base64"),
        ({"l": "-1"}, "l= is no number of at most 76 digits"),
        ({"l": "1" * 77}, "l= is no number of at most 76 digits"),
        ({"l": ""}, "l= is no number of at most 76 digits"),
        ({"t": "now"}, "t= is no number of at most 12 digits"),
        ({"t": "1" * 13}, "t= is no number of at most 12 digits"),
        ({"x": "1.5"}, "x= is no number of at most 12 digits"),
        ({"t": "20", "x": "20"}, "x= is not after t="),
        ({"t": "20", "x": "10"}, "x= is not after t="),
        ({"i": "example.org"}, "i= is no identity"),
        ({"i": "x" * 257 + "@example.org"}, "i= is no identity"),
        ({"i": "joe@"}, "i= is no domain name"),
        ({"i": "joe@ example.org"}, "i= is no domain name"),
        ({"i": "joe@example.com"}, "the domain of i= is not that of d=, nor below it"),
        ({"i": "joe@notexample.org"}, "the domain of i= is not that of d=, nor below it"),
        ({"i": "joe@org.example"}, "the domain of i= is not that of d=, nor below it"),
    ],
)
def test_faulty_tags(tags: dict[str, str], text: str) -> None:
    """A tag whose value is at fault makes the signature a permerror that says which."""
    fault = read(**tags)
    assert isinstance(fault, Dkim)
    assert (fault.result, fault.reason.text) == (DkimResult.PERMERROR, text)
    assert fault.domain == ("" if "d" in tags else "example.org")
    assert fault.selector == ("" if tags.keys() & {"d", "s"} else "sel")


def test_tags_that_come_twice() -> None:
    """A signature with a tag that comes twice is no signature, whatever the tags say."""
    fault = read_signature(Field(b"dkim-signature", b"DKIM-Signature: v=1; a=rsa-sha256; v=1\r\n"))
    assert isinstance(fault, Dkim)
    assert (fault.result, fault.reason.text) == (DkimResult.PERMERROR, "there are two v= tags")


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("simple", (SIMPLE, SIMPLE)),
        ("relaxed", (RELAXED, SIMPLE)),
        ("relaxed/relaxed", (RELAXED, RELAXED)),
        ("simple/relaxed", (SIMPLE, RELAXED)),
        ("Relaxed/SIMPLE", (RELAXED, SIMPLE)),
    ],
)
def test_forms(text: str, forms: tuple[Canonicalization, Canonicalization]) -> None:
    """c= with one word is the form of the head, the body is simple then (RFC 6376 §3.5)."""
    signature = sound(c=text)
    assert (signature.head_form, signature.body_form) == forms


def test_internationalized_names() -> None:
    """U-labels in d=, s= and i= are A-labels afterwards (RFC 8616 §5)."""
    signature = sound(d="bücher.example", s="schlüssel", i="jörg@post.BÜCHER.example")
    assert (signature.domain, signature.selector) == ("xn--bcher-kva.example", "xn--schlssel-95a")
    assert signature.identity == "jörg@post.xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("tags", "wall", "expected"),
    [
        ({}, 0, None),
        ({"x": "1000"}, 1000 + SKEW, None),
        ({"x": "1000"}, 1001 + SKEW, DkimResult.FAIL),
        ({"t": "1000"}, 1000 - SKEW, None),
        ({"t": "1000"}, 999 - SKEW, DkimResult.POLICY),
        ({"t": "1000", "x": "2000"}, 1500, None),
    ],
)
def test_times(tags: dict[str, str], wall: float, expected: DkimResult | None) -> None:
    """A signature counts from t= to x=, give or take what clocks may differ by."""
    found = check_times(sound(**tags), wall)
    assert (found.result if found else None) is expected
    assert found is None or found.domain == "example.org"


def test_many_names() -> None:
    """h= may have as many names as a message could need, and not more."""
    assert len(sound(h="from" + ":x" * (NAMES_MAXIMUM - 1)).names) == NAMES_MAXIMUM
    fault = read(h="from" + ":x" * NAMES_MAXIMUM)
    assert isinstance(fault, Dkim)
    assert fault.reason.text == "h= has more than 1000 names"


def test_long_local_part() -> None:
    """i= may have a local-part of 256 characters."""
    assert sound(i="x" * 256 + "@example.org").identity == "x" * 256 + "@example.org"


def test_reasons_tell_the_time() -> None:
    """Who reads that a signature expired reads how long ago."""
    late = check_times(sound(x="1000"), 5000.5)
    early = check_times(sound(t="5000"), 1000.5)
    assert late is not None
    assert early is not None
    assert (late.reason.text, early.reason.text) == (
        "the signature expired 4000 s ago",
        "the signature is from 4000 s in the future",
    )

"""Tests of `mta.mailauth.arc_set`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mailauth.arc_set import NAMES, Chain, MessageSignature, Seal, has_arc, read_chain
from mta.mailauth.canonical import Canonicalization
from mta.mailauth.result import ArcResult
from mta.message.header import fields

AAR = "ARC-Authentication-Results: i=1; mx.example.org; spf=pass\r\n"
AMS = (
    "ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=Example.org; s=Sel;"
    " h=From : To; t=1; bh=AAAA; b=AAAA\r\n"
)
AS = "ARC-Seal: i=1; a=ed25519-sha256; cv=none; d=example.net; s=sel; t=1; b=AA\r\n AA\r\n"
SET = AS + AMS + AAR


def chain(head: str) -> Chain:
    """Read the chain of a head."""
    return read_chain(fields(head.encode()))


def at(instance: int, status: str = "pass") -> str:
    """A set of an instance."""
    return SET.replace("i=1", f"i={instance}").replace("cv=none", "cv=none" if instance == 1 else f"cv={status}")


def test_set_is_read() -> None:
    """The three fields of a set become its values, names in lower case."""
    read = chain(f"Received: x\r\n{SET}From: x\r\n")
    assert (read.fault, read.instances, read.failed, read.exists) == (None, 1, False, True)
    (only,) = read.sets
    assert (only.results.instance, only.results.text) == (1, "mx.example.org; spf=pass")
    message, seal = only.message, only.seal
    assert isinstance(message, MessageSignature)
    assert (message.domain, message.selector, message.names) == ("example.org", "sel", (b"from", b"to"))
    assert (message.head_form, message.body_form, message.length) == (*[Canonicalization.RELAXED] * 2, None)
    assert (message.body_hash, message.signature) == (bytes(3), bytes(3))
    assert isinstance(seal, Seal)
    assert (seal.domain, seal.selector, seal.status, seal.signature) == ("example.net", "sel", ArcResult.NONE, bytes(3))


def test_no_chain() -> None:
    """A head without ARC fields has no chain, and no fault."""
    assert chain("From: x\r\nX-ARC-Seal: i=1\r\n") == Chain()
    assert not Chain().exists


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("arc-seal: x\r\n", True),
        ("From: x\r\nARC-Authentication-Results \t: x\r\n", True),
        ("From: x\r\nArc-Message-Signature: x\r\n", True),
        ("From: x\r\n ARC-Seal: x\r\n", False),
        ("X-ARC-Seal: x\r\nARC-Sealed: x\r\n", False),
        ("", False),
    ],
)
def test_has_arc(head: str, expected: bool) -> None:
    """Any ARC field is seen, by its name alone, and agrees with what is read."""
    assert has_arc(head.encode()) is expected
    assert chain(head).exists is expected


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("i=1;", "mx.example.org"),
        (" i = 1 ;", "mx.example.org"),
        ("i=01;", "mx.example.org"),
        ("(a) i (b\\) c)\r\n\t=(d)1 (e);", "mx.example.org"),
        ("i=1;", "a; b=c; (d)"),
    ],
)
def test_instance_of_results(before: str, text: str) -> None:
    """The instance stands first, white space and comments around it do not count, and the rest is kept."""
    read = chain(f"{AS}{AMS}ARC-Authentication-Results: {before} {text}\r\n")
    assert read.fault is None
    assert read.sets[0].results.text == text


@pytest.mark.parametrize(
    ("field", "old", "new", "fault"),
    [
        (AAR, "i=1; ", "", "ARC-Authentication-Results: it does not begin with its instance"),
        (AAR, "i=1;", "i=1", "ARC-Authentication-Results: it does not begin with its instance"),
        (AAR, "i=1;", "I=1;", "ARC-Authentication-Results: it does not begin with its instance"),
        (AAR, "i=1;", "i=111;", "ARC-Authentication-Results: it does not begin with its instance"),
        (AAR, "i=1;", "i=0;", "ARC-Authentication-Results: i= is not from 1 to 50"),
        (AAR, "i=1;", "((a)) i=1;", "ARC-Authentication-Results: it does not begin with its instance"),
        (AAR, "i=1", "i=51", "ARC-Authentication-Results i=51: i= is not from 1 to 50"),
        (AMS, "i=1; ", "", "ARC-Message-Signature: i= is missing"),
        (AMS, "i=1", "i=", "ARC-Message-Signature: i= is no number of one or two digits"),
        (AMS, "i=1", "i=100", "ARC-Message-Signature: i= is no number of one or two digits"),
        (AMS, "i=1", "i=1; i=1", "ARC-Message-Signature: there are two i= tags"),
        (AMS, "a=rsa-sha256; ", "", "ARC-Message-Signature i=1: a= is missing"),
        (AMS, "a=rsa-sha256", "a=rsa-sha1", "ARC-Message-Signature i=1: a=rsa-sha1 is no longer accepted"),
        (AMS, " bh=AAAA;", "", "ARC-Message-Signature i=1: bh= is missing"),
        (AMS, "bh=AAAA", "bh=", "ARC-Message-Signature i=1: bh= is empty"),
        (AMS, "b=AAAA\r\n", "b=A!\r\n", "ARC-Message-Signature i=1: b= is not base64"),
        (AMS, "c=relaxed/relaxed", "c=relaxed/x", "ARC-Message-Signature i=1: c= names a form that is not known"),
        (AMS, "c=relaxed/relaxed", "c=", "ARC-Message-Signature i=1: c= names a form that is not known"),
        (AMS, "d=Example.org", "d=a..b", "ARC-Message-Signature i=1: d= is no domain name"),
        (AMS, "d=Example.org", "d=org", "ARC-Message-Signature i=1: d= is no domain name"),
        (AMS, "s=Sel", "s=a b", "ARC-Message-Signature i=1: s= is no domain name"),
        (AMS, "h=From : To", "h=To", "ARC-Message-Signature i=1: h= does not have From"),
        (AMS, "h=From : To", "h=", "ARC-Message-Signature i=1: h= does not have From"),
        (AMS, "h=From : To", "h=From:ARC-SEAL", "ARC-Message-Signature i=1: h= has ARC-Seal"),
        (AMS, "h=From : To", "h=From:T o", "ARC-Message-Signature i=1: h= has a word that is no field name"),
        (AMS, "t=1", "t=x", "ARC-Message-Signature i=1: t= is no number of at most 12 digits"),
        (AMS, "t=1", "l=-1", "ARC-Message-Signature i=1: l= is no number of at most 76 digits"),
        (AMS, "t=1", "q=http", "ARC-Message-Signature i=1: q= names no method that is known"),
        (AS, "t=1", "t=", "ARC-Seal i=1: t= is no number of at most 12 digits"),
        (AS, "t=1", "h=From", "ARC-Seal i=1: a seal has no h="),
        (AS, "cv=none; ", "", "ARC-Seal i=1: cv= is missing"),
        (AS, "cv=none", "cv=maybe", "ARC-Seal i=1: cv= is not none, pass or fail"),
        (AS, "cv=none", "cv=pass", "ARC-Seal i=1 says cv=pass"),
        (AS, "s=sel; ", "", "ARC-Seal i=1: s= is missing"),
        (AS, "ARC-Seal", "X-Seal", "there is no ARC-Seal i=1"),
        (AMS, "ARC-Message", "X-Message", "there is no ARC-Message-Signature i=1"),
        (AAR, "ARC-", "X-", "there is no ARC-Authentication-Results i=1"),
    ],
)
def test_fault(field: str, old: str, new: str, fault: str) -> None:
    """A field at fault, or one that is missing, spoils the chain, and the reason says which and why."""
    assert old in field
    read = chain(SET.replace(field, field.replace(old, new, 1)))
    assert read.sets == ()
    assert read.fault is not None
    assert read.fault.text == fault
    assert read.fault.source.startswith("RFC ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("t=1; bh", "v=2; x=1; z=y; t=1; bh"),
        ("t=1; bh", "bh"),
        ("t=1; bh", "q=dns/txt; l=10; bh"),
        ("h=From : To", "h=To::from"),
        ("cv=none", "cv=NONE"),
        ("cv=none", "c=x; l=x; bh=!; cv=none"),
        ("b=AAAA\r\n", "b=AAAA ; \r\n"),
    ],
)
def test_what_is_no_fault(old: str, new: str) -> None:
    """Unknown tags are ignored, and so is v=, which a message signature does not have."""
    assert old in SET
    assert chain(SET.replace(old, new)).fault is None


@pytest.mark.parametrize(
    ("head", "fault", "highest"),
    [
        (at(2) + at(1), None, 2),
        (at(1) + at(2), None, 2),
        (at(3) + at(1), "there is no ARC-Authentication-Results i=2", 3),
        (at(2), "there is no ARC-Authentication-Results i=1", 2),
        (at(1) + at(1), "there are two ARC-Seal i=1", 1),
        (at(2) + at(1) + AAR, "there are two ARC-Authentication-Results i=1", 2),
        (at(2, "none") + at(1), "ARC-Seal i=2 says cv=none", 2),
        (at(3) + at(2, "fail") + at(1), "ARC-Seal i=2 says cv=fail", 3),
        (at(51) + at(1), "ARC-Seal i=51: i= is not from 1 to 50", 51),
        ("".join(map(at, range(50, 0, -1))), None, 50),
    ],
)
def test_structure(head: str, fault: str | None, highest: int) -> None:
    """A chain has every instance once, whatever the order of its fields, and each seal says what it must."""
    read = chain(head)
    assert (read.fault and read.fault.text, read.instances, read.failed) == (fault, highest, False)
    assert len(read.sets) == (0 if fault else highest)
    assert [each.seal.instance for each in read.sets] == list(range(1, len(read.sets) + 1))


@pytest.mark.parametrize("head", [at(2, "fail") + at(1), at(2, "fail"), at(2, "fail") + at(2) + "ARC-Seal: x\r\n"])
def test_sealed_as_failed(head: str) -> None:
    """A newest seal that says so ends the chain, be the rest of it as it may."""
    read = chain(head)
    assert read.failed
    assert read.fault is not None
    assert read.fault.text == "example.net sealed the chain as failed, i=2"


def test_too_many_fields() -> None:
    """More fields than 50 sets have are not read, and no set can be added to them."""
    read = chain(AS * 151)
    assert (read.fault and read.fault.text) == "there are 151 ARC fields, more than 50 sets have"
    assert read.instances == 50
    assert chain(AS * 150).instances == 1


TAGS = "i=1 i=2 i=51 i= cv=none cv=pass cv=fail a=rsa-sha256 d=a.b s=c b=AAAA bh=AAAA h=From c=simple l=1 t=1 ( é = i"
TAG = st.sampled_from([*TAGS.split(), "", " ", "\r\n ", "\x00"])
ARC_FIELD = st.tuples(
    st.sampled_from([name.decode() for name in NAMES]), st.lists(TAG, max_size=12).map("; ".join) | st.text(max_size=40)
).map(lambda parts: f"{parts[0]}: {parts[1]}\r\n".encode("utf-8", "replace"))
HEAD = st.lists(ARC_FIELD | st.just(SET.encode()) | st.just(b"From: x\r\n") | st.binary(max_size=40), max_size=8).map(
    b"".join
)


@given(HEAD)
def test_any_head_is_read(head: bytes) -> None:
    """Whatever the fields hold, there is a chain, none, or one with a fault; nothing is raised."""
    read = read_chain(fields(head))
    assert read.exists == any(field.name in NAMES for field in fields(head))
    assert (not read.sets) or read.fault is None
    assert 0 <= read.instances <= 99

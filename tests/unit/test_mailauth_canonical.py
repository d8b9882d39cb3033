"""Tests of `mta.mailauth.canonical`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mailauth import canonical
from mta.mailauth.canonical import (
    BodyHashes,
    CanonicalBody,
    Canonicalization,
    SignedFields,
    canonical_field,
    canonical_signature,
    signed_octets,
)
from mta.message.header import Field, fields

SIMPLE, RELAXED = Canonicalization.SIMPLE, Canonicalization.RELAXED
# Octets that matter come often.
BODY = st.lists(
    st.sampled_from([b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" ", b"  ", b"\t", b"a", b"\0", b"\xff", b" \r\n"]),
    max_size=14,
).map(b"".join)


def defined(body: bytes, form: Canonicalization) -> bytes:
    """The canonical form by the words of RFC 6376 §3.4.3 and §3.4.4, slowly."""
    if form is RELAXED:
        body = b"\r\n".join(line.rstrip(b" \t") for line in body.split(b"\r\n"))
        body = re.sub(rb"[ \t]+", b" ", body)
    while body.endswith(b"\r\n"):
        body = body[:-2]
    return body + b"\r\n" if body or form is SIMPLE else b""


def streamed(chunks: Iterable[bytes], form: Canonicalization) -> bytes:
    """The canonical form as it comes out of chunks."""
    pieces: list[bytes] = []
    body = CanonicalBody(form, pieces.append)
    for chunk in chunks:
        body.update(chunk)
    body.finish()
    return b"".join(pieces)


def field(raw: bytes) -> Field:
    """The one field in `raw`."""
    (found,) = fields(raw)
    return found


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n", b"\r\n", b""),
        (b"\r\n\r\n", b"\r\n", b""),
        (b" \r\n\t\r\n", b" \r\n\t\r\n", b""),
        (b" ", b" \r\n", b""),
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a\r\n", b"a\r\n", b"a\r\n"),
        (b"a\r\n\r\n\r\n", b"a\r\n", b"a\r\n"),
        (b"a\r\n\r\nb\r\n", b"a\r\n\r\nb\r\n", b"a\r\n\r\nb\r\n"),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),
        (b"a \r\n \r\n", b"a \r\n \r\n", b"a\r\n"),
        (b"\r", b"\r\r\n", b"\r\r\n"),
        (b"a \r", b"a \r\r\n", b"a \r\r\n"),
        (b"a \r\r\n", b"a \r\r\n", b"a \r\r\n"),
        (b"a\n\n", b"a\n\n\r\n", b"a\n\n\r\n"),
        (b"a\n\r\n\r\n", b"a\n\r\n", b"a\n\r\n"),
        (b"a\r\r\n\r\n", b"a\r\r\n", b"a\r\r\n"),
        (b"a\r\r\r\n\r\n", b"a\r\r\r\n", b"a\r\r\r\n"),
        (b"a\n\n\n\r\n\r\n", b"a\n\n\n\r\n", b"a\n\n\n\r\n"),
        (b"a\0\xff b\x0b \r\n", b"a\0\xff b\x0b \r\n", b"a\0\xff b\x0b\r\n"),
    ],
)
def test_body(body: bytes, simple: bytes, relaxed: bytes) -> None:
    """Both forms of a body are what RFC 6376 §3.4.3 to §3.4.5 says, for one with NULs and bare CR too."""
    assert (streamed([body], SIMPLE), streamed([body], RELAXED)) == (simple, relaxed)
    assert (defined(body, SIMPLE), defined(body, RELAXED)) == (simple, relaxed)


@given(BODY, st.sampled_from(Canonicalization))
def test_body_at_every_split(body: bytes, form: Canonicalization) -> None:
    """Wherever a body is split, once or everywhere, its canonical form is the one that is defined."""
    expected = defined(body, form)
    assert streamed([body[at : at + 1] for at in range(len(body))], form) == expected
    for at in range(len(body) + 1):
        assert streamed([body[:at], body[at:]], form) == expected


@given(st.lists(BODY, max_size=6), st.sampled_from(Canonicalization))
def test_body_in_chunks(chunks: list[bytes], form: Canonicalization) -> None:
    """Chunks of any size, empty ones too, give the canonical form of the whole."""
    assert streamed(chunks, form) == defined(b"".join(chunks), form)


@pytest.mark.parametrize("form", Canonicalization)
@pytest.mark.parametrize("spaces", [2, 3, 7, 8, 1000, 65537])
def test_long_runs(form: Canonicalization, spaces: int) -> None:
    """Runs of white space of any length, in a line of any length, are one space under relaxed."""
    body = b"x" * 100_000 + b" \t" * spaces + b"y" + b" " * spaces + b"\r\n"
    assert streamed([body], form) == defined(body, form)
    assert streamed([body[:100_001], body[100_001:]], form) == defined(body, form)


@pytest.mark.parametrize("form", Canonicalization)
def test_held_back_lines_come_in_pieces(form: Canonicalization, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty lines that were held back are passed on in pieces, as many as there were."""
    monkeypatch.setattr(canonical, "_BLANK_LINES", 3)
    pieces: list[bytes] = []
    body = CanonicalBody(form, pieces.append)
    for chunk in (b"a", b"\r\n" * 4, b"\r\n" * 4, b"b\r\n"):
        body.update(chunk)
    body.finish()
    assert pieces == [b"a", b"\r\n" * 3, b"\r\n" * 3, b"\r\n" * 2, b"b", b"\r\n"]


@given(BODY, st.integers(0, 20), st.integers(1, 5))
def test_hashes_of_one_stream(body: bytes, limit: int, size: int) -> None:
    """Each hash that is wanted covers the form and the octets it was wanted for, and counts what it leaves."""
    hashes = BodyHashes()
    wanted = [hashes.want(form, bound) for form in Canonicalization for bound in (None, limit, 0)]
    for at in range(0, len(body), size):
        hashes.update(body[at : at + size])
    hashes.finish()
    expected = [(defined(body, form), bound) for form in Canonicalization for bound in (None, limit, 0)]
    assert [each.digest for each in wanted] == [hashlib.sha256(whole[:bound]).digest() for whole, bound in expected]
    assert [each.length for each in wanted] == [len(whole) for whole, _ in expected]
    assert [each.uncovered for each in wanted] == [
        0 if bound is None else len(whole) - bound for whole, bound in expected
    ]


def test_equal_wishes_share_a_hash() -> None:
    """Who wants the same hash gets the same one; finishing twice changes nothing."""
    hashes = BodyHashes()
    one, other = hashes.want(RELAXED), hashes.want(RELAXED)
    assert one is other
    assert hashes.want(RELAXED, 5) is not one
    assert hashes.want(SIMPLE) is not one
    hashes.update(b"a\r\n")
    hashes.finish()
    hashes.finish()
    assert one.digest == hashlib.sha256(b"a\r\n").digest()
    assert one.length == 3


@pytest.mark.parametrize(
    ("raw", "relaxed"),
    [
        (b"A: X\r\n", b"a:X\r\n"),
        (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),
        (b"Subject:\r\n\tfolded\r\n  twice \r\n \r\n", b"subject:folded twice\r\n"),
        (b"X:\r\n", b"x:\r\n"),
        (b"X: \t \r\n", b"x:\r\n"),
        (b"X: a\rb\nc\0\xff\r\n", b"x:a\rb\nc\0\xff\r\n"),
        (b"X: a\x0b \x0c\r\n", b"x:a\x0b \x0c\r\n"),
        (b"X:a:b\r\n", b"x:a:b\r\n"),
        (b"X: no line end", b"x:no line end\r\n"),
    ],
)
def test_field(raw: bytes, relaxed: bytes) -> None:
    """Relaxed folds the name, unfolds, and leaves single spaces; simple changes nothing (RFC 6376 §3.4.1, §3.4.2)."""
    assert canonical_field(field(raw), RELAXED) == relaxed
    assert canonical_field(field(raw), SIMPLE) == raw.removesuffix(b"\r\n") + b"\r\n"


@pytest.mark.parametrize(
    ("raw", "simple", "relaxed"),
    [
        (b"S: a=b; b=xyz\r\n", b"S: a=b; b=", b"s:a=b; b="),
        (b"S: a=b; b=xyz;\r\n", b"S: a=b; b=;", b"s:a=b; b=;"),
        (b"S: b=x\r\n y ; a=b\r\n", b"S: b=; a=b", b"s:b=; a=b"),
        (b"S: a=1;\r\n b\t= x y\r\n z\r\n", b"S: a=1;\r\n b\t=", b"s:a=1; b ="),
        (b"S: bh=xyz; h=b; b=\r\n", b"S: bh=xyz; h=b; b=", b"s:bh=xyz; h=b; b="),
        (b"S: bh=b=; h=from:b=x; b=q=\r\n", b"S: bh=b=; h=from:b=x; b=", b"s:bh=b=; h=from:b=x; b="),
        (b"S: a=b; bh=x\r\n", b"S: a=b; bh=x", b"s:a=b; bh=x"),
    ],
)
def test_signature_field(raw: bytes, simple: bytes, relaxed: bytes) -> None:
    """The value of b= goes with all white space around it, nothing else does, nor the CRLF stays (RFC 6376 §3.7)."""
    assert canonical_signature(field(raw), SIMPLE) == simple
    assert canonical_signature(field(raw), RELAXED) == relaxed


HEAD = [field(raw) for raw in (b"X: 1\r\n", b"A: 2\r\n", b"x: 3\r\n", b"no field\r\n", b"X : 4\r\n")]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([b"x"], [4]),
        ([b"x", b"x"], [4, 2]),
        ([b"x", b"a", b"x", b"x", b"x", b"a"], [4, 1, 2, 0]),
        ([b"b"], []),
        ([b""], [3]),
    ],
)
def test_selection(names: list[bytes], chosen: list[int]) -> None:
    """A name chooses its fields from the last one up; where there is none it gives nothing (RFC 6376 §5.4.2)."""
    selected = SignedFields(HEAD).select(names)
    assert [next(at for at, each in enumerate(HEAD) if each is one) for one in selected] == chosen


def test_signature_never_chooses_itself() -> None:
    """The signature that is checked is passed over, wherever it stands; an equal field is not it."""
    for at, rest in ((0, [4, 2]), (2, [4, 0]), (4, [2, 0])):
        selected = SignedFields(HEAD).select([b"x"] * 4, besides=HEAD[at])
        assert [one.raw for one in selected] == [HEAD[each].raw for each in rest]
    twins = [field(b"X: 1\r\n"), field(b"X: 1\r\n")]
    assert SignedFields(twins).select([b"x", b"x"], besides=twins[1]) == [twins[0]]


def test_octets_of_a_signature() -> None:
    """What a signature is computed over is the chosen fields, then itself, in the form asked for, time after time."""
    signature = field(b"X: h=x:x:a; b=y\r\n")
    head = SignedFields([*HEAD, signature])
    for _ in range(2):
        assert head.octets([b"x", b"a"], signature, RELAXED) == b"x:4\r\na:2\r\nx:h=x:x:a; b="
        assert head.octets([b"x", b"x"], signature, SIMPLE) == b"X : 4\r\nx: 3\r\nX: h=x:x:a; b="
        assert head.octets([b"x"], HEAD[4], SIMPLE) == b"X: h=x:x:a; b=y\r\nX : 4"
    chosen = head.select([b"x", b"a"], besides=signature)
    assert signed_octets(chosen, signature, RELAXED) == head.octets([b"x", b"a"], signature, RELAXED)


def test_count() -> None:
    """Fields are counted by name."""
    assert [SignedFields(HEAD).count(name) for name in (b"x", b"a", b"b")] == [3, 1, 0]

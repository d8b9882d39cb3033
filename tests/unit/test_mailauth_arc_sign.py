"""Tests of `mta.mailauth.arc_sign`; `test_mailauth_arc_verify` seals and validates chains of several hops."""

from __future__ import annotations

import dkim
import pytest

from mta.mail.reason import Reason
from mta.mailauth.algorithm import verify
from mta.mailauth.arc_set import FORM, MESSAGE, RESULTS, SEAL
from mta.mailauth.arc_sign import seal_message
from mta.mailauth.authres_reader import without_forged
from mta.mailauth.canonical import signed_octets
from mta.mailauth.result import Arc, ArcResult
from mta.mailauth.tags import read_base64, read_colons, read_tags
from mta.message.header import fields
from tests.doubles.arc import WALL, body_of, forwarded, hand_made, hop, validated
from tests.doubles.dkim import pem, record

HEAD = b"DKIM-Signature: x\r\nFrom: alice@author.example\r\nSubject: hello\r\nAuthentication-Results: x; none\r\n"
BODY = b"Hello\r\n"
NONE = Arc(ArcResult.NONE, Reason(""))


def seal(head: bytes, arc: Arc, results: str = "mx.example.org; none", number: int = 1) -> bytes | Reason:
    """Seal a message."""
    return seal_message(head, body_of(BODY), hop(number), results, arc, WALL)


def tags_of(sealed: bytes | Reason) -> dict[bytes, dict[str, str]]:
    """The tags of the two signatures of a set."""
    assert isinstance(sealed, bytes), sealed
    found = {}
    for field in fields(sealed):
        if field.name != RESULTS:
            tags = read_tags(field.value)
            assert isinstance(tags, dict)
            found[field.name] = tags
    return found


def test_set() -> None:
    """A set is seal, message signature and results, in lines that are not too long, and says what it must."""
    sealed = seal(HEAD, NONE, "mx.example.org;\r\n\tspf=pass")
    assert isinstance(sealed, bytes)
    assert [each.name for each in fields(sealed)] == [SEAL, MESSAGE, RESULTS]
    assert max(map(len, sealed.split(b"\r\n"))) <= 78
    assert sealed.endswith(b"\r\nARC-Authentication-Results: i=1; mx.example.org;\r\n\tspf=pass\r\n")
    tags = tags_of(sealed)
    expected = {"i": "1", "a": "ed25519-sha256", "d": "hop1.example", "s": "s1", "t": "1700000000"}
    del tags[SEAL]["b"]
    assert tags[SEAL] == {**expected, "cv": "none"}
    assert {name: tags[MESSAGE][name] for name in expected} == expected
    names = [name.lower() for name in read_colons(tags[MESSAGE]["h"])]
    assert names.count("from") == 2
    assert names.count("dkim-signature") == 1
    assert not {"authentication-results", "received", *(each.decode() for each in (SEAL, MESSAGE, RESULTS))} & set(
        names
    )


def test_chain_status() -> None:
    """cv= is none for the first set, pass behind a valid chain, fail behind one that is not."""
    head = forwarded(HEAD, BODY, 1)
    assert tags_of(head[: -len(HEAD)])[SEAL]["cv"] == "none"
    arc = validated(head, BODY)
    sealed = tags_of(seal(head, arc))
    assert (sealed[SEAL]["i"], sealed[MESSAGE]["i"], sealed[SEAL]["cv"]) == ("2", "2", "pass")
    arc = validated(head, b"other\r\n")
    assert arc.result is ArcResult.FAIL
    assert tags_of(seal(head, arc))[SEAL]["cv"] == "fail"


@pytest.mark.parametrize("arc", [NONE, Arc(ArcResult.PASS, Reason(""), 2), Arc(ArcResult.FAIL, Reason(""), 1)])
def test_result_of_another_chain(arc: Arc) -> None:
    """A result that is not of the chain that the head has vouches for nothing."""
    assert tags_of(seal(forwarded(HEAD, BODY, 1), arc))[SEAL]["cv"] == "fail"


def test_chain_removed() -> None:
    """A message whose ARC fields somebody removed begins a chain."""
    assert tags_of(seal(HEAD, Arc(ArcResult.PASS, Reason(""), 3)))[SEAL]["cv"] == "none"


@pytest.mark.parametrize("broken", [b"", b"ARC-Seal: i=5; x\r\n", b"ARC-Authentication-Results: i=7; x\r\n"])
def test_failed_chain_is_not_covered(broken: bytes) -> None:
    """Behind a chain that is not valid, the seal covers its own set alone; the instance is above all that are there."""
    head = broken + forwarded(HEAD, BODY, 1)
    sealed = seal(head, validated(head, b"other\r\n"), number=2)
    assert isinstance(sealed, bytes)
    by_name = {each.name: each for each in fields(sealed)}
    tags = tags_of(sealed)[SEAL]
    assert tags["cv"] == "fail"
    assert tags["i"] == ("8" if b"i=7" in broken else "2")
    covered = signed_octets([by_name[RESULTS], by_name[MESSAGE]], by_name[SEAL], FORM)
    assert verify(hop(2).key.public_key(), covered, read_base64(tags["b"]) or b"")
    assert validated(sealed + head, BODY).reason.text.startswith("hop2.example sealed the chain as failed")


def test_what_is_not_sealed() -> None:
    """A chain that has been sealed as failed is left as it is, and so is one of 50 sets, or one that counts higher."""
    head = forwarded(HEAD, BODY, 1)
    head = hand_made(head, BODY, hop(2), seal={"cv": "fail"}) + head
    assert seal(head, validated(head, BODY)) == Reason("the chain has been sealed as failed", "RFC 8617 §5.1.3")
    full = Reason("the chain has 50 sets", "RFC 8617 §4.2.1")
    for number in ("50", "51", "99"):
        head = f"ARC-Seal: i={number}; x=y\r\n".encode() + HEAD
        assert seal(head, validated(head, BODY)) == full
    assert isinstance(seal(b"ARC-Seal: i=49; x=y\r\n" + HEAD, NONE), bytes)
    assert seal(b"ARC-Seal: i=1\r\n" * 151 + HEAD, NONE) == full


@pytest.mark.parametrize(
    "results", ["", "x\r\n", "x\r\nFrom: y", "x\ny", "x\n y", "x\r y", "x\r\n \r\n y", "x ", "x\r\n\t", "\nx", "x\r"]
)
def test_results_that_are_no_text_of_a_field(results: str) -> None:
    """A text that would end the field, or be another one, is a bug of ours."""
    with pytest.raises(ValueError, match="no text of a field"):
        seal(HEAD, NONE, results)


# dkimpy, which knows RSA alone in chains: each hop is number 3, with the one RSA key


def key_of_hop_3(name: bytes, timeout: int = 0) -> bytes:
    """The DNS as dkimpy asks it."""
    assert name == b"s3._domainkey.hop3.example."
    return record(hop(3).key).encode()


def sealed_by_dkimpy(head: bytes) -> bytes:
    """The head as it leaves a hop that seals with dkimpy, which reads the result of the chain in a field."""
    found = validated(head, BODY).result.value
    results = "spf=pass" if found == "none" else f"arc={found}"
    head = f"Authentication-Results: hop3.example; {results}\r\n".encode() + without_forged(head, "hop3.example")
    fields = dkim.arc_sign(
        head + b"\r\n" + BODY, b"s3", b"hop3.example", pem(hop(3).key), b"hop3.example", timestamp=int(WALL)
    )
    assert len(fields) == 3
    return b"".join(fields) + head


@pytest.mark.parametrize("sealers", [(us,) * 3 for us in (True, False)] + [(True, False, True), (False, True, False)])
def test_chains_with_dkimpy(sealers: tuple[bool, ...]) -> None:
    """Chains that we and dkimpy seal, alone and in turn, pass with both, and fail with both when they are broken."""
    head = HEAD.replace(b"DKIM-Signature: x\r\n", b"")
    for ours in sealers:
        head = forwarded(head, BODY, 3) if ours else sealed_by_dkimpy(head)
    for body, expected in ((BODY, "pass"), (b"other\r\n", "fail")):
        arc = validated(head, body)
        assert (arc.result.value, arc.instances) == (expected, 3), arc.reason
        status, _, reason = dkim.arc_verify(head + b"\r\n" + body, dnsfunc=key_of_hop_3)
        assert status == expected.encode(), reason

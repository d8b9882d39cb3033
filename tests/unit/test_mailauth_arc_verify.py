"""Tests of `mta.mailauth.arc_verify`: chains of several hops, whole and broken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import defer

from mta.mailauth.arc_set import SEAL, read_chain
from mta.mailauth.arc_verify import MESSAGES_MAXIMUM, ArcCheck
from mta.mailauth.canonical import BodyHashes
from mta.mailauth.key_lookup import KEYS_AT_ONCE
from mta.mailauth.result import Arc, ArcResult
from mta.message.header import fields
from tests.doubles.arc import checking, forwarded, hand_made, hop, name_of, validated, zone
from tests.doubles.dkim import record
from tests.doubles.dns import Zone, ZoneResolver
from tests.doubles.sync import failure, result
from tests.unit.test_mailauth_arc_set import ARC_FIELD

HEAD = b"X-Trace: one\r\nFrom: alice@author.example\r\nSubject: hello\r\nTo: list@hop1.example\r\n"
BODY = b"Hello,\r\n\r\nthis  is \r\nit.\r\n\r\n"


def chain(hops: int, head: bytes = HEAD, body: bytes = BODY) -> bytes:
    """The head of a message behind so many hops."""
    for number in range(1, hops + 1):
        head = forwarded(head, body, number)
    return head


def test_no_chain() -> None:
    """Without an ARC field the result is none, and nothing is asked."""
    resolver = zone()
    arc = validated(HEAD, BODY, resolver)
    assert (arc.result, arc.instances, arc.sealers, arc.results) == (ArcResult.NONE, 0, (), ())
    assert resolver.asked == []


def test_chain_of_several_hops() -> None:
    """A chain that four hops sealed, each with its own key, passes, and tells who sealed it and what they found."""
    resolver = zone()
    arc = validated(chain(4), BODY, resolver)
    assert arc.result is ArcResult.PASS, arc.reason
    assert arc.reason.text == "a chain of 4 hops, sealed last by hop4.example"
    assert (arc.instances, arc.oldest_pass) == (4, 0)
    assert arc.sealers == ("hop1.example", "hop2.example", "hop3.example", "hop4.example")
    found = "mx.hop2.example; spf=pass smtp.mailfrom=author.example; dmarc=pass header.from=author.example"
    assert " ".join(arc.results[1].split()) == found
    assert [name for name, _ in resolver.asked] == [name_of(hop(number)) for number in (4, 3, 2, 1)]


def test_keys_are_asked_for_before_the_body() -> None:
    """The questions are under way as soon as the head is known."""
    resolver = zone()
    check = ArcCheck(resolver, chain(2))
    assert len(resolver.asked) == 2
    check.body(BODY)
    assert result(defer.Deferred.fromCoroutine(check.finish())).result is ArcResult.PASS


def test_every_split_of_the_body() -> None:
    """A body gives the same result wherever it is divided, and octet by octet."""
    head = chain(1)
    for at in range(len(BODY) + 1):
        assert validated(head, [BODY[:at], BODY[at:]]).result is ArcResult.PASS
    assert validated(head, [bytes([octet]) for octet in BODY]).result is ArcResult.PASS
    assert validated(head, []).result is ArcResult.FAIL


def test_shared_hashes() -> None:
    """The hashes may be those of somebody else, who feeds them."""
    bodies = BodyHashes()
    check = ArcCheck(zone(), chain(2), bodies)
    bodies.update(BODY)
    assert result(defer.Deferred.fromCoroutine(check.finish())).result is ArcResult.PASS


def test_mutation_of_any_octet() -> None:
    """Whichever octet of a sealed field, a signed field or the body is changed: the chain does not pass."""
    head = chain(2)
    unsigned = head.index(b"X-Trace")
    resolver = zone()
    passed = []
    for at in range(len(head)):
        changed = bytearray(head)
        changed[at] ^= 1
        if validated(bytes(changed), BODY, resolver).result is ArcResult.PASS:
            passed.append(at)
    # Free are the field that nobody signs, and the last bits of the newest seal's base64, which are none of its octets.
    free = set(range(unsigned, unsigned + len(b"X-Trace: one"))) | {head.index(b"==\r\nARC-Message-Signature") - 1}
    assert set(passed) <= free
    assert len(passed) > 5
    for at in range(len(BODY.rstrip())):
        changed = bytearray(BODY)
        changed[at] ^= 1
        assert validated(head, bytes(changed), resolver).result is ArcResult.FAIL


@pytest.mark.parametrize("name", ["ARC-Seal", "ARC-Message-Signature", "ARC-Authentication-Results"])
@pytest.mark.parametrize("instance", [1, 2, 3])
def test_field_of_a_chain_removed_or_doubled(name: str, instance: int) -> None:
    """A chain without one of its fields, or with one twice, fails."""
    found = list(fields(chain(3)))
    (at,) = [n for n, each in enumerate(found) if each.raw.startswith(f"{name}: i={instance};".encode())]
    raw = [each.raw for each in found]
    for changed in ([*raw[:at], *raw[at + 1 :]], [*raw[:at], raw[at], *raw[at:]]):
        assert validated(b"".join(changed), BODY).result is ArcResult.FAIL


def test_newest_set_removed() -> None:
    """A chain cut back to an older hop is valid as far as its seals go, if the message is as that hop sent it on."""
    older = chain(2)
    assert forwarded(older, BODY, 3).endswith(older)
    assert validated(older, BODY).instances == 2


def test_older_message_signature_that_is_broken() -> None:
    """A hop that changes the message and seals it leaves a chain that passes, and the oldest signature behind it."""
    head = chain(2)
    changed = forwarded(head.replace(b"Subject: hello", b"Subject: [list] hello"), BODY, 3)
    assert validated(changed, BODY).result is ArcResult.FAIL
    # That hop found the chain broken since it looked behind its change. One that looked before seals cv=pass:
    text = "hop3.example; none"
    changed = head.replace(b"Subject: hello", b"Subject: [list] hello")
    changed = hand_made(changed, BODY, hop(3), results=text) + changed
    arc = validated(changed, BODY)
    assert (arc.result, arc.oldest_pass) == (ArcResult.PASS, 3), arc.reason
    arc = validated(forwarded(changed, BODY, 4), BODY)
    assert (arc.result, arc.oldest_pass) == (ArcResult.PASS, 3), arc.reason
    other = b"Other text\r\n"
    arc = validated(hand_made(changed, other, hop(4)) + changed, other)
    assert (arc.result, arc.oldest_pass) == (ArcResult.PASS, 4), arc.reason


def test_fields_added_on_the_way() -> None:
    """Trace fields and DKIM signatures that hops add break nothing."""
    head = b"Received: by hop2\r\nDKIM-Signature: x\r\n" + chain(2)
    head = b"Received: by hop3\r\nAuthentication-Results: hop3\r\n" + forwarded(head, BODY, 3)
    arc = validated(head, BODY)
    assert (arc.result, arc.oldest_pass) == (ArcResult.PASS, 0)


def test_fifty_hops() -> None:
    """A chain of 50 sets passes; keys are asked for a few at a time, each once, and ten messages are verified."""
    head = HEAD
    for number in range(1, 51):
        head = hand_made(head, BODY, hop(number)) + head
    resolver = zone()
    check = ArcCheck(resolver, head)
    assert len(resolver.asked) == KEYS_AT_ONCE
    check.body(BODY)
    arc = result(defer.Deferred.fromCoroutine(check.finish()))
    assert (arc.result, arc.instances, arc.oldest_pass) == (ArcResult.PASS, 50, 51 - MESSAGES_MAXIMUM), arc.reason
    assert [name for name, _ in resolver.asked] == [name_of(hop(number)) for number in range(50, 0, -1)]


def test_instance_51() -> None:
    """A set beyond 50 fails the chain, and nothing is asked."""
    head = HEAD
    for _ in range(51):
        head = hand_made(head, BODY, hop(1)) + head
    resolver = zone()
    arc = validated(head, BODY, resolver)
    assert arc.result is ArcResult.FAIL
    assert resolver.asked == []


def test_equal_keys_are_asked_for_once() -> None:
    """Hops of one sealer share one question."""
    head = chain(1)
    for _ in range(5):
        head = forwarded(head, BODY, 1)
    resolver = zone()
    assert validated(head, BODY, resolver).result is ArcResult.PASS
    assert [name for name, _ in resolver.asked] == [name_of(hop(1))]


@pytest.mark.parametrize("broken", [1, 2, 3])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("!SERVFAIL", "no key: TXT of {name}: SERVFAIL"),
        ("v=DKIM1; k=dsa; p=AAAA", "k= is not"),
        (None, "no key is published"),
    ],
)
def test_key_that_is_not_there(broken: int, data: str | None, text: str) -> None:
    """Without the key of any seal the chain fails; a name server that fails is no exception (RFC 8617 §5.2.1)."""
    resolver = zone(number for number in range(1, 4) if number != broken)
    if data:
        resolver.zone.add(name_of(hop(broken)), "TXT", data)
    arc = validated(chain(3), BODY, resolver)
    field = "ARC-Message-Signature" if broken == 3 else "ARC-Seal"
    assert arc.result is ArcResult.FAIL
    assert arc.reason.text.startswith(f"{field} i={broken} of hop{broken}.example: ")
    assert text.format(name=name_of(hop(broken))) in arc.reason.text


def silent(*numbers: int) -> ZoneResolver:
    """A resolver that does not answer for these hops."""
    resolver = zone(number for number in range(1, 51) if number not in numbers)
    for number in numbers:
        resolver.zone.add(name_of(hop(number)), "TXT", "!SILENT")
    return resolver


@pytest.mark.parametrize("number", [1, 2])
def test_late_key(number: int) -> None:
    """Who does not want to wait longer gets a fail that says so, and the question is cancelled."""
    resolver = silent(number)
    check = ArcCheck(resolver, chain(2))
    check.body(BODY)
    waiting: list[Arc] = []
    defer.Deferred.fromCoroutine(check.finish()).addCallback(waiting.append)
    assert waiting == []
    check.cancel()
    (arc,) = waiting
    assert arc.result is ArcResult.FAIL
    assert arc.reason.text.endswith(f"no key: no answer in time about {name_of(hop(number))}")
    assert resolver.silent[0].called


def test_nothing_is_asked_after_the_end_of_waiting() -> None:
    """Who does not want to wait longer does not ask what has not been asked yet."""
    head = HEAD
    for number in range(1, 13):
        head = hand_made(head, BODY, hop(number)) + head
    resolver = silent(*range(1, 13))
    check = ArcCheck(resolver, head)
    check.body(BODY)
    check.cancel()
    assert result(defer.Deferred.fromCoroutine(check.finish())).result is ArcResult.FAIL
    assert len(resolver.asked) == KEYS_AT_ONCE


def test_cancelled() -> None:
    """Cancelling the check cancels its questions; one that is given up before its end leaves none behind."""
    resolver = silent(1, 2)
    waiting = checking(chain(2), BODY, resolver)
    waiting.cancel()
    assert isinstance(failure(waiting), defer.CancelledError)
    assert [each.called for each in resolver.silent] == [True, True]
    resolver = silent(1, 2)
    ArcCheck(resolver, chain(2)).cancel()
    assert [each.called for each in resolver.silent] == [True, True]


def test_nothing_is_waited_for_once_the_chain_has_failed() -> None:
    """A body that is not the one of the newest hop fails the chain before any key is there."""
    resolver = silent(1, 2)
    arc = validated(chain(2), b"other\r\n", resolver)
    assert arc.reason.text == "ARC-Message-Signature i=2 of hop2.example: the body is not the one that was signed"
    assert [each.called for each in resolver.silent] == [True, True]


def test_keys_that_differ_within_a_set() -> None:
    """Message signature and seal of a hop may have different domains; sealers are those of the seals."""
    head = hand_made(HEAD, BODY, hop(1), sealer=hop(2)) + HEAD
    arc = validated(head, BODY)
    assert (arc.result, arc.sealers) == (ArcResult.PASS, ("hop2.example",))
    assert validated(head, BODY, zone([1])).reason.text.startswith("ARC-Seal i=1 of hop2.example: no key")


def test_older_message_signature_without_a_key() -> None:
    """The key of an older message signature alone is no part of the chain's validity."""
    head = hand_made(HEAD, BODY, hop(1), sealer=hop(2)) + HEAD
    head = hand_made(head, BODY, hop(3)) + head
    arc = validated(head, BODY, zone([2, 3]))
    assert (arc.result, arc.oldest_pass) == (ArcResult.PASS, 2)


@pytest.mark.parametrize(
    ("length", "body", "expected"),
    [
        (str(len(BODY) - 4), BODY, ArcResult.PASS),
        (str(len(BODY) - 4), BODY + b"more\r\n", ArcResult.FAIL),
        (str(len(BODY) - 6), BODY, ArcResult.FAIL),
        (str(len(BODY)), BODY, ArcResult.FAIL),
        ("9" * 76, BODY, ArcResult.FAIL),
    ],
)
def test_part_of_the_body(length: str, body: bytes, expected: ArcResult) -> None:
    """A signature with l= holds for the body that it covers wholly, and for no other."""
    head = hand_made(HEAD, BODY, hop(1), message={"l": length}) + HEAD
    assert validated(head, body).result is expected


def test_message_signature_that_covers_its_like() -> None:
    """A message signature may cover those of older hops, and is never among what it covers itself."""
    names: dict[str, str | None] = {"h": "From:ARC-Message-Signature:ARC-Message-Signature"}
    head = hand_made(HEAD, BODY, hop(1), message=names) + HEAD
    head = hand_made(head, BODY, hop(2), message=names) + head
    arc = validated(head, BODY)
    # The first one holds no longer: it covers that there is no other.
    assert (arc.result, arc.oldest_pass) == (ArcResult.PASS, 2), arc.reason


def test_second_from() -> None:
    """A From field that is put before the signed one breaks the chain, as readers may show it."""
    head = hand_made(HEAD, BODY, hop(1)) + HEAD
    arc = validated(b"From: mallory@example.net\r\n" + head, BODY)
    assert arc.reason.text.endswith("there are 2 From fields, and h= covers 1")


def test_words_in_the_head() -> None:
    """A line of the head that is no field breaks the chain: many readers take it for the first of the body."""
    head = hand_made(HEAD, BODY, hop(1)) + b"please pay this\r\n" + HEAD
    arc = validated(head, BODY)
    assert arc.result is ArcResult.FAIL
    assert arc.reason.text.endswith("the head has a line that is no field")


@pytest.mark.parametrize("forms", ["simple/simple", "simple", "relaxed", "simple/relaxed", "relaxed/simple", None])
def test_canonical_forms(forms: str | None) -> None:
    """Each form of head and body verifies; without c= it is simple/simple."""
    head = hand_made(HEAD, BODY, hop(1), message={"c": forms}) + HEAD
    assert validated(head, BODY).result is ArcResult.PASS
    spaced = head.replace(b"Subject: hello", b"Subject:  hello")
    relaxed = (forms or "").startswith("relaxed")
    assert (validated(spaced, BODY).result is ArcResult.PASS) is relaxed


def test_seal_of_another_chain() -> None:
    """A seal covers the sets before it: put on another chain it does not hold."""
    other = HEAD.replace(b"X-Trace: one", b"X-Trace: two")
    first, second = chain(1), hand_made(other, BODY, hop(1), results="forged.example; dmarc=pass") + other
    sealed = forwarded(first, BODY, 2)
    newest = b"".join(each.raw for each in list(fields(sealed))[:3])
    arc = validated(newest + second, BODY)
    assert arc.reason.text.startswith("ARC-Seal i=2 of hop2.example: the sets are not those that were sealed")


def test_key_with_flags() -> None:
    """Flags of a key, testing and strict, are for DKIM alone."""
    resolver = ZoneResolver(Zone())
    resolver.zone.add(name_of(hop(1)), "TXT", record(hop(1).key, t="y:s"))
    assert validated(chain(1), BODY, resolver).result is ArcResult.PASS


def test_sealed_as_failed() -> None:
    """A chain that its newest seal calls failed is failed, without a question."""
    head = chain(1)
    head = hand_made(head, BODY, hop(2), seal={"cv": "fail"}) + head
    resolver = zone()
    arc = validated(head, BODY, resolver)
    assert (arc.result, arc.instances, resolver.asked) == (ArcResult.FAIL, 2, [])


@settings(max_examples=200, deadline=None)
@given(st.lists(ARC_FIELD | st.sampled_from([each.raw for each in fields(chain(2))]), max_size=9), st.binary())
def test_any_fields(raw: list[bytes], body: bytes) -> None:
    """Whatever ARC fields a message has, and in whatever order: the check gives a result and raises nothing."""
    head = b"".join(raw)
    arc = validated(head, body)
    assert (arc.result is ArcResult.NONE) is not read_chain(fields(head)).exists
    if arc.result is ArcResult.PASS:
        assert any(each.name == SEAL for each in fields(head))

"""Tests of `mta.mailauth.dkim_verify`: the examples of the RFCs, each line of its table, `robustness.md` row 65."""

from __future__ import annotations

import re
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer

from mta.dns.answer import NoData, RecordType
from mta.mailauth.algorithm import RSA_BITS_MINIMUM
from mta.mailauth.canonical import BodyHashes
from mta.mailauth.dkim_verify import SIGNATURES_MAXIMUM, DkimCheck
from mta.mailauth.result import Dkim, DkimResult
from mta.mailauth.tags import write_base64
from mta.message.header import fields, find_head
from tests.doubles.dkim import ED25519_KEY, WALL, digest, record, rsa_key, signed, verified, zone
from tests.doubles.dns import Zone, ZoneResolver
from tests.doubles.sync import failure, result

HEAD = b"From: Joe <joe@example.org>\r\nTo: sue@example.net\r\nSubject: dinner\r\n"
BODY = b"Hi.\r\n\r\nWe lost  the game.\r\n"
FORMS = [f"{head}/{body}" for head in ("simple", "relaxed") for body in ("simple", "relaxed")]


def one(head: bytes, body: bytes, resolver: ZoneResolver | None = None, wall: float = WALL) -> Dkim:
    """The result of the only signature."""
    (found,) = verified(head, body, resolver, wall)
    return found


# RFC 6376 A.2 and C, RFC 8463 A.2 and A.3

EXAMPLE = """\
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game. Are you hungry yet?

Joe.
"""
RFC_6376 = """\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
"""
RFC_8463 = """\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
"""
RFC_KEYS = {
    "brisbane._domainkey.example.com": "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMo"
    "GeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9"
    "tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB",
    "brisbane._domainkey.football.example.com": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    "test._domainkey.football.example.com": "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs"
    "5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5"
    "QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
}


def rfc_results(text: str) -> list[DkimResult]:
    """Verify an example of an RFC."""
    known = Zone()
    for name, key in RFC_KEYS.items():
        known.add(name, "TXT", key)
    content = text.replace("\n", "\r\n").encode()
    head = find_head(content).octets
    return [each.result for each in verified(head, content[len(head) + 2 :], ZoneResolver(known))]


def test_examples_of_the_rfcs() -> None:
    """The signatures in RFC 6376 A.2 and RFC 8463 A.3 verify, and fail once the message is another."""
    assert rfc_results(RFC_6376 + EXAMPLE) == [DkimResult.PASS]
    assert rfc_results(RFC_8463 + EXAMPLE) == [DkimResult.PASS, DkimResult.PASS]
    assert rfc_results(RFC_6376 + EXAMPLE.replace("dinner", "lunch")) == [DkimResult.FAIL]
    assert rfc_results(RFC_8463 + EXAMPLE.replace("Joe.", "Jim.")) == [DkimResult.FAIL, DkimResult.FAIL]


# the table


def test_pass() -> None:
    """A pass tells all that RFC 8601 wants to know of it."""
    found = one(signed(HEAD, BODY, rsa_key(), i="joe@mail.example.org") + HEAD, BODY)
    assert (found.result, found.domain, found.selector) == (DkimResult.PASS, "example.org", "rsa")
    assert (found.identity, found.algorithm, found.bits) == ("joe@mail.example.org", "rsa-sha256", RSA_BITS_MINIMUM)
    assert (found.testing, found.unsigned_octets) == (False, 0)
    assert re.fullmatch("[A-Za-z0-9+/]{8}", found.signature)
    assert found.reason.source == "TXT rsa._domainkey.example.org"


def test_message_without_signature() -> None:
    """A message that is not signed gives no result and asks nothing, nor does one that only talks of signatures."""
    for head in (b"", HEAD, HEAD + b"Subject: dkim-signature\r\n", b"no field: \r\n dkim-signature:\r\n"):
        resolver = zone()
        assert verified(head, BODY, resolver) == ()
        assert resolver.asked == []


@pytest.mark.parametrize(
    ("tags", "expected", "text"),
    [
        ({"h": "to"}, DkimResult.PERMERROR, "h= does not have From"),
        ({"x": "1000"}, DkimResult.FAIL, "the signature expired 1799999000 s ago"),
        ({"t": "1800000301"}, DkimResult.POLICY, "the signature is from 301 s in the future"),
        ({"l": "28"}, DkimResult.PERMERROR, "l= is 28, and the body has 27 octets"),
        ({"l": "9" * 76}, DkimResult.PERMERROR, f"l= is {'9' * 76}, and the body has 27 octets"),
        ({"bh": digest(b"other")}, DkimResult.FAIL, "the body is not the one that was signed"),
        ({"bh": write_base64(b"short")}, DkimResult.FAIL, "the body is not the one that was signed"),
        ({"s": "none"}, DkimResult.PERMERROR, "no key is published"),
        ({"s": "slow"}, DkimResult.TEMPERROR, "no key: TXT of slow._domainkey.example.org: SERVFAIL"),
        ({"s": "slow", "bh": digest(b"other")}, DkimResult.FAIL, "the body is not the one that was signed"),
        ({"s": "revoked"}, DkimResult.PERMERROR, "the key is revoked"),
        ({"s": "junk"}, DkimResult.PERMERROR, "p= is not base64"),
        ({"s": "strict", "i": "@mail.example.org"}, DkimResult.PERMERROR, None),
        ({"s": "strict", "i": "joe@EXAMPLE.org"}, DkimResult.PASS, None),
        ({"s": "strict"}, DkimResult.PASS, None),
        ({"s": "other"}, DkimResult.FAIL, "the head is not the one that was signed, or the key another"),
        ({"s": "rsa"}, DkimResult.PERMERROR, "k= is not ed25519"),
        ({"i": "joe@mail.example.org"}, DkimResult.PASS, None),
        ({"h": "from:from:x-none:subject:x-none"}, DkimResult.PASS, None),
        ({"c": "relaxed"}, DkimResult.PASS, None),
    ],
)
def test_table(tags: dict[str, str], expected: DkimResult, text: str | None) -> None:
    """Each line of the table is what a signature comes to."""
    resolver = zone(
        ("slow", "!SERVFAIL"),
        ("revoked", "v=DKIM1; k=ed25519; p="),
        ("junk", "v=DKIM1; k=ed25519; p=a?"),
        ("strict", record(ED25519_KEY, t="s")),
        ("other", "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
    )
    found = one(signed(HEAD, BODY, **tags) + HEAD, BODY, resolver)
    assert found.result is expected, found
    assert text is None or found.reason.text == text


def test_missing_tag() -> None:
    """A signature without a required tag is a permerror, and asks nothing."""
    resolver = zone()
    found = one(signed(HEAD, BODY, drop=["bh"]) + HEAD, BODY, resolver)
    assert (found.result, found.reason.text) == (DkimResult.PERMERROR, "bh= is missing")
    assert resolver.asked == []


def test_short_key() -> None:
    """A key of 512 bits fails, whatever the signature (RFC 8301 §3.2)."""
    public = RSAPublicNumbers(65537, (1 << 511) | 12345).public_key()
    short = f"p={write_base64(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))}"
    found = one(signed(HEAD, BODY, rsa_key(), s="short") + HEAD, BODY, zone(("short", short)))
    assert (found.result, found.bits, found.reason.source) == (DkimResult.FAIL, 512, "RFC 8301 §3.2")


def test_testing_is_told() -> None:
    """t=y of the key stands beside the result, be it pass or fail."""
    resolver = zone(("test", record(ED25519_KEY, t="y")))
    signature = signed(HEAD, BODY, s="test")
    for body, expected in ((BODY, DkimResult.PASS), (b"other", DkimResult.FAIL)):
        found = one(signature + HEAD, body, resolver)
        assert (found.result, found.testing) == (expected, True)


@pytest.mark.parametrize(("limit", "unsigned"), [(27, 0), (26, 1), (3, 24), (0, 27)])
def test_limit(limit: int, unsigned: int) -> None:
    """A signature with l= covers so many octets of the canonical body and tells how many it leaves."""
    signature = signed(HEAD, BODY, l=str(limit))
    found = one(signature + HEAD, BODY)
    assert (found.result, found.unsigned_octets) == (DkimResult.PASS, unsigned)
    added = one(signature + HEAD, BODY[:limit] + b"x" * 100_000)
    assert (added.result, added.unsigned_octets) == (DkimResult.PASS, 100_002)


@pytest.mark.parametrize(
    ("names", "froms", "expected"),
    [
        ("from", 1, DkimResult.PASS),
        ("from", 2, DkimResult.POLICY),
        ("from:from", 2, DkimResult.PASS),
        ("from:from", 1, DkimResult.PASS),
        ("from:from", 3, DkimResult.POLICY),
        ("from", 0, DkimResult.PASS),
    ],
)
def test_several_from_fields(names: str, froms: int, expected: DkimResult) -> None:
    """A signature that covers only some of the From fields vouches for none (RFC 6376 §8.15)."""
    head = b"".join(b"From: joe%d@example.org\r\n" % number for number in range(froms)) + b"To: sue@example.net\r\n"
    found = one(signed(head, BODY, h=names) + head, BODY)
    assert found.result is expected


@pytest.mark.parametrize("words", [b"Dear Sue, please pay this.\r\n", b"==\r\n", b": no name\r\n"])
def test_words_in_the_head(words: bytes) -> None:
    """A line of the head that is no field, which many readers take for the body, makes no signature count (§3.8)."""
    assert one(signed(HEAD, BODY) + words + HEAD, BODY).result is DkimResult.POLICY
    first, rest = HEAD[: HEAD.index(b"To:")], HEAD[HEAD.index(b"To:") :]
    assert one(signed(HEAD, BODY) + first + words + rest, BODY).result is DkimResult.POLICY
    assert one(signed(HEAD, BODY) + first + words + rest, BODY).reason.text == "the head has a line that is no field"


def test_second_from_breaks_an_oversigned_one() -> None:
    """A From that is put above an oversigned one makes the signature fail; above a plain one it makes it count less."""
    forged = b"From: boss@example.net\r\n"
    for names, expected in (("from:from", DkimResult.FAIL), ("from", DkimResult.POLICY)):
        assert one(forged + signed(HEAD, BODY, h=names) + HEAD, BODY).result is expected
        assert one(signed(HEAD, BODY, h=names) + HEAD + forged, BODY).result is DkimResult.FAIL


def test_signature_over_other_signatures() -> None:
    """h= may name DKIM-Signature: then the others are covered, and never the one that is checked."""
    inner = signed(HEAD, BODY)
    outer = signed(inner + HEAD, BODY, h="from:dkim-signature")
    assert [each.result for each in verified(outer + inner + HEAD, BODY)] == [DkimResult.PASS] * 2
    changed = inner.replace(b"v=1", b"v=1;  z=")
    assert [each.result for each in verified(outer + changed + HEAD, BODY)] == [DkimResult.FAIL] * 2


# many signatures


def test_many_signatures() -> None:
    """Ten signatures from the top are checked, the rest is one note; results keep their order."""
    field = signed(HEAD, BODY)
    good, bad = field, signed(HEAD, b"other")
    many = (good + bad) * 50
    resolver = zone()
    check = DkimCheck(resolver, many + HEAD, WALL)
    check.body(BODY)
    found = result(defer.Deferred.fromCoroutine(check.finish()))
    assert [each.result for each in found] == [DkimResult.PASS, DkimResult.FAIL] * (SIGNATURES_MAXIMUM // 2)
    assert [note.text for note in check.notes] == ["90 DKIM signatures are not checked: 10 are"]
    assert len(resolver.asked) == 1


def test_few_signatures_make_no_note() -> None:
    """As many signatures as are checked leave nothing to note."""
    check = DkimCheck(zone(), signed(HEAD, BODY) * SIGNATURES_MAXIMUM + HEAD, WALL)
    assert check.notes == ()


def test_equal_keys_are_asked_for_once() -> None:
    """Keys are asked for when the head is known, each once, whatever number of signatures needs it."""
    resolver = zone()
    head = signed(HEAD, BODY) + signed(HEAD, BODY, rsa_key()) + signed(HEAD, BODY, c="relaxed/relaxed") + HEAD
    DkimCheck(resolver, head, WALL)
    names = ["ed._domainkey.example.org", "rsa._domainkey.example.org"]
    assert resolver.asked == [(name, RecordType.TXT) for name in names]


def test_hashes_are_shared() -> None:
    """Who else wants hashes of the body may feed it for all."""
    bodies = BodyHashes()
    first = DkimCheck(zone(), signed(HEAD, BODY) + HEAD, WALL, bodies)
    second = DkimCheck(zone(), signed(HEAD, BODY, rsa_key(), c="relaxed/relaxed") + HEAD, WALL, bodies)
    for octet in BODY:
        bodies.update(bytes([octet]))
    for check in (first, second):
        (found,) = result(defer.Deferred.fromCoroutine(check.finish()))
        assert found.result is DkimResult.PASS


# waiting


def waiting(selectors: list[str]) -> tuple[ZoneResolver, DkimCheck, Any]:
    """A check that waits for the keys of these selectors; those that begin with ``slow`` never answer."""
    resolver = zone(*((selector, "!SILENT") for selector in selectors if selector.startswith("slow")))
    head = b"".join(signed(HEAD, BODY, s=selector) for selector in selectors) + HEAD
    check = DkimCheck(resolver, head, WALL)
    check.body(BODY)
    return resolver, check, defer.Deferred.fromCoroutine(check.finish())


def test_cancelled_check_tells_what_it_knows() -> None:
    """When nobody wants to wait any longer, signatures whose key is known count, and the others are a temperror."""
    resolver, check, finishing = waiting(["slow1", "ed", "slow2"])
    assert not finishing.called
    check.cancel()
    found = result(finishing)
    assert [each.result for each in found] == [DkimResult.TEMPERROR, DkimResult.PASS, DkimResult.TEMPERROR]
    assert found[0].reason.text == "no key: no answer in time about slow1._domainkey.example.org"
    assert all(asked.called for asked in resolver.silent)


def test_cancelled_finish_cancels_its_questions() -> None:
    """Who cancels `finish` gets CancelledError, and no question is left."""
    resolver, _, finishing = waiting(["slow1", "slow2", "ed"])
    finishing.cancel()
    assert isinstance(failure(finishing), defer.CancelledError)
    assert len(resolver.silent) == 2
    assert all(asked.called for asked in resolver.silent)


def test_cancelled_before_finish() -> None:
    """A check that is given up before the body has ended leaves no question and no error behind."""
    resolver = zone(("slow", "!SILENT"))
    DkimCheck(resolver, signed(HEAD, BODY, s="slow") + HEAD, WALL).cancel()
    assert all(asked.called for asked in resolver.silent)


def test_late_key_is_waited_for() -> None:
    """`finish` waits for a key that comes late."""
    resolver, _, finishing = waiting(["slow"])
    assert not finishing.called
    resolver.silent[0].callback(NoData("slow._domainkey.example.org", 60, False, "zone"))
    (found,) = result(finishing)
    assert (found.result, found.reason.text) == (DkimResult.PERMERROR, "no key is published")


class Broken(ZoneResolver):
    """A resolver with a bug."""

    def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Any]:
        """Fail."""
        return defer.fail(ZeroDivisionError())


def test_bug_is_no_result() -> None:
    """A bug of ours comes out of `finish` as the exception it is."""
    with pytest.raises(ZeroDivisionError):
        verified(signed(HEAD, BODY) + HEAD, BODY, Broken(""))


# properties

# Octets that matter come often.
TEXT = st.lists(
    st.sampled_from([b"a", b" ", b"  ", b"\t", b"\r\n ", b"\r\n\t", b":", b";", b"b=", b"\r", b"\n", b"\0", b"\xff"]),
    max_size=8,
).map(b"".join)
FIELD = st.tuples(st.sampled_from([b"From", b"To", b"SUBJECT", b"X-A"]), st.sampled_from([b"", b" "]), TEXT).map(
    lambda parts: parts[0] + parts[1] + b":" + parts[2] + b"\r\n"
)
HEADS = st.lists(FIELD, max_size=6).map(lambda rest: b"From: a@example.org\r\n" + b"".join(rest))
BODIES = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"\t", b"a", b"\0", b"\xff", b"x" * 70, b" \r\n"]), max_size=12
).map(b"".join)
NAMES = "from:from:from:from:from:from:from:to:subject:x-a:subject:x-none"


@pytest.mark.parametrize("form", FORMS)
@given(head=HEADS, body=BODIES, data=st.data())
def test_what_is_signed_verifies(form: str, head: bytes, body: bytes, data: st.DataObject) -> None:
    """A signature in any form over any fields and body verifies, wherever the body is split."""
    sound = all(field.name for field in fields(head))
    head = signed(head, body, c=form, h=NAMES) + head
    expected = [DkimResult.PASS if sound else DkimResult.POLICY]
    assert [each.result for each in verified(head, (body[at : at + 1] for at in range(len(body))))] == expected
    at = data.draw(st.integers(0, len(body)))
    assert [each.result for each in verified(head, [body[:at], body[at:]])] == expected


@pytest.mark.parametrize("key", [ED25519_KEY, rsa_key()])
def test_mutation_fails(key: Any) -> None:
    """No octet of a signed message can be another one: not in the head, the body, nor the signature field."""
    signature = signed(HEAD, BODY, key, h="from:from:to:to:subject:subject", t="1799999999")
    field, value = signature.rsplit(b"b=", 1)
    for octets, build in (
        (HEAD, lambda head: (signature + head, BODY)),
        (BODY, lambda body: (signature + HEAD, body)),
        (field, lambda changed: (changed + b"b=" + value + HEAD, BODY)),
    ):
        for at in range(len(octets)):
            for octet in {octets[at] ^ 1, octets[at] ^ 0x20, ord(" "), ord("\n"), 0} - {octets[at]}:
                head, body = build(octets[:at] + bytes([octet]) + octets[at + 1 :])
                assert DkimResult.PASS not in [each.result for each in verified(head, body)], (at, octet)


def test_mutated_signature_fails() -> None:
    """No octet of the signature itself can be another one."""
    for key in (ED25519_KEY, rsa_key()):
        field = signed(HEAD, BODY, key)
        start = field.rindex(b"b=") + 2
        for at in range(start, len(field) - 5):
            if field[at : at + 1] not in b"\r\n =":
                changed = field[:at] + (b"A" if field[at : at + 1] != b"A" else b"B") + field[at + 1 :]
                assert one(changed + HEAD, BODY).result is DkimResult.FAIL


def test_removed_and_swapped_fields_fail() -> None:
    """A signed field that is missing, doubled under oversigning, or stands elsewhere in its name's order, fails."""
    head = b"From: a@example.org\r\nX-A: 1\r\nX-A: 2\r\n"
    signature = signed(head, BODY, h="from:x-a:x-a:x-a", c="relaxed/relaxed")
    for changed in (
        b"From: a@example.org\r\nX-A: 2\r\n",
        b"From: a@example.org\r\nX-A: 2\r\nX-A: 1\r\n",
        b"From: a@example.org\r\nX-A: 1\r\nX-A: 2\r\nX-A: 2\r\n",
        b"X-A: 0\r\n" + head,
    ):
        assert one(signature + changed, BODY).result is DkimResult.FAIL
    moved = b"X-A: 1\r\nX-A: 2\r\nFrom: a@example.org\r\n"
    assert one(signature + moved, BODY).result is DkimResult.PASS


def test_white_space_passes_under_relaxed_alone() -> None:
    """What relays do to white space, folds and the case of names does no harm under relaxed; under simple it does."""
    head = b"FROM :Joe\r\n\t <joe@example.org>  \r\nto:\t\tsue@example.net\r\nSubject:\r\n dinner\r\n"
    body = b"Hi. \r\n\r\nWe lost\tthe game.\t\r\n\r\n \r\n"
    for form, expected in zip(
        FORMS,
        [DkimResult.FAIL, DkimResult.FAIL, DkimResult.FAIL, DkimResult.PASS],
        strict=True,
    ):
        signature = signed(HEAD, BODY, h="from:to:subject", c=form)
        assert one(signature + head, body).result is expected
        assert one(signature + HEAD, BODY + b"\r\n\r\n").result is DkimResult.PASS
        assert one(signature + head, b"Hi.\r\n\r\nWe lostthe game.\r\n").result is DkimResult.FAIL


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (HEAD, b""),
        (HEAD, b"no line end"),
        (HEAD, b"x" * 100_000 + b"\r\n"),
        (HEAD, b"." * 998 + b"\r\n"),
        (HEAD, b"\0a\0\r\n"),
        (HEAD, b"a\rb\nc\r\r\n"),
        (b"From: J\xf6rg <j@example.org>\r\nSubject: \xff\xfe\r\n", b"\x80\x81\r\n"),
        ("From: Jörg <jörg@bücher.example>\r\n".encode(), "grüße\r\n".encode()),
        (b"From: a@example.org\r\n" + b"X-A: " + b"a" * 500_000 + b"\r\n", b"a\r\n"),
        (b"From: a@example.org\r\n" + b"X-A: a\r\n" * 5000, b"a\r\n"),
        (b"From: a@example.org", b""),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_odd_messages(form: str, head: bytes, body: bytes) -> None:
    """Long lines, NULs, bare CR, 8-bit heads, many fields, no end of line: signed and verified as any other."""
    assert one(signed(head, body, c=form, h="from:subject:x-a:x-a") + head, body).result is DkimResult.PASS

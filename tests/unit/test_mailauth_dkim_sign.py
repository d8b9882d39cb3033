"""Tests of `mta.mailauth.dkim_sign`, and of signing and verifying beside dkimpy."""

from __future__ import annotations

import base64
import re
import time

import dkim
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mailauth.algorithm import PrivateKey
from mta.mailauth.canonical import BodyHash, BodyHashes, SignedFields
from mta.mailauth.dkim_sign import INSTANCES_MAXIMUM, HeaderPolicy, Signer, sign_message, want_body
from mta.mailauth.dkim_signature import DkimSignature, read_signature
from mta.mailauth.result import DkimResult
from mta.message.header import fields, find_head
from tests.doubles.dkim import DOMAIN, ED25519_KEY, WALL, pem, record, rsa_key, verified

HEAD = (
    b"From: Joe <joe@example.org>\r\nTo: sue@example.net\r\nSubject: dinner\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700\r\nMessage-ID: <1@example.org>\r\n"
)
BODY = b"Hi.\r\n\r\nWe lost  the game.\r\n"


def signers(**more: int) -> list[Signer]:
    """An RSA key and an Ed25519 key."""
    return [Signer(DOMAIN, "rsa", rsa_key(), **more), Signer(DOMAIN, "ed", ED25519_KEY, **more)]


def body_hash(*chunks: bytes) -> BodyHash:
    """The hash of a body as it streams."""
    bodies = BodyHashes()
    wanted = want_body(bodies)
    for chunk in chunks:
        bodies.update(chunk)
    bodies.finish()
    return wanted


def sign(head: bytes, *chunks: bytes, wall: float = WALL, **more: int) -> bytes:
    """Sign with both keys."""
    return sign_message(head, body_hash(*chunks), signers(**more), wall)


def signatures(octets: bytes) -> list[DkimSignature]:
    """Read the fields that were written."""
    found = [read_signature(field) for field in fields(octets)]
    assert all(isinstance(each, DkimSignature) for each in found), found
    return [each for each in found if isinstance(each, DkimSignature)]


def test_two_keys_sign_side_by_side() -> None:
    """Each key makes one field, relaxed/relaxed over the whole body, and both verify together and alone."""
    written = sign(HEAD, BODY)
    one, other = (field.raw for field in fields(written))
    for read, algorithm in zip(signatures(written), ["rsa-sha256", "ed25519-sha256"], strict=True):
        assert read.algorithm.value == algorithm
        assert (read.domain, read.identity) == (DOMAIN, f"@{DOMAIN}")
        assert (read.head_form.value, read.body_form.value, read.limit) == ("relaxed", "relaxed", None)
        assert (read.signed_at, read.expires_at) == (int(WALL), None)
    for head in (written, one, other):
        assert {each.result for each in verified(head + HEAD, BODY)} == {DkimResult.PASS}


def test_expiry_is_written() -> None:
    """x= is so many seconds after t=, where it is wanted."""
    for read in signatures(sign(HEAD, BODY, valid_for=3600)):
        assert (read.signed_at, read.expires_at) == (int(WALL), int(WALL) + 3600)


def test_no_keys_no_fields() -> None:
    """Without a key nothing is written."""
    assert sign_message(HEAD, body_hash(BODY), [], WALL) == b""


def names(head: bytes) -> list[str]:
    """What h= would be."""
    return HeaderPolicy().names(SignedFields(fields(head)))


def test_fields_that_are_always_signed() -> None:
    """What readers see is named once more than it is there, be it there or not; From comes first."""
    assert names(HEAD) == [
        *("From", "From", "Subject", "Subject", "To", "To", "Cc", "Reply-To", "Date", "Date"),
        *("Message-ID", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    ]
    assert names(b"")[0] == "From"


@pytest.mark.parametrize(
    ("field", "named"),
    [
        (b"Sender: x@example.org\r\n", ["Sender", "Sender"]),
        (b"references: <1@x>\r\n", ["References", "References"]),
        (b"List-Unsubscribe: <https://x>\r\n", ["List-Unsubscribe"]),
        (b"List-Unsubscribe-Post: a\r\nLIST-Unsubscribe-Post: b\r\n", ["List-Unsubscribe-Post"] * 2),
        (b"Resent-From: x@example.org\r\n", ["Resent-From"]),
        (b"Received: x\r\nReturn-Path: <>\r\nAuthentication-Results: x\r\nX-Spam: y\r\nBcc: z\r\n", []),
    ],
)
def test_fields_that_are_signed_if_there(field: bytes, named: list[str]) -> None:
    """Other fields that mean something are named when they are there, trace fields never."""
    assert names(HEAD + field) == names(HEAD) + named


def test_many_fields_of_one_name() -> None:
    """However many fields there are of a name, h= stays short, and the signature verifies."""
    head = HEAD + b"To: x@example.net\r\n" * 5000
    assert names(head).count("To") == INSTANCES_MAXIMUM
    written = sign(head, BODY)
    assert len(written) < 4000
    assert [each.result for each in verified(written + head, BODY)] == [DkimResult.PASS] * 2


@pytest.mark.parametrize("name", ["From", "To", "Cc", "Subject", "Reply-To", "Date", "Content-Type", "MIME-Version"])
def test_added_field_fails(name: str) -> None:
    """Another field that readers would show cannot be added, above or below."""
    added = f"{name}: x\r\n".encode()
    written = sign(HEAD, BODY)
    for head in (added + written + HEAD, written + HEAD + added):
        assert {each.result for each in verified(head, BODY)} == {DkimResult.FAIL}


def test_what_relays_add_does_no_harm() -> None:
    """Trace fields before and behind, and a List-Unsubscribe of a list before ours, leave the signature whole."""
    head = HEAD + b"List-Unsubscribe: <https://ours.example.org>\r\n"
    added = b"Received: x\r\nReturn-Path: <>\r\nList-Unsubscribe: <https://list.example.net>\r\nList-Id: <l>\r\n"
    assert {each.result for each in verified(added + sign(HEAD, BODY) + HEAD, BODY)} == {DkimResult.PASS}
    found = verified(added.replace(b"List-Id", b"X-Id") + sign(head, BODY) + head, BODY)
    assert {each.result for each in found} == {DkimResult.PASS}


@pytest.mark.parametrize("selector", ["s", "2026-11-ed", "x" * 60])
@pytest.mark.parametrize("key", [rsa_key(), ED25519_KEY])
def test_layout(selector: str, key: PrivateKey) -> None:
    """The field is folded below 79 characters, has no white space at line ends, and ends with CRLF."""
    written = sign_message(HEAD, body_hash(BODY), [Signer(DOMAIN, selector, key, 3600)], WALL)
    assert written.startswith(b"DKIM-Signature: v=1; a=")
    assert written.endswith(b"\r\n")
    lines = written[:-2].split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert all(re.fullmatch(rb" [^ \t].*[^ \t]|[^ \t].*[^ \t]", line) for line in lines)
    assert len(list(fields(written))) == 1


def test_long_names_are_not_broken() -> None:
    """A domain too long for a line stays whole: lines are then as long as they must."""
    domain = ".".join(["x" * 60] * 4)
    written = sign_message(HEAD, body_hash(BODY), [Signer(domain, "y" * 60, rsa_key())], WALL)
    (read,) = signatures(written)
    assert read.domain == domain
    assert max(map(len, written.split(b"\r\n"))) <= 1 + len(domain) + 3


def test_message_without_body_or_head() -> None:
    """An empty body and an empty head can be signed: From is named all the same."""
    for head, body in ((HEAD, b""), (b"", b""), (b"", BODY)):
        assert [each.result for each in verified(sign(head, body) + head, body)] == [DkimResult.PASS] * 2


# Octets that matter come often; folds are those of a sound head.
TEXT = st.lists(st.sampled_from(["a", "b c", "  ", "\t", "\r\n x", "\r\n\ty", ";", "é", "<a@b>"]), max_size=6).map(
    lambda parts: "".join(parts)
)
HEADS = st.lists(
    st.tuples(
        st.sampled_from(["To", "cc", "Subject", "SUBJECT", "X-A", "References", "List-Id", "Content-Type", "From"]),
        TEXT,
    ).map(lambda field: f"{field[0]}: x{field[1]}\r\n"),
    max_size=8,
).map(lambda rest: ("From: a@example.org\r\n" + "".join(rest)).encode())
BODIES = st.lists(
    st.sampled_from([b"\r\n", b" ", b"\t", b"a", b"\0", b"\xff", b"x" * 70, b" \r\n", b".\r\n"]), max_size=12
).map(lambda parts: b"".join(parts) + b"\r\n")


@given(head=HEADS, body=BODIES, data=st.data())
def test_what_is_signed_verifies(head: bytes, body: bytes, data: st.DataObject) -> None:
    """What we sign verifies, wherever the body is split on either side."""
    at, other = data.draw(st.integers(0, len(body))), data.draw(st.integers(0, len(body)))
    written = sign(head, body[:at], body[at:])
    assert [each.result for each in verified(written + head, [body[:other], body[other:]])] == [DkimResult.PASS] * 2


# dkimpy


def answers(name: bytes, timeout: int = 5) -> bytes:
    """The DNS as dkimpy asks it."""
    keys = {b"rsa._domainkey.example.org.": rsa_key(), b"ed._domainkey.example.org.": ED25519_KEY}
    return record(keys[name]).encode()


@given(head=HEADS, body=BODIES)
def test_dkimpy_verifies_what_we_sign(head: bytes, body: bytes) -> None:
    """Both our signatures verify with dkimpy."""
    for signature in fields(sign(head, body, wall=time.time())):
        assert dkim.DKIM(signature.raw + head + b"\r\n" + body, minkey=1024).verify(dnsfunc=answers)


@pytest.mark.parametrize("algorithm", [b"rsa-sha256", b"ed25519-sha256"])
@given(
    head=HEADS,
    body=BODIES,
    forms=st.tuples(*[st.sampled_from([b"simple", b"relaxed"])] * 2),
    length=st.booleans(),
    split=st.integers(0, 50),
)
def test_we_verify_what_dkimpy_signs(
    algorithm: bytes, head: bytes, body: bytes, forms: tuple[bytes, bytes], length: bool, split: int
) -> None:
    """What dkimpy signs verifies with us, in every form, with l= and without."""
    if algorithm == b"rsa-sha256":
        selector, private = b"rsa", pem(rsa_key())
    else:
        selector, private = b"ed", base64.b64encode(ED25519_KEY.private_bytes_raw())
    signature = dkim.sign(
        head + b"\r\n" + body,
        selector,
        DOMAIN.encode(),
        private,
        canonicalize=forms,
        length=length,
        signature_algorithm=algorithm,
    )
    (found,) = verified(signature + head, [body[:split], body[split:]], wall=time.time())
    assert (found.result, found.unsigned_octets) == (DkimResult.PASS, 0), found


@given(at=st.integers(0, len(HEAD) + 2 + len(BODY) + 600), octet=st.sampled_from(b"aB7/=:; \t"), key=st.integers(0, 1))
def test_dkimpy_and_we_agree_on_changes(at: int, octet: int, key: int) -> None:
    """Whatever octet of the signature, the head or the body is another one, dkimpy passes what we pass.

    Not so with CR and LF: it takes a bare LF for CRLF, and a CR for white space. Nor with padding, which it wants and
    RFC 6376 §2.10 leaves to the signer.
    """
    signature = [field.raw for field in fields(sign(HEAD, BODY, wall=time.time()))][key]
    content = bytearray(signature + HEAD + b"\r\n" + BODY)
    at %= len(content)
    if content[at : at + 1] not in b"\r\n=":
        content[at] = octet
    found = find_head(bytes(content))
    results = verified(found.octets, bytes(content[len(found.octets) + 2 :]), wall=time.time())
    ours = [each.result for each in results] == [DkimResult.PASS]
    try:
        theirs = dkim.verify(bytes(content), dnsfunc=answers)
    except Exception:  # of many kinds, for what it cannot read
        theirs = False
    assert ours == theirs

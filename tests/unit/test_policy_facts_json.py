"""Facts as JSON: they come back as they were, for programs and for people, and mistakes are told with their place."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.mailauth.result import (
    Arc,
    ArcResult,
    Authentication,
    Dkim,
    DkimResult,
    Dmarc,
    DmarcPolicy,
    DmarcResult,
    Iprev,
    IprevResult,
    Spf,
    SpfResult,
)
from mta.message.header import HEAD_MAXIMUM
from mta.policy.changes import MemoryBody
from mta.policy.facts import Facts, Stage
from mta.policy.facts_json import RecordedBody, read, write
from mta.smtp.address import Mailbox

REASON = Reason("v=spf1 mx -all: mx", "TXT example.net")
SPF = Spf(SpfResult.SOFTFAIL, "mailfrom", "example.net", REASON, "because")
WHOLE = Facts(
    Stage.MESSAGE,
    "smtpd",
    "s1",
    "2001:db8::1",
    40000,
    Iprev(IprevResult.PASS, REASON, "mail.example.net"),
    True,
    TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256),
    "mail.example.net",
    True,
    "alice@example.org",
    "PLAIN",
    Mailbox("a b", "example.net"),
    1234,
    True,
    dataclasses.replace(SPF, identity="helo"),
    SPF,
    Mailbox("bob", "example.org"),
    (Mailbox("bob", "example.org"), Mailbox("postmaster", "")),
    "0abc",
    b"From: a@example.net\r\nSubject: gr\xc3\xbc\xc3\x9fe\r\n",
    RecordedBody(b"Hello\r\n\r\n", 9),
    Authentication(
        dkim=(Dkim(DkimResult.PASS, "example.net", "s", REASON, "@example.net", "rsa-sha256", 2048, "abc", False, 3),),
        dmarc=Dmarc(DmarcResult.FAIL, REASON, "example.net", policy=DmarcPolicy.QUARANTINE, spf_aligned=True),
        arc=Arc(ArcResult.PASS, REASON, 2, ("a.example", "b.example"), 0, ("one", "two")),
        notes=(Reason("left out", "here"),),
    ),
    frozenset({"b", "a"}),
    3,
    "example.org",
    "deferred",
    "450 no",
    True,
)


def text_and_back(facts: Facts, **options: Any) -> Facts:
    """Write, make a text of it, read."""
    return read(json.loads(json.dumps(write(facts, 1 << 20, **options))))


def test_nothing_is_left_out_of_the_example() -> None:
    """The facts of these tests have no field at its default, so that the round trips below mean something."""
    defaults = Facts(Stage.CONNECT)
    assert [f.name for f in dataclasses.fields(Facts) if getattr(WHOLE, f.name) == getattr(defaults, f.name)] == []


@pytest.mark.parametrize("lines", [False, True])
def test_facts_come_back(lines: bool) -> None:
    """All fields survive, as JSON for programs and for people."""
    assert text_and_back(WHOLE, lines=lines) == WHOLE


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("stage", Stage)
def test_what_is_not_known_yet_comes_back(stage: Stage, lines: bool) -> None:
    """Facts with nothing but a stage stay empty."""
    assert text_and_back(Facts(stage), lines=lines) == Facts(stage)


def test_the_form_for_programs() -> None:
    """Names are the fields', mailboxes and results are text, octets are base64, and every name is there."""
    written = write(WHOLE, 1 << 20)
    names = {f.name for f in dataclasses.fields(Facts)} - {"head", "body"}
    assert set(written) == names | {"head_base64", "body_base64", "body_size"}
    assert written["sender"] == '"a b"@example.net'
    assert written["recipients"] == ["bob@example.org", "postmaster"]
    assert written["tags"] == ["a", "b"]
    assert written["body_base64"] == "SGVsbG8NCg0K"
    spf = {"text": "v=spf1 mx -all: mx", "source": "TXT example.net"}
    assert written["spf"] == {
        "result": "softfail",
        "identity": "mailfrom",
        "domain": "example.net",
        "reason": spf,
        "explanation": "because",
    }
    assert set(write(Facts(Stage.MAIL), 0)) == names | {"head_base64"}


def test_the_form_for_people() -> None:
    """A head and a body that are lines of UTF-8 stand as lines."""
    written = write(WHOLE, 1 << 20, lines=True)
    assert written["head"] == ["From: a@example.net", "Subject: grüße"]
    assert written["body"] == ["Hello", ""]


@pytest.mark.parametrize("octets", [b"no end", b"a\nb\r\n", b"a\rb\r\n", b"\xff\r\n", b"\r", b"\n"])
def test_octets_that_are_no_lines_are_kept(octets: bytes) -> None:
    """What lines could not say exactly stands as base64, also for people."""
    facts = dataclasses.replace(WHOLE, head=octets, body=RecordedBody(octets, len(octets)))
    written = write(facts, 1 << 20, lines=True)
    assert {"head_base64", "body_base64"} < set(written)
    assert "head" not in written
    assert read(written) == facts


@given(st.binary(max_size=300), st.one_of(st.none(), st.binary(max_size=300)), st.booleans(), st.integers(0, 400))
def test_any_octets_come_back(head: bytes, body: bytes | None, lines: bool, maximum: int) -> None:
    """Whatever head and body hold, they come back, the body as far as the bound."""
    facts = Facts(Stage.MESSAGE, head=head, body=None if body is None else MemoryBody(body))
    expected = None if body is None else RecordedBody(body[:maximum], len(body))
    assert read(json.loads(json.dumps(write(facts, maximum, lines=lines)))) == dataclasses.replace(facts, body=expected)


_words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_mailboxes = st.builds(
    Mailbox, st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30), st.just("x.example")
)
_facts = st.builds(
    Facts,
    st.sampled_from(Stage),
    helo=_words,
    login=_words,
    sender=st.none() | _mailboxes,
    recipients=st.lists(_mailboxes, max_size=3).map(tuple),
    spf=st.none() | st.builds(Spf, st.sampled_from(SpfResult), _words, _words, st.builds(Reason, _words, _words)),
    tags=st.frozensets(_words, max_size=3),
    early=st.booleans(),
    size=st.integers(0, 1 << 40),
)


@given(_facts)
def test_any_facts_come_back(facts: Facts) -> None:
    """Text of any kind and mailboxes with any quoting survive the way there and back."""
    assert text_and_back(facts) == facts


def test_a_large_body_is_read_as_far_as_the_bound() -> None:
    """Of a large body no more pieces are read than are needed, and its size is told."""
    pieces = []

    class Large:
        size = 1 << 40

        def pieces(self) -> Any:
            while True:
                pieces.append(1)
                yield b"x" * 1000

    written = write(Facts(Stage.MESSAGE, body=Large()), 2500)
    assert len(pieces) == 3
    assert written["body_size"] == 1 << 40
    assert read(written).body == RecordedBody(b"x" * 2500, 1 << 40)


def test_a_head_beyond_the_bound_is_cut() -> None:
    """No head makes the JSON larger than the bound of heads."""
    assert len(read(write(Facts(Stage.HEADERS, head=b"x" * (HEAD_MAXIMUM + 5)), 0)).head) == HEAD_MAXIMUM


def test_a_short_file_is_enough() -> None:
    """A file may hold just what matters; reasons and names of results are filled in."""
    facts = read(
        {
            "stage": "rcpt",
            "sender": "<>",
            "recipient": "Postmaster",
            "spf": {"result": "fail"},
            "head": ["Subject: x"],
        }
    )
    assert facts.sender is None
    assert facts.recipient == Mailbox("Postmaster", "")
    assert facts.spf == Spf(SpfResult.FAIL, "", "", Reason("as given"))
    assert facts.head == b"Subject: x\r\n"
    assert read({"stage": "message", "body": ["x"], "body_size": 100}).body == RecordedBody(b"x\r\n", 100)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "expected an object, found []"),
        ({}, 'stage: expected "connect" or "helo" or "auth" or "mail" or "rcpt" or'),
        ({"stage": "mial"}, 'found "mial"'),
        ({"stage": ["mail"]}, "stage: expected"),
        ({"stage": "mail", "sendr": "a@b"}, 'sendr: expected a name that is known here; did you mean "sender"?'),
        ({"stage": "mail", "body_siz": 1}, 'did you mean "body_size"?'),
        ({"stage": "mail", "xyz": 1}, "xyz: expected one of stage, service, session"),
        ({"stage": "mail", "sender": "nobody"}, 'sender: expected a mailbox, found "nobody"'),
        ({"stage": "mail", "sender": 5}, "sender: expected a mailbox, found 5"),
        ({"stage": "mail", "recipient": "a@b\r\n"}, "recipient: expected a mailbox"),
        ({"stage": "mail", "recipients": "a@b"}, 'recipients: expected a list, found "a@b"'),
        ({"stage": "mail", "recipients": ["a@b", "<>"]}, 'recipients[1]: expected a mailbox, found "<>"'),
        ({"stage": "mail", "port": "25"}, 'port: expected a whole number, found "25"'),
        ({"stage": "mail", "port": True}, "port: expected a whole number, found True"),
        ({"stage": "mail", "early": 1}, "early: expected true or false, found 1"),
        ({"stage": "mail", "helo": None}, "helo: expected text, found nothing"),
        ({"stage": "mail", "spf": {}}, 'spf.result: expected "none" or "neutral"'),
        ({"stage": "mail", "spf": "pass"}, 'spf: expected an object, found "pass"'),
        ({"stage": "mail", "spf": {"result": "pass", "reason": {"txt": "x"}}}, "spf.reason.txt: expected a name"),
        ({"stage": "mail", "authentication": {"dkim": [{"result": "pas"}]}}, "authentication.dkim[0].result: expected"),
        ({"stage": "mail", "tls": {"version": "TLSv1.3"}}, "tls.bits: expected a whole number, found nothing"),
        ({"stage": "mail", "head": "Subject: x"}, 'head: expected a list of lines, found "Subject: x"'),
        ({"stage": "mail", "head": ["a", "b\nc"]}, "head[1]: expected a line of text without its line end"),
        ({"stage": "mail", "head": [5]}, "head[0]: expected a line of text without its line end, found 5"),
        ({"stage": "mail", "body_base64": "***"}, "body_base64: expected base64"),
        ({"stage": "mail", "body_base64": 5}, "body_base64: expected base64, found 5"),
        ({"stage": "mail", "body": ["abc"], "body_size": 4}, "body_size: expected a whole number, 5 or more, found 4"),
        ({"stage": "mail", "body": ["abc"], "body_size": "9"}, "body_size: expected a whole number"),
        ({"stage": "mail", "tags": [["x"]]}, "tags[0]: expected text"),
    ],
)
def test_a_mistake_is_told_with_its_place(given: object, told: str) -> None:
    """What does not fit is refused with the name it stands under, what was expected, and what was found."""
    with pytest.raises(ValueError) as refused:
        read(given)
    assert told in str(refused.value)

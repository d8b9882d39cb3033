"""What a child makes of facts and of what functions return (the process itself: tests/live/test_policy_script.py)."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy import facts_json, script_api, script_child
from mta.policy.facts import Facts, Stage
from mta.policy.facts_json import RecordedBody
from mta.policy.frames import Frames, Malformed, frame
from mta.policy.script_api import Record, accept, add_header, discard, reject, tag
from tests.unit.test_policy_facts_json import WHOLE


def told(facts: Facts) -> script_api.Facts:
    """Facts as a function gets them."""
    return script_child.facts(json.loads(json.dumps(facts_json.write(facts, 1 << 20))))


def verdicts(stage: str, answer: object) -> list[Any]:
    """What is sent of what a function returned."""
    return list(script_child._verdicts(stage, answer))


# Facts


@pytest.mark.parametrize("facts", [WHOLE, Facts(Stage.CONNECT)])
def test_a_function_is_told_all_there_is(facts: Facts) -> None:
    """Each field of `Facts` is there under its name, and each is described; nothing else but the size of the body."""
    names = {each.name for each in dataclasses.fields(Facts)} | {"body_size"}
    assert set(told(facts)) == names
    assert set(script_api.Facts.__annotations__) == names


def test_facts_are_plain_python() -> None:
    """Mailboxes and results are text, octets are octets, several are tuples, results have names below them."""
    facts = told(WHOLE)
    assert facts.stage == "message"
    assert facts.sender == '"a b"@example.net'
    assert facts.recipients == ("bob@example.org", "postmaster")
    assert facts.tags == frozenset({"a", "b"})
    assert facts.head == WHOLE.head
    assert (facts.body, facts.body_size) == (b"Hello\r\n\r\n", 9)
    assert facts.spf is not None
    assert facts.spf.result == facts.spf["result"] == "softfail"
    assert facts.spf.reason.source == "TXT example.net"
    assert facts.authentication.dkim[0].domain == "example.net"
    assert facts.tls is not None
    assert facts.tls.bits == 256
    assert facts.early is True
    empty = told(Facts(Stage.CONNECT))
    assert (empty.sender, empty.head, empty.body, empty.body_size, empty.spf) == (None, b"", b"", 0, None)
    assert empty.authentication.dkim == ()


def test_facts_cannot_be_changed() -> None:
    """A function cannot change what it is told; it is told to return a verdict."""
    facts = told(WHOLE)
    for record in (facts, facts.spf, facts.authentication.dkim[0]):
        with pytest.raises(AttributeError, match="cannot be changed"):
            record.result = "pass"  # type: ignore[union-attr]
        with pytest.raises(AttributeError, match="cannot be changed"):
            del record.result  # type: ignore[union-attr]
    with pytest.raises(TypeError):
        facts["sender"] = "x"  # type: ignore[index]


def test_a_name_that_is_not_there() -> None:
    """A misspelt name raises, with those that there are."""
    with pytest.raises(AttributeError, match="no 'resutl' here; there are result, identity"):
        _ = told(WHOLE).spf.resutl  # type: ignore[union-attr]
    assert not hasattr(told(WHOLE), "recipent")
    assert repr(Record({"a": 1, "b": "x"})) == "Record(a=1, b='x')"


@pytest.mark.parametrize(
    ("field", "decoded", "raw"),
    [
        (b"plain", "plain", "plain"),
        (b"=?utf-8?q?gr=C3=BC=C3=9Fe?=", "grüße", "=?utf-8?q?gr=C3=BC=C3=9Fe?="),
        (b"a =?utf-8?b?w7w=?= b", "a ü b", "a =?utf-8?b?w7w=?= b"),
        (b"folded\r\n\ttwice\r\n  over", "folded\ttwice  over", "folded\ttwice  over"),
        ("grüße".encode(), "grüße", "grüße"),
        (b"\xff", "\ufffd", "\ufffd"),
        (b"=?x-unknown?q?abc?=", "=?x-unknown?q?abc?=", "=?x-unknown?q?abc?="),
        (b"=?utf-8?b?A?=", "=?utf-8?b?A?=", "=?utf-8?b?A?="),
        (b"=?utf-8?q?=FF?=", None, "=?utf-8?q?=FF?="),
    ],
)
def test_fields_can_be_read(field: bytes, decoded: str | None, raw: str) -> None:
    """A field is read by its name in any case, encoded words decoded; what cannot be decoded stays as it came."""
    facts = told(Facts(Stage.HEADERS, head=b"From: x\r\nSUBJECT : " + field + b"\r\nsubject: two\r\n"))
    assert facts.raw_headers("Subject") == [raw, "two"]
    if decoded is not None:
        assert facts.header("Subject") == decoded
        assert facts.headers("subject") == [decoded, "two"]
    assert facts.header("X-None") == ""
    assert facts.headers("X-None") == []


@given(st.binary(max_size=200), st.sampled_from([b"", b"=?utf-8?q?", b"=?utf-8?b?", b"=?iso-2022-jp?b?"]))
def test_any_field_can_be_read(value: bytes, before: bytes) -> None:
    """Whatever a stranger puts into a field, reading it raises nothing."""
    facts = told(Facts(Stage.HEADERS, head=b"Subject: " + before + value + b"?=\r\n"))
    assert isinstance(facts.header("Subject"), str)


# Verdicts


def test_what_a_function_may_return() -> None:
    """Nothing, one verdict, or several in any form; each with the line that made it."""
    line = test_what_a_function_may_return.__code__.co_firstlineno
    one = reject("No", code=554)
    assert verdicts("mail", None) == verdicts("mail", []) == []
    assert verdicts("mail", one) == [
        {"verdict": "reject", "text": "No", "code": 554, "status": None, "reason": "", "line": line + 3}
    ]
    assert [each["verdict"] for each in verdicts("mail", [tag("a"), accept()])] == ["tag", "accept"]
    assert [each["verdict"] for each in verdicts("mail", (each for each in (tag("a"), one)))] == ["tag", "reject"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (True, "expected None, a verdict or several, found True"),
        (550, "expected None, a verdict or several, found 550"),
        ("reject", "expected None, a verdict or several, found 'reject'"),
        ({"verdict": "reject"}, "expected None, a verdict or several"),
        (b"x", "expected None, a verdict or several"),
        (reject, "expected None, a verdict or several, found <function reject"),
        (["reject"], "expected a verdict, found 'reject'"),
        ([accept(), None], "expected a verdict, found None"),
        ([[accept()]], "expected a verdict, found [Verdict"),
        ([accept()] * 101, "expected at most 100 verdicts, found more"),
        ((accept() for _ in iter(int, 1)), "expected at most 100 verdicts, found more"),
        ("é" * 1000, "expected None, a verdict or several, found '\\xe9"),
    ],
)
def test_what_a_function_may_not_return(answer: object, told: str) -> None:
    """Anything else raises, and says what was expected; without end or not."""
    with pytest.raises((TypeError, ValueError)) as refused:
        verdicts("mail", answer)
    assert str(refused.value).startswith(told)
    assert len(str(refused.value)) < 200


def test_a_verdict_at_the_wrong_stage_is_told_with_its_line() -> None:
    """What makes no sense at a stage raises, and names the line that made it."""
    answer = discard()
    with pytest.raises(script_child._NoSense) as refused:
        verdicts("helo", answer)
    assert str(refused.value) == "discard: there is no message yet at the stage helo"
    assert refused.value.line == answer.line


def test_a_verdict_that_makes_no_sense_raises_where_it_is_made() -> None:
    """The exception comes from the line of the administrator's, not later."""
    with pytest.raises(ValueError, match="add_header: name: expected a field name"):
        add_header("X:", "y")


# Frames


@given(st.lists(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20)), max_size=4), st.data())
def test_frames_come_back(values: list[object], data: st.DataObject) -> None:
    """Values come back whole, at whatever places the octets are split."""
    octets = b"".join(map(frame, values))
    frames, found = Frames(1 << 20), []
    while octets:
        size = data.draw(st.integers(1, len(octets)))
        found += frames.feed(octets[:size])
        octets = octets[size:]
    assert found == values


def test_a_frame_is_bounded() -> None:
    """A frame of the longest size is read; one octet more is refused at its length, before any of it has come."""
    value = "x" * 10
    assert Frames(12).feed(frame(value)) == [value]
    with pytest.raises(Malformed, match="12 octets, and 11 is the most"):
        Frames(11).feed(frame(value)[:4])


@pytest.mark.parametrize("octets", [b"{", b"\xff", b"[" * 200_000, b"1" * 5000, b""])
def test_what_is_no_json(octets: bytes) -> None:
    """Octets that are no JSON are refused, however deep or long they are."""
    with pytest.raises(Malformed):
        Frames(1 << 20).feed(len(octets).to_bytes(4, "big") + octets)


# Weight


def test_a_child_is_light() -> None:
    """A child imports nothing of Twisted, nor anything else that is dear: it starts for each file, and after a kill."""
    code = "import sys, mta.policy.script_child; print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert [name for name in out if name.startswith(("twisted", "zope", "cryptography", "re2", "click"))] == []


def test_the_body_is_a_beginning() -> None:
    """A body that is longer than what is told of it says so."""
    facts = told(Facts(Stage.MESSAGE, body=RecordedBody(b"abc", 1000)))
    assert (facts.body, facts.body_size) == (b"abc", 1000)

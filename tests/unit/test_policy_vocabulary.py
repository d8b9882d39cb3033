"""The words of scripts and hooks: what makes sense becomes a verdict, everything else is refused with its name."""

from __future__ import annotations

import inspect
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.reason import Reason
from mta.message.header import fields
from mta.policy import chain, script_api, verdict_json, vocabulary
from mta.policy import verdict as verdicts
from mta.policy.changes import field_octets
from mta.policy.facts import Stage
from mta.policy.vocabulary import BEFORE_MAIL, STAGES, WORDS
from mta.smtp.address import Mailbox
from mta.smtp.reply import reply
from mta.smtp.status import Status

LEAST: dict[str, dict[str, object]] = {
    "tag": {"name": "new"},
    "delay": {"seconds": 3},
    "add_header": {"name": "X-Mark", "value": "yes"},
    "change_header": {"name": "Subject", "value": "new"},
    "remove_header": {"name": "Subject"},
    "redirect": {"mailbox": "bob@example.org"},
    "add_recipient": {"mailbox": "bob@example.org"},
    "remove_recipient": {"mailbox": "bob@example.org"},
    "change_sender": {"mailbox": "bob@example.org"},
    "file": {"folder": "Junk"},
}
"""What each word needs."""
BOB = Mailbox("bob", "example.org")
HERE = "here:1"


def made(word: str, stage: Stage = Stage.MESSAGE, **given: object) -> Any:
    """Read one verdict."""
    (only,) = verdict_json.read([{"verdict": word, **LEAST.get(word, {}), **given}], stage, lambda _: HERE) or ()  # type: ignore[misc]
    return only


def test_the_tables_agree() -> None:
    """Stages are those of facts, a delay is bounded as by the chain, each word is a function with its parameters."""
    assert tuple(stage.value for stage in Stage) == STAGES
    assert vocabulary.DELAY_MAXIMUM == chain.DELAY_MAXIMUM
    for word, parameters in WORDS.items():
        function = getattr(script_api, word)
        assert set(inspect.signature(function).parameters) == {*parameters, "reason"}
        for name, parameter in parameters.items():
            default = inspect.signature(function).parameters[name].default
            assert default == (inspect.Parameter.empty if parameter.default is vocabulary.NEEDED else parameter.default)
        assert word in script_api.__all__
        assert f"``{word}``" in (vocabulary.__doc__ or "")


@pytest.mark.parametrize(
    ("word", "given", "expected"),
    [
        ("accept", {}, verdicts.Accept(Reason("accept", HERE))),
        (
            "reject",
            {},
            verdicts.Reject(Reason("reject Refused by policy", HERE), reply(550, Status(5, 7, 1), "Refused by policy")),
        ),
        (
            "reject",
            {"text": "No", "code": 554, "status": "5.6.0", "reason": "why"},
            verdicts.Reject(Reason("why", HERE), reply(554, Status(5, 6, 0), "No")),
        ),
        (
            "defer",
            {"text": "Later"},
            verdicts.Defer(Reason("defer Later", HERE), reply(450, Status(4, 7, 0), "Later")),
        ),
        (
            "defer",
            {"code": 421},
            verdicts.Defer(
                Reason("defer Not now; try again later", HERE), reply(421, Status(4, 7, 0), "Not now; try again later")
            ),
        ),
        ("discard", {}, verdicts.Discard(Reason("discard", HERE))),
        ("hold", {"reason": "look"}, verdicts.Hold(Reason("look", HERE))),
        ("tag", {}, verdicts.Tag(Reason("tag new", HERE), "new")),
        ("delay", {}, verdicts.Delay(Reason("delay 3", HERE), 3.0)),
        ("add_header", {}, verdicts.AddHeader(Reason("add_header X-Mark", HERE), "X-Mark", "yes", 0)),
        ("add_header", {"position": -1}, verdicts.AddHeader(Reason("add_header X-Mark", HERE), "X-Mark", "yes", -1)),
        ("change_header", {}, verdicts.ChangeHeader(Reason("change_header Subject", HERE), "Subject", 1, "new")),
        (
            "remove_header",
            {"occurrence": 2},
            verdicts.ChangeHeader(Reason("remove_header Subject", HERE), "Subject", 2, ""),
        ),
        ("redirect", {}, verdicts.Redirect(Reason("redirect bob@example.org", HERE), BOB)),
        ("add_recipient", {}, verdicts.AddRecipient(Reason("add_recipient bob@example.org", HERE), BOB)),
        ("remove_recipient", {}, verdicts.RemoveRecipient(Reason("remove_recipient bob@example.org", HERE), BOB)),
        ("change_sender", {}, verdicts.ChangeSender(Reason("change_sender bob@example.org", HERE), BOB)),
        ("change_sender", {"mailbox": ""}, verdicts.ChangeSender(Reason("change_sender", HERE), None)),
        ("file", {}, verdicts.File(Reason("file Junk", HERE), "Junk")),
    ],
)
def test_what_each_word_becomes(word: str, given: dict[str, object], expected: object) -> None:
    """Each word becomes its verdict, with a reason that says what was decided where none is given."""
    assert made(word, **given) == expected


def test_refusals_at_connect_are_those_of_a_greeting() -> None:
    """A session is refused with 554 or 521, and deferred with 421, in place of the greeting."""
    assert made("reject", Stage.CONNECT).reply.code == 554
    assert made("reject", Stage.CONNECT, code=521).reply.code == 521
    assert made("defer", Stage.CONNECT).reply.code == 421
    with pytest.raises(ValueError) as refused:
        made("reject", Stage.CONNECT, code=550)
    assert "reject: code: expected 554 or 521 at the stage connect, found 550" in str(refused.value)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("stage", Stage)
def test_what_is_done_to_a_message_needs_one(word: str, stage: Stage) -> None:
    """Before MAIL there is nothing to hold, change or discard."""
    if stage.value in BEFORE_MAIL and word not in ("accept", "reject", "defer", "tag", "delay"):
        with pytest.raises(ValueError) as refused:
            made(word, stage)
        assert f"{word}: there is no message yet at the stage {stage.value}" in str(refused.value)
    else:
        assert made(word, stage).reason.source == HERE


@pytest.mark.parametrize(
    ("word", "given", "told"),
    [
        ("reject", {"code": 250}, "reject: code: expected 500 to 599, found 250"),
        ("reject", {"code": 450}, "reject: code: expected 500 to 599"),
        ("reject", {"code": 600}, "reject: code: expected 500 to 599"),
        ("reject", {"code": "550"}, "reject: code: expected 500 to 599, found '550'"),
        ("reject", {"code": 550.0}, "reject: code: expected 500 to 599"),
        ("reject", {"status": "4.7.1"}, "reject: status: expected a status, \"5.7.1\", found '4.7.1'"),
        ("reject", {"status": "5.7.1\n"}, "reject: status: expected a status"),
        ("reject", {"status": "5.7.1111"}, "reject: status: expected a status"),
        ("reject", {"status": 5.7}, "reject: status: expected a status"),
        ("reject", {"text": "a\r\nb"}, "reject: text: expected one line of at most 400 characters, found 'a\\r\\nb'"),
        ("reject", {"text": "a\u2028b"}, "reject: text: expected one line"),
        ("reject", {"text": "a\x85b"}, "reject: text: expected one line"),
        ("reject", {"text": "a\ud800b"}, "reject: text: expected one line"),
        ("reject", {"text": "x" * 401}, "reject: text: expected one line of at most 400 characters, found 'xxx"),
        ("reject", {"text": None}, "reject: text: expected one line"),
        ("reject", {"reason": "a\nb"}, "reject: reason: expected one line"),
        ("reject", {"colour": 1}, "reject: colour: expected one of text, code, status, reason"),
        ("defer", {"code": 550}, "defer: code: expected 400 to 499, found 550"),
        ("defer", {"status": "5.7.1"}, "defer: status: expected a status"),
        ("tag", {"name": "a b"}, "tag: name: expected one word of at most 64 characters, printable ASCII"),
        ("tag", {"name": ""}, "tag: name: expected one word"),
        ("tag", {"name": "x" * 65}, "tag: name: expected one word"),
        ("delay", {"seconds": -1}, "delay: seconds: expected 0 to 120 seconds, found -1"),
        ("delay", {"seconds": 121}, "delay: seconds: expected 0 to 120 seconds"),
        ("delay", {"seconds": math.nan}, "delay: seconds: expected 0 to 120 seconds, found nan"),
        ("delay", {"seconds": True}, "delay: seconds: expected 0 to 120 seconds"),
        ("delay", {"seconds": 10**400}, "delay: seconds: expected 0 to 120 seconds, found 1000"),
        ("add_header", {"name": "X:Y"}, "add_header: name: expected a field name of at most 76 characters"),
        ("add_header", {"name": "X Y"}, "add_header: name: expected a field name"),
        ("add_header", {"name": "Ü"}, "add_header: name: expected a field name"),
        ("add_header", {"name": "X\n"}, "add_header: name: expected a field name"),
        ("add_header", {"name": ""}, "add_header: name: expected a field name"),
        ("add_header", {"value": "a\r\nEvil: b"}, "add_header: value: expected one line of at most 8,000 characters"),
        ("add_header", {"value": "a\0b"}, "add_header: value: expected one line"),
        ("add_header", {"value": "x" * 901}, "add_header: value: expected one line"),
        ("add_header", {"value": "x " * 4001}, "add_header: value: expected one line"),
        ("add_header", {"value": "  "}, "add_header: value: expected one line"),
        ("add_header", {"position": -2}, "add_header: position: expected -1 to 10,000, found -2"),
        ("add_header", {"position": True}, "add_header: position: expected -1 to 10,000, found True"),
        ("change_header", {"occurrence": 0}, "change_header: occurrence: expected 1 to 10,000, found 0"),
        ("redirect", {"mailbox": "bob"}, "redirect: mailbox: expected a mailbox, \"bob@example.org\", found 'bob'"),
        ("redirect", {"mailbox": "<bob@example.org>"}, "redirect: mailbox: expected a mailbox"),
        ("redirect", {"mailbox": "bob@example.org\r\nRCPT TO:<x@y>"}, "redirect: mailbox: expected a mailbox"),
        ("redirect", {"mailbox": ""}, "redirect: mailbox: expected a mailbox"),
        ("file", {"folder": "../../etc"}, "file: folder: expected the name of a folder, \"Junk\", found '../../etc'"),
        ("file", {"folder": ".Junk"}, "file: folder: expected the name of a folder"),
        ("file", {"folder": "a/b"}, "file: folder: expected the name of a folder"),
        ("file", {"folder": "a..b"}, "file: folder: expected the name of a folder"),
        ("file", {"folder": "a."}, "file: folder: expected the name of a folder"),
        ("file", {"folder": ""}, "file: folder: expected the name of a folder"),
        ("file", {"folder": "a\0b"}, "file: folder: expected the name of a folder"),
        ("file", {"folder": "x" * 101}, "file: folder: expected the name of a folder"),
        ("explode", {}, "verdict: expected one of accept, reject, defer"),
    ],
)
def test_what_makes_no_sense(word: str, given: dict[str, object], told: str) -> None:
    """What makes no sense is refused with word, parameter, what was expected and what was found."""
    with pytest.raises(ValueError) as refused:
        made(word, **given)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("word", "given"),
    [
        ("reject", {"text": "x" * 400, "code": 500, "status": "5.999.999", "reason": "y" * 400}),
        ("reject", {"text": "", "code": 599}),
        ("defer", {"code": 400}),
        ("defer", {"code": 499}),
        ("tag", {"name": "x" * 64}),
        ("delay", {"seconds": 0}),
        ("delay", {"seconds": 120}),
        ("delay", {"seconds": 0.5}),
        ("add_header", {"name": "x" * 76, "value": " ".join(["x" * 900] * 8), "position": 10_000}),
        ("add_header", {"value": "x " * 4000}),
        ("add_header", {"value": "a\tb"}),
        ("change_header", {"occurrence": 10_000}),
        ("redirect", {"mailbox": '"a b"@example.org'}),
        ("file", {"folder": "x" * 100}),
        ("file", {"folder": "Lists.Python & more"}),
    ],
)
def test_what_just_makes_sense(word: str, given: dict[str, object]) -> None:
    """The largest and the smallest that may be said is taken."""
    assert made(word, **given).reason.source == HERE


def test_what_is_shown_is_cut() -> None:
    """A value in a message is shown as far as 80 characters, printable."""
    assert vocabulary.shown("x" * 78) == f"'{'x' * 78}'"
    assert vocabulary.shown("x" * 79) == f"'{'x' * 79}…"
    assert vocabulary.shown("\x1b[2J") == r"'\x1b[2J'"


@pytest.mark.parametrize("word", LEAST)
def test_what_is_needed_is_asked_for(word: str) -> None:
    """A word without what it needs is refused."""
    with pytest.raises(ValueError) as refused:
        verdict_json.read([{"verdict": word}], Stage.MESSAGE, lambda _: HERE)
    assert "found nothing" in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "expected a list of verdicts, found None"),
        ({"verdict": "accept"}, "expected a list of verdicts, found {'verdict'"),
        (["accept"], "expected a verdict, found 'accept'"),
        ([{}], "verdict: expected one of accept"),
        ([{"verdict": ["accept"]}], "verdict: expected one of accept"),
        ([{"verdict": "accept"}] * 101, "expected at most 100 verdicts, found 101"),
    ],
)
def test_an_answer_that_is_none(answer: object, told: str) -> None:
    """What is no list of verdicts is refused as a whole."""
    with pytest.raises(ValueError) as refused:
        verdict_json.read(answer, Stage.MESSAGE, lambda _: HERE)
    assert told in str(refused.value)


def test_the_source_is_asked_for_each_verdict() -> None:
    """The source of a reason is made from the verdict as it came, which may hold its line."""
    read: Any = verdict_json.read(
        [{"verdict": "accept", "line": 5}, {"verdict": "hold"}], Stage.MAIL, lambda given: f"x:{given.get('line')}"
    )
    assert [each.reason.source for each in read] == ["x:5", "x:None"]
    assert verdict_json.read([], Stage.MAIL, lambda _: "") is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.sampled_from(list(WORDS)),
    st.dictionaries(
        st.sampled_from(sorted({name for parameters in WORDS.values() for name in parameters} | {"reason"})), _json
    ),
    st.sampled_from(Stage),
)
def test_anything_is_read_or_refused(word: str, given: dict[str, object], stage: Stage) -> None:
    """Whatever stands with a word, it is a verdict or a ValueError, never anything else."""
    try:
        outcome: object = verdict_json.read([{"verdict": word, **given}], stage, lambda _: HERE)
    except ValueError as error:
        outcome = str(error)
    assert outcome


_line = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=300)


@given(st.sampled_from(["X", "Subject", "X-" + "y" * 74]), st.lists(_line, min_size=1, max_size=20).map(" ".join))
def test_a_value_is_one_field_that_may_be_sent(name: str, value: str) -> None:
    """Whatever value is taken, it becomes one field of ASCII in lines of at most 998 octets (RFC 5322 §2.1.1)."""
    try:
        change = made("add_header", name=name, value=value)
    except ValueError as error:
        assert "value: expected" in str(error)  # noqa: PT017  # too long or blank
        return
    octets = field_octets(change.name, change.value)
    assert octets.isascii()
    assert len(list(fields(octets))) == 1
    assert max(map(len, octets.split(b"\r\n"))) <= 998


def test_long_values_are_folded() -> None:
    """A long value is folded where it has spaces; one that fits is left alone."""
    assert made("add_header", value="a  b").value == "a  b"
    folded = made("add_header", value="word " * 40).value
    assert max(map(len, field_octets("X-Mark", folded).split(b"\r\n"))) <= 78
    assert field_octets("X-Mark", folded).replace(b"\r\n\t", b" ").split() == [b"X-Mark:"] + [b"word"] * 40


def test_values_that_are_not_ascii_are_encoded() -> None:
    """Such a value becomes encoded words (RFC 2047 §2), which read as it was."""
    change = made("change_header", value="[außen] Grüße")
    assert change.value == "=?utf-8?b?W2F1w59lbl0gR3LDvMOfZQ==?="
    text = f"Subject: {change.value}\r\n".encode()
    assert script_api.Facts({"head": text}).header("Subject") == "[außen] Grüße"


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (made("reject"), {"verdict": "reject", "reply": "550 5.7.1 Refused by policy"}),
        (made("add_header"), {"verdict": "add_header", "name": "X-Mark", "value": "yes", "position": 0}),
        (made("remove_header"), {"verdict": "remove_header", "name": "Subject", "occurrence": 1, "value": ""}),
        (made("redirect"), {"verdict": "redirect", "mailbox": "bob@example.org"}),
        (made("change_sender", mailbox=""), {"verdict": "change_sender", "sender": None}),
        (verdicts.ReplaceBody(Reason("x", HERE), b"abc"), {"verdict": "replace_body", "body_size": 3}),
    ],
)
def test_verdicts_are_written(verdict: Any, expected: dict[str, object]) -> None:
    """Any verdict is written with its word, what stands with it, its reason and the source of that."""
    written = verdict_json.write(verdict)
    assert written == {**expected, "reason": verdict.reason.text, "source": HERE}
    assert json.loads(json.dumps(written)) == written

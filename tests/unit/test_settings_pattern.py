"""Patterns of administrators: what they match, how they are refused, that none of them blows up."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.settings.pattern import PROGRAM_MAXIMUM, TEXT_MAXIMUM, Expression, Pattern
from mta.settings.problem import Problem
from mta.settings.table import Reading
from mta.settings.values import Unfit


@pytest.mark.parametrize(
    ("text", "octets", "found"),
    [
        ("prize", b"win a prize now", True),
        ("prize", b"win a PRIZE now", False),
        ("(?i)prize", b"win a PRIZE now", True),
        ("^win.*now$", b"win a prize now", True),
        ("^prize", b"win a prize now", False),
        ("", b"", True),
        ("café", "un Café, un café".encode(), True),
        ("(?i)CAFÉ", "café".encode(), True),
        (r"\bfree\b", b"feel free.", True),
        (r"\bfree\b", b"freedom", False),
    ],
)
def test_a_pattern_is_searched_for(text: str, octets: bytes, found: bool) -> None:
    """A pattern matches anywhere unless it is anchored, with or without case."""
    assert Pattern(text).search(octets) is found


def test_case_is_ignored_where_that_is_said() -> None:
    """`ignore_case` is as good as ``(?i)``."""
    assert Pattern("prize", ignore_case=True).search(b"PRIZE")


@pytest.mark.parametrize("stray", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80"])
def test_an_octet_that_is_no_utf8_hides_nothing(stray: bytes) -> None:
    """What is no UTF-8 is a character like any other: ``.`` matches it, and what stands behind it is seen."""
    assert Pattern("^free.+money$").search(b"free" + stray + b"money")
    assert Pattern("money").search(stray + b"money" + stray)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(a", "missing )"),
        ("a)", "unexpected )"),
        ("x(?=y)", 'invalid perl operator at character 2, "(?="'),
        (r"(a)\1", r'invalid escape sequence at character 4, "\1"'),
        ("[z-a]", 'invalid character class range at character 2, "z-a"'),
        ("ab**", 'bad repetition operator at character 3, "**"'),
        ("x" * 5000, f"too large: 5,004 instructions, and {PROGRAM_MAXIMUM:,} is the most"),
        ("((x{100}){100}){100}", "invalid repetition size"),
        ("\ud800", "a character that UTF-8 has not"),
    ],
)
def test_what_is_no_pattern_is_explained(text: str, why: str) -> None:
    """A text that does not compile is refused with what is wrong and where."""
    with pytest.raises(Unfit) as refused:
        Pattern(text)
    assert str(refused.value).startswith(why)


@pytest.mark.parametrize(
    "text", ["(a*)*b", "(x+x+)+y", "(a|a)*b", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)*$", "(a?){500}b"]
)
def test_what_blows_up_elsewhere_ends(text: str) -> None:
    """Patterns that take a backtracking engine for ever end, on a text as long as is looked at."""
    octets = b"a" * TEXT_MAXIMUM
    assert Pattern(text).search(octets) is (text == "(.*)*$")


def test_no_more_than_the_bound_is_looked_at() -> None:
    """What stands behind the bound is not found; what stands before it is."""
    assert Pattern("needle").search(b" " * (TEXT_MAXIMUM - 6) + b"needle")
    assert not Pattern("needle").search(b" " * TEXT_MAXIMUM + b"needle")


def test_patterns_are_values() -> None:
    """Equal texts are equal patterns, whatever else was compiled in between, and they are copied as text."""
    assert Pattern("a+") == Pattern("a+")
    assert Pattern("a+") != Pattern("a+", ignore_case=True)
    assert len({Pattern("a+"), Pattern("a+"), Pattern("b+")}) == 2
    assert str(Pattern("(?i)a+")) == "(?i)a+"
    copied = pickle.loads(pickle.dumps(Pattern("a+")))
    assert copied == Pattern("a+")
    assert copied.search(b"caat")


@given(st.text(max_size=60), st.binary(max_size=200))
def test_any_text_is_a_pattern_or_refused(text: str, octets: bytes) -> None:
    """Whatever an administrator writes, and whatever a mail holds: an answer, or a refusal with a reason."""
    try:
        pattern = Pattern(text)
    except Unfit as refused:
        why = str(refused)
    else:
        why = f"answered {pattern.search(octets)}"
    assert why


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: Expression


def test_a_setting_tells_why_it_is_no_pattern() -> None:
    """The problem of a setting holds file, line, what is wrong and the text as it stands there."""
    problems: list[Problem] = []
    reading = Reading("etc/mta.toml", {("pattern",): 7}, problems)
    assert reading.table(_Rule, {"pattern": "^a+$"}).pattern == Pattern("^a+$")
    assert problems == []
    reading.table(_Rule, {"pattern": "[a"})
    assert str(problems[0]) == ('etc/mta.toml:7: pattern: expected a regular expression (RE2) (missing ]), found "[a"')

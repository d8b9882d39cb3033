"""Wrong passwords, remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from mta.auth.guesses import Guesses, Patience
from mta.board.alone import OwnTable

PATIENCE = Patience(free=2, first_delay=1.0, longest_delay=8.0, forget=100.0)


@pytest.mark.parametrize(("wrong", "delay"), [(0, 0), (2, 0), (3, 1), (4, 2), (5, 4), (6, 8), (7, 8), (10**9, 8)])
def test_delays_double_beyond_the_free_ones(wrong: int, delay: float) -> None:
    """The first few cost nothing, then each doubles the delay, up to the longest."""
    assert PATIENCE.delay(wrong) == delay


def test_attempts_are_taken_a_delay_apart() -> None:
    """Each attempt takes the next place in line; one that would wait too long is turned away."""
    guesses = Guesses(OwnTable(3), lambda: PATIENCE)
    for _ in range(4):
        guesses.add("k", 10.0)
    waits = []
    while (wait := guesses.wait("k", 10.0)) is not None:
        waits.append(wait)
        guesses.take("k", 10.0)
    assert waits == [2.0, 4.0, 6.0, 8.0]
    assert guesses.wait("k", 13.0) == 7.0


def test_a_key_that_is_not_known_waits_for_nothing() -> None:
    """Other keys are not touched, and taking a place makes nothing."""
    guesses = Guesses(OwnTable(3), lambda: PATIENCE)
    guesses.take("k", 0.0)
    assert guesses.wait("k", 0.0) == 0.0


def test_wrong_passwords_are_forgotten_in_time_and_on_success() -> None:
    """They are forgotten when nothing was wrong for a while, or when the owner has come."""
    guesses = Guesses(OwnTable(3), lambda: PATIENCE)
    for _ in range(5):
        guesses.add("k", 0.0)
    assert guesses.wait("k", 0.5) == 3.5
    assert guesses.wait("k", 100.1) == 0.0
    for _ in range(5):
        guesses.add("k", 200.0)
    guesses.forget("k")
    guesses.forget("k")
    assert guesses.wait("k", 200.0) == 0.0


def test_the_table_is_bounded() -> None:
    """The key that was wrong longest ago goes first."""
    guesses = Guesses(OwnTable(3), lambda: PATIENCE)
    for key in "abc":
        for _ in range(3):
            guesses.add(key, 0.0)
    guesses.add("a", 0.0)
    guesses.add("d", 0.0)
    assert guesses.wait("b", 0.0) == 0.0
    assert guesses.wait("a", 0.0) == 2.0


@example_settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["add", "take"]), st.floats(0, 50)), max_size=30))
def test_no_wait_is_longer_than_the_longest(steps: list[tuple[str, str, float]]) -> None:
    """Whatever happens, a wait is bounded, never negative, and the table stays within its bound."""
    guesses = Guesses(OwnTable(3), lambda: PATIENCE)
    now = 0.0
    for key, step, pause in steps:
        now += pause
        wait = guesses.wait(key, now)
        assert wait is None or 0 <= wait <= PATIENCE.longest_delay
        (guesses.add if step == "add" else guesses.take)(key, now)

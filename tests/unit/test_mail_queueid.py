"""Queue ids: sortable, unique by chance, plain text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.mail.queueid import LENGTH, accepted_at, new_queue_id, shard_of


def test_79_ids_differ_though_the_clock_does_not() -> None:
    """Row 79: 20,000 ids of one millisecond and shard differ, and so do those after a clock that stepped back."""
    chance = random.Random(79)
    ids = [new_queue_id(1_700_000_000.0, 0, chance) for _ in range(20_000)]
    assert len(set(ids)) == len(ids)


def test_79_shards_never_meet() -> None:
    """Row 79: two workers with the same clock and the same chance give different ids, for the shard stands in them."""
    assert len({new_queue_id(1_700_000_000.0, shard, random.Random(1)) for shard in range(1024)}) == 1024


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 2**45 - 1), min_size=2, max_size=5), st.integers(0, 1023), st.randoms(use_true_random=False)
)
def test_ids_sort_by_time_and_tell_it(milliseconds: list[int], shard: int, chance: random.Random) -> None:
    """Ids sort as text in the order of acceptance, and give the millisecond back."""
    ids = {moment: new_queue_id((moment + 0.5) / 1000, shard, chance) for moment in milliseconds}
    assert sorted(ids.values()) == [ids[moment] for moment in sorted(ids)]
    assert all(round(accepted_at(queue_id) * 1000) == moment for moment, queue_id in ids.items())
    assert all(len(queue_id) == LENGTH and queue_id.isalnum() for queue_id in ids.values())


@pytest.mark.parametrize("text", ["", "0", "0" * 17, "0" * 19, "u" * 18, "../../../etc/passw"])
def test_what_is_no_id_has_no_time(text: str) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError):
        accepted_at(text)


def test_an_id_tells_its_shard() -> None:
    """Whatever the time and the chance, the shard comes back; what is no id has none."""
    for shard in (0, 1, 31, 32, 1023):
        assert shard_of(new_queue_id(1_700_000_000.0, shard, random.Random(shard))) == shard
    for text in ("", "0" * 17, "i" * 18, "L" * 18, "_" * 18, "0" * 9 + "u" + "0" * 8, "0" * 9 + " 1" + "0" * 7):
        with pytest.raises(ValueError):
            shard_of(text)


@pytest.mark.parametrize("character", [*"ilouABZ_ +-.!", "\u0660", "é"])
def test_no_other_character_is_a_digit(character: str) -> None:
    """What Python takes for a digit, or passes over in a number, is none in an id."""
    with pytest.raises(ValueError):
        accepted_at(character * LENGTH)
    with pytest.raises(ValueError):
        accepted_at("0" * 8 + character + "0" * 9)

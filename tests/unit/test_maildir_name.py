from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.mail.queueid import new_queue_id
from mta.maildir.name import is_message, message_name

ID = new_queue_id(1700000000.5, 3, random.Random(1))


def test_a_name_is_seconds_and_queue_id() -> None:
    """Seconds since 1970, the queue id, and whose it is."""
    assert message_name(ID) == f"1700000000.{ID}.mta"


@settings(max_examples=200)
@given(st.floats(0, 1e10), st.integers(0, 1023), st.randoms())
def test_a_name_is_a_function_of_the_id_and_a_plain_name(now: float, shard: int, chance: random.Random) -> None:
    """Of any id the name has no octet that means something to a file system or a Maildir reader."""
    queue_id = new_queue_id(now, shard, chance)
    name = message_name(queue_id)
    assert name == message_name(queue_id)
    assert name.replace(".", "").isalnum()
    assert name.isascii()
    assert not name.startswith(".")


@pytest.mark.parametrize("text", ["", "x", ID + "0", ID[:-1], ID[:9] + "/../../ab", ID[:9] + "é" * 9, "u" * 18])
def test_what_is_no_queue_id_gets_no_name(text: str) -> None:
    """Nothing but a queue id becomes part of a path."""
    with pytest.raises(ValueError):
        message_name(text)


@pytest.mark.parametrize("suffix", ["", ":2,", ":2,FRS", ",S=123:2,S", ",S=123,W=130:2,"])
def test_a_reader_may_append_to_a_name(suffix: str) -> None:
    """Flags and Dovecot's sizes leave it the same message."""
    assert is_message(message_name(ID) + suffix, message_name(ID))


@pytest.mark.parametrize("entry", ["", "x", ID, "1" + message_name(ID), message_name(ID) + "x", message_name(ID)[:-1]])
def test_another_entry_is_another_message(entry: str) -> None:
    """A longer, shorter or different name is not it."""
    assert not is_message(entry, message_name(ID))

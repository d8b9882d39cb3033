"""mta.policy.changes"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.mail.reason import Reason
from mta.message.header import fields
from mta.policy.changes import MemoryBody, changed_head, field_octets
from mta.policy.verdict import AddHeader, ChangeHeader

WHY = Reason("because")
HEAD = b"A: 1\r\nB: 2\r\n\tmore\r\na: 3\r\n"


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (0, b"X: y\r\n" + HEAD),
        (1, b"A: 1\r\nX: y\r\nB: 2\r\n\tmore\r\na: 3\r\n"),
        (-1, HEAD + b"X: y\r\n"),
        (99, HEAD + b"X: y\r\n"),
    ],
)
def test_a_field_is_added_where_it_was_asked_for(position: int, expected: bytes) -> None:
    """Position 0 is in front, n behind the n-th field, -1 and what is past the end behind the last."""
    assert changed_head(HEAD, [AddHeader(WHY, "X", "y", position)]) == expected


@pytest.mark.parametrize(
    ("name", "occurrence", "value", "expected"),
    [
        ("A", 1, "9", b"A: 9\r\nB: 2\r\n\tmore\r\na: 3\r\n"),
        ("a", 2, "9", b"A: 1\r\nB: 2\r\n\tmore\r\na: 9\r\n"),
        ("b", 1, "", b"A: 1\r\na: 3\r\n"),
        ("b", 2, "9", HEAD + b"b: 9\r\n"),
        ("c", 1, "", HEAD),
    ],
)
def test_a_field_is_changed_by_its_occurrence(name: str, occurrence: int, value: str, expected: bytes) -> None:
    """The n-th of a name is replaced or removed; one that is not there is added if it has a value."""
    assert changed_head(HEAD, [ChangeHeader(WHY, name, occurrence, value)]) == expected


def test_changes_count_in_what_the_changes_before_them_left() -> None:
    """After a removal the second occurrence is the first."""
    changes = [ChangeHeader(WHY, "A", 1, ""), ChangeHeader(WHY, "A", 1, "9"), AddHeader(WHY, "A", "0")]
    assert changed_head(HEAD, changes) == b"A: 0\r\nB: 2\r\n\tmore\r\nA: 9\r\n"


@given(st.text())
def test_no_value_leaves_its_place(value: str) -> None:
    """Whatever stands in a value, it is one field: its lines are folds, and none ends the head."""
    octets = field_octets("X-Odd", value)
    [field] = fields(octets)
    assert field.name == b"x-odd"
    assert octets.endswith(b"\r\n")
    assert b"\r\n\r\n" not in octets
    assert b"\0" not in octets
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")


def test_folds_keep_their_white_space() -> None:
    """A value that is folded already stays octet for octet, whichever line ends it has; what is no fold becomes one."""
    assert field_octets("A", "1;\n  2;\r\n\t 3\n4") == b"A: 1;\r\n  2;\r\n\t 3\r\n\t4\r\n"
    assert field_octets("A", "\n 1\n \n 2\n") == b"A: \r\n 1\r\n 2\r\n"


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "é", "x" * 201])
def test_what_is_no_field_name_is_refused(name: str) -> None:
    """A name with a blank, a colon, a line end or no character is no name."""
    with pytest.raises(ValueError, match="no field name"):
        field_octets(name, "x")


def test_a_body_in_memory_comes_in_pieces() -> None:
    """The pieces joined are the body."""
    body = MemoryBody(bytes(200_000))
    assert [len(piece) for piece in body.pieces()] == [65536, 65536, 65536, 3392]
    assert body.size == 200_000

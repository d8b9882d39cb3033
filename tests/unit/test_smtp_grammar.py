"""Tests of `mta.smtp.grammar`: its classes of characters; patterns are tested where they are used."""

from __future__ import annotations

import re

import pytest

from mta.smtp import grammar

ALL = "".join(map(chr, range(0x110000)))


@pytest.mark.parametrize(
    ("written", "ascii_part"),
    [
        (grammar._ATEXT, r"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~"),
        (grammar._QTEXT, r" !#-\[\]-~"),
        (grammar._LET_DIG, "A-Za-z0-9"),
        (grammar._LET_DIG_HYP, "A-Za-z0-9-"),
    ],
)
def test_what_a_class_leaves_out_is_what_the_abnf_does_not_name(written: str, ascii_part: str) -> None:
    """A class that is written as its opposite has exactly the characters of the RFC's."""
    assert re.findall(written, ALL) == re.findall(f"[{ascii_part}{grammar.UTF8_NON_ASCII}]", ALL)

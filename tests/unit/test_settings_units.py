"""Sizes and times as text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.settings.units import octets_text, parse_octets, parse_seconds, seconds_text


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0", 0), ("512", 512), ("64K", 65536), ("50M", 52428800), ("1G", 1 << 30), ("2T", 2 << 40)],
)
def test_a_size_counts_in_steps_of_1024(text: str, octets: int) -> None:
    """A size is octets, K, M, G and T are powers of 1,024, and it is written back the same."""
    assert parse_octets(text) == octets
    assert octets_text(octets) == text


@pytest.mark.parametrize("text", ["", "K", "-1", "1.5M", "50 M", "50m", "50MB", "٣", "1e3", "1\n", "9" * 16])
def test_no_size(text: str) -> None:
    """Anything else is no size."""
    with pytest.raises(ValueError):
        parse_octets(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("5d", 432000), ("1d1h1m1s", 90061), ("0.5s", 0.5)],
)
def test_a_time_has_its_unit(text: str, seconds: float) -> None:
    """A time is a sum of days, hours, minutes and seconds, and is written back the same."""
    assert parse_seconds(text) == seconds
    assert seconds_text(seconds) == text


@pytest.mark.parametrize("text", ["", "5", "5 m", "-5s", "1m1h", "5M", "1w", ".5s", "1.s", "5m\n", "٣s", "1h1h"])
def test_no_time(text: str) -> None:
    """A time without a unit, or with units out of order, is none."""
    with pytest.raises(ValueError):
        parse_seconds(text)


@settings(max_examples=100)
@given(st.integers(0, 1 << 45))
def test_octets_read_back(octets: int) -> None:
    """Every size reads back as it was."""
    assert parse_octets(octets_text(octets)) == octets


@settings(max_examples=100)
@given(st.integers(0, 10**9), st.integers(0, 999_999))
def test_seconds_read_back(whole: int, millionths: int) -> None:
    """Every time reads back as it was, to the microsecond."""
    seconds = whole + millionths / 1_000_000
    assert parse_seconds(seconds_text(seconds)) == pytest.approx(seconds, abs=1e-6)
    assert parse_seconds(seconds_text(float(whole))) == whole

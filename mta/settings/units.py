"""Sizes and times as ``etc/`` writes them: ``"50M"`` (octets, in steps of 1,024), ``"1h30m"`` (seconds).

A time always has its unit. Text made here reads back to the same number.
"""

from __future__ import annotations

import re

_OCTETS = re.compile(r"([0-9]{1,15})([KMGT]?)")
_OCTET_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_SECONDS = re.compile(
    r"(?=.)(?:(?P<d>[0-9]{1,6})d)?(?:(?P<h>[0-9]{1,6})h)?(?:(?P<m>[0-9]{1,9})m)?"
    r"(?:(?P<s>[0-9]{1,12}(?:\.[0-9]{1,6})?)s)?"
)
_SECOND_UNITS = {"d": 86400, "h": 3600, "m": 60}


def parse_octets(text: str) -> int:
    """Read a size, ``"50M"`` or ``"512"``. Raises ValueError."""
    found = _OCTETS.fullmatch(text)
    if not found:
        raise ValueError(text)
    return int(found[1]) * _OCTET_UNITS[found[2]]


def octets_text(octets: int) -> str:
    """Write a size, in the largest unit that it is a whole number of."""
    unit = max((unit for unit, size in _OCTET_UNITS.items() if octets % size == 0 and octets), key=_size, default="")
    return f"{octets // _OCTET_UNITS[unit]}{unit}"


def _size(unit: str) -> int:
    return _OCTET_UNITS[unit]


def parse_seconds(text: str) -> float:
    """Read a time, ``"5d"``, ``"1h30m"`` or ``"0.5s"``. Raises ValueError."""
    found = _SECONDS.fullmatch(text)
    if not found:
        raise ValueError(text)
    whole = sum(int(found[unit] or 0) * size for unit, size in _SECOND_UNITS.items())
    return whole + float(found["s"] or 0)


def seconds_text(seconds: float) -> str:
    """Write a time (0 or more, to the microsecond); one that is not whole is written in seconds alone."""
    if seconds % 1:
        return f"{seconds:.6f}".rstrip("0") + "s"
    rest = int(seconds)
    out = []
    for unit, size in _SECOND_UNITS.items():
        if rest >= size:
            out.append(f"{rest // size}{unit}")
            rest %= size
    if rest or not out:
        out.append(f"{rest}s")
    return "".join(out)

"""What a DNS list answers (RFC 5782 §2.1), as a pattern: ``127.0.0.2``, ``127.0.0.4-7``, ``127.0.*.2``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mta.settings.values import Unfit

ERRORS = (127, 255, 255)
"""The first three numbers of answers that are errors of a list, whoever runs it (as Spamhaus and others do)."""

_NUMBER = re.compile(r"(?P<any>\*)|(?P<first>[0-9]{1,3})(?:-(?P<last>[0-9]{1,3}))?")


@dataclass(frozen=True, slots=True)
class ReturnCode:
    """Four ranges, one for each number; the first is 127 alone."""

    text: str
    ranges: tuple[range, ...]

    @classmethod
    def parse(cls, text: str) -> ReturnCode:
        """Read the text form. Raises `Unfit`."""
        ranges = tuple(map(_range, text.split(".")))
        if len(ranges) != 4 or ranges[0] != range(127, 128):
            raise Unfit("a listing is an address in 127.0.0.0/8")
        if all(number in each for number, each in zip(ERRORS, ranges, strict=False)):
            raise Unfit("127.255.255.0/24 is for errors of the list")
        return cls(text, ranges)

    def matches(self, numbers: tuple[int, ...]) -> bool:
        """Whether an answer, as its four numbers, is this code."""
        return all(number in each for number, each in zip(numbers, self.ranges, strict=True))


def _range(text: str) -> range:
    found = _NUMBER.fullmatch(text)
    if not found:
        raise Unfit(f'"{text}" is no number, range or *')
    if found["any"]:
        return range(256)
    first = int(found["first"])
    last = int(found["last"] or first)
    if not first <= last < 256:
        raise Unfit(f'"{text}" is no number, range or *')
    return range(first, last + 1)

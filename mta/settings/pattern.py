"""Regular expressions that an administrator writes, on an engine that takes linear time: RE2.

RE2's syntax is that of Perl and Python without what needs backtracking: no back-references, no look-around
(https://github.com/google/re2/wiki/Syntax). ``(?i)`` at the front ignores case, ``(?s)`` lets ``.`` match a line end.

A mail is looked through as UTF-8. Octets that are none stand as U+FFFD, so that a stray octet, put there to be in the
way of a pattern, is a character like any other.

What one search may cost is bounded three ways. RE2's automaton has `MEMORY_MAXIMUM`; without room for it RE2 takes
time in proportion to text times program, so the program has at most `PROGRAM_MAXIMUM` instructions and the text
`TEXT_MAXIMUM` octets; what stands behind them is not looked at. Usual patterns take 2 ms for 1 MiB; the worst that
these bounds let through takes two seconds.

Knowingly not here: groups and replacements.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import re2  # type: ignore[import-untyped]  # it has no types; all that is used of it is in `_compile` and `search`

from mta.settings.problem import quoted
from mta.settings.values import Kind, Unfit

MEMORY_MAXIMUM = 1 << 20
"""Octets for one pattern, half of them for either direction of the search (RE2's ``max_mem``)."""
PROGRAM_MAXIMUM = 4000
"""Instructions: about the characters of a pattern, but ``x{100}`` is 100 and a Unicode class such as ``\\pL`` 1,200."""
TEXT_MAXIMUM = 64 * 1024
"""Octets looked at: more than a field or a name holds."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled regular expression; equal where the text is."""

    text: str
    """As it was written."""
    ignore_case: bool = False
    _compiled: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile. Raises `Unfit`, which says what is wrong with the text and where."""
        object.__setattr__(self, "_compiled", _compile(self.text, self.ignore_case))

    def __str__(self) -> str:
        return self.text

    def search(self, octets: bytes) -> bool:
        """Whether it matches somewhere; ``^`` and ``$`` stand for the ends of the text."""
        octets = octets[:TEXT_MAXIMUM]
        if not octets.isascii():
            octets = octets.decode("utf-8", "replace").encode()
        return self._compiled.search(octets) is not None


def _compile(text: str, ignore_case: bool) -> Any:
    options = re2.Options()
    options.max_mem = MEMORY_MAXIMUM
    options.case_sensitive = not ignore_case
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        raise Unfit(_explained(text, error.args[0].decode("utf-8", "replace"))) from None
    except UnicodeEncodeError:  # a lone surrogate, which TOML has not
        raise Unfit("a character that UTF-8 has not") from None
    if compiled.programsize > PROGRAM_MAXIMUM:
        raise Unfit(f"too large: {compiled.programsize:,} instructions, and {PROGRAM_MAXIMUM:,} is the most")
    return compiled


def _explained(text: str, error: str) -> str:
    """RE2 says ``what: part``; tell at which character the part stands, where it is not all of the text."""
    what, _, part = error.partition(": ")
    if part and part != text and text.count(part) == 1:
        return f"{what} at character {text.index(part) + 1}, {quoted(part)}"
    return f"{what}: {quoted(part)}" if part and part != text else what


Expression = Annotated[Pattern, Kind("a regular expression (RE2)", Pattern)]

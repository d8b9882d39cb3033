"""Where a setting stands, for an explanation: the line of ``mta.toml`` that sets what a reason names by its key.

Reasons name keys, ``[policy.rates.network] recipients_per_hour``: the line is looked up when somebody asks, in the file
as it is then. Of what is not in the file the default is in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mta.settings.locate import Path, locate

_KEY = re.compile(r"\[(?P<table>[\w.-]+)\](?: (?P<key>\w+))?")
_LINE = re.compile(r":\d+$")


class Lines:
    """The lines of one file; none where it cannot be read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lines: Mapping[Path, int] = {}
        try:
            with open(path, encoding="utf-8") as file:
                self._lines = locate(file.read())
        except (OSError, UnicodeDecodeError, AssertionError):
            return

    def at(self, source: str, rule: str = "") -> str:
        """The file and line of what a reason names; else of the table of the policy `rule`; else nothing."""
        if _LINE.search(source):
            return source
        named = _KEY.match(source)
        if named is not None:
            path: Path = tuple(named["table"].split("."))
            found = self._at((*path, named["key"]) if named["key"] else path)
            if found:
                return found
        return self._at(("policy", rule)) if rule else ""

    def _at(self, path: Path) -> str:
        line = self._lines.get(path)
        return f"{self._path}:{line}" if line is not None else ""


def locate_all(lines: Lines, said: Iterable[dict[str, Any]]) -> None:
    """Say of each where it stands."""
    for each in said:
        at = lines.at(each["source"], each.get("rule", ""))
        if at:
            each["at"] = at

"""``main.cf`` (postconf(5)): parameters where they stand, and their values with ``$name`` put in.

::

    expansion = "$" name / "${" name "}" / "$(" name ")" / "$$"
              / "${" name ("?" / ":") text "}"              ; text if what is written is not empty, or if it is
              / "${" name "?{" text "}:{" text "}}"
              / "${{" text "}" ("==" / "!=" / "<" / ...) "{" text "}?{" text "}:{" text "}}"

A parameter that is not in the file has the value of `DEFAULTS`, of which there are those that others need; what is in
neither is empty. Expansion goes `_LEVELS` deep.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mta.cli.postfix.lines import BLANKS, Place, logical_lines

DEFAULTS: Mapping[str, str] = {
    "alias_maps": "hash:/etc/aliases",
    "compatibility_level": "0",
    "config_directory": "/etc/postfix",
    "daemon_directory": "/usr/lib/postfix/sbin",
    "data_directory": "/var/lib/postfix",
    "inet_interfaces": "all",
    "message_size_limit": "10240000",
    "mydestination": "$myhostname, localhost.$mydomain, localhost",
    "myorigin": "$myhostname",
    "queue_directory": "/var/spool/postfix",
    "virtual_alias_domains": "$virtual_alias_maps",
    "virtual_mailbox_domains": "$virtual_mailbox_maps",
    "virtual_alias_maps": "$virtual_maps",
}
"""Values of Postfix 3.7's own."""

_LEVELS = 20
_PARAMETER = re.compile(rf"([A-Za-z0-9_]+)[{BLANKS}]*=[{BLANKS}]*(.*)", re.DOTALL)
_NAME = re.compile(r"\$(?:\$|([A-Za-z0-9_]+)|\(([A-Za-z0-9_]+)\)|(\{))")
_CONDITION = re.compile(r"\s*\{(.*?)\}\s*(==|!=|<=|>=|<|>)\s*\{(.*?)\}\s*\?", re.DOTALL)
_COMPARED: Mapping[str, Callable[[int | str, int | str], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter as it is written."""

    name: str
    raw: str
    place: Place


class MainCf:
    """The parameters of one file; the last line of a name counts."""

    def __init__(self, text: str, file: str, defaults: Mapping[str, str]) -> None:
        self.file = file
        self.parameters: dict[str, Parameter] = {}
        self._defaults = {**DEFAULTS, **defaults}
        for line in logical_lines(text, file):
            found = _PARAMETER.fullmatch(line.text.strip(BLANKS))
            if found:
                self.parameters[found[1]] = Parameter(found[1], found[2], line.place)

    def __contains__(self, name: str) -> bool:
        return name in self.parameters

    def place(self, name: str) -> Place:
        """Where a parameter stands; the file for one that has its default."""
        return self.parameters[name].place if name in self.parameters else Place(self.file, 0)

    def value(self, name: str) -> str:
        """The value of a parameter, expanded."""
        return self.expand(self._raw(name))

    def words(self, name: str) -> list[str]:
        """The words of a list: divided by blanks and commas, but for those in braces."""
        return divided(self.value(name))

    def _raw(self, name: str) -> str:
        found = self.parameters.get(name)
        return found.raw if found is not None else self._defaults.get(name, "")

    def expand(self, text: str, level: int = 0) -> str:
        """Put values in the place of names."""
        if level > _LEVELS:
            return ""
        out, at = "", 0
        while (found := _NAME.search(text, at)) is not None:
            out += text[at : found.start()]
            at = found.end()
            if found[3]:
                end = _closing(text, at)
                out += self._braced(text[at : end - 1], level)
                at = end
            elif name := found[1] or found[2]:
                out += self.expand(self._raw(name), level + 1)
            else:
                out += "$"
        return out + text[at:]

    def _braced(self, inside: str, level: int) -> str:
        condition = _CONDITION.match(inside)
        if condition is not None:
            left, right = self.expand(condition[1], level + 1), self.expand(condition[3], level + 1)
            numbers = left.isdecimal() and right.isdecimal()
            sides = (int(left), int(right)) if numbers else (left, right)
            holds = _COMPARED[condition[2]](*sides)
            rest = inside[condition.end() :]
        else:
            found = re.match(r"\s*([A-Za-z0-9_]+)\s*([?:])?", inside)
            if found is None:
                return ""
            raw = self._raw(found[1])
            if not found[2]:
                return self.expand(raw, level + 1)
            holds = bool(raw) == (found[2] == "?")  # as it is written: what it expands to does not count
            rest = inside[found.end() :]
        first, second = _branches(rest)
        return self.expand(first if holds else second, level + 1)


def _branches(text: str) -> tuple[str, str]:
    """The texts of ``{one}:{other}``, ``{one}`` or ``one``."""
    text = text.strip()
    if not text.startswith("{"):
        return text, ""
    end = _closing(text, 1)
    rest = text[end:].strip().removeprefix(":").strip()
    return text[1 : end - 1].strip(), rest.removeprefix("{").removesuffix("}").strip()


def _closing(text: str, at: int) -> int:
    """Behind the brace that closes the one before `at`."""
    depth = 1
    while at < len(text) and depth:
        depth += (text[at] == "{") - (text[at] == "}")
        at += 1
    return at


def divided(text: str) -> list[str]:
    """Divide a list at blanks and commas outside of braces."""
    words, word, depth = [], "", 0
    for each in text:
        depth += (each == "{") - (each == "}")
        if depth == 0 and (each in BLANKS or each == ","):
            if word:
                words.append(word)
            word = ""
        else:
            word += each
    return [*words, word] if word else words

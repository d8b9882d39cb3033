"""What a rule of an administrator does with a message, as one text: ``"reject No programs here"``, ``"file Junk"``.

::

    action = "reject" [SP text] / "defer" [SP text]     ; text: what the sender is told
           / "discard" / "hold"
           / "tag" SP word                              ; letters, digits and . _ -
           / "add_header" SP field-name ":" SP value
           / "file" SP folder                           ; of the Maildir
           / "redirect" SP address
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from mta.settings.values import Kind, Unfit, parse_address
from mta.smtp.address import Mailbox

TEXT_MAXIMUM = 400
"""Characters of the text behind the word: a reply line has 512 octets (RFC 5321 §4.5.3.1.5)."""

_PLAIN = ("discard", "hold")
_WITH_TEXT = ("reject", "defer")
_TAG = re.compile(r"[A-Za-z0-9._-]{1,60}")
_FIELD = re.compile(r"(?P<name>[\x21-\x39\x3b-\x7e]{1,76}):[ \t]*(?P<value>.*)")  # RFC 5322 §2.2: ftext
_FOLDER = re.compile(r"[^./\x00-\x1f\x7f][^/\x00-\x1f\x7f]{0,99}")


@dataclass(frozen=True, slots=True)
class Action:
    """One action. What its word does not need is empty."""

    word: str
    text: str = ""
    """The text of the reply, the tag, the value of the field, or the folder."""
    field: str = ""
    """The name of the field that is added."""
    mailbox: Mailbox | None = None
    """Where the message goes instead."""

    def __str__(self) -> str:
        what = f"{self.field}: {self.text}" if self.field else str(self.mailbox or self.text)
        return f"{self.word} {what}".rstrip()

    @classmethod
    def parse(cls, text: str) -> Action:
        """Read the text form. Raises `Unfit`."""
        word, _, rest = text.partition(" ")
        rest = rest.strip()
        if not rest.isprintable() or len(rest) > TEXT_MAXIMUM:
            raise Unfit(f"the text has at most {TEXT_MAXIMUM} printable characters")
        if word in _WITH_TEXT or (word in _PLAIN and not rest):
            return cls(word, rest)
        if word in _PLAIN:
            raise Unfit(f'"{word}" stands alone')
        if word == "tag" and _TAG.fullmatch(rest):
            return cls(word, rest)
        if word == "add_header":
            found = _FIELD.fullmatch(rest)
            if found:
                return cls(word, found["value"], found["name"])
        if word == "file" and _FOLDER.fullmatch(rest):
            return cls(word, rest)
        if word == "redirect":
            try:
                return cls(word, mailbox=parse_address(rest))
            except ValueError:
                raise Unfit('"redirect" needs an address') from None
        raise Unfit(_MISSING.get(word, f'"{word}" is none of these'))


_MISSING = {
    "tag": '"tag" needs one word of letters, digits and . _ -',
    "add_header": '"add_header" needs a field, "X-Name: value"',
    "file": '"file" needs the name of a folder',
}

ACTION = Kind(
    'an action, "reject TEXT", "defer TEXT", "discard", "hold", "tag WORD", "add_header NAME: VALUE", "file FOLDER" '
    'or "redirect ADDRESS"',
    Action.parse,
)
Doing = Annotated[Action, ACTION]

r"""Address lists (RFC 5322 §3.4), as they stand in From, Sender, To and the like; linear time, one reading or none.

::

    address-list = (address *("," address))          ; empty members allowed, as in obs-addr-list
    address      = mailbox / group
    mailbox      = addr-spec / [phrase] "<" addr-spec ">"
    group        = phrase ":" [mailbox *("," mailbox)] ";"
    addr-spec    = local-part "@" domain
    local-part   = dot-atom / quoted-string
    domain       = dot-atom / domain-literal
    phrase       = 1*(dot-atom / quoted-string / ".")   ; with the "." of obs-phrase: John Q. Public <…>

Comments and folding white space may stand between any two of these. UTF-8 may stand wherever atext or qtext may
(RFC 6532 §3.2).

Knowingly not read, since readers differ on what they mean and a decision hangs on it: source routes, white space or
comments inside a dot-atom, white space inside a domain literal, control characters, an encoded word in an addr-spec
(RFC 2047 §5 forbids it; some decode it all the same), octets that are no UTF-8 in an addr-spec. Display names
are passed over: they may hold anything that the grammar lets through, also text in unknown charsets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from mta.mail.reason import Reason
from mta.smtp.address import Mailbox

_SOURCE = "RFC 5322 §3.4"
_ATOM = r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\x80-\U0010ffff]+"
# Without possessive groups: Python 3.11.2, that of Debian 12, matches "a." with a(?:\.a)*+
_TOKEN = re.compile(
    rf"""
      (?P<atom> {_ATOM} (?: \.{_ATOM} )* )
    | (?P<quoted> " (?: [^"\\\x00-\x08\x0a-\x1f\x7f] | \\[\x09\x20-\x7e\x80-\U0010ffff] )* " )
    | (?P<literal> \[ [\x21-\x5a\x5e-\x7e]* \] )
    | (?P<special> [<>,:;@.] )
    """,
    re.VERBOSE,
)
_QUOTED_PAIR = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class AddressList:
    """The mailboxes of a list, in order, those inside groups too, and how many groups there are."""

    mailboxes: tuple[Mailbox, ...]
    groups: int = 0


def read_address_list(value: bytes) -> AddressList | Reason:
    """Read the value of an address field, unfolded; a `Reason` says why it cannot be read in one way only."""
    try:
        return _Reader(value.decode("utf-8", "surrogateescape")).address_list()
    except _Unreadable as fault:
        return Reason(str(fault), _SOURCE)


class _Unreadable(Exception):
    """The text of the `Reason`."""


class _Reader:
    """Recursive descent over the tokens; `kind` and `text` are the current one, both empty after the last."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._groups = 0
        self._mailboxes: list[Mailbox] = []
        self._next()

    def address_list(self) -> AddressList:
        while self.text:
            if self.text != ",":
                self._address(in_group=False)
            self._separator("")
        return AddressList(tuple(self._mailboxes), self._groups)

    def _address(self, in_group: bool) -> None:
        words = []
        while self.kind in ("atom", "quoted") or self.text == ".":
            words.append((self.kind, self.text))
            self._next()
        if self.text == "@":
            if len(words) != 1:
                self._fault("an unquoted name before an address without <>" if words else "nothing before @")
            self._mailboxes.append(self._addr_spec(*words[0]))
        elif self.text == "<":
            self._next()
            local_part = self.kind, self.text
            self._next()
            self._mailboxes.append(self._addr_spec(*local_part))
            self._expect(">")
        elif self.text == ":" and words and not in_group:
            self._group()
        else:
            self._fault("no address")

    def _group(self) -> None:
        self._groups += 1
        self._next()
        while self.text != ";":
            if self.text != ",":
                self._address(in_group=True)
            self._separator(";")
        self._next()

    def _addr_spec(self, kind: str, text: str) -> Mailbox:
        """Read from the ``@`` on; the local-part was the token before."""
        if kind == "quoted":
            local_part = _QUOTED_PAIR.sub(r"\1", text[1:-1])
        elif kind == "atom":
            local_part = text
        else:
            self._fault("no local-part")
        self._expect("@")
        if self.kind not in ("atom", "literal"):
            self._fault("no domain after @")
        domain = self.text.lower() if self.kind == "atom" else self.text
        if "=?" in local_part + domain:
            self._fault("an encoded word inside an address")
        # Neither control characters nor octets that are no UTF-8 (decoded to surrogates) are printable.
        if not (local_part + domain).isprintable():
            self._fault("an address with unprintable characters")
        self._next()
        return Mailbox(local_part, domain)

    def _separator(self, end: str) -> None:
        """Pass one comma; what ends the list may stand in its place."""
        if self.text == ",":
            self._next()
        elif self.text != end:
            self._fault("no comma between addresses")

    def _expect(self, special: str) -> None:
        if self.text != special:
            self._fault(f"no {special} in an address")
        self._next()

    def _next(self) -> None:
        self._skip_white_space_and_comments()
        if self._at == len(self._source):
            self.kind = self.text = ""
            return
        found = _TOKEN.match(self._source, self._at)
        if not found:
            self._fault("an octet that cannot stand there")
        self._at = found.end()
        self.kind, self.text = str(found.lastgroup), found[0]

    def _skip_white_space_and_comments(self) -> None:
        source, at, depth = self._source, self._at, 0
        while at < len(source):
            octet = source[at]
            if octet == "(":
                depth += 1
            elif not depth:
                if octet not in " \t":
                    break
            elif octet == ")":
                depth -= 1
            elif octet == "\\":
                at += 1
            at += 1
        self._at = at
        if depth:
            self._fault("a comment without end")

    def _fault(self, what: str) -> NoReturn:
        raise _Unreadable(f"{what}, near character {self._at}")

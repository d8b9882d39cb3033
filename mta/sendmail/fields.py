"""The header of a message that a program hands in: recipients taken out of it, names completed, From added.

Programs write names without a domain (``From: root (Cron Daemon)``); they are completed in place, and all else of a
field stays as it is. What is read as an address here decides only whom to send to; who may be in From is decided by the
server, which reads more strictly.

Header lines end with LF; a CR within one becomes a blank: were it a line end, text that somebody put into a subject
could begin a field. Bcc and Return-Path are always removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from mta.sendmail.exits import EX_DATAERR, Ended

HEADER_MAXIMUM = 256 * 1024
"""Octets of a header (the server takes no larger one)."""

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_MBOX = re.compile(rb">?From ")
_RECIPIENTS = (b"to", b"cc", b"bcc")
_COMPLETED = (b"from", b"sender", b"reply-to", b"to", b"cc")
_REMOVED = (b"bcc", b"resent-bcc", b"return-path")

# Atoms are whatever is nothing else: the server judges what may be in an address.
_TOKEN = re.compile(
    r"""(?P<blank>[\s]+) | (?P<quoted>"(?:[^"\\]|\\.)*") | (?P<literal>\[[^\[\]]*\])
      | (?P<special>[<>,:;@.()]) | (?P<atom>[^\s"\[\]<>,:;@.()]+)""",
    re.VERBOSE | re.DOTALL,
)


class Address(NamedTuple):
    """One address, and where it stands in the text."""

    text: str
    start: int
    end: int

    @property
    def bare(self) -> bool:
        """Whether it is a name without a domain."""
        return bool(self.text) and "@" not in re.sub(r'"(?:[^"\\]|\\.)*"', "", self.text)


class Header(NamedTuple):
    """The fields of a message, each with its line ends, and the body."""

    fields: list[bytes]
    body: bytes


def divide(content: bytes) -> Header:
    """Divide a message. A first line that is no field begins the body, as does what stands behind a blank line."""
    fields: list[bytes] = []
    at = 0
    while at < len(content):
        if at > HEADER_MAXIMUM:
            raise Ended(f"the header has more than {HEADER_MAXIMUM} octets", EX_DATAERR)
        end = content.find(b"\n", at) + 1 or len(content)
        line = content[at:end].rstrip(b"\r\n")
        if not line:
            at = end
            break
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] += line.replace(b"\r", b" ") + b"\r\n"
        elif _FIELD.match(line):
            fields.append(line.replace(b"\r", b" ") + b"\r\n")
        elif fields or not _MBOX.match(line):
            break
        at = end
    return Header(fields, content[at:])


def name_of(field: bytes) -> bytes:
    """The name of a field in lower case."""
    return field.partition(b":")[0].strip().lower()


def recipients(fields: list[bytes]) -> list[str]:
    """Whom To, Cc and Bcc name, or their ``Resent-`` forms where there are any. Raises Ended."""
    resent = [field for field in fields if name_of(field).removeprefix(b"resent-") in _RECIPIENTS and _resent(field)]
    chosen = resent or [field for field in fields if name_of(field) in _RECIPIENTS]
    found = []
    for field in chosen:
        name, _, value = field.partition(b":")
        try:
            unfolded = _text(value.replace(b"\r\n", b""))
            found += [each.text for each in addresses(unfolded) if each.text]
        except ValueError as fault:
            raise Ended(f"the {name.decode('ascii').strip()} field cannot be read: {fault}", EX_DATAERR) from None
    return found


def completed(fields: list[bytes], domain: str) -> list[bytes]:
    """Put the domain behind names without one, and take out what nobody else should see."""
    out = []
    for field in fields:
        name = name_of(field)
        if name in _REMOVED:
            continue
        if name.removeprefix(b"resent-") in _COMPLETED:
            field = _completed(field, domain)
        out.append(field)
    return out


def _completed(field: bytes, domain: str) -> bytes:
    name, colon, value = field.partition(b":")
    text = _text(value)
    try:
        found = [each for each in addresses(text) if each.bare]
    except ValueError:
        return field
    for each in reversed(found):
        text = f"{text[: each.end]}@{domain}{text[each.end :]}"
    return name + colon + text.encode("utf-8", "surrogateescape")


def local_part(name: str) -> str:
    """A user name as an address has it: in quotes where it must be (RFC 5321 §4.1.2), as that of a Windows domain."""
    if re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+)*", name):
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def author(mailbox: str, full_name: str) -> bytes:
    """Make a From field."""
    if not full_name:
        return f"From: {mailbox}\r\n".encode("utf-8", "surrogateescape")
    name = re.sub(r"[\x00-\x1f\x7f]", " ", full_name).strip()
    if not re.fullmatch(r"[A-Za-z0-9 !#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff]+", name):
        name = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    return f"From: {name} <{mailbox}>\r\n".encode("utf-8", "surrogateescape")


def addresses(text: str) -> Iterator[Address]:
    """Give the addresses of a list (RFC 5322 §3.4), empty ones too. Raises ValueError with what is wrong."""
    words: list[re.Match[str]] = []
    inside: list[re.Match[str]] | None = None
    angle: Address | None = None
    for token in _tokens(text):
        sign = token[0] if token.lastgroup == "special" else ""
        if inside is not None:
            if sign == ">":
                angle = _joined(inside, token.start())
                inside = None
            elif sign in ("<", ",", ";"):
                raise ValueError("an address without its >")
            else:
                inside.append(token)
        elif sign == "<":
            if angle is not None:
                raise ValueError("no comma between addresses")
            inside = []
        elif sign == ">":
            raise ValueError("a > without <")
        elif sign in (",", ";"):
            if angle is not None or words:
                yield angle or _spelled(words)
            words, angle = [], None
        elif sign == ":":
            words = []  # the name of a group
        elif angle is not None:
            raise ValueError("no comma between addresses")
        else:
            words.append(token)
    if inside is not None:
        raise ValueError("an address without its >")
    if angle is not None or words:
        yield angle or _spelled(words)


def _tokens(text: str) -> Iterator[re.Match[str]]:
    at = depth = 0
    while at < len(text):
        if depth and text[at] == "\\":
            at += 2
            continue
        if depth and text[at] not in "()":
            at += 1
            continue
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"{text[at]} without its end")
        at = found.end()
        if found[0] == "(":
            depth += 1
        elif found[0] == ")":
            if not depth:
                raise ValueError("a ) without (")
            depth -= 1
        elif not depth and found.lastgroup != "blank":
            yield found
    if depth:
        raise ValueError("a comment without end")


def _spelled(words: list[re.Match[str]]) -> Address:
    """An address without <>: two words side by side are a name, and nobody knows whose."""
    for one, two in pairwise(words):
        if one.lastgroup != "special" and two.lastgroup != "special":
            raise ValueError(f"{one[0]} {two[0]} is a name without an address in <>")
    return _joined(words, words[-1].end())


def _joined(words: list[re.Match[str]], end: int) -> Address:
    text = "".join(word[0] for word in words)
    if text.startswith("@"):  # a source route of old (RFC 5322 §4.4)
        text = text.rpartition(":")[2]
    start = words[0].start() if words else end
    return Address(text, start, words[-1].end() if words else end)


def _resent(field: bytes) -> bool:
    return name_of(field).startswith(b"resent-")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")

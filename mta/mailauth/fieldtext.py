r"""Text that peers chose, made fit for a structured field: Authentication-Results and Received-SPF; pure.

A value stands as it is if it is a token (RFC 2045 §5.1), else as a quoted-string of printable ASCII, where quote and
backslash are quoted-pairs; so it is read back as it was. What has other characters (controls, NUL, CR, LF, 8-bit), or
is longer than `VALUE_MAXIMUM`, cannot be written: the caller leaves it out.

A comment is for people, and not all who read these fields heed the grammar: some look for ``dmarc=pass`` anywhere, some
cut at ``;``. So in a comment whatever has a meaning outside is replaced by what has none: ``(a=b; "c")`` becomes
``[a:b, 'c']``.
"""

from __future__ import annotations

import re

from mta.smtp.address import Mailbox

VALUE_MAXIMUM = 320
"""Characters of a value: a local-part of 64, ``@`` and a domain of 255 (RFC 5321 §4.5.3.1). Twice as many, quoted, are
still a word that needs no folding within the 998 of RFC 5322 §2.1.1."""
COMMENT_MAXIMUM = 200
"""Characters of a comment."""

_TOKEN = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+")
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]+)*")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_QUOTED = re.compile(r'(["\\])')
_PLAIN_LOCAL_PART = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*")
_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_DOMAIN_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_MEANT_OUTSIDE = str.maketrans('()<>;=,"\\', "[][],:,'/")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def value(text: str) -> str | None:
    """Write a value as a token or a quoted-string; None where it cannot be written."""
    return text if _TOKEN.fullmatch(text) and len(text) <= VALUE_MAXIMUM else _quoted(text)


def dot_atom(text: str) -> str | None:
    """Write a value as a dot-atom (RFC 5322 §3.2.3) that is a token too, or a quoted-string."""
    return value(text) if _DOT_ATOM.fullmatch(text) else _quoted(text)


def address(mailbox: Mailbox) -> str | None:
    """Write a mailbox: without quotes where it is plain, as most readers expect it; None where it cannot be written."""
    text = str(mailbox)
    plain = _PLAIN_LOCAL_PART.fullmatch(mailbox.local_part) and _DOMAIN_NAME.fullmatch(mailbox.domain)
    return text if plain and len(text) <= VALUE_MAXIMUM else value(text)


def domain_name(text: str) -> str | None:
    """Write a domain name or a selector; None for what is neither. It never needs quotes."""
    return text if _DOMAIN_NAME.fullmatch(text) else None


def comment(text: str) -> list[str]:
    """Write a comment, in words to be joined with spaces or folds; no words where nothing is to be said."""
    text = _UNPRINTABLE.sub("?", text.translate(_MEANT_OUTSIDE))
    if len(text) > COMMENT_MAXIMUM:
        text = text[: COMMENT_MAXIMUM - 3] + "..."
    words = text.split()
    return f"({' '.join(words)})".split(" ") if words else []


def _quoted(text: str) -> str | None:
    if len(text) > VALUE_MAXIMUM or not _PRINTABLE.fullmatch(text):
        return None
    return '"' + _QUOTED.sub(r"\\\1", text) + '"'

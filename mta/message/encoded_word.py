"""Encoded words: text in other charsets inside a field (RFC 2047), read as liberally as mail programs read it; pure.

::

    encoded-word = "=?" charset ["*" language] "?" ("B" / "Q") "?" encoded-text "?="     ; RFC 2047 §2, RFC 2231 §5

Also taken, since they are seen in the wild: words without white space around them, inside quotes, longer than 75
octets, with spaces inside, and characters that are split between two words. White space between two encoded words is
dropped (RFC 2047 §6.2).

Charsets are a fixed list: Python's own look-up would try to import a module, and remember, for every name that a
message makes up. Text in an unknown charset, and octets that a charset has not, are read as UTF-8 with U+FFFD in place
of what is none. Everything takes time linear in the text, and gives no more characters than there were octets.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping

# What may not stand in encoded-text is "?": so no octet is looked at by more than one failing match
_WORD = re.compile(rb"=\?([!->@-~]{1,60})\?([BbQq])\?([^?\r\n]*)\?=")
_BLANKS = re.compile(rb"[ \t\r\n]*")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_HEXADECIMAL = re.compile(rb"=([0-9A-Fa-f]{2})")
_REPLACEMENT = "\ufffd"

_SAME = (
    *(f"iso-8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
    *(f"windows-125{part}" for part in range(9)),
    *("us-ascii", "utf-8", "utf-7", "utf-16", "koi8-r", "koi8-u", "macintosh", "tis-620", "gb18030", "big5"),
    *("big5-hkscs", "euc-jp", "euc-kr", "shift_jis", "iso-2022-jp", "iso-2022-jp-2", "iso-2022-kr", "cp437", "cp850"),
    *("cp866", "cp932", "cp936", "cp949", "cp950", "gbk"),
)
_CHARSETS: Mapping[str, str] = {
    **{name: name for name in _SAME},
    "ascii": "utf-8",
    "utf8": "utf-8",
    "latin1": "iso-8859-1",
    "gb2312": "gb18030",  # its superset, which those who say gb2312 often mean
    "ks_c_5601-1987": "cp949",
    "windows-31j": "cp932",
    "x-sjis": "cp932",
    "sjis": "shift_jis",
    "x-gbk": "gbk",
    "windows-874": "cp874",
    "iso-8859-8-i": "iso-8859-8",
    "x-mac-roman": "macintosh",
}
"""What Python calls each charset (IANA's names, and what else is seen)."""


def decoded(value: bytes) -> str:
    """Return the text of an unfolded field value, with its encoded words decoded."""
    return "".join(_pieces(value))


def text_of(octets: bytes, charset: str) -> str:
    """Decode octets whose charset a message names."""
    name = _CHARSETS.get(charset.lower(), "utf-8")
    try:
        return octets.decode(name)
    except UnicodeError:
        return octets.decode("utf-8", "replace")


def _pieces(value: bytes) -> Iterator[str]:
    at = 0
    charset, octets = "", bytearray()
    for found in _WORD.finditer(value):
        between = value[at : found.start()]
        name = found[1].partition(b"*")[0].decode("ascii").lower()
        if octets and (name != charset or not _BLANKS.fullmatch(between)):
            yield text_of(bytes(octets), charset)
            octets.clear()
            # white space stays where it stands beside plain text
            if not _BLANKS.fullmatch(between):
                yield between.decode("utf-8", "replace")
        elif not octets:
            yield between.decode("utf-8", "replace")
        charset = name
        octets += _content(found[2], found[3])
        at = found.end()
    if octets:
        yield text_of(bytes(octets), charset)
    yield value[at:].decode("utf-8", "replace")


def _content(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"Qq":
        return _HEXADECIMAL.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), text.replace(b"_", b" "))
    digits = _NOT_BASE64.sub(b"", text)
    if len(digits) % 4 == 1:
        digits = digits[:-1]  # half an octet of a word that was cut
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))

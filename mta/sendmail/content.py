"""Reading the message: all of it before anything is sent, since the program that writes it may take hours.

Text of this machine has LF, CRLF or, in the output of programs that redraw a line, CR at its line ends: all become
CRLF, which is what a message has (RFC 5321 §2.3.8).
"""

from __future__ import annotations

import re
from typing import BinaryIO

from mta.sendmail.exits import EX_DATAERR, Ended

MESSAGE_MAXIMUM = 256 * 1024 * 1024
"""Octets of a message that are read into memory; the server's own bound (``[limits] message_size``) is 50 MiB."""

_CHUNK = 1024 * 1024
_DOT = re.compile(rb"(?:\A|\n)(\.\r*\n)")
_LINE_END = re.compile(rb"\r*\n|\r")


def read_message(stream: BinaryIO, dot_is_data: bool) -> bytes:
    """Read to the end, or to a line with a dot alone unless `dot_is_data`."""
    content = bytearray()
    while True:
        chunk = stream.readline() if not dot_is_data and stream.isatty() else stream.read(_CHUNK)
        if not chunk:
            break
        content += chunk
        if len(content) > MESSAGE_MAXIMUM:
            raise Ended(f"the message has more than {MESSAGE_MAXIMUM} octets", EX_DATAERR)
        if not dot_is_data and (found := _DOT.search(content, max(0, len(content) - len(chunk) - _OVERLAP))):
            return bytes(content[: found.start(1)])
    if not dot_is_data and (content == b"." or content.endswith(b"\n.")):
        del content[-1:]
    return bytes(content)


_OVERLAP = 3
"""Octets of a line with a dot that may stand before a chunk."""


def canonical(body: bytes) -> bytes:
    """Make all line ends CRLF."""
    return _LINE_END.sub(b"\r\n", body)

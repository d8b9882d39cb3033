"""Content as a Maildir holds it (pure): lines end with LF, as readers expect and Postfix and Dovecot store them.

In transit lines end with CRLF, and a bare CR or LF is nowhere (RFC 5321 §2.3.8): the change can be undone exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def with_local_line_ends(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give `chunks` with LF for each CRLF, also for one that is split between two chunks; one after the other."""
    held = b""
    for chunk in chunks:
        octets = held + chunk if held else chunk
        held = b"\r" if octets.endswith(b"\r") else b""
        yield (octets[:-1] if held else octets).replace(b"\r\n", b"\n")
    if held:
        yield held

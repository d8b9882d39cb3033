"""Reading a Maildir from outside, as an IMAP server would: line ends are LF on disk, CRLF to the reader."""

from __future__ import annotations

import os
from pathlib import Path

from tests.live.peers.process import DEADLINE, eventually


def messages(maildir: Path) -> list[bytes]:
    """Read each message in `new`, oldest name first, with CRLF."""
    try:
        names = sorted(os.listdir(maildir / "new"))
    except FileNotFoundError:
        return []
    stored = [(maildir / "new" / name).read_bytes() for name in names]
    assert not any(b"\r" in octets for octets in stored)  # or CRLF would not be told from LF
    return [octets.replace(b"\n", b"\r\n") for octets in stored]


def arrived(maildir: Path, token: bytes, seconds: float = DEADLINE) -> bytes:
    """Wait for a message in `new` that holds `token`, and read it."""

    def find() -> bytes:
        return next((stored for stored in messages(maildir) if token in stored), b"")

    return eventually(find, f"a message with {token!r} in {maildir}", seconds)

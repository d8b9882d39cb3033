"""Reading a Maildir from outside, as a mail reader would."""

from __future__ import annotations

import os
from pathlib import Path

from tests.live.peers.process import DEADLINE, eventually


def messages(maildir: Path) -> list[bytes]:
    """Read each message in `new`, oldest name first."""
    try:
        return [(maildir / "new" / name).read_bytes() for name in sorted(os.listdir(maildir / "new"))]
    except FileNotFoundError:
        return []


def arrived(maildir: Path, token: bytes, seconds: float = DEADLINE) -> bytes:
    """Wait for a message in `new` that holds `token`, and read it."""

    def find() -> bytes:
        return next((stored for stored in messages(maildir) if token in stored), b"")

    return eventually(find, f"a message with {token!r} in {maildir}", seconds)

"""JSON values over a pipe, each with its length before it in four octets, most significant first (pure).

Both ways are bounded by whoever reads: a frame that says it is longer is a fault, and nothing of it is kept.
"""

from __future__ import annotations

import json

LENGTH = 4
"""Octets of a length."""


class Malformed(Exception):
    """What arrived is no frame, or no JSON."""


def frame(value: object) -> bytes:
    """Write one value. Raises ValueError for numbers that JSON has not."""
    octets = json.dumps(value, allow_nan=False).encode()
    return len(octets).to_bytes(LENGTH, "big") + octets


class Frames:
    """Finds values in octets as they arrive."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._buffer = bytearray()

    def feed(self, octets: bytes) -> list[object]:
        """Take octets, give the values that are whole now. Raises `Malformed`, after which nothing more makes sense."""
        self._buffer += octets
        out = []
        while len(self._buffer) >= LENGTH:
            end = LENGTH + int.from_bytes(self._buffer[:LENGTH], "big")
            if end - LENGTH > self._maximum:
                raise Malformed(f"{end - LENGTH:,} octets, and {self._maximum:,} is the most")
            if len(self._buffer) < end:
                break
            out.append(value(bytes(self._buffer[LENGTH:end])))
            del self._buffer[:end]
        return out


def value(octets: bytes) -> object:
    """Read one JSON text. Raises `Malformed`."""
    try:
        return json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no JSON: {error}") from None

"""Queue ids: short names for messages that sort by time (18 characters: 9 of time, 2 of shard, 7 of chance).

Digits and lower-case letters of Crockford's base 32, so that an id can be read over a telephone, stands in a file
name on any file system, and sorts as text in the order of acceptance. 7 characters of chance are 35 bits within one
millisecond and shard: ids stay unique across a restart in the same second and a clock that steps back.
"""

from __future__ import annotations

from typing import Protocol

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_BASE_32 = dict.fromkeys(range(128), "!") | str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
"""Our digits as those of `int`; what is none of ours becomes what is none of its."""
LENGTH = 18


class Chance(Protocol):
    """The part of `random.Random` that ids, jitter and shuffling need."""

    def getrandbits(self, k: int, /) -> int:
        """Return `k` random bits."""
        ...


def _encode(number: int, pairs: int) -> str:
    out = []
    for shift in range((pairs - 1) * 10, -1, -10):
        out.append(_PAIRS[(number >> shift) & 1023])
    return "".join(out)


def new_queue_id(now: float, shard: int, chance: Chance) -> str:
    """Make the id of a message accepted at wall time `now` (seconds since 1970) in spool shard `shard` (0 to 1023)."""
    # 45 bits of milliseconds, 10 of shard, 35 of chance: 90 bits are 18 characters of 5
    number = (int(now * 1000) & (1 << 45) - 1) << 45 | (shard & 1023) << 35 | chance.getrandbits(35)
    return _encode(number, 9)


def first_queue_id(now: float) -> str:
    """Return what sorts before all ids made at wall time `now` and later, and behind those made before."""
    return _encode((max(0, int(now * 1000)) & (1 << 45) - 1) << 45, 9)


def shard_of(queue_id: str) -> int:
    """Return the number of the spool shard that an id was made in. Raises ValueError for what is no id."""
    return _decode(queue_id, 9, 11)


def accepted_at(queue_id: str) -> float:
    """Return the wall time (seconds since 1970) that an id was made at. Raises ValueError for what is no id."""
    return _decode(queue_id, 0, 9) / 1000


def _decode(queue_id: str, start: int, end: int) -> int:
    if len(queue_id) != LENGTH or not queue_id.isascii():
        raise ValueError(f"not a queue id: {queue_id!r}")
    # read by `int`, which knows base 32 with other letters, once per message
    return int(queue_id[start:end].translate(_BASE_32), 32)

"""The board of several workers: one piece of memory that the parent makes and every worker maps.

It is cut into regions, one for each name that somebody asks for, all of one form: sets of `WAYS` rows. A name belongs
into the set that its hash says, in whichever row of it; where none is free, the row goes that was touched the longest
ago (of shares: one that nobody has anything of; there always is one, but in a flood, and then they go uncounted).

::

    secret   16 octets
    region   SETS × WAYS rows
    row      key      hash of the name, 64 bits; 0: free
             touched  when it was written, monotonic seconds
             shares:  one number for each worker      table:  its fields

Rows are found and written under a record lock of fcntl(2) on the region, which ends with the process that holds it.
It is held for microseconds; who does not get it within `PATIENCE` tries (its holder was stopped) goes on without: a
limit may then be off by one, and nobody waits. A number of a share is written by its worker alone, so reading needs no
lock.

Names with the same hash would count as one: with 2**14 names the chance is 2**-36. The hash is keyed with a secret of
each board, for peers choose names: whoever could tell which share a set would drive a name out with `WAYS` others, and
its guesses at a password with it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

from mta.board.port import Values

WAYS = 8
SETS = 2048
"""2**14 names in a region."""
PATIENCE = 2000
"""Trials to get a lock: some milliseconds."""

_KEY = struct.Struct("=Q")
_SECRET = 16
"""Octets of the secret that the hash of names is keyed with."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a board holds: names of shares, and tables with the number of their fields. The same in all processes."""

    workers: int
    shares: tuple[str, ...]
    tables: Mapping[str, int]

    @property
    def size(self) -> int:
        """Octets of memory."""
        return _SECRET + sum(SETS * WAYS * row.size for row in self.rows().values())

    def rows(self) -> dict[str, struct.Struct]:
        """The form of a row in each region, in the order in which they stand in memory."""
        shares = {name: struct.Struct(f"=Qd{self.workers}I") for name in self.shares}
        return shares | {name: struct.Struct(f"=Qd{fields}d") for name, fields in self.tables.items()}


class SharedBoard:
    """See `mta.board.port.Board`. `seconds` is the monotonic clock, which all processes of a machine share."""

    def __init__(self, descriptor: int, layout: Layout, worker: int, seconds: Callable[[], float]) -> None:
        self.descriptor = descriptor
        self._regions: dict[str, _Region] = {}
        self.layout = layout
        self._worker = worker
        memory = mmap.mmap(descriptor, layout.size)
        start = _SECRET
        secret = memory[:_SECRET]
        for name, row in layout.rows().items():
            self._regions[name] = _Region(memory, descriptor, start, row, seconds, secret)
            start += SETS * WAYS * row.size

    @classmethod
    def make(
        cls, layout: Layout, seconds: Callable[[], float], chance: Callable[[int], bytes] = secrets.token_bytes
    ) -> SharedBoard:
        """Make the memory, for the parent. The descriptor is handed to the workers. `chance` gives octets."""
        descriptor = os.memfd_create("mta-board", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, layout.size)
        os.pwrite(descriptor, chance(_SECRET), 0)
        return cls(descriptor, layout, 0, seconds)

    def shares(self, name: str) -> SharedShares:
        """See `Board`."""
        return SharedShares(self._regions[name], self._worker, self.layout.workers)

    def table(self, name: str) -> SharedTable:
        """See `Board`."""
        return SharedTable(self._regions[name])

    def died(self, worker: int) -> None:
        """Take off what a worker had, which is no more."""
        for name in self.layout.shares:
            SharedShares(self._regions[name], worker, self.layout.workers).clear()


class _Region:
    """Rows found by name."""

    def __init__(
        self,
        memory: mmap.mmap,
        descriptor: int,
        start: int,
        row: struct.Struct,
        seconds: Callable[[], float],
        secret: bytes,
    ) -> None:
        self.memory = memory
        self.start = start
        self.row = row
        self.seconds = seconds
        self._descriptor = descriptor
        self._secret = secret
        self._held = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Lock the region; within the same process more than once is as once."""
        if self._held:
            yield
            return
        self._held = True
        try:
            locked = self._lock()
            yield
            if locked:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self.start)
        finally:
            self._held = False

    def _lock(self) -> bool:
        for _ in range(PATIENCE):
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self.start)
            except BlockingIOError:
                os.sched_yield()
            else:
                return True
        return False

    def find(self, name: str) -> int | None:
        """The offset of the row of a name."""
        key = self._hash(name)
        for offset in self._set(key):
            if _KEY.unpack_from(self.memory, offset)[0] == key:
                return offset
        return None

    def rows(self, name: str) -> Iterator[tuple[int, tuple[float, ...]]]:
        """Offset and content of each row that a name may stand in."""
        for offset in self._set(self._hash(name)):
            yield offset, self.row.unpack_from(self.memory, offset)

    def all(self) -> Iterator[int]:
        """The offsets of all rows."""
        return iter(range(self.start, self.start + SETS * WAYS * self.row.size, self.row.size))

    def write(self, offset: int, name: str, *values: float) -> None:
        """Give a row to a name."""
        self.row.pack_into(self.memory, offset, self._hash(name), self.seconds(), *values)

    def _hash(self, name: str) -> int:
        octets = name.encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(octets, digest_size=_KEY.size, key=self._secret).digest()) or 1

    def _set(self, key: int) -> range:
        first = self.start + key % SETS * WAYS * self.row.size
        return range(first, first + WAYS * self.row.size, self.row.size)


class SharedShares:
    """See `mta.board.port.Shares`."""

    def __init__(self, region: _Region, worker: int, workers: int) -> None:
        self._region = region
        self._worker = worker
        self._workers = workers
        self._cell = struct.Struct("=I")
        self._cells = struct.Struct(f"={workers}I")
        self._own: dict[str, int] = {}
        """The row of each name that we have something of: it cannot become another's meanwhile."""

    def put(self, name: str, own: int) -> None:
        """See `Shares`."""
        offset = self._own.get(name)
        if offset is not None:
            self._write(offset, own)
            if not own:
                del self._own[name]
        elif own:
            with self._region.hold():
                offset = self._room(name)
                if offset is not None:
                    self._own[name] = offset
                    self._write(offset, own)

    def others(self, name: str) -> Sequence[int]:
        """See `Shares`."""
        offset = self._own.get(name)
        if offset is None:
            offset = self._region.find(name)
            if offset is None:
                return ()
        cells = self._cells.unpack_from(self._region.memory, offset + 16)
        return cells[: self._worker] + cells[self._worker + 1 :]

    def clear(self) -> None:
        """Have nothing of anything."""
        for offset in self._region.all():
            self._write(offset, 0)
        self._own.clear()

    def _write(self, offset: int, own: int) -> None:
        self._cell.pack_into(self._region.memory, offset + 16 + 4 * self._worker, own)

    def _room(self, name: str) -> int | None:
        """The row of a name, given to it if need be; None where others have something of every row there is."""
        offset = self._region.find(name)
        if offset is not None:
            return offset
        for offset, (_, _, *cells) in self._region.rows(name):
            if not any(cells):
                self._region.write(offset, name, *([0] * self._workers))
                return offset
        return None


class SharedTable:
    """See `mta.board.port.Table`."""

    def __init__(self, region: _Region) -> None:
        self._region = region
        self.hold = region.hold

    def get(self, name: str) -> Values | None:
        """See `Table`."""
        offset = self._region.find(name)
        return None if offset is None else self._region.row.unpack_from(self._region.memory, offset)[2:]

    def put(self, name: str, values: Values) -> None:
        """See `Table`."""
        with self._region.hold():
            offset = self._region.find(name)
            if offset is None:
                rows = self._region.rows(name)
                offset = min(rows, key=lambda row: (row[1][0] != 0, row[1][1]))[0]
            self._region.write(offset, name, *values)

    def forget(self, name: str) -> None:
        """See `Table`."""
        with self._region.hold():
            offset = self._region.find(name)
            if offset is not None:
                self._region.memory[offset : offset + self._region.row.size] = bytes(self._region.row.size)

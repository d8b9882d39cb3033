"""Content of the queue that is in a file, and what can be asked of content wherever it is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.disk.posix import PosixDisk
from mta.message.header import HEAD_MAXIMUM, Head, find_head
from mta.spool.port import PIECE, StagedContent, StoredContent, head_of, pieces_of, taken_out
from tests.doubles.disk import FaultyDisk, SimulatedDisk
from tests.doubles.spool import whole

OCTETS = b"A: b\r\nC: d\r\n\r\n" + b"12345678\r\n" * 20_000


def stored(octets: bytes, at: int = 0, disk: SimulatedDisk | FaultyDisk | None = None) -> StoredContent:
    """Content whose file begins at octet `at`."""
    disk = disk or SimulatedDisk(["/spool"])
    disk.write_new("/spool/0a", [octets[at:]]).close()
    return StoredContent(octets[:at], "/spool/0a", len(octets), disk)


@pytest.mark.parametrize("at", [0, 1, 12, 14, PIECE, len(OCTETS) - PIECE, len(OCTETS) - PIECE - 1, len(OCTETS)])
def test_pieces_are_the_content_again_and_again(at: int) -> None:
    """However much of it stands before the file: in pieces of at most 64 KiB, none of them empty."""
    content = stored(OCTETS, at)
    assert len(content) == len(OCTETS)
    for _ in range(2):
        pieces = list(content)
        assert b"".join(pieces) == OCTETS
        assert 0 < min(map(len, pieces)) <= max(map(len, pieces)) <= PIECE
    assert whole(OCTETS) == whole(content) == OCTETS
    assert pieces_of(content) is content


@pytest.mark.parametrize("more", [b"", b"x", b"x" * PIECE])
def test_a_file_of_another_size_gives_nothing(more: bytes) -> None:
    """Torn, or longer than it must be: EIO that names the file, before the first octet."""
    disk = SimulatedDisk(["/spool"])
    disk.write_new("/spool/0a", [b"rest" + more]).close()
    content = StoredContent(b"head", "/spool/0a", 8 + (more == b""), disk)
    with pytest.raises(OSError, match="torn") as caught:
        next(iter(content))
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, "/spool/0a")


def test_a_file_that_vanishes_gives_nothing() -> None:
    """What was there when it was asked for may be gone when it is read."""
    content = stored(OCTETS, 14)
    content.disk.unlink(content.path)
    with pytest.raises(FileNotFoundError):
        next(iter(content))
    with pytest.raises(FileNotFoundError):
        head_of(content)


def test_a_file_that_shrinks_while_it_is_read_has_no_end(tmp_path: Path) -> None:
    """Fewer octets than were promised are an error at the end, never an end."""
    path = tmp_path / "0a"
    path.write_bytes(OCTETS)
    given_out = iter(StoredContent(b"", str(path), len(OCTETS), PosixDisk()))
    next(given_out)
    os.truncate(path, PIECE + 1)
    with pytest.raises(OSError, match="torn while it was read"):
        list(given_out)


def test_a_reader_that_stops_keeps_no_descriptor(tmp_path: Path) -> None:
    """A host that hangs up in the midst of it leaves no open file."""
    path = tmp_path / "0a"
    path.write_bytes(OCTETS)
    before = len(os.listdir("/proc/self/fd"))
    pieces = iter(StoredContent(b"head", str(path), len(OCTETS) + 4, PosixDisk()))
    next(pieces)
    next(pieces)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del pieces
    assert len(os.listdir("/proc/self/fd")) == before


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"A: b", b" ", b"x" * (PIECE - 3)]), max_size=6), st.data())
def test_the_head_is_found_as_in_memory(parts: list[bytes], data: st.DataObject) -> None:
    """Wherever the file begins and a piece ends, also between the CR and LF of an empty line."""
    octets = b"".join(parts)
    at = data.draw(st.integers(0, len(octets)))
    if octets:
        assert head_of(stored(octets, at)) == head_of(octets) == find_head(octets)


def test_a_head_without_end_is_not_read_to_its_end() -> None:
    """Of content that is all head no more is read than a head may have."""
    octets = b"A: b\r\n" * (HEAD_MAXIMUM // 2)
    found = head_of(stored(octets))
    assert found == Head(octets[:HEAD_MAXIMUM], whole=False)


def test_a_head_costs_one_piece() -> None:
    """Most often it ends in the first piece of the file; no other is asked for."""
    asked = []

    class Telling(SimulatedDisk):
        def read_pieces(self, path: str, octets: int):  # type: ignore[no-untyped-def]  # as it is there
            for piece in super().read_pieces(path, octets):
                asked.append(len(piece))
                yield piece

    content = stored(OCTETS, 12, Telling(["/spool"]))
    assert head_of(content).octets == OCTETS[:12]
    assert asked == [PIECE]


def in_staging() -> tuple[FaultyDisk, StagedContent]:
    """A disk, and a staged message of `OCTETS` on it."""
    disk = FaultyDisk(SimulatedDisk(["/staging"]))
    return disk, StagedContent("/staging/0a", disk.write_new("/staging/0a", [OCTETS[12:]]), OCTETS[:12])


def test_what_is_taken_out_of_staging_is_gone_with_its_last_piece() -> None:
    """Not before: until then a failure leaves it to whoever staged it."""
    disk, content = in_staging()
    pieces = taken_out(content, len(OCTETS), disk)
    assert disk.exists(content.path), "nothing happens before it is asked for"
    taken = b""
    while len(taken) < len(OCTETS):
        assert disk.exists(content.path)
        taken += next(pieces)
    assert list(pieces) == []
    assert taken == OCTETS
    assert not disk.exists(content.path)


@pytest.mark.parametrize("call", ["size", "read", "check"])
def test_what_cannot_be_taken_out_stays(call: str) -> None:
    """A write error that the kernel met after all counts, though every octet could be read."""
    disk, content = in_staging()
    disk.fail[call] = OSError(errno.EIO, "injected")
    with pytest.raises(OSError, match="injected"):
        list(taken_out(content, len(OCTETS), disk))
    assert disk.exists(content.path)

"""The clock and the disk: what software can know of them, and what it says that it cannot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mta.service.check.clock import Kernel, check_clock, kernel_clock
from mta.service.check.disk import check_disk, median_sync
from mta.service.check.finding import Finding, Severity
from mta.settings.sections import Settings

NOW = 1_800_000_000.0
GIB = 2**30


def clock(kernel: Kernel | None = Kernel(True, 0.01), **written: float) -> list[Finding]:  # noqa: B008
    """What is found at `NOW`, with files that were written so many seconds from then."""

    def stat(path: str) -> Any:
        if path == "gone":
            raise FileNotFoundError(2, "gone", path)
        return SimpleNamespace(st_mtime=NOW + written[path])

    return check_clock(NOW, written, lambda: kernel, stat)


def test_a_clock_that_is_kept_right() -> None:
    """Nothing to say."""
    assert clock(history=-5.0, settings=-1e6) == []


@pytest.mark.parametrize(
    ("kernel", "severity", "what"),
    [
        (Kernel(False, 16.0), Severity.WARNING, "nobody keeps the clock right"),
        (Kernel(True, 8.0), Severity.WARNING, "the clock may be wrong by 8 s"),
        (None, Severity.NOTE, "the kernel does not say"),
    ],
)
def test_what_the_kernel_says(kernel: Kernel | None, severity: Severity, what: str) -> None:
    """Not synchronised, or badly, is a warning; not to know is said."""
    (finding,) = clock(kernel)
    assert finding.severity is severity
    assert finding.what.startswith(what)


def test_files_from_the_future() -> None:
    """A clock behind what it was: the file that shows it is named. A minute is nobody's fault."""
    (finding,) = clock(history=7200.0, settings=-5.0, gone=0.0)
    assert finding.severity is Severity.ERROR
    assert finding.what == "the clock is behind, or was ahead: history was written 2.0 hours from now"
    assert clock(history=50.0) == []


def test_the_kernel_is_asked_without_changing_anything() -> None:
    """On Linux it says something sensible, or nothing where that is not allowed."""
    kernel = kernel_clock()
    assert kernel is None or 0 <= kernel.error < 1e6


# The disk


MOUNTS = """\
36 35 8:1 / / rw - ext4 /dev/sda1 rw
37 36 0:50 / /run rw,nosuid shared:5 - tmpfs tmpfs rw
38 36 0:51 / /srv rw - nfs4 host:/srv rw
39 36 0:52 / /layer rw - overlay overlay rw
torn line
"""


class Volume:
    """Where `state` and `mail` lie, and what that is like."""

    def __init__(self) -> None:
        self.octets, self.inodes, self.files = 100 * GIB, 10**6, 2 * 10**6
        self.device = os.makedev(8, 1)
        self.seconds = 2e-3
        self.settings = Settings("mail.example.org", state="/state", mail="/mail")
        self.fails = ""

    def measure(self, path: str) -> float:
        """The time of a sync."""
        if self.fails:
            raise PermissionError(13, self.fails, path)
        return self.seconds

    def look(self) -> list[Finding]:
        """What is found."""
        room: Any = SimpleNamespace(
            f_bavail=self.octets // 4096, f_frsize=4096, f_favail=self.inodes, f_files=self.files
        )
        status: Any = SimpleNamespace(st_dev=self.device)
        return check_disk(
            self.settings, lambda: 0.0, lambda path: room, lambda path: status, lambda: MOUNTS, self.measure
        )


@pytest.fixture
def volume() -> Volume:
    """One with much room, on ext4."""
    return Volume()


def test_a_good_disk_is_measured_once(volume: Volume) -> None:
    """State and mail on one volume are one note, which says what cannot be known."""
    (finding,) = volume.look()
    assert finding.severity is Severity.NOTE
    assert finding.what == "a sync in /state (ext4) takes 2.0 ms, the median of 15"
    assert "no software can know" in finding.reason.text


@pytest.mark.parametrize(
    ("seconds", "severity", "why"),
    [
        (2e-6, Severity.ERROR, "probably lost at a power cut"),
        (100e-6, Severity.NOTE, "whether yours is such a one no software can know"),
        (5e-3, Severity.NOTE, "plausible"),
        (0.2, Severity.WARNING, "acknowledged after one"),
    ],
)
def test_a_sync_is_judged_by_what_can_be(volume: Volume, seconds: float, severity: Severity, why: str) -> None:
    """Faster than anything that keeps data is an error; very slow is a warning."""
    volume.seconds = seconds
    (finding,) = volume.look()
    assert finding.severity is severity
    assert why in finding.reason.text


def test_memory_is_no_disk(volume: Volume) -> None:
    """A file system in memory is known by its name, however long a sync takes."""
    volume.device = os.makedev(0, 50)
    (finding,) = volume.look()
    assert (finding.severity, finding.what) == (Severity.ERROR, "/state lies in memory")


@pytest.mark.parametrize(
    ("minor", "severity", "what"),
    [
        (51, Severity.ERROR, "/state lies on a file server (nfs4)"),
        (52, Severity.WARNING, "/state is a part of a container (overlay)"),
    ],
)
def test_places_that_are_no_disk_of_ours(volume: Volume, minor: int, severity: Severity, what: str) -> None:
    """SQLite needs a local disk, and what is in a container goes with it; a sync is measured all the same."""
    volume.device = os.makedev(0, minor)
    first, second = volume.look()
    assert (first.severity, first.what) == (severity, what)
    assert second.severity is Severity.NOTE


def test_who_may_not_write_cannot_measure(volume: Volume) -> None:
    """It is said, and is nobody's fault."""
    volume.fails = "Permission denied"
    (finding,) = volume.look()
    assert finding.severity is Severity.NOTE


@pytest.mark.parametrize(
    ("octets", "inodes", "severity"),
    [
        (99 * 2**20, 10**6, Severity.ERROR),
        (250 * 2**20, 10**6, Severity.WARNING),
        (GIB, 900, Severity.ERROR),
        (GIB, 2500, Severity.WARNING),
    ],
)
def test_room_is_judged_by_the_reserve(volume: Volume, octets: int, inodes: int, severity: Severity) -> None:
    """Below [spool] reserve mail is refused: an error; below three times that a warning."""
    volume.octets, volume.inodes = octets, inodes
    assert [finding.severity for finding in volume.look()] == [severity, Severity.NOTE]


def test_a_file_system_without_a_number_of_inodes(volume: Volume) -> None:
    """Btrfs says 0 of 0, and has room."""
    volume.inodes = volume.files = 0
    assert [finding.severity for finding in volume.look()] == [Severity.NOTE]


def test_the_measured_median(tmp_path: Path) -> None:
    """The middle one of the times counts, and nothing stays on disk."""
    ticks = iter(range(1000))

    def uneven() -> Callable[[], float]:
        total = 0.0

        def seconds() -> float:
            nonlocal total
            number = next(ticks)
            total += 0.001 if number % 2 == 0 else (5.0 if number < 8 else 0.003)
            return total

        return seconds

    assert median_sync(str(tmp_path), uneven()) == pytest.approx(0.003)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_measurement_left_is_no_hindrance(tmp_path: Path) -> None:
    """A file of the same process number is removed."""
    (tmp_path / f".check-{os.getpid()}").write_text("")
    median_sync(str(tmp_path), lambda: 0.0)
    assert list(tmp_path.iterdir()) == []

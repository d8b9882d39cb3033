"""The disk: space, inodes, and what it costs to put something on stable storage.

A message is acknowledged after a sync, so a sync that does nothing loses mail at a power cut. Software cannot see
that: a disk, a virtual machine or a file server may say "done" and keep it in memory. What it can see is a sync that is
faster than anything that keeps data can be, and a file system that is known to lie in memory. Everything else is said
as it was measured, with what it may mean.

=====================  ====================================================================================
median of a sync       what answers like that
=====================  ====================================================================================
below 30 µs            memory: a ram disk, ``eatmydata``, a virtual disk that ignores flushes
30 to 500 µs           flash with power-loss protection, or a controller or host whose cache has a battery –
                       or one that has none
0.5 to 50 ms           flash without, or a turning disk: they write before they say so
above 50 ms            a disk that is overloaded, failing or far away
=====================  ====================================================================================
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Callable

from mta.service.check.finding import Finding, error, note, warning
from mta.service.check.server import Stat
from mta.settings.sections import Settings
from mta.settings.units import octets_text

DISK = "disk"
_WRITES = 15
"""Syncs that are measured: an odd number, for the median, and below a second on a turning disk."""
_OCTETS = b"\0" * 4096
_IMPLAUSIBLE = 30e-6
_PROTECTED = 500e-6
_SLOW = 50e-3
"""Seconds; see above."""
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "fuse.glusterfs"})
_LAYERED = frozenset({"overlay", "aufs"})
"""Of containers: what is written goes with the container."""

StatVfs = Callable[[str], os.statvfs_result]
Measure = Callable[[str], float]
"""The seconds that a sync in a directory takes, the median. Raises OSError."""


def check_disk(
    settings: Settings,
    seconds: Callable[[], float],
    statvfs: StatVfs = os.statvfs,
    stat: Stat = os.stat,
    mounts: Callable[[], str] | None = None,
    measure: Measure | None = None,
) -> list[Finding]:
    """Look at the volumes of `state` and `mail`; `seconds` is a monotonic clock."""
    found: list[Finding] = []
    kinds = _kinds((mounts or _mounts)())
    volumes = set()
    for path in (settings.state, settings.mail):
        try:
            volume = stat(path).st_dev
            room = statvfs(path)
        except OSError:
            continue  # the check of files tells of it
        if volume in volumes:
            continue
        volumes.add(volume)
        kind = kinds.get(f"{os.major(volume)}:{os.minor(volume)}", "")
        found += _room(path, room, settings)
        if kind in _IN_MEMORY:
            why = f"it is a {kind}: a restart of the machine loses what is there"
            found.append(error(DISK, f"{path} lies in memory", why, path, "name a place on a disk"))
            continue
        if kind in _REMOTE and path == settings.state:
            why = "the databases need locks and shared memory, which no network gives (sqlite.org/wal.html)"
            found.append(
                error(DISK, f"{path} lies on a file server ({kind})", why, path, "name a place on a local disk")
            )
        if kind in _LAYERED:
            why = "a new container of the same image begins without it"
            mend = "mount a volume of the host there"
            found.append(warning(DISK, f"{path} is a part of a container ({kind})", why, path, mend))
        found += _sync(path, kind, measure or (lambda path: median_sync(path, seconds)))
    return found


def _room(path: str, room: os.statvfs_result, settings: Settings) -> list[Finding]:
    octets, reserve = room.f_bavail * room.f_frsize, settings.spool.reserve
    inodes, kept = room.f_favail, settings.spool.reserve_inodes
    found = []
    left = f"{octets_text(octets - octets % 2**20)} are free"
    if octets < reserve:
        why = f"below [spool] reserve, {octets_text(reserve)}: mail is refused with 452 4.3.1"
        found.append(error(DISK, f"{path}: {left}", why, path, "make room, or enlarge the volume"))
    elif octets < 3 * reserve:
        why = f"at {octets_text(reserve)}, [spool] reserve, mail is refused with 452 4.3.1"
        found.append(warning(DISK, f"{path}: {left}", why, path, "make room, or enlarge the volume"))
    if room.f_files and inodes < 3 * kept:  # a file system without a fixed number of inodes says 0
        severity = error if inodes < kept else warning
        why = f"at {kept}, [spool] reserve_inodes, mail is refused with 452 4.3.1"
        found.append(severity(DISK, f"{path}: {inodes} inodes are free", why, path, "remove files"))
    return found


def _sync(path: str, kind: str, measure: Measure) -> list[Finding]:
    try:
        median = measure(path)
    except OSError as problem:
        why = f"{problem.strerror or problem}: only who may write there can measure it"
        return [note(DISK, f"what a sync in {path} costs is not known", why, path)]
    shown = f"{median * 1e6:.0f} µs" if median < 1e-3 else f"{median * 1e3:.1f} ms"
    what = f"a sync in {path} ({kind or 'unknown file system'}) takes {shown}, the median of {_WRITES}"
    if median < _IMPLAUSIBLE:
        why = "nothing that keeps data is so fast: mail that was acknowledged is probably lost at a power cut"
        mend = "find out what ignores fsync: a ram disk, eatmydata, or the cache mode of the virtual disk"
        return [error(DISK, what, why, path, mend)]
    if median < _PROTECTED:
        why = (
            "only storage whose cache survives a power cut may be so fast, flash with capacitors or a controller with "
            "a battery; whether yours is such a one no software can know"
        )
        return [note(DISK, what, why, path)]
    if median > _SLOW:
        why = "each group of messages is acknowledged after one"
        return [warning(DISK, what, why, path, "see what else the disk does, and its health: smartctl -a")]
    return [note(DISK, what, "plausible; whether it survives a power cut no software can know", path)]


def median_sync(path: str, seconds: Callable[[], float]) -> float:
    """Write a little and sync it, some times; the median in seconds. What is written is removed. Raises OSError."""
    file = f"{path}/.check-{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(file)  # of a process of that number which was killed
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    times = []
    try:
        for _ in range(_WRITES):
            os.write(descriptor, _OCTETS)
            start = seconds()
            os.fsync(descriptor)
            times.append(seconds() - start)
    finally:
        os.close(descriptor)
        os.unlink(file)
    return statistics.median(times)


def _mounts() -> str:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _kinds(mountinfo: str) -> dict[str, str]:
    """The kind of file system of each device number, from proc_pid_mountinfo(5)."""
    found = {}
    for line in mountinfo.splitlines():
        mount, _, rest = line.partition(" - ")
        words = mount.split()
        if len(words) > 2 and rest:
            found[words[2]] = rest.split()[0]
    return found

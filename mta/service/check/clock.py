"""The clock: whether somebody keeps it right.

Whether it *is* right no program on this machine can know. The kernel knows whether something disciplines it
(adjtimex(2)), and files that were written later than now show that it was once ahead, or is behind now.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mta.service.check.finding import Finding, error, note, warning
from mta.service.check.server import Stat

CLOCK = "clock"
_STA_UNSYNC = 0x0040
"""The clock is not synchronised (timex.h)."""
_TIMESYNC = "/run/systemd/timesync/synchronized"
"""There once systemd-timesyncd has set the clock."""
_SLACK_SECONDS = 60.0
"""A file server may be so much ahead."""
_LARGE_SECONDS = 1.0
"""Of error that the kernel thinks possible. Greylisting and TLS are not so particular; logs of two servers are."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel says of its clock."""

    synchronised: bool
    error: float
    """Seconds that it may be wrong by, if it is synchronised."""


class _Timex(ctypes.Structure):
    # the head of struct timex (adjtimex(2)); what follows is the kernel's
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def kernel_clock() -> Kernel | None:
    """Ask the kernel, which changes nothing; None where it does not say.

    A service without the right to set clocks may be refused (systemd's ``ProtectClock=``): then systemd-timesyncd is
    believed.
    """
    values = _Timex()
    try:
        refused = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(values)) < 0
    except (OSError, AttributeError):
        refused = True
    if refused:
        return Kernel(True, 0.0) if os.path.exists(_TIMESYNC) else None
    return Kernel(not values.status & _STA_UNSYNC, values.maxerror / 1e6)


def check_clock(
    now: float, files: Iterable[str], kernel: Callable[[], Kernel | None] = kernel_clock, stat: Stat = os.stat
) -> list[Finding]:
    """Judge wall time `now` by the kernel, and by when `files` of ours were written."""
    found: list[Finding] = []
    times = {}
    for file in files:
        try:
            times[file] = stat(file).st_mtime
        except OSError:
            continue
    latest = max(times, key=lambda file: times[file], default="")
    if latest and times[latest] > now + _SLACK_SECONDS:
        ahead = (times[latest] - now) / 3600
        what = f"the clock is behind, or was ahead: {latest} was written {ahead:.1f} hours from now"
        why = "times in mail, certificates, retries and what is kept how long depend on it"
        found.append(error(CLOCK, what, why, latest, "timedatectl set-ntp true"))
    state = kernel()
    if state is None:
        why = "nothing is known of it then; look at it yourself"
        found.append(note(CLOCK, "the kernel does not say whether the clock is synchronised", why, "adjtimex(2)"))
    elif not state.synchronised:
        why = "it drifts by seconds a day; times in mail, certificates and retries depend on it"
        mend = "timedatectl set-ntp true, or install chrony; in a container that is the host's to do"
        found.append(warning(CLOCK, "nobody keeps the clock right", why, "adjtimex(2)", mend))
    elif state.error > _LARGE_SECONDS:
        what = f"the clock may be wrong by {state.error:.0f} s"
        why = "the kernel says so; whatever keeps it right has lost its time servers"
        found.append(warning(CLOCK, what, why, "adjtimex(2)", "chronyc sources, or timedatectl timesync-status"))
    return found

"""What systemd does for a service, where systemd does not run: hands sockets over, listens, confines.

Run as a program it is the child that becomes the server, ``python systemd.py JSON COMMAND…`` (see `command`): it puts
the sockets behind one another from descriptor 3 on, says so in the environment, denies what the unit denies, and
becomes the command. It imports nothing of the project.
"""

from __future__ import annotations

import configparser
import ctypes
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

UNITS = Path(__file__).parents[3] / "systemd"

_PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
_ALLOW, _ERRNO_EPERM = 0x7FFF0000, 0x00050001


class Unit(configparser.RawConfigParser):
    """A unit file; a key may stand several times, then its values are lines."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",), dict_type=_Table)
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read(UNITS / name)


class _Table(dict[str, Any]):
    """Adds to a value that is there."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and key in self:
            value = self[key] + value
        super().__setitem__(key, value)


def allowed_calls(unit: Unit) -> list[str]:
    """The system calls that the unit allows, its groups resolved by systemd-analyze."""
    groups: dict[str, list[str]] = {}
    said = subprocess.run(["systemd-analyze", "syscall-filter"], check=True, capture_output=True, text=True).stdout
    for line in said.splitlines():
        word = line.strip()
        if line.startswith("@"):
            members = groups[word] = []
        elif re.fullmatch(r"@?[a-z0-9_-]+", word):
            members.append(word)

    def calls(name: str) -> set[str]:
        return {name} if not name.startswith("@") else {call for each in groups[name] for call in calls(each)}

    allowed: set[str] = set()
    for line in unit["Service"]["SystemCallFilter"].splitlines():
        named = {call for name in line.lstrip("~").split() for call in calls(name)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return sorted(allowed)


class Notified:
    """The socket that the service tells how it is."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}")
        self._socket.settimeout(30)

    def next(self) -> str:
        """Wait for the next word that is neither a sign of life nor a status."""
        while True:
            said = self._socket.recv(4096).decode()
            if not said.startswith(("WATCHDOG=", "STATUS=")):
                return said

    def next_of(self, kind: str) -> str:
        """Wait for the next word of a kind."""
        while not (said := self._socket.recv(4096).decode()).startswith(f"{kind}="):
            pass
        return said

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


def command(names: Sequence[str], sockets: Sequence[int], allowed: Sequence[str], argv: Sequence[str]) -> list[str]:
    """The command that becomes `argv` with these sockets, by name; confined where there is a list of what it may."""
    return [sys.executable, __file__, json.dumps({"names": names, "sockets": sockets, "allowed": allowed}), *argv]


def confine(allowed: Sequence[str]) -> None:
    """Deny all other system calls with EPERM, and memory that is both written and run."""
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_ERRNO_EPERM))
    for name in allowed:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert seccomp.seccomp_rule_add(context, _ALLOW, number, 0) == 0, name
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    libc.prctl(_PR_SET_MDWE, _MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)  # from Linux 6.3 on
    assert seccomp.seccomp_load(context) == 0


def become(what: dict[str, Any], argv: Sequence[str]) -> None:
    """Put the sockets in their places, and become the command."""
    spare = [os.dup2(descriptor, 100 + number) for number, descriptor in enumerate(what["sockets"])]
    for number, descriptor in enumerate(spare):
        os.dup2(descriptor, 3 + number)
        os.close(descriptor)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(spare))
    os.environ["LISTEN_FDNAMES"] = ":".join(what["names"])
    if what["allowed"]:
        confine(what["allowed"])
    os.execv(argv[0], list(argv))


if __name__ == "__main__":
    become(json.loads(sys.argv[1]), sys.argv[2:])

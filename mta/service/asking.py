"""The operator's end of the control socket: one request, one answer (`mta.service.control` is the daemon's).

It blocks, and it needs no Twisted: a command that asks is not to wait for that to be imported.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

_CLIENT_TIMEOUT = 60.0
"""Seconds that a command waits for its answer."""

_PATH_MAXIMUM = 107
"""Octets of a socket's path (unix(7): 108 with the NUL)."""


class CommandRefused(Exception):
    """The daemon says no; the text is for the operator."""


def socket_path(state: str) -> str:
    """The path of the control socket of a daemon with this state directory. Raises ValueError where it is too long."""
    path = f"{state}/control.sock"
    octets = len(os.fsencode(path))
    if octets > _PATH_MAXIMUM:
        raise ValueError(
            f"the path of the control socket, {path}, has {octets} octets, and {_PATH_MAXIMUM} is the most that the "
            "kernel takes (unix(7)): give `state` a shorter path"
        )
    return path


def ask(path: str, command: str, **arguments: object) -> dict[str, Any]:
    """Send one command from outside the daemon and wait for the answer.

    Raises OSError where nobody listens, CommandRefused where the daemon says no.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CLIENT_TIMEOUT)
        connection.connect(path)
        connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        with connection.makefile("rb") as answers:
            answer: dict[str, Any] = json.loads(answers.readline() or b'{"ok": false, "error": "no answer"}')
    if not answer.pop("ok"):
        raise CommandRefused(answer.get("error", "no reason given"))
    return answer

"""The control socket: how the operator's commands reach the daemon (``{state}/control.sock``, mode 0600).

One request is a line of JSON, ``{"command": "reload"}``; its answer another, ``{"ok": true, …}`` or ``{"ok": false,
"error": "…"}``. Who may open the socket may do everything with the queue; the directory and mode decide that. A command
finds in the request, as ``operator``, the name of the user at the other end, as the kernel knows it (SO_PEERCRED).

The operator's end is `mta.service.asking`, which needs no Twisted.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet import defer, protocol
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from mta.disk.owner import user_name
from mta.observe.journal import Journal
from mta.service.asking import CommandRefused as CommandRefused
from mta.service.asking import ask as ask
from mta.service.asking import socket_path as socket_path

Command = Callable[[Mapping[str, Any]], dict[str, Any] | defer.Deferred[dict[str, Any]]]
"""Carries out a request, now or later; its result goes into the answer. Raises CommandRefused."""

_REQUEST_MAXIMUM = 8 * 1024 * 1024
"""Octets of a request: the content that `mta explain` is to judge stands in it, in base64."""

_CREDENTIALS = struct.Struct("3i")
"""``struct ucred``: process, user, group (unix(7))."""


def carry_out(
    commands: Mapping[str, Command], request: Mapping[str, Any], journal: Journal
) -> defer.Deferred[dict[str, Any]]:
    """Carry out a request; gives its answer, whatever comes of it. A bug of ours is noted, and told."""

    def failed(failure: Failure) -> dict[str, Any]:
        error = failure.value
        assert error is not None, "a Failure holds an exception"
        if isinstance(error, CommandRefused):
            return {"ok": False, "error": str(error)}
        journal.fault("control", error)
        return {"ok": False, "error": f"internal error: {error}"}

    name = request.get("command")
    command = commands.get(name) if isinstance(name, str) else None
    if command is None:
        known = ", ".join(sorted(commands))
        return defer.succeed({"ok": False, "error": f'a request is {{"command": …}} with one of: {known}'})
    done = defer.maybeDeferred(command, request)
    return done.addCallbacks(lambda result: {"ok": True, **result}, failed)


class ControlProtocol(LineOnlyReceiver):
    """One operator."""

    delimiter = b"\n"
    MAX_LENGTH = _REQUEST_MAXIMUM

    def __init__(self, commands: Mapping[str, Command], journal: Journal) -> None:
        self._commands = commands
        self._journal = journal

    def lineReceived(self, line: bytes) -> None:
        """Carry out one request."""
        try:
            request = dict(json.loads(line))
        except (ValueError, TypeError, RecursionError):
            request = {}
        request["operator"] = self._operator()
        carry_out(self._commands, request, self._journal).addCallback(self._answer)

    def _operator(self) -> str:
        handle = getattr(self.transport, "getHandle", None)
        if handle is None:
            return ""
        credentials = handle().getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return user_name(_CREDENTIALS.unpack(credentials)[1])

    def _answer(self, value: dict[str, Any]) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(value).encode() + b"\n")


class ControlFactory(protocol.ServerFactory):
    """Listens for operators."""

    noisy = False

    def __init__(self, commands: Mapping[str, Command], journal: Journal) -> None:
        self._commands = commands
        self._journal = journal

    def buildProtocol(self, addr: object) -> ControlProtocol:
        """Take an operator."""
        return ControlProtocol(self._commands, self._journal)

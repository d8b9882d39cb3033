"""What parent and worker process say to each other: lines of JSON over a pair of sockets, both ways alike.

::

    {"ask": 7, "command": "queue-list", …}      wants an answer
    {"answer": 7, "ok": true, …}                is one; ``{"ok": false, "error": "…"}``: refused
    {"command": "remember", …}                  wants none

Who is asked answers in whatever order it comes to ends. When the other end is gone, all that was asked of it fails.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet import defer, protocol
from twisted.internet.error import ConnectionLost
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from mta.observe.journal import Journal
from mta.service.control import Command, CommandRefused, carry_out

_LINE_MAXIMUM = 64 * 1024 * 1024
"""Octets of a line: a page of the queue with a thousand recipients a message."""


class Link(LineOnlyReceiver):
    """One end. `commands` is what the other may ask of this one; `lost` is called when the other end is gone."""

    delimiter = b"\n"
    MAX_LENGTH = _LINE_MAXIMUM

    def __init__(self, commands: Mapping[str, Command], journal: Journal, lost: Callable[[], None]) -> None:
        self.commands = commands
        self._journal = journal
        self._lost = lost
        self._gone = False
        self._numbers = itertools.count()
        self._asked: dict[int, defer.Deferred[dict[str, Any]]] = {}

    def ask(self, command: str, /, **arguments: object) -> defer.Deferred[dict[str, Any]]:
        """Ask for a command, and wait for what comes of it: CommandRefused, ConnectionLost, or its result."""
        if self._gone:
            return defer.fail(ConnectionLost())
        number = next(self._numbers)
        answer = self._asked[number] = defer.Deferred()
        self._send({"ask": number, "command": command, **arguments})
        return answer

    def tell(self, command: str, /, **arguments: object) -> None:
        """Have a command carried out, and hear nothing of it."""
        if self.transport is not None:
            self._send({"command": command, **arguments})

    def lineReceived(self, line: bytes) -> None:
        """Take a request or an answer."""
        said = json.loads(line)
        if "answer" in said:
            self._take(said)
            return
        answer = carry_out(self.commands, said, self._journal)
        if "ask" in said:
            answer.addCallback(lambda result: self._send({"answer": said["ask"], **result}))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Fail what was asked."""
        self._gone = True
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.errback(ConnectionLost())
        self._lost()

    def _take(self, said: dict[str, Any]) -> None:
        answer = self._asked.pop(said.pop("answer"), None)
        if answer is None or answer.called:
            return
        if said.pop("ok"):
            answer.callback(said)
        else:
            answer.errback(CommandRefused(said["error"]))

    def _send(self, said: Mapping[str, object]) -> None:
        if self.transport is not None:
            self.transport.write(json.dumps(said).encode() + b"\n")

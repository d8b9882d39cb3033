"""What parent and worker process say to each other: lines of JSON over a pair of sockets, both ways alike.

::

    {"ask": 7, "request": {"command": "queue-list", …}}     wants an answer
    {"answer": 7, "result": {"ok": true, …}}                is one; ``{"ok": false, "error": "…"}``: refused
    {"request": {"command": "remember", …}}                 wants none

Who is asked answers in whatever order it comes to ends. When the other end is gone, all that was asked of it fails.
What an operator typed stands within the request, so that none of its keys is one of ours. A line that is none of these
is the other end's fault, or that of whoever has taken it over: it is noted, and the link ends.
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
        self._send({"ask": number, "request": {**arguments, "command": command}})
        return answer

    def tell(self, command: str, /, **arguments: object) -> None:
        """Have a command carried out, and hear nothing of it."""
        if self.transport is not None:
            self._send({"request": {**arguments, "command": command}})

    def lineReceived(self, line: bytes) -> None:
        """Take a request or an answer."""
        if self._gone:
            return
        try:
            self._hear(json.loads(line))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as fault:
            self._journal.fault("link", fault)
            self._gone = True
            if self.transport is not None:
                self.transport.loseConnection()

    def _hear(self, said: dict[str, Any]) -> None:
        if "answer" in said:
            self._take(said["answer"], dict(said["result"]))
            return
        answer = carry_out(self.commands, dict(said["request"]), self._journal)
        if "ask" in said:
            answer.addCallback(lambda result: self._send({"answer": said["ask"], "result": result}))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Fail what was asked."""
        self._gone = True
        asked, self._asked = self._asked, {}
        for answer in asked.values():
            answer.errback(ConnectionLost())
        self._lost()

    def _take(self, number: int, result: dict[str, Any]) -> None:
        answer = self._asked.pop(number, None)
        if answer is None or answer.called:
            return
        if result.pop("ok"):
            answer.callback(result)
        else:
            answer.errback(CommandRefused(result["error"]))

    def _send(self, said: Mapping[str, object]) -> None:
        if self.transport is not None:
            self.transport.write(json.dumps(said).encode() + b"\n")

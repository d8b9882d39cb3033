"""A worker process from within: it does what the parent says over the link, and ends when the parent is gone.

The parent's first command, ``start``, has all that it needs: its sockets by descriptor, and the form of the board. What
keeps it from starting it answers with; the parent then ends the link.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet import defer, protocol
from twisted.internet.error import ReactorNotRunning

from mta.board.shared import Layout, SharedBoard
from mta.policy.memory import Row
from mta.service.children import LINK
from mta.service.control import Command, CommandRefused
from mta.service.link import Link
from mta.service.pools import start_pools
from mta.service.process import Prepared, Process
from mta.service.reactor_log import ReactorLog
from mta.service.seat import Seat
from mta.service.sockets import Listening, close
from mta.service.starting import CANNOT_START
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load

ORPHAN_SECONDS = 1.0
"""How long transactions under way are waited for where the parent is gone: its next start needs spool and sockets."""


class Child:
    """The worker process `number`, of the configuration at `path`."""

    def __init__(self, number: int, path: str, reactor: Any, reactor_log: ReactorLog) -> None:
        self._number = number
        self._reactor = reactor
        os.umask(0o077)
        self._process = Process(str(number), load(path), reactor, reactor_log)
        self._prepared: Prepared | None = None
        self._orphan = False
        self._commands: dict[str, Command] = {
            "start": self._start,
            "ping": lambda request: {},
            "prepare": self._prepare,
            "use": self._use,
        }

    def connect(self) -> None:
        """Listen to the parent."""
        link = self._link = Link(self._commands, self._process.journal, self._abandoned)
        self._reactor.adoptStreamConnection(LINK, socket.AF_UNIX, protocol.Factory.forProtocol(lambda: link))
        os.close(LINK)

    def stop(self) -> defer.Deferred[None]:
        """Stop in order; in a hurry where the parent is gone."""
        return self._process.stop(*[ORPHAN_SECONDS] * self._orphan)

    def _start(self, request: Mapping[str, Any]) -> dict[str, Any]:
        form = request["board"]
        layout = Layout(form["workers"], tuple(form["shares"]), form["tables"])
        board = SharedBoard(LINK + 1, layout, self._number, self._reactor.seconds)
        sockets = [
            Listening(each["service"], each["implicit_tls"], socket.socket(fileno=descriptor), each["name"])
            for descriptor, each in enumerate(request["sockets"], LINK + 2)
        ]
        pools = start_pools(self._reactor, self._process.settings.auth.pool_threads)
        try:
            self._process.carry(Seat(self._number, layout.workers, board, self._spread), pools, sockets)
        except CANNOT_START as problem:
            raise CommandRefused(str(problem)) from problem
        close(sockets)
        self._commands.update(self._process.commands)
        return {"commands": list(self._process.commands)}

    def _spread(self, memory: str, rows: Sequence[Row]) -> None:
        """Have the parent tell the other workers."""
        self._link.tell("spread", memory=memory, rows=rows)

    def _prepare(self, request: Mapping[str, Any]) -> dict[str, Any]:
        left, self._prepared = self._prepared, None
        if left is not None:  # another process refused it, so it was never used
            left.log.close()
        try:
            self._prepared = self._process.prepare()
        except SettingsRefused as refused:
            raise CommandRefused(str(refused)) from refused
        return {}

    def _use(self, request: Mapping[str, Any]) -> dict[str, Any]:
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            self._process.use(prepared)
        return {}

    def _abandoned(self) -> None:
        self._orphan = True
        with contextlib.suppress(ReactorNotRunning):  # a signal may have come first
            self._reactor.stop()

"""The control socket: a request a line, an answer a line."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.testing import StringTransport

from mta.disk.owner import user_name
from mta.observe.event import Kind
from mta.service.control import CommandRefused, ControlFactory
from tests.doubles.journal import RecordingJournal


def echo(request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer with what was asked."""
    return {"word": request["word"]}


def refuse(request: Mapping[str, Any]) -> dict[str, Any]:
    """Say no."""
    raise CommandRefused("not today")


def fail(request: Mapping[str, Any]) -> dict[str, Any]:
    """Break."""
    raise ZeroDivisionError("ours")


class Operator:
    """One connection."""

    def __init__(self) -> None:
        self.journal = RecordingJournal()
        self.transport = StringTransport()
        protocol = ControlFactory({"echo": echo, "refuse": refuse, "fail": fail}, self.journal).buildProtocol(None)
        protocol.makeConnection(self.transport)
        self.protocol = protocol

    def ask(self, octets: bytes) -> Any:
        """Send a line, read the answer."""
        self.transport.clear()
        self.protocol.dataReceived(octets + b"\n")
        return json.loads(self.transport.value())


def test_a_command_is_carried_out_and_answered() -> None:
    """The result of the command stands beside ok."""
    assert Operator().ask(b'{"command": "echo", "word": "x"}') == {"ok": True, "word": "x"}


def test_a_refusal_is_told_in_words() -> None:
    """A command that says no is answered with its reason."""
    assert Operator().ask(b'{"command": "refuse"}') == {"ok": False, "error": "not today"}


def test_a_bug_is_noted_and_answered() -> None:
    """An exception of ours is one fault event; the operator gets an answer and the connection lives."""
    operator = Operator()
    assert operator.ask(b'{"command": "fail"}') == {"ok": False, "error": "internal error: ours"}
    assert operator.journal.kinds() == [Kind.FAULT]
    assert operator.ask(b'{"command": "echo", "word": 1}')["ok"]


def test_what_is_no_request_is_answered_with_what_one_is() -> None:
    """Junk, a list, an unknown command: an answer that names the commands, no traceback."""
    operator = Operator()
    for junk in (b"junk", b"[]", b"{}", b'{"command": []}', b'{"command": "nothing"}', b"\xff", b"[" * 99_999):
        answer = operator.ask(junk)
        assert not answer["ok"]
        assert "echo, fail, refuse" in answer["error"]
    assert operator.journal.events == []


def test_a_command_learns_who_asks() -> None:
    """The operator is the user at the other end, as the kernel says, whatever stands in the request."""
    asked: list[Mapping[str, Any]] = []
    protocol = ControlFactory({"note": lambda request: asked.append(request) or {}}, RecordingJournal()).buildProtocol(
        None
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        transport = StringTransport()
        transport.getHandle = lambda: ours
        protocol.makeConnection(transport)
        protocol.dataReceived(b'{"command": "note", "operator": "somebody"}\n')
    assert [request["operator"] for request in asked] == [user_name(os.getuid())]


def test_a_user_without_a_name_is_a_number() -> None:
    """The name of a user of the system; a number where there is none."""
    assert (user_name(0), user_name(3_999_999)) == ("root", "3999999")

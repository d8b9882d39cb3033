"""A mail filter in memory, that follows a script: what it is told is kept, what it says is as raw as the script is."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet import protocol
from twisted.python.failure import Failure

from mta.policy.milter.packet import Packet
from tests.doubles.network import CLOSE

ALL_ACTIONS = 0x1FF

_SILENT = {b"C": 0x1000, b"H": 0x2000, b"M": 0x4000, b"R": 0x8000, b"T": 0x10000, b"L": 0x80, b"N": 0x40000}
_SILENT[b"B"] = 0x80000


def says(command: bytes, *parts: bytes | int) -> bytes:
    """One packet: numbers become 4 octets, octets get a NUL."""
    return Packet(command, b"".join(p.to_bytes(4, "big") if isinstance(p, int) else p + b"\0" for p in parts)).octets


def options(version: int = 6, actions: int = ALL_ACTIONS, flow: int = 0, lists: bytes = b"") -> bytes:
    """The answer to the negotiation."""
    return Packet(b"O", struct.pack(">III", version, actions, flow) + lists).octets


CONTINUE = says(b"c")
ACCEPT = says(b"a")
REJECT = says(b"r")
TEMPFAIL = says(b"t")
PROGRESS = says(b"p")


class FakeMilter(protocol.Protocol):
    """Answers "continue" to everything that wants an answer, but for what `script` says.

    A key of `script` is the letter of a command; its value the octets that are said instead: always, or one after the
    other where it is a list, after whose end it is "continue" again. `tests.doubles.network` has `SILENCE` and `CLOSE`.
    """

    transport: Any

    def __init__(self, script: dict[bytes, bytes | list[bytes]] | None = None, flow: int = 0, **more: Any) -> None:
        self.told: list[tuple[bytes, bytes]] = []
        """Command and data of each packet."""
        self.lost = False
        self._script = dict(script or {})
        self._script.setdefault(b"O", options(flow=flow, **more))
        self._flow = flow
        self._buffer = b""

    def dataReceived(self, data: bytes) -> None:
        """Answer each packet."""
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < 4 + length:
                return
            packet, self._buffer = self._buffer[4 : 4 + length], self._buffer[4 + length :]
            self.told.append((packet[:1], packet[1:]))
            self._answer(packet[:1])

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Note it."""
        self.lost = True

    def commands(self) -> str:
        """The letters of all that was told, macros left out."""
        return b"".join(command for command, _ in self.told if command != b"D").decode()

    def data(self, command: bytes) -> list[bytes]:
        """The data of each packet with this command."""
        return [data for told, data in self.told if told == command]

    def macros(self, command: bytes) -> dict[str, str]:
        """The macros that were last told with a command."""
        found = [data for data in self.data(b"D") if data[:1] == command]
        texts = found[-1][1:].split(b"\0")[:-1] if found else []
        return {name.decode(): value.decode() for name, value in zip(texts[::2], texts[1::2], strict=True)}

    def say(self, octets: bytes) -> None:
        """Say something that nobody asked for."""
        self.transport.write(octets)

    def _answer(self, command: bytes) -> None:
        scripted = self._script.get(command)
        if isinstance(scripted, list):
            scripted = scripted.pop(0) if scripted else None
        if scripted is None:
            if command in b"DAQK" or self._flow & _SILENT.get(command, 0):
                return
            scripted = CONTINUE
        if scripted == CLOSE:
            self.transport.loseConnection()
        elif scripted:
            self.transport.write(scripted)

"""Packets of the milter protocol: octets to packets, and back, within bounds.

::

    packet  = length command data
    length  = 4OCTET      ; big-endian, of command and data: at least 1
    command = OCTET       ; a letter, mostly
    data    = *OCTET
    string  = *%x01-FF %x00

What cannot be a packet is a `Fault`; after it nothing more is read. A length is judged before anything is stored for
it.
"""

from __future__ import annotations

from dataclasses import dataclass

PACKET_MAXIMUM = 1 << 20
"""Octets of the longest packet that is read: what libmilter sends at most where 1 MiB was agreed on (SMFIP_MDS_1M), far
more than the 64 KiB of the others."""

_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Fault:
    """What came is not the protocol, or not at its place, or too much."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: its command, one octet, and its data."""

    command: bytes
    data: bytes = b""

    @property
    def octets(self) -> bytes:
        """The packet as it goes over the wire."""
        return (1 + len(self.data)).to_bytes(_LENGTH, "big") + self.command + self.data


def string(text: str | bytes) -> bytes:
    """Make a string of the protocol. A NUL, which would end it early and hide the rest, becomes a space."""
    octets = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return octets.replace(b"\0", b" ") + b"\0"


def strings(data: bytes) -> list[bytes] | None:
    """Read data that is strings one after the other; None where the last one has no end."""
    if not data.endswith(b"\0"):
        return None
    return data[:-1].split(b"\0")


class PacketReader:
    """Collects octets and gives packets in order; holds at most one packet and one read."""

    def __init__(self, maximum: int = PACKET_MAXIMUM) -> None:
        self._maximum = maximum
        self._buffer = bytearray()
        self._fault: Fault | None = None

    @property
    def pending(self) -> int:
        """Octets that are here and belong to no packet given out yet."""
        return len(self._buffer)

    def receive(self, octets: bytes) -> None:
        """Take what came."""
        if self._fault is None:
            self._buffer += octets

    def next_packet(self) -> Packet | Fault | None:
        """Return the next packet, what is wrong with what came, or None where more octets are needed."""
        if self._fault is not None:
            return self._fault
        buffer = self._buffer
        if len(buffer) < _LENGTH:
            return None
        length = int.from_bytes(buffer[:_LENGTH], "big")
        if not 0 < length <= self._maximum:
            buffer.clear()
            self._fault = Fault(f"a packet of {length:,} octets; 1 to {self._maximum:,} are read")
            return self._fault
        end = _LENGTH + length
        if len(buffer) < end:
            return None
        packet = Packet(bytes(buffer[_LENGTH : _LENGTH + 1]), bytes(buffer[_LENGTH + 1 : end]))
        del buffer[:end]
        return packet

"""Packets of the milter protocol, whole and at every split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.policy.milter.packet import Fault, Packet, PacketReader, string, strings

PACKETS = st.lists(st.builds(Packet, st.binary(min_size=1, max_size=1), st.binary(max_size=40)), max_size=5)


def taken(reader: PacketReader) -> list[Packet | Fault]:
    """All that a reader gives now."""
    found: list[Packet | Fault] = []
    while (packet := reader.next_packet()) is not None:
        found.append(packet)
        if isinstance(packet, Fault):
            break
    return found


def test_the_form_of_a_packet() -> None:
    """A packet is the length of command and data in 4 octets, big-endian, then command, then data."""
    assert Packet(b"H", b"a\0").octets == b"\0\0\0\x03Ha\0"
    assert Packet(b"Q").octets == b"\0\0\0\x01Q"


@given(PACKETS, st.integers(1, 7))
def test_packets_are_read_at_every_split(packets: list[Packet], size: int) -> None:
    """However octets arrive, the same packets come out, and nothing is left over."""
    octets = b"".join(packet.octets for packet in packets)
    reader, found = PacketReader(), []
    for start in range(0, len(octets), size):
        reader.receive(octets[start : start + size])
        found += taken(reader)
    assert found == packets
    assert reader.pending == 0


def test_half_a_packet_is_none() -> None:
    """Every true beginning of a packet gives nothing."""
    octets = Packet(b"y", b"550 no\0").octets
    for end in range(len(octets)):
        reader = PacketReader()
        reader.receive(octets[:end])
        assert reader.next_packet() is None


@pytest.mark.parametrize("length", [0, 101, 1 << 30, (1 << 32) - 1])
def test_a_length_out_of_bounds_is_a_fault(length: int) -> None:
    """A length of nothing, or of more than is read, is a fault as soon as it is here, for ever, and nothing is kept."""
    reader = PacketReader(100)
    reader.receive(length.to_bytes(4, "big") + b"xyz")
    fault = reader.next_packet()
    assert isinstance(fault, Fault)
    assert f"{length:,}" in fault.text
    reader.receive(Packet(b"c").octets)
    assert reader.next_packet() is fault
    assert reader.pending == 0


def test_the_longest_packet_is_read() -> None:
    """The bound counts command and data."""
    reader = PacketReader(100)
    reader.receive(Packet(b"b", b"x" * 99).octets)
    assert reader.next_packet() == Packet(b"b", b"x" * 99)


def test_strings() -> None:
    """A string ends with NUL; one inside it cannot end it early; what has no end is no string."""
    assert string("ü\0a") == "ü".encode() + b" a\0"
    assert string(b"\xff") == b"\xff\0"
    assert string("\udcff") == b"\xff\0"
    assert strings(b"a\0\0b\0") == [b"a", b"", b"b"]
    assert strings(b"a\0b") is None
    assert strings(b"") is None

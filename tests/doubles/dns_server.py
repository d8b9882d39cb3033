"""A recursive name server for tests: a zone of `tests.doubles.dns` over UDP and TCP on loopback.

``python -m tests.doubles.dns_server ZONEFILE PORT`` serves until it is killed and prints ``ready PORT`` once it
listens; port 0 takes a free one. The file is read again for each question, so a test may edit it.

Faults beside ``!SILENT`` and rcodes: ``!GARBAGE`` (octets that are no message), ``!COMPRESSION`` (a name that points
to itself), ``!REFERRAL`` (name servers instead of an answer), ``!CUT`` (truncated, also over TCP), ``!CLOSE``
(truncated; over TCP the connection is closed).
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.basic import Int16StringReceiver

from tests.doubles.dns import TTL, Zone

HOST = "127.0.0.1"


def respond(zone: Zone, octets: bytes, tcp: bool) -> bytes | None:
    """Return the octets that answer a question; None for silence, nothing to have the connection closed."""
    question = dns.message.from_wire(octets)
    asked = question.question[0]
    looked = zone.look_up(asked.name.to_text(), dns.rdatatype.to_text(asked.rdtype))
    response = dns.message.make_response(question, recursion_available=True)
    fault = looked.fault
    if fault == "SILENT":
        return None
    if fault == "GARBAGE":
        return octets[:2] + b"\xff" * 30
    if fault == "COMPRESSION":
        head = octets[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + asked.name.to_wire()
        kind = int(asked.rdtype).to_bytes(2, "big") + b"\x00\x01"
        return head + kind + b"\xc0" + len(head + kind).to_bytes(1, "big") + kind + b"\x00\x00\x01\x2c\x00\x00"
    if fault in ("CUT", "CLOSE"):
        if tcp and fault == "CLOSE":
            return b""
        response.flags |= dns.flags.TC
        return response.to_wire()
    if fault == "REFERRAL":
        response.authority.append(dns.rrset.from_text("example.", TTL, "IN", "NS", "ns.example."))
        return response.to_wire()
    if fault:
        response.set_rcode(dns.rcode.from_text(fault))
        return response.to_wire()
    names = [f"{name}." for name in looked.chain]
    for name, target in pairwise(names):
        response.answer.append(dns.rrset.from_text(name, TTL, "IN", "CNAME", target))
    if looked.records:
        kind = dns.rdatatype.to_text(asked.rdtype)
        texts = [_absolute(text, kind) for text in looked.records]
        response.answer.append(dns.rrset.from_text(names[-1], looked.ttl, "IN", kind, *texts))
    else:
        if not looked.exists:
            response.set_rcode(dns.rcode.NXDOMAIN)
        top = names[-1].rstrip(".").rpartition(".")[2] + "."
        soa = f"ns.{top} hostmaster.{top} 1 3600 600 86400 60"
        response.authority.append(dns.rrset.from_text(top, TTL, "IN", "SOA", soa))
    wire = response.to_wire(max_size=65535)
    if not tcp and len(wire) > max(question.payload, 512):
        response.answer.clear()
        response.authority.clear()
        response.flags |= dns.flags.TC
        return response.to_wire()
    return wire


def _absolute(text: str, kind: str) -> str:
    return text.rstrip(".") + "." if kind in ("MX", "PTR", "CNAME") else text


class _Datagrams(DatagramProtocol):
    noisy = False

    def __init__(self, zone: Callable[[], Zone], asked: list[tuple[str, bytes]]) -> None:
        self._zone, self._asked = zone, asked

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._asked.append(("udp", datagram))
        octets = respond(self._zone(), datagram, tcp=False)
        if octets:
            self.transport.write(octets, addr)


class _Stream(Int16StringReceiver):
    factory: Any

    def stringReceived(self, string: bytes) -> None:
        self.factory.asked.append(("tcp", string))
        octets = respond(self.factory.zone(), string, tcp=True)
        if octets:
            self.sendString(octets)
        elif octets is not None:
            self.transport.loseConnection()


class DnsServer:
    """A server that listens on `port` on `reactor`; `asked` records transport and octets of each question."""

    def __init__(self, reactor: Any, zone: Callable[[], Zone], port: int = 0) -> None:
        self.asked: list[tuple[str, bytes]] = []
        factory: Any = Factory.forProtocol(_Stream)
        factory.noisy = False
        factory.zone, factory.asked = zone, self.asked
        self._tcp = reactor.listenTCP(port, factory, interface=HOST)
        self.port: int = self._tcp.getHost().port
        self._udp = reactor.listenUDP(self.port, _Datagrams(zone, self.asked), interface=HOST)

    def stop(self) -> None:
        """Close both sockets."""
        self._tcp.stopListening()
        self._udp.stopListening()


def main() -> None:
    """Serve a file."""
    from twisted.internet import reactor

    path = pathlib.Path(sys.argv[1])
    server = DnsServer(reactor, lambda: Zone.parse(path.read_text()), int(sys.argv[2]))
    print(f"ready {server.port}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()

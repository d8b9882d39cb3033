"""A name server on loopback: the zone of the tests, served by `tests.doubles.dns_server` in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from tests.live.peers.process import Process

ROOT = Path(__file__).resolve().parents[3]


class NameServer:
    """Serves domains whose one MX host, `mx.DOMAIN`, has the address given, and other `records`."""

    def __init__(self, directory: Path, port: int, domains: Mapping[str, str], records: Iterable[str] = ()) -> None:
        directory.mkdir()
        self.port = port
        self.zone = directory / "zone"
        mx = (f"{domain}. MX 10 mx.{domain}.\n" for domain in domains)
        a = (f"mx.{domain}. A {address}\n" for domain, address in domains.items())
        self.zone.write_text("".join((*mx, *a, *(f"{record}\n" for record in records))))
        argv = [sys.executable, "-m", "tests.doubles.dns_server", str(self.zone), str(port)]
        self.process = Process(argv, directory / "output", cwd=ROOT)
        question = dns.message.make_query(f"{next(iter(domains))}.", "MX")

        def answers() -> bool:
            try:
                return bool(dns.query.udp(question, "127.0.0.1", timeout=0.2, port=port).answer)
            except (dns.exception.DNSException, OSError):
                return False

        self.process.wait_for(answers, f"an answer on port {port}")

    def add(self, records: Iterable[str]) -> None:
        """Serve more records; who has asked for them before may not ask again for a while."""
        with self.zone.open("a") as zone:
            zone.writelines(f"{record}\n" for record in records)

    def stop(self) -> None:
        """End it."""
        self.process.stop()

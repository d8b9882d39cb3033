"""Pages of docs/ that show a whole server: their commands are typed on an empty machine, in the order of the pages.

`make pages` types them too, and writes what they print into the pages.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.rdatatype
import dns.zone
import pytest

from tests import pages
from tests.live.peers.machine import Machine

pytestmark = pytest.mark.live

PAGES = ("first-hour.md", "troubleshooting.md", "dovecot.md")
"""In this order: a page begins where the one before has ended."""

WORLD = """
a.root-servers.net    A    198.41.0.4
gmail.com             MX   5 mail.example.net
example.net           MX   10 mail.example.net
example.net           TXT  "v=spf1 mx -all"
mail.example.net      A    198.51.100.7
7.100.51.198.in-addr.arpa  PTR  mail.example.net
dnssec-failed.org     ANY  !SERVFAIL
"""
"""What a name server knows of the rest of the world."""


NEIGHBOUR = """
hostname = "mail.example.net"
state = "/root/.net/state"
mail = "/root/.net/mail"
[mx]
listen = ["198.51.100.7:25"]
[smtpd]
enabled = false
[tls]
certificate = "tls/certificate.pem"
key = "tls/key.pem"
"""
"""A server elsewhere, which has a user carol."""


class Operator:
    """Who types the commands of the pages, on a machine with the package in /root, an address, and a name server.

    Behind its wire is another server, mail.example.net.
    """

    def __init__(self, directory: Path, built: Path) -> None:
        share = directory / "share"
        share.mkdir()
        shutil.copy(built, share)
        self.machine = Machine(directory, "mail.example.org", share)
        try:
            self.prepare(share / built.name)
        except BaseException:
            self.machine.stop()
            raise

    def prepare(self, built: Path) -> None:
        """Have no mail server on it, the package in /root, and the rest of the world around it."""
        machine = self.machine
        machine.run("dpkg --purge --force-depends postfix bsd-mailx >/dev/null 2>&1", None)
        machine.run("rm -f /etc/apt/apt.conf.d/70debconf")  # it says what this machine has not installed
        machine.run(f"cp {built} /root/; PROJECT={pages.ROOT} BIN={Path(sys.executable).parent}")
        self.neighbour()
        self.names("")

    def neighbour(self) -> None:
        """Start the other server, in a network of its own at the other end of the wire."""
        run = self.machine.run
        run("ip addr add 203.0.113.25/24 dev wire; ip route add default via 203.0.113.1 dev wire")
        run("ip netns add net; ip link set rest netns net; ip -n net link set lo up; ip -n net link set rest up")
        run("ip -n net addr add 203.0.113.1/24 dev rest; ip -n net addr add 198.51.100.7/32 dev lo")
        self.machine.write("/root/.zone", WORLD)
        self.names("ip netns exec net ")
        bin_ = Path(sys.executable).parent
        run("mkdir -p /root/.net/etc")
        self.machine.write("/root/.net/etc/mta.toml", NEIGHBOUR)
        run(f"cd {pages.ROOT}; {bin_}/mta init --config /root/.net/etc/mta.toml --domain example.net --user carol "
            "--run-as root >/root/.net/init; cd /root")  # fmt: skip
        run(f"(cd {pages.ROOT} && exec ip netns exec net {bin_}/twistd -n --pidfile= mta "
            "--config /root/.net/etc/mta.toml) >/root/.net/log 2>&1 &")  # fmt: skip
        run("until grep -q settings.loaded /root/.net/log; do sleep 0.1; done")

    def names(self, prefix: str) -> None:
        """Start a name server, in the network that `prefix` leads into."""
        server = f"cd {pages.ROOT} && exec {prefix}{sys.executable} -m tests.doubles.dns_server /root/.zone 53"
        self.machine.run(f"({server}) >/root/.names{len(prefix)} 2>&1 &")
        self.machine.run(f"until grep -q ready /root/.names{len(prefix)}; do sleep 0.1; done")

    def type(self, command: str) -> str:
        """Type a command, or do what is no command: publish, dovecot."""
        if command in ("publish", "dovecot"):
            getattr(self, command)()
            return ""
        return self.machine.run(command, status=None, seconds=40)

    def dovecot(self) -> None:
        """Write what the page about Dovecot says into its configuration, and make the certificate that Debian makes."""
        page = (pages.ROOT / "docs/dovecot.md").read_text()
        self.machine.write("/etc/dovecot/local.conf", "\n".join(re.findall(r"^```\n(.*?)^```", page, re.M | re.S)))
        place = "/etc/dovecot/private/dovecot"
        self.machine.run(f"mkdir -p /etc/dovecot/private; cp /etc/mta/tls/certificate.pem {place}.pem")
        self.machine.run(f"cp /etc/mta/tls/key.pem {place}.key")

    def publish(self) -> None:
        """Put the records that `mta init` prints into the DNS, and have the provider set the reverse name."""
        text = self.machine.run("mta init --records --ipv4 203.0.113.25")
        reverse = re.findall(r"^;(\S+\.in-addr\.arpa\. IN PTR .*)", text, re.MULTILINE)
        whole = "\n".join(["$TTL 300", text, *reverse])
        zone = dns.zone.from_text(whole, origin=".", relativize=False, check_origin=False)
        lines = [
            f"{name} {dns.rdatatype.to_text(rdata.rdtype)} {rdata.to_text()}"
            for name, _, rdata in zone.iterate_rdatas()
        ]
        self.machine.write("/root/.zone", WORLD + "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, debian_package: Path) -> Iterator[Operator]:
    """One for all pages."""
    typing = Operator(tmp_path_factory.mktemp("pages"), debian_package)
    yield typing
    typing.machine.stop()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_happens(operator: Operator, name: str) -> None:
    """Every command of the page prints what stands below it, but for times, ids and the like."""
    write = bool(os.environ.get("MTA_WRITE_PAGES"))
    difference = pages.compare(pages.ROOT / "docs" / name, operator.type, write)
    assert not difference, f"make pages writes it anew:\n{difference}"

"""`mta init` and `mta check` beside a real daemon, a real name server and real files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.zone
import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon, twistd
from tests.live.peers.name_server import NameServer
from tests.live.peers.process import Process, free_ports, own_program, unprivileged

pytestmark = pytest.mark.live

OWN = "198.51.100.7"
"""The public address of this machine: nobody connects to it."""
DOMAIN = "mta-check.org"
HOST = f"mx.{DOMAIN}"


def records(daemon: Daemon) -> list[str]:
    """What `mta init --records` prints, the comments of reverse DNS taken away, as the name server's zone has it."""
    printed = daemon.mta("init", "--records", "--config", str(daemon.settings_file), "--ipv4", OWN, check=True).stdout
    text = "\n".join(line.removeprefix(";") if ".arpa. IN PTR" in line else line for line in printed.splitlines())
    zone = dns.zone.from_text("@ IN SOA n. h. 1 1 1 1 1\n@ IN NS n.\n" + text + "\n", origin=".", relativize=False)
    found = []
    for name, _, rdata in zone.iterate_rdatas():
        kind = rdata.rdtype.name
        if kind not in ("SOA", "NS"):
            found.append(f"{name} {kind} {rdata.to_text()}")
    return found


@pytest.fixture(scope="module")
def server(place: Path, start_daemon: StartDaemon) -> Iterator[Daemon]:
    """A daemon for a domain that a name server on loopback has all records of."""
    port = free_ports(1)[0]
    daemon = start_daemon({"dns": {"nameservers": [f"127.0.0.1:{port}"]}}, DOMAIN)
    zone = ["a.root-servers.net. A 198.41.0.4", "dnssec-failed.org. ANY !SERVFAIL"]
    names = NameServer(place / "zone", port, {"far.example": "127.0.0.1"}, [*zone, *records(daemon)])
    yield daemon
    names.stop()


def check(daemon: Daemon, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run `mta check --json` as the server's user; gives its status and what it found."""
    done = daemon.mta("check", "--json", "--config", str(daemon.settings_file), "--ipv4", OWN, *arguments)
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def graver(found: list[dict[str, Any]]) -> list[str]:
    """What is more than a note, but for what depends on the machine that the tests run on."""
    machine = ("clock", "outgoing", "disk")
    return [each["what"] for each in found if each["severity"] != "note" and each["check"] not in machine]


def test_a_server_with_all_its_records(server: Daemon) -> None:
    """What init prints is what check wants; the certificate, of a demonstration for another name, is left to mend."""
    status, found = check(server, "--outgoing", "far.example")
    assert status >= 1
    assert graver(found) == [f"the certificate is not one for {HOST}", "the certificate is self-signed"]
    assert {each["check"] for each in found} <= {"certificate", "clock", "disk", "local", "outgoing"}


def test_its_ports_are_those_of_the_running_daemon(server: Daemon) -> None:
    """All three answer with our name; the greeting after TLS too."""
    status, found = check(server, "--only", "ports")
    assert (status, found) == (0, [])


def test_a_key_that_everybody_reads_is_found_and_mended(server: Daemon) -> None:
    """The command beside the finding mends it."""
    key = server.directory / "etc/tls/key.pem"
    key.chmod(0o644)
    status, found = check(server, "--only", "files")
    assert status == 2
    subprocess.run(found[0]["mend"], shell=True, check=True, **unprivileged())
    assert check(server, "--only", "files") == (0, [])


def test_a_server_that_does_not_run(place: Path) -> None:
    """Before its start it is said; its ports could be had, and nobody is asked about names for tests."""
    daemon = Daemon(place / "idle")
    status, found = check(daemon, "--only", "ports", "--only", "names")
    assert status == 2
    assert [each["what"] for each in found] == [
        "the server does not run",
        "mx.example.test is a name for tests and private networks",
    ]


def test_what_init_makes_starts(place: Path) -> None:
    """The real configuration, on ports of a test: it starts, and its user logs in with the password shown."""
    directory = place / "real"
    directory.mkdir()
    ports = free_ports(3)
    config = directory / "etc/mta.toml"
    told = ["--hostname", HOST, "--domain", DOMAIN, "--user", "carol"]
    places = ["--config", str(config), "--state", str(directory / "state"), "--mail", str(directory / "mail")]
    if unprivileged():
        directory.chmod(0o777)
    made = subprocess.run(
        [own_program("mta"), "init", *told, *places], capture_output=True, text=True, check=True, **unprivileged()
    )
    assert "carol@mta-check.org logs in with the password" in made.stdout
    text = config.read_text()
    for key, port in zip(("listen", "submission", "submissions"), ports, strict=True):
        line = next(line for line in text.splitlines() if line.startswith(f"#{key} ="))
        text = text.replace(line, f'{key} = ["127.0.0.1:{port}"]')
    config.write_text(text)
    process = Process(twistd(config), directory / "log", cwd="/", **unprivileged())
    process.wait_for_greeting(ports[0])
    done = subprocess.run(
        [own_program("mta"), "check", "--offline", "--only", "ports", "--only", "files", "--config", str(config)],
        capture_output=True,
        text=True,
        **unprivileged(),
    )
    assert (done.returncode, done.stdout) == (0, "All is well.\n")
    process.stop()

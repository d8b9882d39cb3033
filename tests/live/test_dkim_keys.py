"""Keys of a running server, made, published, checked and rotated as docs/dkim.md says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import dns.zone
import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import DOMAIN, Daemon
from tests.live.peers.mail import message, submit
from tests.live.peers.maildir import arrived
from tests.live.peers.name_server import NameServer
from tests.live.peers.process import free_ports

pytestmark = pytest.mark.live


class Zone:
    """The zone of the test's name server, which records are added to."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, printed: str) -> None:
        """Add the records of a piece of a zone file that a command has printed."""
        zone = dns.zone.from_text(f"@ IN SOA ns. h. 1 1 1 1 1\n@ IN NS ns.\n{printed}", origin=".", relativize=False)
        records = [f"{name} TXT {rdata.to_text()}\n" for name, _, rdata in zone.iterate_rdatas("TXT")]
        assert records
        self._file.write_text(self._file.read_text() + "".join(records))

    def remove(self, selector: str) -> None:
        """Remove the records of a selector."""
        lines = self._file.read_text().splitlines(keepends=True)
        self._file.write_text("".join(line for line in lines if not line.startswith(f"{selector}._domainkey.")))


@pytest.fixture(scope="module")
def port() -> int:
    """The port of the name server."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def zone(place: Path, port: int) -> Iterator[Zone]:
    """A name server that knows the demonstration's domain, without keys at first."""
    server = NameServer(place / "names", port, {DOMAIN: "127.0.0.1"})
    yield Zone(place / "names/zone")
    server.stop()


@pytest.fixture(scope="module")
def server(start_daemon: StartDaemon, port: int, zone: Zone) -> Daemon:
    """Our server, which asks there."""
    return start_daemon({"dns": {"nameservers": [f"127.0.0.1:{port}"], "timeout": "2s"}})


def dkim(server: Daemon, *arguments: str, status: int = 0) -> str:
    """Run `mta dkim` and give what it prints."""
    done = server.mta("dkim", *arguments, "--config", str(server.settings_file))
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def selectors(server: Daemon, token: str) -> set[str]:
    """Submit a message; which selectors it is signed with when it arrives."""
    submit(server, f"bob@{DOMAIN}", message(token))
    stored = arrived(server.maildir("bob"), token.encode())
    head = re.sub(rb"\r\n[ \t]+", b" ", stored.partition(b"\r\n\r\n")[0])
    return {found.decode() for found in re.findall(rb"(?m)^DKIM-Signature:.*?\bs=([^; ]+);", head)}


def by_state(server: Daemon) -> dict[str, set[str]]:
    """The selectors in each state."""
    found: dict[str, set[str]] = {"next": set(), "signing": set(), "retired": set()}
    for line in dkim(server, "show", "--offline", "--json").splitlines():
        key = json.loads(line)
        found[key["state"]].add(key["selector"])
    return found


def test_keys_from_the_first_to_the_next(server: Daemon, zone: Zone) -> None:
    """The demonstration signs; its records are missed, published, found; new keys follow once they are published, and
    the running server signs with them from then on.
    """
    old = by_state(server)["signing"]
    assert len(old) == 2
    assert selectors(server, "dkim-first") == old
    assert "missing: there is no record" in dkim(server, "check", status=65)
    zone.add(dkim(server, "show", DOMAIN))
    assert dkim(server, "check").count(": the record at ") == 2

    made = dkim(server, "rotate", DOMAIN)
    assert made.count(": made as ") == 2
    new = by_state(server)["next"]
    assert len(new) == 2
    assert selectors(server, "dkim-second") == old
    assert dkim(server, "rotate").count("waits for its record") == 2
    zone.add(made)
    said = dkim(server, "rotate")
    assert said.count("signs from now on instead of") == 2
    assert "; The daemon has reloaded" in said
    assert by_state(server) == {"next": set(), "signing": new, "retired": old}
    assert selectors(server, "dkim-third") == new
    assert dkim(server, "check").count("(signing): the record at ") == 2
    show = [json.loads(line) for line in dkim(server, "show", "--json").splitlines()]
    assert {sight["state"] for key in show for sight in key["published"]} == {"right"}

    selector = min(new)
    zone.remove(selector)
    assert f"{DOMAIN} {selector} (signing): missing" in dkim(server, "check", status=65)


def test_a_key_that_is_retired_by_hand_signs_no_more(server: Daemon) -> None:
    """The running server signs with what is left."""
    first, *others = sorted(by_state(server)["signing"])
    dkim(server, "retire", DOMAIN, first)
    assert selectors(server, "dkim-retired") == set(others)


def test_a_name_server_that_is_gone(server: Daemon, tmp_path: Path) -> None:
    """Nothing is switched and nothing is found right where nobody answers: status 75."""
    config = server.settings_file
    text = config.read_text()
    (silent,) = free_ports(1)
    server.change({"dns": {"nameservers": [f"127.0.0.1:{silent}"], "tries": 1}})
    try:
        assert "unknown: " in dkim(server, "check", status=75)
    finally:
        config.write_text(text)

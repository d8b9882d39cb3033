"""The units of systemd/: what systemd-analyze says of them, and the server as they run it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.peers.daemon import STOPPED, Daemon, twistd
from tests.live.peers.mail import message, submit
from tests.live.peers.maildir import arrived
from tests.live.peers.process import Process, own_program, program, unprivileged
from tests.live.peers.systemd import UNITS, Notified, Unit, allowed_calls, command

pytestmark = pytest.mark.live

SOCKETS = {"mx": "25", "submission": "587", "submissions": "465"}
LISTEN = {
    "mx": {"listen": ["systemd:mx"]},
    "smtpd": {"submission": ["systemd:submission"], "submissions": ["systemd:submissions"]},
}

SCRIPT = """
from mta.policy.script_api import add_header
def message(facts):
    return add_header("X-Judged", "in a process of its own")
"""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    return subprocess.run(
        [program("systemd-analyze"), *arguments], check=False, capture_output=True, text=True, timeout=60
    )


def test_systemd_finds_nothing_to_say_of_the_units(tmp_path: Path) -> None:
    """Every key is known to systemd and every reference leads somewhere."""
    for unit in [*UNITS.glob("*.service"), *UNITS.glob("*.socket")]:
        text = unit.read_text().replace("/usr/bin/twistd", own_program("twistd"))
        (tmp_path / unit.name).write_text(text.replace("/usr/bin/mta", own_program("mta")))
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) == 4
    checked = analyze("verify", "--man=no", *units)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_service_is_hardened_as_far_as_it_says() -> None:
    """The exposure that systemd-analyze finds is 2.0 at most, and the one that the unit names."""
    checked = analyze("security", "--offline=true", "--threshold=20", "--no-pager", f"{UNITS}/mta.service")
    assert checked.returncode == 0, checked.stdout
    level = checked.stdout.rpartition("mta.service: ")[2].split()[0]
    assert f"says {level} (" in (UNITS / "mta.service").read_text()


def test_what_settings_may_ask_for_is_not_forbidden() -> None:
    """Maildirs may have set-group-ID, keys may be rotated, sendmail's socket may be made: docs/ recommends each."""
    service = Unit("mta.service")["Service"]
    assert service.get("RestrictSUIDSGID", "no") == "no"
    assert {"-/etc/mta/domains", "-/var/mail/mta"} <= set(service["ReadWritePaths"].split())
    assert (service["RuntimeDirectory"], service["StateDirectory"]) == ("mta", "mta")
    assert "PrivateUsers" not in service
    assert {"fchown", "chown"} <= set(allowed_calls(Unit("mta.service")))


def test_the_sockets_have_the_names_and_ports_that_the_settings_know() -> None:
    """25, 587 and 465 come under the names that mta.toml has, for IPv4 and IPv6, and belong to the service."""
    units = [Unit(path.name) for path in UNITS.glob("*.socket")]
    sections = [unit["Socket"] for unit in units]
    assert {each["FileDescriptorName"]: each["ListenStream"].splitlines() for each in sections} == {
        name: [f"0.0.0.0:{port}", f"[::]:{port}"] for name, port in SOCKETS.items()
    }
    assert {each["Service"] for each in sections} == {"mta.service"}
    service = (UNITS / "mta.service").read_text()
    assert all(f"mta-{name}.socket" in service and f'"systemd:{name}"' in service for name in SOCKETS)


def test_user_and_directory_can_be_made(tmp_path: Path) -> None:
    """systemd-sysusers and systemd-tmpfiles make the user and the directory of Maildirs, closed to others."""
    (tmp_path / "etc").mkdir()
    for name in ("passwd", "group"):
        (tmp_path / "etc" / name).write_text("root:x:0:0::/:\n" if name == "passwd" else "root:x:0:\n")
    for tool, arguments in (("systemd-sysusers", []), ("systemd-tmpfiles", ["--create"])):
        kind = tool.rpartition("-")[2]
        ran = subprocess.run(
            [program(tool), f"--root={tmp_path}", *arguments, f"{UNITS}/mta.{kind}.conf"],
            check=False,
            capture_output=True,
            text=True,
        )
        if os.getuid() == 0:
            assert ran.returncode == 0, ran.stderr
    assert "mta:x:" in (tmp_path / "etc/passwd").read_text()
    assert (tmp_path / "var/mail/mta").stat().st_mode & 0o7777 == 0o2750


class Service:
    """The server, started as the unit would."""

    def __init__(self, place: Path, settings: dict[str, Any], allowed: list[str]) -> None:
        self.daemon = Daemon(place, {**LISTEN, **settings})
        policies = self.daemon.settings_file.with_name("policy")
        policies.mkdir()
        (policies / "judge.py").write_text(SCRIPT)
        self.notified = Notified(f"@mta-test-{os.getpid()}-{place.name}")
        self.sockets = [socket.create_server(("127.0.0.1", 0)) for _ in SOCKETS]
        ports = [each.getsockname()[1] for each in self.sockets]
        self.daemon.mx_port, self.daemon.smtpd_port, self.daemon.smtps_port = ports
        descriptors = [each.fileno() for each in self.sockets]
        environment = {**os.environ, "NOTIFY_SOCKET": self.notified.address, "WATCHDOG_USEC": "400000"}
        argv = command(list(SOCKETS), descriptors, allowed, twistd(self.daemon.settings_file))
        self._start = lambda: Process(
            argv, self.daemon.log, cwd="/", env=environment, pass_fds=descriptors, **unprivileged()
        )

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self.daemon.process = self._start()
        for each in self.sockets:
            each.close()

    def stop(self) -> None:
        """End it, if a test has not."""
        self.daemon.stop()
        self.notified.close()


@pytest.fixture(params=[0, 2], ids=["one process", "two workers"])
def service(request: pytest.FixtureRequest, place: Path) -> Iterator[Service]:
    """One that is confined as the unit confines it."""
    settings = {"workers": request.param or 1}
    made = Service(place / f"service{request.param}", settings, allowed_calls(Unit("mta.service")))
    yield made
    made.stop()


def test_the_server_runs_as_the_unit_says(service: Service) -> None:
    """On sockets handed over by name, telling each step, alive by its loop, within the system calls that it is allowed.

    So are its worker processes and those of policies.

    Who connected before it was there is served too: the socket was.
    """
    daemon, notified = service.daemon, service.notified
    early = socket.create_connection(("127.0.0.1", daemon.mx_port), timeout=30)
    service.start()
    assert notified.next() == "READY=1"
    assert early.recv(512).startswith(b"220 ")
    early.close()
    assert notified.next_of("STATUS").endswith(" messages in the queue")
    assert notified.next_of("WATCHDOG") == notified.next_of("WATCHDOG") == "WATCHDOG=1"
    submit(daemon, daemon.address("bob"), message("confined"))
    assert b"\nX-Judged: in a process of its own\n" in arrived(daemon.maildir("bob"), b"Subject: confined").replace(
        b"\r", b""
    )
    assert daemon.reload().returncode == 0
    assert notified.next().startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert notified.next() == "READY=1"
    daemon.settings_file.write_text(daemon.settings_file.read_text() + "nonsense = 1\n")
    refused = daemon.reload()
    assert refused.returncode != 0
    assert "nonsense" in refused.stderr
    assert [notified.next().partition("\n")[0] for _ in range(2)] == ["RELOADING=1", "READY=1"]
    assert daemon.process is not None
    daemon.process.popen.send_signal(signal.SIGTERM)
    assert notified.next().startswith("STOPPING=1\n")
    assert daemon.process.popen.wait(30) == STOPPED
    daemon.end()

"""The units under a real systemd, in a container: ready, reloaded, watched, confined, and mail goes through."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.peers.machine import Machine

pytestmark = pytest.mark.live

SOCKETS = "mta-mx.socket mta-submission.socket mta-submissions.socket"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, place: Path, debian_package: Path) -> Iterator[Machine]:
    """One on which the package is installed and the service runs, set up as docs/systemd.md says."""
    shutil.copy(debian_package, place / "mta.deb")
    made = Machine(tmp_path_factory.mktemp("machine"), "mail.example.org", place)
    try:
        made.run(f"apt-get -q -y install --no-install-recommends {place}/mta.deb", seconds=120)
        domain = "--hostname mail.example.org --domain example.org --user alice"
        made.run(f"mta init {domain} --ipv4 203.0.113.25 --systemd >init.txt")
        made.run('printf \'\\n[maildir]\\ngroup = "mta"\\ndirectory_mode = "2770"\\n\' >>/etc/mta/mta.toml')
        made.run(f"systemctl daemon-reload; systemctl start {SOCKETS} mta.service")
        yield made
    finally:
        made.stop()


def show(machine: Machine, name: str) -> str:
    """What systemd knows of the service."""
    return machine.run(f"systemctl show mta --value --property={name}").strip()


def test_the_service_is_ready_when_its_start_returns(machine: Machine) -> None:
    """A start waits for READY=1; then each port is served, and the status says what is going on."""
    assert show(machine, "ActiveState") == "active"
    assert show(machine, "StatusText") == "0 sessions, 0 messages in the queue"
    for port in (25, 587):
        assert machine.run(f"printf 'QUIT\\r\\n' | curl -s telnet://127.0.0.1:{port}").startswith("220 ")
    assert "level=error" not in machine.run("journalctl --unit=mta --output=cat --no-pager")


def test_mail_goes_through_what_the_unit_leaves_open(machine: Machine) -> None:
    """A message that is submitted lies in its Maildir, which has the group and the set-group-ID of the settings."""
    password = machine.run("grep -o 'password  .*' init.txt | awk '{ print $2 }'").strip()
    send = "curl -sS --insecure smtps://127.0.0.1 --mail-from alice@example.org --mail-rcpt alice@example.org"
    machine.run(
        f"printf 'From: alice@example.org\\r\\n\\r\\nhello\\r\\n' | {send} -u 'alice@example.org:{password}' -T -"
    )
    maildir = "/var/mail/mta/example.org/alice/Maildir"
    assert "hello" in machine.run(f"for i in $(seq 100); do cat {maildir}/new/* 2>/dev/null && break; sleep 0.1; done")
    assert machine.run(f"stat --format '%a %U %G' {maildir}").strip() == "2770 mta mta"


def test_a_reload_that_fails_says_so_and_changes_nothing(machine: Machine) -> None:
    """A reload by systemctl has the answer of the server as its own; the mistake is in the journal with its line."""
    machine.run("systemctl reload mta")
    machine.run("cp /etc/mta/mta.toml kept; echo 'nonsense = 1' >>/etc/mta/mta.toml")
    machine.run("systemctl reload mta", status=1)
    assert "nonsense: expected " in machine.run("journalctl --unit=mta --priority=err --output=cat --no-pager")
    assert show(machine, "ActiveState") == "active"
    machine.run("cat kept >/etc/mta/mta.toml; systemctl reload mta")


def test_a_restart_refuses_nobody(machine: Machine) -> None:
    """Who connects while the server is stopped waits in the socket, and is greeted when it is there again."""
    before = show(machine, "MainPID")
    machine.run("systemctl stop mta")
    machine.run("(printf 'QUIT\\r\\n'; sleep 20) | curl -s telnet://127.0.0.1:25 >greeted & echo")
    machine.run("for i in $(seq 200); do grep -q ^220 greeted && break; sleep 0.1; done; grep -q ^220 greeted")
    assert show(machine, "ActiveState") == "active"
    assert show(machine, "MainPID") != before
    assert show(machine, "Result") == "success"


def test_a_loop_that_stands_still_is_restarted(machine: Machine) -> None:
    """Without signs of life the watchdog ends the process, the journal has its traceback, and another is started."""
    machine.run("mkdir -p /etc/systemd/system/mta.service.d")
    machine.write("/etc/systemd/system/mta.service.d/watchdog.conf", "[Service]\nWatchdogSec=2s\nRestartSec=100ms\n")
    machine.run("systemctl daemon-reload; systemctl restart mta")
    stopped = show(machine, "MainPID")
    machine.run(f"kill -STOP {stopped}")
    again = "[ $(systemctl show mta --value --property=NRestarts) = 1 ] && systemctl is-active --quiet mta"
    machine.run(f"for i in $(seq 200); do {again} && break; sleep 0.1; done; {again}")
    assert show(machine, "MainPID") != stopped
    assert "Fatal Python error: Aborted" in machine.run("journalctl --unit=mta --output=cat --no-pager")

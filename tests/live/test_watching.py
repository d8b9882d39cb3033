"""Metrics and `mta top` of the running daemon: what was sent is what is counted, through the death of a worker too."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import smtplib
import subprocess
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon
from tests.live.peers.mail import message, submit, unverified
from tests.live.peers.process import eventually, free_ports, own_program, unprivileged

pytestmark = pytest.mark.live


class Watched:
    """A daemon with numbers."""

    def __init__(self, start_daemon: StartDaemon, workers: int) -> None:
        (self.port,) = free_ports(1)
        metrics = {"listen": [f"127.0.0.1:{self.port}"]}
        unchecked = {"trusted_networks": ["127.0.0.0/8"]}
        self.daemon = start_daemon({"metrics": metrics, "mailauth": unchecked, "workers": workers})

    def number(self, name: str, **labels: str) -> float:
        """Scrape, and add what a metric has under these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as page:
            families = text_string_to_metric_families(page.read().decode())
            samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def accepted(self) -> float:
        """Messages that were taken."""
        return self.number("mta_messages_accepted_total")


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def watched(request: pytest.FixtureRequest, start_daemon: StartDaemon) -> Watched:
    """One daemon of each kind."""
    return Watched(start_daemon, request.param)


def deliver(daemon: Daemon, recipient: str) -> None:
    """Bring a message from elsewhere."""
    with smtplib.SMTP("127.0.0.1", daemon.mx_port, timeout=30) as client:
        client.sendmail("eve@peer.test", [recipient], message("counted", sender="eve@peer.test"))


def test_what_was_sent_is_what_is_counted(watched: Watched) -> None:
    """Messages, refusals, logins, replies, sessions and syncs are counted, each once."""
    daemon = watched.daemon
    sessions = watched.number("mta_sessions_opened_total", service="mx")
    submit(daemon, daemon.address("bob"), message("submitted"))
    for _ in range(3):
        deliver(daemon, daemon.address("bob"))
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        deliver(daemon, daemon.address("nobody"))
    with pytest.raises(smtplib.SMTPAuthenticationError):
        wrong_login(daemon)
    eventually(lambda: watched.number("mta_sessions_open") == 0, "all sessions are over")
    assert watched.number("mta_messages_accepted_total", service="mx", place="maildir") == 3
    assert watched.number("mta_messages_accepted_total", service="smtpd") == 1
    assert watched.number("mta_recipients_refused_total", service="mx") == 1
    assert watched.number("mta_replies_total", service="mx", code="550") == 1
    assert watched.number("mta_replies_total", service="mx", code="354") == 3
    assert watched.number("mta_sessions_opened_total", service="mx") == sessions + 4
    assert watched.number("mta_tls_sessions_total", service="smtpd", version="TLSv1.3") == 2
    assert watched.number("mta_logins_total", outcome="accepted") == 1
    assert watched.number("mta_logins_total", outcome="refused") >= 1
    assert watched.number("mta_commit_sync_seconds_count", place="maildir") >= 4
    assert watched.number("mta_faults_total") == 0


def wrong_login(daemon: Daemon) -> None:
    """Log in with a wrong password."""
    with smtplib.SMTP_SSL("127.0.0.1", daemon.smtps_port, timeout=30, context=unverified()) as client:
        client.login(daemon.address("alice"), "wrong")


def test_top_shows_it_once(watched: Watched) -> None:
    """A plain frame says how much there is, within a terminal of 80 by 24."""
    shown = watched.daemon.mta("top", "--once", "--interval", "0.2", "--config", str(watched.daemon.settings_file))
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0].startswith("mta top  mx.example.test ")
    (accepted,) = [line for line in lines if line.startswith("accepted")]
    assert accepted.endswith(f" {watched.accepted():.0f} since the start")
    assert "The queue is empty." in lines
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in shown.stdout


def test_top_is_left_by_q(watched: Watched) -> None:
    """On a terminal it draws, leaves by q, and gives the terminal back as it was."""
    ours, theirs = pty.openpty()
    config = str(watched.daemon.settings_file)
    options: Any = {**unprivileged(), "stdin": theirs, "stdout": theirs, "stderr": theirs}
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen([own_program("mta"), "top", "--config", config], cwd="/", env=environment, **options)
    os.close(theirs)
    drawn = b""
    pressed = False
    while process.poll() is None or select.select([ours], [], [], 0)[0]:
        if not select.select([ours], [], [], 30)[0]:
            process.kill()
            pytest.fail(f"it neither draws nor ends\n{drawn!r}")
        try:
            drawn += os.read(ours, 65536)
        except OSError:  # Linux says so that the other end is closed
            break
        if b"last events" in drawn and not pressed:
            os.write(ours, b"xq")
            pressed = True
    os.close(ours)
    assert process.wait(30) == 0
    assert b"sessions" in drawn
    assert drawn.rindex(b"\x1b[?1049l") > drawn.index(b"\x1b[?1049h")


def test_no_count_falls_when_a_worker_dies(watched: Watched) -> None:
    """What a dead worker had counted is counted still; the death is counted too."""
    before = watched.accepted()
    workers = re.findall(r"worker\.started .*worker=1 pid=(\d+)", watched.daemon.output)
    if not workers:
        assert watched.number("mta_workers_wanted") == 1
        return
    os.kill(int(workers[-1]), signal.SIGKILL)
    eventually(lambda: watched.number("mta_workers_died_total") == 1, "the death is counted")
    assert watched.accepted() == before
    eventually(lambda: watched.number("mta_workers_answering") == 2, "another has taken its place")
    assert watched.accepted() == before


def test_a_port_that_is_taken_stops_no_mail(start_daemon: StartDaemon, watched: Watched) -> None:
    """A second daemon with the same port for its numbers carries mail, and says what is wrong."""
    other = start_daemon({"metrics": {"listen": [f"127.0.0.1:{watched.port}"]}})
    submit(other, other.address("bob"), message("without-numbers"))
    assert re.search(r"service\.failed level=error service=metrics .*in use", other.output)

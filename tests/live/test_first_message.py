"""What `docs/first-message.md` tells a newcomer to type works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.live.peers.process import free_ports

ROOT = Path(__file__).resolve().parents[2]

PORTS = ("2525", "2587", "2465", "3525", "3587", "3465", "5353")


def test_the_page_can_be_typed(tmp_path: Path) -> None:
    """Its blocks, one after the other in one shell, bring alice's mail to bob here and to bob at the second server.

    What is changed: the ports, so that nobody else's server is in the way, and nothing is installed.
    """
    page = (ROOT / "docs/first-message.md").read_text()
    script = "".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    script = re.sub(r"^make .*\n", "", script, flags=re.MULTILINE)
    script = script.replace("--demo var/demo", "--demo var/demo --mx-port 2525 --smtpd-port 2587 --smtps-port 2465")
    for number, free in zip(PORTS, free_ports(len(PORTS)), strict=True):
        script = re.sub(rf"\b{number}\b", str(free), script)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    run = subprocess.run(
        ["bash", "-mc", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert "\nSubject: hello\n" in run.stdout, run.stdout + run.stderr
    assert "\nSubject: far away\n" in run.stdout, run.stdout + run.stderr
    assert run.stdout.count("\nReturn-Path: <alice@example.test>\n") + run.stdout.startswith("Return-Path:") == 2
    assert "recipient.delivered" in run.stderr
    assert "fault" not in run.stderr

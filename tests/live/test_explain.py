"""`mta explain` against a real daemon: it says what then happens, and leaves no trace."""

from __future__ import annotations

import json
import smtplib
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon
from tests.live.peers.mail import submit
from tests.live.peers.process import eventually, free_ports

POLICIES: dict[str, Any] = {
    "relay": {"route": [{"domain": "elsewhere.test", "host": "[127.0.0.1]", "port": 1}]},
    "policy": {
        "greylist": {"delay": "1h"},
        "lists": {"deny": [{"of": "sender", "entries": ["spam.test"], "reason": "sends spam"}]},
    },
}


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def told(request: pytest.FixtureRequest, start_daemon: StartDaemon) -> Daemon:
    """A daemon with some policies."""
    return start_daemon({"workers": request.param, **POLICIES})


def explain(daemon: Daemon, *arguments: str) -> str:
    """Run `mta explain`, which succeeds."""
    done = daemon.mta("explain", "--config", str(daemon.settings_file), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_stranger_is_greylisted_and_nobody_remembers(told: Daemon) -> None:
    """Twice the same: the first explanation made nobody known. The alias is shown down to its users, by their lines."""
    asked = ["--from", "ann@example.net", "--to", told.address("team"), "--ip", "203.0.113.7"]
    first, again = explain(told, *asked), explain(told, *asked)
    assert first == again
    assert "450 4.7.1 Greylisted" in first
    assert "=> greylist: defer" in first
    assert f"domains/{told.domain}/users:" in first.partition(f"team@{told.domain} [")[2]


def test_a_rule_is_named_with_its_line(told: Daemon) -> None:
    """The rule that decides stands where it is said to stand."""
    asked = ["--from", "x@spam.test", "--to", told.address("bob"), "--ip", "203.0.113.7", "--json"]
    explained = json.loads(explain(told, *asked))
    decided = explained["steps"][-1]["decided"]
    file, line = decided["at"].rsplit(":", 1)
    assert "spam.test" in Path(file).read_text().splitlines()[int(line) - 1]
    assert (explained["outcome"], decided["rule"]) == ("refused", "lists")


def test_a_file_is_judged(told: Daemon, place: Path) -> None:
    """What a letter holds is judged: the file is read by the command, whoever runs the daemon."""
    letter = place / "letter.eml"
    letter.write_bytes(b"From: bob@" + told.domain.encode() + b"\n\nA bare line feed at the end of each line.\n")
    login = told.address("alice")
    explained = json.loads(explain(told, "--login", login, "--to", "x@elsewhere.test", "--json", str(letter)))
    assert explained["steps"][-1]["reply"].startswith("550 5.7.1 <bob@")
    assert explained["steps"][-1]["decided"]["reason"].startswith(f"From: {told.address('bob')} does not belong to")


def test_a_message_that_waits(told: Daemon) -> None:
    """Of a message in the queue: what was decided, its route, and when it is tried again."""
    login = told.address("alice")
    submit(told, "x@elsewhere.test", f"From: {login}\r\n\r\nhello\r\n".encode())

    def waiting() -> list[dict[str, Any]]:
        listed = told.mta("queue", "list", "--config", str(told.settings_file), "--json", check=True).stdout
        messages = [json.loads(line) for line in listed.splitlines()]
        return [each for each in messages if each["recipients"][0]["attempts"]]

    queue_id = eventually(waiting, "the first attempt has failed")[0]["queue_id"]
    text = explain(told, queue_id)
    assert f"allowed: {login} leads to {login}" in text
    assert "the route of elsewhere.test is [127.0.0.1]" in text
    assert "next attempt" in text
    ahead = json.loads(explain(told, queue_id, "--json"))["ahead"]
    assert [place["place"] for place in ahead["recipients"]] == ["remote"]


def test_a_message_that_has_ended(told: Daemon) -> None:
    """Of a message that is delivered nothing lies ahead; of one that nobody knows nothing is told."""
    with smtplib.SMTP("127.0.0.1", told.mx_port) as client:
        client.ehlo("client.example.net")
        client.mail("ann@example.net")
        client.rcpt(told.address("bob"))
        code, said = client.data(b"Subject: x\r\n\r\nhello\r\n")
    assert code == 250
    text = explain(told, said.split()[-1].decode())
    assert "Nothing lies ahead of it here" in text
    unknown = told.mta("explain", "--config", str(told.settings_file), "0000000000000000zz")
    assert (unknown.returncode, unknown.stderr) == (66, "mta: nobody knows a message 0000000000000000zz\n")


def test_without_a_daemon(place: Path) -> None:
    """One line, and a status that says so."""
    daemon = Daemon(place / f"stopped{free_ports(1)[0]}")
    done = daemon.mta(
        "explain", "--config", str(daemon.settings_file), "--from", "a@example.net", "--to", "b@example.org"
    )
    assert done.returncode == 69
    assert len(done.stderr.splitlines()) == 1

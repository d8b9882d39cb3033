"""``mta queue`` on a daemon that runs, and on the same queue when it is stopped."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon
from tests.live.peers.mail import message, submit
from tests.live.peers.maildir import arrived
from tests.live.peers.process import eventually, free_ports, needs_root, own_program
from tests.live.peers.sink import Sink

pytestmark = pytest.mark.live

LONG = {"first_retry": "1h", "longest_retry": "1h", "rest": "1s", "jitter": 0.0}


@pytest.fixture(scope="module")
def port() -> int:
    """Where the far end will be."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def night_port() -> int:
    """Where another will be; a connection to the first may still be open when its listener is gone."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def waiting(start_daemon: StartDaemon, port: int, night_port: int) -> Daemon:
    """A daemon whose mail for sink.test waits for a host that is down."""
    (dead,) = free_ports(1)
    ports = {"sink.test": port, "other.test": port, "dead.test": dead, "night.test": night_port}
    routes = [{"domain": domain, "host": "[127.0.0.1]", "port": there} for domain, there in ports.items()]
    return start_daemon({"relay": {"route": routes}, "queue": LONG})


def queue(daemon: Daemon, *arguments: str) -> Any:
    """Run ``mta queue``; what it prints as JSON, a value a line."""
    done = daemon.mta("queue", *arguments, "--json", "--config", str(daemon.settings_file), check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def said(daemon: Daemon, *arguments: str) -> str:
    """Run ``mta queue``; what it says, and it says no fault."""
    done = daemon.mta("queue", *arguments, "--config", str(daemon.settings_file))
    assert done.returncode == 0, done.stderr
    return done.stdout


def deferred(daemon: Daemon, token: str, *recipients: str) -> str:
    """Submit a message and wait until its recipients were tried and wait; return its id."""
    before = {each["queue_id"] for each in queue(daemon, "list")}
    submit(daemon, list(recipients), message(token))

    def tried() -> str:
        new = [each for each in queue(daemon, "list") if each["queue_id"] not in before]
        done = new and all(each["attempts"] and each["state"] == "waiting" for each in new[0]["recipients"])
        return str(new[0]["queue_id"]) if done else ""

    return eventually(tried, "a first attempt that failed")


def test_the_queue_of_a_running_daemon(waiting: Daemon, port: int) -> None:
    """What waits is summed up, listed, shown; acts on it are done, and the sender is told of a return."""
    first = deferred(waiting, "first", "dave@sink.test", "erin@sink.test")
    second = deferred(waiting, "second", "dave@other.test")

    total, *destinations = queue(waiting)
    assert (total["messages"], total["states"]) == (2, {"waiting": 3, "active": 0, "held": 0})
    assert [(each["destination"], each["recipients"]) for each in destinations] == [("sink.test", 2), ("other.test", 1)]
    assert "refused" in max(destinations[0]["reasons"])
    assert [each["queue_id"] for each in queue(waiting, "list", "--destination", "other.test")] == [second]
    assert [each["queue_id"] for each in queue(waiting, "list", "--login", "alice@*", "--error", "refused")] == [
        first,
        second,
    ]
    (shown,) = queue(waiting, "show", first)
    assert [each["mailbox"] for each in shown["recipients"]] == ["dave@sink.test", "erin@sink.test"]
    assert "Subject: first" in said(waiting, "content", "--head", first)

    assert "held" in said(waiting, "hold", second, "--reason", "a test")
    with Sink(port=port) as sink:
        said(waiting, "retry", "--all")
        eventually(lambda: sink.received, "what was made due")
        assert [mail.forward_paths for mail in sink.received] == [(b"dave@sink.test", b"erin@sink.test")]
        eventually(lambda: len(queue(waiting, "list")) == 1, "an end of the first message")
        (held,) = queue(waiting, "list", "--state", "held")
        assert re.fullmatch(r"held by \S+: a test \[mta queue hold\]", held["recipients"][0]["reason"])
        said(waiting, "release", "--state", "held")
        eventually(lambda: len(sink.received) == 2, "what was released")

    third = deferred(waiting, "third", "dave@dead.test")
    said(waiting, "bounce", third, "--reason", "dead.test is closed")
    report = arrived(waiting.maildir("alice"), b"dead.test is closed")
    assert b"Status: 5.7.1" in report
    assert b"Subject: third" in report
    fourth = deferred(waiting, "fourth", "dave@dead.test")
    said(waiting, "delete", "--destination", "dead.test")
    assert waiting.mta("queue", "show", fourth, "--config", str(waiting.settings_file)).returncode == 65
    eventually(lambda: not queue(waiting, "list"), "an empty queue")
    assert re.search(r"message\.deleted .*operator=\S+", waiting.output)


def test_the_queue_of_a_stopped_daemon(waiting: Daemon, night_port: int) -> None:
    """The same commands work on what it left; what was done is in force, and in the history, after the next start."""
    held = deferred(waiting, "to-hold", "dave@night.test")
    deleted = deferred(waiting, "to-delete", "dave@night.test")
    returned = deferred(waiting, "to-return", "dave@dead.test")
    waiting.stop()
    assert [each["queue_id"] for each in queue(waiting, "list")] == [held, deleted, returned]
    assert queue(waiting)[0]["messages"] == 3
    said(waiting, "hold", held, "--reason", "at night")
    said(waiting, "delete", deleted)
    said(waiting, "bounce", returned, "--reason", "closed at night")
    with Sink(port=night_port) as sink:
        waiting.start()
        arrived(waiting.maildir("alice"), b"closed at night")
        assert [each["queue_id"] for each in queue(waiting, "list")] == [held]
        said(waiting, "release", held)
        eventually(lambda: sink.received, "the released message")
        assert b"Subject: to-hold" in sink.received[0].content
    told = waiting.mta("trace", held, "--config", str(waiting.settings_file), check=True).stdout
    assert "at night" in told


def test_root_acts_on_the_queue_of_another_user(waiting: Daemon) -> None:
    """What root does to the queue of a stopped daemon leaves nothing that the daemon's own user cannot use."""
    needs_root("to be another user than the server's")
    queue_id = deferred(waiting, "by-root", "dave@dead.test")
    waiting.kill()
    for command in (("list",), ("hold", queue_id, "--reason", "root was here"), ("content", queue_id)):
        arguments = [own_program("mta"), "queue", *command, "--config", str(waiting.settings_file)]
        done = subprocess.run(arguments, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    owners = {path.stat().st_uid for path in (waiting.directory / "var").rglob("*") if not path.is_symlink()}
    assert owners == {(waiting.directory / "var").stat().st_uid}
    waiting.start()
    (held,) = queue(waiting, "list", "--state", "held")
    assert held["recipients"][0]["reason"] == "held by root: root was here [mta queue hold]"
    assert "root was here" in waiting.mta("trace", queue_id, "--config", str(waiting.settings_file), check=True).stdout
    said(waiting, "delete", queue_id)


def test_the_queue_of_two_workers(start_daemon: StartDaemon) -> None:
    """Two workers answer as one: sums are added, lists are in order, acts and single messages find their worker."""
    (dead,) = free_ports(1)
    there = {"host": "[127.0.0.1]", "port": dead}
    daemon = start_daemon(
        {
            "workers": 2,
            "relay": {"route": [{"domain": name, **there} for name in ("dead.test", ".dead.test")]},
            "queue": LONG,
        }
    )
    for number in range(30):
        submit(daemon, [f"dave@{number % 3}.dead.test", "erin@dead.test"][number % 2 :], message(f"two-{number}"))
    shards = {path.name for path in (daemon.directory / "var/spool").iterdir()}
    assert shards == {"0", "1"}
    listed = eventually(lambda: len(found := queue(daemon, "list")) == 30 and found, "30 messages in the queue")
    queue_ids = [each["queue_id"] for each in listed]
    assert queue_ids == sorted(queue_ids)
    assert [each["queue_id"] for each in queue(daemon, "list", "--limit", "7")] == queue_ids[:7]
    total, *destinations = queue(daemon)
    assert (total["messages"], sum(total["states"].values())) == (30, 45)
    assert destinations[0]["destination"] == "dead.test"
    assert destinations[0]["recipients"] == 30
    for queue_id in queue_ids[:4]:
        assert queue(daemon, "show", queue_id)[0]["queue_id"] == queue_id
    eventually(
        lambda: all(each["attempts"] for one in queue(daemon, "list") for each in one["recipients"]), "first attempts"
    )
    (held,) = queue(daemon, "hold", "--destination", "dead.test")
    assert (held["acted"], held["recipients"]) == (30, 30)
    assert queue(daemon)[0]["states"]["held"] == 30
    (deleted,) = queue(daemon, "delete", *queue_ids[:5])
    assert deleted["acted"] == 5
    daemon.stop()
    assert [each["queue_id"] for each in queue(daemon, "list")] == queue_ids[5:]
    (released,) = queue(daemon, "release", "--all")
    assert released["acted"] == 25

"""The timeline on a running server: `mta trace`, `mta send`, `mta log`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon
from tests.live.peers.mail import message, submit
from tests.live.peers.process import Process, eventually, own_program, unprivileged
from tests.live.peers.sink import Sink

pytestmark = pytest.mark.live

REFUSALS = {b"no@sink.test": b"550 5.7.1 not for you", b"later@sink.test": b"450 4.2.1 come back later"}


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """The far end of sink.test."""
    with Sink(REFUSALS) as listening:
        yield listening


@pytest.fixture(scope="module")
def server(start_daemon: StartDaemon, sink: Sink) -> Daemon:
    """Our server, two workers, with a route to the sink, a short first wait, and a policy against spam.test."""
    return start_daemon(
        {
            "workers": 2,
            "relay": {"route": [{"domain": "sink.test", "host": "[127.0.0.1]", "port": sink.port}]},
            "queue": {"first_retry": "1s", "longest_retry": "2s"},
            "policy": {"lists": {"deny": [{"of": "sender", "entries": ["spam.test"]}]}},
        }
    )


def run(server: Daemon, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mta` with the server's configuration."""
    return server.mta(command, "--config", str(server.settings_file), *arguments)


def send(server: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `mta send` as alice."""
    path = server.directory / "password"
    path.write_text(server.passwords["alice"] + "\n")
    login = ["--login", "alice@example.test", "--password-file", str(path)]
    return run(server, "send", *login, *arguments)


def queue_id(sent: subprocess.CompletedProcess[str]) -> str:
    """The queue id in the reply that `mta send` shows."""
    return sent.stdout.partition("queued as ")[2].split()[0]


def in_order(text: str, *words: str) -> None:
    """Check that all words stand in a text, one after the other."""
    at = 0
    for word in words:
        found = text.find(word, at)
        assert found >= 0, f"{word!r} does not follow in:\n{text}"
        at = found + len(word)


def traced(server: Daemon, what: str, *arguments: str) -> list[dict[str, Any]]:
    """What `mta trace --json` lists."""
    found = run(server, "trace", what, "--json", *arguments)
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_a_message_that_is_delivered_here(server: Daemon) -> None:
    """`mta send` follows it to the Maildir; its trace says connection, TLS, login, commit and file."""
    sent = send(server, "--to", "bob@example.test")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    in_order(sent.stdout, "TLS: TLSv1.3", "login alice@example.test: 235", "queued as", "accepted", "delivered")
    told = run(server, "trace", queue_id(sent))
    assert told.returncode == 0
    in_order(
        told.stdout,
        "alice@example.test > bob@example.test",
        "delivered: in the Maildir of bob@example.test",
        "connection to smtpd from 127.0.0.1 port ",
        "TLSv1.3 TLS_",
        "alice@example.test logged in from 127.0.0.1 by PLAIN",
        "/users:2]",
        ", synced ",
        "alone: in the Maildir of bob@example.test [",
        "/users:3]",
        "file: ",
        "end of the session with 127.0.0.1",
    )
    (file,) = [line.split("file: ")[1] for line in told.stdout.splitlines() if "file: " in line]
    assert b"Test message from mta send" in Path(file).read_bytes()


def test_a_message_that_is_deferred_first(server: Daemon, sink: Sink) -> None:
    """`mta send` ends with the reply and the next attempt; the trace has both attempts, and follows to the end."""
    sink.refusals = REFUSALS
    sent = send(server, "--to", "later@sink.test")
    assert sent.returncode == 75
    in_order(sent.stdout, "not delivered yet to later@sink.test, next attempt ", "said: 450 4.2.1 come back later")
    sink.refusals = {key: value for key, value in REFUSALS.items() if b"later" not in key}
    try:
        told = run(server, "trace", queue_id(sent), "--follow")
    finally:
        sink.refusals = REFUSALS
    in_order(
        told.stdout,
        "queued for sink.test",
        "route to sink.test: [127.0.0.1]",
        "said: 450 4.2.1 come back later",
        "after 1 attempt;",
        "delivered to later@sink.test",
        "taken, in clear text (no STARTTLS offered)",
        "said: 250 2.0.0 kept",
    )


def test_a_message_that_bounces(server: Daemon) -> None:
    """The trace of a failure has the story of its report, and that of the report names the message."""
    sent = send(server, "--to", "no@sink.test")
    assert sent.returncode == 69
    failed = queue_id(sent)
    (report,) = eventually(lambda: reports(server, failed), "the report")
    whole = run(server, "trace", failed).stdout
    in_order(
        whole,
        "failed for no@sink.test (5.7.1): refused at RCPT TO",
        "said: 550 5.7.1 not for you",
        f"the sender is told by report {report}",
        f"Message {report}",
        f"a report about message {failed}",
        "delivered to alice@example.test",
    )
    assert f"message {failed}" in run(server, "trace", report).stdout


def reports(server: Daemon, queue_id: str) -> list[str]:
    """The reports that alice's list of messages names for one of them."""
    return [each["queue_id"] for each in traced(server, "alice@example.test") if each.get("about") == queue_id]


def test_an_alias_says_where_it_leads(server: Daemon) -> None:
    """Mail for an alias names the mailboxes and the line; it is found by them too."""
    aliases = server.settings_file.parent / "domains/example.test/aliases"
    aliases.write_text(aliases.read_text() + "crew: alice, bob, dave@sink.test\n")
    assert server.reload().returncode == 0
    sent = send(server, "--to", "crew@example.test")
    assert sent.returncode == 0, sent.stdout
    assert "3 delivered" in sent.stdout
    line = len(aliases.read_text().splitlines())
    in_order(
        run(server, "trace", queue_id(sent)).stdout,
        "crew@example.test leads to alice@example.test, bob@example.test, dave@sink.test (by ",
        f"/aliases:{line}",
        "delivered to ",
        "delivered to ",
        "delivered to ",
    )
    for address in ("crew@example.test", "dave@sink.test", "DAVE@sink.test"):
        assert queue_id(sent) in [each["queue_id"] for each in traced(server, address)]


def test_mail_that_is_refused_is_found_without_a_queue_id(server: Daemon) -> None:
    """A recipient that does not exist: `mta send` says the rule and its line; found by recipient, sender, session."""
    sent = run(server, "send", "--from", "carol@else.test", "--to", "ghost@example.test")
    assert sent.returncode == 69
    in_order(sent.stdout, "550 5.1.1", "refused: example.test has no such mailbox [", "/domains/example.test]")
    for what in ("ghost@example.test", "carol@else.test"):
        told = run(server, "trace", what)
        in_order(
            told.stdout,
            "connection to mx from 127.0.0.1",
            "recipient ghost@example.test, from carol@else.test, refused: example.test has no such mailbox",
            "reply: 550 5.1.1",
        )
    session = told.stdout.split()[1]
    assert run(server, "trace", session).stdout.splitlines()[1:] == told.stdout.splitlines()[1:]
    assert session in [each.get("session") for each in traced(server, "127.0.0.1", "--limit", "1000")]


def test_mail_that_a_policy_refuses(server: Daemon) -> None:
    """The trace names the policy, the stage, and the line of the settings that decided."""
    sent = run(server, "send", "--from", "eve@spam.test", "--to", "bob@example.test")
    assert sent.returncode == 69
    in_order(
        run(server, "trace", "eve@spam.test").stdout,
        "policy lists at rcpt says Reject",
        "recipient bob@example.test, from eve@spam.test, refused",
        "mta.toml:",
        "reply: 550",
    )


def test_the_history_is_read_while_nobody_runs(start_daemon: StartDaemon) -> None:
    """With the daemon stopped, or killed, everything but the last second is there; a queue id nobody knows is told."""
    daemon = start_daemon()
    submit(daemon, "bob@example.test", message("stopped"))
    assert run(daemon, "trace", "<stopped@client.test>").returncode == 0  # which has it written
    daemon.kill()
    told = run(daemon, "trace", "<stopped@client.test>")
    assert "delivered: in the Maildir of bob@example.test" in told.stdout
    assert told.stderr == ""
    nothing = run(daemon, "trace", "0" * 18)
    assert nothing.returncode == 66
    assert nothing.stderr == f"mta: nothing in the history mentions {'0' * 18}\n"
    refused = run(daemon, "send", "--from", "a@b.test", "--to", "bob@example.test")
    assert refused.returncode == 69
    why = "Connection refused; does the server run? mta check"
    assert refused.stderr == f"mta: mx at 127.0.0.1:{daemon.mx_port}: {why}\n"


def test_a_wrong_password_is_told(server: Daemon) -> None:
    """`mta send` with a wrong password ends with 77 and the event that says so."""
    path = server.directory / "wrong"
    path.write_text("wrong\n")
    sent = run(
        server, "send", "--login", "bob@example.test", "--password-file", str(path), "--to", "alice@example.test"
    )
    assert sent.returncode == 77
    in_order(sent.stdout, "login bob@example.test: 535", "login of bob@example.test from 127.0.0.1 refused")


def test_events_are_followed(server: Daemon, place: Path) -> None:
    """`mta log -f` prints what happens in words, as it happens, and no other kind than was asked for."""
    config = str(server.settings_file)
    argv = [own_program("mta"), "log", "--config", config, "-f", "-n", "0", "--kind", "message.*"]
    following = Process(argv, place / "followed", cwd="/", **unprivileged())
    try:
        # Until it follows: nothing says that it has begun
        sent: list[str] = []

        def seen() -> bool:
            sent.append(queue_id(send(server, "--to", "bob@example.test")))
            return any(each in following.output for each in sent)

        following.wait_for(seen, "an event that was followed")
    finally:
        following.popen.terminate()
        following.end()
    lines = following.output.splitlines()
    assert all("accepted alice@example.test > bob@example.test, synced " in line for line in lines), following.output


def test_events_are_chosen(server: Daemon) -> None:
    """`mta log` filters by kind, level, login, message and time, and says the same as JSON."""
    sent = queue_id(send(server, "--to", "bob@example.test"))
    (line,) = run(server, "log", "--queue-id", sent).stdout.splitlines()
    assert f"  {sent}  accepted alice@example.test > bob@example.test, synced " in line
    (event,) = [json.loads(each) for each in run(server, "log", "--queue-id", sent, "--json").stdout.splitlines()]
    assert (event["kind"], event["queue"]) == ("message.accepted", sent)
    logins = run(server, "log", "--login", "alice@example.test", "--kind", "login.*", "-n", "1").stdout
    assert "alice@example.test logged in from 127.0.0.1 by PLAIN" in logins
    assert run(server, "log", "--level", "error", "--since", "1h").stdout == ""
    wrong = run(server, "log", "--kind", "letter.*")
    assert wrong.returncode == 2
    assert "no event is called 'letter.*'" in wrong.stderr

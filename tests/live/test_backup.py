"""``mta backup`` of a daemon under load, and ``mta restore`` of it elsewhere."""

from __future__ import annotations

import json
import re
import smtplib
import threading
from contextlib import suppress

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.mail import log_in, message
from tests.live.peers.process import eventually, free_ports
from tests.live.peers.sink import Sink

pytestmark = pytest.mark.live

LARGE = (b"y" * 70 + b"\r\n") * 5000
"""Content that stands in a file of its own."""


def test_a_queue_that_is_backed_up_under_load_arrives_from_elsewhere(start_daemon: StartDaemon) -> None:
    """What was in the queue when the backup began is held after a restore, and arrives whole once released."""
    (closed,) = free_ports(1)
    with Sink() as open_sink:
        routes = [
            {"domain": "closed.test", "host": "[127.0.0.1]", "port": closed},
            {"domain": "open.test", "host": "[127.0.0.1]", "port": open_sink.port},
        ]
        settings = {"relay": {"route": routes}, "queue": {"first_retry": "1h", "longest_retry": "1h", "rest": "1s"}}
        old = start_daemon(settings)
        accepted: list[str] = []
        stop = threading.Event()

        def load(sender: int) -> None:
            with suppress(smtplib.SMTPException, OSError), log_in(old) as client:
                for number in range(100_000):
                    if stop.is_set():
                        return
                    token = f"load-{sender}-{number}."
                    # what waits in the queue, small and large, beside what is delivered meanwhile
                    domains = (["closed.test"], ["open.test"], ["closed.test", "open.test"])[number % 3]
                    body = LARGE if number % 2 else b"small\r\n"
                    client.sendmail("alice@example.test", [f"dave@{each}" for each in domains], message(token, body))
                    if "closed.test" in domains:
                        accepted.append(token)

        senders = [threading.Thread(target=load, args=(number,)) for number in range(4)]
        for sender in senders:
            sender.start()
        eventually(lambda: len(accepted) > 100, "100 messages in the queue")
        before = set(accepted)
        dest = old.directory / "backup"
        made = old.mta("backup", "--history", "--config", str(old.settings_file), str(dest))
        during = set(accepted) - before
        stop.set()
        for sender in senders:
            sender.join()
        assert made.returncode == 0, made.stderr
        assert during, "nothing was accepted while the backup was made"
        old.kill()
    new = start_daemon(settings)
    new.stop()
    restored = new.mta("restore", "--config", str(new.settings_file), str(dest))
    assert restored.returncode == 0, restored.stderr
    with Sink(port=closed) as sink:
        new.start()
        listed = new.mta("queue", "list", "--json", "--config", str(new.settings_file), check=True).stdout
        states = {each["state"] for line in listed.splitlines() for each in json.loads(line)["recipients"]}
        assert states == {"held"}
        assert "restored from the backup of" in listed
        assert sink.received == []
        (reason,) = re.findall(r"release --error '([^']+)'", restored.stdout)
        released = new.mta("queue", "release", "--error", reason, "--config", str(new.settings_file), check=True)
        assert "released" in released.stdout

        def arrived() -> dict[str, bytes]:
            found = {}
            for mail in list(sink.received):
                head, _, body = mail.content.partition(b"\r\n\r\n")
                (token,) = re.findall(rb"Subject: (load-\S+)", head)
                found[token.decode()] = body
            return found

        eventually(lambda: before <= set(arrived()), "all that was in the queue when the backup began")
        for token, body in arrived().items():
            assert body == (LARGE if int(token.rstrip(".").rpartition("-")[2]) % 2 else b"small\r\n")

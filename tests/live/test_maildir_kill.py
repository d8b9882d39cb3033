"""Kill -9 of real writers: what was acknowledged is there, what is there is whole. (No power cut: the kernel lives.)"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from mta.mail.queueid import LENGTH

ROUNDS = 4
SIZE = 4096
TREE = Path(__file__).parents[2]

WRITER = """
    import os, random, sys
    from twisted.internet import reactor, threads
    from mta.disk.posix import PosixDisk
    from mta.mail.queueid import new_queue_id
    from mta.maildir.store import Delivery, MaildirStore, Ownership
    from mta.observe.journal import Journal
    import time

    root, size = sys.argv[1], int(sys.argv[2])
    chance = random.SystemRandom()
    store = MaildirStore(PosixDisk(), Ownership(os.geteuid()), run_in_thread=threads.deferToThread,
                         clock=reactor, journal=Journal(time.time))

    def one(session):
        queue_id = new_queue_id(time.time(), 0, chance)
        content = (queue_id.encode() * size)[:size] + b"\\r\\n"
        done = store.deliver(Delivery(f"{root}/{session % 3}/Maildir", queue_id, (content,)))
        done.addCallback(lambda batch: os.write(1, f"{queue_id}\\n".encode()))
        done.addCallbacks(lambda _: reactor.callLater(0, one, session), lambda failure: failure.printTraceback())

    for session in range(8):
        one(session)
    reactor.run()
"""


@pytest.mark.live
def test_killed_writers_lose_nothing_that_they_acknowledged(tmp_path: Path) -> None:
    """After each kill -9 every acknowledged message is in ``new``, and every file in ``new`` is a whole message."""
    chance = random.Random(5)
    acknowledged: list[str] = []
    for _ in range(ROUNDS):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), str(SIZE)],
            stdout=subprocess.PIPE,
            cwd=TREE,
            env={**os.environ, "PYTHONPATH": str(TREE)},
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        killer = threading.Timer(chance.uniform(0.02, 0.2), writer.send_signal, [signal.SIGKILL])
        killer.start()
        said = first + writer.stdout.read()
        assert writer.wait() == -signal.SIGKILL
        # a line that was cut is no acknowledgement
        acknowledged += [line for line in said.decode().split("\n")[:-1] if len(line) == LENGTH]
    files = {path.name.split(".")[1]: path.read_bytes() for path in tmp_path.glob("*/Maildir/new/*")}
    assert len(acknowledged) >= ROUNDS
    assert set(acknowledged) <= set(files)
    assert [
        queue_id for queue_id, content in files.items() if content != (queue_id.encode() * SIZE)[:SIZE] + b"\n"
    ] == []

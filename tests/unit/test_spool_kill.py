"""A process killed while it inserts: what it had acknowledged is found."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from mta.disk.posix import PosixDisk
from mta.spool.shard import open_spool
from tests.doubles.spool import NOW, whole
from tests.doubles.sync import inline, result

INSERTING = """
import itertools, sys
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from mta.disk.posix import PosixDisk
from mta.spool.shard import open_spool
from tests.doubles.spool import NOW, message

root, start = sys.argv[1:]
spool, _ = open_spool(root, 0, PosixDisk(), deferToThread, lambda *a: None, NOW, 1.0, inline_maximum=2000)

def insert(number):
    queue_id = f"{start}{number:06d}"
    # every tenth is too large for the database
    content = queue_id.encode() * (500 if number % 10 == 0 else 50)
    spool.insert(message(queue_id, active=True, content=content)).addCallbacks(acknowledged, fail, [queue_id, number])

def acknowledged(_, queue_id, number):
    print(queue_id, flush=True)
    insert(number + 20)

def fail(failure):
    failure.printTraceback()
    reactor.stop()

for number in range(20):
    reactor.callWhenRunning(insert, number)
reactor.run()
"""


def test_a_killed_process_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """After each of several kills at random moments, every message that was acknowledged is there, and whole."""
    chance = random.Random()
    acknowledged: list[str] = []
    for start in range(3):
        arguments = [sys.executable, "-c", INSERTING, str(tmp_path), str(start)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, env={"PYTHONPATH": "."}, text=True)
        assert process.stdout is not None
        for _ in range(chance.randint(20, 300)):
            acknowledged.append(process.stdout.readline().strip())
        process.kill()
        acknowledged += process.stdout.read().split()
        process.wait()
    spool, recovered = open_spool(str(tmp_path), 0, PosixDisk(), inline, lambda *_: None, NOW, 1.0)
    assert recovered.missing == ()
    for queue_id in acknowledged:
        content = whole(spool.content(queue_id))
        assert content == queue_id.encode() * (len(content) // len(queue_id))
        assert len(content) == len(queue_id) * (500 if int(queue_id[1:]) % 10 == 0 else 50)
    assert spool.counts().messages >= len(acknowledged) >= 60
    # of what was not acknowledged, at most what was under way may be there
    assert spool.counts().messages <= len(acknowledged) + 3 * 20
    result(spool.close())

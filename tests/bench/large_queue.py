"""What `mta queue` costs where a million recipients wait: ``python -m tests.bench.large_queue [DIRECTORY [MESSAGES]]``.

Makes a shard of 500,000 messages with two recipients each, for three large destinations and 2,000 small ones, then runs
the operator's commands on a real reactor. For each it prints how long it took, the longest time between two turns of
the reactor (with what else the machine does), and the most processor time of one turn, which is what holds up mail.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import defer, reactor, task

from mta.disk.posix import PosixDisk
from mta.mail.queueid import new_queue_id
from mta.mail.reason import Reason
from mta.observe.journal import Journal
from mta.service.operator.queue import QueueCommands, end_of
from mta.service.operator.queue_acts import QueueActs
from mta.service.pools import start_pools
from mta.spool.port import QueuedMessage
from mta.spool.schema import migrate
from mta.spool.spools import Spools

LARGE = ("one.example", "two.example", "three.example")
REASONS = (
    "450 4.2.1 mailbox is busy, try again later",
    "421 4.7.0 too many connections from your network",
    "no answer: timed out",
)
DAYS = 3 * 86400.0


def make(root: str, messages: int) -> None:
    """Make the shard, without a sync."""
    os.makedirs(f"{root}/0/content", exist_ok=True)
    connection = sqlite3.connect(f"{root}/0/queue.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    migrate(connection)
    chance, now = random.Random(1), time.time()  # the same queue each time
    small = [f"d{number}.example" for number in range(2000)]
    connection.execute("BEGIN")
    for number in range(messages):
        accepted = now - DAYS + number * DAYS / messages
        queue_id = new_queue_id(accepted, 0, chance)
        sender, login = f"news{chance.randrange(50)}@sender.example", f"user{chance.randrange(200)}@sender.example"
        row = (queue_id, accepted, sender, "7BIT", 0, "", "", 300, 0, "smtpd", "1-a", login, "192.0.2.7", "", 0, 0)
        connection.execute(f"INSERT INTO message VALUES ({','.join('?' * len(row))})", row)
        connection.execute("INSERT INTO content VALUES (?, ?)", (queue_id, b"y" * 300))
        for place in range(2):
            domain = chance.choice(LARGE if chance.random() < 0.6 else small)
            mailbox, held = f"user{chance.randrange(10**6)}@{domain}", chance.random() < 1e-5
            due, attempts, why = now + chance.random() * 14400, chance.randrange(1, 12), chance.choice(REASONS)
            recipient = (
                queue_id,
                place,
                mailbox,
                None,
                6,
                "",
                domain,
                2 if held else 0,
                due,
                attempts,
                0,
                why,
                "mx",
                0,
                "",
            )
            connection.execute(f"INSERT INTO recipient VALUES ({','.join('?' * len(recipient))})", recipient)
    connection.execute("COMMIT")
    connection.close()


class NoRelay:
    """Nothing is tried."""

    def withdraw(self, message: QueuedMessage) -> frozenset[int]:
        """Give the operator everything."""
        return frozenset()

    def give_back(self, queue_id: str) -> None:
        """Do nothing."""

    def rouse(self, destination: str) -> None:
        """Do nothing."""

    async def give_up(self, message: QueuedMessage, recipients: Any, reason: Reason) -> None:
        """Do nothing."""


class Bench:
    """The commands over the shard, and a clock in the reactor."""

    def __init__(self, root: str) -> None:
        pools = start_pools(reactor, 1)
        journal = Journal(time.time)
        spool = Spools(root, PosixDisk(), pools.commits, journal, time.monotonic, 14400.0, run_large=pools.large)
        spool.open()
        self.looks = QueueCommands(spool, pools.large)
        self.acts = QueueActs(spool, NoRelay(), journal, pools.large)
        self.turns: list[tuple[float, float]] = []
        self.last = (time.perf_counter(), time.thread_time())
        task.LoopingCall(self.turn).start(0.001)

    def turn(self) -> None:
        """Note how long the last turn took, by the clock and of the processor."""
        now = (time.perf_counter(), time.thread_time())
        self.turns.append((now[0] - self.last[0], now[1] - self.last[1]))
        self.last = now

    async def measure(self, name: str, what: Callable[[], Any]) -> None:
        """Run something and print what it cost."""
        self.turns.clear()
        began = time.perf_counter()
        await what()
        took = time.perf_counter() - began
        between = max((each for each, _ in self.turns), default=0.0)
        busy = max((each for _, each in self.turns), default=0.0)
        print(
            f"{name:45} {took:8.3f} s   between turns {between * 1000:6.1f} ms   one turn {busy * 1000:5.1f} ms",
            flush=True,
        )

    async def all_of(self, act: str, **wanted: Any) -> None:
        """Act on all that fits."""
        after, more = "", True
        while more:
            after = end_of(await self.acts.act({"act": act, "after": after, **wanted}))
            more = bool(after)

    async def run(self) -> None:
        """Measure everything."""
        looks = self.looks
        await self.measure("nothing", lambda: task.deferLater(reactor, 1.0, lambda: None))
        await self.measure("summary", lambda: looks.summary({}))
        await self.measure("first page", lambda: looks.page({}))
        for wanted in (
            {"destination": "one.example"},
            {"state": "held"},
            {"sender": "news7@*"},
            {"error": "no such text"},
            {"recipient": "nobody@*"},
            {"accepted_from": time.time() - 60},
        ):
            await self.measure(f"page, {wanted}"[:45], partial(looks.page, wanted))
        await self.measure("count of all", lambda: looks.count({}))
        await self.measure("hold d7.example", lambda: self.all_of("hold", destination="d7.example"))
        await self.measure("retry one.example", lambda: self.all_of("retry", destination="one.example"))
        await self.measure("delete two.example", lambda: self.all_of("delete", destination="two.example"))


async def _whole(root: str, control: Any) -> None:
    try:
        await Bench(root).run()
    except Exception:
        traceback.print_exc()
    finally:
        control.stop()


def main() -> None:
    """Make the queue where there is none yet, and measure."""
    root = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="mta-queue-")
    if not os.path.exists(f"{root}/0/queue.db"):
        make(root, int(sys.argv[2]) if len(sys.argv) > 2 else 500_000)
    control: Any = reactor
    control.callWhenRunning(defer.ensureDeferred, _whole(root, control))
    control.run()
    os._exit(0)  # the pools' threads have nothing left to do


if __name__ == "__main__":
    main()

"""The threads of a worker: three pools, each bounded, so that no kind of work waits behind another.

Everybody waits for commits, and they are short; large files may keep a disk busy for seconds; passwords take a core
each. Names are looked up and connections made on the reactor, without a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Any

from twisted.internet import defer, threads
from twisted.python.threadpool import ThreadPool

from mta.disk.port import RunInThread

COMMITS = 8
"""Commits at once. Each spool shard and each volume of Maildirs has one under way; their probes and repairs come on
top."""
LARGE = 4
"""Large contents written, synced or read at once: more would share the same disk."""


@dataclass(frozen=True, slots=True)
class Pools:
    """Where blocking functions run."""

    commits: RunInThread
    """What makes batches durable: COMMIT in the spool, syncs of Maildirs, and short work around them."""
    large: RunInThread
    """What takes long for a single message: its content written to a file, synced, or looked for."""
    passwords: RunInThread
    """Verification of passwords."""
    stop: Callable[[], defer.Deferred[None]]
    """Take nothing more; fires when all that was begun has ended. A thread that hangs does not keep the process."""


class _Daemon(Thread):
    def __init__(self, *args: Any, **arguments: Any) -> None:
        super().__init__(*args, daemon=True, **arguments)


class _Pool(ThreadPool):
    threadFactory = _Daemon  # noqa: N815  # what ThreadPool calls it


def start_pools(reactor: Any, passwords: int) -> Pools:
    """Make the pools, with `passwords` threads for passwords. Threads are started when there is work."""
    sizes = {"commits": COMMITS, "large": LARGE, "passwords": passwords}
    pools = {name: _Pool(0, size, name) for name, size in sizes.items()}
    for pool in pools.values():
        pool.start()

    def runner(name: str) -> RunInThread:
        def run(function: Callable[..., Any], /, *args: object) -> defer.Deferred[Any]:
            return threads.deferToThreadPool(reactor, pools[name], function, *args)

        return run

    def stop() -> defer.Deferred[None]:
        done: defer.Deferred[None] = defer.Deferred()

        def join() -> None:
            for pool in pools.values():
                pool.stop()
            reactor.callFromThread(done.callback, None)

        _Daemon(target=join, name="stop").start()
        return done

    return Pools(runner("commits"), runner("large"), runner("passwords"), stop)

"""The threads of a worker: kinds of work that do not wait behind each other, and an end that nothing keeps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mta.service.pools import COMMITS, LARGE, Pools, start_pools

PATIENCE = 10


class CallsBack:
    """A reactor that takes calls from threads, which the test makes."""

    def __init__(self) -> None:
        self.calls: queue.Queue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.Queue()

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        """Take a call."""
        self.calls.put((function, args))

    def turn(self) -> None:
        """Make the next call."""
        function, args = self.calls.get(timeout=PATIENCE)
        function(*args)


@pytest.fixture
def reactor() -> CallsBack:
    """A reactor."""
    return CallsBack()


@pytest.fixture
def pools(reactor: CallsBack) -> Iterator[Pools]:
    """Pools with two threads for passwords."""
    started = start_pools(reactor, 2)
    yield started
    started.stop()


@pytest.mark.parametrize(("name", "size"), [("commits", COMMITS), ("large", LARGE), ("passwords", 2)])
def test_no_work_waits_behind_work_of_another_kind(reactor: CallsBack, pools: Pools, name: str, size: int) -> None:
    """With all threads of one pool hanging, one more waits there, and the other pools work."""
    go_on = threading.Event()
    begun: queue.Queue[str] = queue.Queue()

    def hang() -> None:
        begun.put(threading.current_thread().name)
        go_on.wait(PATIENCE)

    for _ in range(size + 1):
        getattr(pools, name)(hang)
    names = [begun.get(timeout=PATIENCE) for _ in range(size)]
    assert all(name in each for each in names)
    assert len(set(names)) == size
    assert begun.empty()
    for other in {"commits", "large", "passwords"} - {name}:
        done: list[str] = []
        getattr(pools, other)(lambda: "done").addCallback(done.append)
        reactor.turn()
        assert done == ["done"]
    go_on.set()


def test_a_failure_is_the_failure_of_the_deferred(reactor: CallsBack, pools: Pools) -> None:
    """What a function raises in a thread comes back to who asked for it."""
    failed: list[Any] = []
    pools.large(int, "x").addErrback(failed.append)
    reactor.turn()
    assert failed[0].check(ValueError)


def test_the_stop_waits_for_what_runs_and_blocks_nobody(reactor: CallsBack) -> None:
    """`stop` returns at once, also while a thread hangs, which does not keep the process; it fires when all ended."""
    pools = start_pools(reactor, 1)
    go_on, begun = threading.Event(), threading.Event()
    daemons: list[bool] = []

    def hang() -> None:
        daemons.append(threading.current_thread().daemon)
        begun.set()
        go_on.wait(PATIENCE)

    pools.commits(hang)
    begun.wait(PATIENCE)
    stopped = pools.stop()
    assert not stopped.called
    go_on.set()
    while not stopped.called:
        reactor.turn()
    assert daemons == [True]

"""Shards summed up."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from mta.disk.posix import PosixDisk
from mta.mail.reason import Reason
from mta.observe.tally import Tally
from mta.observe.timed import timed_syncs
from mta.spool.port import Retry, State
from mta.spool.shard import open_spool
from mta.spool.sqlite import SqliteSpool
from mta.spool.summary import EXACT, SAMPLE, summarise
from tests.doubles.spool import message
from tests.doubles.sync import inline, result

NOW = 1000.0


def shard(root: Path, number: int = 0) -> SqliteSpool:
    """Open a shard."""
    return open_spool(str(root), number, PosixDisk(), inline, lambda *_: None, NOW, 1e5)[0]


def queue(spool: SqliteSpool, queue_id: str, destination: str, copies: int = 1, accepted: float = NOW) -> None:
    """Put a message into the queue."""
    made = message(queue_id, *[f"u{number}@{destination}" for number in range(copies)])
    made = replace(made, destinations=[destination] * copies, accepted=accepted, active=False)
    result(spool.insert(made))


def test_the_largest_destinations_are_named_over_all_shards(tmp_path: Path) -> None:
    """Destinations of several shards are one list, the largest first; what is not named is one number."""
    one, two = shard(tmp_path, 0), shard(tmp_path, 1)
    queue(one, "0a", "a.test", 3, accepted=700.0)
    queue(one, "0b", "b.test", 2)
    queue(two, "1a", "c.test", 1, accepted=600.0)
    queue(two, "1c", "b.test", 2)
    seen = summarise([one.path, two.path], 2)
    assert {name: each.recipients for name, each in seen.largest.items()} == {"b.test": 4, "a.test": 3}
    assert list(seen.largest) == ["b.test", "a.test"]
    assert (seen.others, seen.destinations, seen.messages) == (1, 3, 4)
    assert seen.oldest == 600.0


def test_why_and_until_when_a_destination_waits_is_seen(tmp_path: Path) -> None:
    """States, reasons and the next attempt are those of its recipients."""
    spool = shard(tmp_path)
    queue(spool, "0a", "a.test", 3)
    result(
        spool.record(
            "0a",
            [
                Retry(0, 1500.0, Reason("no answer", "a.test")),
                Retry(1, 1400.0, Reason("no answer", "a.test")),
                Retry(2, 1300.0, Reason("asked to", "me"), state=State.HELD),
            ],
        )
    )
    seen = summarise([spool.path], 5).largest["a.test"]
    assert seen.states == {State.WAITING: 2, State.HELD: 1}
    assert seen.reasons.most_common(1) == [("no answer [a.test]", 2)]
    assert seen.next_attempt == 1400.0


def test_of_a_large_destination_some_reasons_are_looked_at(tmp_path: Path) -> None:
    """All its recipients are counted, and the reasons of the oldest and newest are read."""
    spool = shard(tmp_path)
    queue(spool, "0a", "a.test", EXACT + 10)
    seen = summarise([spool.path], 5).largest["a.test"]
    assert (seen.recipients, seen.states[State.WAITING], seen.sampled) == (EXACT + 10, EXACT + 10, 2 * SAMPLE)


def test_an_empty_queue_has_nothing(tmp_path: Path) -> None:
    """No destination, no age."""
    seen = summarise([shard(tmp_path).path], 5)
    assert (seen.largest, seen.others, seen.oldest) == ({}, 0, None)


def test_a_look_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """A queue that cannot be counted in time fails the look, not the server."""
    spool = shard(tmp_path)
    for number in range(3):
        queue(spool, f"0{number:04}", "a.test", 5000)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        summarise([spool.path], 5, lambda: True)


def test_each_commit_is_measured(tmp_path: Path) -> None:
    """Batch and time of a sync are told for each COMMIT."""
    clock = count(0.0, 0.25)
    tally = Tally()
    timed = timed_syncs(tally, "spool", lambda: next(clock))
    spool, _ = open_spool(str(tmp_path), 0, PosixDisk(), inline, lambda *_: None, NOW, 1e5, timed=timed)
    queue(spool, "0a", "a.test")
    queue(spool, "0b", "a.test")
    samples = tally.samples()
    assert samples["mta_commit_sync_seconds"]["spool"]["sum"] == 0.5
    assert sum(samples["mta_commit_sync_seconds"]["spool"]["counts"]) == 2
    assert samples["mta_commit_batch_size"]["spool"]["sum"] == 2

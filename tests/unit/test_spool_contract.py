"""The contract of `mta.spool.port`: one suite for the model and for SQLite."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer

from mta.disk.posix import PosixDisk
from mta.mail.envelope import Body, Envelope, Notify, Recipient
from mta.mail.reason import Reason
from mta.smtp.address import Mailbox
from mta.spool.content import Contents
from mta.spool.port import Ended, Message, Origin, Retry, Spool, SpoolSuspect, StagedContent, State
from mta.spool.shard import open_spool
from mta.spool.sqlite import SqliteSpool
from tests.doubles.spool import DONE, LATER, LONGEST, NOW, Held, ModelSpool, message, staged, whole
from tests.doubles.sync import failure, inline, result


class Model:
    """The model, and how its starts, crashes and pending changes are made."""

    def __init__(self, root: Path) -> None:
        self.disk = PosixDisk()
        self.spool = ModelSpool(contents=Contents(self.disk, str(root / "model")))

    def hold(self) -> None:
        """Acknowledge nothing from now on."""
        self.spool.at_once = False

    def settle(self, count: int | None = None) -> None:
        """Go on with what waits, by `count` steps of the implementation."""
        self.spool.settle(count)

    def crash(self, chance: random.Random, now: float = NOW) -> Spool:
        """Kill the process and start again at `now`."""
        self.spool = self.spool.crash(now, chance)
        self.spool.at_once = True
        return self.spool

    def stop(self) -> Spool:
        """Stop in order and start again."""
        result(self.spool.close())
        self.spool = self.spool.crash(NOW)
        return self.spool


class Sqlite:
    """The same for SQLite. A crash leaves the files as they are: a copy of them is what the next start finds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.starts = 0
        self.disk = PosixDisk()
        self.held = Held()
        self.spool = self.open(NOW)

    def open(self, now: float) -> SqliteSpool:
        """Start at `now`."""

        def suspected(spool: SqliteSpool, reason: Reason) -> None:
            raise AssertionError(f"suspect: {reason}")

        root = str(self.root / str(self.starts))
        spool, _ = open_spool(root, 0, self.disk, self.run_in_thread, suspected, now, LONGEST, inline_maximum=100)
        return spool

    def run_in_thread(self, function: Callable[..., Any], /, *args: object) -> defer.Deferred[Any]:
        """Hold what is held, but for the sync of content: only then a change has its place in the order."""
        return (inline if function == self.spool._contents.make_durable else self.held)(function, *args)

    def hold(self) -> None:
        """See `Model`."""
        self.held.at_once = False

    def settle(self, count: int | None = None) -> None:
        """See `Model`."""
        self.held.run(count)

    def crash(self, chance: random.Random, now: float = NOW) -> Spool:
        """See `Model`."""
        before = self.root / str(self.starts)
        self.starts += 1
        shutil.copytree(before, self.root / str(self.starts), ignore=shutil.ignore_patterns("*-shm"))
        # let go of the files of the one that died
        old = self.spool
        self.held.waiting.clear()
        self.held = Held()
        if old._writer.in_transaction:
            old._writer.execute("ROLLBACK")
        old._writer.close()
        old._reader.close()
        old._release()
        self.spool = self.open(now)
        return self.spool

    def stop(self) -> Spool:
        """See `Model`."""
        result(self.spool.close())
        self.spool = self.open(NOW)
        return self.spool

    def close(self) -> None:
        """Let go of the files."""
        self.held.at_once = True
        self.held.run()
        result(self.spool.close())


@pytest.fixture(params=["model", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Model | Sqlite]:
    """A spool of each kind, empty."""
    if request.param == "model":
        yield Model(tmp_path)
    else:
        sqlite = Sqlite(tmp_path)
        yield sqlite
        sqlite.close()


def queue(spool: Spool) -> dict[str, tuple[Any, bytes]]:
    """All that a spool holds."""
    return {m.queue_id: (m, whole(spool.content(m.queue_id))) for m in spool.page(limit=1000)}


def states(spool: Spool, queue_id: str) -> dict[int, State]:
    """The states of the recipients of one message."""
    queued = spool.get(queue_id)
    return {} if queued is None else {r.number: r.state for r in queued.recipients}


# insert


def test_a_message_comes_back_as_it_was_given(store: Model | Sqlite) -> None:
    """Envelope, origin, recipients with their DSN wishes, and content are read as they were inserted."""
    recipients = (
        Recipient(Mailbox("bob", "example.net")),
        Recipient(
            Mailbox('odd "one"\\ @ x', "[ipv6:2001:db8::1]"),
            Mailbox("Üser", "example.org"),
            Notify.SUCCESS | Notify.DELAY,
            "rfc822;User@example.org",
        ),
        Recipient(Mailbox("", "example.com"), None, Notify.NEVER),
    )
    envelope = Envelope(Mailbox("a.b", "example.test"), recipients, Body.EIGHT_BIT_MIME, True, "QQ314159", "HDRS")
    origin = Origin("smtpd", "s1", "alice", "192.0.2.1", "newsletter", 7)
    given = Message("0a", NOW, envelope, b"\x00\xff\r\n.\r\n", 7, True, origin, ["example.net", "x", "local"], False)
    assert result(store.spool.insert(given)) == 1
    queued = store.spool.get("0a")
    assert queued is not None
    assert (queued.queue_id, queued.accepted, queued.envelope, queued.size, queued.eight_bit, queued.origin) == (
        "0a",
        NOW,
        envelope,
        7,
        True,
        origin,
    )
    assert [r.recipient for r in queued.recipients] == list(recipients)
    assert [r.destination for r in queued.recipients] == ["example.net", "x", "local"]
    assert [r.number for r in queued.recipients] == [0, 1, 2]
    assert {(r.state, r.due, r.attempts, r.crashes, r.reason, r.warned) for r in queued.recipients} == {
        (State.WAITING, NOW, 0, 0, None, False)
    }
    assert whole(store.spool.content("0a")) == b"\x00\xff\r\n.\r\n"


def test_a_null_reverse_path_stays_null(store: Model | Sqlite) -> None:
    """A message from ``<>`` has no reverse-path when it is read."""
    given = message("0a")
    store.spool.insert(replace(given, envelope=replace(given.envelope, reverse_path=None)))
    queued = store.spool.get("0a")
    assert queued is not None
    assert queued.envelope.reverse_path is None


def test_an_active_message_is_not_due(store: Model | Sqlite) -> None:
    """What the relay took at once is stored as ACTIVE and not given out a second time."""
    result(store.spool.insert(message("0a", active=True)))
    assert states(store.spool, "0a") == {0: State.ACTIVE}
    assert store.spool.due(NOW + 1e6, 10) == []
    assert store.spool.next_due() is None


def test_large_content_given_as_octets(store: Model | Sqlite) -> None:
    """Content over the inline bound is read back whole, and is gone with its message."""
    octets = b"0123456789abcdef\r\n" * 1000
    result(store.spool.insert(message("0a", content=octets)))
    assert whole(store.spool.content("0a")) == octets
    result(store.spool.record("0a", [Ended(0, DONE)]))
    with pytest.raises(KeyError):
        store.spool.content("0a")


def test_staged_content_is_taken(store: Model | Sqlite, tmp_path: Path) -> None:
    """A staged file is content of the message from the commit on, and no longer in staging."""
    path = tmp_path / "staged"
    content = staged(store.disk, str(path), b"staged\r\n")
    result(store.spool.insert(message("0a", content=content, size=8)))
    assert whole(store.spool.content("0a")) == b"staged\r\n"
    assert not path.exists()


def test_the_head_of_staged_content_stands_before_its_file(store: Model | Sqlite, tmp_path: Path) -> None:
    """What stands before the octets of a file is read with them, after a start too; it is no reason to call it torn."""
    content = replace(staged(store.disk, str(tmp_path / "staged"), b"staged\r\n"), head=b"a: b\r\n")
    result(store.spool.insert(message("0a", content=content, size=14)))
    assert whole(store.spool.content("0a")) == b"a: b\r\nstaged\r\n"
    spool = store.crash(random.Random(1))
    assert states(spool, "0a") == {0: State.WAITING}
    assert whole(spool.content("0a")) == b"a: b\r\nstaged\r\n"
    result(spool.record("0a", [Ended(0, DONE)]))
    with pytest.raises(KeyError):
        spool.content("0a")


def test_a_held_message_waits_for_its_release(store: Model | Sqlite) -> None:
    """A message that is stored as held is due never, and keeps its reason and its folder."""
    why = Reason("looks odd", "etc/policy/odd.py:3")
    given = message("0a")
    [recipient] = given.envelope.recipients
    envelope = replace(given.envelope, recipients=(replace(recipient, folder="Junk"),))
    result(store.spool.insert(replace(given, envelope=envelope, active=False, held=why)))
    assert store.spool.due(1e12, 10) == []
    found = store.crash(random.Random(1)).get("0a")
    assert found is not None
    assert [(r.state, r.reason, r.recipient.folder) for r in found.recipients] == [(State.HELD, why, "Junk")]


def test_staged_content_is_synced_through_the_descriptor_that_wrote_it(store: Model | Sqlite, tmp_path: Path) -> None:
    """Before an insert fires its staged file was synced and closed; one whose sync fails is refused, and it alone."""
    calls = []

    class Watched:
        def __init__(self, fault: OSError | None) -> None:
            self.fault = fault

        def write(self, octets: bytes) -> None:
            raise AssertionError("written whole")

        def sync(self) -> None:
            calls.append("sync")
            if self.fault is not None:
                raise self.fault

        def close(self) -> None:
            calls.append("close")

    for queue_id, fault in (("0a", None), ("0b", OSError(errno.EIO, "Input/output error"))):
        path = str(tmp_path / "staged")
        staged(store.disk, path, b"x").file.close()
        insert = store.spool.insert(message(queue_id, content=StagedContent(path, Watched(fault)), size=1))
        if fault is None:
            result(insert)
        else:
            assert failure(insert) is fault
        assert calls == ["sync", "close"]
        calls.clear()
    assert sorted(queue(store.spool)) == ["0a"]
    result(store.spool.insert(message("0c")))


def test_torn_content_is_held_and_not_read(store: Model | Sqlite, tmp_path: Path) -> None:
    """A content file that is shorter than its message is set aside at the start, and never given out as whole."""
    for queue_id in ("0a", "0b"):
        content = staged(store.disk, str(tmp_path / "staged"), b"staged\r\n")
        result(store.spool.insert(message(queue_id, content=content, size=8)))
    [path] = [path for path in tmp_path.rglob("0a") if path.is_file()]
    path.write_bytes(b"stag")
    with pytest.raises(OSError, match="torn: 4 octets of 8"):
        store.spool.content("0a")
    spool = store.crash(random.Random(1))
    assert (states(spool, "0a"), states(spool, "0b")) == ({0: State.HELD}, {0: State.WAITING})
    assert whole(spool.content("0b")) == b"staged\r\n"


def test_a_missing_staged_file_fails_its_message_only(store: Model | Sqlite, tmp_path: Path) -> None:
    """An insert whose staged file is not there fails with OSError; those that share its batch stand."""
    missing = staged(store.disk, str(tmp_path / "staged"), b"x")
    (tmp_path / "staged").unlink()
    store.hold()
    first = store.spool.insert(message("00"))
    calls = [store.spool.insert(message("0a")), store.spool.insert(message("0b", content=missing, size=1))]
    calls.append(store.spool.insert(message("0c")))
    store.settle()
    result(first)
    assert isinstance(failure(calls[1]), FileNotFoundError)
    assert result(calls[0]) == result(calls[2])
    assert sorted(queue(store.spool)) == ["00", "0a", "0c"]


def test_a_change_that_fails_leaves_its_batch_alone(store: Model | Sqlite) -> None:
    """A queue id that is there already, and a message without recipients, fail alone."""
    result(store.spool.insert(message("0a")))
    empty = replace(message("0e"), destinations=[], envelope=replace(message("0e").envelope, recipients=()))
    store.hold()
    calls = [store.spool.insert(m) for m in (message("0b"), message("0a", "x@y"), empty, message("0c"))]
    store.settle()
    assert result(calls[0])
    assert failure(calls[1])
    assert failure(calls[2])
    assert result(calls[3])
    assert sorted(queue(store.spool)) == ["0a", "0b", "0c"]
    assert str(queue(store.spool)["0a"][0].recipients[0].recipient.mailbox) == "bob@example.net"


def test_a_record_that_fails_leaves_nothing_of_itself(store: Model | Sqlite) -> None:
    """Where a report cannot be inserted, the changes of that record are not made either."""
    result(store.spool.insert(message("0a")))
    assert failure(store.spool.record("0a", [Ended(0, DONE)], [message("0b"), message("0a")]))
    assert list(queue(store.spool)) == ["0a"]


def test_nothing_is_seen_before_it_is_durable(store: Model | Sqlite) -> None:
    """Until its Deferred fires, an insert is not read by anybody."""
    store.hold()
    inserting = store.spool.insert(message("0a"))
    assert store.spool.get("0a") is None
    assert store.spool.page() == []
    store.settle()
    result(inserting)
    assert store.spool.get("0a") is not None


def test_what_waits_shares_a_sync(store: Model | Sqlite) -> None:
    """Changes that come while a sync is under way share the next one and are told how many they were."""
    store.hold()
    calls = [store.spool.insert(message("00"))]
    if isinstance(store, Model):
        store.settle()
    calls += [store.spool.insert(message("0a")), store.spool.insert(message("0b"))]
    calls += [store.spool.mark("00", [0])]
    store.settle()
    assert [result(call) for call in calls] == [1, 3, 3, 3]


# record, mark


def test_a_retry_is_stored(store: Model | Sqlite) -> None:
    """A Retry sets state, due time and reason, counts the attempt and remembers that a warning was sent."""
    result(store.spool.insert(message("0a", active=True)))
    result(store.spool.record("0a", [Retry(0, NOW + 300, LATER, warned=True)]))
    result(store.spool.record("0a", [Retry(0, NOW + 900, LATER)]))
    result(store.spool.record("0a", [Retry(0, NOW + 901, LATER, counted=False, state=State.HELD)]))
    queued = store.spool.get("0a")
    assert queued is not None
    (recipient,) = queued.recipients
    assert (recipient.state, recipient.due, recipient.attempts, recipient.reason, recipient.warned) == (
        State.HELD,
        NOW + 901,
        2,
        LATER,
        True,
    )


def test_a_message_goes_with_its_last_recipient(store: Model | Sqlite) -> None:
    """The envelope shrinks with each recipient that ended; message and content go with the last one."""
    result(store.spool.insert(message("0a", "a@x", "b@x", "c@y")))
    result(store.spool.record("0a", [Ended(1, DONE), Retry(0, NOW + 1, LATER)]))
    queued = store.spool.get("0a")
    assert queued is not None
    assert [r.number for r in queued.recipients] == [0, 2]
    assert [str(r.mailbox) for r in queued.envelope.recipients] == ["a@x", "c@y"]
    result(store.spool.record("0a", [Ended(0, DONE), Ended(2, DONE)]))
    assert store.spool.get("0a") is None
    with pytest.raises(KeyError):
        store.spool.content("0a")
    assert store.spool.counts().messages == 0


def test_a_report_comes_with_the_end_it_speaks_of(store: Model | Sqlite) -> None:
    """A record inserts its reports and ends its recipients in one step."""
    result(store.spool.insert(message("0a")))
    store.hold()
    recording = store.spool.record("0a", [Ended(0, DONE)], [message("0b", "alice@local", content=b"report\r\n")])
    assert list(queue(store.spool)) == ["0a"]
    store.settle()
    result(recording)
    assert list(queue(store.spool)) == ["0b"]
    assert whole(store.spool.content("0b")) == b"report\r\n"


def test_changes_of_what_is_gone_are_void(store: Model | Sqlite) -> None:
    """A change or mark of a recipient or message that is there no more changes nothing; a report stands."""
    result(store.spool.insert(message("0a", "a@x", "b@x")))
    result(store.spool.record("0a", [Ended(0, DONE)]))
    result(store.spool.record("0a", [Retry(0, NOW, LATER), Ended(7, DONE)]))
    result(store.spool.mark("0a", [0, 9]))
    assert states(store.spool, "0a") == {1: State.WAITING}
    result(store.spool.record("zz", [Ended(0, DONE), Retry(1, NOW, LATER)], [message("0b")]))
    result(store.spool.mark("zz", [0]))
    assert sorted(queue(store.spool)) == ["0a", "0b"]


def test_only_what_waits_is_marked(store: Model | Sqlite) -> None:
    """A mark makes WAITING recipients ACTIVE and leaves a held one held."""
    result(store.spool.insert(message("0a", "a@x", "b@x", "c@x")))
    result(store.spool.record("0a", [Retry(1, NOW, LATER, state=State.HELD)]))
    result(store.spool.mark("0a", [0, 1]))
    assert states(store.spool, "0a") == {0: State.ACTIVE, 1: State.HELD, 2: State.WAITING}


# reads


def test_due_is_earliest_first(store: Model | Sqlite) -> None:
    """What is due by now comes in the order of its due times; what is due later does not come."""
    for queue_id, due in (("0a", 30.0), ("0b", 10.0), ("0c", 20.0), ("0d", 40.5)):
        result(store.spool.insert(message(queue_id)))
        result(store.spool.record(queue_id, [Retry(0, NOW + due, LATER)]))
    assert [m.queue_id for m in store.spool.due(NOW + 40, 10)] == ["0b", "0c", "0a"]
    assert [m.queue_id for m in store.spool.due(NOW + 40, 2)] == ["0b", "0c"]
    assert store.spool.next_due() == NOW + 10


def test_due_comes_once_for_each_destination(store: Model | Sqlite) -> None:
    """A message with two destinations comes twice, each time with its due recipients and the whole envelope."""
    result(store.spool.insert(message("0a", "a@x", "b@y", "c@x", "d@x", "e@y")))
    result(store.spool.record("0a", [Retry(2, NOW + 99, LATER), Retry(4, NOW, LATER, state=State.HELD)]))
    page = store.spool.due(NOW, 10)
    assert [[r.number for r in m.recipients] for m in page] == [[0, 3], [1]]
    assert all(len(m.envelope.recipients) == 5 for m in page)


def test_pages_of_due_meet_without_gap_or_overlap(store: Model | Sqlite) -> None:
    """Going from page to page gives every due recipient exactly once, whatever the limit; ties are not split."""
    chance = random.Random(7)
    for number in range(12):
        queue_id = f"{number:02d}"
        result(store.spool.insert(message(queue_id, *(f"r{n}@{chance.choice('xyz')}" for n in range(4)))))
        retries = [Retry(n, NOW + chance.randint(0, 5), LATER) for n in range(4)]
        result(store.spool.record(queue_id, retries))
    whole = store.spool.due(NOW + 4, 1000)
    for limit in (1, 2, 3, 7):
        found = []
        after = (0.0, "")
        while page := store.spool.due(NOW + 4, limit, after):
            found += page
            after = min(r.due for r in page[-1].recipients), page[-1].queue_id
        assert found == list(whole)
    names = [(m.queue_id, r.number) for m in whole for r in m.recipients]
    expected = [(m.queue_id, r.number) for m in store.spool.page() for r in m.recipients if r.due <= NOW + 4]
    assert sorted(names) == expected


def test_a_listing_goes_page_by_page(store: Model | Sqlite) -> None:
    """`page` gives messages in the order of their ids, from after the last one of the page before."""
    for queue_id in ("0c", "0a", "0d", "0b"):
        result(store.spool.insert(message(queue_id)))
    assert [m.queue_id for m in store.spool.page("", 2)] == ["0a", "0b"]
    assert [m.queue_id for m in store.spool.page("0b", 2)] == ["0c", "0d"]
    assert store.spool.page("0d", 2) == []
    assert store.spool.page("0a", 1)[0] == store.spool.get("0b")


def test_counts_follow_every_change(store: Model | Sqlite) -> None:
    """Messages and recipients by state are counted right after each kind of change, and after a failed one."""
    result(store.spool.insert(message("0a", "a@x", "b@x", "c@x")))
    result(store.spool.insert(message("0b", active=True)))
    failure(store.spool.insert(message("0b", "a@x", "b@x")))
    result(store.spool.mark("0a", [0]))
    result(store.spool.record("0a", [Retry(1, NOW, LATER, state=State.HELD), Ended(2, DONE)]))
    counts = store.spool.counts()
    assert counts.messages == 2
    assert counts.recipients == {State.WAITING: 0, State.ACTIVE: 2, State.HELD: 1}
    result(store.spool.record("0b", [Ended(0, DONE)]))
    assert store.spool.counts().messages == 1
    assert store.spool.counts().recipients[State.ACTIVE] == 1


# stop and crash


def test_a_stop_is_no_crash(store: Model | Sqlite) -> None:
    """After an orderly stop what was ACTIVE waits, with no crash counted; later changes are refused."""
    result(store.spool.insert(message("0a", active=True)))
    before = store.spool
    spool = store.stop()
    queued = spool.get("0a")
    assert queued is not None
    assert (queued.recipients[0].state, queued.recipients[0].crashes) == (State.WAITING, 0)
    assert isinstance(failure(before.insert(message("0b"))), SpoolSuspect)


def test_a_message_that_crashes_twice_is_held(store: Model | Sqlite) -> None:
    """An attempt that a crash cut off is due at the start, and after the second crash in a row it is set aside."""
    chance = random.Random(1)
    result(store.spool.insert(message("0a", "a@x", "b@x", active=True)))
    result(store.spool.record("0a", [Retry(1, NOW + 50, LATER)]))
    spool = store.crash(chance, NOW + 100)
    queued = spool.get("0a")
    assert queued is not None
    assert [(r.state, r.due, r.crashes) for r in queued.recipients] == [
        (State.WAITING, NOW + 100, 1),
        (State.WAITING, NOW + 50, 0),
    ]
    result(spool.mark("0a", [0]))
    spool = store.crash(chance, NOW + 200)
    queued = spool.get("0a")
    assert queued is not None
    assert (queued.recipients[0].state, queued.recipients[0].crashes) == (State.HELD, 2)
    assert queued.recipients[0].reason is not None
    assert queued.recipients[0].reason != LATER
    assert [m.recipients[0].number for m in spool.due(NOW + 1e6, 9)] == [1]


def test_an_attempt_that_counts_clears_crashes(store: Model | Sqlite) -> None:
    """Crashes count in a row: an attempt that came to its end between them starts anew; one not counted does not."""
    chance = random.Random(1)
    result(store.spool.insert(message("0a", "a@x", "b@x", active=True)))
    spool = store.crash(chance)
    result(spool.mark("0a", [0, 1]))
    result(spool.record("0a", [Retry(0, NOW, LATER), Retry(1, NOW, LATER, counted=False)]))
    result(spool.mark("0a", [0, 1]))
    spool = store.crash(chance)
    assert states(spool, "0a") == {0: State.WAITING, 1: State.HELD}


def test_due_times_are_clamped_at_the_start(store: Model | Sqlite) -> None:
    """What a wrong clock put years ahead is due within the longest interval after the next start."""
    result(store.spool.insert(message("0a", "a@x", "b@x", "c@x", "d@x", "e@x")))
    far = [Retry(0, NOW + 1e9, LATER), Retry(1, NOW + 60, LATER), Retry(2, NOW + 1e9, LATER, state=State.HELD)]
    edge = [Retry(3, NOW + LONGEST, LATER), Retry(4, NOW + LONGEST + 1, LATER)]
    result(store.spool.record("0a", far + edge))
    queued = store.crash(random.Random(1)).get("0a")
    assert queued is not None
    assert [r.due for r in queued.recipients] == [NOW + LONGEST, NOW + 60, NOW + 1e9, NOW + LONGEST, NOW + LONGEST]


def a_change(
    chance: random.Random, number: int, used: list[str], staging: Path
) -> Callable[[Spool], defer.Deferred[int]]:
    """Make a change at random; it can be applied to several spools."""
    kind = chance.choice(["insert", "insert", "staged", "record", "mark"]) if used else "insert"
    queue_id = f"{number:03d}"
    if kind in ("insert", "staged"):
        used.append(queue_id)
        given = message(queue_id, "a@x", "b@y", content=queue_id.encode(), active=chance.random() < 0.5)

        def insert(spool: Spool) -> defer.Deferred[int]:
            if kind == "insert":
                return spool.insert(given)
            content = staged(PosixDisk(), str(staging / queue_id), queue_id.encode())
            return spool.insert(replace(given, content=content))

        return insert
    about, which = chance.choice(used), chance.randint(0, 1)
    if kind == "mark":
        return lambda spool: spool.mark(about, [which])
    change = chance.choice([Ended(which, DONE), Retry(which, NOW + number, LATER)])
    reports = [message(queue_id + "r", "alice@local")] if chance.random() < 0.3 else []
    return lambda spool: spool.record(about, [change], reports)


@pytest.mark.parametrize("seed", range(10))
def test_a_crash_leaves_what_was_acknowledged(store: Model | Sqlite, seed: int, tmp_path: Path) -> None:
    """At any moment a crash leaves the first k changes, whole and in order, and k covers all acknowledged ones."""
    chance = random.Random(seed)
    used: list[str] = []
    changes = [a_change(chance, number, used, tmp_path) for number in range(12)]
    store.hold()
    calls = []
    for change in changes:
        calls.append(change(store.spool))
        store.settle(chance.randint(0, 3))
    fired = [call.called for call in calls]
    for call in calls:
        call.addErrback(lambda _: None)
    after = queue(store.crash(chance))
    possible = []
    for count in range(len(changes) + 1):
        model = ModelSpool(contents=Contents(PosixDisk(), str(tmp_path / f"after {count}")))
        for change in changes[:count]:
            change(model).addErrback(lambda _: None)
        possible.append(queue(model.crash(NOW)))
    acknowledged = max((number + 1 for number, done in enumerate(fired) if done), default=0)
    assert after in possible[acknowledged:]


def test_a_power_cut_may_take_marks_of_the_model() -> None:
    """In the model a mark after the last synced change may be gone after a power cut, never one before it."""
    spool = ModelSpool()
    result(spool.insert(message("0a", "a@x", "b@x")))
    result(spool.mark("0a", [0]))
    result(spool.record("0a", [Retry(1, NOW, LATER)]))
    result(spool.mark("0a", [1]))
    for power_cut, crashes in ((True, [1, 0]), (False, [1, 1])):
        queued = spool.crash(NOW, power_cut=power_cut).get("0a")
        assert queued is not None
        assert [r.crashes for r in queued.recipients] == crashes

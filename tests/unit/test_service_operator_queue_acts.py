"""mta.service.operator.queue_acts: the operator's hand on the queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import defer

from mta.observe.event import Kind
from mta.service.control import CommandRefused
from mta.service.operator import queue_acts
from mta.service.operator.queue import end_of
from mta.spool.port import SpoolSuspect, State
from tests.doubles.queue import Queue
from tests.doubles.sync import failure

LATER = "450 busy"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """A queue that is closed at the end."""
    queue = Queue(tmp_path)
    yield queue
    queue.close()


def test_a_retry_is_due_now_and_keeps_its_reason(queue: Queue) -> None:
    """What waits is due now, not counted as an attempt; why it waited stays; what is held stays held."""
    waiting, held = queue.add(reason=LATER), queue.add(held="odd")
    assert (queue.act("retry")["acted"], queue.act("retry")["acted"]) == (1, 0)
    found = queue.spool.get(waiting)
    assert found is not None
    assert [(each.due, each.attempts, str(each.reason)) for each in found.recipients] == [
        (queue.now, 1, "450 busy [mx]")
    ]
    assert queue.states(held) == {"bob@example.net": State.HELD}


def test_a_retry_ends_the_rest_of_the_destination(queue: Queue) -> None:
    """Who says now means now, also where a destination rests as nobody answered; it is said before the look."""
    queue_id = queue.add(reason=LATER)
    queue.act("retry")
    assert queue.relay.log[-2:] == [("roused", "example.net"), ("given back", queue_id)]


def test_what_is_held_rests_until_it_is_released(queue: Queue) -> None:
    """Hold says who and why in the reason of waiting; release makes it due now."""
    queue_id = queue.add(reason=LATER)
    assert queue.act("hold", queue_ids=[queue_id], reason="looking into it")["recipients"] == 1
    found = queue.spool.get(queue_id)
    assert found is not None
    assert (found.recipients[0].state, found.recipients[0].reason.text) == (  # type: ignore[union-attr]
        State.HELD,
        "held by root: looking into it",
    )
    assert queue.act("hold")["acted"] == 0
    assert queue.act("release")["acted"] == 1
    found = queue.spool.get(queue_id)
    assert found is not None
    assert (found.recipients[0].state, found.recipients[0].due) == (State.WAITING, queue.now)
    assert queue.act("release")["acted"] == 0


def test_what_is_deleted_is_gone(queue: Queue) -> None:
    """It ends for the recipients that fit; those of the same message that do not fit stay."""
    queue_id = queue.add("bob@one.test", "carol@two.test")
    assert queue.act("delete", destination="two.test")["recipients"] == 1
    assert queue.states(queue_id) == {"bob@one.test": State.WAITING}
    queue.act("delete", queue_ids=[queue_id])
    assert queue.states(queue_id) == {}


def test_what_is_returned_is_given_up_by_the_relay(queue: Queue) -> None:
    """The relay gives the recipients up while it has withdrawn the message; the sender is not told who did it."""
    queue_id = queue.add("bob@one.test", "carol@two.test")
    assert queue.act("bounce", queue_ids=[queue_id], reason="no more")["recipients"] == 2
    assert queue.relay.log == [
        ("withdrawn", queue_id),
        ("given up", queue_id, (0, 1), "returned by the operator: no more"),
        ("given back", queue_id),
    ]


def test_what_is_being_tried_is_left_alone(queue: Queue) -> None:
    """Recipients that the relay is trying are counted as busy, and nothing is done to them."""
    queue_id = queue.add("bob@one.test", "carol@two.test", reason=LATER)
    queue.relay.busy = frozenset({0})
    done = queue.act("delete")
    assert (done["busy"], done["recipients"]) == (1, 1)
    assert list(queue.states(queue_id)) == ["bob@one.test"]


@pytest.mark.parametrize(
    ("act", "kind", "state"),
    [
        ("retry", Kind.MESSAGE_RETRIED, "waiting"),
        ("hold", Kind.MESSAGE_HELD, "waiting"),
        ("release", Kind.MESSAGE_RELEASED, "held"),
        ("bounce", Kind.MESSAGE_BOUNCED, "waiting"),
        ("delete", Kind.MESSAGE_DELETED, "waiting"),
    ],
)
def test_each_act_is_an_event_that_says_who(queue: Queue, act: str, kind: Kind, state: str) -> None:
    """One event for each message, with the operator, his words and the number of recipients."""
    queue_id = queue.add(reason=LATER) if state == "waiting" else queue.add(held="odd")
    queue.act(act, reason="because")
    [event] = queue.journal.events
    assert (event.kind, event.queue_id, event.fields) == (kind, queue_id, {"recipients": 1, "operator": "root"})
    assert event.reason is not None
    assert event.reason.text.endswith(" by root: because")
    assert event.reason.source == f"mta queue {act}"


def test_a_bulk_act_goes_on_where_it_ended(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request acts on a bounded number of messages and says where the next goes on, until all are done."""
    monkeypatch.setattr(queue_acts, "ACTED", 4)
    queue_ids = [queue.add(age=100 - number) for number in range(10)]
    ends: list[str] = []
    acted = 0
    while True:
        done = queue.act("hold", after=ends[-1] if ends else "")
        acted += done["acted"]
        if not end_of(done):
            break
        ends.append(end_of(done))
    assert (acted, ends) == (10, [queue_ids[3], queue_ids[7]])


def test_what_is_changed_at_once_is_bounded(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """By messages, and by recipients where messages have many; all are changed."""
    monkeypatch.setattr(queue_acts, "_TOGETHER", 3)
    monkeypatch.setattr(queue_acts, "_RECIPIENTS", 4)
    sizes: list[int] = []
    gather = defer.gatherResults

    def counted(many: Any, **more: Any) -> Any:
        sizes.append(len(many))
        return gather(many, **more)

    monkeypatch.setattr(defer, "gatherResults", counted)
    for number, recipients in enumerate((1, 1, 1, 1, 6, 2, 2, 3)):
        queue.add(*(f"u{each}@x.test" for each in range(recipients)), age=100 - number)
    assert queue.act("hold")["recipients"] == 17
    assert sizes == [3, 1, 1, 2, 1]


def test_what_was_asked_for_by_its_id_and_is_there_is_named(queue: Queue) -> None:
    """So that the command can say which ids there are not."""
    queue_id = queue.add()
    assert queue.act("hold", queue_ids=[queue_id, "nonsense"])["known"] == [queue_id]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), SpoolSuspect("sync failed")])
def test_a_change_that_cannot_be_written_is_told(
    queue: Queue, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted with its error, is no event, and the relay has the message back."""
    queue_id = queue.add()

    def record(*args: Any) -> defer.Deferred[int]:
        return defer.fail(fault)

    monkeypatch.setattr(queue.spool, "record", record)
    done = queue.act("delete")
    assert (done["acted"], done["failed"]) == (0, 1)
    assert done["errors"] == [f"{queue_id}: {fault}"]
    assert queue.journal.events == []
    assert queue.relay.log[-1] == ("given back", queue_id)


@pytest.mark.parametrize(
    "request_", [{"act": "burn"}, {}, {"act": "hold", "reason": "a\nb"}, {"act": "hold", "reason": "x" * 501}]
)
def test_an_act_that_makes_no_sense_is_refused(queue: Queue, request_: dict[str, Any]) -> None:
    """An unknown act, and words that are not one printable line."""
    queue.add()
    assert isinstance(failure(queue.acts.act(request_)), CommandRefused)

"""mta.service.operator.queue"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mta.mail.reason import Reason
from mta.observe.event import Kind
from mta.service.control import CommandRefused
from mta.service.operator.queue import DELETED, PAGE, RELEASED, QueueCommands
from mta.spool.port import State
from tests.doubles.journal import RecordingJournal
from tests.doubles.spool import ModelSpool, message
from tests.doubles.sync import failure, result

WHY = Reason("looks odd", "policy")


class Desk:
    """Commands over a queue, with one held message, 0a."""

    def __init__(self) -> None:
        self.spool = ModelSpool()
        self.journal = RecordingJournal(lambda: 500.0)
        self.looks = 0
        self.commands = QueueCommands(self.spool, self.look, self.journal)
        result(self.spool.insert(replace(message("0a", "a@x", "b@y"), active=False, held=WHY)))

    def look(self) -> None:
        """Look into the spool."""
        self.looks += 1


def test_held_mail_is_listed_with_its_reason() -> None:
    """A listing names each recipient, its state and why it waits, as JSON can carry it."""
    answer = Desk().commands.page({})
    [listed] = json.loads(json.dumps(answer))["messages"]
    assert (listed["queue_id"], answer["more"]) == ("0a", False)
    assert [(each["state"], each["reason"]) for each in listed["recipients"]] == [("held", str(WHY))] * 2


def test_a_long_queue_is_listed_page_by_page() -> None:
    """A page is bounded and says that there is more behind it."""
    desk = Desk()
    for number in range(PAGE):
        result(desk.spool.insert(message(f"1{number:03d}")))
    first = desk.commands.page({})
    assert (len(first["messages"]), first["more"]) == (PAGE, True)
    rest = desk.commands.page({"after": first["messages"][-1]["queue_id"]})
    assert (len(rest["messages"]), rest["more"]) == (1, False)


def test_a_released_message_is_due_at_once() -> None:
    """Its held recipients wait for an attempt now, the relay looks, and the act is an event."""
    desk = Desk()
    result(desk.commands.release({"queue_id": "0a"}))
    found = desk.spool.get("0a")
    assert found is not None
    assert [(each.state, each.due, each.reason) for each in found.recipients] == [(State.WAITING, 500.0, RELEASED)] * 2
    assert desk.looks == 1
    assert [event.kind for event in desk.journal.events] == [Kind.MESSAGE_RELEASED]
    assert isinstance(failure(desk.commands.release({"queue_id": "0a"})), CommandRefused)


def test_a_deleted_message_is_gone() -> None:
    """It ends for all recipients that are not being tried, and the act is an event."""
    desk = Desk()
    result(desk.commands.delete({"queue_id": "0a"}))
    assert desk.spool.get("0a") is None
    assert [(event.kind, event.reason) for event in desk.journal.events] == [(Kind.MESSAGE_DELETED, DELETED)]


def test_what_is_being_delivered_is_left_alone() -> None:
    """A message with an attempt under way is not deleted."""
    desk = Desk()
    result(desk.spool.insert(message("0b", active=True)))
    assert isinstance(failure(desk.commands.delete({"queue_id": "0b"})), CommandRefused)
    assert desk.spool.get("0b") is not None


@pytest.mark.parametrize("request_", [{}, {"queue_id": "zz"}, {"queue_id": 7}])
def test_what_is_not_there_is_refused(request_: dict[str, object]) -> None:
    """A queue id that is unknown, missing or no text is the operator's mistake, told in words."""
    assert isinstance(failure(Desk().commands.release(request_)), CommandRefused)

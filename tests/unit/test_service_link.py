"""mta.service.link and merging: what parent and workers say to each other, and how answers become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mta.observe.event import Kind
from mta.service.control import CommandRefused
from mta.service.link import Link
from mta.service.merging import merge
from tests.doubles.journal import RecordingJournal
from tests.doubles.sync import failure, result


class Pair:
    """Two ends; `pass_on` carries what both have said."""

    def __init__(self) -> None:
        self.journal = RecordingJournal()
        self.waiting: list[defer.Deferred[dict[str, Any]]] = []
        self.told: list[Mapping[str, Any]] = []
        self.lost = 0
        worker = {"wait": self.wait, "echo": dict, "no": self.refuse, "bug": self.bug, "told": self.tell}
        self.parent = Link({}, self.journal, self.gone)
        self.worker = Link(worker, self.journal, lambda: None)
        for end in (self.parent, self.worker):
            end.makeConnection(StringTransport())

    def wait(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Answer later."""
        self.waiting.append(defer.Deferred())
        return self.waiting[-1]

    def refuse(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Say no."""
        raise CommandRefused("not today")

    def bug(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Fail."""
        raise ZeroDivisionError("ours")

    def tell(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Remember."""
        self.told.append(request)
        return {}

    def gone(self) -> None:
        """Count."""
        self.lost += 1

    def pass_on(self) -> None:
        """Carry octets, one at a time."""
        for sender, receiver in ((self.parent, self.worker), (self.worker, self.parent)):
            transport: Any = sender.transport
            octets = transport.value()
            transport.clear()
            for octet in octets:
                receiver.dataReceived(bytes([octet]))


@pytest.fixture
def pair() -> Pair:
    """Two ends."""
    return Pair()


def test_each_answer_reaches_its_question(pair: Pair) -> None:
    """Answers come in any order, and go to who asked."""
    late, soon = pair.parent.ask("wait"), pair.parent.ask("echo", word="hello")
    pair.pass_on()
    assert result(soon) == {"command": "echo", "word": "hello"}
    assert not late.called
    pair.waiting[0].callback({"late": True})
    pair.pass_on()
    assert result(late) == {"late": True}


def test_a_refusal_and_a_bug_fail_the_question(pair: Pair) -> None:
    """What the other end refuses, does not know or does wrong is CommandRefused here; a bug is noted there."""
    asked = [pair.parent.ask(name) for name in ("no", "bug", "nothing")]
    pair.pass_on()
    said = [str(failure(each)) for each in asked]
    assert said[:2] == ["not today", "internal error: ours"]
    assert said[2].startswith('a request is {"command": …} with one of: bug, echo')
    assert pair.journal.kinds() == [Kind.FAULT]


def test_what_is_told_is_not_answered(pair: Pair) -> None:
    """A command without a question is carried out, and nothing comes back."""
    pair.parent.tell("told", rows=[1, 2])
    pair.pass_on()
    assert pair.told == [{"command": "told", "rows": [1, 2]}]
    assert isinstance(pair.worker.transport, StringTransport)
    assert pair.worker.transport.value() == b""


def test_questions_fail_when_the_other_end_is_gone(pair: Pair) -> None:
    """Those under way, and those asked later; the loss is said once."""
    asked = pair.parent.ask("wait")
    pair.pass_on()
    pair.parent.connectionLost(Failure(ConnectionDone()))
    assert isinstance(failure(asked), ConnectionLost)
    assert isinstance(failure(pair.parent.ask("echo")), ConnectionLost)
    assert pair.lost == 1
    pair.waiting[0].callback({})
    pair.pass_on()


def test_answers_merge_by_their_form() -> None:
    """Numbers are added, lists joined, tables merged, truths or-ed, and of other values the first stays."""
    one = {"count": 1, "names": ["a"], "by": {"x": 1, "y": {"z": 1.5}}, "more": False, "said": "first", "none": None}
    other = {"count": 2, "names": ["b"], "by": {"x": 2, "y": {"z": 1}, "w": 3}, "more": True, "said": "second"}
    assert merge([one, other]) == {
        "count": 3,
        "names": ["a", "b"],
        "by": {"x": 3, "y": {"z": 2.5}, "w": 3},
        "more": True,
        "said": "first",
        "none": None,
    }
    assert merge([one]) == one

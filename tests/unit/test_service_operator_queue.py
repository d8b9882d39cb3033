"""mta.service.operator.queue: what the operator sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mta.service.control import CommandRefused
from mta.service.operator.queue import PAGE_MAXIMUM, end_of, joined
from tests.doubles.queue import Queue
from tests.doubles.sync import failure, result


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """A queue that is closed at the end."""
    queue = Queue(tmp_path)
    yield queue
    queue.close()


def listed(queue: Queue, **request: Any) -> list[str]:
    """The queue ids of a page, through JSON."""
    return [each["queue_id"] for each in json.loads(json.dumps(result(queue.commands.page(request))))["messages"]]


def test_a_listing_says_why_each_recipient_waits(queue: Queue) -> None:
    """Each recipient comes with its state, its next attempt and its reason with the source."""
    queue_id = queue.add("bob@example.net", "carol@example.org", reason="450 busy", login="alice")
    [message] = result(queue.commands.page({}))["messages"]
    assert (message["queue_id"], message["sender"], message["login"]) == (queue_id, "alice@example.test", "alice")
    assert [(each["mailbox"], each["state"], each["attempts"], each["reason"]) for each in message["recipients"]] == [
        ("bob@example.net", "waiting", 1, "450 busy [mx]"),
        ("carol@example.org", "waiting", 1, "450 busy [mx]"),
    ]
    assert [each["due"] for each in message["recipients"]] == [queue.now + 600] * 2


def test_each_filter_finds_what_it_names(queue: Queue) -> None:
    """Sender, recipient, destination, login, error, state and age each find their message and no other."""
    plain = queue.add("dave@plain.test", age=10)
    sender = queue.add("dave@plain.test", sender="Carol@Sender.test", age=20)
    recipient = queue.add("erin@plain.test", age=30)
    destination = queue.add("dave@elsewhere.test", age=40)
    login = queue.add("dave@plain.test", login="alice@example.test", age=50)
    error = queue.add("dave@plain.test", reason="451 4.7.1 Greylisted for 100%", age=60)
    held = queue.add("dave@plain.test", held="looks odd", age=70)
    report = queue.add("dave@plain.test", sender="", age=80)
    old = queue.add("dave@plain.test", age=90_000)
    assert listed(queue, sender="carol@*") == [sender]
    assert listed(queue, sender="<>") == [report]
    assert listed(queue, recipient="ERIN@plain.test") == [recipient]
    assert listed(queue, destination="Elsewhere.test") == [destination]
    assert listed(queue, destination="*where.test") == [destination]
    assert listed(queue, login="alice@*") == [login]
    assert listed(queue, error="greylisted for 100%") == [error]
    assert listed(queue, error="100_") == []
    assert listed(queue, state="held") == [held]
    assert listed(queue, accepted_until=queue.now - 3600) == [old]
    assert listed(queue, accepted_from=queue.now - 15) == [plain]
    assert listed(queue, destination="plain.test", sender="carol@*", state="waiting") == [sender]
    assert listed(queue, queue_ids=[held, plain, "nonsense"]) == [held, plain]


def test_what_took_long_to_come_is_found_by_when_it_was_accepted(queue: Queue) -> None:
    """An id is made before its message is accepted, for a large one long before: the time of acceptance counts."""
    slow = queue.add(age=60, took=3600)
    assert listed(queue, accepted_from=queue.now - 120) == [slow]
    assert listed(queue, accepted_until=queue.now - 120) == []


def test_a_filter_names_recipients_and_not_whole_messages(queue: Queue) -> None:
    """A message is listed with the recipients that fit; how many others it has is said."""
    queue.add("bob@one.test", "carol@two.test", "dave@two.test")
    [message] = result(queue.commands.page({"destination": "two.test"}))["messages"]
    assert [each["mailbox"] for each in message["recipients"]] == ["carol@two.test", "dave@two.test"]
    assert message["others"] == 1
    assert result(queue.commands.count({"destination": "two.test"})) == {"messages": 1, "recipients": 2}


def test_a_long_queue_is_listed_page_by_page(queue: Queue) -> None:
    """A page is bounded, says where it ends, and the next one goes on behind that."""
    queue_ids = [queue.add(age=10_000 - number) for number in range(PAGE_MAXIMUM + 3)]
    first = result(queue.commands.page({"limit": 10_000}))
    assert [each["queue_id"] for each in joined(first)] == queue_ids[:PAGE_MAXIMUM]
    rest = result(queue.commands.page({"after": end_of(first)}))
    assert [each["queue_id"] for each in joined(rest)] == queue_ids[PAGE_MAXIMUM:]
    assert end_of(rest) == ""


def test_a_page_ends_early_where_messages_have_many_recipients(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one answer does not keep the server long; each message is on a page, once, and a page is never empty."""
    monkeypatch.setattr("mta.service.operator.queue.RECIPIENTS", 5)
    names = [f"u{number}@x.test" for number in range(4)]
    queue_ids = [queue.add(*names, age=100 - number) for number in range(5)]
    pages, after = [], ""
    while True:
        answer = result(queue.commands.page({"after": after, "limit": 4}))
        pages.append([each["queue_id"] for each in joined(answer)])
        after = end_of(answer)
        if not after:
            break
    assert pages == [queue_ids[:2], queue_ids[2:4], queue_ids[4:]]


def test_pages_of_two_workers_make_one(tmp_path: Path) -> None:
    """Pages that are merged by their form list every message once, in order, however they are distributed."""
    one, two = Queue(tmp_path / "one"), Queue(tmp_path / "two")
    two.chance.count = 1000
    queue_ids = [(two if number % 3 else one).add(age=100 - number) for number in range(10)]
    found, after = [], ""
    while True:
        answers = [result(each.commands.page({"limit": 3, "after": after})) for each in (one, two)]
        merged = {key: answers[0][key] + answers[1][key] for key in ("messages", "ends")}
        found += [each["queue_id"] for each in joined(merged)]
        after = end_of(merged)
        if not after:
            break
    assert found == queue_ids
    one.close()
    two.close()


def test_a_page_whose_messages_are_all_gone_is_not_empty(queue: Queue) -> None:
    """What was delivered since it was found is passed over; a page with more behind it always has messages."""
    gone = [queue.add(age=100 - number) for number in range(3)]
    left = queue.add(age=1)
    get = queue.spool.get
    queue.spool.get = lambda queue_id: None if queue_id in gone else get(queue_id)  # type: ignore[method-assign]
    assert listed(queue, limit=3) == [left]


def test_a_summary_counts_by_state_and_destination(queue: Queue) -> None:
    """States, the largest destinations with the most frequent reason, the next attempt and the oldest recipient."""
    for number in range(3):
        queue.add("bob@big.test", reason="450 busy", age=1000 + number, due=700 - number)
    queue.add("bob@big.test", reason="no answer", age=500, due=9000)
    queue.add("bob@big.test", held="looks odd", age=400)
    queue.add("bob@small.test", age=300)
    answer = json.loads(json.dumps(result(queue.commands.summary({"destinations": 1}))))
    assert (answer["messages"], answer["states"]) == (6, {"waiting": 5, "active": 0, "held": 1})
    assert answer["destinations"] == [2]
    assert answer["oldest"] == [pytest.approx(queue.now - 1002, abs=0.01)]
    assert list(answer["largest"]) == ["big.test"]
    big = answer["largest"]["big.test"]
    assert (big["recipients"], big["states"]) == (5, {"waiting": 4, "active": 0, "held": 1})
    assert big["next"] == [queue.now + 698]
    assert big["oldest"] == [pytest.approx(queue.now - 1002, abs=0.01)]
    assert big["reasons"] == {"450 busy [mx]": 3, "no answer [mx]": 1, "looks odd [policy]": 1}
    assert big["sampled"] == 5


def test_an_empty_queue_is_summed_up(queue: Queue) -> None:
    """Nothing is nothing, and no error."""
    answer = result(queue.commands.summary({}))
    assert (answer["messages"], answer["oldest"], answer["largest"]) == (0, [], {})


def test_a_summary_is_exact_where_states_are_mixed(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no state is rare, all rows are counted, with the same result."""
    queue.add("bob@a.test", "carol@b.test", held="odd")
    queue.add("bob@a.test")
    queue.add("bob@a.test", active=True)
    few = result(queue.commands.summary({}))
    monkeypatch.setattr("mta.spool.summary.RARE", 0)
    many = result(queue.commands.summary({}))
    assert many == few
    assert few["largest"]["a.test"]["states"] == {"waiting": 1, "active": 1, "held": 1}
    assert few["largest"]["b.test"]["states"] == {"waiting": 0, "active": 0, "held": 1}


def test_rare_and_common_states_are_found_alike(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that is found by its index and one that is looked for in all rows give the same pages."""
    held = [queue.add(held="odd", sender=f"s{number}@x.test", age=50 - number) for number in range(3)]
    queue.add(sender="s1@x.test", age=1)
    for rare in (20_000, 0):
        monkeypatch.setattr("mta.spool.search.RARE", rare)
        assert listed(queue, state="held") == held
        assert listed(queue, state="held", after=held[0], limit=1) == [held[1]]
        assert listed(queue, state="held", sender="s1@x.test") == [held[1]]


def test_one_message_is_told_whole(queue: Queue) -> None:
    """Show tells where it came from and each recipient with its wishes."""
    queue_id = queue.add("bob@example.net", login="alice")
    answer = json.loads(json.dumps(queue.commands.show({"queue_id": queue_id})))
    assert (answer["service"], answer["login"], answer["others"]) == ("smtpd", "alice", 0)
    assert [(each["mailbox"], each["notify"], each["crashes"]) for each in answer["recipients"]] == [
        ("bob@example.net", ["FAILURE", "DELAY"], 0)
    ]


@pytest.mark.parametrize("request_", [{}, {"queue_id": "zz"}, {"queue_id": 7}])
def test_what_is_not_there_is_refused(queue: Queue, request_: dict[str, object]) -> None:
    """A queue id that is unknown, missing or no text is the operator's mistake, told in words."""
    with pytest.raises(CommandRefused):
        queue.commands.show(request_)


@pytest.mark.parametrize(
    "request_",
    [
        {"sender": 5},
        {"state": "sleeping"},
        {"queue_ids": "x"},
        {"queue_ids": [5]},
        {"accepted_from": "noon"},
        {"accepted_until": True},
        {"limit": 0},
        {"limit": "many"},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(queue: Queue, request_: dict[str, object]) -> None:
    """Wrong types and names are told in words, and nothing is looked for."""
    assert isinstance(failure(queue.commands.page(request_)), CommandRefused)


def test_a_database_that_cannot_be_read_is_told(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLite says is an answer, not a fault of ours."""
    monkeypatch.setattr(type(queue.spool), "paths", ["/nowhere/0"])
    refused = failure(queue.commands.count({}))
    assert isinstance(refused, CommandRefused)
    assert "cannot be read" in str(refused)

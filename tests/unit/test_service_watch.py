"""The numbers of all workers as those of one server, and the answers of each."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twisted.internet import defer, task

from mta.disk.port import Free
from mta.observe import metric
from mta.observe.event import Event, Kind, Level
from mta.observe.journal import Journal
from mta.observe.metric import Metric
from mta.observe.tally import OTHER, labels_of, merged
from mta.service.control import CommandRefused
from mta.service.measures import Measures
from mta.service.operator.metrics import FRESH, MetricsCommands, QueueSight
from mta.service.watch import ANSWER_SECONDS, Watch
from mta.settings.sections import Settings
from mta.spool.port import State
from mta.spool.summary import Summary, Waiting
from tests.doubles.spool import ModelSpool, message
from tests.doubles.sync import result


class Clock(task.Clock):
    """A reactor whose wall clock goes with it."""

    def wall(self) -> float:
        """Seconds since 1970."""
        return 1_700_000_000.0 + self.seconds()


def number(answer: Mapping[str, Any], counted: Metric, *labels: str) -> float:
    """One number of the whole server."""
    series = merged(answer["workers"].values())[counted.name]
    (found,) = [value for key, value in series.items() if labels_of(key) == (labels or ("",))]
    return float(found)


class Workers:
    """A crew of two, each with numbers of its own."""

    workers = 2
    answering = True

    def __init__(self) -> None:
        self.clock = Clock()
        self.silent: set[int] = set()
        self.measures = [self.fresh(number) for number in range(self.workers)]
        self.watch: Any = Watch(self, self.clock, Measures("parent", Journal(self.clock.wall), self.clock))  # type: ignore[arg-type]

    def fresh(self, number: int) -> Measures:
        """The numbers of a worker that was just started."""
        return Measures(str(number), Journal(self.clock.wall), self.clock)

    def ask(self, number: int, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Answer for a worker."""
        if number in self.silent:
            return defer.fail(CommandRefused("is starting"))
        if number + 100 in self.silent:
            return defer.Deferred()
        answer: dict[str, Any] = {"workers": {str(number): self.measures[number].samples({"mx": number + 1})}}
        if request["command"] == "top":
            answer |= {"hostname": f"mx{number}", "recent": self.measures[number].recent.events()}
        return defer.succeed(answer)


def test_the_numbers_of_all_workers_are_added() -> None:
    """Sessions of two workers are those of the server; their processor times stay apart."""
    workers = Workers()
    answer = result(workers.watch.metrics())
    assert number(answer, metric.SESSIONS_OPEN, "mx") == 3
    assert number(answer, metric.SESSIONS_OPENED, "mx") == 3
    assert number(answer, metric.WORKERS_ANSWERING) == number(answer, metric.WORKERS_WANTED) == 2
    assert set(map(labels_of, merged(answer["workers"].values())[metric.WORKER_CPU.name])) == {
        ("0",),
        ("1",),
        ("parent",),
    }


def test_no_count_falls_when_a_worker_dies() -> None:
    """What a dead worker counted is kept, while it is away and when another has taken its place; gauges are not."""
    workers = Workers()
    for each in workers.measures:
        each.tally.add(metric.REPORTS, amount=10)
        each.tally.observe(metric.LOOP_LAG, 0.5)
    assert number(result(workers.watch.metrics()), metric.REPORTS) == 20
    workers.silent = {1}
    away = result(workers.watch.metrics())
    assert number(away, metric.REPORTS) == 20
    assert number(away, metric.WORKERS_ANSWERING) == 1
    assert number(away, metric.SESSIONS_OPEN, "mx") == 1
    workers.clock.advance(5)
    for _ in range(2):
        workers.measures[1] = workers.fresh(1)
        workers.measures[1].tally.add(metric.REPORTS, amount=1)
        workers.silent = set()
        again = result(workers.watch.metrics())
        workers.clock.advance(5)
    assert number(again, metric.REPORTS) == 22
    assert sum(merged(again["workers"].values())[metric.LOOP_LAG.name][""]["counts"]) == 2
    assert number(result(workers.watch.metrics()), metric.REPORTS) == 22


def test_a_worker_that_hangs_is_not_waited_for() -> None:
    """After its time the others are told of without it."""
    workers = Workers()
    workers.silent = {100}
    asked = workers.watch.metrics()
    workers.clock.advance(ANSWER_SECONDS)
    assert number(result(asked), metric.WORKERS_ANSWERING) == 1


def test_a_server_without_answers_still_says_so() -> None:
    """Where no worker answers the numbers of the parent are all there is."""
    workers = Workers()
    workers.silent = {0, 1}
    answer = result(workers.watch.metrics())
    assert number(answer, metric.WORKERS_ANSWERING) == 0
    assert list(answer["workers"]) == ["parent"]


def test_top_has_the_events_of_all_processes() -> None:
    """Events of the workers and of the parent are one list."""
    workers = Workers()
    for measures in [*workers.measures, workers.watch._own]:
        measures.recent(its_event(measures))
    answer = result(workers.watch.top({}))
    assert [event["about"] for event in answer["recent"]] == ["0", "1", "parent"]
    assert answer["hostname"] == "mx0"


def its_event(measures: Measures) -> Any:
    """An event that names whose it is."""
    return Event(0.0, Kind.WORKER_DIED, Level.ALERT, queue_id=measures._name)


def test_the_status_is_one_line() -> None:
    """Sessions, messages, and trouble where there is any."""
    workers = Workers()
    assert result(workers.watch.status()) == "3 sessions, 0 messages in the queue"
    for _ in range(2):
        workers.measures[0]._journal.note(Kind.SPOOL_SUSPECT, level=Level.ALERT, path="/s")
    assert result(workers.watch.status()).endswith("; TROUBLE: spool.suspect, see the log")


# One worker


class Disk:
    """A volume with so much free, where there is one."""

    def free(self, path: str) -> Free:
        """Say it."""
        if path == "/gone":
            raise FileNotFoundError(path)
        return Free(5000, 70)


class Worker:
    """The commands of a worker; what its spool shows is `sight`."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.spool = ModelSpool()
        self.sight = Summary()
        self.looks: list[int] = []
        self.settings = Settings(hostname="mx.example.test", state="/state", mail="/mail", **settings)
        self.measures = Measures("0", Journal(self.clock.wall), self.clock)
        self.queue = QueueSight(lambda: ["/state/spool/0"], self.run, self.clock.seconds)
        self.commands = MetricsCommands(
            "0",
            self.measures,
            self.queue,
            self.spool,
            lambda: {"mx": 4},
            lambda: self.settings,
            Disk(),  # type: ignore[arg-type]
            self.clock.wall,
        )

    def run(self, function: Any, paths: list[str], top: int, seconds: Any) -> defer.Deferred[Any]:
        """Look, as a thread does."""
        self.looks.append(top)
        return defer.succeed(self.sight)


def test_a_worker_tells_of_its_queue_sessions_and_disk() -> None:
    """What is read when it is asked for is told with what was counted."""
    worker = Worker()
    result(worker.spool.insert(message("0a", "a@a.test", "b@b.test")))
    oldest = worker.clock.wall() - 90
    worker.sight = Summary(states=Counter({State.WAITING: 12}), oldest=oldest, largest={"a.test": Waiting(7)})
    answer = result(worker.commands.metrics({}))
    assert number(answer, metric.QUEUE_MESSAGES) == 1
    assert number(answer, metric.QUEUE_RECIPIENTS, "waiting") == 2
    assert number(answer, metric.QUEUE_DESTINATION, "a.test") == 7
    assert number(answer, metric.QUEUE_DESTINATION, OTHER) == 5
    assert number(answer, metric.QUEUE_OLDEST) == 90
    assert number(answer, metric.DISK_FREE, "state") == number(answer, metric.DISK_FREE, "mail") == 5000
    assert number(answer, metric.DISK_INODES, "mail") == 70
    assert number(answer, metric.SESSIONS_OPEN, "mx") == 4
    assert number(answer, metric.WORKER_RESIDENT, "0") > 2**20
    assert worker.looks == [20]


def test_an_empty_queue_has_no_age() -> None:
    """What was seen before the last message left says nothing of now."""
    worker = Worker()
    worker.sight = Summary(oldest=worker.clock.wall() - 90)
    assert number(result(worker.commands.metrics({})), metric.QUEUE_OLDEST) == 0


def test_a_volume_that_is_gone_is_left_out() -> None:
    """Numbers that cannot be had do not keep the others."""
    worker = Worker()
    worker.settings = replace(worker.settings, mail="/gone")
    answer = result(worker.commands.metrics({}))
    assert list(map(labels_of, answer["workers"]["0"][metric.DISK_FREE.name])) == [("state",)]


def test_top_says_why_a_destination_waits() -> None:
    """The reason of most of its recipients, their states and the next attempt are told."""
    worker = Worker()
    seen = Waiting(3, next_attempt=1500.0)
    seen.states.update({State.WAITING: 2, State.HELD: 1, State.ACTIVE: 0})
    seen.reasons.update(["late", "no answer", "no answer"])
    worker.sight = Summary(largest={"a.test": seen})
    worker.measures._journal.note(Kind.LOGIN_REFUSED, level=Level.NOTICE, login="bob")
    answer = result(worker.commands.top({}))
    assert answer["hostname"] == "mx.example.test"
    assert answer["destinations"] == {
        "0": {
            "a.test": {
                "recipients": 3,
                "states": {"waiting": 2, "held": 1},
                "next": 1500.0,
                "reason": "no answer",
            }
        }
    }
    assert [event["about"] for event in answer["recent"]] == ["bob"]


def test_the_queue_is_not_looked_at_more_often_than_it_bears() -> None:
    """Within some seconds, and while a look is under way, what was seen last is told."""
    worker = Worker()
    for _ in range(3):
        result(worker.commands.metrics({}))
    assert len(worker.looks) == 1
    worker.clock.advance(FRESH)
    result(worker.commands.metrics({}))
    assert len(worker.looks) == 2


def test_a_long_look_is_good_for_longer() -> None:
    """A look that takes a second is followed by twenty without one, and those who ask meanwhile do not wait."""
    worker = Worker()
    looking: list[defer.Deferred[Any]] = []

    def run(*arguments: Any) -> defer.Deferred[Any]:
        looking.append(defer.Deferred())
        return looking[-1]

    worker.queue._run_in_thread = run
    asked = worker.commands.metrics({})
    assert number(result(worker.commands.metrics({})), metric.QUEUE_MESSAGES) == 0
    assert not asked.called
    worker.clock.advance(1)
    looking[0].callback(Summary())
    result(asked)
    worker.clock.advance(19)
    result(worker.commands.metrics({}))
    assert len(looking) == 1
    worker.clock.advance(1)
    worker.commands.metrics({})
    assert len(looking) == 2


def test_a_look_that_fails_leaves_what_was_seen() -> None:
    """A queue that cannot be read now is told of as it was."""
    worker = Worker()
    worker.sight = Summary(largest={"a.test": Waiting(7)})
    result(worker.commands.metrics({}))
    worker.clock.advance(FRESH)
    worker.queue._run_in_thread = lambda *_: defer.fail(sqlite3.OperationalError("interrupted"))
    assert number(result(worker.commands.metrics({})), metric.QUEUE_DESTINATION, "a.test") == 7


def test_events_that_were_lost_are_counted() -> None:
    """What history and log could not write is told, by the sink."""
    from mta.observe.log import Log, key_value

    worker = Worker()
    log = Log(None, lambda function: None, key_value)  # type: ignore[arg-type]
    log.lost = 3
    worker.measures._journal.sinks.append(log)
    assert number(result(worker.commands.metrics({})), metric.EVENTS_LOST, "log") == 3
    assert number(result(worker.commands.metrics({})), metric.EVENTS_LOST, "history") == 0


def test_replies_are_counted_by_service() -> None:
    """Each reply of a session counts for its service, by code."""
    worker = Worker()
    replied = worker.measures.replied("mx")
    for code in (220, 250, 250):
        replied(code)
    assert number(result(worker.commands.metrics({})), metric.REPLIES, "mx", "250") == 2

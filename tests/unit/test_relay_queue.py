"""The active queue: what is due is delivered, and what became of it is recorded, reported and noted."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from twisted.internet import defer, task

from mta.board.alone import Alone
from mta.board.port import Board
from mta.board.shared import Layout, SharedBoard
from mta.mail.envelope import Envelope, Notify, Recipient
from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.queueid import new_queue_id
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.relay.bounce import Bouncer
from mta.relay.queue import ASK_AGAIN, RelayQueue
from mta.settings.expansion import LOCAL, Addressed
from mta.settings.sections import QueueSettings
from mta.smtp import status
from mta.smtp.address import Mailbox
from mta.spool.port import Content, Ended, Message, Origin, QueuedMessage, QueuedRecipient, Retry, SpoolSuspect, State
from tests.doubles.journal import RecordingJournal
from tests.doubles.spool import ModelSpool, whole
from tests.doubles.sync import failure, result

NET = "example.net"
ALICE = Mailbox("alice", "example.test")
DELIVERED = Delivered(Reason("taken"), remote="mx.example.net [192.0.2.1]:25", reply="250 2.0.0 ok")
REFUSED = Failed(Reason("no such user", "550"), status.BAD_MAILBOX, "mx.example.net", "550 5.1.1 no such user")
BUSY = Deferred(Reason("greylisted", "451"), status.TOO_MUCH, "mx.example.net", "451 4.7.0 later")
DEAD = Deferred(Reason("connection refused"), status.NO_ANSWER.transient())


class ScriptedDelivery:
    """Answers each attempt by the local-part of the recipient; keeps what it was given."""

    def __init__(self, script: dict[str, Outcome] | None = None) -> None:
        self.script = script or {}
        self.attempts: list[tuple[str, list[str]]] = []
        self.held: list[defer.Deferred[None]] | None = None
        self.error: Exception | None = None

    async def deliver(
        self, message: QueuedMessage, content: Content, recipients: Sequence[QueuedRecipient]
    ) -> Mapping[int, Outcome]:
        """Make an attempt."""
        names = [str(queued.recipient.mailbox) for queued in recipients]
        self.attempts.append((message.queue_id, names))
        if self.held is not None:
            self.held.append(defer.Deferred())
            await self.held[-1]
        if self.error is not None:
            raise self.error
        return {queued.number: self.script.get(queued.recipient.mailbox.local_part, DELIVERED) for queued in recipients}


class Relay:
    """A queue over a model spool, with a clock whose wall is itself."""

    def __init__(
        self,
        settings: QueueSettings | None = None,
        spool: ModelSpool | None = None,
        width: int = 5,
        seed: int = 7,
        board: Board | None = None,
        clock: task.Clock | None = None,
    ) -> None:
        self.clock = clock or task.Clock()
        self.clock.advance(1000)
        self.journal = RecordingJournal(self.clock.seconds)
        self.spool = spool or ModelSpool()
        self.local = ScriptedDelivery()
        self.remote = ScriptedDelivery()
        self.settings = settings or QueueSettings(jitter=0)
        chance = random.Random(seed)
        self.chance = chance
        bouncer = Bouncer("mx.example.test", lambda: 0, chance, self.address, lambda: self.settings.lifetime)
        self.queue = RelayQueue(
            self.spool,
            self.local,
            self.remote,
            bouncer,
            lambda: self.settings,
            width,
            self.journal,
            self.clock,
            chance,
            board or Alone(),
        )
        self.readers: Callable[[Mailbox], tuple[Addressed, ...]] = lambda mailbox: (
            Addressed(Recipient(mailbox), LOCAL),
        )

    def address(self, mailbox: Mailbox) -> tuple[Addressed, ...]:
        """Say where reports go."""
        return self.readers(mailbox)

    def accept(
        self, *names: str, sender: Mailbox | None = ALICE, active: bool | None = None, hand_over: bool = True
    ) -> str:
        """Insert a message for ``name@example.net`` or, without a domain, for a mailbox of ours; return its id."""
        queue_id = new_queue_id(self.clock.seconds(), 0, self.chance)
        mailboxes = [Mailbox(*name.split("@")) if "@" in name else Mailbox(name, "example.test") for name in names]
        destinations = [mailbox.domain if mailbox.domain != "example.test" else LOCAL for mailbox in mailboxes]
        message = Message(
            queue_id,
            self.clock.seconds(),
            Envelope(sender, tuple(Recipient(mailbox) for mailbox in mailboxes)),
            b"Subject: hello\r\n\r\nbody\r\n",
            24,
            False,
            Origin("mx"),
            destinations,
            self.queue.starts_at_once(destinations) if active is None else active,
        )
        result(self.spool.insert(message))
        if hand_over:
            self.queue.hand_over(message)
        return queue_id

    def states(self, queue_id: str) -> list[tuple[State, int, float]]:
        """State, attempts and due time of the recipients that are left."""
        message = self.spool.get(queue_id)
        return [(q.state, q.attempts, q.due) for q in message.recipients] if message else []


def test_a_message_handed_over_is_delivered_and_gone() -> None:
    """New mail goes out at once; when it is taken nothing of it is left, and the reply stands in the journal."""
    relay = Relay()
    queue_id = relay.accept("bob@example.net")
    assert relay.remote.attempts == [(queue_id, ["bob@example.net"])]
    assert relay.spool.get(queue_id) is None
    [event] = relay.journal.of(Kind.RECIPIENT_DELIVERED)
    assert event.queue_id == queue_id
    assert event.fields["reply"] == "250 2.0.0 ok"


def test_recipients_of_one_destination_share_an_attempt() -> None:
    """Two recipients of one domain and one of ours are two attempts."""
    relay = Relay()
    relay.accept("bob@example.net", "eve@example.net", "alice")
    assert [names for _, names in relay.remote.attempts] == [["bob@example.net", "eve@example.net"]]
    assert [names for _, names in relay.local.attempts] == [["alice@example.test"]]


def test_a_delay_is_recorded_and_tried_again_when_due() -> None:
    """A deferred recipient waits five minutes, then it is tried again; the other one is done."""
    relay = Relay()
    relay.remote.script = {"bob": BUSY}
    queue_id = relay.accept("bob@example.net", "eve@example.net")
    assert relay.states(queue_id) == [(State.WAITING, 1, 1300.0)]
    relay.remote.script = {}
    relay.clock.advance(299)
    assert len(relay.remote.attempts) == 1
    relay.clock.pump([1.0, 0.1])
    assert [names for _, names in relay.remote.attempts[1:]] == [["bob@example.net"]]
    assert relay.spool.get(queue_id) is None


def test_an_attempt_from_the_spool_is_marked_before_it_starts() -> None:
    """A message read from the spool is ACTIVE there while it is tried: a crash then counts."""
    relay = Relay()
    queue_id = relay.accept("bob@example.net", active=False, hand_over=False)
    relay.remote.held = []
    relay.queue.start()
    relay.clock.advance(0)
    assert relay.states(queue_id) == [(State.ACTIVE, 0, 1000.0)]
    relay.remote.held[0].callback(None)
    assert relay.spool.get(queue_id) is None


def test_a_failure_and_its_report_are_recorded_together() -> None:
    """A refused recipient is gone, and a report to the sender is in the queue and delivered to her mailbox."""
    relay = Relay()
    relay.remote.script = {"bob": REFUSED}
    relay.local.held = []
    queue_id = relay.accept("bob@example.net")
    assert relay.spool.get(queue_id) is None
    [(report_id, names)] = relay.local.attempts
    assert names == ["alice@example.test"]
    report = relay.spool.get(report_id)
    assert report is not None
    assert report.envelope.reverse_path is None
    assert b"550 5.1.1 no such user" in whole(relay.spool.content(report_id))
    [event] = relay.journal.of(Kind.REPORT_QUEUED)
    assert (event.queue_id, event.fields["about"]) == (report_id, queue_id)
    [failed] = relay.journal.of(Kind.RECIPIENT_FAILED)
    assert failed.fields["report"] == report_id


def test_a_bounce_of_a_bounce_is_never_made() -> None:
    """Mail from <> that fails ends with that reason, without a report (rows 61)."""
    relay = Relay()
    relay.remote.script = {"bob": REFUSED}
    queue_id = relay.accept("bob@example.net", sender=None)
    assert relay.spool.counts().messages == 0
    assert relay.local.attempts == []
    [event] = relay.journal.of(Kind.RECIPIENT_FAILED)
    assert event.queue_id == queue_id
    assert event.fields["report"] == "mail from <> gets no report"


def test_a_report_for_a_sender_who_is_gone_ends_with_that_reason() -> None:
    """Nobody is left to be told: the recipient ends, and the reason says so."""
    relay = Relay()
    relay.readers = lambda mailbox: ()
    relay.remote.script = {"bob": REFUSED}
    relay.accept("bob@example.net")
    assert relay.spool.counts().messages == 0
    [event] = relay.journal.of(Kind.RECIPIENT_FAILED)
    assert event.fields["report"] == "the sender alice@example.test does not exist here any more"


def test_notify_never_makes_no_report() -> None:
    """A recipient with NOTIFY=NEVER that fails is not reported (RFC 3461 §4.1)."""
    relay = Relay()
    recipient = Recipient(Mailbox("bob", NET), notify=Notify.NEVER)
    queue_id = relay.accept("bob@example.net", hand_over=False, active=False)
    entry = relay.spool._queue[queue_id]
    entry.recipients[0] = replace(entry.recipients[0], recipient=recipient)
    relay.remote.script = {"bob": REFUSED}
    relay.queue.start()
    relay.clock.advance(0)
    assert relay.spool.counts().messages == 0
    assert relay.journal.of(Kind.REPORT_QUEUED) == []


def test_a_delay_is_warned_of_once() -> None:
    """After four hours the sender gets one report of the delay, and no second one."""
    relay = Relay(QueueSettings(jitter=0, first_retry=3600, longest_retry=3600))
    relay.remote.script = {"bob": BUSY}
    relay.accept("bob@example.net")
    for _ in range(30):
        relay.clock.advance(1800)
    reports = relay.journal.of(Kind.REPORT_QUEUED)
    assert len(reports) == 1
    assert reports[0].time == 1000 + 4 * 3600
    named = [event.fields.get("report") for event in relay.journal.of(Kind.RECIPIENT_DEFERRED)]
    assert [each for each in named if each] == [reports[0].queue_id]
    assert len(relay.local.attempts) == 1


def test_mail_is_returned_at_the_end_of_its_life() -> None:
    """After five days of delays the message fails with 5.4.7 and its sender is told."""
    relay = Relay()
    relay.remote.script = {"bob": BUSY}
    queue_id = relay.accept("bob@example.net")
    for _ in range(24 * 6):
        relay.clock.advance(3600)
    assert relay.spool.get(queue_id) is None
    [failed] = relay.journal.of(Kind.RECIPIENT_FAILED)
    assert failed.fields["status"] == "5.4.7"
    assert len(relay.local.attempts) == 2  # the warning, and the failure


def test_a_failure_and_a_delay_of_one_message_name_each_its_own_report() -> None:
    """One recipient fails when the delay of the other is told of: two reports, each named by the right event."""
    relay = Relay(QueueSettings(jitter=0, first_retry=3600, longest_retry=3600))
    relay.remote.script = {"bob": BUSY, "eve": BUSY}
    relay.accept("bob@example.net", "eve@example.net")
    relay.clock.advance(3600)
    relay.clock.advance(3600)
    relay.clock.advance(3600)
    relay.remote.script = {"bob": BUSY, "eve": REFUSED}
    relay.clock.advance(3600)
    [failed] = relay.journal.of(Kind.RECIPIENT_FAILED)
    [delayed] = [event for event in relay.journal.of(Kind.RECIPIENT_DEFERRED) if event.fields.get("report")]
    contents = {event.queue_id: event for event in relay.journal.of(Kind.REPORT_QUEUED)}
    assert len(contents) == 2
    of_failure, of_delay = contents
    assert (failed.fields["report"], delayed.fields["report"]) == (of_failure, of_delay)


def test_a_bug_in_a_delivery_never_bounces_mail() -> None:
    """An exception of ours is noted with a traceback; the message waits, not counted, for any time (law 2)."""
    relay = Relay()
    relay.remote.error = ZeroDivisionError("ours")
    queue_id = relay.accept("bob@example.net")
    for _ in range(24 * 6):
        relay.clock.advance(3600)
    assert [(state, attempts) for state, attempts, _ in relay.states(queue_id)] == [(State.WAITING, 0)]
    assert relay.journal.of(Kind.FAULT)
    assert relay.journal.of(Kind.REPORT_QUEUED) == []
    assert {event.level for event in relay.journal.of(Kind.RECIPIENT_DEFERRED)} == {Level.ALERT}
    relay.remote.error = None
    relay.clock.advance(4 * 3600)
    relay.clock.advance(60)
    assert relay.spool.get(queue_id) is None


def test_a_bug_in_report_writing_keeps_the_message() -> None:
    """If the report cannot be written the failed recipient stays in the queue; the delivered one is done."""
    relay = Relay()
    relay.readers = lambda mailbox: 1 // 0  # type: ignore[return-value]  # breaks on purpose
    relay.remote.script = {"bob": REFUSED}
    queue_id = relay.accept("bob@example.net", "eve@example.net")
    assert [(state, attempts) for state, attempts, _ in relay.states(queue_id)] == [(State.WAITING, 0)]
    assert len(relay.journal.of(Kind.FAULT)) == 1


def test_a_record_that_fails_is_repeated_until_it_stands() -> None:
    """With a full disk the outcome is kept and recorded when there is room: no second delivery meanwhile."""
    relay = Relay()
    relay.remote.held = []
    queue_id = relay.accept("bob@example.net")
    relay.spool.fault = OSError(28, "No space left on device")
    relay.remote.held[0].callback(None)
    relay.clock.pump([5.0] * 10)
    assert relay.spool.get(queue_id) is not None
    assert relay.journal.of(Kind.SPOOL_UNWRITABLE)[0].level is Level.ALERT
    relay.spool.fault = None
    relay.clock.pump([5.0])
    assert relay.spool.get(queue_id) is None
    assert len(relay.remote.attempts) == 1


def test_a_spool_that_cannot_be_marked_starts_nothing() -> None:
    """Without its mark an attempt does not start; it starts when the spool can be written again."""
    relay = Relay()
    relay.accept("bob@example.net", active=False, hand_over=False)
    relay.spool.fault = SpoolSuspect("gone")
    relay.queue.start()
    relay.clock.pump([0.1] * 5)
    assert relay.remote.attempts == []
    relay.spool.fault = None
    relay.clock.pump([1.0] * 6)
    assert len(relay.remote.attempts) == 1
    assert [kind for kind in relay.journal.kinds() if "SPOOL" in kind.name] == [
        Kind.SPOOL_UNWRITABLE,
        Kind.SPOOL_WRITABLE,
    ]


def test_a_dead_destination_is_not_tried_message_by_message() -> None:
    """After one refused connection what waits for that destination is deferred with the same reason, untried."""
    relay = Relay(width=1)
    relay.remote.held = []
    relay.remote.script = {"bob": DEAD}
    ids = [relay.accept("bob@example.net") for _ in range(4)]
    assert len(relay.remote.attempts) == 1
    relay.remote.held[0].callback(None)
    assert len(relay.remote.attempts) == 1
    assert [relay.states(queue_id)[0][0] for queue_id in ids] == [State.WAITING] * 4
    reasons = [event.reason.text for event in relay.journal.of(Kind.RECIPIENT_DEFERRED) if event.reason]
    assert sorted(reasons) == ["connection refused"] + ["example.net rests: connection refused"] * 3


def test_memory_is_bounded_and_the_backlog_follows() -> None:
    """With room for two messages the others wait in the spool, and all are delivered in the end, each once."""
    relay = Relay(QueueSettings(jitter=0, memory_messages=2))
    relay.remote.held = []
    ids = []
    for number in range(7):
        ids.append(relay.accept(f"u{number}@d{number}.example", active=number < 2))
    assert len(relay.remote.attempts) == 2
    while relay.remote.held:
        relay.remote.held.pop(0).callback(None)
        relay.clock.advance(0.1)
    assert sorted(queue_id for queue_id, _ in relay.remote.attempts) == sorted(ids)
    assert relay.spool.counts().messages == 0


def test_stop_waits_for_what_is_under_way_and_starts_nothing() -> None:
    """A stop fires when running attempts are recorded; what was waiting stays in the spool."""
    relay = Relay(width=1)
    relay.remote.held = []
    first, second = relay.accept("bob@example.net"), relay.accept("eve@example.net")
    stopped = defer.ensureDeferred(relay.queue.stop())
    assert not stopped.called
    relay.remote.held[0].callback(None)
    result(stopped)
    assert relay.spool.get(first) is None
    assert relay.spool.get(second) is not None
    assert relay.clock.getDelayedCalls() == []


def test_a_content_that_cannot_be_read_waits() -> None:
    """A message whose content cannot be read is deferred for a cause of ours, not bounced."""
    relay = Relay()
    queue_id = relay.accept("bob@example.net", active=False, hand_over=False)

    def unreadable(queue_id: str) -> bytes:
        raise OSError(5, "Input/output error")

    relay.spool.content = unreadable  # type: ignore[method-assign]  # the disk of this test
    relay.queue.start()
    relay.clock.advance(0)
    assert relay.remote.attempts == []
    assert [(state, attempts) for state, attempts, _ in relay.states(queue_id)] == [(State.WAITING, 0)]


def test_after_a_death_what_was_there_goes_one_at_a_time() -> None:
    """Messages that were ACTIVE when a worker died start one by one, others beside them: the guilty is found alone."""
    before = Relay()
    before.remote.held = []
    for number in range(4):
        before.accept(f"u{number}@d{number}.example")
    relay = Relay(spool=before.spool.crash(1000), seed=8)
    relay.remote.held = []
    relay.queue.start()
    fresh = relay.accept("bob@example.net", active=False, hand_over=False)
    relay.clock.pump([0.1] * 5)
    assert len(relay.remote.attempts) == 2
    assert fresh in [queue_id for queue_id, _ in relay.remote.attempts]
    active = [q.state for m in relay.spool.page() for q in m.recipients].count(State.ACTIVE)
    assert active == 2
    while relay.remote.held:
        relay.remote.held.pop(0).callback(None)
        relay.clock.pump([0.1] * 5)
    assert relay.spool.counts().messages == 0
    assert len(relay.remote.attempts) == 5


def test_a_message_that_kills_twice_is_held_and_its_companions_are_not() -> None:
    """Of four messages under way at two deaths, only the one that was alone at the second is set aside."""
    before = Relay()
    before.remote.held = []
    for number in range(4):
        before.accept(f"u{number}@d{number}.example")
    second = Relay(spool=before.spool.crash(1000), seed=8)
    second.remote.held = []
    second.queue.start()
    second.clock.pump([0.1] * 5)
    third = Relay(spool=second.spool.crash(1001))
    third.queue.start()
    third.clock.pump([0.1] * 50)
    assert third.spool.counts().recipients[State.HELD] == 1
    assert third.spool.counts().messages == 1


def test_many_that_died_do_not_hide_what_is_due_behind_them() -> None:
    """With more such messages than a page holds, other mail behind them is still found."""
    before = Relay()
    before.remote.held = []
    for number in range(150):
        before.accept(f"u{number}@d{number}.example")
    relay = Relay(spool=before.spool.crash(1000), seed=8)
    relay.remote.held = []
    fresh = relay.accept("bob@example.net", active=False, hand_over=False)
    relay.queue.start()
    relay.clock.pump([0.1] * 3)
    assert fresh in [queue_id for queue_id, _ in relay.remote.attempts]


def test_a_message_to_many_domains_brings_one_report() -> None:
    """Fifty domains that refuse are one report about fifty recipients, when the last attempt is over."""
    relay = Relay()
    relay.remote.held = []
    names = [f"bob@d{number}.example" for number in range(50)]
    relay.remote.script = {"bob": REFUSED}
    relay.local.held = []
    queue_id = relay.accept(*names)
    for held in relay.remote.held[:-1]:
        held.callback(None)
    assert relay.local.attempts == []
    assert len(relay.states(queue_id)) == 50
    relay.remote.held[-1].callback(None)
    assert relay.states(queue_id) == []
    [(report_id, _)] = relay.local.attempts
    assert whole(relay.spool.content(report_id)).count(b"\r\nFinal-Recipient:") == 50


def test_a_failure_is_told_within_five_minutes() -> None:
    """A recipient that is still tried holds the report about another one back for five minutes, not for ever."""
    relay = Relay()
    relay.remote.held = []
    relay.remote.script = {"bob": REFUSED}
    queue_id = relay.accept("bob@a.example", "eve@b.example")
    relay.remote.held[0].callback(None)
    relay.clock.advance(299)
    assert relay.local.attempts == []
    relay.clock.advance(1)
    assert len(relay.local.attempts) == 1
    assert len(relay.states(queue_id)) == 1


def test_a_stop_tells_what_is_kept() -> None:
    """A failure that waits for its companions is reported when the server stops."""
    relay = Relay(width=1)
    relay.remote.held = []
    relay.remote.script = {"bob": REFUSED}
    queue_id = relay.accept("bob@a.example", "eve@b.example")
    relay.remote.held[0].callback(None)
    stopped = defer.ensureDeferred(relay.queue.stop())
    relay.remote.held[1].callback(None)
    result(stopped)
    assert relay.spool.get(queue_id) is None
    assert len(relay.journal.of(Kind.REPORT_QUEUED)) == 1
    assert relay.clock.getDelayedCalls() == []


def test_a_leap_of_the_clock_returns_nothing() -> None:
    """When wall time leaps by six days while we run, mail that was tried once is tried on, not returned (row 85)."""
    relay = Relay()
    leap = 0.0
    relay.journal.wall = lambda: relay.clock.seconds() + leap
    relay.remote.script = {"bob": BUSY}
    queue_id = relay.accept("bob@example.net")
    leap = 6 * 86400.0
    relay.clock.pump([60.0] * 10)
    assert len(relay.remote.attempts) > 1
    assert [state for state, _, _ in relay.states(queue_id)] == [State.WAITING]
    assert relay.journal.of(Kind.REPORT_QUEUED) == []


def test_a_reply_that_speaks_of_the_network_rests_nobody() -> None:
    """A host that says 451 4.4.3 about one sender was reached: the next message to it is tried."""
    relay = Relay(width=1)
    relay.remote.script = {"bob": Deferred(Reason("said"), status.DIRECTORY_FAILURE, "mx", "451 4.4.3 sender?")}
    relay.accept("bob@example.net")
    relay.accept("eve@example.net")
    assert len(relay.remote.attempts) == 2


def test_a_missing_outcome_waits() -> None:
    """A delivery that forgets a recipient is a bug of ours: noted, and the recipient waits (law 2)."""
    relay = Relay()

    async def forgetful(*arguments: object) -> Mapping[int, Outcome]:
        return {}

    relay.remote.deliver = forgetful  # type: ignore[method-assign]  # broken on purpose
    queue_id = relay.accept("bob@example.net")
    assert [(state, attempts) for state, attempts, _ in relay.states(queue_id)] == [(State.WAITING, 0)]
    assert len(relay.journal.of(Kind.FAULT)) == 1


def test_a_shard_that_is_gone_gives_its_places_back() -> None:
    """When a shard becomes suspect its attempts end unrecorded at once, with one alarm, and others have their turn."""
    relay = Relay(QueueSettings(jitter=0, concurrency=1))
    relay.remote.held = []
    relay.accept("bob@a.example")
    relay.spool.fault = SpoolSuspect("gone")
    relay.remote.held[0].callback(None)
    relay.clock.pump([10.0] * 10)
    assert len(relay.journal.of(Kind.SPOOL_UNWRITABLE)) == 1
    relay.spool.fault = None
    relay.accept("eve@b.example")
    assert len(relay.remote.attempts) == 2


def test_a_record_that_waits_for_the_disk_holds_no_place() -> None:
    """With a full disk an attempt that is over frees its place before its record stands."""
    relay = Relay(QueueSettings(jitter=0, concurrency=1))
    relay.remote.held = []
    relay.accept("bob@a.example")
    relay.accept("eve@b.example", active=True)
    record, relay.spool.record = relay.spool.record, lambda *arguments: defer.Deferred()  # type: ignore[method-assign]
    relay.remote.held[0].callback(None)
    assert len(relay.remote.attempts) == 2
    relay.spool.record = record  # type: ignore[method-assign]


def test_waiting_mail_never_starves() -> None:
    """A message that found no room at its commit is found though nothing else happens, within a minute."""
    relay = Relay(QueueSettings(jitter=0, memory_messages=1))
    relay.remote.held = []
    relay.accept("bob@a.example")
    message = relay.accept("eve@b.example", active=False)
    relay.remote.held[0].callback(None)
    relay.clock.pump([1.0] * 61)
    assert message in [queue_id for queue_id, _ in relay.remote.attempts]


def test_kept_content_is_bounded() -> None:
    """Large content is not kept in memory while its job waits: it is read again when it has its turn."""
    relay = Relay(QueueSettings(jitter=0, concurrency=1))
    relay.remote.held = []
    relay.accept("bob@a.example")
    relay.accept("eve@b.example")
    [waiting] = [job for job in relay.queue._jobs.values() if job.destination == "b.example"]
    assert waiting.content is not None
    big = replace(relay.spool.get(waiting.message.queue_id), replay=False)  # type: ignore[type-var]
    relay.queue._add(replace(big, queue_id="x"), bytes(100_000))
    assert relay.queue._jobs["x", "b.example"].content is None


def test_a_full_disk_is_said_once() -> None:
    """Two hundred due messages and a full disk are one alarm, not one for each look."""
    relay = Relay()
    for number in range(200):
        relay.accept(f"u{number}@d{number}.example", active=False, hand_over=False)
    relay.spool.fault = OSError(28, "No space left on device")
    relay.queue.start()
    relay.clock.pump([0.5] * 40)
    assert len(relay.journal.of(Kind.SPOOL_UNWRITABLE)) == 1
    relay.spool.fault = None
    relay.clock.pump([1.0] * 70)
    assert relay.spool.counts().messages == 0


def test_many_that_died_cost_no_busy_loop() -> None:
    """A thousand doubtful messages, one of them slow: ordinary mail is tried at once, and the spool is read seldom."""
    before = Relay()
    before.remote.held = []
    for number in range(1000):
        before.accept(f"u{number}@d{number}.example", active=True)
    relay = Relay(spool=before.spool.crash(1000), seed=8)
    relay.remote.held = []
    looks = 0
    due = relay.spool.due

    def counted(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        return due(*arguments)  # type: ignore[arg-type]

    relay.spool.due = counted  # type: ignore[method-assign, assignment]
    relay.queue.start()
    fresh = relay.accept("bob@example.net", active=False, hand_over=False)
    relay.clock.pump([0.1] * 100)
    assert fresh in [queue_id for queue_id, _ in relay.remote.attempts]
    assert len(relay.remote.attempts) == 2
    assert looks < 30


def test_what_is_due_a_moment_later_is_tried_then() -> None:
    """After a start a message that is due a little later than another is tried then, not at the next minute."""
    relay = Relay()
    relay.remote.held = []
    relay.accept("bob@a.example", active=False, hand_over=False)
    relay.clock.advance(0.5)
    relay.accept("eve@b.example", active=False, hand_over=False)
    later = relay.spool.page()[1]
    relay.spool._queue[later.queue_id].recipients[0] = replace(later.recipients[0], due=relay.clock.seconds() + 1)
    relay.queue.start()
    relay.clock.pump([0.1] * 5)
    assert len(relay.remote.attempts) == 1
    relay.clock.pump([0.1] * 7)
    assert len(relay.remote.attempts) == 2


def test_recipients_that_become_due_while_others_are_tried_follow_at_once() -> None:
    """Of one message and destination, bob is tried when eve becomes due: she is tried when his attempt is over."""
    relay = Relay()
    relay.remote.held = []
    queue_id = relay.accept("bob@a.example", "eve@a.example", active=False, hand_over=False)
    recipients = relay.spool._queue[queue_id].recipients
    recipients[1] = replace(recipients[1], due=relay.clock.seconds() + 1)
    relay.queue.start()
    relay.clock.pump([0.1] * 20)
    assert relay.remote.attempts == [(queue_id, ["bob@a.example"])]
    relay.remote.held[0].callback(None)
    relay.clock.advance(0.1)
    assert relay.remote.attempts[1:] == [(queue_id, ["eve@a.example"])]


def test_a_second_recipient_of_a_message_is_tried_when_it_is_due() -> None:
    """Bob is being tried when the spool is read; eve, of the same message and destination, is due a second later and is
    tried then, not at the next minute.
    """
    relay = Relay()
    relay.remote.held = []
    queue_id = relay.accept("bob@example.net", "eve@example.net", active=False, hand_over=False)
    entry = relay.spool._queue[queue_id].recipients
    entry[1] = replace(entry[1], due=relay.clock.seconds() + 1)
    relay.queue.start()
    relay.clock.pump([0.1] * 3)
    assert [names for _, names in relay.remote.attempts] == [["bob@example.net"]]
    relay.remote.held[0].callback(None)
    relay.clock.pump([0.1] * 9)
    assert [names for _, names in relay.remote.attempts] == [["bob@example.net"], ["eve@example.net"]]


def test_two_workers_share_the_connections_to_a_destination() -> None:
    """The second worker starts nothing while the first has all of the width, and asks again when it is free."""
    layout = Layout(2, RelayQueue.SHARES, {})
    board = SharedBoard.make(layout, lambda: 0.0)
    clock = task.Clock()
    first, second = (
        Relay(width=2, clock=clock, board=SharedBoard(board.descriptor, layout, number, clock.seconds))
        for number in range(2)
    )
    first.remote.held = []
    second.remote.held = []
    for relay in (first, second):
        for _ in range(2):
            relay.accept("bob@example.net")
    clock.pump([ASK_AGAIN] * 4)
    assert (len(first.remote.attempts), len(second.remote.attempts)) == (2, 0)
    first.remote.held[0].callback(None)
    clock.pump([ASK_AGAIN] * 4)
    assert (len(first.remote.attempts), len(second.remote.attempts)) == (2, 1)
    first.remote.held[1].callback(None)
    clock.pump([ASK_AGAIN] * 4)
    assert len(second.remote.attempts) == 2


# The operator's hand


def message_of(relay: Relay, queue_id: str) -> QueuedMessage:
    """Read a message as the operator's commands do."""
    found = relay.spool.get(queue_id)
    assert found is not None
    return found


def waiting_behind_another() -> tuple[Relay, str]:
    """A message in memory that waits for its turn, behind one that is being tried."""
    relay = Relay(width=1)
    relay.remote.held = []
    relay.accept("first@example.net")
    queue_id = relay.accept("bob@example.net")
    assert len(relay.remote.attempts) == 1
    return relay, queue_id


def test_what_is_withdrawn_has_no_turn() -> None:
    """A job that waits in memory is forgotten: what the operator held meanwhile is not delivered."""
    relay, queue_id = waiting_behind_another()
    message = message_of(relay, queue_id)
    assert relay.queue.withdraw(message) == frozenset()
    result(relay.spool.record(queue_id, [Retry(0, 0.0, Reason("held"), counted=False, state=State.HELD)]))
    relay.queue.give_back(queue_id)
    relay.remote.held[0].callback(None)  # type: ignore[index]
    relay.clock.advance(120)
    assert [attempt[0] for attempt in relay.remote.attempts].count(queue_id) == 0
    assert message_of(relay, queue_id).recipients[0].state is State.HELD


def test_what_is_given_back_is_tried() -> None:
    """After the operator's act the relay looks into the spool, and what is due is delivered, once."""
    relay, queue_id = waiting_behind_another()
    relay.queue.withdraw(message_of(relay, queue_id))
    relay.queue.give_back(queue_id)
    relay.clock.advance(0)
    relay.remote.held[0].callback(None)  # type: ignore[index]
    relay.remote.held[1].callback(None)  # type: ignore[index]
    assert [attempt[0] for attempt in relay.remote.attempts].count(queue_id) == 1
    assert relay.spool.get(queue_id) is None


def test_what_is_withdrawn_is_not_read_again() -> None:
    """While the operator's change is being recorded, a look into the spool passes the message over."""
    relay = Relay()
    relay.queue.start()
    relay.clock.advance(0)
    queue_id = relay.accept("bob@example.net", active=False, hand_over=False)
    relay.queue.withdraw(message_of(relay, queue_id))
    relay.clock.advance(120)
    assert relay.remote.attempts == []
    relay.queue.give_back(queue_id)
    relay.clock.advance(0)
    assert len(relay.remote.attempts) == 1


def test_what_is_being_tried_cannot_be_had() -> None:
    """The recipients of an attempt that is under way are busy, others of the message are not."""
    relay = Relay()
    relay.remote.held = []
    queue_id = relay.accept("bob@example.net", "carol@example.org", active=False)
    relay.queue.withdraw(message_of(relay, queue_id))
    relay.queue.give_back(queue_id)
    busy = relay.queue.withdraw(message_of(relay, queue_id))
    assert busy == {0, 1}
    relay.queue.give_back(queue_id)


def test_what_has_its_turn_cannot_be_had() -> None:
    """From the moment it has its turn, before its mark is durable, a recipient is busy."""
    relay = Relay()
    queue_id = relay.accept("bob@example.net", active=False, hand_over=False)
    relay.spool.at_once = False
    relay.queue.start()
    relay.clock.advance(0)
    message = message_of(relay, queue_id)
    assert message.recipients[0].state is State.WAITING
    assert relay.queue.withdraw(message) == {0}
    relay.queue.give_back(queue_id)


def test_what_is_withdrawn_is_not_handed_over() -> None:
    """What the operator has between its commit and its being handed over is left to him."""
    relay, _ = waiting_behind_another()
    mailbox = Mailbox("bob", NET)
    late = Message(
        new_queue_id(relay.clock.seconds(), 0, relay.chance),
        relay.clock.seconds(),
        Envelope(ALICE, (Recipient(mailbox),)),
        b"Subject: x\r\n\r\n",
        14,
        False,
        Origin("mx"),
        [NET],
        active=False,
    )
    result(relay.spool.insert(late))
    relay.queue.withdraw(message_of(relay, late.queue_id))
    relay.queue.hand_over(late)
    result(relay.spool.record(late.queue_id, [Ended(0, Reason("deleted"))]))
    relay.queue.give_back(late.queue_id)
    for held in relay.remote.held or []:
        held.callback(None)
    relay.clock.advance(120)
    assert late.queue_id not in [attempt[0] for attempt in relay.remote.attempts]


def test_a_stop_passes_over_what_was_withdrawn() -> None:
    """A job that is forgotten already is not forgotten twice."""
    relay, queue_id = waiting_behind_another()
    relay.queue.withdraw(message_of(relay, queue_id))
    stopping = defer.ensureDeferred(relay.queue.stop())
    relay.remote.held[0].callback(None)  # type: ignore[index]
    assert result(stopping) is None
    assert [event.kind for event in relay.journal.events if event.kind is Kind.FAULT] == []


def test_what_the_operator_gives_up_is_reported() -> None:
    """It ends with one report to the sender that says his reason, in one record, and each recipient is an event."""
    relay = Relay()
    queue_id = relay.accept("bob@example.net", "carol@example.org", active=False, hand_over=False)
    message = message_of(relay, queue_id)
    relay.queue.withdraw(message)
    reason = Reason("returned by the operator: no more", "mta queue bounce")
    result(defer.ensureDeferred(relay.queue.give_up(message, message.recipients, reason)))
    relay.queue.give_back(queue_id)
    assert relay.spool.get(queue_id) is None
    failed = [event for event in relay.journal.events if event.kind is Kind.RECIPIENT_FAILED]
    assert [(event.fields["recipient"], event.fields["status"]) for event in failed] == [
        ("bob@example.net", "5.7.1"),
        ("carol@example.org", "5.7.1"),
    ]
    assert {event.reason for event in failed} == {reason}
    [report] = [event for event in relay.journal.events if event.kind is Kind.REPORT_QUEUED]
    assert {event.fields["report"] for event in failed} == {report.queue_id}
    assert [names for _, names in relay.local.attempts] == [["alice@example.test"]]


def test_what_cannot_be_recorded_is_not_given_up() -> None:
    """A full disk fails the act; nothing is told to anybody, and the message stays."""
    relay = Relay()
    queue_id = relay.accept("bob@example.net", active=False, hand_over=False)
    message = message_of(relay, queue_id)
    relay.spool.fault = OSError(28, "No space left on device")
    giving_up = defer.ensureDeferred(relay.queue.give_up(message, message.recipients, Reason("no more")))
    assert isinstance(failure(giving_up), OSError)
    assert [event.kind for event in relay.journal.events] == []
    assert relay.spool.get(queue_id) is not None

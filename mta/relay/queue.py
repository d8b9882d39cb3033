"""The active queue: takes what is due, has it delivered, and records what became of it.

New mail is handed over in memory by the commit; the spool is read only for what had to wait, after a restart, and for
a backlog larger than memory may hold. The way of one job (a message and its recipients of one destination):

1. it is ACTIVE in the spool: stored so by the commit, or marked here before it starts;
2. `Pace` gives it a turn; a delivery gives an outcome for each recipient, always;
3. `next_step` decides what follows, `Bouncer` writes the reports about it;
4. one `record` in the spool makes steps and reports durable together, then they are noted and handed over.

If the record fails (a full disk), the job keeps its outcomes and records again later: it is not delivered twice while
we live. If we die in between, it is tried again: a Maildir recognises the copy, a remote host may get a second one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer, interfaces
from twisted.python.failure import Failure

from mta.mail.outcome import Deferred, Outcome
from mta.mail.queueid import Chance
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.relay.bounce import Bouncer
from mta.relay.pace import Pace, unreachable
from mta.relay.port import Delivery
from mta.relay.schedule import Fail, Finish, Step, Wait, next_step
from mta.settings.expansion import LOCAL
from mta.settings.sections import QueueSettings
from mta.smtp import status
from mta.spool.port import Change, Ended, Message, QueuedMessage, QueuedRecipient, Retry, Spool, State

_LOOK_AGAIN = 60.0
"""Longest time in seconds between two looks into the spool: wall time may have jumped."""
_PAGE = 100
"""Messages read from the spool at once: some milliseconds of the reactor's time."""
_PAGES = 10
"""Pages that one look goes through to find messages behind those that wait for their turn."""
_PAUSE = 0.05
"""Shortest time in seconds between two looks into the spool."""
_RECORD_AGAIN = 5.0
"""Seconds after which a record that failed is tried again."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A message and those of its recipients that go to one destination."""

    message: QueuedMessage
    recipients: tuple[QueuedRecipient, ...]
    content: bytes | None
    """In memory when the commit just had it; None: read from the spool."""


class RelayQueue:
    """Runs the queue of one spool: `local` and `remote` deliver, at most `width` at once to one destination.

    `settings` is asked anew each time, so a reload counts; the two bounds on concurrency hold from the start.
    """

    def __init__(
        self,
        spool: Spool,
        local: Delivery,
        remote: Delivery,
        bouncer: Bouncer,
        settings: Callable[[], QueueSettings],
        width: int,
        journal: Journal,
        clock: interfaces.IReactorTime,
        chance: Chance,
    ) -> None:
        self._spool = spool
        self._local = local
        self._remote = remote
        self._bouncer = bouncer
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._chance = chance
        concurrency = settings().concurrency
        self._pace: Pace[_Job] = Pace(concurrency, width)
        # A Maildir batch gains with every message in it, and no peer's patience is at stake.
        self._local_pace: Pace[_Job] = Pace(concurrency, concurrency)
        self._jobs = 0
        self._timer: interfaces.IDelayedCall | None = None
        self._looking = False
        self._backlog = False
        """Whether more was due than memory had room for: look again as soon as it has."""
        self._suspect: tuple[str, str] | None = None
        """The one job under way (queue id, destination) that was there when a worker died."""
        self._stopping = False
        self._running: set[defer.Deferred[None]] = set()

    # In

    def room(self) -> bool:
        """Whether a new message may be handed over; if not, the commit stores it as WAITING."""
        return not self._stopping and self._jobs < self._settings().memory_messages

    def hand_over(self, message: Message) -> None:
        """Take a message that was just committed; one that was not stored as ACTIVE is found in the spool later."""
        if not message.active or self._stopping:
            self._backlog = True
            return
        envelope = message.envelope
        queued = tuple(
            QueuedRecipient(number, recipient, destination, State.ACTIVE, message.accepted, 0, 0, None, False)
            for number, (recipient, destination) in enumerate(
                zip(envelope.recipients, message.destinations, strict=True)
            )
        )
        whole = QueuedMessage(
            message.queue_id,
            message.accepted,
            envelope,
            message.size,
            message.eight_bit,
            message.origin,
            queued,
        )
        self._add(whole, message.content if isinstance(message.content, bytes) else None)

    def start(self) -> None:
        """Begin: look into the spool."""
        self._wake(self._journal.wall())

    def stop(self) -> defer.Deferred[None]:
        """Take nothing more; fires when the attempts under way are recorded."""
        self._stopping = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return defer.DeferredList(list(self._running)).addCallback(lambda _: None)

    def look(self) -> None:
        """Look into the spool now: somebody changed it (a retry by hand, a release)."""
        self._wake(self._journal.wall())

    # The spool

    def _wake(self, at: float) -> None:
        """Look into the spool at wall time `at` or earlier."""
        if self._stopping:
            return
        seconds = min(max(0.0, at - self._journal.wall()), _LOOK_AGAIN)
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= self._clock.seconds() + seconds:
                return
            self._timer.reset(seconds)
        else:
            self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        if self._looking or self._stopping:
            return
        self._looking = True
        looking = defer.ensureDeferred(self._fetch())
        looking.addErrback(self._could_not_look)

    async def _fetch(self) -> None:
        self._pace.forget_rested(self._clock.seconds())
        room = self._settings().memory_messages - self._jobs
        self._backlog = room <= 0
        if not self._backlog:
            due = self._choose_due(min(room, _PAGE))
            # Marked before it starts: a message that kills its worker is set aside, not passed on.
            marks = [
                self._spool.mark(message.queue_id, [queued.number for queued in message.recipients]) for message in due
            ]
            marked: list[tuple[bool, Any]] = await defer.DeferredList(marks, consumeErrors=True)
            for message, (success, failure) in zip(due, marked, strict=True):
                if success:
                    self._add(message, None)
                else:
                    self._unwritable(message.queue_id, failure.value)
                    if self._suspect == (message.queue_id, message.recipients[0].destination):
                        self._suspect = None
        self._looking = False
        if not self._backlog:
            self._wake_for_next()

    def _choose_due(self, limit: int) -> list[QueuedMessage]:
        """Read what is due: up to `limit` messages, and of those that were there when a worker died one at a time.

        So the second death names the guilty: it alone is ACTIVE then, and set aside; its companions are not.
        """
        chosen: list[QueuedMessage] = []
        after = (0.0, "")
        for _ in range(_PAGES):
            page = self._spool.due(self._journal.wall(), limit, after)
            for message in page:
                if not _died_before(message.recipients):
                    chosen.append(message)
                elif self._suspect is None:
                    self._suspect = message.queue_id, message.recipients[0].destination
                    chosen.append(message)
            if len(page) < limit or len(chosen) >= limit:
                break
            last = page[-1]
            after = min(queued.due for queued in last.recipients), last.queue_id
        return chosen

    def _wake_for_next(self) -> None:
        at = self._spool.next_due()
        if at is not None:
            # What could not be marked is due still: not at once again.
            self._wake(max(at, self._journal.wall() + _PAUSE))

    def _could_not_look(self, failure: Failure) -> None:
        assert failure.value is not None, "a Failure holds an exception"
        self._looking = False
        self._journal.fault("relay queue", failure.value)
        self._wake(self._journal.wall() + _RECORD_AGAIN)

    def _unwritable(self, queue_id: str, error: BaseException | None) -> None:
        reason = Reason(f"the queue cannot be written: {error}", "spool")
        self._journal.note(Kind.SPOOL_UNWRITABLE, reason, level=Level.ALERT, queue_id=queue_id)

    # Jobs

    def _add(self, message: QueuedMessage, content: bytes | None) -> None:
        by_destination: dict[str, list[QueuedRecipient]] = {}
        for recipient in message.recipients:
            by_destination.setdefault(recipient.destination, []).append(recipient)
        for destination, recipients in by_destination.items():
            self._jobs += 1
            self._pace_of(destination).add(destination, _Job(message, tuple(recipients), content))
        self._turn()

    def _pace_of(self, destination: str) -> Pace[_Job]:
        return self._local_pace if destination == LOCAL else self._pace

    def _turn(self) -> None:
        if self._stopping:
            return
        now = self._clock.seconds()
        for pace in (self._local_pace, self._pace):
            for destination, job, resting in pace.ready(now):
                done = defer.ensureDeferred(self._run(destination, job, resting))
                if not done.called:
                    self._running.add(done)
                    done.addBoth(self._ran, done)

    def _ran(self, result: object, done: defer.Deferred[None]) -> None:
        self._running.discard(done)

    async def _run(self, destination: str, job: _Job, resting: Reason | None) -> None:
        pace = self._pace_of(destination)
        try:
            if resting is None:
                outcomes = await self._deliver(destination, job)
                reason = unreachable(outcomes)
                if reason is None:
                    pace.reached(destination)
                else:
                    pace.unreached(destination, self._clock.seconds() + self._settings().rest, reason)
            else:
                why = Reason(f"{destination} rests: {resting.text}", resting.source)
                outcomes = _all(job, Deferred(why, status.NO_ANSWER.transient()))
            await self._settle(job, outcomes)
        except Exception as error:
            # The recipients stay ACTIVE in the spool: the next start tries them again.
            self._journal.fault("relay queue", error, queue_id=job.message.queue_id)
        pace.ended(destination, self._clock.seconds())
        self._jobs -= 1
        if self._suspect == (job.message.queue_id, destination):
            self._suspect = None
            self._wake(self._journal.wall())
        self._turn()
        if self._backlog and self._jobs * 2 < self._settings().memory_messages:
            self._wake(self._journal.wall())

    async def _deliver(self, destination: str, job: _Job) -> Mapping[int, Outcome]:
        delivery = self._local if destination == LOCAL else self._remote
        try:
            content = self._spool.content(job.message.queue_id) if job.content is None else job.content
            return await delivery.deliver(job.message, content, job.recipients)
        except (OSError, KeyError) as error:
            reason = Reason(f"cannot read the content: {error}", "spool")
        except Exception as error:
            self._journal.fault("delivery", error, queue_id=job.message.queue_id)
            reason = Reason(f"internal error: {type(error).__name__}: {error}", "delivery")
        return _all(job, Deferred(reason, status.SYSTEM_FAULT, local=True))

    # What became of it

    async def _settle(self, job: _Job, outcomes: Mapping[int, Outcome]) -> None:
        message, now = job.message, self._journal.wall()
        steps = [
            (queued, next_step(queued, outcomes[queued.number], message.accepted, now, self._settings(), self._chance))
            for queued in job.recipients
        ]
        reports: Sequence[Message] = ()
        reasons: Mapping[int, Reason] = {}
        if any(isinstance(step, Fail) or (isinstance(step, Wait) and step.warn) for _, step in steps):
            try:
                reports, reasons = self._bouncer.reports(message, self._original(job), steps, now, self.room())
            except Exception as error:
                self._journal.fault("report", error, queue_id=message.queue_id)
                steps = [(queued, self._later(queued, step, error, now)) for queued, step in steps]
        changes = [_change(queued, step, reasons) for queued, step in steps]
        if not await self._record(message.queue_id, changes, reports):
            return
        for queued, step in steps:
            self._note(message, queued, step, reasons.get(queued.number))
        for report in reports:
            self._note_report(message, report)
            self.hand_over(report)
        due = [change.due for change in changes if isinstance(change, Retry)]
        if due:
            self._wake(min(due))

    def _later(self, queued: QueuedRecipient, step: Step, error: Exception, now: float) -> Step:
        """What follows instead where no report could be written: nothing fails, for nobody would be told."""
        if isinstance(step, Finish):
            return step
        reason = Reason(f"no report could be written: {error}; before that: {step.outcome.reason.text}", "report")
        wait = Deferred(reason, status.SYSTEM_FAULT, local=True)
        return Wait(wait, now + self._settings().longest_retry, warn=False)

    async def _record(self, queue_id: str, changes: Sequence[Change], reports: Sequence[Message]) -> bool:
        """Record until it stands; False only when the process ends first."""
        while True:
            try:
                await self._spool.record(queue_id, changes, reports)
            except Exception as error:
                self._unwritable(queue_id, error)
                if self._stopping:
                    return False
                await self._pause(_RECORD_AGAIN)
            else:
                return True

    def _original(self, job: _Job) -> bytes:
        """The content that a report quotes; one that cannot be read is not quoted, the report is not lost for it."""
        try:
            return self._spool.content(job.message.queue_id) if job.content is None else job.content
        except (OSError, KeyError):
            return b""

    def _pause(self, seconds: float) -> defer.Deferred[None]:
        done: defer.Deferred[None] = defer.Deferred()
        self._clock.callLater(seconds, done.callback, None)
        return done

    def _note(self, message: QueuedMessage, recipient: QueuedRecipient, step: Step, ended: Reason | None) -> None:
        outcome = step.outcome
        fields: dict[str, Any] = {
            "recipient": str(recipient.recipient.mailbox),
            "status": str(outcome.status),
            "delay": round(self._journal.wall() - message.accepted, 3),
        }
        if outcome.remote:
            fields["remote"] = outcome.remote
        if outcome.reply:
            fields["reply"] = outcome.reply
        level = Level.INFO
        match step:
            case Finish():
                kind = Kind.RECIPIENT_DELIVERED
            case Fail():
                kind, level = Kind.RECIPIENT_FAILED, Level.NOTICE
                fields["report"] = ended.text if ended else "queued"
            case Wait(due=due):
                kind = Kind.RECIPIENT_DEFERRED
                fields["attempts"] = recipient.attempts + (not step.outcome.local)
                fields["next"] = round(due - self._journal.wall())
                if step.outcome.local:
                    level = Level.ALERT
        self._journal.note(kind, outcome.reason, level=level, queue_id=message.queue_id, **fields)

    def _note_report(self, message: QueuedMessage, report: Message) -> None:
        self._journal.note(
            Kind.REPORT_QUEUED,
            Reason("about what could not be delivered", message.queue_id),
            queue_id=report.queue_id,
            about=message.queue_id,
            recipient=str(message.envelope.reverse_path),
        )


def _died_before(recipients: Sequence[QueuedRecipient]) -> bool:
    return any(queued.crashes for queued in recipients)


def _all(job: _Job, outcome: Outcome) -> Mapping[int, Outcome]:
    return {queued.number: outcome for queued in job.recipients}


def _change(recipient: QueuedRecipient, step: Step, reasons: Mapping[int, Reason]) -> Change:
    match step:
        case Finish(outcome=outcome):
            return Ended(recipient.number, outcome.reason)
        case Fail(outcome=outcome):
            return Ended(recipient.number, reasons.get(recipient.number, outcome.reason))
        case Wait(outcome=outcome, due=due, warn=warn):
            return Retry(recipient.number, due, outcome.reason, counted=not outcome.local, warned=warn)

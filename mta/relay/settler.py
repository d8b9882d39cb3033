"""What follows an attempt: recorded in the spool, told to the sender, noted in the journal.

Deliveries and delays are recorded as soon as a job ends. What the sender is to be told of (failures, delays that last)
waits until no job of that message is in memory, or for `TELL_WITHIN` seconds, so that one message to fifty domains
brings one report and not fifty; until then those recipients stay ACTIVE in the spool, and a crash has them tried
again. One `record` makes their ends and the report durable together.

If a record fails (a full disk) it is repeated: what was delivered is not delivered again while we live. If the shard
itself is gone (`SpoolSuspect`) nothing of it can be recorded by this process, and the next start tries again.

A clock that leaps forward must not return all mail: of the time that passed since this process began, no more counts
than the monotonic clock saw (robustness row 85).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet import defer, interfaces

from mta.mail.outcome import Deferred, Delivered, Failed, Outcome
from mta.mail.queueid import Chance
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.relay.bounce import Bouncer
from mta.relay.schedule import Drop, Fail, Finish, Keep, Step, Wait, next_step
from mta.settings.sections import QueueSettings
from mta.smtp import status
from mta.spool.port import Change, Content, Message, QueuedMessage, QueuedRecipient, SpoolSuspect, head_of

TELL_WITHIN = 300.0
"""Seconds after which the sender is told of a failure, though other recipients of the message are still tried."""
RECORD_AGAIN = 5.0
"""Seconds after which a record that failed is tried again."""

Steps = list[tuple[QueuedRecipient, Step]]

_KINDS: Mapping[type[Step], tuple[Kind, Level]] = {
    Finish: (Kind.RECIPIENT_DELIVERED, Level.INFO),
    Fail: (Kind.RECIPIENT_FAILED, Level.NOTICE),
    Wait: (Kind.RECIPIENT_DEFERRED, Level.INFO),
    Keep: (Kind.MESSAGE_HELD, Level.NOTICE),
    Drop: (Kind.RECIPIENT_ENDED, Level.NOTICE),
}


class Recording(Protocol):
    """As much of a spool as a settler needs (`mta.spool.port.Spool`)."""

    def record(self, queue_id: str, changes: Sequence[Change], reports: Sequence[Message] = ()) -> defer.Deferred[int]:
        """See `Spool`."""
        ...

    def content(self, queue_id: str) -> Content:
        """See `Spool`."""
        ...


@dataclass(slots=True)
class _Untold:
    """Recipients of one message whose sender is to be told, and the timer that bounds the wait."""

    message: QueuedMessage
    timer: interfaces.IDelayedCall
    steps: Steps = field(default_factory=list)


class Settler:
    """Settles the attempts of one queue.

    `hand_over` takes the reports, `active` says how they are stored.

    `wake` is told the wall time of each retry.
    """

    def __init__(
        self,
        spool: Recording,
        bouncer: Bouncer,
        settings: Callable[[], QueueSettings],
        journal: Journal,
        clock: interfaces.IReactorTime,
        chance: Chance,
        active: Callable[[Sequence[str]], bool],
        hand_over: Callable[[Message], None],
        wake: Callable[[float], None],
    ) -> None:
        self._spool = spool
        self._bouncer = bouncer
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._chance = chance
        self._active = active
        self._hand_over = hand_over
        self._wake = wake
        self._began = journal.wall() - clock.seconds()
        self._untold: dict[str, _Untold] = {}
        self._writable = True
        self._stopping = False

    async def settle(
        self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], outcomes: Mapping[int, Outcome]
    ) -> None:
        """Record what an attempt gave, keep what is to be told for `tell`."""
        now, age, settings = self._journal.wall(), self._age(message), self._settings()
        steps: Steps = []
        for queued in recipients:
            outcome = outcomes.get(queued.number)
            if outcome is None:
                self._journal.fault("delivery", KeyError(queued.number), queue_id=message.queue_id)
                outcome = Deferred(Reason("internal error: no outcome", "delivery"), status.SYSTEM_FAULT, local=True)
            steps.append((queued, next_step(queued, outcome, age, now, settings, self._chance)))
        told = [(queued, step) for queued, step in steps if step.told]
        if told:
            self._keep(message, told)
        await self._conclude(message, [(queued, step) for queued, step in steps if not step.told])

    async def tell(self, queue_id: str) -> None:
        """Report and record what is kept for a message: no attempt at it is under way any more. Never raises."""
        untold = self._untold.pop(queue_id, None)
        if untold is None:
            return
        if untold.timer.active():
            untold.timer.cancel()
        try:
            await self._tell(untold, queue_id)
        except Exception as error:
            # The recipients stay ACTIVE in the spool: the next start tries them again.
            self._journal.fault("report", error, queue_id=queue_id)

    async def _tell(self, untold: _Untold, queue_id: str) -> None:
        message, steps, now = untold.message, untold.steps, self._journal.wall()
        reports: Sequence[Message] = ()
        reasons: Mapping[int, Reason] = {}
        try:
            reports, reasons = self._bouncer.reports(message, self._head(queue_id), steps, now, self._active)
        except Exception as error:
            self._journal.fault("report", error, queue_id=queue_id)
            steps = [(queued, self._untellable(step, error, now)) for queued, step in steps]
        await self._conclude(message, steps, reports, reasons)

    async def give_up(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], reason: Reason) -> None:
        """End recipients of which no attempt is under way, for the operator's reason, and report that now.

        Fails as `Spool.record` does, and nothing has happened then.
        """
        failed = Failed(reason, status.REFUSED)
        steps: Steps = [(queued, Fail(failed)) for queued in recipients]
        head = self._head(message.queue_id)
        reports, reasons = self._bouncer.reports(message, head, steps, self._journal.wall(), self._active)
        changes = [step.change(queued.number, reasons.get(queued.number)) for queued, step in steps]
        await self._spool.record(message.queue_id, changes, reports)
        self._concluded(message, steps, reports, reasons)

    def stop(self) -> defer.Deferred[Any]:
        """Repeat no record any more, and tell what is kept; fires when that is done."""
        self._stopping = True
        return defer.DeferredList([defer.ensureDeferred(self.tell(queue_id)) for queue_id in list(self._untold)])

    def unwritable(self, queue_id: str, error: BaseException) -> None:
        """Note that the queue cannot be written: once, until it can be again."""
        if self._writable:
            self._writable = False
            reason = Reason(f"the queue cannot be written: {error}", "spool")
            self._journal.note(Kind.SPOOL_UNWRITABLE, reason, level=Level.ALERT, queue_id=queue_id)

    def written(self) -> None:
        """Note that it can be."""
        if not self._writable:
            self._writable = True
            self._journal.note(Kind.SPOOL_WRITABLE, level=Level.NOTICE)

    def _age(self, message: QueuedMessage) -> float:
        leap = (self._journal.wall() - self._clock.seconds()) - self._began
        return self._journal.wall() - message.accepted - max(0.0, leap)

    def _keep(self, message: QueuedMessage, told: Steps) -> None:
        untold = self._untold.get(message.queue_id)
        if untold is None:
            timer = self._clock.callLater(TELL_WITHIN, self._tell_late, message.queue_id)
            untold = self._untold[message.queue_id] = _Untold(message, timer)
        untold.steps += told

    def _tell_late(self, queue_id: str) -> None:
        defer.ensureDeferred(self.tell(queue_id))

    def _head(self, queue_id: str) -> bytes:
        """The head that a report quotes; one that cannot be read is not quoted, the report is not lost for it."""
        try:
            return head_of(self._spool.content(queue_id)).octets
        except (OSError, KeyError):
            return b""

    def _untellable(self, step: Step, error: Exception, now: float) -> Step:
        """What follows where no report could be written: nothing fails, for nobody would be told."""
        reason = Reason(f"no report could be written: {error}; before that: {step.outcome.reason.text}", "report")
        wait = Deferred(reason, status.SYSTEM_FAULT, local=True)
        return Wait(wait, now + self._settings().longest_retry, told=False)

    async def _conclude(
        self,
        message: QueuedMessage,
        steps: Steps,
        reports: Sequence[Message] = (),
        reasons: Mapping[int, Reason] = {},
    ) -> None:
        if not steps:
            return
        changes = [step.change(queued.number, reasons.get(queued.number)) for queued, step in steps]
        while True:
            try:
                await self._spool.record(message.queue_id, changes, reports)
                break
            except SpoolSuspect as error:
                self.unwritable(message.queue_id, error)
                return
            except Exception as error:
                self.unwritable(message.queue_id, error)
                if self._stopping:
                    return
                await self._pause(RECORD_AGAIN)
        self.written()
        self._concluded(message, steps, reports, reasons)

    def _concluded(
        self, message: QueuedMessage, steps: Steps, reports: Sequence[Message], reasons: Mapping[int, Reason]
    ) -> None:
        """Note what was recorded, and hand the reports over."""
        for queued, step in steps:
            if isinstance(step, Wait):
                self._wake(step.due)
            self._note(message, queued, step, _told(step, reports, reasons.get(queued.number)))
        for report in reports:
            self._journal.note(
                Kind.REPORT_QUEUED,
                Reason("about what could not be delivered", message.queue_id),
                queue_id=report.queue_id,
                about=message.queue_id,
                recipient=str(message.envelope.reverse_path),
            )
            self._hand_over(report)

    def _pause(self, seconds: float) -> defer.Deferred[None]:
        done: defer.Deferred[None] = defer.Deferred()
        self._clock.callLater(seconds, done.callback, None)
        return done

    def _note(self, message: QueuedMessage, queued: QueuedRecipient, step: Step, report: str) -> None:
        outcome = step.outcome
        kind, level = _KINDS[type(step)]
        fields: dict[str, Any] = {
            "recipient": str(queued.recipient.mailbox),
            "status": str(outcome.status),
            "delay": round(self._journal.wall() - message.accepted, 3),
        }
        if outcome.remote:
            fields["remote"] = outcome.remote
        if outcome.reply:
            fields["reply"] = outcome.reply
        if isinstance(outcome, Delivered) and outcome.path:
            fields["path"] = outcome.path
        if report:
            fields["report"] = report
        if isinstance(step, Wait):
            level = Level.ALERT if step.outcome.local else level
            fields["attempts"] = queued.attempts + (not step.outcome.local)
            fields["next"] = round(step.due - self._journal.wall())
        self._journal.note(kind, outcome.reason, level=level, queue_id=message.queue_id, **fields)


def _told(step: Step, reports: Sequence[Message], unreported: Reason | None) -> str:
    """Name the report that tells the sender of a step, or why there is none; nothing where none is owed.

    Reports come as the bouncer makes them: the one of failures first, the one of delays last.
    """
    if not step.told:
        return ""
    if unreported is not None:
        return unreported.text
    if not reports:
        return ""
    return reports[0 if isinstance(step, Fail) else -1].queue_id

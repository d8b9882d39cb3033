"""The active queue: what is due is in memory, has its turn, and is delivered.

New mail is handed over by the commit; the spool is read for what had to wait, after a restart, and for a backlog that
is larger than memory may hold. The way of one job (a message and its recipients of one destination):

====================  ===================================================================  ====================
the job               what happens                                                         in the spool
====================  ===================================================================  ====================
waits in memory       `Pace` gives turns by destination                                    WAITING (or ACTIVE)
has its turn          it is marked; a mark that fails ends it here, it stays in the spool   ACTIVE
is tried              a delivery gives an outcome for each recipient, always               ACTIVE
is settled            `Settler` records what follows                                       gone, or WAITING
====================  ===================================================================  ====================

So ACTIVE means that an attempt is under way, or as good as (new mail that starts at once is stored so): when a worker
dies, that is the evidence. What was ACTIVE then is tried one at a time, beside the rest: at a second death only the
guilty is among it, and set aside by the spool.

The spool is read in the order of what is due, on from where the last look ended, and once a minute from the start. What
is in memory already is passed over. Nothing is read while memory is full; the next look then comes when half is free.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet import defer, interfaces

from mta.board.port import Board
from mta.mail.outcome import Deferred, Outcome
from mta.mail.queueid import Chance
from mta.mail.reason import Reason
from mta.observe.event import Kind
from mta.observe.journal import Journal
from mta.relay.bounce import Bouncer
from mta.relay.budget import Budget
from mta.relay.pace import Load, Pace, unreachable
from mta.relay.port import Delivery
from mta.relay.settler import RECORD_AGAIN, Settler
from mta.settings.expansion import LOCAL
from mta.settings.sections import QueueSettings
from mta.smtp import status
from mta.spool.port import PIECE, Message, QueuedMessage, QueuedRecipient, Spool, State, as_queued

LOOK_AGAIN = 60.0
"""Longest time in seconds between two looks into the spool: wall time may have jumped."""
ASK_AGAIN = 0.05
"""Seconds after which a destination that other workers are busy with is looked at again."""
_PAGE = 100
"""Messages read from the spool at once: some milliseconds of the reactor's time."""
_PAGES = 10
"""Pages read in one look."""
_KEPT_EACH = 64 * 1024
"""Octets of content that is kept in memory from the commit to the first attempt; larger ones are read again."""
_KEPT_ALL = 64 * 1024 * 1024
"""Octets of all content kept so."""
_HELD_EACH = 4 * PIECE
"""Octets of content in memory during an attempt, at most: what is larger stays in its file, of which a few pieces are
on their way."""
_HELD_ALL = 128 * 1024 * 1024
"""Octets of content in memory in all attempts that run at once."""
WAIT_TOLD = 10.0
"""Seconds in memory after which it is told why a job waits."""
START_TOLD = 1.0
"""Seconds of waiting that are told of when the attempt begins."""
_START = (0.0, "")
_ALONE = Reason("a worker died while this was tried: such mail is tried one message at a time", "mta.relay.queue")


@dataclass(eq=False, slots=True)
class _Job:
    """A message and those of its recipients that go to one destination."""

    message: QueuedMessage
    recipients: tuple[QueuedRecipient, ...]
    destination: str
    pace: Pace[_Job]
    content: bytes | None
    """In memory when the commit just had it; None: read from the spool."""
    more: bool = False
    """Whether other recipients of it became due meanwhile: look again when it is over."""
    since: float = 0.0
    """Monotonic time when it came."""
    waits: Reason | None = None
    """Why it did not start then; None once it has."""
    begun: bool = False
    """Whether its attempt is under way."""
    withdrawn: bool = False
    """Whether it is forgotten and has no turn any more (see `RelayQueue.withdraw`)."""

    @property
    def key(self) -> tuple[str, str]:
        return self.message.queue_id, self.destination


class RelayQueue:
    """Runs the queue of one spool: `local` and `remote` deliver, at most `width` at once to one destination.

    That is so many for all workers together, who tell each other on the board.

    `settings` is asked anew each time, so a reload counts; the two bounds on concurrency hold from the start.
    """

    SHARES = ("attempts",)
    """The shares it asks the board for."""

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
        board: Board,
    ) -> None:
        self._spool = spool
        self._local = local
        self._remote = remote
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._settler = Settler(
            spool, bouncer, settings, journal, clock, chance, self.starts_at_once, self.hand_over, self._wake
        )
        concurrency = settings().concurrency
        self._elsewhere: Pace[_Job] = Pace(concurrency, width, board.shares("attempts"))
        # A Maildir batch gains with every message in it, and no peer's patience is at stake.
        self._here: Pace[_Job] = Pace(concurrency, concurrency)
        # What was under way when a worker died.
        self._doubtful: Pace[_Job] = Pace(1, 1)
        self._budget = Budget(_HELD_ALL)
        self._jobs: dict[tuple[str, str], _Job] = {}
        self._withdrawn: Counter[str] = Counter()
        """Queue ids that the operator acts on; he may do two things at once."""
        self._of_message: Counter[str] = Counter()
        self._kept = 0
        self._after = _START
        self._from_start_at = 0.0
        self._full = False
        """Whether more may be due than memory had room for: the next look comes when half of it is free."""
        self._timer: interfaces.IDelayedCall | None = None
        self._turning = False
        self._turn_again = False
        self._asking = False
        self._stopping = False
        self._running: set[defer.Deferred[None]] = set()
        self._waiting: deque[tuple[float, tuple[str, str]]] = deque()
        """The jobs that had to wait, by when they came."""
        self._telling: interfaces.IDelayedCall | None = None

    # In

    def starts_at_once(self, destinations: Sequence[str]) -> bool:
        """Whether a new message for these destinations may be stored as ACTIVE: its attempts would start now."""
        return not self._stopping and all(self._pace_of(each).is_free(each) for each in destinations)

    def hand_over(self, message: Message) -> None:
        """Take a message that was just committed; without room for it it is found in the spool later."""
        if self._stopping or message.queue_id in self._withdrawn or not (message.active or self._room()):
            self._full = True
            if not self._jobs:
                self._wake(self._journal.wall())
            return
        self._add(as_queued(message), message.content if isinstance(message.content, bytes) else None)
        self._turn()

    def load(self, destination: str) -> Load:
        """How busy a destination elsewhere is; ``""``: all of them."""
        return self._elsewhere.load(destination, self._clock.seconds())

    def start(self) -> None:
        """Begin: look into the spool."""
        self._wake(self._journal.wall())

    def look(self) -> None:
        """Look into the spool now: somebody changed it (a retry by hand, a release)."""
        self._after = _START
        self._wake(self._journal.wall())

    # The operator's hand

    def withdraw(self, message: QueuedMessage) -> frozenset[int]:
        """Leave a message, as it was just read, to the operator until `give_back`.

        Its jobs that have not begun are forgotten, and looks into the spool pass it over. Returns the numbers of the
        recipients that he cannot have: they are being tried, or their sender is about to be told.
        """
        self._withdrawn[message.queue_id] += 1
        busy = {queued.number for queued in message.recipients if queued.state is State.ACTIVE}
        for destination in {queued.destination for queued in message.recipients}:
            job = self._jobs.get((message.queue_id, destination))
            if job is None:
                continue
            if job.begun or job.recipients[0].state is State.ACTIVE:
                busy |= {queued.number for queued in job.recipients}
            else:
                job.withdrawn = True
                self._leave(job)
        return frozenset(busy)

    def give_back(self, queue_id: str) -> None:
        """End what `withdraw` began: the operator's change is recorded, or failed."""
        self._withdrawn[queue_id] -= 1
        if not self._withdrawn[queue_id]:
            del self._withdrawn[queue_id]
        self.look()

    def rouse(self, destination: str) -> None:
        """End the rest of a destination: the operator wants it tried now."""
        self._pace_of(destination).rouse(destination)

    async def give_up(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], reason: Reason) -> None:
        """End recipients of a message that is withdrawn, and tell its sender; see `Settler.give_up`."""
        await self._settler.give_up(message, recipients, reason)

    async def stop(self) -> None:
        """Start nothing more; returns when the attempts under way are recorded."""
        self._stopping = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        for pace in (self._here, self._elsewhere, self._doubtful):
            for job in pace.clear():
                if not job.withdrawn:
                    self._leave(job)
        await defer.DeferredList(list(self._running))
        await self._settler.stop()

    # The spool

    def _room(self) -> bool:
        return len(self._jobs) < self._settings().memory_messages

    def _wake(self, at: float) -> None:
        """Look into the spool at wall time `at` or earlier."""
        if self._stopping:
            return
        seconds = min(max(0.0, at - self._journal.wall()), LOOK_AGAIN)
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= self._clock.seconds() + seconds:
                return
            self._timer.reset(seconds)
        else:
            self._timer = self._clock.callLater(seconds, self._look)

    def _look(self) -> None:
        now = self._clock.seconds()
        self._elsewhere.forget_rested(now)
        if now >= self._from_start_at or not self._jobs:
            # What came behind the place where the last look ended: new mail that found no room, a changed due time.
            self._after, self._from_start_at = _START, now + LOOK_AGAIN
        read_at = self._journal.wall()
        try:
            more = self._read()
        except Exception as error:
            self._journal.fault("relay queue", error)
            self._wake(self._journal.wall() + RECORD_AGAIN)
            return
        self._turn()
        self._wake_next(more, read_at)

    def _read(self) -> bool:
        """Take what is due into memory; returns whether there may be more of it, and room."""
        for _ in range(_PAGES):
            room = self._settings().memory_messages - len(self._jobs)
            self._full = room <= 0
            if self._full:
                return False
            page = self._spool.due(self._journal.wall(), min(room, _PAGE), self._after)
            for message in page:
                if message.queue_id in self._withdrawn:
                    continue
                job = self._jobs.get((message.queue_id, message.recipients[0].destination))
                if job is None:
                    self._add(message, None)
                elif {queued.number for queued in message.recipients} - {queued.number for queued in job.recipients}:
                    job.more = True
            if not page:
                return False
            self._after = min(queued.due for queued in page[-1].recipients), page[-1].queue_id
        return True

    def _wake_next(self, more: bool, read_at: float) -> None:
        """Look again when something is due that was not yet when the spool was read.

        By recipients, not by messages: of one whose first recipient is being tried the second may be due soon.
        """
        now = self._journal.wall()
        ahead = None if more or self._full else self._spool.next_due(read_at)
        if more:
            self._wake(now)
        else:
            self._wake(now + LOOK_AGAIN if ahead is None else ahead)

    # Jobs

    def _add(self, message: QueuedMessage, content: bytes | None) -> None:
        by_destination: dict[str, list[QueuedRecipient]] = {}
        for queued in message.recipients:
            by_destination.setdefault(queued.destination, []).append(queued)
        if content is not None and (len(content) > _KEPT_EACH or self._kept + len(content) > _KEPT_ALL):
            content = None
        for destination, recipients in by_destination.items():
            died = any(queued.crashes for queued in recipients)
            pace = self._doubtful if died else self._pace_of(destination)
            job = _Job(message, tuple(recipients), destination, pace, content)
            self._jobs[job.key] = job
            self._of_message[message.queue_id] += 1
            self._kept += len(content or b"")
            pace.add(destination, job)
            self._note_wait(job)

    def _pace_of(self, destination: str) -> Pace[_Job]:
        return self._here if destination == LOCAL else self._elsewhere

    def _turn(self) -> None:
        """Start what may start. A job that ends at once may free a place: go round until there is none."""
        if self._turning:
            self._turn_again = True
            return
        self._turning = self._turn_again = True
        while self._turn_again and not self._stopping:
            self._turn_again = False
            for pace in (self._here, self._elsewhere, self._doubtful):
                for job, resting in pace.ready(self._clock.seconds()):
                    if job.withdrawn:
                        pace.ended(job.destination, self._clock.seconds())
                        self._turn_again = True
                        continue
                    job.begun = True
                    self._note_start(job)
                    self._watch(defer.ensureDeferred(self._run(job, resting)))
        self._turning = False
        if self._elsewhere.crowded and not self._asking and not self._stopping:
            self._asking = True
            self._clock.callLater(ASK_AGAIN, self._ask_again)

    def _ask_again(self) -> None:
        self._asking = False
        self._turn()

    # What is told of waiting

    def _note_wait(self, job: _Job) -> None:
        """Keep why a job does not start at once; one that waits for long is told of while it does."""
        job.waits = _ALONE if job.pace is self._doubtful else job.pace.why_waiting(job.destination)
        if job.waits is None:
            return
        job.since = self._clock.seconds()
        self._waiting.append((job.since, job.key))
        if self._telling is None:
            self._telling = self._clock.callLater(WAIT_TOLD, self._tell_waiting)

    def _tell_waiting(self) -> None:
        """Tell of the jobs that wait for `WAIT_TOLD` by now, each once."""
        self._telling = None
        long_ago = self._clock.seconds() - WAIT_TOLD
        while self._waiting and self._waiting[0][0] <= long_ago:
            since, key = self._waiting.popleft()
            job = self._jobs.get(key)
            if job is not None and job.since == since and job.waits is not None:
                self._note(Kind.ATTEMPT_WAITS, job)
        if self._waiting:
            self._telling = self._clock.callLater(self._waiting[0][0] - long_ago, self._tell_waiting)

    def _note_start(self, job: _Job) -> None:
        """Tell that a job starts which had to wait."""
        waited = self._clock.seconds() - job.since
        if job.waits is not None and waited >= START_TOLD:
            self._note(Kind.ATTEMPT_STARTED, job, seconds=round(waited, 3))
        job.waits = None

    def _note(self, kind: Kind, job: _Job, **fields: Any) -> None:
        recipients = " ".join(str(queued.recipient.mailbox) for queued in job.recipients)
        self._journal.note(
            kind,
            job.waits,
            queue_id=job.message.queue_id,
            recipients=recipients,
            destination=job.destination,
            **fields,
        )

    def _watch(self, running: defer.Deferred[None]) -> None:
        """Have a stop wait for it."""
        if not running.called:
            self._running.add(running)
            running.addBoth(self._ran, running)

    def _ran(self, result: object, running: defer.Deferred[None]) -> None:
        self._running.discard(running)

    async def _run(self, job: _Job, resting: Reason | None) -> None:
        outcomes: Mapping[int, Outcome] | None = None
        try:
            if await self._mark(job):
                outcomes = await self._attempt(job, resting)
        except Exception as error:
            outcomes = self._our_fault(job, error)
        job.pace.ended(job.destination, self._clock.seconds())
        self._turn()
        try:
            if outcomes is not None:
                await self._settler.settle(job.message, job.recipients, outcomes)
        except Exception as error:
            # The recipients stay ACTIVE in the spool: the next start tries them again.
            self._journal.fault("relay queue", error, queue_id=job.message.queue_id)
        self._leave(job)
        if outcomes is None:
            self._after = _START
            self._wake(self._journal.wall() + RECORD_AGAIN)

    def _leave(self, job: _Job) -> None:
        """Forget a job; the last one of its message has the sender told what there is to tell."""
        queue_id = job.message.queue_id
        del self._jobs[job.key]
        self._kept -= len(job.content or b"")
        self._of_message[queue_id] -= 1
        if not self._of_message[queue_id]:
            del self._of_message[queue_id]
            self._watch(defer.ensureDeferred(self._settler.tell(queue_id)))
        if job.more:
            self.look()
        elif self._full and len(self._jobs) * 2 <= self._settings().memory_messages:
            self._wake(self._journal.wall())

    async def _mark(self, job: _Job) -> bool:
        """Mark an attempt before it starts; False where that cannot be written: the job stays in the spool."""
        if not job.message.replay and job.recipients[0].state is State.ACTIVE:
            return True
        try:
            await self._spool.mark(job.message.queue_id, [queued.number for queued in job.recipients])
        except Exception as error:
            self._settler.unwritable(job.message.queue_id, error)
            return False
        self._settler.written()
        return True

    async def _attempt(self, job: _Job, resting: Reason | None) -> Mapping[int, Outcome]:
        if resting is not None:
            why = Reason(f"{job.destination} rests: {resting.text}", resting.source)
            return _all(job, Deferred(why, status.NO_ANSWER))
        delivery = self._local if job.destination == LOCAL else self._remote
        held = min(job.message.size, _HELD_EACH)
        await self._budget.take(held)
        try:
            content = self._spool.content(job.message.queue_id) if job.content is None else job.content
            outcomes = await delivery.deliver(job.message, content, job.recipients)
        except (OSError, KeyError) as error:
            reason = Reason(f"cannot read the content: {error}", "spool")
            return _all(job, Deferred(reason, status.SYSTEM_FAULT, local=True))
        finally:
            self._budget.give_back(held)
        out_of_reach = unreachable(outcomes)
        if out_of_reach is None:
            job.pace.reached(job.destination)
        else:
            job.pace.unreached(job.destination, self._clock.seconds() + self._settings().rest, out_of_reach)
        return outcomes

    def _our_fault(self, job: _Job, error: Exception) -> Mapping[int, Outcome]:
        """A bug never bounces mail (law 2): it waits until we are mended."""
        self._journal.fault("delivery", error, queue_id=job.message.queue_id)
        reason = Reason(f"internal error: {type(error).__name__}: {error}", "delivery")
        return _all(job, Deferred(reason, status.SYSTEM_FAULT, local=True))


def _all(job: _Job, outcome: Outcome) -> dict[int, Any]:
    return {queued.number: outcome for queued in job.recipients}

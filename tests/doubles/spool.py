"""The spool as a model: the contract of `mta.spool.port` in memory, and nothing better.

`ModelSpool` fires its Deferreds at once, or, with `at_once=False`, when `settle` is called; until then nothing of
a change is seen. `crash` gives the spool that the next start finds: all that was acknowledged, and of what was
not, a part that was called before the rest. With `power_cut` the marks after the last acknowledged
insert or record may be gone too: a mark needs no sync. The order of acknowledgement is the order of the calls.

Rows are in memory, but staged content goes through files on `disk`, by the code of `mta.spool.content`: what a power
cut leaves of it is what the disk kept. After one, `crash` is given the disk as it is then.

Beside it: `message` makes what is inserted, and `Held` is a thread that runs when it is told to.

Set `fault` to have every change fail with it, as a full disk or a suspect shard would.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet import defer

from mta.disk.port import Disk
from mta.mail.envelope import Envelope, Recipient
from mta.mail.reason import Reason
from mta.smtp.address import Mailbox
from mta.spool.content import Contents
from mta.spool.port import (
    CRASHES_MAXIMUM,
    Change,
    Content,
    Counts,
    Ended,
    Message,
    Origin,
    QueuedMessage,
    QueuedRecipient,
    SpoolSuspect,
    StagedContent,
    State,
    pieces_of,
)

LONGEST = 4 * 3600.0
"""Longest interval between attempts, in seconds."""
NOW = 1_700_000_000.0
LATER = Reason("450 4.2.0 try again", "mx.example.net")
DONE = Reason("250 2.0.0 ok", "mx.example.net")


def message(
    queue_id: str,
    *named: str,
    active: bool = False,
    accepted: float = NOW,
    content: bytes | StagedContent = b"x\r\n",
    size: int | None = None,
) -> Message:
    """Make a message; recipients are ``local@destination``. Staged content needs its `size`."""
    mailboxes = [Mailbox(*name.split("@")) for name in named or ("bob@example.net",)]
    return Message(
        queue_id,
        accepted,
        Envelope(Mailbox("alice", "example.test"), tuple(map(Recipient, mailboxes))),
        content,
        len(content) if isinstance(content, bytes) else size or 0,
        False,
        Origin("smtpd"),
        [mailbox.domain for mailbox in mailboxes],
        active,
    )


class Held:
    """Runs what belongs on a thread when it is told to; the double of `RunInThread` for what is under way."""

    def __init__(self) -> None:
        self.at_once = True
        self.waiting: list[tuple[Callable[..., Any], tuple[object, ...], defer.Deferred[Any]]] = []

    def __call__(self, function: Callable[..., Any], /, *args: object) -> defer.Deferred[Any]:
        """Run a function now, or keep it until `run`."""
        if self.at_once:
            return defer.execute(function, *args)
        done: defer.Deferred[Any] = defer.Deferred()
        self.waiting.append((function, args, done))
        return done

    def run(self, count: int | None = None) -> None:
        """Run what waits, and what comes of it, up to `count` functions."""
        while self.waiting and count != 0:
            function, args, done = self.waiting.pop(0)
            defer.execute(function, *args).chainDeferred(done)
            count = None if count is None else count - 1


def staged(disk: Disk, path: str, octets: bytes) -> StagedContent:
    """Write content as `mta.receive.staging` does: it is not synced, its descriptor is open."""
    if disk.exists(path):
        disk.unlink(path)
    return StagedContent(path, disk.write_new(path, [octets]))


def whole(content: Content) -> bytes:
    """Read content of the queue, wherever it is."""
    return b"".join(pieces_of(content))


@dataclass(frozen=True)
class Entry:
    """A message in the queue."""

    message: Message
    content: bytes
    """With a file: what stands before its octets."""
    in_file: bool
    recipients: dict[int, QueuedRecipient]


Queue = dict[str, Entry]
Step = Callable[[Queue], None]


@dataclass(frozen=True)
class _Call:
    step: Step
    synced: bool
    done: defer.Deferred[int]


class ModelSpool:
    """A `Spool` in memory. `contents` takes what comes staged; its directories are made here."""

    def __init__(
        self, shard: int = 0, at_once: bool = True, contents: Contents | None = None, queue: Queue | None = None
    ) -> None:
        self.shard = shard
        self.at_once = at_once
        self.fault: Exception | None = None
        self.closed = False
        self._contents = contents
        if contents is not None:
            contents.open()
        self._queue: Queue = {} if queue is None else queue
        self._stable: Queue = dict(self._queue)
        """What a power cut leaves for sure."""
        self._unsynced: list[Step] = []
        """Acknowledged marks since."""
        self._pending: list[_Call] = []

    # Changes

    def insert(self, message: Message) -> defer.Deferred[int]:
        """See `Spool`."""
        return self._call(self._insertion(message))

    def record(self, queue_id: str, changes: Sequence[Change], reports: Sequence[Message] = ()) -> defer.Deferred[int]:
        """See `Spool`."""
        insertions = [self._insertion(report) for report in reports]

        def step(queue: Queue) -> None:
            for insertion in insertions:
                insertion(queue)
            for change in changes:
                _apply(queue, queue_id, change)

        return self._call(step)

    def mark(self, queue_id: str, numbers: Sequence[int]) -> defer.Deferred[int]:
        """See `Spool`."""

        def step(queue: Queue) -> None:
            for number in numbers:
                queued = queue[queue_id].recipients.get(number) if queue_id in queue else None
                if queued is not None and queued.state == State.WAITING:
                    _put(queue, queue_id, replace(queued, state=State.ACTIVE))

        return self._call(step, synced=False)

    def _insertion(self, message: Message) -> Step:
        def step(queue: Queue) -> None:
            if message.queue_id in queue or not message.envelope.recipients:
                raise ValueError(f"not a message to insert: {message.queue_id}")
            in_file = isinstance(message.content, StagedContent)
            content = message.content.head if isinstance(message.content, StagedContent) else message.content
            if isinstance(message.content, StagedContent):
                self._take(message.queue_id, message.content)
            state = State.HELD if message.held else State.ACTIVE if message.active else State.WAITING
            named = zip(message.envelope.recipients, message.destinations, strict=True)
            recipients = {
                number: QueuedRecipient(
                    number, recipient, destination, state, message.accepted, 0, 0, message.held, False
                )
                for number, (recipient, destination) in enumerate(named)
            }
            queue[message.queue_id] = Entry(message, content, in_file, recipients)

        return step

    def _take(self, queue_id: str, content: StagedContent) -> None:
        assert self._contents is not None, "staged content needs a disk"
        failed = self._contents.take([(0, queue_id, self._contents.make_durable(queue_id, content))])
        if failed:
            raise failed[0]

    def _call(self, step: Step, synced: bool = True) -> defer.Deferred[int]:
        if self.closed:
            return defer.fail(SpoolSuspect("closed"))
        call = _Call(step, synced, defer.Deferred())
        self._pending.append(call)
        if self.at_once:
            self.settle()
        return call.done

    def settle(self, maximum: int | None = None) -> None:
        """Make the first `maximum` pending changes (None: all) durable and acknowledge them."""
        count = len(self._pending) if maximum is None else min(maximum, len(self._pending))
        batch, self._pending = self._pending[:count], self._pending[count:]
        failures = [self._make_durable(call) for call in batch]
        for call, failure in zip(batch, failures, strict=True):
            if failure is None:
                call.done.callback(count)
            else:
                call.done.errback(failure)

    def _make_durable(self, call: _Call) -> Exception | None:
        if self.fault is not None:
            return self.fault
        after = dict(self._queue)
        try:
            call.step(after)
        except Exception as error:
            return error
        done = [queue_id for queue_id, entry in self._queue.items() if entry.in_file and queue_id not in after]
        self._queue = after
        if call.synced:
            self._stable, self._unsynced = dict(after), []
        else:
            self._unsynced.append(call.step)
        if self._contents is not None:
            self._contents.discard(done)
        return None

    # The next start

    def crash(
        self,
        now: float = 0.0,
        chance: random.Random | None = None,
        power_cut: bool = False,
        contents: Contents | None = None,
    ) -> ModelSpool:
        """Return what the next start finds at wall time `now`: as little as there may be, or with `chance` more.

        `contents` are those on the disk that a power cut left; without, they are as they were.
        """
        contents = contents or self._contents
        queue = dict(self._stable if power_cut else self._queue)
        loose = (self._unsynced if power_cut else []) + [call.step for call in self._pending]
        kept = chance.randint(0, len(loose)) if chance else 0
        for step in loose[:kept]:
            after = dict(queue)
            try:
                step(after)
            except Exception:
                continue  # it would have failed alone, as its Deferred had said
            queue = after
        return ModelSpool(self.shard, self.at_once, contents, _recovered(queue, now, contents))

    def close(self) -> defer.Deferred[None]:
        """See `Spool`."""
        self.settle()
        self.closed = True
        for queue_id, entry in list(self._queue.items()):
            for queued in entry.recipients.values():
                if queued.state == State.ACTIVE:
                    _put(self._queue, queue_id, replace(queued, state=State.WAITING))
        self._stable, self._unsynced = dict(self._queue), []
        return defer.succeed(None)

    # Reads

    def due(self, now: float, limit: int, after: tuple[float, str] = (0.0, "")) -> Sequence[QueuedMessage]:
        """See `Spool`."""
        groups: dict[tuple[str, str], list[QueuedRecipient]] = {}
        for queue_id, entry in self._queue.items():
            for queued in entry.recipients.values():
                if queued.state == State.WAITING and queued.due <= now:
                    groups.setdefault((queue_id, queued.destination), []).append(queued)
        keyed = [((min(queued.due for queued in group), key[0]), group) for key, group in groups.items()]
        keyed = sorted((pair for pair in keyed if pair[0] > after), key=lambda pair: pair[0])
        page: list[QueuedMessage] = []
        last = None
        for key, group in keyed:
            if len(page) >= limit and key != last:
                break
            last = key
            page.append(replace(_queued(self._queue[key[1]]), recipients=tuple(group)))
        return page

    def next_due(self, after: float = 0.0) -> float | None:
        """See `Spool`."""
        every = (queued for entry in self._queue.values() for queued in entry.recipients.values())
        waiting = (queued.due for queued in every if queued.state == State.WAITING)
        return min((due for due in waiting if due > after), default=None)

    def get(self, queue_id: str) -> QueuedMessage | None:
        """See `Spool`."""
        return _queued(self._queue[queue_id]) if queue_id in self._queue else None

    def content(self, queue_id: str) -> Content:
        """See `Spool`."""
        entry = self._queue[queue_id]
        if not entry.in_file:
            return entry.content
        assert self._contents is not None
        return self._contents.stored(queue_id, entry.content, entry.message.size)

    def page(self, after: str = "", limit: int = 100) -> Sequence[QueuedMessage]:
        """See `Spool`."""
        queue_ids = sorted(queue_id for queue_id in self._queue if queue_id > after)
        return [_queued(self._queue[queue_id]) for queue_id in queue_ids[:limit]]

    def counts(self) -> Counts:
        """See `Spool`."""
        states = [queued.state for entry in self._queue.values() for queued in entry.recipients.values()]
        return Counts(len(self._queue), {state: states.count(state) for state in State})


def _apply(queue: Queue, queue_id: str, change: Change) -> None:
    queued = queue[queue_id].recipients.get(change.number) if queue_id in queue else None
    if queued is None:
        return
    if isinstance(change, Ended):
        entry = queue[queue_id]
        left = {number: other for number, other in entry.recipients.items() if number != change.number}
        queue[queue_id] = replace(entry, recipients=left)
        if not left:
            del queue[queue_id]
        return
    _put(
        queue,
        queue_id,
        replace(
            queued,
            state=change.state,
            due=change.due,
            attempts=queued.attempts + change.counted,
            crashes=0 if change.counted else queued.crashes,
            reason=change.reason,
            warned=queued.warned or change.warned,
        ),
    )


def _put(queue: Queue, queue_id: str, queued: QueuedRecipient) -> None:
    entry = queue[queue_id]
    queue[queue_id] = replace(entry, recipients={**entry.recipients, queued.number: queued})


def _queued(entry: Entry) -> QueuedMessage:
    message = entry.message
    recipients = tuple(entry.recipients.values())
    return QueuedMessage(
        message.queue_id,
        message.accepted,
        replace(message.envelope, recipients=tuple(queued.recipient for queued in recipients)),
        message.size,
        message.eight_bit,
        message.origin,
        recipients,
    )


def _recovered(queue: Queue, now: float, contents: Contents | None) -> Queue:
    recovered = dict(queue)
    sizes = contents.sizes() if contents is not None else {}
    for queue_id, entry in queue.items():
        if entry.in_file and sizes.get(queue_id) != entry.message.size - len(entry.content):
            for queued in entry.recipients.values():
                _put(recovered, queue_id, replace(queued, state=State.HELD, reason=Reason("missing or torn")))
            continue
        for queued in entry.recipients.values():
            if queued.state == State.ACTIVE:
                crashes = queued.crashes + 1
                state = State.HELD if crashes >= CRASHES_MAXIMUM else State.WAITING
                reason = Reason("crashed") if state == State.HELD else queued.reason
                _put(recovered, queue_id, replace(queued, state=state, due=now, crashes=crashes, reason=reason))
            elif queued.state == State.WAITING and queued.due > now + LONGEST:
                _put(recovered, queue_id, replace(queued, due=now + LONGEST))
    return recovered

"""The shards of one worker as one spool, so that nobody else knows there are several.

Worker w of n owns the shards whose number leaves w when divided by n: two workers never meet, and when the number of
workers changes, each shard has an owner again. There is one shard until its sync fails. Then new mail goes to the next
fit one (opened if there is none); what lies in the suspect one is read but not changed, and comes back at the next
start, which opens all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from itertools import chain, groupby, islice

from twisted.internet import defer
from twisted.python.failure import Failure

from mta.disk.port import Disk, RunInThread
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.observe.timed import Timed, untimed
from mta.spool.port import Change, Content, Counts, Message, QueuedMessage, SpoolSuspect, State
from mta.spool.recovery import CRASHED, MISSING, TORN, Recovered
from mta.spool.shard import SHARDS, SpoolInUse, open_spool
from mta.spool.sqlite import INLINE_MAXIMUM, SqliteSpool

OPEN_AGAIN = 10.0
"""Seconds between two trials to open a new shard."""

_NOTED_MAXIMUM = 100
"""Messages set aside at a start that get an event each; the count is always told."""


class Spools:
    """See `mta.spool.port.Spool`; one for each worker. `open` comes first.

    `longest` is the longest interval between attempts in seconds, `seconds` a monotonic clock. Raises what
    `open_spool` does.
    """

    def __init__(
        self,
        root: str,
        disk: Disk,
        run_in_thread: RunInThread,
        journal: Journal,
        seconds: Callable[[], float],
        longest: float,
        inline_maximum: int = INLINE_MAXIMUM,
        worker: int = 0,
        workers: int = 1,
        run_large: RunInThread | None = None,
        timed: Timed = untimed,
    ) -> None:
        self._root = root
        self._disk = disk
        self._run_in_thread = run_in_thread
        self._run_large = run_large
        self._timed = timed
        self._journal = journal
        self._seconds = seconds
        self._longest = longest
        self._inline_maximum = inline_maximum
        self._numbers = range(worker, SHARDS, workers)
        self._shards: list[SqliteSpool] = []
        self._opening = False
        self._open_again = 0.0
        self._closing = False

    def open(self) -> None:
        """Open and recover all shards of this worker, and make the first one if there is none. Blocks."""
        self._disk.make_directories(self._root)
        names = set(self._disk.list(self._root)) | {str(self._numbers[0])}
        opened = []
        try:
            for number in self._numbers:
                if str(number) in names:
                    opened.append(self._open_shard(number, self._journal.wall()))
        except Exception:
            for spool, _ in opened:
                spool.close()
            raise
        for spool, recovered in opened:
            self._add(spool, recovered)

    @property
    def shard(self) -> int:
        """The number of the shard that takes new mail."""
        return self._current.shard

    @property
    def paths(self) -> list[str]:
        """The directories of the shards."""
        return [spool.path for spool in self._shards]

    @property
    def _current(self) -> SqliteSpool:
        return next((spool for spool in self._shards if spool.fit), self._shards[-1])

    def insert(self, message: Message) -> defer.Deferred[int]:
        """See `Spool`."""
        if not self._current.fit:
            self._open_next()
        return self._current.insert(message)

    def record(self, queue_id: str, changes: Sequence[Change], reports: Sequence[Message] = ()) -> defer.Deferred[int]:
        """See `Spool`."""
        return self._that_has(queue_id).record(queue_id, changes, reports)

    def mark(self, queue_id: str, numbers: Sequence[int]) -> defer.Deferred[int]:
        """See `Spool`."""
        return self._that_has(queue_id).mark(queue_id, numbers)

    def due(self, now: float, limit: int, after: tuple[float, str] = (0.0, "")) -> Sequence[QueuedMessage]:
        """See `Spool`. What lies in a suspect shard is not due: its delivery could not be recorded."""
        pages = [spool.due(now, limit, after) for spool in self._shards if spool.fit]
        page: list[QueuedMessage] = []
        for _, messages in groupby(sorted(chain(*pages), key=_first_due), _first_due):
            if len(page) >= limit:
                break
            page += messages
        return page

    def next_due(self, after: float = 0.0) -> float | None:
        """See `Spool`."""
        dues = [spool.next_due(after) for spool in self._shards if spool.fit]
        return min((due for due in dues if due is not None), default=None)

    def get(self, queue_id: str) -> QueuedMessage | None:
        """See `Spool`."""
        return self._that_has(queue_id).get(queue_id)

    def content(self, queue_id: str) -> Content:
        """See `Spool`."""
        return self._that_has(queue_id).content(queue_id)

    def page(self, after: str = "", limit: int = 100) -> Sequence[QueuedMessage]:
        """See `Spool`. With what lies in a suspect shard."""
        pages = [spool.page(after, limit) for spool in self._shards]
        return sorted(chain(*pages), key=lambda message: message.queue_id)[:limit]

    def counts(self) -> Counts:
        """See `Spool`. With what lies in a suspect shard."""
        all_counts = [spool.counts() for spool in self._shards]
        return Counts(
            sum(counts.messages for counts in all_counts),
            {state: sum(counts.recipients[state] for counts in all_counts) for state in State},
        )

    def close(self) -> defer.Deferred[None]:
        """See `Spool`."""
        self._closing = True
        return defer.DeferredList([spool.close() for spool in self._shards]).addCallback(lambda _: None)

    def _that_has(self, queue_id: str) -> SqliteSpool:
        if len(self._shards) == 1:
            return self._shards[0]
        return next((spool for spool in self._shards if queue_id in spool), self._current)

    # Opening

    def _open_shard(self, number: int, now: float) -> tuple[SqliteSpool, Recovered]:
        return open_spool(
            self._root,
            number,
            self._disk,
            self._run_in_thread,
            self._suspected,
            now,
            self._longest,
            self._inline_maximum,
            self._run_large,
            self._timed,
        )

    def _open_first_free(self, taken: set[int], now: float) -> tuple[SqliteSpool, Recovered]:
        for number in self._numbers:
            if number not in taken:
                # in use: by ourselves, who became suspicious of it while it was opened
                with contextlib.suppress(SpoolInUse):
                    return self._open_shard(number, now)
        raise SpoolSuspect("all shards are in use")

    def _suspected(self, spool: SqliteSpool, reason: Reason) -> None:
        self._journal.note(Kind.SPOOL_SUSPECT, reason, level=Level.ALERT, path=spool.path)
        if not self._current.fit:
            self._open_next()

    def _open_next(self) -> None:
        if self._opening or self._closing or self._seconds() < self._open_again:
            return
        self._opening = True
        self._open_again = self._seconds() + OPEN_AGAIN
        taken = {spool.shard for spool in self._shards}
        opening = self._run_in_thread(self._open_first_free, taken, self._journal.wall())
        opening.addCallbacks(self._opened, self._not_opened)

    def _opened(self, opened: tuple[SqliteSpool, Recovered]) -> None:
        self._opening = False
        if self._closing:
            opened[0].close()
        else:
            self._add(*opened)

    def _not_opened(self, failure: Failure) -> None:
        self._opening = False
        reason = Reason(f"no new shard: {failure.getErrorMessage()}", self._root)
        self._journal.note(Kind.SPOOL_SUSPECT, reason, level=Level.ALERT, path=self._root)

    def _add(self, spool: SqliteSpool, recovered: Recovered) -> None:
        self._shards.append(spool)
        set_aside = {
            **dict.fromkeys(recovered.crashed, CRASHED),
            **dict.fromkeys(recovered.missing, MISSING),
            **dict.fromkeys(recovered.torn, TORN),
        }
        level = Level.ALERT if set_aside else Level.WARNING if recovered.strays else Level.NOTICE
        self._journal.note(
            Kind.SPOOL_OPENED,
            level=level,
            path=spool.path,
            messages=spool.counts().messages,
            recovered=recovered.interrupted,
            clamped=recovered.clamped,
            crashed=len(recovered.crashed),
            missing=len(recovered.missing),
            torn=len(recovered.torn),
            strays=recovered.strays,
        )
        for queue_id, reason in islice(set_aside.items(), _NOTED_MAXIMUM):
            self._journal.note(Kind.MESSAGE_HELD, reason, level=Level.ALERT, queue_id=queue_id)


def _first_due(message: QueuedMessage) -> tuple[float, str]:
    return min(queued.due for queued in message.recipients), message.queue_id

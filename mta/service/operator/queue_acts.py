"""What the operator may do with the queue: ``queue-act``.

===========  ==========================================================  ==============================================
``act``      of whom                                                     becomes
===========  ==========================================================  ==============================================
``retry``    WAITING, due later                                          due now; the reason of the last delay stays;
                                                                         a destination that rests is roused
``hold``     WAITING                                                     HELD, until it is released
``release``  HELD                                                        WAITING, due now
``bounce``   all                                                         ended, and a report goes to the sender
``delete``   all                                                         ended, and nobody is told
===========  ==========================================================  ==============================================

The request has the filters of `mta.service.operator.queue` and ``reason``, words of the operator's; for ``bounce`` the
sender reads them. A request acts on the recipients that fit, up to `ACTED` messages behind ``after``. The answer counts
the messages that it ``found``, those with which something was done (``acted``), with how many ``recipients``; those
that are ``busy`` (being tried, or about to be reported, and so left alone), and those that ``failed``, with the first
of the ``errors``. Where ids were asked for, ``known`` are those found. ``ends`` are those of a page: nothing is done
twice, so what one worker did ahead of the others is passed over when it is asked again.

Each act is one change of the spool and one event, which says who it was. Messages that are read, changed and noted
share the syncs of the spool, `_TOGETHER` at a time, and what else the server does has its turn in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet import defer

from mta.disk.lane import LaneFull
from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.service.asking import CommandRefused
from mta.service.operator.queue import Sighted, search, text_of
from mta.spool.port import Change, Ended, QueuedMessage, QueuedRecipient, Retry, SpoolSuspect, State
from mta.spool.search import Found

ACTED = 1000
"""Messages that one request acts on."""
REASON_MAXIMUM = 500
"""Characters of the operator's words."""
_TOGETHER = 32
"""Messages that are changed at once: they share a sync, and take some 10 ms of the reactor's time."""
_RECIPIENTS = 200
"""Recipients that are changed at once, if they are not of one message."""

_WORDS = {"retry": "retried", "hold": "held", "release": "released", "bounce": "returned", "delete": "deleted"}
_KINDS = {
    "retry": Kind.MESSAGE_RETRIED,
    "hold": Kind.MESSAGE_HELD,
    "release": Kind.MESSAGE_RELEASED,
    "bounce": Kind.MESSAGE_BOUNCED,
    "delete": Kind.MESSAGE_DELETED,
}
_OF = {"retry": (State.WAITING,), "hold": (State.WAITING,), "release": (State.HELD,)}


class Changed(Sighted, Protocol):
    """As much of a spool as is needed to act."""

    def record(self, queue_id: str, changes: Sequence[Change]) -> defer.Deferred[int]:
        """See `mta.spool.port.Spool`."""
        ...


class Relay(Protocol):
    """What the operator needs of the relay (`mta.relay.queue.RelayQueue`)."""

    def withdraw(self, message: QueuedMessage) -> frozenset[int]:
        """Leave a message to the operator; returns the numbers of the recipients that are being tried."""
        ...

    def give_back(self, queue_id: str) -> None:
        """End what `withdraw` began."""
        ...

    def rouse(self, destination: str) -> None:
        """End the rest of a destination that could not be reached."""
        ...

    async def give_up(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], reason: Reason) -> None:
        """End recipients and tell the sender."""
        ...


@dataclass(frozen=True, slots=True)
class _Act:
    name: str
    operator: str
    words: str

    @property
    def reason(self) -> Reason:
        who = f" by {self.operator}" if self.operator else " by the operator"
        return Reason(f"{_WORDS[self.name]}{who}{f': {self.words}' if self.words else ''}", self.source)

    @property
    def told(self) -> Reason:
        """What the sender reads: who the operator is, is not his to know."""
        return Reason(f"returned by the operator{f': {self.words}' if self.words else ''}")

    @property
    def source(self) -> str:
        return f"mta queue {self.name}"

    def concerns(self, queued: QueuedRecipient, now: float) -> bool:
        if self.name == "retry" and queued.due <= now:
            return False
        return queued.state in _OF.get(self.name, tuple(State))

    def change(self, queued: QueuedRecipient, now: float) -> Change:
        if self.name == "retry":
            return Retry(queued.number, now, queued.reason or self.reason, counted=False)
        if self.name == "hold":
            return Retry(queued.number, queued.due, self.reason, counted=False, state=State.HELD)
        if self.name == "release":
            return Retry(queued.number, now, self.reason, counted=False)
        return Ended(queued.number, self.reason)


@dataclass(slots=True)
class _Done:
    messages: int = 0
    recipients: int = 0
    busy: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)


class QueueActs:
    """The command."""

    def __init__(self, spool: Changed, relay: Relay, journal: Journal, run_in_thread: RunInThread) -> None:
        self._spool = spool
        self._relay = relay
        self._journal = journal
        self._run_in_thread = run_in_thread

    def act(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Do it, as far as one request goes."""
        return defer.Deferred.fromCoroutine(self._act(request))

    async def _act(self, request: Mapping[str, Any]) -> dict[str, Any]:
        act = _Act(text_of(request, "act"), text_of(request, "operator"), _words(request))
        if act.name not in _WORDS:
            raise CommandRefused(f"an act is one of {', '.join(_WORDS)}")
        found = await search(self._run_in_thread, self._spool, request, text_of(request, "after"), ACTED)
        done = _Done()
        for batch in _batches(found):
            together = [defer.ensureDeferred(self._act_on(each, act, done)) for each in batch]
            await defer.gatherResults(together, consumeErrors=True)
        return {
            "found": len(found),
            "acted": done.messages,
            "recipients": done.recipients,
            "busy": done.busy,
            "failed": done.failed,
            "errors": done.errors,
            "known": [each.queue_id for each in found] if request.get("queue_ids") else [],
            "ends": [found[-1].queue_id] if len(found) == ACTED else [],
        }

    async def _act_on(self, found: Found, act: _Act, done: _Done) -> None:
        message = self._spool.get(found.queue_id)
        if message is None:  # delivered meanwhile
            return
        now = self._journal.wall()
        asked = [queued for queued in message.recipients if queued.number in found.numbers]
        busy = self._relay.withdraw(message)
        try:
            chosen = [queued for queued in asked if queued.number not in busy and act.concerns(queued, now)]
            done.busy += sum(queued.number in busy for queued in asked)
            if not chosen:
                return
            if act.name == "bounce":
                await self._relay.give_up(message, chosen, act.told)
            else:
                await self._spool.record(message.queue_id, [act.change(queued, now) for queued in chosen])
            if act.name in ("retry", "release"):
                for destination in {queued.destination for queued in chosen}:
                    self._relay.rouse(destination)
        except (OSError, SpoolSuspect, LaneFull) as error:
            done.failed += len(chosen)
            done.errors = done.errors or [f"{message.queue_id}: {error}"]
            return
        finally:
            self._relay.give_back(message.queue_id)
        done.messages += 1
        done.recipients += len(chosen)
        self._journal.note(
            _KINDS[act.name],
            act.reason,
            level=Level.NOTICE,
            queue_id=message.queue_id,
            recipients=len(chosen),
            operator=act.operator,
        )


def _batches(found: Sequence[Found]) -> Iterator[list[Found]]:
    """Divide what is found: up to `_TOGETHER` messages, and few enough that all have not many recipients."""
    batch: list[Found] = []
    recipients = 0
    for each in found:
        if batch and (len(batch) == _TOGETHER or recipients + len(each.numbers) > _RECIPIENTS):
            yield batch
            batch, recipients = [], 0
        batch.append(each)
        recipients += len(each.numbers)
    if batch:
        yield batch


def _words(request: Mapping[str, Any]) -> str:
    words = text_of(request, "reason").strip()
    if len(words) > REASON_MAXIMUM or not words.isprintable():
        raise CommandRefused(f"a reason is one line of at most {REASON_MAXIMUM} printable characters")
    return words

"""What the operator may do with the queue of a running server, over the control socket: list, release, delete.

Held mail waits for this: what a policy held, and what was set aside because its attempts killed the server or because
its content is torn. Each act is an event with its reason. Recipients whose attempt is under way are left alone.

Knowingly not here: filters, a retry of what waits, bounces by hand, a queue whose server is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet import defer

from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.service.control import CommandRefused
from mta.spool.port import Change, Ended, QueuedMessage, Retry, Spool, State

PAGE = 200
"""Messages in one answer."""

RELEASED = Reason("released by the operator", "mta queue release")
DELETED = Reason("deleted by the operator", "mta queue delete")


class QueueCommands:
    """The commands; `look` has the relay look into the spool again."""

    def __init__(self, spool: Spool, look: Callable[[], None], journal: Journal) -> None:
        self._spool = spool
        self._look = look
        self._journal = journal

    def page(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Name up to `PAGE` messages behind the queue id ``after``."""
        page = self._spool.page(_text(request, "after"), PAGE)
        return {"messages": [_described(message) for message in page], "more": len(page) == PAGE}

    def release(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Let the held recipients of ``queue_id`` be tried now."""
        return defer.Deferred.fromCoroutine(self._release(request))

    async def _release(self, request: Mapping[str, Any]) -> dict[str, Any]:
        message = self._message(request)
        now = self._journal.wall()
        held = [queued for queued in message.recipients if queued.state is State.HELD]
        if not held:
            raise CommandRefused(f"{message.queue_id} is not held")
        changes = [Retry(queued.number, now, RELEASED, counted=False) for queued in held]
        return await self._do(message, changes, Kind.MESSAGE_RELEASED, RELEASED)

    def delete(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """End ``queue_id`` for all recipients that are not being tried; nobody is told."""
        return defer.Deferred.fromCoroutine(self._delete(request))

    async def _delete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        message = self._message(request)
        idle = [queued for queued in message.recipients if queued.state is not State.ACTIVE]
        if not idle:
            raise CommandRefused(f"{message.queue_id} is being delivered now; try again")
        return await self._do(
            message, [Ended(queued.number, DELETED) for queued in idle], Kind.MESSAGE_DELETED, DELETED
        )

    async def _do(
        self, message: QueuedMessage, changes: Sequence[Change], kind: Kind, reason: Reason
    ) -> dict[str, Any]:
        await self._spool.record(message.queue_id, changes)
        self._journal.note(kind, reason, level=Level.NOTICE, queue_id=message.queue_id, recipients=len(changes))
        self._look()
        return {"message": f"{message.queue_id}: {reason.text}, {len(changes)} recipients"}

    def _message(self, request: Mapping[str, Any]) -> QueuedMessage:
        queue_id = _text(request, "queue_id")
        found = self._spool.get(queue_id)
        if found is None:
            raise CommandRefused(f"there is no message {queue_id} in the queue")
        return found


def _described(message: QueuedMessage) -> dict[str, Any]:
    return {
        "queue_id": message.queue_id,
        "accepted": message.accepted,
        "size": message.size,
        "sender": str(message.envelope.reverse_path or ""),
        "recipients": [
            {
                "mailbox": str(queued.recipient.mailbox),
                "state": queued.state.name.lower(),
                "due": queued.due,
                "attempts": queued.attempts,
                "reason": str(queued.reason or ""),
            }
            for queued in message.recipients
        ],
    }


def _text(request: Mapping[str, Any], key: str) -> str:
    value = request.get(key, "")
    if not isinstance(value, str):
        raise CommandRefused(f"{key} is text")
    return value

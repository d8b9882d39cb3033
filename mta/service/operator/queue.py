"""What the operator may see of the queue: sums, lists, single messages.

=================  ===================================================================================================
command            request, and answer
=================  ===================================================================================================
``queue-summary``  ``destinations``: how many at most. Amounts by state and for the largest destinations, each with why
                   it waits, its next attempt and its oldest recipient
``queue-count``    filters. ``messages`` and ``recipients`` that fit them
``queue-list``     filters, ``after``, ``limit``. A page of ``messages`` in the order of queue ids, ``ends``
``queue-show``     ``queue_id``. All of one message but its content
=================  ===================================================================================================

The filters are the keys of `mta.spool.search.Wanted`; what is not given lets everything pass. A message is listed with
the recipients that fit; ``others`` tells how many more it has. Times are wall times.

**Several workers.** An answer is made to be merged by its form (numbers added, lists joined, tables merged by key), and
read by `joined` and `end_of` whoever made it: what is not a sum stands in a list. ``ends`` of a page has the queue id
up to which it is complete: every message up to that which fits, and comes behind ``after`` of the request, is in the
page. It is empty where there is no more. So the pages of several workers that were asked the same are complete up to
the smallest of their ends: what they list behind that comes again with the next page, whose ``after`` it is. Acts have
ends by the same rule (`mta.service.operator.queue_acts`).

Searches run on a thread (`mta.spool.search`); the messages of a page are then read on the reactor, some 40 µs each.
The content of a message does not go over the control socket: who may open that may read the spool.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet import defer

from mta.disk.port import RunInThread
from mta.service.asking import CommandRefused
from mta.spool.port import QueuedMessage, QueuedRecipient, State
from mta.spool.search import Found, Wanted, count, find
from mta.spool.summary import Summary, summarise

T = TypeVar("T")

PAGE = 200
"""Messages in one answer, if the request does not say."""
PAGE_MAXIMUM = 200
"""Messages in one answer, at most: 10 ms of the reactor's time."""
RECIPIENTS = 500
"""Recipients of the messages of a page from which it ends with the message at hand: also some 10 ms."""
DESTINATIONS = 20
"""Destinations of a summary, if the request does not say."""
DESTINATIONS_MAXIMUM = 1000
"""Destinations of a summary, at most."""


class Sighted(Protocol):
    """As much of a spool as is needed to look: `mta.spool.spools.Spools`, or a `mta.spool.view.View`."""

    @property
    def paths(self) -> Sequence[str]:
        """The directories of the shards."""
        ...

    def get(self, queue_id: str) -> QueuedMessage | None:
        """See `mta.spool.port.Spool`."""
        ...


class QueueCommands:
    """The commands."""

    def __init__(self, spool: Sighted, run_in_thread: RunInThread) -> None:
        self._spool = spool
        self._run_in_thread = run_in_thread

    def summary(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Sum up the queue."""
        return defer.Deferred.fromCoroutine(self._summary(request))

    def count(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Count what fits."""
        return defer.Deferred.fromCoroutine(self._count(request))

    def page(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """List what fits, a page of it."""
        return defer.Deferred.fromCoroutine(self._page(request))

    def show(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Tell all of one message."""
        queue_id = text_of(request, "queue_id")
        found = self._spool.get(queue_id)
        if found is None:
            raise CommandRefused(f"there is no message {queue_id} in the queue")
        return shown(found)

    async def _summary(self, request: Mapping[str, Any]) -> dict[str, Any]:
        limit = _number(request, "destinations", DESTINATIONS, DESTINATIONS_MAXIMUM)
        return _summed(await in_thread(self._run_in_thread, summarise, self._spool.paths, limit))

    async def _count(self, request: Mapping[str, Any]) -> dict[str, Any]:
        messages, recipients = await in_thread(self._run_in_thread, count, self._spool.paths, wanted_by(request))
        return {"messages": messages, "recipients": recipients}

    async def _page(self, request: Mapping[str, Any]) -> dict[str, Any]:
        limit = _number(request, "limit", PAGE, PAGE_MAXIMUM)
        after = text_of(request, "after")
        while True:
            found = await search(self._run_in_thread, self._spool, request, after, limit)
            listed: list[dict[str, Any]] = []
            recipients = 0
            end = found[-1].queue_id if len(found) == limit else ""
            for each in found:
                message = self._spool.get(each.queue_id)
                if message is None:  # delivered since
                    continue
                listed.append(_listed(message, each.numbers))
                recipients += len(message.recipients)
                if recipients >= RECIPIENTS and each is not found[-1]:
                    end = each.queue_id
                    break
            if listed or not end:
                return {"messages": listed, "more": bool(end), "ends": [end] if end else []}
            after = end


def end_of(answer: Mapping[str, Any]) -> str:
    """Say where the next request goes on (its ``after``); empty where there is no more."""
    return min(answer["ends"], default="")


def joined(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the messages of a page, perhaps of several workers, in order, up to where it is complete."""
    end = end_of(answer)
    page = sorted(answer["messages"], key=lambda message: str(message["queue_id"]))
    return [message for message in page if not end or message["queue_id"] <= end]


async def search(
    run_in_thread: RunInThread, spool: Sighted, request: Mapping[str, Any], after: str, limit: int
) -> Sequence[Found]:
    """Find up to `limit` messages of those that a request means."""
    found: Sequence[Found] = await in_thread(run_in_thread, find, spool.paths, wanted_by(request), after, limit)
    return found


async def in_thread(run_in_thread: RunInThread, function: Callable[..., T], *args: object) -> T:
    """Search; a database that cannot be read is told in words."""
    try:
        found: T = await run_in_thread(function, *args)
    except sqlite3.Error as error:
        raise CommandRefused(f"the queue cannot be read: {error}") from error
    return found


def wanted_by(request: Mapping[str, Any]) -> Wanted:
    """Read the filters of a request. Raises CommandRefused."""
    queue_ids = request.get("queue_ids", [])
    if not isinstance(queue_ids, list) or not all(isinstance(each, str) for each in queue_ids):
        raise CommandRefused("queue_ids is a list of text")
    return Wanted(
        queue_ids=tuple(queue_ids),
        sender=text_of(request, "sender"),
        recipient=text_of(request, "recipient"),
        destination=text_of(request, "destination"),
        login=text_of(request, "login"),
        error=text_of(request, "error"),
        state=_state(text_of(request, "state")),
        accepted_from=_time(request, "accepted_from"),
        accepted_until=_time(request, "accepted_until"),
    )


def text_of(request: Mapping[str, Any], key: str) -> str:
    """Read a text of a request, empty where it is not given. Raises CommandRefused."""
    value = request.get(key, "")
    if not isinstance(value, str):
        raise CommandRefused(f"{key} is text")
    return value


def _time(request: Mapping[str, Any], key: str) -> float | None:
    value = request.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise CommandRefused(f"{key} is a time in seconds since 1970")
    return value


def _state(name: str) -> State | None:
    if not name:
        return None
    try:
        return State[name.upper()]
    except KeyError:
        known = ", ".join(state.name.lower() for state in State)
        raise CommandRefused(f"a state is one of {known}") from None


def _number(request: Mapping[str, Any], key: str, default: int, maximum: int) -> int:
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CommandRefused(f"{key} is a number from 1 to {maximum}")
    return min(value, maximum)


# Answers


def _summed(summary: Summary) -> dict[str, Any]:
    return {
        "messages": summary.messages,
        "states": _states(summary.states),
        "oldest": [] if summary.oldest is None else [summary.oldest],
        "destinations": [summary.destinations],
        "largest": {
            name: {
                "recipients": waiting.recipients,
                "states": _states(waiting.states),
                "oldest": [waiting.oldest],
                "next": [] if waiting.next_attempt is None else [waiting.next_attempt],
                "reasons": dict(waiting.reasons),
                "sampled": waiting.sampled,
            }
            for name, waiting in summary.largest.items()
        },
    }


def _states(counts: Mapping[State, int]) -> dict[str, int]:
    return {state.name.lower(): counts.get(state, 0) for state in State}


def _listed(message: QueuedMessage, numbers: Collection[int]) -> dict[str, Any]:
    chosen = [queued for queued in message.recipients if queued.number in numbers]
    return {
        "queue_id": message.queue_id,
        "accepted": message.accepted,
        "size": message.size,
        "sender": str(message.envelope.reverse_path or ""),
        "login": message.origin.login,
        "recipients": list(map(_recipient, chosen)),
        "others": len(message.recipients) - len(chosen),
    }


def shown(message: QueuedMessage) -> dict[str, Any]:
    """Describe all of a message."""
    envelope, origin = message.envelope, message.origin
    return {
        **_listed(message, [queued.number for queued in message.recipients]),
        "service": origin.service,
        "session": origin.session,
        "address": origin.address,
        "label": origin.label,
        "priority": origin.priority,
        "body": envelope.body.value,
        "smtputf8": envelope.smtputf8,
        "envid": envelope.envid,
        "ret": envelope.ret,
        "recipients": [{**_recipient(queued), **_wishes(queued)} for queued in message.recipients],
    }


def _recipient(queued: QueuedRecipient) -> dict[str, Any]:
    return {
        "mailbox": str(queued.recipient.mailbox),
        "destination": queued.destination,
        "state": queued.state.name.lower(),
        "due": queued.due,
        "attempts": queued.attempts,
        "reason": str(queued.reason or ""),
    }


def _wishes(queued: QueuedRecipient) -> dict[str, Any]:
    recipient = queued.recipient
    return {
        "number": queued.number,
        "original": str(recipient.original or ""),
        "notify": [wish.name for wish in recipient.notify] if recipient.notify else ["NEVER"],
        "orcpt": recipient.orcpt,
        "folder": recipient.folder,
        "crashes": queued.crashes,
        "warned": queued.warned,
    }

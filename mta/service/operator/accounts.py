"""What the operator may do with a login that is in trouble.

====================  =====================================  ===================================================
command               request                                answer
====================  =====================================  ===================================================
``account-disable``   ``login``                              ``sessions`` ended, ``messages`` and ``recipients`` held
``account-enable``    ``login``                              ``messages`` and ``recipients`` released
====================  =====================================  ===================================================

Whether an account is disabled stands in its ``users`` file and counts from the reload on: nobody logs in, and what is
due of its mail is held (`mta.relay.withheld`). ``account-disable`` comes after that reload, and does at once what would
come by and by: it ends the sessions that are open, and holds what waits for a retry. ``account-enable`` releases what
was held for that reason, and nothing else. Each worker answers for its own sessions and its part of the queue.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet import defer

from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.service.asking import CommandRefused
from mta.settings.directory import Directory, disabled_text
from mta.spool.port import Change, QueuedMessage, QueuedRecipient, Retry, State
from mta.spool.search import Wanted, find

PAGE = 64
"""Messages that are changed at once: they share a sync."""


class Queue(Protocol):
    """As much of a spool as is needed (`mta.spool.spools.Spools`)."""

    @property
    def paths(self) -> Sequence[str]:
        """The directories of the shards."""
        ...

    def get(self, queue_id: str) -> QueuedMessage | None:
        """See `mta.spool.port.Spool`."""
        ...

    def record(self, queue_id: str, changes: Sequence[Change]) -> defer.Deferred[int]:
        """See `mta.spool.port.Spool`."""
        ...


class AccountCommands:
    """The commands. `end_sessions` ends those of a login and counts them; `look` has the relay look into the spool."""

    def __init__(
        self,
        directory: Callable[[], Directory],
        end_sessions: Callable[[str], int],
        queue: Queue,
        look: Callable[[], None],
        run_in_thread: RunInThread,
        journal: Journal,
    ) -> None:
        self._directory = directory
        self._end_sessions = end_sessions
        self._queue = queue
        self._look = look
        self._run_in_thread = run_in_thread
        self._journal = journal

    def disable(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """End the sessions of ``login`` and hold its mail. Raises CommandRefused where it is not disabled."""
        return defer.Deferred.fromCoroutine(self._disable(_login(request), _operator(request)))

    async def _disable(self, login: str, operator: str) -> dict[str, Any]:
        reason = self._directory().withheld(login)
        if reason is None:
            raise CommandRefused(f"{login} is not disabled in the configuration that the server uses")
        words = self._directory().accounts[login].disabled
        sessions = self._end_sessions(login)

        def hold(queued: QueuedRecipient) -> Change | None:
            if queued.state is not State.WAITING:
                return None
            return Retry(queued.number, queued.due, reason, counted=False, state=State.HELD)

        wanted = Wanted(login=login, state=State.WAITING)
        changed = await self._change(login, wanted, hold, Kind.MESSAGE_HELD, reason)
        told = Reason(f"{reason.text}: {words}" if words else reason.text, reason.source)
        self._note(Kind.ACCOUNT_DISABLED, told, login, operator, {"sessions": sessions, **changed})
        return {"sessions": sessions, **changed}

    def enable(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Release what was held since ``login`` was disabled. Raises CommandRefused where it still is."""
        return defer.Deferred.fromCoroutine(self._enable(_login(request), _operator(request)))

    async def _enable(self, login: str, operator: str) -> dict[str, Any]:
        if self._directory().withheld(login) is not None:
            raise CommandRefused(f"{login} is disabled in the configuration that the server uses")
        now, why = self._journal.wall(), Reason(f"released, since {login} is enabled", "mta user enable")

        def release(queued: QueuedRecipient) -> Change | None:
            if queued.state is not State.HELD or queued.reason is None or queued.reason.text != disabled_text(login):
                return None
            return Retry(queued.number, now, why, counted=False)

        wanted = Wanted(login=login, state=State.HELD, error=disabled_text(login))
        changed = await self._change(login, wanted, release, Kind.MESSAGE_RELEASED, why)
        self._note(Kind.ACCOUNT_ENABLED, why, login, operator, changed)
        self._look()
        return dict(changed)

    def _note(self, kind: Kind, reason: Reason, login: str, operator: str, counts: Mapping[str, int]) -> None:
        fields: dict[str, Any] = {"login": login, "operator": operator, **counts}
        self._journal.note(kind, reason, level=Level.NOTICE, **fields)

    async def _change(
        self,
        login: str,
        wanted: Wanted,
        change: Callable[[QueuedRecipient], Change | None],
        kind: Kind,
        reason: Reason,
    ) -> dict[str, int]:
        """Change the recipients of all messages of `login`, and count."""
        messages = recipients = 0
        async for page in self._pages(wanted):
            changes = {
                message.queue_id: [each for queued in message.recipients if (each := change(queued)) is not None]
                for message in page
                if message.origin.login == login
            }
            recorded = {queue_id: made for queue_id, made in changes.items() if made}
            records = [self._queue.record(queue_id, made) for queue_id, made in recorded.items()]
            try:
                await defer.gatherResults(records, consumeErrors=True)
            except defer.FirstError as error:
                raise CommandRefused(f"the queue cannot be written: {error.subFailure.getErrorMessage()}") from error
            for queue_id, made in recorded.items():
                self._journal.note(kind, reason, level=Level.NOTICE, queue_id=queue_id, recipients=len(made))
                messages, recipients = messages + 1, recipients + len(made)
        return {"messages": messages, "recipients": recipients}

    async def _pages(self, wanted: Wanted) -> AsyncIterator[list[QueuedMessage]]:
        """The messages that fit, page by page; one that is gone by now is left out."""
        after = ""
        while True:
            try:
                found = await self._run_in_thread(find, self._queue.paths, wanted, after, PAGE)
            except sqlite3.Error as error:
                raise CommandRefused(f"the queue cannot be read: {error}") from error
            yield [message for each in found if (message := self._queue.get(each.queue_id)) is not None]
            if len(found) < PAGE:
                return
            after = found[-1].queue_id


def _login(request: Mapping[str, Any]) -> str:
    login = request.get("login")
    if not isinstance(login, str) or not login:
        raise CommandRefused("login is the address of an account")
    return login


def _operator(request: Mapping[str, Any]) -> str:
    """Who asks, as the control socket knows it."""
    operator = request.get("operator", "")
    return operator if isinstance(operator, str) else ""

"""What lies ahead of a message: for each recipient the place where its copy ends, by the code that will bring it there.

==========  ===================================================================================================
place       what it means
==========  ===================================================================================================
`maildir`   a file in the directory ``path``, the ``new`` of a Maildir or of a folder of it
`remote`    the hosts of ``route``, in their order; what they say of it is theirs
`waits`     tried again by schedule: the route is not known now, or a policy defers the attempt
`held`      in the queue until the operator releases it
`report`    the sender is told of a failure; ``report`` says where that message ends
`ended`     nowhere, and nobody is told
==========  ===================================================================================================

Nothing is connected to and nothing is written; names are looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, takewhile
from typing import Any

from mta.dns.routing import Router
from mta.mail.outcome import Deferred, Discarded, Failed, Held, Outcome
from mta.mail.reason import Reason
from mta.mail.route import Route
from mta.maildir.name import NEW, folder_path
from mta.message.header import been_in
from mta.observe.journal import Journal
from mta.policy.chain import Chain, Ruling
from mta.policy.rehearsal import RehearsedChain
from mta.relay.bounce import Bouncer
from mta.relay.local import LocalDelivery
from mta.relay.policed import PolicedDelivery
from mta.relay.schedule import Fail, interval
from mta.service.rehearsal import heard
from mta.settings.expansion import LOCAL
from mta.settings.sections import QueueSettings, Settings
from mta.spool.port import QueuedMessage, QueuedRecipient, State, as_queued

ATTEMPTS_MAXIMUM = 100
"""Attempts of a schedule that are told."""

Place = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ahead:
    """Looks ahead, with the parts of the relay."""

    settings: Callable[[], Settings]
    local: LocalDelivery
    router: Callable[[], Router]
    chain: Callable[[], Chain]
    bouncer: Bouncer
    wall: Callable[[], float]

    async def places(self, message: QueuedMessage, head: bytes) -> list[Place]:
        """Tell the place of each recipient that is in the queue, in their order."""
        groups: dict[str, list[QueuedRecipient]] = {}
        places: dict[int, Place] = {}
        for queued in message.recipients:
            if queued.state is State.HELD:
                why = queued.reason or Reason("held")
                places[queued.number] = _place("held", queued, why)
            else:
                groups.setdefault(queued.destination, []).append(queued)
        for destination, recipients in groups.items():
            places |= await self._group(message, head, destination, recipients)
        return [places[queued.number] for queued in message.recipients]

    async def _group(
        self, message: QueuedMessage, head: bytes, destination: str, recipients: Sequence[QueuedRecipient]
    ) -> dict[int, Place]:
        """Tell the places of recipients that share a destination."""
        said: list[dict[str, str]] = []
        outcome = await self._judge(message, recipients, said)
        found: dict[int, Place] = {}
        route = None
        if outcome is None and destination != LOCAL:
            route = await self.router().route(destination)
        for queued in recipients:
            if outcome is not None:
                place = await self._ended(message, queued, outcome)
            elif isinstance(route, Route):
                place = _place("remote", queued, route.reason) | {"route": _route(route)}
            elif route is not None:
                place = await self._ended(message, queued, route)
            else:
                place = await self._here(message, queued, head)
            found[queued.number] = place | ({"asked": said} if said else {})
        return found

    async def _judge(
        self, message: QueuedMessage, recipients: Sequence[QueuedRecipient], said: list[dict[str, str]]
    ) -> Outcome | None:
        """Ask the policies of the stage ``route``, in rehearsal."""

        def told(_: object, ruling: Ruling, unasked: object) -> None:
            said.extend(heard(ruling))

        chain = RehearsedChain(self.chain(), told)
        return await PolicedDelivery(self.local, lambda: chain, Journal(self.wall)).judge(chain, message, recipients)

    async def _here(self, message: QueuedMessage, queued: QueuedRecipient, head: bytes) -> Place:
        account = self.local.account(been_in(head), queued)
        if isinstance(account, Failed):
            return await self._ended(message, queued, account)
        path = f"{folder_path(account.maildir, queued.recipient.folder)}/{NEW}"
        why = Reason(f"in the Maildir of {account.login}", account.source)
        return _place("maildir", queued, why) | {"path": path}

    async def _ended(self, message: QueuedMessage, queued: QueuedRecipient, outcome: Outcome) -> Place:
        """Tell what follows where there is no delivery."""
        match outcome:
            case Held():
                return _place("held", queued, outcome.reason)
            case Discarded():
                return _place("ended", queued, outcome.reason)
            case Deferred():
                return _place("waits", queued, outcome.reason)
            case Failed():
                return await self._failed(message, queued, outcome)
        raise AssertionError("nothing is delivered here")

    async def _failed(self, message: QueuedMessage, queued: QueuedRecipient, failed: Failed) -> Place:
        steps = [(queued, Fail(failed))]
        reports, reasons = self.bouncer.reports(message, b"", steps, self.wall(), lambda destinations: False)
        if not reports:
            why = reasons[queued.number]
            text = f"{failed.reason.text}; no report: {why.text}"
            return _place("ended", queued, Reason(text, failed.reason.source)) | {"status": str(failed.status)}
        places = await self.places(as_queued(reports[0]), b"")
        return _place("report", queued, failed.reason) | {"status": str(failed.status), "report": places}


def in_maildir(directory: str, recipient: str, reason: Reason) -> Place:
    """The place of a message that is committed in a Maildir."""
    return {
        "recipient": recipient,
        "named": recipient,
        "destination": LOCAL,
        "place": "maildir",
        "reason": reason.text,
        "source": reason.source,
        "path": f"{directory}/{NEW}",
    }


def _place(word: str, queued: QueuedRecipient, reason: Reason) -> Place:
    return {
        "recipient": str(queued.recipient.mailbox),
        "named": str(queued.recipient.named),
        "destination": queued.destination,
        "place": word,
        "reason": reason.text,
        "source": reason.source,
    }


def _route(route: Route) -> list[dict[str, Any]]:
    return [
        {
            "host": host.name,
            "preference": host.preference,
            "addresses": list(host.addresses),
            "port": host.port,
            "login": host.login.user if host.login is not None else "",
            "tls": host.tls.value,
            "tls_reason": host.tls_reason.text,
            "tls_source": host.tls_reason.source,
        }
        for host in route.hosts
    ]


class _Middle:
    """The chance without chance: no jitter."""

    def getrandbits(self, k: int, /) -> int:
        """Half of what there could be."""
        return 1 << k - 1


def schedule(settings: QueueSettings, attempts: int = 0) -> dict[str, Any]:
    """Tell when a message is tried again: seconds after each attempt that fails, from now on."""
    waits = (interval(attempts + number, settings, _Middle()) for number in count(1))
    times = takewhile(lambda at: at < settings.lifetime, accumulate(waits))
    told = [at for at, _ in zip(times, range(ATTEMPTS_MAXIMUM), strict=False)]
    return {
        "again_after": told,
        "jitter": settings.jitter,
        "warn_after": settings.warn_after,
        "lifetime": settings.lifetime,
        "rest": settings.rest,
    }

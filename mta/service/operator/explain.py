"""``mta explain``: what would become of a message, and what lies ahead of one that is in the queue.

``explain`` brings a letter to a rehearsed session of this worker (`mta.service.rehearsal`) and looks ahead from where
that ends (`mta.service.ahead`). With a ``queue_id`` it looks ahead from where the message is now; what was decided of
it stands in the history.

An answer is one explanation in a list, so that several workers can answer side by side.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from twisted.internet import defer

from mta.mail.reason import Reason
from mta.message.header import find_head
from mta.receive.commit import Accepted
from mta.relay.pace import Load
from mta.service.ahead import Ahead, Place, in_maildir, schedule
from mta.service.asking import CommandRefused
from mta.service.located import Lines, locate_all
from mta.service.rehearsal import Letter, Record, Rehearsals
from mta.settings.sections import Settings
from mta.settings.values import fold_domain
from mta.spool.port import Message, Spool, as_queued, head_of

AT_ONCE = 10
"""Explanations that are made at once: each holds its content in memory."""
RECIPIENTS_MAXIMUM = 1000
"""Recipients of a letter, as many as the default of ``[limits] recipients``."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Controls, and halves of characters, which JSON has and UTF-8 has not."""


@dataclass(slots=True)
class ExplainCommands:
    """The command, and what it needs of the worker."""

    settings: Callable[[], Settings]
    rehearsals: Rehearsals
    ahead: Ahead
    spool: Spool
    open_now: Callable[[str, str], Mapping[str, int]]
    """Connections that are open: of a service, and from the network of an address."""
    load: Callable[[str], Load]
    """How busy a destination is; ``""``: all of them."""
    under_way: int = 0

    def explain(self, request: Mapping[str, Any]) -> defer.Deferred[dict[str, Any]]:
        """Explain ``queue_id``, or the letter that the other keys describe."""
        return defer.Deferred.fromCoroutine(self._explain(request))

    async def _explain(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if self.under_way >= AT_ONCE:
            raise CommandRefused(f"{AT_ONCE} explanations are being made; try again")
        self.under_way += 1
        try:
            if request.get("queue_id"):
                return {"explanations": [await self._queued(str(request["queue_id"]))]}
            return {"explanations": [await self._letter(read_letter(request, self.settings()))]}
        finally:
            self.under_way -= 1

    # A letter that would be

    async def _letter(self, letter: Letter) -> dict[str, Any]:
        record = await self.rehearsals.rehearse(letter)
        places, size = await self._places(record)
        explained: dict[str, Any] = {
            "service": letter.service,
            "address": letter.address,
            "sender": letter.sender,
            "steps": [step.told() for step in record.steps],
            "checks": record.checks,
            "outcome": _outcome(record),
            "recipients": places,
        }
        lines = Lines(self.settings().path)
        for step in record.steps:
            locate_all(lines, [*step.asked, *([step.decided] if step.decided else [])])
        login = letter.login if any(step.stage == "auth" and step.code == 235 for step in record.steps) else ""
        limits = [
            *self._of_connections(letter.service, letter.address),
            *_of_session(self.settings(), places),
            *_of_rates(self.settings(), login),
            *_of_login(self.settings(), login),
            *self._of_destinations(places),
        ]
        locate_all(lines, limits)
        return explained | {"size": size, "limits": limits, "schedule": schedule(self.settings().queue)}

    async def _places(self, record: Record) -> tuple[list[Place], int]:
        accepted, where = record.accepted, record.where
        if accepted is None or where is None:
            return [], 0
        if isinstance(where, Message):
            return await self.ahead.places(as_queued(where), _head(accepted)), accepted.size
        only = accepted.addressed[0]
        assert only.account is not None, "a Maildir is somebody's"
        why = Reason(f"in the Maildir of {only.account.login}", only.account.source)
        place = in_maildir(where.maildir, str(only.recipient.mailbox), why)
        return [place | {"named": str(only.recipient.named)}], accepted.size

    # A message that is

    async def _queued(self, queue_id: str) -> dict[str, Any]:
        message = self.spool.get(queue_id)
        if message is None:
            raise CommandRefused(f"there is no message {queue_id} in the queue")
        try:
            head = head_of(self.spool.content(queue_id)).octets
        except (OSError, KeyError):
            head = b""
        places = await self.ahead.places(message, head)
        for place, queued in zip(places, message.recipients, strict=True):
            place |= {
                "state": queued.state.name.lower(),
                "due": queued.due,
                "attempts": queued.attempts,
                "last": str(queued.reason or ""),
                "schedule": schedule(self.settings().queue, queued.attempts),
            }
        origin = message.origin
        limits = self._of_destinations(places)
        locate_all(Lines(self.settings().path), limits)
        return {
            "queue_id": queue_id,
            "accepted": message.accepted,
            "expires": message.accepted + self.settings().queue.lifetime,
            "sender": str(message.envelope.reverse_path or ""),
            "size": message.size,
            "service": origin.service,
            "address": origin.address,
            "login": origin.login,
            "recipients": places,
            "limits": limits,
            "schedule": schedule(self.settings().queue),
        }

    # What is in force

    def _of_connections(self, service: str, address: str) -> list[dict[str, Any]]:
        connections, now = self.settings().connections, self.open_now(service, address)
        most = connections.per_network
        return [
            _limit("connections, all", connections.total, "[connections] total", now["total"]),
            _limit("connections from this network", most, "[connections] per_network", now["network"]),
        ]

    def _of_destinations(self, places: Sequence[Place]) -> list[dict[str, Any]]:
        relay, queue = self.settings().relay, self.settings().queue
        remote = sorted({place["destination"] for place in places if place["place"] in ("remote", "waits")})
        limits = []
        for destination in remote:
            load = self.load(destination)
            what = f"connections to {_named(destination)} at once"
            at_once = relay.connections_per_destination
            limit = _limit(what, at_once, "[relay] connections_per_destination", load.running)
            limits.append(limit | {"waiting": load.waiting, "rests": load.rests})
        if remote:
            limits += [
                _limit("messages in one connection", relay.messages_per_connection, "[relay] messages_per_connection"),
                _limit("deliveries at once", queue.concurrency, "[queue] concurrency", self.load("").running),
            ]
        return limits


def read_letter(request: Mapping[str, Any], settings: Settings) -> Letter:
    """Read a letter as the command sends it. Raises CommandRefused."""
    service = _text(request, "service") or "mx"
    if service not in ("mx", "smtpd"):
        raise CommandRefused(f"service: expected mx or smtpd, found {service}")
    address = _text(request, "address")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise CommandRefused(f"--ip: expected an IP address, found {address!r}") from None
    recipients = request.get("recipients")
    if not isinstance(recipients, list) or not 0 < len(recipients) <= RECIPIENTS_MAXIMUM:
        raise CommandRefused(f"--to: expected 1 to {RECIPIENTS_MAXIMUM} recipients")
    tls = request.get("tls")
    try:
        content = base64.b64decode(_text(request, "content"))
    except ValueError:
        raise CommandRefused("content is octets in base64") from None
    return Letter(
        service,
        address,
        _text(request, "helo"),
        _text(request, "sender"),
        tuple(_plain("--to", each) for each in recipients),
        content,
        _text(request, "login"),
        tls if isinstance(tls, bool) else None,
        bool(request.get("sized", True)),
    )


def _text(request: Mapping[str, Any], key: str) -> str:
    return _plain(f"--{key}", request.get(key, ""))


def _plain(key: str, value: object) -> str:
    """What goes into a command line: text, and on one line."""
    if not isinstance(value, str) or _CONTROL.search(value):
        raise CommandRefused(f"{key}: expected text without control characters, found {value!r}")
    return value


def _head(accepted: Accepted) -> bytes:
    content = accepted.content
    return find_head(content if isinstance(content, bytes) else content.head).octets


def _outcome(record: Record) -> str:
    """In one word."""
    if record.discarded is not None:
        return "discarded"
    if record.where is not None:
        return "accepted"
    last = record.steps[-1]
    final = [step for step in record.steps if step.stage == "rcpt"] if last.stage == "rcpt" else [last]
    return "deferred" if any(400 <= step.code < 500 for step in final) else "refused"


def _named(destination: str) -> str:
    return "the smart host" if destination == "*" else destination


def _limit(what: str, value: float, source: str, now: float | None = None) -> dict[str, Any]:
    return {"limit": what, "value": value, "source": source, "now": now}


def _of_session(settings: Settings, places: Sequence[Place]) -> list[dict[str, Any]]:
    limits = [
        _limit("octets of a message", settings.limits.message_size, "[limits] message_size"),
        _limit("recipients of a message", settings.limits.recipients, "[limits] recipients"),
        _limit("messages in one session", settings.limits.transactions, "[limits] transactions"),
    ]
    names = dict.fromkeys(fold_domain(place["named"].rpartition("@")[2]) for place in places)
    for name in names:
        domain = settings.directory.domains.get(name)
        if domain is not None and domain.message_size is not None:
            limits.append(_limit(f"octets of a message to {name}", domain.message_size, f"{domain.source}/domain.toml"))
    return limits


def _of_login(settings: Settings, login: str) -> list[dict[str, Any]]:
    """The caps of a login, those of its domain before those of all."""
    account = settings.directory.account(login)
    if account is None:
        return []
    limits = []
    for key, what in (("messages", "messages"), ("first_time_recipients", "first-time recipients")):
        own, everybody = getattr(account.caps, key), getattr(settings.smtpd.caps, key)
        most, source = (everybody, f"[smtpd.caps] {key}") if own is None else (own, "[caps] of its domain.toml")
        if most:
            limits.append(_limit(f"{what} of {account.login} in a day", most, source))
    return limits


def _of_rates(settings: Settings, login: str) -> list[dict[str, Any]]:
    rates = settings.policy.rates
    if rates is None:
        return []
    limits = []
    if rates.connections_per_minute:
        what, source = "connections of a network in a minute", "[policy.rates] connections_per_minute"
        limits.append(_limit(what, rates.connections_per_minute, source))
    subjects = asdict(rates)
    for subject in ("login",) if login else ("network", "sender_domain"):
        for key, most in subjects[subject].items():
            if most:
                what = f"{key.removesuffix('_per_hour')} of a {subject.replace('_', ' ')} in an hour"
                limits.append(_limit(what, most, f"[policy.rates.{subject}] {key}"))
    return limits

"""All that is checked of whose mail it is, for one session and each of its messages.

====================  ==========================================================  ======================================
what is known         what is begun                                               who waits for it
====================  ==========================================================  ======================================
the peer's address    iprev                                                       policies that are asked; the message
MAIL                  SPF of HELO and of MAIL FROM                                policies from RCPT on; the message
the head              keys of DKIM and ARC signatures, DMARC records              the message
the body, as it       hashes                                                      nobody
comes
====================  ==========================================================  ======================================

Questions go out as soon as they can be asked, and nobody waits for them before their answers count. What is not known
when its deadline passes is a temperror; an ARC chain has failed then. Mail from trusted networks is not checked at all:
there is no `SessionCheck`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.internet import defer, interfaces

from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.arc_verify import ArcCheck
from mta.mailauth.canonical import BodyHashes
from mta.mailauth.disposition import treat_body_length
from mta.mailauth.dkim_verify import DkimCheck
from mta.mailauth.dmarc import DmarcCheck
from mta.mailauth.iprev import iprev
from mta.mailauth.result import (
    Arc,
    ArcResult,
    Authentication,
    Dkim,
    DkimResult,
    Dmarc,
    DmarcResult,
    Iprev,
    IprevResult,
    Spf,
    SpfResult,
)
from mta.mailauth.spf import SpfChecker
from mta.mailauth.spf_check import SpfLimits
from mta.observe.journal import Wall
from mta.settings.mailauth import MailauthSettings
from mta.smtp.address import Mailbox

T = TypeVar("T")

_LATE = Reason("no answer in time", "[mailauth.deadlines]")
_UNSIGNED = Dkim(DkimResult.NONE, "", "", Reason("the message has no signature", "RFC 8601 §2.7.1"))


@dataclass(frozen=True, slots=True)
class Verifier:
    """Makes the checks of sessions. `settings` is asked at each session, so a reload counts."""

    resolver: Resolver
    clock: interfaces.IReactorTime
    wall: Wall
    hostname: str
    settings: Callable[[], MailauthSettings]

    def session(self, address: str) -> SessionCheck | None:
        """Begin to check a session; None where its mail is not checked."""
        settings = self.settings()
        return None if not address or settings.trusts(address) else SessionCheck(self, settings, address)

    async def until(self, seconds: float, work: Coroutine[Any, Any, T], late: T) -> T:
        """Wait for `work` at most so many seconds, then cancel it and return `late`."""
        waiting = defer.Deferred.fromCoroutine(work)
        waiting.addTimeout(seconds, self.clock)
        try:
            return await waiting
        except defer.TimeoutError:
            return late


class SessionCheck:
    """What is known of one session: `iprev`, `helo` and `spf` are None until they are known."""

    def __init__(self, verifier: Verifier, settings: MailauthSettings, address: str) -> None:
        self.iprev: Iprev | None = None
        self.helo: Spf | None = None
        self.spf: Spf | None = None
        self._verifier = verifier
        self._settings = settings
        self._address = address
        limits = SpfLimits(seconds=settings.deadlines.spf)
        self._spf = SpfChecker(verifier.resolver, verifier.clock, verifier.wall, verifier.hostname, limits)
        self._named = defer.Deferred.fromCoroutine(self._check_name()) if settings.iprev else None
        self._sent: defer.Deferred[None] | None = None
        self._of_helo: tuple[str, Spf] | None = None
        """The last HELO name with an answer about it, which holds for all messages of the session."""

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return self._named is None and self._sent is None

    def mail(self, sender: Mailbox | None, helo: str) -> None:
        """Begin to check a reverse-path; what was under way about the one before is cancelled."""
        self.helo = self.spf = None
        self._cancel(self._sent)
        self._sent = defer.Deferred.fromCoroutine(self._check_sender(sender, helo)) if self._settings.spf else None

    async def settled(self) -> None:
        """Wait until nothing is under way. What fails is a bug."""
        for waiting in (self._named, self._sent):
            if waiting is not None:
                await waiting
        self._named = self._sent = None

    def message(self, head: bytes) -> MessageCheck:
        """Begin to check a message by its head."""
        return MessageCheck(self._verifier, self._settings, self, head)

    def cancel(self) -> None:
        """Give up: the session is over."""
        self._cancel(self._named)
        self._cancel(self._sent)
        self._named = self._sent = None

    async def _check_name(self) -> None:
        late = Iprev(IprevResult.TEMPERROR, _LATE)
        work = iprev(self._verifier.resolver, self._address)
        self.iprev = await self._verifier.until(self._settings.deadlines.iprev, work, late)

    async def _check_sender(self, sender: Mailbox | None, helo: str) -> None:
        known = self._of_helo[1] if self._of_helo is not None and self._of_helo[0] == helo else None
        # For `<>` both are one and the same check (RFC 7208 §2.4).
        ask = sender is not None and known is None
        of_helo = defer.Deferred.fromCoroutine(self._spf.helo(self._address, helo)) if ask else None
        try:
            self.spf = await self._spf.mail_from(self._address, sender, helo)
            if sender is not None:
                self.helo = known or (await of_helo if of_helo is not None else None)
            if self.helo is not None and self.helo.result is not SpfResult.TEMPERROR:
                self._of_helo = helo, self.helo
        finally:
            self._cancel(of_helo)

    def _cancel(self, waiting: defer.Deferred[Any] | None) -> None:
        if waiting is not None:
            waiting.addErrback(lambda _: None)
            waiting.cancel()


class MessageCheck:
    """The checks of one message. It is ended by `finish`, once, or by `cancel`."""

    def __init__(self, verifier: Verifier, settings: MailauthSettings, session: SessionCheck, head: bytes) -> None:
        self._verifier = verifier
        self._settings = settings
        self._session = session
        resolver, wall = verifier.resolver, verifier.wall
        self._bodies = BodyHashes()
        self._dkim = DkimCheck(resolver, head, wall(), self._bodies) if settings.dkim else None
        self._arc = ArcCheck(resolver, head, self._bodies) if settings.arc else None
        self._dmarc = DmarcCheck(resolver, head) if settings.dmarc else None

    def body(self, chunk: bytes) -> None:
        """Take octets of the body."""
        self._bodies.update(chunk)

    def cancel(self) -> None:
        """Give up: the message is refused, or its peer is gone."""
        for check in (self._dkim, self._arc, self._dmarc):
            if check is not None:
                check.cancel()

    async def finish(self) -> Authentication:
        """Tell all results, now that the body has ended."""
        until, seconds = self._verifier.until, self._settings.deadlines.message
        session = self._session
        await session.settled()
        dkim: tuple[Dkim, ...] = ()
        if self._dkim is not None:
            # At the deadline each signature keeps what is known of it: one whose name server is silent must not hide
            # what the others say, nor that none of them is the author's.
            deadline = self._verifier.clock.callLater(seconds, self._dkim.cancel)
            try:
                dkim = treat_body_length(await self._dkim.finish(), self._settings)
            finally:
                if deadline.active():
                    deadline.cancel()
        arc = None
        if self._arc is not None:
            late_arc = Arc(ArcResult.FAIL, Reason(_LATE.text, "RFC 8617 §5.2.1"))
            arc = await until(seconds, self._arc.finish(), late_arc)
        dmarc = None
        if self._dmarc is not None:
            late_dmarc = Dmarc(DmarcResult.TEMPERROR, _LATE)
            dmarc = await until(seconds, self._dmarc.finish(session.spf, dkim), late_dmarc)
        if self._dkim is not None and not dkim:
            dkim = (_UNSIGNED,)
        notes = self._dkim.notes if self._dkim is not None else ()
        return Authentication(session.iprev, session.helo, session.spf, dkim, dmarc, arc, notes=notes)

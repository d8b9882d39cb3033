"""What the protocol of a session (`mta.net.server`) asks of others: rules that decide, and TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import defer

from mta.mail.reason import Reason
from mta.mail.tlsinfo import TlsInfo
from mta.net.peer import Peer
from mta.smtp.event import Event
from mta.smtp.reply import Reply
from mta.smtp.server import ServerSession

Answer = Reply | defer.Deferred[Reply] | None


class Rules(Protocol):
    """What answers the events of one session."""

    @property
    def login(self) -> str:
        """Who is logged in; empty: nobody."""
        ...

    def answer(self, event: Event) -> Answer:
        """Answer one event: at once, later, or None where the event needs no reply."""
        ...

    def secured(self, tls: TlsInfo | None, reason: Reason | None) -> None:
        """Learn that a handshake ended: with `tls`, or with the reason why not."""
        ...

    def lost(self, reason: Reason) -> None:
        """Learn that the connection is gone; what was staged is dropped."""
        ...


class TlsServer(Protocol):
    """What TLS is to a listening service."""

    def context(self) -> Any:
        """Return the context factory for the next handshake (certificates may have changed since the last)."""
        ...

    def describe(self, transport: Any) -> TlsInfo:
        """Tell version and cipher of a connection whose handshake has ended."""
        ...


Open = Callable[[Peer, ServerSession], Rules]
"""Makes the rules of a new session, which set the session's offer."""

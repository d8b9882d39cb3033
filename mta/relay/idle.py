"""Connections that wait a few seconds for the next message to the same host (RFC 5321 §4.5.4.1 lets a client go on).

Bounded: at most `maximum` wait in all; one more closes the one that has waited longest. A connection that the server
closes, that says something unasked, or whose time is over leaves by itself.
"""

from __future__ import annotations

from twisted.internet import defer

from mta.mail.route import Host, Login, TlsLevel
from mta.relay.opening import Open

_Key = tuple[str, int, TlsLevel, Login | None]


def _key(host: Host) -> _Key:
    # Not its addresses: their order changes with each look-up
    return host.name, host.port, host.tls, host.login


class Idle:
    """Connections by host, port, TLS level and login: whoever asks for the same gets the one used last."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._by_key: dict[_Key, list[Open]] = {}
        self._order: dict[Open, _Key] = {}
        self._closed = False

    def put(self, host: Host, opened: Open, seconds: float) -> None:
        """Keep a connection for `seconds`; closed at once where that is no longer wanted."""
        if self._closed:
            opened.connection.quit()
            return
        if len(self._order) >= self._maximum:
            oldest = next(iter(self._order))
            self._remove(oldest)
            oldest.connection.quit()
        key = _key(host)
        self._by_key.setdefault(key, []).append(opened)
        self._order[opened] = key
        opened.connection.rest(seconds, lambda: self._remove(opened))

    def take(self, host: Host) -> Open | None:
        """Take the connection that was used last; None where there is none."""
        waiting = self._by_key.get(_key(host))
        if not waiting:
            return None
        opened = waiting[-1]
        self._remove(opened)
        return opened

    def close(self) -> defer.Deferred[None]:
        """Say QUIT on all; fires when each is answered or its deadline has passed. `put` keeps none from now on."""
        self._closed = True
        waiting = list(self._order)
        for opened in waiting:
            self._remove(opened)
        quitting = [opened.connection.quit() for opened in waiting]
        return defer.DeferredList(quitting).addCallback(lambda _: None)

    def _remove(self, opened: Open) -> None:
        key = self._order.pop(opened)
        waiting = self._by_key[key]
        waiting.remove(opened)
        if not waiting:
            del self._by_key[key]

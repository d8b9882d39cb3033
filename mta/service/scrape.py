"""``/metrics`` over HTTP: what Prometheus scrapes. The parent serves it, and asks all workers each time.

Nobody is asked for a password, so it listens where ``[metrics] listen`` says and nowhere by default. What a stranger
could use up is bounded: so many connections, of which the eldest makes room for a new one, so that nobody holds them
all; a time of silence for each; no content of a request is kept, in memory or in a file; and one question to the
workers at a time, whose answer all who wait for it share.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet import defer, interfaces
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure
from twisted.web import pages, resource, server

from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.observe.tally import merged
from mta.service.clock import within
from mta.service.control import CommandRefused
from mta.service.exposition import CONTENT_TYPE, expose
from mta.settings.values import Endpoint

CONNECTIONS = 20
"""Open at once; one more, and the eldest is closed. Each Prometheus server needs one."""
IDLE_SECONDS = 90.0
"""Seconds of silence after which a connection is closed: longer than usual intervals between scrapes."""
ANSWER_SECONDS = 8.0
"""Seconds in which the workers answer, or the scrape gets 503: Prometheus waits for 10 (``scrape_timeout``)."""

Ask = Callable[[], dict[str, Any] | defer.Deferred[dict[str, Any]]]
"""Asks all workers for ``metrics``; see `mta.service.operator.metrics`."""

_INDEX = b"""<!doctype html><title>mta</title><a href="metrics">metrics</a>\n"""
_LATE = b"the workers did not answer in time; see the log\n"


class Scrapes:
    """The HTTP service."""

    def __init__(self, reactor: Any, ask: Ask, journal: Journal) -> None:
        self._reactor = reactor
        self._journal = journal
        root = _Root()  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        root.putChild(b"", _Index())  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        root.putChild(b"metrics", Metrics(reactor, ask, journal))
        self._site = _Site(root, reactor)
        self._ports: list[interfaces.IListeningPort] = []

    def start(self, listen: Iterable[Endpoint]) -> None:
        """Listen. A port that cannot be had is noted, and mail goes on without: that is what we are here for."""
        for each in listen:
            where: dict[str, Any] = {"service": "metrics", "listen": str(each)}
            try:
                self._ports.append(self._reactor.listenTCP(each.port, self._site, interface=each.host))
            except CannotListenError as error:
                why = Reason(str(error.socketError), "[metrics] listen")
                self._journal.note(Kind.SERVICE_FAILED, why, level=Level.ERROR, **where)
            else:
                self._journal.note(Kind.SERVICE_STARTED, level=Level.NOTICE, **where)

    async def stop(self) -> None:
        """Listen no more; a scrape under way ends with the process."""
        for port in self._ports:
            await defer.maybeDeferred(port.stopListening)


class Metrics(resource.Resource):
    """``/metrics``."""

    isLeaf = True  # noqa: N815  # what twisted.web reads

    def __init__(self, clock: interfaces.IReactorTime, ask: Ask, journal: Journal) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted has not annotated it
        self._clock = clock
        self._ask = ask
        self._journal = journal
        self._asking = False
        self._waiting: list[Any] = []

    def render_GET(self, request: Any) -> int:
        """Answer, once the workers have."""
        self._waiting.append(request)
        request.notifyFinish().addErrback(self._gone, request)
        if not self._asking:
            self._asking = True
            defer.ensureDeferred(self._answer())
        return server.NOT_DONE_YET

    async def _answer(self) -> None:
        page = await self._scrape()
        self._asking = False
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            request.setResponseCode(503 if page is None else 200)
            request.setHeader("Content-Type", "text/plain" if page is None else CONTENT_TYPE)
            request.write(_LATE if page is None else page)
            request.finish()

    async def _scrape(self) -> bytes | None:
        asked: defer.Deferred[dict[str, Any]] = defer.maybeDeferred(self._ask)  # type: ignore[call-overload]  # or now
        page = asked.addCallback(_page).addErrback(self._failed)
        return await page if await within(self._clock, ANSWER_SECONDS, page) else None

    def _failed(self, failure: Failure) -> None:
        assert failure.value is not None, "a Failure holds an exception"
        if not isinstance(failure.value, CommandRefused):
            self._journal.fault("metrics", failure.value)

    def _gone(self, failure: Failure, request: Any) -> None:
        """Forget a client that did not wait."""
        if request in self._waiting:
            self._waiting.remove(request)


def _page(answer: Mapping[str, Any]) -> bytes:
    return expose(merged(answer["workers"].values()))


class _Root(resource.Resource):
    """What is not there is not found; Twisted's own page for that is deprecated."""

    def getChild(self, path: bytes, request: Any) -> Any:
        return pages.notFound()


class _Index(resource.Resource):
    """``/``: for people."""

    isLeaf = True  # noqa: N815  # likewise

    def render_GET(self, request: Any) -> bytes:
        return _INDEX


class _Nowhere(io.BytesIO):
    """A file that keeps nothing."""

    def write(self, octets: Any, /) -> int:
        return len(octets)


class _Site(server.Site):
    """A site that logs nothing, for a scrape every quarter of a minute is no news, and takes so many connections."""

    noisy = False
    displayTracebacks = False  # noqa: N815  # likewise

    def __init__(self, root: resource.Resource, reactor: Any) -> None:
        super().__init__(root, timeout=IDLE_SECONDS, reactor=reactor)  # type: ignore[no-untyped-call]  # likewise
        self._open: dict[Any, Any] = {}

    def buildProtocol(self, addr: Any) -> Any:
        if len(self._open) >= CONNECTIONS:
            eldest = self._open.pop(next(iter(self._open)))
            eldest.abortConnection()
        channel: Any = super().buildProtocol(addr)  # type: ignore[no-untyped-call]  # likewise
        made, lost = channel.makeConnection, channel.connectionLost

        def entered(transport: Any) -> None:
            self._open[channel] = transport
            made(transport)

        def left(reason: Failure) -> None:
            self._open.pop(channel, None)
            lost(reason)

        channel.makeConnection, channel.connectionLost = entered, left
        return channel

    def getContentFile(self, length: int | None) -> io.BytesIO:
        """Where the content of a request goes; Twisted would make a temporary file, as large as the client likes."""
        return _Nowhere()

    def log(self, request: Any) -> None:
        """Nothing."""

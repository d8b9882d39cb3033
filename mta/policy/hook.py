"""A policy that answers over HTTP: facts out, verdicts back, both as JSON (RFC 9110, RFC 8259).

    POST /mta HTTP/1.1
    Content-Type: application/json
    X-Mta-Hook: NAME
    X-Mta-Timestamp: 1795611600
    X-Mta-Signature: sha256=HEX

    {"stage": "mail", "sender": "a@example.net", …}

The body is what `mta.policy.facts_json` writes. The signature is HMAC-SHA256 (RFC 2104) under the shared secret over
timestamp, a dot, and the body: who compares it, and refuses timestamps that are minutes old, knows that we asked.

=============================================  =====================================================================
answer                                         comes to
=============================================  =====================================================================
200 ``{"verdicts": [{"verdict": …}, …]}``      verdicts, in the words of `mta.policy.vocabulary`
204                                            no opinion
any other status, no answer in time, no JSON,  a failure: 451 4.7.1, or nothing but a tag, as ``failure`` says
no sense, more than `ANSWER_MAXIMUM`
=============================================  =====================================================================

Connections are kept for the next question, for less long than servers usually keep theirs. Where one is lost before any
answer, the question is asked once more over another: a server that closes an idle connection may do it at that moment.
So a question may come twice.

An address in the URL is connected to as it is. A host name goes to getaddrinfo(3), on purpose: the host is the
administrator's, and may stand in ``/etc/hosts`` alone. That takes a thread of the reactor's own pool, which nothing
else here uses; the deadline holds all the same.

Knowingly not here: redirects, cookies, compression, HTTP/2. The head of an answer is bounded by its deadline alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from twisted.internet import defer, error, interfaces
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from mta.mail.reason import Reason
from mta.policy import facts_json, verdict_json
from mta.policy.facts import Facts, Stage
from mta.policy.frames import Malformed, value
from mta.policy.refusal import unanswered
from mta.policy.verdict import Answer, Opinion, Tag
from mta.settings.hook import HookSettings

ANSWER_MAXIMUM = 256 * 1024
"""Octets of an answer's body."""
KEPT_SECONDS = 4.0
"""How long an idle connection is kept: usual servers keep theirs for 5 s or longer."""

_OK = 200
_NO_CONTENT = 204
_NO_TIMEOUT = 3600.0
"""Seconds; the deadline of the question always comes first."""

Wall = Callable[[], float]
"""Wall time in seconds since 1970."""


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of ``X-Mta-Signature``."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Hook:
    """One hook, as a policy."""

    def __init__(
        self,
        settings: HookSettings,
        agent: IAgent,
        clock: IReactorTime,
        wall: Wall,
        close: Callable[[], defer.Deferred[Any]] = lambda: defer.succeed(None),
    ) -> None:
        """Take what is injected; `close` ends the connections that are kept."""
        self.name = settings.name
        self.stages = frozenset(map(Stage, settings.stages))
        self._settings = settings
        self._agent = agent
        self._clock = clock
        self._wall = wall
        self._close = close
        self._under_way = 0

    def ask(self, facts: Facts) -> Answer:
        """Ask; the answer may be cancelled."""
        if facts.service not in self._settings.services:
            return None
        if self._under_way >= self._settings.questions:
            return self._failed(facts.stage, f"{self._under_way} questions are under way")
        return defer.Deferred.fromCoroutine(self._ask(facts))

    def stop(self) -> defer.Deferred[Any]:
        """Close the connections that are kept."""
        return self._close()

    async def _ask(self, facts: Facts) -> Opinion:
        body = json.dumps(facts_json.write(facts, self._settings.body_maximum)).encode()
        deadline = self._settings.deadline
        exchange = defer.Deferred.fromCoroutine(self._exchange(body))
        timer = self._clock.callLater(deadline, exchange.cancel)
        self._under_way += 1
        try:
            status, octets = await exchange
        except Exception as failure:
            # Whatever became of the connection, Twisted has many words for it; a bug here would be told likewise
            late = not timer.active()
            return self._failed(facts.stage, f"no answer in {deadline:g} s" if late else _described(failure))
        finally:
            self._under_way -= 1
            if timer.active():
                timer.cancel()
        return self._read(facts.stage, status, octets)

    async def _exchange(self, body: bytes) -> tuple[int, bytes]:
        try:
            response = await self._post(body)
        except (RequestTransmissionFailed, ResponseNeverReceived) as failure:
            if not _closed(failure):
                raise
            response = await self._post(body)
        return response.code, await _body(response)

    def _post(self, body: bytes) -> defer.Deferred[IResponse]:
        timestamp = str(int(self._wall()))
        headers = {"Content-Type": "application/json", "X-Mta-Hook": self.name, "X-Mta-Timestamp": timestamp}
        if self._settings.secret:
            headers["X-Mta-Signature"] = signature(self._settings.secret, timestamp, body)
        fields = Headers({name: [text] for name, text in headers.items()})
        asked: defer.Deferred[IResponse] = self._agent.request(
            b"POST", self._settings.url.encode(), fields, _Whole(body)
        )
        return asked

    def _read(self, stage: Stage, status: int, octets: bytes) -> Opinion:
        if status == _NO_CONTENT:
            return None
        if status != _OK:
            return self._failed(stage, f"answered with status {status}")
        try:
            answer = value(octets)
            if not isinstance(answer, dict):
                raise ValueError("no object")
            return verdict_json.read(answer.get("verdicts"), stage, lambda _: self._settings.source)
        except (Malformed, ValueError) as failure:
            return self._failed(stage, f"an answer that makes no sense: {failure}")

    def _failed(self, stage: Stage, why: str) -> Opinion:
        reason = Reason(f"{self.name}: {why}", self._settings.source)
        if self._settings.failure == "accept":
            return Tag(reason, f"{self.name}-failed")
        return unanswered(stage, reason)


def make_hook(settings: HookSettings, reactor: Any, wall: Wall) -> Hook:
    """Make a hook with connections of its own."""
    new_pool: Any = HTTPConnectionPool
    pool = new_pool(reactor)
    pool.maxPersistentPerHost = settings.questions
    pool.cachedConnectionTimeout = KEPT_SECONDS
    new_agent: Any = Agent.usingEndpointFactory
    agent = new_agent(reactor, _Endpoints(reactor, settings), pool)
    return Hook(settings, agent, reactor, wall, pool.closeCachedConnections)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """Where to connect to: an address as it is, a host name by getaddrinfo(3)."""

    def __init__(self, reactor: Any, settings: HookSettings) -> None:
        self._reactor = reactor
        trust_root: Any = trustRootFromCertificates
        https_policy: Any = BrowserLikePolicyForHTTPS
        trusted = None
        if settings.certificates:
            found = load_pem_x509_certificates(settings.certificates.encode())
            trusted = trust_root([Certificate.loadPEM(each.public_bytes(Encoding.PEM)) for each in found])
        self._tls = https_policy(trusted)

    def endpointForURI(self, uri: Any) -> interfaces.IStreamClientEndpoint:
        """Called by the Agent."""
        host: str = uri.host.decode("ascii")
        kind: Any = HostnameEndpoint
        if ":" in host:
            kind = TCP6ClientEndpoint
        elif host.replace(".", "").isdigit():
            kind = TCP4ClientEndpoint
        endpoint: interfaces.IStreamClientEndpoint = kind(self._reactor, host, uri.port, timeout=_NO_TIMEOUT)
        if uri.scheme == b"https":
            endpoint = _Secured(endpoint, self._tls.creatorForNetloc(uri.host, uri.port), self._reactor)
        return endpoint


@implementer(interfaces.IStreamClientEndpoint)
class _Secured:
    """TLS over another endpoint. (`wrapClientTLS` is given a clock by newer versions of Twisted only.)"""

    def __init__(self, below: interfaces.IStreamClientEndpoint, creator: Any, clock: IReactorTime) -> None:
        self._below = below
        self._creator = creator
        self._clock = clock

    def connect(self, factory: Any) -> defer.Deferred[Any]:
        """Connect; the handshake goes on while the first octets wait."""
        new_factory: Any = TLSMemoryBIOFactory
        connected: defer.Deferred[Any] = self._below.connect(new_factory(self._creator, True, factory, self._clock))
        return connected.addCallback(lambda protocol: protocol.wrappedProtocol)


@implementer(IBodyProducer)
class _Whole:
    """A body in memory."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.length = len(octets)

    def startProducing(self, consumer: interfaces.IConsumer) -> defer.Deferred[None]:
        """Write all of it."""
        consumer.write(self._octets)
        return defer.succeed(None)

    def pauseProducing(self) -> None:
        """It has all been written."""

    def resumeProducing(self) -> None:
        """It has all been written."""

    def stopProducing(self) -> None:
        """It has all been written."""


class _Body(Protocol):
    """Gathers the body of an answer, up to its bound."""

    def __init__(self) -> None:
        self.whole: defer.Deferred[bytes] = defer.Deferred(lambda _: self._close())
        self._octets = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """Take a piece."""
        if self.whole.called:
            return
        self._octets += data
        if len(self._octets) > ANSWER_MAXIMUM:
            self._close()
            self.whole.errback(ValueError(f"more than {ANSWER_MAXIMUM:,} octets"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The answer is whole, or it never will be."""
        if self.whole.called:
            return
        # Without a length the end of the connection is the end of the answer; JSON tells whether it was
        if isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self.whole.callback(bytes(self._octets))
        else:
            self.whole.errback(reason)

    def _close(self) -> None:
        transport: Any = self.transport
        transport.loseConnection()


def _body(response: Any) -> defer.Deferred[bytes]:
    gathering = _Body()
    response.deliverBody(gathering)
    return gathering.whole


def _closed(failure: BaseException) -> bool:
    """Whether the connection was closed before any answer."""
    closed = error.ConnectionDone | error.ConnectionLost
    return any(isinstance(getattr(each, "value", each), closed) for each in getattr(failure, "reasons", ()))


def _described(failure: BaseException) -> str:
    """Say what became of a connection; Twisted wraps what matters."""
    reasons = getattr(failure, "reasons", ())
    if reasons:
        return _described(getattr(reasons[-1], "value", reasons[-1]))
    return " ".join(str(failure).split())[:200].rstrip(".") or type(failure).__name__

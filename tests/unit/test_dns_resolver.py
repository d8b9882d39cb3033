"""`mta.dns.resolver`: cache before transport, equal questions share an answer, bounds hold."""

from __future__ import annotations

import dns.name
import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from mta.dns.answer import Answer, Failure, Found, NoData, NoSuchName, RecordType, presented
from mta.dns.cache import Cache
from mta.dns.resolver import Resolver, ResolverLimits, StubResolver, nameservers, together
from mta.dns.wire import CHAIN_MAXIMUM, Alias
from mta.settings.values import Endpoint
from tests.doubles.dns import ZoneResolver
from tests.doubles.sync import failure, result

A = RecordType.A
FOUND = Found("example.net", ("192.0.2.1",), 300, True, "s")


class _Transport:
    """Holds questions until the test answers them."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, RecordType]] = []
        self.waiting: list[defer.Deferred[Answer | Alias]] = []
        self.cancelled = 0

    async def ask(self, name: str, rdtype: RecordType) -> Answer | Alias:
        self.asked.append((name, rdtype))
        waiting: defer.Deferred[Answer | Alias] = defer.Deferred(self._cancel)
        self.waiting.append(waiting)
        return await waiting

    def _cancel(self, waiting: defer.Deferred[Answer | Alias]) -> None:
        self.cancelled += 1


def bench(asked: int = 10, waiting: int = 10) -> tuple[StubResolver, _Transport, Clock]:
    """Make a resolver with its doubles."""
    clock, transport = Clock(), _Transport()
    return StubResolver(transport, Cache(clock.seconds), ResolverLimits(asked, waiting)), transport, clock


def test_answer_is_cached() -> None:
    """A second question is answered from the cache until the TTL ends; case and final dot make no difference."""
    resolver, transport, clock = bench()
    asking = resolver.query("Example.NET.", A)
    transport.waiting[0].callback(FOUND)
    assert result(asking) == FOUND
    assert result(resolver.query("example.net", A)) == FOUND
    assert transport.asked == [("example.net", A)]
    clock.advance(300)
    resolver.query("example.net", A)
    assert len(transport.asked) == 2


@pytest.mark.parametrize(
    "answer", [Failure("SERVFAIL", "s"), NoData("x", 60, False, "s"), NoSuchName("x", 60, False, "s")]
)
def test_bad_news_is_cached(answer: Answer) -> None:
    """Failures and negative answers are remembered too."""
    resolver, transport, _ = bench()
    asking = resolver.query("x", A)
    transport.waiting[0].callback(answer)
    assert result(asking) == answer
    assert result(resolver.query("x", A)) == answer
    assert len(transport.asked) == 1


def test_equal_questions_share() -> None:
    """Equal questions under way are asked once; another type is another question."""
    resolver, transport, _ = bench()
    first, second = resolver.query("example.net", A), resolver.query("EXAMPLE.net", A)
    resolver.query("example.net", RecordType.MX)
    assert transport.asked == [("example.net", A), ("example.net", RecordType.MX)]
    transport.waiting[0].callback(FOUND)
    assert (result(first), result(second)) == (FOUND, FOUND)


def test_one_of_two_gives_up() -> None:
    """Who cancels leaves the question to the others; when the last one goes, it is cancelled."""
    resolver, transport, _ = bench()
    first, second = resolver.query("example.net", A), resolver.query("example.net", A)
    first.cancel()
    assert isinstance(failure(first), defer.CancelledError)
    assert transport.cancelled == 0
    transport.waiting[0].callback(FOUND)
    assert result(second) == FOUND
    third, fourth = resolver.query("other", A), resolver.query("other", A)
    third.cancel()
    fourth.cancel()
    assert transport.cancelled == 1
    failure(third), failure(fourth)


def test_asked_again_after_cancel() -> None:
    """A cancelled question leaves nothing: it is asked afresh."""
    resolver, transport, _ = bench(asked=1)
    gone = resolver.query("example.net", A)
    gone.cancel()
    failure(gone)
    again = resolver.query("example.net", A)
    assert len(transport.asked) == 2
    transport.waiting[1].callback(FOUND)
    assert result(again) == FOUND


def test_waiter_cancels_another() -> None:
    """One waiter may cancel another from its callback."""
    resolver, transport, _ = bench()
    first, second = resolver.query("example.net", A), resolver.query("example.net", A)
    first.addCallback(lambda _: second.cancel())
    transport.waiting[0].callback(FOUND)
    assert isinstance(failure(second), defer.CancelledError)


def test_bound_on_questions() -> None:
    """More questions than may be asked at once wait; more than may wait fail at once; a wait can be cancelled."""
    resolver, transport, _ = bench(asked=1, waiting=2)
    asking = [resolver.query(name, A) for name in ("a", "b", "c", "d")]
    assert transport.asked == [("a", A)]
    refused = result(asking[3])
    assert isinstance(refused, Failure)
    assert "3 questions" in refused.text
    asking[1].cancel()
    failure(asking[1])
    transport.waiting[0].callback(FOUND)
    assert transport.asked == [("a", A), ("c", A)]


def test_alias_is_followed() -> None:
    """A CNAME without its target's records is followed by a question; TTL and AD are those of the weakest link."""
    resolver, transport, _ = bench()
    asking = resolver.query("www.example.net", A)
    transport.waiting[0].callback(Alias("example.net", 20, True))
    assert transport.asked[1] == ("example.net", A)
    transport.waiting[1].callback(FOUND)
    assert result(asking) == Found("example.net", ("192.0.2.1",), 20, True, "s")
    asking = resolver.query("web.example.net", A)
    transport.waiting[2].callback(Alias("example.net", 900, False))
    transport.waiting[3].callback(FOUND)
    assert result(asking) == Found("example.net", ("192.0.2.1",), 300, False, "s")


def test_alias_to_a_failure() -> None:
    """A failure behind an alias is a failure."""
    resolver, transport, _ = bench()
    asking = resolver.query("www.example.net", A)
    transport.waiting[0].callback(Alias("example.net", 20, True))
    transport.waiting[1].callback(Failure("SERVFAIL", "s"))
    assert result(asking) == Failure("SERVFAIL", "s")


def test_aliases_are_bounded() -> None:
    """An endless row of aliases ends as a failure."""
    resolver, transport, _ = bench()
    asking = resolver.query("n0", A)
    for number in range(CHAIN_MAXIMUM + 1):
        transport.waiting[number].callback(Alias(f"n{number + 1}", 20, True))
    assert isinstance(result(asking), Failure)
    assert len(transport.asked) == CHAIN_MAXIMUM + 1


def test_no_name() -> None:
    """What cannot be a name does not exist."""

    class Refusing:
        async def ask(self, name: str, rdtype: RecordType) -> Answer | Alias:
            raise ValueError(name)

    resolver = StubResolver(Refusing(), Cache(Clock().seconds))
    assert result(resolver.query("a..b", A)) == NoSuchName("a..b", 0, False, "RFC 1035 §2.3.4")


def test_bug() -> None:
    """A bug below reaches who asked, and is not remembered."""
    resolver, transport, _ = bench()
    asking = resolver.query("example.net", A)
    transport.waiting[0].errback(ZeroDivisionError())
    assert isinstance(failure(asking), ZeroDivisionError)
    resolver.query("example.net", A)
    assert len(transport.asked) == 2


def test_together() -> None:
    """Questions are asked at once and answered in any order; at the end those under way are cancelled, silently."""
    resolver, transport, _ = bench()
    with together(resolver, ["a.example", "b.example", "c.example"], A) as questions:
        assert transport.asked == [("a.example", A), ("b.example", A), ("c.example", A)]
        transport.waiting[1].callback(FOUND)
        assert [name for name, question in questions if question.called] == ["b.example"]
    assert transport.cancelled == 2
    assert [result(question) for _, question in questions] == [None, FOUND, None]


def test_together_and_an_exception() -> None:
    """An exception cancels the questions too."""
    resolver, transport, _ = bench()
    with pytest.raises(KeyError), together(resolver, ["a.example"], A):
        raise KeyError
    assert transport.cancelled == 1


def test_together_and_a_bug() -> None:
    """A question that failed for a bug of ours keeps its failure, for the log."""
    resolver, transport, _ = bench()
    with together(resolver, ["a.example"], A) as questions:
        transport.waiting[0].errback(KeyError())
    assert isinstance(failure(questions[0][1]), KeyError)


def test_presented() -> None:
    """Any ASCII name is escaped as dnspython writes it, and is the same name when it is read again."""
    octets = bytes(octet for octet in range(128) if octet != ord("."))
    for label in (octets[:60], octets[60:120], octets[120:]):
        name = presented(f"{label.decode()}.example")
        assert name == dns.name.Name([label, b"example"]).to_text()
        assert dns.name.from_text(name, origin=None).labels == (label, b"example")


def test_resolv_conf() -> None:
    """Name servers are read from a resolv.conf(5): three at most, what is no address is passed over."""
    text = "# nameserver 1\nsearch example.net\nnameserver 192.0.2.53 # x\nnameserver nonsense\nnameserver\n"
    text += "nameserver 2001:DB8:0::53\noptions edns0\nnameserver 192.0.2.54\nnameserver 192.0.2.55\n"
    assert nameservers(text) == (Endpoint("192.0.2.53", 53), Endpoint("2001:db8::53", 53), Endpoint("192.0.2.54", 53))
    assert nameservers("") == (Endpoint("127.0.0.1", 53),)


def test_double_is_a_resolver() -> None:
    """The double fits the port."""
    resolver: Resolver = ZoneResolver("example.net 7 A 192.0.2.1")
    assert result(resolver.query("example.net", A)) == Found("example.net", ("192.0.2.1",), 7, False, "zone")

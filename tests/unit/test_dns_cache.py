"""`mta.dns.cache`: answers are kept as long as they may be believed, and no more of them than allowed."""

from __future__ import annotations

import dataclasses

import pytest
from twisted.internet.task import Clock

from mta.dns.answer import Answer, Failure, Found, Mx, NoData, NoSuchName, RecordType
from mta.dns.cache import Cache, CacheLimits

KEY = ("example.net", RecordType.A)


def found(ttl: int = 300, *records: str) -> Found:
    """Make an answer."""
    return Found("example.net", records or ("192.0.2.1",), ttl, False, "s")


def test_ttl_runs_down() -> None:
    """A cached answer says how long it may still be believed, and is gone at the end."""
    clock = Clock()
    cache = Cache(clock.seconds)
    cache.put(KEY, found(300))
    clock.advance(100)
    assert cache.get(KEY) == found(200)
    clock.advance(200)
    assert cache.get(KEY) is None
    assert len(cache) == 0


def test_unknown() -> None:
    """Another name and another type are other questions."""
    cache = Cache(Clock().seconds)
    cache.put(KEY, found())
    assert cache.get(("example.org", RecordType.A)) is None
    assert cache.get(("example.net", RecordType.MX)) is None


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (found(0), 5),
        (found(4), 5),
        (found(6), 6),
        (found(1_000_000), 86_400),
        (NoData("example.net", 60, False, "s"), 60),
        (NoData("example.net", 86_400, False, "s"), 3600),
        (NoSuchName("example.net", 0, False, "s"), 5),
        (NoSuchName("example.net", 86_400, False, "s"), 3600),
        (Failure("SERVFAIL", "s"), 5),
    ],
)
def test_life(answer: Answer, seconds: int) -> None:
    """A TTL is kept between floor and ceiling, a negative one below an hour, a failure for five seconds."""
    clock = Clock()
    cache = Cache(clock.seconds)
    cache.put(KEY, answer)
    clock.advance(seconds - 0.5)
    assert cache.get(KEY) is not None
    clock.advance(0.5)
    assert cache.get(KEY) is None


def test_floor_does_not_lengthen_the_ttl_told() -> None:
    """An answer kept by the floor never claims more than its own TTL."""
    cache = Cache(Clock().seconds)
    cache.put(KEY, found(1))
    assert cache.get(KEY) == found(1)


def test_least_recently_used_goes_first() -> None:
    """At the bound the entry that was asked for longest ago makes room."""
    cache = Cache(Clock().seconds, CacheLimits(entries=2))
    keys = [(name, RecordType.A) for name in ("a", "b", "c")]
    cache.put(keys[0], found())
    cache.put(keys[1], found())
    cache.get(keys[0])
    cache.put(keys[2], found())
    assert [cache.get(key) is not None for key in keys] == [True, False, True]
    assert len(cache) == 2


def test_put_again_replaces() -> None:
    """A newer answer takes the place of the older and pushes nobody out."""
    cache = Cache(Clock().seconds, CacheLimits(entries=2))
    cache.put(("other", RecordType.A), found())
    cache.put(KEY, found())
    cache.put(KEY, found(300, "192.0.2.9"))
    assert cache.get(KEY) == found(300, "192.0.2.9")
    assert cache.get(("other", RecordType.A)) is not None


def test_large_answers_are_not_kept() -> None:
    """An answer over the bound in octets is not kept, and the older one neither."""
    cache = Cache(Clock().seconds, CacheLimits(octets=20))
    cache.put(KEY, found())
    cache.put(KEY, dataclasses.replace(found(), records=(b"x" * 21,)))
    assert cache.get(KEY) is None
    cache.put(KEY, dataclasses.replace(found(), records=(Mx(10, "x" * 20),)))
    assert cache.get(KEY) is not None

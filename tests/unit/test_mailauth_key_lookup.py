"""Tests of `mta.mailauth.key_lookup`."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from twisted.internet import defer

from mta.mailauth.algorithm import Algorithm
from mta.mailauth.key import Key, KeyFault
from mta.mailauth.key_lookup import KEYS_AT_ONCE, KeyLookup, KeyName
from mta.mailauth.result import DkimResult
from tests.doubles.dkim import ED25519_KEY, record
from tests.doubles.dns import Zone, ZoneResolver
from tests.doubles.sync import failure, result

ED25519 = Algorithm.ED25519_SHA256


def name(number: int) -> KeyName:
    """The name of a key."""
    return f"s{number}", "example.org", ED25519


def asking(numbers: Iterable[int], silent: bool = False) -> tuple[KeyLookup, ZoneResolver]:
    """Begin to ask for keys, that are there or never come."""
    zone = Zone()
    for number in numbers:
        zone.add(f"s{number}._domainkey.example.org", "TXT", "!SILENT" if silent else record(ED25519_KEY))
    resolver = ZoneResolver(zone)
    return KeyLookup(resolver, map(name, numbers)), resolver


def got(lookup: KeyLookup, number: int) -> Key | KeyFault:
    """A key that is there."""
    return result(defer.Deferred.fromCoroutine(lookup.get(name(number))))


def test_keys_are_asked_for_ahead() -> None:
    """Some are asked for at once, in order, and one more for each that is used."""
    lookup, resolver = asking(range(KEYS_AT_ONCE + 3))
    assert [asked[:3] for asked, _ in resolver.asked] == [f"s{number}."[:3] for number in range(KEYS_AT_ONCE)]
    for used in range(KEYS_AT_ONCE + 3):
        assert isinstance(got(lookup, used), Key)
        assert len(resolver.asked) == min(KEYS_AT_ONCE + used + 1, KEYS_AT_ONCE + 3)


def test_equal_keys() -> None:
    """A key that is wanted more than once is asked for once, and there as often as it is wanted."""
    lookup, resolver = asking([1, 2, 1, 1, 2])
    assert got(lookup, 1) is got(lookup, 1)
    assert isinstance(got(lookup, 2), Key)
    assert len(resolver.asked) == 2


def test_same_name_for_two_algorithms() -> None:
    """A key for another algorithm is another key."""
    zone = Zone()
    zone.add("s._domainkey.example.org", "TXT", record(ED25519_KEY))
    wanted = [("s", "example.org", algorithm) for algorithm in Algorithm]
    lookup = KeyLookup(ZoneResolver(zone), wanted)
    keys = [result(defer.Deferred.fromCoroutine(lookup.get(each))) for each in wanted]
    assert [type(key) for key in keys] == [KeyFault, Key]


@pytest.mark.parametrize("waiting", [True, False])
def test_end_of_waiting(waiting: bool) -> None:
    """Who waits when the lookup ends gets a temperror, so does who asks later, and no question is left or begun."""
    lookup, resolver = asking(range(KEYS_AT_ONCE + 3), silent=True)
    first = defer.Deferred.fromCoroutine(lookup.get(name(0))) if waiting else None
    lookup.cancel()
    if first is not None:
        fault = result(first)
        assert isinstance(fault, KeyFault)
        assert fault.reason.text == "no key: no answer in time about s0._domainkey.example.org"
    for number in range(KEYS_AT_ONCE + 3):
        fault = got(lookup, number)
        assert isinstance(fault, KeyFault)
        assert fault.result is DkimResult.TEMPERROR
    assert len(resolver.asked) == KEYS_AT_ONCE
    assert all(each.called for each in resolver.silent)


def test_cancelled_get() -> None:
    """Who cancels `get` gets CancelledError, not a key."""
    lookup, _ = asking([1], silent=True)
    waiting = defer.Deferred.fromCoroutine(lookup.get(name(1)))
    waiting.cancel()
    assert isinstance(failure(waiting), defer.CancelledError)

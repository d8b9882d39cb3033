"""`mta.mailauth.spf` on the test suite that the authors of RFC 7208 keep: every case of every scenario."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import dns.name
import pytest
import yaml
from twisted.internet import defer
from twisted.internet.task import Clock

from mta.dns.answer import Answer, Failure, Found, Mx, NoData, NoSuchName, Record, RecordType, normal
from mta.mailauth.spf import SpfChecker
from mta.smtp.address import Mailbox
from tests.doubles.sync import result
from tests.vectors import ROOT, vectors

SUITE = "spf/rfc7208-tests.yml"
CASES = 203
SOURCE = "suite"
TIMEOUT = "TIMEOUT"
CNAMES_MAXIMUM = 8


class SuiteResolver:
    """A `mta.dns.resolver.Resolver` over the ``zonedata`` of a scenario.

    As the suite wants of its drivers: records of type SPF stand for TXT where a name has no TXT of its own (``NONE``
    is one, and says that there is none), and a name with TIMEOUT answers for the types that are given with it alone.
    """

    def __init__(self, zone: dict[str, list[Any]]) -> None:
        self._zone: dict[dns.name.Name, list[tuple[str, Any]]] = {}
        for name, entries in zone.items():
            records = [(entry, None) if entry == TIMEOUT else next(iter(entry.items())) for entry in entries]
            if not any(kind == "TXT" for kind, _ in records):
                records = [("TXT" if kind == "SPF" else kind, data) for kind, data in records]
            self._zone[dns.name.from_text(name)] = [
                (kind, data) for kind, data in records if kind != "SPF" and data != "NONE"
            ]

    def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Answer]:
        """Answer at once."""
        return defer.succeed(self._answer(name, rdtype))

    def _answer(self, name: str, rdtype: RecordType) -> Answer:
        at = dns.name.from_text(name)
        for _ in range(CNAMES_MAXIMUM):
            here = self._zone.get(at, [])
            found = tuple(_record(data, rdtype) for kind, data in here if kind == rdtype.name)
            if found:
                return Found(normal(str(at)), found, 300, False, SOURCE)
            if (TIMEOUT, None) in here:
                return Failure(f"{rdtype.name} of {name}: {TIMEOUT}", SOURCE)
            aliases = [data for kind, data in here if kind == "CNAME"]
            if not aliases:
                exists = any(known.is_subdomain(at) for known in self._zone)
                return (NoData if exists else NoSuchName)(normal(str(at)), 300, False, SOURCE)
            at = dns.name.from_text(aliases[0])
        return Failure(f"{rdtype.name} of {name}: a loop of CNAME records", SOURCE)


def _record(data: Any, rdtype: RecordType) -> Record:
    if rdtype is RecordType.TXT:
        strings = data if isinstance(data, list) else [data]
        return "".join(strings).encode("iso-8859-1")
    if rdtype is RecordType.MX:
        return Mx(data[0], normal(data[1]))
    return normal(data)


@functools.cache
def scenarios() -> list[dict[str, Any]]:
    """Read the suite."""
    with vectors(SUITE).open(encoding="utf-8") as file:
        return [scenario for scenario in yaml.safe_load_all(file) if scenario]


def cases() -> list[Any]:
    """Give each case as a parameter; none where the suite is missing, which `test_all_cases_are_there` tells."""
    return [
        pytest.param(number, name, id=f"{scenario['description']}: {name}".replace(" ", "-"))
        for number, scenario in enumerate(scenarios() if (ROOT / SUITE).exists() else ())
        for name in scenario["tests"]
    ]


def allowed(value: Any) -> Iterable[str]:
    """Results that pass."""
    return value if isinstance(value, list) else [value]


def test_all_cases_are_there() -> None:
    """The suite is the one of 2014.04, with all its cases."""
    assert sum(len(scenario["tests"]) for scenario in scenarios()) == CASES


@pytest.mark.parametrize(("number", "name"), cases())
def test_case(number: int, name: str) -> None:
    """The result is one that the suite allows, and so is the explanation, of which DEFAULT is none."""
    scenario = scenarios()[number]
    case = scenario["tests"][name]
    checker = SpfChecker(SuiteResolver(scenario["zonedata"]), Clock(), lambda: 0.0, "mx.example.org")
    local_part, _, domain = case["mailfrom"].rpartition("@")
    sender = Mailbox(local_part, domain.lower()) if case["mailfrom"] else None
    spf = result(defer.Deferred.fromCoroutine(checker.mail_from(case["host"], sender, case["helo"])))
    assert spf.result.value in allowed(case["result"]), spf
    if "explanation" in case:
        expected = case["explanation"]
        assert spf.explanation == ("" if expected == "DEFAULT" else expected)

"""Names as data: a zone with failures in it, and a resolver that answers from it.

A zone is text, one record a line, ``name [ttl] type data``, with ``;`` before comments; data of TXT may be strings in
quotes::

    example.net             MX    10 mx1.example.net
    mx1.example.net   300   A     192.0.2.1
    alias.example.net       CNAME example.net
    slow.example.net        ANY   !SILENT       ; no answer
    sick.example.net        AAAA  !SERVFAIL     ; for one type

Data that begins with ``!`` is a fault: ``!SILENT``, or the name of an rcode; `tests.doubles.dns_server` knows more.
A name that is neither there nor above another does not exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from twisted.internet import defer

from mta.dns.answer import Answer, Failure, Found, Mx, NoData, NoSuchName, Record, RecordType, normal

TTL = 300
SOURCE = "zone"

_STRING = re.compile(r'"([^"]*)"')
_COMMENT = re.compile(r';(?=(?:[^"]*"[^"]*")*[^"]*$).*')


@dataclass(frozen=True)
class Looked:
    """What a zone holds for a question: the CNAME chain walked, then records, a fault, or nothing."""

    chain: tuple[str, ...]
    """The name asked for, then each target; the last one is the canonical name."""
    records: tuple[str, ...] = ()
    ttl: int = TTL
    fault: str = ""
    exists: bool = True


@dataclass
class Zone:
    """Records by name and type, as text."""

    names: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    ttls: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Zone:
        """Read the text form."""
        zone = cls()
        for line in text.splitlines():
            words = _COMMENT.sub("", line).split(maxsplit=2)
            if not words:
                continue
            name, second, rest = words
            if second.isdigit():
                kind, data = rest.split(maxsplit=1)
                zone.add(name, kind, data, int(second))
            else:
                zone.add(name, second, rest)
        return zone

    def add(self, name: str, kind: str, data: str, ttl: int = TTL) -> None:
        """Add a record or a fault."""
        self.names.setdefault(normal(name), {}).setdefault(kind, []).append(data.strip())
        self.ttls[normal(name), kind] = ttl

    def look_up(self, name: str, kind: str) -> Looked:
        """Answer a question as a recursive server would."""
        chain = [normal(name)]
        while True:
            here = self.names.get(chain[-1], {})
            fault = here.get(kind, here.get("ANY", [""]))[0]
            if fault.startswith("!"):
                return Looked(tuple(chain), fault=fault[1:])
            if kind in here:
                return Looked(tuple(chain), tuple(here[kind]), self.ttls[chain[-1], kind])
            if "CNAME" not in here or len(chain) > 20:
                exists = any(known == chain[-1] or known.endswith("." + chain[-1]) for known in self.names)
                return Looked(tuple(chain), exists=exists)
            chain.append(normal(here["CNAME"][0]))


class ZoneResolver:
    """A `mta.dns.resolver.Resolver` over a zone; `asked` records the questions.

    A silent name never answers: `silent` holds its Deferreds.
    """

    def __init__(self, zone: Zone | str) -> None:
        self.zone = Zone.parse(zone) if isinstance(zone, str) else zone
        self.asked: list[tuple[str, RecordType]] = []
        self.silent: list[defer.Deferred[Answer]] = []

    def query(self, name: str, rdtype: RecordType) -> defer.Deferred[Answer]:
        """Answer at once, or never."""
        self.asked.append((name, rdtype))
        looked = self.zone.look_up(name, rdtype.name)
        if looked.fault == "SILENT":
            waiting: defer.Deferred[Answer] = defer.Deferred()
            self.silent.append(waiting)
            return waiting
        return defer.succeed(_answer(looked, rdtype))


def _answer(looked: Looked, rdtype: RecordType) -> Answer:
    canonical = looked.chain[-1]
    if looked.fault:
        return Failure(f"{rdtype.name} of {looked.chain[0]}: {looked.fault}", SOURCE)
    if looked.records:
        records = tuple(_record(text, rdtype) for text in looked.records)
        return Found(canonical, records, looked.ttl, False, SOURCE)
    return (NoData if looked.exists else NoSuchName)(canonical, looked.ttl, False, SOURCE)


def _record(text: str, rdtype: RecordType) -> Record:
    if rdtype is RecordType.MX:
        preference, exchange = text.split()
        return Mx(int(preference), normal(exchange))
    if rdtype is RecordType.TXT:
        return b"".join(string.encode() for string in _STRING.findall(text)) if '"' in text else text.encode()
    return normal(text)

"""What an explanation says is what happens: random configurations and letters, brought to a whole worker in memory.

Each case has a configuration, names, what was brought before, and a letter. It is explained first and brought then: a
trace that the explanation left would change what the client gets. `KINDS` says, for each kind of rule, how a case is
made in which it is likely to decide; what really decided is read from the explanation and counted.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.doubles.rehearsal import BASE, USERS, World, directory, expected

CASES_EACH = 15
"""Cases made for each kind; some are decided by others."""
SEVERAL = 100
"""Cases in which several kinds of rules meet."""
LEAST = 10
"""Cases that each kind of rule has to decide."""

ZONE = """\
remote.test          MX    10 mx1.remote.test
remote.test          MX    20 mx2.remote.test
mx1.remote.test      A     198.51.100.10
mx2.remote.test      A     198.51.100.11
client.remote.test   A     192.0.2.7
implicit.test        A     198.51.100.30
null.test            MX    0 .
nohost.test          MX    10 gone.nohost.test
empty.test           TXT   "nothing here"
sick.test            ANY   !SERVFAIL
loop.test            MX    10 mx.example.test
static.test          MX    10 mx1.remote.test
host.static.test     A     198.51.100.40
smart.test           A     198.51.100.50
"""
SINKS = ["198.51.100.10", "198.51.100.11", "198.51.100.30", "198.51.100.40", "198.51.100.50"]
ALIASES = """\
postmaster: alice
sales: alice
team: alice, bob
all: team, carol, friend@remote.test
outside: friend@remote.test
far: friend@null.test
"""
LOCAL = ["alice@example.test", "bob@example.test", "ALICE@Example.Test", "carol@example.test"]
ALIASED = ["sales@example.test", "team@example.test", "all@example.test", "outside@example.test", "postmaster"]
UNKNOWN = ["nobody@example.test", "alicia@example.test", "list+bob@example.test"]
ELSEWHERE = ["friend@remote.test", "other@implicit.test"]
NOWHERE = ["x@null.test", "x@nohost.test", "x@empty.test", "x@gone.invalid", "x@loop.test"]
SENDERS = ["sender@remote.test", "news@implicit.test", "", "someone@far.invalid"]
ADDRESSES = ["192.0.2.7", "203.0.113.9", "198.51.100.200"]

Letter = dict[str, Any]


@dataclass
class Case:
    """One configuration and one letter."""

    chance: random.Random
    tables: dict[str, list[str]] = field(default_factory=dict)
    arrays: list[str] = field(default_factory=list)
    zone: list[str] = field(default_factory=list)
    users: str = USERS
    aliases: str = ALIASES
    catch_all: bool = False
    domain: str = ""
    scripts: dict[str, str] = field(default_factory=dict)
    before: list[Letter] = field(default_factory=list)
    """What is brought first."""
    pause: float = 0.0
    """Seconds that pass after that."""
    letter: Letter = field(default_factory=dict)
    head: list[str] = field(default_factory=list)
    body: str = "Hello.\r\n"

    def put(self, table: str, *lines: str) -> None:
        """Add lines to a table; a key that is there stays as it is."""
        present = self.tables.setdefault(table, [])
        known = {line.partition(" =")[0] for line in present}
        present += [line for line in lines if line.partition(" =")[0] not in known]

    def add(self, array: str, *lines: str) -> None:
        """Add a table to an array."""
        self.arrays.append("\n".join([f"[[{array}]]", *lines]))

    def one(self, of: list[Any]) -> Any:
        """Choose."""
        return self.chance.choice(of)

    def toml(self, root: object) -> str:
        """Write ``mta.toml``."""
        tables = ["\n".join([f"[{name}]", *lines]) for name, lines in self.tables.items()]
        return "\n".join([BASE.format(root=root), *tables, *self.arrays]) + "\n"

    def domains(self) -> dict[str, dict[str, str]]:
        """Write the domains."""
        domains = {"example.test": {"users": self.users, "aliases": self.aliases, "domain.toml": self.domain}}
        if self.catch_all:
            aliases = "postmaster: bob@example.test, dave\n*: " + self.one(["dave", "bob@example.test, dave"]) + "\n"
            domains["catch.test"] = {"users": "dave:!::::::\n", "aliases": aliases}
        return domains

    def content(self) -> bytes:
        """Write the message."""
        sender = self.letter["sender"] or "sender@remote.test"
        named = {line.partition(":")[0] for line in self.head}
        head = [*self.head, *([f"From: {sender}"] if "From" not in named else [])]
        head += [] if "Subject" in named else ["Subject: Hello"]
        return "\r\n".join([*head, "", self.body]).encode()

    def mx(self, **more: Any) -> None:
        """Bring a letter to mx."""
        self.letter = {
            "service": "mx",
            "address": self.one(ADDRESSES),
            "helo": "client.remote.test",
            "sender": self.one(SENDERS),
            "recipients": self.chance.sample([*LOCAL, *ALIASED, *UNKNOWN], self.chance.randint(1, 3)),
            "tls": self.one([None, False]),
            "sized": self.chance.random() < 0.8,
        } | more

    def smtpd(self, **more: Any) -> None:
        """Submit a letter."""
        recipients = [*LOCAL, *ALIASED, *ELSEWHERE]
        self.letter = {
            "service": "smtpd",
            "address": self.one(ADDRESSES),
            "helo": "[192.0.2.7]",
            "sender": self.one(["alice@example.test", "sales@example.test", "alice+x@example.test"]),
            "recipients": self.chance.sample(recipients, self.chance.randint(1, 3)),
            "login": "alice@example.test",
            "sized": self.chance.random() < 0.8,
        } | more

    def again(self, times: int = 1) -> None:
        """The same letter was brought before."""
        self.before += [dict(self.letter)] * times


# Kinds of rules, and how to make them decide


def _unknown(case: Case) -> None:
    case.mx(recipients=[case.one(UNKNOWN)])


def _relaying(case: Case) -> None:
    route = case.one(["x%remote.test@example.test", "remote.test!x@example.test", "x@remote.test"])
    case.mx(recipients=[route, case.one(LOCAL)])


def _user(case: Case) -> None:
    case.mx(recipients=[case.one(LOCAL)])


def _alias(case: Case) -> None:
    case.mx(recipients=case.chance.sample(ALIASED, case.chance.randint(1, 3)))


def _catch_all(case: Case) -> None:
    case.catch_all = True
    case.mx(recipients=[f"{case.one(['x', 'anybody', 'a.b'])}@catch.test"])


def _subaddress(case: Case) -> None:
    separator = case.one(["+", "-"])
    case.domain = f'separator = "{separator}"\n'
    case.mx(recipients=[f"{case.one(['alice', 'bob'])}{separator}list@example.test"])


def _hops(case: Case) -> None:
    case.put("limits", "received_fields = 3")
    case.head += ["Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000"] * case.chance.randint(4, 6)
    case.mx(recipients=[case.one(LOCAL)])


def _circle(case: Case) -> None:
    case.head.append("Delivered-To: alice@example.test")
    case.mx(recipients=["team@example.test"])


def _circle_at_home(case: Case) -> None:
    case.head.append("Delivered-To: bob@example.test")
    case.smtpd(recipients=["team@example.test"], sender="alice@example.test")


def _size(case: Case) -> None:
    case.put("limits", 'message_size = "2K"')
    case.body = "x" * 70 + "\r\n"
    case.body *= case.chance.randint(40, 60)
    case.mx(recipients=[case.one(LOCAL)])


def _size_of_domain(case: Case) -> None:
    case.domain = 'message_size = "1K"\n'
    case.body = ("x" * 70 + "\r\n") * 30
    case.mx(recipients=[case.one(LOCAL)])


def _sender(case: Case) -> None:
    case.smtpd(sender=case.one(["bob@example.test", "alice@remote.test", "nobody@example.test"]))


def _author(case: Case) -> None:
    case.head.append(f"From: {case.one(['bob@example.test', 'alice@remote.test'])}")
    case.smtpd()


def _no_login(case: Case) -> None:
    case.smtpd(login="")


def _wrong_login(case: Case) -> None:
    case.smtpd(login=case.one(["nobody@example.test", "bob@remote.test"]))


def _disabled(case: Case) -> None:
    case.users = case.users.replace("::::::\nbob", "::::::nologin\nbob", 1)
    case.smtpd()


def _capped(case: Case) -> None:
    case.put("smtpd.caps", "messages = 1", "first_time_recipients = 3")
    case.smtpd(recipients=["bob@example.test", "a@remote.test", "b@remote.test", "c@remote.test", "d@remote.test"])
    if case.chance.random() < 0.5:
        case.letter["recipients"] = ["bob@example.test"]
        case.again()


def _named_network(case: Case, **limits: Any) -> None:
    lines = ['name = "printers"', 'addresses = ["192.0.2.64/26"]', "submit_without_login = true"]
    case.add("smtpd.network", *lines, 'senders = ["printer@example.test"]', *(f"{k} = {v}" for k, v in limits.items()))
    case.smtpd(login="", address="192.0.2.70", sender="printer@example.test", recipients=["alice@example.test"])


def _network_rate(case: Case) -> None:
    most = case.chance.randint(1, 3)
    _named_network(case, messages_per_hour=most)
    case.again(most - case.one([0, 0, 1]))


def _network_recipients(case: Case) -> None:
    _named_network(case, recipients=1)
    case.letter["recipients"] = ["alice@example.test", "bob@example.test"]


def _network_sender(case: Case) -> None:
    _named_network(case)
    case.letter["sender"] = "alice@example.test"


def _denied(case: Case) -> None:
    case.mx()
    entries = {"peer": case.letter["address"], "helo": "remote.test", "sender": case.letter["sender"] or "<>"}
    entries["recipient"] = "example.test"
    subject = case.one([*entries])
    case.put("policy.lists", f"at_once = {case.one(['true', 'false'])}")
    word = case.one(["reject", "defer"])
    case.add("policy.lists.deny", f'of = "{subject}"', f'entries = ["{entries[subject]}"]', f'action = "{word}"')
    if case.chance.random() < 0.3:
        case.add("policy.lists.allow", 'of = "recipient"', 'entries = ["postmaster@", "bob@"]')


def _rate_of_recipients(case: Case) -> None:
    case.put("policy.rates.network", f"recipients_per_hour = {case.chance.randint(1, 2)}")
    case.mx(recipients=case.chance.sample(LOCAL, 3))


def _rate_of_messages(case: Case) -> None:
    most = case.chance.randint(1, 2)
    case.put("policy.rates.sender_domain", f"messages_per_hour = {most}")
    case.mx(recipients=["alice@example.test"], sender="sender@remote.test")
    case.again(most - case.one([0, 0, 1]))
    case.pause = case.chance.uniform(0, 1200)


def _rate_of_login(case: Case) -> None:
    case.put("policy.rates.login", "messages_per_hour = 1", "recipients_per_hour = 3")
    case.smtpd(recipients=["alice@example.test", "friend@remote.test"])
    case.again()


def _rate_of_connections(case: Case) -> None:
    case.put("policy.rates", f"connections_per_minute = {case.chance.randint(1, 2)}")
    case.mx()
    case.again()


def _harvest(case: Case) -> None:
    case.put("policy.harvest", "delay_after = 1", f"refuse_after = {case.chance.randint(1, 2)}", 'delay = "1s"')
    case.mx(recipients=[*UNKNOWN, "alice@example.test"])


def _greylist(case: Case) -> None:
    case.put("policy.greylist", f'delay = "{case.one(["60s", "5m"])}"', f'at = "{case.one(["rcpt", "message"])}"')
    case.mx(recipients=case.chance.sample(LOCAL, 2))
    if case.chance.random() < 0.3:
        case.again()
        case.pause = case.one([10.0, 400.0])


def _helo(case: Case) -> None:
    rules = ["own_name", "malformed", "bare_address", "no_dot", "unresolvable"]
    case.put("policy.helo", *(f'{rule} = "{case.one(["reject", "defer"])}"' for rule in rules))
    case.mx(helo=case.one(["mx.example.test", "under_score.test", "192.0.2.7", "localhost", "gone.invalid"]))


def _dnsbl(case: Case) -> None:
    case.add("policy.dnsbl.list", 'zone = "bl.test"', 'codes = {"127.0.0.2" = "sends spam"}', "weight = 2.0")
    case.zone += [f"{'.'.join(reversed(each.split('.')))}.bl.test A 127.0.0.2" for each in ADDRESSES]
    case.zone += ['7.2.0.192.bl.test TXT "see bl.test"']
    case.mx(recipients=[case.one(LOCAL)])


def _fields(case: Case) -> None:
    action = case.one(["reject Not this", "defer", "reject"])
    case.add("policy.headers.rule", 'field = "Subject"', 'pattern = "(?i)prize"', f'action = "{action}"')
    case.head.append("Subject: =?utf-8?q?Your_PRIZE?=")
    case.mx(recipients=[case.one(LOCAL)])


def _attachments(case: Case) -> None:
    case.add("policy.attachments.rule", 'extensions = ["exe", "js"]', 'action = "reject No programs here"')
    case.head += ["MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="b"']
    name = case.one(["setup.exe", "x.JS"])
    case.body = f'--b\r\nContent-Disposition: attachment; filename="{name}"\r\n\r\nx\r\n--b--\r\n'
    case.mx(recipients=[case.one(LOCAL)])


def _script(case: Case) -> None:
    stage = case.one(["mail", "rcpt", "data", "headers", "message"])
    verdict = case.one(["reject('Not like this')", "defer('Later', status='4.7.1')"])
    case.scripts["local"] = f"from mta.policy.script_api import *\ndef {stage}(facts):\n    return {verdict}\n"
    case.mx(recipients=case.chance.sample(LOCAL, 2))


def _dmarc(case: Case, wanted: str = "reject") -> None:
    case.put("mailauth", "trusted_networks = []")
    case.zone += [f'_dmarc.forged.test TXT "v=DMARC1; p={wanted}"', 'forged.test TXT "v=spf1 ip4:198.51.100.77 -all"']
    case.zone += ["forged.test MX 10 mx1.remote.test"]
    case.mx(recipients=[case.one(LOCAL)], sender="boss@forged.test")


def _dmarc_junk(case: Case) -> None:
    _dmarc(case, "quarantine")


def _spf(case: Case) -> None:
    case.put("mailauth", "trusted_networks = []")
    case.scripts["strict"] = (
        "from mta.policy.script_api import *\n"
        "def rcpt(facts):\n"
        "    if facts.spf and facts.spf.result == 'fail':\n"
        "        return reject('Not a host of ' + facts.spf.domain)\n"
    )
    case.zone.append('spf.test TXT "v=spf1 -all"')
    case.mx(recipients=[case.one(LOCAL)], sender="x@spf.test")


def _held(case: Case) -> None:
    case.add("policy.headers.rule", 'field = "Subject"', 'action = "hold"')
    case.mx(recipients=[case.one(LOCAL)])


def _discarded(case: Case) -> None:
    case.add("policy.headers.rule", 'field = "Subject"', 'action = "discard"')
    case.mx(recipients=[case.one(LOCAL)])


def _filed(case: Case) -> None:
    case.add("policy.headers.rule", 'field = "Subject"', 'action = "file Lists.mta"')
    case.mx(recipients=["alice@example.test", "bob@example.test"][: case.chance.randint(1, 2)])


def _redirected(case: Case) -> None:
    to = case.one(["bob@example.test", "friend@remote.test", "nobody@example.test"])
    case.add("policy.headers.rule", 'field = "Subject"', f'action = "redirect {to}"')
    case.mx(recipients=["alice@example.test"])


def _slowed(case: Case) -> None:
    case.put("policy.helo", 'no_dot = "tag"')
    case.put("policy.tarpit", 'tags = ["helo.no_dot"]', 'delay = "3s"')
    case.put("policy.early", 'pause = "2s"')
    case.mx(helo="localhost", recipients=[case.one(LOCAL)])


def _static_route(case: Case) -> None:
    case.add(
        "relay.route", f'domain = "{case.one(["static.test", ".test"])}"', 'host = "host.static.test"', "port = 26"
    )
    case.smtpd(recipients=["x@static.test", "friend@remote.test"])


def _smart_host(case: Case) -> None:
    case.put("relay.smart_host", f'host = "{case.one(["smart.test", "[198.51.100.50]"])}"', 'tls = "may"')
    case.smtpd(recipients=[case.one(ELSEWHERE), "x@null.test", "bob@example.test"])


def _mx_hosts(case: Case) -> None:
    case.smtpd(recipients=case.chance.sample([*ELSEWHERE, "x@mx1.remote.test", "Friend@REMOTE.test"], 2))


def _null_mx(case: Case) -> None:
    case.smtpd(recipients=["x@null.test", *case.chance.sample(ELSEWHERE, 1)])


def _no_route(case: Case) -> None:
    case.smtpd(recipients=case.chance.sample(NOWHERE, 2))


def _reported_elsewhere(case: Case) -> None:
    case.mx(recipients=["far@example.test"])


def _sick(case: Case) -> None:
    case.smtpd(recipients=["x@sick.test", "bob@example.test"])


def _before_the_attempt(case: Case) -> None:
    verdict = case.one(["hold('looked at first')", "defer('not now')", "reject('never')", "discard()"])
    case.scripts["out"] = f"from mta.policy.script_api import *\ndef route(facts):\n    return {verdict}\n"
    case.smtpd(recipients=["bob@example.test", "friend@remote.test"])


def _protocol(case: Case) -> None:
    case.mx(recipients=["alice@example.test"])
    match case.chance.randint(0, 3):
        case 0:
            case.body = "a bare\nline end\r\n"
        case 1:
            case.letter["sender"] = "no address"
        case 2:
            case.letter["helo"] = "two words"
        case _:
            case.put("limits", "recipients = 1")
            case.letter["recipients"] = ["alice@example.test", "bob@example.test"]


def _several(case: Case) -> None:
    for name in case.chance.sample([name for name in _MADE if name], 3):
        case.one(_MADE[name])(case)


_MADE: dict[str, list[Callable[[Case], None]]] = {
    "unknown": [_unknown],
    "relaying": [_relaying],
    "user": [_user],
    "alias": [_alias],
    "catch-all": [_catch_all],
    "subaddress": [_subaddress],
    "loop": [_hops, _circle],
    "size": [_size],
    "size of a domain": [_size_of_domain],
    "sender": [_sender, _author],
    "no login": [_no_login],
    "login": [_wrong_login],
    "disabled": [_disabled],
    "caps": [_capped],
    "network": [_network_rate, _network_recipients, _network_sender],
    "lists": [_denied],
    "rates": [_rate_of_recipients, _rate_of_messages, _rate_of_login, _rate_of_connections],
    "harvest": [_harvest],
    "greylist": [_greylist],
    "helo": [_helo],
    "dnsbl": [_dnsbl],
    "headers": [_fields],
    "attachments": [_attachments],
    "script": [_script, _spf],
    "mailauth": [_dmarc],
    "Junk": [_dmarc_junk],
    "held": [_held],
    "discarded": [_discarded],
    "folder": [_filed],
    "redirect": [_redirected],
    "delay": [_slowed],
    "static route": [_static_route],
    "smart host": [_smart_host],
    "MX": [_mx_hosts],
    "null MX": [_null_mx],
    "no route": [_no_route],
    "report": [_reported_elsewhere, _circle_at_home],
    "waits": [_sick],
    "policy of a route": [_before_the_attempt],
    "protocol": [_protocol],
    "": [_several],
}
"""How cases are made, by what is likely to decide them."""


def spice(case: Case) -> None:
    """Add what decides seldom, or nothing."""
    if case.chance.random() < 0.3 and "policy.helo" not in case.tables:
        case.put("policy.helo", 'own_name = "reject"')
    if case.chance.random() < 0.3 and "policy.rates" not in case.tables:
        case.put("policy.rates", "connections_per_minute = 1000")
    if case.chance.random() < 0.3:
        case.add("policy.headers.rule", 'field = "X-Spam"', 'action = "file Spam"')
        case.head += case.one([[], ["X-Spam: yes"]])
    if case.chance.random() < 0.2 and "policy.greylist" not in case.tables:
        case.put("policy.greylist", 'delay = "1m"', 'exempt = ["0.0.0.0/0"]')
    if case.chance.random() < 0.3 and "noting" not in case.scripts:
        case.scripts["noting"] = "from mta.policy.script_api import *\ndef mail(facts):\n    return tag('noted')\n"
    if "mailauth" not in case.tables and case.chance.random() < 0.7:
        case.put("mailauth", 'trusted_networks = ["0.0.0.0/0", "::/0"]')


_BY_REASON = {
    "unknown": r"has no such mailbox|needs no domain",
    "relaying": r"is not a domain of ours|route in the local-part",
    "user": r"is a user",
    "alias": r"[^*]@\S+ is an alias",
    "catch-all": r"^\*@\S+ is an alias",
    "subaddress": r"is a subaddress of",
    "loop": r"Received fields|has had this message before",
    "sender": r"does not belong to",
    "no login": r"^no login",
    "login": r"no such account",
    "disabled": r"is disabled",
    "caps": r"are the most for a day",
    "network": r"messages an hour are allowed$|recipients are allowed|is no sender of network",
    "redirect": r"redirected to",
}
_BY_PLACE = {
    "static route": r"the route of",
    "smart host": r"the smart host is",
    "MX": r"^mail for",
    "null MX": r"null MX",
    "no route": r"no host takes|does not exist|would come back",
}


def deciders(explanation: dict[str, Any]) -> Iterator[str]:
    """Say which kinds of rules decided something of a case."""
    said = {each["answer"] for step in explanation["steps"] for each in step["asked"]}
    yield from ({"delay"} & said) | {name for name in ("redirect",) if name in said}
    for step in explanation["steps"]:
        decided, refused = step["decided"], step["reply"][:1] in "45"
        reason = decided.get("reason", "")
        yield from (kind for kind, pattern in _BY_REASON.items() if re.search(pattern, reason))
        if refused:
            rule = decided["rule"]
            yield {"local": "script", "strict": "script"}.get(rule, rule)
            yield from ["size of a domain"] if rule == "size" else ["size"] if "5.3.4" in step["reply"] else []
    if explanation["outcome"] == "discarded":
        yield "discarded"
    for place in explanation["recipients"]:
        yield from (kind for kind, pattern in _BY_PLACE.items() if re.search(pattern, place["reason"]))
        yield from {"held", "waits", "report"} & {place["place"]}
        yield from ["policy of a route"] if place.get("asked", [{}])[-1].get("rule") == "out" else []
        folder = place.get("path", "/Maildir/new").partition("/Maildir/")[2]
        yield from [] if folder == "new" else ["Junk"] if folder == ".Junk/new" else ["folder"]


def masked(replies: list[str]) -> list[str]:
    """Replies without the queue id, which is another one each time."""
    return [re.sub(r"(?<=queued as )[0-9a-z]{18}", "…", reply) for reply in replies]


def made(name: str, number: int) -> Case:
    """Make one case; the same each time."""
    case = Case(random.Random(f"{name} {number}"))
    ways = _MADE[name]
    ways[number % len(ways)](case)
    spice(case)
    case.letter["content"] = case.content()
    for letter in case.before:
        letter["content"] = case.letter["content"]
    return case


def tried(case: Case, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Explain a letter and bring it: both come to the same."""
    with directory() as root:
        zone = ZONE + "\n".join(case.zone)
        world = World(root, monkeypatch, case.toml(root), case.domains(), zone, SINKS, case.scripts)
        for letter in case.before:
            world.bring(**letter)
        world.clock.advance(case.pause)
        explanation = world.explain(**case.letter)
        before = world.landed()
        replies = world.bring(**case.letter)
        assert masked([step["reply"] for step in explanation["steps"]]) == masked(replies)
        landed = world.landed()
        assert expected(explanation) == landed - before
        assert world.ahead() == Counter({where: landed[where] for where in landed if where[0] in ("waits", "held")})
        world.stop()
    return explanation


@pytest.fixture(scope="module")
def decided() -> Counter[str]:
    """Try all cases, and count who decided them."""
    count: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in _MADE:
            for number in range(CASES_EACH if name else SEVERAL):
                case = made(name, number)
                try:
                    count.update(set(deciders(tried(case, monkeypatch))))
                except BaseException as error:
                    error.add_note(f"case {name!r} {number}: {case}")
                    raise
                count["cases"] += 1
    return count


def test_what_is_explained_is_what_happens(decided: Counter[str]) -> None:
    """In at least 500 cases the replies are the same octet for octet, and the message is where it was said to be."""
    assert decided["cases"] >= 500


@pytest.mark.parametrize("kind", [name for name in _MADE if name])
def test_each_kind_of_rule_decides(decided: Counter[str], kind: str) -> None:
    """Each kind of rule decided some of the cases."""
    assert decided[kind] >= LEAST

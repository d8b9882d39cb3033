"""Lists over DNS."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.internet.task import Clock

from mta.dns.answer import Answer, Failure, Found, NoSuchName, RecordType
from mta.policy.dnsbl import EXPLANATION_MAXIMUM, REST, SESSIONS_MAXIMUM, SILENT_MAXIMUM, Dnsbl, DnsList, Listing
from mta.policy.facts import Stage
from mta.policy.network import Exempt, is_public, literal, parse, reversed_name
from mta.policy.port import Asks, KeepsSessions
from mta.policy.questions import answers
from mta.policy.verdict import Reject, Tag
from mta.settings.policy import DnsListSettings
from tests.doubles.dns import ZoneResolver
from tests.doubles.policy import facts, iprev, policy_settings, said
from tests.doubles.sync import failure, result

LISTS = """
[policy.dnsbl]
reject = 5
tag = 2
[[policy.dnsbl.list]]
zone = "bl.example"
codes = {"127.0.0.2" = "sends spam", "127.0.0.10-11" = "should not send mail itself"}
weight = 5
weights = {"127.0.0.10-11" = 2}
[[policy.dnsbl.list]]
zone = "good.example"
codes = {"127.0.*.1-3" = "is known to be good"}
weight = -4
[[policy.dnsbl.list]]
zone = "rhs.example"
codes = {"127.0.1.2-6" = "is a domain of spammers"}
weight = 3
of = ["helo", "sender", "name"]
"""
ADDRESS = "7.2.0.192.bl.example"
GOOD = "7.2.0.192.good.example"


class World:
    """The policy over a zone."""

    def __init__(self, zone: str, toml: str = LISTS) -> None:
        self.clock = Clock()
        self.resolver = ZoneResolver(zone)
        settings = policy_settings(toml)
        assert settings.dnsbl is not None
        self.policy = Dnsbl(settings.dnsbl, self.clock, self.resolver, Exempt(settings.exempt))

    def start(self, **known: Any) -> Any:
        """Ask."""
        return self.policy.ask(facts(Stage.RCPT, **known))

    def ask(self, **known: Any) -> list[Any]:
        """The verdicts."""
        answer = self.start(**known)
        return list((result(answer) if isinstance(answer, defer.Deferred) else answer) or ())

    def names(self) -> list[str]:
        """What was asked for."""
        return [name for name, rdtype in self.resolver.asked if rdtype is RecordType.A]


# Addresses


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.99", "99.2.0.192.bl.example"),
        ("::ffff:192.0.2.99", "99.2.0.192.bl.example"),
        (
            "2001:db8:1:2:3:4:567:89ab",
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bl.example",
        ),
    ],
)
def test_names_of_addresses(address: str, name: str) -> None:
    """The examples of RFC 5782 §2.1 and §2.4: numbers and nibbles reversed."""
    parsed = parse(address)
    assert parsed is not None
    assert reversed_name(parsed, "bl.example") == name


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("172.15.255.255", True),
        ("172.16.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("169.254.1.1", False),
        ("100.64.0.1", False),
        ("127.0.0.2", False),
        ("::ffff:127.0.0.2", False),
        ("0.0.0.0", False),
        ("240.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fd00::1", False),
        ("fe80::1%eth0", False),
        ("/run/socket", False),
        ("", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    """No list is asked about addresses that nobody sends from on the Internet."""
    assert is_public(address) is public
    world = World("")
    world.ask(address=address, helo="x", sender=None)
    assert bool(world.names()) is public


def test_exempt_is_loopback_and_what_is_no_address() -> None:
    """Loopback in both versions, a UNIX socket, and named networks; nobody else."""
    exempt = Exempt(policy_settings('[policy]\nexempt = ["198.51.100.0/24", "2001:db8::/32"]').exempt)
    inside = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "", "/run/x", "198.51.100.1", "2001:db8::1"]
    assert all(address in exempt for address in inside)
    assert not any(address in exempt for address in ("192.0.2.1", "10.0.0.1", "2001:db9::1"))
    assert (literal("192.0.2.1"), literal("::1")) == ("[192.0.2.1]", "[IPv6:::1]")


# What an answer means

LIST = DnsList(
    DnsListSettings("bl.example", {"127.0.0.2": "spam", "127.0.0.4-7": "taken over"}, 3.0, {"127.0.0.4-7": 4.0})
)


def found(*records: str) -> Found:
    """An answer."""
    return Found("x.bl.example", records, 300, False, "zone")


def test_documented_codes_are_listings() -> None:
    """Each configured code that is answered is a listing with its own weight and meaning."""
    reading = LIST.read(found("127.0.0.2", "127.0.0.5"))
    assert reading.listings == (Listing(3.0, "spam", "127.0.0.2"), Listing(4.0, "taken over", "127.0.0.5"))
    assert reading.errors == ()


def test_a_code_that_two_patterns_cover_counts_once() -> None:
    """The first of them has it, as the file writes them."""
    both = DnsList(DnsListSettings("bl.example", {"127.0.0.2": "spam", "127.0.0.*": "something"}, 2.0))
    assert both.read(found("127.0.0.2")).listings == (Listing(2.0, "spam", "127.0.0.2"),)


@pytest.mark.parametrize("code", ["127.255.255.254", "127.255.255.2", "192.0.2.1", "0.0.0.0"])
def test_errors_of_a_list_spoil_the_answer(code: str) -> None:
    """An error code, or an address elsewhere (a domain that was sold), is never a listing, nor is what is beside it."""
    reading = LIST.read(found("127.0.0.2", code))
    assert reading.listings == ()
    assert reading.errors == (f"bl.example answers {code}: an error of the list, not a listing",)


def test_codes_that_are_not_configured_are_errors() -> None:
    """They count for nothing and are told; configured ones beside them count."""
    reading = LIST.read(found("127.0.0.3", "127.0.0.2"))
    assert [each.code for each in reading.listings] == ["127.0.0.2"]
    assert reading.errors == ("bl.example answers 127.0.0.3, which is none of its codes",)


def test_nothing_found_is_no_listing() -> None:
    """Neither a name that does not exist nor a failure is one."""
    assert LIST.read(NoSuchName("x", 1, False, "zone")) == LIST.read(Failure("x", "zone"))
    assert LIST.read(NoSuchName("x", 1, False, "zone")).listings == ()


@given(st.lists(st.ip_addresses(v=4), min_size=1, max_size=4))
def test_only_documented_codes_ever_list(records: list[Any]) -> None:
    """Whatever a list answers, a listing is one of its codes, and everything else leaves an error."""
    texts = tuple(map(str, records))
    reading = LIST.read(found(*texts))
    codes = {"127.0.0.2", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7"}
    assert {each.code for each in reading.listings} <= codes & set(texts)
    assert bool(reading.errors) == bool(set(texts) - codes)


# The sum


def test_a_listed_address_is_refused_with_what_the_list_says() -> None:
    """The reply names the list, the meaning of its code and its TXT record; the reason has score, codes and line."""
    world = World(f'{ADDRESS} A 127.0.0.2\n{ADDRESS} TXT "see https://bl.example/192.0.2.7"')
    (verdict,) = world.ask()
    assert isinstance(verdict, Reject)
    assert said(verdict) == (
        "550 5.7.1 [192.0.2.7] is listed by bl.example: sends spam; see https://bl.example/192.0.2.7",
        "score 5 of 5: bl.example +5: [192.0.2.7] sends spam (127.0.0.2) (see https://bl.example/192.0.2.7)",
        "mta.toml:5",
    )


def test_all_questions_go_out_at_once() -> None:
    """Address and domains are asked about before anything is answered; the same name once."""
    world = World("")
    assert world.ask(helo="MX.Sender.example", iprev=iprev("mx.sender.example")) == []
    assert world.names() == [
        "7.2.0.192.bl.example",
        "7.2.0.192.good.example",
        "mx.sender.example.rhs.example",
        "sender.example.rhs.example",
    ]
    assert all(rdtype is RecordType.A for _, rdtype in world.resolver.asked)


@pytest.mark.parametrize("helo", ["[192.0.2.7]", "192.0.2.7", "localhost", "?", "a..b", ""])
def test_what_is_no_domain_is_not_asked_about(helo: str) -> None:
    """Literals, addresses, single words and nonsense are on no list of domains; nor is an unconfirmed name."""
    world = World("")
    assert world.ask(helo=helo, sender=None, iprev=iprev("x.example", "fail")) == []
    assert world.names() == [ADDRESS, GOOD]


def test_weights_are_added_up() -> None:
    """A list of good senders outweighs a listing; what is left is a tag, or nothing."""
    world = World(f"{ADDRESS} A 127.0.0.2\n{GOOD} A 127.0.5.2\nsender.example.rhs.example A 127.0.1.2")
    (verdict,) = world.ask()
    assert isinstance(verdict, Tag)
    assert verdict.name == "dnsbl"
    assert said(verdict) == (
        "Tag",
        "score 4 of 2: bl.example +5: [192.0.2.7] sends spam (127.0.0.2); rhs.example +3: sender.example is a domain "
        "of spammers (127.0.1.2); good.example -4: [192.0.2.7] is known to be good (127.0.5.2)",
        "mta.toml:5",
    )
    assert all(rdtype is RecordType.A for _, rdtype in world.resolver.asked), "only who decides is asked why"
    assert World(f"{ADDRESS} A 127.0.0.2\n{GOOD} A 127.0.5.2").ask() == []
    assert World(f"{GOOD} A 127.0.5.2").ask() == []


def test_a_list_counts_once_with_its_heaviest_answer() -> None:
    """Two codes of one list, or two domains on it, are not added up."""
    world = World(f"{ADDRESS} A 127.0.0.10\n{ADDRESS} A 127.0.0.2")
    assert "score 5 of 5: bl.example +5:" in world.ask()[0].reason.text
    world = World("sender.example.rhs.example A 127.0.1.2\nmail.sender.example.rhs.example A 127.0.1.3")
    (verdict,) = world.ask()
    assert verdict.reason.text.startswith("score 3 of 2: rhs.example +3: mail.sender.example ")


def test_a_name_hides_the_zone() -> None:
    """Where the zone holds a key, neither reply nor reason nor note shows it."""
    toml = """
[[policy.dnsbl.list]]
zone = "secret.dq.example"
name = "the list"
codes = {"127.0.0.2" = "sends spam"}
of = ["address", "sender"]
"""
    zone = "7.2.0.192.secret.dq.example A 127.0.0.2\nsender.example.secret.dq.example A 127.0.0.9"
    verdicts = World(zone, toml).ask()
    assert [type(each) for each in verdicts] == [Tag, Reject]
    verdicts += World("7.2.0.192.secret.dq.example ANY !SERVFAIL\n", toml).ask()
    assert [each.name for each in verdicts if isinstance(each, Tag)] == ["dnsbl.error", "dnsbl.silent"]
    assert not any("secret" in part for each in verdicts for part in said(each))


def test_errors_of_lists_are_noted_and_refuse_nobody() -> None:
    """An answer that says "you ask through a public resolver" is a tag for the log, not a listing."""
    (verdict,) = World(f"{ADDRESS} A 127.255.255.254").ask()
    assert isinstance(verdict, Tag)
    assert verdict.name == "dnsbl.error"
    assert said(verdict) == (
        "Tag",
        "bl.example answers 127.255.255.254: an error of the list, not a listing",
        "mta.toml:5",
    )


def test_what_does_not_answer_in_time_is_left_out() -> None:
    """At the deadline the others decide, the silent list is noted, and its question is cancelled."""
    world = World(f"{ADDRESS} A 127.0.0.2\n{GOOD} A !SILENT")
    waiting = world.start()
    world.clock.advance(4.9)
    assert not waiting.called
    world.clock.advance(0.1)
    note, verdict = result(waiting)
    assert (note.name, said(note)) == (
        "dnsbl.silent",
        ("Tag", "good.example is left out: no answer within 5 s", "mta.toml:10"),
    )
    assert isinstance(verdict, Reject)
    assert [each.called for each in world.resolver.silent] == [True]
    assert world.clock.getDelayedCalls() == []


def test_a_failure_is_noted() -> None:
    """A name server that fails is no listing."""
    (note,) = World(f"{ADDRESS} A !SERVFAIL").ask()
    assert said(note)[1] == "bl.example is left out: the name server failed"


def test_a_silent_list_rests() -> None:
    """After some questions in a row without an answer a list is not asked for a while, so that nobody waits for it."""
    world = World(f"{ADDRESS} A !SERVFAIL")
    for number in range(SILENT_MAXIMUM):
        world.ask(session=f"s{number}")
    assert world.names().count(ADDRESS) == SILENT_MAXIMUM
    asked = len(world.names())
    (note,) = world.ask(session="other")
    assert (note.name, note.reason.text) == ("dnsbl.silent", "bl.example is not asked: it did not answer lately")
    assert ADDRESS not in world.names()[asked:]
    world.clock.advance(REST)
    world.ask(session="later")
    assert world.names().count(ADDRESS) == SILENT_MAXIMUM + 1


def test_an_answer_ends_the_silence() -> None:
    """Only silence in a row counts."""
    world = World(f"{ADDRESS} A !SERVFAIL")
    for number in range(SILENT_MAXIMUM - 1):
        world.ask(session=f"s{number}")
    world.resolver.zone.names.clear()
    assert world.ask(session="good") == []
    world.resolver.zone.add(ADDRESS, "A", "!SERVFAIL")
    for number in range(SILENT_MAXIMUM - 1):
        world.ask(session=f"t{number}")
    assert world.names().count(ADDRESS) == 2 * SILENT_MAXIMUM - 1


def test_the_explanation_is_bounded_and_printable() -> None:
    """Control characters and non-ASCII of a TXT record do not get into a reply, nor does more than a line of it."""
    world = World(f"{ADDRESS} A 127.0.0.2")
    world.resolver.zone.add(ADDRESS, "TXT", "a\r\nb\x1bü" + "x" * 5000)
    (verdict,) = world.ask()
    text = verdict.reply.text.partition("; ")[2]
    assert text.startswith("a??b??x")
    assert len(text) <= EXPLANATION_MAXIMUM
    assert verdict.reply.wire.count(b"\r\n") == 1


def test_the_explanation_has_what_is_left_of_the_deadline() -> None:
    """A TXT record that does not come does not keep the reply."""
    world = World(f"{ADDRESS} A 127.0.0.2\n{ADDRESS} TXT !SILENT\n{GOOD} A !SILENT")
    waiting = world.start()
    world.resolver.silent[0].callback(NoSuchName(GOOD, 1, False, "zone"))
    world.clock.advance(5)
    (verdict,) = result(waiting)
    assert said(verdict)[0] == "550 5.7.1 [192.0.2.7] is listed by bl.example: sends spam"
    late = World(f"{ADDRESS} A 127.0.0.2\n{GOOD} A !SILENT")
    waiting = late.start()
    late.clock.advance(5)
    assert isinstance(result(waiting)[1], Reject)
    assert RecordType.TXT not in [rdtype for _, rdtype in late.resolver.asked]


def test_nobody_is_asked_twice_in_a_session() -> None:
    """Further recipients of one sender are answered from what was found, without a Deferred; another sender is not."""
    world = World(f"{ADDRESS} A 127.0.0.2\n{GOOD} A 127.255.255.254")
    first = world.ask()
    assert [type(each) for each in first] == [Tag, Reject]
    asked = len(world.resolver.asked)
    again = world.start()
    assert [type(each) for each in again] == [Reject], "and errors are noted once"
    world.policy.reset("s1")
    assert len(world.resolver.asked) == asked
    assert isinstance(world.start(sender=None), defer.Deferred)
    world.policy.closed("s1")
    assert isinstance(world.start(), defer.Deferred)
    assert isinstance(world.policy, KeepsSessions)
    assert isinstance(world.policy, Asks)
    assert world.policy.eager


def test_kept_sums_are_bounded() -> None:
    """Sessions that are never closed are forgotten one by one."""
    world = World("", '[[policy.dnsbl.list]]\nzone = "bl.example"\ncodes = {"127.0.0.2" = "x"}\n')
    for number in range(SESSIONS_MAXIMUM + 1):
        world.ask(session=f"s{number}")
    assert isinstance(world.start(session="s0"), defer.Deferred)
    assert not isinstance(world.start(session="s2"), defer.Deferred)


def test_a_rehearsal_keeps_no_sum() -> None:
    """What it finds is not what the next session finds."""
    world = World("")
    world.ask(rehearsal=True)
    assert isinstance(world.start(), defer.Deferred)


@pytest.mark.parametrize(
    "known", [{"service": "smtpd"}, {"login": "alice"}, {"address": "127.0.0.1"}, {"address": "198.51.100.1"}]
)
def test_who_is_not_asked_about(known: dict[str, str]) -> None:
    """smtpd, logins, loopback and exempt networks."""
    world = World(f"{ADDRESS} A 127.0.0.2", '[policy]\nexempt = ["198.51.100.0/24"]\n' + LISTS)
    assert world.start(**known) is None


def test_cancelling_cancels_the_questions() -> None:
    """A session that is gone leaves no question and no timer behind."""
    world = World(f"{ADDRESS} A !SILENT\n{GOOD} A !SILENT")
    waiting = world.start()
    waiting.cancel()
    assert isinstance(failure(waiting), defer.CancelledError)
    assert [each.called for each in world.resolver.silent] == [True, True]
    assert world.clock.getDelayedCalls() == []


# Several questions at once


def test_answers_come_without_waiting_where_they_are_known() -> None:
    """No timer is set where everything is answered, or nothing is asked."""
    clock = Clock()
    nothing: dict[str, defer.Deferred[Answer]] = {}
    assert result(defer.Deferred.fromCoroutine(answers(clock, 5, nothing))) == {}
    answer = found("127.0.0.2")
    assert result(defer.Deferred.fromCoroutine(answers(clock, 5, {"a": defer.succeed(answer)}))) == {"a": answer}
    assert clock.getDelayedCalls() == []


def test_a_bug_in_the_resolver_is_raised() -> None:
    """A question that fails is a bug of ours: it is raised, and the other questions are cancelled."""
    clock = Clock()
    other: defer.Deferred[Answer] = defer.Deferred()
    asked = {"a": other, "b": defer.fail(KeyError("bug")), "c": defer.fail(ValueError("another"))}
    assert isinstance(failure(defer.Deferred.fromCoroutine(answers(clock, 5, asked))), KeyError)
    assert other.called
    assert clock.getDelayedCalls() == []


def test_what_is_answered_while_others_are_cancelled_is_left_out() -> None:
    """A late answer changes nothing and breaks nothing."""
    clock = Clock()
    late: defer.Deferred[Answer] = defer.Deferred(lambda gone: gone.callback(found("127.0.0.2")))
    waiting = defer.Deferred.fromCoroutine(answers(clock, 5, {"a": late, "b": defer.Deferred()}))
    clock.advance(5)
    assert "b" not in result(waiting)

"""The command `explain` of a worker: what it takes, and that it leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import defer

from mta.mail.reason import Reason
from mta.policy.chain import Chain, Ruling
from mta.policy.facts import Facts, Stage
from mta.policy.rehearsal import Kept, RehearsedChain
from mta.policy.verdict import Accept, Delay, NoOpinion, Opinion, Reject
from mta.service.control import CommandRefused
from mta.service.located import Lines
from mta.service.operator.explain import AT_ONCE
from tests.doubles.policy import facts
from tests.doubles.rehearsal import BASE, USERS, World, directory
from tests.doubles.sync import failure

TOML = BASE + """\
[policy.greylist]
[[policy.attachments.rule]]
extensions = ["exe"]
action = "reject"
"""
ALIASES = "postmaster: alice\nteam: alice, bob\nall: team, x@example.net\n"
LETTER: dict[str, Any] = {
    "service": "mx",
    "address": "192.0.2.7",
    "helo": "client.example.net",
    "sender": "ann@example.net",
    "recipients": ["alice@example.test"],
    "content": b"From: ann@example.net\r\n\r\nhello\r\n",
}
OWN = b"From: alice@example.test\r\n\r\n"
SMTPD = {
    **LETTER,
    "service": "smtpd",
    "login": "alice@example.test",
    "sender": "alice@example.test",
    "content": OWN + b"hello\r\n",
}
LARGE = OWN + b"x" * 70_000 * 6 + b"\r\n"
WHY = Reason("because", "here")


@pytest.fixture
def world() -> Iterator[World]:
    """A worker with two policies."""
    with pytest.MonkeyPatch.context() as monkeypatch, directory() as root:
        domains = {"example.test": {"users": USERS, "aliases": ALIASES}}
        world = World(root, monkeypatch, TOML.format(root=root), domains, "", [], {})
        yield world
        world.stop()


def test_nothing_is_left(world: World) -> None:
    """No file, no event, nobody greylisted; of content that is too large for memory neither."""
    files, events = sorted(world.root.rglob("*")), list(world.journal.events)
    large = world.explain(**{**SMTPD, "content": LARGE})
    assert large["outcome"] == "accepted"
    assert [world.explain(**LETTER)["outcome"] for _ in range(2)] == ["deferred"] * 2
    assert sorted(world.root.rglob("*")) == files
    assert world.journal.events == events
    assert world.worker._policies._remembered.greylist._changed == {}


def test_a_large_letter_goes_where_it_would(world: World) -> None:
    """It is committed in the spool, and from there in the Maildir."""
    explained = world.explain(**{**SMTPD, "content": LARGE})
    replies = world.bring(**{**SMTPD, "content": LARGE})
    assert explained["steps"][-1]["reply"][:9] == replies[-1][:9] == "250 2.0.0"
    assert world.landed() == {("maildir", explained["recipients"][0]["path"]): 1}


def test_every_rule_that_was_asked_is_named(world: World) -> None:
    """Also those that say nothing, in their order."""
    step = world.explain(**SMTPD)["steps"][-1]
    assert [(each["rule"], each["answer"]) for each in step["asked"]] == [
        ("attachments", "no opinion"),
        ("smtpd", "accept"),
    ]


def test_a_bug_is_told_as_the_client_would_hear_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that raises makes 451, and the explanation says that it is a bug."""

    def broken(_: object, given: Facts) -> Opinion:
        raise KeyError("x")

    monkeypatch.setattr("mta.policy.greylist.Greylist.ask", broken)
    step = world.explain(**LETTER)["steps"][-1]
    assert step["reply"] == "451 4.3.0 Internal error, recorded here; try again later\r\n"
    assert [(each["rule"], each["answer"], each["reason"]) for each in step["asked"]][-1] == (
        "mta",
        "a bug",
        "KeyError: 'x'",
    )


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"service": "pop3"}, "expected mx or smtpd"),
        ({"address": "192.0.2"}, "expected an IP address"),
        ({"recipients": []}, "expected 1 to 1000 recipients"),
        ({"recipients": ["a@example.test"] * 1001}, "expected 1 to 1000 recipients"),
        ({"recipients": ["a@example.test>\r\nQUIT\r\n"]}, "without control characters"),
        ({"sender": "a\nb"}, "without control characters"),
        ({"helo": "a\ud800"}, "without control characters"),
        ({"content": "abc"}, "in base64"),
        ({"helo": 5}, "expected text"),
        ({"queue_id": "0000000000000000zz"}, "there is no message"),
    ],
)
def test_what_is_refused(world: World, changed: dict[str, Any], told: str) -> None:
    """What is no letter is refused with words for the operator."""
    error = failure(world.worker.commands["explain"]({**LETTER, "content": "", **changed}))
    assert isinstance(error, CommandRefused)
    assert told in str(error)


def test_so_many_at_once(world: World) -> None:
    """One more than the bound is refused; those before it are made."""
    waiting: list[defer.Deferred[Any]] = []
    commands = world.worker.commands
    world.worker._explain.under_way = AT_ONCE
    refused = failure(commands["explain"]({**LETTER, "content": ""}))
    assert isinstance(refused, CommandRefused)
    world.worker._explain.under_way -= 1
    waiting.append(commands["explain"]({**LETTER, "content": ""}))
    assert world.wait(waiting[0])["explanations"]
    assert world.worker._explain.under_way == AT_ONCE - 1


def test_lines_of_the_file(world: World) -> None:
    """Keys, tables and policies are found in the file; a line that is known stays; what is not there has none."""
    file = f"{world.root}/etc/mta.toml"
    lines, text = Lines(file), ["", *(world.root / "etc/mta.toml").read_text().splitlines()]
    table, key = text.index("[policy.greylist]"), text.index('nameservers = ["127.0.0.1"]')
    assert lines.at("[policy.greylist] delay") == ""
    assert lines.at("[policy.greylist] delay", "greylist") == f"{file}:{table}"
    assert lines.at("RFC 6647", "greylist") == f"{file}:{table}"
    assert lines.at("[dns] nameservers") == f"{file}:{key}"
    assert lines.at("users:7", "greylist") == "users:7"
    assert Lines("/nowhere").at("[dns] nameservers") == ""


def test_an_alias_is_a_tree(world: World) -> None:
    """Each address stands below the one that leads to it, with the line that says so; a subaddress leads likewise."""
    step = world.explain(**{**LETTER, "recipients": ["all+x@example.test"]})["steps"][-1]
    base = f"{world.root}/etc/domains/example.test"

    def shown(tree: dict[str, Any]) -> list[Any]:
        return [tree["name"], tree["source"].removeprefix(base), *map(shown, tree["below"])]

    assert shown(step["tree"]) == [
        "all@example.test",
        "/aliases:3",
        ["team@example.test", "/aliases:2", ["alice@example.test", "/users:1"], ["bob@example.test", "/users:2"]],
        ["x@example.net", "/aliases:3"],
    ]


# The chain


class Says:
    """A policy that always answers the same."""

    stages = frozenset({Stage.MAIL})

    def __init__(self, name: str, opinion: Opinion) -> None:
        self.name = name
        self._opinion = opinion

    def ask(self, facts: Facts) -> Opinion:
        """Answer."""
        assert facts.rehearsal
        return self._opinion


def told_of(*policies: Says) -> tuple[Ruling, Ruling, tuple[str, ...]]:
    """What the session acts upon, what was told, and who was not asked."""
    told: list[tuple[Ruling, tuple[str, ...]]] = []
    chain = RehearsedChain(Chain(policies), lambda _, ruling, unasked: told.append((ruling, unasked)))
    ruling = chain.ask(facts(Stage.MAIL))
    assert isinstance(ruling, Ruling)
    return ruling, *told[0]


def test_silence_and_delays_are_told_and_not_acted_upon() -> None:
    """The session hears what it acts upon; the witness hears all, and who was not asked."""
    refused = Reject(WHY)
    policies = [Says("one", None), Says("two", Delay(WHY, 9)), Says("three", (refused,)), Says("four", None)]
    ruling, told, unasked = told_of(*policies)
    assert [each.verdict for each in ruling.said] == [refused]
    assert [type(each.verdict) for each in told.said] == [NoOpinion, Delay, Reject]
    assert unasked == ("four",)


def test_a_stage_where_nobody_says_anything() -> None:
    """It is as if nobody had been asked."""
    ruling, told, unasked = told_of(Says("one", ()), Says("two", None))
    assert (ruling.said, ruling.facts, unasked) == ((), None, ())
    assert [each.policy for each in told.said] == ["one", "two"]


def test_an_accept_ends_the_stage() -> None:
    """Who comes behind it is not asked."""
    assert told_of(Says("one", Accept(WHY)), Says("two", None))[2] == ("two",)


def test_each_rehearsal_has_a_copy_until_it_ends() -> None:
    """Real questions get the real thing, a rehearsed session its own copy, another session another."""
    real = {"a": 1}
    kept: Kept[dict[str, int]] = Kept(real)
    mine, other = facts(Stage.MAIL, rehearsal=True, session="1"), facts(Stage.MAIL, rehearsal=True, session="2")
    assert kept.of(facts(Stage.MAIL)) is real
    kept.of(mine)["b"] = 2
    assert (kept.of(mine), kept.of(other), real) == ({"a": 1, "b": 2}, {"a": 1}, {"a": 1})
    kept.closed("1")
    assert kept.of(mine) == {"a": 1}

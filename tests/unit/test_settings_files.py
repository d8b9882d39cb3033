"""Changes of single lines in ``users`` and ``aliases``: mta.settings.lines, passwd_file and alias_file."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mta.settings import lines
from mta.settings.alias_file import (
    alias_lines,
    with_alias,
    with_targets,
    without_alias,
    without_targets,
)
from mta.settings.app_passwords import PER_USER
from mta.settings.passwd_file import disabled, enabled, entries, is_app_name, why_disabled, with_password
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load
from tests.doubles.etc import MINIMAL, write_etc

WORDS = ("alice", "bob", '"odd name"', "team+x@example.net", "x@y.example", '"a,b"@example.net')
NOISE = ("# a comment", "", "   ", "  # indented comment: with, commas", "\t")
VERIFIER = "{SCRAM-SHA-256}4096,c2FsdA==," + "A" * 43 + "=," + "B" * 43 + "="


def random_users(chance: random.Random, end: str) -> str:
    """A ``users`` file with comments, empty lines, and perhaps no end of its last line."""
    out = []
    for number in range(chance.randrange(1, 8)):
        out += chance.sample(NOISE[:3], chance.randrange(3))
        rest = chance.choice(["", "::::::", ":1000:1000::/home/x::userdb_quota=1G", ":::::: nologin  other=1"])
        out.append(f"user{number}:{{X}}hash{rest}")
    return end.join(out) + chance.choice([end, "", end * 2])


def random_aliases(chance: random.Random, end: str) -> str:
    """An ``aliases`` file with comments everywhere, long aliases over several lines, and blanks of all kinds."""
    out = []
    for number in range(chance.randrange(1, 6)):
        out += chance.sample(NOISE, chance.randrange(3))
        targets = [chance.choice(WORDS) for _ in range(chance.randrange(1, 6))]
        written = f"name{number}{chance.choice(['', ' '])}:{chance.choice(['', ' ', '  '])}"
        for place, target in enumerate(targets):
            comma = "" if place == len(targets) - 1 else chance.choice([",", ", ", " , "])
            written += target + comma
            if comma and chance.random() < 0.4:
                out.append(written)
                out += chance.sample(NOISE, chance.randrange(2))
                written = chance.choice([" ", "\t", "    "])
        out.append(written)
    return end.join(out) + chance.choice([end, ""])


def physical(text: str) -> list[str]:
    """The lines of a text with their ends."""
    return text.splitlines(keepends=True)


@pytest.mark.parametrize("seed", range(200))
def test_one_line_of_users_changes_and_no_other(seed: int) -> None:
    """Whatever stands in a file, a new password, a mark or its end changes the octets of one line alone."""
    chance = random.Random(seed)
    text = random_users(chance, chance.choice(["\n", "\r\n"]))
    line = chance.choice(entries(text))
    change = chance.choice([lambda c: with_password(c, "{Y}new"), lambda c: disabled(c, "today, why: so"), enabled])
    after = lines.replaced(text, line.number, change(line.content))
    before, now = physical(text), physical(after)
    assert len(before) == len(now)
    assert [b for n, b in enumerate(before, 1) if n != line.number] == [
        b for n, b in enumerate(now, 1) if n != line.number
    ]
    assert now[line.number - 1].startswith(change(line.content))
    assert physical(lines.removed(text, [line.number])) == [b for n, b in enumerate(before, 1) if n != line.number]


@pytest.mark.parametrize("seed", range(50))
def test_a_line_is_added_behind_all_others(seed: int) -> None:
    """What was there stays, but for a missing end of the last line, and the new line ends as the others do."""
    chance = random.Random(seed)
    end = chance.choice(["\n", "\r\n"])
    text = "first" + end + random_users(chance, end)
    after = lines.appended(text, "new:line")
    assert after.startswith(text)
    assert after.removeprefix(text).removeprefix(end if not text.endswith("\n") else "") == f"new:line{end}"


def test_a_mark_comes_and_goes() -> None:
    """A disabled line says so to Dovecot and why to people; taken back, all else is as it was."""
    for content in ("bob:!", "bob:!::::::", "bob:{X}y:1:2:Bob:/home:/bin/sh:userdb_a=1 b=2", "bob:{X}y::::::nologin"):
        marked = disabled(content, "2026-11-25, sent spam: 100% sure — ja")
        assert why_disabled(marked) == "2026-11-25, sent spam: 100% sure — ja"
        fields = marked.split(":", 7)
        assert "nologin" in fields[7].split()
        assert fields[:2] == content.split(":")[:2]
        assert why_disabled(enabled(marked)) is None
    assert enabled(disabled("bob:!:::::: userdb_a=1", "x")) == "bob:!::::::userdb_a=1"
    assert why_disabled("bob:{X}y::::::nologin reason=x") == ""
    assert why_disabled("bob:{X}y::::::x=nologin") is None


@pytest.mark.parametrize("seed", range(300))
def test_targets_come_and_go_and_all_else_stays(seed: int) -> None:
    """After any change the aliases are what was asked for, and every line without a change is there as it was."""
    chance = random.Random(seed)
    text = random_aliases(chance, chance.choice(["\n", "\r\n"]))
    found = alias_lines(text)
    alias = chance.choice(found)
    expected = {each.name: each.targets for each in found}
    assert alias.name is not None
    kind = chance.choice(["add", "more", "remove", "fewer"])
    if kind == "add":
        after = with_alias(text, "new", ["carol", "dave"])
        expected["new"] = ["carol", "dave"]
    elif kind == "more":
        after = with_targets(text, alias, ["carol", "dave"])
        expected[alias.name] = [*alias.targets, "carol", "dave"]
    elif kind == "remove" or len(alias.targets) < 2:
        after = without_alias(text, alias)
        del expected[alias.name]
    else:
        places = set(chance.sample(range(len(alias.targets)), chance.randrange(1, len(alias.targets))))
        after = without_targets(text, alias, places)
        expected[alias.name] = [t for place, t in enumerate(alias.targets) if place not in places]
    assert {each.name: each.targets for each in alias_lines(after)} == expected
    untouched = [line for n, line in enumerate(physical(text), 1) if n not in alias.numbers]
    left = iter(line.rstrip("\r\n") for line in physical(after))
    assert all(line.rstrip("\r\n") in left for line in untouched)


def test_a_target_that_goes_over_a_line_end_is_taken_out_all_the_same() -> None:
    """A quoted name with a line end in it is unusual, and right afterwards."""
    text = 'a: "x,\n  y"@example.net, bob,\n carol\n'
    (alias,) = alias_lines(text)
    assert alias.targets == ['"x, y"@example.net', "bob", "carol"]
    assert without_targets(text, alias, {1}) == 'a: "x, y"@example.net, carol\n'


def test_a_target_leaves_no_blanks_behind() -> None:
    """What is left looks as if nothing else had been there."""
    (alias,) = alias_lines("a: x, y, z\n")
    assert [without_targets("a: x, y, z\n", alias, {place}) for place in range(3)] == [
        "a: y, z\n",
        "a: x, z\n",
        "a: x, y\n",
    ]


def test_names_of_app_passwords() -> None:
    """They are plain words, since they stand between colons and in logs."""
    assert is_app_name("phone-2.x_y")
    assert not any(map(is_app_name, ("", "a b", "a:b", "-x", "é", "x" * 65)))


def app_problems(root: Path, text: str) -> list[str]:
    """What is wrong with a file ``app-passwords``; alice and bob are users."""
    files = {"users": "alice:!::::::\nbob:!\n", "aliases": "postmaster: alice\n", "app-passwords": text}
    try:
        load(write_etc(root, MINIMAL, {"example.org": files}))
    except SettingsRefused as refused:
        return [str(problem).partition("app-passwords")[2] for problem in refused.problems]
    return []


def test_app_passwords_are_read(tmp_path: Path) -> None:
    """Each user has his, by name, in the order of the file."""
    text = f"# name them after what uses them\nalice:phone:{VERIFIER}\n\nbob:tv:{VERIFIER}\nalice:laptop:{VERIFIER}\n"
    assert app_problems(tmp_path, text) == []
    accounts = load(str(tmp_path / "mta.toml")).directory.accounts
    assert [each.name for each in accounts["alice@example.org"].app_passwords] == ["phone", "laptop"]
    assert accounts["bob@example.org"].app_passwords[0].source.endswith("app-passwords:4")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("alice:phone\n", ":1: expected user:name:{SCHEME}hash"),
        (f"carol:x:{VERIFIER}\n", ':1: expected a user of this domain, found "carol"'),
        (f"alice:a b:{VERIFIER}\n", ":1: expected a name of letters"),
        (f"alice:x:{VERIFIER}\nalice:x:{VERIFIER}\n", ":2: expected each name once, found x again, see "),
        ("alice:x:secret\n", ":1: expected a verifier {SCRAM-SHA-256}"),
        ("alice:x:{SCRAM-SHA-256}100" + VERIFIER[19:] + "\n", ":1: expected 4096 iterations or more"),
        ("".join(f"alice:x{n}:{VERIFIER}\n" for n in range(PER_USER + 1)), f":{PER_USER + 1}: expected {PER_USER} app"),
    ],
)
def test_what_is_wrong_with_app_passwords_is_told(tmp_path: Path, text: str, problem: str) -> None:
    """Each fault is told with its line, and no password is shown."""
    (told,) = app_problems(tmp_path, text)
    assert told.startswith(problem)
    assert "secret" not in told


def test_a_domain_says_how_much_its_users_may_send(tmp_path: Path) -> None:
    """A user's own numbers come before those of ``"*"``; what neither says is left open."""
    toml = '[caps.alice]\nmessages = 9\n[caps."*"]\nmessages = 5\nfirst_time_recipients = 0\n'
    files = {"users": "alice:!::::::\nbob:!\n", "aliases": "postmaster: alice\n", "domain.toml": toml}
    accounts = load(write_etc(tmp_path, MINIMAL, {"example.org": files})).directory.accounts
    alice, bob = accounts["alice@example.org"].caps, accounts["bob@example.org"].caps
    assert (alice.messages, alice.first_time_recipients) == (9, 0)
    assert (bob.messages, bob.first_time_recipients) == (5, 0)
    files["domain.toml"] = "[caps.carol]\nmessages = 1\n"
    with pytest.raises(SettingsRefused, match=r"\[caps\] carol: expected a user of example.org"):
        load(write_etc(tmp_path, MINIMAL, {"example.org": files}))

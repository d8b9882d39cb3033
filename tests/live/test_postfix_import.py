"""`mta import postfix` beside Postfix's own programs: postmap and postconf say what its files mean."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from mta.cli.postfix.main_cf import MainCf
from mta.cli.postfix.tables import read_table
from mta.cli.postfix.translation import read_file, translate, write
from mta.settings.directory import Directory, Local
from mta.settings.reader import load
from mta.settings.values import parse_address
from tests.live.peers.process import program

pytestmark = pytest.mark.live

PIECES = ("a", "B", "c@x.example", "@X.example", "key", '"q r"', '"', "\\", "#", ":", "é", "1")
BLANKS = (" ", "\t", "  ", " \t ")


def settle(file: Path) -> None:
    """Make a file old: of one that may still be written Postfix waits for the end."""
    os.utime(file, (1, 1))


def configured(root: Path, text: str = "") -> Path:
    """Write a directory that Postfix's programs take for theirs."""
    root.mkdir(exist_ok=True)
    (root / "main.cf").write_text(f"compatibility_level = 3.6\nmyhostname = mail.example.org\n{text}")
    (root / "master.cf").touch()
    settle(root / "main.cf")
    return root


def postmap(root: Path, table: str, keys: Iterable[str]) -> Mapping[str, str]:
    """What Postfix finds in a table for each key; only keys that can stand in a line."""
    asked = "".join(f"{key}\n" for key in keys)
    done = subprocess.run(
        [program("postmap"), "-c", str(root), "-q", "-", table],
        check=False,
        capture_output=True,
        input=asked.encode(),
        env={"PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C"},
    )
    assert done.returncode in (0, 1), done.stderr
    return dict(line.split("\t", 1) for line in done.stdout.decode().splitlines())


def a_table(chance: random.Random) -> str:
    """The text of a table: entries, comments, lines that go on, and lines that are none."""
    lines = []
    for _ in range(chance.randrange(1, 14)):
        kind = chance.random()
        key = "".join(chance.choices(PIECES, k=chance.randrange(1, 3)))
        value = chance.choice(BLANKS).join(chance.choices(PIECES, k=chance.randrange(1, 4)))
        if kind < 0.6:
            lines.append(f"{key}{chance.choice(BLANKS)}{value}{chance.choice(('', ' '))}")
        elif kind < 0.7:
            lines.append(f"{chance.choice(('', ' '))}# {value}")
        elif kind < 0.8:
            lines.append(chance.choice(("", "  ")))
        elif kind < 0.9:
            lines.append(f"{chance.choice(BLANKS)}{value}")
        else:
            lines.append(key)
    return "\n".join(lines) + chance.choice(("", "\n"))


@pytest.mark.parametrize("kind", ["texthash", "hash"])
def test_tables_say_what_postmap_says(tmp_path: Path, kind: str) -> None:
    """For random tables every key that is there, and others, gives what postmap -q gives."""
    root = configured(tmp_path / "postfix", "smtputf8_enable = no\n")
    chance, found = random.Random(5), 0
    for number in range(60):
        file = tmp_path / f"table{number}"
        file.write_text(a_table(chance))
        settle(file)
        if kind != "texthash":
            done = subprocess.run(
                [program("postmap"), "-c", str(root), f"{kind}:{file}"], check=False, capture_output=True
            )
            assert done.returncode == 0, done.stderr
        table = read_table(f"{kind}:{file}", read_file)
        keys = {entry.key for entry in table.entries} | {entry.key.upper() for entry in table.entries}
        keys |= {"".join(chance.choices(PIECES, k=2)) for _ in range(10)}
        keys = {key for key in keys if key.isascii() and key == key.strip() and key and "\t" not in key}
        theirs = postmap(root, f"{kind}:{file}", keys)
        ours = {key: value for key in keys if (value := table.lookup(key)) is not None}
        assert ours == theirs, file.read_text()
        found += len(ours)
    assert found > 200


NAMES = ("mail_name", "myorigin", "relayhost", "home_mailbox", "smtp_bind_address", "syslog_name")


def a_value(chance: random.Random, names: tuple[str, ...], depth: int = 0) -> str:
    """A value that refers to others in every form."""
    parts = []
    for _ in range(chance.randrange(1, 4)):
        kind = chance.randrange(8)
        name = chance.choice(names) if names else "myhostname"
        inner = a_value(chance, names, depth + 1) if depth < 2 else chance.choice("xyz")
        other = chance.choice(("", "u", "v w"))
        parts.append(
            (
                chance.choice(("a", "b c", "1", "$$d")),
                f"${name} ",
                f"${{{name}}}",
                f"$({name})",
                f"${{{name}?{{{inner}}}:{{{other}}}}}",
                f"${{{name}:{{{inner}}}}}",
                f"${{{{${name}}} == {{{other}}} ? {{{inner}}} : {{no}}}}",
                f"${{content_filter:{{{inner}}}}}",
            )[kind]
        )
    return "".join(parts).strip()


def test_values_are_those_of_postconf(tmp_path: Path) -> None:
    """For random main.cf every value is expanded as postconf -x does it, blanks aside."""
    chance = random.Random(7)
    for number in range(40):
        text = ""
        for at, name in enumerate(NAMES):
            text += f"{name} = {a_value(chance, NAMES[:at])}\n" if chance.random() < 0.9 else f"{name} =\n"
        root = configured(tmp_path / f"postfix{number}", text)
        done = subprocess.run(
            [program("postconf"), "-c", str(root), "-x", *NAMES], check=True, capture_output=True, text=True
        )
        theirs = {line.partition(" =")[0]: line.partition(" =")[2].split() for line in done.stdout.splitlines()}
        main = MainCf((root / "main.cf").read_text(), "main.cf", {})
        for name in NAMES:
            assert "".join(main.value(name).split()) == "".join(theirs[name]), (name, text)


USERS = ("anna", "bert", "carl")
ALIASES = tuple(f"n{number}" for number in range(8))


def virtual(chance: random.Random) -> str:
    """A table of virtual aliases in a.example, which has mailboxes, and b.example, which has none; no circles."""
    lines = ["b.example anything"]
    for number, name in enumerate(ALIASES):
        for domain in ("a.example", "b.example"):
            if chance.random() < 0.7:
                later = [f"{each}@{chance.choice('ab')}.example" for each in ALIASES[number + 1 :]]
                pool = [*later, *(f"{user}@a.example" for user in USERS), "ext@other.example", "none@b.example"]
                chosen = chance.sample(pool, chance.randrange(1, 4))
                separator = chance.choice((", ", " ", ",\n\t"))
                lines.append(f"{name}@{domain} {separator.join(chosen)}")
    if chance.random() < 0.4:
        lines.append(f"{USERS[0]}@a.example {USERS[0]}@a.example, {USERS[1]}@a.example")
    if chance.random() < 0.4:
        lines.append("@b.example bert@a.example")
    chance.shuffle(lines)
    return "\n".join(lines) + "\n"


def keys_of(address: str) -> list[str]:
    """What virtual(5) looks up: the address, without its extension, its domain."""
    user, _, domain = address.partition("@")
    return [address, f"{user.partition('+')[0]}@{domain}", f"@{domain}"]


def expanded(found: Mapping[str, str], address: str) -> set[str]:
    """Where virtual(5) sends an address by what postmap found: again and again, until nothing is found."""
    final: set[str] = set()
    todo, seen = [address], set()
    while todo:
        here = todo.pop()
        value = next((found[key] for key in keys_of(here) if key in found), None)
        if value is None or here in seen:
            final.add(here)
            continue
        seen.add(here)
        targets = value.replace(",", " ").split()
        final |= {here} & set(targets)
        todo += [each for each in targets if each != here]
    mailboxes = {f"{each}@a.example" for each in USERS}
    return {each for each in final if each in mailboxes or each.endswith("@other.example")}


def leads(directory: Directory, address: str) -> set[str]:
    """Where our directory sends an address."""
    found = directory.resolve(parse_address(address))
    if not isinstance(found, Local):
        return set()
    return {account.login for account in found.accounts} | {str(mailbox) for mailbox in found.outside}


def test_addresses_lead_where_postfix_sends_them(tmp_path: Path) -> None:
    """For random virtual aliases every address leads to the mailboxes and outside addresses that postmap leads to."""
    chance, followed = random.Random(11), 0
    for number in range(30):
        place = tmp_path / str(number)
        root = configured(
            place,
            f"""mydestination =
alias_maps =
recipient_delimiter = +
smtpd_tls_cert_file = {place}/main.cf
virtual_mailbox_domains = a.example
virtual_mailbox_maps = texthash:{place}/vmailbox
virtual_alias_maps = texthash:{place}/virtual
""",
        )
        (root / "vmailbox").write_text("".join(f"{user}@a.example a/{user}/\n" for user in USERS))
        (root / "virtual").write_text(virtual(chance))
        settle(root / "virtual")
        outcome, problems = translate(str(root), persons=[])
        assert problems == ()
        write(outcome, place / "etc")
        directory = load(str(place / "etc/mta.toml")).directory
        names = (*USERS, *ALIASES, f"{ALIASES[0]}+x", "unknown")
        addresses = [f"{name}@{domain}" for domain in ("a.example", "b.example") for name in names]
        others = ["ext@other.example", "none@b.example"]
        keys = {key for address in (*addresses, *others) for key in keys_of(address)}
        found = postmap(root, f"texthash:{place}/virtual", keys)
        for address in addresses:
            theirs = expanded(found, address)
            if not theirs and not found.keys().isdisjoint(keys_of(address)[:2]):
                # An alias to nobody is left out, and told; a catch-all takes its mail.
                theirs = expanded(found, f"unknown@{address.partition('@')[2]}")
            assert leads(directory, address) == theirs, (address, (root / "virtual").read_text())
            followed += bool(theirs)
    assert followed > 300

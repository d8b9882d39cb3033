"""Names of this machine as addresses: root, cron's users, and a file of aliases(5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mta.settings.directory import Directory, Local, NotLocal, Unknown
from mta.settings.domains import read_directory
from mta.settings.local import LocalSettings
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.reader import load
from mta.settings.sections import Settings
from mta.settings.values import parse_address
from tests.doubles.etc import ALIASES, MINIMAL, USERS, write_etc

HOST = "mail.example.org"
PEOPLE = ("root", "www-data", "dave")


def read(
    root: Path,
    aliases: str = "",
    local: LocalSettings | None = None,
    domains: dict[str, dict[str, str]] | None = None,
    problems: list[Problem] | None = None,
    users: Sequence[str] = PEOPLE,
) -> Directory:
    """Read a directory with alice (postmaster) and bob of example.org, and a file of aliases(5)."""
    write_etc(root, MINIMAL, domains)
    file = root / "aliases"
    file.write_text(aliases)
    local = local or LocalSettings(aliases=str(file))
    found: list[Problem] = []
    directory = read_directory(str(root / "domains"), Settings(HOST, local=local), found, lambda: users)
    if problems is None:
        assert found == []
    else:
        problems += found
    return directory


def leads(directory: Directory, address: str) -> list[str]:
    """Where an address leads to; what it is where that is nowhere."""
    found = directory.resolve(parse_address(address))
    if isinstance(found, Local):
        return [account.login for account in found.accounts] + [str(mailbox) for mailbox in found.outside]
    return [type(found).__name__]


def test_nothing_is_an_address_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Without [local] the host name is no domain of ours."""
    assert leads(read(tmp_path, local=LocalSettings()), f"root@{HOST}") == [NotLocal.__name__]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("root", ["bob@example.org", "ext@example.net"]),
        ("ROOT", ["bob@example.org", "ext@example.net"]),
        ("root+cron", ["bob@example.org", "ext@example.net"]),
        ("postmaster", ["bob@example.org", "ext@example.net"]),
        ("www-data", ["bob@example.org", "ext@example.net"]),
        ("ops", ["alice@example.org"]),
        ("news", ["bob@example.org", "ext@example.net"]),
        ("alice", ["alice@example.org", "bob@example.org"]),
        ("unnamed", [Unknown.__name__]),
        ("bob", [Unknown.__name__]),
    ],
)
@pytest.mark.parametrize("host", [HOST, "localhost"])
def test_names_lead_where_the_file_says(tmp_path: Path, name: str, where: list[str], host: str) -> None:
    """An alias, or root for a user of this machine; a name in neither is unknown, also where a mailbox has it."""
    text = '# comment\nroot: bob,\n  ext@example.net\nops: dave\n"news" : root\nalice: alice, bob\n'
    assert leads(read(tmp_path, text), f"{name}@{host}") == where


def test_root_without_an_alias(tmp_path: Path) -> None:
    """Mail for root goes to [local] root, or else to the postmaster of the primary domain."""
    directory = read(tmp_path, "ops: root\n")
    assert leads(directory, f"ops@{HOST}") == leads(directory, f"www-data@{HOST}") == ["alice@example.org"]
    local = LocalSettings(socket="s", root=parse_address("admin@example.net"))
    assert leads(read(tmp_path, local=local), f"root@{HOST}") == ["admin@example.net"]


def test_a_machine_without_domains(tmp_path: Path) -> None:
    """Where nobody reads mail here, [local] root makes the names; without it they are for the smart host."""
    local = LocalSettings(socket="s", root=parse_address("admin@example.net"))
    assert leads(read(tmp_path, local=local, domains={}), f"dave@{HOST}") == ["admin@example.net"]
    assert leads(read(tmp_path, local=LocalSettings(socket="s"), domains={}), f"root@{HOST}") == [NotLocal.__name__]


def test_a_user_of_this_machine_has_no_mail_spool(tmp_path: Path) -> None:
    """An alias to a user of this machine without a mailbox leads to the postmaster, and never in a circle."""
    assert leads(read(tmp_path, "root: dave\n"), f"dave@{HOST}") == ["alice@example.org"]


def test_the_host_name_may_be_a_domain(tmp_path: Path) -> None:
    """Users and aliases of the host name's own domain come before the file and before root."""
    domains = {HOST: {"users": "dave:!\nalice:!\n", "aliases": "postmaster: alice\nops: dave\n"}}
    directory = read(tmp_path, "ops: alice\nroot: dave\ndave: alice\n", domains=domains)
    assert leads(directory, f"ops@{HOST}") == [f"dave@{HOST}"]
    assert leads(directory, f"dave@{HOST}") == [f"dave@{HOST}"]
    assert leads(directory, f"www-data@{HOST}") == [f"dave@{HOST}"]
    assert leads(directory, "root@localhost") == [f"dave@{HOST}"]
    assert list(directory.domains) == [HOST]


def test_names_at_another_domain(tmp_path: Path) -> None:
    """With [local] domain the names stand there too, behind its own users and aliases."""
    file = tmp_path / "aliases"
    local = LocalSettings(aliases=str(file), domain="example.org")
    directory = read(tmp_path, "root: ext@example.net\nbob: ext@example.net\n", local)
    assert leads(directory, "root@example.org") == ["ext@example.net"]
    assert leads(directory, "bob@example.org") == ["bob@example.org"]
    assert leads(directory, f"bob@{HOST}") == ["ext@example.net"]


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("root: bob\nlist: |/bin/cat\n", 2, '"|/bin/cat"'),
        ('list: "|/bin/cat, x"\n', 1, "|/bin/cat, x"),
        ("list: /var/mail/x\n", 1, '"/var/mail/x"'),
        ("list: :include:/etc/list\n", 1, ":include:/etc/list"),
        ("a: b\nb: a\n", 2, f"a@{HOST} → b@{HOST} → a@{HOST}"),
        ("a: nobody-here\n", 1, f"nobody-here@{HOST}, which is not there"),
        ("no alias\n", 1, '"no alias"'),
        ("a: bob\nA: alice\n", 2, "a again"),
    ],
)
def test_what_cannot_be_done_is_told_with_its_line(tmp_path: Path, text: str, line: int, found: str) -> None:
    """Programs, files, lists in files, circles and names of nobody are problems of the file."""
    problems: list[Problem] = []
    read(tmp_path, text, problems=problems)
    assert [each.line for each in problems if found in each.found and each.file.endswith("aliases")] == [line]


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    """/etc/aliases is read where it is there."""
    directory = read(tmp_path, local=LocalSettings(aliases=str(tmp_path / "none")))
    assert leads(directory, f"root@{HOST}") == ["alice@example.org"]


def test_the_settings_are_read(tmp_path: Path) -> None:
    """The section has paths relative to mta.toml, addresses and senders; a domain must be one of ours."""
    domains = {"example.org": {"users": USERS, "aliases": ALIASES}}
    toml = MINIMAL + (
        '[local]\nsocket = "run/s"\naliases = "aliases"\nroot = "admin@example.net"\ndomain = "example.org"\n'
        '[local.senders]\nwww-data = ["*"]\n'
    )
    local = load(write_etc(tmp_path, toml, domains)).local
    assert (local.socket, local.aliases) == (str(tmp_path / "run/s"), str(tmp_path / "aliases"))
    assert local.root == parse_address("admin@example.net")
    assert local.senders["www-data"][0].matches(parse_address("any@where.example"))
    with pytest.raises(SettingsRefused, match="host name, or a directory"):
        load(write_etc(tmp_path, toml.replace('domain = "example.org"', 'domain = "example.net"'), domains))

"""What an address is, and whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.settings.directory import Directory, Local, NotLocal, Unknown
from mta.settings.reader import load
from mta.smtp.address import Mailbox
from tests.doubles.etc import write_etc


@pytest.fixture
def ours(tmp_path: Path) -> Directory:
    """example.org with a separator and example.net with a catch-all, and a domain in U-labels."""
    people = "alice:!\nbob:!\n"
    return load(
        write_etc(
            tmp_path,
            domains={
                "example.org": {
                    "users": people + "carol+x:!\n",
                    "aliases": "postmaster: alice\nsales: alice, bob\nlist: out@example.com\n",
                    "domain.toml": '[senders]\nbob = ["*@example.com", "news@example.net"]\n',
                },
                "example.net": {
                    "users": people,
                    "aliases": "postmaster: bob\n*: alice\n",
                    "domain.toml": 'separator = ""\n',
                },
                "bücher.example": {"users": "ünal:!\n", "aliases": "postmaster: ünal\n"},
            },
        )
    ).directory


@pytest.mark.parametrize(
    ("local_part", "domain", "login"),
    [
        ("alice", "example.org", "alice@example.org"),
        ("ALICE", "example.org", "alice@example.org"),
        ("alice+list", "example.org", "alice@example.org"),
        ("alice+a+b", "example.org", "alice@example.org"),
        ("alice+", "example.org", "alice@example.org"),
        ("carol+x", "example.org", "carol+x@example.org"),
        ("Postmaster", "example.org", "alice@example.org"),
        ("POSTMASTER", "", "alice@example.org"),
        ("nobody", "example.net", "alice@example.net"),
        ("bob+x", "example.net", "alice@example.net"),
        ("ÜNAL", "bücher.example", "ünal@xn--bcher-kva.example"),
        ("u\u0308nal", "xn--bcher-kva.example", "ünal@xn--bcher-kva.example"),
    ],
)
def test_ours(ours: Directory, local_part: str, domain: str, login: str) -> None:
    """Names in any case, subaddresses, aliases, the catch-all, postmaster alone, and domains in both forms resolve."""
    found = ours.resolve(Mailbox(local_part, domain))
    assert isinstance(found, Local)
    assert [account.login for account in found.accounts] == [login]
    assert found.reasons[0].source


@pytest.mark.parametrize("local_part", ["nobody", "+alice", "", "alic", "alice.", "nobody+x", "carol"])
def test_unknown(ours: Directory, local_part: str) -> None:
    """Nobody else is there."""
    found = ours.resolve(Mailbox(local_part, "example.org"))
    assert isinstance(found, Unknown)
    assert found.reason.source.endswith("domains/example.org")


@pytest.mark.parametrize(
    "domain",
    [
        "example.com",
        "sub.example.org",
        "org",
        "example.org.",
        "[127.0.0.1]",
        "evilexample.org",
        "büch\u200d.x",
        "ü" * 70,
    ],
)
def test_not_ours(ours: Directory, domain: str) -> None:
    """No other domain is ours: not below, not above, not with a dot, no literal, no name that IDNA refuses."""
    found = ours.resolve(Mailbox("alice", domain))
    assert isinstance(found, NotLocal)
    assert domain in found.reason.text


def test_only_postmaster_needs_no_domain(ours: Directory) -> None:
    """Any other local-part alone is unknown, also where there are no domains at all."""
    assert isinstance(ours.resolve(Mailbox("alice", "")), Unknown)
    assert isinstance(Directory().resolve(Mailbox("postmaster", "")), Unknown)


def test_a_subaddress_says_so(ours: Directory) -> None:
    """The reasons of a subaddress begin with what it is."""
    found = ours.resolve(Mailbox("alice+list", "example.org"))
    assert isinstance(found, Local)
    assert [reason.text for reason in found.reasons] == [
        "alice+list is a subaddress of alice",
        "alice@example.org is a user",
    ]


@pytest.mark.parametrize(
    ("login", "found"),
    [
        ("alice@example.org", True),
        ("Alice@EXAMPLE.org", True),
        ("ünal@Bücher.example", True),
        ("ÜNAL@xn--bcher-kva.example", True),
        ("alice", False),
        ("", False),
        ("@", False),
        ("alice+x@example.org", False),
        ("sales@example.org", False),
        ("alice@example.com", False),
    ],
)
def test_a_login_is_a_whole_address_of_an_account(ours: Directory, login: str, found: bool) -> None:
    """Case and form of the domain do not matter; aliases, subaddresses and bare names do not log in."""
    assert (ours.account(login) is not None) == found


@pytest.mark.parametrize(
    ("login", "mailbox", "source"),
    [
        ("alice@example.org", Mailbox("alice", "example.org"), "users:1"),
        ("ALICE@example.org", Mailbox("Alice", "example.org"), "users:1"),
        ("alice@example.org", Mailbox("alice+x", "example.org"), "example.org"),
        ("bob@example.org", Mailbox("sales", "example.org"), "aliases:2"),
        ("alice@example.org", Mailbox("postmaster", ""), "aliases:1"),
        ("alice@example.net", Mailbox("whoever", "example.net"), "aliases:2"),
        ("bob@example.org", Mailbox("x", "example.com"), "domain.toml:2"),
        ("bob@example.org", Mailbox("NEWS", "example.net"), "domain.toml:2"),
        ("bob@example.org", Mailbox("alice", "example.org"), None),
        ("bob@example.org", Mailbox("list", "example.org"), None),
        ("bob@example.org", Mailbox("bob", "example.net"), None),
        ("bob@example.org", Mailbox("carol+x", "example.org"), None),
        ("bob@example.org", Mailbox("nobody", "example.org"), None),
        ("alice@example.org", Mailbox("x", "example.com"), None),
        ("alice@example.net", Mailbox("bob", "example.net"), None),
        ("nobody@example.org", Mailbox("alice", "example.org"), None),
    ],
)
def test_who_owns_an_address(ours: Directory, login: str, mailbox: Mailbox, source: str | None) -> None:
    """A login owns what leads to it, and what domain.toml gives it; the reason names the line."""
    found = ours.owns(login, mailbox)
    if source is None:
        assert found is None
    else:
        assert found is not None
        assert found.source.endswith(source)

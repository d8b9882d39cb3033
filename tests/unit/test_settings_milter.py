"""Settings of mail filters."""

from __future__ import annotations

import dataclasses
import ipaddress
import tomllib
from typing import Any

import pytest

from mta.settings import milter, reference
from mta.settings.locate import locate
from mta.settings.milter import InetSocket, MilterDeadlines, MilterSettings, UnixSocket, parse_milter_address
from mta.settings.problem import Problem
from mta.settings.table import Reading
from mta.settings.values import Endpoint

TABLE = """\
name = "rspamd"
address = "inet:[::1]:11332"
services = ["mx"]
failure = "accept"
body_maximum = "10M"
exempt = ["127.0.0.0/8", "2001:db8::/32"]
daemon_name = "ORIGINATING"

[deadlines]
end = "1m"
"""


def read(text: str) -> tuple[MilterSettings, list[Problem]]:
    """Read one table."""
    problems: list[Problem] = []
    table: dict[str, Any] = tomllib.loads(text)
    return Reading("etc/mta.toml", locate(text), problems).table(MilterSettings, table), problems


def test_a_whole_table() -> None:
    """Every key is read as its kind."""
    settings, problems = read(TABLE)
    assert problems == []
    assert dataclasses.replace(settings, source="") == MilterSettings(
        "rspamd",
        InetSocket(Endpoint("::1", 11332)),
        ("mx",),
        "accept",
        MilterDeadlines(end=60.0),
        10 * 1024 * 1024,
        (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")),
        "ORIGINATING",
    )


def test_the_least_table() -> None:
    """Name and address suffice: both services, all of the body, 451 when it fails. Without them there are problems."""
    settings, problems = read('name = "x"\naddress = "unix:/run/x.sock"\n')
    assert problems == []
    assert settings.address == UnixSocket("/run/x.sock")
    assert settings.services == ("mx", "smtpd")
    assert settings.failure == "tempfail"
    assert settings.body_maximum is None
    assert [problem.key for problem in read("")[1]] == ["name", "address"]


@pytest.mark.parametrize(
    "line",
    [
        'services = ["mx", "lmtp"]',
        'failure = "ignore"',
        'body_maximum = "much"',
        'exempt = ["192.0.2.1/24"]',
        "deadlines = {end = 5}",
        'colour = "red"',
    ],
)
def test_what_does_not_fit(line: str) -> None:
    """Other services, failures, sizes, networks, times and keys are problems."""
    assert len(read(f'name = "x"\naddress = "unix:/x"\n{line}\n')[1]) == 1


def test_addresses() -> None:
    """Addresses are written as Postfix writes them, and read back the same."""
    for text in ("inet:127.0.0.1:8891", "inet:[::1]:8891", "inet:filter.example.org:8891", "unix:/run/a:b/c d.sock"):
        assert str(parse_milter_address(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "unix:", "unix:run/x", "unix:/a\0b", "local:/x", "inet:8891", "inet:host", "inet:host:0", "127.0.0.1:8891"],
)
def test_what_is_no_address(text: str) -> None:
    """Relative paths, other kinds, no port or no host."""
    with pytest.raises(ValueError):
        parse_milter_address(text)


def test_whose_mail_a_filter_sees() -> None:
    """It sees its services, but not exempt networks, IPv4 also where it comes mapped into IPv6."""
    settings, _ = read(TABLE)
    assert settings.sees("mx", "192.0.2.1")
    assert settings.sees("mx", "")
    assert not settings.sees("smtpd", "192.0.2.1")
    assert not settings.sees("mx", "127.9.9.9")
    assert not settings.sees("mx", "::ffff:127.0.0.1")
    assert not settings.sees("mx", "2001:db8::1")


def test_the_longest_wait_is_shorter_than_the_servers() -> None:
    """By default a filter fails before the server gives up by itself, so that its failure mode counts."""
    deadlines = MilterDeadlines()
    assert max(dataclasses.astuple(deadlines)) == deadlines.longest < 240


def test_every_field_is_described() -> None:
    """No field is without a text below it."""
    for cls in (milter.MilterSettings, milter.MilterDeadlines):
        described = reference._descriptions(cls)
        assert [field.name for field in dataclasses.fields(cls) if not described.get(field.name)] == []

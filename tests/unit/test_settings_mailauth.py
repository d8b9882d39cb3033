"""`mta.settings.mailauth`: what the table takes and what it refuses."""

from __future__ import annotations

import ipaddress
import tomllib

import pytest

from mta.settings.locate import locate
from mta.settings.mailauth import MailauthSettings, OverrideSettings
from mta.settings.problem import Problem
from mta.settings.table import Reading


def read(text: str) -> tuple[MailauthSettings, list[Problem]]:
    """Read the keys of a [mailauth] table."""
    problems: list[Problem] = []
    reading = Reading("etc/mta.toml", locate(text), problems)
    return reading.table(MailauthSettings, tomllib.loads(text)), problems


def test_everything() -> None:
    """Each key is read."""
    found, problems = read(
        """
        spf = false
        apply_dmarc = "report"
        unreadable_from = "quarantine"
        quarantine_folder = "Junk.Forged"
        body_length = "pass"
        authserv_id = "MX.example.org"
        arc_sealers = ["lists.example.net", "bücher.example"]
        trusted_networks = ["192.0.2.0/24"]
        [deadlines]
        spf = "30s"
        [[override]]
        domain = ".Bücher.example"
        networks = ["2001:db8::/32"]
        disposition = "quarantine"
        reason = "they asked"
        """
    )
    assert problems == []
    assert (found.spf, found.dkim, found.apply_dmarc, found.unreadable_from) == (False, True, "report", "quarantine")
    assert (found.authserv_id, found.arc_sealers) == ("mx.example.org", ("lists.example.net", "xn--bcher-kva.example"))
    assert (found.quarantine_folder, found.deadlines.spf, found.body_length) == ("Junk.Forged", 30.0, "pass")
    assert found.overrides == (
        OverrideSettings(
            ".xn--bcher-kva.example",
            (ipaddress.ip_network("2001:db8::/32"),),
            "quarantine",
            "they asked",
            "etc/mta.toml:12",
        ),
    )


@pytest.mark.parametrize(
    "line",
    [
        'apply_dmarc = "no"',
        'unreadable_from = "defer"',
        'quarantine_folder = "../x"',
        'quarantine_folder = "a/b"',
        'quarantine_folder = ".Junk"',
        'quarantine_folder = "Junk."',
        'quarantine_folder = "a..b"',
        'quarantine_folder = "a\\u0000"',
        'authserv_id = "mx.example.org; x"',
        'arc_sealers = ["*"]',
        'trusted_networks = ["192.0.2.1/24"]',
        '[[override]]\ndomain = "*"',
        '[[override]]\ndisposition = "defer"',
        '[[override]]\nsource = "x"',
        '[deadlines]\nspf = "0s"',
        "[deadlines]\nspf = 5",
    ],
)
def test_refused(line: str) -> None:
    """What does not fit is a problem."""
    assert len(read(line)[1]) == 1


def test_trusts() -> None:
    """Mail of this host is not checked, that of others is."""
    settings = MailauthSettings()
    assert settings.trusts("127.0.0.2")
    assert settings.trusts("::1")
    assert settings.trusts("::ffff:127.0.0.1")
    assert not settings.trusts("192.0.2.1")
    assert not settings.trusts("2001:db8::1")

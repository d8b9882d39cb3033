"""The settings of hooks and scripts: what is read, what is refused, where the secret comes from."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from mta.policy.facts import Stage
from mta.settings.hook import StageName, parse_url
from mta.settings.problem import SettingsRefused
from mta.settings.reader import load
from mta.settings.script import ScriptSettings
from mta.settings.sections import PolicySettings
from mta.tls.certificate import make_self_signed
from tests.doubles.etc import MINIMAL, write_etc


def loaded(tmp_path: Path, toml: str) -> PolicySettings:
    """Load a configuration with these tables."""
    return load(write_etc(tmp_path, MINIMAL + toml)).policy


def refused(tmp_path: Path, toml: str) -> list[str]:
    """What is said of a configuration that cannot be used."""
    with pytest.raises(SettingsRefused) as refusal:
        loaded(tmp_path, toml)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in refusal.value.problems]


def test_the_stages_are_those_of_policies() -> None:
    """What may stand in `stages` are the stages there are."""
    assert get_args(StageName) == tuple(stage.value for stage in Stage)


def test_a_hook(tmp_path: Path) -> None:
    """A hook with all its keys; the secret is the first line of its file, which is not shown."""
    (tmp_path / "secret").write_text("0123456789abcdef\r\nmore\n")
    authority = make_self_signed(["x"], 1_600_000_000.0, 10)[0].decode()
    (tmp_path / "ca.pem").write_text(authority)
    policy = loaded(
        tmp_path,
        """
        [[policy.hook]]
        name = "filter"
        url = "https://filter.example.org:8443/mta?site=1"
        stages = ["rcpt", "message"]
        services = ["mx"]
        secret_file = "secret"
        authority = "ca.pem"
        deadline = "2s"
        failure = "accept"
        questions = 5
        body_maximum = "1M"
        """,
    )
    (hook,) = policy.hooks
    assert (hook.name, hook.url) == ("filter", "https://filter.example.org:8443/mta?site=1")
    assert (hook.stages, hook.services) == (("rcpt", "message"), ("mx",))
    assert (hook.deadline, hook.failure, hook.questions, hook.body_maximum) == (2.0, "accept", 5, 1 << 20)
    assert (hook.secret, hook.certificates) == ("0123456789abcdef", authority)
    assert hook.source == f"{tmp_path}/mta.toml:5"
    assert "0123456789abcdef" not in repr(hook)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('url = "http://h/"', "mta.toml:5: [policy.hook] name: expected text in quotes, found nothing"),
        ('name = "a b"\nurl = "http://h/"', "[policy.hook] name: expected a name of letters, digits, - and _, at most"),
        ('name = "h"', 'mta.toml:5: [policy.hook] url: expected a URL, "http://127.0.0.1:8080/mta" or "https://…"'),
        ('name = "h"\nurl = "ftp://h/"', "(the scheme is http or https, the port 1 to 65535), found"),
        ('name = "h"\nurl = "http://h/"\nstages = []', "stages: expected a stage at least, found none"),
        ('name = "h"\nurl = "http://h/"\nstages = ["eom"]', 'expected "connect" or "helo" or'),
        ('name = "h"\nurl = "http://h/"\nfailure = "reject"', 'failure: expected "defer" or "accept", found "reject"'),
        ('name = "h"\nurl = "http://h/"\ndeadline = "0s"', "deadline: expected a time with its unit"),
        ('name = "h"\nurl = "http://h/"\ndeadline = "5m"', "deadline: expected a time with its unit"),
        ('name = "h"\nurl = "http://h/"\nauthority = "mta.toml"', "authority: expected an https URL with it"),
        ('name = "h"\nurl = "https://h/"\nauthority = "mta.toml"', "authority: expected a PEM file with a certificate"),
        ('name = "h"\nurl = "https://h/"\nauthority = "none"', "none: expected a file that can be read"),
        ('name = "h"\nurl = "http://h/"\nsecret_file = "none"', "none: expected a file that can be read"),
        ('name = "h"\nurl = "http://h/"\nsecret_file = "mta.toml"', ""),
    ],
)
def test_a_hook_that_cannot_be_used(tmp_path: Path, keys: str, told: str) -> None:
    """What is wrong with a hook is told with its line; a secret may be any file with a long first line."""
    toml = f"\n[[policy.hook]]\n{keys}\n"
    if not told:
        assert loaded(tmp_path, toml).hooks[0].secret == 'hostname = "mail.example.org"'
        return
    assert any(told in problem for problem in refused(tmp_path, toml))


def test_a_secret_that_is_too_short(tmp_path: Path) -> None:
    """A secret that can be guessed is none; it is not shown."""
    (tmp_path / "secret").write_text("0123456789abcde\n" + "x" * 100)
    toml = '\n[[policy.hook]]\nname = "h"\nurl = "http://h/"\nsecret_file = "secret"\n'
    (problem,) = refused(tmp_path, toml)
    assert "secret_file: expected a first line of 16 octets or more in" in problem
    assert problem.endswith(", found 15")


def test_two_hooks_of_one_name(tmp_path: Path) -> None:
    """Names tell hooks apart in `order`, reasons and tags."""
    toml = '\n[[policy.hook]]\nname = "h"\nurl = "http://h/"\n' * 2
    (problem,) = refused(tmp_path, toml)
    assert 'name: expected each name once, found "h"' in problem


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80/x", "http://[::1]:8080", "https://a.b/c?d=e", "HTTP://h/", "http://h:/x"]
)
def test_urls(url: str) -> None:
    """What an Agent can ask."""
    assert parse_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/path",
        "h:80",
        "http://a b/",
        "http://h/\r\nX: y",
        "ftp://x/",
        "http://u:p@h/",
        "http://h/#f",
        "http:///x",
        "http://h:99999/",
        "http://h:0/",
        "http://[::1",
        "http://[::x]/",
        "http://ä/",
        "http://127.0.0.1.:5/",
        "unix:/run/x",
    ],
)
def test_what_is_no_url(url: str) -> None:
    """What no Agent can ask, or would ask with a password in the log."""
    with pytest.raises(ValueError):
        parse_url(url)


def test_scripts(tmp_path: Path) -> None:
    """The directory of scripts is beside the configuration unless it is written; limits have bounds."""
    assert loaded(tmp_path, "").scripts == ScriptSettings()
    assert ScriptSettings().place("/etc/mta/mta.toml") == "/etc/mta/policy"
    scripts = loaded(tmp_path, '\n[policy.scripts]\ndirectory = "../rules"\nmemory = "1G"\ndeadline = "0.5s"\n').scripts
    assert scripts.place(f"{tmp_path}/mta.toml") == str(tmp_path.parent / "rules")
    assert (scripts.memory, scripts.deadline) == (1 << 30, 0.5)
    (problem,) = refused(tmp_path, '\n[policy.scripts]\nmemory = "10M"\n')
    assert "memory: expected a size" in problem
    (problem,) = refused(tmp_path, "\n[policy.scripts]\nchildren = 17\n")
    assert "children: expected a whole number, 1 to 16, found 17" in problem

"""`mta check`, as an administrator and as a monitoring system types it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mta.cli import main
from mta.cli.check import _checks, _plain, bounded
from mta.cli.names import InTurn, finish
from mta.dns.answer import Failure, Found, RecordType
from mta.service.check.finding import Finding, error, note, warning
from mta.settings.directory import Directory, Domain
from mta.settings.sections import Settings
from tests.doubles.dns import ZoneResolver
from tests.doubles.etc import MINIMAL, write_etc

ERROR = error("disk", "it is full", "mail is refused", "/state", "make room")
WARNING = warning("names", "no DMARC policy", "others want one", "192.0.2.53:53", "publish\na. IN TXT b")
NOTE = note("disk", "a sync takes 2 ms", "plausible", "/state")


class Site:
    """A configuration, and checks of a test in place of the real ones."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config = Path(write_etc(root / "etc", f'state = "{root}/state"\n' + MINIMAL))
        self.checks: dict[str, Callable[[], list[Finding]]] = {}
        self.arguments: list[Any] = []
        monkeypatch.setattr("mta.cli.check._checks", self.make)

    def make(self, *arguments: Any) -> dict[str, Callable[[], list[Finding]]]:
        """The checks."""
        self.arguments = list(arguments)
        return self.checks

    def check(self, *arguments: str) -> Result:
        """Run `mta check`; no traceback ever."""
        result = CliRunner().invoke(main, ["check", "--config", str(self.config), *arguments])
        assert isinstance(result.exception, SystemExit) or result.exception is None, result.exception
        return result


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """One where nothing is wrong."""
    return Site(tmp_path, monkeypatch)


def test_nothing_wrong(site: Site) -> None:
    """One line, status 0; notes change neither."""
    result = site.check()
    assert (result.exit_code, result.output) == (0, "All is well.\n")
    site.checks["disk"] = lambda: [NOTE]
    result = site.check()
    assert result.exit_code == 0
    assert result.output.endswith("All is well (1 note).\n")


def test_findings_are_ranked_and_say_how_to_mend_them(site: Site) -> None:
    """What, why with its source, and what to do, the gravest first; the status is that of the gravest."""
    site.checks = {"names": lambda: [WARNING], "disk": lambda: [NOTE, ERROR]}
    result = site.check()
    assert result.exit_code == 2
    assert result.output == (
        "error    disk: it is full\n"
        "    why:   mail is refused  [/state]\n"
        "    mend:  make room\n"
        "warning  names: no DMARC policy\n"
        "    why:   others want one  [192.0.2.53:53]\n"
        "    mend:  publish\n"
        "           a. IN TXT b\n"
        "note     disk: a sync takes 2 ms\n"
        "    why:   plausible  [/state]\n"
        "1 error, 1 warning, 1 note\n"
    )
    del site.checks["disk"]
    result = site.check()
    assert result.exit_code == 1
    assert result.output.endswith("\n1 warning\n")


def test_json_for_programs(site: Site) -> None:
    """One object a line, with the same status, and nothing else."""
    site.checks = {"names": lambda: [WARNING], "disk": lambda: [ERROR]}
    result = site.check("--json")
    assert result.exit_code == 2
    first, second = map(json.loads, result.output.splitlines())
    assert first == {
        "severity": "error",
        "check": "disk",
        "what": "it is full",
        "why": "mail is refused",
        "source": "/state",
        "mend": "make room",
    }
    assert second["mend"] == "publish\na. IN TXT b"


def test_some_checks_only(site: Site) -> None:
    """--only chooses; a name that is none is told with those that are."""
    site.checks = {"names": lambda: [WARNING], "disk": lambda: [ERROR]}
    assert site.check("--only", "names").exit_code == 1
    result = site.check("--only", "name")
    assert result.exit_code == 2
    assert "there are disk, names" in result.output


def test_a_configuration_that_cannot_be_read(site: Site) -> None:
    """Its problems are the findings, with file, line, and what was expected."""
    site.config.write_text('hostname = "mail.example.org"\n[mx]\nlisten = "25"\n')
    result = site.check("--json")
    assert result.exit_code == 2
    problems = [json.loads(line) for line in result.output.splitlines()]
    assert {problem["check"] for problem in problems} == {"configuration"}
    assert f"{site.config}:3" in {problem["source"] for problem in problems}


def test_no_configuration_is_told_in_one_line(site: Site) -> None:
    """Status 66, and which command makes it."""
    site.config.unlink()
    result = site.check()
    assert (result.exit_code, result.output) == (66, f"mta: there is no {site.config}: mta init makes it\n")


def test_options_reach_the_checks(site: Site) -> None:
    """Addresses, --offline and --outgoing."""
    site.check("--offline", "--ipv4", "198.51.100.7", "--outgoing", "example.net")
    _, own, offline, outgoing = site.arguments
    assert (list(map(str, own)), offline, outgoing) == (["198.51.100.7"], True, "example.net")
    assert site.check("--ipv6", "198.51.100.7").exit_code == 2


def test_text_from_outside_is_harmless(site: Site) -> None:
    """No record in somebody's zone moves a cursor here."""
    site.checks["names"] = lambda: [warning("names", "a\x1b[2J", "b\nc", "d", "e\x07")]
    output = site.check().output
    assert "a\\u{1b}[2J" in output
    assert "b\\u{a}c" in output
    assert output.isprintable() or set(output) - {"\n"} == {c for c in output if c.isprintable()}
    assert _plain("Grüße") == "Grüße"


@pytest.mark.parametrize(
    ("hostname", "offline", "asks"),
    [
        ("mail.example.org", False, {"names", "outgoing"}),
        ("mail.example.org", True, set()),
        ("mx.example.test", False, {"names"}),
        ("mx.example.test", True, {"names"}),
    ],
)
def test_who_is_asked(hostname: str, offline: bool, asks: set[str]) -> None:
    """--offline asks nobody; names for tests are told of, and nobody is asked about them."""
    settings = Settings(hostname, state="/state", directory=Directory([Domain(hostname.partition(".")[2], "x", {})]))
    checks = _checks(settings, (), offline, "gmail.com")
    assert checks.keys() & {"names", "outgoing"} == asks
    assert {"files", "maildirs", "certificate", "clock", "disk", "spool", "history", "ports"} <= checks.keys()
    if "outgoing" not in asks and asks:
        assert [finding.severity.value for finding in checks["names"]()] == ["note"]


# Bounds


def test_a_check_that_hangs_is_left_behind() -> None:
    """It is a finding of its own, and the command goes on."""
    end = threading.Event()

    def hangs() -> list[Finding]:
        end.wait(30)
        return []

    (finding,) = bounded("files", hangs, 0.05)
    end.set()
    assert finding.what == "the check of files came to no end"


def test_a_bug_in_a_check_costs_that_check_alone(site: Site) -> None:
    """It is told, and what others find is told too."""
    site.checks = {"spool": lambda: [][0], "disk": lambda: [ERROR]}
    result = site.check()
    assert result.exit_code == 2
    assert "a bug: IndexError" in result.output
    assert "it is full" in result.output


# Names


def test_name_servers_are_asked_in_turn() -> None:
    """The first that can tell is believed; if none can, all are named."""
    sick, well = ZoneResolver("a.example A !SERVFAIL"), ZoneResolver("a.example A 192.0.2.1")

    async def ask(*resolvers: ZoneResolver) -> object:
        return await InTurn(resolvers).query("a.example", RecordType.A)

    found = finish(ask(sick, well))
    assert isinstance(found, Found)
    failure = finish(ask(sick, sick))
    assert isinstance(failure, Failure)
    assert failure.source == "zone, zone"
    assert isinstance(finish(ask()), Failure)

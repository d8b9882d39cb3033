"""`mta dkim`, as an administrator types it."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import dns.zone
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPrivateNumbers
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mta.cli import main
from mta.mailauth.dkim_store import lock_directory
from mta.service.control import CommandRefused
from mta.settings.dkim import DkimKey, KeyState, read_keys, time_text
from mta.settings.problem import Problem
from tests.doubles.dkim_keys import ed25519_pem, pem, rsa_pem
from tests.doubles.dns import Zone, ZoneResolver
from tests.doubles.etc import MINIMAL, USERS, write_etc

NEXT, SIGNING, RETIRED = KeyState.NEXT, KeyState.SIGNING, KeyState.RETIRED


class Site:
    """A configuration, two name servers that show one zone, and what the daemon was asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        aliases = "postmaster: alice\n"
        domains = {name: {"users": USERS, "aliases": aliases} for name in ("example.org", "bücher.example")}
        state = f'state = "{root}/var"\n'
        self.config = Path(write_etc(root / "etc", state + MINIMAL, domains))
        self.zones = (Zone(), Zone())
        self.resolvers = {f"ns{number}": ZoneResolver(zone) for number, zone in enumerate(self.zones, 1)}
        self.asked: list[str] = []
        self.answer: Callable[[], dict[str, Any]] = lambda: {"message": "reloaded: 2 domains"}

    def ask(self, path: str, command: str) -> dict[str, Any]:
        """Answer in place of the daemon."""
        assert path == f"{self.root}/var/control.sock"
        self.asked.append(command)
        return self.answer()

    def dkim(self, *arguments: str) -> Result:
        """Run `mta dkim`; no traceback ever."""
        result = CliRunner().invoke(main, ["dkim", *arguments, "--config", str(self.config)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def ok(self, *arguments: str) -> str:
        """Run it, hold that it succeeds, and give what it prints."""
        result = self.dkim(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def directory(self, domain: str = "example.org") -> Path:
        """Where the keys of a domain are."""
        return self.root / "etc/domains" / domain / "dkim"

    def keys(self, domain: str = "example.org") -> dict[str, DkimKey]:
        """The keys of a domain, by selector."""
        problems: list[Problem] = []
        keys = read_keys(str(self.directory(domain)), domain, problems)
        assert problems == []
        return {key.selector: key for key in keys}

    def states(self) -> dict[str, KeyState]:
        """The state of each key of example.org."""
        return {selector: key.state for selector, key in self.keys().items()}

    def add(self, name: str, octets: bytes, domain: str = "example.org") -> Path:
        """Put a key there by hand."""
        self.directory(domain).mkdir(exist_ok=True)
        file = self.directory(domain) / f"{name}.pem"
        file.write_bytes(octets)
        file.chmod(0o600)
        return file

    def publish(self, output: str, *servers: int) -> None:
        """Put the records that a command has printed into the zones."""
        for name, text in records(output).items():
            for number in servers or (0, 1):
                self.zones[number].names.pop(name, None)
                self.zones[number].add(name, "TXT", f'"{text}"')

    def age(self, selector: str, days: int) -> None:
        """Let the changes of a key have come earlier."""
        key = self.keys()[selector]
        text = key.pem.decode()
        for change in key.changes:
            earlier = time_text(change.time - days * 86400)
            text = text.replace(time_text(change.time), earlier)
        self.add(selector, text.encode())

    def setting(self, toml: str) -> None:
        """Add to mta.toml."""
        self.config.write_text(self.config.read_text() + toml)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Make it, and have the command use its name servers and its daemon."""
    site = Site(tmp_path)
    module = import_module("mta.cli.dkim")
    monkeypatch.setattr(module, "resolvers", lambda settings: site.resolvers)
    monkeypatch.setattr("mta.service.asking.ask", site.ask)
    return site


def records(output: str) -> dict[str, str]:
    """Read what is printed as the zone file that it is, with dnspython; each string has 255 octets or fewer."""
    soa = "@ IN SOA ns. h. 1 1 1 1 1\n@ IN NS ns.\n"
    zone = dns.zone.from_text(soa + output, origin=".", relativize=False)
    assert all(len(string) <= 255 for _, _, rdata in zone.iterate_rdatas("TXT") for string in rdata.strings)
    return {
        name.to_text(omit_final_dot=True): b"".join(rdata.strings).decode()
        for name, _, rdata in zone.iterate_rdatas("TXT")
    }


# keygen


def test_keygen_makes_keys_that_wait(site: Site) -> None:
    """RSA of 2,048 bits and Ed25519 by default, named after the month, not signing, for the owner alone."""
    output = site.ok("keygen", "example.org")
    keys = site.keys()
    assert {(key.algorithm, key.bits, key.state) for key in keys.values()} == {
        ("rsa", 2048, NEXT),
        ("ed25519", 256, NEXT),
    }
    assert all(re.fullmatch(r"\d{4}-\d\d-(rsa|ed)", selector) for selector in keys)
    assert records(output).keys() == {key.name for key in keys.values()}
    assert {stat.S_IMODE(os.stat(key.file).st_mode) for key in keys.values()} == {0o600}
    assert "mta dkim rotate example.org" in output
    assert site.asked == []


@pytest.mark.parametrize(
    ("arguments", "selectors"),
    [
        (["--selector", "S1"], {"s1-rsa", "s1-ed"}),
        (["--selector", "s1.mail", "--algorithm", "rsa"], {"s1.mail"}),
        (["--selector", "s1", "--algorithm", "both"], {"s1-rsa", "s1-ed"}),
        (["--selector", "s1", "--algorithm", "ed25519"], {"s1"}),
    ],
)
def test_selectors_may_be_chosen(site: Site, arguments: list[str], selectors: set[str]) -> None:
    """One key has the selector as it was typed, in lower case; two have the algorithm behind it."""
    site.ok("keygen", "EXAMPLE.org", *arguments)
    assert site.keys().keys() == selectors


def test_keygen_follows_the_settings(site: Site) -> None:
    """[dkim] algorithms says what is made."""
    site.setting('[dkim]\nalgorithms = ["ed25519"]\n')
    site.ok("keygen", "example.org")
    assert [key.algorithm for key in site.keys().values()] == ["ed25519"]


def test_keygen_never_overwrites(site: Site) -> None:
    """A selector that is taken is refused before anything is made; without one the next free name is used."""
    file = site.add("s1-ed", ed25519_pem())
    result = site.dkim("keygen", "example.org", "--selector", "s1")
    assert (result.exit_code, result.output) == (73, "mta: s1-ed is there already, and keys are never overwritten\n")
    assert file.read_bytes() == ed25519_pem()
    assert site.keys().keys() == {"s1-ed"}
    for _ in range(2):
        site.ok("keygen", "example.org", "--algorithm", "ed25519")
    assert sorted(selector[8:] for selector in site.states() if selector != "s1-ed") == ["ed", "ed-2"]


def test_keygen_signing(site: Site) -> None:
    """For those who publish elsewhere or have no DNS: the key signs at once, and the daemon is told."""
    output = site.ok("keygen", "example.org", "--algorithm", "ed25519", "--signing")
    assert list(site.states().values()) == [SIGNING]
    assert site.asked == ["reload"]
    assert "; The daemon has reloaded: 2 domains" in output
    assert records(output)


def test_domains_in_u_labels(site: Site) -> None:
    """A domain may be typed in either form; its records are in A-labels."""
    output = site.ok("keygen", "bücher.example", "--selector", "a", "--algorithm", "ed25519")
    assert records(output).keys() == {"a._domainkey.xn--bcher-kva.example"}
    assert (site.directory("bücher.example") / "a.pem").exists()
    assert "xn--bcher-kva.example" in site.ok("show", "XN--bcher-kva.example")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_root_makes_the_directory_for_the_daemon(site: Site) -> None:
    """The group of the state directory, which is the daemon's, may enter; it may write where the daemon rotates."""
    (site.root / "var").mkdir()
    os.chown(site.root / "var", 65534, 65534)
    site.ok("keygen", "example.org")
    site.setting('[dkim]\nrotate_every = "180d"\n')
    site.ok("keygen", "bücher.example")
    for domain, mode in (("example.org", 0o750), ("bücher.example", 0o770)):
        status = os.stat(site.directory(domain))
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 65534, mode)
        for file in site.directory(domain).iterdir():
            assert (file.stat().st_gid, stat.S_IMODE(file.stat().st_mode)) == (65534, 0o640)


# show and check


def test_show_tells_each_key(site: Site) -> None:
    """Selector, state, age, algorithm, bits, file, what each server shows, and the record."""
    site.add("old", b"signing: 2020-01-01\n" + rsa_pem())
    site.add("dropped", ed25519_pem())
    output = site.ok("show")
    assert re.search(r"old: signing since 2020-01-01T00:00:00Z \(\d+ days\), rsa 2048, .*/dkim/old.pem", output)
    assert re.search(r"dropped: signing, ed25519 256, ", output)
    assert output.count("missing: there is no record at ") == 4
    assert "bücher" not in output
    site.publish(output)
    assert site.ok("show", "example.org").count(": right: ") == 4
    assert "has no keys" in site.ok("show", "bücher.example")


def test_show_offline_asks_nobody(site: Site) -> None:
    """--offline: no question leaves, and it is said."""
    site.add("a", ed25519_pem())
    output = site.ok("show", "--offline")
    assert "DNS: not asked" in output
    assert records(output)
    assert site.resolvers["ns1"].asked == []
    assert json.loads(site.ok("show", "--offline", "--json"))["published"] == []


def test_show_as_json(site: Site) -> None:
    """One object for each key, with everything in it and nothing secret."""
    site.add("a", b"next: 2026-01-02\n" + ed25519_pem())
    site.add("b", ed25519_pem(1))
    site.publish(site.ok("show"), 0)
    first, second = map(json.loads, site.ok("show", "--json").splitlines())
    assert first == {
        "domain": "example.org",
        "selector": "a",
        "state": "next",
        "since": "2026-01-02T00:00:00Z",
        "algorithm": "ed25519",
        "bits": 256,
        "file": str(site.directory() / "a.pem"),
        "name": "a._domainkey.example.org",
        "record": first["record"],
        "published": [
            {"server": "ns1", "state": "right", "text": "the record at a._domainkey.example.org is right"},
            {"server": "ns2", "state": "missing", "text": "there is no record at a._domainkey.example.org"},
        ],
    }
    assert first["record"].startswith("v=DKIM1; k=ed25519; p=")
    assert second["since"] is None


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (None, 0, "right"),
        ("", 65, "missing: there is no record"),
        ('"v=DKIM1; k=ed25519; p="', 65, "revoked: "),
        ('"v=DKIM1; k=ed25519; p=Ac4fkQ=="', 65, "unusable: "),
        ("!SERVFAIL", 75, "unknown: "),
    ],
)
def test_check_is_for_monitoring(site: Site, data: str | None, status: int, text: str) -> None:
    """Right is 0; a record that others find wrong at one server is 65, no answer 75; each is told with its server."""
    site.add("a", ed25519_pem())
    site.publish(site.ok("show"))
    if data is not None:
        site.zones[1].names["a._domainkey.example.org"] = {"TXT": [data]} if data else {"A": ["127.0.0.1"]}
    result = site.dkim("check")
    assert result.exit_code == status
    assert text in result.output
    assert ("[ns2]" in result.output) == (status != 0)


def test_check_judges_signing_keys_alone(site: Site) -> None:
    """A key that waits or is retired may lack its record; it is told and changes no status."""
    site.add("a", ed25519_pem())
    site.publish(site.ok("show"))
    site.add("b", b"next: 2026-01-01\n" + ed25519_pem(1))
    site.add("c", b"retired: 2026-01-01\n" + ed25519_pem(2))
    output = site.ok("check", "example.org")
    assert "example.org b (next): missing" in output
    assert "example.org c (retired): missing" in output
    (site.directory() / "a.pem").unlink()
    assert "example.org: no key signs" in site.ok("check")


def test_check_finds_a_record_of_another_key(site: Site) -> None:
    """The record of a key that was replaced by hand is different."""
    site.add("a", ed25519_pem())
    site.publish(site.ok("show"))
    site.add("a", ed25519_pem(1))
    result = site.dkim("check")
    assert (result.exit_code, "different: " in result.output) == (65, True)


def test_check_finds_a_key_that_is_broken(site: Site) -> None:
    """A key whose numbers do not fit together makes signatures that nobody verifies, though its record is right."""
    key = load_pem_private_key(rsa_pem(), None)
    assert isinstance(key, RSAPrivateKey)
    n = key.private_numbers()
    numbers = RSAPrivateNumbers(n.p, n.q, n.d, n.dmp1, n.dmq1, n.iqmp + 2, n.public_numbers)
    site.add("a", pem(numbers.private_key(unsafe_skip_rsa_key_validation=True)))
    site.publish(site.ok("show"))
    result = site.dkim("check")
    assert (result.exit_code, "do not fit together" in result.output) == (65, True)


def test_check_tells_the_worst(site: Site) -> None:
    """No answer for one key and a right one for the next is 75; a wrong one among them is 65."""
    for number, selector in enumerate("abc"):
        site.add(selector, ed25519_pem(number))
    site.publish(site.ok("show"))
    site.zones[0].names["a._domainkey.example.org"] = {"TXT": ["!SERVFAIL"]}
    assert site.dkim("check").exit_code == 75
    site.zones[0].names["b._domainkey.example.org"] = {"TXT": ["junk"]}
    site.zones[0].names["c._domainkey.example.org"] = {"TXT": ["!SERVFAIL"]}
    assert site.dkim("check").exit_code == 65


def test_check_remarks_short_keys(site: Site) -> None:
    """1,024 bits verify, and are few."""
    site.add("a", rsa_pem(bits=1024))
    site.publish(site.ok("show"))
    assert "1024 bits are few" in site.ok("check")


# rotate and retire


def test_a_key_from_keygen_to_its_end(site: Site) -> None:
    """What docs/dkim.md tells to type, in that order, does what it says."""
    site.publish(site.ok("keygen", "example.org", "--algorithm", "rsa", "--selector", "first"))
    output = site.ok("rotate", "example.org")
    assert "first._domainkey.example.org: signs from now on: published" in output
    assert site.states() == {"first": SIGNING}
    assert site.asked == ["reload"]
    output = site.ok("rotate", "example.org")
    (second,) = site.keys().keys() - {"first"}
    assert records(output).keys() == {f"{second}._domainkey.example.org"}
    assert site.states() == {"first": SIGNING, second: NEXT}
    site.publish(output, 0)
    assert "waits for its record" in site.ok("rotate", "example.org")
    assert site.states()["first"] is SIGNING
    assert len(site.asked) == 1
    site.publish(output)
    output = site.ok("rotate", "example.org")
    assert f"{second}._domainkey.example.org: signs from now on instead of first" in output
    assert "Leave its record in the DNS until" in output
    assert site.states() == {"first": RETIRED, second: SIGNING}
    assert len(site.asked) == 2
    assert "first._domainkey.example.org: retired; it is removed after 7d, [dkim] keep_retired, on 2" in site.ok(
        "rotate"
    )
    site.age("first", 8)
    assert "first._domainkey.example.org: removed" in site.ok("rotate")
    assert site.states() == {second: SIGNING}
    assert "`mta dkim rotate` makes the next key" in site.ok("rotate")
    assert site.states() == {second: SIGNING}


def test_rotate_without_a_domain_begins_where_the_settings_say_so(site: Site) -> None:
    """Once a day from cron: what is due by rotate_every begins, and only that."""
    site.add("a", b"signing: 2020-01-01\n" + ed25519_pem())
    site.ok("rotate")
    assert site.states() == {"a": SIGNING}
    site.setting('[dkim]\nrotate_every = "180d"\n')
    assert records(site.ok("rotate"))
    assert list(site.states().values()).count(NEXT) == 1


def test_rotate_says_what_the_daemon_says(site: Site) -> None:
    """No daemon is told and no failure; a daemon that refuses the configuration keeps its keys: status 78."""
    site.add("a", b"retired: 2020-01-01\n" + ed25519_pem())

    def nobody() -> dict[str, Any]:
        raise ConnectionRefusedError(111, "Connection refused")

    site.answer = nobody
    assert "; No daemon runs here" in site.ok("rotate")
    assert site.states() == {}
    site.add("a", b"retired: 2020-01-01\n" + ed25519_pem())

    def refuses() -> dict[str, Any]:
        raise CommandRefused("mta.toml:3: what is wrong")

    site.answer = refuses
    result = site.dkim("rotate")
    assert result.exit_code == 78
    assert "the daemon goes on with what it had:\nmta.toml:3: what is wrong" in result.output


def test_retire_by_hand(site: Site) -> None:
    """A key signs no more, whether another is there or not, and it is said when none is left."""
    site.add("a", ed25519_pem())
    site.add("b", b"# mine\n" + ed25519_pem(1))
    output = site.ok("retire", "example.org", "A")
    assert site.states() == {"a": RETIRED, "b": SIGNING}
    assert "No key" not in output
    assert "No key of example.org signs now." in site.ok("retire", "example.org", "b")
    assert (site.directory() / "b.pem").read_bytes().startswith(b"# mine\nretired: 2")
    assert site.asked == ["reload", "reload"]
    for selector in ("a", "nothing"):
        assert site.dkim("retire", "example.org", selector).exit_code == 65


# What goes wrong


@pytest.mark.parametrize("command", ["keygen", "show", "check", "rotate"])
def test_a_domain_that_is_not_ours(site: Site, command: str) -> None:
    """A misspelt domain is one line and status 65; what is no domain name is a mistake of usage."""
    result = site.dkim(command, "exmaple.org")
    assert result.exit_code == 65
    assert result.output.startswith("mta: exmaple.org is no domain of ours: there is no directory ")
    assert result.output.count("\n") == 1
    assert site.dkim(command, "a b").exit_code == 2
    assert not site.directory("exmaple.org").parent.exists()


@pytest.mark.parametrize("command", ["show", "check", "rotate"])
def test_a_key_that_cannot_be_read(site: Site, command: str) -> None:
    """A bad file is told with its name and line, as a reload tells it: status 78."""
    file = site.add("a", b"retierd: 2026-01-01\n" + ed25519_pem())
    result = site.dkim(command)
    assert result.exit_code == 78
    assert f"{file}:1: expected next:, signing:, retired:" in result.output


def test_a_configuration_with_a_mistake(site: Site) -> None:
    """What keys need must be right, all else is the daemon's to judge."""
    site.setting('[queue]\nfirst_retri = "5m"\n')
    site.add("a", ed25519_pem())
    site.ok("show")
    site.setting('[dkim]\nalgorithms = ["dsa"]\nkeep_retired = "1h"\n')
    result = site.dkim("show")
    assert result.exit_code == 78
    assert '[[dkim.algorithms]]: expected "rsa" or "ed25519", found "dsa"' in result.output
    assert '[dkim] keep_retired: expected a time with its unit, "30s" or "1h30m", 1d or more' in result.output
    assert "queue" not in result.output
    site.config.write_text("dkim = 5\n")
    assert site.dkim("show").exit_code == 78
    site.config.unlink()
    assert site.dkim("show").exit_code == 78


def test_rotate_of_a_domain_without_keys(site: Site) -> None:
    """There is nothing to rotate: the command that makes keys is named."""
    result = site.dkim("rotate", "example.org")
    assert (result.exit_code, result.output) == (65, "mta: example.org has no keys: mta dkim keygen example.org\n")
    assert site.ok("rotate") == ""


@pytest.mark.parametrize(
    "arguments", [("keygen", "example.org"), ("rotate", "example.org"), ("retire", "example.org", "a")]
)
def test_two_at_once(site: Site, arguments: tuple[str, ...]) -> None:
    """While another process changes the keys: status 75, and nothing is changed."""
    site.add("a", ed25519_pem())
    with lock_directory(str(site.directory())):
        result = site.dkim(*arguments)
    assert result.exit_code == 75
    assert "another process changes the keys in" in result.output
    assert site.states() == {"a": SIGNING}


def test_a_place_that_cannot_be_written(site: Site) -> None:
    """A file in place of the directory is one line and status 73."""
    site.directory().write_text("")
    result = site.dkim("keygen", "example.org")
    assert result.exit_code == 73
    assert f"{site.directory()}: File exists" in result.output
    assert result.output.count("\n") == 1


def test_selectors_that_cannot_be(site: Site) -> None:
    """A selector with a slash or an underscore never becomes a path."""
    for selector in ("../x", "a_b", "", "."):
        assert site.dkim("keygen", "example.org", "--selector", selector).exit_code == 2
    assert not site.directory().exists()


def test_links_are_left_alone(site: Site) -> None:
    """A key behind a symbolic link is shown, and neither rotated nor retired."""
    secret = site.root / "secret"
    secret.write_bytes(ed25519_pem())
    secret.chmod(0o600)
    site.directory().mkdir()
    (site.directory() / "a.pem").symlink_to(secret)
    assert "its file is a symbolic link: whoever made it changes it" in site.ok("rotate", "example.org")
    assert site.dkim("retire", "example.org", "a").exit_code == 65
    assert site.states() == {"a": SIGNING}


def test_the_page_for_administrators_shows_commands_that_there_are() -> None:
    """Every `mta dkim` line of docs/dkim.md is one that the program understands, and the page shows them all."""
    shown = re.findall(r"^mta dkim (.*?)(?:\s+#.*)?$", Path("docs/dkim.md").read_text(), re.MULTILINE)
    group: Any = main.get_command(click.Context(main), "dkim")
    for line in shown:
        command, *arguments = line.split()
        group.commands[command].make_context(command, arguments).close()
    assert {line.split()[0] for line in shown} == set(group.commands)

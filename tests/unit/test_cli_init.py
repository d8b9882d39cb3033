"""`mta init`, as an administrator types it on a new machine."""

from __future__ import annotations

import ipaddress
import os
import pwd
import stat
from pathlib import Path

import dns.zone
import pytest
from click.testing import CliRunner, Result

from mta.auth.verifier import verify
from mta.cli import main
from mta.cli.init import _above
from mta.settings.dkim import KeyState
from mta.settings.reader import load
from mta.settings.sections import Settings
from mta.settings.values import SystemdSocket
from mta.tls.certificate import read_identity

TOLD = ("--hostname", "mail.example.org", "--domain", "example.org", "--user", "alice")
SERVER = pwd.getpwuid(os.geteuid()).pw_name


class Machine:
    """A directory in place of the machine, and what is typed there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.config = root / "etc/mta.toml"
        self.places = ("--state", str(root / "state"), "--mail", str(root / "mail"))

    def init(self, *arguments: str, typed: str = "") -> Result:
        """Run `mta init`; no traceback ever."""
        run_as = ("--run-as", SERVER) if os.geteuid() == 0 and "--run-as" not in arguments else ()
        result = CliRunner().invoke(main, ["init", "--config", str(self.config), *run_as, *arguments], input=typed)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def made(self, *arguments: str, typed: str = "") -> str:
        """Run it with all that it needs to be told, hold that it succeeds, and give what it prints."""
        result = self.init(*TOLD, *self.places, *arguments, typed=typed)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    def settings(self) -> Settings:
        """What the server would read."""
        return load(str(self.config))

    def files(self) -> dict[str, bytes]:
        """All files."""
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def mode(self, path: str) -> int:
        """The permissions of one."""
        return stat.S_IMODE((self.root / path).stat().st_mode)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A new one, that knows no public address of its own."""
    monkeypatch.setattr("mta.cli.init.own_addresses", tuple)
    return Machine(tmp_path / "machine")


def password_in(output: str) -> str:
    """The password that is shown."""
    return output.partition("logs in with the password  ")[2].split()[0]


# What is written


def test_what_it_writes_loads_and_the_user_logs_in(machine: Machine) -> None:
    """The settings have no problem, the defaults hold for what was not told, and the shown password is right."""
    output = machine.made()
    settings = machine.settings()
    assert settings.hostname == "mail.example.org"
    assert (settings.state, settings.mail) == (str(machine.root / "state"), str(machine.root / "mail"))
    assert (settings.mx, settings.smtpd) == (Settings("x").mx, Settings("x").smtpd)
    account = settings.directory.account("alice@example.org")
    assert account is not None
    assert verify(account.verifier, password_in(output).encode())
    for name in ("postmaster", "abuse"):
        assert settings.directory.domains["example.org"].addresses[name].accounts == (account,)
    assert os.path.isdir(settings.state)
    assert os.path.isdir(settings.mail)


def test_the_commented_examples_load_too(machine: Machine) -> None:
    """Whoever takes the # away before a key or table that stands at the beginning of a line gets what it says."""
    machine.made()
    (machine.root / "etc/smart-host-password").write_text("secret\n")
    lines = machine.config.read_text().splitlines()
    uncommented = [line.removeprefix("#") if line[1:2] not in (" ", "") else line for line in lines]
    machine.config.write_text("\n".join(uncommented))
    settings = machine.settings()
    assert settings.relay.smart_host is not None
    assert [network.name for network in settings.smtpd.networks] == ["printers"]
    assert settings.policy.greylist is not None


def test_keys_sign_and_the_certificate_names_the_host(machine: Machine) -> None:
    """An RSA and an Ed25519 key sign at once; certificate and key belong together."""
    machine.made()
    settings = machine.settings()
    keys = settings.directory.domains["example.org"].dkim
    assert {(key.algorithm, key.bits, key.state) for key in keys} == {
        ("rsa", 2048, KeyState.SIGNING),
        ("ed25519", 256, KeyState.SIGNING),
    }
    subject = read_identity(settings.tls.certificate, settings.tls.key).certificates[0].subject
    assert subject.rfc4514_string() == "CN=mail.example.org"


def test_systemd_sockets(machine: Machine) -> None:
    """--systemd takes all ports from the units that are in systemd/, and says how to start those."""
    output = machine.made("--systemd")
    settings = machine.settings()
    assert settings.mx.listen == (SystemdSocket("mx"),)
    assert settings.smtpd.submission == (SystemdSocket("submission"),)
    assert settings.smtpd.submissions == (SystemdSocket("submissions"),)
    units = Path(__file__).parents[2] / "systemd"
    assert {f"FileDescriptorName={socket.name}" for socket in settings.mx.listen + settings.smtpd.submission} <= {
        line for unit in units.glob("*.socket") for line in unit.read_text().splitlines()
    }
    assert "systemctl enable --now mta-mx.socket" in output
    assert settings.local.socket == "/run/mta/submit.sock", "RuntimeDirectory= of the unit makes its directory"
    assert settings.local.aliases == "/etc/aliases"


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_hold_under_any_umask(machine: Machine, umask: int) -> None:
    """Secrets are read by owner and server alone, and the server can enter every directory above them."""
    before = os.umask(umask)
    try:
        machine.made()
    finally:
        os.umask(before)
    group = os.geteuid() == 0
    assert machine.mode("etc") == machine.mode("etc/domains") == 0o755
    assert machine.mode("etc/mta.toml") == machine.mode("etc/domains/example.org/users") == 0o640
    assert machine.mode("etc/tls/key.pem") == (0o640 if group else 0o600)
    for directory in ("etc/domains/example.org", "etc/domains/example.org/dkim", "etc/tls"):
        assert machine.mode(directory) == (0o750 if group else 0o700)
    assert (machine.mode("state"), machine.mode("mail")) == (0o700, 0o2750)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_gives_them_to_the_server(machine: Machine) -> None:
    """State and mail belong to the system user; what it only reads belongs to root and to its group."""
    output = machine.made("--run-as", "nobody")
    server = pwd.getpwnam("nobody")
    for name in ("state", "mail"):
        status = (machine.root / name).stat()
        assert (status.st_uid, status.st_gid) == (server.pw_uid, server.pw_gid)
    keys = [str(path.relative_to(machine.root)) for path in machine.root.glob("etc/domains/example.org/dkim/*.pem")]
    for name in ("etc/mta.toml", "etc/tls/key.pem", "etc/domains/example.org/users", *keys):
        status = (machine.root / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, server.pw_gid, 0o640)
    assert "setpriv --reuid nobody" in output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs it")
def test_a_missing_system_user_is_told_with_the_line_that_makes_it(machine: Machine) -> None:
    """Nothing is written before there is somebody to give it to: status 67."""
    result = machine.init(*TOLD, *machine.places, "--run-as", "no-such-user")
    assert result.exit_code == 67
    assert "useradd --system" in result.stderr
    assert machine.files() == {}


def test_only_root_may_name_the_system_user(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others cannot give files away."""
    monkeypatch.setattr("mta.cli.init.os.geteuid", lambda: 1000)
    assert machine.init(*TOLD, "--run-as", "nobody").exit_code == 2


# The password


def test_a_password_from_a_file(machine: Machine, tmp_path: Path) -> None:
    """The first line is the password, and it is not shown."""
    (tmp_path / "password").write_text("correct horse\nmore\n")
    output = machine.made("--password-file", str(tmp_path / "password"))
    account = machine.settings().directory.account("alice@example.org")
    assert account is not None
    assert verify(account.verifier, b"correct horse")
    assert "correct horse" not in output
    assert "password  " not in output


@pytest.mark.parametrize("password", ["", "x" * 256, "tab\tis here", "short"])
def test_a_password_that_nobody_could_send(machine: Machine, password: str) -> None:
    """Empty, short, too long, or not to be typed: refused, and no user is made."""
    result = machine.init(*TOLD, *machine.places, "--password-file", "-", typed=password + "\n")
    assert result.exit_code == 65
    assert not (machine.root / "etc/domains/example.org/users").exists()


# Asking


def test_on_a_terminal_it_asks(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no option tells is asked for, with a guess; no password typed means that one is made."""
    monkeypatch.setattr("mta.cli.init.interactive", lambda: True)
    monkeypatch.setattr("mta.cli.init._own_name", lambda: "mx.example.net")
    result = machine.init(*machine.places, typed="\n\nbob\n\n")
    assert result.exit_code == 0, result.stderr
    settings = machine.settings()
    assert settings.hostname == "mx.example.net"
    assert "bob@example.net" in settings.directory.accounts
    assert password_in(result.stdout)


def test_a_typed_password_is_used(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed twice the same, it is the user's."""
    monkeypatch.setattr("mta.cli.init.interactive", lambda: True)
    machine.made(typed="hello you\nhello yuo\nhello you\nhello you\n")
    account = machine.settings().directory.account("alice@example.org")
    assert account is not None
    assert verify(account.verifier, b"hello you")


def test_without_a_terminal_it_says_what_is_missing(machine: Machine) -> None:
    """Status 2 and the option to use; nothing is written."""
    for arguments in ((), TOLD[:2], TOLD[:4]):
        result = machine.init(*arguments, *machine.places)
        assert result.exit_code == 2
        assert f"say it with {('--hostname', '--domain', '--user')[len(arguments) // 2]}" in result.stderr
    assert machine.files() == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [("--hostname", "mail"), ("--hostname", "a b.org"), ("--domain", "-"), ("--user", "al ice"), ("--ipv4", "::1")],
)
def test_what_is_no_name_is_refused(machine: Machine, option: str, value: str) -> None:
    """A mistake in an option is named with it."""
    told = [*TOLD, "--ipv4", "192.0.2.1"]
    told[told.index(option) + 1] = value
    result = machine.init(*told, *machine.places)
    assert result.exit_code == 2
    assert option in result.stderr
    assert machine.files() == {}


def test_the_domain_that_is_guessed() -> None:
    """Above the host name, but never a top-level domain."""
    assert _above("mail.example.org") == "example.org"
    assert _above("example.org") == "example.org"


# A second time


def test_a_second_run_changes_nothing_and_adds_what_is_missing(machine: Machine) -> None:
    """Whatever is told then: what is there stays, and what was removed comes back. No option is needed."""
    machine.made()
    before = machine.files()
    again = machine.made("--hostname", "other.example.org", "--user", "bob", "--systemd")
    assert machine.files() == before
    assert "password  " not in again
    (machine.root / "etc/domains/example.org/aliases").unlink()
    result = machine.init()
    assert result.exit_code == 0, result.stderr
    assert machine.files() == before
    assert f"made   {machine.root}/etc/domains/example.org/aliases" in result.stdout
    assert f"there  {machine.config}" in result.stdout
    assert "alice@example.org" in result.stdout


def test_each_step_is_said(machine: Machine) -> None:
    """What is made now, and the second time that it was there: each file and directory, by its path."""

    def said(output: str) -> dict[str, str]:
        steps = [line.split() for line in output.splitlines() if line[:5] in ("made ", "there")]
        return {path.removeprefix(f"{machine.root}/"): word for word, path in steps}

    first, second = said(machine.made()), said(machine.made())
    assert set(first.values()) == {"made"}
    assert set(second.values()) == {"there"}
    wanted = {"etc/mta.toml", "etc/tls/key.pem", "etc/domains/example.org/users", "state", "mail"}
    assert wanted <= first.keys()
    assert wanted <= second.keys()
    assert {path for path in first if path.endswith(".pem")} == {path for path in machine.files() if ".pem" in path}


def test_the_next_steps_name_the_configuration(machine: Machine) -> None:
    """They can be typed as they stand; where the default is meant, nothing is said of it."""
    output = machine.made()
    assert f"mta check --config {machine.config}\n" in output
    assert f"mta init --records --config {machine.config}\n" in output
    assert f"mta --config {machine.config}\n" in output


def test_mistakes_elsewhere_in_the_settings_are_not_its_concern(machine: Machine) -> None:
    """It reads the names and places alone: the rest is for mta check. Without a host name it cannot go on."""
    machine.made()
    text = machine.config.read_text()
    machine.config.write_text(text + "[queue]\nfirst_retry = 5\n")
    assert machine.init().exit_code == 0
    machine.config.write_text(text.replace("hostname =", "#hostname ="))
    result = machine.init()
    assert result.exit_code == 78
    assert "hostname" in result.stderr


def test_who_may_not_write_there_is_told_what_to_do(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may, or another place is named."""

    def refuse(*_: object) -> str:
        raise PermissionError(13, "Permission denied", "/etc/mta")

    monkeypatch.setattr("mta.cli.init.write_setup", refuse)
    result = machine.init(*TOLD, *machine.places)
    assert result.exit_code == 73
    assert result.stderr.startswith("mta: cannot write /etc/mta: Permission denied; root may, or name a place")


def test_what_was_told_in_vain_is_said(machine: Machine) -> None:
    """A host name or a directory that the settings say otherwise stays, with a note."""
    machine.made()
    result = machine.init("--hostname", "other.example.org", "--state", "/elsewhere")
    assert f"note: {machine.config} says that the host name is mail.example.org, and stays" in result.stderr
    assert "note: " in result.stderr.partition("\n")[2]


def test_ports_stay_where_they_are(machine: Machine) -> None:
    """What starts the server is what fits the settings that are there, whatever is told the second time."""
    machine.made()
    result = machine.init("--systemd")
    assert "does not take its ports from systemd, and stays" in result.stderr
    assert "systemctl" not in result.stdout
    machine.config.unlink()
    machine.made("--systemd")
    again = machine.init()
    assert again.stderr == ""
    assert "systemctl enable --now mta-mx.socket" in again.stdout


def test_a_certificate_elsewhere_is_left_alone(machine: Machine) -> None:
    """Where [tls] names other files, none is made."""
    machine.made()
    for name in ("certificate", "key"):
        (machine.root / f"etc/tls/{name}.pem").unlink()
    machine.config.write_text(machine.config.read_text().replace('"tls/', '"/srv/'))
    machine.init()
    assert list((machine.root / "etc/tls").iterdir()) == []


def test_a_certificate_without_its_key_is_never_replaced(machine: Machine) -> None:
    """Somebody may have paid for it."""
    machine.made()
    (machine.root / "etc/tls/key.pem").unlink()
    before = machine.files()
    machine.init()
    assert machine.files() == before


def test_another_domain_is_added_beside_the_first(machine: Machine) -> None:
    """The same command makes a second domain, and prints the records of both."""
    machine.made()
    result = machine.init("--domain", "example.net", "--user", "carol")
    assert result.exit_code == 0, result.stderr
    assert list(machine.settings().directory.domains) == ["example.net", "example.org"]
    assert "example.net. IN MX 10 mail.example.org." in result.stdout
    assert "example.org. IN MX 10 mail.example.org." in result.stdout


def test_a_configuration_that_cannot_be_read(machine: Machine) -> None:
    """Status 78 with file and line, and nothing is added to it."""
    machine.config.parent.mkdir(parents=True)
    machine.config.write_text('hostname = "mail.example.org\n')
    result = machine.init(*TOLD, *machine.places)
    assert result.exit_code == 78
    assert f"{machine.config}:1: expected TOML" in result.stderr
    assert list(machine.files()) == ["etc/mta.toml"]


def test_a_place_that_cannot_be_written(machine: Machine) -> None:
    """One line, status 73."""
    machine.root.mkdir()
    (machine.root / "file").write_text("")
    result = machine.init(*TOLD, "--state", str(machine.root / "file/state"))
    assert result.exit_code == 73
    assert result.stderr.startswith("mta: cannot write ")


def test_settings_name_no_place_that_cannot_be_made(machine: Machine) -> None:
    """Told of a place that will not do, it leaves no settings behind that name it: another place can be told then."""
    machine.root.mkdir()
    (machine.root / "file").write_text("")
    for option in ("--state", "--mail"):
        places = [*machine.places, option, str(machine.root / "file/below")]
        assert machine.init(*TOLD, *places).exit_code == 73
        assert not machine.config.exists()
    machine.made()


def test_ports_are_for_the_demonstration(machine: Machine) -> None:
    """They are no options of a real server, which listens where others look for it."""
    assert machine.init(*TOLD, "--mx-port", "2525").exit_code == 2


# What is printed


def test_records_alone_are_a_zone(machine: Machine) -> None:
    """--records prints what a name server takes: with the records of host, domain and keys, and writes nothing."""
    machine.made()
    before = machine.files()
    result = machine.init("--records", "--ipv4", "192.0.2.25", "--ipv6", "2001:db8::25")
    assert result.exit_code == 0, result.stderr
    assert machine.files() == before
    soa = "@ IN SOA ns. h. 1 1 1 1 1\n@ IN NS ns.\n"
    zone = dns.zone.from_text("$TTL 1\n" + soa + result.stdout, origin="example.org", relativize=False)
    assert zone.find_rdataset("mail.example.org.", "A").to_text() == "1 IN A 192.0.2.25"
    assert zone.find_rdataset("mail.example.org.", "AAAA").to_text() == "1 IN AAAA 2001:db8::25"
    names = {str(name) for name, _, _ in zone.iterate_rdatas()}
    assert {"_dmarc.example.org.", "_smtp._tls.example.org.", "_mta-sts.example.org."} <= names
    keys = machine.settings().directory.domains["example.org"].dkim
    assert {f"{key.name}." for key in keys} <= names


def test_records_of_one_domain(machine: Machine) -> None:
    """Of several domains the one that is named; one that is not there is no domain of ours."""
    machine.made()
    machine.init("--domain", "example.net", "--user", "carol")
    printed = machine.init("--records", "--domain", "example.net").stdout
    assert "example.net. IN MX" in printed
    assert "example.org. IN MX" not in printed
    assert machine.init("--records", "--domain", "example.com").exit_code == 65


def test_records_of_a_machine_without_anything(machine: Machine) -> None:
    """There is nothing to print: status 66."""
    result = machine.init("--records")
    assert result.exit_code == 66
    assert result.stdout == ""


def test_own_addresses_are_printed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine knows of itself is used where no option tells it; without anything it is said how to tell."""
    assert "give it with --ipv4" in machine.made()
    monkeypatch.setattr("mta.cli.init.own_addresses", lambda: (ipaddress.ip_address("198.51.100.7"),))
    output = machine.made()
    assert "mail.example.org. IN A 198.51.100.7" in output
    assert ";7.100.51.198.in-addr.arpa. IN PTR mail.example.org." in output

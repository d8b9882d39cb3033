"""Owners and modes: what the server cannot use, and what others can who should not."""

from __future__ import annotations

import grp
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mta.service.check.files import check_files, check_maildirs
from mta.service.check.finding import ALIKE_MAXIMUM, Finding, Severity
from mta.service.check.server import ENTER, READ, WRITE, Server, server_of
from mta.settings.reader import load
from mta.settings.sections import Settings
from tests.doubles.dkim_keys import ed25519_pem
from tests.doubles.etc import MINIMAL, USERS, write_etc

OURSELVES = Server(os.geteuid(), frozenset((os.getegid(),)))
STRANGER = Server(12345, frozenset((12345,)))


class Site:
    """A configuration with a key and a certificate, and the server's directories, all as they should be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        toml = f'state = "{root}/state"\nmail = "{root}/mail"\n' + MINIMAL
        toml += '[tls]\ncertificate = "certificate.pem"\nkey = "key.pem"\n'
        self.path = write_etc(root / "etc", toml)
        self.domain = root / "etc/domains/example.org"
        (self.domain / "dkim").mkdir()
        files = {
            "certificate.pem": 0o644,
            "key.pem": 0o640,
            "domains/example.org/dkim/s1.pem": 0o640,
            "domains/example.org/users": 0o640,
        }
        for name, mode in files.items():
            file = root / "etc" / name
            if not file.exists():
                file.write_bytes(ed25519_pem())
            file.chmod(mode)
        for directory, mode in (("state", 0o700), ("mail", 0o750)):
            (root / directory).mkdir(mode=mode)

    @property
    def settings(self) -> Settings:
        """What the server reads."""
        return load(self.path)

    def look(self, server: Server = OURSELVES, stat: Callable[[str], os.stat_result] = os.stat) -> list[Finding]:
        """What is found."""
        return check_files(self.settings, server, stat)

    def one(self, server: Server = OURSELVES) -> Finding:
        """The one thing that is found."""
        (finding,) = self.look(server)
        return finding

    def open_above(self, path: str) -> os.stat_result:
        """Have everybody enter the directories above, which pytest closes."""
        status = list(os.stat(path))
        if str(self.root).startswith(path):
            status[stat.ST_MODE] |= 0o001
        return os.stat_result(status)

    def maildir(self, user: str = "alice") -> Path:
        """Make the Maildir of a user."""
        path = self.root / "mail/example.org" / user / "Maildir"
        for name in ("tmp", "new", "cur"):
            (path / name).mkdir(parents=True)
            (path / name).chmod(0o700)
        path.chmod(0o700)
        return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """One with nothing to find."""
    return Site(tmp_path)


def shell(command: str) -> None:
    """Do what a finding says."""
    subprocess.run(command, shell=True, check=True)


def test_nothing_is_found_where_all_is_well(site: Site) -> None:
    """As it should be."""
    site.maildir()
    assert site.look() == []
    assert check_maildirs(site.settings, OURSELVES) == []


@pytest.mark.parametrize(
    ("name", "mode", "severity", "what"),
    [
        ("etc/mta.toml", 0o646, Severity.ERROR, "can change"),
        ("etc/domains/example.org", 0o757, Severity.ERROR, "can change"),
        ("etc/key.pem", 0o644, Severity.ERROR, "can read"),
        ("etc/domains/example.org/users", 0o644, Severity.WARNING, "can read"),
        ("state", 0o755, Severity.WARNING, "can look into"),
        ("mail", 0o757, Severity.ERROR, "can write in"),
    ],
)
def test_what_others_can_do(site: Site, name: str, mode: int, severity: Severity, what: str) -> None:
    """Each is found, and the command beside it mends it."""
    (site.root / name).chmod(mode)
    finding = site.one()
    assert finding.severity is severity
    assert what in finding.what
    assert str(site.root / name) in finding.what
    shell(finding.mend)
    assert site.look() == []


def test_a_password_in_the_settings_is_secret(site: Site) -> None:
    """mta.toml may be read by all until somebody writes a password into it."""
    Path(site.path).chmod(0o644)
    assert site.look() == []
    with open(site.path, "a") as file:
        file.write('[relay.smart_host]\nhost = "smtp.example.net"\nlogin = "a"\npassword = "b"\n')
    assert site.one().reason.text == "it holds a password"


def test_what_the_server_cannot_read(site: Site) -> None:
    """Whoever it runs as must read every file: with root's own modes it does not start."""
    found = site.look(STRANGER, site.open_above)
    unread = {finding.what.rpartition(" ")[2] for finding in found if "cannot read" in finding.what}
    assert {f"{site.root}/etc/key.pem", f"{site.domain}/users", f"{site.domain}/dkim/s1.pem"} <= unread
    assert any("cannot write in" in finding.what for finding in found)
    assert {finding.severity for finding in found} == {Severity.ERROR}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives groups away")
def test_what_mends_an_unreadable_file(site: Site) -> None:
    """The commands give it to the group of the server, and to nobody else."""
    server = Server(65534, frozenset((65534,)))
    os.chown(site.root / "state", 65534, 65534)
    os.chown(site.root / "mail", 65534, 65534)
    for finding in site.look(server, site.open_above):
        shell(finding.mend)
    assert site.look(server, site.open_above) == []
    assert stat.S_IMODE(os.stat(site.root / "etc/key.pem").st_mode) == 0o640


def test_a_directory_above_that_it_may_not_enter(site: Site) -> None:
    """The directory is named that bars the way, once and for all below it."""
    site.domain.chmod(0o700)
    barred = [finding.reason.text for finding in site.look(STRANGER, site.open_above) if "reach" in finding.what]
    assert barred.count(f"it may not enter {site.domain}") == 1
    site.domain.chmod(0o755)
    (site.root / "etc").chmod(0o700)
    found = [finding for finding in site.look(STRANGER, site.open_above) if "reach" in finding.what]
    assert [finding.reason.text for finding in found] == [f"it may not enter {site.root}/etc"]
    assert "chgrp" in found[0].mend


def test_a_bar_outside_of_the_configuration_is_opened_for_all(site: Site) -> None:
    """The directory that a certificate of others lies in is not given to our group."""
    outside = site.root / "certbot"
    outside.mkdir(mode=0o700)
    for name in ("certificate.pem", "key.pem"):
        (site.root / "etc" / name).rename(outside / name)
    text = Path(site.path).read_text().replace('"certificate.pem"', f'"{outside}/certificate.pem"')
    Path(site.path).write_text(text.replace('"key.pem"', f'"{outside}/key.pem"'))
    found = [finding for finding in site.look(STRANGER, site.open_above) if "reach" in finding.what]
    assert [finding.mend for finding in found] == [f"chmod o+x {outside}"]


def test_directories_that_are_missing_or_none(site: Site) -> None:
    """Missing: init makes it, a warning. A file in its place: an error."""
    (site.root / "mail").rmdir()
    assert site.one().severity is Severity.WARNING
    (site.root / "mail").write_text("")
    finding = site.one()
    assert (finding.severity, finding.what) == (Severity.ERROR, f"{site.root}/mail is no directory")


def test_a_file_that_cannot_be_looked_at(site: Site) -> None:
    """What the system says is told."""

    def stat(path: str) -> os.stat_result:
        if path.endswith("users"):
            raise PermissionError(13, "Permission denied", path)
        return os.stat(path)

    (finding,) = site.look(stat=stat)
    assert finding.reason.text == "Permission denied"


# Maildirs


def test_a_maildir_that_all_can_read(site: Site) -> None:
    """Somebody's mail: a warning."""
    (site.maildir() / "cur").chmod(0o705)
    (finding,) = check_maildirs(site.settings, OURSELVES)
    assert finding.severity is Severity.WARNING
    shell(finding.mend)
    assert check_maildirs(site.settings, OURSELVES) == []


def test_a_maildir_for_another_server(site: Site) -> None:
    """[maildir] says how Dovecot gets in: modes and group that are less are found, and what is said mends them."""
    group = grp.getgrgid(os.getegid()).gr_name
    with open(site.path, "a") as file:
        file.write(f'[maildir]\ngroup = "{group}"\ndirectory_mode = "2770"\n')
    path = site.maildir()
    found = check_maildirs(site.settings, OURSELVES)
    assert [finding.what for finding in found] == [
        f"{directory} has mode 0700" for directory in (path, path / "tmp", path / "new", path / "cur")
    ]
    for finding in found:
        shell(finding.mend)
    assert check_maildirs(site.settings, OURSELVES) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives groups away")
def test_a_maildir_of_another_group(site: Site) -> None:
    """The group that [maildir] names is missing."""
    with open(site.path, "a") as file:
        file.write('[maildir]\ngroup = "root"\n')
    path = site.maildir()
    os.chown(path / "cur", -1, 65534)
    (finding,) = check_maildirs(site.settings, OURSELVES)
    assert finding.what == f"{path}/cur does not belong to group root"
    shell(finding.mend)
    assert check_maildirs(site.settings, OURSELVES) == []


def test_a_maildir_of_somebody_else(site: Site) -> None:
    """Mail for it waits: an error, said once for all its directories."""
    site.maildir()
    (finding,) = check_maildirs(site.settings, STRANGER)
    assert finding.severity is Severity.ERROR
    assert finding.mend == f"chown -R 12345 {site.root}/mail/example.org/alice/Maildir"


def test_a_maildir_that_cannot_be_written(site: Site) -> None:
    """Its owner took the right away."""
    (site.maildir() / "new").chmod(0o500)
    found = check_maildirs(site.settings, Server(os.geteuid() or 4711, frozenset()), _owned_by_4711)
    assert [(finding.severity, finding.what.rpartition("/")[0]) for finding in found] == [
        (Severity.ERROR, f"the server cannot write in {site.root}/mail/example.org/alice/Maildir")
    ]


def _owned_by_4711(path: str) -> os.stat_result:
    """Root may do everything: have a common user own what root owns."""
    status = list(os.stat(path))
    status[stat.ST_UID] = status[stat.ST_UID] or 4711
    return os.stat_result(status)


def test_a_maildir_on_two_volumes(site: Site) -> None:
    """A rename does not cross volumes."""
    path = site.maildir()

    def stat_volumes(asked: str) -> os.stat_result:
        status = list(os.stat(asked))
        status[stat.ST_DEV] = 7 if asked.endswith("tmp") else 8
        return os.stat_result(status)

    (finding,) = check_maildirs(site.settings, OURSELVES, stat_volumes)
    assert (finding.severity, finding.what) == (Severity.ERROR, f"{path} lies on several volumes")


def test_an_owner_that_does_not_exist(site: Site) -> None:
    """[maildir] owner names nobody."""
    with open(site.path, "a") as file:
        file.write('[maildir]\nowner = "no-such-user"\n')
    (finding,) = check_maildirs(site.settings, OURSELVES)
    assert finding.severity is Severity.ERROR
    Path(site.path).write_text(Path(site.path).read_text().replace('owner = "no-such-user"', 'group = "no-such-group"'))
    (finding,) = check_maildirs(site.settings, OURSELVES)
    assert (finding.severity, finding.what) == (Severity.ERROR, "there is no group no-such-group")


def test_of_many_alike_some_are_told(site: Site) -> None:
    """A thousand Maildirs with the same fault are not a thousand lines."""
    users = "".join(f"user{number}:!\n" for number in range(30))
    (site.domain / "users").write_text(USERS + users)
    for number in range(30):
        site.maildir(f"user{number}")
    found = check_maildirs(site.settings, STRANGER)
    assert len(found) == ALIKE_MAXIMUM + 1
    assert found[-1].what == f"{30 - ALIKE_MAXIMUM} more like these"


# As whom the server runs


def test_rights_by_owner_group_and_others(tmp_path: Path) -> None:
    """The first class that fits counts, as path_resolution(7) says; root may do everything."""
    file = tmp_path / "file"
    file.write_text("")
    file.chmod(0o604)
    status = file.stat()
    assert Server(0, frozenset()).may(status, READ | WRITE | ENTER)
    own = list(status)
    own[stat.ST_UID], own[stat.ST_GID] = 500, 600
    held = os.stat_result(own)
    assert Server(500, frozenset()).may(held, READ | WRITE)
    assert not Server(501, frozenset((600,))).may(held, READ)
    assert Server(501, frozenset((601,))).may(held, READ)
    assert not Server(501, frozenset((601,))).may(held, WRITE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks for another")
def test_root_asks_about_the_owner_of_the_state(tmp_path: Path) -> None:
    """The server is who owns its state; before there is any, nobody is known."""
    assert server_of(str(tmp_path / "none")).uid == 0
    os.chown(tmp_path, 65534, 65534)
    server = server_of(str(tmp_path))
    assert (server.uid, server.name, 65534 in server.groups) == (65534, "nobody", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
def test_what_root_left_in_the_state_directory_is_found(tmp_path: Path) -> None:
    """A start by root makes directories that the server cannot use; each is named, with what gives it back."""
    site = Site(tmp_path)
    os.chown(tmp_path / "state", 12345, 12345)
    for name, owner in (("spool", 0), ("history", 12345)):
        (tmp_path / "state" / name).mkdir(mode=0o700)
        os.chown(tmp_path / "state" / name, owner, owner)
    found = {finding.mend for finding in site.look(STRANGER) if "cannot use" in finding.what}
    assert found == {f"chown -R 12345 {tmp_path}/state/spool"}

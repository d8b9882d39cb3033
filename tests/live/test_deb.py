"""The Debian package: installed in place of another mail server, used, upgraded, removed, on a machine with systemd."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.peers import package
from tests.live.peers.machine import Machine

pytestmark = pytest.mark.live

INSTALL = "apt-get -q -y install --no-install-recommends"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, place: Path, debian_package: Path) -> Iterator[Machine]:
    """A machine with Postfix, and two versions of our package in /root."""
    directory = tmp_path_factory.mktemp("machine")
    later = package.next_version(debian_package, tmp_path_factory.mktemp("later"))
    shutil.copy(debian_package, place / "mta.deb")
    shutil.copy(later, place / "later.deb")
    started = Machine(directory, "mail.example.org", place)
    yield started
    started.stop()


def test_the_life_of_an_installation(machine: Machine, place: Path) -> None:
    """It takes the place of Postfix, starts nothing before it is configured, goes through an upgrade, and leaves mail.

    One test, since each step stands on the one before.
    """
    # installed
    assert "postfix" in machine.run("dpkg-query -W -f '${db:Status-Status} ${Package}' postfix")
    said = machine.run(f"{INSTALL} {place}/mta.deb", seconds=120)
    assert "mta is not configured yet and was not started. Type: mta init" in said
    assert machine.run("dpkg-query -W -f '${db:Status-Status}' postfix", None) != "installed"
    assert machine.run("mta --version").startswith("mta, version ")
    assert "--config" in machine.run("cd / && /usr/lib/mta/bin/twistd mta --help")
    assert machine.run("systemctl list-units --no-legend --all 'mta*'") == ""
    assert "/usr/lib/mta/share/mta/etc/mta.toml" in machine.run("mta samples")
    assert machine.run("readlink -e /usr/share/doc/mta/examples/etc/mta.toml").strip().endswith("etc/mta.toml")
    for name in ("/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/mailq", "/usr/bin/newaliases"):
        assert machine.run(f"readlink {name}").strip().endswith("mta/bin/mta-sendmail")
    assert "mta-queue" in machine.run("man -w mta-queue")
    assert machine.run("id -un mta").strip() == "mta"
    machine.run("bash -n /usr/share/bash-completion/completions/mta")
    machine.run("grep -q mta /usr/share/zsh/vendor-completions/_mta")

    # configured, as `mta init` says
    machine.run("mta init --hostname mail.example.org --domain example.org --user alice --ipv4 192.0.2.1 --systemd")
    machine.run("systemctl enable --now mta-mx.socket mta-submission.socket mta-submissions.socket mta.service")
    assert machine.run("systemctl is-active mta.service").strip() == "active"
    greeting = "exec 3<>/dev/tcp/127.0.0.1/25; head -n 1 <&3; exec 3>&-"
    assert machine.run(greeting).startswith("220 mail.example.org ")
    assert machine.run("ps -o user= -p $(systemctl show --value -p MainPID mta)").strip() == "mta"

    # used as a system uses its mail server
    machine.run("printf 'Subject: from cron\\n\\nIt ran.\\n' | sendmail alice@example.org")
    machine.run("until grep -q 'It ran' /var/mail/mta/example.org/alice/Maildir/new/*; do sleep 0.1; done")
    assert machine.run("mailq").strip() == "Mail queue is empty"
    assert "sendmail" in machine.run("man -w 8 sendmail")

    # upgraded
    machine.run("touch /etc/mta/mine /var/mail/mta/mine; before=$(systemctl show --value -p MainPID mta)")
    machine.run("sha256sum /etc/mta/mta.toml >/root/sum")
    machine.run(f"{INSTALL} {place}/later.deb", seconds=120)
    assert machine.run("dpkg-query -W -f '${Version}' mta").endswith("-2")
    machine.run("sha256sum --check /root/sum")
    assert (
        machine.run("test $(systemctl show --value -p MainPID mta) != $before && systemctl is-active mta").strip()
        == "active"
    )
    assert machine.run(greeting).startswith("220 mail.example.org ")
    assert machine.run("find /usr/lib/mta -newer /root/sum -name '*.pyc' | head -3") == ""

    assert machine.run("journalctl -u mta -o cat | grep fault", 1) == ""

    # removed
    machine.run("apt-get -q -y remove mta")
    assert machine.run("systemctl is-active mta-mx.socket", 3).strip() == "inactive"
    said = machine.run("dpkg --purge mta")
    assert "/var/mail/mta is kept" in said
    machine.run("test -e /etc/mta/mine && test -e /var/mail/mta/mine && test -d /var/lib/mta")
    assert machine.run("test -e /usr/lib/mta || echo gone").strip() == "gone"

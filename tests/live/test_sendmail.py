"""The programs that send by calling sendmail: cron, PHP, mail, git, and what they and people expect of it."""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon
from tests.live.peers.maildir import arrived, messages
from tests.live.peers.process import eventually, needs_root, program

pytestmark = pytest.mark.live

USER = "www-data"
HOST = "mx.example.test"
EX_DATAERR, EX_NOUSER, EX_TEMPFAIL, EX_NOPERM = 65, 67, 75, 77


class Machine:
    """A system whose sendmail, mailq and newaliases are ours, with a daemon behind them."""

    def __init__(self, daemon: Daemon, place: Path) -> None:
        self.daemon = daemon
        self.programs = place / "sbin"
        self.programs.mkdir()
        real = self.programs / "mta-sendmail"
        real.write_text(f"#!{sys.executable}\nfrom mta.mailer import main\nmain()\n")
        real.chmod(0o755)
        for name in ("sendmail", "mailq", "newaliases"):
            (self.programs / name).symlink_to(real)
        self.aliases = daemon.directory / "etc/aliases"

    def run(
        self, *arguments: str, text: str | bytes = "", user: str = USER, extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command as a user, with our programs first in the path."""
        entry = pwd.getpwnam(user)
        environment = {
            "PATH": f"{self.programs}:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "USER": user,
            "MTA_CONFIG": str(self.daemon.settings_file),
            **(extra or {}),
        }
        return subprocess.run(
            arguments,
            check=False,
            cwd="/",
            capture_output=True,
            input=text.encode() if isinstance(text, str) else text,
            env=environment,
            user=entry.pw_uid,
            group=entry.pw_gid,
            extra_groups=[],
        )

    def sendmail(self, *options: str, text: str | bytes = "", user: str = USER) -> subprocess.CompletedProcess[bytes]:
        """Call sendmail as a user."""
        return self.run(str(self.programs / "sendmail"), *options, text=text, user=user)


@pytest.fixture(scope="module")
def machine(start_daemon: StartDaemon, place: Path) -> Machine:
    """A machine with root's mail for bob, on which the web server may write as the shop."""
    needs_root("this test")
    local = {"socket": "../run/submit.sock", "aliases": "aliases", "senders": {USER: ["shop@example.test"]}}
    daemon = start_daemon({"local": local, "relay": {"smart_host": {"host": "[127.0.0.1]", "port": 1}}})
    made = Machine(daemon, place)
    made.aliases.write_text("root: bob\n")
    assert made.run("newaliases", user="root").returncode == 0
    return made


def parted(stored: bytes) -> tuple[bytes, bytes]:
    """Head and body of a stored message, with LF at the line ends."""
    head, _, body = stored.replace(b"\r\n", b"\n").partition(b"\n\n")
    return head + b"\n", body


def test_cron(machine: Machine) -> None:
    """What Debian's cron hands in for a user's job arrives where root's mail goes, and says whose job it was."""
    head = f"From: root (Cron Daemon)\nTo: {USER}\nSubject: Cron <{USER}@host> cron-job\nX-Cron-Env: <A=b>\n"
    text = f"{head}\nout\r50%\nend\n"
    done = machine.sendmail("-i", "-FCronDaemon", "-B8BITMIME", "-oem", USER, text=text)
    assert (done.returncode, done.stderr) == (0, b"")
    fields, body = parted(arrived(machine.daemon.maildir("bob"), b"cron-job"))
    assert f"Return-Path: <{USER}@{HOST}>\n".encode() in fields
    assert f"\nFrom: root@{HOST} (Cron Daemon)\nTo: {USER}@{HOST}\n".encode() in fields
    assert f"\nSender: {USER}@{HOST}\n".encode() in fields
    assert f"(mta, from userid {pwd.getpwnam(USER).pw_uid})".encode() in fields
    assert body == b"out\n50%\nend\n"


def test_recipients_of_the_header(machine: Machine) -> None:
    """-t sends to To, Cc and Bcc, and nobody learns of Bcc; -i keeps a dot, and 8-bit text stays as it is."""
    text = "To: Bob <bob@example.test>, root\nBcc: alice@example.test\nSubject: header-recipients\n\nGrüße\n.\nmehr"
    assert machine.sendmail("-t", "-i", text=text).returncode == 0
    for user in ("bob", "alice"):
        head, body = parted(arrived(machine.daemon.maildir(user), b"header-recipients"))
        assert b"\nBcc:" not in head
        assert f"\nTo: Bob <bob@example.test>, root@{HOST}\n".encode() in head
        assert f"\nFrom: {USER} <{USER}@{HOST}>\n".encode() in head
        assert b"\nDate: " in head
        assert b"\nMessage-ID: <" in head
        assert body == "Grüße\n.\nmehr\n".encode()
    assert sum(b"header-recipients" in each for each in messages(machine.daemon.maildir("bob"))) == 1


def test_a_dot_ends(machine: Machine) -> None:
    """Without -i a dot alone ends the message."""
    machine.sendmail("bob@example.test", text="Subject: dot-ends\n\nyes\n.\nno\n")
    assert parted(arrived(machine.daemon.maildir("bob"), b"dot-ends"))[1] == b"yes\n"


@pytest.mark.parametrize("ended", ["\n", "\r\n"])
def test_php(machine: Machine, ended: str) -> None:
    """PHP's mail() sends as its user and as the addresses it is allowed, with either line end."""
    code = (
        '$h = "From: Shop <shop@example.test>\\r\\nCc: bob@example.test"; '
        f'exit(mail("root", "php-mail {len(ended)}", "one{ended}.{ended}two", $h, "-fshop@example.test") ? 0 : 1);'
    )
    sendmail = f"sendmail_path={machine.programs}/sendmail -t -i"
    done = machine.run(program("php"), "-d", sendmail, "-r", code.replace("\n", "\\n").replace("\r", "\\r"))
    assert (done.returncode, done.stderr) == (0, b"")
    head, body = parted(arrived(machine.daemon.maildir("bob"), f"php-mail {len(ended)}".encode()))
    assert b"Return-Path: <shop@example.test>\n" in head
    assert b"\nFrom: Shop <shop@example.test>\n" in head
    assert body == b"one\n.\ntwo\n"


def test_php_may_not_be_anybody(machine: Machine) -> None:
    """mail() is false where the address is not allowed, and the word says what would allow it."""
    sendmail = f"sendmail_path={machine.programs}/sendmail -t -i"
    code = 'exit(mail("bob@example.test", "forged", "x", "From: alice@example.test") ? 0 : 1);'
    done = machine.run(program("php"), "-d", sendmail, "-r", code)
    assert done.returncode == 1
    assert b"<alice@example.test>: www-data may not send as this address; [local.senders]" in done.stderr
    assert not any(b"forged" in each for each in messages(machine.daemon.maildir("bob")))


def test_mail(machine: Machine, place: Path) -> None:
    """mail(1) of BSD sends with it."""
    (place / "mailrc").write_text(f"set sendmail={machine.programs}/sendmail\n")
    done = machine.run(
        program("bsd-mailx"), "-s", "bsd-mail", "root", text="hello\n", extra={"MAILRC": str(place / "mailrc")}
    )
    assert done.returncode == 0, done.stderr
    head, body = parted(arrived(machine.daemon.maildir("bob"), b"bsd-mail"))
    assert f"\nTo: root@{HOST}\n".encode() in head
    assert body == b"hello\n"


def test_git_send_email(machine: Machine, place: Path) -> None:
    """A patch of git send-email arrives, with a dot alone on a line."""
    patch = place / "0001.patch"
    patch.write_text(
        f"From 1234 Mon Sep 17 00:00:00 2001\nFrom: {USER} <{USER}@{HOST}>\n"
        "Date: Wed, 25 Nov 2026 12:00:00 +0000\nSubject: [PATCH] git-patch\n\nText\n---\n.\n-- \n2.39\n"
    )
    author = f"{USER} <{USER}@{HOST}>"
    done = machine.run(
        program("git"),
        "send-email",
        "--quiet",
        "--confirm=never",
        f"--sendmail-cmd={machine.programs}/sendmail",
        f"--from={author}",
        "--to=bob@example.test",
        str(patch),
        extra={
            f"GIT_{who}_{what}": value
            for who in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", USER), ("EMAIL", f"{USER}@{HOST}"))
        },
    )
    assert done.returncode == 0, done.stderr
    assert b"\n.\n" in arrived(machine.daemon.maildir("bob"), b"git-patch").replace(b"\r\n", b"\n")


def test_smtp_on_standard_input(machine: Machine) -> None:
    """-bs passes SMTP on, without a login."""
    commands = ["EHLO x", f"MAIL FROM:<{USER}@{HOST}>", "RCPT TO:<bob@example.test>", "DATA"]
    dialogue = "\r\n".join([*commands, "Subject: by-smtp", "", "x", ".", "QUIT", ""])
    done = machine.sendmail("-bs", text=dialogue)
    assert done.returncode == 0
    assert [line[:3] for line in done.stdout.splitlines() if line[3:4] == b" "] == [
        b"220", b"250", b"250", b"250", b"354", b"250", b"221",
    ]  # fmt: skip
    assert f"From: {USER}@{HOST}".encode() in arrived(machine.daemon.maildir("bob"), b"by-smtp")


@pytest.mark.parametrize(
    ("options", "status", "word"),
    [
        (["nosuch@example.test"], EX_NOUSER, "<nosuch@example.test>: no such mailbox here (550 5.1.1)"),
        (["bob@example.test", "nosuch"], EX_NOUSER, f"<nosuch@{HOST}>: no such mailbox here"),
        (["-f", "alice@example.test", "bob@example.test"], EX_NOPERM, "may not send as this address"),
        (["John Smith"], EX_DATAERR, "is a name without an address"),
        (["-t"], 64, "no recipients in To, Cc or Bcc"),
        ([], 64, "no recipients"),
    ],
)
def test_refusals(machine: Machine, options: list[str], status: int, word: str) -> None:
    """What is refused ends with its status and one line, and nobody gets a part of it."""
    done = machine.sendmail(*options, text="Subject: refused\n\nx\n")
    assert done.returncode == status
    assert word in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert not any(b"Subject: refused" in each for each in messages(machine.daemon.maildir("bob")))


def test_mailq(machine: Machine) -> None:
    """The queue is shown as Postfix shows it, with the reason above the recipient; users may not look."""
    assert machine.sendmail("someone@elsewhere.example", text="Subject: queued\n\nx\n").returncode == 0
    assert b"only root and the user" in machine.run("mailq").stderr
    line = re.compile(rf"^[0-9a-z]{{18}}[*!]? +\d+ \w{{3}} \w{{3}} [ \d]\d [\d:]{{8}} {USER}@{HOST}$", re.MULTILINE)

    def queue() -> str:
        """What mailq shows, once the first attempt has failed."""
        done = machine.run("mailq", user="root")
        assert done.returncode == 0, done.stderr
        return done.stdout.decode() if b"\n" in done.stdout and b"(" in done.stdout else ""

    shown = eventually(queue, "the reason of a delay in mailq")
    assert shown.startswith("-Queue ID-")
    assert line.search(shown), shown
    assert re.search(r"^ *\(.+\)\n +someone@elsewhere\.example$", shown, re.MULTILINE), shown
    assert re.search(r"^-- \d+ Kbytes in \d+ Requests?\.$", shown, re.MULTILINE)
    assert machine.sendmail("-q", user="root").returncode == 0
    assert machine.sendmail("-qRelsewhere", user="root").returncode == 0


def test_newaliases(machine: Machine) -> None:
    """Aliases are counted, and they count at once; a file with a fault changes nothing."""
    before = machine.aliases.read_text()
    try:
        machine.aliases.write_text(before + "# more\nops: alice\n")
        done = machine.run("newaliases", user="root")
        assert done.stdout.decode() == f"{machine.aliases}: 2 aliases, longest 5 bytes, 8 bytes total\n"
        assert machine.sendmail("ops", text="Subject: new-alias\n\nx\n").returncode == 0
        arrived(machine.daemon.maildir("alice"), b"new-alias")
        machine.aliases.write_text(before + "ops: |/bin/cat\n")
        done = machine.run("newaliases", user="root")
        assert done.returncode == EX_DATAERR
        assert f"{machine.aliases}:2: expected an address" in done.stderr.decode()
        assert machine.sendmail("ops", text="Subject: still\n\nx\n").returncode == 0
    finally:
        machine.aliases.write_text(before)
        machine.run("newaliases", user="root")


def test_mta_sendmail(machine: Machine) -> None:
    """`mta sendmail` is the same."""
    done = machine.run(sys.executable, "-c", "from mta.cli import main; main()", "sendmail", "-fwww-data", "root",
                       text="Subject: mta-sendmail\n\nx\n")  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    arrived(machine.daemon.maildir("bob"), b"mta-sendmail")


def test_the_socket_is_there_for_all(machine: Machine) -> None:
    """The socket is open to everybody and its directory to be entered."""
    path = machine.daemon.directory / "run/submit.sock"
    assert path.stat().st_mode & 0o777 == 0o666
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert os.access(path, os.W_OK)


def test_several_workers(start_daemon: StartDaemon, machine: Machine) -> None:
    """Two workers share the socket, and it stays when one of them is killed."""
    daemon = start_daemon({"local": {"socket": "../run/submit.sock"}, "workers": 2})
    config = ("-C", str(daemon.settings_file))
    assert machine.sendmail(*config, "root", text="Subject: before\n\nx\n").returncode == 0
    assert daemon.process is not None
    children = Path(f"/proc/{daemon.process.popen.pid}/task/{daemon.process.popen.pid}/children")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    daemon.process.wait_for(lambda: daemon.output.count("worker.started") == 3, "the next worker")
    done = [machine.sendmail(*config, "root", text=f"Subject: after {at}\n\nx\n") for at in range(8)]
    assert [each.returncode for each in done] == [0] * 8
    for at in range(8):
        arrived(daemon.maildir("alice"), f"Subject: after {at}\r".encode())


def test_a_stopped_server(machine: Machine) -> None:
    """Without a server nothing is kept: the status says to try again, also where an old socket is there."""
    machine.daemon.stop()
    done = machine.sendmail("root", text="Subject: late\n\nx\n")
    assert done.returncode == EX_TEMPFAIL
    assert b"no mail server answers" in done.stderr
    machine.daemon.start()
    assert machine.sendmail("root", text="Subject: again\n\nx\n").returncode == 0
    arrived(machine.daemon.maildir("bob"), b"Subject: again")

"""``mta domain``, ``user``, ``alias`` and ``completion``, as an operator types them; no daemon runs."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mta.auth.verifier import make_scram_verifier, verify
from mta.cli import change as module
from mta.cli import main
from mta.cli.password import choose
from mta.settings.reader import load
from mta.settings.sections import Settings
from tests.doubles.etc import write_etc

TOML = """\
# ours
hostname = "mail.example.org"
state = "state"
mail = "mail"

[smtpd]
enabled = false
[auth]
iterations = 4096
"""
BEE = make_scram_verifier("bees in bonnets", 4096, b"salt")
USERS = f"# who is who\nalice:!::::::\n\n  \nbob:{BEE}:1:2:Bob Roberts:/home/bob:/bin/sh:userdb_quota=1G\r\n# end"
ALIASES = """\
# names
postmaster: alice
list:  alice , bob,   # no comment here, but a target would be
  carol@example.net
# between
   , dave@example.net
bobby: bob
"""
ALIASES = ALIASES.replace("   # no comment here, but a target would be", "")
NO_DAEMON = "No daemon runs here: it takes effect when one starts.\n"


class Site:
    """An ``etc`` with comments, odd lines and a file without its last line end, for example.org."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "state").mkdir()
        files = {"users": USERS, "aliases": ALIASES.replace("\n   , dave", "\n   dave").replace("net\n#", "net,\n#")}
        self.config = write_etc(root, TOML, {"example.org": files})
        self.users, self.aliases = (root / "domains/example.org" / name for name in ("users", "aliases"))
        self.apps = root / "domains/example.org/app-passwords"
        self.before = files

    def mta(self, *arguments: str, typed: str | None = None) -> Result:
        """Run a command."""
        return CliRunner().invoke(main, [*arguments, "--config", self.config], input=typed)

    def done(self, *arguments: str, typed: str | None = None) -> str:
        """Run a command that goes well; gives what it says."""
        result = self.mta(*arguments, typed=typed)
        assert result.exit_code == 0, result.output
        return result.output

    def refused(self, status: int, *arguments: str) -> str:
        """Run a command that is refused, with this status, and that changes nothing."""
        before = self.tree()
        result = self.mta(*arguments)
        assert result.exit_code == status, result.output
        assert self.tree() == before
        return result.output

    def tree(self) -> dict[str, bytes]:
        """All files below ``etc``, and directories."""
        return {str(path): path.read_bytes() if path.is_file() else b"" for path in self.root.rglob("*")}

    def load(self) -> Settings:
        """What the server would read."""
        return load(self.config)

    def text(self, path: Path) -> str:
        """The content of a file."""
        return path.read_bytes().decode()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site."""
    return Site(tmp_path)


def password_in(output: str) -> str:
    """The password that is shown."""
    found = re.search(r"  ([a-z0-9]{5}(?:-[a-z0-9]{5}){4})  \(it is shown this once\)", output)
    assert found is not None, output
    return found[1]


# Users


def test_a_user_is_added_behind_all_others(site: Site) -> None:
    """Every octet that was there stays; the password that is shown once is right, and nobody else may read it."""
    os.chmod(site.users, 0o640)
    output = site.done("user", "add", "carol@example.org", "--generate")
    text = site.text(site.users)
    assert text.startswith(USERS + "\n")
    account = site.load().directory.account("carol@example.org")
    assert account is not None
    assert verify(account.verifier, password_in(output).encode())
    assert password_in(output) not in text
    assert stat.S_IMODE(site.users.stat().st_mode) == 0o640
    assert output.splitlines()[1] == f"Mail for it goes to {account.maildir}, which the first message makes."
    assert output.endswith(NO_DAEMON)
    assert [path.name for path in site.users.parent.iterdir() if path.name.startswith(".")] == []


def test_a_password_comes_from_a_pipe_or_not_at_all(site: Site) -> None:
    """The first line counts, without its end; without one nobody logs in; no password stands in a command."""
    site.done("user", "add", "carol", "--password-file", "-", typed="correct horse\r\nsecond line\n")
    site.done("user", "add", "dora", "--no-password")
    accounts = site.load().directory.accounts
    assert verify(accounts["carol@example.org"].verifier, b"correct horse")
    assert accounts["dora@example.org"].verifier == "!"
    assert "nobody is there to type a password" in site.refused(66, "user", "add", "emil")


def test_a_password_is_typed_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal it is asked for until both are the same."""

    class Terminal:
        """Somebody sits there."""

        def isatty(self) -> bool:
            """Say so."""
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    answers = iter(["one password", "another one", "one password", "one password"])
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda prompt: next(answers))
    assert choose("alice@example.org", None, False, 255) == "one password"


@pytest.mark.parametrize("typed", ["short\n", "x" * 256 + "\n", "tab\tin it all\n", ""])
def test_a_password_that_cannot_be_used_is_refused(site: Site, typed: str) -> None:
    """Too short, too long, or with what cannot be typed: nothing is changed."""
    result = site.mta("user", "passwd", "bob", "--password-file", "-", typed=typed)
    assert (result.exit_code, site.text(site.users)) == (65, USERS)


def test_a_password_file_that_is_no_text_is_told(site: Site) -> None:
    """In one line."""
    file = site.root / "password"
    file.write_bytes(b"\xff\xfe word word\n")
    assert "holds no text in UTF-8" in site.refused(65, "user", "passwd", "bob", "--password-file", str(file))


def test_a_new_password_changes_one_field(site: Site) -> None:
    """All other fields of the line, and its end, stay; the old password is wrong then."""
    site.done("user", "passwd", "bob@example.org", "--password-file", "-", typed="a new password\n")
    account = site.load().directory.accounts["bob@example.org"]
    assert site.text(site.users) == USERS.replace(BEE, account.verifier)
    assert verify(account.verifier, b"a new password")


def test_each_change_has_a_second_of_its_own(site: Site) -> None:
    """Dovecot compares whole seconds: changes that follow each other at once are dated one after the other."""
    dated = []
    for number in range(3):
        site.done("user", "passwd", "bob@example.org", "--password-file", "-", typed=f"password {number}\n")
        dated.append(int(site.users.stat().st_mtime))
    assert dated[0] < dated[1] < dated[2]


def test_what_is_no_user_is_told(site: Site) -> None:
    """A user who is there, a name that is none, a domain of others, nobody: each has its own words and status."""
    assert "is a user already" in site.refused(65, "user", "add", "bob", "--generate")
    assert "is no user name" in site.refused(65, "user", "add", "a/b", "--generate")
    assert "is no domain of ours" in site.refused(65, "user", "add", "x@example.com", "--generate")
    assert "zoe@example.org is no user" in site.refused(67, "user", "passwd", "zoe", "--generate")
    assert "is no user" in site.refused(67, "user", "remove", "zoe")
    assert "is no address" in site.refused(2, "user", "disable", "a b@example.org")


def test_a_user_that_aliases_lead_to_stays(site: Site) -> None:
    """They are named with their lines; with --force it is taken out of them, and nothing else changes."""
    output = site.refused(65, "user", "remove", "bob")
    assert f"{site.aliases}:3: list@example.org" in output
    assert f"{site.aliases}:7: bobby@example.org" in output
    maildir = site.root / "mail/example.org/bob/Maildir"
    maildir.mkdir(parents=True)
    output = site.done("user", "remove", "bob", "--force")
    assert "list@example.org leads to it no more." in output
    assert "bobby@example.org is gone." in output
    assert f"Its mail stays in {maildir}" in output
    assert maildir.is_dir()
    assert site.text(site.users) == USERS.replace(next(line for line in USERS.split("\n") if "bob" in line) + "\n", "")
    before = site.before["aliases"]
    assert site.text(site.aliases) == before.replace("alice , bob,", "alice ,").replace("bobby: bob\n", "")


def test_a_user_is_taken_out_of_many_aliases(site: Site) -> None:
    """Of each by itself, wherever it stands, under a subaddress too, and by other domains."""
    site.aliases.write_text("one: bob\npostmaster: bob, alice\n# two\ntwo: bob+x, alice,\n  BOB\nthree: bob\n")
    site.done("domain", "add", "other.example", "--postmaster", "alice@example.org")
    site.done("alias", "add", "sales@other.example", "bob@example.org", "alice@example.org")
    site.done("user", "remove", "bob@example.org", "--force")
    assert site.aliases.read_text() == "postmaster: alice\n# two\ntwo: alice\n"
    other = site.root / "domains/other.example/aliases"
    assert other.read_text().endswith("sales: alice@example.org\n")


def test_who_is_needed_cannot_be_removed(site: Site) -> None:
    """The loader judges before anything is written: a domain without a postmaster is not made."""
    output = site.refused(65, "user", "remove", "alice", "--force")
    assert "nothing was changed, since the server could not use it" in output
    assert f"{site.aliases}: expected postmaster: user" in output


def test_what_was_wrong_before_keeps_nobody_from_his_work(site: Site) -> None:
    """A fault elsewhere stays a fault; a change that adds none is made."""
    (site.root / "mta.toml").write_text(TOML + "[dns]\ntimeout = 5\n")
    site.done("user", "add", "carol", "--no-password")
    assert "could not use it" in site.refused(65, "alias", "add", "x", "nobody")


def test_a_link_stays_a_link(site: Site) -> None:
    """What it leads to is changed, beside itself."""
    elsewhere = site.root / "elsewhere"
    elsewhere.mkdir()
    site.users.rename(elsewhere / "real")
    site.users.symlink_to(elsewhere / "real")
    site.done("user", "add", "carol", "--no-password")
    assert site.users.is_symlink()
    assert "carol:!" in (elsewhere / "real").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group_stay(site: Site) -> None:
    """Root changes a file of another, and it is his still; a new file beside it is his too."""
    os.chown(site.users, 65534, 65533)
    os.chmod(site.users, 0o640)
    site.done("user", "add", "carol", "--no-password")
    site.done("user", "app-password", "add", "carol", "phone")
    for path in (site.users, site.apps):
        status = path.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 65533, 0o640)


def test_no_edit_of_two_administrators_is_lost(site: Site) -> None:
    """Several commands at the same time wait for one another."""
    command = [sys.executable, "-c", "from mta.cli import main; main()", "user", "add"]
    running = [
        subprocess.Popen([*command, f"user{n}@example.org", "--no-password", "--config", site.config]) for n in range(4)
    ]
    assert [each.wait(60) for each in running] == [0] * 4
    assert {f"user{n}@example.org" for n in range(4)} <= set(site.load().directory.accounts)


def test_who_waits_too_long_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that somebody keeps ends the command with 75, try again."""
    monkeypatch.setattr(module, "WAIT", 0.0)
    with module.changing(Path(site.config)):
        assert "somebody else is changing" in site.refused(75, "user", "add", "carol", "--no-password")


def test_a_write_that_fails_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is told in one line, and what was there is there."""

    def full(self: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mta.disk.posix.PosixFile.sync", full)
    assert "No space left" in site.refused(73, "user", "add", "carol", "--no-password")


# App passwords


def test_app_passwords_come_and_go_one_by_one(site: Site) -> None:
    """Each is shown once and is right; one that is revoked leaves the others; no line of users changes."""
    phone = password_in(site.done("user", "app-password", "add", "bob", "phone"))
    laptop = password_in(site.done("user", "app-password", "add", "bob", "laptop"))
    found = site.load().directory.accounts["bob@example.org"].app_passwords
    assert [each.name for each in found] == ["phone", "laptop"]
    assert verify(found[0].verifier, phone.encode())
    assert verify(found[1].verifier, laptop.encode())
    assert site.done("user", "app-password", "list", "bob") == "phone\nlaptop\n"
    assert "has an app password phone already" in site.refused(65, "user", "app-password", "add", "bob", "phone")
    assert "has no app password tv, but phone, laptop" in site.refused(
        65, "user", "app-password", "remove", "bob", "tv"
    )
    site.done("user", "app-password", "remove", "bob", "phone")
    assert site.done("user", "app-password", "list", "bob") == "laptop\n"
    assert site.text(site.users) == USERS
    assert stat.S_IMODE(site.apps.stat().st_mode) == stat.S_IMODE(site.users.stat().st_mode)
    assert "is no name for an app password" in site.refused(65, "user", "app-password", "add", "bob", "a:b")


def test_app_passwords_go_with_their_user(site: Site) -> None:
    """What is left of the file are the lines of others."""
    site.done("user", "add", "carol", "--no-password")
    site.done("user", "app-password", "add", "carol", "phone")
    site.done("user", "app-password", "add", "bob", "phone")
    site.done("user", "remove", "carol")
    assert [line.split(":")[0] for line in site.apps.read_text().splitlines()[1:]] == ["bob"]


# Disabling


def test_an_account_is_disabled_and_enabled_again(site: Site) -> None:
    """The line says so to Dovecot and to people, and is what it was afterwards; mail to it is taken all the time."""
    output = site.done("user", "disable", "bob", "--reason", "sends spam: lots")
    assert "Mail to it is delivered as before." in output
    account = site.load().directory.accounts["bob@example.org"]
    assert account.disabled is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, sends spam: lots", account.disabled)
    assert "userdb_quota=1G nologin disabled=" in site.text(site.users)
    assert "disabled since" in site.done("user", "list")
    site.done("user", "enable", "bob")
    assert site.text(site.users) == USERS
    assert "is not disabled" in site.refused(65, "user", "enable", "bob")


# Aliases


def test_aliases_change_where_they_stand(site: Site) -> None:
    """Targets are added to an alias that is there, others are put behind all; no other line changes."""
    before = site.before["aliases"]
    output = site.done("alias", "add", "list", "bob", "eve@example.net")
    assert output.startswith("list@example.org leads to eve@example.net now, beside 4 others.\n")
    assert site.text(site.aliases) == before.replace("dave@example.net\n", "dave@example.net, eve@example.net\n")
    site.done("alias", "remove", "list", "eve@example.net")
    assert site.text(site.aliases) == before
    site.done("alias", "add", "*@example.org", "alice@example.org")
    assert site.text(site.aliases) == before + "*: alice\n"
    site.done("alias", "remove", "*@example.org")
    assert site.text(site.aliases) == before
    assert "nothing was changed" in site.done("alias", "add", "list", "BOB")
    site.done("alias", "remove", "bobby", "bob")
    assert site.text(site.aliases) == before.replace("bobby: bob\n", "")


def test_an_alias_that_takes_the_mail_of_a_user_is_warned_of(site: Site) -> None:
    """So is a user whose mail an alias takes."""
    assert "Beware: bob@example.org is a user too" in site.done("alias", "add", "bob", "alice")
    site.done("alias", "add", "zoe", "alice")
    assert f"Beware: {site.aliases}:9 is an alias" in site.done("user", "add", "zoe", "--no-password")


def test_what_is_no_alias_is_told(site: Site) -> None:
    """Nothing is changed by a target that is none, one that leads nowhere or in a circle, or an alias that is none."""
    assert "commands, files and * are no targets" in site.refused(2, "alias", "add", "x", "|rm")
    assert "which is not there" in site.refused(65, "alias", "add", "x", "nobody")
    assert "do not lead back to themselves" in site.refused(65, "alias", "add", "x", "x")
    assert "zoe@example.org is no alias" in site.refused(65, "alias", "remove", "zoe")
    assert "does not lead to alice@example.org" in site.refused(65, "alias", "remove", "bobby", "alice")


# Domains


def test_a_domain_is_added_whole_and_put_aside_whole(site: Site) -> None:
    """Its postmaster is that of the first domain unless somebody else is named; putting it back is one command."""
    output = site.done("domain", "add", "Bücher.example")
    name = "xn--bcher-kva.example"
    assert f"{name} is a domain of ours now" in output
    assert name in site.load().directory.domains
    assert "Mail for its postmaster goes to postmaster@example.org." in output
    assert f"  mta dkim keygen {name} --config {site.config}\n" in output, "what is to be typed names the configuration"
    output = site.done("domain", "remove", name)
    assert name not in site.load().directory.domains
    (back,) = re.findall(r"To put it back: mv (\S+) (\S+)", output)
    os.rename(*back)
    assert name in site.load().directory.domains


def test_a_domain_has_a_first_user(site: Site) -> None:
    """A name for the postmaster is a user of the new domain, with a password."""
    output = site.done("domain", "add", "other.example", "--postmaster", "olga", "--generate")
    account = site.load().directory.accounts["olga@other.example"]
    assert verify(account.verifier, password_in(output).encode())
    assert "has users: olga" in site.refused(65, "domain", "remove", "other.example")
    site.done("domain", "remove", "other.example", "--force")
    assert list(site.load().directory.domains) == ["example.org"]


def test_the_first_domain_of_all(tmp_path: Path) -> None:
    """Where there is none yet its first user is its postmaster, and nothing else can be."""
    config = tmp_path / "mta.toml"
    config.write_text(TOML)
    told = CliRunner().invoke(main, ["domain", "add", "example.org", "--config", str(config)])
    assert "--postmaster NAME" in told.output
    made = ["domain", "add", "example.org", "--postmaster", "alice", "--generate", "--config", str(config)]
    result = CliRunner().invoke(main, made)
    assert result.exit_code == 0, result.output
    assert list(load(str(config)).directory.accounts) == ["alice@example.org"]


def test_what_cannot_be_read_is_told(site: Site) -> None:
    """In one line, with the name of the file."""
    site.users.unlink()
    site.users.mkdir()
    for command in ("list", "remove"):
        result = site.mta("user", command, *(["bob"] if command == "remove" else []))
        assert (result.exit_code, result.output) == (78, f"mta: {site.users} cannot be read: Is a directory\n")


def test_a_domain_that_cannot_be_is_not_made(site: Site) -> None:
    """One that is there, and what is no name."""
    assert "is a domain of ours already" in site.refused(65, "domain", "add", "example.org")
    assert "is no domain name" in site.refused(2, "domain", "add", "a b")


def test_a_domain_that_others_lead_into_is_not_removed(site: Site) -> None:
    """Their mail would leave for another server."""
    site.done("domain", "add", "other.example")
    site.done("alias", "add", "other@example.org", "abuse@other.example")
    assert "other@example.org" in site.refused(65, "domain", "remove", "other.example")
    assert "leaves this server now" in site.done("domain", "remove", "other.example", "--force")


# Lists and completion


def test_lists_are_for_programs_too(site: Site) -> None:
    """One JSON object a line, with where each stands."""
    site.done("user", "app-password", "add", "bob", "phone")
    users = [json.loads(line) for line in site.done("user", "list", "--json").splitlines()]
    assert [(u["address"], u["password"], u["app_passwords"], u["disabled"]) for u in users] == [
        ("alice@example.org", False, [], None),
        ("bob@example.org", True, ["phone"], None),
    ]
    assert users[1]["source"] == f"{site.users}:5"
    aliases = [json.loads(line) for line in site.done("alias", "list", "example.org", "--json").splitlines()]
    assert aliases[1]["targets"] == ["alice", "bob", "carol@example.net", "dave@example.net"]
    (domain,) = [json.loads(line) for line in site.done("domain", "list", "--json").splitlines()]
    assert (domain["domain"], domain["users"], domain["aliases"], domain["signing_with"]) == ("example.org", 2, 3, [])
    assert site.done("domain", "list") == "example.org  2 users  3 aliases  not signed\n"


def completed(site: Site, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    environment = {
        "_MTA_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["mta", *words]),
        "COMP_CWORD": str(len(words)),
    }
    result = CliRunner().invoke(main, [], env=environment, prog_name="mta")
    return [line.partition(",")[2] for line in result.output.splitlines()]


def test_a_shell_completes_what_stands_in_etc(site: Site) -> None:
    """Domains, users, aliases and names of app passwords of the configuration that is typed before them."""
    site.done("user", "app-password", "add", "bob", "phone")
    config = ("--config", site.config)
    assert completed(site, "user", "passwd", *config, "b") == ["bob@example.org"]
    assert completed(site, "alias", "remove", *config, "p") == ["postmaster@example.org"]
    assert completed(site, "alias", "add", *config, "x@example.org", "bo") == ["bob@example.org", "bobby@example.org"]
    assert completed(site, "domain", "remove", *config, "") == ["example.org"]
    assert completed(site, "user", "app-password", "remove", *config, "bob@example.org", "") == ["phone"]
    assert "disable" in completed(site, "user", "d")
    assert completed(site, "do") == ["domain"]


def test_completing_imports_nothing_heavy(site: Site) -> None:
    """Neither Twisted nor the reader of the configuration: a shell does not wait for them."""
    program = (
        "import sys\nfrom mta.cli import main\n"
        "try:\n    main([], prog_name='mta')\nexcept SystemExit:\n    pass\n"
        "print(sorted(m for m in ('twisted', 'cryptography', 'mta.settings.sections') if m in sys.modules))"
    )
    for words in (f"mta user passwd --config {site.config} b", "mta us", "mta "):
        environment = {"_MTA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        made = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert made.stdout.splitlines()[-1] == "[]", made.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    """It calls mta with the variable that click looks for; bash finds nothing wrong with its own."""
    script = CliRunner().invoke(main, ["completion", shell], prog_name="mta").output
    assert f"_MTA_COMPLETE={shell}_complete" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)

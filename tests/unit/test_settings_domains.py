"""etc/domains: users, aliases and domain.toml; what is refused at load."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mta.settings import domains
from mta.settings.directory import Directory, Local
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.reader import load
from mta.settings.sections import DomainSettings, Settings
from mta.settings.verifier import HashVerifier, ScramVerifier, parse_verifier
from mta.smtp.address import Mailbox
from tests.doubles.etc import ALIASES, MINIMAL, USERS, write_etc

SCRAM = (
    "{SCRAM-SHA-256}4096,zC69o8zrWY9e1KO0X4D4qQ==,v7Zh3EFaFQMZxlQ8jVog5eh+VO2qutuwcYfMXtbIXEY=,"
    "F/YYtnjPphe2VZ97mq3Lf18MDTrcxZY1330GFt8hgDM="
)
"""What ``doveadm pw -s SCRAM-SHA-256 -p secret`` printed."""


def directory(root: Path, users: str = USERS, aliases: str = ALIASES, toml: str = "") -> Directory:
    """The directory of example.org with these files."""
    files = {"users": users, "aliases": aliases} | ({"domain.toml": toml} if toml else {})
    return load(write_etc(root, domains={"example.org": files})).directory


def problems(root: Path, users: str = USERS, aliases: str = ALIASES, toml: str = "") -> list[tuple[str, int, str]]:
    """File name, line and what was found of each problem of example.org."""
    with pytest.raises(SettingsRefused) as info:
        directory(root, users, aliases, toml)
    return [(Path(p.file).name, p.line, p.found) for p in info.value.problems]


def logins(found: object) -> list[str]:
    """The accounts an address leads to."""
    assert isinstance(found, Local), found
    return [account.login for account in found.accounts]


def test_dovecots_lines_are_read(tmp_path: Path) -> None:
    """User and password are used, the other fields of a passwd-file line are not; comments and blanks are skipped."""
    users = f"# people\n\nalice:{SCRAM}:1000:1000:Alice:/home/alice:/bin/sh:userdb_mail=x:y\r\nbob:!\n"
    found = directory(tmp_path, users)
    alice = found.account("alice@example.org")
    assert alice is not None
    assert alice.verifier == SCRAM
    assert alice.mailbox == Mailbox("alice", "example.org")
    assert alice.maildir == "/var/mail/mta/example.org/alice/Maildir"
    assert alice.source.endswith("domains/example.org/users:3")
    assert SCRAM not in repr(alice)
    assert set(found.accounts) == {"alice@example.org", "bob@example.org"}


@pytest.mark.parametrize(
    "user",
    [
        "../../x", "/etc/passwd", "|cmd", ".", "..", "a/b", "a\0b", ".hidden", "-rf", "a..b", "a.", "", " alice",
        "alice ", "Alice", "a b", '"a"', "*", "a@b", "x" * 65, "ä" * 33, "\u00c4", "a\u2028b", "a\x85b", "+x",
        "e\u0301",
    ],
)  # fmt: skip
def test_78_a_user_name_that_is_no_plain_name_is_refused(tmp_path: Path, user: str) -> None:
    """Row 78: no user name may be a path, hide, look like an option, or be longer than a local-part."""
    found = problems(tmp_path, USERS + f"{user}:!::::::\n")
    assert [(file, line) for file, line, _ in found] == [("users", 3)]


@pytest.mark.parametrize("user", ["a", "first.last", "x_1", "_x", "a+b", "a-b", "ünal", "o'neil", "7", "x" * 64])
def test_plain_user_names_are_taken(tmp_path: Path, user: str) -> None:
    """Names as people have them are taken, also beyond ASCII."""
    found = directory(tmp_path, USERS + f"{user}:!\n")
    account = found.account(f"{user}@example.org")
    assert account is not None
    assert account.maildir == f"/var/mail/mta/example.org/{user}/Maildir"


def test_78_an_address_is_never_made_a_path(tmp_path: Path) -> None:
    """Row 78: whatever a peer names as recipient, the Maildirs are those of the users file."""
    found = directory(tmp_path, aliases=ALIASES + "*: bob\n")
    known = {account.maildir for account in found.accounts.values()}
    for local_part in ("../../x", "/etc/passwd", "|cmd", ".", "..", "a/b", "a\0b", "ä" * 64, "x:2,S", "-x", ".x"):
        resolved = found.resolve(Mailbox(local_part, "example.org"))
        assert logins(resolved) == ["bob@example.org"]
        assert isinstance(resolved, Local)
        assert {account.maildir for account in resolved.accounts} <= known


@pytest.mark.parametrize(
    ("password", "found"),
    [
        ("", "nothing"),
        ("secret", "something else"),
        ("{PLAIN}secret", '"{PLAIN}…"'),
        ("{MD5-CRYPT}$1$x$y", '"{MD5-CRYPT}…"'),
        ("{SCRAM-SHA-256}4096,AAAA,BBBB", '"{SCRAM-SHA-256}…"'),
        (SCRAM.replace("=,v", ",v"), '"{SCRAM-SHA-256}…"'),
        (SCRAM.replace("4096", "0"), '"{SCRAM-SHA-256}…"'),
        (SCRAM.replace("4096", "4095"), "4095"),
        (SCRAM.replace("zC69o8zrWY9e1KO0X4D4qQ==", "===="), '"{SCRAM-SHA-256}…"'),
        (SCRAM.replace("zC69o8zrWY9e1KO0X4D4qQ==,v7Zh3EFa", "zC69o8zrWY9e1KO0X4D4qQ==,"), '"{SCRAM-SHA-256}…"'),
        (SCRAM + "A", '"{SCRAM-SHA-256}…"'),
        ("{SHA512-CRYPT}$6$x", '"{SHA512-CRYPT}…"'),
        ("{BLF-CRYPT}$2y$31$" + "a" * 53, '"{BLF-CRYPT}…"'),
        ("{ARGON2ID}$argon2i$v=19$m=1,t=1,p=1$a$b", '"{ARGON2ID}…"'),
    ],
)
def test_a_verifier_that_cannot_be_used_is_refused(tmp_path: Path, password: str, found: str) -> None:
    """Clear text, unknown schemes, damaged hashes and too few iterations are refused, and never shown."""
    assert problems(tmp_path, USERS + f"carol:{password}::::::\n") == [("users", 3, found)]


def test_the_floor_of_iterations_is_a_setting(tmp_path: Path) -> None:
    """A higher floor refuses what doveadm makes by default."""
    files = {"example.org": {"users": f"alice:{SCRAM}\n", "aliases": ALIASES}}
    path = write_etc(tmp_path, MINIMAL + "[auth]\niterations_minimum = 15000\n", files)
    with pytest.raises(SettingsRefused, match=r"expected 15000 iterations or more .*found 4096"):
        load(path)


def test_schemes_are_read_in_any_case() -> None:
    """A scheme's name is not case sensitive, as with Dovecot; each form gives its value."""
    parsed = parse_verifier(SCRAM.replace("SCRAM-SHA", "scram-sha"))
    assert isinstance(parsed, ScramVerifier)
    assert (parsed.iterations, len(parsed.salt)) == (4096, 16)
    assert str(parsed) == SCRAM
    assert parse_verifier("{blf-crypt}$2y$05$" + "a" * 53) == HashVerifier("BLF-CRYPT", "$2y$05$" + "a" * 53)
    assert parse_verifier("!") is None


@pytest.mark.parametrize(
    ("line", "found"),
    [("carol", '"carol"'), ("alice:!", "alice again, see ")],
)
def test_lines_of_users_that_are_none(tmp_path: Path, line: str, found: str) -> None:
    """A line without a colon and a user who comes twice are refused with their line."""
    ((file, at, what),) = problems(tmp_path, USERS + line + "\n")
    assert (file, at) == ("users", 3)
    assert what.startswith(found)


def test_aliases_are_followed_over_levels_and_domains(tmp_path: Path) -> None:
    """An alias leads to users, aliases, subaddresses, other domains of ours and outside addresses, each once."""
    path = write_etc(
        tmp_path,
        domains={
            "example.org": {
                "users": USERS,
                "aliases": "# all\npostmaster: alice\nsales: Alice, team, alice+x,\n  friend@elsewhere.example\n"
                'team: bob, sales@example.net\n"odd, name": bob, "q d"@elsewhere.example\n',
            },
            "example.net": {"users": "carol:!\n", "aliases": "postmaster: carol\nsales: carol, bob@Example.ORG\n"},
        },
    )
    found = load(path).directory
    sales = found.resolve(Mailbox("SALES", "example.org"))
    assert logins(sales) == ["alice@example.org", "bob@example.org", "carol@example.net"]
    assert isinstance(sales, Local)
    assert sales.outside == (Mailbox("friend", "elsewhere.example"),)
    assert [(reason.text, Path(reason.source).name) for reason in sales.reasons] == [
        ("sales@example.org is an alias", "aliases:3"),
        ("alice@example.org is a user", "users:1"),
        ("team@example.org is an alias", "aliases:5"),
        ("bob@example.org is a user", "users:2"),
        ("sales@example.net is an alias", "aliases:2"),
        ("carol@example.net is a user", "users:1"),
    ]
    odd = found.resolve(Mailbox("odd, name", "example.org"))
    assert isinstance(odd, Local)
    assert odd.outside == (Mailbox("q d", "elsewhere.example"),)


def test_a_user_keeps_a_copy_by_naming_itself(tmp_path: Path) -> None:
    """An alias beside a user of its name takes the mail; with its own name among the targets the user keeps a copy."""
    found = directory(tmp_path, aliases=ALIASES + "alice: alice, bob, out@example.com\nbob: out@example.com\n")
    assert logins(found.resolve(Mailbox("alice", "example.org"))) == ["alice@example.org"]
    assert logins(found.resolve(Mailbox("bob", "example.org"))) == []


@pytest.mark.parametrize(
    ("aliases", "line", "chain"),
    [
        ("a: a\n", 2, "a@example.org → a@example.org"),
        ("a: b\nb: c\nc: a\n", 4, "a@example.org → b@example.org → c@example.org → a@example.org"),
        ("*: a\na: nobody\n", 3, "*@example.org → a@example.org → *@example.org"),
        ("alice: bob\nbob: alice\n", 3, "alice@example.org → bob@example.org → alice@example.org"),
    ],
)
def test_a_loop_is_refused(tmp_path: Path, aliases: str, line: int, chain: str) -> None:
    """Aliases that lead back to themselves are refused once, with the line that closes the loop and its way."""
    found = problems(tmp_path, aliases="postmaster: alice\n" + aliases)
    assert ("aliases", line, chain) in found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("x: nobody", "nobody@example.org, which is not there"),
        ("x: |/bin/cat", '"|/bin/cat"'),
        ('x: "|/bin/cat, y"', '""|/bin/cat, y""'),
        ("x: /var/mail/x", '"/var/mail/x"'),
        ("x: :include:/list", '":include:/list"'),
        ("x: a b", '"a b"'),
        ("x:", '""'),
        ("x: alice,, bob", '", bob"'),
        ("x: *@example.com", '"*@example.com"'),
        ("x alice", '"x alice"'),
        ("x@example.org: alice", '"x@example.org"'),
        ("postmaster: bob", "postmaster again, see "),
        (": alice", '": alice"'),
    ],
)
def test_lines_of_aliases_that_are_none(tmp_path: Path, line: str, found: str) -> None:
    """A target that is not there, a command, a file, a name of another form: refused with the line."""
    ((file, at, what),) = problems(tmp_path, aliases=ALIASES + "\n" + line + "\n")
    assert (file, at) == ("aliases", 3)
    assert what.startswith(found)


def test_an_alias_is_bounded_in_targets_and_levels(tmp_path: Path) -> None:
    """More targets or levels than allowed are refused."""
    targets = ", ".join(f"u{n}@example.com" for n in range(1001))
    assert problems(tmp_path, aliases=ALIASES + f"all: {targets}\n") == [("aliases", 2, "more")]
    chain = "".join(f"a{n}: a{n + 1}\n" for n in range(30)) + "a30: bob\n"
    assert ("aliases", 22, "more") in problems(tmp_path, aliases=ALIASES + chain)


@pytest.mark.parametrize("aliases", ["", "postmaster: out@example.com\n", "*: alice\n"])
def test_a_domain_without_a_postmaster_is_refused(tmp_path: Path, aliases: str) -> None:
    """Every domain's postmaster leads to a user by name (RFC 5321 §4.5.1)."""
    ((file, _, found),) = problems(tmp_path, aliases=aliases)
    assert (file, found) == ("aliases", "none that leads to a user")


def test_a_user_may_be_called_postmaster(tmp_path: Path) -> None:
    """A user named postmaster needs no alias."""
    assert logins(directory(tmp_path, "postmaster:!\n", "").resolve(Mailbox("postmaster", ""))) == [
        "postmaster@example.org"
    ]


def test_domain_toml(tmp_path: Path) -> None:
    """The separator and the senders of a domain are read; patterns know their line."""
    found = directory(tmp_path, toml='separator = "-"\n[senders]\nalice = ["*@example.net"]\n')
    assert logins(found.resolve(Mailbox("bob-x", "example.org"))) == ["bob@example.org"]
    alice = found.account("alice@example.org")
    assert alice is not None
    assert alice.may_send_as[0].source.endswith("domain.toml:3")


@pytest.mark.parametrize(
    ("toml", "line", "found"),
    [
        ('seperator = "+"\n', 1, '"seperator"'),
        ('separator = "ab"\n', 1, '"ab"'),
        ('separator = "x"\n', 1, '"x"'),
        ('separator = "@"\n', 1, '"@"'),
        ('[senders]\ncarol = ["x@y.example"]\n', 2, '"carol"'),
        ('[senders]\nalice = ["x y"]\n', 2, '"x y"'),
        ('[senders]\nalice = "x@y.example"\n', 2, '"x@y.example"'),
        ("senders = 1\n", 1, "1"),
        ("separator = 1\n", 1, "1"),
        ("a b\n", 1, "Expected '=' after a key in a key/value pair"),
    ],
)
def test_a_domain_toml_that_is_wrong(tmp_path: Path, toml: str, line: int, found: str) -> None:
    """Mistakes in domain.toml are refused with their line."""
    assert ("domain.toml", line, found) in problems(tmp_path, toml=toml)


def test_directories_of_domains(tmp_path: Path) -> None:
    """A directory is named by a domain, in U-labels or A-labels, once; hidden ones and files are passed over."""
    good = {"users": USERS, "aliases": ALIASES}
    path = write_etc(tmp_path, domains={"Bücher.example": good, ".git": {}})
    (tmp_path / "domains/README").touch()
    found = load(path).directory
    assert set(found.domains) == {"xn--bcher-kva.example"}
    assert found.accounts["alice@xn--bcher-kva.example"].maildir.endswith("/xn--bcher-kva.example/alice/Maildir")
    write_etc(tmp_path, domains={"xn--bcher-kva.example": good, "a b": good})
    with pytest.raises(SettingsRefused) as info:
        load(path)
    assert [Path(p.file).name for p in info.value.problems] == ["a b", "xn--bcher-kva.example"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A directory in place of a file, a broken link and octets that are no UTF-8 are problems, not tracebacks."""
    path = write_etc(tmp_path)
    domain = tmp_path / "domains/example.org"
    (domain / "users").write_bytes(USERS.encode() + b"\xff:!\n")
    (domain / "aliases").unlink()
    (domain / "aliases").mkdir()
    (domain / "domain.toml").symlink_to("nowhere")
    with pytest.raises(SettingsRefused) as info:
        load(path)
    assert [(Path(p.file).name, p.line) for p in info.value.problems] == [
        ("aliases", 0),
        ("domain.toml", 0),
        ("users", 3),
    ]
    path = write_etc(tmp_path / "other", domains={})
    (tmp_path / "other/domains").rmdir()
    (tmp_path / "other/domains").touch()
    with pytest.raises(SettingsRefused, match="a directory that can be read"):
        load(path)


@pytest.mark.parametrize(
    ("toml", "primary"),
    [
        ('hostname = "mail.example.org"', "example.org"),
        ('hostname = "a.example"', "a.example"),
        ('hostname = "mail.elsewhere.example"', "a.example"),
        ('hostname = "mail.example.org"\nprimary_domain = "A.example"', "a.example"),
    ],
)
def test_the_primary_domain(tmp_path: Path, toml: str, primary: str) -> None:
    """It is the one that is set, the host name's own, or the first."""
    good = {"users": USERS, "aliases": ALIASES}
    path = write_etc(tmp_path, toml + "\n[smtpd]\nenabled = false\n", {"example.org": good, "a.example": good})
    assert load(path).primary_domain == primary


def test_a_primary_domain_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """The setting must name a directory."""
    path = write_etc(tmp_path, 'primary_domain = "x.example"\n' + MINIMAL)
    with pytest.raises(SettingsRefused, match=r"mta.toml:1: primary_domain: .*\"x.example\""):
        load(path)


@settings(max_examples=150)
@given(st.lists(st.text(st.sampled_from('ab:!{}$./|"\\ \t\r\0é\u2028#,@+'), max_size=12), max_size=4))
def test_any_text_is_users_or_a_problem(lines: list[str]) -> None:
    """Whatever a users file holds, each line is a comment, a user or one problem, and no user could leave its place."""
    found: list[Problem] = []
    draft = domains._Draft("example.org", "d", DomainSettings())
    text = "\n".join(lines)
    domains._read_users(draft, text, "users", Settings("x"), found)
    content = [line.removesuffix("\r") for line in text.split("\n")]
    counted = [line for line in content if line.strip() and not line.startswith("#")]
    refused = {p.line for p in found}
    assert len(draft.users) + len(refused) >= len(counted)
    assert len(found) <= len(counted)
    for account in draft.users.values():
        assert account.maildir.startswith("/var/mail/mta/example.org/")
        assert len(Path(account.maildir).parts) == 7


@settings(max_examples=100)
@given(st.dictionaries(st.from_regex(r"[a-z0-9_][a-z0-9_.+-]{0,9}", fullmatch=True), st.integers(0, 20), max_size=5))
def test_written_users_read_back(users: dict[str, int]) -> None:
    """Lines written from names and verifiers read back as those."""
    names = {name for name in users if domains.is_user_name(name)}
    text = "".join(f"{name}:{SCRAM}:{n}:{n}::/home:/bin:x=y\n# {n}\n" for name, n in users.items() if name in names)
    found: list[Problem] = []
    draft = domains._Draft("example.org", "d", DomainSettings())
    domains._read_users(draft, text, "users", Settings("x"), found)
    assert found == []
    assert {name: account.verifier for name, account in draft.users.items()} == dict.fromkeys(names, SCRAM)


def test_users_that_cannot_be_read_are_the_only_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose aliases lead to nobody is not known then, and not said: what mends it would be wrong."""

    def refuse(path: str, mode: str) -> object:
        if path.endswith("/users"):
            raise PermissionError(13, "Permission denied", path)
        return open(path, mode)

    monkeypatch.setattr(domains, "open", refuse, raising=False)
    assert problems(tmp_path) == [("users", 0, "Permission denied: it is for root, or the user of the server")]

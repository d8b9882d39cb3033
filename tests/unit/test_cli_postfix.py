"""`mta import postfix`: files of Postfix read and translated, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from mta.cli import main
from mta.cli.postfix.lines import Line, Place, logical_lines
from mta.cli.postfix.main_cf import MainCf, divided
from mta.cli.postfix.outcome import Outcome
from mta.cli.postfix.server import next_hop
from mta.cli.postfix.tables import CannotRead, aliases_of, entries_of, read_table
from mta.cli.postfix.translation import translate, write
from mta.mail.route import TlsLevel
from mta.settings.directory import Local
from mta.settings.reader import load
from mta.settings.sections import Settings
from mta.settings.values import parse_address


def test_lines_go_on() -> None:
    """A blank at the beginning goes on with a line, comments and empty lines end none; a number is the first line's."""
    text = " lost\na = 1\n# comment\n\n  b\n   # comment\n\tc\nd = 2\n"
    assert logical_lines(text, "f") == [Line("a = 1  b\tc", Place("f", 2)), Line("d = 2", Place("f", 8))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$a", "1"),
        ("x${a}y$(b)z", "x1y2z"),
        ("$$a $c $none.", "$a 12 ."),
        ("${a?yes}${none?yes}${none:no}${a:no}", "yesno"),
        ("${a?{yes $b}:{no}} ${none?{yes}:{no $b}}", "yes 2 no 2"),
        ("${{$a} == {1} ? {same}:{other}}", "same"),
        ("${{$b} < {10} ? {less}:{more}}", "less"),
        ("$loop", ""),
    ],
)
def test_values_are_expanded(text: str, value: str) -> None:
    """Every form of a reference is replaced by the value; a circle ends."""
    assert MainCf(f"a = 1\nb=2\nc = $a$b\nloop = $loop\nx = {text}\n", "main.cf", {}).value("x") == value


def test_the_last_line_counts_and_tells_its_place() -> None:
    """Of a parameter written twice the last is it."""
    found = MainCf("a = 1\nb = 2\na = 3,\n  4\n", "main.cf", {"z": "$a"})
    assert (found.value("a"), str(found.place("a")), found.words("z")) == ("3,  4", "main.cf:3", ["3", "4"])
    assert divided("a, b{c, d} {e f}") == ["a", "b{c, d}", "{e f}"]


def test_tables_are_read() -> None:
    """Keys are folded, the first of two counts, quotes keep blanks together, and lines that are none are told."""
    text = 'A b c \na second\nnothing\n"q r" s\n"open t\nx\\ y z\n'
    table = entries_of("hash:f", text, "f")
    assert [(entry.key, entry.value) for entry in table.entries] == [("a", "b c"), ('"q r"', "s"), ("x\\ y", "z")]
    assert [place.line for place in table.wrong] == [3, 5]
    assert table.lookup("A") == "b c"
    inline = read_table("inline:{ a=b, { c = d e } }", lambda path: "")
    assert [(entry.key, entry.value) for entry in inline.entries] == [("a", "b"), ("c", "d e")]


def test_what_is_no_list_is_not_read() -> None:
    """Patterns, databases and missing files are told in words."""

    def missing(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", path)

    with pytest.raises(CannotRead, match="kind pcre:"):
        read_table("proxy:pcre:/x", missing)
    with pytest.raises(CannotRead, match="/x: No such file"):
        read_table("hash:/x", missing)


def test_aliases_are_read() -> None:
    """A file of aliases(5): quoted names, lines that go on, the first of two."""
    found = aliases_of('Root: a,\n b\n"x y" : "|prog, arg"\nroot: c\n', "f")
    assert [(each.name, each.targets) for each in found] == [("root", ("a", "b")), ("x y", ('"|prog, arg"',))]


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("[mail.example.org]:587", ("mail.example.org", 587, True)),
        ("mail.example.org", ("mail.example.org", None, False)),
        ("mail.example.org:submission", ("mail.example.org", 587, False)),
        ("[192.0.2.1]", ("[192.0.2.1]", None, True)),
        ("[IPv6:2001:db8::1]:25", ("[IPv6:2001:db8::1]", 25, True)),
    ],
)
def test_next_hops_are_read(text: str, hop: tuple[str, int | None, bool]) -> None:
    """Host, port, and whether MX records would be asked for."""
    assert next_hop(text) == hop


MAIN = """\
myhostname = mail.example.org
mydestination = $myhostname, example.org, localhost
alias_maps = hash:{etc}/aliases
virtual_mailbox_domains = shop.example
virtual_mailbox_maps = hash:{etc}/vmailbox
virtual_alias_domains = brand.example
virtual_alias_maps = hash:{etc}/virtual, regexp:{etc}/virtual.re
relayhost = [smtp.relay.example]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:{etc}/sasl
smtp_tls_security_level = encrypt
transport_maps = hash:{etc}/transport
message_size_limit = 20000000
mynetworks = 127.0.0.0/8 [::1]/128 192.0.2.0/28
recipient_delimiter = -
inet_interfaces = loopback-only
maximal_queue_lifetime = 2
smtpd_recipient_restrictions = permit_mynetworks, reject_rbl_client zen.example
relay_domains = other.example
"""
FILES: Mapping[str, str] = {
    "aliases": 'root: dave, |/bin/cat\nlist: "|/bin/list x"\nops: root\n',
    "vmailbox": (
        "anna@shop.example shop/anna/\nsales@shop.example shop/anna/\nUPPER@shop.example u/\n@shop.example shop/anna/\n"
    ),
    "virtual": (
        "brand.example x\ninfo@brand.example anna@shop.example ext@partner.example nobody@example.org\n"
        "@brand.example @shop.example\nloop@shop.example loop2@shop.example\nloop2@shop.example loop@shop.example\n"
        "web dave\nx@foreign.example anna@shop.example\n"
    ),
    "sasl": "[smtp.relay.example]:587 user:pass:word\n",
    "transport": "partner.example smtp:[mx.partner.example]:2525\nlist.example mailman:\n",
}


def postfix(root: Path, text: str = MAIN, files: Mapping[str, str] = FILES) -> Path:
    """Write a configuration of Postfix."""
    root.mkdir(exist_ok=True)
    (root / "main.cf").write_text(text.format(etc=root))
    for name, content in files.items():
        (root / name).write_text(content)
    return root


def imported(
    root: Path, text: str = MAIN, files: Mapping[str, str] = FILES, persons: Sequence[str] = ("dave",)
) -> tuple[Outcome, Settings]:
    """Translate, write and load it."""
    (root / "cert.pem").touch()
    text += f"smtpd_tls_cert_file = {root}/cert.pem\n"
    outcome, problems = translate(str(postfix(root / "postfix", text, files)), persons=persons)
    assert problems == ()
    write(outcome, root / "etc")
    return outcome, load(str(root / "etc/mta.toml"))


def leads(settings: Settings, address: str) -> list[str]:
    """Where an address leads to."""
    found = settings.directory.resolve(parse_address(address))
    if not isinstance(found, Local):
        return []
    return sorted([account.login for account in found.accounts] + [str(mailbox) for mailbox in found.outside])


def test_settings_are_taken(tmp_path: Path) -> None:
    """What has a counterpart stands in mta.toml, which loads, and the password in a file of its own."""
    _, settings = imported(tmp_path)
    host = settings.relay.smart_host
    assert host is not None
    assert (host.host, host.port, host.tls, host.login, host.password) == (
        "smtp.relay.example", 587, TlsLevel.MUST, "user", "pass:word",
    )  # fmt: skip
    assert (tmp_path / "etc/relay-password").stat().st_mode & 0o777 == 0o640
    assert [(route.domain, route.host, route.port) for route in settings.relay.routes] == [
        ("partner.example", "mx.partner.example", 2525)
    ]
    assert settings.hostname == "mail.example.org"
    assert settings.limits.message_size == 20_000_000
    assert settings.queue.lifetime == 2 * 86400
    assert [str(listen) for listen in settings.mx.listen] == ["127.0.0.1:25", "[::1]:25"]
    assert [[str(network) for network in each.addresses] for each in settings.smtpd.networks] == [["192.0.2.0/28"]]
    assert {domain.separator for domain in settings.directory.domains.values()} == {"-"}
    assert settings.local.socket == "/run/mta/submit.sock"


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("anna@shop.example", ["anna@shop.example"]),
        ("anna-x@shop.example", ["anna@shop.example"]),
        ("sales@shop.example", ["anna@shop.example"]),
        ("whoever@shop.example", ["anna@shop.example"]),
        ("info@brand.example", ["anna@shop.example", "ext@partner.example"]),
        ("sales@brand.example", ["anna@shop.example"]),
        ("whoever@brand.example", ["anna@shop.example"]),
        ("dave@example.org", ["dave@example.org"]),
        ("web@example.org", ["dave@example.org"]),
        ("ops@example.org", ["dave@example.org"]),
        ("root@mail.example.org", ["dave@example.org"]),
        ("ops@localhost", ["dave@example.org"]),
        ("list@example.org", []),
    ],
)
def test_addresses_lead_where_they_led(tmp_path: Path, address: str, where: list[str]) -> None:
    """Mailboxes, aliases, catch-alls, whole domains and names of this machine go where Postfix sent them."""
    assert leads(imported(tmp_path)[1], address) == where


@pytest.mark.parametrize(
    ("kind", "file", "line", "word"),
    [
        ("left", "aliases", 1, "root: |/bin/cat is no address"),
        ("left", "aliases", 2, "list@example.org: programs, files"),
        ("left", "virtual", 2, "nobody@example.org leads to nobody"),
        ("left", "virtual", 7, "x@foreign.example: an address of others"),
        ("left", "transport", 2, "list.example mailman:"),
        ("left", "main.cf", 7, "kind regexp:"),
        ("left", "main.cf", 18, "reject_rbl_client: DNS lists are policies"),
        ("left", "main.cf", 19, "mx takes mail for domains of ours alone"),
        ("differs", "main.cf", 14, "192.0.2.0/28 may send without a login"),
        ("differs", "main.cf", 11, "the certificate is checked too"),
        ("differs", "virtual", 3, "an alias for each of the"),
        ("taken", "main.cf", 13, "message_size_limit = 20000000"),
        ("taken", "vmailbox", 2, "an alias of anna@shop.example"),
    ],
)
def test_everything_is_told_with_its_line(tmp_path: Path, kind: str, file: str, line: int, word: str) -> None:
    """What was taken, what differs and what was not taken stands in a list, each with file and line."""
    outcome, _ = imported(tmp_path)
    told = [str(note) for note in getattr(outcome, kind)]
    assert any(each.startswith(f"{tmp_path}/postfix/{file}:{line}: ") and word in each for each in told), told


def test_a_circle_is_left_out(tmp_path: Path) -> None:
    """Aliases that lead back to themselves become comments; the others work."""
    outcome, settings = imported(tmp_path)
    assert leads(settings, "loop@shop.example") == ["anna@shop.example"]  # by the catch-all
    text = (tmp_path / "etc/domains/shop.example/aliases").read_text()
    assert "\n# loop: loop2\n" in text or "\n# loop2: loop\n" in text
    assert any("the line is a comment now" in note.text for note in outcome.left)


def test_every_domain_gets_a_postmaster(tmp_path: Path) -> None:
    """A domain without one gets the first user, or a mailbox of its own, and that is told."""
    outcome, settings = imported(tmp_path)
    assert leads(settings, "postmaster@shop.example") == ["anna@shop.example"]
    told = " ".join(note.text for note in outcome.differs)
    assert "postmaster@shop.example is anna" in told
    assert leads(settings, "postmaster@brand.example") != []


def test_an_alias_file_without_faults_is_read_where_it_is(tmp_path: Path) -> None:
    """/etc/aliases itself is named where all of it can be taken; a copy is made only for the rest."""
    files = {**FILES, "aliases": "root: dave\n"}
    outcome, settings = imported(tmp_path, files=files)
    assert settings.local.aliases == str(tmp_path / "postfix/aliases")
    assert "local-aliases" not in outcome.files
    again = tmp_path / "again"
    again.mkdir()
    assert imported(again)[1].local.aliases == str(again / "etc/local-aliases")


def test_without_a_certificate(tmp_path: Path) -> None:
    """A server without a certificate cannot have logins: smtpd is off, and that is told."""
    outcome, problems = translate(str(postfix(tmp_path, "myhostname = mail.example.org\n", {})), persons=[])
    assert "[smtpd]\nenabled = false" in outcome.files["mta.toml"].text
    assert any("nobody can log in" in note.text for note in outcome.differs)
    assert problems == ()


def test_a_machine_without_mailboxes(tmp_path: Path) -> None:
    """Where no domain has a mailbox nothing comes in: mx is off, and that is told."""
    outcome, problems = translate(str(postfix(tmp_path, "myhostname = mail.example.org\n", {})), persons=[])
    assert "[mx]\nenabled = false" in outcome.files["mta.toml"].text
    assert any("no mail comes in" in note.text for note in outcome.differs)
    assert problems == ()


def test_a_fresh_postfix_of_debian(tmp_path: Path) -> None:
    """Where the host name alone is in mydestination it is a domain, with the people of this machine and its aliases."""
    (tmp_path / "mailname").write_text("mail.example.org\n")
    text = (
        f"myhostname = mail.example.org\nmyorigin = {tmp_path}/mailname\nrelayhost =\n"
        "mydestination = $myhostname, mail.example.org, localhost.example.org, , localhost\n"
        "alias_maps = hash:{etc}/aliases\nvirtual_alias_maps = hash:{etc}/virtual\n"
    )
    files = {"aliases": "postmaster:    root\nops: erin\n", "virtual": "web dave\nshop@mail.example.org erin\n"}
    outcome, settings = imported(tmp_path, text, files, ["dave", "erin"])
    assert leads(settings, "dave@mail.example.org") == ["dave@mail.example.org"]
    assert leads(settings, "web@mail.example.org") == ["dave@mail.example.org"]
    assert leads(settings, "shop@mail.example.org") == leads(settings, "ops@localhost") == ["erin@mail.example.org"]
    assert leads(settings, "root@mail.example.org") == leads(settings, "postmaster@mail.example.org")
    assert leads(settings, "root@localhost") == ["dave@mail.example.org"]
    assert not any("relayhost" in note.text for note in outcome.taken)


def test_the_command_writes_once(tmp_path: Path) -> None:
    """It tells, writes, and says what is next; a second time it changes nothing."""
    source, target = postfix(tmp_path / "postfix"), tmp_path / "etc"
    command = ["import", "postfix", "--config-dir", str(source)]
    assert CliRunner().invoke(main, command).exit_code == 2
    tried = CliRunner().invoke(main, [*command, "--dry-run"])
    assert tried.exit_code == 0
    assert "Nothing was written." in tried.output
    assert not target.exists()
    first = CliRunner().invoke(main, [*command, "--output", str(target)])
    assert first.exit_code == 0, first.output
    assert [each for each in ("Taken", "Taken, but not the same here", "Not taken") if f"\n{each}\n" in first.output]
    assert f"mta check --config {target}/mta.toml" in first.output
    written = (target / "mta.toml").read_text()
    second = CliRunner().invoke(main, [*command, "--output", str(target)])
    assert (second.exit_code, (target / "mta.toml").read_text()) == (73, written)
    assert "is there already" in second.output


def test_the_command_speaks_json(tmp_path: Path) -> None:
    """With --json each note is an object with its place."""
    source = postfix(tmp_path / "postfix")
    done = CliRunner().invoke(main, ["import", "postfix", "--config-dir", str(source), "--dry-run", "--json"])
    notes = [json.loads(line) for line in done.output.splitlines()]
    assert {"kind": "left", "file": f"{source}/main.cf", "line": 19}.items() <= next(
        note for note in notes if "domains of ours alone" in note["text"]
    ).items()
    assert CliRunner().invoke(main, ["import", "postfix", "--config-dir", "/none", "--dry-run"]).exit_code == 66

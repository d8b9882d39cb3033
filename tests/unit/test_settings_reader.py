"""mta.toml: what is read, and what is refused with file, line, expected, found."""

from __future__ import annotations

import dataclasses
import shutil
from ipaddress import ip_network
from pathlib import Path

import pytest

from mta.mail.route import TlsLevel
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.reader import load
from mta.settings.sections import Settings
from mta.settings.values import Endpoint, SenderPattern, SystemdSocket, parse_listen, within
from mta.smtp.address import Mailbox
from mta.smtp.limits import Limits
from tests.doubles.etc import MINIMAL, write_etc


def refused(path: str) -> list[tuple[int, str, str, str]]:
    """Line, key, expected and found of each problem."""
    with pytest.raises(SettingsRefused) as info:
        load(path)
    assert all(problem.file == path for problem in info.value.problems), str(info.value)
    return [(p.line, p.key, p.expected, p.found) for p in info.value.problems]


def test_defaults_of_the_file_are_those_of_the_classes(tmp_path: Path) -> None:
    """What the file does not say has the default of its class."""
    path = write_etc(tmp_path)
    found = load(path)
    made = Settings(hostname="mail.example.org", path=path, primary_domain="example.org", directory=found.directory)
    assert found == dataclasses.replace(made, smtpd=found.smtpd)
    assert found.smtpd == dataclasses.replace(made.smtpd, enabled=False)


def test_the_sample_loads(tmp_path: Path) -> None:
    """The configuration that comes with the program is right, once its certificate is there."""
    shutil.copytree("etc", tmp_path / "etc")
    (tmp_path / "etc/tls").mkdir()
    (tmp_path / "etc/tls/certificate.pem").touch()
    (tmp_path / "etc/tls/key.pem").touch()
    found = load(str(tmp_path / "etc/mta.toml"))
    assert set(found.directory.domains) == {"example.org"}
    assert found.tls.key == str(tmp_path / "etc/tls/key.pem")


def test_the_sample_with_every_comment_opened_loads(tmp_path: Path) -> None:
    """What the sample shows in comments is right too."""
    shutil.copytree("etc", tmp_path / "etc")
    (tmp_path / "etc/tls").mkdir()
    (tmp_path / "etc/smart-host-password").write_text("secret\n")
    for name in ("tls/certificate.pem", "tls/key.pem"):
        (tmp_path / "etc" / name).touch()
    sample = tmp_path / "etc/mta.toml"
    lines = sample.read_text().split("\n")
    sample.write_text("\n".join(line[1:] if line[:1] == "#" and line[:2] != "# " else line for line in lines))
    found = load(str(sample))
    assert found.smtpd.networks[0].name == "printers"
    assert found.relay.smart_host is not None
    assert found.relay.smart_host.password == "secret"
    assert found.relay.routes[0].tls is TlsLevel.MUST


def test_every_kind_of_value(tmp_path: Path) -> None:
    """Sizes, times, endpoints, networks, patterns, modes, words and paths are read as what they are."""
    (tmp_path / "certificate").touch()
    found = load(
        write_etc(
            tmp_path,
            """
hostname = "Mail.Bücher.example"
state = "../var"
mail = "/srv/mail"
[mx]
listen = ["127.0.0.1:2525", "[::1]:25", "systemd:mx", "LOCALHOST:26"]
lenient_line_ends = ["192.0.2.0/24"]
[smtpd]
submission = []
submissions = ["127.0.0.1:2465"]
[[smtpd.network]]
name = "printers"
addresses = ["192.0.2.0/28", "2001:db8::/64"]
submit_without_login = true
senders = ["Scanner@Example.org", "*@example.net"]
[tls]
certificate = "certificate"
minimum = "TLSv1.3"
[limits]
message_size = "1M"
auth_line = 12288
recipients = 200
command_seconds = "1m30s"
[dns]
nameservers = ["127.0.0.1", "::1", "[::1]:5353", "192.0.2.1:54"]
[queue]
jitter = 1
[maildir]
mode = "0640"
[log]
format = "json"
file = ""
""",
        )
    )
    assert found.hostname == "mail.xn--bcher-kva.example"
    assert found.state == str(tmp_path.parent / "var")
    assert found.mail == "/srv/mail"
    assert found.mx.listen == (
        Endpoint("127.0.0.1", 2525),
        Endpoint("::1", 25),
        SystemdSocket("mx"),
        Endpoint("localhost", 26),
    )
    assert found.mx.lenient("192.0.2.7")
    assert not found.mx.lenient("192.0.3.7")
    network = found.smtpd.networks[0]
    assert network.addresses == (ip_network("192.0.2.0/28"), ip_network("2001:db8::/64"))
    assert network.senders == (SenderPattern("scanner", "example.org"), SenderPattern("*", "example.net"))
    assert network.source == f"{found.path}:11"
    assert network.senders[0].source == f"{found.path}:15"
    assert found.tls.minimum == "TLSv1.3"
    assert found.limits == Limits(message_size=1 << 20, recipients=200, command_seconds=90.0)
    assert found.dns.nameservers == (
        Endpoint("127.0.0.1", 53),
        Endpoint("::1", 53),
        Endpoint("::1", 5353),
        Endpoint("192.0.2.1", 54),
    )
    assert found.queue.jitter == 1.0
    assert found.maildir.mode == 0o640
    assert found.log.format == "json"
    assert found.log.file == ""


def test_the_first_network_that_holds_an_address_counts(tmp_path: Path) -> None:
    """Networks are asked in the order of the file, an IPv4-mapped address as IPv4."""
    networks = "".join(
        f'[[smtpd.network]]\nname = "{name}"\naddresses = ["{block}"]\n'
        for name, block in (("one", "192.0.2.0/28"), ("all", "192.0.2.0/24"))
    )
    smtpd = load(write_etc(tmp_path, MINIMAL + networks)).smtpd
    assert [n.name if (n := smtpd.network(a)) else "" for a in ("192.0.2.1", "::ffff:192.0.2.99", "192.0.3.1")] == [
        "one",
        "all",
        "",
    ]
    assert not within("192.0.2.1", ())


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Every problem is reported, each with its line, what was expected and what was found."""
    path = write_etc(
        tmp_path,
        """\
hostnme = "mail.example.org"
workers = 65
state = 5
[mx]
listen = ["127.0.0.1:2525", "25", "127.0.0.1:99999", "[zz]:1"]
enabled = "yes"
[smtpd]
enabled = false
[[smtpd.network]]
name = "a"
addresses = ["192.0.2.1/24"]
[limits]
message_size = "50 MB"
command_seconds = "0s"
[queue]
first_retry = 300
jitter = 1.5
[relay]
smart_host = "smtp.example.net"
deadlines.comand = "5m"
[log]
format = "xml"
[maildir]
mode = "0999"
[dns]
nameservers = "127.0.0.1"
""",
    )
    listen = 'an address and a port, "127.0.0.1:25" or "[::1]:25", or "systemd:name"'
    wait = 'a time with its unit, "30s" or "1h30m"'
    assert refused(path) == [
        (0, "hostname", 'a fully qualified host name, "mail.example.org"', "nothing"),
        (1, "hostnme", 'a key that is known here; did you mean "hostname"?', '"hostnme"'),
        (2, "workers", "a whole number, 0 to 64", "65"),
        (3, "state", 'a path, "../var"', "5"),
        (5, "[[mx.listen]]", listen, '"127.0.0.1:99999"'),
        (5, "[[mx.listen]]", listen, '"25"'),
        (5, "[[mx.listen]]", listen, '"[zz]:1"'),
        (6, "[mx] enabled", "true or false", '"yes"'),
        (11, "[[smtpd.network.addresses]]", 'a network, "192.0.2.0/24" or "2001:db8::/64"', '"192.0.2.1/24"'),
        (13, "[limits] message_size", 'a size, "50M", 1 or more', '"50 MB"'),
        (14, "[limits] command_seconds", wait, '"0s"'),
        (16, "[queue] first_retry", wait, "300"),
        (17, "[queue] jitter", "a number, 0 to 1", "1.5"),
        (19, "[relay] smart_host", "a table", '"smtp.example.net"'),
        (20, "[relay.deadlines] comand", 'a key that is known here; did you mean "command"?', '"comand"'),
        (22, "[log] format", '"keyvalue" or "json"', '"xml"'),
        (24, "[maildir] mode", 'a file mode in octal, "0600", 0400 to 0777', '"0999"'),
        (
            26,
            "[dns] nameservers",
            'a list, each an address, "192.0.2.53", or one with its port',
            '"127.0.0.1"',
        ),
    ]


def test_a_problem_reads_well() -> None:
    """The text names file, line, key, what was expected and what was found."""
    problem = Problem("etc/mta.toml", 3, "true or false", '"yes"', "[mx] enabled")
    assert str(problem) == 'etc/mta.toml:3: [mx] enabled: expected true or false, found "yes"'
    assert str(Problem("etc/x", 0, "a file", "none")) == "etc/x: expected a file, found none"
    assert str(SettingsRefused([problem, Problem("etc/a", 1, "b", "c")])) == f"etc/a:1: expected b, found c\n{problem}"


def test_a_hostname_of_another_type(tmp_path: Path) -> None:
    """A required key with a wrong value is refused, and the rest of the file is still read."""
    path = write_etc(tmp_path, MINIMAL.replace('"mail.example.org"', "1") + "[mx]\nenabled = 1\n")
    assert [(line, key) for line, key, _, _ in refused(path)] == [(1, "hostname"), (5, "[mx] enabled")]


def test_endpoints_read_as_they_are_written() -> None:
    """The text of a place to listen reads back as it."""
    for text in ("127.0.0.1:25", "[::1]:25", "systemd:mx"):
        assert str(parse_listen(text)) == text


def test_a_key_without_a_near_name_gets_the_list(tmp_path: Path) -> None:
    """Where no known key is like the unknown one, all known keys are named."""
    problems = refused(write_etc(tmp_path, MINIMAL + "[log]\nxyzzy = 1\n"))
    assert problems == [(5, "[log] xyzzy", "one of format, file", '"xyzzy"')]


@pytest.mark.parametrize(
    ("octets", "line", "found"),
    [
        (b"a = 1\nb = \n", 2, "Invalid value"),
        (b"a = 1\n\nb = [1,\n", 4, "Invalid value"),
        (b"a = 1\na = 2\n", 2, "Cannot overwrite a value"),
        (b"a = 1\nb = '\xff'\n", 2, "'\\xff'"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path: Path, octets: bytes, line: int, found: str) -> None:
    """A syntax error, a key that comes twice, and octets that are no UTF-8 are named with their line."""
    (tmp_path / "mta.toml").write_bytes(octets)
    ((at, _, _, what),) = refused(str(tmp_path / "mta.toml"))
    assert at == line
    assert found in what


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing mta.toml is a problem like others, not a traceback."""
    expected = "a configuration (`mta init` makes one, --config names another)"
    assert refused(str(tmp_path / "mta.toml")) == [(0, "", expected, "no such file")]


@pytest.mark.parametrize(
    ("toml", "line", "key"),
    [
        ("[mx]\nlisten = []\n", 5, "[mx] listen"),
        ('[mx]\nlisten = ["127.0.0.1:1", "127.0.0.1:1"]\n', 5, "[mx] listen"),
        ('[tls]\nkey = "nothing.pem"\n', 5, "[tls] key"),
        ('[queue]\nlifetime = "1m"\n', 5, "[queue] lifetime"),
        ('[queue]\nlongest_retry = "1m"\n', 5, "[queue] longest_retry"),
        ('[[relay.route]]\ndomain = "example.net"\n', 4, "[relay.route] host"),
        ('[[relay.route]]\nhost = "h.example"\ndomain = "a b"\n', 6, "[relay.route] domain"),
        ('[[relay.route]]\nhost = "h.example"\n', 4, "[relay.route] domain"),
        (2 * '[[relay.route]]\nhost = "h.example"\ndomain = "*"\n', 9, "[relay.route] domain"),
        ('[relay.smart_host]\nhost = "h.example"\ndomain = "x"\n', 6, "[relay.smart_host] domain"),
        ('[mx]\nlisten = ["systemd:"]\n', 5, "[[mx.listen]]"),
        ('[mx]\nlisten = ["a_b c:25"]\n', 5, "[[mx.listen]]"),
        ('[[relay.route]]\nhost = "h.example"\ndomain = "x.example"\ntls = "always"\n', 7, "[relay.route] tls"),
        ('[[relay.route]]\nhost = "h.example"\ndomain = "x.example"\ntls = 1\n', 7, "[relay.route] tls"),
        ("relay.smart_host.host = 1\n", 4, "[smtpd] relay"),
        ('[relay.smart_host]\nhost = "a/b"\n', 5, "[relay.smart_host] host"),
        ('[relay.smart_host]\nhost = "h.example"\nlogin = "x"\n', 4, "[relay.smart_host] password"),
        ('[relay.smart_host]\nhost = "h.example"\npassword = "x"\n', 4, "[relay.smart_host] login"),
        (
            '[relay.smart_host]\nhost = "h.example"\nlogin = "x"\npassword = "x"\npassword_file = "y"\n',
            7,
            "[relay.smart_host] password",
        ),
        ('[[smtpd.network]]\nname = "a"\n', 4, "[smtpd.network] addresses"),
        ('[[smtpd.network]]\naddresses = ["192.0.2.0/24"]\n', 4, "[smtpd.network] name"),
        (2 * '[[smtpd.network]]\nname = "a"\naddresses = ["192.0.2.0/24"]\n', 8, "[smtpd.network] name"),
        (
            '[[smtpd.network]]\nname = "a"\naddresses = ["192.0.2.0/24"]\nsubmit_without_login = true\n',
            4,
            "[smtpd.network] senders",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path: Path, toml: str, line: int, key: str) -> None:
    """What is right by itself and wrong beside the rest is named at its key, or at the table that lacks it."""
    problems = refused(write_etc(tmp_path, MINIMAL + toml))
    assert (line, key) in [(at, where) for at, where, _, _ in problems], problems


@pytest.mark.parametrize(
    ("smtpd", "right"),
    [
        ("", False),
        ("submissions = []", False),
        ("submission = []\nsubmissions = []", False),
        ('submissions = []\n[[smtpd.network]]\nname="a"\naddresses=["127.0.0.1/32"]\nauth_without_tls=true', True),
    ],
)
def test_passwords_need_a_certificate(tmp_path: Path, smtpd: str, right: bool) -> None:
    """Submission without a certificate is refused, unless a network may do without TLS."""
    path = write_etc(tmp_path, f'hostname = "mail.example.org"\n[smtpd]\n{smtpd}\n')
    if right:
        assert load(path).smtpd.enabled
    else:
        assert ("[tls] certificate" in {key for _, key, _, _ in refused(path)}) or "submission = []" in smtpd


def test_no_domain_and_mx(tmp_path: Path) -> None:
    """An mx without a domain is refused; a server that only relays needs none."""
    assert [key for _, key, _, _ in refused(write_etc(tmp_path, MINIMAL, {}))] == ["[mx] enabled"]
    assert not load(write_etc(tmp_path, MINIMAL + "[mx]\nenabled = false\n", {})).directory.domains


def test_a_login_at_the_smart_host_demands_tls_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    """A password is not sent in clear by default; the password file gives its first line."""
    (tmp_path / "secret").write_text("pass word\r\nsecond\n")
    route = '[relay.smart_host]\nhost = "h.example"\nlogin = "x"\npassword_file = "secret"\n'
    host = load(write_etc(tmp_path, MINIMAL + route)).relay.smart_host
    assert host is not None
    assert (host.tls, host.password, host.domain, host.port) == (TlsLevel.MUST, "pass word", "*", None)
    assert "pass word" not in repr(host)
    may = load(write_etc(tmp_path, MINIMAL + route + 'tls = "may"\n')).relay.smart_host
    assert may is not None
    assert may.tls is TlsLevel.MAY


def test_routes_are_folded(tmp_path: Path) -> None:
    """A route's domain compares as A-labels in lower case; a suffix keeps its dot; a literal is a host."""
    toml = "".join(
        f'[[relay.route]]\ndomain = "{domain}"\nhost = "[192.0.2.1]"\n' for domain in ("Bücher.example", ".Example.net")
    )
    routes = load(write_etc(tmp_path, MINIMAL + toml)).relay.routes
    assert [route.domain for route in routes] == ["xn--bcher-kva.example", ".example.net"]
    assert routes[1].source.endswith("mta.toml:7")
    assert routes[0].host == "[192.0.2.1]"


@pytest.mark.parametrize("text", ["", "*@", "a b@example.org", "@example.org", "a@b@c"])
def test_no_sender_pattern(text: str) -> None:
    """What is neither an address nor a wildcard is no pattern."""
    with pytest.raises(ValueError):
        SenderPattern.parse(text)


def test_sender_patterns() -> None:
    """A pattern covers one address in any case, a domain in any of its forms, or all."""
    one, domain, every = map(SenderPattern.parse, ("News@Example.net", "*@bücher.example", "*"))
    assert one.matches(Mailbox("NEWS", "example.net"))
    assert not one.matches(Mailbox("other", "example.net"))
    assert domain.matches(Mailbox("x", "xn--bcher-kva.example"))
    assert not domain.matches(Mailbox("x", "sub.bücher.example"))
    assert every.matches(Mailbox("x", "y.example"))
    assert list(map(str, (one, domain, every))) == ["news@example.net", "*@xn--bcher-kva.example", "*"]

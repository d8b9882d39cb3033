"""Whose mail it is, and policies, at a running server: signed and verified against others, refused for a reason.

Peers connect from 127.0.0.2, which a name server of the tests knows; our servers are at 127.0.0.1.
"""

from __future__ import annotations

import json
import re
import smtplib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dkim
import dns.message
import dns.query
import pytest

from tests.live.peers.daemon import Daemon
from tests.live.peers.mail import message, submit
from tests.live.peers.maildir import arrived, messages
from tests.live.peers.milters import EICAR, Key, Message, ask, clamav, verifier
from tests.live.peers.name_server import NameServer
from tests.live.peers.process import eventually, free_ports
from tests.live.peers.sink import Sink

pytestmark = pytest.mark.live

PEER = "127.0.0.2"
RECORDS = [
    f"2.0.0.127.in-addr.arpa PTR mail.peer.test\nmail.peer.test A {PEER}",
    f'peer.test TXT "v=spf1 ip4:{PEER} -all"\n_dmarc.peer.test TXT "v=DMARC1; p=reject"',
    'bank.test TXT "v=spf1 -all"\n_dmarc.bank.test TXT "v=DMARC1; p=reject"',
    '_dmarc.shop.test TXT "v=DMARC1; p=quarantine"',
    "sick.test ANY !SERVFAIL\n_dmarc.sick.test ANY !SERVFAIL",
    '_dmarc.signed.test TXT "v=DMARC1; p=none"',
    '_dmarc.example.test TXT "v=DMARC1; p=reject; adkim=s"',
]
"""peer.test vouches for 127.0.0.2; bank.test and shop.test for nobody; signed.test and example.test sign; of sick.test
nothing can be learnt.
"""

CHECKS = """
[dns]
nameservers = ["127.0.0.1:{names}"]
allow_loopback = true

[mailauth]
trusted_networks = []
"""
POLICIES = """
[policy.scripts]
deadline = "1s"

[[policy.lists.deny]]
of = "sender"
reason = "writes too much"
entries = ["pest@peer.test"]

[[policy.lists.deny]]
of = "sender"
file = "denied"

[[policy.headers.rule]]  # lotteries
field = "Subject"
pattern = "(?i)lottery"
action = "reject No lotteries here"

[[policy.headers.rule]]
field = "X-Odd"
action = "hold"

[[policy.milter]]
name = "clamav"
address = "{virus_filter}"
services = ["mx"]
"""
ROUTES = """
[relay]
route = [
    {{ domain = "sink.test", host = "[127.0.0.1]", port = {sink} }},
    {{ domain = "second.test", host = "[127.0.0.1]", port = {second} }},
]
"""

TELLING = """
from mta.policy.script_api import add_header

def message(facts):
    results = [f"dkim={each.result}" for each in facts.authentication.dkim]
    return add_header("X-Told", " ".join([f"{facts.service} {facts.body_size}", *results]))
"""

AWKWARD = {
    "eight-bit": "Grüße, 今日は\r\n".encode() + b"\xff\xfe\x80 not UTF-8\r\n",
    "dots": b".\r\n..\r\n. one\r\n...\r\nend.\r\n.\r\n",
    "longest-lines": (b"x" * 998 + b"\r\n" + b"." + b"y" * 997 + b"\r\n") * 3,
    "spaces": b"two  words \t \r\n \t\r\n\r\nend \r\n\r\n \r\n\r\n",
    "empty": b"",
}


@dataclass(frozen=True, slots=True)
class Published:
    """A key record as the DNS has it."""

    name: str
    record: str

    @property
    def zone_text(self) -> str:
        """The line of the zone, in strings of at most 255 octets (RFC 1035 §3.3)."""
        pieces = [self.record[at : at + 255] for at in range(0, len(self.record), 255)]
        return f"{self.name} TXT " + " ".join(f'"{piece}"' for piece in pieces)


@pytest.fixture(scope="module")
def key() -> Key:
    """The key of signed.test."""
    return Key("signed.test")


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """The far end of sink.test."""
    with Sink() as listening:
        yield listening


@pytest.fixture(scope="module")
def virus_filter(place: Path) -> Iterator[str]:
    """A clamav-milter that refuses viruses."""
    with clamav(place / "clamav") as address:
        yield address


@pytest.fixture(scope="module")
def names(place: Path, key: Key) -> Iterator[NameServer]:
    """A name server for the tests' domains; keys that are made later are added to its zone."""
    server = NameServer(
        place / "names", free_ports(1)[0], {"peer.test": PEER}, [*RECORDS, Published(key.name, key.record).zone_text]
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def second(place: Path, names: NameServer, sink: Sink) -> Iterator[Daemon]:
    """A server elsewhere that checks what comes and believes seals of example.test."""
    daemon = Daemon(place / "second", domain="second.test")
    write(daemon, CHECKS.format(names=names.port) + 'arc_sealers = ["example.test"]\n')
    write(daemon, ROUTES.format(sink=sink.port, second=daemon.mx_port))
    script = daemon.settings_file.parent / "policy/told.py"
    script.parent.mkdir()
    script.write_text(TELLING)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def ours(place: Path, names: NameServer, second: Daemon, sink: Sink, virus_filter: str) -> Iterator[Daemon]:
    """Our server: checks, policies, an alias that leads elsewhere, and keys that the name server shows."""
    daemon = Daemon(place / "ours")
    (daemon.settings_file.parent / "denied").write_text("# us\nbore@peer.test  tells the same again\n")
    ports = {"names": names.port, "sink": sink.port, "second": second.mx_port}
    write(daemon, (CHECKS + POLICIES + ROUTES).format(virus_filter=virus_filter, **ports))
    with (daemon.settings_file.parent / "domains/example.test/aliases").open("a") as aliases:
        aliases.write("away: bob@second.test\n")
    names.add(published.zone_text for published in keys(daemon))
    daemon.start()
    yield daemon
    daemon.stop()


def write(daemon: Daemon, toml: str) -> None:
    """Add tables to `mta.toml`, line by line, as an administrator does."""
    with daemon.settings_file.open("a") as file:
        file.write(toml)


def keys(daemon: Daemon) -> list[Published]:
    """What `mta dkim show` wants published."""
    shown = daemon.mta("dkim", "show", "--offline", "--json", "--config", str(daemon.settings_file), check=True)
    found = [json.loads(line) for line in shown.stdout.splitlines()]
    return [Published(each["name"], each["record"]) for each in found]


def peer(daemon: Daemon) -> smtplib.SMTP:
    """Connect to mx as the server of peer.test."""
    return smtplib.SMTP("127.0.0.1", daemon.mx_port, "mail.peer.test", timeout=30, source_address=(PEER, 0))


def send(daemon: Daemon, sender: str, content: bytes, recipient: str = "bob@example.test") -> tuple[int, bytes]:
    """Send a message from peer.test; return the reply to the end of its data."""
    with peer(daemon) as client:
        client.ehlo()
        assert client.mail(sender)[0] == 250
        assert client.rcpt(recipient)[0] == 250
        return client.data(content)


def recipient_of(daemon: Daemon, sender: str) -> tuple[int, bytes]:
    """Say MAIL and RCPT from peer.test; return the last reply."""
    with peer(daemon) as client:
        client.ehlo()
        assert client.mail(sender)[0] == 250
        return client.rcpt("bob@example.test")


def logged(daemon: Daemon, event: str, *parts: str) -> str:
    """Wait for a line of the log: an event of this kind with all these parts."""

    def find() -> str:
        lines = [line for line in daemon.output.splitlines() if f" {event} " in line]
        return next((line for line in lines if all(part in line for part in parts)), "")

    return eventually(find, f"{event} with {parts} in the log")


def line_of(path: Path, text: str) -> str:
    """Where a text stands, as reasons say it: file and line."""
    [number] = [number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line]
    return f"{path}:{number}"


def in_name_server(names: NameServer) -> Callable[..., bytes]:
    """Make what dkimpy asks for keys: our name server, as it stands."""

    def look_up(name: bytes, timeout: int = 5) -> bytes:
        question = dns.message.make_query(name.decode(), "TXT")
        answer = dns.query.tcp(question, "127.0.0.1", timeout=timeout, port=names.port).answer
        return b"".join(answer[0][0].strings) if answer else b""

    return look_up


# Signatures


@pytest.mark.parametrize("name", AWKWARD)
def test_what_alice_submits_verifies_elsewhere(ours: Daemon, sink: Sink, names: NameServer, name: str) -> None:
    """It leaves with a signature of each key, Ed25519 and RSA, and after a hop dkimpy finds both good, whatever the
    body is like.
    """
    content = message(f"signed-{name}", AWKWARD[name])
    submit(ours, "dave@sink.test", content)
    token = f"Subject: signed-{name}\r\n".encode()
    [got] = eventually(lambda: [each for each in sink.received if token in each.content], f"{name} in the sink")
    assert got.content.endswith(content)
    signatures = re.findall(rb"^DKIM-Signature:(?:.*\r\n[ \t])*.*\r\n", got.content, re.MULTILINE)
    assert sorted(re.findall(rb"\ba=([a-z0-9-]+)", b"".join(signatures))) == [b"ed25519-sha256", b"rsa-sha256"]
    for number in range(2):
        assert dkim.DKIM(got.content).verify(number, in_name_server(names))
        changed = got.content.replace(token, token.replace(b"signed", b"forged"))
        assert not dkim.DKIM(changed).verify(number, in_name_server(names))


def test_what_alice_submits_verifies_with_opendkim(ours: Daemon, sink: Sink, place: Path) -> None:
    """OpenDKIM, which knows RSA alone, finds our signature good after a hop; one octet more in the body is bad."""
    submit(ours, "dave@sink.test", message("opendkim", b"".join(AWKWARD.values())))
    token = b"Subject: opendkim\r\n"
    [got] = eventually(lambda: [each for each in sink.received if token in each.content], "it in the sink")
    with verifier(place / "verifier", *keys(ours)) as address:
        milter = {"name": "opendkim", "address": address, "source": "etc/mta.toml:1"}
        good, bad = ask([milter], Message(got.content), Message(got.content + b"x\r\n"))
    assert re.search(rb"^\s*dkim=pass .*header\.d=example\.test", good.content, re.MULTILINE), good.content[:2000]
    assert bad.reply.startswith("550 5.7.0")


def test_what_alice_submits_verifies_with_us(ours: Daemon, second: Daemon) -> None:
    """Another server of ours finds both signatures good after a hop, and DMARC passes by them alone."""
    submit(ours, "bob@second.test", message("to-second", b"".join(AWKWARD.values())))
    stored = arrived(second.maildir("bob"), b"Subject: to-second")
    checked = logged(second, "message.checked", "sender=alice@example.test")
    [said] = re.findall(r' dkim="((?:[^"\\]|\\.)*)"', checked)
    assert re.findall(r"(\w+) [\w-]+\._domainkey\.example\.test:", said) == ["pass", "pass"], said
    assert 'dmarc="pass example.test' in checked
    assert stored.count(b"\tdkim=pass") == 2
    told = b"X-Told: mx %d dkim=pass dkim=pass\r\n" % len(b"".join(AWKWARD.values()))
    assert told in stored, "a script that was there at the start knows it too"


def test_keys_sign_once_they_are_published(second: Daemon, sink: Sink, names: NameServer) -> None:
    """`mta dkim keygen` makes keys that sign nothing yet; once the name server shows them, `mta dkim rotate` has the
    running server sign with them, instead of those before.
    """
    config = ["--config", str(second.settings_file)]

    def signed_by(subject: str) -> list[bytes]:
        submit(second, "dave@sink.test", message(subject, sender="alice@second.test"))
        token = f"Subject: {subject}\r\n".encode()
        [got] = eventually(lambda: [each for each in sink.received if token in each.content], f"{subject} in the sink")
        assert b"\r\nX-Told: smtpd 8\r\n" in got.content, "policies come first, signatures cover what they did"
        number = got.content.count(b"\r\nDKIM-Signature:")
        assert all(dkim.DKIM(got.content).verify(each, in_name_server(names)) for each in range(number))
        return sorted(re.findall(rb"\bs=([\w-]+);", got.content))

    names.add(published.zone_text for published in keys(second))
    before = signed_by("before")
    assert len(before) == 2
    second.mta("dkim", "keygen", "second.test", "--algorithm", "both", "--selector", "late", *config, check=True)
    assert signed_by("made") == before
    waits = second.mta("dkim", "rotate", "second.test", *config, check=True).stdout
    assert waits.count("waits for its record") == 2, waits
    assert signed_by("unpublished") == before
    names.add(published.zone_text for published in keys(second) if published.name.startswith("late-"))
    signs = second.mta("dkim", "rotate", "second.test", *config, check=True).stdout
    assert signs.count("signs from now on") == 2, signs
    assert "The daemon has reloaded" in signs
    assert signed_by("published") == [b"late-ed", b"late-rsa"], signs


@pytest.mark.parametrize("canonicalization", [b"relaxed", b"simple"])
def test_what_dkimpy_signs_verifies_with_us(ours: Daemon, key: Key, canonicalization: bytes) -> None:
    """A signature of dkimpy's is good; with one octet of the body changed it fails, and the results say so."""
    form = canonicalization.decode()
    content = message(f"dkimpy-{form}", b"".join(AWKWARD.values()), "carol@signed.test")
    form_of_both = (canonicalization, canonicalization)
    content = dkim.sign(content, b"sel", b"signed.test", key.pem, canonicalize=form_of_both) + content
    assert send(ours, f"good-{form}@peer.test", content)[0] == 250
    assert 'dkim="pass sel._domainkey.signed.test' in logged(ours, "message.checked", f"sender=good-{form}@peer.test")
    stored = arrived(ours.maildir("bob"), f"Subject: dkimpy-{form}\r\n".encode())
    assert re.search(rb"dkim=pass .*(?:\r\n[ \t].*)*header\.d=signed\.test", stored)
    changed = content.replace(b"two  words", b"two  Words")
    assert changed != content
    assert send(ours, f"bad-{form}@peer.test", changed)[0] == 250
    checked = logged(ours, "message.checked", f"sender=bad-{form}@peer.test")
    assert 'dkim="fail sel._domainkey.signed.test' in checked
    assert 'dmarc="fail signed.test' in checked


# Whose mail it is


def test_mail_that_its_domain_vouches_for(ours: Daemon) -> None:
    """It is accepted, its results stand in front of it, those in our name that came with it are gone, and the log
    shows every check with its value.
    """
    forged = b"Authentication-Results: mx.example.test; dmarc=pass header.from=bank.test\r\n"
    assert send(ours, "carol@peer.test", forged + message("aligned", sender="carol@peer.test"))[0] == 250
    stored = arrived(ours.maildir("bob"), b"Subject: aligned\r\n")
    head = stored.partition(b"\r\n\r\n")[0]
    assert head.count(b"Authentication-Results:") == 1
    assert head.index(b"Authentication-Results: mx.example.test;") < head.index(b"\r\nReceived: ")
    for result in (b"iprev=pass", b"spf=pass", b"dkim=none", b"dmarc=pass"):
        assert result in head
    checked = logged(ours, "message.checked", "sender=carol@peer.test")
    values = ("iprev=pass mail.peer.test", "helo=none mail.peer.test", "spf=pass peer.test", "dkim=none")
    for value in (*values, "dmarc=pass peer.test", "arc=none"):
        assert value.replace("=", '="') in checked
    assert "disposition=accept" in checked


def test_a_spoof_is_refused(ours: Daemon) -> None:
    """Mail in the name of a domain that asks for it is refused at the end of the data, with a reply that says why;
    nothing of it is kept.
    """
    code, text = send(ours, "spoof@peer.test", message("spoofed", sender="boss@bank.test"))
    assert (code, text[:6]) == (550, b"5.7.1 ")
    assert b"Rejected per DMARC policy for bank.test" in text
    assert b"neither SPF nor DKIM vouches for bank.test" in text
    checked = logged(ours, "message.checked", "sender=spoof@peer.test", "disposition=reject")
    assert 'spf="pass peer.test' in checked
    assert 'dmarc="fail bank.test' in checked
    assert "_dmarc.bank.test" in logged(ours, "message.refused", "sender=spoof@peer.test")
    assert not any(b"Subject: spoofed" in stored for stored in messages(ours.maildir("bob")))


def test_quarantine(ours: Daemon) -> None:
    """Mail in the name of a domain that asks for quarantine lands in the folder Junk, not in the inbox."""
    assert send(ours, "quarantine@peer.test", message("suspect", sender="boss@shop.test"))[0] == 250
    stored = arrived(ours.maildir("bob") / ".Junk", b"Subject: suspect\r\n")
    assert b"dmarc=fail" in stored
    assert not any(b"Subject: suspect" in each for each in messages(ours.maildir("bob")))


def test_two_authors(ours: Daemon) -> None:
    """A message with two From fields, of which a reader may show the forged one, is refused, and told why."""
    forged = b"From: <boss@bank.test>\r\n" + message("two-authors", sender="twice@peer.test")
    code, text = send(ours, "twice@peer.test", forged)
    assert code == 550
    assert b"there are several From fields" in text


def test_a_name_server_that_fails(ours: Daemon) -> None:
    """Where nothing can be learnt of a domain, the results are temperror, and its mail is accepted."""
    assert send(ours, "frank@sick.test", message("sick", sender="frank@sick.test"))[0] == 250
    stored = arrived(ours.maildir("bob"), b"Subject: sick\r\n")
    assert b"spf=temperror" in stored
    assert b"dmarc=temperror" in stored
    checked = logged(ours, "message.checked", "sender=frank@sick.test", "disposition=accept")
    assert 'spf="temperror sick.test' in checked
    assert 'dmarc="temperror sick.test' in checked


def test_what_an_alias_sends_on_is_believed(ours: Daemon, second: Daemon) -> None:
    """An alias forwards what SPF alone vouched for: behind us SPF and DMARC fail, but our ARC seal is good, and who
    trusts us accepts it.
    """
    content = message("forwarded", AWKWARD["spaces"], "erin@peer.test")
    assert send(ours, "erin@peer.test", content, "away@example.test")[0] == 250
    stored = arrived(second.maildir("bob"), b"Subject: forwarded\r\n")
    assert stored.endswith(b"\r\n\r\n" + AWKWARD["spaces"])
    checked = logged(second, "message.checked", "sender=erin@peer.test")
    for value in ('spf="fail peer.test', 'dmarc="fail peer.test', 'arc="pass example.test', "disposition=accept"):
        assert value in checked
    assert "example.test saw DMARC pass for peer.test" in checked


# Policies


def test_a_denied_sender(ours: Daemon) -> None:
    """A list in `mta.toml` refuses at RCPT, says what the administrator wrote, and the log names its line."""
    code, text = recipient_of(ours, "pest@peer.test")
    assert code == 550
    assert b"writes too much" in text
    source = line_of(ours.settings_file, "pest@peer.test")
    assert logged(ours, "recipient.refused", "sender=pest@peer.test").endswith(f" source={source}")


def test_a_sender_in_a_file_of_denied_ones(ours: Daemon) -> None:
    """So does a file that `mta.toml` names: what follows an entry is said, and its line is in the log."""
    code, text = recipient_of(ours, "bore@peer.test")
    assert code == 550
    assert b"tells the same again" in text
    source = line_of(ours.settings_file.parent / "denied", "bore@peer.test")
    assert logged(ours, "recipient.refused", "sender=bore@peer.test").endswith(f" source={source}")


def test_a_rule_of_fields(ours: Daemon) -> None:
    """A field that a rule knows refuses the message with the words of the rule, and the log names its line."""
    code, text = send(ours, "lottery@peer.test", message("Lottery", sender="lottery@peer.test"))
    assert (code, text) == (550, b"5.7.1 No lotteries here")
    refused = logged(ours, "message.refused", "sender=lottery@peer.test")
    assert refused.endswith(f" source={line_of(ours.settings_file, '# lotteries')}")


def test_what_is_held_is_released(ours: Daemon) -> None:
    """A held message is accepted and delivered to nobody; `mta queue list` shows it with its reason, and after
    `mta queue release` it is in the Maildir.
    """
    config = ["--config", str(ours.settings_file)]
    assert send(ours, "odd@peer.test", b"X-Odd: yes\r\n" + message("held", sender="odd@peer.test"))[0] == 250
    logged(ours, "message.accepted", "sender=odd@peer.test")
    listed = ours.mta("queue", "list", "--state", "held", *config, check=True).stdout
    queue_id = listed.split()[0]
    assert "<odd@peer.test>" in listed
    assert re.search(r"held +bob@example\.test: .*X-Odd", listed), listed
    assert not any(b"Subject: held" in stored for stored in messages(ours.maildir("bob")))
    ours.mta("queue", "release", queue_id, *config, check=True)
    assert arrived(ours.maildir("bob"), b"Subject: held\r\n").endswith(b"\r\n\r\nHello.\r\n")
    eventually(lambda: not ours.mta("queue", "list", *config, check=True).stdout, "an empty queue")


def test_a_milter(ours: Daemon) -> None:
    """ClamAV behind us adds a field to what is clean, and refuses a virus with its words."""
    content = message("clean", sender="clean@peer.test")
    assert send(ours, "clean@peer.test", content)[0] == 250
    stored = arrived(ours.maildir("bob"), b"Subject: clean\r\n")
    assert b"\r\nX-Virus-Status: Clean\r\n" in stored
    assert stored.endswith(b"\r\n\r\nHello.\r\n")
    code, text = send(ours, "ill@peer.test", message("ill", EICAR + b"\r\n", "ill@peer.test"))
    assert (code, text) == (550, b"5.7.1 infected by Eicar-Test.UNOFFICIAL")
    logged(ours, "message.refused", "infected by Eicar")


SCRIPT = """
import os
from mta.policy.script_api import reject

def rcpt(facts):
    if facts.sender == "loop@peer.test":
        while True: pass
    if facts.sender == "crash@peer.test":
        return 1 / 0
    if facts.sender == "hog@peer.test":
        return bytes(1 << 30)
    if facts.sender == "die@peer.test":
        os.kill(os.getpid(), 9)
    if facts.spf.result == "pass" and facts.sender.startswith("nosy@"):
        return reject("Not from you", reason="nosy people")
"""


@pytest.fixture
def script(ours: Daemon) -> Iterator[Path]:
    """A policy in Python that is put in force by a reload, and taken away again."""
    path = ours.settings_file.parent / "policy/mine.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(SCRIPT)
    assert ours.reload().returncode == 0
    yield path
    path.unlink()
    assert ours.reload().returncode == 0


def test_a_script_refuses(ours: Daemon, script: Path) -> None:
    """A file in etc/policy counts after a reload: it sees what SPF says, and the log names the line that refused."""
    assert recipient_of(ours, "nosy@peer.test") == (550, b"5.7.1 Not from you")
    assert recipient_of(ours, "fine@peer.test")[0] == 250
    refused = logged(ours, "recipient.refused", "sender=nosy@peer.test")
    assert "nosy people" in refused
    assert line_of(script, "Not from you") in refused


@pytest.mark.parametrize(
    ("sender", "line", "why"),
    [
        ("loop@peer.test", "while True", "1 s"),
        ("crash@peer.test", "1 / 0", "ZeroDivisionError"),
        ("hog@peer.test", "bytes(1 << 30)", "MemoryError"),
        ("die@peer.test", "def rcpt", "SIGKILL"),
    ],
)
def test_a_script_that_fails(ours: Daemon, script: Path, sender: str, line: str, why: str) -> None:
    """Whether it never ends, raises, takes memory without bound or dies, it defers with 451, and the log says what
    went wrong in which function, file and line; the session goes on, and the next one is served.
    """
    with peer(ours) as client:
        client.ehlo()
        client.mail(sender)
        code, text = client.rcpt("bob@example.test")
        assert (code, text[:6]) == (451, b"4.7.1 ")
        client.rset()
        client.mail("fine@peer.test")
        assert client.rcpt("bob@example.test")[0] == 250
    refused = logged(ours, "recipient.refused", f"sender={sender}", str(script))
    assert why in refused
    assert " in rcpt()" in refused
    assert refused.endswith(f" source={line_of(script, line)}")
    assert recipient_of(ours, "nosy@peer.test")[0] == 550


def test_a_session_keeps_the_policies_that_it_began_with(ours: Daemon, script: Path) -> None:
    """A reload while a session is open counts for the next one."""
    with peer(ours) as client:
        client.ehlo()
        script.write_text(SCRIPT.replace("nosy@", "other@"))
        assert ours.reload().returncode == 0
        assert recipient_of(ours, "nosy@peer.test")[0] == 250
        assert recipient_of(ours, "other@peer.test")[0] == 550
        client.mail("nosy@peer.test")
        assert client.rcpt("bob@example.test")[0] == 550


def test_a_script_that_is_no_python(ours: Daemon, script: Path) -> None:
    """A reload refuses it, naming file and line, and what was in force stays in force."""
    script.write_text("def rcpt(facts):\n    return (\n")
    refused = ours.reload()
    assert refused.returncode != 0
    assert f"{script}:2" in refused.stdout + refused.stderr
    assert recipient_of(ours, "nosy@peer.test")[0] == 550
    script.write_text(SCRIPT)

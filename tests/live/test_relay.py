"""Mail to and from other servers: a real Postfix, a second instance of ours, a sink that keeps octets."""

from __future__ import annotations

import smtplib
import subprocess
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from tests.live.conftest import StartDaemon
from tests.live.peers.daemon import Daemon
from tests.live.peers.mail import message, submit
from tests.live.peers.maildir import arrived, messages
from tests.live.peers.name_server import NameServer
from tests.live.peers.postfix import Postfix
from tests.live.peers.process import eventually, free_ports, program
from tests.live.peers.sink import Received, Sink
from tests.live.test_submission import BODIES

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """The far end of sink.test."""
    with Sink({b"no@sink.test": b"550 5.7.1 not for\xff you"}) as listening:
        yield listening


@pytest.fixture(scope="module")
def certificate(place: Path) -> Path:
    """A self-signed certificate and its key, in one file."""
    path = place / "postfix.pem"
    argv = [program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", path]
    argv += ["-subj", "/CN=mx.postfix.test", "-out", place / "certificate"]
    subprocess.run(argv, check=True, capture_output=True)
    path.write_text(path.read_text() + (place / "certificate").read_text())
    return path


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """The ports of Postfix and of the name server: both must be known before anything starts."""
    return free_ports(2)


@pytest.fixture(scope="module")
def first(start_daemon: StartDaemon, ports: list[int], sink: Sink) -> Daemon:
    """Our server, for which MX hosts listen on Postfix's port, and which has a route to the sink."""
    postfix_port, dns_port = ports
    return start_daemon(
        {
            "relay": {
                "port": postfix_port,
                "route": [{"domain": "sink.test", "host": "[127.0.0.1]", "port": sink.port}],
            },
            "dns": {"nameservers": [f"127.0.0.1:{dns_port}"], "allow_loopback": True},
        }
    )


@pytest.fixture(scope="module")
def names(place: Path, ports: list[int]) -> Iterator[NameServer]:
    """A name server for the test's domains."""
    server = NameServer(place / "names", ports[1], {"postfix.test": "127.0.0.1", "second.test": "127.0.0.1"})
    yield server
    server.stop()


@pytest.fixture(scope="module")
def postfix(place: Path, ports: list[int], first: Daemon, certificate: Path) -> Iterator[Postfix]:
    """A Postfix that accepts mail for carol@postfix.test, and knows where example.test is."""
    tls = {
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": str(certificate),
        "smtpd_tls_received_header": "yes",
        "smtp_tls_security_level": "may",
    }
    route = {"transport_maps": f"inline:{{ {{ example.test = smtp:[127.0.0.1]:{first.mx_port} }} }}"}
    peer = Postfix(place / "postfix", ports[0], "postfix.test", ["carol"], tls | route)
    yield peer
    peer.stop()


def in_sink(sink: Sink, token: bytes) -> Received:
    """Wait for a message that holds `token` to reach the sink."""
    found = eventually(lambda: [mail for mail in sink.received if token in mail.content], f"{token!r} in the sink")
    return found[0]


@pytest.mark.parametrize("name", BODIES)
def test_octets_stay_as_they_are(first: Daemon, sink: Sink, name: str) -> None:
    """What is relayed by a static route arrives with every octet, behind one Received field of ours."""
    content = message(f"route-{name}", BODIES[name])
    submit(first, "dave@sink.test", content)
    got = in_sink(sink, f"Subject: route-{name}".encode())
    assert (got.reverse_path, got.forward_paths) == (b"alice@example.test", (b"dave@sink.test",))
    assert got.content.startswith(b"Received: ")
    assert got.content.endswith(content)


def test_refused_by_the_sink(first: Daemon, sink: Sink) -> None:
    """One transaction carries all recipients of a destination; the refused one is reported, the others are served."""
    submit(first, ["dave@sink.test", "no@sink.test"], message("one-refused"))
    assert in_sink(sink, b"Subject: one-refused").forward_paths == (b"dave@sink.test",)
    report = arrived(first.maildir("alice"), b"no@sink.test")
    assert b"\xff" not in report.partition(b"one-refused")[0]
    assert b"dave@sink.test" not in report


def test_to_postfix_by_mx_lookup(first: Daemon, postfix: Postfix, names: NameServer) -> None:
    """Postfix, found by MX lookup in the test zone, gets alice's mail, over TLS since it offers it."""
    content = message("to-postfix", BODIES["dots"] + BODIES["eight-bit"])
    submit(first, "carol@postfix.test", content)
    stored = arrived(postfix.maildir("carol"), b"Subject: to-postfix")
    assert stored.endswith(content)
    assert b"using TLSv1.3" in stored


def test_from_postfix(first: Daemon, postfix: Postfix) -> None:
    """Postfix delivers to our mx, over TLS since we offer it, and bob has the message with all its octets."""
    content = message("from-postfix", BODIES["dots"] + BODIES["eight-bit"], "carol@postfix.test")
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=30) as client:
        client.sendmail("carol@postfix.test", ["bob@example.test"], content, mail_options=["BODY=8BITMIME"])
    stored = arrived(first.maildir("bob"), b"Subject: from-postfix")
    assert stored.endswith(content)
    assert b" with ESMTPS " in stored.replace(b"\r\n", b" ")


def test_bounce(first: Daemon, postfix: Postfix, names: NameServer) -> None:
    """An address that Postfix refuses comes back to alice as a report (RFC 3464), from <>, with Postfix's words."""
    submit(first, "nobody@postfix.test", message("to-nobody"))
    stored = arrived(first.maildir("alice"), b"nobody@postfix.test")
    assert stored.startswith(b"Return-Path: <>")
    report = message_from_bytes(stored, policy=policy.default)
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    _, status, original = report.iter_parts()
    _, recipient = status.get_payload()
    assert recipient["Final-Recipient"] == "rfc822; nobody@postfix.test"
    assert recipient["Action"] == "failed"
    assert recipient["Status"] == "5.1.1"
    assert "User unknown" in recipient["Diagnostic-Code"]
    assert b"to-nobody" in original.as_bytes()


def test_to_a_second_instance_by_mx_lookup(start_daemon: StartDaemon, names: NameServer, ports: list[int]) -> None:
    """A second server of ours, found by MX lookup in the test zone, takes alice's mail for its bob."""
    second = start_daemon(domain="second.test")
    settings = {
        "relay": {"port": second.mx_port},
        "dns": {"nameservers": [f"127.0.0.1:{ports[1]}"], "allow_loopback": True},
    }
    sender = start_daemon(settings)
    content = message("to-second", BODIES["mebibyte"])
    submit(sender, "bob@second.test", content)
    stored = arrived(second.maildir("bob"), b"Subject: to-second")
    assert stored.startswith(b"Return-Path: <alice@example.test>")
    assert stored.endswith(content)
    assert len(messages(second.maildir("bob"))) == 1

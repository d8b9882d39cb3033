"""Ports, ours and those of others."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mta.service.check.finding import Finding, Severity, ranked, status_of
from mta.service.check.ports import check_outgoing, check_ports, read_greeting, try_bind
from mta.settings.metrics import MetricsSettings
from mta.settings.sections import MxSettings, RelaySettings, RouteSettings, Settings, SmtpdSettings
from mta.settings.values import Endpoint, SystemdSocket
from mta.tls.certificate import make_self_signed

HOST = "mail.example.org"
MX = MxSettings(listen=(Endpoint("0.0.0.0", 25), Endpoint("::", 25)))
SETTINGS = Settings(
    HOST,
    path="etc/mta.toml",
    state="/state",
    mx=MX,
    smtpd=SmtpdSettings(enabled=False),
    metrics=MetricsSettings(listen=()),
)


class World:
    """Who answers where."""

    def __init__(self, **answers: str | OSError) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int, bool]] = []
        self.bound: list[tuple[str, int]] = []
        self.refused: OSError | None = None

    def greeting(self, host: str, port: int, implicit_tls: bool) -> str:
        """Connect."""
        self.asked.append((host, port, implicit_tls))
        answer = self.answers.get(host.replace(".", "_").replace(":", "_"), ConnectionRefusedError(111, "refused"))
        if isinstance(answer, OSError):
            raise answer
        return answer

    def bind(self, host: str, port: int) -> None:
        """Bind."""
        self.bound.append((host, port))
        if self.refused:
            raise self.refused

    def ports(self, running: bool | None, settings: Settings = SETTINGS) -> list[Finding]:
        """What is found of ours."""
        return check_ports(settings, running, self.greeting, self.bind)


OURS = f"220 {HOST} ESMTP"


def test_a_server_that_answers_at_all_its_ports() -> None:
    """Wildcards are reached by loopback; nothing is found."""
    world = World(**{"127_0_0_1": OURS, "__1": OURS})
    assert world.ports(running=True) == []
    assert world.asked == [("127.0.0.1", 25, False), ("::1", 25, False)]
    assert world.bound == []


def test_implicit_tls_comes_before_the_greeting() -> None:
    """Port 465 is asked in its own way."""
    smtpd = SmtpdSettings(submission=(), submissions=(Endpoint("192.0.2.1", 465),))
    world = World(**{"192_0_2_1": OURS})
    assert world.ports(True, Settings(HOST, mx=MxSettings(enabled=False), smtpd=smtpd)) == []
    assert world.asked == [("192.0.2.1", 465, True)]


def test_a_port_that_the_running_server_does_not_have() -> None:
    """It was changed after the start, or somebody else answers: errors."""
    found = World(**{"127_0_0_1": "220 other.example ESMTP Postfix"}).ports(running=True)
    assert [finding.severity for finding in found] == [Severity.ERROR] * 2
    assert 'it says "220 other.example ESMTP Postfix"' in found[0].reason.text
    assert found[0].mend == "ss -ltnp sport = :25"
    assert "does not answer at [::]:25" in found[1].what


def test_a_server_that_does_not_run() -> None:
    """An error, with what starts it; its ports are tried and could be had."""
    world = World()
    (finding,) = world.ports(running=False)
    assert (finding.severity, finding.what) == (Severity.ERROR, "the server does not run")
    assert world.bound == [("0.0.0.0", 25), ("::", 25)]
    measured = replace(SETTINGS, metrics=MetricsSettings(listen=(Endpoint("127.0.0.1", 9725),)))
    world.ports(False, measured)
    assert world.bound[2:] == [("0.0.0.0", 25), ("::", 25), ("127.0.0.1", 9725)]


@pytest.mark.parametrize(
    ("number", "mend"),
    [(errno.EADDRINUSE, "ss -ltnp sport = :25"), (errno.EACCES, "CAP_NET_BIND_SERVICE"), (errno.EIO, "another place")],
)
def test_ports_that_cannot_be_had(number: int, mend: str) -> None:
    """Each reason has its own remedy."""
    world = World()
    world.refused = OSError(number, "no")
    found = world.ports(running=False)
    assert len(found) == 3
    assert mend in found[1].mend


def test_ports_of_systemd() -> None:
    """They are not bound: a note tells which unit to look at."""
    world = World()
    settings = replace(SETTINGS, mx=MxSettings(listen=(SystemdSocket("mx"),)))
    assert world.ports(True, settings) == []
    assert [finding.severity for finding in world.ports(False, settings)] == [Severity.ERROR, Severity.NOTE]
    assert world.bound == []


def test_who_may_not_ask_the_server() -> None:
    """Nothing is said of it but that."""
    (finding,) = World().ports(running=None)
    assert finding.severity is Severity.NOTE


# Others


def test_port_25_of_others() -> None:
    """One MX host that answers is enough; none is an error that says what to do."""
    world = World(mx2_example_net="220 mx2.example.net")
    assert check_outgoing(SETTINGS, ["mx1.example.net", "mx2.example.net"], world.greeting) == []
    (finding,) = check_outgoing(SETTINGS, ["mx1.example.net"], world.greeting)
    assert (finding.severity, finding.what) == (Severity.ERROR, "port 25 of others cannot be reached")
    (listed,) = check_outgoing(SETTINGS, ["mx1"], World(mx1="554 your address is on a list").greeting)
    assert listed.severity is Severity.WARNING
    (unknown,) = check_outgoing(SETTINGS, [], world.greeting)
    assert unknown.severity is Severity.NOTE


def test_a_smart_host_is_tried_instead() -> None:
    """At its own port; and it is said that it is the smart host."""
    relay = RelaySettings(smart_host=RouteSettings(host="smtp.example.net", port=587))
    world = World()
    (finding,) = check_outgoing(Settings(HOST, relay=relay), ["2001:db8::25"], world.greeting)
    assert finding.what == "the smart host, smtp.example.net, does not answer at port 587"
    assert world.asked == [("2001:db8::25", 587, False)]


# Sockets


def serve(greeting: bytes, context: ssl.SSLContext | None = None) -> int:
    """Greet one connection on loopback; gives the port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection = listening.accept()[0]
        talking = context.wrap_socket(connection, server_side=True) if context else connection
        with listening, talking:
            talking.sendall(greeting)
            if greeting:
                talking.recv(100)

    threading.Thread(target=answer, daemon=True).start()
    return int(listening.getsockname()[1])


def test_a_greeting_is_read(tmp_path: Path) -> None:
    """In clear text and after TLS; control characters are not passed on; who closes has said nothing."""
    assert read_greeting("127.0.0.1", serve(b"220 host ready\r\n"), False) == "220 host ready"
    assert read_greeting("127.0.0.1", serve(b"220 \x1b[2J\r\n"), False) == "220 ?[2J"
    for name, octets in zip(("certificate", "key"), make_self_signed([HOST], time.time(), 1), strict=True):
        (tmp_path / name).write_bytes(octets)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    assert read_greeting("127.0.0.1", serve(b"220 host\r\n", context), True) == "220 host"
    assert read_greeting("127.0.0.1", serve(b""), False) == ""


def test_binding_is_tried_as_the_server_would() -> None:
    """A port that is taken is found, and a free one is free again afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            try_bind("127.0.0.1", port)
    try_bind("127.0.0.1", port)
    try_bind("127.0.0.1", port)


# Findings


def test_rank_and_status() -> None:
    """The gravest first, and the status for monitoring is its."""
    world = World()
    found = [*check_outgoing(SETTINGS, [], world.greeting), *world.ports(running=False)]
    assert [finding.severity for finding in ranked(found)] == [Severity.ERROR, Severity.NOTE]
    assert (status_of(found), status_of(found[:1]), status_of([])) == (2, 0, 0)

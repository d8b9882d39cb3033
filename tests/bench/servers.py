"""The servers that are measured: ours with one and with several workers, and the installed Postfix.

All are durable before their 250, log each message, and run as they would in earnest; what is not their default is
written here. The caps of a login and of a network are lifted: one client sends everything. Ours signs nothing, since
Postfix does not either; `make bench-mailauth` has what that costs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.live.peers.daemon import DOMAIN, Daemon
from tests.live.peers.postfix import Postfix
from tests.live.peers.process import free_ports, program

FAR = "sink.test"
"""The domain whose mail goes to the sink."""
USERS = [f"u{index}" for index in range(20)]
SENDER = "sender@client.test"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that can be measured."""

    pid: int
    port: int
    submission: int
    maildirs: list[Path]
    login: str
    """``LOGIN:PASSWORD``."""
    sender: str
    """Who it may send as."""
    directory: Path
    daemon: Daemon | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What is not the default."""


Start = Callable[[Path, int], AbstractContextManager[Running]]
"""Runs a server in a fresh directory, its mail for `FAR` going to the given port."""

OWN_SETTINGS: dict[str, Any] = {
    "smtpd": {
        "caps": {"messages": 0, "first_time_recipients": 0},
        "network": [
            {
                "name": "bench",
                "addresses": ["127.0.0.0/8"],
                "submit_without_login": True,
                "senders": [SENDER],
                "messages_per_hour": 100_000_000,
            }
        ],
    },
    "dkim": {"sign": False},
    "connections": {"total": 20_000, "per_network": 20_000},
}


@contextmanager
def ours(directory: Path, sink: int, workers: int = 1, settings: Mapping[str, Any] | None = None) -> Iterator[Running]:
    """Run our server as `mta init --demo` makes it, with more users."""
    relay = {"route": [{"domain": FAR, "host": "[127.0.0.1]", "port": sink, "tls": "none"}]}
    own = OWN_SETTINGS | {"workers": workers, "relay": relay} | dict(settings or {})
    daemon = Daemon(directory, own)
    file = daemon.directory / "etc/domains" / DOMAIN / "users"
    verifier = next(line for line in file.read_text().splitlines() if line.startswith("alice:")).partition(":")[2]
    with file.open("a") as lines:
        lines.write("".join(f"{user}:{verifier}\n" for user in USERS))
    daemon.start()
    assert daemon.process is not None
    login = f"{daemon.address('alice')}:{daemon.passwords['alice']}"
    maildirs = [daemon.maildir(user) for user in USERS]
    pid = daemon.process.popen.pid
    try:
        yield Running(
            pid, daemon.mx_port, daemon.smtpd_port, maildirs, login, daemon.address("alice"), directory, daemon, own
        )
    finally:
        if daemon.process is not None:
            daemon.stop()


@contextmanager
def postfix(directory: Path, sink: int, more: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run the installed Postfix."""
    sasl, host = directory / "etc/sasl", f"mx.{DOMAIN}"  # the place where Debian's looks
    sasl.mkdir(parents=True)
    certificate = directory / "tls.pem"
    _self_signed(certificate)
    password = ["saslpasswd2", "-p", "-c", "-f", str(sasl / "db"), "-u", host, "bench"]
    subprocess.run([program(password[0]), *password[1:]], input=b"secret", check=True)
    (sasl / "db").chmod(0o644)
    (sasl / "smtpd.conf").write_text(
        f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {sasl}/db\nmech_list: PLAIN\n"
    )
    settings = {
        "relayhost": f"[127.0.0.1]:{sink}",
        "disable_dns_lookups": "yes",
        "smtpd_junk_command_limit": "10000",
        "message_size_limit": "60000000",
        "smtpd_tls_cert_file": str(certificate),
        "smtpd_tls_key_file": str(certificate),
        "smtpd_tls_security_level": "may",
        "smtpd_sasl_auth_enable": "yes",
        "smtpd_sasl_path": "smtpd",
        "smtpd_sasl_local_domain": host,
        **(more or {}),
    }
    server = Postfix(directory, free_ports(1)[0], DOMAIN, USERS, settings)
    maildirs = [server.maildir(user) for user in USERS]
    try:
        yield Running(
            server.process.popen.pid,
            server.port,
            server.port,
            maildirs,
            "bench:secret",
            SENDER,
            directory,
            None,
            settings,
        )
    finally:
        server.stop()


def _self_signed(path: Path) -> None:
    """Make a certificate as ours is: P-256."""
    argv = [program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", "2", "-subj", "/CN=localhost", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(argv, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    os.chmod(path, 0o600)


def many_processes(directory: Path, sink: int) -> AbstractContextManager[Running]:
    """Run Postfix with a process for each of very many sessions."""
    return postfix(directory, sink, {"default_process_limit": "20000"})


def several(directory: Path, sink: int) -> AbstractContextManager[Running]:
    """Ours, with a worker for each processor core."""
    return ours(directory, sink, os.cpu_count() or 1)


def without_history(directory: Path, sink: int) -> AbstractContextManager[Running]:
    """Ours with one worker, and no history."""
    return ours(directory, sink, settings={"history": {"enabled": False}})


SERVERS: dict[str, Start] = {"mta": ours, "mta, workers": several, "postfix": postfix}

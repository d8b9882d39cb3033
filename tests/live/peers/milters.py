"""Mail filters from Debian, each in a directory of its own: rspamd, ClamAV and OpenDKIM, without any network.

`ask` sends messages through our milter client in a process of its own (`tests.live.peers.milter_driver`).
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.live.peers.process import DEADLINE, NOBODY, Process, free_ports, program

ROOT = Path(__file__).resolve().parents[3]

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""The string that every virus scanner knows (https://www.eicar.org)."""
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The string that every spam filter knows."""

RSPAMD = """
options {{
  pidfile = "{directory}/pid"; tempdir = "{directory}"; cache_file = "{directory}/cache";
  history_file = "{directory}/history"; hs_cache_dir = "{directory}"; control_socket = "{directory}/control mode=0600";
  url_tld = "{directory}/tlds"; disable_hyperscan = true; local_addrs = [];
  filters = "dkim"; dns {{ nameserver = ["127.0.0.1:{name_server}:1"]; timeout = 2s; retransmits = 2; }}
}}
logging {{ type = "console"; level = "info"; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{port}"; milter = yes; timeout = 20s; count = 1;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
actions {{ reject = 15; add_header = 6; }}
dkim {{ check_local = true; check_authed = true; }}
modules {{ path = "/usr/share/rspamd/plugins/milter_headers.lua"; }}
milter_headers {{
  use = ["x-rspamd-queue-id", "x-spamd-result", "remove-headers"]; skip_local = false; skip_authenticated = false;
  routines {{ remove-headers {{ headers {{ "X-Spam" = 0; }} }} }}
}}
"""

CLAMD = """
LocalSocket {directory}/clamd.sock
LocalSocketMode 666
DatabaseDirectory {directory}/db
TemporaryDirectory {directory}
Foreground yes
MaxThreads 2
"""
CLAMAV_MILTER = """
MilterSocket unix:{directory}/milter.sock
MilterSocketMode 666
ClamdSocket unix:{directory}/clamd.sock
OnInfected {on_infected}
AddHeader Replace
Foreground yes
TemporaryDirectory {directory}
"""

OPENDKIM = """
Mode {mode}
Socket {socket}
Canonicalization simple/simple
RequireSafeKeys no
UMask 000
Syslog no
{more}
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as a session hands it in."""

    content: bytes
    address: str = "192.0.2.7"
    name: str = ""
    """The confirmed name of the address."""
    login: str = ""
    sender: str = "alice@client.test"
    recipients: Sequence[str] = ("bob@example.test",)
    new_session: bool = True
    """False: in the first session."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it: the reply, and the message as it would be stored."""

    reply: str
    content: bytes
    sender: str
    recipients: Sequence[str]
    held: str
    said: Sequence[Sequence[str]]
    """Policy, kind of verdict, reason."""


def ask(milters: Sequence[Mapping[str, object]], *messages: Message) -> list[Outcome]:
    """Send messages one after the other through filters; each is name, address, and other settings."""
    task = {
        "milters": milters,
        "messages": [{**asdict(each), "content": base64.b64encode(each.content).decode()} for each in messages],
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.live.peers.milter_driver"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=2 * DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [Outcome(**{**each, "content": base64.b64decode(each["content"])}) for each in json.loads(done.stdout)]


def _listens(address: str) -> bool:
    kind, _, place = address.partition(":")
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(place if kind == "unix" else ("127.0.0.1", int(place.rpartition(":")[2])))
        except OSError:
            return False
    return True


def _own(directory: Path) -> None:
    """Give a directory to nobody, who the filters become where they are started by root."""
    if os.getuid() == 0:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


@contextmanager
def _running(argv: Sequence[str], log: Path, address: str, end: signal.Signals = signal.SIGKILL) -> Iterator[str]:
    # libmilter looks for a reason to stop every 5 seconds only, so its filters are killed
    process = Process(argv, log, cwd="/")
    try:
        process.wait_for(lambda: _listens(address), f"{argv[0]} listens on {address}")
        yield address
    finally:
        process.stop(end)


@contextmanager
def rspamd(directory: Path, name_server: int) -> Iterator[str]:
    """Run rspamd's proxy, which scans by itself; gives its address.

    It knows GTUBE, verifies DKIM by the name server on that port of 127.0.0.1, removes X-Spam and adds X-Spamd-Result.
    """
    binary = program("rspamd")
    directory.mkdir()
    port = free_ports(1)[0]
    settings = directory / "rspamd.conf"
    settings.write_text(RSPAMD.format(directory=directory, port=port, name_server=name_server))
    (directory / "tlds").write_text("com\norg\ntest\n")
    _own(directory)
    become = ["-i", "-u", "nobody", "-g", "nogroup"] if os.getuid() == 0 else []
    argv = [binary, "-f", *become, "-c", str(settings)]
    with _running(argv, directory / "output", f"inet:127.0.0.1:{port}", signal.SIGTERM) as address:
        yield address


@contextmanager
def clamav(directory: Path, on_infected: str = "Reject") -> Iterator[str]:
    """Run clamd, with a signature of EICAR alone, and clamav-milter; gives the address of the latter."""
    clamd, milter = program("clamd"), program("clamav-milter")
    (directory / "db").mkdir(parents=True)
    (directory / "db/eicar.ndb").write_text(f"Eicar-Test:0:*:{EICAR.hex()}\n")
    user = "User nobody\n" if os.getuid() == 0 else ""
    (directory / "clamd.conf").write_text(CLAMD.format(directory=directory) + user)
    more = "RejectMsg infected by %v\n" if on_infected == "Reject" else ""
    (directory / "milter.conf").write_text(
        CLAMAV_MILTER.format(directory=directory, on_infected=on_infected) + more + user
    )
    _own(directory)
    scanner = [clamd, "-c", str(directory / "clamd.conf")]
    argv = [milter, "-c", str(directory / "milter.conf")]
    with (
        _running(scanner, directory / "clamd.output", f"unix:{directory}/clamd.sock"),
        _running(argv, directory / "milter.output", f"unix:{directory}/milter.sock") as address,
    ):
        yield address


class Published(Protocol):
    """A key as the DNS has it."""

    name: str
    record: str


class Key:
    """An RSA key for selector ``sel`` of a domain."""

    def __init__(self, domain: str) -> None:
        key = rsa.generate_private_key(65537, 2048)
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.domain = domain
        self.name = f"sel._domainkey.{domain}"
        self.record = f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
        self.pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )


def _opendkim(directory: Path, mode: str, listening: str, address: str, more: str) -> Iterator[str]:
    binary = program("opendkim")
    user = "UserID nobody" if os.getuid() == 0 else ""
    settings = directory / "opendkim.conf"
    settings.write_text(OPENDKIM.format(mode=mode, socket=listening, more=f"{more}\n{user}"))
    _own(directory)
    with _running([binary, "-f", "-x", str(settings)], directory / "output", address) as running:
        yield running


@contextmanager
def signer(directory: Path, key: Key) -> Iterator[str]:
    """Run an OpenDKIM on a TCP port that signs what clients in 192.0.2.0/24, or with a login, send for a domain."""
    directory.mkdir()
    (directory / "key.pem").write_bytes(key.pem)
    (directory / "key.pem").chmod(0o600)
    port = free_ports(1)[0]
    (directory / "internal").write_text("192.0.2.0/24\n")
    more = (
        f"Domain {key.domain}\nSelector sel\nKeyFile {directory}/key.pem\nInternalHosts refile:{directory}/internal\n"
    )
    yield from _opendkim(directory, "s", f"inet:{port}@127.0.0.1", f"inet:127.0.0.1:{port}", more)


@contextmanager
def verifier(directory: Path, *keys: Published) -> Iterator[str]:
    """Run an OpenDKIM on a Unix socket that verifies, refuses bad signatures and writes Authentication-Results."""
    directory.mkdir()
    (directory / "keys").write_text("".join(f"{key.name} {key.record}\n" for key in keys))
    more = (
        f"TestPublicKeys {directory}/keys\nAuthservID mx.example.test\nAlwaysAddARHeader yes\n"
        "InternalHosts 203.0.113.1\nOn-BadSignature reject\n"
    )
    path = f"{directory}/verifier.sock"
    yield from _opendkim(directory, "v", f"local:{path}", f"unix:{path}", more)

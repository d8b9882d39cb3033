"""`mta init --demo`: a configuration that runs on loopback without root, DNS or network.

It writes ``etc/`` (mta.toml, a domain with alice and bob and DKIM keys, a self-signed certificate), ``var/`` and
``credentials``. It never overwrites: a second run completes what is missing.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mta.auth.verifier import make_scram_verifier
from mta.cli.founding import KERNEL, Founder

USERS = ("alice", "bob")

_TOML = """\
# A demonstration on loopback, written by `mta init --demo`. docs/settings.md describes every key.
hostname = "{hostname}"
workers = 1
state = "../var"
mail = "../var/mail"

[mx]
listen = ["127.0.0.1:{mx}"]

[smtpd]
submission = ["127.0.0.1:{smtpd}"]      # STARTTLS
submissions = ["127.0.0.1:{smtps}"]     # TLS from the first octet

[tls]
certificate = "tls/certificate.pem"
key = "tls/key.pem"
"""

_ALIASES = """\
# name: target, target
postmaster: alice
abuse: postmaster
team: alice, bob
"""

USERS_HEAD = "# user:{SCRAM-SHA-256}verifier::::::  (Dovecot reads the same file)\n"
"""The first line of a new ``users`` file."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the demonstration listens on 127.0.0.1."""

    mx: int
    smtpd: int
    smtps: int


def write_demo(directory: Path, name: str, ports: Ports) -> None:
    """Write what is missing of a demonstration for the domain `name` below `directory`. Raises OSError."""
    etc = directory / "etc"
    domain = etc / "domains" / name
    hostname = f"mx.{name}"
    founder = Founder(KERNEL, lambda path, made: None)
    for each in (etc / "tls", domain, directory / "var" / "mail"):
        founder.directory(each)
    (directory / "var").chmod(0o700)
    founder.file(
        etc / "mta.toml",
        _TOML.format(hostname=hostname, mx=ports.mx, smtpd=ports.smtpd, smtps=ports.smtps),
    )
    founder.file(domain / "aliases", _ALIASES)
    if not (domain / "users").exists():
        passwords = {user: secrets.token_urlsafe(12) for user in USERS}
        credentials = "".join(f"{user}@{name} {password}\n" for user, password in passwords.items())
        (directory / "credentials").unlink(missing_ok=True)
        founder.file(directory / "credentials", credentials, 0o600)
        lines = [f"{user}:{make_scram_verifier(password)}::::::\n" for user, password in passwords.items()]
        founder.file(domain / "users", USERS_HEAD + "".join(lines), 0o640)
    founder.dkim_keys(domain, name)
    names = [hostname, "localhost", "127.0.0.1"]
    founder.certificate(etc / "tls" / "certificate.pem", etc / "tls" / "key.pem", names, time.time())


def describe_demo(directory: Path) -> str:
    """Say what to type next, with alice's password in it."""
    passwords = dict(line.split() for line in (directory / "credentials").read_text().splitlines())
    alice, bob = passwords
    user, _, name = bob.partition("@")
    smtpd = _submission(directory / "etc" / "mta.toml")
    here = os.path.relpath(directory)
    if here.startswith(".."):
        here = str(directory.absolute())
    return f"""\
The demonstration for {name} is in {here}: users {alice} and {bob}, passwords in {here}/credentials.

Start it (`make run` does):
    {_program("twistd")} -n --pidfile= mta --config {here}/etc/mta.toml

Then, in another terminal, submit a message as alice:
    printf 'From: {alice}\\nTo: {bob}\\nSubject: hello\\n\\nIt works.\\n' | \\
      curl --silent --show-error --ssl-reqd --cacert {here}/etc/tls/certificate.pem --url smtp://{smtpd} --crlf \\
        --user '{alice}:{passwords[alice]}' --mail-from {alice} --mail-rcpt {bob} --upload-file -

It lands in bob's Maildir:
    cat {here}/var/mail/{name}/{user}/Maildir/new/*

How it came there, and what else happened:
    {_program("mta")} trace --config {here}/etc/mta.toml
    {_program("mta")} log --follow --config {here}/etc/mta.toml
"""


def _program(name: str) -> str:
    """What a shell calls a program that was installed with the one that runs: its name, if it is found by that."""
    ours = Path(sys.argv[0]).absolute().with_name(name)
    if not ours.exists() or shutil.which(name) == str(ours):
        return name
    return os.path.relpath(ours)


def _submission(config: Path) -> str:
    """The STARTTLS address as the file has it: the ports may be those of an earlier run."""
    import tomllib

    listen: str = tomllib.loads(config.read_text())["smtpd"]["submission"][0]
    return listen

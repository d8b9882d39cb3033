"""`mta init`: a server for one domain with one user, on the ports of the world, and what to publish for it.

============================  ======  =====================  ==========================================
below the directory of        mode    owner, group           what it is
``mta.toml``
============================  ======  =====================  ==========================================
``mta.toml``                  0640    root, the server's     settings
``domains/NAME``              0750    root, the server's     ``aliases`` (0644) and ``users`` (0640)
``domains/NAME/dkim``         0750    root, the server's     keys (0640)
``tls``                       0750    root, the server's     ``certificate.pem`` (0644), ``key.pem`` (0640)
the directory `state`         0700    the server             spool, history, control socket
the directory `mail`          2750    the server             Maildirs; its group is that of new domains
============================  ======  =====================  ==========================================

Started by somebody else than root, all of it is theirs, and so is the server.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from mta.auth.verifier import make_scram_verifier
from mta.cli.daemon import also
from mta.cli.demo import USERS_HEAD
from mta.cli.founding import Access, Founder
from mta.service.check.server import started_as
from mta.service.published import Address, domain_snippet, host_snippet
from mta.settings.dkim import DIRECTORY, DkimKey, read_keys
from mta.settings.domains import domain_directories, read_toml
from mta.settings.problem import Problem, SettingsRefused
from mta.settings.reader import DOMAINS
from mta.settings.sections import Settings, TlsSettings
from mta.settings.values import SystemdSocket

_ALIASES = """\
# name: target, target
postmaster: {user}
abuse: {user}
"""

_TOML = """\
# Written by `mta init`. What is not written here has its default; docs/settings.md describes every key.
# Sizes are "64K", "50M", "1G"; times are "30s", "1h30m", "5d". Paths are relative to this directory.
# After a change: mta reload. A mistake keeps what ran before, and is named with its line.

{hostname}# our name in greetings and trace fields; it needs an address in the DNS
{state}# spool, history, control socket
{mail}# Maildirs: DOMAIN/USER/Maildir below it

[mx]                                  # mail from other servers for our domains
{mx}

[smtpd]                               # mail from people and programs that log in
{submission}# STARTTLS
{submissions}# TLS from the first octet

# A network may have rights of its own: printers, scripts, old devices.
#[[smtpd.network]]
#name = "printers"
#addresses = ["192.0.2.0/28"]
#submit_without_login = true
#senders = ["scanner@{domain}"]

[tls]                                 # new files are used within a minute, without a reload
certificate = "tls/certificate.pem"   # with the certificates that lead to a known authority
key = "tls/key.pem"

{off}[local]{gap}# sendmail, cron, PHP, and who gets root's mail (docs/local-mail.md)
{off}socket = "/run/mta/submit.sock"
{off}aliases = "/etc/aliases"

#[limits]
#message_size = "50M"

#[relay.smart_host]                   # takes all mail that leaves; without it MX records are asked
#host = "smtp.example.net"
#port = 587
#login = "example-org"
#password_file = "smart-host-password"

#[queue]                              # between attempts, and in all
#first_retry = "5m"
#longest_retry = "4h"
#lifetime = "5d"

[metrics]                             # numbers for Prometheus, and for who else is on this machine (docs/metrics.md)
listen = ["127.0.0.1:9725"]

#[dkim]
#rotate_every = "180d"                # docs/dkim.md tells what that needs

#[mailauth]                           # whose mail it is (docs/mailauth.md); all checks are on
#apply_dmarc = "report"               # look on for a while before anything is refused

#[policy.greylist]                    # policies (docs/policies.md); each is in force when its table is here
#[policy.helo]
#[[policy.milter]]
#name = "rspamd"
#address = "inet:127.0.0.1:11332"
"""

_PORTS = {
    "mx": ("listen", ["0.0.0.0:25", "[::]:25"], ["systemd:mx"]),
    "submission": ("submission", ["0.0.0.0:587", "[::]:587"], ["systemd:submission"]),
    "submissions": ("submissions", ["0.0.0.0:465", "[::]:465"], ["systemd:submissions"]),
}
"""Key, the default, and the socket of `systemd/` in its place."""

_COMMENTS = 38
_COMMENTS_OF_PORTS = 47
"""Columns of comments."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants to have."""

    config: Path
    hostname: str
    domain: str
    user: str
    state: Path
    mail: Path
    tls: TlsSettings
    systemd: bool
    run_as: str
    """The system user of the server; empty: who types."""
    access: Access


@dataclass(frozen=True, slots=True)
class Present:
    """What is there already, as far as a first look tells; empty where nothing is."""

    hostname: str = ""
    state: str = ""
    mail: str = ""
    tls: TlsSettings = field(default_factory=TlsSettings)
    systemd: bool = False
    """Whether it takes port 25 from systemd."""
    domains: Mapping[str, str] | None = None
    """The directory of each domain by its name, the one of the host name first."""

    @property
    def domain(self) -> str:
        """The first domain; empty where there is none."""
        return next(iter(self.domains or {}), "")


def look(config: Path) -> Present:
    """Read what there is of a configuration. Raises SettingsRefused where its file is no TOML or has no host name."""
    problems: list[Problem] = []
    directories = domain_directories(str(config.parent / DOMAINS), problems)
    if problems:
        raise SettingsRefused(problems)
    if not config.exists():
        return Present(domains=directories)
    found = read_toml(str(config), problems)
    if found is None:
        raise SettingsRefused(problems)
    table, reading = found
    settings = reading.table(Settings, table)
    problems = [problem for problem in problems if problem.key in ("hostname", "state", "mail")]
    if problems:
        raise SettingsRefused(problems)
    near = sorted(directories, key=lambda name: not f".{settings.hostname}".endswith(f".{name}"))
    return Present(
        settings.hostname,
        settings.state,
        settings.mail,
        settings.tls,
        any(isinstance(listen, SystemdSocket) for listen in settings.mx.listen),
        {name: directories[name] for name in near},
    )


def write_setup(wanted: Wanted, make_password: Callable[[], str]) -> str:
    """Write what is missing, and say each step; gives the password of a user that was made now, else nothing.

    The settings come after the directories that they name: once written they stay, and should name none that cannot be
    made. The user comes last: a password is known to nobody before all else is done. Raises OSError, SettingsRefused.
    """
    founder = Founder(wanted.access, _say)
    etc = wanted.config.parent
    domain = etc / DOMAINS / wanted.domain
    servers = wanted.access.gid != -1
    founder.directory(etc, 0o755)
    founder.directory(wanted.state, 0o700, servers=True)
    founder.directory(wanted.mail, 0o2750, servers=True)
    founder.file(wanted.config, _toml(wanted), 0o640)
    for directory in (domain, etc / "tls"):
        founder.directory(directory, 0o750 if servers else 0o700)
    founder.file(domain / "aliases", _ALIASES.format(user=wanted.user))
    founder.dkim_keys(domain, wanted.domain)
    certificate, key = etc / "tls" / "certificate.pem", etc / "tls" / "key.pem"
    if wanted.tls.certificate in ("", str(certificate)):
        founder.certificate(certificate, key, [wanted.hostname], time.time())
    users = domain / "users"
    if users.exists():
        _say(users, False)
        return ""
    password = make_password()
    founder.file(users, f"{USERS_HEAD}{wanted.user}:{make_scram_verifier(password)}::::::\n", 0o640)
    return password


def records_text(
    hostname: str, directories: Mapping[str, str], addresses: Sequence[Address], domains: Iterable[str]
) -> str:
    """The records of the host and of `domains`, of all those in `directories`, as a piece of a zone file.

    Raises SettingsRefused where a DKIM key cannot be used.
    """
    problems: list[Problem] = []
    keys: dict[str, tuple[DkimKey, ...]] = {
        name: read_keys(os.path.join(directories[name], DIRECTORY), name, problems) for name in domains
    }
    if problems:
        raise SettingsRefused(problems)
    snippets = [host_snippet(hostname, addresses, directories)]
    snippets += [domain_snippet(name, hostname, keys[name]) for name in keys]
    return "\n".join(snippets)


def first_user(users: Path) -> str:
    """The first user of a file ``users``; empty where there is none. Raises OSError."""
    lines = users.read_text(errors="replace").splitlines() if users.exists() else []
    return next((line.partition(":")[0] for line in lines if line.strip() and not line.startswith("#")), "")


def next_steps(wanted: Wanted) -> str:
    """What to type next."""
    config = also(wanted.config)
    start = started_as(wanted.run_as, wanted.access.gid, str(wanted.config))
    if wanted.systemd:
        start = "systemctl enable --now mta-mx.socket mta-submission.socket mta-submissions.socket mta.service"
    return f"""\
Next:
1. Put the records above into the DNS. To print them again:
       mta init --records{config}
2. See what is missing or wrong still:
       mta check{config}
3. Start the server:
       {start}
4. Log in to port 465 (TLS) or 587 (STARTTLS) as {wanted.user}@{wanted.domain}.
5. Get a real certificate for {wanted.hostname}; a self-signed one is for the first hour. Put it into
       {wanted.config.parent}/tls/certificate.pem and key.pem
   or name its files in [tls]. New files are used within a minute.
"""


def _toml(wanted: Wanted) -> str:
    lines = {
        name: f"{key} = {json.dumps(sockets)}" if wanted.systemd else f"#{key} = {json.dumps(default)}"
        for name, (key, default, sockets) in _PORTS.items()
    }
    lines["hostname"] = f"hostname = {json.dumps(wanted.hostname)}"
    defaults = Settings(hostname=wanted.hostname)
    for key, path, default in (("state", wanted.state, defaults.state), ("mail", wanted.mail, defaults.mail)):
        lines[key] = f"{'#' if str(path) == default else ''}{key} = {json.dumps(str(path), ensure_ascii=False)}"
    for name, line in lines.items():
        if name != "mx":
            lines[name] = f"{line} ".ljust(_COMMENTS if name in ("hostname", "state", "mail") else _COMMENTS_OF_PORTS)
    # systemd makes the directory of the socket
    lines |= {"off": "", "gap": " " * 31} if wanted.systemd else {"off": "#", "gap": " " * 30}
    return _TOML.format(domain=wanted.domain, **lines)


def _say(path: Path, made: bool) -> None:
    click.echo(f"{'made' if made else 'there':6} {path}")

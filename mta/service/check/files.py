"""Files and directories: whether the server can use them, and whether others can who should not."""

from __future__ import annotations

import grp
import os
import pwd
import stat as modes
from collections.abc import Iterator
from dataclasses import dataclass

from mta.disk.owner import group_name, user_name
from mta.service.check.finding import Finding, command, error, some, warning
from mta.service.check.server import ENTER, READ, WRITE, Server, Stat
from mta.settings.dkim import DIRECTORY
from mta.settings.sections import Settings

FILES = "files"
MAILDIRS = "maildirs"
_HASHES = "hashes of passwords"
_DOMAIN_FILES = (("users", _HASHES), ("app-passwords", _HASHES), ("aliases", ""), ("domain.toml", ""))
"""Those of a domain, and what in them is secret."""
_EVERYBODY_READS = 0o004
_EVERYBODY_WRITES = 0o002


def check_files(settings: Settings, server: Server, stat: Stat = os.stat) -> list[Finding]:
    """Look at settings, keys, passwords and the directories of the server."""
    found: list[Finding] = []
    bars: set[str] = set()
    for path, secret in _settings_files(settings):
        found += _settings_file(path, secret, server, stat)
        bar = server.barred(path, stat)
        if bar and bar not in bars:
            bars.add(bar)
            found.append(_barred(path, bar, server, inside=os.path.dirname(settings.path)))
    found += _place("state", settings.state, server, stat, private=True)
    found += _place("mail", settings.mail, server, stat, private=False)
    return some(found)


def _settings_files(settings: Settings) -> Iterator[tuple[str, str]]:
    """Each file that the server reads, and what in it is secret."""
    relay = settings.relay
    hosts = [*relay.routes, *([relay.smart_host] if relay.smart_host else [])]
    written = any(host.password and not host.password_file for host in hosts)
    yield settings.path, "a password" if written else ""
    yield from ((host.password_file, "a password") for host in hosts if host.password_file)
    tls = settings.tls
    if tls.certificate:
        yield tls.certificate, "" if tls.key else "the private key of the certificate"
    if tls.key:
        yield tls.key, "the private key of the certificate"
    for domain in settings.directory.domains.values():
        yield domain.source, ""
        for name, secret in _DOMAIN_FILES:
            path = os.path.join(domain.source, name)
            if os.path.lexists(path):
                yield path, secret
        if domain.dkim:
            yield os.path.join(domain.source, DIRECTORY), ""
        yield from ((key.file, "a private key") for key in domain.dkim)


def _settings_file(path: str, secret: str, server: Server, stat: Stat) -> Iterator[Finding]:
    try:
        status = stat(path)
    except OSError as problem:
        yield error(FILES, f"{path} cannot be looked at", problem.strerror or str(problem), path, f"look at {path}")
        return
    is_directory = modes.S_ISDIR(status.st_mode)
    if status.st_mode & _EVERYBODY_WRITES and not (is_directory and status.st_mode & modes.S_ISVTX):
        why = "whoever changes it decides where mail goes and who reads it"
        yield error(FILES, f"everybody on this machine can change {path}", why, path, command("chmod", "o-w", path))
    if secret and status.st_mode & _EVERYBODY_READS:
        severity = warning if secret == _HASHES else error
        why = f"it holds {secret}"
        yield severity(FILES, f"everybody on this machine can read {path}", why, path, command("chmod", "o=", path))
    if not server.may(status, READ | (ENTER if is_directory else 0)):
        why = "the next start or reload is refused"
        mend = _for_group(path, server)
        yield error(FILES, f"the server, which runs as {server.name}, cannot read {path}", why, path, mend)


def _place(key: str, path: str, server: Server, stat: Stat, private: bool) -> Iterator[Finding]:
    """A directory that the server writes in."""
    try:
        status = stat(path)
    except FileNotFoundError:
        why = f"the directory `{key}` is made at the start, if the server may do that there"
        yield warning(FILES, f"{path} is not there", why, key, "mta init makes it")
        return
    except OSError as problem:
        yield error(FILES, f"{path} cannot be looked at", problem.strerror or str(problem), key, f"look at {path}")
        return
    if not modes.S_ISDIR(status.st_mode):
        yield error(FILES, f"{path} is no directory", f"`{key}` has to be one", key, f"name another one as `{key}`")
        return
    barred = server.barred(path, stat)
    if barred:
        yield _barred(path, barred, server)
    if not server.may(status, READ | WRITE | ENTER):
        mend = command("chown", server.name, path)
        yield error(FILES, f"the server, which runs as {server.name}, cannot write in {path}", f"`{key}`", key, mend)
    elif private:
        yield from _inside(path, server, stat)
    if private and status.st_mode & 0o077:
        why = "it holds the queue and the control socket"
        mend = command("chmod", "0700", path)
        yield warning(FILES, f"others than the server can look into {path}", why, path, mend)
    elif status.st_mode & _EVERYBODY_WRITES:
        yield error(FILES, f"everybody can write in {path}", "mail is there", path, command("chmod", "o-w", path))


def _inside(state: str, server: Server, stat: Stat) -> Iterator[Finding]:
    """What a start by somebody else, root above all, left in the state directory."""
    try:
        inside = sorted(os.listdir(state))
    except OSError:  # who asks may not look
        return
    for path in (os.path.join(state, name) for name in inside):
        try:
            usable = server.may(stat(path), READ | WRITE)
        except OSError:  # gone since, or a link that leads nowhere
            continue
        if not usable:
            why = "somebody else made it, root perhaps: the next start fails"
            mend = command("chown", "-R", server.name, path)
            yield error(FILES, f"the server, which runs as {server.name}, cannot use {path}", why, path, mend)


def _barred(path: str, bar: str, server: Server, inside: str = "") -> Finding:
    """A directory that bars the way; one of ours, below `inside`, is opened to the server alone."""
    what = f"the server, which runs as {server.name}, cannot reach {path}"
    ours = bar == inside or bar.startswith(f"{inside}/") if inside else False
    mend = _for_group(bar, server) if ours else command("chmod", "o+x", bar)
    return error(FILES, what, f"it may not enter {bar}", bar, mend)


def _for_group(path: str, server: Server) -> str:
    """The commands that let the server read something, and nobody else."""
    return f"{command('chgrp', _group(server), path)} && {command('chmod', 'g+rX', path)}"


def _group(server: Server) -> str:
    try:
        return str(pwd.getpwuid(server.uid).pw_gid)
    except KeyError:
        return str(min(server.groups, default=0))


# Maildirs


def check_maildirs(settings: Settings, server: Server, stat: Stat = os.stat) -> list[Finding]:
    """Look at the Maildirs that are there; one that is not is made at its first delivery."""
    found: list[Finding] = []
    wanted = settings.maildir
    try:
        owner = pwd.getpwnam(wanted.owner).pw_uid if wanted.owner else server.uid
    except KeyError:
        mend = command("useradd", "--system", wanted.owner)
        return [error(MAILDIRS, f"there is no user {wanted.owner}", "[maildir] owner names it", settings.path, mend)]
    try:
        group = grp.getgrnam(wanted.group).gr_gid if wanted.group else None
    except KeyError:
        mend = command("groupadd", "--system", wanted.group)
        return [error(MAILDIRS, f"there is no group {wanted.group}", "[maildir] group names it", settings.path, mend)]
    for account in settings.directory.accounts.values():
        found += _maildir(account.maildir, account.login, _Wanted(owner, group, wanted.directory_mode), server, stat)
    return some(found)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What ``[maildir]`` says."""

    owner: int
    group: int | None
    mode: int


def _maildir(path: str, login: str, wanted: _Wanted, server: Server, stat: Stat) -> Iterator[Finding]:
    volumes = set()
    for directory in (path, *(os.path.join(path, name) for name in ("tmp", "new", "cur"))):
        try:
            status = stat(directory)
        except FileNotFoundError:
            continue
        except OSError as problem:
            why = problem.strerror or str(problem)
            yield error(MAILDIRS, f"{directory} cannot be looked at", why, login, f"look at {directory}")
            return
        volumes.add(status.st_dev)
        if not modes.S_ISDIR(status.st_mode):
            yield error(MAILDIRS, f"{directory} is no directory", "mail for it waits", login, command("ls", "-l", path))
            return
        if status.st_uid != wanted.owner:
            name = Server(wanted.owner, frozenset()).name
            why = f"mail for {login} waits: a Maildir has to belong to {name}"
            mend = command("chown", "-R", name, path)
            yield error(MAILDIRS, f"{directory} belongs to {user_name(status.st_uid)}", why, login, mend)
            return
        if not server.may(status, WRITE | ENTER):
            mend = command("chmod", "u+rwx", directory)
            yield error(MAILDIRS, f"the server cannot write in {directory}", f"mail for {login} waits", login, mend)
        mode = modes.S_IMODE(status.st_mode)
        if wanted.group is not None and status.st_gid != wanted.group:
            why = "[maildir] group says so; whoever else serves this mail cannot read it"
            what = f"{directory} does not belong to group {group_name(wanted.group)}"
            mend = command("chgrp", "-R", group_name(wanted.group), path)
            yield warning(MAILDIRS, what, why, login, mend)
        if wanted.mode & 0o2077 & ~mode:  # what the owner may is looked at above
            why = f"[maildir] directory_mode says {wanted.mode:04o}; whoever else serves this mail may not get in"
            mend = command("chmod", f"{wanted.mode:04o}", directory)
            yield warning(MAILDIRS, f"{directory} has mode {mode:04o}", why, login, mend)
        if mode & 0o007 & ~wanted.mode:
            why = f"it is the mail of {login}"
            yield warning(
                MAILDIRS, f"everybody can look into {directory}", why, login, command("chmod", "o=", directory)
            )
    if len(volumes) > 1:
        why = "a message is given its name by a rename, which does not cross volumes"
        yield error(MAILDIRS, f"{path} lies on several volumes", why, login, "keep tmp, new and cur on one")

"""What ``mta domain`` does: a directory more, or one less."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TextIO

import click

from mta.cli.alias_change import leading_into
from mta.cli.change import ALIASES, USERS, changing, directories, read_settings
from mta.cli.daemon import EX_DATAERR, also, fail, take_effect
from mta.cli.password import choose
from mta.cli.place import Place, domain_of, place_of
from mta.cli.user_change import name_fits, put_user, shown
from mta.settings.domains import primary_of
from mta.settings.passwd_file import entries
from mta.settings.values import fold_local_part, parse_address, parse_host_name

_USERS = "# user:{SCRAM-SHA-256}verifier::::::  (mta user add; Dovecot reads the same file)\n"
_ALIASES = """\
# name: target, target  (mta alias add)
postmaster: {postmaster}
abuse: postmaster
"""


def add(config: Path, domain: str, postmaster: str | None, file: TextIO | None, generate: bool) -> None:
    """Add a domain."""
    try:
        name = parse_host_name(domain)
    except ValueError:
        raise click.BadParameter(f"{domain} is no domain name", param_hint="DOMAIN") from None
    domains, settings = directories(config), read_settings(config)
    if name in domains:
        fail(f"{name} is a domain of ours already: {domains[name]}", EX_DATAERR)
    first = primary_of(domains, settings)
    if postmaster is None and not first:
        fail("the first domain needs somebody who gets its postmaster's mail: --postmaster NAME", EX_DATAERR)
    user = _first_user(postmaster, name) if postmaster else None
    if user is None:
        if file is not None or generate:
            raise click.UsageError("a password is for a user: --postmaster NAME makes one")
        target = str(place_of(postmaster, domains, "--postmaster")) if postmaster else f"postmaster@{first}"
        password = ""
    else:
        name_fits(user)
        target, password = user.name, choose(str(user), file, generate, settings.auth.password_maximum)
    with changing(config) as change:
        change.found(name)
        change.write(name, USERS, _USERS)
        change.write(name, ALIASES, _ALIASES.format(postmaster=target))
        if user is not None:
            put_user(change, user, password)
        directory = os.path.dirname(change.path(name, USERS))
        change.commit()
    click.echo(f"{name} is a domain of ours now: {directory}")
    if user is not None:
        click.echo(f"{user} is a user now, and its postmaster{shown(password, generate)}.")
    else:
        click.echo(f"Mail for its postmaster goes to {target}.")
    click.echo(take_effect(config).text)
    click.echo("What comes next: keys and the records to publish, users, and a look at what is missing:")
    for command in (f"dkim keygen {name}", f"init --records --domain {name}", f"user add NAME@{name}", "check"):
        click.echo(f"  mta {command}{also(config)}")


def _first_user(postmaster: str, domain: str) -> Place | None:
    """The user that a new domain is to have; None where its postmaster is somebody who is there."""
    try:
        found = parse_address(postmaster, domain)
    except ValueError:
        raise click.BadParameter(f"{postmaster} is no address", param_hint="--postmaster") from None
    return Place(fold_local_part(found.local_part), domain) if found.domain == domain else None


def remove(config: Path, domain: str, force: bool) -> None:
    """Put the directory of a domain aside."""
    with changing(config) as change:
        name = domain_of(domain, change.domains)
        users = [line.user for line in entries(change.text(name, USERS))]
        leading = leading_into(change, name)
        if users and not force:
            fail(f"{name} has users: {', '.join(users)}. With --force it is removed all the same", EX_DATAERR)
        if leading and not force:
            listed = "".join(f"\n  {each.where}: {each.alias}" for each in leading)
            fail(
                f"aliases of other domains lead to {name}:{listed}\n"
                "Their mail would be sent to whatever server the DNS names for it. With --force it is removed all "
                "the same.",
                EX_DATAERR,
            )
        aside = change.drop(name)
        mail = Path(change.settings.mail) / name
        change.commit()
    click.echo(f"Mail for {name} is not taken any more.")
    for each in leading:
        click.echo(f"Beware: {each.where}: {each.alias} leads to it, and that mail leaves this server now.")
    if mail.is_dir():
        click.echo(f"The mail of its users stays in {mail}: remove that by hand when nobody needs it.")
    click.echo(f"Its users, aliases and keys are in {aside}")
    back = f"mv {shlex.quote(aside)} {shlex.quote(change.domains[name])} && mta reload{also(config)}"
    click.echo(f"To put it back: {back}")
    click.echo(take_effect(config).text)

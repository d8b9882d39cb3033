"""``mta user``: users of our domains, their passwords, and accounts in trouble (docs/accounts.md).

What the commands do stands in `mta.cli.user_change` and is imported when one is called: a shell imports this module to
complete what is typed, and does not wait.

Exit status: 0 done; 65 it cannot be done so; 66 no password was given; 67 there is no such user; 73 a file cannot be
written; 75 somebody else is changing the same; 78 the configuration cannot be used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import click

from mta.cli import complete
from mta.cli.daemon import CONFIG, examples
from mta.cli.password import password_options

_USER = click.argument("user", shell_complete=complete.users)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@click.group()
def user() -> None:
    """Add, remove and list users; change passwords; disable accounts in trouble."""


@user.command(epilog=examples("mta user add alice@example.org --generate"))
@click.argument("user")
@password_options
@click.option("--no-password", is_flag=True, help="Nobody logs in with it but by app passwords.")
@CONFIG
def add(user: str, password_file: TextIO | None, generate: bool, no_password: bool, config: Path) -> None:
    """Add USER, alice@example.org: a mailbox and a login. Its password is asked for twice."""
    from mta.cli import user_change

    if no_password and (generate or password_file is not None):
        raise click.UsageError("--no-password and a password: choose one")
    user_change.add(config, user, password_file, generate, no_password)


@user.command(epilog=examples("mta user remove alice@example.org"))
@_USER
@click.option("--force", is_flag=True, help="Take it out of the aliases that lead to it.")
@CONFIG
def remove(user: str, force: bool, config: Path) -> None:
    """Remove USER, with its app passwords. Its mail stays where it is.

    Where aliases lead to it nothing is done without --force.
    """
    from mta.cli import user_change

    user_change.remove(config, user, force)


@user.command("list", epilog=examples("mta user list example.org"))
@click.argument("domain", required=False, shell_complete=complete.domains)
@_JSON
@CONFIG
def list_(domain: str | None, as_json: bool, config: Path) -> None:
    """List the users of DOMAIN, or of all."""
    from mta.cli import listing

    listing.users(config, domain, as_json)


@user.command(epilog=examples("mta user passwd alice@example.org --generate"))
@_USER
@password_options
@CONFIG
def passwd(user: str, password_file: TextIO | None, generate: bool, config: Path) -> None:
    """Give USER another password, which is asked for twice. App passwords stay as they are.

    Sessions that are logged in go on; `mta user disable` ends them.
    """
    from mta.cli import user_change

    user_change.passwd(config, user, password_file, generate)


@user.command(epilog=examples("mta user disable alice@example.org --reason 'sends spam since 14:00'"))
@_USER
@click.option("--reason", default="", help="Why, for those who look at it later. The user is not told.")
@CONFIG
def disable(user: str, reason: str, config: Path) -> None:
    """Let nobody log in as USER, and hold what it sent.

    Its sessions are ended, and what it has in the queue waits for `mta user enable`. A client that has the right
    password is told that the account is disabled. Mail to USER is delivered as before. Dovecot, which reads the same
    file, refuses the login too.
    """
    from mta.cli import user_change

    if not reason.isprintable():
        raise click.BadParameter("it holds what cannot be printed", param_hint="--reason")
    user_change.disable(config, user, reason)


@user.command(epilog=examples("mta user enable alice@example.org"))
@_USER
@CONFIG
def enable(user: str, config: Path) -> None:
    """Let USER log in again, and deliver what was held.

    Look at what is held first: what was sent by somebody who stole the password is better deleted.
    """
    from mta.cli import user_change

    user_change.enable(config, user)


@user.group("app-password")
def app_password() -> None:
    """Further passwords of a user, revoked one by one.

    For programs and devices that send mail: one for each, with a name, so that a lost one is revoked without touching
    the others. They are for submission; Dovecot does not know them.
    """


@app_password.command("add", epilog=examples("mta user app-password add alice@example.org phone"))
@_USER
@click.argument("name")
@CONFIG
def add_app_password(user: str, name: str, config: Path) -> None:
    """Make an app password NAME for USER, and show it once."""
    from mta.cli import user_change

    user_change.add_app_password(config, user, name)


@app_password.command("list", epilog=examples("mta user app-password list alice@example.org"))
@_USER
@_JSON
@CONFIG
def list_app_passwords(user: str, as_json: bool, config: Path) -> None:
    """List the names of the app passwords of USER."""
    from mta.cli import listing

    listing.app_passwords(config, user, as_json)


@app_password.command("remove", epilog=examples("mta user app-password remove alice@example.org phone"))
@_USER
@click.argument("name", shell_complete=complete.app_passwords)
@CONFIG
def remove_app_password(user: str, name: str, config: Path) -> None:
    """Revoke the app password NAME of USER."""
    from mta.cli import user_change

    user_change.remove_app_password(config, user, name)
